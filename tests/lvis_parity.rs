//! The rules of LVIS equal the `lvis` package 0.5.3 in every bit: on recorded results always, and on
//! freshly generated data sets where `DETGATE_TEST_PYTHON` offers it.

mod oracle;

use std::path::Path;

use detgate::metrics::lvis::{LvisParams, LvisSummary};
use oracle::lvis::{LvisRecord, generated, recorded};

fn check(file: &Path, record: &LvisRecord) {
    let name = file.display();
    let metrics = record.evaluate(&LvisParams::default());
    let expected = &record.lvis;
    let [precision, _, recall] = oracle::arrays(&metrics.curves);
    let arrays = [precision, recall];
    let [t, r, k, a] = expected.shape;
    assert_eq!(metrics.curves.shape(), [t, r, k, a, 1], "{name}");
    oracle::check_arrays(file, &arrays);
    assert_eq!(arrays.map(|values| oracle::digest(&values)), expected.digests, "{name}");
    assert_eq!(metrics.summary.named().map(|(name, _)| name), *expected.names, "{name}");
    let bits = |summary: &LvisSummary| oracle::bits(summary.named());
    assert_eq!(bits(&metrics.summary), expected.stats, "{name}: {:?}", metrics.summary);
    let per_class: Vec<_> = metrics.per_class.iter().map(|class| bits(&class.summary)).collect();
    assert_eq!(per_class, expected.per_class, "{name}");
}

#[test]
fn equals_what_lvis_said_about_the_recorded_data_sets() {
    let records = recorded();
    assert!(records.len() >= 35, "only {} fixtures were found", records.len());
    records.iter().for_each(|(file, record)| check(file, record));
}

#[test]
fn equals_what_lvis_says_about_data_sets_generated_now() {
    let count = std::env::var("DETGATE_TEST_DATASETS").map_or(300, |n| n.parse().unwrap());
    // Without the Python there is nothing to compare with; `cargo xtask test` brings it.
    let Some((_folder, records)) = generated(10_000, count) else {
        return;
    };
    records.iter().for_each(|(file, record)| check(file, record));
}

#[test]
fn the_recorded_data_sets_reach_what_they_are_for() {
    let records = recorded();
    let summaries: Vec<LvisSummary> =
        records.iter().map(|(_, r)| r.evaluate(&LvisParams::default()).summary).collect();
    for (i, (name, _)) in LvisSummary::default().named().into_iter().enumerate() {
        let between = |s: &&LvisSummary| s.named()[i].1.is_some_and(|v| v > 0.02 && v < 0.98);
        let count = summaries.iter().filter(between).count();
        assert!(count >= 5, "{name} is neither absent nor trivial in {count} data sets only");
    }
    let most = |(_, r): &(_, LvisRecord)| r.images().iter().map(|(_, dts)| dts.len()).max();
    let cut = records.iter().filter(|record| most(record).is_some_and(|n| n > 300));
    assert!(cut.count() >= 4, "the limit of 300 is hardly ever reached");
}

#[test]
fn a_report_survives_json_without_the_curves() {
    let (_, record) = &recorded()[0];
    let metrics = record.evaluate(&LvisParams::default());
    let json = serde_json::to_value(&metrics).unwrap();
    assert_eq!(json["AR@300"].as_f64(), metrics.summary.ar);
    assert!(json["per_class"][0]["APr"].is_null() || json["per_class"][0]["APr"].is_number());
    let back: detgate::metrics::lvis::LvisMetrics = serde_json::from_value(json).unwrap();
    assert_eq!((back.summary, back.per_class), (metrics.summary, metrics.per_class));
}
