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
//! whose recall is at least `r` (lines 398-410), detection by detection, without regard to ties. It
//! is the precision that AP averages. What cutting at `score_thr` gives in fact is beside it.
//!
//! Deliberately absent: one threshold for all classes, and any advice on which point to choose.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::outcomes::{ImageOutcomes, Outcome};
use super::tally::Tally;
use crate::dataset::Category;
use crate::matching::coco::Plan;
use crate::matching::descending_key;

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
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
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
    let mut classes: Vec<Ranked> = plan.categories().iter().map(|_| Ranked::default()).collect();
    for part in images.iter().flat_map(ImageOutcomes::classes) {
        let class = &mut classes[part.class];
        class.positives += part.positives;
        class.dts.extend_from_slice(part.dts);
    }
    let classes = plan.categories().par_iter().zip(classes);
    classes.map(|(category, ranked)| ranked.points(category, recalls)).collect()
}

/// One class over all images.
#[derive(Default)]
struct Ranked {
    positives: u64,
    /// Score and outcome: by image, then rank, until they are sorted by descending score.
    dts: Vec<(f64, Outcome)>,
}

/// The counts above a threshold.
#[derive(Clone, Copy)]
struct Step {
    score: f64,
    tp: u64,
    fp: u64,
}

impl Ranked {
    fn points(mut self, category: &Category, recalls: &[f64]) -> ClassPoints {
        // Stable: ties rank as in pycocotools.
        self.dts.sort_by_key(|&(score, _)| descending_key(score));
        let (steps, envelope) = (self.steps(), self.envelope());
        let at = |&recall: &f64| {
            let reached = self.reach(recall, &steps, &envelope);
            PrecisionAtRecall { recall, reached }
        };
        ClassPoints {
            category_id: category.id,
            name: category.name.clone(),
            ground_truths: self.positives,
            best_f1: (self.positives > 0).then(|| self.best_f1(&steps)),
            precision_at_recall: recalls.iter().map(at).collect(),
        }
    }

    /// A step per distinct score, from high to low; counts include those of the score itself.
    fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        let (mut tp, mut fp) = (0, 0);
        for &(score, outcome) in &self.dts {
            match outcome {
                Outcome::TruePositive => tp += 1,
                Outcome::FalsePositive => fp += 1,
                Outcome::Ignored => continue,
            }
            match steps.last_mut() {
                Some(last) if last.score == score => (last.tp, last.fp) = (tp, fp),
                _ => steps.push(Step { score, tp, fp }),
            }
        }
        steps
    }

    /// F1 is 2 tp / (tp + fp + positives); compared as fractions, so that equals are equal.
    fn best_f1(&self, steps: &[Step]) -> OperatingPoint {
        let fraction = |step: &Step| {
            (u128::from(step.tp), u128::from(step.tp + step.fp) + u128::from(self.positives))
        };
        let mut best: Option<&Step> = None;
        let (mut best_tp, mut best_whole) = (0, 1);
        for step in steps {
            let (tp, whole) = fraction(step);
            if tp * best_whole > best_tp * whole {
                (best, best_tp, best_whole) = (Some(step), tp, whole);
            }
        }
        let (tp, fp) = best.map_or((0, 0), |step| (step.tp, step.fp));
        OperatingPoint {
            score_thr: best.map(|step| step.score),
            tally: Tally::of(tp, fp, self.positives),
        }
    }

    /// Score and interpolated precision at each true positive.
    fn envelope(&self) -> Vec<(f64, f64)> {
        let mut points = Vec::new();
        let mut fp = 0u64;
        for &(score, outcome) in &self.dts {
            match outcome {
                Outcome::TruePositive => {
                    let tp = (points.len() + 1) as f64;
                    points.push((score, tp / (fp as f64 + tp + f64::EPSILON)));
                }
                Outcome::FalsePositive => fp += 1,
                Outcome::Ignored => {}
            }
        }
        let mut best: f64 = 0.0;
        for (_, precision) in points.iter_mut().rev() {
            best = best.max(*precision);
            *precision = best;
        }
        points
    }

    fn reach(&self, recall: f64, steps: &[Step], envelope: &[(f64, f64)]) -> Option<ReachedRecall> {
        if self.positives == 0 {
            return None;
        }
        let positives = self.positives as f64;
        let first = (1..=envelope.len()).find(|&tp| tp as f64 / positives >= recall)?;
        let (score_thr, interpolated_precision) = envelope[first - 1];
        let step = steps.partition_point(|step| step.score > score_thr);
        let Step { tp, fp, .. } = *steps.get(step)?;
        let tally = Tally::of(tp, fp, self.positives);
        Some(ReachedRecall { interpolated_precision, score_thr, tally })
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome::{FalsePositive as FP, Ignored, TruePositive as TP};
    use super::*;

    fn points(positives: u64, dts: &[(f64, Outcome)], recalls: &[f64]) -> ClassPoints {
        let category = Category { id: 3, name: "car".into() };
        Ranked { positives, dts: dts.to_vec() }.points(&category, recalls)
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
