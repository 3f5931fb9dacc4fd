//! The COCO protocol equals pycocotools 2.0.11 in every bit: on recorded results always, and on
//! freshly generated data sets where `DETGATE_TEST_PYTHON` offers pycocotools.

mod oracle;

use detgate::metrics::CocoSummary;
use oracle::Record;

/// Compares everything; the arrays themselves where they were written, for a message that helps.
fn check(record: &Record) {
    let name = record.name();
    let metrics = record.evaluate().coco;
    let arrays = oracle::arrays(&metrics.curves);
    assert_eq!(metrics.curves.shape(), record.coco.shape, "{name}");
    oracle::check_arrays(&record.file, &arrays);
    assert_eq!(arrays.map(|values| oracle::digest(&values)), record.coco.digests, "{name}");
    let bits = |summary: &CocoSummary| oracle::bits(summary.named());
    assert_eq!(bits(&metrics.summary), record.coco.stats, "{name}: {:?}", metrics.summary);
    let per_class: Vec<_> = metrics.per_class.iter().map(|class| bits(&class.summary)).collect();
    assert_eq!(per_class, record.coco.per_class, "{name}");
}

#[test]
fn equals_what_pycocotools_said_about_the_recorded_data_sets() {
    let records = oracle::recorded();
    assert!(records.len() >= 85, "only {} fixtures were found", records.len());
    records.iter().for_each(check);
}

#[test]
fn equals_what_pycocotools_says_about_data_sets_generated_now() {
    let count = std::env::var("DETGATE_TEST_DATASETS").map_or(500, |n| n.parse().unwrap());
    // Without the Python there is nothing to compare with; `cargo xtask test` brings it.
    let Some((_folder, records)) = oracle::generated(10_000, count) else {
        return;
    };
    records.iter().for_each(check);
}

#[test]
fn the_recorded_data_sets_reach_what_they_are_for() {
    let summaries: Vec<CocoSummary> =
        oracle::recorded().iter().map(|record| record.evaluate().coco.summary).collect();
    for (i, (name, _)) in CocoSummary::default().named().into_iter().enumerate() {
        let between = |s: &&CocoSummary| s.named()[i].1.is_some_and(|v| v > 0.05 && v < 0.95);
        let count = summaries.iter().filter(between).count();
        assert!(count >= 8, "{name} is neither absent nor trivial in {count} data sets only");
    }
}
