//! Reads what `record.py` wrote: data sets, and what the references say about them.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

pub mod lvis;
pub mod tide;

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use detgate::dataset::{Bbox, Category, GroundTruth, ImageRecord};
use detgate::detections::Detection;
use detgate::matching::coco::{AreaRange, CocoParams};
use detgate::matching::practical::PracticalParams;
use detgate::metrics::coco::Curves;
use detgate::metrics::{Evaluation, evaluate, evaluate_coco};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A data set with the references' results.
#[derive(Deserialize)]
pub struct Record {
    dataset: Dataset,
    pub coco: CocoExpectation,
    pub practical: serde_json::Value,
    #[serde(skip)]
    pub file: PathBuf,
}

/// A generated data set, for whichever reference.
#[derive(Deserialize)]
struct Dataset {
    categories: Vec<CategoryRow>,
    images: Vec<ImageRow>,
    annotations: Vec<Annotation>,
    detections: Vec<ResultRow>,
    #[serde(default)]
    params: Params,
}

#[derive(Deserialize)]
struct CategoryRow {
    id: i64,
    name: String,
    /// LVIS'.
    #[serde(default)]
    frequency: String,
}

#[derive(Deserialize)]
struct ImageRow {
    id: i64,
    /// LVIS'.
    #[serde(default)]
    neg_category_ids: Vec<i64>,
    /// LVIS'.
    #[serde(default)]
    not_exhaustive_category_ids: Vec<i64>,
}

#[derive(Deserialize)]
struct Annotation {
    id: i64,
    image_id: i64,
    category_id: i64,
    bbox: Bbox,
    area: f64,
    iscrowd: u8,
    #[serde(default)]
    ignore: u8,
}

#[derive(Deserialize)]
struct ResultRow {
    image_id: i64,
    category_id: i64,
    bbox: Bbox,
    score: f64,
}

#[derive(Default, Deserialize)]
struct Params {
    iou_thrs: Option<Vec<f64>>,
    rec_thrs: Option<Vec<f64>>,
    max_dets: Option<Vec<usize>>,
    area_ranges: Option<Vec<(String, f64, f64)>>,
    use_cats: Option<u8>,
    #[serde(default)]
    ignore_key: bool,
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

/// Every record of a folder of fixtures, by file name, with its file: what plain `cargo test` compares with.
fn recorded_in<R: DeserializeOwned>(folder: &str) -> Vec<(PathBuf, R)> {
    records(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
}

/// Generates `count` data sets and runs the references that `options` choose on them, if
/// `DETGATE_TEST_PYTHON` names a Python with `tests/oracle/requirements.in`. The folder lives as long as
/// the first result.
fn generated_with<R: DeserializeOwned>(
    options: &[&str],
    first_seed: u32,
    count: u32,
) -> Option<(tempfile::TempDir, Vec<(PathBuf, R)>)> {
    let folder = generate(first_seed, count, options)?;
    let records = records(folder.path());
    assert_eq!(records.len(), count as usize);
    Some((folder, records))
}

fn records<R: DeserializeOwned>(folder: &Path) -> Vec<(PathBuf, R)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), read(&file))).collect()
}

fn read<R: DeserializeOwned>(file: &Path) -> R {
    let text = std::fs::read_to_string(file).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

fn with_files(records: Vec<(PathBuf, Record)>) -> Vec<Record> {
    records.into_iter().map(|(file, record)| Record { file, ..record }).collect()
}

/// The fixtures that plain `cargo test` compares with.
pub fn recorded() -> Vec<Record> {
    with_files(recorded_in("fixtures/metrics"))
}

/// Data sets that are generated now, with what the references say now: see [`generated_with`].
pub fn generated(first_seed: u32, count: u32) -> Option<(tempfile::TempDir, Vec<Record>)> {
    let (folder, records) = generated_with(&["--arrays"], first_seed, count)?;
    Some((folder, with_files(records)))
}

/// Runs `record.py` with `options` for `count` seeds, shared among a process per core.
fn generate(first_seed: u32, count: u32, options: &[&str]) -> Option<tempfile::TempDir> {
    let python = std::env::var_os("DETGATE_TEST_PYTHON")?;
    let folder = tempfile::tempdir().unwrap();
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32).min(count);
    let start = |process: u32| {
        let (from, to) = (count * process / cores, count * (process + 1) / cores);
        Command::new(&python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/record.py"))
            .arg(folder.path())
            .args([(first_seed + from).to_string(), (to - from).to_string()])
            .args(options)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .spawn()
            .expect("DETGATE_TEST_PYTHON must name a Python that can be started")
    };
    let processes: Vec<Child> = (0..cores).map(start).collect();
    for mut process in processes {
        let status = process.wait().unwrap();
        assert!(status.success(), "record.py failed; is tests/oracle/requirements.in installed?");
    }
    Some(folder)
}

/// As `coco_oracle.digest`.
pub fn digest(values: &[f64]) -> String {
    let fold = |hash: u64, v: &f64| (hash ^ v.to_bits()).wrapping_mul(0x100_0000_01b3);
    format!("{:016x}", values.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// As `coco_oracle.bits`; -1 is what both packages say for an undefined value.
pub fn bits<'n>(named: impl IntoIterator<Item = (&'n str, Option<f64>)>) -> Vec<String> {
    let values = named.into_iter().map(|(_, value)| value.unwrap_or(ABSENT));
    values.map(|value| format!("{:016x}", value.to_bits())).collect()
}

/// What the references say for an undefined value.
pub const ABSENT: f64 = -1.0;

/// Compares with the arrays that were written beside `file`, if they were: the digests say whether,
/// this says where.
pub fn check_arrays(file: &Path, arrays: &[Vec<f64>]) {
    let Ok(bytes) = std::fs::read(file.with_extension("f64")) else {
        return;
    };
    let name = file.display();
    let expected = bytes.as_chunks::<8>().0.iter().map(|word| f64::from_le_bytes(*word));
    let ours = arrays.iter().flatten();
    assert_eq!(expected.len(), ours.clone().count(), "{name}");
    for (i, (ours, expected)) in ours.zip(expected).enumerate() {
        assert_eq!(ours.to_bits(), expected.to_bits(), "{name}: {ours} {expected} at {i}");
    }
}

/// Precision, scores and recall as numpy holds them: `[T, R, K, A, M]`, and recall `[T, K, A, M]`.
pub fn arrays(curves: &Curves) -> [Vec<f64>; 3] {
    let [t, r, k, a, m] = curves.shape();
    let (mut precision, mut scores, mut recall) = (Vec::new(), Vec::new(), Vec::new());
    for t in 0..t {
        for r in 0..r {
            for (k, a, m) in cells(k, a, m) {
                precision.push(curves.precision(t, r, k, a, m).unwrap_or(ABSENT));
                scores.push(curves.score(t, r, k, a, m).unwrap_or(ABSENT));
            }
        }
        recall.extend(cells(k, a, m).map(|(k, a, m)| curves.recall(t, k, a, m).unwrap_or(ABSENT)));
    }
    [precision, scores, recall]
}

fn cells(k: usize, a: usize, m: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..k * a * m).map(move |i| (i / (a * m), i / m % a, i % m))
}

impl Annotation {
    fn ground_truth(&self, ignore_key: bool) -> GroundTruth {
        GroundTruth {
            id: self.id,
            category_id: self.category_id,
            bbox: self.bbox,
            area: self.area,
            is_crowd: self.iscrowd == 1,
            ignore: ignore_key && self.ignore == 1,
        }
    }
}

impl Dataset {
    fn categories(&self) -> Vec<Category> {
        let categories = self.categories.iter();
        categories.map(|c| Category { id: c.id, name: c.name.clone() }).collect()
    }

    /// Images in file order, each with its rows in file order.
    fn images(&self, ignore_key: bool) -> Vec<(ImageRecord, Vec<Detection>)> {
        self.images.iter().map(|image| self.image(image.id, ignore_key)).collect()
    }

    fn image(&self, id: i64, ignore_key: bool) -> (ImageRecord, Vec<Detection>) {
        let annotations = self.annotations.iter().filter(|row| row.image_id == id);
        let ground_truth = annotations.map(|row| row.ground_truth(ignore_key));
        let rows = self.detections.iter().filter(|row| row.image_id == id);
        let detections = rows.map(|row| Detection {
            bbox: row.bbox,
            score: row.score,
            category_id: row.category_id,
        });
        (record(id, ground_truth.collect()), detections.collect())
    }
}

/// Images as the library takes them.
fn views(images: &[(ImageRecord, Vec<Detection>)]) -> Vec<(&ImageRecord, &[Detection])> {
    images.iter().map(|(image, dts)| (image, dts.as_slice())).collect()
}

impl Record {
    pub fn name(&self) -> String {
        self.file.file_stem().unwrap().to_string_lossy().into_owned()
    }

    pub fn categories(&self) -> Vec<Category> {
        self.dataset.categories()
    }

    /// Images in file order, each with its rows in file order.
    pub fn images(&self) -> Vec<(ImageRecord, Vec<Detection>)> {
        self.dataset.images(self.dataset.params.ignore_key)
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
            use_cats: params.use_cats != Some(0),
            fixes: default.fixes,
        }
    }

    pub fn evaluate(&self) -> Evaluation {
        self.evaluate_with(&self.coco_params())
    }

    pub fn evaluate_with(&self, coco: &CocoParams) -> Evaluation {
        let default = PracticalParams::default();
        let practical = PracticalParams {
            score_thr: self.dataset.params.score_thr.unwrap_or(default.score_thr),
            iou_thr: self.dataset.params.iou_thr.unwrap_or(default.iou_thr),
        };
        let images = self.images();
        let images = views(&images);
        let both = evaluate(&self.categories(), &images, &practical, coco).unwrap();
        // Matched and dealt in one go, or kept in between: the same in every bit.
        assert_eq!(evaluate_coco(&self.categories(), &images, coco).unwrap(), both.coco);
        both
    }
}

/// An image that exists in memory only.
pub fn record(id: i64, ground_truth: Vec<GroundTruth>) -> ImageRecord {
    let (file_name, path) = (format!("{id}.jpg"), PathBuf::new());
    ImageRecord { id, file_name, path, width: 640, height: 480, ground_truth }
}
