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
//! Only true positives change recall, and precision has its maxima there. So a curve is kept as its
//! true positives, which are few, and gives the same numbers as the array over all detections.
//!
//! Deliberately absent: means over the curves ([`super::summary`]).

use std::ops::Range;

use rayon::prelude::*;

use super::summary::CocoMetrics;
use super::{MergeError, check_unique};
use crate::matching::coco::{ImageMatches, Plan};
use crate::matching::{Fix, descending_key};

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
    k: usize,
    a: usize,
    m: usize,
    /// `[k, a, m, t, r]`; `ABSENT` where there is no ground truth.
    precision: Vec<f64>,
    /// `[k, a, m, t, r]`.
    scores: Vec<f64>,
    /// `[k, a, m, t]`.
    recall: Vec<f64>,
}

/// As in pycocotools, but only inside [`Curves`].
const ABSENT: f64 = -1.0;

impl Curves {
    fn absent(plan: &Plan) -> Self {
        let (t, r) = (plan.iou_thrs.len(), plan.rec_thrs.len());
        let (k, a, m) = (plan.classes.len(), plan.area_ranges.len(), plan.max_dets.len());
        let cells = k * a * m * t;
        let (precision, scores) = (vec![ABSENT; cells * r], vec![ABSENT; cells * r]);
        Self { t, r, k, a, m, precision, scores, recall: vec![ABSENT; cells] }
    }

    /// Numbers of IoU thresholds, recall thresholds, classes, area ranges and detection limits.
    pub fn shape(&self) -> [usize; 5] {
        [self.t, self.r, self.k, self.a, self.m]
    }

    /// Precision at recall `r`; `None` where there is no ground truth or no such setting.
    pub fn precision(&self, t: usize, r: usize, k: usize, a: usize, m: usize) -> Option<f64> {
        self.precisions(t, k, a, m).get(r).copied()
    }

    /// Score of the detection at which recall `r` is reached; 0 where it is not, `None` as above.
    pub fn score(&self, t: usize, r: usize, k: usize, a: usize, m: usize) -> Option<f64> {
        let first = self.cell(t, k, a, m)? * self.r;
        let score = self.scores[first..first + self.r].get(r).copied()?;
        self.precision(t, r, k, a, m).map(|_| score)
    }

    /// Recall of all detections; `None` as above.
    pub fn recall(&self, t: usize, k: usize, a: usize, m: usize) -> Option<f64> {
        Some(self.recall[self.cell(t, k, a, m)?]).filter(|&recall| recall > ABSENT)
    }

    /// Precision at every recall threshold; empty where there is no ground truth.
    pub(super) fn precisions(&self, t: usize, k: usize, a: usize, m: usize) -> &[f64] {
        let Some(cell) = self.cell(t, k, a, m) else {
            return &[];
        };
        let row = &self.precision[cell * self.r..(cell + 1) * self.r];
        if row.first().is_some_and(|&precision| precision > ABSENT) { row } else { &[] }
    }

    fn cell(&self, t: usize, k: usize, a: usize, m: usize) -> Option<usize> {
        let inside = t < self.t && k < self.k && a < self.a && m < self.m;
        inside.then(|| ((k * self.a + a) * self.m + m) * self.t + t)
    }
}

/// Merges the images' matches; any order of `images` gives the same result, to the last bit.
///
/// Source: `accumulate` and `summarize`, cocoeval.py lines 315-493.
///
/// # Errors
/// [`MergeError`], where two images have the same id or one was not made with this plan.
pub fn accumulate(plan: &Plan, images: Vec<ImageMatches>) -> Result<CocoMetrics, MergeError> {
    Ok(CocoMetrics::summarize(plan, curves(plan, images)?))
}

/// The curves of [`accumulate`].
pub(super) fn curves(plan: &Plan, mut images: Vec<ImageMatches>) -> Result<Curves, MergeError> {
    images.par_sort_unstable_by_key(|image| image.image_id);
    check_unique("id", images.iter().map(|image| image.image_id))?;
    let classes = Ranked::by_class(plan, &images)?;

    let mut curves = Curves::absent(plan);
    let (cells, r) = (curves.a * curves.m * curves.t, curves.r);
    let blocks = curves
        .precision
        .par_chunks_mut(cells * r)
        .zip(curves.scores.par_chunks_mut(cells * r))
        .zip(curves.recall.par_chunks_mut(cells));
    blocks.zip(classes).for_each(|(((precision, scores), recall), mut ranked)| {
        // Stable: images ascend, and so do ranks in an image.
        ranked.dts.sort_by_key(|dt| descending_key(dt.score));
        ranked.fill(plan, Block { precision, scores, recall });
    });
    Ok(curves)
}

/// Where one class is in an image's columns.
struct Span {
    class: usize,
    dts: Range<usize>,
    hits: Range<usize>,
}

/// Adds an image to its classes; `None` if it does not fit the plan: matches may come from elsewhere.
fn deal(plan: &Plan, image: &ImageMatches, classes: &mut [Ranked]) -> Option<()> {
    let areas = plan.area_ranges.len();
    let fits = image.positives.len() == image.classes.len() * areas
        && image.outside.len() == image.scores.len()
        && image.hit_found.len() == image.hit_dts.len() * areas
        && image.hit_ignored.len() == image.hit_found.len();
    if !fits {
        return None;
    }
    let (mut dts_start, mut hits_start) = (0, 0);
    for (class, end) in image.classes.iter().enumerate() {
        let dts = dts_start..end.dts_end as usize;
        let hits = hits_start..end.hits_end as usize;
        (dts_start, hits_start) = (dts.end, hits.end);
        let inside = |&d: &u32| dts.contains(&(d as usize));
        if dts.start > dts.end
            || dts.end > image.scores.len()
            || !image.hit_dts.get(hits.clone())?.iter().all(inside)
        {
            return None;
        }
        classes[plan.class_index(end.category_id)?].push(image, &Span { class, dts, hits });
    }
    let complete = (dts_start, hits_start) == (image.scores.len(), image.hit_dts.len());
    complete.then_some(())
}

/// One class's part of the arrays.
struct Block<'b> {
    precision: &'b mut [f64],
    scores: &'b mut [f64],
    recall: &'b mut [f64],
}

/// A detection among all of its class.
struct RankedDt {
    score: f64,
    /// Its rank in its image, from 0.
    rank: u32,
    /// Index into `masks`.
    mask: u32,
    /// Index of its row in `hits`, or `NO_HIT`.
    hit: u32,
}

const NO_HIT: u32 = u32::MAX;

/// One class over all images.
struct Ranked {
    /// By image, then rank, until they are sorted by descending score.
    dts: Vec<RankedDt>,
    /// The distinct sets of area ranges that detections are outside of, a bit per range. There are
    /// few of them, which makes counting cheap.
    masks: Vec<u32>,
    /// `[rows, areas]`: bits per threshold, found and ignored.
    hits: Vec<(u64, u64)>,
    /// `[areas]`.
    positives: Vec<u64>,
}

impl Ranked {
    /// Deals what the images hold out to the classes; reads every column once, in order.
    fn by_class(plan: &Plan, images: &[ImageMatches]) -> Result<Vec<Self>, MergeError> {
        let empty = || Self {
            dts: Vec::new(),
            masks: Vec::new(),
            hits: Vec::new(),
            positives: vec![0; plan.area_ranges.len()],
        };
        let mut classes: Vec<Self> = plan.classes.iter().map(|_| empty()).collect();
        for image in images {
            deal(plan, image, &mut classes).ok_or(MergeError::Foreign(image.image_id))?;
        }
        Ok(classes)
    }

    /// Adds one image's detections of this class.
    fn push(&mut self, image: &ImageMatches, span: &Span) {
        let areas = self.positives.len();
        let positives = &image.positives[span.class * areas..(span.class + 1) * areas];
        for (sum, positives) in self.positives.iter_mut().zip(positives) {
            *sum += u64::from(*positives);
        }
        let first = self.dts.len();
        for (rank, d) in span.dts.clone().enumerate() {
            let mask = place(&mut self.masks, image.outside[d]);
            let score = image.scores[d];
            self.dts.push(RankedDt { score, rank: rank as u32, mask, hit: NO_HIT });
        }
        for h in span.hits.clone() {
            let d = first + image.hit_dts[h] as usize - span.dts.start;
            self.dts[d].hit = (self.hits.len() / areas) as u32;
            let row = h * areas..(h + 1) * areas;
            let found = image.hit_found[row.clone()].iter().copied();
            self.hits.extend(found.zip(image.hit_ignored[row].iter().copied()));
        }
    }

    fn fill(&self, plan: &Plan, block: Block<'_>) {
        let (t, r, m) = (plan.iou_thrs.len(), plan.rec_thrs.len(), plan.max_dets.len());
        let mut curves: Vec<Curve> = Vec::new();
        curves.resize_with(plan.area_ranges.len() * t, Curve::default);
        let in_steps = plan.fixes.contains(Fix::Ties);
        let never_absent = plan.fixes.contains(Fix::AbsentClasses)
            && self.positives.iter().all(|&positives| positives == 0);
        for (limit, &max_det) in plan.max_dets.iter().enumerate() {
            let first_score = if in_steps {
                self.walk_in_steps(max_det, t, &mut curves)
            } else {
                self.walk(max_det, t, &mut curves)
            };
            for (i, curve) in curves.iter_mut().enumerate() {
                let (a, t_index) = (i / t, i % t);
                let positives = self.positives[a];
                let cell = (a * m + limit) * t + t_index;
                let cells = cell * r..(cell + 1) * r;
                let (precision, scores) =
                    (&mut block.precision[cells.clone()], &mut block.scores[cells]);
                if positives == 0 {
                    if never_absent && self.has_false_positive(a, t_index, max_det) {
                        precision.fill(0.0);
                        scores.fill(0.0);
                    }
                    continue;
                }
                block.recall[cell] = curve.recall(positives);
                curve.read_off(positives, first_score, &plan.rec_thrs, precision, scores);
            }
        }
    }

    /// Draws all curves (`[areas, t]`) for one limit, and returns the score of the first detection.
    fn walk(&self, max_det: usize, t: usize, curves: &mut [Curve]) -> Option<f64> {
        curves.iter_mut().for_each(Curve::clear);
        let areas = self.positives.len();
        let mut first_score = None;
        // `[masks]`: detections near no ground truth, which are false positives at every threshold.
        let mut far = vec![0u64; self.masks.len()];
        for dt in self.dts.iter().filter(|dt| (dt.rank as usize) < max_det) {
            first_score.get_or_insert(dt.score);
            if dt.hit == NO_HIT {
                far[dt.mask as usize] += 1;
                continue;
            }
            let row = dt.hit as usize * areas;
            let hits = self.hits[row..row + areas].iter().zip(curves.chunks_mut(t));
            for (a, (&(found, ignored), curves)) in hits.enumerate() {
                let inside = |mask: u32| mask >> a & 1 == 0;
                let counts = self.masks.iter().zip(&far);
                let far_fps = counts.filter(|(mask, _)| inside(**mask)).map(|(_, n)| n).sum();
                let counted = inside(self.masks[dt.mask as usize]);
                for (t, curve) in curves.iter_mut().enumerate() {
                    if found >> t & 1 == 1 {
                        curve.true_positive(far_fps, dt.score);
                    } else if counted && ignored >> t & 1 == 0 {
                        curve.near_fps += 1;
                    }
                }
            }
        }
        first_score
    }
}

impl Ranked {
    /// As [`Self::walk`], with all detections of one score in one step: [`Fix::Ties`].
    fn walk_in_steps(&self, max_det: usize, t: usize, curves: &mut [Curve]) -> Option<f64> {
        curves.iter_mut().for_each(Curve::clear);
        let areas = self.positives.len();
        let dts = self.dts.iter().filter(|dt| (dt.rank as usize) < max_det);
        let dts: Vec<&RankedDt> = dts.collect();
        // `[masks]`, as in `walk`, and `[areas, t]`: true positives of the step.
        let (mut far, mut found_now) = (vec![0u64; self.masks.len()], vec![0usize; curves.len()]);
        for step in dts.chunk_by(|a, b| descending_key(a.score) == descending_key(b.score)) {
            found_now.fill(0);
            for dt in step {
                if dt.hit == NO_HIT {
                    far[dt.mask as usize] += 1;
                    continue;
                }
                for i in 0..curves.len() {
                    let (found, ignored) = self.hits[dt.hit as usize * areas + i / t];
                    let counted = self.masks[dt.mask as usize] >> (i / t) & 1 == 0;
                    if found >> (i % t) & 1 == 1 {
                        found_now[i] += 1;
                    } else if counted && ignored >> (i % t) & 1 == 0 {
                        curves[i].near_fps += 1;
                    }
                }
            }
            for (i, (curve, &count)) in curves.iter_mut().zip(&found_now).enumerate() {
                let counts = self.masks.iter().zip(&far);
                let inside = counts.filter(|(mask, _)| **mask >> (i / t) & 1 == 0);
                curve.true_positives(count, inside.map(|(_, n)| n).sum(), step[0].score + 0.0);
            }
        }
        // Which zero comes first must not depend on the order either.
        dts.first().map(|dt| dt.score + 0.0)
    }

    /// Whether a detection counts against precision in range `a` at threshold `t`, of a class
    /// without ground truth to find.
    fn has_false_positive(&self, a: usize, t: usize, max_det: usize) -> bool {
        let ignored = |row: u32| self.hits[row as usize * self.positives.len() + a].1 >> t & 1 == 1;
        self.dts
            .iter()
            .filter(|dt| (dt.rank as usize) < max_det && self.masks[dt.mask as usize] >> a & 1 == 0)
            .any(|dt| dt.hit == NO_HIT || !ignored(dt.hit))
    }
}

/// Place of `mask` among `masks`, where it is added if it is new.
fn place(masks: &mut Vec<u32>, mask: u32) -> u32 {
    let known = masks.iter().position(|&m| m == mask);
    known.unwrap_or_else(|| {
        masks.push(mask);
        masks.len() - 1
    }) as u32
}

/// A precision-recall curve, by its true positives.
#[derive(Default)]
struct Curve {
    /// Precision at each true positive.
    precision: Vec<f64>,
    /// Score of each true positive.
    scores: Vec<f64>,
    /// False positives near a ground truth, up to here.
    near_fps: u64,
}

impl Curve {
    fn clear(&mut self) {
        self.precision.clear();
        self.scores.clear();
        self.near_fps = 0;
    }

    fn true_positive(&mut self, far_fps: u64, score: f64) {
        let tp = (self.precision.len() + 1) as f64;
        let fp = (self.near_fps + far_fps) as f64;
        // `tp / (fp+tp+np.spacing(1))`, line 385.
        self.precision.push(tp / (fp + tp + f64::EPSILON));
        self.scores.push(score);
    }

    /// `count` at once: at none of them is precision what it would be without the others.
    fn true_positives(&mut self, count: usize, far_fps: u64, score: f64) {
        let tp = self.precision.len() + count;
        let fp = (self.near_fps + far_fps) as f64;
        self.precision.resize(tp, tp as f64 / (fp + tp as f64 + f64::EPSILON));
        self.scores.resize(tp, score);
    }

    fn recall(&self, positives: u64) -> f64 {
        self.precision.len() as f64 / positives as f64
    }

    /// Takes the envelope and reads precision and score off at every recall threshold: lines 398-410.
    fn read_off(
        &mut self,
        positives: u64,
        first_score: Option<f64>,
        rec_thrs: &[f64],
        precision: &mut [f64],
        scores: &mut [f64],
    ) {
        let mut best = 0.0;
        for value in self.precision.iter_mut().rev() {
            best = if *value > best { *value } else { best };
            *value = best;
        }
        precision.fill(0.0);
        scores.fill(0.0);
        let Some(first_score) = first_score else {
            return;
        };
        let positives = positives as f64;
        let (mut tp, mut last_thr) = (0, f64::NEG_INFINITY);
        for (i, &thr) in rec_thrs.iter().enumerate() {
            if thr <= 0.0 {
                // Every recall reaches it: that is the first detection, found or not, whose
                // envelope is the whole curve's.
                (precision[i], scores[i]) = (best, first_score);
                continue;
            }
            // Thresholds ascend as a rule; then the search goes on where it was.
            if thr < last_thr {
                tp = 0;
            }
            last_thr = thr;
            while tp < self.precision.len() && ((tp + 1) as f64 / positives) < thr {
                tp += 1;
            }
            if tp == self.precision.len() {
                return;
            }
            (precision[i], scores[i]) = (self.precision[tp], self.scores[tp]);
        }
    }
}
