//! Matching of the practical protocol: what the notebook did, at one score and one IoU threshold.
//!
//! Deliberately absent: crowds, ignored regions and areas (every annotated box counts alike), and
//! the limit on the number of images, which the caller applies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::iou::iou;
use crate::dataset::GroundTruth;
use crate::detections::Detection;

/// The two thresholds of the practical protocol.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PracticalParams {
    /// Detections below this score do not exist for this protocol. 0..1.
    pub score_thr: f64,
    /// A detection has found a ground truth from this IoU on. 0..1; boxes that do not overlap never
    /// match, whatever the threshold.
    pub iou_thr: f64,
}

impl Default for PracticalParams {
    fn default() -> Self {
        Self { score_thr: 0.5, iou_thr: 0.5 }
    }
}

/// What became of the detections of one image, class by class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageMatches {
    /// The image's place in the evaluation: the key by which results are merged.
    pub position: u64,
    /// By category id; classes with neither ground truth nor detection are absent.
    pub classes: BTreeMap<i64, ClassMatches>,
}

/// One image, one class. The columns `scores`, `dts` and `found` are equally long: an entry per
/// detection at or above the score threshold, highest score first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ClassMatches {
    /// Number of ground truth boxes.
    pub ground_truths: u64,
    /// Scores.
    #[serde(with = "super::as_bits")]
    pub scores: Vec<f64>,
    /// Index into the image's detections.
    pub dts: Vec<u32>,
    /// Index into the image's ground truth of the box that was found; `None` is a false positive.
    pub found: Vec<Option<u32>>,
}

/// Matches one image's detections with its ground truth.
///
/// Per class, greedy in descending score (ties in the given order): each detection takes the free
/// ground truth with the highest IoU (of equals the first), if that reaches `iou_thr`.
pub fn match_image(
    position: u64,
    gts: &[GroundTruth],
    dts: &[Detection],
    params: &PracticalParams,
) -> ImageMatches {
    let mut classes: BTreeMap<i64, ClassMatches> = BTreeMap::new();
    for gt in gts {
        classes.entry(gt.category_id).or_default().ground_truths += 1;
    }
    let mut order: Vec<u32> =
        (0..dts.len() as u32).filter(|&d| dts[d as usize].score >= params.score_thr).collect();
    order.sort_by_key(|&d| super::descending_key(dts[d as usize].score));

    // A detection only competes for boxes of its own class, so one pass in score order over all
    // classes is the same as one pass per class.
    let mut taken = vec![false; gts.len()];
    for d in order {
        let dt = &dts[d as usize];
        let found = best_free(gts, &taken, dt, params.iou_thr);
        if let Some(g) = found {
            taken[g] = true;
        }
        let class = classes.entry(dt.category_id).or_default();
        class.scores.push(dt.score);
        class.dts.push(d);
        class.found.push(found.map(|g| g as u32));
    }
    ImageMatches { position, classes }
}

/// The free ground truth of the detection's class with the highest IoU, if that reaches `iou_thr`.
fn best_free(gts: &[GroundTruth], taken: &[bool], dt: &Detection, iou_thr: f64) -> Option<usize> {
    let mut best = None;
    let mut best_iou = 0.0;
    for (g, gt) in gts.iter().enumerate() {
        if taken[g] || gt.category_id != dt.category_id {
            continue;
        }
        let iou = iou(&gt.bbox, &dt.bbox);
        if iou > best_iou {
            best = Some(g);
            best_iou = iou;
        }
    }
    best.filter(|_| best_iou >= iou_thr)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gt(category_id: i64, b: [f64; 4], is_crowd: bool) -> GroundTruth {
        GroundTruth { id: 1, category_id, bbox: b.into(), area: 1., is_crowd }
    }

    fn dt(category_id: i64, b: [f64; 4], score: f64) -> Detection {
        Detection { bbox: b.into(), score, category_id }
    }

    fn found(gts: &[GroundTruth], dts: &[Detection]) -> Vec<Option<u32>> {
        match_image(0, gts, dts, &PracticalParams::default()).classes.remove(&1).unwrap().found
    }

    const BOX: [f64; 4] = [0., 0., 10., 10.];

    #[test]
    fn the_better_score_takes_the_box_and_the_other_is_a_false_positive() {
        let result = match_image(
            7,
            &[gt(1, BOX, false)],
            &[dt(1, BOX, 0.6), dt(1, [0., 0., 10., 9.], 0.9)],
            &PracticalParams::default(),
        );
        assert_eq!(result.position, 7);
        let class = &result.classes[&1];
        assert_eq!((class.ground_truths, class.dts.as_slice()), (1, &[1, 0][..]));
        assert_eq!(class.found, [Some(0), None]);
    }

    #[test]
    fn of_equal_ious_the_first_ground_truth_is_taken() {
        assert_eq!(found(&[gt(1, BOX, false), gt(1, BOX, false)], &[dt(1, BOX, 0.9)]), [Some(0)]);
    }

    #[test]
    fn an_iou_of_exactly_the_threshold_matches() {
        assert_eq!(found(&[gt(1, BOX, false)], &[dt(1, [0., 0., 10., 5.], 0.9)]), [Some(0)]);
        assert_eq!(found(&[gt(1, BOX, false)], &[dt(1, [0., 0., 10., 4.99], 0.9)]), [None]);
    }

    #[test]
    fn a_score_of_exactly_the_threshold_counts_and_one_below_does_not() {
        let gts = [gt(1, BOX, false)];
        assert_eq!(found(&gts, &[dt(1, BOX, 0.5)]), [Some(0)]);
        assert_eq!(found(&gts, &[dt(1, BOX, 0.499)]), []);
    }

    #[test]
    fn a_crowd_is_an_ordinary_box_here_and_classes_do_not_mix() {
        assert_eq!(
            found(&[gt(1, BOX, true)], &[dt(1, BOX, 0.9), dt(1, BOX, 0.8)]),
            [Some(0), None]
        );
        assert_eq!(found(&[gt(2, BOX, false)], &[dt(1, BOX, 0.9)]), [None]);
    }

    #[test]
    fn boxes_that_do_not_overlap_never_match() {
        let params = PracticalParams { score_thr: 0., iou_thr: 0. };
        let result =
            match_image(0, &[gt(1, BOX, false)], &[dt(1, [20., 0., 1., 1.], 0.9)], &params);
        assert_eq!(result.classes[&1].found, [None]);
    }
}
