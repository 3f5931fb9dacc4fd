//! The second stage, from pooled features to detections: the [`BoxHead`] and
//! `torchvision.models.detection.roi_heads.RoIHeads.postprocess_detections`.

use tch::{TchError, Tensor};

pub use super::box_head::BoxHead;
use super::boxes::{BoxCoder, Xyxy, clip_to_image, is_large, rows};
use super::layers::values;
use super::nms::batched_nms;
use crate::detections::DetectError;

/// Detections with a shorter side, pixels of the resized image, are dropped.
const MIN_SIZE: f32 = 1e-2;
const CODER: BoxCoder = BoxCoder { weights: [10.0, 10.0, 5.0, 5.0] };

/// What becomes a detection; see [`FasterRcnnSettings`](super::FasterRcnnSettings).
#[derive(Debug, Clone, Copy)]
pub struct SelectionSettings {
    /// Scores must be above this.
    pub score_thr: f64,
    /// IoU above which the lower detection of a class is suppressed.
    pub nms_iou: f64,
    /// Detections per image.
    pub detections_per_image: usize,
}

/// A box of a class, in pixels of the resized image, or of the original one after
/// [`resize_boxes`](super::transform::resize_boxes).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Where.
    pub corners: Xyxy,
    /// Softmax probability.
    pub score: f32,
    /// The checkpoint's own label, 1 and up.
    pub label: i64,
}

/// Turns the predictions for `proposals` on an image of `(height, width)`, before padding, into
/// detections by descending score: `RoIHeads.postprocess_detections`.
///
/// # Errors
/// libtorch's; and where the network's outputs are not finite.
pub fn select(
    (logits, deltas): (&Tensor, &Tensor),
    proposals: &[Xyxy],
    image: (usize, usize),
    settings: &SelectionSettings,
) -> Result<Vec<Scored>, DetectError> {
    if proposals.is_empty() {
        return Ok(Vec::new());
    }
    let scores = logits.f_softmax(-1, None)?;
    let (scores, deltas) = (values(&scores)?, values(deltas)?);
    if !scores.iter().chain(deltas).all(|value| value.is_finite()) {
        return Err(DetectError("the box predictor's output is not finite".to_owned()));
    }
    let classes = scores.len() / proposals.len();
    let score_thr = settings.score_thr as f32;
    let mut found = Vec::new();
    for (index, (&score, &delta)) in scores.iter().zip(rows(deltas)).enumerate() {
        let (proposal, label) = (index / classes, index % classes);
        if label == 0 || score <= score_thr {
            continue;
        }
        let corners = clip_to_image(CODER.decode(delta, proposals[proposal]), image);
        if is_large(&corners, MIN_SIZE) {
            found.push(Scored { corners, score, label: label as i64 });
        }
    }
    Ok(suppress(&found, settings)?)
}

fn suppress(found: &[Scored], settings: &SelectionSettings) -> Result<Vec<Scored>, TchError> {
    let boxes: Vec<Xyxy> = found.iter().map(|scored| scored.corners).collect();
    let scores: Vec<f32> = found.iter().map(|scored| scored.score).collect();
    let labels: Vec<i64> = found.iter().map(|scored| scored.label).collect();
    let mut kept = batched_nms(&boxes, &scores, &labels, settings.nms_iou)?;
    kept.truncate(settings.detections_per_image);
    Ok(kept.into_iter().map(|i| found[i]).collect())
}
