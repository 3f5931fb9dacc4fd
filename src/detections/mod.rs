//! One image's boxes, scores and labels, and whatever can produce them.
//!
//! Deliberately absent: thresholds and metrics; a detection here is what the detector said.

pub mod coco_results;

use std::collections::HashMap;

use crate::dataset::{Bbox, ImageRecord, image::RgbImage};

/// One box that a detector reports. All numbers are finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Where.
    pub bbox: Bbox,
    /// How sure the detector is, 0..1.
    pub score: f64,
    /// Which class, by the ground truth's category id.
    pub category_id: i64,
}

/// A detector: image in, detections out, in the order in which it ranks them.
///
/// Results must not depend on which thread calls, how many call at once, or in which order.
pub trait Detector: Send + Sync {
    /// Runs the detector on one image.
    ///
    /// # Errors
    /// What stopped it, as a sentence; the caller adds the image's path.
    fn detect(&self, image: &RgbImage) -> Result<Vec<Detection>, DetectError>;
}

/// Why a detector could not run on an image.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DetectError(pub String);

/// Deals detections out to their images, in file order; those on other images are left out.
pub fn by_image(images: &[ImageRecord], results: Vec<(i64, Detection)>) -> Vec<Vec<Detection>> {
    let index: HashMap<i64, usize> = images.iter().map(|image| image.id).zip(0..).collect();
    let mut by_image = vec![Vec::new(); images.len()];
    for (image_id, detection) in results {
        if let Some(&i) = index.get(&image_id) {
            by_image[i].push(detection);
        }
    }
    by_image
}
