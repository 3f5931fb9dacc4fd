//! Which images got worse, and which boxes on them: what a person looks at to understand a drop.
//!
//! Both sides' detections at or above a score are paired with the same ground truth at IoU 0.5 by
//! [`crate::matching::pairing`]: COCO's matching per class, then what is left as confusions. An
//! object is found, taken for another class, or missed; a detection is right, wrong, or (on a crowd,
//! say) counts nowhere. A **flip** is what differs between the sides:
//! - Objects: found before and now missed ([`FlipKind::Missed`]) or taken for another class
//!   ([`FlipKind::Mislabelled`]), and the reverse ([`FlipKind::Found`], [`FlipKind::Corrected`]). An
//!   object that neither side found has not flipped, whatever it was taken for.
//! - False positives that only one side has ([`FlipKind::NewFalsePositive`],
//!   [`FlipKind::FalsePositiveGone`]). Those of the two sides are the same if they are of one class
//!   with an IoU of at least 0.5, one to one: first those with the same box, then by descending IoU.
//!   A detection that was right before is no counterpart of one that is wrong now. The wrong label
//!   of a `Mislabelled` or `Corrected` object is part of that flip and is not listed again.
//!
//! Swapping the sides gives the same flips reversed. Of equal scores on an image the order of their
//! boxes decides who finds what, not the order of the results file: a shuffled copy of the same
//! detections has no flips. Only there, and where pairing differs from pycocotools, can the counts
//! be other than those of [`super::per_image`].
//!
//! Deliberately absent: how much each image moves AP (it depends on all the others), boxes that are
//! found on both sides with another IoU or score, and pictures.

mod flips;

use std::cmp::Reverse;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::flips::{Flip, FlipKind};
use super::tally::Tally;
use super::{MergeError, check_unique};
use crate::dataset::{Category, ImageRecord};
use crate::detections::Detection;

/// An image on which something flipped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ImageLoss {
    /// COCO's image id.
    pub image_id: i64,
    /// The baseline's counts, all classes together.
    pub before: Tally,
    /// The candidate's.
    pub after: Tally,
    /// Losses first, then false positives, then what improved; within, by descending score.
    pub flips: Vec<Flip>,
}

impl ImageLoss {
    /// False positives and misses now, less those before: above 0 it got worse.
    pub fn errors_change(&self) -> i64 {
        self.after.errors() as i64 - self.before.errors() as i64
    }

    /// F1 now, less F1 before; an image where nothing is and nothing is found has F1 1.
    pub fn f1_change(&self) -> f64 {
        self.after.f1.unwrap_or(1.0) - self.before.f1.unwrap_or(1.0)
    }

    /// Whether it got worse: more errors, or as many and a lower F1.
    pub fn is_worse(&self) -> bool {
        let errors = self.errors_change();
        errors > 0 || (errors == 0 && self.f1_change() < 0.0)
    }

    /// Whether it got better: fewer errors, or as many and a higher F1.
    pub fn is_better(&self) -> bool {
        let errors = self.errors_change();
        errors < 0 || (errors == 0 && self.f1_change() > 0.0)
    }
}

/// Why two sides cannot be compared.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LossError {
    /// NaN or infinite.
    #[error("score_thr is {0}; use a finite number")]
    Score(f64),
    /// An image that only one side has.
    #[error("image {0} is on one side only; compare detections of the same images")]
    OneSided(i64),
    /// An image whose annotations differ.
    #[error(
        "image {0} has other ground truth on the other side; compare with the same annotations"
    )]
    GroundTruth(i64),
    /// The same image twice.
    #[error(transparent)]
    Merge(#[from] MergeError),
}

/// Every image on which something flipped, largest loss first: by the change in errors (false
/// positives and misses), of equal changes the larger fall of F1 first, then the lower id. Images
/// that improved are therefore last; [`most_improved`] has them first.
///
/// `score_thr` is the least score of what counts (0.5 in the practical protocol). Classes that are
/// not among `categories` are not evaluated. Runs on rayon's current pool; neither its threads nor
/// the order of images or detections change the result.
///
/// # Errors
/// [`LossError`], where the two sides are not of the same images and ground truth.
pub fn losses(
    categories: &[Category],
    baseline: &[(&ImageRecord, &[Detection])],
    candidate: &[(&ImageRecord, &[Detection])],
    score_thr: f64,
) -> Result<Vec<ImageLoss>, LossError> {
    if !score_thr.is_finite() {
        return Err(LossError::Score(score_thr));
    }
    let mut classes: Vec<i64> = categories.iter().map(|category| category.id).collect();
    classes.sort_unstable();
    classes.dedup();
    let pairs = paired(baseline, candidate)?;
    let compare = |(image, before, after): &Sides<'_>| {
        flips::compare(image, before, after, &classes, score_thr)
    };
    let mut losses: Vec<ImageLoss> = pairs.par_iter().filter_map(compare).collect();
    losses.sort_by(|a, b| {
        let errors = |loss: &ImageLoss| Reverse(loss.errors_change());
        let order = errors(a).cmp(&errors(b)).then(a.f1_change().total_cmp(&b.f1_change()));
        order.then(a.image_id.cmp(&b.image_id))
    });
    Ok(losses)
}

/// Of what [`losses`] found the images that got worse, at most `limit`, largest loss first.
pub fn largest_losses(losses: &[ImageLoss], limit: usize) -> Vec<&ImageLoss> {
    losses.iter().filter(|loss| loss.is_worse()).take(limit).collect()
}

/// Of what [`losses`] found the images that got better, at most `limit`: by the change in errors, of
/// equal changes the larger rise of F1 first, then the lower id.
pub fn most_improved(losses: &[ImageLoss], limit: usize) -> Vec<&ImageLoss> {
    let mut improved: Vec<&ImageLoss> = losses.iter().filter(|loss| loss.is_better()).collect();
    improved.sort_by(|a, b| {
        let order = a.errors_change().cmp(&b.errors_change());
        order.then(b.f1_change().total_cmp(&a.f1_change())).then(a.image_id.cmp(&b.image_id))
    });
    improved.truncate(limit);
    improved
}

type Side<'i> = [(&'i ImageRecord, &'i [Detection])];
/// An image with what the baseline and the candidate say about it.
type Sides<'i> = (&'i ImageRecord, &'i [Detection], &'i [Detection]);

/// The two sides of every image, by ascending id.
fn paired<'i>(baseline: &Side<'i>, candidate: &Side<'i>) -> Result<Vec<Sides<'i>>, LossError> {
    let sorted = |side: &Side<'i>| {
        let mut side = side.to_vec();
        side.sort_by_key(|(image, _)| image.id);
        check_unique("id", side.iter().map(|(image, _)| image.id)).map(|()| side)
    };
    let (before, after) = (sorted(baseline)?, sorted(candidate)?);
    let pair =
        |((image, before), (other, after)): (&(&'i ImageRecord, _), &(&'i ImageRecord, _))| {
            if image.id != other.id {
                Err(LossError::OneSided(image.id.min(other.id)))
            } else if !std::ptr::eq(*image, *other) && image.ground_truth != other.ground_truth {
                Err(LossError::GroundTruth(image.id))
            } else {
                Ok((*image, *before, *after))
            }
        };
    let pairs = before.iter().zip(&after).map(pair).collect::<Result<Vec<_>, _>>()?;
    let rest = before.get(after.len()).or_else(|| after.get(before.len()));
    rest.map_or(Ok(pairs), |(image, _)| Err(LossError::OneSided(image.id)))
}
