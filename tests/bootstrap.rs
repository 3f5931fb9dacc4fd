//! The paired bootstrap's engine: a replicate is the evaluation of a resampled data set.

#[path = "common/random.rs"]
mod random;

use std::collections::BTreeMap;

use detgate::dataset::{Bbox, Category, GroundTruth, ImageRecord};
use detgate::detections::Detection;
use detgate::matching::coco::CocoParams;
use detgate::matching::practical::PracticalParams;
use detgate::metrics::bootstrap::{Replicates, Sample, Weights};
use detgate::metrics::{EvaluateError, MergeError, evaluate};
use proptest::prelude::*;
use random::Random;

type Image = (ImageRecord, Vec<Detection>);
type Table = BTreeMap<String, Option<f64>>;

const CLASSES: [i64; 4] = [1, 2, 7, 9];

/// The last class has no ground truth, ever.
fn categories() -> Vec<Category> {
    CLASSES.map(|id| Category { id, name: format!("class{id}") }).to_vec()
}

fn record(id: i64, ground_truth: Vec<GroundTruth>) -> ImageRecord {
    let (file_name, path) = (format!("{id}.jpg"), Default::default());
    ImageRecord { id, file_name, path, width: 640, height: 480, ground_truth }
}

/// Sides at, and a little off, the borders of the area ranges, 32² and 96².
fn side() -> impl Strategy<Value = f64> {
    prop::sample::select(vec![20.0, 31.0, 32.0, 33.0, 60.0, 96.0, 97.0, 150.0])
}

fn bbox() -> impl Strategy<Value = Bbox> {
    let place = || (0..40i32).prop_map(|n| f64::from(n) * 5.0);
    (place(), place(), side(), side()).prop_map(|(x, y, w, h)| Bbox { x, y, w, h })
}

fn ground_truth() -> impl Strategy<Value = GroundTruth> {
    let class = prop::sample::select(&CLASSES[..3]);
    let flags = (prop::bool::weighted(0.15), prop::bool::weighted(0.1), any::<bool>());
    (0..6i64, class, bbox(), flags).prop_map(
        |(id, category_id, bbox, (is_crowd, ignore, whole))| {
            let area = bbox.area() * if whole { 1.0 } else { 0.7 };
            GroundTruth { id, category_id, bbox, area, is_crowd, ignore }
        },
    )
}

/// Most detections are near a ground truth, as good as the thresholds differ; scores come later.
fn image(id: i64) -> impl Strategy<Value = Image> {
    let class = prop::sample::select(&CLASSES[..]);
    let detection = (class, bbox(), any::<prop::sample::Index>(), 0.0..0.7f64);
    let gts = prop::collection::vec(ground_truth(), 0..7);
    (gts, prop::collection::vec(detection, 0..16)).prop_map(move |(gts, dts)| {
        let detect = |(category_id, bbox, index, shift): (_, _, prop::sample::Index, f64)| {
            let target = (shift < 0.5 && !gts.is_empty()).then(|| index.get(&gts));
            match target {
                Some(gt) => {
                    let bbox = Bbox { x: gt.bbox.x + shift * gt.bbox.w, ..gt.bbox };
                    Detection { bbox, score: 0.0, category_id: gt.category_id }
                }
                None => Detection { bbox, score: 0.0, category_id },
            }
        };
        let dts = dts.into_iter().map(detect).collect();
        (record(id, gts), dts)
    })
}

/// No two detections of an image have the same score. Those of different images often do, if `coarse`.
fn images(coarse: bool) -> impl Strategy<Value = Vec<Image>> {
    let images = (1..9i64).prop_flat_map(|count| (0..count).map(image).collect::<Vec<_>>());
    let orders = prop::collection::vec(any::<u64>(), 9 * 16);
    (images, orders).prop_map(move |(mut images, orders)| {
        let mut taken = std::collections::HashSet::new();
        for ((_, dts), orders) in images.iter_mut().zip(orders.chunks(16)) {
            if coarse {
                taken.clear();
            }
            for (dt, order) in dts.iter_mut().zip(orders) {
                let levels = if coarse { 24 } else { 1 << 20 };
                let free = (0..levels).map(|i| (order + i) % levels).find(|&i| taken.insert(i));
                dt.score = free.unwrap() as f64 / levels as f64;
            }
        }
        images
    })
}

fn views(images: &[Image]) -> Vec<(&ImageRecord, &[Detection])> {
    images.iter().map(|(image, dts)| (image, dts.as_slice())).collect()
}

fn params() -> PracticalParams {
    PracticalParams { score_thr: 0.3, iou_thr: 0.5 }
}

fn replicate(images: &[Image], units: &[u32], weights: &Weights) -> Replicates {
    let sample = Sample::new(&categories(), &views(images), units, &params()).unwrap();
    sample.replicate(weights).unwrap()
}

/// A metric's values; `None` where undefined.
fn defined(found: &Replicates, name: &str) -> Vec<Option<f64>> {
    let values = found.values(name).unwrap().iter();
    values.map(|&value| (!value.is_nan()).then_some(value)).collect()
}

/// One replicate, as `Evaluation::table` would have it.
fn table(found: &Replicates, replicate: usize) -> Table {
    found.names().map(|name| (name.to_owned(), defined(found, name)[replicate])).collect()
}

fn point(images: &[Image]) -> Table {
    evaluate(&categories(), &views(images), &params(), &CocoParams::default()).unwrap().table()
}

/// Every image as often as its unit was drawn. New ids ascend: copies are neighbours.
fn resampled(images: &[Image], units: &[u32], weights: &Weights, replicate: usize) -> Vec<Image> {
    let weights = weights.replicate(replicate);
    let copies = images
        .iter()
        .zip(units)
        .flat_map(|(image, &unit)| std::iter::repeat_n(image, weights[unit as usize] as usize));
    let renumber =
        |((image, dts), id): (&Image, i64)| (ImageRecord { id, ..image.clone() }, dts.clone());
    copies.zip(0..).map(renumber).collect()
}

fn check_same(found: &Table, expected: &Table) -> Result<(), TestCaseError> {
    prop_assert!(found.keys().eq(expected.keys()), "{:?}\n{:?}", found.keys(), expected.keys());
    for (name, expected) in expected {
        match (found[name], expected) {
            (Some(a), Some(b)) => prop_assert!((a - b).abs() < 1e-12, "{name}: {a}, not {b}"),
            (a, b) => prop_assert_eq!(a, *b, "{}", name),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn with_weights_of_one_it_says_what_an_evaluation_says(
        images in any::<bool>().prop_flat_map(images)
    ) {
        let units: Vec<u32> = (0..).take(images.len()).collect();
        let found = replicate(&images, &units, &Weights::ones(images.len()));
        check_same(&table(&found, 0), &point(&images))?;
    }

    /// The main test: the images are really repeated, and really evaluated.
    #[test]
    fn a_replicate_is_the_evaluation_of_the_resampled_images(
        images in any::<bool>().prop_flat_map(images),
        seed in any::<u64>(),
    ) {
        let units: Vec<u32> = (0..).take(images.len()).collect();
        let weights = Weights::bootstrap(images.len(), 18, seed);
        let found = replicate(&images, &units, &weights);
        // Two blocks of replicates, the second partly used.
        for b in [0, 7, 15, 16, 17] {
            check_same(&table(&found, b), &point(&resampled(&images, &units, &weights, b)))?;
        }
    }

    #[test]
    fn groups_of_images_are_drawn_together(
        images in images(false),
        groups in prop::collection::vec(0..3u32, 9),
        seed in any::<u64>(),
    ) {
        let units = &groups[..images.len()];
        for weights in [Weights::bootstrap(3, 3, seed), Weights::jackknife(3, 10)] {
            let found = replicate(&images, units, &weights);
            for b in 0..3 {
                check_same(&table(&found, b), &point(&resampled(&images, units, &weights, b)))?;
            }
        }
    }

    /// Whatever the caller's order of the images is: that of equal scores is the ids'.
    #[test]
    fn a_slice_is_its_images_with_the_units_that_they_have_among_all(
        images in images(false),
        seed in any::<u64>(),
    ) {
        let slice: Vec<Image> = images.iter().skip(1).step_by(2).rev().cloned().collect();
        let units: Vec<u32> = slice.iter().map(|(image, _)| image.id as u32).collect();
        let weights = Weights::bootstrap(images.len(), 3, seed);
        let found = replicate(&slice, &units, &weights);
        for b in 0..3 {
            check_same(&table(&found, b), &point(&resampled(&slice, &units, &weights, b)))?;
        }
    }
}

/// For a data set that is larger than proptest likes to make.
fn noise(i: u64) -> f64 {
    Random::seeded(i).unit()
}

/// `objects` a class and image, and `dts` detections of each of them. All scores differ.
fn crowded(images: usize, objects: usize, dts: usize) -> Vec<Image> {
    let place = |i: usize| Bbox { x: i as f64 * 130.0, y: 0.0, w: 50.0, h: 80.0 };
    let make = |id: usize| {
        let gt = |i: usize| GroundTruth {
            id: i as i64 + 1,
            category_id: CLASSES[i % 2],
            bbox: place(i),
            area: 3000.0,
            is_crowd: false,
            ignore: false,
        };
        let dt = |d: usize| {
            let i = d % objects;
            let number = (id * objects * dts + d) as u64;
            let bbox = Bbox { x: place(i).x + 25.0 * noise(3 * number), ..place(i) };
            let score = noise(3 * number + 1);
            Detection { bbox, score, category_id: CLASSES[i % 2] }
        };
        let gts = (0..objects).map(gt).collect();
        (record(id as i64, gts), (0..objects * dts).map(dt).collect())
    };
    (0..images).map(make).collect()
}

#[test]
fn only_a_hundred_detections_of_an_image_and_class_count_in_a_replicate_too() {
    let images = crowded(4, 20, 14);
    let units = [0, 1, 2, 3];
    let weights = Weights::bootstrap(4, 20, 5);
    let found = replicate(&images, &units, &weights);
    for b in 0..20 {
        let expected = point(&resampled(&images, &units, &weights, b));
        check_same(&table(&found, b), &expected).unwrap();
    }
}

/// Enough for many blocks of replicates, sums beyond 16 bits and recalls beyond every threshold.
#[test]
fn it_is_exact_on_many_images_too() {
    let images = crowded(400, 6, 30);
    let units: Vec<u32> = (0..400).collect();
    let weights = Weights::bootstrap(400, 50, 5);
    let found = replicate(&images, &units, &weights);
    for b in [0, 15, 16, 49] {
        let expected = point(&resampled(&images, &units, &weights, b));
        assert!(expected["AP"].unwrap() > 0.05);
        check_same(&table(&found, b), &expected).unwrap();
    }
    assert!(found.names().all(|name| found.values(name).unwrap().len() == 50));
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let images = crowded(60, 6, 4);
    let units: Vec<u32> = (0..60).collect();
    let bits = |threads: usize| -> Vec<(String, Vec<u64>)> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let found = pool.install(|| replicate(&images, &units, &Weights::bootstrap(60, 100, 1)));
        let row = |name: &str| found.values(name).unwrap().iter().map(|v| v.to_bits()).collect();
        found.names().map(|name| (name.to_owned(), row(name))).collect()
    };
    let one = bits(1);
    assert_eq!(one, bits(2));
    assert_eq!(one, bits(5));
    assert!(one.iter().all(|(_, row)| row.len() == 100));
}

#[test]
fn a_class_of_which_nothing_was_drawn_is_undefined_and_not_in_the_mean() {
    let mut images = crowded(6, 2, 1);
    // Only the first image has objects of the second class.
    for (image, _) in &mut images[1..] {
        image.ground_truth.truncate(1);
    }
    let weights = Weights::jackknife(6, 6);
    let found = replicate(&images, &[0, 1, 2, 3, 4, 5], &weights);
    let defined = |name: &str| defined(&found, name);
    assert_eq!(defined("AP50/class2")[0], None);
    assert!(found.values("AP50/class2").unwrap()[0].is_nan());
    assert!(defined("AP50/class2")[1..].iter().all(Option::is_some));
    assert_eq!(defined("AP50")[0], defined("AP50/class1")[0]);
    // Never any ground truth.
    assert_eq!(defined("AP/class9"), [None; 6]);
    // Nothing medium was left out: no object is small or large.
    assert_eq!(defined("APs"), [None; 6]);
    assert!(found.values("no such metric").is_none());
}

#[test]
fn what_does_not_fit_is_refused() {
    let images = crowded(2, 2, 1);
    let new = |units: &[u32]| Sample::new(&categories(), &views(&images), units, &params());
    let error = new(&[0]).err().unwrap();
    assert_eq!(error, EvaluateError::Units { images: 2, units: 1 });
    assert_eq!(error.to_string(), "2 images were given with 1 units; give every image its unit");
    let sample = new(&[0, 3]).unwrap();
    assert!(sample.replicate(&Weights::ones(4)).is_ok());
    let error = sample.replicate(&Weights::ones(3)).err().unwrap();
    assert_eq!(error, EvaluateError::UnknownUnit { unit: 3, units: 3 });

    let twice = [images[0].clone(), images[0].clone()];
    let error = Sample::new(&categories(), &views(&twice), &[0, 1], &params()).err().unwrap();
    assert_eq!(error, EvaluateError::Merge(MergeError::Duplicate { key: "id", value: 0 }));
}

#[test]
fn nothing_has_the_values_of_nothing() {
    let none = replicate(&[], &[], &Weights::ones(0));
    check_same(&table(&none, 0), &point(&[])).unwrap();
    let no_replicates = replicate(&crowded(2, 2, 1), &[0, 1], &Weights::bootstrap(2, 0, 1));
    assert!(no_replicates.values("AP").unwrap().is_empty());
}

/// So many units that their weights are not all in memory at once: the replicates still are in order.
#[test]
fn replicates_of_very_many_units_are_in_order() {
    let images = crowded(2, 2, 1);
    let found = replicate(&images, &[5, 250], &Weights::jackknife(300_000, 300));
    let recall = found.values("AR100").unwrap();
    assert_eq!(recall.len(), 300);
    let (without_first, without_second) = (recall[5], recall[250]);
    assert_ne!(without_first, without_second);
    for (b, &recall) in recall.iter().enumerate() {
        let expected = match b {
            5 => without_first,
            250 => without_second,
            _ => (without_first + without_second) / 2.0,
        };
        assert!((recall - expected).abs() < 1e-12, "replicate {b}");
    }
}
