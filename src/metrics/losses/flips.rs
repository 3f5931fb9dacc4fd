//! The flips of one image; [`super`] says what they are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ImageLoss;
use crate::dataset::{Bbox, GroundTruth, ImageRecord};
use crate::detections::Detection;
use crate::matching::descending_key;
use crate::matching::iou;
use crate::matching::pairing::{PairingParams, counts, pair_image};
use crate::matching::prepare::in_order_of_contents;
use crate::metrics::tally::Tally;

/// From this IoU on two boxes are the same.
const IOU_THR: f64 = 0.5;
/// COCO's limit, per image and class.
const MAX_DETS: usize = 100;

/// What happened to an object or a detection, from the baseline to the candidate.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FlipKind {
    /// An object was found and is missed now.
    Missed,
    /// An object was found and is taken for another class now.
    Mislabelled,
    /// A detection is wrong that was not there before.
    NewFalsePositive,
    /// An object was missed and is found now.
    Found,
    /// An object was taken for another class and is found now.
    Corrected,
    /// A detection was wrong and is not there any more.
    FalsePositiveGone,
}

/// One object or detection on which the sides differ.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Flip {
    /// What happened.
    pub kind: FlipKind,
    /// Class of the object; of a false positive, the class that it claims.
    pub category_id: i64,
    /// The object's box; of a false positive, its own.
    pub bbox: Bbox,
    /// Of the detection that found the object, on the side that found it; of a false positive, its
    /// own.
    pub score: f64,
    /// Of `Mislabelled` and `Corrected`, what the object is or was taken for; of a false positive,
    /// the class of the object that it is on, where that is another than its own.
    pub other_category_id: Option<i64>,
}

/// Compares the two sides of one image; `None` where nothing flipped. `classes` ascend.
pub(super) fn compare(
    image: &ImageRecord,
    before: &[Detection],
    after: &[Detection],
    classes: &[i64],
    score_thr: f64,
) -> Option<ImageLoss> {
    let params = PairingParams { score_thr, iou_thr: IOU_THR, max_dets: MAX_DETS };
    let gts = &image.ground_truth;
    let [before, after] = [before, after].map(|dts| Outcome::new(gts, dts, classes, &params));
    let (gone, new) = unshared(&before.false_positives, &after.false_positives);
    let mut flips = Vec::new();
    before.add_objects(&after, gts, &mut flips);
    // What a wrong label is part of is told once.
    let told = |from: &Outcome, to: &Outcome, g: Option<usize>| {
        g.is_some_and(|g| from.objects[g].is_found() && !to.objects[g].is_found())
    };
    for (fp, kind, from, to) in new
        .into_iter()
        .map(|fp| (fp, FlipKind::NewFalsePositive, &before, &after))
        .chain(gone.into_iter().map(|fp| (fp, FlipKind::FalsePositiveGone, &after, &before)))
    {
        if !told(from, to, fp.on) {
            let Detection { bbox, score, category_id } = fp.dt;
            let other_category_id = fp.on.map(|g| gts[g].category_id);
            flips.push(Flip { kind, category_id, bbox, score, other_category_id });
        }
    }
    flips.sort_by_key(|flip| {
        let place = <[f64; 4]>::from(flip.bbox).map(descending_key);
        (flip.kind, descending_key(flip.score), flip.category_id, place, flip.other_category_id)
    });
    let (before, after) = (before.tally(gts, classes), after.tally(gts, classes));
    (!flips.is_empty()).then_some(ImageLoss { image_id: image.id, before, after, flips })
}

/// What one side makes of an object.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Object {
    /// With this score.
    Found(f64),
    /// For this class.
    TakenFor(i64),
    /// Or it counts nowhere.
    Missed,
}

impl Object {
    fn is_found(self) -> bool {
        matches!(self, Self::Found(_))
    }
}

/// A false positive.
#[derive(Debug, Clone, Copy, PartialEq)]
struct FalsePositive {
    dt: Detection,
    /// The object of another class that it stands for.
    on: Option<usize>,
}

/// One side of one image.
struct Outcome {
    /// One per ground truth.
    objects: Vec<Object>,
    /// In an order that depends on what they are alone.
    false_positives: Vec<FalsePositive>,
}

impl Outcome {
    fn new(
        gts: &[GroundTruth],
        dts: &[Detection],
        classes: &[i64],
        params: &PairingParams,
    ) -> Self {
        let dts = in_order_of_contents(dts);
        let mut objects = vec![Object::Missed; gts.len()];
        let mut wrong = Vec::new();
        for pair in pair_image(gts, &dts, classes, params) {
            let Some(d) = pair.dt else { continue };
            match pair.gt {
                Some(g) if gts[g].category_id == dts[d].category_id => {
                    objects[g] = Object::Found(dts[d].score);
                }
                on => {
                    wrong.push((d, on));
                    if let Some(g) = on {
                        objects[g] = Object::TakenFor(dts[d].category_id);
                    }
                }
            }
        }
        wrong.sort_unstable();
        let false_positives =
            wrong.into_iter().map(|(d, on)| FalsePositive { dt: dts[d], on }).collect();
        Self { objects, false_positives }
    }

    fn tally(&self, gts: &[GroundTruth], classes: &[i64]) -> Tally {
        let listed = |gt: &&GroundTruth| classes.binary_search(&gt.category_id).is_ok();
        let positives = gts.iter().filter(|gt| counts(gt)).filter(listed).count() as u64;
        let tp = self.objects.iter().filter(|object| object.is_found()).count() as u64;
        Tally::of(tp, self.false_positives.len() as u64, positives)
    }

    fn add_objects(&self, after: &Self, gts: &[GroundTruth], flips: &mut Vec<Flip>) {
        for ((before, after), gt) in self.objects.iter().zip(&after.objects).zip(gts) {
            let (kind, score, other_category_id) = match (*before, *after) {
                (Object::Found(score), Object::Missed) => (FlipKind::Missed, score, None),
                (Object::Found(score), Object::TakenFor(class)) => {
                    (FlipKind::Mislabelled, score, Some(class))
                }
                (Object::Missed, Object::Found(score)) => (FlipKind::Found, score, None),
                (Object::TakenFor(class), Object::Found(score)) => {
                    (FlipKind::Corrected, score, Some(class))
                }
                _ => continue,
            };
            let (category_id, bbox) = (gt.category_id, gt.bbox);
            flips.push(Flip { kind, category_id, bbox, score, other_category_id });
        }
    }
}

/// The false positives that the other side does not have, of both. `a` and `b` are each in an order
/// that depends on what they are alone.
fn unshared(a: &[FalsePositive], b: &[FalsePositive]) -> (Vec<FalsePositive>, Vec<FalsePositive>) {
    let mut candidates = Vec::new();
    for (i, FalsePositive { dt, .. }) in a.iter().enumerate() {
        for (j, other) in b.iter().map(|fp| &fp.dt).enumerate() {
            if dt.category_id != other.category_id {
                continue;
            }
            // A box without area is the same as itself too.
            let same = dt.bbox == other.bbox;
            let overlap = if same { f64::INFINITY } else { iou(&dt.bbox, &other.bbox) };
            if overlap >= IOU_THR {
                // The result is the same whichever side comes first: of pairs that share a box
                // the other box decides, and pairs that share none do not compete.
                candidates.push((descending_key(overlap), i, j));
            }
        }
    }
    candidates.sort_unstable();
    let (mut shared_a, mut shared_b) = (vec![false; a.len()], vec![false; b.len()]);
    for (_, i, j) in candidates {
        if !shared_a[i] && !shared_b[j] {
            (shared_a[i], shared_b[j]) = (true, true);
        }
    }
    (rest(a, &shared_a), rest(b, &shared_b))
}

fn rest(all: &[FalsePositive], shared: &[bool]) -> Vec<FalsePositive> {
    all.iter().zip(shared).filter(|(_, shared)| !**shared).map(|(fp, _)| *fp).collect()
}
