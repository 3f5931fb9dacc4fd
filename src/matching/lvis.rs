//! Matching by the rules of LVIS, of which the classes are annotated on some of the images only:
//! `LVISResults` and `LVISEval` of the `lvis` package 0.5.3, one image at a time.
//!
//! Before the COCO matching:
//! - of an image's detections the [`MAX_DETS`] with the highest scores count, over all classes and
//!   before anything else is asked of them;
//! - boxes whose area is not above 0 are dropped, ground truth and detections alike;
//! - detections of classes that are neither annotated on the image nor known to be absent from it
//!   are dropped.
//!
//! In it there are no crowds: such a box is an ordinary one. After it, detections that found nothing
//! are ignored where not every object of their class was annotated on the image.
//!
//! The rest agrees with pycocotools in every bit, and has its quirks: see [`super::coco`].
//! Deliberately absent: the class-agnostic mode, in which `lvis` finds nothing at all.

use std::collections::BTreeMap;

use super::Fix;
use super::coco::{self, ImageMatches, Plan};
use super::descending_key;
use super::prepare::{order_by_contents, prepared};
use crate::dataset::{Federation, GroundTruth};
use crate::detections::Detection;

/// The limit on an image's detections, over all classes together.
pub const MAX_DETS: usize = 300;

/// Matches one image's detections (in the order of the results file) with its ground truth (in the
/// order of the annotation file). The plan's limits cut further, per class, where they are lower.
///
/// Source: `limit_dets_per_image` of lvis/results.py; `get_ann_ids` of lvis/lvis.py, lines 93-100;
/// `_prepare` and `evaluate_img` of lvis/eval.py.
pub fn match_image(
    image_id: i64,
    gts: &[GroundTruth],
    dts: &[Detection],
    federation: &Federation,
    plan: &Plan,
) -> ImageMatches {
    // The limit comes first: what is dropped later, even classes that are not listed, uses it up.
    let dts = highest(dts, plan);
    let (gts, dts) = prepared(gts, &dts, plan).unwrap_or_else(|| (gts.to_vec(), dts));
    let gts: Vec<GroundTruth> = gts
        .into_iter()
        .filter(|gt| has_area(gt.area))
        .map(|gt| GroundTruth { is_crowd: false, ..gt })
        .collect();
    let negative = classes(&federation.negative, image_id);
    let looked_for = |id| negative.contains(&id) || gts.iter().any(|gt| gt.category_id == id);
    let dts: Vec<Detection> = dts
        .into_iter()
        .filter(|dt| has_area(dt.bbox.area()) && looked_for(dt.category_id))
        .collect();
    let mut matches = coco::match_image(image_id, &gts, &dts, plan);
    ignore_unmatched(&mut matches, classes(&federation.not_exhaustive, image_id));
    matches
}

/// Those of the highest scores, of equals the first in the file; in file order if all are kept.
fn highest(dts: &[Detection], plan: &Plan) -> Vec<Detection> {
    let mut kept = dts.to_vec();
    if kept.len() > MAX_DETS {
        if plan.fixes.contains(Fix::Ties) {
            order_by_contents(&mut kept);
        }
        kept.sort_by_key(|dt| descending_key(dt.score));
        kept.truncate(MAX_DETS);
    }
    kept
}

/// `area > 0` and `area < inf`, as `get_ann_ids` asks of both annotations and detections.
fn has_area(area: f64) -> bool {
    area > 0.0 && area < f64::INFINITY
}

fn classes(by_image: &BTreeMap<i64, Vec<i64>>, image_id: i64) -> &[i64] {
    by_image.get(&image_id).map_or(&[], Vec::as_slice)
}

/// Places the detections of these classes outside of every area range: then they count only where
/// they found something, which is what `dt_ig_mask` of lvis/eval.py says.
fn ignore_unmatched(matches: &mut ImageMatches, classes: &[i64]) {
    let mut start = 0;
    for class in &matches.classes {
        let end = class.dts_end as usize;
        if classes.contains(&class.category_id) {
            matches.outside[start..end].fill(u32::MAX);
        }
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Category;
    use crate::matching::coco::CocoParams;

    fn plan() -> Plan {
        let categories = [1, 2].map(|id| Category { id, name: format!("class{id}") });
        let params = CocoParams { max_dets: vec![MAX_DETS], ..CocoParams::default() };
        Plan::new(&categories, &params).unwrap()
    }

    fn dt(category_id: i64, x: f64, score: f64) -> Detection {
        Detection { bbox: [x, 0., 50., 50.].into(), score, category_id }
    }

    #[test]
    fn of_more_than_300_detections_the_first_of_equal_scores_are_kept_whatever_their_class() {
        let federation = Federation { negative: [(1, vec![1, 2])].into(), ..Federation::default() };
        let mut dts: Vec<Detection> = (0..299).map(|i| dt(9, f64::from(i), 0.9)).collect();
        dts.extend([dt(1, 0., 0.5), dt(2, 0., 0.5), dt(1, 0., 0.4)]);
        let matches = match_image(1, &[], &dts, &federation, &plan());
        // 299 of a class that is not evaluated use up the limit all the same.
        assert_eq!((matches.classes.len(), matches.classes[0].category_id), (1, 1));
        assert_eq!(matches.scores, [0.5]);
    }

    #[test]
    fn an_infinite_area_counts_as_little_as_none() {
        assert!(has_area(1e10));
        assert!(!has_area(0.0) && !has_area(-1.0) && !has_area(f64::INFINITY));
    }
}
