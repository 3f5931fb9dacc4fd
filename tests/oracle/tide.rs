//! Data sets full of mistakes, and what the package `tidecv` and `calibration_oracle.py` say about them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use detgate::dataset::{Category, ImageRecord};
use detgate::detections::Detection;
use detgate::metrics::tide::{Tide, TideParams, tide};
use serde::Deserialize;

use super::{Dataset, generated_with, recorded_in, views};

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
    recorded_in("fixtures/metrics/tide")
}

/// As [`super::generated`].
pub fn generated(
    first_seed: u32,
    count: u32,
) -> Option<(tempfile::TempDir, Vec<(PathBuf, TideRecord)>)> {
    generated_with(&["--tide"], first_seed, count)
}

impl TideRecord {
    pub fn categories(&self) -> Vec<Category> {
        self.dataset.categories()
    }

    /// As [`super::Record::images`].
    pub fn images(&self) -> Vec<(ImageRecord, Vec<Detection>)> {
        self.dataset.images(false)
    }

    pub fn evaluate(&self) -> Tide {
        tide(&self.categories(), &views(&self.images()), &TideParams::default()).unwrap()
    }
}
