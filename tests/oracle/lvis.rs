//! LVIS data sets, and what the `lvis` package says about them.

use std::path::{Path, PathBuf};

use detgate::dataset::{Category, Federation, Frequency, ImageRecord};
use detgate::detections::Detection;
use detgate::metrics::lvis::{LvisMetrics, LvisParams, evaluate};
use serde::Deserialize;

use super::{Annotation, ResultRow, generate, image_of, records};

/// A data set with the reference's results.
#[derive(Deserialize)]
pub struct LvisRecord {
    dataset: Dataset,
    pub lvis: Expectation,
}

#[derive(Deserialize)]
struct Dataset {
    categories: Vec<CategoryRow>,
    images: Vec<ImageRow>,
    annotations: Vec<Annotation>,
    detections: Vec<ResultRow>,
}

#[derive(Deserialize)]
struct CategoryRow {
    id: i64,
    name: String,
    frequency: String,
}

#[derive(Deserialize)]
struct ImageRow {
    id: i64,
    neg_category_ids: Vec<i64>,
    not_exhaustive_category_ids: Vec<i64>,
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
    records(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/metrics/lvis"))
}

/// As [`super::generated`].
pub fn generated(
    first_seed: u32,
    count: u32,
) -> Option<(tempfile::TempDir, Vec<(PathBuf, LvisRecord)>)> {
    let folder = generate(first_seed, count, &["--lvis", "--arrays"])?;
    let records = records(folder.path());
    assert_eq!(records.len(), count as usize);
    Some((folder, records))
}

impl LvisRecord {
    pub fn categories(&self) -> Vec<Category> {
        let categories = self.dataset.categories.iter();
        categories.map(|c| Category { id: c.id, name: c.name.clone() }).collect()
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

    /// Images in file order, each with its rows in file order.
    pub fn images(&self) -> Vec<(ImageRecord, Vec<Detection>)> {
        let Dataset { images, annotations, detections, .. } = &self.dataset;
        images.iter().map(|image| image_of(image.id, annotations, detections, true)).collect()
    }

    pub fn evaluate(&self, params: &LvisParams) -> LvisMetrics {
        let images = self.images();
        let views: Vec<(&ImageRecord, &[Detection])> =
            images.iter().map(|(image, dts)| (image, dts.as_slice())).collect();
        evaluate(&self.categories(), &self.federation(), &views, params).unwrap()
    }
}
