//! TIDE's decomposition equals `tidecv` 1.0.1: on recorded results always, and on freshly generated
//! data sets where `DETGATE_TEST_PYTHON` offers it.

mod oracle;

use std::path::Path;

use detgate::metrics::tide::{Kinds, Tide};
use oracle::tide::{Expectation, TideRecord, generated, recorded};

/// Of values in 0..1. Only the order of a few additions differs.
const TOLERANCE: f64 = 1e-12;

fn check(file: &Path, record: &TideRecord) {
    let name = file.display();
    let ours = record.evaluate();
    let Some(expected) = &record.tide else {
        assert_eq!((ours.ap, ours.dap), (None, Kinds::default()), "{name}");
        return;
    };
    near(ours.ap, Some(expected.ap), &format!("{name}: AP"));
    for (kind, dap) in ours.dap.named() {
        near(dap, expected.dap[kind], &format!("{name}: dAP of {kind}"));
    }
    for (kind, count) in &ours.counts.named()[..6] {
        assert_eq!(*count, expected.counts[*kind], "{name}: number of {kind}");
    }
    check_classes(&ours, expected, &name.to_string());
}

fn check_classes(ours: &Tide, expected: &Expectation, name: &str) {
    assert_eq!(ours.per_class.len(), expected.per_class.len(), "{name}");
    for (ours, theirs) in ours.per_class.iter().zip(&expected.per_class) {
        assert_eq!(ours.category_id, theirs.id, "{name}");
        near(ours.ap, theirs.ap, &format!("{name}: AP of {}", theirs.id));
        for (i, (kind, dap)) in ours.dap.named().into_iter().enumerate() {
            let change = theirs.mended[kind].zip(theirs.ap).map(|(mended, ap)| mended - ap);
            let change = if i < 6 { change.map(|change| change.max(0.0)) } else { change };
            near(dap, change, &format!("{name}: dAP of {kind}, class {}", theirs.id));
        }
    }
}

/// `percent` is the package's.
fn near(ours: Option<f64>, percent: Option<f64>, what: &str) {
    let close = match (ours, percent) {
        (Some(ours), Some(percent)) => (ours - percent / 100.0).abs() <= TOLERANCE,
        (ours, percent) => ours.is_none() && percent.is_none(),
    };
    assert!(close, "{what}: {ours:?}, tidecv has {percent:?} %");
}

#[test]
fn equals_what_tidecv_said_about_the_recorded_data_sets() {
    let records = recorded();
    assert!(records.len() >= 40, "only {} fixtures were found", records.len());
    records.iter().for_each(|(file, record)| check(file, record));
}

#[test]
fn equals_what_tidecv_says_about_data_sets_generated_now() {
    let count = std::env::var("DETGATE_TEST_DATASETS").map_or(500, |n| n.parse().unwrap());
    // Without the Python there is nothing to compare with; `cargo xtask test` brings it.
    let Some((_folder, records)) = generated(10_000, count) else {
        return;
    };
    records.iter().for_each(|(file, record)| check(file, record));
}

#[test]
fn the_recorded_data_sets_reach_what_they_are_for() {
    let records = recorded();
    let ours: Vec<Tide> = records.iter().map(|(_, record)| record.evaluate()).collect();
    for (i, (kind, _)) in Kinds::<u64>::default().named().into_iter().enumerate() {
        let weighs = |tide: &&Tide| tide.dap.named()[i].1.is_some_and(|dap| dap.abs() > 0.005);
        let count = ours.iter().filter(weighs).count();
        assert!(count >= 5, "{kind} changes AP in {count} data sets only");
        assert!(ours.iter().any(|tide| tide.counts.named()[i].1 == 0), "{kind} is never absent");
    }
    let most = |(_, r): &(_, TideRecord)| r.images().iter().map(|(_, dts)| dts.len()).max();
    let cut = records.iter().filter(|record| most(record).is_some_and(|n| n > 100));
    assert!(cut.count() >= 4, "the limit of 100 is hardly ever reached");
}

#[test]
fn a_report_survives_json() {
    let (_, record) = &recorded()[0];
    let ours = record.evaluate();
    let json = serde_json::to_value(&ours).unwrap();
    assert_eq!(json["counts"]["FalseNeg"].as_u64(), Some(ours.counts.false_neg));
    let back: Tide = serde_json::from_value(json).unwrap();
    assert_eq!(back, ours);
}
