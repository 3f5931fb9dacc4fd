//! What flipped between two sides: one case of each kind, and what must hold for all.

mod oracle;

use detgate::dataset::{Category, GroundTruth, ImageRecord};
use detgate::detections::Detection;
use detgate::matching::coco::CocoParams;
use detgate::metrics::losses::{
    Flip, FlipKind, ImageLoss, LossError, largest_losses, losses, most_improved,
};
use detgate::metrics::{DetailParams, details};
use proptest::prelude::*;

type Image = (ImageRecord, Vec<Detection>);

fn categories() -> Vec<Category> {
    [(1, "person"), (2, "car"), (5, "bus")]
        .map(|(id, name)| Category { id, name: name.into() })
        .into()
}

fn compare(baseline: &[Image], candidate: &[Image]) -> Vec<ImageLoss> {
    try_compare(baseline, candidate).unwrap()
}

fn try_compare(baseline: &[Image], candidate: &[Image]) -> Result<Vec<ImageLoss>, LossError> {
    let [baseline, candidate] = [baseline, candidate]
        .map(|side| side.iter().map(|(image, dts)| (image, dts.as_slice())).collect::<Vec<_>>());
    losses(&categories(), &baseline, &candidate, 0.5)
}

fn gt(category_id: i64, x: f64) -> GroundTruth {
    let bbox = [x, 0., 10., 10.].into();
    GroundTruth { id: 1, category_id, bbox, area: 100., is_crowd: false, ignore: false }
}

fn dt(category_id: i64, x: f64, score: f64) -> Detection {
    Detection { bbox: [x, 0., 10., 10.].into(), score, category_id }
}

/// One image with two people and a car.
fn image(dts: &[Detection]) -> Vec<Image> {
    vec![(oracle::record(7, vec![gt(1, 0.), gt(1, 100.), gt(2, 200.)]), dts.to_vec())]
}

fn flips(before: &[Detection], after: &[Detection]) -> Vec<(FlipKind, i64, f64, Option<i64>)> {
    let found = compare(&image(before), &image(after));
    let flips = found.iter().flat_map(|loss| &loss.flips);
    flips.map(|f| (f.kind, f.category_id, f.score, f.other_category_id)).collect()
}

#[test]
fn an_object_that_is_not_found_any_more_is_missed() {
    let found = compare(&image(&[dt(1, 0., 0.9), dt(2, 200., 0.8)]), &image(&[dt(1, 0., 0.7)]));
    let [loss] = &found[..] else { panic!("{found:?}") };
    assert_eq!(loss.image_id, 7);
    assert_eq!((loss.before.tp, loss.before.fp, loss.before.fn_), (2, 0, 1));
    assert_eq!((loss.after.tp, loss.after.fp, loss.after.fn_), (1, 0, 2));
    let bbox = gt(2, 200.).bbox;
    let flip = |kind| Flip { kind, category_id: 2, bbox, score: 0.8, other_category_id: None };
    assert_eq!(loss.flips, [flip(FlipKind::Missed)]);
    assert_eq!((loss.errors_change(), loss.is_worse()), (1, true));
    // Below the threshold it is not there.
    let faint = [dt(1, 0., 0.9), dt(2, 200., 0.49)];
    let found = compare(&image(&[dt(1, 0., 0.9), dt(2, 200., 0.8)]), &image(&faint));
    assert_eq!(found[0].flips, [flip(FlipKind::Missed)]);
}

#[test]
fn a_wrong_label_is_told_once_whether_it_appears_or_goes() {
    let (right, wrong) = ([dt(2, 200., 0.8)], [dt(5, 201., 0.9)]);
    assert_eq!(flips(&right, &wrong), [(FlipKind::Mislabelled, 2, 0.8, Some(5))]);
    assert_eq!(flips(&wrong, &right), [(FlipKind::Corrected, 2, 0.8, Some(5))]);
    // The wrong label was there all along; the right one is gone.
    let both = [right[0], wrong[0]];
    assert_eq!(flips(&both, &wrong), [(FlipKind::Mislabelled, 2, 0.8, Some(5))]);
}

#[test]
fn a_false_positive_is_new_unless_the_other_side_has_one_there_of_its_class() {
    let new = (FlipKind::NewFalsePositive, 1, 0.6, None);
    assert_eq!(flips(&[], &[dt(1, 300., 0.6)]), [new]);
    assert_eq!(flips(&[dt(1, 301., 0.9)], &[dt(1, 300., 0.6)]), []);
    assert_eq!(
        flips(&[dt(2, 300., 0.9)], &[dt(1, 300., 0.6)]),
        [new, (FlipKind::FalsePositiveGone, 2, 0.9, None)]
    );
    // One for one.
    assert_eq!(flips(&[dt(1, 300., 0.9)], &[dt(1, 300., 0.6), dt(1, 300., 0.9)]).len(), 1);
}

#[test]
fn a_box_that_slipped_is_a_miss_and_a_false_positive() {
    let slipped = flips(&[dt(1, 0., 0.9)], &[dt(1, 6., 0.8)]);
    let expected = [(FlipKind::Missed, 1, 0.9, None), (FlipKind::NewFalsePositive, 1, 0.8, None)];
    assert_eq!(slipped, expected);
}

#[test]
fn a_wrong_label_on_an_object_that_was_missed_is_a_false_positive_that_says_on_what() {
    let new = flips(&[], &[dt(5, 200., 0.9)]);
    assert_eq!(new, [(FlipKind::NewFalsePositive, 5, 0.9, Some(2))]);
}

#[test]
fn the_largest_loss_comes_first_and_the_largest_gain_last() {
    let side = |counts: [usize; 5]| -> Vec<Image> {
        let places = [0., 100., 200., 300.];
        let image = |(id, count): (usize, usize)| {
            let gts = places.map(|x| gt(1, x)).to_vec();
            let dts = places[..count].iter().map(|x| dt(1, *x, 0.9)).collect();
            (oracle::record(id as i64, gts), dts)
        };
        counts.into_iter().enumerate().map(image).collect()
    };
    let found = compare(&side([4, 4, 1, 2, 3]), &side([3, 1, 2, 2, 2]));
    let ids = |losses: &[&ImageLoss]| losses.iter().map(|loss| loss.image_id).collect::<Vec<_>>();
    // 4 to 3 of 4 costs less F1 than 3 to 2.
    assert_eq!(ids(&found.iter().collect::<Vec<_>>()), [1, 4, 0, 2]);
    assert_eq!(ids(&largest_losses(&found, 2)), [1, 4]);
    assert_eq!(ids(&largest_losses(&found, 9)), [1, 4, 0]);
    assert_eq!(ids(&most_improved(&found, 9)), [2]);
}

#[test]
fn sides_of_other_images_or_other_truth_are_refused() {
    let (one, two) = (image(&[]), vec![(oracle::record(8, vec![]), vec![])]);
    let error = |a: &[Image], b: &[Image]| try_compare(a, b).unwrap_err();
    assert_eq!(error(&one, &two), LossError::OneSided(7));
    assert_eq!(error(&one, &[]), LossError::OneSided(7));
    assert_eq!(error(&[], &two), LossError::OneSided(8));
    let other = vec![(oracle::record(7, vec![gt(1, 0.)]), vec![])];
    assert_eq!(error(&one, &other), LossError::GroundTruth(7));
    let twice = [one.clone(), one.clone()].concat();
    assert!(matches!(error(&twice, &one), LossError::Merge(_)));
}

#[test]
fn the_counts_are_those_of_the_results_per_image() {
    let mut checked = 0;
    for (_, record) in oracle::tide::recorded() {
        let (mut images, categories) = (record.images(), record.categories());
        // There, an object beyond COCO's area range of 1e10 need not be found.
        let gts = images.iter_mut().flat_map(|(image, _)| &mut image.ground_truth);
        gts.for_each(|gt| gt.area = gt.bbox.area());
        let mut scores: Vec<u64> =
            images.iter().flat_map(|(_, dts)| dts).map(|dt| dt.score.to_bits()).collect();
        let all = scores.len();
        scores.sort_unstable();
        scores.dedup();
        // Of equal scores, the order in the file decides there and the box here.
        if scores.len() < all {
            continue;
        }
        let after: Vec<(&ImageRecord, &[Detection])> =
            images.iter().map(|(image, dts)| (image, dts.as_slice())).collect();
        let before: Vec<(&ImageRecord, &[Detection])> =
            images.iter().map(|(image, _)| (image, &[][..])).collect();
        let coco = CocoParams::default();
        let details = details(&categories, &after, &DetailParams::default(), &coco).unwrap();
        for loss in losses(&categories, &before, &after, 0.5).unwrap() {
            let there = details.per_image.iter().find(|image| image.image_id == loss.image_id);
            assert_eq!(loss.after, there.unwrap().tally);
            checked += 1;
        }
    }
    assert!(checked >= 30, "only {checked} images were compared");
}

fn class() -> impl Strategy<Value = i64> {
    prop::sample::select(&[1i64, 2, 5, 9][..])
}

/// Boxes on a coarse grid, so that overlaps and scores tie; some without area.
fn detections() -> impl Strategy<Value = Vec<Detection>> {
    let detection = (class(), 0..12u8, 0..4u8, 2..7u8).prop_map(|(category_id, x, w, score)| {
        let bbox = [f64::from(x) * 2.5, 0., f64::from(w) * 4., 10.].into();
        Detection { bbox, score: f64::from(score) / 8.0, category_id }
    });
    prop::collection::vec(detection, 0..12)
}

fn truth() -> impl Strategy<Value = Vec<GroundTruth>> {
    let object = (class(), 0..12u8, 1..4u8, prop::bool::weighted(0.1));
    let object = object.prop_map(|(category_id, x, w, is_crowd)| {
        let bbox = [f64::from(x) * 2.5, 0., f64::from(w) * 4., 10.].into();
        GroundTruth { bbox, is_crowd, ..gt(category_id, 0.) }
    });
    prop::collection::vec(object, 0..6)
}

/// An image's ground truth, and what either side says about it.
type Parts = (Vec<GroundTruth>, Vec<Detection>, Vec<Detection>);

/// Both sides of a few images.
fn sides() -> impl Strategy<Value = (Vec<Image>, Vec<Image>)> {
    let image = (truth(), detections(), detections());
    prop::collection::vec(image, 0..6).prop_map(|images| {
        let side = |pick: fn(&Parts) -> &Vec<Detection>| {
            let image = |(id, parts): (usize, &Parts)| {
                (oracle::record(id as i64, parts.0.clone()), pick(parts).clone())
            };
            images.iter().enumerate().map(image).collect()
        };
        (side(|parts| &parts.1), side(|parts| &parts.2))
    })
}

fn shuffled(side: &[Image]) -> Vec<Image> {
    let reversed = side.iter().rev().cloned();
    reversed.map(|(image, dts)| (image, dts.into_iter().rev().collect())).collect()
}

/// What a flip is when the sides are swapped.
fn opposite(kind: FlipKind) -> FlipKind {
    use FlipKind::*;
    match kind {
        Missed => Found,
        Mislabelled => Corrected,
        NewFalsePositive => FalsePositiveGone,
        Found => Missed,
        Corrected => Mislabelled,
        FalsePositiveGone => NewFalsePositive,
    }
}

/// The flips as they read with the sides swapped.
fn reversed(loss: &ImageLoss) -> ImageLoss {
    let flip = |flip: &Flip| Flip { kind: opposite(flip.kind), ..*flip };
    let mut flips: Vec<Flip> = loss.flips.iter().map(flip).collect();
    flips.sort_by_key(|flip| flip.kind);
    ImageLoss { before: loss.after, after: loss.before, flips, ..*loss }
}

proptest! {
    #[test]
    fn the_same_detections_in_any_order_lose_nothing((side, _) in sides()) {
        prop_assert_eq!(compare(&side, &shuffled(&side)), []);
    }

    #[test]
    fn neither_side_s_order_matters((before, after) in sides()) {
        prop_assert_eq!(compare(&shuffled(&before), &shuffled(&after)), compare(&before, &after));
    }

    #[test]
    fn swapped_sides_flip_back((before, after) in sides()) {
        let mut there: Vec<_> = compare(&before, &after).iter().map(reversed).collect();
        let mut back = compare(&after, &before);
        there.sort_by_key(|loss| loss.image_id);
        back.sort_by_key(|loss| loss.image_id);
        prop_assert_eq!(there, back);
    }

    #[test]
    fn the_flips_account_for_every_change_of_the_counts((before, after) in sides()) {
        for loss in compare(&before, &after) {
            let of = |kind| loss.flips.iter().filter(|flip| flip.kind == kind).count() as i64;
            let lost = of(FlipKind::Missed) + of(FlipKind::Mislabelled);
            let gained = of(FlipKind::Found) + of(FlipKind::Corrected);
            prop_assert_eq!(loss.after.fn_ as i64 - loss.before.fn_ as i64, lost - gained);
            // Those that are told as part of a wrong label may or may not be new.
            let fps = loss.after.fp as i64 - loss.before.fp as i64;
            let (new, gone) = (of(FlipKind::NewFalsePositive), of(FlipKind::FalsePositiveGone));
            prop_assert!(fps >= new - gone - of(FlipKind::Corrected), "{:?}", loss);
            prop_assert!(fps <= new - gone + of(FlipKind::Mislabelled), "{:?}", loss);
        }
    }

    #[test]
    fn images_come_by_the_change_of_their_errors((before, after) in sides()) {
        let changes: Vec<i64> =
            compare(&before, &after).iter().map(ImageLoss::errors_change).collect();
        prop_assert!(changes.is_sorted_by(|a, b| a >= b));
    }
}
