//! LVIS data sets, and what the `lvis` package says about them.

use std::path::PathBuf;

use detgate::dataset::{Category, Federation, Frequency, ImageRecord};
use detgate::detections::Detection;
use detgate::metrics::lvis::{LvisMetrics, LvisParams, evaluate};
use serde::Deserialize;

use super::{CategoryRow, Dataset, ImageRow, generated_with, recorded_in, views};

/// A data set with the reference's results.
#[derive(Deserialize)]
pub struct LvisRecord {
    dataset: Dataset,
    pub lvis: Expectation,
}

/// The package's results; floats as the hexadecimal digits of their bits.
#[derive(Deserialize)]
pub struct Expectation {
    pub shape: [usize; 4],
    pub names: Vec<String>,
    pub stats: Vec<String>,
    pub per_class: Vec<Vec<String>>,
    /// Of precision and recall.
    pub digests: [String; 2],
}

/// The fixtures that plain `cargo test` compares with.
pub fn recorded() -> Vec<(PathBuf, LvisRecord)> {
    recorded_in("fixtures/metrics/lvis")
}

/// As [`super::generated`].
pub fn generated(
    first_seed: u32,
    count: u32,
) -> Option<(tempfile::TempDir, Vec<(PathBuf, LvisRecord)>)> {
    generated_with(&["--lvis", "--arrays"], first_seed, count)
}

impl LvisRecord {
    pub fn categories(&self) -> Vec<Category> {
        self.dataset.categories()
    }

    pub fn federation(&self) -> Federation {
        let frequency = |row: &CategoryRow| match row.frequency.as_str() {
            "r" => Frequency::Rare,
            "c" => Frequency::Common,
            _ => Frequency::Frequent,
        };
        let (images, categories) = (&self.dataset.images, &self.dataset.categories);
        let not_exhaustive = |row: &ImageRow| (row.id, row.not_exhaustive_category_ids.clone());
        Federation {
            negative: images.iter().map(|row| (row.id, row.neg_category_ids.clone())).collect(),
            not_exhaustive: images.iter().map(not_exhaustive).collect(),
            frequency: categories.iter().map(|row| (row.id, frequency(row))).collect(),
        }
    }

    /// As [`super::Record::images`].
    pub fn images(&self) -> Vec<(ImageRecord, Vec<Detection>)> {
        self.dataset.images(true)
    }

    pub fn evaluate(&self, params: &LvisParams) -> LvisMetrics {
        let images = self.images();
        evaluate(&self.categories(), &self.federation(), &views(&images), params).unwrap()
    }
}
