//! Data sets of any size, by seed: what a fair detector says about COCO-like scenes.
//!
//! One image after another, so that `examples/generate.rs` can write more of them than memory holds.

#[path = "../../tests/common/random.rs"]
mod random;

use std::path::PathBuf;

use detgate::dataset::{Bbox, Category, GroundTruth, ImageRecord};
use detgate::detections::Detection;
use random::Random;

/// How much to generate.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// Number of images.
    pub(crate) images: usize,
    /// Number of ground truth boxes over all images, about.
    pub(crate) boxes: usize,
    /// Number of classes.
    pub(crate) classes: usize,
    /// Detections per image, exactly.
    pub(crate) dts_per_image: usize,
}

/// A data set in memory.
pub(crate) struct DataSet {
    /// Classes with ids that have gaps, as COCO's have.
    pub(crate) categories: Vec<Category>,
    /// Images with their detections.
    pub(crate) images: Vec<(ImageRecord, Vec<Detection>)>,
}

impl Random {
    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.unit() * count as f64) as usize
    }

    /// Classes are as unequal as COCO's: the first has about a third of all.
    fn class(&mut self, classes: usize) -> i64 {
        let skewed = self.unit().powi(3);
        1 + (skewed * classes as f64) as i64 * 9 / 8
    }

    /// Log-uniform sides: a third each of COCO's small, medium and large.
    fn bbox(&mut self) -> Bbox {
        let mut side = || self.between(2.0, 5.8).exp();
        let (w, h) = (side(), side());
        Bbox { x: self.between(0.0, 640.0), y: self.between(0.0, 480.0), w, h }
    }

    fn near(&mut self, b: Bbox) -> Bbox {
        let amount = self.between(0.0, 0.3);
        let mut shift = |side: f64| self.between(-amount, amount) * side;
        let (dx, dy, dw, dh) = (shift(b.w), shift(b.h), shift(b.w), shift(b.h));
        Bbox { x: b.x + dx, y: b.y + dy, w: b.w + dw, h: b.h + dh }
    }
}

/// Generates a data set in memory; the same seed gives the same one.
pub(crate) fn generate(size: Size, seed: u64) -> DataSet {
    DataSet { categories: categories(size.classes), images: scenes(size, seed).collect() }
}

/// The classes, whose ids have gaps.
pub(crate) fn categories(classes: usize) -> Vec<Category> {
    let ids = (0..classes as i64).map(|k| 1 + k * 9 / 8);
    ids.map(|id| Category { id, name: format!("class{id}") }).collect()
}

/// The same images as [`generate`] makes, each made when it is asked for.
pub(crate) fn scenes(size: Size, seed: u64) -> Scenes {
    Scenes { random: Random::seeded(seed), size, made: 0, next_id: 1 }
}

/// Images with their detections; see [`scenes`].
pub(crate) struct Scenes {
    random: Random,
    size: Size,
    made: usize,
    next_id: i64,
}

impl Iterator for Scenes {
    type Item = (ImageRecord, Vec<Detection>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.made == self.size.images {
            return None;
        }
        let ground_truth = self.ground_truth();
        let dts = (0..self.size.dts_per_image)
            .map(|_| detection(&mut self.random, self.size, &ground_truth))
            .collect();
        let mut record = image(self.made);
        record.ground_truth = ground_truth;
        self.made += 1;
        Some((record, dts))
    }
}

impl Scenes {
    fn ground_truth(&mut self) -> Vec<GroundTruth> {
        let random = &mut self.random;
        let most = 2.0 * self.size.boxes as f64 / self.size.images as f64 + 1.0;
        let boxes = (random.unit() * most) as usize;
        let mut gts = Vec::new();
        for _ in 0..boxes {
            let bbox = random.bbox();
            let area = bbox.area() * random.between(0.4, 1.0);
            let is_crowd = random.unit() < 0.012;
            gts.push(GroundTruth {
                id: self.next_id,
                category_id: random.class(self.size.classes),
                bbox,
                area,
                is_crowd,
                ignore: false,
            });
            self.next_id += 1;
        }
        gts
    }
}

/// The image number `i` without its ground truth: nothing about it is random.
pub(crate) fn image(i: usize) -> ImageRecord {
    ImageRecord {
        id: i as i64 * 7 + 139,
        file_name: format!("{i:012}.jpg"),
        path: PathBuf::new(),
        width: 640,
        height: 480,
        ground_truth: Vec::new(),
    }
}

/// A tenth of the detections are near an object, and score higher as a rule.
fn detection(random: &mut Random, size: Size, gts: &[GroundTruth]) -> Detection {
    if !gts.is_empty() && random.unit() < 0.1 {
        let gt = &gts[random.below(gts.len())];
        let score = random.between(0.2, 1.0);
        return Detection { bbox: random.near(gt.bbox), score, category_id: gt.category_id };
    }
    let score = random.unit().powi(3);
    Detection { bbox: random.bbox(), score, category_id: random.class(size.classes) }
}
