//! Matching for the confusion matrix: which object was taken for which class, on one image.
//!
//! The rule, in two passes over the detections at or above the score threshold:
//! 1. **Same class, as COCO**: per class, in descending score, each detection takes the free ground
//!    truth of highest IoU; ordinary ones before ignored ones (`evaluateImg`, cocoeval.py lines
//!    240-312). So the diagonal, the row and the column of a class tell its COCO true positives,
//!    misses and false positives, and agree with every other number of this crate.
//! 2. **Any class**: what is left of both sides is paired by descending IoU (then score, then
//!    order). These pairs are the confusions; whatever is still left is background.
//!
//! That same-class pairs go first is what supervision does (`metrics/detection.py`, candidates
//! sorted by class agreement, then IoU), there by IoU in both passes. Ultralytics
//! (`ConfusionMatrix.process_batch`) and FiftyOne (`classwise=False`) are blind to the class
//! throughout: a wrong label that fits a little better, or scores a little higher, then takes the
//! box away from the right one, and the matrix contradicts the recall beside it.
//!
//! Crowds and ignored ground truth are no row. A detection that pass 1 pairs with one (only one of
//! its own class, as in FiftyOne) counts nowhere; a crowd can be found many times.
//!
//! Deliberately absent: area ranges, and pycocotools' quirks with the annotation id 0 (here it is
//! found like any other) and with boxes so small that their overlap is not a number (here they match
//! nothing); and those [`super::Fix`]es that are about curves. Only there does the matrix differ from
//! COCO's counts.

use serde::{Deserialize, Serialize};

use super::descending_key;
use super::iou::{Region, overlap};
use crate::dataset::GroundTruth;
use crate::detections::Detection;

/// The limits of the confusion matrix.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ConfusionParams {
    /// Detections below this score do not exist. 0..1.
    pub score_thr: f64,
    /// Two boxes are the same object from this IoU on. Above 0, at most 1.
    pub iou_thr: f64,
    /// Detections per image and class; those of highest score are kept.
    pub max_dets: usize,
}

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

/// Pairs one image's detections with its ground truth, as the module's documentation says.
///
/// `classes` are the category ids that are evaluated, ascending; what is of another class does not
/// exist.
pub fn match_image(
    image_id: i64,
    gts: &[GroundTruth],
    dts: &[Detection],
    classes: &[i64],
    params: &ConfusionParams,
) -> ImageConfusion {
    let gts: Vec<&GroundTruth> =
        gts.iter().filter(|gt| classes.binary_search(&gt.category_id).is_ok()).collect();
    let dts = counted_detections(dts, classes, params);
    let mut image = Image {
        regions: gts.iter().map(|gt| Region { bbox: gt.bbox, is_crowd: gt.is_crowd }).collect(),
        taken: vec![false; gts.len()],
        iou_thr: params.iou_thr.min(1.0 - 1e-10),
        gts,
    };
    let mut pairs = Vec::with_capacity(image.gts.len() + dts.len());
    let mut unpaired = Vec::new();
    for dt in dts {
        match image.same_class(dt) {
            Some(g) if image.counts(g) => pairs.push(pair(Some(image.gts[g]), Some(dt))),
            Some(_) => {}
            None => unpaired.push(dt),
        }
    }
    image.any_class(&unpaired, &mut pairs);
    let missed = (0..image.gts.len()).filter(|&g| image.counts(g) && !image.taken[g]);
    pairs.extend(missed.map(|g| pair(Some(image.gts[g]), None)));
    ImageConfusion { image_id, pairs }
}

fn pair(gt: Option<&GroundTruth>, dt: Option<&Detection>) -> Pair {
    Pair { truth: gt.map(|gt| gt.category_id), prediction: dt.map(|dt| dt.category_id) }
}

/// By class, then descending score, then order; at most `max_dets` per class.
fn counted_detections<'d>(
    dts: &'d [Detection],
    classes: &[i64],
    params: &ConfusionParams,
) -> Vec<&'d Detection> {
    let mut counted: Vec<&Detection> = dts
        .iter()
        .filter(|dt| dt.score >= params.score_thr)
        .filter(|dt| classes.binary_search(&dt.category_id).is_ok())
        .collect();
    counted.sort_by_key(|dt| (dt.category_id, descending_key(dt.score)));
    let (mut class, mut rank) = (None, 0);
    counted.retain(|dt| {
        rank = if class.replace(dt.category_id) == Some(dt.category_id) { rank + 1 } else { 0 };
        rank < params.max_dets
    });
    counted
}

/// One image's ground truth, and what of it is taken.
struct Image<'g> {
    gts: Vec<&'g GroundTruth>,
    regions: Vec<Region>,
    taken: Vec<bool>,
    iou_thr: f64,
}

impl Image<'_> {
    /// Whether it is a row of the matrix.
    fn counts(&self, g: usize) -> bool {
        !self.gts[g].is_crowd && !self.gts[g].ignore
    }

    /// Takes the ground truth of the detection's class that COCO gives it.
    fn same_class(&mut self, dt: &Detection) -> Option<usize> {
        let found = self.last_best(dt, true).or_else(|| self.last_best(dt, false))?;
        self.taken[found] = true;
        Some(found)
    }

    /// Of the free ones of the detection's class, counted or ignored, the one with the highest
    /// overlap, of equals the last.
    fn last_best(&self, dt: &Detection, counted: bool) -> Option<usize> {
        let mut best = None;
        let mut least = self.iou_thr;
        for (g, gt) in self.gts.iter().enumerate() {
            let free = !self.taken[g] || gt.is_crowd;
            if gt.category_id != dt.category_id || self.counts(g) != counted || !free {
                continue;
            }
            let overlap = overlap(&dt.bbox, &self.regions[g]);
            if overlap >= least {
                (best, least) = (Some(g), overlap);
            }
        }
        best
    }

    /// Pairs what is left, best overlap first; detections without a partner found background.
    fn any_class(&mut self, dts: &[&Detection], pairs: &mut Vec<Pair>) {
        let mut candidates = Vec::new();
        for (d, dt) in dts.iter().enumerate() {
            for g in (0..self.gts.len()).filter(|&g| self.counts(g) && !self.taken[g]) {
                let overlap = overlap(&dt.bbox, &self.regions[g]);
                if overlap >= self.iou_thr {
                    candidates.push((descending_key(overlap), descending_key(dt.score), d, g));
                }
            }
        }
        candidates.sort_unstable();
        let mut paired = vec![false; dts.len()];
        for (_, _, d, g) in candidates {
            if !paired[d] && !self.taken[g] {
                (paired[d], self.taken[g]) = (true, true);
                pairs.push(pair(Some(self.gts[g]), Some(dts[d])));
            }
        }
        let background = dts.iter().zip(paired).filter(|(_, paired)| !paired);
        pairs.extend(background.map(|(dt, _)| pair(None, Some(dt))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Bbox;

    const PARAMS: ConfusionParams = ConfusionParams { score_thr: 0.5, iou_thr: 0.5, max_dets: 100 };

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
        let params = ConfusionParams { iou_thr: 1.0, ..PARAMS };
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
        assert!(super::super::iou(&bbox, &bbox) < 1.0);
        let params = ConfusionParams { iou_thr: 1.0, ..PARAMS };
        let pairs = match_image(1, &[gt], &[dt], &[1], &params).pairs;
        assert_eq!(pairs, [Pair { truth: Some(1), prediction: Some(1) }]);
    }

    #[test]
    fn the_limit_is_per_class_and_keeps_the_best_scores() {
        let params = ConfusionParams { max_dets: 1, ..PARAMS };
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
