//! Data sets full of mistakes, and what the package `tidecv` and `calibration_oracle.py` say about them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use detgate::dataset::{Category, ImageRecord};
use detgate::detections::Detection;
use detgate::metrics::tide::{Tide, TideParams, tide};
use serde::Deserialize;

use super::{Dataset, generate, image_of, records};

/// A data set with the reference's results.
#[derive(Deserialize)]
pub struct TideRecord {
    dataset: Dataset,
    /// `None` where the package fails for want of data.
    pub tide: Option<Expectation>,
    pub calibration: CalibrationExpectation,
}

#[derive(Deserialize)]
pub struct CalibrationExpectation {
    pub la_ece: Option<f64>,
    pub ece: Option<f64>,
    pub pooled: ReliabilityExpectation,
    pub per_class: Vec<ReliabilityExpectation>,
}

#[derive(Deserialize)]
pub struct ReliabilityExpectation {
    pub detections: u64,
    pub la_ece: Option<f64>,
    pub ece: Option<f64>,
    /// Number of detections, and means of score, of being right, and of the IoU of what is right.
    pub bins: Vec<[Option<f64>; 4]>,
}

/// The package's results, in percent; `None` where its mean is one of no classes.
#[derive(Deserialize)]
pub struct Expectation {
    pub ap: f64,
    pub dap: BTreeMap<String, Option<f64>>,
    pub counts: BTreeMap<String, u64>,
    pub per_class: Vec<ClassExpectation>,
}

#[derive(Deserialize)]
pub struct ClassExpectation {
    pub id: i64,
    pub ap: Option<f64>,
    /// AP with the kind mended.
    pub mended: BTreeMap<String, Option<f64>>,
}

/// The fixtures that plain `cargo test` compares with.
pub fn recorded() -> Vec<(PathBuf, TideRecord)> {
    records(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/metrics/tide"))
}

/// As [`super::generated`].
pub fn generated(
    first_seed: u32,
    count: u32,
) -> Option<(tempfile::TempDir, Vec<(PathBuf, TideRecord)>)> {
    let folder = generate(first_seed, count, &["--tide"])?;
    let records = records(folder.path());
    assert_eq!(records.len(), count as usize);
    Some((folder, records))
}

impl TideRecord {
    pub fn categories(&self) -> Vec<Category> {
        let categories = self.dataset.categories.iter();
        categories.map(|c| Category { id: c.id, name: c.name.clone() }).collect()
    }

    /// Images in file order, each with its rows in file order.
    pub fn images(&self) -> Vec<(ImageRecord, Vec<Detection>)> {
        let Dataset { images, annotations, detections, .. } = &self.dataset;
        images.iter().map(|image| image_of(image.id, annotations, detections, false)).collect()
    }

    pub fn evaluate(&self) -> Tide {
        let images = self.images();
        let views: Vec<(&ImageRecord, &[Detection])> =
            images.iter().map(|(image, dts)| (image, dts.as_slice())).collect();
        tide(&self.categories(), &views, &TideParams::default()).unwrap()
    }
}
