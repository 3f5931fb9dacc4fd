//! What became of every detection at one IoU threshold, by COCO's matching: what operating points
//! and per-image results are counted from.

use rayon::prelude::*;

use super::{MergeError, check_unique};
use crate::matching::coco::{CocoParams, ImageMatches, Plan};

/// `coco` at one IoU threshold, over the area range `all`, at the largest detection limit; per class,
/// even where `coco` pools them.
pub(super) fn at_one_threshold(coco: &CocoParams, iou_thr: f64) -> CocoParams {
    let all = |params: &CocoParams| params.area_ranges.iter().find(|r| r.name == "all").cloned();
    CocoParams {
        iou_thrs: vec![iou_thr],
        area_ranges: all(coco).or_else(|| all(&CocoParams::default())).into_iter().collect(),
        max_dets: coco.max_dets.iter().copied().max().into_iter().collect(),
        use_cats: true,
        ..coco.clone()
    }
}

/// One detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It found a ground truth.
    TruePositive,
    /// It found none.
    FalsePositive,
    /// It found a ground truth that need not be found, or is itself out of range.
    Ignored,
}

/// One image.
pub(super) struct ImageOutcomes {
    pub(super) image_id: i64,
    spans: Vec<Span>,
    /// Score and outcome; by class, then descending score.
    dts: Vec<(f64, Outcome)>,
}

struct Span {
    class: usize,
    positives: u64,
    dts_end: usize,
}

/// One class on one image.
pub(super) struct ClassOutcomes<'o> {
    /// Place among the plan's classes.
    pub(super) class: usize,
    /// Ground truths that are to be found.
    pub(super) positives: u64,
    /// Score and outcome, in descending score.
    pub(super) dts: &'o [(f64, Outcome)],
}

impl ImageOutcomes {
    pub(super) fn classes(&self) -> impl Iterator<Item = ClassOutcomes<'_>> {
        let starts = std::iter::once(0).chain(self.spans.iter().map(|span| span.dts_end));
        self.spans.iter().zip(starts).map(|(span, start)| ClassOutcomes {
            class: span.class,
            positives: span.positives,
            dts: &self.dts[start..span.dts_end],
        })
    }
}

/// Reads the outcomes of all images, which then ascend by id.
///
/// # Errors
/// [`MergeError`], where two images have the same id or one was not made with this plan, which has
/// one threshold and one area range.
pub(super) fn read(plan: &Plan, images: &[ImageMatches]) -> Result<Vec<ImageOutcomes>, MergeError> {
    let read = |image| (image, read_image(plan, image));
    let mut outcomes: Vec<(&ImageMatches, Option<ImageOutcomes>)> =
        images.par_iter().map(read).collect();
    // Sorted before anything is refused, so that it is always the same image that is named.
    outcomes.par_sort_unstable_by_key(|(image, _)| image.image_id);
    check_unique("id", outcomes.iter().map(|(image, _)| image.image_id))?;
    let fits = |(image, outcomes): (&ImageMatches, Option<_>)| {
        outcomes.ok_or(MergeError::Foreign(image.image_id))
    };
    outcomes.into_iter().map(fits).collect()
}

/// `None` if the image does not fit the plan: matches may come from elsewhere.
fn read_image(plan: &Plan, image: &ImageMatches) -> Option<ImageOutcomes> {
    let fits = image.positives.len() == image.classes.len()
        && image.outside.len() == image.scores.len()
        && image.hit_found.len() == image.hit_dts.len()
        && image.hit_ignored.len() == image.hit_dts.len();
    if !fits {
        return None;
    }
    let unmatched = |outside: u32| match outside & 1 {
        0 => Outcome::FalsePositive,
        _ => Outcome::Ignored,
    };
    let columns = image.scores.iter().zip(&image.outside);
    let mut dts: Vec<_> = columns.map(|(&score, &out)| (score, unmatched(out))).collect();
    let hits = image.hit_dts.iter().zip(&image.hit_found).zip(&image.hit_ignored);
    for ((&d, found), ignored) in hits {
        let (_, outcome) = dts.get_mut(d as usize)?;
        if found & 1 == 1 {
            *outcome = Outcome::TruePositive;
        } else if ignored & 1 == 1 {
            *outcome = Outcome::Ignored;
        }
    }
    let mut spans = Vec::with_capacity(image.classes.len());
    let mut end = 0;
    for (class, &positives) in image.classes.iter().zip(&image.positives) {
        let dts_end = class.dts_end as usize;
        if dts_end < end || dts_end > dts.len() {
            return None;
        }
        end = dts_end;
        let class = plan.class_index(class.category_id)?;
        spans.push(Span { class, positives: u64::from(positives), dts_end });
    }
    (end == dts.len()).then_some(ImageOutcomes { image_id: image.image_id, spans, dts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_of_all_areas_and_per_class_whatever_the_settings() {
        let mut coco =
            CocoParams { use_cats: false, max_dets: vec![1, 50, 10], ..Default::default() };
        coco.area_ranges.reverse();
        let one = at_one_threshold(&coco, 0.7);
        assert_eq!((one.iou_thrs, one.max_dets, one.use_cats), (vec![0.7], vec![50], true));
        assert_eq!(one.area_ranges, CocoParams::default().area_ranges[..1]);
        coco.area_ranges.retain(|range| range.name != "all");
        let one = at_one_threshold(&coco, 0.7);
        assert_eq!(one.area_ranges, CocoParams::default().area_ranges[..1]);
    }
}
