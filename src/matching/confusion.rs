//! Matching for the confusion matrix: which object was taken for which class, on one image.
//!
//! The rule is that of [`super::pairing`], which also says what other tools do instead.
//!
//! Deliberately absent: which box it was, and how well it fits ([`super::pairing`]); and those
//! [`super::Fix`]es that are about curves.

use serde::{Deserialize, Serialize};

use super::pairing::{PairingParams, pair_image};
use crate::dataset::GroundTruth;
use crate::detections::Detection;

/// An object and what it was taken for, by category id; `None` is background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pair {
    /// Class of the ground truth; `None` where the detection found no object.
    pub truth: Option<i64>,
    /// Class of the detection; `None` where the object was missed.
    pub prediction: Option<i64>,
}

/// What one image adds to the confusion matrix.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageConfusion {
    /// COCO's image id: the key by which results are merged.
    pub image_id: i64,
    /// Every ground truth that counts and every detection that counts, each exactly once.
    pub pairs: Vec<Pair>,
}

/// Pairs one image's detections with its ground truth.
///
/// `classes` are the category ids that are evaluated, ascending; what is of another class does not
/// exist.
pub fn match_image(
    image_id: i64,
    gts: &[GroundTruth],
    dts: &[Detection],
    classes: &[i64],
    params: &PairingParams,
) -> ImageConfusion {
    let pairs = pair_image(gts, dts, classes, params);
    let classes = pairs.iter().map(|pair| Pair {
        truth: pair.gt.map(|g| gts[g].category_id),
        prediction: pair.dt.map(|d| dts[d].category_id),
    });
    ImageConfusion { image_id, pairs: classes.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Bbox;
    use crate::matching::iou::{Region, overlap};

    const PARAMS: PairingParams = PairingParams { score_thr: 0.5, iou_thr: 0.5, max_dets: 100 };

    fn gt(category_id: i64, x: f64) -> GroundTruth {
        let bbox = [x, 0., 10., 10.].into();
        GroundTruth { id: 1, category_id, bbox, area: 100., is_crowd: false, ignore: false }
    }

    fn dt(category_id: i64, x: f64, score: f64) -> Detection {
        Detection { bbox: [x, 0., 10., 10.].into(), score, category_id }
    }

    /// Pairs of (truth, prediction), 0 for background, sorted.
    fn pairs(gts: &[GroundTruth], dts: &[Detection]) -> Vec<(i64, i64)> {
        let result = match_image(7, gts, dts, &[1, 2], &PARAMS);
        assert_eq!(result.image_id, 7);
        let number = |pair: &Pair| (pair.truth.unwrap_or(0), pair.prediction.unwrap_or(0));
        let mut pairs: Vec<_> = result.pairs.iter().map(number).collect();
        pairs.sort_unstable();
        pairs
    }

    #[test]
    fn at_a_threshold_of_1_a_box_is_found_by_itself_whatever_rounding_leaves_of_its_iou() {
        let bbox = Bbox::from([13.3, 83.9, 75.6, 25.3]);
        let (gt, dt) = (GroundTruth { bbox, ..gt(1, 0.) }, Detection { bbox, ..dt(1, 0., 0.9) });
        assert!(overlap(&bbox, &Region { bbox, is_crowd: false }) < 1.0);
        let params = PairingParams { iou_thr: 1.0, ..PARAMS };
        let found = match_image(7, &[gt], &[dt], &[1, 2], &params);
        assert_eq!(found.pairs, [Pair { truth: Some(1), prediction: Some(1) }]);
    }

    #[test]
    fn an_object_is_found_confused_or_missed_and_a_detection_alone_is_on_background() {
        let gts = [gt(1, 0.), gt(1, 100.), gt(1, 200.)];
        let dts = [dt(1, 0., 0.9), dt(2, 100., 0.9), dt(2, 300., 0.9)];
        assert_eq!(pairs(&gts, &dts), [(0, 2), (1, 0), (1, 1), (1, 2)]);
    }

    #[test]
    fn the_right_class_keeps_its_box_from_a_wrong_one_that_fits_and_scores_better() {
        assert_eq!(pairs(&[gt(1, 0.)], &[dt(2, 0., 0.9), dt(1, 2., 0.6)]), [(0, 2), (1, 1)]);
    }

    #[test]
    fn of_two_wrong_classes_the_one_that_fits_better_is_the_confusion() {
        let gts = [gt(1, 0.)];
        assert_eq!(pairs(&gts, &[dt(2, 2., 0.9), dt(2, 1., 0.6)]), [(0, 2), (1, 2)]);
        let three = [1, 2, 3];
        let dts = [dt(2, 2., 0.9), dt(3, 1., 0.6)];
        let result = match_image(1, &gts, &dts, &three, &PARAMS).pairs;
        assert!(result.contains(&Pair { truth: Some(1), prediction: Some(3) }), "{result:?}");
        // Of equal overlaps, the higher score.
        let dts = [dt(2, 1., 0.6), dt(3, 1., 0.9)];
        let result = match_image(1, &gts, &dts, &three, &PARAMS).pairs;
        assert!(result.contains(&Pair { truth: Some(1), prediction: Some(3) }), "{result:?}");
    }

    #[test]
    fn what_is_on_a_crowd_or_an_ignored_box_of_its_class_counts_nowhere() {
        let crowd = GroundTruth { is_crowd: true, ..gt(1, 0.) };
        let ignored = GroundTruth { ignore: true, ..gt(1, 0.) };
        let twice = [dt(1, 0., 0.9), dt(1, 0., 0.8)];
        assert_eq!(pairs(std::slice::from_ref(&crowd), &twice), []);
        // One object is found once.
        assert_eq!(pairs(std::slice::from_ref(&ignored), &twice), [(0, 1)]);
        assert_eq!(pairs(&[crowd, ignored], &[dt(2, 0., 0.9)]), [(0, 2)]);
    }

    #[test]
    fn an_ordinary_box_is_found_before_a_better_ignored_one() {
        let ignored = GroundTruth { ignore: true, ..gt(1, 0.) };
        assert_eq!(pairs(&[ignored, gt(1, 2.)], &[dt(1, 0., 0.9)]), [(1, 1)]);
    }

    #[test]
    fn both_thresholds_include_their_value() {
        let half = Detection { bbox: [0., 0., 10., 5.].into(), ..dt(1, 0., 0.5) };
        assert_eq!(pairs(&[gt(1, 0.)], &[half]), [(1, 1)]);
        let less = Detection { bbox: [0., 0., 10., 4.9].into(), ..half };
        assert_eq!(pairs(&[gt(1, 0.)], &[less]), [(0, 1), (1, 0)]);
        assert_eq!(pairs(&[gt(1, 0.)], &[dt(1, 0., 0.49)]), [(1, 0)]);
    }

    /// Rounding leaves the IoU of such a box with itself a little below 1, in COCO's arithmetic too.
    #[test]
    fn a_threshold_of_1_is_lowered_so_that_equal_boxes_match() {
        let bbox = [100.1, 200.3, 33.3, 44.7].into();
        let (gt, dt) = (GroundTruth { bbox, ..gt(1, 0.) }, Detection { bbox, ..dt(1, 0., 0.9) });
        assert!(crate::matching::iou(&bbox, &bbox) < 1.0);
        let params = PairingParams { iou_thr: 1.0, ..PARAMS };
        let pairs = match_image(1, &[gt], &[dt], &[1], &params).pairs;
        assert_eq!(pairs, [Pair { truth: Some(1), prediction: Some(1) }]);
    }

    #[test]
    fn the_limit_is_per_class_and_keeps_the_best_scores() {
        let params = PairingParams { max_dets: 1, ..PARAMS };
        let dts = [dt(1, 50., 0.6), dt(1, 0., 0.9), dt(2, 0., 0.7)];
        let pairs = match_image(1, &[gt(1, 0.)], &dts, &[1, 2], &params).pairs;
        let expected = [(Some(1), Some(1)), (None, Some(2))];
        assert_eq!(pairs, expected.map(|(truth, prediction)| Pair { truth, prediction }));
    }

    #[test]
    fn other_classes_do_not_exist() {
        assert_eq!(pairs(&[gt(3, 0.)], &[dt(1, 0., 0.9), dt(3, 0., 0.9)]), [(0, 1)]);
    }
}
