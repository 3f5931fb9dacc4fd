//! What the settings change about an image before it is matched: the pooling of classes, and those
//! [`Fix`]es that are about boxes.
//!
//! With pycocotools' settings nothing is changed and nothing is copied.

use std::cmp::Ordering;

use super::Fix;
use super::params::{ANY_CLASS, Plan};
use crate::dataset::{Bbox, GroundTruth};
use crate::detections::Detection;

/// One image's rows as the settings want them matched; `None` where they are to be taken as they are.
pub(crate) fn prepared(
    gts: &[GroundTruth],
    dts: &[Detection],
    plan: &Plan,
) -> Option<(Vec<GroundTruth>, Vec<Detection>)> {
    let ours = [Fix::AnnotationIdZero, Fix::BoxArea, Fix::Ties];
    if plan.use_cats && !ours.into_iter().any(|fix| plan.fixes.contains(fix)) {
        return None;
    }
    let gts = gts.iter().filter(|gt| plan.lists(gt.category_id)).cloned();
    let mut gts: Vec<GroundTruth> = gts.map(|gt| mended(gt, plan)).collect();
    let dts = dts.iter().filter(|dt| plan.lists(dt.category_id)).copied();
    let mut dts: Vec<Detection> = dts.collect();
    if plan.fixes.contains(Fix::Ties) {
        gts.sort_by(by_contents);
        order_by_contents(&mut dts);
    }
    if !plan.use_cats {
        // `[_ for cId in p.catIds for _ in self._gts[imgId,cId]]`, cocoeval.py lines 169-170: of
        // equal scores and overlaps, classes of lower id come first.
        gts.sort_by_key(|gt| gt.category_id);
        dts.sort_by_key(|dt| dt.category_id);
        gts.iter_mut().for_each(|gt| gt.category_id = ANY_CLASS);
        dts.iter_mut().for_each(|dt| dt.category_id = ANY_CLASS);
    }
    Some((gts, dts))
}

fn mended(mut gt: GroundTruth, plan: &Plan) -> GroundTruth {
    if plan.fixes.contains(Fix::AnnotationIdZero) && gt.id == 0 {
        // Whether it is 0 is all that matching asks of an id.
        gt.id = 1;
    }
    if plan.fixes.contains(Fix::BoxArea) {
        gt.area = gt.bbox.area();
    }
    gt
}

/// `dts` in an order that depends on what they are alone, not on how they were listed: matching
/// prefers the first of equal scores.
pub(crate) fn in_order_of_contents(dts: &[Detection]) -> Vec<Detection> {
    let mut dts = dts.to_vec();
    dts.sort_by_key(|dt| super::descending_key(dt.score));
    order_by_contents(&mut dts);
    dts
}

/// An order in which neighbours are equal only where they are interchangeable, scores apart.
pub(super) fn order_by_contents(dts: &mut [Detection]) {
    dts.sort_by(|a, b| by_place(a.category_id, &a.bbox, b.category_id, &b.bbox));
}

/// Equal only for rows that are interchangeable in matching.
fn by_contents(a: &GroundTruth, b: &GroundTruth) -> Ordering {
    let flags = |gt: &GroundTruth| (gt.is_crowd, gt.ignore, gt.id == 0);
    by_place(a.category_id, &a.bbox, b.category_id, &b.bbox)
        .then(a.area.total_cmp(&b.area))
        .then(flags(a).cmp(&flags(b)))
}

fn by_place(a_class: i64, a: &Bbox, b_class: i64, b: &Bbox) -> Ordering {
    a_class
        .cmp(&b_class)
        .then(a.x.total_cmp(&b.x))
        .then(a.y.total_cmp(&b.y))
        .then(a.w.total_cmp(&b.w))
        .then(a.h.total_cmp(&b.h))
}
