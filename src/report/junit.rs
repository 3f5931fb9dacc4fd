//! A report as JUnit XML, for the test pages of CI systems: a test case for each rule and metric that it judges (a
//! rule with a star is as many rules as it has metrics), in the order of the report.
//!
//! What a test page shows beside passed and failed are properties: of the suite what was evaluated and how it was
//! judged, of a test case its values, the demands of its rule and how sure the change is, with every digit.
//!
//! Deliberately absent: `time`, `timestamp` and `hostname`. A report holds no clock and nothing of the machine, so that
//! equal runs give equal bytes; nor does a rule take any time, all of which goes into inference. Readers take a missing
//! `time` for 0.

use std::fmt::Display;

use quick_junit::{NonSuccessKind, Report as Xml, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;

use super::Report;
use super::words::explain;
use crate::config::Tier;
use crate::gate::{Comparison, Finding, Judgement, Provenance, Verdict};
use crate::shown;

/// The whole document. Where nothing can be compared there is one test case, which says why.
///
/// # Errors
/// None that a report can cause.
pub fn xml(report: &Report) -> Result<String, quick_junit::SerializeError> {
    let judgement = &report.judgement;
    let mut suite = TestSuite::new("detgate");
    if judgement.verdict == Verdict::Incomparable {
        let reasons: Vec<String> = judgement.reasons.iter().map(|r| shown::line(r)).collect();
        suite.add_test_case(case("comparable", failed(NonSuccessKind::Error, &reasons.join("; "))));
    }
    for comparison in judgement.comparisons.iter().filter(|c| c.finding.is_some()) {
        suite.add_test_case(test_case(comparison, judgement));
    }
    suite.add_properties(properties(report));
    let mut xml = Xml::new("detgate");
    xml.add_test_suite(suite);
    xml.to_string()
}

fn test_case(comparison: &Comparison, judgement: &Judgement) -> TestCase {
    let warns = comparison.rule.is_some_and(|rule| rule.tier == Tier::Warn);
    let judged = judgement.verdict != Verdict::Incomparable;
    let words = || explain(comparison, judgement);
    let metric = shown::line(&comparison.metric);
    let mut case = match comparison.finding {
        Some(Finding::Absent) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message("no objects");
            case(&metric, status)
        }
        Some(found) if found >= Finding::Inconclusive && warns => {
            let mut case = case(&metric, TestCaseStatus::success());
            case.set_system_out(format!("warning: {}", words()));
            case
        }
        Some(found) if found >= Finding::Inconclusive && judged => {
            case(&metric, failed(NonSuccessKind::Failure, &words()))
        }
        _ => case(&metric, TestCaseStatus::success()),
    };
    case.add_properties(facts(comparison));
    case
}

fn case(name: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname("detgate.gate");
    case
}

/// Some pages show the message, others the text.
fn failed(kind: NonSuccessKind, message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(message).set_description(message);
    status
}

type Fact = (String, String);

fn fact(name: &str, value: impl Display) -> Fact {
    (name.to_owned(), shown::line(&value.to_string()))
}

/// By its name in the JSON report.
fn kind(kind: impl Serialize) -> String {
    let name = serde_json::to_value(kind).unwrap_or_default();
    name.as_str().unwrap_or_default().to_owned()
}

/// Of the whole run.
fn properties(report: &Report) -> Vec<Fact> {
    let (judgement, data) = (&report.judgement, &report.data);
    let method = &judgement.method;
    let mut facts = vec![
        fact("verdict", kind(judgement.verdict)),
        fact("images", data.images),
        fact("ground_truth", data.ground_truth),
        fact("skipped_images", data.skipped_images.len()),
        fact("confidence", method.confidence),
        fact("replicates", method.replicates),
        fact("seed", method.seed),
    ];
    facts.extend(judgement.against.iter().map(|digest| fact("baseline_blake3", digest)));
    let Provenance { checkpoint, checkpoint_blake3, engine } = &report.checkpoint;
    let sources =
        [("checkpoint", checkpoint), ("checkpoint_blake3", checkpoint_blake3), ("engine", engine)];
    facts.extend(sources.map(|(name, value)| fact(name, value)));
    facts.extend(report.fingerprint.facts().iter().map(|(name, value)| fact(name, value)));
    facts
}

/// Of one metric: what is not known is not there.
fn facts(comparison: &Comparison) -> Vec<Fact> {
    let Comparison { baseline, candidate, change, interval, rule, tests, .. } = comparison;
    let worst = tests.iter().max_by_key(|test| test.finding);
    let confident = worst.and_then(|test| test.confident);
    let numbers = [
        ("baseline", *baseline),
        ("candidate", *candidate),
        ("change", *change),
        ("change_low", interval.map(|interval| interval.low)),
        ("change_high", interval.map(|interval| interval.high)),
        ("max_drop", rule.and_then(|rule| rule.max_drop)),
        ("max_relative_drop", rule.and_then(|rule| rule.max_relative_drop)),
        ("must_improve_by", rule.and_then(|rule| rule.must_improve_by)),
        ("min", rule.and_then(|rule| rule.min)),
        ("p_regress_corrected", confident.map(|test| test.p_regress_corrected)),
        ("smallest_detectable", confident.map(|test| test.smallest_detectable)),
    ];
    let known = numbers.into_iter().filter_map(|(name, value)| Some(fact(name, value?)));
    let kinds = [
        comparison.finding.map(|found| fact("finding", kind(found))),
        rule.map(|rule| fact("tier", kind(rule.tier))),
    ];
    let needed = confident.and_then(|test| test.images_needed);
    let needed = needed.map(|images| fact("images_needed", images));
    kinds.into_iter().flatten().chain(known).chain(needed).collect()
}
