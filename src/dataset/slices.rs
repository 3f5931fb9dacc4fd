//! Named sets of images, and images that belong together.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::ImageRecord;
use crate::config::{GroupsConfig, SliceConfig, nearest};

/// A named set of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Its name in `[gate.slices]`.
    pub name: String,
    /// Places among the images, ascending.
    pub images: Vec<usize>,
}

/// Why images could not be divided.
#[derive(Debug, thiserror::Error)]
pub enum SliceError {
    /// A rule on no image is a gate that is silently open.
    #[error("the slice {0:?} has no image; correct [gate.slices.{0}]")]
    Empty(String),
    /// The table cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The table.
        path: PathBuf,
        /// Where and what.
        error: csv::Error,
    },
    /// A column is not there.
    #[error("{} has no column {column:?}; {advice}", path.display())]
    Column {
        /// The table.
        path: PathBuf,
        /// The column.
        column: String,
        /// What to write instead.
        advice: String,
    },
    /// The table is of other images.
    #[error("{}: none of its rows names an image of the ground truth", .0.display())]
    Foreign(PathBuf),
    /// An image stands for nothing.
    #[error(
        "{}: {count} images have no row, the first is {first}; give every image its group",
        path.display()
    )]
    Ungrouped {
        /// The table.
        path: PathBuf,
        /// How many.
        count: usize,
        /// The first one's file name.
        first: String,
    },
}

/// The images of each slice.
///
/// # Errors
/// [`SliceError`]: a table cannot be read or is of other images, or a slice has none.
pub fn slices<'c>(
    images: &[&ImageRecord],
    slices: impl IntoIterator<Item = (&'c String, &'c SliceConfig)>,
) -> Result<Vec<Slice>, SliceError> {
    let slice = |(name, config): (&String, &SliceConfig)| {
        let members = members(images, config)?;
        if members.is_empty() {
            return Err(SliceError::Empty(name.clone()));
        }
        Ok(Slice { name: name.clone(), images: members })
    };
    slices.into_iter().map(slice).collect()
}

fn members(images: &[&ImageRecord], config: &SliceConfig) -> Result<Vec<usize>, SliceError> {
    let pattern = config.file_name.as_deref().and_then(|pattern| glob::Pattern::new(pattern).ok());
    let table = match (&config.csv, &config.column) {
        (Some(path), Some(column)) => Some(table(path, column, images)?),
        _ => None,
    };
    // `*` stays in its folder, as in a shell.
    let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
    let belongs = |(i, image): &(usize, &&ImageRecord)| {
        let pixels = u64::from(image.width) * u64::from(image.height);
        let objects = image.ground_truth.len();
        pattern.as_ref().is_none_or(|pattern| pattern.matches_with(&image.file_name, options))
            && table.as_ref().is_none_or(|values| values[*i] == config.equals)
            && config.min_pixels.is_none_or(|least| pixels >= least)
            && config.max_pixels.is_none_or(|most| pixels <= most)
            && config.min_objects.is_none_or(|least| objects >= least)
            && config.max_objects.is_none_or(|most| objects <= most)
    };
    Ok(images.iter().enumerate().filter(belongs).map(|(i, _)| i).collect())
}

/// The group of each image, numbered by first appearance.
///
/// # Errors
/// [`SliceError`]: the table cannot be read, or an image is not in it.
pub fn groups(images: &[&ImageRecord], config: &GroupsConfig) -> Result<Vec<u32>, SliceError> {
    let names: Vec<String> = match (&config.csv, &config.column) {
        (Some(path), Some(column)) => {
            let values = table(path, column, images)?;
            let missing = || images.iter().zip(&values).filter(|(_, value)| value.is_none());
            if let Some((first, _)) = missing().next() {
                let (count, first) = (missing().count(), first.file_name.clone());
                return Err(SliceError::Ungrouped { path: path.clone(), count, first });
            }
            values.into_iter().flatten().collect()
        }
        _ => images.iter().map(|image| folder(&image.file_name)).collect(),
    };
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let number = |name| {
        let next = numbers.len() as u32;
        *numbers.entry(name).or_insert(next)
    };
    Ok(names.iter().map(String::as_str).map(number).collect())
}

fn folder(file_name: &str) -> String {
    file_name.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned())
}

/// `[images]`: what a column of a table says of each; `None` where it has no row for it.
fn table(
    path: &Path,
    column: &str,
    images: &[&ImageRecord],
) -> Result<Vec<Option<String>>, SliceError> {
    let read = |error| SliceError::Read { path: path.to_owned(), error };
    let mut reader =
        csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path).map_err(read)?;
    let header = reader.headers().map_err(read)?.clone();
    let place = |wanted: &str| header.iter().position(|name| name == wanted);
    let absent = |column: &str, advice: String| {
        let (path, column) = (path.to_owned(), column.to_owned());
        SliceError::Column { path, column, advice }
    };
    let Some(value) = place(column) else {
        let advice = match nearest(column, header.iter()) {
            Some(nearest) => format!("did you mean {nearest:?}?"),
            None => format!("it has {}", header.iter().collect::<Vec<_>>().join(", ")),
        };
        return Err(absent(column, advice));
    };
    let by_name = place("file_name");
    let Some(key) = by_name.or_else(|| place("image_id")) else {
        return Err(absent("file_name", "it needs one of file_name or image_id".to_owned()));
    };
    let mut values = HashMap::new();
    for record in reader.records() {
        let record = record.map_err(read)?;
        values.insert(record[key].to_owned(), record[value].to_owned());
    }
    let key_of = |image: &&ImageRecord| match by_name {
        Some(_) => image.file_name.clone(),
        None => image.id.to_string(),
    };
    let found: Vec<_> = images.iter().map(|image| values.get(&key_of(image)).cloned()).collect();
    if found.iter().all(Option::is_none) {
        return Err(SliceError::Foreign(path.to_owned()));
    }
    Ok(found)
}
