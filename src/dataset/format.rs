//! Which kind of ground truth a path holds, by looking at it.

use std::path::Path;

use super::folder::{invalid, walk};
use super::{DatasetError, voc, yolo};

/// The kinds of ground truth that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationFormat {
    /// One JSON file, possibly compressed: [`super::load`].
    CocoJson,
    /// A folder with `*.txt` per image: [`super::load_yolo`].
    YoloFolder,
    /// A folder with `*.xml` per image: [`super::load_voc`].
    VocFolder,
}

/// Tells what `path` holds: a file is COCO JSON, a folder with label files (`labels/*.txt`, or `*.txt`
/// beside images) is YOLO's, a folder with `*.xml` is Pascal VOC's. No file is opened.
///
/// # Errors
/// A path that does not exist; a folder that holds both kinds, or neither.
pub fn annotations_format(path: &Path) -> Result<AnnotationFormat, DatasetError> {
    let metadata = std::fs::metadata(path)
        .map_err(|error| DatasetError::Read { path: path.to_owned(), error })?;
    if !metadata.is_dir() {
        return Ok(AnnotationFormat::CocoJson);
    }
    let files = walk(path)?;
    let (labels, annotations) = (yolo::label_files(&files), voc::annotation_files(&files));
    match (labels.first(), annotations.first()) {
        (Some(_), None) => Ok(AnnotationFormat::YoloFolder),
        (None, Some(_)) => Ok(AnnotationFormat::VocFolder),
        (Some(label), Some(annotation)) => Err(invalid(
            path,
            format!(
                "holds both YOLO labels ({}) and Pascal VOC annotations ({}); pass the folder of one",
                label.path.display(),
                annotation.path.display()
            ),
        )),
        (None, None) => Err(invalid(
            path,
            "holds no ground truth; expected a COCO JSON file, a folder with YOLO labels \
             (labels/*.txt) or one with Pascal VOC annotations (*.xml)",
        )),
    }
}
