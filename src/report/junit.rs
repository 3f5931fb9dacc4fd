//! A report as JUnit XML: a test case for each judged metric, for the test pages of CI systems.

use quick_junit::{NonSuccessKind, Report as Xml, TestCase, TestCaseStatus, TestSuite};

use super::Report;
use super::words::explain;
use crate::config::Tier;
use crate::gate::{Comparison, Finding, Judgement, Verdict};
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
    let mut xml = Xml::new("detgate");
    xml.add_test_suite(suite);
    xml.to_string()
}

fn test_case(comparison: &Comparison, judgement: &Judgement) -> TestCase {
    let warns = comparison.rule.is_some_and(|rule| rule.tier == Tier::Warn);
    let judged = judgement.verdict != Verdict::Incomparable;
    let words = || explain(comparison, judgement);
    let metric = shown::line(&comparison.metric);
    match comparison.finding {
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
    }
}

fn case(name: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname("detgate.gate");
    case
}

fn failed(kind: NonSuccessKind, message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(message);
    status
}
