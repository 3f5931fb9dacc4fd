//! Weighted average precision and recall of one class, for a block of replicates.
//!
//! A detection of weight w is w detections of the same score, and a ground truth of weight w is w
//! ground truths. pycocotools' precision (`tp / (fp + tp + 2^-52)`), its envelope and its 101 recalls
//! are kept. Within one step of w true positives precision only rises, so that the envelope is that of
//! the last of them, and the step reaches all the recalls up to its end.

use super::ranked::{EXCUSED, FOUND, HIT, RankedArea, RankedClass};
use super::weights::{LANES, Row};

/// A value in each replicate of a block.
pub(super) type Values = [f64; LANES];

/// One area range of one class.
pub(super) struct AreaCurves {
    /// Weighted ground truths to be found; where there are none, the rest means nothing.
    pub(super) positives: Row,
    /// `[thresholds]`: average precision.
    pub(super) ap: Vec<Values>,
    /// `[thresholds]`: weighted true positives.
    pub(super) found: Vec<Row>,
}

/// The sum of the weights of units that each count so often.
pub(super) fn weighted(units: &[(u32, u32)], weights: &[Row]) -> Row {
    let mut sum = [0; LANES];
    for &(unit, count) in units {
        for (sum, weight) in sum.iter_mut().zip(&weights[unit as usize]) {
            *sum += count * weight;
        }
    }
    sum
}

fn add(sum: &mut Row, row: &Row) {
    for (sum, value) in sum.iter_mut().zip(row) {
        *sum += value;
    }
}

/// Draws the curves of an area range; `counted` is room for the work.
pub(super) fn curves(
    class: &RankedClass,
    area: &RankedArea,
    weights: &[Row],
    counted: &mut Vec<Row>,
) -> AreaCurves {
    count(class, area, weights, counted);
    let positives = weighted(&area.positives, weights);
    let (mut ap, mut found) = (Vec::new(), Vec::new());
    for entries in &area.entries {
        let totals = totals(class, entries, weights);
        ap.push(average_precision(class, entries, weights, counted, &positives, &totals));
        found.push(totals.found);
    }
    AreaCurves { positives, ap, found }
}

/// For each hit the weight of all detections in range up to and with it.
fn count(class: &RankedClass, area: &RankedArea, weights: &[Row], counted: &mut Vec<Row>) {
    counted.clear();
    let (mut sum, mut far) = ([0; LANES], 0);
    let hits = class.hit_units.iter().zip(&area.far_before).zip(&area.counted);
    for ((&unit, &before), &is_counted) in hits {
        for &unit in &area.far_units[far..before as usize] {
            add(&mut sum, &weights[unit as usize]);
        }
        far = before as usize;
        if is_counted {
            add(&mut sum, &weights[unit as usize]);
        }
        counted.push(sum);
    }
}

/// All weight of the entries.
struct Totals {
    found: Row,
    excused: Row,
}

fn totals(class: &RankedClass, entries: &[u32], weights: &[Row]) -> Totals {
    let mut totals = Totals { found: [0; LANES], excused: [0; LANES] };
    for &entry in entries {
        let row = &weights[class.hit_units[(entry & HIT) as usize] as usize];
        if entry & FOUND != 0 {
            add(&mut totals.found, row);
        }
        if entry & EXCUSED != 0 {
            add(&mut totals.excused, row);
        }
    }
    totals
}

/// From the last entry to the first, so that the envelope is known when an entry is met.
fn average_precision(
    class: &RankedClass,
    entries: &[u32],
    weights: &[Row],
    counted: &[Row],
    positives: &Row,
    totals: &Totals,
) -> Values {
    let (mut found, mut excused) = (totals.found, totals.excused);
    let mut whole = [0.0; LANES];
    for lane in 0..LANES {
        whole[lane] = f64::from(positives[lane].max(1));
    }
    let (mut area, mut envelope) = ([0.0; LANES], [0.0; LANES]);
    let mut reached = recalls_reached(&found, &whole);
    for &entry in entries.iter().rev() {
        let hit = (entry & HIT) as usize;
        let row = &weights[class.hit_units[hit] as usize];
        if entry & FOUND != 0 {
            let counted = &counted[hit];
            for lane in 0..LANES {
                let tp = f64::from(found[lane]);
                let fp = f64::from(counted[lane] - excused[lane]);
                let precision = tp / (fp + tp + f64::EPSILON);
                envelope[lane] =
                    if precision > envelope[lane] { precision } else { envelope[lane] };
            }
            for lane in 0..LANES {
                found[lane] -= row[lane];
            }
            let before = recalls_reached(&found, &whole);
            for lane in 0..LANES {
                area[lane] += envelope[lane] * (reached[lane] - before[lane]);
            }
            reached = before;
        }
        if entry & EXCUSED != 0 {
            for lane in 0..LANES {
                excused[lane] -= row[lane];
            }
        }
    }
    area.map(|area| area / RECALLS)
}

/// `numpy.linspace(0, 1, 101)`.
const RECALLS: f64 = 101.0;

/// How many of the 101 recalls so many true positives reach; none of them none.
///
/// The recalls are `j * 0.01` as it is rounded, and reached where the rounded quotient is no less: a
/// quotient of 7/10 does not reach 70 * 0.01.
#[inline(always)]
fn recalls_reached(found: &Row, positives: &Values) -> Values {
    /// Adding and taking it away rounds to an integer, without a call.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let mut reached = [0.0; LANES];
    for lane in 0..LANES {
        let found = f64::from(found[lane]);
        let recall = found / positives[lane];
        let nearest = (recall * 100.0 + ROUND) - ROUND;
        let not_yet = if nearest * 0.01 > recall { 1.0 } else { 0.0 };
        let any = if found > 0.0 { 1.0 } else { 0.0 };
        reached[lane] = (nearest - not_yet + 1.0) * any;
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::coco::CocoParams;

    #[test]
    fn recalls_are_reached_where_pycocotools_reaches_them() {
        let recalls = CocoParams::default().rec_thrs;
        for positives in 1..=300u32 {
            for found in 0..=positives {
                let recall = f64::from(found) / f64::from(positives);
                let expected = recalls.iter().filter(|&&thr| found > 0 && thr <= recall).count();
                let reached = recalls_reached(&[found; LANES], &[f64::from(positives); LANES])[0];
                assert_eq!(reached, expected as f64, "{found} of {positives}");
            }
        }
    }
}
