//! What the gate says: the verdict, and everything that it rests on.
//!
//! A rule makes demands, and each demand is that a statistic S is not negative: `max_drop` that
//! candidate - baseline + max_drop is not, and so on ([`Demand::statistic`]).
//!
//! Deliberately absent: how a verdict is reached (`judge`), and words for people (`report`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Snapshot;
use super::statistics::Interval;
use crate::config::{self, Correction, Judge, Rule, Tier};

/// What the gate says of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every blocking rule holds.
    Passed,
    /// At least one is broken.
    Regressed,
    /// None is broken, and of at least one the data cannot tell.
    Inconclusive,
    /// There is no baseline, or it was measured on other data or with other settings.
    Incomparable,
}

/// What became of one judged metric, or of one demand on it. Of several demands the worst stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The rule holds.
    Ok,
    /// A rule for many metrics met one that neither side has: there is no ground truth for it.
    Absent,
    /// The data cannot tell.
    Inconclusive,
    /// It did not improve as it must.
    NotImproved,
    /// It is below `min`.
    BelowMin,
    /// It fell by more than it may.
    Dropped,
    /// Undefined or not finite, on either side.
    Missing,
}

impl Finding {
    /// The rule does not hold.
    pub fn is_broken(self) -> bool {
        self >= Self::NotImproved
    }
}

/// What a rule demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the keys of `config::Rule`")]
pub enum Demand {
    MaxDrop,
    MaxRelativeDrop,
    MustImproveBy,
    Min,
}

impl Demand {
    /// What must not be negative, of the baseline's and the candidate's value.
    pub(super) fn statistic(self, limit: f64) -> impl Fn(f64, f64) -> f64 {
        move |baseline, candidate| match self {
            Self::MaxDrop => candidate - baseline + limit,
            Self::MaxRelativeDrop => candidate - (1.0 - limit) * baseline,
            Self::MustImproveBy => candidate - baseline - limit,
            Self::Min => candidate - limit,
        }
    }

    pub(super) fn broken(self) -> Finding {
        match self {
            Self::MaxDrop | Self::MaxRelativeDrop => Finding::Dropped,
            Self::MustImproveBy => Finding::NotImproved,
            Self::Min => Finding::BelowMin,
        }
    }

    pub(super) fn needs_baseline(self) -> bool {
        self != Self::Min
    }

    pub(super) fn of(rule: &Rule) -> impl Iterator<Item = (Self, f64)> {
        let limits = [
            (Self::MaxDrop, rule.max_drop),
            (Self::MaxRelativeDrop, rule.max_relative_drop),
            (Self::MustImproveBy, rule.must_improve_by),
            (Self::Min, rule.min),
        ];
        limits.into_iter().filter_map(|(demand, limit)| Some((demand, limit?)))
    }
}

/// One demand of a rule on one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
// Of a confident test all is there, or nothing.
#[schemars(extend("dependentRequired" = {
    "standard_error": ["p_pass"],
    "p_pass": ["p_regress"],
    "p_regress": ["p_regress_corrected"],
    "p_regress_corrected": ["corrected_for"],
    "corrected_for": ["margin_at_least"],
    "margin_at_least": ["margin_at_most"],
    "margin_at_most": ["smallest_detectable"],
    "smallest_detectable": ["images_needed"],
    "images_needed": ["standard_error"],
}))]
pub struct Test {
    /// What is demanded.
    pub demand: Demand,
    /// How much of it.
    pub limit: f64,
    /// What must not be negative, on these images.
    pub margin: f64,
    /// What became of it.
    pub finding: Finding,
    /// The test that it rests on, where it was judged confidently.
    #[serde(flatten)]
    pub confident: Option<ConfidentTest>,
}

/// Two one-sided tests of a demand, and what it would take to tell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfidentTest {
    /// Of the margin: the replicates' standard deviation.
    pub standard_error: f64,
    /// Of the hypothesis that the demand is not met; small where it is met.
    pub p_pass: f64,
    /// Of the hypothesis that it is met; small where it is not.
    pub p_regress: f64,
    /// The same, corrected for the number of tests.
    pub p_regress_corrected: f64,
    /// How many tests that is: those of the rules of this tier.
    pub corrected_for: usize,
    /// With the policy's confidence the margin is at least this: above 0 the demand is met.
    pub margin_at_least: f64,
    /// With the policy's confidence the margin is at most this: below 0 it is not met, but for the
    /// correction.
    pub margin_at_most: f64,
    /// The least distance from the limit that as many images would show, four times out of five.
    pub smallest_detectable: f64,
    /// About how many images of the whole set, or groups of them, would settle it, were the change as it
    /// looks; `None` where it is settled, or nothing would.
    pub images_needed: Option<u64>,
}

/// One metric, before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The metric's flat name.
    pub metric: String,
    /// The baseline's value.
    pub baseline: Option<f64>,
    /// The candidate's value.
    pub candidate: Option<f64>,
    /// Candidate minus baseline, where both are defined.
    pub change: Option<f64>,
    /// Of the change, at the policy's confidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// The rule, where the policy has one for this metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// The worst of the tests; `None` where there is no rule, or nothing to compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
    /// What the rule demands, one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<Test>,
}

impl Comparison {
    fn has(&self, tier: Tier, is: impl Fn(Finding) -> bool) -> bool {
        self.rule.is_some_and(|rule| rule.tier == tier) && self.finding.is_some_and(is)
    }

    /// How far the worst demand is from being met; what is undefined is furthest.
    fn shortfall(&self) -> f64 {
        let worst = self.tests.iter().map(|test| -test.margin).fold(f64::NEG_INFINITY, f64::max);
        if self.finding == Some(Finding::Missing) { f64::INFINITY } else { worst }
    }
}

/// The verdict and everything it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why the two runs cannot be compared; empty unless the verdict is `Incomparable`.
    pub reasons: Vec<String>,
    /// BLAKE3 of the baseline ([`Snapshot::digest`]), where it is a snapshot.
    #[serde(rename = "baseline_blake3", skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// What a reader should know beside it: another engine, no intervals.
    pub notes: Vec<String>,
    /// How it was judged.
    pub method: Method,
    /// Every metric of the candidate: those over all images in name order, then those of each slice.
    pub comparisons: Vec<Comparison>,
    /// What is read from a report gives no permission.
    #[serde(skip)]
    pub(super) passed: Option<Passed>,
}

/// How the verdict was reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Method {
    /// By the point or confidently.
    pub judge: Judge,
    /// Of the two-sided intervals of changes, and of each one-sided test.
    pub confidence: f64,
    /// How intervals were made from the replicates.
    pub interval: config::Interval,
    /// Changes up to this are none.
    pub numeric_noise: f64,
    /// Replicates of the bootstrap; 0 where there are no intervals.
    pub replicates: usize,
    /// Its seed.
    pub seed: u64,
    /// What was resampled: so many images, or groups of images.
    pub units: usize,
    /// Groups of images, such as videos, were resampled whole.
    pub grouped: bool,
    /// The correction of the p-values of regressions.
    pub correction: Correction,
    /// How many demands were judged.
    pub tests: usize,
}

impl Judgement {
    /// The permission to register, if the gate passed.
    pub fn passed(&self) -> Option<&Passed> {
        self.passed.as_ref()
    }

    /// The metrics that a rule judged.
    pub fn judged(&self) -> impl Iterator<Item = &Comparison> {
        let judged = |found: Finding| found != Finding::Absent;
        self.comparisons.iter().filter(move |c| c.finding.is_some_and(judged))
    }

    /// The blocking rules that are broken, the worst first.
    pub fn broken(&self) -> Vec<&Comparison> {
        self.worst_first(Tier::Block, Finding::is_broken)
    }

    /// The blocking rules of which the data cannot tell, the nearest to broken first.
    pub fn undecided(&self) -> Vec<&Comparison> {
        self.worst_first(Tier::Block, |finding| finding == Finding::Inconclusive)
    }

    /// The rules that only warn, and are broken or undecided.
    pub fn warnings(&self) -> Vec<&Comparison> {
        self.worst_first(Tier::Warn, |finding| finding >= Finding::Inconclusive)
    }

    fn worst_first(&self, tier: Tier, is: impl Fn(Finding) -> bool) -> Vec<&Comparison> {
        let mut found: Vec<_> = self.comparisons.iter().filter(|c| c.has(tier, &is)).collect();
        found.sort_by(|a, b| b.shortfall().total_cmp(&a.shortfall()));
        found
    }
}

/// Proof that a candidate passed the gate. Only [`judge`](super::judge()) makes one:
///
/// ```compile_fail,E0451
/// let forge = |candidate: detgate::gate::Snapshot| detgate::gate::Passed { candidate };
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Passed {
    pub(super) candidate: Snapshot,
}

impl Passed {
    /// The run that passed.
    pub fn candidate(&self) -> &Snapshot {
        &self.candidate
    }
}
