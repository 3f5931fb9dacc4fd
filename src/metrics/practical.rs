//! The numbers of the practical protocol, under the notebook's names.
//!
//! Deliberately absent: an exact AP. `ap50_approx` only knows the detections above the score
//! threshold, and takes no envelope; [`super::coco`] has the real one.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sum::mean;
use super::{MergeError, check_unique};
use crate::dataset::Category;
use crate::matching::descending_key;
use crate::matching::practical::ImageMatches;

/// True and false positives, misses, and what follows from them. 0/0 is 0.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Detections that found a ground truth.
    pub tp: u64,
    /// Detections that found none.
    pub fp: u64,
    /// Ground truths that were not found.
    #[serde(rename = "fn")]
    pub fn_: u64,
    /// tp / (tp + fp).
    pub precision: f64,
    /// tp / (tp + fn).
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
}

impl Counts {
    /// With the ratios that follow from the counts.
    pub fn new(tp: u64, fp: u64, fn_: u64) -> Self {
        let precision = ratio(tp as f64, (tp + fp) as f64);
        let recall = ratio(tp as f64, (tp + fn_) as f64);
        let f1 = ratio(2.0 * precision * recall, precision + recall);
        Self { tp, fp, fn_, precision, recall, f1 }
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// One class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassMetrics {
    /// Its id.
    pub category_id: i64,
    /// Its name.
    pub name: String,
    /// Counts and ratios.
    #[serde(flatten)]
    pub counts: Counts,
    /// Area below the precision-recall points, without envelope; 0 without ground truth.
    pub ap50_approx: f64,
    /// Number of ground truth boxes.
    pub ground_truths: u64,
    /// Number of detections at or above the score threshold.
    pub detections: u64,
}

/// The practical protocol's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PracticalMetrics {
    /// Over all classes (micro).
    pub global: Counts,
    /// Every class, in the order in which they were given.
    pub per_class: Vec<ClassMetrics>,
    /// Mean of `ap50_approx` over all classes, those without ground truth included; 0 without
    /// classes.
    #[serde(rename = "mAP50_approx")]
    pub map50_approx: f64,
}

/// Merges the images' matches; any order of `images` gives the same result.
///
/// # Errors
/// [`MergeError::Duplicate`], where two images have the same position.
pub fn accumulate(
    categories: &[Category],
    mut images: Vec<ImageMatches>,
) -> Result<PracticalMetrics, MergeError> {
    images.sort_unstable_by_key(|image| image.position);
    check_unique("position", images.iter().map(|image| image.position as i64))?;

    let ranks = ranks_by_class(categories, &images);
    let per_class: Vec<ClassMetrics> =
        categories.par_iter().zip(ranks).map(|(c, ranks)| class_metrics(c, ranks)).collect();
    let total = |count: fn(&Counts) -> u64| per_class.iter().map(|c| count(&c.counts)).sum();
    let global = Counts::new(total(|c| c.tp), total(|c| c.fp), total(|c| c.fn_));
    let aps: Vec<f64> = per_class.iter().map(|class| class.ap50_approx).collect();
    Ok(PracticalMetrics { global, per_class, map50_approx: mean(&aps).unwrap_or(0.0) })
}

/// One class over all images.
#[derive(Clone, Default)]
struct Ranks {
    ground_truths: u64,
    /// Descending score as a key, and whether a ground truth was found; images ascend.
    dts: Vec<(u64, bool)>,
}

/// Sorts what belongs to each class out of the images; other classes are not evaluated.
fn ranks_by_class(categories: &[Category], images: &[ImageMatches]) -> Vec<Ranks> {
    let mut places: Vec<(i64, usize)> = (0..).zip(categories).map(|(k, c)| (c.id, k)).collect();
    places.sort_unstable();
    let place = |id: &i64| {
        let found = places.binary_search_by_key(id, |&(id, _)| id).ok()?;
        Some(places[found].1)
    };
    let mut ranks = vec![Ranks::default(); categories.len()];
    for image in images {
        for k in image.gt_category_ids.iter().filter_map(place) {
            ranks[k].ground_truths += 1;
        }
        let dts = image.category_ids.iter().zip(&image.scores).zip(&image.found);
        for ((category_id, &score), found) in dts {
            if let Some(k) = place(category_id) {
                ranks[k].dts.push((descending_key(score), found.is_some()));
            }
        }
    }
    ranks
}

fn class_metrics(category: &Category, ranks: Ranks) -> ClassMetrics {
    let Ranks { ground_truths, mut dts } = ranks;
    dts.sort_by_key(|&(key, _)| key);
    let tp = dts.iter().filter(|(_, found)| *found).count() as u64;
    let detections = dts.len() as u64;
    ClassMetrics {
        category_id: category.id,
        name: category.name.clone(),
        counts: Counts::new(tp, detections - tp, ground_truths.saturating_sub(tp)),
        ap50_approx: area_below(dts.into_iter().map(|(_, found)| found), ground_truths),
        ground_truths,
        detections,
    }
}

/// Sum of precision times recall increment over detections in descending score.
fn area_below(found: impl Iterator<Item = bool>, ground_truths: u64) -> f64 {
    let (mut area, mut tp, mut last_recall) = (0.0, 0.0, 0.0);
    for (rank, found) in (1u64..).zip(found) {
        // Recall does not move at a false positive, which therefore adds nothing.
        if found && ground_truths > 0 {
            tp += 1.0;
            let recall = tp / ground_truths as f64;
            area += tp / rank as f64 * (recall - last_recall);
            last_recall = recall;
        }
    }
    area
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_over_nothing_is_zero() {
        assert_eq!(Counts::new(0, 0, 0), Counts::default());
        assert_eq!(Counts::new(0, 3, 0).precision, 0.0);
        assert_eq!(Counts::new(0, 0, 3).recall, 0.0);
    }

    #[test]
    fn ratios_follow_from_the_counts() {
        let counts = Counts::new(3, 1, 2);
        assert_eq!((counts.precision, counts.recall), (0.75, 0.6));
        assert!((counts.f1 - 2.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn the_area_adds_precision_at_every_true_positive() {
        let found = [true, false, true, false];
        assert_eq!(area_below(found.into_iter(), 4), 1.0 * 0.25 + 2.0 / 3.0 * 0.25);
        assert_eq!(area_below([false, true].into_iter(), 0), 0.0);
    }

    #[test]
    fn counts_are_written_under_the_field_standard_names() {
        let json = serde_json::to_value(Counts::new(1, 0, 0)).unwrap();
        assert_eq!(json["fn"], 0);
        assert_eq!(json["tp"], 1);
    }
}
