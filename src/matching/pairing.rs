//! Which detection stands for which ground truth at one IoU threshold, on one image: by index, with
//! the overlap, whatever the class.
//!
//! The rule, in two passes over the detections at or above the score threshold:
//! 1. **Same class, as COCO**: per class, in descending score, each detection takes the free ground
//!    truth of highest IoU; ordinary ones before ignored ones (`evaluateImg`, cocoeval.py lines
//!    240-312). So the diagonal, the row and the column of a class in the confusion matrix tell its
//!    COCO true positives, misses and false positives, and agree with every other number of this crate.
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
//! nothing). Only there do counts of pairs differ from COCO's.

use serde::{Deserialize, Serialize};

use super::descending_key;
use super::iou::{Region, overlap};
use crate::dataset::GroundTruth;
use crate::detections::Detection;

/// The limits of pairing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairingParams {
    /// Detections below this score do not exist. 0..1.
    pub score_thr: f64,
    /// Two boxes are the same object from this IoU on. Above 0, at most 1.
    pub iou_thr: f64,
    /// Detections per image and class; those of highest score are kept.
    pub max_dets: usize,
}

/// An object and the detection that stands for it, by index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoxPair {
    /// `None` where the detection is on background.
    pub gt: Option<usize>,
    /// `None` where the object was missed.
    pub dt: Option<usize>,
    /// Their IoU; 0 where either is missing.
    pub overlap: f64,
}

/// Pairs one image's detections with its ground truth, as the module's documentation says: every
/// ground truth that counts and every detection that counts, each exactly once. Where both are of
/// the same class the object was found, otherwise it was taken for another class.
///
/// `classes` are the category ids that are evaluated, ascending; what is of another class does not
/// exist.
pub fn pair_image(
    gts: &[GroundTruth],
    dts: &[Detection],
    classes: &[i64],
    params: &PairingParams,
) -> Vec<BoxPair> {
    let listed = |id: i64| classes.binary_search(&id).is_ok();
    let dts = Counted::new(dts, classes, params);
    let mut image = Image {
        gts: gts.iter().enumerate().filter(|(_, gt)| listed(gt.category_id)).collect(),
        taken: vec![false; gts.len()],
        iou_thr: params.iou_thr.min(1.0 - 1e-10),
    };
    let mut pairs = Vec::with_capacity(gts.len() + dts.0.len());
    let mut unpaired = Vec::new();
    for (d, dt) in dts.0 {
        match image.same_class(dt) {
            Some((g, gt, overlap)) if counts(gt) => {
                pairs.push(BoxPair { gt: Some(g), dt: Some(d), overlap });
            }
            Some(_) => {}
            None => unpaired.push((d, dt)),
        }
    }
    image.any_class(&unpaired, &mut pairs);
    let missed = image.gts.iter().filter(|(g, gt)| counts(gt) && !image.taken[*g]);
    pairs.extend(missed.map(|&(g, _)| BoxPair { gt: Some(g), dt: None, overlap: 0.0 }));
    pairs
}

/// Whether it is an object that is to be found.
pub(crate) fn counts(gt: &GroundTruth) -> bool {
    !gt.is_crowd && !gt.ignore
}

/// Detections by class, then descending score, then order; at most `max_dets` per class.
struct Counted<'d>(Vec<(usize, &'d Detection)>);

impl<'d> Counted<'d> {
    fn new(dts: &'d [Detection], classes: &[i64], params: &PairingParams) -> Self {
        let mut counted: Vec<(usize, &Detection)> = dts
            .iter()
            .enumerate()
            .filter(|(_, dt)| dt.score >= params.score_thr)
            .filter(|(_, dt)| classes.binary_search(&dt.category_id).is_ok())
            .collect();
        counted.sort_by_key(|(_, dt)| (dt.category_id, descending_key(dt.score)));
        let (mut class, mut rank) = (None, 0);
        counted.retain(|(_, dt)| {
            rank = if class.replace(dt.category_id) == Some(dt.category_id) { rank + 1 } else { 0 };
            rank < params.max_dets
        });
        Self(counted)
    }
}

/// One image's ground truth, and what of it is taken.
struct Image<'g> {
    /// Of the classes that are evaluated.
    gts: Vec<(usize, &'g GroundTruth)>,
    /// By index among all.
    taken: Vec<bool>,
    iou_thr: f64,
}

fn overlap_of(dt: &Detection, gt: &GroundTruth) -> f64 {
    overlap(&dt.bbox, &Region { bbox: gt.bbox, is_crowd: gt.is_crowd })
}

impl<'g> Image<'g> {
    /// Takes the ground truth of the detection's class that COCO gives it.
    fn same_class(&mut self, dt: &Detection) -> Option<(usize, &'g GroundTruth, f64)> {
        let found = self.last_best(dt, true).or_else(|| self.last_best(dt, false))?;
        self.taken[found.0] = true;
        Some(found)
    }

    /// Of the free ones of the detection's class, counted or ignored, the one with the highest
    /// overlap, of equals the last.
    fn last_best(&self, dt: &Detection, counted: bool) -> Option<(usize, &'g GroundTruth, f64)> {
        let mut best = None;
        let mut least = self.iou_thr;
        for &(g, gt) in &self.gts {
            let free = !self.taken[g] || gt.is_crowd;
            if gt.category_id != dt.category_id || counts(gt) != counted || !free {
                continue;
            }
            let overlap = overlap_of(dt, gt);
            if overlap >= least {
                (best, least) = (Some((g, gt, overlap)), overlap);
            }
        }
        best
    }

    /// Pairs what is left, best overlap first; detections without a partner found background.
    fn any_class(&mut self, dts: &[(usize, &Detection)], pairs: &mut Vec<BoxPair>) {
        let mut candidates = Vec::new();
        for (place, (_, dt)) in dts.iter().enumerate() {
            for (g, gt) in self.gts.iter().filter(|(g, gt)| counts(gt) && !self.taken[*g]) {
                let overlap = overlap_of(dt, gt);
                if overlap >= self.iou_thr {
                    let rank = (descending_key(overlap), descending_key(dt.score), place, *g);
                    candidates.push((rank, overlap));
                }
            }
        }
        candidates.sort_unstable_by_key(|(rank, _)| *rank);
        let mut paired = vec![false; dts.len()];
        for ((_, _, place, g), overlap) in candidates {
            if !paired[place] && !self.taken[g] {
                (paired[place], self.taken[g]) = (true, true);
                pairs.push(BoxPair { gt: Some(g), dt: Some(dts[place].0), overlap });
            }
        }
        let background = dts.iter().zip(paired).filter(|(_, paired)| !paired);
        pairs.extend(background.map(|(&(d, _), _)| BoxPair {
            gt: None,
            dt: Some(d),
            overlap: 0.0,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_those_of_what_was_given_and_overlaps_those_of_the_pair() {
        let gt = |category_id, x: f64| GroundTruth {
            id: 1,
            category_id,
            bbox: [x, 0., 10., 10.].into(),
            area: 100.,
            is_crowd: false,
            ignore: false,
        };
        let dt = |category_id, x: f64, score| Detection {
            bbox: [x, 0., 10., 10.].into(),
            score,
            category_id,
        };
        let gts = [gt(9, 0.), gt(1, 0.), gt(1, 100.), gt(1, 200.)];
        let dts = [dt(9, 0., 0.9), dt(2, 102., 0.6), dt(1, 0., 0.5), dt(1, 300., 0.7)];
        let params = PairingParams { score_thr: 0.5, iou_thr: 0.5, max_dets: 100 };
        let pair = |gt, dt, overlap| BoxPair { gt, dt, overlap };
        let expected = [
            pair(Some(1), Some(2), 1.0),
            pair(Some(2), Some(1), 80.0 / 120.0),
            pair(None, Some(3), 0.0),
            pair(Some(3), None, 0.0),
        ];
        assert_eq!(pair_image(&gts, &dts, &[1, 2], &params), expected);
    }
}
