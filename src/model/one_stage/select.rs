//! From the dense predictions of a one-stage detector to its detections: `postprocess_detections` of
//! torchvision's `RetinaNet`, `FCOS` and `SSD`.
//!
//! Which of equal scores a top-k takes is not specified; it is left to libtorch, so that it is torchvision's
//! choice.

use tch::{TchError, Tensor};

use super::OneStageSettings;
use crate::detections::DetectError;
use crate::model::boxes::{BoxCoder, Xyxy, clip_to_image, decode_linear, rows};
use crate::model::layers::values;
use crate::model::nms::batched_nms;
use crate::model::roi_heads::Scored;

/// What a head says of one level; anchors by row, column, and shape.
#[derive(Debug)]
pub struct LevelOutput {
    /// Class logits, `[n, classes]`.
    pub logits: Tensor,
    /// Box deltas, `[n, 4]`.
    pub deltas: Tensor,
    /// FCOS: the logit of a place's lying in the middle of its object, `[n, 1]`.
    pub centerness: Option<Tensor>,
    /// `(height, width)` of the level's feature map.
    pub grid: (usize, usize),
}

/// How deltas are meant.
#[derive(Debug, Clone, Copy)]
pub enum Coder {
    /// Relative to the anchor's centre and size.
    Centre(BoxCoder),
    /// Distances from the anchor's centre to the sides, in units of its size.
    Sides,
}

impl Coder {
    fn decode(self, deltas: [f32; 4], anchor: Xyxy) -> Xyxy {
        match self {
            Self::Centre(coder) => coder.decode(deltas, anchor),
            Self::Sides => decode_linear(deltas, anchor),
        }
    }
}

/// The best of each level, all classes together, by sigmoid; label 0 is a class like any other. `anchor`
/// gives a level's anchors; `image` is `(height, width)` before padding. What RetinaNet and FCOS do.
///
/// # Errors
/// libtorch's; and where the network's outputs are not finite.
pub fn by_level(
    outputs: &[LevelOutput],
    anchor: impl Fn(usize, usize) -> Xyxy,
    coder: Coder,
    image: (usize, usize),
    settings: &OneStageSettings,
) -> Result<Vec<Scored>, DetectError> {
    let mut found = Vec::new();
    for (level, output) in outputs.iter().enumerate() {
        let classes = output.logits.size2()?.1 as usize;
        let scores = sigmoids(output)?;
        let (scores, deltas) = (values(&scores)?, values(&output.deltas)?);
        // An infinite logit has a score of one.
        require_finite(&[values(&output.logits)?, scores, deltas])?;
        for (index, score) in top(scores.iter().copied().enumerate(), settings)? {
            let (at, label) = (index / classes, (index % classes) as i64);
            let decoded = coder.decode(rows(deltas)[at], anchor(level, at));
            found.push(Scored { corners: clip_to_image(decoded, image), score, label });
        }
    }
    Ok(suppress(&found, settings)?)
}

/// The scores of a level, `[n, classes]`.
fn sigmoids(output: &LevelOutput) -> Result<Tensor, TchError> {
    let scores = output.logits.f_sigmoid()?;
    match &output.centerness {
        None => Ok(scores),
        Some(centerness) => scores.f_mul(&centerness.f_sigmoid()?)?.f_sqrt(),
    }
}

/// The best of each class but the background, all levels together, by softmax: what SSD does. `anchors` are
/// those of all levels, one after the other.
///
/// # Errors
/// libtorch's; and where the network's outputs are not finite.
pub fn by_class(
    outputs: &[LevelOutput],
    anchors: &[Xyxy],
    coder: Coder,
    image: (usize, usize),
    settings: &OneStageSettings,
) -> Result<Vec<Scored>, DetectError> {
    let part = |part: fn(&LevelOutput) -> &Tensor| {
        let levels: Vec<&Tensor> = outputs.iter().map(part).collect();
        Tensor::f_cat(&levels, 0)
    };
    let scores = part(|output| &output.logits)?.f_softmax(-1, None)?;
    let deltas = part(|output| &output.deltas)?;
    let classes = scores.size2()?.1 as usize;
    let (scores, deltas) = (values(&scores)?, values(&deltas)?);
    require_finite(&[scores, deltas])?;
    let decode = |(&deltas, &anchor)| clip_to_image(coder.decode(deltas, anchor), image);
    let boxes: Vec<Xyxy> = rows(deltas).iter().zip(anchors).map(decode).collect();
    let mut found = Vec::new();
    for label in 1..classes {
        let of_class = scores.iter().copied().skip(label).step_by(classes).enumerate();
        for (index, score) in top(of_class, settings)? {
            found.push(Scored { corners: boxes[index], score, label: label as i64 });
        }
    }
    Ok(suppress(&found, settings)?)
}

/// Of those above the threshold the best, in libtorch's order.
fn top(
    scores: impl Iterator<Item = (usize, f32)>,
    settings: &OneStageSettings,
) -> Result<Vec<(usize, f32)>, TchError> {
    let score_thr = settings.score_thr as f32;
    let (indices, kept): (Vec<usize>, Vec<f32>) =
        scores.filter(|&(_, score)| score > score_thr).unzip();
    if kept.is_empty() {
        return Ok(Vec::new());
    }
    let count = kept.len().min(settings.topk_candidates) as i64;
    let (_, order) = Tensor::f_from_slice(&kept)?.f_topk(count, 0, true, true)?;
    let order = Vec::<i64>::try_from(order)?;
    Ok(order.into_iter().map(|i| (indices[i as usize], kept[i as usize])).collect())
}

fn suppress(found: &[Scored], settings: &OneStageSettings) -> Result<Vec<Scored>, TchError> {
    let boxes: Vec<Xyxy> = found.iter().map(|scored| scored.corners).collect();
    let scores: Vec<f32> = found.iter().map(|scored| scored.score).collect();
    let labels: Vec<i64> = found.iter().map(|scored| scored.label).collect();
    let mut kept = batched_nms(&boxes, &scores, &labels, settings.nms_iou)?;
    kept.truncate(settings.detections_per_image);
    Ok(kept.into_iter().map(|i| found[i]).collect())
}

fn require_finite(outputs: &[&[f32]]) -> Result<(), DetectError> {
    match outputs.iter().copied().flatten().all(|value| value.is_finite()) {
        true => Ok(()),
        false => Err(DetectError("the detection head's output is not finite".to_owned())),
    }
}
