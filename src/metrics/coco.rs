//! Precision-recall curves of the COCO protocol: `COCOeval.accumulate` of pycocotools 2.0.11.
//!
//! What pycocotools does that a reader may not expect, and what is kept, bit for bit:
//! - A class without ground truth (in an area range) is **absent**: it has no value, and its false
//!   positives vanish from the means.
//! - Precision is `tp / (fp + tp + 2^-52)`: a perfect detector's first point is a little below 1.
//! - Detections of equal score rank by ascending image id, then by their order in the image.
//! - A detection that is ignored keeps its rank: precision at recall 0 is read off at the first
//!   detection, and so is its score, even if that one is ignored.
//! - Recalls are read off in the order given, up to the first that is not reached; with recall
//!   thresholds that do not ascend, the rest is 0 even where it was reached.
//!
//! [`Fix::AbsentClasses`] and [`Fix::Ties`] mend the first and the third.
//!
//! Deliberately absent: how detections are ranked and curves drawn (`ranking`), and means over
//! the curves ([`super::summary`]).

use std::borrow::Cow;

use rayon::prelude::*;

use super::ranking::{self, Part, Ranking};
use super::summary::CocoMetrics;
use super::{MergeError, check_unique};
use crate::dataset::ImageRecord;
use crate::detections::Detection;
#[cfg(doc)]
use crate::matching::Fix;
use crate::matching::coco::{ImageMatches, Plan};

/// Precision, recall and scores at every setting: `COCOeval.eval`.
///
/// With [`Fix::AbsentClasses`] there can be precision where there is no recall; without classes
/// (`use_cats`) there is one class.
///
/// The arrays are asked with indices of IoU threshold `t`, recall threshold `r`, class `k`, area
/// range `a` and detection limit `m`; classes and limits ascend.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Curves {
    t: usize,
    r: usize,
    a: usize,
    m: usize,
    /// `[k]`.
    classes: Vec<ClassCurves>,
}

/// One class's part of the arrays; all empty where the class is absent at every setting, as most are
/// in a data set of thousands of classes.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct ClassCurves {
    /// `[a, m, t, r]`; `ABSENT` where there is no ground truth.
    pub(super) precision: Vec<f64>,
    /// `[a, m, t, r]`.
    pub(super) scores: Vec<f64>,
    /// `[a, m, t]`.
    pub(super) recall: Vec<f64>,
}

/// As in pycocotools, but only inside [`Curves`].
const ABSENT: f64 = -1.0;

impl ClassCurves {
    pub(super) fn absent(plan: &Plan) -> Self {
        let cells = plan.area_ranges.len() * plan.max_dets.len() * plan.iou_thrs.len();
        let points = cells * plan.rec_thrs.len();
        Self {
            precision: vec![ABSENT; points],
            scores: vec![ABSENT; points],
            recall: vec![ABSENT; cells],
        }
    }
}

impl Curves {
    /// Numbers of IoU thresholds, recall thresholds, classes, area ranges and detection limits.
    pub fn shape(&self) -> [usize; 5] {
        [self.t, self.r, self.classes.len(), self.a, self.m]
    }

    /// Precision at recall `r`; `None` where there is no ground truth or no such setting.
    pub fn precision(&self, t: usize, r: usize, k: usize, a: usize, m: usize) -> Option<f64> {
        self.precisions(t, k, a, m).get(r).copied()
    }

    /// Score of the detection at which recall `r` is reached; 0 where it is not, `None` as above.
    pub fn score(&self, t: usize, r: usize, k: usize, a: usize, m: usize) -> Option<f64> {
        self.precision(t, r, k, a, m)?;
        let first = self.cell(t, a, m)? * self.r;
        Some(self.classes[k].scores[first + r])
    }

    /// Recall of all detections; `None` as above.
    pub fn recall(&self, t: usize, k: usize, a: usize, m: usize) -> Option<f64> {
        let recall = self.classes.get(k)?.recall.get(self.cell(t, a, m)?);
        recall.copied().filter(|&recall| recall > ABSENT)
    }

    /// Precision at every recall threshold; empty where there is no ground truth.
    pub(super) fn precisions(&self, t: usize, k: usize, a: usize, m: usize) -> &[f64] {
        let (Some(class), Some(cell)) = (self.classes.get(k), self.cell(t, a, m)) else {
            return &[];
        };
        match class.precision.get(cell * self.r..(cell + 1) * self.r) {
            Some(row) if row.first().is_some_and(|&precision| precision > ABSENT) => row,
            _ => &[],
        }
    }

    fn cell(&self, t: usize, a: usize, m: usize) -> Option<usize> {
        let inside = t < self.t && a < self.a && m < self.m;
        inside.then(|| (a * self.m + m) * self.t + t)
    }
}

/// Merges the images' matches; any order of `images` gives the same result, to the last bit.
///
/// Source: `accumulate` and `summarize`, cocoeval.py lines 315-493.
///
/// # Errors
/// [`MergeError`], where two images have the same id or one was not made with this plan.
pub fn accumulate(plan: &Plan, mut images: Vec<ImageMatches>) -> Result<CocoMetrics, MergeError> {
    images.par_sort_unstable_by_key(|image| image.image_id);
    check_unique("id", images.iter().map(|image| image.image_id))?;
    let parts = ranking::deal(plan, &images, Cow::Borrowed)?;
    // What follows takes as much memory again.
    drop(images);
    Ok(CocoMetrics::summarize(plan, draw(plan, &parts)))
}

/// The curves of images that are matched on the way: no more than one image's matches are kept.
///
/// # Errors
/// As [`accumulate`].
pub(super) fn match_and_draw(
    plan: &Plan,
    images: &[(&ImageRecord, &[Detection])],
    match_image: impl Fn(&ImageRecord, &[Detection]) -> ImageMatches + Sync,
) -> Result<Curves, MergeError> {
    let mut images = images.to_vec();
    images.sort_unstable_by_key(|(image, _)| image.id);
    check_unique("id", images.iter().map(|(image, _)| image.id))?;
    let matches = |(image, dts): &(&ImageRecord, &[Detection])| Cow::Owned(match_image(image, dts));
    let parts = ranking::deal(plan, &images, matches)?;
    Ok(draw(plan, &parts))
}

/// The curves of all classes, of which `parts` (`[parts][classes]`) have the detections.
fn draw(plan: &Plan, parts: &[Vec<Part>]) -> Curves {
    let class_curves =
        |k| Ranking::new(plan, parts.iter().map(|part: &Vec<Part>| &part[k])).curves(plan);
    Curves {
        t: plan.iou_thrs.len(),
        r: plan.rec_thrs.len(),
        a: plan.area_ranges.len(),
        m: plan.max_dets.len(),
        classes: (0..plan.classes.len()).into_par_iter().map(class_curves).collect(),
    }
}
