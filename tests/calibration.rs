//! Calibration errors equal a plain program's, and do not depend on what must not matter.

mod oracle;

use std::path::Path;

use detgate::dataset::{Bbox, GroundTruth, ImageRecord};
use detgate::detections::Detection;
use detgate::matching::iou;
use detgate::metrics::calibration::{Calibration, CalibrationParams, calibration};
use oracle::tide::{ReliabilityExpectation, TideRecord, generated, recorded};

fn calibrate(record: &TideRecord, images: &[(ImageRecord, Vec<Detection>)]) -> Calibration {
    let views: Vec<(&ImageRecord, &[Detection])> =
        images.iter().map(|(image, dts)| (image, dts.as_slice())).collect();
    calibration(&record.categories(), &views, &CalibrationParams::default()).unwrap()
}

fn near(ours: Option<f64>, theirs: Option<f64>, what: &str) {
    let close = match (ours, theirs) {
        (Some(ours), Some(theirs)) => (ours - theirs).abs() <= 1e-12,
        (ours, theirs) => ours.is_none() && theirs.is_none(),
    };
    assert!(close, "{what}: {ours:?}, the oracle has {theirs:?}");
}

fn check(file: &Path, record: &TideRecord) {
    let (name, expected) = (file.display(), &record.calibration);
    let ours = calibrate(record, &record.images());
    near(ours.la_ece, expected.la_ece, &format!("{name}: LaECE"));
    near(ours.ece, expected.ece, &format!("{name}: ECE"));
    let pooled = (ours.pooled.detections, ours.pooled.la_ece, ours.pooled.ece);
    check_errors(pooled, &expected.pooled, &format!("{name}: pooled"));
    assert_eq!(ours.pooled.bins.len(), expected.pooled.bins.len(), "{name}");
    for (bin, [count, score, precision, iou]) in ours.pooled.bins.iter().zip(&expected.pooled.bins)
    {
        let what = format!("{name}: bin up to {}", bin.upper);
        assert_eq!(Some(bin.detections as f64), *count, "{what}");
        near(bin.mean_score, *score, &what);
        near(bin.precision, *precision, &what);
        near(bin.mean_iou, *iou, &what);
    }
    assert_eq!(ours.per_class.len(), expected.per_class.len(), "{name}");
    for (ours, theirs) in ours.per_class.iter().zip(&expected.per_class) {
        let what = format!("{name}: class {}", ours.category_id);
        check_errors((ours.detections, ours.la_ece, ours.ece), theirs, &what);
    }
}

fn check_errors(
    (detections, la_ece, ece): (u64, Option<f64>, Option<f64>),
    theirs: &ReliabilityExpectation,
    what: &str,
) {
    assert_eq!(detections, theirs.detections, "{what}");
    near(la_ece, theirs.la_ece, &format!("{what}: LaECE"));
    near(ece, theirs.ece, &format!("{what}: ECE"));
}

#[test]
fn equals_the_oracle_on_the_recorded_data_sets() {
    let records = recorded();
    assert!(records.len() >= 40, "only {} fixtures were found", records.len());
    records.iter().for_each(|(file, record)| check(file, record));
}

#[test]
fn equals_the_oracle_on_data_sets_generated_now() {
    let count = std::env::var("DETGATE_TEST_DATASETS").map_or(300, |n| n.parse().unwrap());
    // Without the Python there is nothing to compare with; `cargo xtask test` brings it.
    let Some((_folder, records)) = generated(20_000, count) else {
        return;
    };
    records.iter().for_each(|(file, record)| check(file, record));
}

#[test]
fn a_shuffled_file_has_the_same_calibration_to_the_last_bit() {
    for (file, record) in recorded() {
        let mut images = record.images();
        let ours = calibrate(&record, &images);
        images.reverse();
        images.iter_mut().for_each(|(_, dts)| dts.reverse());
        assert_eq!(calibrate(&record, &images), ours, "{}", file.display());
    }
}

#[test]
fn scores_that_are_the_iou_are_calibrated_over_iou_and_not_over_precision() {
    let mut checked = 0;
    for (file, record) in recorded() {
        let mut images = record.images();
        images.retain(|(image, _)| every_object_stands_alone(image));
        for (image, dts) in &mut images {
            // One detection per object, which tells its own IoU with it.
            let tell = |gt: &GroundTruth| Detection {
                bbox: Bbox { w: gt.bbox.w * 0.75, ..gt.bbox },
                score: 0.75,
                category_id: gt.category_id,
            };
            *dts = image.ground_truth.iter().map(tell).collect();
        }
        let ours = calibrate(&record, &images);
        let Some((la_ece, ece)) = ours.la_ece.zip(ours.ece) else { continue };
        assert!(la_ece < 1e-9 && (ece - 0.25).abs() < 1e-9, "{}: {ours:?}", file.display());
        checked += 1;
    }
    assert!(checked >= 8, "only {checked} data sets have such images");
}

/// No crowds, no box without area, no two boxes that overlap.
fn every_object_stands_alone(image: &ImageRecord) -> bool {
    let gts = &image.ground_truth;
    let apart = |a: usize, b: usize| iou(&gts[a].bbox, &gts[b].bbox) == 0.0;
    gts.iter().all(|gt| !gt.is_crowd && gt.bbox.area() > 0.0)
        && (0..gts.len()).all(|a| (0..a).all(|b| apart(a, b)))
}
