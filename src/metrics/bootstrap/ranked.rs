//! One class's detections over all images in the order of their scores, as re-weighting needs them.
//!
//! As in [`crate::metrics`]' ranking, a detection that is near no ground truth (**far**) matters only by between
//! which two of the others (**hits**) it ranks. The order does not depend on how often an image
//! counts, so it is found once, for all replicates.

use std::cmp::Reverse;

use crate::matching::coco::{ImageMatches, Plan};
use crate::matching::descending_key;

/// A true positive.
pub(super) const FOUND: u32 = 1 << 31;
/// It is not a false positive although its area is in range: found, or ignored.
pub(super) const EXCUSED: u32 = 1 << 30;
/// The rest of an entry: which hit.
pub(super) const HIT: u32 = EXCUSED - 1;

/// A class, ranked.
pub(super) struct RankedClass {
    /// `[hits]`: the unit of each, by descending score.
    pub(super) hit_units: Vec<u32>,
    /// `[areas]`.
    pub(super) areas: Vec<RankedArea>,
    /// `[limits]` but for the largest: units with the number of thresholds at which a hit within the
    /// limit finds its ground truth, over all areas' range.
    pub(super) limited: Vec<Vec<(u32, u32)>>,
}

/// A class in one area range.
pub(super) struct RankedArea {
    /// Units with the ground truths that are to be found on them.
    pub(super) positives: Vec<(u32, u32)>,
    /// Units of the far detections in range, by rank.
    pub(super) far_units: Vec<u32>,
    /// `[hits]`: how many of `far_units` rank before each.
    pub(super) far_before: Vec<u32>,
    /// `[hits]`: its own area is in range.
    pub(super) counted: Vec<bool>,
    /// `[thresholds]`: what is no plain false positive, by rank: a hit with [`FOUND`] and [`EXCUSED`].
    pub(super) entries: Vec<Vec<u32>>,
}

/// A class's detections as they come from the images, ascending.
#[derive(Default)]
pub(super) struct Rows {
    rows: Vec<Row>,
    /// `[hits, areas]`: bits per threshold, found and ignored.
    outcomes: Vec<(u64, u64)>,
    /// `[areas]`: units with their ground truths.
    positives: Vec<Vec<(u32, u32)>>,
}

#[derive(Clone, Copy)]
struct Row {
    key: u64,
    unit: u32,
    /// A bit per area range.
    outside: u32,
    /// Place among `outcomes`; `None` where it is far from any ground truth.
    hit: Option<u32>,
    /// Rank in its image.
    rank: u32,
}

/// Deals the matches of all images, by ascending id, out to the classes of the plan.
pub(super) fn deal<'m>(
    plan: &Plan,
    images: impl Iterator<Item = (&'m ImageMatches, u32)>,
) -> Vec<Rows> {
    let areas = plan.area_ranges.len();
    let new = || Rows { positives: vec![Vec::new(); areas], ..Rows::default() };
    let mut classes: Vec<Rows> = plan.classes.iter().map(|_| new()).collect();
    for (image, unit) in images {
        let (mut dt, mut hit) = (0, 0);
        for (span, positives) in image.classes.iter().zip(image.positives.chunks(areas)) {
            let Some(class) = plan.class_index(span.category_id) else { continue };
            let class = &mut classes[class];
            for (units, &count) in class.positives.iter_mut().zip(positives) {
                units.extend((count > 0).then_some((unit, count)));
            }
            let first = dt;
            while dt < span.dts_end as usize {
                let is_hit = image.hit_dts.get(hit).is_some_and(|&d| d as usize == dt);
                let place = (class.outcomes.len() / areas) as u32;
                class.rows.push(Row {
                    key: descending_key(image.scores[dt]),
                    unit,
                    outside: image.outside[dt],
                    hit: is_hit.then_some(place),
                    rank: (dt - first) as u32,
                });
                if is_hit {
                    let outcomes = hit * areas..(hit + 1) * areas;
                    let found = image.hit_found[outcomes.clone()].iter().copied();
                    class.outcomes.extend(found.zip(image.hit_ignored[outcomes].iter().copied()));
                    hit += 1;
                }
                dt += 1;
            }
        }
    }
    classes
}

impl Rows {
    /// Ranks the class; equal scores keep the order of the images.
    pub(super) fn rank(mut self, plan: &Plan) -> RankedClass {
        self.rows.sort_by_key(|row| row.key);
        // What ranks after the last hit changes nothing.
        let last = self.rows.iter().rposition(|row| row.hit.is_some());
        self.rows.truncate(last.map_or(0, |last| last + 1));
        let hits: Vec<Row> = self.rows.iter().filter(|row| row.hit.is_some()).copied().collect();
        let areas = std::mem::take(&mut self.positives);
        RankedClass {
            hit_units: hits.iter().map(|row| row.unit).collect(),
            areas: areas
                .into_iter()
                .enumerate()
                .map(|(a, positives)| self.area(plan, a, positives, &hits))
                .collect(),
            limited: self.limited(plan, &hits),
        }
    }

    fn outcome(&self, plan: &Plan, hit: &Row, a: usize) -> (u64, u64) {
        let place = hit.hit.map_or(0, |place| place as usize);
        self.outcomes[place * plan.area_ranges.len() + a]
    }

    fn area(&self, plan: &Plan, a: usize, positives: Vec<(u32, u32)>, hits: &[Row]) -> RankedArea {
        let inside = |row: &Row| row.outside >> a & 1 == 0;
        let (mut far_units, mut far_before) = (Vec::new(), Vec::with_capacity(hits.len()));
        for row in &self.rows {
            match row.hit {
                Some(_) => far_before.push(far_units.len() as u32),
                None if inside(row) => far_units.push(row.unit),
                None => {}
            }
        }
        let entries = |t: usize| {
            let entry = |(place, hit): (u32, &Row)| {
                let (found, ignored) = self.outcome(plan, hit, a);
                let (found, ignored) = (found >> t & 1 == 1, ignored >> t & 1 == 1);
                let excused = inside(hit) && (found || ignored);
                let flags = if found { FOUND } else { 0 } | if excused { EXCUSED } else { 0 };
                (flags != 0).then_some(place | flags)
            };
            (0..).zip(hits).filter_map(entry).collect()
        };
        RankedArea {
            positives,
            far_units,
            far_before,
            counted: hits.iter().map(inside).collect(),
            entries: (0..plan.iou_thrs.len()).map(entries).collect(),
        }
    }

    /// Recall at a limit asks for no ranks among images.
    fn limited(&self, plan: &Plan, hits: &[Row]) -> Vec<Vec<(u32, u32)>> {
        let Some(all) = plan.area_ranges.iter().position(|range| range.name == "all") else {
            return Vec::new();
        };
        let (_, smaller) = plan.max_dets.split_last().unwrap_or((&0, &[]));
        let within = |&limit: &usize| {
            let found = |hit: &Row| (hit.unit, self.outcome(plan, hit, all).0.count_ones());
            let mut found: Vec<(u32, u32)> = hits
                .iter()
                .filter(|hit| (hit.rank as usize) < limit)
                .map(found)
                .filter(|(_, count)| *count > 0)
                .collect();
            found.sort_by_key(|&(unit, count)| (unit, Reverse(count)));
            found
        };
        smaller.iter().map(within).collect()
    }
}
