//! The region proposal network (Ren et al. 2015, <https://arxiv.org/abs/1506.01497>):
//! `torchvision.models.detection.rpn.RegionProposalNetwork` in evaluation mode.

use tch::{TchError, Tensor};

use super::anchors::AnchorShapes;
use super::boxes::{BoxCoder, Xyxy, clip_to_image, is_large, rows};
use super::buffers::give_back;
use super::layers::{Conv2d, Geometry, values};
use super::nms::batched_nms;
use super::weights::Weights;
use crate::detections::DetectError;

const HEAD: &str = "rpn.head";
/// Proposals with a shorter side, pixels, are dropped.
const MIN_SIZE: f32 = 1e-3;
const CODER: BoxCoder = BoxCoder { weights: [1.0; 4] };

/// How many proposals the network makes; see [`FasterRcnnSettings`](super::FasterRcnnSettings).
#[derive(Debug, Clone, Copy)]
pub struct RpnSettings {
    /// Per pyramid level, before NMS.
    pub pre_nms_top_n: usize,
    /// Per image, after NMS.
    pub post_nms_top_n: usize,
    /// IoU above which the lower proposal of a level is suppressed.
    pub nms_thr: f64,
    /// Lowest objectness, 0..1.
    pub score_thr: f64,
}

/// The convolutional head, shared by the pyramid's levels: `rpn.RPNHead`.
#[derive(Debug)]
pub struct RpnHead {
    convs: Vec<Conv2d>,
    /// Objectness, then deltas: one pass over the hidden layer.
    predictor: Conv2d,
    /// Per place of a level.
    anchors: i64,
}

/// The head's output on one level, anchors in the order of
/// [`LevelAnchors`](super::anchors::LevelAnchors).
#[derive(Debug)]
pub struct RpnOutput {
    /// Logits, `[n]`.
    pub objectness: Tensor,
    /// Box deltas, `[n, 4]`.
    pub deltas: Tensor,
    /// `(height, width)` of the level's feature map.
    pub grid: (usize, usize),
}

/// A candidate that survived the top-k of its level.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Decoded, not clipped.
    pub corners: Xyxy,
    /// Objectness logit.
    pub logit: f32,
    /// Pyramid level, 0 for the first.
    pub level: i64,
}

impl RpnHead {
    /// Takes all of `rpn.head` for a pyramid of `width` channels and that many anchors per place.
    ///
    /// # Errors
    /// libtorch's; missing and misshapen parameters are left to [`Weights::finish`].
    pub fn load(weights: &Weights<'_>, width: i64, anchors: usize) -> Result<Self, TchError> {
        let anchors = anchors as i64;
        // At least one, so that a head without any is reported as missing it.
        let depth = weights.count(&format!("{HEAD}.conv")).max(1);
        let conv = |i| {
            let path = format!("{HEAD}.conv.{i}.0");
            Conv2d::load(weights, &path, (Some(width), width), Geometry::new(3, 1))
        };
        let convs = (0..depth).map(conv).collect::<Result<_, _>>()?;
        let (objectness, deltas) = (format!("{HEAD}.cls_logits"), format!("{HEAD}.bbox_pred"));
        let parts = [(&*objectness, Some(anchors)), (&*deltas, Some(4 * anchors))];
        let predictor = Conv2d::load_stacked(weights, &parts, width, Geometry::new(1, 1))?;
        Ok(Self { convs, predictor, anchors })
    }

    /// One level `[1, c, h, w]` -> objectness and deltas of its `anchors * h * w` anchors.
    ///
    /// # Errors
    /// libtorch's.
    pub fn forward(&self, level: &Tensor) -> Result<RpnOutput, TchError> {
        let (_, _, height, width) = level.size4()?;
        let (first, others) = self.convs.split_first().expect("a head has a convolution");
        let mut hidden = first.forward_relu(level)?;
        for conv in others {
            let next = conv.forward_relu(&hidden)?;
            give_back(std::mem::replace(&mut hidden, next));
        }
        let predicted = self.predictor.forward(&hidden)?;
        give_back(hidden);
        let channels = |start, count, shape: &[i64]| {
            let part = predicted.f_narrow(1, start, count)?.f_permute([0, 2, 3, 1])?;
            part.f_contiguous()?.f_reshape(shape)
        };
        let output = RpnOutput {
            objectness: channels(0, self.anchors, &[-1])?,
            deltas: channels(self.anchors, 4 * self.anchors, &[-1, 4])?,
            grid: (height as usize, width as usize),
        };
        give_back(predicted);
        Ok(output)
    }
}

impl RpnOutput {
    /// The indices of the `n` highest logits: `_get_top_n_idx`. libtorch's own `topk`, because which
    /// of equal logits it takes, and in which order, is not specified.
    ///
    /// # Errors
    /// libtorch's.
    pub fn top(&self, n: usize) -> Result<(Vec<f32>, Vec<i64>), TchError> {
        let n = (n as i64).min(self.objectness.size1()?);
        let (logits, indices) = self.objectness.f_unsqueeze(0)?.f_topk(n, 1, true, true)?;
        Ok((Vec::try_from(logits.f_squeeze_dim(0)?)?, Vec::try_from(indices.f_squeeze_dim(0)?)?))
    }
}

/// Decodes the best `top_n` anchors of each level of a padded image of `(height, width)`. There must be
/// `shapes` for each output.
///
/// # Errors
/// libtorch's; and where the network's outputs are not finite.
pub fn candidates(
    outputs: &[RpnOutput],
    shapes: &AnchorShapes,
    image: (usize, usize),
    top_n: usize,
) -> Result<Vec<Candidate>, DetectError> {
    let mut found = Vec::new();
    for (level, output) in outputs.iter().enumerate() {
        let anchors = shapes.level(level, output.grid, image);
        let (logits, indices) = output.top(top_n)?;
        let deltas = rows(values(&output.deltas)?);
        for (logit, index) in logits.into_iter().zip(indices) {
            let corners = CODER.decode(deltas[index as usize], anchors.get(index as usize));
            if !(logit.is_finite() && corners.iter().all(|side| side.is_finite())) {
                return Err(DetectError(
                    "the region proposal network's output is not finite".to_owned(),
                ));
            }
            found.push(Candidate { corners, logit, level: level as i64 });
        }
    }
    Ok(found)
}

/// Clips, filters and suppresses: the proposals of an image of `(height, width)` before padding, by
/// descending objectness (`RegionProposalNetwork.filter_proposals`, after its top-k).
///
/// # Errors
/// libtorch's.
pub fn filter_proposals(
    candidates: &[Candidate],
    image: (usize, usize),
    settings: &RpnSettings,
) -> Result<Vec<Xyxy>, TchError> {
    let logits: Vec<f32> = candidates.iter().map(|candidate| candidate.logit).collect();
    let scores = Vec::<f32>::try_from(Tensor::f_from_slice(&logits)?.f_sigmoid()?)?;
    let (mut boxes, mut kept_scores, mut levels) = (Vec::new(), Vec::new(), Vec::new());
    for (candidate, score) in candidates.iter().zip(scores) {
        let corners = clip_to_image(candidate.corners, image);
        if is_large(&corners, MIN_SIZE) && score >= settings.score_thr as f32 {
            boxes.push(corners);
            kept_scores.push(score);
            levels.push(candidate.level);
        }
    }
    let mut kept = batched_nms(&boxes, &kept_scores, &levels, settings.nms_thr)?;
    kept.truncate(settings.post_nms_top_n);
    Ok(kept.into_iter().map(|i| boxes[i]).collect())
}
