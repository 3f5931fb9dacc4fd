//! Which images are in a slice, and which belong to one group.
//!
//! Deliberately absent: what is measured on a slice, and what groups are for.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::image_table::read_column;
use super::{Category, ImageRecord};
use crate::config::{Condition, FileNamePattern, GroupsConfig, Place, SliceConfig, prefix};
use crate::files::failed;
use crate::nearest::nearest;
use crate::shown::{self, count};

/// A named set of images; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Its name, which metrics carry after an `@`.
    pub name: String,
    /// Indices of its images, ascending.
    pub images: Vec<usize>,
    /// What a person should know: images of which a CSV file says nothing.
    pub notice: Option<String>,
}

impl Slice {
    /// BLAKE3 of the ids of its images, hexadecimal: equal where the slice holds the same images,
    /// whatever their order and however they were chosen. `images` are those that it was made of.
    pub fn digest<I: Borrow<ImageRecord>>(&self, images: &[I]) -> String {
        let mut ids: Vec<i64> = self.images.iter().map(|&at| images[at].borrow().id).collect();
        ids.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        for id in ids {
            hasher.update(&id.to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// Why images could not be divided.
#[derive(Debug, thiserror::Error)]
pub enum SliceError {
    /// A CSV file cannot be read.
    #[error("cannot read {}: {}", path.display(), failed(error))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A CSV file is not as it should be.
    #[error("{}:{line}: {what}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what to do.
        what: String,
    },
    /// Metrics on no image are not defined.
    #[error(
        "{}the slice [gate.slices.{name}] holds none of the {}; {hint}",
        prefix(place.as_ref()), count(*total, "image")
    )]
    Empty {
        /// Where the slice is defined, if in a file.
        place: Option<Place>,
        /// The slice.
        name: String,
        /// How many images there are.
        total: usize,
        /// What may have been meant.
        hint: String,
    },
    /// `AP/CLASS@SLICE` would be the name of two metrics.
    #[error(
        "{}the class {class:?} is named like another on the slice [gate.slices.{slice}]; rename the slice",
        prefix(place.as_ref())
    )]
    LikeAClass {
        /// Where the slice is defined, if in a file.
        place: Option<Place>,
        /// The class.
        class: String,
        /// The slice.
        slice: String,
    },
    /// `AP/CLASS` would be the name of two metrics.
    #[error(
        "the categories {} and {} are both named {class:?}; what is measured goes by names, rename one in the ground truth",
        ids[0], ids[1]
    )]
    SameName {
        /// Their name.
        class: String,
        /// The first two with it.
        ids: [i64; 2],
    },
    /// Groups must be of all images.
    #[error(
        "{} names no {column} for {missing} of {total} images, the first is {first}; every image needs one",
        path.display()
    )]
    Ungrouped {
        /// The CSV file.
        path: PathBuf,
        /// The column of [gate.groups].
        column: String,
        /// How many images are without a group.
        missing: usize,
        /// How many images there are.
        total: usize,
        /// The first of them.
        first: String,
    },
    /// There is nothing to draw from.
    #[error(
        "all images ({total}) are in one group ({by}); [gate.groups] needs at least two, or leave it out"
    )]
    OneGroup {
        /// How many images there are.
        total: usize,
        /// What groups them.
        by: String,
    },
}

/// Finds the images of each slice: those for which all of its conditions hold. An image of which a CSV
/// file says nothing is not in the slice, which is said in the slice's notice.
///
/// # Errors
/// [`SliceError`] when a CSV file is wrong, or a slice holds no image.
pub fn slices<I: Borrow<ImageRecord>>(
    images: &[I],
    slices: &[(String, SliceConfig)],
) -> Result<Vec<Slice>, SliceError> {
    slices.iter().map(|(name, config)| slice(images, name, config)).collect()
}

fn slice<I: Borrow<ImageRecord>>(
    images: &[I],
    name: &str,
    config: &SliceConfig,
) -> Result<Slice, SliceError> {
    let mut members: Vec<usize> = (0..images.len()).collect();
    let mut notice = None;
    let mut hint = "loosen its conditions, or leave it out".to_owned();
    for condition in &config.conditions {
        match condition {
            Condition::Column { csv, column, equals } => {
                let said = read_column(csv, column, images)?;
                notice = without_row(images, name, csv, &said);
                if !said.iter().flatten().any(|value| value == equals) {
                    hint = no_such_value(column, equals, &said);
                }
                members.retain(|&at| said[at].as_ref() == Some(equals));
            }
            Condition::FileName(pattern) => {
                if let Some(name) = unlike(pattern, images) {
                    hint = format!("no file name is like {:?}, one is {name:?}", pattern.as_str());
                }
                members.retain(|&at| pattern.matches(&images[at].borrow().file_name));
            }
            other => members.retain(|&at| holds(other, images[at].borrow())),
        }
    }
    match members.is_empty() {
        true => {
            let (name, place) = (name.to_owned(), config.place.clone());
            Err(SliceError::Empty { name, total: images.len(), hint, place })
        }
        false => Ok(Slice { name: name.to_owned(), images: members, notice }),
    }
}

/// Whether every metric of every class, on all images and on the slices, has a name of its own.
///
/// # Errors
/// [`SliceError::SameName`] and [`SliceError::LikeAClass`].
pub fn check_names(
    categories: &[Category],
    slices: &[(String, SliceConfig)],
) -> Result<(), SliceError> {
    let mut ids: HashMap<&str, i64> = HashMap::new();
    for Category { id, name } in categories {
        if let Some(first) = ids.insert(name, *id) {
            return Err(SliceError::SameName { class: name.clone(), ids: [first, *id] });
        }
        let Some((_, end)) = name.rsplit_once('@') else { continue };
        if let Some((slice, config)) = slices.iter().find(|(slice, _)| slice == end) {
            let (class, place) = (name.clone(), config.place.clone());
            return Err(SliceError::LikeAClass { class, slice: slice.clone(), place });
        }
    }
    Ok(())
}

/// The first file name, where none is like the pattern.
fn unlike<'a, I: Borrow<ImageRecord>>(
    pattern: &FileNamePattern,
    images: &'a [I],
) -> Option<&'a str> {
    let mut names = images.iter().map(|image| image.borrow().file_name.as_str());
    let first = names.next()?;
    let any = pattern.matches(first) || names.any(|name| pattern.matches(name));
    (!any).then_some(first)
}

/// Whether a condition on the size or the objects of an image holds.
fn holds(condition: &Condition, image: &ImageRecord) -> bool {
    let pixels = || u64::from(image.width) * u64::from(image.height);
    match condition {
        Condition::MinPixels(least) => pixels() >= *least,
        Condition::MaxPixels(most) => pixels() <= *most,
        Condition::MinObjects(least) => objects(image) >= *least,
        Condition::MaxObjects(most) => objects(image) <= *most,
        Condition::FileName(_) | Condition::Column { .. } => false,
    }
}

/// Annotated objects: a crowd is an unknown number of them, and what is ignored need not be found.
fn objects(image: &ImageRecord) -> usize {
    image.ground_truth.iter().filter(|gt| !gt.is_crowd && !gt.ignore).count()
}

fn without_row<I: Borrow<ImageRecord>>(
    images: &[I],
    name: &str,
    csv: &Path,
    said: &[Option<String>],
) -> Option<String> {
    let missing = said.iter().filter(|value| value.is_none()).count();
    let first = said.iter().position(Option::is_none)?;
    Some(format!(
        "{} has no row for {missing} of {} images, the first is {}; without one an image is not in the slice {name}",
        csv.display(),
        images.len(),
        shown::name(&images[first].borrow().file_name)
    ))
}

fn no_such_value(column: &str, equals: &str, said: &[Option<String>]) -> String {
    let mut values: Vec<&str> = said.iter().flatten().map(String::as_str).collect();
    values.sort_unstable();
    values.dedup();
    match nearest(equals, values.iter().copied()) {
        Some(meant) => format!("{column} is never {equals:?}, did you mean {meant:?}?"),
        None => {
            let few: Vec<String> =
                values.iter().take(5).map(|value| format!("{value:?}")).collect();
            format!("{column} is never {equals:?}, it is for example {}", few.join(", "))
        }
    }
}

/// The group of each image, numbered by first appearance.
///
/// # Errors
/// [`SliceError`] when the CSV file is wrong or names no group for an image, or when all images are in
/// one group.
pub fn groups<I: Borrow<ImageRecord>>(
    images: &[I],
    config: &GroupsConfig,
) -> Result<Vec<u32>, SliceError> {
    let (names, by) = match config {
        GroupsConfig::Column { csv, column } => {
            (named_groups(images, csv, column)?, format!("{column} of {}", csv.display()))
        }
        GroupsConfig::Folder => {
            (images.iter().map(|image| folder(image.borrow())).collect(), "by folder".to_owned())
        }
    };
    let mut numbers: HashMap<String, u32> = HashMap::new();
    let mut number = |name| {
        let next = numbers.len() as u32;
        *numbers.entry(name).or_insert(next)
    };
    let groups: Vec<u32> = names.into_iter().map(&mut number).collect();
    match groups.iter().any(|group| *group > 0) {
        true => Ok(groups),
        false => Err(SliceError::OneGroup { total: images.len(), by }),
    }
}

fn named_groups<I: Borrow<ImageRecord>>(
    images: &[I],
    csv: &Path,
    column: &str,
) -> Result<Vec<String>, SliceError> {
    let mut said = read_column(csv, column, images)?;
    for value in &mut said {
        // An empty cell names no group: its images have nothing in common.
        value.take_if(|value| value.is_empty());
    }
    if let Some(first) = said.iter().position(Option::is_none) {
        return Err(SliceError::Ungrouped {
            path: csv.to_owned(),
            column: column.to_owned(),
            missing: said.iter().filter(|value| value.is_none()).count(),
            total: images.len(),
            first: shown::name(&images[first].borrow().file_name),
        });
    }
    Ok(said.into_iter().flatten().collect())
}

fn folder(image: &ImageRecord) -> String {
    let name = image.file_name.replace('\\', "/");
    name.rsplit_once('/').map_or_else(String::new, |(folder, _)| folder.to_owned())
}
