//! Ground truth from disk, validated once; every later stage may trust it.
//!
//! Deliberately absent: anything about predictions, and any default: the caller says which images
//! and which categories.

pub mod image;
mod annotation_file;
mod class_list;
mod folder;
mod format;
mod image_table;
mod load;
mod slices;
mod voc;
mod yolo;

pub use format::{AnnotationFormat, annotations_format};
pub use load::{Classes, DatasetError, find_images, load, load_annotations, read};
pub use slices::{Slice, SliceError, check_names, groups, slices};
pub use voc::load_voc;
pub use yolo::load_yolo;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

/// An axis-aligned box in continuous pixel coordinates, as COCO stores it: the upper left corner,
/// width and height. No `+1` anywhere. Finite; width and height are never negative.
#[derive(
    Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(from = "[f64; 4]", into = "[f64; 4]")]
#[schemars(with = "[f64; 4]")]
pub struct Bbox {
    /// Left edge, pixels.
    pub x: f64,
    /// Upper edge, pixels.
    pub y: f64,
    /// Width, pixels.
    pub w: f64,
    /// Height, pixels.
    pub h: f64,
}

impl From<[f64; 4]> for Bbox {
    fn from([x, y, w, h]: [f64; 4]) -> Self {
        Self { x, y, w, h }
    }
}

impl From<Bbox> for [f64; 4] {
    fn from(b: Bbox) -> Self {
        [b.x, b.y, b.w, b.h]
    }
}

impl Bbox {
    /// From the corners `[x1, y1, x2, y2]`.
    pub fn from_xyxy([x1, y1, x2, y2]: [f64; 4]) -> Self {
        Self { x: x1, y: y1, w: x2 - x1, h: y2 - y1 }
    }

    /// Width times height, square pixels.
    pub fn area(&self) -> f64 {
        self.w * self.h
    }
}

/// One class of the ground truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Category {
    /// The id that annotations and detections carry; need not be contiguous.
    pub id: i64,
    /// Its name, for example `person`.
    pub name: String,
}

/// One annotated object.
#[derive(Debug, Clone, PartialEq)]
pub struct GroundTruth {
    /// The annotation's id. 0 is legal, and has a quirk in pycocotools: see `matching`.
    pub id: i64,
    /// Its class.
    pub category_id: i64,
    /// Its box.
    pub bbox: Bbox,
    /// COCO's `area`: usually that of the segmentation, not of the box. Square pixels.
    pub area: f64,
    /// A region of many objects that were not told apart.
    pub is_crowd: bool,
    /// Need not be found, and finding it is no mistake: an object marked as difficult, for example.
    /// Unlike a crowd it is one object, found once.
    pub ignore: bool,
}

/// One image and all that is annotated on it.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageRecord {
    /// COCO's image id.
    pub id: i64,
    /// As the annotation file gives it, relative to the image folder.
    pub file_name: String,
    /// Where it was found; of Pascal VOC, which does not need it, where it is expected.
    pub path: PathBuf,
    /// Pixels, as the annotation file gives it.
    pub width: u32,
    /// Pixels, as the annotation file gives it.
    pub height: u32,
    /// In the order of the annotation file.
    pub ground_truth: Vec<GroundTruth>,
}

impl ImageRecord {
    /// How many boxes have no area: legal in COCO, and never matched by anything but luck.
    pub fn zero_area_boxes(&self) -> usize {
        self.ground_truth.iter().filter(|gt| gt.bbox.area() == 0.0).count()
    }
}

/// Ground truth, validated: ids are unique, every annotation is on an image that exists, boxes are
/// finite and not negative. Unless the annotations were read alone, every annotation is of a category
/// that is evaluated, and every image was on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The classes that are evaluated, in the label map's order.
    pub categories: Vec<Category>,
    /// In the order of the annotation file.
    pub images: Vec<ImageRecord>,
    /// What LVIS says beyond COCO, where the file has it.
    pub federation: Option<Federation>,
    /// BLAKE3 of the annotation file, hexadecimal.
    pub digest: String,
}

impl Dataset {
    /// Annotations of categories that are not evaluated.
    pub fn unlisted(&self) -> impl Iterator<Item = &GroundTruth> {
        let listed: HashSet<i64> = self.categories.iter().map(|category| category.id).collect();
        let truths = self.images.iter().flat_map(|image| &image.ground_truth);
        truths.filter(move |truth| !listed.contains(&truth.category_id))
    }
}

/// What an LVIS file says beyond COCO: not every class was looked for on every image.
///
/// Source: Gupta, Dollár, Girshick: LVIS, CVPR 2019, section 3, and the fields of `lvis_v1_val.json`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Federation {
    /// By image id: classes that were looked for and are not there.
    pub negative: BTreeMap<i64, Vec<i64>>,
    /// By image id: classes of which not every object was annotated.
    pub not_exhaustive: BTreeMap<i64, Vec<i64>>,
    /// By category id: how common the class is.
    pub frequency: BTreeMap<i64, Frequency>,
}

/// In how many training images a class occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Frequency {
    /// `r`: 1 to 10.
    Rare,
    /// `c`: 11 to 100.
    Common,
    /// `f`: more than 100.
    Frequent,
}
