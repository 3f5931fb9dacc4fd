//! Each `--fix` mends its trap, and nothing else: on the recorded data sets.

mod oracle;

use detgate::dataset::{Federation, ImageRecord};
use detgate::detections::Detection;
use detgate::matching::coco::CocoParams;
use detgate::matching::practical::PracticalParams;
use detgate::matching::{Fix, Fixes};
use detgate::metrics::lvis::{self, LvisParams};
use detgate::metrics::{CocoMetrics, evaluate};
use oracle::Record;

type Image = (ImageRecord, Vec<Detection>);

fn views(images: &[Image]) -> Vec<(&ImageRecord, &[Detection])> {
    images.iter().map(|(image, dts)| (image, dts.as_slice())).collect()
}

fn named(name: &str) -> Record {
    oracle::recorded().into_iter().find(|record| record.name() == name).unwrap()
}

fn with(record: &Record, fix: Fix) -> CocoMetrics {
    let fixes = Fixes::from_iter([fix]);
    record.evaluate_with(&CocoParams { fixes, ..record.coco_params() }).coco
}

/// pycocotools' result for images that were changed by hand.
fn of(record: &Record, images: &[Image]) -> CocoMetrics {
    let practical = PracticalParams::default();
    let params = record.coco_params();
    evaluate(&record.categories(), &views(images), &practical, &params).unwrap().coco
}

/// In how many records the fix makes a difference; it must make none where its trap does not occur.
fn differences(fix: Fix, occurs: impl Fn(&Record) -> bool) -> usize {
    let count = |record: &Record| {
        let (before, after) = (record.evaluate().coco, with(record, fix));
        assert!(occurs(record) || before == after, "{}", record.name());
        usize::from(before != after)
    };
    oracle::recorded().iter().map(count).sum()
}

fn close(value: Option<f64>, expected: f64) -> bool {
    value.is_some_and(|value| (value - expected).abs() < 1e-9)
}

#[test]
fn annotation_id_zero_is_found_as_if_it_had_another_id() {
    let has_zero = |record: &Record| {
        let images = record.images();
        images.iter().any(|(image, _)| image.ground_truth.iter().any(|gt| gt.id == 0))
    };
    assert!(differences(Fix::AnnotationIdZero, has_zero) >= 5);
    for record in oracle::recorded() {
        let mut images = record.images();
        let gts = images.iter_mut().flat_map(|(image, _)| &mut image.ground_truth);
        gts.for_each(|gt| gt.id |= 1 << 62);
        assert_eq!(with(&record, Fix::AnnotationIdZero), of(&record, &images), "{}", record.name());
    }
    let record = named("annotation_id_0_is_found_but_counts_as_a_false_positive");
    assert!(record.evaluate().coco.summary.ap < Some(0.5));
    // Found by the first of three detections; the second is the false positive now.
    assert!(close(with(&record, Fix::AnnotationIdZero).summary.ar100, 1.0));
}

#[test]
fn box_area_is_what_the_areas_field_would_say_if_it_were_the_boxs() {
    let other_areas = |record: &Record| {
        let images = record.images();
        let mut gts = images.iter().flat_map(|(image, _)| &image.ground_truth);
        gts.any(|gt| gt.area != gt.bbox.area())
    };
    assert!(differences(Fix::BoxArea, other_areas) >= 20);
    for record in oracle::recorded() {
        let mut images = record.images();
        let gts = images.iter_mut().flat_map(|(image, _)| &mut image.ground_truth);
        gts.for_each(|gt| gt.area = gt.bbox.area());
        assert_eq!(with(&record, Fix::BoxArea), of(&record, &images), "{}", record.name());
    }
}

#[test]
fn the_ties_fix_takes_equal_scores_in_one_step() {
    let record = named("equal_scores_keep_file_order");
    let mut reversed = record.images();
    reversed.iter_mut().for_each(|(_, dts)| dts.reverse());
    // One of the two is right: which one comes first in the file decides between 1/2 and 1.
    assert!(close(record.evaluate().coco.summary.ap, 0.5));
    assert!(close(of(&record, &reversed).summary.ap, 1.0));
    let fixed = with(&record, Fix::Ties);
    assert!(close(fixed.summary.ap, 0.5), "{:?}", fixed.summary);
    let params = CocoParams { fixes: Fixes::from_iter([Fix::Ties]), ..record.coco_params() };
    let practical = PracticalParams::default();
    let again = evaluate(&record.categories(), &views(&reversed), &practical, &params).unwrap();
    assert_eq!(again.coco, fixed);
    // Another score in the same image is a step of its own.
    reversed[0].1[0].score = 0.6;
    let apart = evaluate(&record.categories(), &views(&reversed), &practical, &params).unwrap();
    assert!(close(apart.coco.summary.ap, 1.0));
}

#[test]
fn without_a_limit_of_100_ap_is_that_of_the_largest_limit() {
    let default = |record: &Record| record.coco_params().max_dets == [1, 10, 100];
    assert!(differences(Fix::MaxDets, |record| !default(record)) >= 3);
    for record in oracle::recorded() {
        let mut params = record.coco_params();
        params.fixes = Fixes::from_iter([Fix::MaxDets]);
        for (max_dets, one) in
            [(vec![1, 10, 50], 50), (vec![100, 7], 100), (vec![3], 3), (vec![1, 2, 100, 500], 100)]
        {
            let fixed =
                record.evaluate_with(&CocoParams { max_dets, ..params.clone() }).coco.summary;
            // With this limit in the third place, and no other of 100, all numbers but AP are
            // pycocotools'; and AP is the mean of its own curves.
            let alone =
                CocoParams { max_dets: vec![1, 2, one], fixes: Fixes::default(), ..params.clone() };
            let expected = record.evaluate_with(&alone).coco.summary;
            for ((name, fixed), (_, expected)) in fixed.named().iter().zip(expected.named()) {
                let about_others = matches!(*name, "AR1" | "AR10") || (*name == "AP" && one != 100);
                assert!(about_others || *fixed == expected, "{} {name}", record.name());
            }
            assert_eq!(fixed.ap.is_some(), fixed.ar100.is_some(), "{}", record.name());
        }
    }
    let record = named("max_dets_without_100_leaves_ap_undefined");
    assert_eq!(record.evaluate().coco.summary.ap, None);
    assert!(close(with(&record, Fix::MaxDets).summary.ap, 1.0));
}

#[test]
fn classes_without_ground_truth_have_ap_0_where_they_have_false_positives() {
    let some_class_is_empty = |record: &Record| {
        let [_, _, k, a, _] = record.coco.shape;
        let curves = record.evaluate().coco.curves;
        (0..k).any(|k| (0..a).all(|a| curves.recall(0, k, a, 0).is_none()))
    };
    assert!(differences(Fix::AbsentClasses, some_class_is_empty) >= 5);

    let record = named("class_without_ground_truth_is_absent");
    let (before, after) = (record.evaluate().coco, with(&record, Fix::AbsentClasses));
    assert!(close(before.summary.ap, 1.0) && close(after.summary.ap, 0.5));
    // It has no recall, and so no part in the mean of recalls.
    assert_eq!(before.summary.ar100, after.summary.ar100);
    assert_eq!(
        (after.per_class[1].summary.ap, after.per_class[1].summary.ar100),
        (Some(0.0), None)
    );
    // Its boxes are of medium size.
    assert_eq!(after.per_class[1].summary.ap_small, None);
    assert_eq!(after.per_class[1].summary.ap_medium, Some(0.0));
    assert_eq!(after.curves.score(0, 0, 1, 0, 2), Some(0.0));
    // The third class has nothing at all.
    assert_eq!(after.per_class[2].summary.ap, None);

    // What lies in a crowd is no mistake.
    let record = named("class_with_crowds_only_is_absent");
    assert_eq!(with(&record, Fix::AbsentClasses).summary.ap, None);
    let mut images = record.images();
    let outside = Detection { bbox: [900.0, 0.0, 50.0, 50.0].into(), ..images[0].1[0] };
    images[0].1.push(outside);
    let fixes = Fixes::from_iter([Fix::AbsentClasses]);
    let params = CocoParams { fixes, ..CocoParams::default() };
    let run = |images: &[Image]| {
        let practical = PracticalParams::default();
        evaluate(&record.categories(), &views(images), &practical, &params).unwrap().coco.summary
    };
    assert_eq!(run(&images).ap, Some(0.0));
    let at_most = |m| {
        let practical = PracticalParams::default();
        let params = CocoParams { max_dets: vec![1, 2, 100], ..params.clone() };
        let all = evaluate(&record.categories(), &views(&images), &practical, &params).unwrap();
        all.coco.curves.precision(0, 0, 0, 0, m)
    };
    assert_eq!((at_most(0), at_most(1)), (None, Some(0.0)));
    // Three fifths of it in the crowd: no mistake at the thresholds up to 0.6, one at those above.
    images[0].1 = vec![Detection { bbox: [30.0, 10.0, 50.0, 50.0].into(), ..outside }];
    let practical = PracticalParams::default();
    let all = evaluate(&record.categories(), &views(&images), &practical, &params).unwrap();
    let precision = |t| all.coco.curves.precision(t, 0, 0, 0, 2);
    assert_eq!((precision(0), precision(9)), (None, Some(0.0)));
}

#[test]
fn the_ignore_key_is_the_readers_to_honour() {
    assert_eq!(differences(Fix::IgnoreKey, |_| false), 0);
}

#[test]
fn all_fixes_together_are_defined_wherever_pycocotools_is() {
    for record in oracle::recorded() {
        let before = record.evaluate().coco.summary.named();
        let params = CocoParams { fixes: Fixes::all(), ..record.coco_params() };
        let after = record.evaluate_with(&params).coco.summary.named();
        for ((name, before), (_, after)) in before.iter().zip(after) {
            // An area from the box can leave a range without any ground truth.
            let by_area = name.ends_with(['s', 'm', 'l']);
            assert!(before.is_none() || by_area || after.is_some(), "{} {name}", record.name());
        }
    }
}

#[test]
fn fixes_hold_for_lvis_too() {
    let run = |record: &oracle::lvis::LvisRecord, fix| {
        record.evaluate(&LvisParams { fixes: Fixes::from_iter([fix]), ..LvisParams::default() })
    };
    let records = oracle::lvis::recorded();
    let named = |name: &str| {
        let found = records.iter().find(|(file, _)| file.file_stem().unwrap() == name);
        &found.unwrap().1
    };
    let zero = named("annotation_id_0_is_found_but_counts_as_a_false_positive");
    assert!(close(run(zero, Fix::AnnotationIdZero).summary.ar, 1.0));
    // 301 equal scores, of which 300 are kept: which ones must not depend on the file.
    let tied = named("equal_scores_are_cut_in_file_order");
    let fixes = Fixes::from_iter([Fix::Ties]);
    let params = LvisParams { fixes, ..LvisParams::default() };
    let mut reversed = tied.images();
    reversed.iter_mut().for_each(|(_, dts)| dts.reverse());
    let ours = |images: &[Image], params: &LvisParams| {
        lvis::evaluate(&tied.categories(), &Federation::default(), &views(images), params).unwrap()
    };
    let default = LvisParams::default();
    assert_ne!(ours(&tied.images(), &default), ours(&reversed, &default));
    assert_eq!(ours(&tied.images(), &params), ours(&reversed, &params));
    // Without area in the file there is nothing to find; the box has some.
    let no_area = named("annotation_without_area_is_dropped_and_its_class_not_looked_for");
    let (before, after) = (no_area.evaluate(&default), run(no_area, Fix::BoxArea));
    assert!(close(before.summary.ap, 1.0) && after.summary.ap < Some(0.9));
}

/// A ledger that names what is no longer there is worse than none.
#[test]
fn the_ledger_names_every_fix_and_only_fixtures_and_tests_that_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let ledger = std::fs::read_to_string(root.join("docs/quirks.md")).unwrap();
    for fix in Fix::ALL {
        assert!(ledger.contains(&format!("`--fix {fix}`")), "{fix}");
    }
    let tests = ["coco_fixes", "metric_properties"]
        .map(|name| std::fs::read_to_string(root.join(format!("tests/{name}.rs"))).unwrap());
    let names = ledger.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() >= 2);
    let exists = |name: &str| {
        root.join(format!("fixtures/metrics/{name}.json")).exists()
            || tests.iter().any(|text| text.contains(&format!("fn {name}(")))
    };
    let missing: Vec<&str> = names.clone().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let mentioned: Vec<&str> = names.collect();
    for folder in ["", "lvis/", "tide/"] {
        for entry in std::fs::read_dir(root.join("fixtures/metrics").join(folder)).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let Some(name) = file.strip_suffix(".json").filter(|name| !name.starts_with("random"))
            else {
                continue;
            };
            let name = format!("{folder}{name}");
            assert!(
                mentioned.contains(&name.as_str()) || ledger.contains(&format!("`{name}`")),
                "{name}"
            );
        }
    }
}
