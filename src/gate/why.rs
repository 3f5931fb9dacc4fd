//! Why a detector got worse, or better: both sides' mistakes, calibration and thresholds, and the
//! images on which most changed. No verdict rests on it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Found, GateError, Subject};
use crate::dataset::Category;
use crate::matching::coco::CocoParams;
use crate::metrics::calibration::{Calibration, CalibrationParams, calibration};
use crate::metrics::details::{DetailParams, Details, details};
use crate::metrics::losses::{ImageLoss, largest_losses, losses, most_improved};
use crate::metrics::operating_points::{ClassPoints, OperatingPoint};
use crate::metrics::tide::{Tide, TideParams, tide};

/// How many of the images are named.
const IMAGES: usize = 20;

/// The two sides beside each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Why {
    /// TIDE's kinds of mistakes at IoU 0.5, and what AP50 each costs.
    pub tide: Sides<Tide>,
    /// How far scores say how good detections are.
    pub calibration: Sides<Calibration>,
    /// Each class's threshold of the best F1 at IoU 0.5, by ascending id.
    pub best_f1: Vec<ClassThreshold>,
    /// The images that lost most, the largest loss first.
    pub worst: Vec<ChangedImage>,
    /// The images that improved most.
    pub improved: Vec<ChangedImage>,
    /// Least score of the detections that count on these images.
    pub score_thr: f64,
}

/// What is known of the candidate by itself, where there is no side to set beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alone {
    /// TIDE's kinds of mistakes at IoU 0.5, and what AP50 each costs.
    pub tide: Tide,
    /// How far scores say how good detections are.
    pub calibration: Calibration,
    /// Each class's threshold of the best F1 at IoU 0.5, by ascending id.
    pub best_f1: Vec<BestF1>,
}

/// A class's best operating point, of one side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BestF1 {
    /// Its id.
    pub category_id: i64,
    /// Its name.
    pub name: String,
    /// `None` where there is no ground truth.
    pub best_f1: Option<OperatingPoint>,
}

/// The same of both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SidesOf{T}")]
#[allow(missing_docs, reason = "the two sides")]
pub struct Sides<T> {
    pub baseline: T,
    pub candidate: T,
}

/// A class's best operating point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassThreshold {
    /// Its id.
    pub category_id: i64,
    /// Its name.
    pub name: String,
    /// `None` where there is no ground truth.
    #[serde(flatten)]
    pub sides: Sides<Option<OperatingPoint>>,
}

/// An image on which something changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChangedImage {
    /// As in the annotation file.
    pub file_name: String,
    /// Counts and flipped boxes.
    #[serde(flatten)]
    pub loss: ImageLoss,
}

/// Compares the two sides, which are of the same images.
///
/// # Errors
/// [`GateError::Why`], where they are not.
pub(super) fn why(
    subject: &Subject,
    (baseline, points_before): (&[Found], &[ClassPoints]),
    (candidate, points): (&[Found], &[ClassPoints]),
) -> Result<Why, GateError> {
    let (categories, score_thr) = (subject.categories, subject.practical.score_thr);
    let changed = losses(categories, baseline, candidate, score_thr).map_err(|e| failed(&e))?;
    let named = |losses: Vec<&ImageLoss>| -> Vec<ChangedImage> {
        losses.into_iter().map(|loss| with_name(loss, candidate)).collect()
    };
    Ok(Why {
        tide: Sides {
            baseline: tide_of(categories, baseline)?,
            candidate: tide_of(categories, candidate)?,
        },
        calibration: Sides {
            baseline: calibration_of(categories, baseline)?,
            candidate: calibration_of(categories, candidate)?,
        },
        best_f1: thresholds(points_before, points),
        worst: named(largest_losses(&changed, IMAGES)),
        improved: named(most_improved(&changed, IMAGES)),
        score_thr,
    })
}

/// What can be said of the candidate without a baseline.
///
/// # Errors
/// [`GateError::Why`], where two images have the same id.
pub(super) fn alone(
    subject: &Subject,
    candidate: &[Found],
    points: &[ClassPoints],
) -> Result<Alone, GateError> {
    let best_f1 = |class: &ClassPoints| BestF1 {
        category_id: class.category_id,
        name: class.name.clone(),
        best_f1: class.best_f1,
    };
    Ok(Alone {
        tide: tide_of(subject.categories, candidate)?,
        calibration: calibration_of(subject.categories, candidate)?,
        best_f1: points.iter().map(best_f1).collect(),
    })
}

fn tide_of(categories: &[Category], side: &[Found]) -> Result<Tide, GateError> {
    tide(categories, side, &TideParams::default()).map_err(|error| failed(&error))
}

fn calibration_of(categories: &[Category], side: &[Found]) -> Result<Calibration, GateError> {
    let params = CalibrationParams::default();
    calibration(categories, side, &params).map_err(|error| failed(&error))
}

fn failed(error: &dyn std::error::Error) -> GateError {
    GateError::Why(error.to_string())
}

fn with_name(loss: &ImageLoss, images: &[Found]) -> ChangedImage {
    let image = images.iter().find(|(image, _)| image.id == loss.image_id);
    ChangedImage {
        file_name: image.map_or_else(String::new, |(image, _)| image.file_name.clone()),
        loss: loss.clone(),
    }
}

fn thresholds(baseline: &[ClassPoints], candidate: &[ClassPoints]) -> Vec<ClassThreshold> {
    let threshold = |(before, after): (&ClassPoints, &ClassPoints)| ClassThreshold {
        category_id: after.category_id,
        name: after.name.clone(),
        sides: Sides { baseline: before.best_f1, candidate: after.best_f1 },
    };
    baseline.iter().zip(candidate).map(threshold).collect()
}

/// One side at IoU 0.5 and the practical protocol's score.
pub(super) fn details_of(subject: &Subject, side: &[Found]) -> Result<Details, GateError> {
    let score_thr = subject.practical.score_thr;
    let wanted = DetailParams { score_thr, recalls: Vec::new(), ..DetailParams::default() };
    let details = details(subject.categories, side, &wanted, &CocoParams::default());
    details.map_err(|error| failed(&error))
}
