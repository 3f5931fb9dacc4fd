//! A COCO annotation file to a validated [`Dataset`].

use std::collections::HashMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use super::annotation_file::{Annotation, AnnotationFile};
use super::{Category, Dataset, ImageRecord};
use crate::config::{Fix, Fixes};
use crate::files::failed;
use crate::json;
use crate::shown::{self, count};

/// Why ground truth could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The annotation file cannot be read.
    #[error("cannot read the ground truth {}: {}", path.display(), failed(error))]
    Read {
        /// The annotation file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Not JSON, or not COCO's; or it cannot be unpacked.
    #[error("{} is not COCO ground truth: {what}", path.display())]
    Malformed {
        /// The annotation file.
        path: PathBuf,
        /// Line, column, JSON path, and what was expected there.
        what: String,
    },
    /// JSON of COCO's form with contents that contradict themselves.
    #[error("{}: {what}", path.display())]
    Invalid {
        /// The annotation file.
        path: PathBuf,
        /// What is wrong, naming the record, and what to do.
        what: String,
    },
    /// The folder of the images is not there.
    #[error("there is no folder of images {}; correct --images, or `images` of [data] in detgate.toml", folder.display())]
    NoFolder {
        /// Where images were looked for.
        folder: PathBuf,
    },
    /// Images that the annotation file lists are not on disk.
    #[error(
        "{} lacks {missing} of {}, the first is {}; correct \"val_dir\" or pass --images",
        folder.display(), count(*total, "image"), shown::name(first)
    )]
    MissingImages {
        /// Where they were looked for.
        folder: PathBuf,
        /// The first in file order.
        first: String,
        /// How many are missing.
        missing: usize,
        /// How many were looked for.
        total: usize,
    },
}

/// Which classes a run evaluates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Classes {
    /// These; an annotation of any other class is an error.
    Only(Vec<Category>),
    /// Every category that the annotation file declares.
    FromFile,
}

/// Reads the annotation file `path`, keeps its first `max_images` images (all for `None`) with their
/// annotations, and finds each image under `images`.
///
/// An annotation without `area` gets that of its box, one without `iscrowd` is no crowd region.
///
/// # Errors
/// Unreadable or malformed JSON; an annotation whose image or class does not exist, whose box is
/// negative or not finite; ids that occur twice; images that are not on disk.
pub fn load(
    path: &Path,
    images: &Path,
    classes: &Classes,
    max_images: Option<usize>,
) -> Result<Dataset, DatasetError> {
    let mut dataset = load_annotations(path, classes, max_images)?;
    find_images(&mut dataset.images, path, images)?;
    Ok(dataset)
}

/// Finds images of the annotation file `path` in `folder`: all of them, or the few that are wanted.
///
/// # Errors
/// An image without a name, or that is not on disk.
pub fn find_images(
    images: &mut [ImageRecord],
    path: &Path,
    folder: &Path,
) -> Result<(), DatasetError> {
    for image in &mut *images {
        if image.file_name.is_empty() {
            let what = format!("image {} has no \"file_name\"; add one", image.id);
            return Err(DatasetError::Invalid { path: path.to_owned(), what });
        }
        image.path = folder.join(&image.file_name);
    }
    require_files(images, folder)
}

/// As [`load`], where no image need exist.
///
/// # Errors
/// As [`load`].
pub fn load_annotations(
    path: &Path,
    classes: &Classes,
    max_images: Option<usize>,
) -> Result<Dataset, DatasetError> {
    let mut dataset = read(path, classes, Fixes::default())?;
    let invalid = |what: String| DatasetError::Invalid { path: path.to_owned(), what };
    require_listed(&dataset, classes).map_err(invalid)?;
    // The gate knows metrics by the names of classes.
    unique("category name", dataset.categories.iter().map(|c| c.name.as_str())).map_err(invalid)?;
    dataset.images.truncate(max_images.unwrap_or(usize::MAX));
    if dataset.images.is_empty() {
        return Err(invalid(
            "there is no image to evaluate; is it the ground truth of the validation images?"
                .to_owned(),
        ));
    }
    Ok(dataset)
}

/// As [`load`], for the annotations alone: no image need exist, and annotations may be of categories
/// that are not evaluated, as for pycocotools ([`Dataset::unlisted`]). Of the fixes, [`Fix::IgnoreKey`] is
/// the reader's.
///
/// # Errors
/// As [`load`].
pub fn read(path: &Path, classes: &Classes, fixes: Fixes) -> Result<Dataset, DatasetError> {
    let file = read_file(path, fixes)?;
    let invalid = |what: String| DatasetError::Invalid { path: path.to_owned(), what };
    let categories = categories(file.categories, classes).map_err(invalid)?;
    unique("image id", file.images.iter().map(|image| image.id)).map_err(invalid)?;
    unique("annotation id", file.annotations.iter().map(|annotation| annotation.truth.id))
        .map_err(invalid)?;
    let mut images = file.images;
    distribute(file.annotations, &mut images).map_err(invalid)?;
    Ok(Dataset { categories, images, federation: file.federation, digest: file.digest })
}

fn read_file(path: &Path, fixes: Fixes) -> Result<AnnotationFile, DatasetError> {
    let io = |error| DatasetError::Read { path: path.to_owned(), error };
    let source = json::open(path).map_err(io)?;
    AnnotationFile::read(source, fixes.contains(Fix::IgnoreKey)).map_err(|error| match error {
        json::Error::Io(error) => io(error),
        fault => DatasetError::Malformed { path: path.to_owned(), what: fault.to_string() },
    })
}

fn categories(declared: Vec<Category>, classes: &Classes) -> Result<Vec<Category>, String> {
    unique("category id", declared.iter().map(|c| c.id))?;
    let Classes::Only(wanted) = classes else {
        return Ok(declared);
    };
    for class in wanted {
        let Some(found) = declared.iter().find(|c| c.id == class.id) else {
            return Err(format!(
                "the label map's category {} ({}) is not among its categories; add it there, or correct labelmap.json",
                class.id, class.name
            ));
        };
        if found.name != class.name {
            return Err(format!(
                "category {} is {:?} here and {:?} in the label map; make them agree",
                class.id, found.name, class.name
            ));
        }
    }
    Ok(wanted.clone())
}

/// Gives each image its annotations, in file order.
fn distribute(annotations: Vec<Annotation>, images: &mut [ImageRecord]) -> Result<(), String> {
    let index: HashMap<i64, usize> = images.iter().map(|image| image.id).zip(0..).collect();
    for Annotation { image_id, truth } in annotations {
        let Some(&image) = index.get(&image_id) else {
            return Err(format!(
                "annotation {} is on image {image_id}, which is not among its images; add the image, or remove the annotation",
                truth.id
            ));
        };
        images[image].ground_truth.push(truth);
    }
    Ok(())
}

/// An annotation of another class would be missing from every number without a word.
fn require_listed(dataset: &Dataset, classes: &Classes) -> Result<(), String> {
    let Some(stray) = dataset.unlisted().next() else { return Ok(()) };
    let remedy = match classes {
        Classes::FromFile => "which is not among its categories; add it there",
        Classes::Only(_) => {
            "which is not in the label map; reduce the file to the target classes or pass \
             --all-categories"
        }
    };
    Err(format!("annotation {} has category {}, {remedy}", stray.id, stray.category_id))
}

fn unique<T: Ord + Display>(what: &str, ids: impl Iterator<Item = T>) -> Result<(), String> {
    let mut ids: Vec<T> = ids.collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("the {what} {} occurs twice; it must be unique", pair[0])),
        None => Ok(()),
    }
}

fn require_files(records: &[ImageRecord], folder: &Path) -> Result<(), DatasetError> {
    let mut missing = records.iter().filter(|record| !record.path.is_file()).peekable();
    if missing.peek().is_some() && !folder.is_dir() {
        return Err(DatasetError::NoFolder { folder: folder.to_owned() });
    }
    match missing.peek().map(|record| record.file_name.clone()) {
        None => Ok(()),
        Some(first) => Err(DatasetError::MissingImages {
            folder: folder.to_owned(),
            first,
            missing: missing.count(),
            total: records.len(),
        }),
    }
}
