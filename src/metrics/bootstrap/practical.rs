//! The practical protocol's counts and `ap50_approx` of one class, for a block of replicates.

use super::curve::{Values, weighted};
use super::weights::{LANES, Row};
use crate::dataset::Category;
use crate::matching::descending_key;
use crate::matching::practical::ImageMatches;

/// A class's detections at or above the score threshold, ranked.
#[derive(Default)]
pub(super) struct PracticalClass {
    /// Units with their ground truths.
    positives: Vec<(u32, u32)>,
    /// Score as a key, unit, and whether a ground truth was found.
    dts: Vec<(u64, u32, bool)>,
}

/// What a class comes to.
pub(super) struct PracticalCounts {
    pub(super) found: Row,
    pub(super) false_positives: Row,
    pub(super) missed: Row,
    pub(super) ap50_approx: Values,
}

/// Deals the matches of all images, in the order of the annotation file, out to the classes.
pub(super) fn deal<'m>(
    categories: &[Category],
    images: impl Iterator<Item = (&'m ImageMatches, u32)>,
) -> Vec<PracticalClass> {
    let mut places: Vec<(i64, usize)> = (0..).zip(categories).map(|(k, c)| (c.id, k)).collect();
    places.sort_unstable();
    let place = |id: &i64| {
        let found = places.binary_search_by_key(id, |&(id, _)| id).ok()?;
        Some(places[found].1)
    };
    let mut classes: Vec<PracticalClass> = Vec::new();
    classes.resize_with(categories.len(), PracticalClass::default);
    for (image, unit) in images {
        for k in image.gt_category_ids.iter().filter_map(place) {
            classes[k].positives.push((unit, 1));
        }
        let dts = image.category_ids.iter().zip(&image.scores).zip(&image.found);
        for ((category_id, &score), found) in dts {
            if let Some(k) = place(category_id) {
                classes[k].dts.push((descending_key(score), unit, found.is_some()));
            }
        }
    }
    classes.iter_mut().for_each(|class| class.dts.sort_by_key(|&(key, _, _)| key));
    classes
}

impl PracticalClass {
    pub(super) fn counts(&self, weights: &[Row]) -> PracticalCounts {
        let positives = weighted(&self.positives, weights);
        let (mut ranks, mut found, mut area) = ([0u32; LANES], [0u32; LANES], [0.0; LANES]);
        for &(_, unit, is_found) in &self.dts {
            let row = &weights[unit as usize];
            if is_found {
                // Weight w is w detections, one after the other.
                for lane in 0..LANES {
                    for i in 1..=row[lane] {
                        area[lane] += f64::from(found[lane] + i) / f64::from(ranks[lane] + i);
                    }
                    found[lane] += row[lane];
                }
            }
            for lane in 0..LANES {
                ranks[lane] += row[lane];
            }
        }
        let mut counts = PracticalCounts {
            found,
            false_positives: [0; LANES],
            missed: [0; LANES],
            ap50_approx: [0.0; LANES],
        };
        for lane in 0..LANES {
            counts.false_positives[lane] = ranks[lane] - found[lane];
            counts.missed[lane] = positives[lane].saturating_sub(found[lane]);
            if positives[lane] > 0 {
                counts.ap50_approx[lane] = area[lane] / f64::from(positives[lane]);
            }
        }
        counts
    }
}
