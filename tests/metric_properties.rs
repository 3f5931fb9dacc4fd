//! What must hold for every data set, whatever the reference says about it.

mod oracle;

use std::collections::BTreeMap;

use detgate::dataset::{Bbox, Category, GroundTruth, ImageRecord};
use detgate::detections::Detection;
use detgate::matching::coco::{self, CocoParams, Plan};
use detgate::matching::iou;
use detgate::matching::practical::{self, PracticalParams};
use detgate::metrics::{EvaluateError, Evaluation, MergeError, Shard, evaluate, match_images};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

const CLASSES: [i64; 3] = [1, 2, 7];
const ALL: PracticalParams = PracticalParams { score_thr: 0.0, iou_thr: 0.5 };

type Image = (ImageRecord, Vec<Detection>);

/// Corners and sides are quarters, so that sums and products of them are exact.
fn bbox() -> impl Strategy<Value = Bbox> {
    let quarters = |range: std::ops::Range<i32>| range.prop_map(|n| f64::from(n) / 4.0);
    (quarters(0..400), quarters(0..400), quarters(1..800), quarters(1..800))
        .prop_map(|(x, y, w, h)| Bbox { x, y, w, h })
}

fn class() -> impl Strategy<Value = i64> {
    prop::sample::select(&CLASSES[..])
}

fn ground_truth() -> impl Strategy<Value = GroundTruth> {
    (0..4i64, class(), bbox(), prop::bool::weighted(0.15), 0.3..1.0).prop_map(
        |(id, category_id, bbox, is_crowd, share)| GroundTruth {
            id,
            category_id,
            bbox,
            area: bbox.area() * share,
            is_crowd,
            ignore: false,
        },
    )
}

/// Half of the detections are near a ground truth, the rest anywhere; scores tie often.
fn image(id: i64) -> impl Strategy<Value = Image> {
    let detection = (class(), bbox(), 1..8u8, any::<prop::sample::Index>(), 0.0..0.6f64);
    (prop::collection::vec(ground_truth(), 0..6), prop::collection::vec(detection, 0..14)).prop_map(
        move |(gts, dts)| {
            let detect = |(category_id, bbox, score, index, shift): (
                _,
                Bbox,
                u8,
                prop::sample::Index,
                f64,
            )| {
                let score = f64::from(score) / 8.0;
                let target = (shift < 0.4 && !gts.is_empty()).then(|| index.get(&gts));
                match target {
                    Some(gt) => {
                        let bbox = Bbox { x: gt.bbox.x + shift * gt.bbox.w, ..gt.bbox };
                        Detection { bbox, score, category_id: gt.category_id }
                    }
                    None => Detection { bbox, score, category_id },
                }
            };
            let dts = dts.into_iter().map(detect).collect();
            (oracle::record(id, gts), dts)
        },
    )
}

fn images() -> impl Strategy<Value = Vec<Image>> {
    (1..7i64).prop_flat_map(|count| (0..count).map(image).collect::<Vec<_>>())
}

/// No two detections have the same score; the scores' order is arbitrary.
fn images_without_ties() -> impl Strategy<Value = Vec<Image>> {
    images().prop_flat_map(|images| {
        let count: usize = images.iter().map(|(_, dts)| dts.len()).sum();
        let ranks = Just((1..=count).collect::<Vec<_>>()).prop_shuffle();
        (Just(images), ranks).prop_map(|(mut images, ranks)| {
            let dts = images.iter_mut().flat_map(|(_, dts)| dts);
            for (dt, rank) in dts.zip(&ranks) {
                dt.score = *rank as f64 / (ranks.len() + 1) as f64;
            }
            images
        })
    })
}

fn categories() -> Vec<Category> {
    CLASSES.map(|id| Category { id, name: format!("class{id}") }).to_vec()
}

fn views(images: &[Image]) -> Vec<(&ImageRecord, &[Detection])> {
    images.iter().map(|(image, dts)| (image, dts.as_slice())).collect()
}

fn run(images: &[Image]) -> Evaluation {
    evaluate(&categories(), &views(images), &ALL, &CocoParams::default()).unwrap()
}

fn plan() -> Plan {
    Plan::new(&categories(), &CocoParams::default()).unwrap()
}

/// Every metric, by the bits of its value.
fn bits(evaluation: &Evaluation) -> BTreeMap<String, Option<u64>> {
    let table = evaluation.table().into_iter();
    table.map(|(name, value)| (name, value.map(f64::to_bits))).collect()
}

proptest! {
    #[test]
    fn iou_is_symmetric_between_0_and_1_and_1_with_itself(a in bbox(), b in bbox()) {
        let value = iou(&a, &b);
        prop_assert_eq!(value.to_bits(), iou(&b, &a).to_bits());
        prop_assert!((0.0..=1.0).contains(&value));
        prop_assert_eq!(iou(&a, &a), 1.0);
    }

    #[test]
    fn iou_does_not_depend_on_place_or_unit(
        a in bbox(), b in bbox(), dx in -500..500i32, dy in -500..500i32, scale in 0.01..100.0f64,
    ) {
        let value = iou(&a, &b);
        let moved = |r: Bbox| Bbox { x: r.x + f64::from(dx), y: r.y + f64::from(dy), ..r };
        prop_assert_eq!(iou(&moved(a), &moved(b)), value);
        let scaled = |r: Bbox| Bbox::from(<[f64; 4]>::from(r).map(|v| v * scale));
        prop_assert!((iou(&scaled(a), &scaled(b)) - value).abs() < 1e-9);
    }

    #[test]
    fn practical_matching_uses_no_ground_truth_twice((image, dts) in image(1), iou_thr in 0.0..1.0) {
        let params = PracticalParams { score_thr: 0.0, iou_thr };
        let matches = practical::match_image(0, &image.ground_truth, &dts, &params);
        let mut found: Vec<u32> = matches.found.iter().flatten().copied().collect();
        let count = found.len();
        found.sort_unstable();
        found.dedup();
        prop_assert_eq!(found.len(), count);
        for (category_id, found) in matches.category_ids.iter().zip(matches.found) {
            let class = found.map_or(*category_id, |g| matches.gt_category_ids[g as usize]);
            prop_assert_eq!(class, *category_id);
        }
    }

    #[test]
    fn practical_matching_finds_no_more_at_a_higher_threshold(
        (image, dts) in image(1), low in 0.05..1.0, more in 0.0..0.5,
    ) {
        let found = |iou_thr| {
            let params = PracticalParams { score_thr: 0.0, iou_thr };
            let matches = practical::match_image(0, &image.ground_truth, &dts, &params);
            matches.found.iter().flatten().count()
        };
        prop_assert!(found(low + more) <= found(low));
    }

    #[test]
    fn coco_matching_finds_no_ground_truth_twice((image, dts) in image(1)) {
        let (plan, areas) = (plan(), 4);
        let matches = coco::match_image(1, &image.ground_truth, &dts, &plan);
        let mut first_hit = 0;
        for (c, class) in matches.classes.iter().enumerate() {
            let hits = first_hit..class.hits_end as usize;
            first_hit = hits.end;
            for (a, t) in (0..areas).flat_map(|a| (0..10).map(move |t| (a, t))) {
                let found = hits.clone().filter(|h| matches.hit_found[h * areas + a] >> t & 1 == 1);
                prop_assert!(found.count() as u32 <= matches.positives[c * areas + a]);
            }
        }
    }

    #[test]
    fn every_metric_is_defined_and_between_0_and_1_or_absent(images in images()) {
        for (name, value) in run(&images).table() {
            prop_assert!(value.is_none_or(|v| (0.0..=1.0).contains(&v)), "{name}: {value:?}");
        }
    }

    #[test]
    fn metrics_depend_on_the_order_of_scores_only(images in images_without_ties()) {
        let mut rescaled = images.clone();
        for dt in rescaled.iter_mut().flat_map(|(_, dts)| dts) {
            dt.score = dt.score * dt.score / 2.0;
        }
        prop_assert_eq!(bits(&run(&rescaled)), bits(&run(&images)));
    }

    #[test]
    fn metrics_do_not_depend_on_the_order_of_images(
        (images, shuffled, ids) in images_without_ties().prop_flat_map(|images| {
            let ids: Vec<i64> = (100..).take(images.len()).collect();
            (Just(images.clone()), Just(images).prop_shuffle(), Just(ids).prop_shuffle())
        }),
    ) {
        let mut shuffled = shuffled;
        for ((image, _), id) in shuffled.iter_mut().zip(ids) {
            image.id = id;
        }
        prop_assert_eq!(bits(&run(&shuffled)), bits(&run(&images)));
    }

    #[test]
    fn a_false_positive_below_all_scores_never_raises_a_metric(
        images in images(), index in any::<prop::sample::Index>(), category_id in class(),
    ) {
        let mut worse = images.clone();
        let bbox = Bbox { x: 1e6, y: 1e6, w: 50.0, h: 50.0 };
        let last = index.index(worse.len());
        worse[last].1.push(Detection { bbox, score: 0.0, category_id });
        let before = run(&images).table();
        for (name, value) in run(&worse).table() {
            prop_assert!(value <= before[&name], "{name}: {value:?} after {:?}", before[&name]);
        }
    }

    #[test]
    fn shards_merged_in_any_order_equal_the_whole(
        (images, parts) in images().prop_flat_map(|images| {
            let cuts = prop::collection::vec(0..=images.len(), 0..4);
            (Just(images), cuts).prop_flat_map(|(images, mut cuts)| {
                cuts.extend([0, images.len()]);
                cuts.sort_unstable();
                let parts: Vec<_> = cuts.windows(2).map(|w| w[0]..w[1]).collect();
                (Just(images), Just(parts).prop_shuffle())
            })
        }),
    ) {
        let (plan, views) = (plan(), views(&images));
        let merged = parts.into_iter().fold(Shard::default(), |merged, part| {
            let shard = match_images(&views[part.clone()], part.start as u64, &ALL, &plan);
            // Through text, as from another process.
            let text = serde_json::to_string(&shard).unwrap();
            serde_json::from_str::<Shard>(&text).unwrap().merge(merged)
        });
        let (merged, whole) = (merged.evaluate(&categories(), &plan).unwrap(), run(&images));
        prop_assert_eq!(bits(&merged), bits(&whole));
        prop_assert_eq!(merged, whole);
    }

    #[test]
    fn damaged_matches_are_an_error_or_another_result_but_never_a_panic(
        images in images(), field in 0..7usize, index in any::<prop::sample::Index>(), value in any::<u32>(),
    ) {
        let (plan, views) = (plan(), views(&images));
        let mut shard = match_images(&views, 0, &ALL, &plan);
        let image = &mut shard.coco[index.index(images.len())];
        let cut = |len: usize| if len == 0 { 0 } else { value as usize % len };
        match field {
            0 => image.scores.truncate(cut(image.scores.len())),
            1 => image.positives.truncate(cut(image.positives.len())),
            2 => image.hit_found.truncate(cut(image.hit_found.len())),
            3 => image.hit_dts.iter_mut().for_each(|d| *d = value),
            4 => image.classes.iter_mut().for_each(|class| class.dts_end = value),
            5 => image.classes.iter_mut().for_each(|class| class.hits_end ^= value),
            _ => image.classes.reverse(),
        }
        let _ = shard.evaluate(&categories(), &plan);
    }
}

/// A data set large enough for threads to share the work.
fn many_images() -> Vec<Image> {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let new_image = |id| image(id).new_tree(&mut runner).unwrap().current();
    (0..300).map(new_image).collect()
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let images = many_images();
    let with_threads = |n| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        pool.install(|| run(&images))
    };
    let one = with_threads(1);
    assert!(one.coco.summary.ap.is_some_and(|ap| ap > 0.01));
    for threads in [2, 3, 8] {
        let evaluation = with_threads(threads);
        assert_eq!(bits(&evaluation), bits(&one), "{threads} threads");
        assert_eq!(evaluation, one, "{threads} threads");
    }
}

#[test]
fn an_image_that_is_there_twice_is_an_error() {
    let images = &many_images()[..2];
    let twice = [&images[0], &images[1], &images[0]].map(Clone::clone);
    let result = evaluate(&categories(), &views(&twice), &ALL, &CocoParams::default());
    assert_eq!(
        result.unwrap_err(),
        EvaluateError::Merge(MergeError::Duplicate { key: "id", value: images[0].0.id })
    );
    let shard = match_images(&views(images), 0, &ALL, &plan());
    let mut renamed = shard.clone();
    renamed.coco.iter_mut().for_each(|image| image.image_id += 100);
    assert_eq!(
        shard.merge(renamed).evaluate(&categories(), &plan()).unwrap_err().to_string(),
        "two images have the position 0; evaluate every image once"
    );
}

#[test]
fn matches_made_with_other_classes_or_ranges_are_refused() {
    let images = many_images();
    let whole = match_images(&views(&images), 0, &ALL, &plan());
    let fewer = Plan::new(&categories()[..1], &CocoParams::default()).unwrap();
    let error = whole.clone().evaluate(&categories(), &fewer).unwrap_err();
    assert!(matches!(error, MergeError::Foreign(_)), "{error}");
    let mut params = CocoParams::default();
    params.area_ranges.truncate(1);
    let narrower = Plan::new(&categories(), &params).unwrap();
    let error = whole.evaluate(&categories(), &narrower).unwrap_err();
    assert!(matches!(error, MergeError::Foreign(_)), "{error}");
}

#[test]
fn the_table_names_every_metric_and_says_none_where_one_is_undefined() {
    let images = &many_images()[..1];
    let table = evaluate(&categories(), &[], &ALL, &CocoParams::default()).unwrap().table();
    assert_eq!(table.keys().collect::<Vec<_>>(), run(images).table().keys().collect::<Vec<_>>());
    // 12 COCO numbers and 4 practical ones, for all and for each of three classes.
    assert_eq!(table.len(), (12 + 4) * 4);
    for name in ["AP", "AP50/class1", "AR100", "APs/class7", "ARl/class2"] {
        assert_eq!(table[name], None, "{name}");
    }
    for name in ["precision", "recall/class2", "f1", "ap50_approx/class7", "mAP50_approx"] {
        assert_eq!(table[name], Some(0.0), "{name}");
    }
}

#[test]
fn a_report_survives_json_without_the_curves() {
    let evaluation = run(&many_images());
    let json = serde_json::to_value(&evaluation).unwrap();
    assert_eq!(json["coco"]["AP50"].as_f64(), evaluation.coco.summary.ap50);
    assert_eq!(json["coco"]["per_class"][2]["category_id"], 7);
    assert!(json["coco"].get("curves").is_none());
    let back: Evaluation = serde_json::from_value(json).unwrap();
    assert_eq!(bits(&back), bits(&evaluation));
}
