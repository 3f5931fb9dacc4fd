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
//! Deliberately absent: curves and numbers ([`crate::metrics::coco`]), and the class-agnostic mode.

use serde::{Deserialize, Serialize};

use super::descending_key;
use super::iou::{Region, overlap_row};
use crate::config::linspace;
use crate::dataset::{Category, GroundTruth};
use crate::detections::Detection;

/// A named range of areas, square pixels; both ends belong to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AreaRange {
    /// `all`, `small`, `medium` and `large` are what the 12 numbers look for.
    pub name: String,
    /// Smallest area.
    pub min: f64,
    /// Largest area.
    pub max: f64,
}

/// What can be set in the COCO protocol; the default is that of pycocotools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CocoParams {
    /// IoU thresholds; at most 64.
    pub iou_thrs: Vec<f64>,
    /// Recalls at which precision is read off.
    pub rec_thrs: Vec<f64>,
    /// Limits on the detections per image and class.
    pub max_dets: Vec<usize>,
    /// Area ranges; at most 32.
    pub area_ranges: Vec<AreaRange>,
}

impl Default for CocoParams {
    fn default() -> Self {
        let range = |name: &str, min: f64, max: f64| AreaRange { name: name.into(), min, max };
        Self {
            iou_thrs: linspace(0.5, 0.95, 10),
            rec_thrs: linspace(0.0, 1.0, 101),
            max_dets: vec![1, 10, 100],
            area_ranges: vec![
                range("all", 0.0, 1e10),
                range("small", 0.0, 1024.0),
                range("medium", 1024.0, 9216.0),
                range("large", 9216.0, 1e10),
            ],
        }
    }
}

/// Settings that cannot be evaluated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ParamsError {
    /// Outcomes per threshold are kept in the bits of a `u64`.
    #[error("{0} IoU thresholds were given; use at most 64")]
    TooManyThresholds(usize),
    /// Outcomes per area range are kept in the bits of a `u32`.
    #[error("{0} area ranges were given; use at most 32")]
    TooManyAreaRanges(usize),
    /// Nothing to evaluate.
    #[error("{0} is empty; give at least one value")]
    Empty(&'static str),
    /// NaN or infinite.
    #[error("{0} holds {1}; use finite numbers")]
    NotFinite(&'static str, f64),
}

/// Checked settings and the classes to evaluate, ready for matching and accumulation.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub(crate) categories: Vec<Category>,
    pub(crate) iou_thrs: Vec<f64>,
    pub(crate) rec_thrs: Vec<f64>,
    pub(crate) max_dets: Vec<usize>,
    pub(crate) area_ranges: Vec<AreaRange>,
    /// `iou_thrs`, none above `1 - 1e-10`.
    match_thrs: Vec<f64>,
    /// The lowest of `match_thrs`: below it a pair of boxes need not be looked at again.
    lowest_thr: f64,
}

impl Plan {
    /// Checks the settings. Classes are evaluated in ascending order of id, each once; what belongs
    /// to other classes is not evaluated.
    ///
    /// # Errors
    /// [`ParamsError`], where the settings cannot be evaluated.
    pub fn new(categories: &[Category], params: &CocoParams) -> Result<Self, ParamsError> {
        if params.iou_thrs.len() > 64 {
            return Err(ParamsError::TooManyThresholds(params.iou_thrs.len()));
        }
        if params.area_ranges.len() > 32 {
            return Err(ParamsError::TooManyAreaRanges(params.area_ranges.len()));
        }
        let lengths = [
            ("iou_thrs", params.iou_thrs.len()),
            ("rec_thrs", params.rec_thrs.len()),
            ("max_dets", params.max_dets.len()),
            ("area_ranges", params.area_ranges.len()),
        ];
        if let Some((name, _)) = lengths.into_iter().find(|(_, length)| *length == 0) {
            return Err(ParamsError::Empty(name));
        }
        finite("iou_thrs", params.iou_thrs.iter().copied())?;
        finite("rec_thrs", params.rec_thrs.iter().copied())?;
        finite("area_ranges", params.area_ranges.iter().flat_map(|r| [r.min, r.max]))?;

        let mut categories = categories.to_vec();
        categories.sort_by_key(|c| c.id);
        categories.dedup_by_key(|c| c.id);
        let mut max_dets = params.max_dets.clone();
        max_dets.sort_unstable();
        let match_thrs: Vec<f64> = params.iou_thrs.iter().map(|t| t.min(1.0 - 1e-10)).collect();
        Ok(Self {
            categories,
            lowest_thr: match_thrs.iter().copied().fold(f64::INFINITY, f64::min),
            match_thrs,
            iou_thrs: params.iou_thrs.clone(),
            rec_thrs: params.rec_thrs.clone(),
            max_dets,
            area_ranges: params.area_ranges.clone(),
        })
    }

    /// The classes, by ascending id.
    pub fn categories(&self) -> &[Category] {
        &self.categories
    }

    /// Place of a class among [`Self::categories`].
    pub(crate) fn class_index(&self, category_id: i64) -> Option<usize> {
        self.categories.binary_search_by_key(&category_id, |c| c.id).ok()
    }

    /// A bit per area range, set where the area is outside.
    fn outside(&self, area: f64) -> u32 {
        let mut mask = 0;
        for (a, range) in self.area_ranges.iter().enumerate() {
            mask |= u32::from(area < range.min || area > range.max) << a;
        }
        mask
    }
}

fn finite(name: &'static str, values: impl IntoIterator<Item = f64>) -> Result<(), ParamsError> {
    match values.into_iter().find(|v| !v.is_finite()) {
        Some(value) => Err(ParamsError::NotFinite(name, value)),
        None => Ok(()),
    }
}

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
        matcher.end_class(plan.categories[class].id);
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

    #[test]
    fn default_thresholds_are_numpys_to_the_last_bit() {
        let params = CocoParams::default();
        // [v.hex() for v in np.linspace(.5, .95, 10)], as bits.
        let expected: [u64; 10] = [
            0x3fe0_0000_0000_0000,
            0x3fe1_9999_9999_999a,
            0x3fe3_3333_3333_3333,
            0x3fe4_cccc_cccc_cccd,
            0x3fe6_6666_6666_6666,
            0x3fe8_0000_0000_0000,
            0x3fe9_9999_9999_999a,
            0x3feb_3333_3333_3333,
            0x3fec_cccc_cccc_cccc,
            0x3fee_6666_6666_6666,
        ];
        assert_eq!(params.iou_thrs.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), expected);
        // Those of np.linspace(0, 1, 101) that are not the decimal number's nearest double.
        let odd: Vec<usize> =
            (0..101).filter(|&i| params.rec_thrs[i] != i as f64 / 100.0).collect();
        assert_eq!(odd, [35, 41, 47, 57, 69, 70, 82, 83, 94, 95]);
    }

    #[test]
    fn settings_that_cannot_be_evaluated_are_refused() {
        let with = |change: fn(&mut CocoParams)| {
            let mut params = CocoParams::default();
            change(&mut params);
            Plan::new(&[], &params).unwrap_err().to_string()
        };
        assert_eq!(
            with(|p| p.iou_thrs = vec![0.5; 65]),
            "65 IoU thresholds were given; use at most 64"
        );
        assert_eq!(with(|p| p.max_dets.clear()), "max_dets is empty; give at least one value");
        assert_eq!(with(|p| p.rec_thrs[3] = f64::NAN), "rec_thrs holds NaN; use finite numbers");
        assert_eq!(
            with(|p| p.area_ranges[0].max = f64::INFINITY),
            "area_ranges holds inf; use finite numbers"
        );
        assert_eq!(
            with(|p| p.area_ranges = vec![p.area_ranges[0].clone(); 33]),
            "33 area ranges were given; use at most 32"
        );
    }
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

    #[test]
    fn classes_are_evaluated_by_ascending_id_and_once() {
        let category = |id, name: &str| Category { id, name: name.into() };
        let given = [category(3, "car"), category(1, "person"), category(3, "again")];
        let plan = Plan::new(&given, &CocoParams::default()).unwrap();
        assert_eq!(plan.categories(), [category(1, "person"), category(3, "car")]);
    }
}
