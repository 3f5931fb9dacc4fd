//! One class's detections over all images, ranked, and its precision-recall curves.
//!
//! Most detections of a real detector come near no ground truth at all: they are false positives at
//! every threshold, or ignored. All that matters of such a **far** detection is between which two of
//! the others, the **hits**, it ranks. So only the hits are sorted; the far ones are looked up among
//! them and counted. And only true positives change recall, and precision has its maxima there: a curve
//! is kept as its true positives, and gives the same numbers as pycocotools' arrays over all detections.
//!
//! Deliberately absent: what the curves mean, and the quirks that they keep ([`super::coco`]).

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use super::MergeError;
use super::coco::ClassCurves;
use crate::matching::coco::{ImageMatches, Plan};
use crate::matching::{Fix, descending_key};

/// One class's detections on neighbouring images, by ascending image id, then by rank.
pub(super) struct Part {
    /// `[dts]`: scores as keys that ascend where scores descend.
    keys: Vec<u64>,
    /// `[dts]`: the detection's kind, an index into `kinds`, or `HIT`.
    dts: Vec<u32>,
    /// The different kinds, in the order in which they were met.
    kinds: Vec<Kind>,
    hits: Vec<Hit>,
    /// `[hits, areas]`: bits per threshold, found and ignored.
    outcomes: Vec<(u64, u64)>,
    /// `[areas]`: ground truths to be found.
    positives: Vec<u64>,
    /// The highest score, of equals the first, with its key.
    first: Option<(u64, f64)>,
}

/// Not an index into the kinds.
const HIT: u32 = u32::MAX;

/// What decides whether a far detection is a false positive in an area range, for a limit.
#[derive(Clone, Copy, PartialEq)]
struct Kind {
    /// A bit per area range, set where the detection is outside.
    outside: u32,
    /// It counts for this limit and all larger ones; an index into the plan's.
    first_limit: usize,
}

/// A detection near a ground truth.
#[derive(Clone, Copy)]
struct Hit {
    key: u64,
    /// Place among all detections of the class, by image and rank: the order of equal scores.
    place: u32,
    /// Row of its outcomes.
    outcome: u32,
    score: f64,
    kind: Kind,
}

impl Hit {
    fn order(&self) -> (u64, u32) {
        (self.key, self.place)
    }
}

/// Deals what the images hold out to the classes: `[parts][classes]`, images ascending as they do in
/// `images`; `matches` gives an image's.
///
/// # Errors
/// [`MergeError::Foreign`], where an image does not fit the plan.
pub(super) fn deal<'i, I: Sync>(
    plan: &Plan,
    images: &'i [I],
    matches: impl Fn(&'i I) -> Cow<'i, ImageMatches> + Sync,
) -> Result<Vec<Vec<Part>>, MergeError> {
    // Some more parts than threads, for threads that are kept waiting.
    let share = images.len().div_ceil(4 * rayon::current_num_threads()).max(1);
    let parts = images.par_chunks(share).map(|images| {
        let mut parts: Vec<Part> = plan.classes.iter().map(|_| Part::new(plan)).collect();
        for image in images.iter().map(&matches) {
            deal_image(plan, &image, &mut parts).ok_or(MergeError::Foreign(image.image_id))?;
        }
        Ok(parts)
    });
    parts.collect::<Vec<_>>().into_iter().collect()
}

/// Where one class is in an image's columns.
struct Span {
    class: usize,
    dts: Range<usize>,
    hits: Range<usize>,
}

/// Adds an image to its classes; `None` if it does not fit the plan: matches may come from elsewhere.
fn deal_image(plan: &Plan, image: &ImageMatches, parts: &mut [Part]) -> Option<()> {
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
        let inside = |d: &[u32]| {
            d.is_sorted_by(|a, b| a < b) && d.iter().all(|&d| dts.contains(&(d as usize)))
        };
        if dts.start > dts.end
            || dts.end > image.scores.len()
            || !inside(image.hit_dts.get(hits.clone())?)
        {
            return None;
        }
        let part = &mut parts[plan.class_index(end.category_id)?];
        part.push(plan, image, &Span { class, dts, hits });
    }
    let complete = (dts_start, hits_start) == (image.scores.len(), image.hit_dts.len());
    complete.then_some(())
}

impl Part {
    fn new(plan: &Plan) -> Self {
        Self {
            keys: Vec::new(),
            dts: Vec::new(),
            kinds: Vec::new(),
            hits: Vec::new(),
            outcomes: Vec::new(),
            positives: vec![0; plan.area_ranges.len()],
            first: None,
        }
    }

    /// Adds one image's detections of this class.
    fn push(&mut self, plan: &Plan, image: &ImageMatches, span: &Span) {
        let areas = self.positives.len();
        let positives = &image.positives[span.class * areas..(span.class + 1) * areas];
        for (sum, positives) in self.positives.iter_mut().zip(positives) {
            *sum += u64::from(*positives);
        }
        let mut hits = span.hits.clone().peekable();
        for (rank, d) in span.dts.clone().enumerate() {
            let (score, key) = (image.scores[d], descending_key(image.scores[d]));
            if self.first.is_none_or(|(first, _)| key < first) {
                self.first = Some((key, score));
            }
            let first_limit = plan.max_dets.partition_point(|&limit| limit <= rank);
            let kind = Kind { outside: image.outside[d], first_limit };
            let tag = match hits.next_if(|&h| image.hit_dts[h] as usize == d) {
                Some(h) => {
                    self.push_hit(key, score, kind, image, h * areas..(h + 1) * areas);
                    HIT
                }
                None => place(&mut self.kinds, kind),
            };
            self.keys.push(key);
            self.dts.push(tag);
        }
    }

    fn push_hit(
        &mut self,
        key: u64,
        score: f64,
        kind: Kind,
        image: &ImageMatches,
        outcomes: Range<usize>,
    ) {
        // Four thousand million detections of a class do not fit in memory.
        let (place, outcome) = (self.keys.len() as u32, self.hits.len() as u32);
        self.hits.push(Hit { key, place, outcome, score, kind });
        let found = image.hit_found[outcomes.clone()].iter().copied();
        self.outcomes.extend(found.zip(image.hit_ignored[outcomes].iter().copied()));
    }
}

/// Where equal scores are one step, -0 and 0 are: which is said must not depend on the order either.
fn said(score: f64, in_steps: bool) -> f64 {
    if in_steps { score + 0.0 } else { score }
}

/// Place of `kind` among `kinds`, where it is added if it is new.
fn place(kinds: &mut Vec<Kind>, kind: Kind) -> u32 {
    let known = kinds.iter().position(|&k| k == kind);
    known.unwrap_or_else(|| {
        kinds.push(kind);
        kinds.len() - 1
    }) as u32
}

/// One class over all images, ranked.
pub(super) struct Ranking {
    /// Detections of equal score count in one step, whatever their order: [`Fix::Ties`].
    in_steps: bool,
    /// By descending score.
    hits: Vec<Hit>,
    /// `[hits, kinds]`: far detections that rank after the hit before, and before this one. Those
    /// after the last hit change nothing.
    far: Vec<u32>,
    /// The kinds of the far detections.
    kinds: Vec<Kind>,
    /// `[hits, areas]`, in the hits' unranked order: bits per threshold, found and ignored.
    outcomes: Vec<(u64, u64)>,
    /// `[areas]`.
    positives: Vec<u64>,
    /// The highest score.
    first_score: Option<f64>,
}

impl Ranking {
    /// From the parts of one class, images ascending.
    pub(super) fn new<'p>(plan: &Plan, parts: impl Iterator<Item = &'p Part> + Clone) -> Self {
        let mut ranking = Self {
            in_steps: plan.fixes.contains(Fix::Ties),
            hits: Vec::new(),
            far: Vec::new(),
            kinds: Vec::new(),
            outcomes: Vec::new(),
            positives: vec![0; plan.area_ranges.len()],
            first_score: None,
        };
        let (mut first, mut offset) = (None, 0);
        for part in parts.clone() {
            ranking.add_hits(part, offset);
            offset += part.keys.len() as u32;
            first = [first, part.first].into_iter().flatten().min_by_key(|&(key, _)| key);
        }
        ranking.first_score = first.map(|(_, score)| said(score, ranking.in_steps));
        ranking.hits.sort_unstable_by_key(Hit::order);
        ranking.count_far(parts);
        ranking
    }

    fn add_hits(&mut self, part: &Part, offset: u32) {
        for (sum, positives) in self.positives.iter_mut().zip(&part.positives) {
            *sum += positives;
        }
        let outcome = self.hits.len() as u32;
        let in_steps = self.in_steps;
        self.hits.extend(part.hits.iter().map(|hit| Hit {
            place: hit.place + offset,
            outcome: hit.outcome + outcome,
            score: said(hit.score, in_steps),
            ..*hit
        }));
        self.outcomes.extend_from_slice(&part.outcomes);
    }

    /// Looks every far detection up among the ranked hits.
    fn count_far<'p>(&mut self, parts: impl Iterator<Item = &'p Part> + Clone) {
        let known: Vec<Vec<u32>> = parts
            .clone()
            .map(|part| part.kinds.iter().map(|&kind| place(&mut self.kinds, kind)).collect())
            .collect();
        // A step begins with what is far from any ground truth.
        let order = |(key, place)| if self.in_steps { (key, 0) } else { (key, place) };
        let orders: Vec<(u64, u32)> = self.hits.iter().map(|hit| order(hit.order())).collect();
        let Some(&last) = orders.last() else { return };
        let kinds = self.kinds.len();
        self.far = vec![0; orders.len() * kinds];
        let mut offset = 0;
        for (part, known) in parts.zip(known) {
            for ((&key, &kind), place) in part.keys.iter().zip(&part.dts).zip(offset..) {
                let order = order((key, place));
                if kind != HIT && order <= last {
                    let next = orders.partition_point(|&hit| hit < order);
                    self.far[next * kinds + known[kind as usize] as usize] += 1;
                }
            }
            offset += part.keys.len() as u32;
        }
    }

    /// Reads all curves of the class off.
    pub(super) fn curves(&self, plan: &Plan) -> ClassCurves {
        let nothing_to_find = self.positives.iter().all(|&positives| positives == 0);
        let never_absent = nothing_to_find && plan.fixes.contains(Fix::AbsentClasses);
        if nothing_to_find && !never_absent {
            return ClassCurves::default();
        }
        let (t, r, m) = (plan.iou_thrs.len(), plan.rec_thrs.len(), plan.max_dets.len());
        let mut class = ClassCurves::absent(plan);
        let mut curves: Vec<Curve> = Vec::new();
        curves.resize_with(plan.area_ranges.len() * t, Curve::default);
        for (limit, &max_det) in plan.max_dets.iter().enumerate() {
            self.walk(limit, t, &mut curves);
            let first_score = self.first_score.filter(|_| max_det > 0);
            for (i, curve) in curves.iter_mut().enumerate() {
                let (a, t_index) = (i / t, i % t);
                let cell = (a * m + limit) * t + t_index;
                let precision = &mut class.precision[cell * r..(cell + 1) * r];
                let scores = &mut class.scores[cell * r..(cell + 1) * r];
                if self.positives[a] > 0 {
                    class.recall[cell] = curve.recall(self.positives[a]);
                    curve.read_off(
                        self.positives[a],
                        first_score,
                        &plan.rec_thrs,
                        precision,
                        scores,
                    );
                } else if never_absent && self.has_false_positive(a, t_index, limit) {
                    precision.fill(0.0);
                    scores.fill(0.0);
                }
            }
        }
        class
    }

    /// Draws all curves (`[areas, t]`) for one limit.
    fn walk(&self, limit: usize, t: usize, curves: &mut [Curve]) {
        curves.iter_mut().for_each(Curve::clear);
        let kinds = self.kinds.len();
        // `[areas]`: far false positives up to here.
        let mut far_fps = vec![0u64; self.positives.len()];
        let same_step = |a: &Hit, b: &Hit| self.in_steps && a.key == b.key;
        let mut start = 0;
        for step in self.hits.chunk_by(same_step) {
            let far = &self.far[start * kinds..(start + step.len()) * kinds];
            start += step.len();
            for (&count, kind) in far.iter().zip(self.kinds.iter().cycle()) {
                if count > 0 && kind.first_limit <= limit {
                    for (a, fps) in far_fps.iter_mut().enumerate() {
                        *fps += u64::from(count) * u64::from(kind.outside >> a & 1 == 0);
                    }
                }
            }
            for hit in step.iter().filter(|hit| hit.kind.first_limit <= limit) {
                self.count(hit, t, &far_fps, curves);
            }
            if self.in_steps {
                for (i, curve) in curves.iter_mut().enumerate() {
                    curve.end_step(far_fps[i / t]);
                }
            }
        }
    }

    /// Adds one hit to the curves.
    fn count(&self, hit: &Hit, t: usize, far_fps: &[u64], curves: &mut [Curve]) {
        let outcomes = &self.outcomes[hit.outcome as usize * far_fps.len()..][..far_fps.len()];
        let areas = outcomes.iter().zip(far_fps).zip(curves.chunks_mut(t)).enumerate();
        for (a, ((&(found, ignored), &far_fps), curves)) in areas {
            let counted = hit.kind.outside >> a & 1 == 0;
            for (t, curve) in curves.iter_mut().enumerate() {
                if found >> t & 1 == 1 {
                    curve.true_positive(far_fps, hit.score);
                } else if counted && ignored >> t & 1 == 0 {
                    curve.near_fps += 1;
                }
            }
        }
    }

    /// Whether a detection counts against precision in range `a` at threshold `t`, of a class without
    /// ground truth to find.
    fn has_false_positive(&self, a: usize, t: usize, limit: usize) -> bool {
        let counts = |kind: Kind| kind.first_limit <= limit && kind.outside >> a & 1 == 0;
        let areas = self.positives.len();
        let ignored = |hit: &Hit| self.outcomes[hit.outcome as usize * areas + a].1 >> t & 1 == 1;
        self.kinds.iter().any(|&kind| counts(kind))
            || self.hits.iter().any(|hit| counts(hit.kind) && !ignored(hit))
    }
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
    /// True positives before the step at hand.
    before_step: usize,
}

impl Curve {
    fn clear(&mut self) {
        self.precision.clear();
        self.scores.clear();
        self.near_fps = 0;
        self.before_step = 0;
    }

    fn true_positive(&mut self, far_fps: u64, score: f64) {
        let tp = (self.precision.len() + 1) as f64;
        let fp = (self.near_fps + far_fps) as f64;
        // `tp / (fp+tp+np.spacing(1))`, line 385.
        self.precision.push(tp / (fp + tp + f64::EPSILON));
        self.scores.push(score);
    }

    /// Several detections count at once: at none of them is precision what it is without the others.
    fn end_step(&mut self, far_fps: u64) {
        let tp = self.precision.len();
        let fp = (self.near_fps + far_fps) as f64;
        self.precision[self.before_step..].fill(tp as f64 / (fp + tp as f64 + f64::EPSILON));
        self.before_step = tp;
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
        for (i, &thr) in rec_thrs.iter().enumerate() {
            if thr <= 0.0 {
                // Every recall reaches it: that is the first detection, found or not, whose
                // envelope is the whole curve's.
                (precision[i], scores[i]) = (best, first_score);
                continue;
            }
            // No recall is above 1.
            let tp = if thr > 1.0 { usize::MAX } else { true_positives_for(thr, positives as f64) };
            if tp > self.precision.len() {
                return;
            }
            (precision[i], scores[i]) = (self.precision[tp - 1], self.scores[tp - 1]);
        }
    }
}

/// The least number of true positives whose recall, as it is rounded, reaches `thr`; `thr` is
/// above 0 and at most 1.
fn true_positives_for(thr: f64, positives: f64) -> usize {
    let mut tp = (thr * positives).ceil().max(1.0);
    while tp > 1.0 && (tp - 1.0) / positives >= thr {
        tp -= 1.0;
    }
    while tp / positives < thr {
        tp += 1.0;
    }
    tp as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Bbox, Category, GroundTruth};
    use crate::detections::Detection;
    use crate::matching::coco::{CocoParams, match_image};

    fn plan(fixes: &[Fix]) -> Plan {
        let category = Category { id: 1, name: "person".into() };
        let fixes = fixes.iter().copied().collect();
        Plan::new(&[category], &CocoParams { fixes, ..CocoParams::default() }).unwrap()
    }

    /// One image with an object that its one detection finds.
    fn found(image_id: i64, score: f64, plan: &Plan) -> ImageMatches {
        let bbox = Bbox::from([0., 0., 50., 50.]);
        let (is_crowd, ignore) = (false, false);
        let gt = GroundTruth { id: 1, category_id: 1, bbox, area: 2500., is_crowd, ignore };
        match_image(image_id, &[gt], &[Detection { bbox, score, category_id: 1 }], plan)
    }

    fn score_at_recall_0(plan: &Plan, images: &[ImageMatches]) -> f64 {
        let parts = deal(plan, images, Cow::Borrowed).unwrap();
        let curves = Ranking::new(plan, parts.iter().map(|part| &part[0])).curves(plan);
        curves.scores[0]
    }

    /// The two zeros are one score. The first detection says which; where ties are one step, neither.
    #[test]
    fn of_the_two_zeros_the_first_is_said_and_with_the_ties_fix_always_the_same() {
        for (first, second) in [(0.0, -0.0), (-0.0, 0.0)] {
            for (fixes, expected) in [(&[][..], first), (&[Fix::Ties][..], 0.0)] {
                let plan = plan(fixes);
                let images = [found(1, first, &plan), found(2, second, &plan)];
                let score = score_at_recall_0(&plan, &images);
                assert_eq!(score.to_bits(), expected.to_bits(), "{first} {fixes:?}");
                // At a recall that only the last true positive reaches.
                let parts = deal(&plan, &images, Cow::Borrowed).unwrap();
                let ranking = Ranking::new(&plan, parts.iter().map(|part| &part[0]));
                let last = ranking.curves(&plan).scores[100];
                let expected = if fixes.is_empty() { second } else { 0.0 };
                assert_eq!(last.to_bits(), expected.to_bits(), "{first} {fixes:?}");
            }
        }
    }

    #[test]
    fn of_the_two_zeros_on_one_image_the_first_is_said_too() {
        let plan = plan(&[]);
        for (first, second) in [(0.0, -0.0), (-0.0, 0.0)] {
            let mut image = found(1, first, &plan);
            image.scores.push(second);
            image.outside.push(image.outside[0]);
            image.classes[0].dts_end = 2;
            let score = score_at_recall_0(&plan, &[image]);
            assert_eq!(score.to_bits(), f64::to_bits(first));
        }
    }

    #[test]
    fn matches_whose_spans_do_not_fit_are_foreign() {
        let plan = plan(&[]);
        let good = found(1, 0.5, &plan);
        assert!(deal(&plan, std::slice::from_ref(&good), Cow::Borrowed).is_ok());
        let with = |change: fn(&mut ImageMatches)| {
            let mut image = good.clone();
            change(&mut image);
            deal(&plan, &[image], Cow::Borrowed).map(drop)
        };
        for change in [
            |image: &mut ImageMatches| image.classes[0].dts_end = 2,
            |image: &mut ImageMatches| image.classes[0].dts_end = 0,
            |image: &mut ImageMatches| image.classes[0].hits_end = 0,
            |image: &mut ImageMatches| image.classes[0].hits_end = 2,
            |image: &mut ImageMatches| image.classes[0].category_id = 9,
            |image: &mut ImageMatches| image.hit_dts[0] = 1,
            |image: &mut ImageMatches| image.classes.clear(),
            |image: &mut ImageMatches| {
                // The same detection twice.
                image.hit_dts.push(0);
                image.hit_found.extend_from_within(..);
                image.hit_ignored.extend_from_within(..);
                image.classes[0].hits_end = 2;
            },
        ] {
            assert_eq!(with(change), Err(MergeError::Foreign(1)));
        }
    }

    #[test]
    fn a_recall_is_reached_where_the_rounded_quotient_reaches_it() {
        for positives in 1..=400u32 {
            for i in 1..=100u32 {
                for thr in [f64::from(i) * 0.01, f64::from(i) / f64::from(positives)] {
                    let reached = |&tp: &u32| f64::from(tp) / f64::from(positives) >= thr;
                    let Some(first) = (1..=positives).find(reached) else { continue };
                    let tp = true_positives_for(thr, f64::from(positives));
                    assert_eq!(tp, first as usize, "{thr} of {positives}");
                }
            }
        }
    }
}
