//! The second stage, from pooled features to detections: `TwoMLPHead` and `FastRCNNPredictor` of
//! `torchvision.models.detection.faster_rcnn`, and `roi_heads.RoIHeads.postprocess_detections`.

use tch::{TchError, Tensor};

use super::boxes::{BoxCoder, Xyxy, clip_to_image, is_large, rows};
use super::buffers::give_back;
use super::layers::{Linear, values};
use super::nms::batched_nms;
use super::roi_align::OUTPUT_SIZE;
use super::weights::Weights;
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

/// `roi_heads.box_head` and `roi_heads.box_predictor`.
#[derive(Debug)]
pub struct BoxHead {
    fc6: Linear,
    fc7: Linear,
    cls_score: Linear,
    bbox_pred: Linear,
}

impl BoxHead {
    /// Takes all of `roi_heads` for a pyramid of `width` channels.
    ///
    /// # Errors
    /// libtorch's; missing and misshapen parameters are left to [`Weights::finish`].
    pub fn load(weights: &Weights<'_>, width: i64) -> Result<Self, TchError> {
        let linear = |path: &str, outputs, inputs| {
            Linear::load(weights, &format!("roi_heads.{path}"), outputs, inputs)
        };
        let bins = (OUTPUT_SIZE * OUTPUT_SIZE) as i64;
        let path = "roi_heads.box_head.fc6";
        let fc6 = Linear::load_for_channels_last(weights, path, None, (width, bins))?;
        let fc7 = linear("box_head.fc7", None, fc6.outputs())?;
        let cls_score = linear("box_predictor.cls_score", None, fc7.outputs())?;
        let bbox_pred =
            linear("box_predictor.bbox_pred", Some(4 * cls_score.outputs()), fc7.outputs())?;
        Ok(Self { fc6, fc7, cls_score, bbox_pred })
    }

    /// Classes, background included.
    pub fn num_classes(&self) -> usize {
        self.cls_score.outputs() as usize
    }

    /// Pooled features `[n, 49, c]` -> `[n, head width]`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn features(&self, pooled: &Tensor) -> Result<Tensor, TchError> {
        let hidden = self.fc6.forward_relu(&pooled.f_flatten(1, 2)?)?;
        let features = self.fc7.forward_relu(&hidden)?;
        give_back(hidden);
        Ok(features)
    }

    /// `[n, head width]` -> class logits `[n, classes]` and box deltas `[n, 4 * classes]`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn predict(&self, features: &Tensor) -> Result<(Tensor, Tensor), TchError> {
        Ok((self.cls_score.forward(features)?, self.bbox_pred.forward(features)?))
    }
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
