//! Non-maximum suppression, with the ties and the rounding of `torchvision.ops.nms` and
//! `torchvision.ops.batched_nms` on CPU.

use std::collections::BTreeMap;

use tch::{TchError, Tensor};

use super::boxes::{Xyxy, area};

/// With more boxes than this, `batched_nms` runs class by class (`boxes.numel() > 4000`).
const COORDINATE_TRICK_MAX: usize = 1000;

/// Greedy NMS: the indices of the boxes that are kept, by descending score.
///
/// A box is suppressed by a kept one of a higher score, or of an equal score and a smaller index,
/// when their IoU is strictly above `iou_thr`. As in torchvision's `nms_kernel_impl` the IoU is
/// float32 and the threshold float64, and 0/0 suppresses nothing.
pub fn nms(boxes: &[Xyxy], scores: &[f32], iou_thr: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    // Stable, as torchvision sorts here.
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    // Side by side in that order, because the inner loop reads all that are left.
    let mut left: Vec<Candidate> = order
        .iter()
        .map(|&index| Candidate::new(index, boxes[index]))
        .collect();
    let mut kept = Vec::new();
    while let Some(&best) = left.first() {
        kept.push(best.index);
        left.retain(|other| other.index != best.index && !best.suppresses(other, iou_thr));
    }
    kept
}

#[derive(Clone, Copy)]
struct Candidate {
    index: usize,
    corners: Xyxy,
    area: f32,
}

impl Candidate {
    fn new(index: usize, corners: Xyxy) -> Self {
        Self {
            index,
            corners,
            area: area(&corners),
        }
    }

    fn suppresses(&self, other: &Self, iou_thr: f64) -> bool {
        let ([ax1, ay1, ax2, ay2], [bx1, by1, bx2, by2]) = (self.corners, other.corners);
        let width = (ax2.min(bx2) - ax1.max(bx1)).max(0.0);
        let height = (ay2.min(by2) - ay1.max(by1)).max(0.0);
        let intersection = width * height;
        let iou = intersection / (self.area + other.area - intersection);
        f64::from(iou) > iou_thr
    }
}

/// NMS within each group (class, or pyramid level): the indices of the boxes that are kept, by
/// descending score.
///
/// Like `torchvision.ops.batched_nms` it moves the groups apart and runs once where there are few
/// boxes, and runs group by group where there are many. The two round differently, so the choice is
/// part of the result.
///
/// # Errors
/// libtorch's.
pub fn batched_nms(
    boxes: &[Xyxy],
    scores: &[f32],
    groups: &[i64],
    iou_thr: f64,
) -> Result<Vec<usize>, TchError> {
    if boxes.len() > COORDINATE_TRICK_MAX {
        return by_group(boxes, scores, groups, iou_thr);
    }
    Ok(moved_apart(boxes, scores, groups, iou_thr))
}

/// `_batched_nms_coordinate_trick`: each group is offset by more than the largest coordinate.
fn moved_apart(boxes: &[Xyxy], scores: &[f32], groups: &[i64], iou_thr: f64) -> Vec<usize> {
    let largest = boxes
        .as_flattened()
        .iter()
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    let apart: Vec<Xyxy> = boxes
        .iter()
        .zip(groups)
        .map(|(corners, &group)| {
            let offset = group as f32 * (largest + 1.0);
            corners.map(|side| side + offset)
        })
        .collect();
    nms(&apart, scores, iou_thr)
}

/// `_batched_nms_vanilla`.
fn by_group(
    boxes: &[Xyxy],
    scores: &[f32],
    groups: &[i64],
    iou_thr: f64,
) -> Result<Vec<usize>, TchError> {
    let mut members: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (index, &group) in groups.iter().enumerate() {
        members.entry(group).or_default().push(index);
    }
    let mut kept: Vec<usize> = Vec::new();
    for indices in members.values() {
        let boxes: Vec<Xyxy> = indices.iter().map(|&i| boxes[i]).collect();
        let scores: Vec<f32> = indices.iter().map(|&i| scores[i]).collect();
        kept.extend(
            nms(&boxes, &scores, iou_thr)
                .into_iter()
                .map(|i| indices[i]),
        );
    }
    kept.sort_unstable();
    let kept_scores: Vec<f32> = kept.iter().map(|&i| scores[i]).collect();
    Ok(descending(&kept_scores)?
        .into_iter()
        .map(|i| kept[i])
        .collect())
}

/// `scores.sort(descending=True)[1]`. libtorch's own, because it is not stable: how it orders equal
/// scores is its secret, and the order decides which proposals are cut off.
fn descending(scores: &[f32]) -> Result<Vec<usize>, TchError> {
    let (_, order) = Tensor::f_from_slice(scores)?.f_sort(0, true)?;
    let order = Vec::<i64>::try_from(order)?;
    Ok(order.into_iter().map(|i| i as usize).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, in float64: every pair in descending order of score.
    fn naive(boxes: &[Xyxy], scores: &[f32], iou_thr: f64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..boxes.len()).collect();
        order.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap().then(a.cmp(&b)));
        let mut kept: Vec<usize> = Vec::new();
        for candidate in order {
            if kept
                .iter()
                .all(|&other| exact_iou(boxes[other], boxes[candidate]) <= iou_thr)
            {
                kept.push(candidate);
            }
        }
        kept
    }

    fn exact_iou(a: Xyxy, b: Xyxy) -> f64 {
        let ([ax1, ay1, ax2, ay2], [bx1, by1, bx2, by2]) = (a.map(f64::from), b.map(f64::from));
        let w = (ax2.min(bx2) - ax1.max(bx1)).max(0.0);
        let h = (ay2.min(by2) - ay1.max(by1)).max(0.0);
        w * h / ((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - w * h)
    }

    /// Boxes on a grid of whole pixels, so that float32 computes intersections and unions exactly,
    /// and few distinct scores, so that ties are common.
    fn any_boxes() -> impl Strategy<Value = Vec<(Xyxy, f32, i64)>> {
        let one = (0u8..40, 0u8..40, 1u8..20, 1u8..20, 0u8..8, 0i64..3).prop_map(
            |(x, y, w, h, score, group)| {
                let [x, y, w, h] = [x, y, w, h].map(f32::from);
                ([x, y, x + w, y + h], f32::from(score) / 8.0, group)
            },
        );
        proptest::collection::vec(one, 0..60)
    }

    proptest! {
        // A threshold that no ratio of such small whole numbers comes near.
        #[test]
        fn equals_the_quadratic_definition_ties_included(found in any_boxes()) {
            let boxes: Vec<Xyxy> = found.iter().map(|b| b.0).collect();
            let scores: Vec<f32> = found.iter().map(|b| b.1).collect();
            let iou_thr = 0.453_217_31;
            prop_assert_eq!(nms(&boxes, &scores, iou_thr), naive(&boxes, &scores, iou_thr));
        }

        #[test]
        fn groups_do_not_suppress_each_other_whichever_way(found in any_boxes()) {
            let boxes: Vec<Xyxy> = found.iter().map(|b| b.0).collect();
            // Distinct scores: how equal ones are ordered is allowed to differ between the two ways.
            let scores: Vec<f32> = (0..found.len()).map(|i| found[i].1 + i as f32 * 1e-3).collect();
            let groups: Vec<i64> = found.iter().map(|b| b.2).collect();
            let iou_thr = 0.453_217_31;
            let kept = moved_apart(&boxes, &scores, &groups, iou_thr);
            prop_assert_eq!(&kept, &by_group(&boxes, &scores, &groups, iou_thr).unwrap());
            for group in 0..3 {
                let members: Vec<usize> = (0..boxes.len()).filter(|&i| groups[i] == group).collect();
                let alone = naive(
                    &members.iter().map(|&i| boxes[i]).collect::<Vec<_>>(),
                    &members.iter().map(|&i| scores[i]).collect::<Vec<_>>(),
                    iou_thr,
                );
                let alone: Vec<usize> = alone.into_iter().map(|i| members[i]).collect();
                let of_group: Vec<usize> = kept.iter().copied().filter(|&i| groups[i] == group).collect();
                prop_assert_eq!(alone, of_group);
            }
        }
    }

    #[test]
    fn an_iou_equal_to_the_threshold_does_not_suppress() {
        let boxes = [[0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 1.0, 1.0]];
        assert_eq!(nms(&boxes, &[0.9, 0.8], 0.5), [0, 1]);
        assert_eq!(nms(&boxes, &[0.9, 0.8], 0.499), [0]);
    }

    #[test]
    fn empty_boxes_suppress_nothing() {
        let point = [5.0; 4];
        assert_eq!(nms(&[point, point], &[0.5, 0.9], 0.5), [1, 0]);
        assert!(batched_nms(&[], &[], &[], 0.5).unwrap().is_empty());
    }
}
