//! What a user relies on when the gate speaks: regressions stop, noise of rounding does not, and
//! what cannot be compared is never called passed.

use std::collections::BTreeMap;

use detgate::config::Rule;
use detgate::gate::{
    Finding, Fingerprint, GateError, MetricTable, Policy, Provenance, SCHEMA, Snapshot, Verdict,
    judge,
};

fn run(metrics: &[(&str, Option<f64>)]) -> Snapshot {
    let mut fingerprint = Fingerprint::default();
    fingerprint.record("images", "0123");
    let metrics: MetricTable =
        metrics.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    let provenance = Provenance { checkpoint: "best_demo.pt".into(), ..Provenance::default() };
    Snapshot { schema: SCHEMA, fingerprint, provenance, metrics }
}

fn rule(max_drop: Option<f64>, min: Option<f64>) -> Rule {
    Rule { max_drop, min, ..Rule::default() }
}

fn policy(rules: &[(&str, Option<f64>, Option<f64>)]) -> Policy {
    Policy::new(
        rules
            .iter()
            .map(|&(name, max_drop, min)| (name.to_owned(), rule(max_drop, min)))
            .collect::<BTreeMap<_, _>>(),
    )
    .unwrap()
}

fn finding(
    candidate: Option<f64>,
    baseline: Option<f64>,
    rule: (Option<f64>, Option<f64>),
) -> Finding {
    let judgement = judge(
        &run(&[("AP", candidate)]),
        Some(&run(&[("AP", baseline)])),
        &policy(&[("AP", rule.0, rule.1)]),
    )
    .unwrap();
    let finding = judgement.comparisons[0].finding.unwrap();
    let expected = if finding == Finding::Ok { Verdict::Passed } else { Verdict::Regressed };
    assert_eq!(judgement.verdict, expected);
    assert_eq!(judgement.passed().is_some(), finding == Finding::Ok);
    finding
}

#[test]
fn a_drop_is_judged_against_its_margin_without_rounding_noise() {
    let margin = (Some(0.01), None);
    assert_eq!(finding(Some(0.49), Some(0.50), margin), Finding::Ok);
    assert_eq!(finding(Some(0.4899), Some(0.50), margin), Finding::Dropped);
    assert_eq!(finding(Some(0.9), Some(0.5), margin), Finding::Ok);
    assert_eq!(finding(Some(0.5), Some(0.5), (Some(0.0), None)), Finding::Ok);
}

#[test]
fn a_floor_holds_whatever_the_baseline() {
    let floor = (None, Some(0.4));
    assert_eq!(finding(Some(0.39), Some(0.1), floor), Finding::BelowMin);
    assert_eq!(finding(Some(0.4), Some(0.9), floor), Finding::Ok);
}

#[test]
fn an_undefined_or_non_finite_metric_fails() {
    let margin = (Some(0.5), None);
    assert_eq!(finding(None, Some(0.5), margin), Finding::Missing);
    assert_eq!(finding(Some(f64::NAN), Some(0.5), margin), Finding::Missing);
    assert_eq!(finding(Some(0.5), None, margin), Finding::Missing);
    assert_eq!(finding(Some(0.5), Some(f64::INFINITY), margin), Finding::Missing);
}

#[test]
fn a_metric_that_vanished_from_the_candidate_fails() {
    let baseline = run(&[("AP", Some(0.5)), ("AP50/car", Some(0.7))]);
    let candidate = run(&[("AP", Some(0.5))]);
    let judgement =
        judge(&candidate, Some(&baseline), &policy(&[("AP50/*", Some(0.1), None)])).unwrap();
    assert_eq!(judgement.verdict, Verdict::Regressed);
    assert_eq!(judgement.broken().map(|c| c.metric.as_str()).collect::<Vec<_>>(), ["AP50/car"]);
}

#[test]
fn a_star_stands_for_every_class_and_yields_to_an_exact_name() {
    let baseline = run(&[("AP50", Some(0.8)), ("AP50/car", Some(0.8)), ("AP50/person", Some(0.8))]);
    let candidate =
        run(&[("AP50", Some(0.1)), ("AP50/car", Some(0.5)), ("AP50/person", Some(0.5))]);
    let rules = policy(&[("AP50/*", Some(0.01), None), ("AP50/car", Some(0.4), None)]);
    let judgement = judge(&candidate, Some(&baseline), &rules).unwrap();
    assert_eq!(judgement.broken().map(|c| c.metric.as_str()).collect::<Vec<_>>(), ["AP50/person"]);
}

#[test]
fn a_rule_that_matches_nothing_is_an_error() {
    let run = run(&[("AP", Some(0.5))]);
    for pattern in ["ap", "AP50/*", "AP/*"] {
        let error = judge(&run, Some(&run), &policy(&[(pattern, Some(0.1), None)])).unwrap_err();
        assert!(matches!(error, GateError::RuleWithoutMetric { .. }), "{error}");
        assert!(error.to_string().contains(pattern), "{error}");
    }
}

#[test]
fn a_policy_that_cannot_fail_is_an_error() {
    assert!(matches!(Policy::new(BTreeMap::new()), Err(GateError::NoRules)));
    let toothless = BTreeMap::from([("AP".to_owned(), Rule::default())]);
    let error = Policy::new(toothless).unwrap_err().to_string();
    assert!(error.contains("\"AP\": demands nothing"), "{error}");
}

#[test]
fn another_data_set_or_no_baseline_is_incomparable_and_never_passes() {
    let candidate = run(&[("AP", Some(0.9))]);
    let rules = policy(&[("AP", Some(0.1), None)]);
    let mut other = run(&[("AP", Some(0.1))]);
    other.fingerprint.record("images", "4567");
    for baseline in [None, Some(&other)] {
        let judgement = judge(&candidate, baseline, &rules).unwrap();
        assert_eq!(judgement.verdict, Verdict::Incomparable);
        assert!(judgement.passed().is_none());
        assert_eq!(judgement.reasons.len(), 1);
    }
    let reason = &judge(&candidate, Some(&other), &rules).unwrap().reasons[0];
    assert_eq!(reason, "images: baseline 4567, candidate 0123");
}

#[test]
fn without_a_baseline_only_floors_are_judged() {
    let candidate = run(&[("AP", Some(0.3)), ("AP50", Some(0.6)), ("f1", Some(0.7))]);
    let rules = policy(&[
        ("AP", Some(0.1), Some(0.4)),
        ("AP50", Some(0.1), Some(0.5)),
        ("f1", Some(0.1), None),
    ]);
    let judgement = judge(&candidate, None, &rules).unwrap();
    let findings: Vec<_> = judgement.comparisons.iter().map(|c| c.finding).collect();
    assert_eq!(findings, [Some(Finding::BelowMin), Some(Finding::Ok), None]);
}

#[test]
fn a_snapshot_survives_the_disk_and_the_header_is_insta_s() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/baseline.snap");
    let snapshot = run(&[("AP", Some(0.1 + 0.2)), ("APl", None)]);
    assert_eq!(Snapshot::read(&path).unwrap(), None);
    snapshot.write(&path).unwrap();
    assert_eq!(Snapshot::read(&path).unwrap().as_ref(), Some(&snapshot));
    let insta = insta::Snapshot::from_file(&path).unwrap();
    assert_eq!(insta.metadata().source(), Some("detgate"));
    assert_eq!(Snapshot::pending_path(&path).extension().unwrap(), "new");
}

#[test]
fn a_file_that_is_no_snapshot_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("baseline.snap");
    for text in ["", "---\nsource: x\n---\n{", "{}", "---\n---\n{\"schema\": 99}"] {
        std::fs::write(&path, text).unwrap();
        let error = Snapshot::read(&path).unwrap_err().to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
    }
    let mut future = run(&[]);
    future.schema = SCHEMA + 1;
    future.write(&path).unwrap();
    assert!(Snapshot::read(&path).unwrap_err().to_string().contains("schema"));
}
