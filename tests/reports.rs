//! What a run prints and writes, as a reader sees it.

use std::collections::BTreeMap;

use detgate::config::{GateConfig, Rule};
use detgate::dataset::{Bbox, Category, GroundTruth, ImageRecord};
use detgate::detections::Detection;
use detgate::gate::{
    Assessment, Baseline, Evidence, Fingerprint, Policy, Provenance, Recorded, SCHEMA, Snapshot,
    judge,
};
use detgate::matching::coco::CocoParams;
use detgate::matching::practical::PracticalParams;
use detgate::metrics::{Evaluation, evaluate};
use detgate::report::{
    DataSummary, Report, SkippedImage, csv_table, github, junit, markdown, terminal,
};

fn categories() -> Vec<Category> {
    [(1, "person"), (3, "car")].map(|(id, name)| Category { id, name: name.to_owned() }).to_vec()
}

/// Two persons and a car on one picture.
fn image() -> ImageRecord {
    let gt = |id, category_id, x| GroundTruth {
        id,
        category_id,
        bbox: Bbox::from([x, 0.0, 40.0, 40.0]),
        area: 1600.0,
        is_crowd: false,
        ignore: false,
    };
    ImageRecord {
        id: 1,
        file_name: "street.jpg".to_owned(),
        path: "street.jpg".into(),
        width: 320,
        height: 240,
        ground_truth: vec![gt(1, 1, 0.0), gt(2, 1, 100.0), gt(3, 3, 200.0)],
    }
}

fn run(found: &[(i64, f64, f64)]) -> (Evaluation, Snapshot) {
    let detections: Vec<Detection> = found
        .iter()
        .map(|&(category_id, x, score)| Detection {
            bbox: Bbox::from([x, 0.0, 40.0, 40.0]),
            score,
            category_id,
        })
        .collect();
    let practical = PracticalParams { score_thr: 0.5, iou_thr: 0.5 };
    let image = image();
    let evaluation =
        evaluate(&categories(), &[(&image, &detections)], &practical, &CocoParams::default())
            .unwrap();
    let mut fingerprint = Fingerprint::default();
    fingerprint.record("score_thr", 0.5);
    let provenance = Provenance {
        checkpoint: "best_street.pt".to_owned(),
        checkpoint_blake3: "0".repeat(64),
        engine: "detgate".to_owned(),
    };
    let metrics = evaluation.table();
    let (recorded, detections_blake3) = (Recorded::default(), None);
    let schema = SCHEMA;
    (evaluation, Snapshot { schema, fingerprint, provenance, recorded, detections_blake3, metrics })
}

fn policy() -> Policy {
    let rule = |max_drop, min| Rule { max_drop, min, ..Rule::default() };
    Policy::new(BTreeMap::from([
        ("AP50".to_owned(), rule(Some(0.01), Some(0.2))),
        ("AP50/*".to_owned(), rule(Some(0.5), None)),
        ("recall".to_owned(), rule(None, Some(0.9))),
    ]))
    .unwrap()
}

fn report(run: &(Evaluation, Snapshot), baseline: Option<&Snapshot>) -> Report {
    let (evaluation, candidate) = run;
    let baseline = baseline.map(|snapshot| Baseline::of("b.snap".to_owned(), snapshot, None));
    let evidence = Evidence::of_tables(&candidate.metrics, baseline.as_ref());
    let settings = GateConfig::default();
    let judgement = judge(candidate, baseline.as_ref(), &evidence, &policy(), &settings).unwrap();
    let (candidate, evaluation) = (candidate.clone(), evaluation.clone());
    let data = DataSummary {
        images: 1,
        ground_truth: 3,
        zero_area_boxes: 1,
        skipped_images: vec![SkippedImage {
            file_name: "torn.jpg".to_owned(),
            reason: "torn.jpg: the JPEG data is truncated".to_owned(),
        }],
    };
    let assessment = Assessment { candidate, evaluation, judgement, why: None };
    Report::of(assessment, data, PracticalParams { score_thr: 0.5, iou_thr: 0.5 })
}

fn with_report<T>(
    run: &(Evaluation, Snapshot),
    baseline: Option<&Snapshot>,
    read: impl Fn(&Report) -> T,
) -> T {
    read(&report(run, baseline))
}

fn good() -> (Evaluation, Snapshot) {
    run(&[(1, 0.0, 0.9), (1, 101.0, 0.8), (3, 200.0, 0.7)])
}

fn bad() -> (Evaluation, Snapshot) {
    run(&[(1, 0.0, 0.9), (1, 160.0, 0.85)])
}

#[test]
fn a_passed_run_in_the_terminal() {
    insta::assert_snapshot!(with_report(&good(), Some(&good().1), terminal::tables));
}

#[test]
fn a_regressed_run_in_the_terminal() {
    insta::assert_snapshot!(with_report(&bad(), Some(&good().1), terminal::tables));
}

#[test]
fn a_run_that_cannot_be_compared_in_the_terminal() {
    let mut other = good().1;
    other.fingerprint.record("score_thr", 0.3);
    insta::assert_snapshot!(with_report(&good(), Some(&other), terminal::verdict), @r"
    INCOMPARABLE with the baseline
      score_thr: baseline 0.3, candidate 0.5
    ");
    insta::assert_snapshot!(with_report(&good(), None, terminal::verdict), @r"
    INCOMPARABLE with the baseline
      there is no baseline yet
    ");
}

/// Every form is made from what the JSON says, and the JSON says all of it.
#[test]
fn a_report_that_is_read_again_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evaluation.json");
    for baseline in [Some(good().1), None] {
        let written = report(&bad(), baseline.as_ref());
        std::fs::write(&path, written.to_json().unwrap()).unwrap();
        let read = Report::read(&path).unwrap();
        assert_eq!(read.to_json().unwrap(), written.to_json().unwrap());
        assert_eq!(terminal::tables(&read), terminal::tables(&written));
    }
}

#[test]
fn what_is_read_gives_no_permission_to_register() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evaluation.json");
    let passed = report(&good(), Some(&good().1));
    assert!(passed.judgement.passed().is_some());
    std::fs::write(&path, passed.to_json().unwrap()).unwrap();
    let read = Report::read(&path).unwrap();
    assert_eq!(read.judgement.verdict, detgate::gate::Verdict::Passed);
    assert!(read.judgement.passed().is_none());
}

#[test]
fn what_is_no_report_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evaluation.json");
    assert!(Report::read(&path).unwrap_err().to_string().contains("evaluation.json"));
    for text in ["", "{}", "{\"schema\": 1}", "[]", "{\"schema\": 3}"] {
        std::fs::write(&path, text).unwrap();
        let error = Report::read(&path).unwrap_err().to_string();
        assert!(error.contains("evaluation.json is not a report"), "{error}");
    }
}

#[test]
fn a_regressed_run_as_markdown() {
    insta::assert_snapshot!(with_report(&bad(), Some(&good().1), markdown::summary));
}

#[test]
fn a_regressed_run_as_junit() {
    insta::assert_snapshot!(with_report(&bad(), Some(&good().1), |r| junit::xml(r).unwrap()));
    let none = with_report(&bad(), None, |r| junit::xml(r).unwrap());
    assert!(none.contains("there is no baseline yet"), "{none}");
}

#[test]
fn a_regressed_run_as_annotations() {
    insta::assert_snapshot!(with_report(&bad(), Some(&good().1), github::annotations));
    assert_eq!(with_report(&good(), Some(&good().1), github::annotations), "");
}

#[test]
fn a_regressed_run_as_csv() {
    insta::assert_snapshot!(
        with_report(&bad(), Some(&good().1), |r| csv_table::per_class(r).unwrap())
    );
}

#[test]
fn the_json_report_holds_everything_and_equal_runs_give_equal_bytes() {
    let json = |()| with_report(&bad(), Some(&good().1), |report| report.to_json().unwrap());
    assert_eq!(json(()), json(()));
    insta::assert_snapshot!(json(()));
}
