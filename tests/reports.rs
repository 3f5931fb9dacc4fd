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
    DataSummary, Report, SkippedImage, csv_table, curves, github, junit, markdown, terminal,
    version_page,
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
    let assessment = Assessment { candidate, evaluation, judgement, why: None, analysis: None };
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
    for text in ["", "{}", "[]", "{\"schema\": 3}", "{\"schema\": 4}"] {
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

/// With every digit, and by the names of the JSON report; no clock, and so no time.
#[test]
fn a_test_case_has_the_values_of_its_metric_as_properties() {
    let report = report(&bad(), Some(&good().1));
    let xml = junit::xml(&report).unwrap();
    assert!(!xml.contains("time"), "{xml}");
    let document = roxmltree::Document::parse(&xml).unwrap();
    let cases: Vec<roxmltree::Node> =
        document.descendants().filter(|node| node.has_tag_name("testcase")).collect();
    let judged: Vec<_> = report.judgement.comparisons.iter().filter(|c| c.rule.is_some()).collect();
    assert_eq!(cases.len(), judged.len(), "one for each rule and metric");
    for (case, comparison) in cases.iter().zip(judged) {
        assert_eq!(case.attribute("name"), Some(comparison.metric.as_str()));
        let of = |name: &str| {
            let mut properties = case.descendants().filter(|node| node.has_tag_name("property"));
            properties.find(|node| node.attribute("name") == Some(name))?.attribute("value")
        };
        let number = |name: &str| of(name).map(|text| text.parse::<f64>().unwrap());
        assert_eq!(number("baseline"), comparison.baseline);
        assert_eq!(number("candidate"), comparison.candidate);
        assert_eq!(number("change"), comparison.change);
        assert_eq!(number("max_drop"), comparison.rule.unwrap().max_drop);
        assert_eq!(number("min"), comparison.rule.unwrap().min);
        assert_eq!(of("tier"), Some("block"));
        assert_eq!(of("finding").is_some(), comparison.finding.is_some());
    }
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

#[test]
fn a_passed_run_on_the_page_of_its_version() {
    let summary = |report: &Report| version_page::summary(report, "baseline.snap");
    insta::assert_snapshot!(with_report(&good(), Some(&good().1), summary));
}

/// MLflow cuts what is longer, in the middle of a table.
#[test]
fn a_version_s_page_of_many_classes_with_long_names_has_whole_rows_within_its_limit() {
    let mut many = good();
    for i in 0..2000 {
        many.1.metrics.insert(format!("AP50/{i}{}", "|<*_`".repeat(50)), Some(0.5));
    }
    let text = with_report(&many, Some(&many.1), |report| version_page::summary(report, "b.snap"));
    assert!((2500..=4000).contains(&text.chars().count()), "{text}");
    assert!(text.ends_with("more in the report.\n"), "{text}");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
    assert!(
        rows.iter()
            .all(|row| row.ends_with('|')
                && row.matches('|').count() == rows[0].matches('|').count())
    );
}

/// The numbers of a curve stand in the picture as they stand in the arrays.
#[test]
fn curves_are_drawn_for_each_class_with_ground_truth() {
    let (evaluation, _) = bad();
    let drawings = curves::drawings(&evaluation.coco, &CocoParams::default());
    let names: Vec<&str> = drawings.iter().map(|(name, _)| name.as_str()).collect();
    let expected =
        ["precision_recall.svg", "precision_recall_1_person.svg", "precision_recall_3_car.svg"];
    assert_eq!(names, expected);
    let document = roxmltree::Document::parse(&drawings[1].1).unwrap();
    let texts: Vec<&str> = document.descendants().filter_map(|node| node.text()).collect();
    assert!(
        texts.contains(&"Precision and recall: person") && texts.contains(&"AP50 0.505"),
        "{texts:?}"
    );
    let lines: Vec<Vec<(f64, f64)>> = document
        .descendants()
        .filter_map(|node| node.attribute("points"))
        .map(|points| points.split(' ').map(pair).collect())
        .collect();
    // One of two persons is found, first: precision 1 up to recall 0.5, at recalls 0, 0.01, .. 0.5.
    let [left, top, side] = [64.0, 48.0, 368.0];
    let mut wanted: Vec<(f64, f64)> =
        (0..=50).map(|r| (left + side * f64::from(r) / 100.0, top)).collect();
    wanted.push((left + side / 2.0, top + side));
    assert_eq!((lines.len(), lines[0].len()), (3, wanted.len()));
    for ((x, y), (wanted_x, wanted_y)) in std::iter::zip(&lines[0], &wanted) {
        assert!((x - wanted_x).abs() <= 0.051 && (y - wanted_y).abs() <= 0.051, "{x},{y}");
    }
    // Of the cars none was found: there is no line to draw.
    let cars = roxmltree::Document::parse(&drawings[2].1).unwrap();
    assert!(cars.descendants().filter_map(|node| node.attribute("points")).all(str::is_empty));
}

fn pair(point: &str) -> (f64, f64) {
    let (x, y) = point.split_once(',').unwrap();
    (x.parse().unwrap(), y.parse().unwrap())
}

#[test]
fn a_class_s_name_is_text_in_a_picture() {
    let (mut evaluation, _) = good();
    evaluation.coco.per_class[0].name = "</text><script>\u{1b}&\"../..".to_owned();
    let drawings = curves::drawings(&evaluation.coco, &CocoParams::default());
    assert!(drawings.iter().all(|(name, _)| !name.contains(['/', '<', '&'])));
    for (_, svg) in &drawings {
        let document = roxmltree::Document::parse(svg).unwrap();
        assert!(!document.descendants().any(|node| node.has_tag_name("script")), "{svg}");
    }
}
