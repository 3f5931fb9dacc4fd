//! A folder of YOLO labels to a validated [`Dataset`].
//!
//! Implements what Ultralytics' loader reads (`ultralytics/data/utils.py`, `verify_image_label` and
//! `img2label_paths`), and Darknet's layout with labels beside the images. Deliberately different:
//! a damaged label file is an error and does not lose the image; a line of five columns is a box
//! even where another line of the file is a polygon, of which Ultralytics makes two corners.
//!
//! Deliberately absent: splits. Everything below the folder is read; pass `labels/val` for one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::class_list::{self, ClassList};
use super::folder::{
    Digest, Found, IMAGE_EXTENSIONS, IMAGE_FOLDERS, at_line, from_image, image_ids, invalid,
    read_text, split_extension, walk,
};
use super::image::dimensions;
use super::{Bbox, Dataset, DatasetError, GroundTruth, ImageRecord};
use crate::shown::count;

/// Where class names are looked for, in each folder in this order.
const CLASS_LISTS: [&str; 6] =
    ["data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names", "_darknet.labels"];

/// Text files that are no labels, unless there is an image of that name.
const NOT_LABELS: [&str; 9] = [
    "classes.txt",
    "labels.txt",
    "names.txt",
    "predefined_classes.txt",
    "train.txt",
    "trainval.txt",
    "val.txt",
    "valid.txt",
    "test.txt",
];

/// How far outside of 0..1 a coordinate may be: Ultralytics' tolerance.
const TOLERANCE: f64 = 0.01;

/// Reads the YOLO labels below `folder`.
///
/// `folder` is a data set with `labels` and `images` (at any depth), a folder within `labels`, whose
/// images are then at the same place within the `images` beside it, or a folder that holds labels and
/// images together. `images` may also be called `JPEGImages`, as in VOC data for Darknet. `images` says where the images are, in the same folders as the labels, if they
/// are elsewhere.
///
/// - Class names are in `data.yaml` (`names` as list or map), `classes.txt` or `obj.names`, in
///   `folder`, its `labels`, its parent, or beside or above the `labels` that it lies in.
/// - A line is `class cx cy w h`, relative to the image, or `class x1 y1 x2 y2 x3 y3 ...`, a polygon
///   whose bounding box counts (area included). With `kpt_shape` in `data.yaml`, key points follow
///   the box and are not used. A line that is there twice counts once, as in Ultralytics.
/// - Pixels are those of the image as OpenCV loads it: turned by its EXIF orientation. Boxes are not
///   clipped to the image.
/// - **Category ids are the class index plus one**, as Ultralytics has written them to
///   `predictions.json` since 8.3.49 (pull request 18140); earlier releases, YOLOv5 and v7 write the
///   index.
/// - **Image ids** are the numbers that the file names spell, if all do and no two are equal;
///   otherwise 1, 2, 3 in the order of the names. `file_name` is relative to `images`, or to
///   `folder`.
/// - An image without a label file has no objects.
/// - The digest is over class names, image names and sizes, and labels, in sorted order.
///
/// # Errors
/// An unreadable folder, file or image header; a label file without an image, two images for one;
/// no class names; a line that is not a label, a coordinate outside of 0..1 by more than 0.01 (as
/// Ultralytics), an unknown class. File and line are named.
pub fn load_yolo(folder: &Path, images: Option<&Path>) -> Result<Dataset, DatasetError> {
    let layout = Layout::of(folder, images)?;
    let classes = class_names(folder)?;
    let results: Vec<Result<Labelled, DatasetError>> =
        layout.pairs.par_iter().map(|pair| read_pair(pair, &classes)).collect();
    // In order, so that of many faults always the same one is reported.
    let labelled: Vec<Labelled> = results.into_iter().collect::<Result<_, _>>()?;
    Ok(assemble(&layout.pairs, labelled, &classes))
}

/// An image, and its labels if it has any.
struct Pair {
    image: Found,
    label: Option<PathBuf>,
}

/// What one pair of files holds.
struct Labelled {
    text: String,
    /// Pixels.
    size: (u32, u32),
    objects: Vec<(usize, Bbox)>,
}

struct Layout {
    /// Sorted by the image's name.
    pairs: Vec<Pair>,
}

impl Layout {
    fn of(folder: &Path, images: Option<&Path>) -> Result<Self, DatasetError> {
        let files = walk(folder)?;
        let candidates = label_candidates(&files);
        let (root, found) = match images.map(Path::to_owned).or_else(|| beside(folder, &files)) {
            Some(root) => (root.clone(), walk(&root)?),
            None => (folder.to_owned(), files.clone()),
        };
        let mut by_key = images_by_key(&found)?;
        let mut pairs = Vec::new();
        for label in candidates {
            match by_key.remove(&key(&label.relative)) {
                Some(image) => pairs.push(Pair { image, label: Some(label.path.clone()) }),
                None if is_no_label(label) => {}
                None => return Err(without_image(label, &root)),
            }
        }
        if pairs.is_empty() {
            return Err(no_labels(folder, by_key.len()));
        }
        pairs.extend(by_key.into_values().map(|image| Pair { image, label: None }));
        pairs.sort_by(|a, b| a.image.relative.cmp(&b.image.relative));
        Ok(Self { pairs })
    }
}

/// The files below a folder that are labels by their place and name; `classes.txt` and the like only
/// if `files` has an image for them.
pub(super) fn label_files(files: &[Found]) -> Vec<&Found> {
    let images: BTreeSet<String> = files
        .iter()
        .filter(|file| file.has_extension(&IMAGE_EXTENSIONS))
        .map(|file| key(&file.relative))
        .collect();
    let mut labels = label_candidates(files);
    labels.retain(|file| !is_no_label(file) || images.contains(&key(&file.relative)));
    labels
}

/// Text files; only those in `labels` folders if there are any.
fn label_candidates(files: &[Found]) -> Vec<&Found> {
    let text = |file: &&Found| file.has_extension(&["txt"]) && !file.lies_in(&["ImageSets"]);
    let structured = files.iter().filter(text).any(|file| file.lies_in(&["labels"]));
    files.iter().filter(text).filter(|file| !structured || file.lies_in(&["labels"])).collect()
}

fn is_no_label(file: &Found) -> bool {
    let name = file.relative.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    NOT_LABELS.contains(&name.as_str()) || name.starts_with("readme")
}

/// What an image and its labels have in common: the path without extension and without the last
/// folder in it that is called `labels` or as those of images are.
fn key(relative: &str) -> String {
    let mut parts: Vec<&str> = split_extension(relative).0.split('/').collect();
    let folders = &parts[..parts.len() - 1];
    let paired = |part: &&str| *part == "labels" || IMAGE_FOLDERS.contains(part);
    if let Some(at) = folders.iter().rposition(paired) {
        parts.remove(at);
    }
    parts.join("/")
}

/// Images by what they share with their labels; only those in `images` folders if there are any.
fn images_by_key(files: &[Found]) -> Result<BTreeMap<String, Found>, DatasetError> {
    let image = |file: &&Found| file.has_extension(&IMAGE_EXTENSIONS);
    let structured = files.iter().filter(image).any(|file| file.lies_in(&IMAGE_FOLDERS));
    let mut by_key = BTreeMap::new();
    for file in
        files.iter().filter(image).filter(|file| !structured || file.lies_in(&IMAGE_FOLDERS))
    {
        let other: Option<Found> = by_key.insert(key(&file.relative), file.clone());
        if let Some(other) = other {
            let what = format!("has the same label file as {}; rename one", other.path.display());
            return Err(invalid(&file.path, what));
        }
    }
    Ok(by_key)
}

/// For a folder within `labels`: the same place within the images beside it, if that exists.
fn beside(folder: &Path, files: &[Found]) -> Option<PathBuf> {
    if files.iter().any(|file| file.lies_in(&["labels"])) {
        return None;
    }
    let (above, below) = around_labels(folder)?;
    let mut folders = IMAGE_FOLDERS.iter().map(|name| above.join(name).join(&below));
    folders.find(|images| images.is_dir())
}

/// `/data/labels/val` to `/data` and `val`.
fn around_labels(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let absolute = std::path::absolute(folder).ok()?;
    let parts: Vec<Component<'_>> = absolute.components().collect();
    let at = parts.iter().rposition(|part| part.as_os_str() == "labels")?;
    Some((parts[..at].iter().collect(), parts[at + 1..].iter().collect()))
}

fn without_image(label: &Found, images: &Path) -> DatasetError {
    let what = format!(
        "there is no image for these labels below {}; expected {}.jpg or another image of that name",
        images.display(),
        key(&label.relative),
    );
    invalid(&label.path, what)
}

fn no_labels(folder: &Path, images: usize) -> DatasetError {
    let what = match images {
        0 => "holds neither images nor YOLO labels".to_owned(),
        1 => "holds an image, but no YOLO labels".to_owned(),
        n => format!("holds {n} images, but no YOLO labels"),
    };
    invalid(folder, what + "; expected labels/*.txt and images/, or both in one folder")
}

fn class_names(folder: &Path) -> Result<ClassList, DatasetError> {
    let mut folders = vec![folder.to_owned(), folder.join("labels")];
    let absolute = std::path::absolute(folder).ok();
    folders.extend(absolute.as_deref().and_then(Path::parent).map(Path::to_owned));
    if let Some((above, _)) = around_labels(folder) {
        // Roboflow's splits have `labels` of their own, and the list above all of them.
        folders.extend(above.ancestors().take(2).map(Path::to_owned));
    }
    class_list::find(&folders, &CLASS_LISTS)?.ok_or_else(|| {
        let what = "there are no class names; put data.yaml (with \"names\"), classes.txt or \
                    obj.names (one name a line) into it or its parent";
        invalid(folder, what)
    })
}

fn read_pair(pair: &Pair, classes: &ClassList) -> Result<Labelled, DatasetError> {
    let (width, height) = dimensions(&pair.image.path).map_err(from_image)?.upright();
    let Some(path) = &pair.label else {
        return Ok(Labelled { text: String::new(), size: (width, height), objects: Vec::new() });
    };
    let text = read_text(path)?;
    let (mut objects, mut seen) = (Vec::new(), BTreeSet::new());
    for (index, line) in text.lines().enumerate() {
        let label = label(line, classes).map_err(|what| at_line(path, index + 1, what))?;
        let new = label.filter(|label| seen.insert((label.class, label.ltwh.map(f64::to_bits))));
        objects.extend(new.map(|label| (label.class, label.pixels(width, height))));
    }
    Ok(Labelled { text, size: (width, height), objects })
}

/// One object, relative to the image.
struct Label {
    class: usize,
    /// Left, top, width and height.
    ltwh: [f64; 4],
}

impl Label {
    fn pixels(&self, width: u32, height: u32) -> Bbox {
        let [x, y, w, h] = self.ltwh;
        let (width, height) = (f64::from(width), f64::from(height));
        Bbox { x: x * width, y: y * height, w: w * width, h: h * height }
    }
}

/// One line; nothing for a blank one. The error continues `line 3 ...`.
fn label(line: &str, classes: &ClassList) -> Result<Option<Label>, String> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let Some((class, coordinates)) = columns.split_first() else {
        return Ok(None);
    };
    let class = class_index(class, classes)?;
    let values: Vec<f64> = coordinates.iter().map(|text| number(text)).collect::<Result<_, _>>()?;
    let columns = count(columns.len(), "column");
    let points = match (classes.keypoint_columns, values.as_slice()) {
        (_, &[cx, cy, w, h]) => return boxed(class, [cx, cy, w, h]).map(Some),
        (Some(extra), &[cx, cy, w, h, ref keypoints @ ..]) if keypoints.len() == extra => {
            return boxed(class, [cx, cy, w, h]).map(Some);
        }
        (Some(extra), _) => {
            return Err(format!("has {columns}; expected {}, by kpt_shape", 5 + extra));
        }
        (None, [_, _, _, _, _]) => {
            return Err("has 6 columns, as detections with a score have; expected ground truth, \
                        5 columns: class cx cy w h"
                .to_owned());
        }
        (None, points) => points,
    };
    if points.len() < 6 || points.len() % 2 != 0 {
        return Err(format!(
            "has {columns}; expected 5 (class cx cy w h), or the class and at least 3 points"
        ));
    }
    points.iter().try_for_each(|&value| in_range(value))?;
    let (xs, ys) = (points.iter().step_by(2), points.iter().skip(1).step_by(2));
    let ([left, right], [top, bottom]) = (extent(xs), extent(ys));
    Ok(Some(Label { class, ltwh: [left, top, right - left, bottom - top] }))
}

fn boxed(class: usize, [cx, cy, w, h]: [f64; 4]) -> Result<Label, String> {
    [cx, cy, w, h].into_iter().try_for_each(in_range)?;
    if w < 0.0 || h < 0.0 {
        return Err(format!("has the size {w} {h}; width and height must not be negative"));
    }
    Ok(Label { class, ltwh: [cx - w / 2.0, cy - h / 2.0, w, h] })
}

fn extent<'a>(values: impl Iterator<Item = &'a f64>) -> [f64; 2] {
    values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], &v| [low.min(v), high.max(v)])
}

/// A whole number, which some writers give as `2.0`.
fn class_index(text: &str, classes: &ClassList) -> Result<usize, String> {
    let count = classes.names.len();
    let index = text.parse().ok().filter(|index: &f64| index.fract() == 0.0 && *index >= 0.0);
    let Some(index) = index else {
        return Err(format!("has the class {text:?}; expected a whole number, 0 to {}", count - 1));
    };
    if index >= count as f64 {
        return Err(format!(
            "has the class {text}; {} names {count}, which are 0 to {}",
            classes.path.display(),
            count - 1
        ));
    }
    Ok(index as usize)
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("has {text:?} where a number is expected"))
}

/// NaN is in no range.
fn in_range(value: f64) -> Result<(), String> {
    if (-TOLERANCE..=1.0 + TOLERANCE).contains(&value) {
        return Ok(());
    }
    Err(format!("has the coordinate {value}; expected 0 to 1, relative to the image's size"))
}

fn assemble(pairs: &[Pair], labelled: Vec<Labelled>, classes: &ClassList) -> Dataset {
    let mut digest = Digest::default();
    classes.names.iter().for_each(|name| digest.field(name));
    let ids = image_ids(pairs.iter().map(|pair| pair.image.relative.as_str()));
    let mut annotation_ids = 1..;
    let mut images = Vec::with_capacity(pairs.len());
    for ((pair, id), Labelled { text, size: (width, height), objects }) in
        pairs.iter().zip(ids).zip(labelled)
    {
        digest.field(&pair.image.relative);
        digest.size(width, height);
        digest.field(&text);
        let ground_truth = objects.into_iter().zip(&mut annotation_ids);
        images.push(ImageRecord {
            id,
            file_name: pair.image.relative.clone(),
            path: pair.image.path.clone(),
            width,
            height,
            ground_truth: ground_truth.map(|((class, bbox), id)| object(id, class, bbox)).collect(),
        });
    }
    Dataset { categories: classes.categories(), images, federation: None, digest: digest.finish() }
}

fn object(id: i64, class: usize, bbox: Bbox) -> GroundTruth {
    let category_id = class as i64 + 1;
    GroundTruth { id, category_id, bbox, area: bbox.area(), is_crowd: false, ignore: false }
}
