//! Matching of the COCO protocol: `COCOeval.evaluateImg` of pycocotools 2.0.11 for one image, every
//! class, every IoU threshold and every area range in one pass.
//!
//! What pycocotools does that a reader may not expect, and what is kept, bit for bit:
//! - **Annotation id 0**: `dtMatches` holds ids, and 0 means unmatched. A detection that finds the
//!   annotation with id 0 takes it away from others and is a false positive all the same.
//! - **Order of ties**: equal scores keep the order of the results file; of ground truths with equal
//!   IoU the *last* one is taken (the search goes on while IoU is not smaller).
//! - **IoU threshold 1** is lowered to `1 - 1e-10`.
//! - **Ignored ground truth** (crowds, and areas outside the range) comes last in the search, and is
//!   only taken where no other qualifies, however high its IoU. A crowd can be found many times; an
//!   ignored box that is no crowd only once.
//! - **Area** of a ground truth is the annotation's `area`, that of a detection is width times
//!   height; both ends of a range belong to it, so an area of 32² is small *and* medium.
//! - **maxDets** cuts per image and class, before matching, at the largest of the limits.
//!
//! [`super::Fixes`] mend some of it, and [`CocoParams::use_cats`] set to false pools the classes:
//! both change what is matched, before any of this begins (`prepare`), not how.
//!
//! Deliberately absent: curves and numbers ([`crate::metrics::coco`]).

use serde::{Deserialize, Serialize};

use super::descending_key;
use super::iou::{Region, overlap_row};
pub(crate) use super::params::SummaryLimits;
pub use super::params::{AreaRange, CocoParams, ParamsError, Plan};
use super::prepare::prepared;
use crate::dataset::GroundTruth;
use crate::detections::Detection;

/// What became of the detections of one image.
///
/// Columns. Most detections of a real detector come near no ground truth at all, so only the others
/// (`hit_*`) have an outcome per threshold; the rest is a false positive, or ignored where its area
/// is out of range.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ImageMatches {
    /// COCO's image id: the key by which results are merged.
    pub image_id: i64,
    /// Classes with a ground truth or a detection, by ascending id.
    pub classes: Vec<ClassSpan>,
    /// `[classes, areas]`: number of ground truths that are to be found.
    pub positives: Vec<u32>,
    /// `[dts]`: scores, highest first within a class, at most the largest limit of them.
    #[serde(with = "super::as_bits")]
    pub scores: Vec<f64>,
    /// `[dts]`: a bit per area range, set where the detection's area is outside.
    pub outside: Vec<u32>,
    /// `[hits]`: the detection, an index into the columns above, ascending.
    pub hit_dts: Vec<u32>,
    /// `[hits, areas]`: a bit per threshold, set where a ground truth was found.
    pub hit_found: Vec<u64>,
    /// `[hits, areas]`: a bit per threshold, set where an ignored ground truth was found.
    pub hit_ignored: Vec<u64>,
}

/// Where a class ends in the columns of [`ImageMatches`]; it begins where the one before ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassSpan {
    /// Its id.
    pub category_id: i64,
    /// One past its last detection.
    pub dts_end: u32,
    /// One past its last hit.
    pub hits_end: u32,
}

/// Matches one image's detections (in the order of the results file) with its ground truth (in the
/// order of the annotation file).
///
/// Source: `computeIoU` and `evaluateImg`, cocoeval.py lines 163-312.
pub fn match_image(
    image_id: i64,
    gts: &[GroundTruth],
    dts: &[Detection],
    plan: &Plan,
) -> ImageMatches {
    let prepared = prepared(gts, dts, plan);
    let (gts, dts) = prepared.as_ref().map_or((gts, dts), |(gts, dts)| (gts, dts));
    let mut gt_order: Vec<(usize, u32)> = Vec::with_capacity(gts.len());
    gt_order
        .extend((0..).zip(gts).filter_map(|(g, gt)| Some((plan.class_index(gt.category_id)?, g))));
    gt_order.sort_unstable();
    let mut dt_order: Vec<(usize, u64, u32)> = Vec::with_capacity(dts.len());
    dt_order.extend((0..).zip(dts).filter_map(|(d, dt)| {
        Some((plan.class_index(dt.category_id)?, descending_key(dt.score), d))
    }));
    // The index makes every key unique: unstable sorting is stable here, and faster.
    dt_order.sort_unstable();

    let limit = plan.max_dets.last().copied().unwrap_or(0);
    let mut matcher = Matcher::new(plan, ImageMatches { image_id, ..Default::default() });
    matcher.out.scores.reserve(dt_order.len());
    matcher.out.outside.reserve(dt_order.len());
    let (mut gt_rest, mut dt_rest) = (gt_order.as_slice(), dt_order.as_slice());
    while let Some(class) = lower(gt_rest.first().map(|g| g.0), dt_rest.first().map(|d| d.0)) {
        let class_gts = take_while(&mut gt_rest, |g| g.0 == class);
        let class_dts = take_while(&mut dt_rest, |d| d.0 == class);
        matcher.set_ground_truth(class_gts.iter().map(|g| &gts[g.1 as usize]));
        for d in class_dts.iter().take(limit) {
            matcher.match_detection(&dts[d.2 as usize]);
        }
        matcher.end_class(plan.classes[class]);
    }
    matcher.out
}

/// The lower of two places, where there is any.
fn lower(a: Option<usize>, b: Option<usize>) -> Option<usize> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Splits off the leading items for which `belongs` holds.
fn take_while<'a, T>(rest: &mut &'a [T], belongs: impl Fn(&T) -> bool) -> &'a [T] {
    let end = rest.iter().position(|item| !belongs(item)).unwrap_or(rest.len());
    let (head, tail) = rest.split_at(end);
    *rest = tail;
    head
}

/// The state of one image's matching: the ground truth of the class at hand, and what is free.
struct Matcher<'p> {
    plan: &'p Plan,
    regions: Vec<Region>,
    /// `[gts]`: the annotation id is 0, see the module's documentation.
    id_is_zero: Vec<bool>,
    /// `[gts]`: a bit per area range.
    ignored: Vec<u32>,
    /// `[areas, gts]`: a bit per threshold.
    taken: Vec<u64>,
    /// `[gts]`: overlap with the detection at hand.
    overlaps: Vec<f64>,
    /// Ground truths that overlap the detection at hand enough for some threshold.
    near: Vec<usize>,
    out: ImageMatches,
}

impl<'p> Matcher<'p> {
    fn new(plan: &'p Plan, out: ImageMatches) -> Self {
        Self {
            plan,
            regions: Vec::new(),
            id_is_zero: Vec::new(),
            ignored: Vec::new(),
            taken: Vec::new(),
            overlaps: Vec::new(),
            near: Vec::new(),
            out,
        }
    }

    /// Begins a class.
    fn set_ground_truth<'g>(&mut self, gts: impl Iterator<Item = &'g GroundTruth>) {
        self.regions.clear();
        self.id_is_zero.clear();
        self.ignored.clear();
        for gt in gts {
            self.regions.push(Region { bbox: gt.bbox, is_crowd: gt.is_crowd });
            self.id_is_zero.push(gt.id == 0);
            let ignored = gt.is_crowd || gt.ignore;
            self.ignored.push(if ignored { u32::MAX } else { self.plan.outside(gt.area) });
        }
        let areas = self.plan.area_ranges.len();
        self.taken.clear();
        self.taken.resize(areas * self.regions.len(), 0);
        for a in 0..areas {
            let positives = self.ignored.iter().filter(|&mask| mask >> a & 1 == 0).count();
            self.out.positives.push(positives as u32);
        }
    }

    /// Finds a ground truth for the next detection in score order, at every threshold and range.
    fn match_detection(&mut self, dt: &Detection) {
        let d = self.out.scores.len() as u32;
        self.out.scores.push(dt.score);
        self.out.outside.push(self.plan.outside(dt.bbox.area()));
        self.overlaps.clear();
        overlap_row(&dt.bbox, &self.regions, &mut self.overlaps);
        self.near.clear();
        // NaN (see `overlap`) is smaller than nothing, and nothing is smaller than it: once it is the
        // best so far, pycocotools takes whatever comes after, however far away.
        let nan = self.overlaps.iter().any(|overlap| overlap.is_nan());
        let enough = |&g: &usize| nan || self.overlaps[g] >= self.plan.lowest_thr;
        self.near.extend((0..self.overlaps.len()).filter(enough));
        if self.near.is_empty() {
            return;
        }
        self.out.hit_dts.push(d);
        for a in 0..self.plan.area_ranges.len() {
            let (mut found, mut ignored) = (0, 0);
            for t in 0..self.plan.match_thrs.len() {
                let Some(g) = self.best(a, t) else { continue };
                self.taken[a * self.regions.len() + g] |= 1 << t;
                if self.ignored[g] >> a & 1 == 1 {
                    ignored |= 1 << t;
                } else if !self.id_is_zero[g] {
                    found |= 1 << t;
                }
            }
            self.out.hit_found.push(found);
            self.out.hit_ignored.push(ignored);
        }
    }

    /// The ground truth that the detection at hand takes in range `a` at threshold `t`.
    fn best(&self, a: usize, t: usize) -> Option<usize> {
        let counts = |&g: &usize| self.ignored[g] >> a & 1 == 0;
        let thr = self.plan.match_thrs[t];
        self.last_best(a, t, thr, self.near.iter().copied().filter(counts))
            .or_else(|| self.last_best(a, t, thr, self.near.iter().copied().filter(|g| !counts(g))))
    }

    /// Of those that can be taken, the one with the highest overlap, of equals the last.
    fn last_best(
        &self,
        a: usize,
        t: usize,
        thr: f64,
        candidates: impl Iterator<Item = usize>,
    ) -> Option<usize> {
        let mut best = None;
        let mut least = thr;
        for g in candidates {
            let taken = self.taken[a * self.regions.len() + g] >> t & 1 == 1;
            if (taken && !self.regions[g].is_crowd) || self.overlaps[g] < least {
                continue;
            }
            best = Some(g);
            least = self.overlaps[g];
        }
        best
    }

    fn end_class(&mut self, category_id: i64) {
        self.out.classes.push(ClassSpan {
            category_id,
            dts_end: self.out.scores.len() as u32,
            hits_end: self.out.hit_dts.len() as u32,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Category;

    #[test]
    fn only_as_many_detections_are_kept_as_the_largest_limit_asks_for() {
        let category = Category { id: 1, name: "person".into() };
        let params = CocoParams { max_dets: vec![3, 1, 2], ..CocoParams::default() };
        let plan = Plan::new(&[category], &params).unwrap();
        let dts: Vec<Detection> = [0.1, 0.5, 0.3, 0.9, 0.7]
            .map(|score| Detection { bbox: [0., 0., 9., 9.].into(), score, category_id: 1 })
            .to_vec();
        assert_eq!(match_image(1, &[], &dts, &plan).scores, [0.9, 0.7, 0.5]);
    }
}
