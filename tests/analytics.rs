//! What is computed beyond the 12 numbers says what one would count by hand.
//!
//! The reference here is written for being read: it filters, matches and counts anew for every
//! question, one class, image and threshold at a time.

mod oracle;

use std::collections::BTreeSet;

use detgate::dataset::{Bbox, Category, GroundTruth, ImageRecord};
use detgate::detections::Detection;
use detgate::matching::Fix;
use detgate::matching::coco::CocoParams;
use detgate::matching::iou::{Region, overlap};
use detgate::matching::practical::PracticalParams;
use detgate::metrics::confusion::ConfusionMatrix;
use detgate::metrics::details::{
    DetailParams, DetailPlan, Details, DetailsError, DetailsShard, details, match_details,
};
use detgate::metrics::per_image::worst_first;
use detgate::metrics::tally::Tally;
use detgate::metrics::{MergeError, evaluate};
use proptest::prelude::*;

const CLASSES: [i64; 3] = [1, 2, 7];

type Image = (ImageRecord, Vec<Detection>);

fn categories() -> Vec<Category> {
    CLASSES.map(|id| Category { id, name: format!("class{id}") }).to_vec()
}

fn views(images: &[Image]) -> Vec<(&ImageRecord, &[Detection])> {
    images.iter().map(|(image, dts)| (image, dts.as_slice())).collect()
}

/// Few limits and recalls, so that both matter on small data.
fn coco() -> CocoParams {
    CocoParams { max_dets: vec![1, 4], ..CocoParams::default() }
}

fn compute(images: &[Image], params: &DetailParams) -> Details {
    details(&categories(), &views(images), params, &coco()).unwrap()
}

// ---- the reference -------------------------------------------------------------------------------

/// Which ground truth each detection of one class takes: as `evaluateImg`, for boxes with ordinary
/// areas. Detections come with their index, in the order in which they are matched.
fn take(gts: &[GroundTruth], dts: &[&Detection], iou_thr: f64) -> Vec<Option<usize>> {
    let mut taken = BTreeSet::new();
    let mut result = Vec::new();
    for dt in dts {
        let mut best: Option<(usize, f64)> = None;
        for wants_ignored in [false, true] {
            for (g, gt) in gts.iter().enumerate() {
                let ignored = gt.is_crowd || gt.ignore;
                let free = gt.is_crowd || !taken.contains(&g);
                if gt.category_id != dt.category_id || ignored != wants_ignored || !free {
                    continue;
                }
                let iou = overlap(&dt.bbox, &Region { bbox: gt.bbox, is_crowd: gt.is_crowd });
                if iou >= best.map_or(iou_thr, |(_, iou)| iou) {
                    best = Some((g, iou));
                }
            }
            if best.is_some() {
                break;
            }
        }
        taken.extend(best.map(|(g, _)| g));
        result.push(best.map(|(g, _)| g));
    }
    result
}

/// A class's detections at or above the threshold, best first, no more than the limit.
fn kept(dts: &[Detection], class: i64, score_thr: f64) -> Vec<&Detection> {
    let mut kept: Vec<&Detection> =
        dts.iter().filter(|dt| dt.category_id == class && dt.score >= score_thr).collect();
    kept.sort_by(|a, b| b.score.total_cmp(&a.score));
    kept.truncate(4);
    kept
}

fn counts(gt: &GroundTruth) -> bool {
    !gt.is_crowd && !gt.ignore
}

/// Counts one class on some images.
fn recount(images: &[Image], class: i64, score_thr: f64, iou_thr: f64) -> Tally {
    let (mut tp, mut fp, mut positives) = (0, 0, 0);
    for (image, dts) in images {
        let gts = &image.ground_truth;
        positives += gts.iter().filter(|gt| gt.category_id == class && counts(gt)).count() as u64;
        for found in take(gts, &kept(dts, class, score_thr), iou_thr) {
            match found {
                Some(g) => tp += u64::from(counts(&gts[g])),
                None => fp += 1,
            }
        }
    }
    Tally::new(tp, fp, positives - tp)
}

/// Every score at which a threshold could be, from high to low.
fn scores(images: &[Image], class: i64) -> Vec<f64> {
    let dts = images.iter().flat_map(|(_, dts)| dts).filter(|dt| dt.category_id == class);
    let mut scores: Vec<f64> = dts.map(|dt| dt.score).collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    scores.dedup();
    scores
}

/// The confusion matrix, `[truth][prediction]`, background last.
fn reconfuse(images: &[Image], params: &DetailParams) -> Vec<Vec<u64>> {
    let mut matrix = vec![vec![0; 4]; 4];
    let place = |id: i64| CLASSES.iter().position(|&class| class == id).unwrap();
    for (image, dts) in images {
        let gts = &image.ground_truth;
        let mut free_gts: Vec<usize> = (0..gts.len()).filter(|&g| counts(&gts[g])).collect();
        let mut free_dts = Vec::new();
        for class in CLASSES {
            let kept = kept(dts, class, params.score_thr);
            for (dt, found) in kept.iter().zip(take(gts, &kept, params.iou_thr)) {
                match found {
                    Some(g) if counts(&gts[g]) => {
                        matrix[place(class)][place(class)] += 1;
                        free_gts.retain(|&free| free != g);
                    }
                    Some(_) => {}
                    None => free_dts.push(*dt),
                }
            }
        }
        // The best remaining pair, again and again.
        loop {
            let mut best: Option<((f64, f64), usize, usize)> = None;
            for (d, dt) in free_dts.iter().enumerate() {
                for &g in &free_gts {
                    let region = Region { bbox: gts[g].bbox, is_crowd: false };
                    let key = (overlap(&dt.bbox, &region), dt.score);
                    if key.0 >= params.iou_thr && best.is_none_or(|(best, _, _)| key > best) {
                        best = Some((key, d, g));
                    }
                }
            }
            let Some((_, d, g)) = best else { break };
            let dt = free_dts.remove(d);
            free_gts.retain(|&free| free != g);
            matrix[place(gts[g].category_id)][place(dt.category_id)] += 1;
        }
        free_gts.iter().for_each(|&g| matrix[place(gts[g].category_id)][3] += 1);
        free_dts.iter().for_each(|dt| matrix[3][place(dt.category_id)] += 1);
    }
    matrix
}

// ---- generated data ------------------------------------------------------------------------------

/// Boxes on a coarse grid, so that many overlap and many overlaps are equal.
fn bbox() -> impl Strategy<Value = Bbox> {
    (0..6i32, 0..3i32, 4..8i32, 4..8i32).prop_map(|(x, y, w, h)| {
        Bbox::from([f64::from(x), f64::from(y), f64::from(w), f64::from(h)])
    })
}

fn class() -> impl Strategy<Value = i64> {
    prop::sample::select(&CLASSES[..])
}

fn ground_truth() -> impl Strategy<Value = GroundTruth> {
    let kind =
        prop::sample::select(vec![(false, false), (false, false), (true, false), (false, true)]);
    (1..99i64, class(), bbox(), kind).prop_map(|(id, category_id, bbox, (is_crowd, ignore))| {
        GroundTruth { id, category_id, bbox, area: bbox.area(), is_crowd, ignore }
    })
}

/// Scores are eighths: they tie often, and 0.5 is one of them.
fn image(id: i64) -> impl Strategy<Value = Image> {
    let detection = (class(), bbox(), 1..8u8).prop_map(|(category_id, bbox, score)| Detection {
        bbox,
        score: f64::from(score) / 8.0,
        category_id,
    });
    (prop::collection::vec(ground_truth(), 0..6), prop::collection::vec(detection, 0..14))
        .prop_map(move |(gts, dts)| (oracle::record(id, gts), dts))
}

fn images() -> impl Strategy<Value = Vec<Image>> {
    (1..6i64).prop_flat_map(|count| (0..count).map(image).collect::<Vec<_>>())
}

fn params() -> impl Strategy<Value = DetailParams> {
    (prop::sample::select(vec![0.3, 0.5, 0.75]), 0..8u8).prop_map(|(iou_thr, score)| DetailParams {
        iou_thr,
        score_thr: f64::from(score) / 8.0,
        recalls: vec![0.9, 0.1, 0.5, 1.0],
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_threshold_has_a_better_f1_and_no_higher_one_has_the_same(
        images in images(), params in params(),
    ) {
        for points in compute(&images, &params).operating_points {
            let class = points.category_id;
            let at = |score_thr| recount(&images, class, score_thr, params.iou_thr);
            let nothing = at(f64::INFINITY);
            prop_assert_eq!(points.ground_truths, nothing.fn_);
            prop_assert_eq!(points.best_f1.is_none(), nothing.fn_ == 0);
            let Some(best) = points.best_f1 else { continue };
            prop_assert_eq!(best.tally, at(best.score_thr.unwrap_or(f64::INFINITY)));
            for score_thr in scores(&images, class) {
                let (f1, higher) = (at(score_thr).f1, best.score_thr.is_none_or(|best| score_thr > best));
                prop_assert!(f1 <= best.tally.f1, "{score_thr}: {f1:?}");
                prop_assert!(!higher || f1 < best.tally.f1 || best.score_thr.is_none(), "{score_thr}");
            }
        }
    }

    #[test]
    fn a_recall_is_reached_at_the_highest_threshold_that_reaches_it(
        images in images(), params in params(),
    ) {
        for points in compute(&images, &params).operating_points {
            let class = points.category_id;
            let reaches = |score_thr: f64, recall: f64| {
                recount(&images, class, score_thr, params.iou_thr).recall.is_some_and(|r| r >= recall)
            };
            prop_assert_eq!(points.precision_at_recall.len(), params.recalls.len());
            for (at, &recall) in points.precision_at_recall.iter().zip(&params.recalls) {
                prop_assert_eq!(at.recall, recall);
                let thrs = scores(&images, class);
                let first = thrs.into_iter().find(|&score_thr| reaches(score_thr, recall));
                prop_assert_eq!(at.reached.map(|reached| reached.score_thr), first);
                if let Some(reached) = at.reached {
                    let tally = recount(&images, class, reached.score_thr, params.iou_thr);
                    prop_assert_eq!(reached.tally, tally);
                }
            }
        }
    }

    #[test]
    fn precision_at_recall_is_that_of_the_coco_curves_to_the_last_bit(
        images in images(), params in params(), ties in any::<bool>(),
    ) {
        let recalls = CocoParams::default().rec_thrs[1..].to_vec();
        let fixes = ties.then_some(Fix::Ties).into_iter().collect();
        let coco = CocoParams { iou_thrs: vec![params.iou_thr], fixes, ..coco() };
        let all = evaluate(&categories(), &views(&images), &PracticalParams::default(), &coco);
        let curves = all.unwrap().coco.curves;
        let params = DetailParams { recalls, ..params };
        let details = details(&categories(), &views(&images), &params, &coco).unwrap();
        for (k, points) in details.operating_points.iter().enumerate() {
            for (r, at) in points.precision_at_recall.iter().enumerate() {
                let (t, r, a, m) = (0, r + 1, 0, 1);
                let unreached = curves.recall(t, k, a, m).is_none_or(|recall| recall < at.recall);
                prop_assert_eq!(at.reached.is_none(), unreached);
                if let Some(reached) = at.reached {
                    let precision = curves.precision(t, r, k, a, m).unwrap();
                    prop_assert_eq!(reached.interpolated_precision.to_bits(), precision.to_bits());
                    prop_assert_eq!(Some(reached.score_thr), curves.score(t, r, k, a, m));
                }
            }
        }
    }

    #[test]
    fn the_confusion_matrix_is_what_one_counts_by_hand(images in images(), params in params()) {
        prop_assert_eq!(compute(&images, &params).confusion.counts, reconfuse(&images, &params));
    }

    #[test]
    fn the_matrix_its_sums_and_the_images_agree_with_cocos_counts(
        images in images(), params in params(),
    ) {
        let Details { confusion, per_image, .. } = compute(&images, &params);
        let mut total = Tally::default();
        for (k, class) in CLASSES.into_iter().enumerate() {
            let Tally { tp, fp, fn_, .. } = recount(&images, class, params.score_thr, params.iou_thr);
            prop_assert_eq!(confusion.counts[k][k], tp);
            prop_assert_eq!(confusion.ground_truths(k), Some(tp + fn_));
            prop_assert_eq!(confusion.detections(k), Some(tp + fp));
            total = Tally::new(total.tp + tp, total.fp + fp, total.fn_ + fn_);
        }
        prop_assert_eq!(confusion.counts[3][3], 0);
        let sum = |count: fn(&Tally) -> u64| per_image.iter().map(|image| count(&image.tally)).sum::<u64>();
        let sums = Tally::new(sum(|t| t.tp), sum(|t| t.fp), sum(|t| t.fn_));
        prop_assert_eq!(sums, total);
        let totals = confusion.totals();
        prop_assert_eq!(totals.correct, total.tp);
        prop_assert_eq!(totals.confused + totals.missed, total.fn_);
        prop_assert_eq!(totals.confused + totals.background, total.fp);
    }

    #[test]
    fn an_image_has_the_result_that_it_has_alone(images in images(), params in params()) {
        let whole = compute(&images, &params).per_image;
        prop_assert_eq!(whole.len(), images.len());
        for (image, result) in images.iter().zip(whole) {
            let alone = compute(std::slice::from_ref(image), &params).per_image;
            prop_assert_eq!(alone, vec![result]);
            prop_assert_eq!(result.image_id, image.0.id);
        }
    }

    #[test]
    fn the_order_of_images_changes_nothing(
        (images, shuffled) in images().prop_flat_map(|images| {
            (Just(images.clone()), Just(images).prop_shuffle())
        }),
        params in params(),
    ) {
        prop_assert_eq!(compute(&shuffled, &params), compute(&images, &params));
    }

    /// Neither the order of files nor the ids of images, even where scores and overlaps tie.
    #[test]
    fn with_the_ties_fix_nothing_but_the_contents_matters(
        (images, shuffled) in images().prop_flat_map(|images| {
            let rows = images.iter().map(|(image, dts)| {
                let rows = (Just(image.ground_truth.clone()), Just(dts.clone()));
                (rows.0.prop_shuffle(), rows.1.prop_shuffle())
            });
            let (rows, ids) = (rows.collect::<Vec<_>>(), (0..images.len() as i64).collect::<Vec<_>>());
            (Just(images), (rows, Just(ids).prop_shuffle()))
        }),
        params in params(),
    ) {
        let (rows, ids) = shuffled;
        let shuffled: Vec<Image> = std::iter::zip(rows, ids)
            .map(|((gts, dts), id)| (oracle::record(id, gts), dts))
            .collect();
        let coco = CocoParams { fixes: [Fix::Ties].into_iter().collect(), ..coco() };
        let of = |images: &[Image]| {
            let details = details(&categories(), &views(images), &params, &coco).unwrap();
            let mut tallies: Vec<_> =
                details.per_image.iter().map(|i| (i.tally.tp, i.tally.fp, i.tally.fn_)).collect();
            tallies.sort_unstable();
            (details.operating_points, details.confusion, tallies)
        };
        prop_assert_eq!(of(&shuffled), of(&images));
    }

    #[test]
    fn shards_merged_in_any_order_equal_the_whole(
        (images, parts) in images().prop_flat_map(|images| {
            let cut = 0..=images.len();
            (Just(images), prop::collection::vec(cut, 0..4)).prop_flat_map(|(images, mut cuts)| {
                cuts.extend([0, images.len()]);
                cuts.sort_unstable();
                let parts: Vec<_> = cuts.windows(2).map(|w| w[0]..w[1]).collect();
                (Just(images), Just(parts).prop_shuffle())
            })
        }),
        params in params(),
    ) {
        let plan = DetailPlan::new(&categories(), &params, &coco()).unwrap();
        let merged = parts.into_iter().fold(DetailsShard::default(), |merged, part| {
            let shard = match_details(&views(&images[part]), &plan);
            // Through text, as from another process.
            let text = serde_json::to_string(&shard).unwrap();
            serde_json::from_str::<DetailsShard>(&text).unwrap().merge(merged)
        });
        prop_assert_eq!(merged.evaluate(&plan).unwrap(), compute(&images, &params));
    }

    #[test]
    fn damaged_matches_are_an_error_or_another_result_but_never_a_panic(
        images in images(), field in 0..7usize, index in any::<prop::sample::Index>(), value in any::<u32>(),
    ) {
        let plan = DetailPlan::new(&categories(), &DetailParams::default(), &coco()).unwrap();
        let mut shard = match_details(&views(&images), &plan);
        let place = index.index(images.len());
        let image = &mut shard.coco[place];
        let cut = |len: usize| if len == 0 { 0 } else { value as usize % len };
        match field {
            0 => image.scores.truncate(cut(image.scores.len())),
            1 => image.positives.truncate(cut(image.positives.len())),
            2 => image.hit_found.truncate(cut(image.hit_found.len())),
            3 => image.hit_dts.iter_mut().for_each(|d| *d = value),
            4 => image.classes.iter_mut().for_each(|class| class.dts_end = class.dts_end.wrapping_mul(value) % 16),
            5 => image.positives.iter_mut().for_each(|n| *n = 0),
            _ => shard.confusion[place].pairs.iter_mut().for_each(|pair| pair.truth = Some(3)),
        }
        let _ = shard.evaluate(&plan);
    }
}

// ---- by hand -------------------------------------------------------------------------------------

fn gt(id: i64, category_id: i64, x: f64) -> GroundTruth {
    let bbox = Bbox::from([x, 0.0, 10.0, 10.0]);
    GroundTruth { id, category_id, bbox, area: 100.0, is_crowd: false, ignore: false }
}

fn dt(category_id: i64, x: f64, score: f64) -> Detection {
    Detection { bbox: Bbox::from([x, 0.0, 10.0, 10.0]), score, category_id }
}

/// On image 10 both objects of class 1 are found, one with a rival; on image 20 one object of class
/// 2 is taken for class 1 and one is missed, and something is seen on a crowd and on nothing.
fn by_hand() -> Vec<Image> {
    let crowd = GroundTruth { is_crowd: true, ..gt(5, 1, 200.0) };
    vec![
        (
            oracle::record(20, vec![gt(3, 2, 0.0), gt(4, 2, 100.0), crowd]),
            vec![dt(1, 0.0, 0.7), dt(1, 200.0, 0.95), dt(1, 300.0, 0.3)],
        ),
        (
            oracle::record(10, vec![gt(1, 1, 0.0), gt(2, 1, 100.0)]),
            vec![dt(1, 0.0, 0.9), dt(1, 1.0, 0.6), dt(1, 100.0, 0.6)],
        ),
        (oracle::record(30, vec![]), vec![]),
    ]
}

#[test]
fn the_example_by_hand() {
    let details = compute(&by_hand(), &DetailParams::default());

    // Class 1 in descending score: crowd 0.95, TP 0.9, FP 0.7, FP and TP 0.6, FP 0.3.
    let one = &details.operating_points[0];
    let best = one.best_f1.unwrap();
    // At 0.9 F1 is 2/3; at 0.6 it is 4/6 too, and the higher threshold is kept.
    assert_eq!((best.score_thr, best.tally), (Some(0.9), Tally::new(1, 0, 1)));
    let at: Vec<_> = one.precision_at_recall.iter().map(|at| at.reached.unwrap()).collect();
    assert_eq!((at[0].score_thr, at[0].tally), (0.9, Tally::new(1, 0, 1)));
    assert_eq!((at[1].score_thr, at[1].tally), (0.6, Tally::new(2, 2, 0)));
    // Class 2 has two objects and no detection, class 7 nothing at all.
    let two = details.operating_points[1].best_f1.unwrap();
    assert_eq!((two.score_thr, two.tally), (None, Tally::new(0, 0, 2)));
    assert_eq!(details.operating_points[2].best_f1, None);

    // Rows 1, 2, 7, background.
    let expected = [[2, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]];
    assert_eq!(details.confusion.counts, expected);

    let ids = |images: &[_]| {
        let tally = |i: &detgate::metrics::per_image::ImageResult| (i.image_id, i.tally);
        images.iter().map(tally).collect::<Vec<_>>()
    };
    let results = [(10, Tally::new(2, 1, 0)), (20, Tally::new(0, 1, 2)), (30, Tally::default())];
    assert_eq!(ids(&details.per_image), results);
    assert_eq!(ids(&worst_first(&details.per_image, 9)), [results[1], results[0]]);
}

#[test]
fn the_json_names_everything_and_undefined_values_are_null() {
    let details = compute(&by_hand(), &DetailParams::default());
    let json = serde_json::to_value(&details).unwrap();
    assert_eq!(json["params"]["score_thr"], 0.5);
    let point = &json["operating_points"][0];
    assert_eq!(point["best_f1"]["score_thr"], 0.9);
    assert_eq!(point["best_f1"]["fn"], 1);
    assert_eq!(point["precision_at_recall"][1]["reached"]["precision"], 0.5);
    assert!(json["operating_points"][1]["best_f1"]["precision"].is_null());
    assert!(json["operating_points"][2]["best_f1"].is_null());
    assert!(json["operating_points"][2]["precision_at_recall"][0]["reached"].is_null());
    assert_eq!(json["confusion"]["classes"][2]["name"], "class7");
    assert_eq!(json["confusion"]["counts"][1][3], 1);
    assert!(json["per_image"][2]["f1"].is_null());
    assert_eq!(serde_json::from_value::<Details>(json).unwrap(), details);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let images: Vec<Image> = (0..300)
        .map(|id| {
            let shift = (id % 7) as f64;
            let gts = vec![gt(1, 1, 0.0), gt(2, CLASSES[id as usize % 3], 50.0)];
            let dts = vec![dt(1, shift, 0.5 + shift / 20.0), dt(2, 50.0 + shift / 2.0, 0.6)];
            (oracle::record(id, gts), dts)
        })
        .collect();
    let with_threads = |n| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        pool.install(|| compute(&images, &DetailParams::default()))
    };
    let one = with_threads(1);
    assert!(one.confusion.totals().confused > 0 && one.confusion.totals().correct > 0);
    for threads in [2, 3, 8] {
        assert_eq!(with_threads(threads), one, "{threads} threads");
    }
}

#[test]
fn settings_that_cannot_be_evaluated_are_refused() {
    let error = |change: fn(&mut DetailParams)| {
        let mut params = DetailParams::default();
        change(&mut params);
        details(&categories(), &[], &params, &coco()).unwrap_err().to_string()
    };
    assert_eq!(error(|p| p.iou_thr = 0.0), "iou_thr is 0; use a number above 0 and at most 1");
    assert_eq!(
        error(|p| p.iou_thr = f64::NAN),
        "iou_thr is NaN; use a number above 0 and at most 1"
    );
    assert_eq!(error(|p| p.recalls.push(1.5)), "recall is 1.5; use a number above 0 and at most 1");
    assert_eq!(error(|p| p.score_thr = f64::INFINITY), "score_thr is inf; use a finite number");
    let no_limit = CocoParams { max_dets: vec![], ..CocoParams::default() };
    let result = details(&categories(), &[], &DetailParams::default(), &no_limit);
    assert_eq!(result.unwrap_err().to_string(), "max_dets is empty; give at least one value");
}

#[test]
fn an_image_that_is_there_twice_or_has_other_classes_is_an_error() {
    let images = by_hand();
    let twice = [images[0].clone(), images[0].clone()];
    let result = details(&categories(), &views(&twice), &DetailParams::default(), &coco());
    let duplicate = MergeError::Duplicate { key: "id", value: 20 };
    assert_eq!(result.unwrap_err(), DetailsError::Merge(duplicate));

    let plan = |first: usize| {
        DetailPlan::new(&categories()[first..], &DetailParams::default(), &coco()).unwrap()
    };
    // Two images have the class that is missing; the lower id is named, whatever thread saw it.
    let shard = match_details(&views(&images), &plan(0));
    let fewer = plan(1);
    for _ in 0..100 {
        assert_eq!(shard.clone().evaluate(&fewer), Err(MergeError::Foreign(10)));
    }
    let confusion_only = DetailsShard { coco: vec![], ..shard.clone() };
    assert_eq!(confusion_only.evaluate(&fewer), Err(MergeError::Foreign(10)));
    let coco_only = DetailsShard { confusion: vec![], ..shard };
    let twice = coco_only.clone().merge(coco_only).evaluate(&plan(0));
    assert_eq!(twice, Err(MergeError::Duplicate { key: "id", value: 10 }));
}

#[test]
fn matches_whose_columns_do_not_add_up_are_refused() {
    let plan = DetailPlan::new(&categories(), &DetailParams::default(), &coco()).unwrap();
    let mut images = by_hand();
    images[0].0.ground_truth.push(gt(6, 7, 400.0));
    let shard = match_details(&views(&images), &plan);
    let refused = |damage: &dyn Fn(&mut detgate::matching::coco::ImageMatches)| {
        let mut damaged = shard.clone();
        damage(&mut damaged.coco[0]);
        damaged.evaluate(&plan) == Err(MergeError::Foreign(20))
    };
    assert!(!refused(&|_| ()));
    // Class 1 has three detections on image 20, the others none.
    assert_eq!(shard.coco[0].classes.iter().map(|c| c.dts_end).collect::<Vec<_>>(), [3, 3, 3]);
    for ends in [[3, 3, 2], [3, 2, 3], [2, 2, 2], [4, 3, 3], [3, 3, 4]] {
        let damage = |image: &mut detgate::matching::coco::ImageMatches| {
            for (class, end) in image.classes.iter_mut().zip(ends) {
                class.dts_end = end;
            }
        };
        assert!(refused(&damage), "{ends:?}");
    }
    assert!(refused(&|image| image.scores.truncate(2)));
    assert!(refused(&|image| image.outside.truncate(2)));
    assert!(refused(&|image| image.outside.push(0)));
    assert!(refused(&|image| image.positives.truncate(2)));
    assert!(refused(&|image| image.hit_dts[0] = 3));
    assert!(refused(&|image| image.hit_dts.truncate(0)));
    assert!(refused(&|image| image.hit_found.truncate(0)));
    assert!(refused(&|image| image.hit_ignored.truncate(0)));
}

#[test]
fn what_is_out_of_the_range_all_counts_neither_way() {
    let mut coco = coco();
    coco.area_ranges.reverse();
    coco.area_ranges[3].max = 99.0;
    let images = by_hand();
    let params = DetailParams::default();
    let details = details(&categories(), &views(&images), &params, &coco).unwrap();
    // Every box has an area of 100.
    assert!(details.operating_points.iter().all(|points| points.ground_truths == 0));
    assert!(details.per_image.iter().all(|image| image.tally == Tally::default()));
}

#[test]
fn without_images_everything_is_there_and_undefined() {
    let empty = compute(&[], &DetailParams::default());
    assert_eq!(empty.operating_points.len(), 3);
    assert!(empty.operating_points.iter().all(|points| points.best_f1.is_none()));
    let ConfusionMatrix { classes, counts } = empty.confusion;
    assert_eq!((classes.len(), counts), (3, vec![vec![0; 4]; 4]));
    assert!(empty.per_image.is_empty());
}
