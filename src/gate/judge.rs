//! The verdict: every rule applied to every metric that it matches.
//!
//! A rule makes demands, and each demand is that a statistic S is not negative: `max_drop` that
//! candidate - baseline + max_drop is not, and so on ([`Demand::statistic`]). Judged by the **point**,
//! S on these images decides. Judged **confidently**, a one-sided test decides: passed where S is
//! positive beyond chance, regressed where it is negative beyond chance, inconclusive between.
//!
//! Passing everything is an intersection-union test (Berger, Technometrics 24, 1982): each demand is
//! tested at the full level, and the chance that a bad candidate passes is no higher than that. That
//! *some* rule is broken is claimed of many at once, so these p-values are corrected.
//!
//! Deliberately absent: how intervals and p-values are computed ([`super::statistics`]), and words
//! for people (`report`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::evidence::{Evidence, Part};
use super::resampled::Resampled;
use super::statistics::{self, Distribution, Interval};
use super::{GateError, Policy, Snapshot};
use crate::config::{Correction, GateConfig, Judge, Rule, Tier};

/// Room for the rounding of decimal margins: 0.50 - 0.49 exceeds 0.01 by 9e-18.
const ROUNDING: f64 = 1e-9;

/// With this probability a real drop of the smallest detectable size is found.
const POWER: f64 = 0.8;

/// What the gate says of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
    fn statistic(self, limit: f64) -> impl Fn(f64, f64) -> f64 {
        move |baseline, candidate| match self {
            Self::MaxDrop => candidate - baseline + limit,
            Self::MaxRelativeDrop => candidate - (1.0 - limit) * baseline,
            Self::MustImproveBy => candidate - baseline - limit,
            Self::Min => candidate - limit,
        }
    }

    fn broken(self) -> Finding {
        match self {
            Self::MaxDrop | Self::MaxRelativeDrop => Finding::Dropped,
            Self::MustImproveBy => Finding::NotImproved,
            Self::Min => Finding::BelowMin,
        }
    }

    fn needs_baseline(self) -> bool {
        self != Self::Min
    }

    fn of(rule: &Rule) -> impl Iterator<Item = (Self, f64)> {
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
#[derive(Debug, Clone, PartialEq, Serialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ConfidentTest {
    /// Of the hypothesis that the demand is not met; small where it is met.
    pub p_pass: f64,
    /// Of the hypothesis that it is met; small where it is not.
    pub p_regress: f64,
    /// The same, corrected for the number of tests.
    pub p_regress_corrected: f64,
    /// The least change that as many images would show, four times out of five.
    pub smallest_detectable: f64,
    /// About how many images, or groups of them, would settle it, were the change as it looks; `None`
    /// where it is settled, or nothing would.
    pub images_needed: Option<u64>,
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
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
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why the two runs cannot be compared; empty unless the verdict is `Incomparable`.
    pub reasons: Vec<String>,
    /// What a reader should know beside it: another engine, no intervals.
    pub notes: Vec<String>,
    /// How it was judged.
    pub method: Method,
    /// Every metric of the candidate: those over all images in name order, then those of each slice.
    pub comparisons: Vec<Comparison>,
    #[serde(skip)]
    candidate: Snapshot,
}

/// How the verdict was reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Method {
    /// By the point or confidently.
    pub judge: Judge,
    /// Of the intervals.
    pub confidence: f64,
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
    pub fn passed(&self) -> Option<Passed> {
        (self.verdict == Verdict::Passed).then(|| Passed { candidate: self.candidate.clone() })
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

/// Judges `candidate` against `baseline`.
///
/// # Errors
/// [`GateError::RuleWithoutMetric`] when a rule matches no metric of either side: a rule that cannot
/// act is a mistake, never a pass. [`GateError::NoDetections`] when it is to be judged confidently
/// and the baseline's detections are not there.
pub fn judge(
    candidate: &Snapshot,
    baseline: Option<&Snapshot>,
    evidence: &Evidence,
    policy: &Policy,
    settings: &GateConfig,
) -> Result<Judgement, GateError> {
    let reasons = incomparable(candidate, baseline);
    let comparable = reasons.is_empty();
    let names = evidence.names();
    let rules = policy.rules_for(&names)?.into_iter().collect();
    let resamples = comparable && settings.replicates.is_some() && evidence.has_both_sides();
    if comparable && settings.judge == Judge::Confident && !resamples {
        return Err(GateError::NoDetections);
    }
    let judging = Judging {
        policy,
        rules: &rules,
        settings,
        has_baseline: baseline.is_some(),
        units: evidence.units as u64,
    };
    let mut comparisons = Vec::new();
    for part in &evidence.parts {
        let resample = |replicates| Resampled::new(evidence, part, settings, replicates);
        let replicates = settings.replicates.filter(|_| resamples);
        let resampled = replicates.map(resample).transpose()?;
        comparisons.extend(judging.compare(part, resampled.as_ref()));
    }
    let tests = comparisons.iter().map(|comparison| comparison.tests.len()).sum();
    let mut judgement = Judgement {
        verdict: Verdict::Incomparable,
        reasons,
        notes: baseline
            .filter(|_| comparable)
            .map_or(Vec::new(), |baseline| notes(candidate, baseline, evidence, settings)),
        method: Method {
            judge: settings.judge,
            confidence: settings.confidence,
            replicates: settings.replicates.filter(|_| resamples).unwrap_or(0),
            seed: settings.seed,
            units: evidence.units,
            grouped: evidence.subject.groups.is_some(),
            correction: settings.correction,
            tests,
        },
        comparisons,
        candidate: candidate.clone(),
    };
    judging.conclude(&mut judgement.comparisons);
    if comparable {
        judgement.verdict = verdict(&judgement);
    }
    Ok(judgement)
}

fn verdict(judgement: &Judgement) -> Verdict {
    if !judgement.broken().is_empty() {
        Verdict::Regressed
    } else if !judgement.undecided().is_empty() {
        Verdict::Inconclusive
    } else {
        Verdict::Passed
    }
}

fn incomparable(candidate: &Snapshot, baseline: Option<&Snapshot>) -> Vec<String> {
    match baseline {
        None => vec!["there is no baseline yet".to_owned()],
        Some(baseline) => baseline.fingerprint.differences(&candidate.fingerprint),
    }
}

fn notes(
    candidate: &Snapshot,
    baseline: &Snapshot,
    evidence: &Evidence,
    settings: &GateConfig,
) -> Vec<String> {
    let (before, after) = (&baseline.provenance.engine, &candidate.provenance.engine);
    let engine = (before != after).then(|| format!("the baseline is of {before}, this is {after}"));
    let alone = settings.replicates.is_some() && !evidence.has_both_sides();
    let detections = alone.then(|| {
        "the baseline's detections are not beside it, so there are no intervals; restore them, or bless a run"
            .to_owned()
    });
    engine.into_iter().chain(detections).collect()
}

/// The distribution of a statistic, given its point and how it follows from the two values.
type Distributions<'d> = &'d dyn Fn(f64, &dyn Fn(f64, f64) -> f64) -> Option<Distribution>;

/// What all comparisons have in common.
struct Judging<'j> {
    policy: &'j Policy,
    rules: &'j BTreeMap<&'j str, Rule>,
    settings: &'j GateConfig,
    has_baseline: bool,
    /// Images, or groups of images, of the whole.
    units: u64,
}

impl Judging<'_> {
    /// All metrics of either side, so that one which vanished from the candidate is judged too.
    fn compare(&self, part: &Part, resampled: Option<&Resampled>) -> Vec<Comparison> {
        part.metrics().map(|metric| self.comparison(part, metric, resampled)).collect()
    }

    fn comparison(&self, part: &Part, metric: &str, resampled: Option<&Resampled>) -> Comparison {
        let (baseline, candidate) = part.values(metric);
        let change = baseline.zip(candidate).map(|(before, after)| after - before);
        let distribution = |point, statistic: &dyn Fn(f64, f64) -> f64| {
            resampled.and_then(|resampled| resampled.distribution(metric, point, statistic))
        };
        let interval = change
            .and_then(|change| distribution(change, &|before, after| after - before))
            .map(|changes| changes.interval(self.settings.confidence));
        let name = part.full_name(metric);
        let rule = self.rules.get(name.as_str()).copied();
        let mut comparison = Comparison {
            metric: name,
            baseline,
            candidate,
            change,
            interval,
            rule,
            finding: None,
            tests: Vec::new(),
        };
        let Some(rule) = rule else { return comparison };
        match candidate {
            None if baseline.is_none() && !self.policy.names(&comparison.metric) => {
                comparison.finding = Some(Finding::Absent);
            }
            None => comparison.finding = Some(Finding::Missing),
            Some(after) => {
                for (demand, limit) in Demand::of(&rule) {
                    if demand.needs_baseline() && baseline.is_none() {
                        let missing = self.has_baseline.then_some(Finding::Missing);
                        comparison.finding = comparison.finding.max(missing);
                        continue;
                    }
                    // Without a baseline only floors are judged, which do not look at it.
                    let before = baseline.unwrap_or(after);
                    let test = self.test(demand, limit, before, after, &distribution);
                    comparison.tests.push(test);
                }
            }
        }
        comparison
    }

    fn test(
        &self,
        demand: Demand,
        limit: f64,
        before: f64,
        after: f64,
        distribution: Distributions,
    ) -> Test {
        let noise = self.settings.numeric_noise;
        let statistic = demand.statistic(limit);
        // Changes as small as the noise of the arithmetic are none.
        let unchanged = demand.needs_baseline() && (after - before).abs() <= noise;
        let margin = statistic(before, if unchanged { before } else { after });
        let by_point = if margin >= -ROUNDING { Finding::Ok } else { demand.broken() };
        if self.settings.judge == Judge::Point || !self.has_baseline {
            return Test { demand, limit, margin, finding: by_point, confident: None };
        }
        let is_drop = matches!(demand, Demand::MaxDrop | Demand::MaxRelativeDrop);
        let room = if is_drop { noise } else { 0.0 };
        let statistic = |before, after| statistic(before, after) + room;
        let own_value = demand == Demand::Min;
        let confident = distribution(statistic(before, after), &statistic)
            .map(|distribution| if own_value { distribution.centred() } else { distribution })
            .map(|distribution| self.confident_test(&distribution, margin));
        Test { demand, limit, margin, finding: Finding::Inconclusive, confident }
    }

    fn confident_test(&self, distribution: &Distribution, margin: f64) -> ConfidentTest {
        let (alpha, error) = (self.alpha(), distribution.standard_error());
        let (p_pass, p_regress) = (distribution.p_at_most(0.0), distribution.p_at_least(0.0));
        let settled = p_pass.min(p_regress) <= alpha;
        let needed = || statistics::units_needed(self.units, error, margin, alpha, POWER);
        ConfidentTest {
            p_pass,
            p_regress,
            p_regress_corrected: p_regress,
            smallest_detectable: statistics::smallest_detectable(error, alpha, POWER),
            images_needed: if settled { None } else { needed() },
        }
    }

    fn alpha(&self) -> f64 {
        1.0 - self.settings.confidence
    }

    /// Corrects the p-values, and with them decides what was judged confidently.
    fn conclude(&self, comparisons: &mut [Comparison]) {
        let mut confident: Vec<&mut Test> = comparisons
            .iter_mut()
            .flat_map(|comparison| &mut comparison.tests)
            .filter(|test| test.confident.is_some())
            .collect();
        let p: Vec<f64> =
            confident.iter().filter_map(|test| Some(test.confident?.p_regress)).collect();
        let corrected = match self.settings.correction {
            Correction::Holm => statistics::holm(&p),
            Correction::BenjaminiHochberg => statistics::benjamini_hochberg(&p),
            Correction::None => p,
        };
        for (test, corrected) in confident.iter_mut().zip(corrected) {
            let Some(confident) = &mut test.confident else { continue };
            confident.p_regress_corrected = corrected;
            if confident.p_pass <= self.alpha() {
                test.finding = Finding::Ok;
            } else if corrected <= self.alpha() {
                test.finding = test.demand.broken();
            }
        }
        for comparison in comparisons {
            let worst = comparison.tests.iter().map(|test| test.finding).max();
            comparison.finding = comparison.finding.max(worst);
        }
    }
}
