//! Counts of true positives, false positives and misses, with ratios that may be undefined.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Counts and what follows from them. Unlike in [`super::practical::Counts`], which keeps the
/// notebook's 0, a ratio of nothing is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Tally {
    /// Detections that found a ground truth.
    pub tp: u64,
    /// Detections that found none.
    pub fp: u64,
    /// Ground truths that were not found.
    #[serde(rename = "fn")]
    pub fn_: u64,
    /// tp / (tp + fp); `None` without detections.
    pub precision: Option<f64>,
    /// tp / (tp + fn); `None` without ground truth.
    pub recall: Option<f64>,
    /// 2 tp / (2 tp + fp + fn), the harmonic mean of the two; `None` without both.
    pub f1: Option<f64>,
}

impl Tally {
    /// With the ratios that follow from the counts.
    pub fn new(tp: u64, fp: u64, fn_: u64) -> Self {
        Self {
            tp,
            fp,
            fn_,
            precision: ratio(tp, tp + fp),
            recall: ratio(tp, tp + fn_),
            f1: ratio(2 * tp, 2 * tp + fp + fn_),
        }
    }

    /// Of the true and false positives among so many ground truths.
    pub(super) fn of(tp: u64, fp: u64, ground_truths: u64) -> Self {
        Self::new(tp, fp, ground_truths.saturating_sub(tp))
    }

    /// False positives and misses.
    pub fn errors(&self) -> u64 {
        self.fp + self.fn_
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_follow_from_the_counts() {
        let tally = Tally::new(3, 1, 2);
        assert_eq!((tally.precision, tally.recall), (Some(0.75), Some(0.6)));
        assert_eq!((tally.f1, tally.errors()), (Some(6.0 / 9.0), 3));
    }

    #[test]
    fn a_ratio_of_nothing_is_undefined() {
        let ratios = |tp, fp, fn_| {
            let tally = Tally::new(tp, fp, fn_);
            (tally.precision, tally.recall, tally.f1)
        };
        assert_eq!(ratios(0, 0, 0), (None, None, None));
        assert_eq!(ratios(0, 2, 0), (Some(0.0), None, Some(0.0)));
        assert_eq!(ratios(0, 0, 2), (None, Some(0.0), Some(0.0)));
    }
}
