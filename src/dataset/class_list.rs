//! Class names that stand in a file of their own: one a line, or Ultralytics' `data.yaml`.
//!
//! Deliberately absent: everything else that a `data.yaml` says (paths, splits, download scripts).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use saphyr_parser::{Event, Parser, ScanError, Span, StrInput};

use super::folder::{at_line, invalid, read_text};
use super::{Category, DatasetError};
use crate::shown::counted;

/// The names of a data set's classes, in the order of their indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClassList {
    /// The file.
    pub(super) path: PathBuf,
    /// Not empty; no name occurs twice.
    pub(super) names: Vec<String>,
    /// Columns that key points add to every label: `kpt_shape` of a pose data set, multiplied.
    pub(super) keypoint_columns: Option<usize>,
}

impl ClassList {
    /// Classes by id: the index plus one.
    pub(super) fn categories(&self) -> Vec<Category> {
        (1..).zip(&self.names).map(|(id, name)| Category { id, name: name.clone() }).collect()
    }
}

/// Looks for the files `names` in each of `folders`; the first folder that has one counts.
///
/// # Errors
/// A list that cannot be used; two lists in one folder that disagree.
pub(super) fn find(folders: &[PathBuf], names: &[&str]) -> Result<Option<ClassList>, DatasetError> {
    for folder in folders {
        let paths = names.iter().map(|name| folder.join(name)).filter(|path| path.is_file());
        let mut lists = paths.map(|path| read(&path));
        let Some(first) = lists.next().transpose()? else { continue };
        for other in lists {
            let other = other?;
            if other.names != first.names {
                let what = format!(
                    "its class names are not those of {}; make them agree, or remove one",
                    other.path.display()
                );
                return Err(invalid(&first.path, what));
            }
        }
        return Ok(Some(first));
    }
    Ok(None)
}

/// Reads one list; a YAML file by its extension, any other as one name a line.
fn read(path: &Path) -> Result<ClassList, DatasetError> {
    let text = read_text(path)?;
    let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let (entries, keypoint_columns) =
        if yaml { Yaml::new(path, &text).classes()? } else { (lines(path, &text)?, None) };
    if entries.is_empty() {
        return Err(invalid(path, "there is no class name in it; give each class one"));
    }
    let mut seen = BTreeMap::new();
    for (line, name) in &entries {
        // Metrics are reported by name.
        if let Some(before) = seen.insert(name, line) {
            let what = format!("repeats the class name {name:?} of line {before}; rename one");
            return Err(at_line(path, *line, what));
        }
    }
    let names = entries.into_iter().map(|(_, name)| name).collect();
    Ok(ClassList { path: path.to_owned(), names, keypoint_columns })
}

/// One name a line; blank lines are allowed at the end only, where they shift no index.
fn lines(path: &Path, text: &str) -> Result<Vec<(usize, String)>, DatasetError> {
    let named = |(index, line): (usize, &str)| match line.trim() {
        "" => Err(at_line(path, index + 1, "is blank; each line must hold one class name")),
        name => Ok((index + 1, name.to_owned())),
    };
    text.trim_end().lines().enumerate().map(named).collect()
}

/// The names with their lines, and the columns of key points.
type Classes = (Vec<(usize, String)>, Option<usize>);

/// Reads events one by one and builds no tree: neither nesting nor aliases can make it large.
struct Yaml<'a> {
    path: &'a Path,
    parser: Parser<'a, StrInput<'a>>,
}

impl<'a> Yaml<'a> {
    fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, parser: Parser::new_from_str(text) }
    }

    fn next(&mut self) -> Result<(Event<'a>, usize), DatasetError> {
        let failed = |error: &ScanError| {
            at_line(self.path, error.marker().line(), format!("is not YAML: {}", error.info()))
        };
        match self.parser.next_event() {
            None => Ok((Event::StreamEnd, 0)),
            Some(Err(error)) => Err(failed(&error)),
            Some(Ok((event, Span { start, .. }))) => Ok((event, start.line())),
        }
    }

    fn classes(mut self) -> Result<Classes, DatasetError> {
        let (mut names, mut count, mut keypoints) = (None, None, None);
        loop {
            match self.next()?.0 {
                Event::MappingStart(..) => break,
                Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
                _ => return Err(self.not_a_mapping()),
            }
        }
        loop {
            let (event, _) = self.next()?;
            match event {
                Event::MappingEnd | Event::StreamEnd => break,
                Event::Scalar(key, ..) => match &*key {
                    "names" => names = Some(self.names()?),
                    "nc" => count = Some(self.number("nc")?),
                    "kpt_shape" => keypoints = Some(self.product()?),
                    _ => self.skip()?,
                },
                key => {
                    self.rest_of(&key)?;
                    self.skip()?;
                }
            }
        }
        match (names, count) {
            (None, None) => {
                Err(invalid(self.path, "there are no \"names\" in it; add names: [CLASS, ...]"))
            }
            // Ultralytics' names for classes without one (`check_det_dataset`).
            (None, Some((line, count))) if count <= 100_000 => {
                Ok(((0..count).map(|i| (line, format!("class_{i}"))).collect(), keypoints))
            }
            (None, Some((line, count))) => {
                Err(at_line(self.path, line, format!("says nc: {count}; give the \"names\"")))
            }
            (Some(names), Some((line, count))) if names.len() != count => {
                let what =
                    format!("says nc: {count}, but \"names\" lists {}; correct one", names.len());
                Err(at_line(self.path, line, what))
            }
            (Some(names), _) => Ok((names, keypoints)),
        }
    }

    /// The value of `names`: a list, or a map from every index.
    fn names(&mut self) -> Result<Vec<(usize, String)>, DatasetError> {
        let (event, line) = self.next()?;
        match event {
            Event::SequenceStart(..) => self.scalars(),
            Event::MappingStart(..) => self.indexed(),
            _ => {
                Err(at_line(self.path, line, "must give \"names\" as a list, or as a map by index"))
            }
        }
    }

    fn indexed(&mut self) -> Result<Vec<(usize, String)>, DatasetError> {
        let pairs = self.scalars_until(|event| matches!(event, Event::MappingEnd))?;
        let mut names = BTreeMap::new();
        for pair in pairs.chunks(2) {
            let [(line, key), (_, name)] = pair else {
                return Err(invalid(self.path, "an index in \"names\" has no name; give it one"));
            };
            let Ok(index) = key.parse::<usize>() else {
                let what = format!("has the index {key:?} in \"names\"; expected a whole number");
                return Err(at_line(self.path, *line, what));
            };
            if names.insert(index, (*line, name.clone())).is_some() {
                return Err(at_line(self.path, *line, format!("names class {index} again")));
            }
        }
        if let Some(missing) = (0..names.len()).find(|index| !names.contains_key(index)) {
            let classes = counted(names.len(), "class", "classes");
            let what = format!("\"names\" has {classes} but no index {missing}");
            return Err(invalid(self.path, what + "; count from 0 without gaps"));
        }
        Ok(names.into_values().collect())
    }

    fn scalars(&mut self) -> Result<Vec<(usize, String)>, DatasetError> {
        self.scalars_until(|event| matches!(event, Event::SequenceEnd))
    }

    fn scalars_until(
        &mut self,
        end: impl Fn(&Event<'_>) -> bool,
    ) -> Result<Vec<(usize, String)>, DatasetError> {
        let mut scalars = Vec::new();
        loop {
            let (event, line) = self.next()?;
            match event {
                event if end(&event) => return Ok(scalars),
                Event::Scalar(text, ..) => scalars.push((line, text.trim().to_owned())),
                _ => return Err(at_line(self.path, line, "must hold a plain name or number")),
            }
        }
    }

    fn number(&mut self, key: &str) -> Result<(usize, usize), DatasetError> {
        let (event, line) = self.next()?;
        let number = match event {
            Event::Scalar(text, ..) => text.parse().ok(),
            _ => None,
        };
        let number = number.ok_or_else(|| {
            at_line(self.path, line, format!("must give {key:?} as a whole number"))
        })?;
        Ok((line, number))
    }

    /// Of a list of whole numbers.
    fn product(&mut self) -> Result<usize, DatasetError> {
        let (event, line) = self.next()?;
        let wrong = at_line(self.path, line, "must give \"kpt_shape\" as [points, columns]");
        if !matches!(event, Event::SequenceStart(..)) {
            return Err(wrong);
        }
        let numbers: Option<Vec<usize>> =
            self.scalars()?.iter().map(|(_, text)| text.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[points, columns]) => points.checked_mul(columns).ok_or(wrong),
            _ => Err(wrong),
        }
    }

    /// Passes over one value.
    fn skip(&mut self) -> Result<(), DatasetError> {
        let (event, _) = self.next()?;
        self.rest_of(&event)
    }

    /// Passes over what follows the start of a list or map, up to its end.
    fn rest_of(&mut self, start: &Event<'_>) -> Result<(), DatasetError> {
        let mut depth = nesting(0, start);
        while depth > 0 {
            depth = nesting(depth, &self.next()?.0);
        }
        Ok(())
    }

    fn not_a_mapping(&self) -> DatasetError {
        invalid(self.path, "it is not a map with the key \"names\"; add names: [CLASS, ...]")
    }
}

/// How many lists and maps are open after `event`, if `depth` were before.
fn nesting(depth: usize, event: &Event<'_>) -> usize {
    match event {
        Event::SequenceStart(..) | Event::MappingStart(..) => depth + 1,
        Event::SequenceEnd | Event::MappingEnd => depth.saturating_sub(1),
        Event::StreamEnd => 0,
        _ => depth,
    }
}
