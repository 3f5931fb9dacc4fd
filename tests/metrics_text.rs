//! Metrics as a reader sees them in a terminal.

mod oracle;

use std::collections::BTreeMap;
use std::path::Path;

use detgate::dataset::{Bbox, Category, GroundTruth, ImageRecord};
use detgate::detections::Detection;
use detgate::matching::coco::CocoParams;
use detgate::matching::practical::PracticalParams;
use detgate::metrics::details::{DetailParams, Details, details};
use detgate::metrics::per_image::worst_first;
use detgate::metrics::{CocoSummary, evaluate};
use detgate::report::metrics_text;
use oracle::Record;

fn coco_lines(record: &Record) -> String {
    metrics_text::coco_lines(&record.evaluate().coco.summary, &record.coco_params())
}

/// The snapshots were compared with pycocotools by the test below.
#[test]
fn the_12_lines_are_those_of_pycocotools() {
    let find = |name: &str| oracle::recorded().into_iter().find(|r| r.name() == name).unwrap();
    insta::assert_snapshot!(coco_lines(&find("random_3")));
    insta::assert_snapshot!(coco_lines(&find("max_dets_without_100_leaves_ap_undefined")));
    insta::assert_snapshot!(coco_lines(&find("iou_threshold_of_1_is_lowered")));
    insta::assert_snapshot!(coco_lines(&find("no_ground_truth_and_no_detections")));
}

#[test]
fn the_12_lines_are_what_pycocotools_prints_now() {
    // Without the Python there is nothing to compare with; `cargo xtask test` brings it.
    let Some(python) = std::env::var_os("DETGATE_TEST_PYTHON") else {
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = std::process::Command::new(python)
        .arg(root.join("tests/oracle/summary_text.py"))
        .arg(root.join("fixtures/metrics"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("DETGATE_TEST_PYTHON must name a Python that can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let texts: BTreeMap<String, String> = serde_json::from_slice(&output.stdout).unwrap();
    let records = oracle::recorded();
    assert_eq!(texts.len(), records.len());
    for record in records {
        assert_eq!(coco_lines(&record), texts[&record.name()], "{}", record.name());
    }
}

#[test]
fn a_limit_that_is_missing_is_said() {
    let params = CocoParams { max_dets: vec![5, 3], ..CocoParams::default() };
    let lines = metrics_text::coco_lines(&CocoSummary::default(), &params);
    let limit = |line: &str| line[line.find("maxDets=").unwrap() + 8..][..3].trim().to_owned();
    let limits: Vec<String> = lines.lines().map(limit).collect();
    assert_eq!(limits, ["100", "-", "-", "-", "-", "-", "3", "5", "-", "-", "-", "-"]);
    assert!(lines.contains("| area=   all | maxDets=  3 ] = -1.000\n"), "{lines}");
    assert!(lines.contains("| area= small | maxDets=  - ] = -1.000\n"), "{lines}");
}

// ---- tables --------------------------------------------------------------------------------------

const NAMES: [&str; 12] = [
    "person", "bicycle", "car", "bus", "train", "truck", "boat", "bench", "bird", "cat", "dog",
    "horse",
];

fn categories(count: usize) -> Vec<Category> {
    let category = |(id, name): (i64, &&str)| Category { id, name: (*name).to_owned() };
    (1..).zip(&NAMES[..count]).map(category).collect()
}

/// Objects of each class stand in a row of boxes; `seen` are (place, class, score).
fn image(id: i64, truth: &[i64], seen: &[(usize, i64, f64)]) -> (ImageRecord, Vec<Detection>) {
    let bbox = |place: usize| Bbox::from([place as f64 * 100.0, 0.0, 50.0, 50.0]);
    let gts = truth.iter().enumerate().map(|(place, &category_id)| GroundTruth {
        id: id * 100 + place as i64,
        category_id,
        bbox: bbox(place),
        area: 2500.0,
        is_crowd: false,
        ignore: false,
    });
    let dts = seen.iter().map(|&(place, category_id, score)| Detection {
        bbox: bbox(place),
        score,
        category_id,
    });
    (oracle::record(id, gts.collect()), dts.collect())
}

/// Persons are found; cars are now and then taken for buses, or seen where nothing is (place 9).
fn street() -> Vec<(ImageRecord, Vec<Detection>)> {
    vec![
        image(1, &[1, 1, 3], &[(0, 1, 0.98), (1, 1, 0.91), (2, 4, 0.83)]),
        image(2, &[3, 3, 1], &[(0, 3, 0.95), (1, 4, 0.62), (2, 1, 0.55), (9, 3, 0.58)]),
        image(3, &[4, 1], &[(0, 4, 0.77), (9, 1, 0.31)]),
        image(4, &[1], &[(0, 1, 0.88)]),
        image(5, &[], &[(9, 12, 0.7)]),
    ]
}

fn street_details(classes: usize) -> Details {
    let street = street();
    let views: Vec<_> = street.iter().map(|(image, dts)| (image, dts.as_slice())).collect();
    let (params, coco) = (DetailParams::default(), CocoParams::default());
    details(&categories(classes), &views, &params, &coco).unwrap()
}

#[test]
fn a_row_of_the_12_numbers_for_each_class() {
    let street = street();
    let views: Vec<_> = street.iter().map(|(image, dts)| (image, dts.as_slice())).collect();
    let (practical, coco) = (PracticalParams::default(), CocoParams::default());
    let evaluation = evaluate(&categories(4), &views, &practical, &coco).unwrap();
    insta::assert_snapshot!(metrics_text::per_class(&evaluation.coco));
}

#[test]
fn all_details_of_a_few_classes() {
    let details = street_details(4);
    let worst = worst_first(&details.per_image, 3);
    let file_name = |id| ["1", "2.jpg", "b/3.jpg"].get(id as usize - 1).copied();
    insta::assert_snapshot!(metrics_text::details(&details, &worst, file_name));
}

#[test]
fn of_many_classes_only_the_largest_confusions_are_listed() {
    let matrix = street_details(12).confusion;
    insta::assert_snapshot!(metrics_text::confusion(&matrix));

    // Every class is taken for every other, the first ones most often; 20 of 132 are shown.
    let truth: Vec<i64> = (1..=12).collect();
    let taken = |shift: i64| {
        let seen: Vec<_> =
            truth.iter().map(|&id| (id as usize - 1, (id - 1 + shift) % 12 + 1, 0.9)).collect();
        image(shift, &truth, &seen)
    };
    let mut images: Vec<_> = (0..12).map(taken).collect();
    images.push(image(50, &[1, 1], &[(0, 2, 0.9), (1, 2, 0.9)]));
    let views: Vec<_> = images.iter().map(|(image, dts)| (image, dts.as_slice())).collect();
    let (params, coco) = (DetailParams::default(), CocoParams::default());
    let all = details(&categories(12), &views, &params, &coco).unwrap();
    let text = metrics_text::confusion(&all.confusion);
    let rows: Vec<&str> = text.lines().skip(3).collect();
    assert_eq!(rows.len(), 20, "{text}");
    assert_eq!(rows[0].split_whitespace().collect::<Vec<_>>(), ["person", "bicycle", "3", "14"]);
    assert_eq!(rows[1].split_whitespace().collect::<Vec<_>>(), ["person", "car", "1", "14"]);
}

#[test]
fn without_data_the_tables_are_there() {
    let empty = details(&[], &[], &DetailParams::default(), &CocoParams::default()).unwrap();
    insta::assert_snapshot!(metrics_text::details(&empty, &[], |_| None));
}
