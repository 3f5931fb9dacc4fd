//! What must hold for every data set, whatever the reference says about it.

mod oracle;

use std::collections::BTreeMap;

use detgate::dataset::{Bbox, Category, GroundTruth, ImageRecord};
use detgate::detections::Detection;
use detgate::matching::Fix;
use detgate::matching::coco::{self, CocoParams, Plan};
use detgate::matching::iou::{self, iou};
use detgate::matching::practical::{self, PracticalParams};
use detgate::metrics::coco::Curves;
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

/// A world in which nearly everything ties: few places, all boxes of one size, few scores.
fn dense_image(id: i64) -> impl Strategy<Value = Image> {
    let place = || (0..5i32).prop_map(|n| [f64::from(n) * 10., 0., 100., 100.].into());
    let area = prop::sample::select(vec![100., 2_000., 1e4]);
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    let gt = (0..3i64, 1..3i64, place(), area, flags).prop_map(
        |(id, category_id, bbox, area, (is_crowd, ignore))| GroundTruth {
            id,
            category_id,
            bbox,
            area,
            is_crowd,
            ignore,
        },
    );
    let dt = (1..3i64, place(), 1..4u8).prop_map(|(category_id, bbox, score)| Detection {
        bbox,
        score: f64::from(score) / 4.0,
        category_id,
    });
    (prop::collection::vec(gt, 0..6), prop::collection::vec(dt, 0..8))
        .prop_map(move |(gts, dts)| (oracle::record(id, gts), dts))
}

fn dense_images() -> impl Strategy<Value = Vec<Image>> {
    (1..4i64).prop_flat_map(|count| (0..count).map(dense_image).collect::<Vec<_>>())
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

    /// Greedy matching is a serial dictatorship: detections choose in the order of their scores, among
    /// the ordinary ground truths as if there were no others, and a lower threshold appends to what
    /// they accept, below all they accept already. So whatever is taken at a threshold is taken at
    /// every lower one too, after each detection. (A detection that takes one more leaves one fewer
    /// to those after it, and along their chain of second choices one more stays taken.)
    #[test]
    fn coco_matching_finds_at_a_lower_threshold_all_that_it_finds_at_a_higher(
        (image, dts) in image(1),
    ) {
        let (plan, areas) = (plan(), 4);
        let matches = coco::match_image(1, &image.ground_truth, &dts, &plan);
        let mut first_hit = 0;
        for class in &matches.classes {
            let hits = first_hit..class.hits_end as usize;
            first_hit = hits.end;
            for a in 0..areas {
                let mut found = [0; 10];
                for h in hits.clone() {
                    let bits = matches.hit_found[h * areas + a];
                    found.iter_mut().enumerate().for_each(|(t, n)| *n += bits >> t & 1);
                    prop_assert!(found.is_sorted_by(|low, high| low >= high), "{found:?}");
                }
            }
        }
    }

    /// What follows for the curves: recall never rises with the threshold, and nor does precision
    /// where nothing is ignored. Where something is, it can: see the example below.
    #[test]
    fn recall_and_without_ignored_boxes_precision_never_rise_with_the_threshold(
        mut images in images(),
    ) {
        let recall_falls = |curves: &Curves| {
            let [t, _, k, a, m] = curves.shape();
            (0..k * a * m).all(|i| {
                let recall = |t| curves.recall(t, i / (a * m), i / m % a, i % m);
                (1..t).all(|t| recall(t) <= recall(t - 1))
            })
        };
        prop_assert!(recall_falls(&run(&images).coco.curves));
        let gts = images.iter_mut().flat_map(|(image, _)| &mut image.ground_truth);
        gts.for_each(|gt| gt.is_crowd = false);
        let curves = run(&images).coco.curves;
        let [t, r, k, _, m] = curves.shape();
        for (r, k, m) in (0..r * k * m).map(|i| (i / (k * m), i / m % k, i % m)) {
            let precision = |t| curves.precision(t, r, k, 0, m);
            prop_assert!((1..t).all(|t| precision(t) <= precision(t - 1)));
        }
    }

    #[test]
    fn with_the_ties_fix_nothing_depends_on_file_order_or_ids(
        (images, shuffled, ids) in dense_images().prop_flat_map(|images| {
            let ids: Vec<i64> = (100..).take(images.len()).collect();
            let inside = images.iter().map(|(image, dts)| {
                let gts = Just(image.ground_truth.clone()).prop_shuffle();
                let dts = Just(dts.clone()).prop_shuffle();
                (gts, dts).prop_map(|(gts, dts)| (oracle::record(0, gts), dts))
            });
            let inside: Vec<_> = inside.collect();
            (Just(images), Just(inside).prop_shuffle().prop_flat_map(|inside| inside), Just(ids).prop_shuffle())
        }),
        use_cats in any::<bool>(),
        max_dets in prop::sample::select(vec![vec![1, 10, 100], vec![1, 2, 3]]),
    ) {
        let mut shuffled = shuffled;
        for ((image, _), id) in shuffled.iter_mut().zip(ids) {
            image.id = id;
        }
        let fixes = [Fix::Ties].into_iter().collect();
        let params = CocoParams { use_cats, max_dets, fixes, ..CocoParams::default() };
        let run = |images| evaluate(&categories(), &views(images), &ALL, &params).unwrap().coco;
        prop_assert_eq!(run(&shuffled), run(&images));
    }

    #[test]
    fn the_ties_fix_changes_nothing_where_nothing_ties(images in images_without_ties()) {
        let overlaps_tie = images.iter().any(|(image, dts)| dts.iter().any(|dt| {
            let gts = image.ground_truth.iter().filter(|gt| gt.category_id == dt.category_id);
            let overlap = |gt: &GroundTruth| {
                iou::overlap(&dt.bbox, &iou::Region { bbox: gt.bbox, is_crowd: gt.is_crowd })
            };
            let mut overlaps: Vec<f64> = gts.map(overlap).filter(|&o| o > 0.0).collect();
            overlaps.sort_by(f64::total_cmp);
            overlaps.windows(2).any(|pair| pair[0] == pair[1])
        }));
        prop_assume!(!overlaps_tie);
        let params = CocoParams { fixes: [Fix::Ties].into_iter().collect(), ..CocoParams::default() };
        let fixed = evaluate(&categories(), &views(&images), &ALL, &params).unwrap();
        prop_assert_eq!(fixed, run(&images));
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

/// At 0.5 the first detection takes the ordinary box at 0.54, although it lies exactly on the ignored
/// one, and the second, which fits the ordinary box better, finds nothing: a mistake that lowers the
/// precision of the third. At 0.65 the first takes the ignored box, and there is no mistake.
#[test]
fn where_boxes_are_ignored_a_higher_threshold_can_raise_precision() {
    let gt = |id, x: f64, ignore| GroundTruth {
        id,
        category_id: 1,
        bbox: [x, 0., 100., 100.].into(),
        area: 1e4,
        is_crowd: false,
        ignore,
    };
    let dt = |x: f64, score| Detection { bbox: [x, 0., 100., 100.].into(), score, category_id: 1 };
    let image = oracle::record(1, vec![gt(1, 0., false), gt(2, 30., true), gt(3, 500., false)]);
    let dts = vec![dt(30., 0.9), dt(-20., 0.8), dt(500., 0.7)];
    let params = CocoParams { iou_thrs: vec![0.5, 0.65], ..CocoParams::default() };
    let plan = Plan::new(&categories(), &params).unwrap();
    let matches = coco::match_image(1, &image.ground_truth, &dts, &plan);
    // Both thresholds find two boxes, the lower one after fewer detections.
    assert_eq!(
        matches.hit_found.chunks(4).map(|row| row[0]).collect::<Vec<_>>(),
        [0b01, 0b10, 0b11]
    );
    let images = [(image, dts)];
    let curves = evaluate(&categories(), &views(&images), &ALL, &params).unwrap().coco.curves;
    let precision = |t| curves.precision(t, 100, 0, 0, 2).unwrap();
    assert!((precision(0) - 2.0 / 3.0).abs() < 1e-9 && precision(1) > 0.999);
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
fn curves_have_values_inside_of_their_shape_and_none_beyond_it() {
    let curves = run(&many_images()).coco.curves;
    let shape = curves.shape();
    assert_eq!(shape, [10, 101, 3, 4, 3]);
    let ask = |[t, r, k, a, m]: [usize; 5]| {
        [curves.precision(t, r, k, a, m), curves.score(t, r, k, a, m), curves.recall(t, k, a, m)]
    };
    assert!(ask(shape.map(|n| n - 1)).iter().all(Option::is_some));
    for dimension in 0..5 {
        let mut beyond = [0; 5];
        beyond[dimension] = shape[dimension];
        let [precision, score, recall] = ask(beyond);
        assert_eq!((precision, score), (None, None), "{beyond:?}");
        // Recall is not asked for at a recall threshold.
        assert!(recall.is_none() || dimension == 1, "{beyond:?}");
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
