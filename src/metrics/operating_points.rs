//! At which score to cut: the threshold of best F1, and the precision at a given recall, per class.
//!
//! Counts are COCO's: matching of pycocotools at one IoU threshold, over the area range `all`, at
//! the largest detection limit, where a detection that is ignored counts neither way. A threshold
//! keeps the detections with `score >= score_thr`; because matching goes by descending score, the
//! counts above a threshold are those that an evaluation of the kept detections alone would give.
//! Detections of equal score are one step: no threshold keeps one and drops the other.
//!
//! **Best F1** is exact and per class: the argmax over all distinct scores, the thresholds of
//! scikit-learn's `precision_recall_curve`, of equal F1 the highest threshold. Ultralytics
//! (`ap_per_class`) looks at 1000 interpolated thresholds and takes one for all classes, where the
//! smoothed mean of their F1 is best; its numbers are near these, not equal.
//!
//! **Precision at recall `r`** is pycocotools' `precision` array at recall threshold `r`, to the
//! last bit: the highest precision (`tp / (fp + tp + 2^-52)`, line 385) at any point of the curve
//! whose recall is at least `r` (lines 398-410), detection by detection, or, with [`Fix::Ties`], score by score. It
//! is the precision that AP averages. What cutting at `score_thr` gives in fact is beside it.
//!
//! Deliberately absent: one threshold for all classes, and any advice on which point to choose.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::outcomes::{ImageOutcomes, Outcome};
use super::tally::Tally;
use crate::dataset::Category;
use crate::matching::coco::Plan;
use crate::matching::{Fix, descending_key};

/// One class's operating points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassPoints {
    /// Its id.
    pub category_id: i64,
    /// Its name.
    pub name: String,
    /// Ground truths that are to be found.
    pub ground_truths: u64,
    /// `None` where there is no ground truth.
    pub best_f1: Option<OperatingPoint>,
    /// One for each recall that was asked for, in that order.
    pub precision_at_recall: Vec<PrecisionAtRecall>,
}

/// The counts at a score threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OperatingPoint {
    /// Keep what scores at least this; `None` where no threshold finds anything, and dropping every
    /// detection is as good as it gets.
    pub score_thr: Option<f64>,
    /// What is then counted.
    #[serde(flatten)]
    pub tally: Tally,
}

/// Precision where a recall is reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PrecisionAtRecall {
    /// The recall that was asked for.
    pub recall: f64,
    /// `None` where it is not reached, or there is no ground truth.
    pub reached: Option<ReachedRecall>,
}

/// Where a recall is reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReachedRecall {
    /// Interpolated precision, as in pycocotools.
    pub interpolated_precision: f64,
    /// The highest threshold that reaches the recall, pycocotools' `scores` there.
    pub score_thr: f64,
    /// What is counted at that threshold.
    #[serde(flatten)]
    pub tally: Tally,
}

/// The operating points of every class of the plan, in its order. `images` ascend by id.
pub(super) fn accumulate(
    plan: &Plan,
    images: &[ImageOutcomes],
    recalls: &[f64],
) -> Vec<ClassPoints> {
    let mut classes: Vec<Outcomes> =
        plan.categories().iter().map(|_| Outcomes::default()).collect();
    for part in images.iter().flat_map(ImageOutcomes::classes) {
        let class = &mut classes[part.class];
        class.positives += part.positives;
        class.dts.extend_from_slice(part.dts);
    }
    let classes = plan.categories().par_iter().zip(classes);
    let in_steps = plan.fixes.contains(Fix::Ties);
    classes.map(|(category, outcomes)| outcomes.points(category, recalls, in_steps)).collect()
}

/// One class over all images.
#[derive(Default)]
struct Outcomes {
    positives: u64,
    /// Score and outcome, by image, then rank: the order in which equal scores rank.
    dts: Vec<(f64, Outcome)>,
}

impl Outcomes {
    fn points(&self, category: &Category, recalls: &[f64], in_steps: bool) -> ClassPoints {
        let curve = Curve::new(self.positives, &self.dts, in_steps);
        let at = |&recall: &f64| PrecisionAtRecall { recall, reached: curve.reach(recall) };
        ClassPoints {
            category_id: category.id,
            name: category.name.clone(),
            ground_truths: self.positives,
            best_f1: (self.positives > 0).then(|| curve.best_f1()),
            precision_at_recall: recalls.iter().map(at).collect(),
        }
    }
}

/// A class's curve, by its true positives, of which there are few. Nothing is lost: F1 is best, and
/// a recall is reached, at the score of a true positive.
struct Curve {
    positives: u64,
    /// Detections of one score are one step: [`Fix::Ties`].
    in_steps: bool,
    /// By rank.
    found: Vec<Found>,
}

/// A true positive.
struct Found {
    score: f64,
    key: u64,
    /// False positives of higher rank.
    fp_ranked: u64,
    /// False positives of at least its score, if it is the last true positive of that score.
    fp_kept: u64,
}

impl Curve {
    /// Ranks false positives among the true ones, which takes less than sorting all of them.
    fn new(positives: u64, dts: &[(f64, Outcome)], in_steps: bool) -> Self {
        let of = |wanted| {
            let ranked = dts.iter().enumerate().filter(move |(_, (_, outcome))| *outcome == wanted);
            ranked.map(|(place, (score, _))| (descending_key(*score), place, *score))
        };
        let mut found: Vec<_> = of(Outcome::TruePositive).collect();
        found.sort_unstable_by_key(|&(key, place, _)| (key, place));
        let (mut before, mut tied) = (vec![0; found.len() + 1], vec![0; found.len()]);
        for (key, place, _) in of(Outcome::FalsePositive) {
            let rank = found.partition_point(|&(k, p, _)| (k, p) < (key, place));
            before[rank] += 1;
            if rank > 0 && found[rank - 1].0 == key {
                tied[rank - 1] += 1;
            }
        }
        let mut fp_ranked = 0;
        let columns = found.into_iter().zip(before).zip(tied);
        let found = columns.map(|(((key, _, score), before), tied)| {
            fp_ranked += before;
            Found { score, key, fp_ranked, fp_kept: fp_ranked + tied }
        });
        Self { positives, in_steps, found: found.collect() }
    }

    /// What is counted at the score of the true positive of this rank.
    fn tally(&self, rank: usize) -> Tally {
        let (tp, fp) = self.kept(self.found[rank].key);
        Tally::of(tp, fp, self.positives)
    }

    /// True and false positives of at least the score of a true positive.
    fn kept(&self, key: u64) -> (u64, u64) {
        let tp = self.found.partition_point(|found| found.key <= key);
        (tp as u64, self.found[tp - 1].fp_kept)
    }

    /// F1 is 2 tp / (tp + fp + positives); compared as fractions, so that equals are equal. A true
    /// positive that shares its score with a later one has fewer to show and the same threshold, but
    /// may lack false positives of that score: only the last counts.
    fn best_f1(&self) -> OperatingPoint {
        let mut best = None;
        let (mut best_tp, mut best_whole) = (0, 1);
        for (rank, found) in self.found.iter().enumerate() {
            if self.found.get(rank + 1).is_some_and(|next| next.key == found.key) {
                continue;
            }
            let tp = rank as u128 + 1;
            let whole = tp + u128::from(found.fp_kept) + u128::from(self.positives);
            if tp * best_whole > best_tp * whole {
                (best, best_tp, best_whole) = (Some(rank), tp, whole);
            }
        }
        OperatingPoint {
            score_thr: best.map(|rank| self.found[rank].score),
            tally: best.map_or(Tally::of(0, 0, self.positives), |rank| self.tally(rank)),
        }
    }

    fn reach(&self, recall: f64) -> Option<ReachedRecall> {
        if self.positives == 0 {
            return None;
        }
        let positives = self.positives as f64;
        let rank = (0..self.found.len()).find(|&i| (i + 1) as f64 / positives >= recall)?;
        let precision = |(i, found): (usize, &Found)| {
            let (tp, fp) = match self.in_steps {
                false => (i as u64 + 1, found.fp_ranked),
                true => self.kept(found.key),
            };
            tp as f64 / (fp as f64 + tp as f64 + f64::EPSILON)
        };
        Some(ReachedRecall {
            interpolated_precision: self
                .found
                .iter()
                .enumerate()
                .skip(rank)
                .map(precision)
                .fold(0.0, f64::max),
            score_thr: self.found[rank].score,
            tally: self.tally(rank),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome::{FalsePositive as FP, Ignored, TruePositive as TP};
    use super::*;

    fn points(positives: u64, dts: &[(f64, Outcome)], recalls: &[f64]) -> ClassPoints {
        let category = Category { id: 3, name: "car".into() };
        Outcomes { positives, dts: dts.to_vec() }.points(&category, recalls, false)
    }

    fn best(positives: u64, dts: &[(f64, Outcome)]) -> (Option<f64>, u64, u64, u64) {
        let OperatingPoint { score_thr, tally } = points(positives, dts, &[]).best_f1.unwrap();
        (score_thr, tally.tp, tally.fp, tally.fn_)
    }

    #[test]
    fn the_best_threshold_takes_the_true_positives_that_are_worth_their_false_ones() {
        // F1: 2/5, 2/6, 4/7, 4/8, 4/9 and 6/10.
        let dts = [(0.9, TP), (0.8, FP), (0.7, TP), (0.6, FP), (0.5, FP), (0.4, TP)];
        assert_eq!(best(4, &dts), (Some(0.4), 3, 3, 1));
        assert_eq!(best(4, &dts[..5]), (Some(0.7), 2, 1, 2));
    }

    #[test]
    fn of_equal_f1_the_highest_threshold() {
        // 2 / 4 with one of one right, and 4 / 8 with two of five right.
        let dts = [(0.9, TP), (0.8, FP), (0.7, FP), (0.6, FP), (0.5, TP)];
        assert_eq!(best(3, &dts), (Some(0.9), 1, 0, 2));
    }

    #[test]
    fn equal_scores_cannot_be_split() {
        let dts = [(0.9, TP), (0.9, FP), (0.9, FP), (0.8, TP)];
        assert_eq!(best(2, &dts), (Some(0.8), 2, 2, 0));
        assert_eq!(best(2, &dts[..3]), (Some(0.9), 1, 2, 1));
    }

    #[test]
    fn a_true_positive_alone_does_not_stand_for_its_score() {
        let mut dts = vec![(0.9, TP), (0.9, TP)];
        dts.extend([(0.9, FP); 10]);
        dts.push((0.8, TP));
        // 4 / 16 at 0.9, 6 / 17 at 0.8; one of the two at 0.9 without its company would have 2 / 5.
        assert_eq!(best(4, &dts), (Some(0.8), 3, 10, 1));
    }

    #[test]
    fn ignored_detections_count_neither_way() {
        let dts = [(0.9, Ignored), (0.8, TP), (0.7, Ignored)];
        assert_eq!(best(1, &dts), (Some(0.8), 1, 0, 0));
    }

    #[test]
    fn without_true_positives_no_threshold_is_best_and_without_ground_truth_there_is_none() {
        assert_eq!(best(2, &[(0.9, FP)]), (None, 0, 0, 2));
        assert_eq!(points(2, &[], &[]).best_f1.unwrap().tally.f1, Some(0.0));
        assert_eq!(points(0, &[(0.9, FP)], &[0.5]).best_f1, None);
        assert_eq!(points(0, &[(0.9, FP)], &[0.5]).precision_at_recall[0].reached, None);
        // Damaged matches; 1 of 0 is no recall.
        assert_eq!(points(0, &[(0.9, TP)], &[0.5]).precision_at_recall[0].reached, None);
    }

    #[test]
    fn precision_at_recall_is_interpolated_and_the_counts_are_not() {
        // Precision 1/1, 1/2, 2/3, 3/4: at recall 0.5 the fourth detection is better than the third.
        let dts = [(0.9, TP), (0.8, FP), (0.7, TP), (0.6, TP)];
        let recalls = [0.25, 0.5, 0.75, 0.76];
        let at = points(4, &dts, &recalls).precision_at_recall;
        let reached: Vec<_> = at.iter().map(|at| at.reached.map(|r| r.score_thr)).collect();
        assert_eq!(reached, [Some(0.9), Some(0.7), Some(0.6), None]);
        let half = at[1].reached.unwrap();
        assert_eq!(half.interpolated_precision, 3.0 / 4.0);
        assert_eq!(half.tally, Tally::new(2, 1, 2));
        assert_eq!(at[3].recall, 0.76);
    }

    #[test]
    fn the_counts_at_a_recall_include_all_of_the_score() {
        let dts = [(0.9, TP), (0.9, FP), (0.8, FP)];
        let reached = points(1, &dts, &[1.0]).precision_at_recall[0].reached.unwrap();
        assert_eq!(reached.interpolated_precision, 1.0 / (1.0 + f64::EPSILON));
        assert_eq!(reached.tally, Tally::new(1, 1, 0));
    }
}
