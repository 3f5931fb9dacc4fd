//! How images are divided: slices, on which metrics are measured too, and groups, which the
//! bootstrap draws together. Which images they are is found out in `dataset/slices.rs`.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mistakes::Mistake;
use super::place::Place;

/// A named set of images: those for which every condition that is given holds.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend(
    "minProperties" = 1,
    "dependentRequired" = {
        "csv": ["column", "equals"], "column": ["csv", "equals"], "equals": ["csv", "column"]
    }
))]
pub(super) struct SliceTable {
    /// A pattern of the image's file name: * within a folder, ** across folders, ?, [a-z], {a,b}.
    file_name: Option<String>,
    /// A CSV file with a row per image, whose key is its column file_name or image_id.
    csv: Option<PathBuf>,
    /// The column of the CSV file that is looked at.
    column: Option<String>,
    /// What the column says of the slice's images.
    equals: Option<String>,
    /// The least width times height, pixels.
    min_pixels: Option<u64>,
    /// The greatest width times height, pixels.
    max_pixels: Option<u64>,
    /// The least number of annotated objects; crowds and ignored objects do not count.
    min_objects: Option<usize>,
    /// The greatest number of annotated objects; crowds and ignored objects do not count.
    max_objects: Option<usize>,
}

/// Images that belong together: by a column of a CSV file, or by folder.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("oneOf" = [
    {"required": ["csv", "column"], "properties": {"folder": {"const": false}}},
    {"required": ["folder"], "properties": {"folder": {"const": true}, "csv": false, "column": false}},
]))]
pub(super) struct GroupsTable {
    /// A CSV file with a row per image, whose key is its column file_name or image_id.
    csv: Option<PathBuf>,
    /// The column of the CSV file that names the group, for example the video.
    column: Option<String>,
    /// The images of one folder are a group.
    folder: bool,
}

/// A slice, validated: the images for which every condition holds. There is at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct SliceConfig {
    /// What must hold.
    pub conditions: Vec<Condition>,
    /// Where it is defined; `None` where in no file.
    pub place: Option<Place>,
}

/// What must hold of an image that is in a slice.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// Its file name is like this.
    FileName(FileNamePattern),
    /// A CSV file says this of it.
    Column {
        /// The file, absolute.
        csv: PathBuf,
        /// The column.
        column: String,
        /// What the column says.
        equals: String,
    },
    /// Width times height is at least this.
    MinPixels(u64),
    /// Width times height is at most this.
    MaxPixels(u64),
    /// There are at least so many objects on it; neither crowds nor ignored ones count.
    MinObjects(usize),
    /// There are at most so many objects on it; neither crowds nor ignored ones count.
    MaxObjects(usize),
}

/// Which images are drawn together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupsConfig {
    /// Those of which a CSV file says the same.
    Column {
        /// The file, absolute.
        csv: PathBuf,
        /// The column.
        column: String,
    },
    /// Those in the same folder.
    Folder,
}

/// A glob over file names: `*` and `?` stay within a folder, `**` does not; `[a-z]` and `{a,b}` too.
/// Upper and lower case differ; both slashes part folders.
#[derive(Debug, Clone)]
pub struct FileNamePattern(globset::GlobMatcher);

impl FileNamePattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let glob = globset::GlobBuilder::new(pattern).literal_separator(true).build();
        glob.map(|glob| Self(glob.compile_matcher())).map_err(|error| error.kind().to_string())
    }

    /// Whether a file name, relative to the folder of the images, is like the pattern.
    pub fn matches(&self, file_name: &str) -> bool {
        match file_name.contains('\\') {
            true => self.0.is_match(file_name.replace('\\', "/")),
            false => self.0.is_match(file_name),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.0.glob().glob()
    }
}

impl PartialEq for FileNamePattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl SliceTable {
    /// What must hold beyond the type of each key; keys are relative to the slice.
    pub(super) fn check(&self, name: &str) -> Result<(), Mistake> {
        let wrong = |keys: &[&str], what: &str| Err(Mistake::new(keys, what.to_owned()));
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if name.is_empty() || !name.chars().all(allowed) {
            return wrong(
                &[],
                "is no name for a slice; use the letters a-z, digits, `_`, `-` and `.`",
            );
        }
        if let Some(Err(error)) = self.file_name.as_deref().map(FileNamePattern::new) {
            return wrong(&["file_name"], &format!("is no pattern: {error}"));
        }
        let table = [
            ("csv", self.csv.is_some()),
            ("column", self.column.is_some()),
            ("equals", self.equals.is_some()),
        ];
        let (given, absent): (Vec<_>, Vec<_>) = table.into_iter().partition(|(_, given)| *given);
        if let (Some((given, _)), Some((absent, _))) = (given.first(), absent.first()) {
            let what = format!("needs `{absent}` too: csv, column and equals go together");
            return wrong(&[given], &what);
        }
        if self.min_pixels.zip(self.max_pixels).is_some_and(|(min, max)| min > max) {
            return wrong(
                &["min_pixels"],
                "is greater than max_pixels; no image can be in the slice",
            );
        }
        if self.min_objects.zip(self.max_objects).is_some_and(|(min, max)| min > max) {
            return wrong(
                &["min_objects"],
                "is greater than max_objects; no image can be in the slice",
            );
        }
        if self.conditions(Path::new("")).is_empty() {
            let what = "has no condition; give it file_name, csv with column and equals, min_pixels, \
                        max_pixels, min_objects or max_objects";
            return wrong(&[], what);
        }
        Ok(())
    }

    /// Of a table that was checked; its CSV file is relative to `root`.
    pub(super) fn resolve(&self, root: &Path, place: Option<Place>) -> SliceConfig {
        SliceConfig { conditions: self.conditions(root), place }
    }

    fn conditions(&self, root: &Path) -> Vec<Condition> {
        let pattern = self.file_name.as_deref().and_then(|text| FileNamePattern::new(text).ok());
        let column = match (&self.csv, &self.column, &self.equals) {
            (Some(csv), Some(column), Some(equals)) => Some(Condition::Column {
                csv: root.join(csv),
                column: column.clone(),
                equals: equals.clone(),
            }),
            _ => None,
        };
        let all = [
            pattern.map(Condition::FileName),
            column,
            self.min_pixels.map(Condition::MinPixels),
            self.max_pixels.map(Condition::MaxPixels),
            self.min_objects.map(Condition::MinObjects),
            self.max_objects.map(Condition::MaxObjects),
        ];
        all.into_iter().flatten().collect()
    }
}

impl GroupsTable {
    /// What must hold beyond the type of each key; keys are relative to `[gate.groups]`.
    pub(super) fn check(&self) -> Result<(), Mistake> {
        let wrong = |keys: &[&str], what: &str| Err(Mistake::new(keys, what.to_owned()));
        match (&self.csv, &self.column, self.folder) {
            (Some(_), Some(_), false) | (None, None, true) => Ok(()),
            (None, None, false) => wrong(
                &[],
                "says nothing; give it csv and column, or folder = true, or leave it out",
            ),
            (Some(_), None, _) => {
                wrong(&["csv"], "needs `column` too: the one that names the group")
            }
            (None, Some(_), _) => {
                wrong(&["column"], "needs `csv` too: the file that has the column")
            }
            (Some(_), Some(_), true) => {
                wrong(&["folder"], "contradicts csv: images are grouped by one of them")
            }
        }
    }

    /// Of a table that was checked; its CSV file is relative to `root`.
    pub(super) fn resolve(&self, root: &Path) -> Option<GroupsConfig> {
        match (&self.csv, &self.column) {
            (Some(csv), Some(column)) => {
                Some(GroupsConfig::Column { csv: root.join(csv), column: column.clone() })
            }
            _ => self.folder.then_some(GroupsConfig::Folder),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FileNamePattern;

    #[test]
    fn a_star_stays_within_a_folder() {
        let matches =
            |pattern: &str, name: &str| FileNamePattern::new(pattern).unwrap().matches(name);
        assert!(matches("night/*", "night/1.jpg") && matches("night/*", r"night\1.jpg"));
        assert!(!matches("night/*", "night/a/1.jpg") && !matches("night/*", "Night/1.jpg"));
        assert!(matches("night/**", "night/a/1.jpg") && matches("**/n_?.jpg", "n_1.jpg"));
        assert!(matches("{night,dusk}/*", "dusk/1.jpg") && !matches("*", "a/1.jpg"));
        assert!(FileNamePattern::new("night/[").is_err());
    }
}
