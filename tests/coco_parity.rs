//! The COCO protocol equals pycocotools 2.0.11 in every bit: on recorded results always, and on
//! freshly generated data sets where `DETGATE_TEST_PYTHON` offers pycocotools.

mod oracle;

use detgate::metrics::CocoSummary;
use detgate::metrics::coco::Curves;
use oracle::Record;

/// What pycocotools says for an undefined value.
const ABSENT: f64 = -1.0;

fn bits(summary: &CocoSummary) -> Vec<String> {
    let values = summary.named().map(|(_, value)| value.unwrap_or(ABSENT));
    values.iter().map(|value| format!("{:016x}", value.to_bits())).collect()
}

/// Precision, scores and recall as numpy holds them: `[T, R, K, A, M]`, and recall `[T, K, A, M]`.
fn arrays(curves: &Curves) -> [Vec<f64>; 3] {
    let [t, r, k, a, m] = curves.shape();
    let (mut precision, mut scores, mut recall) = (Vec::new(), Vec::new(), Vec::new());
    for t in 0..t {
        for r in 0..r {
            for (k, a, m) in cells(k, a, m) {
                precision.push(curves.precision(t, r, k, a, m).unwrap_or(ABSENT));
                scores.push(curves.score(t, r, k, a, m).unwrap_or(ABSENT));
            }
        }
        recall.extend(cells(k, a, m).map(|(k, a, m)| curves.recall(t, k, a, m).unwrap_or(ABSENT)));
    }
    [precision, scores, recall]
}

fn cells(k: usize, a: usize, m: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..k * a * m).map(move |i| (i / (a * m), i / m % a, i % m))
}

/// As `coco_oracle.digest`.
fn digest(values: &[f64]) -> String {
    let fold = |hash: u64, v: &f64| (hash ^ v.to_bits()).wrapping_mul(0x100_0000_01b3);
    format!("{:016x}", values.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// Compares everything; the arrays themselves where they were written, for a message that helps.
fn check(record: &Record) {
    let name = record.name();
    let metrics = record.evaluate().coco;
    let arrays = arrays(&metrics.curves);
    assert_eq!(metrics.curves.shape(), record.coco.shape, "{name}");
    if let Ok(bytes) = std::fs::read(record.file.with_extension("f64")) {
        let expected = bytes.as_chunks::<8>().0.iter().map(|word| f64::from_le_bytes(*word));
        let ours = arrays.iter().flatten();
        assert_eq!(expected.len(), ours.clone().count(), "{name}");
        for (i, (ours, expected)) in ours.zip(expected).enumerate() {
            assert_eq!(ours.to_bits(), expected.to_bits(), "{name}: {ours} {expected} at {i}");
        }
    }
    assert_eq!(arrays.map(|values| digest(&values)), record.coco.digests, "{name}");
    assert_eq!(bits(&metrics.summary), record.coco.stats, "{name}: {:?}", metrics.summary);
    let per_class: Vec<_> = metrics.per_class.iter().map(|class| bits(&class.summary)).collect();
    assert_eq!(per_class, record.coco.per_class, "{name}");
}

#[test]
fn equals_what_pycocotools_said_about_the_recorded_data_sets() {
    let records = oracle::recorded();
    assert!(records.len() >= 75, "only {} fixtures were found", records.len());
    records.iter().for_each(check);
}

#[test]
fn equals_what_pycocotools_says_about_data_sets_generated_now() {
    let count = std::env::var("DETGATE_TEST_DATASETS").map_or(250, |n| n.parse().unwrap());
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
