//! A replicate of the bootstrap is what an evaluation of the resampled data set gives.

use detgate::dataset::{Bbox, Category, GroundTruth, ImageRecord};
use detgate::detections::Detection;
use detgate::matching::coco::CocoParams;
use detgate::matching::practical::PracticalParams;
use detgate::metrics::bootstrap::{Replicates, Sample, Weights};
use detgate::metrics::evaluate;
use proptest::prelude::*;
use proptest::sample::Index;

type Image = (ImageRecord, Vec<Detection>);

const PRACTICAL: PracticalParams = PracticalParams { score_thr: 0.3, iou_thr: 0.5 };

fn categories() -> Vec<Category> {
    // Not ascending, and the last one never occurs.
    [(3, "car"), (1, "person"), (8, "airplane")]
        .map(|(id, name)| Category { id, name: name.into() })
        .to_vec()
}

/// Sides from 4 to 140 pixels: all area ranges, and their borders.
fn a_box() -> impl Strategy<Value = Bbox> {
    let side = prop_oneof![Just(32.0), Just(96.0), 4.0..140.0];
    (0.0..60.0, 0.0..60.0, side.clone(), side).prop_map(|(x, y, w, h)| Bbox { x, y, w, h })
}

fn truth() -> impl Strategy<Value = GroundTruth> {
    (a_box(), prop_oneof![Just(1), Just(3)], prop::bool::weighted(0.15), prop::bool::weighted(0.1))
        .prop_map(|(bbox, category_id, is_crowd, ignore)| {
            let area = bbox.area();
            GroundTruth { id: 1, category_id, bbox, area, is_crowd, ignore }
        })
}

/// Near a ground truth of its image, or anywhere.
fn detection() -> impl Strategy<Value = (Option<(Index, [f64; 4])>, Bbox, i64)> {
    let shift = prop::array::uniform4(-9.0..9.0);
    let near = prop::option::weighted(0.7, (any::<Index>(), shift));
    (near, a_box(), prop_oneof![Just(1), Just(3), Just(8), Just(77)])
}

fn images() -> impl Strategy<Value = Vec<Image>> {
    let image = (prop::collection::vec(truth(), 0..6), prop::collection::vec(detection(), 0..9));
    prop::collection::vec(image, 1..12).prop_map(|images| {
        let count: usize = images.iter().map(|(_, dts)| dts.len()).sum();
        let mut place = 0;
        let scored = images.into_iter().zip(1..).map(|((ground_truth, dts), id)| {
            let dts = dts.into_iter().map(|(near, elsewhere, category_id)| {
                // No two alike, and in no order.
                place = (place + 7919) % 10007;
                let score = f64::from(place) / 10007.0 + count as f64 * 1e-9;
                place_detection(near, elsewhere, category_id, &ground_truth, score)
            });
            let dts = dts.collect();
            (record(id, ground_truth), dts)
        });
        scored.collect()
    })
}

fn place_detection(
    near: Option<(Index, [f64; 4])>,
    elsewhere: Bbox,
    category_id: i64,
    truths: &[GroundTruth],
    score: f64,
) -> Detection {
    let Some((index, [x, y, w, h])) = near.filter(|_| !truths.is_empty()) else {
        return Detection { bbox: elsewhere, score, category_id };
    };
    let truth = index.get(truths);
    let Bbox { x: left, y: top, w: width, h: height } = truth.bbox;
    let bbox = Bbox { x: left + x, y: top + y, w: (width + w).max(1.0), h: (height + h).max(1.0) };
    Detection { bbox, score, category_id: truth.category_id }
}

fn record(id: i64, ground_truth: Vec<GroundTruth>) -> ImageRecord {
    ImageRecord {
        id,
        file_name: format!("{id}.jpg"),
        path: format!("{id}.jpg").into(),
        width: 200,
        height: 200,
        ground_truth,
    }
}

fn views(images: &[Image]) -> Vec<(&ImageRecord, &[Detection])> {
    images.iter().map(|(image, dts)| (image, dts.as_slice())).collect()
}

/// Each image as often as it was drawn, copies side by side and under ids of their own.
fn resampled(images: &[Image], units: &[u32], counts: &[u32]) -> Vec<Image> {
    let copies = images.iter().zip(units).flat_map(|((image, dts), &unit)| {
        (0..i64::from(counts[unit as usize])).map(move |copy| {
            (ImageRecord { id: image.id * 100 + copy, ..image.clone() }, dts.clone())
        })
    });
    copies.collect()
}

/// Every metric of an evaluation is that of the replicate.
fn assert_equal(replicates: &Replicates, replicate: usize, images: &[Image]) {
    let expected =
        evaluate(&categories(), &views(images), &PRACTICAL, &CocoParams::default()).unwrap();
    let table = expected.table();
    assert!(table.keys().map(String::as_str).eq(replicates.names()), "the same metrics");
    for (name, expected) in table {
        let value = replicates.values(&name).unwrap()[replicate];
        match expected {
            None => assert!(value.is_nan(), "{name} is {value}, and undefined"),
            Some(expected) => {
                assert!((value - expected).abs() < 1e-12, "{name} is {value}, not {expected}");
            }
        }
    }
}

fn sample(images: &[Image], units: &[u32]) -> Sample {
    Sample::new(&categories(), &views(images), units, &PRACTICAL).unwrap()
}

proptest! {
    #[test]
    fn weights_of_one_give_the_point(images in images()) {
        let units: Vec<u32> = (0..images.len() as u32).collect();
        let replicates = sample(&images, &units).replicate(&Weights::ones(images.len()));
        assert_equal(&replicates, 0, &images);
    }

    #[test]
    fn a_replicate_is_an_evaluation_of_the_resampled_images(images in images(), seed: u64) {
        let units: Vec<u32> = (0..images.len() as u32).collect();
        let weights = Weights::bootstrap(images.len(), 19, seed);
        let replicates = sample(&images, &units).replicate(&weights);
        for replicate in [0, 7, 18] {
            let drawn = resampled(&images, &units, &weights.replicate(replicate));
            assert_equal(&replicates, replicate, &drawn);
        }
    }

    #[test]
    fn groups_are_drawn_whole_and_a_slice_sees_its_own(images in images(), seed: u64) {
        let groups: Vec<u32> = (0..images.len() as u32).map(|i| i % 4).collect();
        let weights = Weights::bootstrap(4, 5, seed);
        let slice = images.len() / 2;
        let replicates = sample(&images[slice..], &groups[slice..]).replicate(&weights);
        for replicate in 0..5 {
            let counts = weights.replicate(replicate);
            assert_equal(&replicates, replicate, &resampled(&images[slice..], &groups[slice..], &counts));
        }
    }

    #[test]
    fn threads_and_the_order_of_images_change_no_bit(images in images(), seed: u64) {
        let units: Vec<u32> = (0..images.len() as u32).collect();
        let weights = Weights::bootstrap(images.len(), 40, seed);
        let here = sample(&images, &units).replicate(&weights);
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let there = alone.install(|| sample(&images, &units).replicate(&weights));
        // NaN is not equal to itself.
        prop_assert_eq!(format!("{here:?}"), format!("{there:?}"));
    }
}

#[test]
fn detections_beyond_the_limit_of_an_image_do_not_count() {
    let bbox = Bbox::from([0.0, 0.0, 50.0, 50.0]);
    let gt = |id| GroundTruth {
        id,
        category_id: 1,
        bbox: Bbox { x: 60.0 * id as f64, ..bbox },
        area: 2500.0,
        is_crowd: false,
        ignore: false,
    };
    let dts = |first: f64| {
        let dt = move |i: u32| Detection {
            bbox: Bbox { x: 60.0 * f64::from(i), ..bbox },
            score: first - f64::from(i) * 1e-3,
            category_id: 1,
        };
        (0..130).map(dt).collect::<Vec<_>>()
    };
    let images: Vec<Image> = vec![
        (record(1, (0..120).map(gt).collect()), dts(0.9)),
        (record(2, (0..20).map(gt).collect()), dts(0.8505)),
    ];
    let weights = Weights::bootstrap(2, 8, 1);
    let replicates = sample(&images, &[0, 1]).replicate(&weights);
    for replicate in 0..8 {
        let drawn = resampled(&images, &[0, 1], &weights.replicate(replicate));
        assert_equal(&replicates, replicate, &drawn);
    }
}
