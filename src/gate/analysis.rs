//! What a person looks at beside the numbers: curves, confusions, and the boxes on the images that
//! changed most. No verdict rests on it.
//!
//! Deliberately absent: pixels. Images are named, and whoever shows them reads them (`report::html`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Alone, Found, Subject, Why};
use crate::dataset::{Bbox, ImageRecord};
use crate::detections::Detection;
use crate::matching::coco::CocoParams;
use crate::metrics::confusion::{ConfusionClass, ConfusionMatrix};
use crate::metrics::details::Details;
use crate::metrics::per_image::worst_first;
use crate::metrics::{CocoMetrics, Evaluation};

/// As many classes as anybody scrolls through; of more those whose AP50 fell most are kept.
const MOST_CURVES: usize = 100;
/// With so many classes a matrix can be read; of more, only the largest confusions are kept.
pub const MATRIX_CLASSES: usize = 20;
/// How many that are.
const MOST_CONFUSIONS: usize = 60;
/// Images without a baseline to compare with.
const WORST_ALONE: usize = 20;
/// No slider goes lower: nobody looks at what scores less.
const LEAST_SCORE: f64 = 0.05;
/// Detections of one side of one image.
const MOST_DETECTIONS: usize = 300;

/// What is behind the numbers of both sides, or of the candidate alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Analysis {
    /// Classes with ground truth: those whose AP50 fell most come first; of equal change the lowest AP50.
    pub curves: Vec<ClassCurve>,
    /// Which class was taken for which.
    pub confusion: Confusion,
    /// The images of [`Why::worst`], then of [`Why::improved`]; without a baseline those with the lowest F1.
    pub gallery: Vec<GalleryImage>,
    /// `None` where [`Why`] has both sides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone: Option<Alone>,
}

/// Precision at recalls 0, 0.01, .. 1 at IoU 0.5, as far as it is above 0; rounded to 6 digits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassCurve {
    /// The class.
    pub category_id: i64,
    /// Its name.
    pub name: String,
    /// `None` where the baseline's detections are not known.
    pub baseline: Option<Vec<f64>>,
    /// The candidate's.
    pub candidate: Vec<f64>,
}

/// The confusion matrices of both sides, as a list of the cells that are not 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Confusion {
    /// From this IoU on boxes are of the same object.
    pub iou_thr: f64,
    /// Least score of what counts.
    pub score_thr: f64,
    /// By ascending id.
    pub classes: Vec<ConfusionClass>,
    /// Every cell, by truth, then prediction, background last; of more than 20 classes the 60 largest
    /// beside the diagonal.
    pub cells: Vec<ConfusionCell>,
}

/// So many objects of one class were taken for another; `None` is background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfusionCell {
    /// Category id of what is there.
    pub truth: Option<i64>,
    /// Category id of what was said.
    pub prediction: Option<i64>,
    /// `None` where the baseline's detections are not known.
    pub baseline: Option<u64>,
    /// How often.
    pub candidate: u64,
}

/// An image to look at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GalleryImage {
    /// COCO's image id.
    pub image_id: i64,
    /// As in the annotation file.
    pub file_name: String,
    /// Pixels, as in the annotation file.
    pub width: u32,
    /// Pixels, as in the annotation file.
    pub height: u32,
    /// In the order of the annotation file.
    pub ground_truth: Vec<TruthBox>,
    /// In the order of the results file; `None` where they are not known.
    pub baseline: Option<Vec<Detection>>,
    /// In the order of the results file.
    pub candidate: Vec<Detection>,
    /// Every detection that scores at least this is here: counts are exact from here on.
    pub score_floor: f64,
}

/// An object, as matching needs it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TruthBox {
    /// The annotation's id.
    pub id: i64,
    /// Its class.
    pub category_id: i64,
    /// Its box.
    pub bbox: Bbox,
    /// Many objects that were not told apart.
    pub is_crowd: bool,
    /// Need not be found.
    pub ignore: bool,
}

/// Both sides of one thing; the baseline may not be known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<T> {
    pub(super) baseline: Option<T>,
    pub(super) candidate: T,
}

impl<T> Known<T> {
    pub(super) fn as_ref(&self) -> Known<&T> {
        Known { baseline: self.baseline.as_ref(), candidate: &self.candidate }
    }
}

/// Chooses and gathers what is looked at; what [`Analysis::alone`] holds is not gathered here.
pub(super) fn analysis(
    subject: &Subject,
    evaluation: Known<&Evaluation>,
    details: Known<&Details>,
    found: Known<&[Found]>,
    why: Option<&Why>,
) -> Analysis {
    let Known { baseline, candidate } = evaluation;
    let metrics = Known { baseline: baseline.map(|side| &side.coco), candidate: &candidate.coco };
    let chosen: Vec<i64> = match why {
        Some(why) => why.worst.iter().chain(&why.improved).map(|i| i.loss.image_id).collect(),
        None => {
            let worst = worst_first(&details.candidate.per_image, WORST_ALONE);
            worst.iter().map(|image| image.image_id).collect()
        }
    };
    Analysis {
        curves: curves(metrics),
        confusion: confusion(details),
        gallery: gallery(subject, found, &chosen),
        alone: None,
    }
}

fn curves(metrics: Known<&CocoMetrics>) -> Vec<ClassCurve> {
    let Known { baseline, candidate } = metrics;
    let ap50 = |k: usize, side: &CocoMetrics| side.per_class.get(k).and_then(|c| c.summary.ap50);
    let mut classes: Vec<(f64, f64, usize)> = (0..candidate.per_class.len())
        .filter_map(|k| {
            let now = ap50(k, candidate)?;
            let before = baseline.and_then(|side| ap50(k, side)).unwrap_or(now);
            Some((now - before, now, k))
        })
        .collect();
    classes.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    classes.truncate(MOST_CURVES);
    let curve = |(_, _, k): (f64, f64, usize)| ClassCurve {
        category_id: candidate.per_class[k].category_id,
        name: candidate.per_class[k].name.clone(),
        baseline: baseline.map(|side| points(side, k)),
        candidate: points(candidate, k),
    };
    classes.into_iter().map(curve).collect()
}

/// At IoU 0.5, over all areas, with the largest limit on detections.
fn points(metrics: &CocoMetrics, k: usize) -> Vec<f64> {
    let params = CocoParams::default();
    let iou = params.iou_thrs.iter().position(|&thr| thr == 0.5);
    let area = params.area_ranges.iter().position(|range| range.name == "all");
    let (Some(t), Some(a), Some(m)) = (iou, area, params.max_dets.len().checked_sub(1)) else {
        return Vec::new();
    };
    let at = |r: usize| metrics.curves.precision(t, r, k, a, m).filter(|&value| value > 0.0);
    (0..params.rec_thrs.len()).map_while(at).map(|value| (value * 1e6).round() / 1e6).collect()
}

fn confusion(details: Known<&Details>) -> Confusion {
    let Known { baseline, candidate } = details;
    let matrix = &candidate.confusion;
    let class = |place: usize| matrix.classes.get(place).map(|class| class.category_id);
    let cell = |side: &ConfusionMatrix, row: usize, column: usize| {
        side.counts.get(row).and_then(|row| row.get(column)).copied().unwrap_or(0)
    };
    let size = matrix.background() + 1;
    let places = (0..size).flat_map(|row| (0..size).map(move |column| (row, column)));
    let mut cells: Vec<ConfusionCell> = places
        .map(|(row, column)| ConfusionCell {
            truth: class(row),
            prediction: class(column),
            baseline: baseline.map(|side| cell(&side.confusion, row, column)),
            candidate: cell(matrix, row, column),
        })
        .filter(|cell| cell.candidate > 0 || cell.baseline.is_some_and(|count| count > 0))
        .collect();
    if matrix.classes.len() > MATRIX_CLASSES {
        cells.retain(|cell| cell.truth != cell.prediction);
        let largest = |cell: &ConfusionCell| cell.candidate.max(cell.baseline.unwrap_or(0));
        // Stable: of equal counts the order stays.
        cells.sort_by_key(|cell| std::cmp::Reverse(largest(cell)));
        cells.truncate(MOST_CONFUSIONS);
    }
    Confusion {
        iou_thr: candidate.params.iou_thr,
        score_thr: candidate.params.score_thr,
        classes: matrix.classes.clone(),
        cells,
    }
}

fn gallery(subject: &Subject, found: Known<&[Found]>, chosen: &[i64]) -> Vec<GalleryImage> {
    let by_id = |side: &[Found]| -> BTreeMap<i64, usize> {
        side.iter().enumerate().map(|(i, (image, _))| (image.id, i)).collect()
    };
    let (candidate, baseline) = (by_id(found.candidate), found.baseline.map(by_id));
    let is_listed = |id: i64| subject.categories.iter().any(|category| category.id == id);
    let image = |id: &i64| {
        let (image, after) = found.candidate[*candidate.get(id)?];
        let before = found.baseline.zip(baseline.as_ref());
        let before = before.and_then(|(side, places)| Some(side[*places.get(id)?].1));
        Some(gallery_image(image, before, after, &is_listed))
    };
    chosen.iter().filter_map(image).collect()
}

fn gallery_image(
    image: &ImageRecord,
    before: Option<&[Detection]>,
    after: &[Detection],
    is_listed: &impl Fn(i64) -> bool,
) -> GalleryImage {
    let floor = [Some(after), before].into_iter().flatten().map(floor).fold(LEAST_SCORE, f64::max);
    let shown = |side: &[Detection]| -> Vec<Detection> {
        let is_shown = |dt: &&Detection| dt.score >= floor && is_listed(dt.category_id);
        side.iter().filter(is_shown).copied().collect()
    };
    let truth = image.ground_truth.iter().filter(|gt| is_listed(gt.category_id));
    GalleryImage {
        image_id: image.id,
        file_name: image.file_name.clone(),
        width: image.width,
        height: image.height,
        ground_truth: truth
            .map(|gt| TruthBox {
                id: gt.id,
                category_id: gt.category_id,
                bbox: gt.bbox,
                is_crowd: gt.is_crowd,
                ignore: gt.ignore,
            })
            .collect(),
        baseline: before.map(shown),
        candidate: shown(after),
        score_floor: floor,
    }
}

/// Above the best of those that are too many: of equal scores none is kept without the others.
fn floor(side: &[Detection]) -> f64 {
    let mut scores: Vec<f64> = side.iter().map(|dt| dt.score).collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    scores.get(MOST_DETECTIONS).map_or(LEAST_SCORE, |score| score.next_up())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dt(score: f64) -> Detection {
        Detection { bbox: [0.0, 0.0, 9.0, 9.0].into(), score, category_id: 1 }
    }

    /// A slider below the floor would count wrongly.
    #[test]
    fn every_detection_from_the_floor_on_is_kept() {
        let few: Vec<Detection> = [0.9, 0.04].map(dt).to_vec();
        assert_eq!(floor(&few), LEAST_SCORE);
        let many: Vec<Detection> = (0..1000).map(|i| dt(f64::from(i / 10) / 100.0)).collect();
        let floor = floor(&many);
        let kept = many.iter().filter(|dt| dt.score >= floor).count();
        assert_eq!(kept, MOST_DETECTIONS);
        assert!((0.69..0.70).contains(&floor), "{floor}");
    }
}
