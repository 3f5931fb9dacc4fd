//! What a user relies on when the gate speaks: regressions stop, noise of rounding does not, and
//! what cannot be compared is never called passed.

use std::collections::BTreeMap;

use detgate::config::{GateConfig, Rule};
use detgate::gate::{
    Baseline, Evidence, Finding, Fingerprint, GateError, Judgement, MetricTable, Policy,
    Provenance, Recorded, SCHEMA, Snapshot, Verdict,
};

fn run(metrics: &[(&str, Option<f64>)]) -> Snapshot {
    let mut fingerprint = Fingerprint::default();
    fingerprint.record("images", "0123");
    let metrics: MetricTable =
        metrics.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    let provenance = Provenance { checkpoint: "best_demo.pt".into(), ..Provenance::default() };
    let (recorded, detections_blake3) = (Recorded::default(), None);
    Snapshot { schema: SCHEMA, fingerprint, provenance, recorded, detections_blake3, metrics }
}

fn rule(max_drop: Option<f64>, min: Option<f64>) -> Rule {
    Rule { max_drop, min, ..Rule::default() }
}

fn policy(rules: &[(&str, Option<f64>, Option<f64>)]) -> Policy {
    Policy::new(
        rules
            .iter()
            .map(|&(name, max_drop, min)| {
                (name.to_owned(), Rule { max_drop, min, ..Rule::default() })
            })
            .collect::<BTreeMap<_, _>>(),
    )
    .unwrap()
}

/// By the values alone.
fn judge(
    candidate: &Snapshot,
    baseline: Option<&Snapshot>,
    policy: &Policy,
) -> Result<Judgement, GateError> {
    let baseline = baseline.map(|snapshot| Baseline::of("b.snap".to_owned(), snapshot, None));
    let evidence = Evidence::of_tables(&candidate.metrics, baseline.as_ref());
    let settings = GateConfig::default();
    detgate::gate::judge(candidate, baseline.as_ref(), &evidence, policy, &settings)
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
    assert_eq!(
        judgement.broken().iter().map(|c| c.metric.as_str()).collect::<Vec<_>>(),
        ["AP50/car"]
    );
}

#[test]
fn a_star_stands_for_every_class_and_yields_to_an_exact_name() {
    let baseline = run(&[("AP50", Some(0.8)), ("AP50/car", Some(0.8)), ("AP50/person", Some(0.8))]);
    let candidate =
        run(&[("AP50", Some(0.1)), ("AP50/car", Some(0.5)), ("AP50/person", Some(0.5))]);
    let rules = policy(&[("AP50/*", Some(0.01), None), ("AP50/car", Some(0.4), None)]);
    let judgement = judge(&candidate, Some(&baseline), &rules).unwrap();
    assert_eq!(
        judgement.broken().iter().map(|c| c.metric.as_str()).collect::<Vec<_>>(),
        ["AP50/person"]
    );
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

/// As an AP of classes of which there is no object.
#[test]
fn a_rule_whose_every_metric_is_undefined_is_an_error() {
    let run = run(&[("AP/car", None), ("AP/person", None), ("AP", Some(0.5))]);
    let judged = |rules| judge(&run, Some(&run), &policy(rules));
    let error = judged(&[("AP/*", Some(0.1), None)]).unwrap_err();
    assert!(error.to_string().contains("\"AP/*\" judges nothing"), "{error}");
    let named = judged(&[("AP/car", Some(0.1), None)]).unwrap();
    assert_eq!(named.verdict, Verdict::Regressed, "a class that is named has to be there");
    // Every metric of the first rule is judged by the second: it yields, which is no mistake.
    let yields = judged(&[
        ("AP/*", Some(0.1), None),
        ("AP/car", Some(0.1), None),
        ("AP/person", Some(0.1), None),
    ]);
    assert!(yields.is_ok());
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

/// The rule that judges each metric of a table, named by its margin.
fn judged(names: &[&str], patterns: &[&str]) -> Vec<(String, String)> {
    let table: MetricTable = names.iter().map(|name| ((*name).to_owned(), Some(0.5))).collect();
    let margin = |at: usize| rule(Some(at as f64 / 100.0), None);
    let rules = patterns.iter().enumerate().map(|(at, name)| ((*name).to_owned(), margin(at)));
    let policy = Policy::new(rules.collect::<BTreeMap<_, _>>()).unwrap();
    let judged = policy.rules_for(&table).unwrap();
    let pattern = |rule: Rule| patterns[(rule.max_drop.unwrap() * 100.0).round() as usize];
    judged.into_iter().map(|(name, rule)| (name.to_owned(), pattern(rule).to_owned())).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

const SLICED: [&str; 9] = [
    "AP",
    "AP@night",
    "AP@rain",
    "AP/car",
    "AP/car@night",
    "AP/car@rain",
    "AP/person",
    "AP/person@night",
    "AP/person@rain",
];

#[test]
fn the_most_specific_rule_judges_a_metric_alone() {
    let all = ["AP/*@*", "AP/car@*", "AP/*@night", "AP/car@night", "AP/*", "AP@*", "AP@night"];
    let expected = [
        ("AP/car", "AP/*"),
        ("AP/car@night", "AP/car@night"),
        ("AP/car@rain", "AP/car@*"),
        ("AP/person", "AP/*"),
        ("AP/person@night", "AP/*@night"),
        ("AP/person@rain", "AP/*@*"),
        ("AP@night", "AP@night"),
        ("AP@rain", "AP@*"),
    ];
    assert_eq!(judged(&SLICED, &all), pairs(&expected));
    let class_before_slice = judged(&SLICED, &["AP/car@*", "AP/*@night"]);
    assert!(class_before_slice.contains(&("AP/car@night".to_owned(), "AP/*@night".to_owned())));
}

#[test]
fn a_star_never_stands_for_nothing() {
    let of =
        |pattern| judged(&SLICED, &[pattern]).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(of("AP/*"), ["AP/car", "AP/person"]);
    assert_eq!(of("AP@*"), ["AP@night", "AP@rain"]);
    assert_eq!(of("AP/car@*"), ["AP/car@night", "AP/car@rain"]);
    assert_eq!(of("AP/*@rain"), ["AP/car@rain", "AP/person@rain"]);
}

#[test]
fn a_class_may_be_named_like_a_pattern() {
    let names = ["AP", "AP@b", "AP/a/b", "AP/a*", "AP/a@b", "AP/a@b@b", "AP/*", "AP/c"];
    assert_eq!(judged(&names, &["AP/a/b"]), pairs(&[("AP/a/b", "AP/a/b")]));
    assert_eq!(judged(&names, &["AP/a*"]), pairs(&[("AP/a*", "AP/a*")]));
    // The class `a@b`: there is no class `a` that could have been measured on the slice `b`.
    assert_eq!(judged(&names, &["AP/a@b"]), pairs(&[("AP/a@b", "AP/a@b")]));
    assert_eq!(judged(&names, &["AP/*@b"]), pairs(&[("AP/a@b@b", "AP/*@b")]));
    assert_eq!(judged(&names, &["AP/*"]).len(), 5, "every class, on all images");
    // Without a slice `b`, an `@b` is part of a class's name even beside a class `a`.
    assert_eq!(judged(&["AP", "AP/a", "AP/a@b"], &["AP/*"]).len(), 2);
}

#[test]
fn a_rule_without_a_metric_says_the_nearest_name() {
    let hint = |names: &[&str], pattern: &str| {
        let table: MetricTable = names.iter().map(|name| ((*name).to_owned(), None)).collect();
        let policy = policy(&[(pattern, Some(0.1), None)]);
        let sentence = policy.rules_for(&table).unwrap_err().to_string();
        sentence
            .replace("the rule [gate.metrics] ", "")
            .replace(" matches no metric of this run", "")
    };
    let patterns =
        ["ap", "AP/persn", "AP@nigth", "AP50/*", "ap/*@rian", "AP/car@snow", "mIoU", "*"];
    assert_eq!(hint(&["AP"], "AP@*"), "\"AP@*\"; it has no slices, define them in [gate.slices]");
    insta::assert_snapshot!(patterns.map(|pattern| hint(&SLICED, pattern)).join("\n"), @r#"
    "ap"; did you mean "AP"?
    "AP/persn"; did you mean "AP/person"?
    "AP@nigth"; did you mean "AP@night"?
    "AP50/*"; did you mean "AP/*"?
    "ap/*@rian"; did you mean "AP/*@rain"?
    "AP/car@snow"; did you mean "AP/car@rain"?
    "mIoU"; its metrics are AP
    "*"; its metrics are AP
    "#);
}
