//! Intersection over union of axis-aligned boxes.
//!
//! Source: `bbIou` in cocoapi's `maskApi.c`, operation for operation, so that every bit is the same.
//! Deliberately absent: any epsilon, and any special case for boxes without area (they overlap
//! nothing, because an overlap of width or height zero counts as none).

use crate::dataset::Bbox;

/// A ground truth box as the overlap sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Where.
    pub bbox: Bbox,
    /// With a crowd, the share of the *detection* that lies inside counts, not the IoU.
    pub is_crowd: bool,
}

/// Intersection over union of two boxes, 0..1 up to rounding.
///
/// 0 where they do not overlap. Symmetric. A box has 1 with itself, exactly so where `x + w` and
/// `y + h` are exact.
pub fn iou(a: &Bbox, b: &Bbox) -> f64 {
    match intersection(a, b) {
        // The product of two tiny sides can be 0, which has no meaningful quotient.
        Some(shared) if shared > 0.0 => shared / (a.area() + b.area() - shared),
        _ => 0.0,
    }
}

/// Overlap of a detection with a ground truth region: [`iou`], or the share of the detection's area
/// that lies inside where the region is a crowd.
///
/// NaN, as in `bbIou`, for overlapping boxes so small (sides about 1e-160) that areas round to 0.
pub fn overlap(dt: &Bbox, gt: &Region) -> f64 {
    let Some(shared) = intersection(dt, &gt.bbox) else {
        return 0.0;
    };
    let area = dt.area();
    shared / if gt.is_crowd { area } else { area + gt.bbox.area() - shared }
}

/// Appends the [`overlap`] of one detection with each region.
pub fn overlap_row(dt: &Bbox, gts: &[Region], row: &mut Vec<f64>) {
    row.extend(gts.iter().map(|gt| overlap(dt, gt)));
}

/// The [`overlap`] of every detection with every region; row-major, `[dts.len(), gts.len()]`.
pub fn iou_matrix(dts: &[Bbox], gts: &[Region]) -> Vec<f64> {
    let mut matrix = Vec::with_capacity(dts.len() * gts.len());
    for dt in dts {
        overlap_row(dt, gts, &mut matrix);
    }
    matrix
}

/// Area that two boxes share; `None` where they are apart or only touch.
fn intersection(a: &Bbox, b: &Bbox) -> Option<f64> {
    let width = lesser(a.x + a.w, b.x + b.w) - greater(a.x, b.x);
    let height = lesser(a.y + a.h, b.y + b.h) - greater(a.y, b.y);
    if width <= 0.0 || height <= 0.0 { None } else { Some(width * height) }
}

// `f64::min` also handles NaN, which costs instructions in the hottest loop of the engine; boxes
// are finite.
fn lesser(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

fn greater(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bbox(b: [f64; 4]) -> Bbox {
        b.into()
    }

    #[test]
    fn half_overlapping_boxes_share_a_third_of_their_union() {
        assert_eq!(iou(&bbox([0., 0., 2., 2.]), &bbox([1., 0., 2., 2.])), 2. / 6.);
    }

    #[test]
    fn boxes_that_touch_do_not_overlap() {
        assert_eq!(iou(&bbox([0., 0., 2., 2.]), &bbox([2., 0., 2., 2.])), 0.);
        assert_eq!(iou(&bbox([0., 0., 2., 2.]), &bbox([0., 2., 2., 2.])), 0.);
    }

    #[test]
    fn a_box_without_area_overlaps_nothing_not_even_itself() {
        let empty = bbox([3., 3., 0., 5.]);
        assert_eq!(iou(&empty, &empty), 0.);
        assert_eq!(iou(&empty, &bbox([0., 0., 9., 9.])), 0.);
    }

    #[test]
    fn boxes_whose_shared_area_rounds_to_0_have_an_iou_of_0() {
        let tiny = bbox([0., 0., 1e-200, 1e-200]);
        assert_eq!(iou(&tiny, &tiny), 0.);
    }

    #[test]
    fn a_crowd_counts_the_share_of_the_detection_inside_it() {
        let crowd = |is_crowd| Region { bbox: bbox([0., 0., 10., 10.]), is_crowd };
        let dt = bbox([8., 0., 4., 4.]);
        assert_eq!(overlap(&dt, &crowd(true)), 0.5);
        assert_eq!(overlap(&dt, &crowd(false)), 8. / 108.);
    }

    #[test]
    fn the_matrix_has_a_row_per_detection() {
        let dts = [bbox([0., 0., 2., 2.]), bbox([1., 0., 2., 2.])];
        let gts =
            [dts[0], dts[1], bbox([9., 9., 1., 1.])].map(|bbox| Region { bbox, is_crowd: false });
        assert_eq!(iou_matrix(&dts, &gts), [1., 2. / 6., 0., 2. / 6., 1., 0.]);
    }
}
