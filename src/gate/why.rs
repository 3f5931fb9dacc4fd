//! Why a detector got worse, or better: both sides' mistakes, calibration and thresholds, and the
//! images on which most changed. No verdict rests on it.

use serde::{Deserialize, Serialize};

use super::{Found, GateError, Subject};
use crate::matching::coco::CocoParams;
use crate::metrics::calibration::{Calibration, CalibrationParams, calibration};
use crate::metrics::details::{DetailParams, Details, details};
use crate::metrics::losses::{ImageLoss, largest_losses, losses, most_improved};
use crate::metrics::operating_points::{ClassPoints, OperatingPoint};
use crate::metrics::tide::{Tide, TideParams, tide};

/// How many of the images are named.
const IMAGES: usize = 20;

/// The two sides beside each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// The same of both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the two sides")]
pub struct Sides<T> {
    pub baseline: T,
    pub candidate: T,
}

/// A class's best operating point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    let error = |error: &dyn std::error::Error| GateError::Why(error.to_string());
    let (categories, score_thr) = (subject.categories, subject.practical.score_thr);
    let tide =
        |side: &[Found]| tide(categories, side, &TideParams::default()).map_err(|e| error(&e));
    let calibration = |side: &[Found]| {
        calibration(categories, side, &CalibrationParams::default()).map_err(|e| error(&e))
    };
    let changed = losses(categories, baseline, candidate, score_thr).map_err(|e| error(&e))?;
    let named = |losses: Vec<&ImageLoss>| -> Vec<ChangedImage> {
        losses.into_iter().map(|loss| with_name(loss, candidate)).collect()
    };
    Ok(Why {
        tide: Sides { baseline: tide(baseline)?, candidate: tide(candidate)? },
        calibration: Sides { baseline: calibration(baseline)?, candidate: calibration(candidate)? },
        best_f1: thresholds(points_before, points),
        worst: named(largest_losses(&changed, IMAGES)),
        improved: named(most_improved(&changed, IMAGES)),
        score_thr,
    })
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
    details.map_err(|error| GateError::Why(error.to_string()))
}
