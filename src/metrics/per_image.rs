//! What was found on each image, for lists of the worst ones.
//!
//! Matching is COCO's, as for [`super::operating_points`], and not the practical protocol's: the list
//! stands beside COCO numbers, and an image must not rank as bad because of a crowd or an ignored
//! box that nobody has to find. Detections below the score threshold do not exist here.
//!
//! Deliberately absent: file names, which the caller knows by id, and AP of one image, which says
//! little with a handful of boxes.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::outcomes::{ImageOutcomes, Outcome};
use super::tally::Tally;
use crate::matching::descending_key;

/// One image, all classes together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ImageResult {
    /// COCO's image id.
    pub image_id: i64,
    /// What was counted on it.
    #[serde(flatten)]
    pub tally: Tally,
}

/// Every image's result at a score threshold, by ascending id.
pub(super) fn accumulate(images: &[ImageOutcomes], score_thr: f64) -> Vec<ImageResult> {
    let count = |image: &ImageOutcomes| {
        let (mut tp, mut fp, mut positives) = (0, 0, 0);
        for class in image.classes() {
            positives += class.positives;
            for (_, outcome) in class.dts.iter().take_while(|(score, _)| *score >= score_thr) {
                tp += u64::from(*outcome == Outcome::TruePositive);
                fp += u64::from(*outcome == Outcome::FalsePositive);
            }
        }
        ImageResult { image_id: image.image_id, tally: Tally::of(tp, fp, positives) }
    };
    images.par_iter().map(count).collect()
}

/// The worst images, at most `limit` of them, worst first: by ascending F1; of equal F1 the one with
/// more errors (false positives and misses) first; of equally many the lower id first.
///
/// Images without errors are not bad and are left out, so the list may be shorter. The order is
/// total: it depends on nothing but the results.
pub fn worst_first(images: &[ImageResult], limit: usize) -> Vec<ImageResult> {
    let mut worst: Vec<ImageResult> =
        images.iter().filter(|image| image.tally.errors() > 0).copied().collect();
    // With an error F1 is defined.
    worst.sort_by_key(|ImageResult { image_id, tally }| {
        let f1 = std::cmp::Reverse(descending_key(tally.f1.unwrap_or(1.0)));
        (f1, std::cmp::Reverse(tally.errors()), *image_id)
    });
    worst.truncate(limit);
    worst
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_come_first_and_images_without_errors_are_no_news() {
        let image =
            |image_id, tp, fp, fn_| ImageResult { image_id, tally: Tally::new(tp, fp, fn_) };
        let images = [
            image(1, 5, 0, 0),
            image(2, 0, 0, 0),
            image(3, 2, 1, 1),
            image(4, 0, 1, 0),
            image(9, 0, 2, 3),
            image(5, 0, 2, 3),
            image(6, 4, 2, 2),
        ];
        let ids = |limit| {
            let worst = worst_first(&images, limit);
            worst.iter().map(|image| image.image_id).collect::<Vec<_>>()
        };
        assert_eq!(ids(10), [5, 9, 4, 6, 3]);
        assert_eq!(ids(2), [5, 9]);
    }
}
