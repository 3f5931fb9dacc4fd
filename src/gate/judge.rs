//! The verdict: every rule applied to every metric that it matches.
//!
//! Judged by the **point**, a demand's statistic S on these images decides. Judged **confidently**, a
//! one-sided test decides: passed where S is positive beyond chance, regressed where it is negative
//! beyond chance, inconclusive between.
//!
//! Passing everything is an intersection-union test (Berger, Technometrics 24, 1982): each demand is
//! tested at the full level, and the chance that a bad candidate passes is no higher than that. That
//! *some* rule is broken is claimed of many at once, so these p-values are corrected: those of the rules
//! that block among themselves, and those that warn among themselves.
//!
//! Deliberately absent: how intervals and p-values are computed ([`super::statistics`]).

use std::collections::BTreeMap;

use super::evidence::{Baseline, Evidence, Part};
use super::judgement::{
    Comparison, ConfidentTest, Demand, Finding, Judgement, Method, Passed, Test, Verdict,
};
use super::resampled::{Chance, Resampled};
use super::statistics::{self, Distribution};
use super::{GateError, Policy, Snapshot};
use crate::config::{Correction, GateConfig, Judge, Rule, Tier};

/// Room for the rounding of decimal margins: 0.50 - 0.49 exceeds 0.01 by 9e-18.
const ROUNDING: f64 = 1e-9;

/// With this probability a real drop of the smallest detectable size is found.
const POWER: f64 = 0.8;

/// Judges `candidate` against `baseline`.
///
/// # Errors
/// [`GateError::RuleWithoutMetric`] and [`GateError::RuleWithoutObjects`] when a rule judges no metric: a
/// rule that cannot act is a mistake, never a pass.
pub fn judge(
    candidate: &Snapshot,
    baseline: Option<&Baseline>,
    evidence: &Evidence,
    policy: &Policy,
    settings: &GateConfig,
) -> Result<Judgement, GateError> {
    let values = evidence.values();
    let rules: BTreeMap<&str, Rule> = policy.rules_for(&values)?.into_iter().collect();
    let reasons = incomparable(candidate, baseline, evidence, &rules, settings);
    let comparable = reasons.is_empty();
    let replicates = settings.replicates.filter(|_| comparable && evidence.has_both_sides());
    let judging = Judging {
        policy,
        rules: &rules,
        settings,
        has_baseline: comparable,
        units: evidence.units as u64,
    };
    let mut comparisons = Vec::new();
    for part in &evidence.parts {
        let resample = |replicates| Resampled::new(evidence, part, settings, replicates);
        let resampled = replicates.map(resample).transpose()?;
        comparisons.extend(judging.compare(part, resampled.as_ref()));
    }
    judging.conclude(&mut comparisons);
    let mut judgement = Judgement {
        verdict: Verdict::Incomparable,
        reasons,
        against: baseline.and_then(|baseline| baseline.digest.clone()),
        notes: baseline
            .filter(|_| comparable)
            .map_or(Vec::new(), |baseline| notes(candidate, baseline, settings)),
        method: Method {
            judge: settings.judge,
            confidence: settings.confidence,
            interval: settings.interval,
            numeric_noise: settings.numeric_noise,
            replicates: replicates.unwrap_or(0),
            seed: settings.seed,
            units: evidence.units,
            grouped: evidence.subject.groups.is_some(),
            correction: settings.correction,
            tests: comparisons.iter().map(|comparison| comparison.tests.len()).sum(),
        },
        comparisons,
        passed: None,
    };
    if comparable {
        judgement.verdict = verdict(&judgement);
    }
    if judgement.verdict == Verdict::Passed {
        judgement.passed = Some(Passed { candidate: candidate.clone() });
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

/// What stands between the two; empty where they can be compared as the policy wants it.
fn incomparable(
    candidate: &Snapshot,
    baseline: Option<&Baseline>,
    evidence: &Evidence,
    rules: &BTreeMap<&str, Rule>,
    settings: &GateConfig,
) -> Vec<String> {
    let Some(baseline) = baseline else { return vec!["there is no baseline yet".to_owned()] };
    let differences = baseline.fingerprint.differences(&candidate.fingerprint);
    if !differences.is_empty() || evidence.has_both_sides() {
        return differences;
    }
    let needs = |what: &str| {
        vec![format!(
            "{what} needs the baseline's detections, which are not beside {}; restore them from version \
             control, or accept this run in its place",
            baseline.name
        )]
    };
    let on_slice = |name: &&str| evidence.is_on_slice(name);
    match rules.keys().find(|name| on_slice(name)) {
        _ if settings.judge == Judge::Confident => needs("judge = \"confident\""),
        Some(name) => needs(&format!("the rule for {name}")),
        None => Vec::new(),
    }
}

fn notes(candidate: &Snapshot, baseline: &Baseline, settings: &GateConfig) -> Vec<String> {
    let (before, after) = (baseline.engine, &candidate.provenance.engine);
    let engine = (before != after).then(|| format!("the baseline is of {before}, this is {after}"));
    let alone = settings.replicates.is_some() && baseline.found.is_none();
    let detections = alone.then(|| {
        format!(
            "the baseline's detections are not beside {}, so there are no intervals; restore them, or bless \
             a run",
            baseline.name
        )
    });
    engine.into_iter().chain(detections).collect()
}

/// What all comparisons have in common.
struct Judging<'j> {
    policy: &'j Policy,
    rules: &'j BTreeMap<&'j str, Rule>,
    settings: &'j GateConfig,
    /// Without one that is comparable, floors are judged alone, and by the point.
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
        let baseline = baseline.filter(|_| self.has_baseline);
        let change = baseline.zip(candidate).map(|(before, after)| after - before);
        let chance = resampled.and_then(|resampled| resampled.chance(metric));
        let interval = change
            .zip(chance.as_ref())
            .and_then(|(change, chance)| {
                chance.distribution(change, |before, after| after - before)
            })
            .map(|changes| changes.interval(self.settings.confidence));
        let name = part.full_name(metric);
        let rule = self.rules.get(name.as_str()).copied();
        let (finding, tests) = rule.map_or((None, Vec::new()), |rule| {
            self.judge(&name, &rule, (baseline, candidate), chance.as_ref())
        });
        Comparison { metric: name, baseline, candidate, change, interval, rule, finding, tests }
    }

    /// What can be found without looking at chance, and the tests that are to be concluded.
    fn judge(
        &self,
        name: &str,
        rule: &Rule,
        (baseline, candidate): (Option<f64>, Option<f64>),
        chance: Option<&Chance>,
    ) -> (Option<Finding>, Vec<Test>) {
        let Some(after) = candidate else {
            let absent = baseline.is_none() && !self.policy.names(name);
            return (Some(if absent { Finding::Absent } else { Finding::Missing }), Vec::new());
        };
        let (can_be, cannot): (Vec<_>, Vec<_>) = Demand::of(rule)
            .partition(|(demand, _)| baseline.is_some() || !demand.needs_baseline());
        let missing = (self.has_baseline && !cannot.is_empty()).then_some(Finding::Missing);
        // A floor does not look at the baseline.
        let before = baseline.unwrap_or(after);
        let test = |(demand, limit)| self.test(demand, limit, before, after, chance);
        (missing, can_be.into_iter().map(test).collect())
    }

    fn test(
        &self,
        demand: Demand,
        limit: f64,
        before: f64,
        after: f64,
        chance: Option<&Chance>,
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
        let room = if is_drop { noise } else { ROUNDING };
        let statistic = |before, after| statistic(before, after) + room;
        let own_value = demand == Demand::Min;
        let confident = chance.and_then(|chance| {
            let distribution = chance.distribution(statistic(before, after), statistic)?;
            let distribution = if own_value { distribution.centred() } else { distribution };
            Some(self.confident_test(&distribution, chance.least_p()))
        });
        Test { demand, limit, margin, finding: Finding::Inconclusive, confident }
    }

    /// All but what depends on the other tests, which [`Self::conclude`] adds.
    fn confident_test(&self, distribution: &Distribution, least_p: f64) -> ConfidentTest {
        let (alpha, p_regress) = (self.alpha(), distribution.p_at_least(0.0).max(least_p));
        let standard_error = distribution.standard_error();
        ConfidentTest {
            standard_error,
            p_pass: distribution.p_at_most(0.0).max(least_p),
            p_regress,
            p_regress_corrected: p_regress,
            corrected_for: 1,
            margin_at_least: distribution.quantile(alpha),
            margin_at_most: distribution.quantile(1.0 - alpha),
            smallest_detectable: statistics::smallest_detectable(standard_error, alpha, POWER),
            images_needed: None,
        }
    }

    fn alpha(&self) -> f64 {
        1.0 - self.settings.confidence
    }

    /// Corrects the p-values, and with them decides what was judged confidently.
    fn conclude(&self, comparisons: &mut [Comparison]) {
        for tier in [Tier::Block, Tier::Warn] {
            let of_tier = |comparison: &&mut Comparison| {
                comparison.rule.is_some_and(|rule| rule.tier == tier)
            };
            let family = comparisons.iter_mut().filter(of_tier);
            self.conclude_family(family.flat_map(|comparison| &mut comparison.tests));
        }
        for comparison in comparisons {
            let worst = comparison.tests.iter().map(|test| test.finding).max();
            comparison.finding = comparison.finding.max(worst);
        }
    }

    fn conclude_family<'t>(&self, tests: impl Iterator<Item = &'t mut Test>) {
        let mut tests: Vec<_> = tests.filter(|test| test.confident.is_some()).collect();
        let p: Vec<f64> = tests.iter().filter_map(|test| Some(test.confident?.p_regress)).collect();
        let corrected = match self.settings.correction {
            Correction::Holm => statistics::holm(&p),
            Correction::BenjaminiHochberg => statistics::benjamini_hochberg(&p),
            Correction::None => p.clone(),
        };
        for (test, corrected) in tests.iter_mut().zip(corrected) {
            self.conclude_test(test, corrected, p.len());
        }
    }

    fn conclude_test(&self, test: &mut Test, p_regress_corrected: f64, family: usize) {
        let Some(confident) = &mut test.confident else { return };
        let alpha = self.alpha();
        confident.p_regress_corrected = p_regress_corrected;
        confident.corrected_for = family;
        // The level of a regression that has to be shown among all the others.
        let strict = match self.settings.correction {
            Correction::None => alpha,
            Correction::Holm | Correction::BenjaminiHochberg => alpha / family as f64,
        };
        let standard_error = confident.standard_error;
        confident.smallest_detectable =
            statistics::smallest_detectable(standard_error, strict, POWER);
        if confident.p_pass <= alpha {
            test.finding = Finding::Ok;
        } else if p_regress_corrected <= alpha {
            test.finding = test.demand.broken();
        } else {
            let level = if test.margin >= 0.0 { alpha } else { strict };
            let needed =
                statistics::units_needed(self.units, standard_error, test.margin, level, POWER);
            // The formula is the normal's, the test is not: as many as there are were not enough.
            confident.images_needed = needed.map(|needed| needed.max(self.units + 1));
        }
    }
}
