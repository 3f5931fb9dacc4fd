//! Data sets of any size, by seed: what a fair detector says about COCO-like scenes.

use std::path::PathBuf;

use detgate::dataset::{Bbox, Category, GroundTruth, ImageRecord};
use detgate::detections::Detection;

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

/// SplitMix64: small, seeded, the same on every platform.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

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

/// Generates a data set; the same seed gives the same one.
pub(crate) fn generate(size: Size, seed: u64) -> DataSet {
    let mut random = Random(seed);
    let categories = (0..size.classes as i64).map(|k| {
        let id = 1 + k * 9 / 8;
        Category { id, name: format!("class{id}") }
    });
    let mut next_id = 1;
    let images = (0..size.images).map(|i| image(&mut random, size, i as i64, &mut next_id));
    DataSet { categories: categories.collect(), images: images.collect() }
}

fn image(
    random: &mut Random,
    size: Size,
    i: i64,
    next_id: &mut i64,
) -> (ImageRecord, Vec<Detection>) {
    let boxes = random.below(2 * size.boxes / size.images + 1);
    let mut gts = Vec::new();
    for _ in 0..boxes {
        let bbox = random.bbox();
        let area = bbox.area() * random.between(0.4, 1.0);
        let is_crowd = random.unit() < 0.012;
        gts.push(GroundTruth {
            id: *next_id,
            category_id: random.class(size.classes),
            bbox,
            area,
            is_crowd,
            ignore: false,
        });
        *next_id += 1;
    }
    let dts = (0..size.dts_per_image).map(|_| detection(random, size, &gts)).collect();
    let record = ImageRecord {
        id: i * 7 + 139,
        file_name: format!("{i:012}.jpg"),
        path: PathBuf::new(),
        width: 640,
        height: 480,
        ground_truth: gts,
    };
    (record, dts)
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
