//! The practical protocol equals an independent plain-Python implementation in every bit
//! (`tests/oracle/practical_oracle.py`): on recorded results always, and on freshly generated data
//! sets where `DETGATE_TEST_PYTHON` is there to run it.

mod oracle;

use oracle::Record;
use serde_json::Value;

fn check(record: &Record) {
    let name = record.name();
    let ours = serde_json::to_value(record.evaluate().practical).unwrap();
    let expected = &record.practical;
    assert_eq!(ours["global"], expected["global"], "{name}");
    assert_eq!(ours["mAP50_approx"], expected["mAP50_approx"], "{name}");
    let classes = |value: &Value| value["per_class"].as_array().unwrap().clone();
    assert_eq!(classes(&ours).len(), classes(expected).len(), "{name}");
    for (ours, expected) in classes(&ours).iter().zip(classes(expected)) {
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&ours[key], value, "{name}: {key} of {}", ours["name"]);
        }
    }
}

#[test]
fn equals_the_plain_loops_on_the_recorded_data_sets() {
    let records = oracle::recorded();
    records.iter().for_each(check);
    let interesting = |r: &&Record| {
        let global = &r.practical["global"];
        ["tp", "fp", "fn"].iter().all(|key| global[key].as_u64().unwrap() > 0)
    };
    assert!(records.iter().filter(interesting).count() >= 20);
}

#[test]
fn equals_the_plain_loops_on_data_sets_generated_now() {
    // Without the Python there is nothing to compare with; `cargo xtask test` brings it.
    let Some((_folder, records)) = oracle::generated(50_000, 200) else {
        return;
    };
    records.iter().for_each(check);
}
