//! Matching of the practical protocol: what the notebook did, at one score and one IoU threshold.
//!
//! Deliberately absent: crowds, ignored regions and areas (every annotated box counts alike), and
//! the limit on the number of images, which the caller applies.

use serde::{Deserialize, Serialize};

use super::iou::iou;
use crate::config::Config;
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

impl PracticalParams {
    /// Those of an evaluation.
    pub fn of(config: &Config) -> Self {
        Self { score_thr: config.score_thr, iou_thr: config.iou_thr }
    }
}

impl Default for PracticalParams {
    fn default() -> Self {
        Self { score_thr: 0.5, iou_thr: 0.5 }
    }
}

/// What became of the detections of one image.
///
/// Columns. `category_ids`, `scores`, `dts` and `found` have an entry per detection at or above the
/// score threshold, highest score first, all classes together.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ImageMatches {
    /// The image's place in the evaluation: the key by which results are merged.
    pub position: u64,
    /// `[gts]`: class of every ground truth, in the image's order.
    pub gt_category_ids: Vec<i64>,
    /// `[dts]`: class.
    pub category_ids: Vec<i64>,
    /// `[dts]`: score.
    #[serde(with = "super::as_bits")]
    pub scores: Vec<f64>,
    /// `[dts]`: index into the image's detections.
    pub dts: Vec<u32>,
    /// `[dts]`: index into the image's ground truth of the box that was found; `None` is a false
    /// positive.
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
    let mut order: Vec<u32> =
        (0..dts.len() as u32).filter(|&d| dts[d as usize].score >= params.score_thr).collect();
    order.sort_by_key(|&d| super::descending_key(dts[d as usize].score));

    // A detection only competes for boxes of its own class, so one pass in score order over all
    // classes is the same as one pass per class.
    let mut taken = vec![false; gts.len()];
    let ranked = order.iter().map(|&d| &dts[d as usize]);
    let find = |dt| {
        let found = best_free(gts, &taken, dt, params.iou_thr)?;
        taken[found] = true;
        Some(found as u32)
    };
    ImageMatches {
        position,
        gt_category_ids: gts.iter().map(|gt| gt.category_id).collect(),
        category_ids: ranked.clone().map(|dt| dt.category_id).collect(),
        scores: ranked.clone().map(|dt| dt.score).collect(),
        found: ranked.map(find).collect(),
        dts: order,
    }
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
        GroundTruth { id: 1, category_id, bbox: b.into(), area: 1., is_crowd, ignore: false }
    }

    fn dt(category_id: i64, b: [f64; 4], score: f64) -> Detection {
        Detection { bbox: b.into(), score, category_id }
    }

    fn found(gts: &[GroundTruth], dts: &[Detection]) -> Vec<Option<u32>> {
        match_image(0, gts, dts, &PracticalParams::default()).found
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
        assert_eq!((result.position, result.gt_category_ids), (7, vec![1]));
        assert_eq!((result.category_ids, result.scores), (vec![1, 1], vec![0.9, 0.6]));
        assert_eq!((result.dts, result.found), (vec![1, 0], vec![Some(0), None]));
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
        assert_eq!(result.found, [None]);
    }
}
