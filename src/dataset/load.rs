//! A COCO annotation file to validated [`ImageRecord`]s.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Bbox, Category, Dataset, GroundTruth, ImageRecord};

/// Why ground truth could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The annotation file cannot be read.
    #[error("cannot read the ground truth {}: {error}", path.display())]
    Read {
        /// The annotation file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Not JSON, or not COCO's.
    #[error("{} is not COCO ground truth: {error}", path.display())]
    Json {
        /// The annotation file.
        path: PathBuf,
        /// What and where, as line and column.
        error: serde_json::Error,
    },
    /// JSON has no such number, though Python writes it.
    #[error("{}: line {line} holds {number}; every box and area must be finite", path.display())]
    NotFinite {
        /// The annotation file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// `NaN`, `Infinity` or `-Infinity`.
        number: &'static str,
    },
    /// JSON of COCO's form with contents that contradict themselves.
    #[error("{}: {what}", path.display())]
    Invalid {
        /// The annotation file.
        path: PathBuf,
        /// What is wrong, naming the record, and what to do.
        what: String,
    },
    /// Images that the annotation file lists are not on disk.
    #[error(
        "{missing} of {total} images are not in {}, the first is {first}; correct \"val_dir\" or pass --images",
        folder.display()
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

#[derive(Deserialize)]
struct File {
    images: Vec<ImageEntry>,
    annotations: Vec<AnnotationEntry>,
    categories: Vec<CategoryEntry>,
}

#[derive(Deserialize)]
struct ImageEntry {
    id: i64,
    file_name: String,
    width: u32,
    height: u32,
}

#[derive(Deserialize)]
struct AnnotationEntry {
    id: i64,
    image_id: i64,
    category_id: i64,
    bbox: [f64; 4],
    area: Option<f64>,
    iscrowd: Option<Crowd>,
}

/// COCO writes 0 and 1; converters also write booleans.
#[derive(Deserialize)]
#[serde(untagged)]
enum Crowd {
    Number(i64),
    Bool(bool),
}

#[derive(Deserialize)]
struct CategoryEntry {
    id: i64,
    name: String,
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
    let mut dataset = read(path, classes)?;
    dataset.images.truncate(max_images.unwrap_or(usize::MAX));
    if dataset.images.is_empty() {
        let what = "there is no image to evaluate".to_owned();
        return Err(DatasetError::Invalid { path: path.to_owned(), what });
    }
    for image in &mut dataset.images {
        image.path = images.join(&image.file_name);
    }
    require_files(&dataset.images, images)?;
    Ok(dataset)
}

/// As [`load`], for the annotations alone: no image need exist.
///
/// # Errors
/// As [`load`].
pub fn read(path: &Path, classes: &Classes) -> Result<Dataset, DatasetError> {
    let text =
        std::fs::read(path).map_err(|error| DatasetError::Read { path: path.to_owned(), error })?;
    let file: File =
        serde_json::from_slice(&text).map_err(|error| json_error(path, &text, error))?;
    let invalid = |what: String| DatasetError::Invalid { path: path.to_owned(), what };
    let categories = categories(&file.categories, classes).map_err(invalid)?;
    let mut records = records(&file).map_err(invalid)?;
    distribute(&file.annotations, &categories, &mut records).map_err(invalid)?;
    Ok(Dataset {
        categories,
        images: records,
        federation: None,
        digest: blake3::hash(&text).to_hex().to_string(),
    })
}

/// Tells Python's non-finite numbers, a common mistake, from other faults of syntax.
fn json_error(path: &Path, text: &[u8], error: serde_json::Error) -> DatasetError {
    let (line, column) = (error.line(), error.column());
    let row = text.split(|&byte| byte == b'\n').nth(line.saturating_sub(1)).unwrap_or_default();
    // serde_json stops at the first letter, or after the sign.
    let near = &row[column.saturating_sub(2).min(row.len())..];
    let number = ["NaN", "-Infinity", "Infinity"].into_iter().find(|number| {
        (0..=1).any(|skip| near.get(skip..).is_some_and(|rest| rest.starts_with(number.as_bytes())))
    });
    let path = path.to_owned();
    match number {
        Some(number) if error.is_syntax() => DatasetError::NotFinite { path, line, number },
        _ => DatasetError::Json { path, error },
    }
}

fn categories(declared: &[CategoryEntry], classes: &Classes) -> Result<Vec<Category>, String> {
    unique("category id", declared.iter().map(|c| c.id))?;
    // Metrics are reported by name.
    unique("category name", declared.iter().map(|c| c.name.as_str()))?;
    let declared: Vec<Category> =
        declared.iter().map(|c| Category { id: c.id, name: c.name.clone() }).collect();
    let Classes::Only(wanted) = classes else {
        return Ok(declared);
    };
    for class in wanted {
        let Some(found) = declared.iter().find(|c| c.id == class.id) else {
            return Err(format!(
                "the label map's category {} ({}) is not among its categories",
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

fn records(file: &File) -> Result<Vec<ImageRecord>, String> {
    unique("image id", file.images.iter().map(|image| image.id))?;
    let record = |image: &ImageEntry| ImageRecord {
        id: image.id,
        file_name: image.file_name.clone(),
        path: PathBuf::new(),
        width: image.width,
        height: image.height,
        ground_truth: Vec::new(),
    };
    Ok(file.images.iter().map(record).collect())
}

/// Gives each image its annotations, in file order.
fn distribute(
    annotations: &[AnnotationEntry],
    categories: &[Category],
    records: &mut [ImageRecord],
) -> Result<(), String> {
    unique("annotation id", annotations.iter().map(|annotation| annotation.id))?;
    let known: BTreeSet<i64> = categories.iter().map(|category| category.id).collect();
    let index: BTreeMap<i64, usize> =
        records.iter().enumerate().map(|(index, image)| (image.id, index)).collect();
    for annotation in annotations {
        let (id, image_id) = (annotation.id, annotation.image_id);
        let Some(&image) = index.get(&image_id) else {
            return Err(format!(
                "annotation {id} is on image {image_id}, which is not among its images"
            ));
        };
        if !known.contains(&annotation.category_id) {
            return Err(format!(
                "annotation {id} has category {}, which is not in the label map; reduce the file to \
                 the target classes or pass --all-categories",
                annotation.category_id
            ));
        }
        records[image].ground_truth.push(ground_truth(annotation)?);
    }
    Ok(())
}

fn ground_truth(annotation: &AnnotationEntry) -> Result<GroundTruth, String> {
    let bbox = Bbox::from(annotation.bbox);
    let area = annotation.area.unwrap_or_else(|| bbox.area());
    let numbers = [bbox.x, bbox.y, bbox.w, bbox.h, area];
    if numbers.iter().any(|n| !n.is_finite()) || bbox.w < 0.0 || bbox.h < 0.0 || area < 0.0 {
        return Err(format!(
            "annotation {} has the box {:?} and area {area}; [x, y, width, height] and area must be \
             finite, width, height and area not negative",
            annotation.id, annotation.bbox
        ));
    }
    Ok(GroundTruth {
        id: annotation.id,
        category_id: annotation.category_id,
        bbox,
        area,
        is_crowd: match annotation.iscrowd {
            None => false,
            Some(Crowd::Number(number)) => number != 0,
            Some(Crowd::Bool(is_crowd)) => is_crowd,
        },
        // pycocotools overwrites an annotation's `ignore` with its `iscrowd`.
        ignore: false,
    })
}

fn unique<T: Ord + Display>(what: &str, ids: impl Iterator<Item = T>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for id in ids {
        if let Some(id) = seen.replace(id) {
            return Err(format!("the {what} {id} occurs twice; it must be unique"));
        }
    }
    Ok(())
}

fn require_files(records: &[ImageRecord], folder: &Path) -> Result<(), DatasetError> {
    let mut missing = records.iter().filter(|record| !record.path.is_file()).peekable();
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
