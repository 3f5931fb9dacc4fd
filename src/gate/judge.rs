//! The verdict.

use serde::Serialize;

use super::{GateError, MetricTable, Policy, Snapshot};
use crate::config::Rule;

/// Room for the rounding of decimal margins: 0.50 - 0.49 exceeds 0.01 by 9e-18.
const ROUNDING: f64 = 1e-9;

/// What the gate says of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every rule holds.
    Passed,
    /// At least one rule is broken.
    Regressed,
    /// The data cannot tell regression from noise.
    Inconclusive,
    /// There is no baseline, or it was measured on other data or with other settings.
    Incomparable,
}

/// What became of one judged metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The rule holds.
    Ok,
    /// It fell by more than `max_drop`.
    Dropped,
    /// It is below `min`.
    BelowMin,
    /// Undefined or not finite, on either side.
    Missing,
}

/// One metric, before and after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The metric's flat name.
    pub metric: String,
    /// The baseline's value.
    pub baseline: Option<f64>,
    /// The candidate's value.
    pub candidate: Option<f64>,
    /// Candidate minus baseline, where both are defined.
    pub change: Option<f64>,
    /// The rule, where the policy has one for this metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// The rule's outcome; `None` where there is no rule, or nothing to compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
}

impl Comparison {
    fn is_broken(&self) -> bool {
        self.finding.is_some_and(|finding| finding != Finding::Ok)
    }
}

/// The verdict and everything it rests on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why the two runs cannot be compared; empty unless the verdict is `Incomparable`.
    pub reasons: Vec<String>,
    /// Every metric of the candidate, in name order.
    pub comparisons: Vec<Comparison>,
    #[serde(skip)]
    candidate: Snapshot,
}

impl Judgement {
    /// The permission to register, if the gate passed.
    pub fn passed(&self) -> Option<Passed> {
        (self.verdict == Verdict::Passed).then(|| Passed { candidate: self.candidate.clone() })
    }

    /// The rules that are broken.
    pub fn broken(&self) -> impl Iterator<Item = &Comparison> {
        self.comparisons.iter().filter(|comparison| comparison.is_broken())
    }
}

/// Proof that a candidate passed the gate. Only [`Judgement::passed`] makes one:
///
/// ```compile_fail,E0451
/// let forge = |candidate: detgate::gate::Snapshot| detgate::gate::Passed { candidate };
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Passed {
    candidate: Snapshot,
}

impl Passed {
    /// The run that passed.
    pub fn candidate(&self) -> &Snapshot {
        &self.candidate
    }
}

/// Judges `candidate` against `baseline` by the point change of each metric that has a rule.
///
/// # Errors
/// [`GateError::RuleWithoutMetric`] when a rule matches no metric of the candidate or the baseline:
/// a rule that cannot act is a mistake, never a pass.
pub fn judge(
    candidate: &Snapshot,
    baseline: Option<&Snapshot>,
    policy: &Policy,
) -> Result<Judgement, GateError> {
    let before = baseline.map(|b| &b.metrics);
    let comparisons = compare(&candidate.metrics, before, policy)?;
    let reasons = incomparable(candidate, baseline);
    let broken = comparisons.iter().any(Comparison::is_broken);
    let verdict = match (reasons.is_empty(), broken) {
        (false, _) => Verdict::Incomparable,
        (true, true) => Verdict::Regressed,
        (true, false) => Verdict::Passed,
    };
    Ok(Judgement { verdict, reasons, comparisons, candidate: candidate.clone() })
}

fn incomparable(candidate: &Snapshot, baseline: Option<&Snapshot>) -> Vec<String> {
    match baseline {
        None => vec!["there is no baseline yet".to_owned()],
        Some(baseline) => baseline.fingerprint.differences(&candidate.fingerprint),
    }
}

/// All metrics of either side, so that one which vanished from the candidate is judged too.
fn compare(
    candidate: &MetricTable,
    baseline: Option<&MetricTable>,
    policy: &Policy,
) -> Result<Vec<Comparison>, GateError> {
    let mut either = candidate.clone();
    for name in baseline.into_iter().flat_map(MetricTable::keys) {
        either.entry(name.clone()).or_insert(None);
    }
    let rules: std::collections::BTreeMap<&str, Rule> =
        policy.rules_for(&either)?.into_iter().collect();
    let defined = |value: Option<f64>| value.filter(|v| v.is_finite());
    Ok(either
        .iter()
        .map(|(metric, &value)| {
            let after = defined(value);
            let before = baseline.and_then(|table| defined(table.get(metric).copied().flatten()));
            let rule = rules.get(metric.as_str()).copied();
            Comparison {
                metric: metric.clone(),
                baseline: before,
                candidate: after,
                change: after.zip(before).map(|(after, before)| after - before),
                rule,
                finding: rule.and_then(|rule| apply(rule, before, after, baseline.is_some())),
            }
        })
        .collect())
}

/// `compared` is false when there is no baseline at all: then only floors can be judged.
fn apply(rule: Rule, before: Option<f64>, after: Option<f64>, compared: bool) -> Option<Finding> {
    let Some(after) = after else { return Some(Finding::Missing) };
    if rule.min.is_some_and(|min| after < min - ROUNDING) {
        return Some(Finding::BelowMin);
    }
    match (rule.max_drop, before) {
        (Some(_), _) if !compared => rule.min.map(|_| Finding::Ok),
        (Some(max_drop), Some(before)) if before - after > max_drop + ROUNDING => {
            Some(Finding::Dropped)
        }
        (Some(_), None) => Some(Finding::Missing),
        _ => Some(Finding::Ok),
    }
}
