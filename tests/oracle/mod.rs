//! Reads what `record.py` wrote: data sets, and what the references say about them.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};

use detgate::dataset::{Bbox, Category, GroundTruth, ImageRecord};
use detgate::detections::Detection;
use detgate::matching::Fixes;
use detgate::matching::coco::{AreaRange, CocoParams};
use detgate::matching::practical::PracticalParams;
use detgate::metrics::{Evaluation, evaluate};
use serde::Deserialize;

/// A data set with the references' results.
#[derive(Deserialize)]
pub struct Record {
    dataset: Dataset,
    pub coco: CocoExpectation,
    pub practical: serde_json::Value,
    #[serde(skip)]
    pub file: PathBuf,
}

#[derive(Deserialize)]
struct Dataset {
    categories: Vec<NamedId>,
    images: Vec<Id>,
    annotations: Vec<Annotation>,
    detections: Vec<ResultRow>,
    params: Params,
}

#[derive(Deserialize)]
struct NamedId {
    id: i64,
    name: String,
}

#[derive(Deserialize)]
struct Id {
    id: i64,
}

#[derive(Deserialize)]
struct Annotation {
    id: i64,
    image_id: i64,
    category_id: i64,
    bbox: Bbox,
    area: f64,
    iscrowd: u8,
}

#[derive(Deserialize)]
struct ResultRow {
    image_id: i64,
    category_id: i64,
    bbox: Bbox,
    score: f64,
}

#[derive(Deserialize)]
struct Params {
    iou_thrs: Option<Vec<f64>>,
    rec_thrs: Option<Vec<f64>>,
    max_dets: Option<Vec<usize>>,
    area_ranges: Option<Vec<(String, f64, f64)>>,
    score_thr: Option<f64>,
    iou_thr: Option<f64>,
}

/// pycocotools' results; floats as the hexadecimal digits of their bits.
#[derive(Deserialize)]
pub struct CocoExpectation {
    pub shape: [usize; 5],
    pub stats: Vec<String>,
    pub per_class: Vec<Vec<String>>,
    /// Of precision, scores and recall.
    pub digests: [String; 3],
}

/// Every record of a folder, by file name.
pub fn records(folder: &Path) -> Vec<Record> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    files.into_iter().map(read).collect()
}

fn read(file: PathBuf) -> Record {
    let text = std::fs::read_to_string(&file).unwrap();
    let record = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    Record { file, ..record }
}

/// The fixtures that plain `cargo test` compares with.
pub fn recorded() -> Vec<Record> {
    records(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/metrics"))
}

/// Generates `count` data sets and runs the references on them, if `DETGATE_TEST_PYTHON` names a
/// Python with `tests/oracle/requirements.in`. The folder lives as long as the first result.
pub fn generated(first_seed: u32, count: u32) -> Option<(tempfile::TempDir, Vec<Record>)> {
    let python = std::env::var_os("DETGATE_TEST_PYTHON")?;
    let folder = tempfile::tempdir().unwrap();
    let status = std::process::Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/record.py"))
        .arg(folder.path())
        .args([first_seed.to_string(), count.to_string(), "--arrays".into()])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .status()
        .expect("DETGATE_TEST_PYTHON must name a Python that can be started");
    assert!(status.success(), "record.py failed; is tests/oracle/requirements.in installed?");
    let records = records(folder.path());
    assert_eq!(records.len(), count as usize);
    Some((folder, records))
}

impl Record {
    pub fn name(&self) -> String {
        self.file.file_stem().unwrap().to_string_lossy().into_owned()
    }

    pub fn categories(&self) -> Vec<Category> {
        let categories = self.dataset.categories.iter();
        categories.map(|c| Category { id: c.id, name: c.name.clone() }).collect()
    }

    /// Images in file order, each with its rows in file order.
    pub fn images(&self) -> Vec<(ImageRecord, Vec<Detection>)> {
        self.dataset.images.iter().map(|image| self.image(image.id)).collect()
    }

    fn image(&self, id: i64) -> (ImageRecord, Vec<Detection>) {
        let annotations = self.dataset.annotations.iter().filter(|row| row.image_id == id);
        let ground_truth = annotations.map(|row| GroundTruth {
            id: row.id,
            category_id: row.category_id,
            bbox: row.bbox,
            area: row.area,
            is_crowd: row.iscrowd == 1,
            ignore: false,
        });
        let rows = self.dataset.detections.iter().filter(|row| row.image_id == id);
        let detections = rows.map(|row| Detection {
            bbox: row.bbox,
            score: row.score,
            category_id: row.category_id,
        });
        (record(id, ground_truth.collect()), detections.collect())
    }

    pub fn coco_params(&self) -> CocoParams {
        let (params, default) = (&self.dataset.params, CocoParams::default());
        let ranges = params.area_ranges.as_ref().map(|ranges| {
            let range = |(name, min, max): &(String, f64, f64)| AreaRange {
                name: name.clone(),
                min: *min,
                max: *max,
            };
            ranges.iter().map(range).collect()
        });
        CocoParams {
            iou_thrs: params.iou_thrs.clone().unwrap_or(default.iou_thrs),
            rec_thrs: params.rec_thrs.clone().unwrap_or(default.rec_thrs),
            max_dets: params.max_dets.clone().unwrap_or(default.max_dets),
            area_ranges: ranges.unwrap_or(default.area_ranges),
            use_cats: true,
            fixes: Fixes::default(),
        }
    }

    pub fn evaluate(&self) -> Evaluation {
        let default = PracticalParams::default();
        let practical = PracticalParams {
            score_thr: self.dataset.params.score_thr.unwrap_or(default.score_thr),
            iou_thr: self.dataset.params.iou_thr.unwrap_or(default.iou_thr),
        };
        let images = self.images();
        let images: Vec<(&ImageRecord, &[Detection])> =
            images.iter().map(|(image, dts)| (image, dts.as_slice())).collect();
        evaluate(&self.categories(), &images, &practical, &self.coco_params()).unwrap()
    }
}

/// An image that exists in memory only.
pub fn record(id: i64, ground_truth: Vec<GroundTruth>) -> ImageRecord {
    let (file_name, path) = (format!("{id}.jpg"), PathBuf::new());
    ImageRecord { id, file_name, path, width: 640, height: 480, ground_truth }
}
