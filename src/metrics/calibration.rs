//! Whether a score means what it says: calibration error over matched IoU.
//!
//! Detections are true or false positives by COCO's matching at one IoU threshold; those that are
//! ignored (on a crowd, say) count nowhere, and a class without ground truth has no calibration. Per
//! class, the scores 0..1 fall into equal bins, each open below and closed above, the first closed
//! on both sides; a score outside of 0..1 falls into the nearest bin. Over the bins `j` of class `c`
//! that hold detections:
//! - **LaECE** of `c` = sum of n(j) / n(c) x |mean score(j) - precision(j) x mean IoU(j)|, where the
//!   mean IoU is that of the true positives with what they found. A detector is calibrated if its
//!   score is the IoU that one may expect. Source: Oksuz et al., Towards Building Self-Aware Object
//!   Detectors via Reliable Uncertainty Quantification and Calibration, CVPR 2023, with 25 bins; the
//!   bins' borders and the treatment of ignored detections are those of its authors' implementation
//!   (github.com/fiveai/detection_calibration, `coco_calibration.py`).
//! - **ECE** of `c` = the same with precision(j) alone: the score as the chance of being right.
//!
//! Either is the mean over the classes that have one. `pooled` throws the detections of these
//! classes together first; its `ece` is D-ECE of the score alone (Küppers et al., Multivariate
//! Confidence Calibration for Object Detection, CVPR Workshops 2020), and its bins are what a
//! reliability diagram shows.
//!
//! Of equal scores on one image the order of their boxes decides who finds what, not the order of
//! the results file, so that a shuffled file has the same calibration, to the last bit.
//!
//! Deliberately absent: calibration of box coordinates (D-ECE over position and size), adaptive
//! bins, and any re-calibration. All of these errors are biased upwards where bins hold few
//! detections: compare them on the same images, not across data sets.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MergeError, check_unique};
use crate::config::linspace;
use crate::dataset::{Category, ImageRecord};
use crate::detections::Detection;
use crate::matching::pairing::{PairingParams, counts, pair_image};
use crate::matching::prepare::in_order_of_contents;

/// What can be set; the default is that of the paper at IoU 0.5, over all detections.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CalibrationParams {
    /// A detection has found an object from this IoU on. Above 0, at most 1.
    pub iou_thr: f64,
    /// Detections below this score do not exist.
    pub score_thr: f64,
    /// Number of bins. At least 1.
    pub bins: usize,
    /// Detections per image and class; those of highest score are kept.
    pub max_dets: usize,
}

impl Default for CalibrationParams {
    fn default() -> Self {
        Self { iou_thr: 0.5, score_thr: 0.0, bins: 25, max_dets: 100 }
    }
}

/// Why there is no calibration.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CalibrationError {
    /// A threshold that selects nothing or everything.
    #[error("iou_thr is {0}; use a number above 0 and at most 1")]
    Iou(f64),
    /// NaN or infinite.
    #[error("score_thr is {0}; use a finite number")]
    Score(f64),
    /// No bins, or more than make sense.
    #[error("{0} bins were asked for; use 1 to 10000")]
    Bins(usize),
    /// Images that cannot be merged.
    #[error(transparent)]
    Merge(#[from] MergeError),
}

/// How well scores are calibrated. Undefined values are `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Calibration {
    /// What it was computed at.
    pub params: CalibrationParams,
    /// Mean over the classes that have one, 0..1.
    pub la_ece: Option<f64>,
    /// Mean over the classes that have one, 0..1.
    pub ece: Option<f64>,
    /// All detections of classes with ground truth as if of one class.
    pub pooled: Reliability,
    /// Every class, by ascending id.
    pub per_class: Vec<ClassCalibration>,
}

/// Calibration of detections that are taken together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reliability {
    /// Those that are true or false positives.
    pub detections: u64,
    /// Over IoU; `None` without detections.
    pub la_ece: Option<f64>,
    /// Over precision; `None` without detections.
    pub ece: Option<f64>,
    /// All bins, by ascending score.
    pub bins: Vec<Bin>,
}

/// Detections of similar score. Means of nothing are `None`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bin {
    /// Scores are above this.
    pub lower: f64,
    /// Scores are at most this.
    pub upper: f64,
    /// How many.
    pub detections: u64,
    /// How many of them found a ground truth.
    pub true_positives: u64,
    /// Of the detections.
    pub mean_score: Option<f64>,
    /// True positives among the detections.
    pub precision: Option<f64>,
    /// Of the true positives with what they found.
    pub mean_iou: Option<f64>,
}

/// One class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassCalibration {
    /// Its id.
    pub category_id: i64,
    /// Its name.
    pub name: String,
    /// True and false positives; 0 where there is no ground truth.
    pub detections: u64,
    /// Over IoU; `None` without detections or without ground truth.
    pub la_ece: Option<f64>,
    /// Over precision; `None` without detections or without ground truth.
    pub ece: Option<f64>,
}

/// Computes the calibration of the detections.
///
/// Classes that are not among `categories` are not evaluated. Runs on rayon's current pool; neither
/// its threads nor the order of images or detections change the result.
///
/// # Errors
/// [`CalibrationError`], where the settings make no sense or two images share an id.
pub fn calibration(
    categories: &[Category],
    images: &[(&ImageRecord, &[Detection])],
    params: &CalibrationParams,
) -> Result<Calibration, CalibrationError> {
    check(params)?;
    let mut categories: Vec<&Category> = categories.iter().collect();
    categories.sort_by_key(|category| category.id);
    categories.dedup_by_key(|category| category.id);
    let classes: Vec<i64> = categories.iter().map(|category| category.id).collect();
    let mut images = images.to_vec();
    images.sort_by_key(|(image, _)| image.id);
    check_unique("id", images.iter().map(|(image, _)| image.id))?;

    let edges = linspace(0.0, 1.0, params.bins + 1);
    let parts = deal(&classes, &images, params);
    let with_truth = || parts.iter().filter(|class| class.positives > 0);
    let pooled = Reliability::of(with_truth().flat_map(|class| &class.samples), &edges);
    let per_class: Vec<ClassCalibration> = categories
        .into_par_iter()
        .zip(&parts)
        .map(|(category, class)| {
            let none = &Vec::new();
            let samples = if class.positives > 0 { &class.samples } else { none };
            let Reliability { detections, la_ece, ece, .. } = Reliability::of(samples, &edges);
            let (category_id, name) = (category.id, category.name.clone());
            ClassCalibration { category_id, name, detections, la_ece, ece }
        })
        .collect();
    Ok(Calibration {
        params: *params,
        la_ece: mean(per_class.iter().filter_map(|class| class.la_ece)),
        ece: mean(per_class.iter().filter_map(|class| class.ece)),
        pooled,
        per_class,
    })
}

fn check(params: &CalibrationParams) -> Result<(), CalibrationError> {
    if !(params.iou_thr > 0.0 && params.iou_thr <= 1.0) {
        return Err(CalibrationError::Iou(params.iou_thr));
    }
    if !params.score_thr.is_finite() {
        return Err(CalibrationError::Score(params.score_thr));
    }
    if !(1..=10_000).contains(&params.bins) {
        return Err(CalibrationError::Bins(params.bins));
    }
    Ok(())
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    super::sum::mean(&values.collect::<Vec<f64>>())
}

/// A true or a false positive.
#[derive(Debug, Clone, Copy)]
struct Sample {
    score: f64,
    /// With what it found.
    iou: Option<f64>,
}

/// One class over all images.
#[derive(Default)]
struct Class {
    positives: u64,
    samples: Vec<Sample>,
}

/// Matches the images and gives every class what concerns it. `classes` and `images` ascend by id.
fn deal(
    classes: &[i64],
    images: &[(&ImageRecord, &[Detection])],
    params: &CalibrationParams,
) -> Vec<Class> {
    let matched: Vec<Vec<(i64, Sample)>> =
        images.par_iter().map(|(image, dts)| samples(image, dts, classes, params)).collect();
    let mut parts: Vec<Class> = classes.iter().map(|_| Class::default()).collect();
    let place_of = |id: i64| classes.binary_search(&id).ok();
    for gt in images.iter().flat_map(|(image, _)| &image.ground_truth).filter(|gt| counts(gt)) {
        if let Some(class) = place_of(gt.category_id) {
            parts[class].positives += 1;
        }
    }
    for (category_id, sample) in matched.into_iter().flatten() {
        if let Some(class) = place_of(category_id) {
            parts[class].samples.push(sample);
        }
    }
    parts
}

fn samples(
    image: &ImageRecord,
    dts: &[Detection],
    classes: &[i64],
    params: &CalibrationParams,
) -> Vec<(i64, Sample)> {
    let dts = in_order_of_contents(dts);
    let gts = &image.ground_truth;
    let CalibrationParams { score_thr, iou_thr, max_dets, .. } = *params;
    let limits = PairingParams { score_thr, iou_thr, max_dets };
    let pairs = pair_image(gts, &dts, classes, &limits);
    let mut samples: Vec<(usize, Option<f64>)> = pairs
        .iter()
        .filter_map(|pair| {
            let d = pair.dt?;
            let same_class = |g: usize| gts[g].category_id == dts[d].category_id;
            Some((d, pair.gt.is_some_and(same_class).then_some(pair.overlap)))
        })
        .collect();
    samples.sort_unstable_by_key(|(d, _)| *d);
    let sample = |(d, iou): (usize, _)| {
        let dt: &Detection = &dts[d];
        (dt.category_id, Sample { score: dt.score, iou })
    };
    samples.into_iter().map(sample).collect()
}

#[derive(Clone, Copy, Default)]
struct Sums {
    detections: u64,
    true_positives: u64,
    score: f64,
    iou: f64,
}

impl Reliability {
    /// `edges` are those of the bins, one more than bins.
    fn of<'s>(samples: impl IntoIterator<Item = &'s Sample>, edges: &[f64]) -> Self {
        let inner = &edges[1..edges.len() - 1];
        let mut sums = vec![Sums::default(); edges.len() - 1];
        for sample in samples {
            let bin = &mut sums[inner.partition_point(|edge| *edge < sample.score)];
            bin.detections += 1;
            bin.score += sample.score;
            if let Some(iou) = sample.iou {
                bin.true_positives += 1;
                bin.iou += iou;
            }
        }
        let detections: u64 = sums.iter().map(|bin| bin.detections).sum();
        let error = |target: fn(&Sums) -> f64| {
            let filled = sums.iter().filter(|bin| bin.detections > 0);
            let error = |bin: &Sums| {
                let (count, all) = (bin.detections as f64, detections as f64);
                count / all * (bin.score / count - target(bin) / count).abs()
            };
            (detections > 0).then(|| filled.map(error).fold(0.0, |sum, error| sum + error))
        };
        Self {
            detections,
            la_ece: error(|bin| bin.iou),
            ece: error(|bin| bin.true_positives as f64),
            bins: edges.windows(2).zip(&sums).map(|(edge, sums)| sums.bin(edge)).collect(),
        }
    }
}

impl Sums {
    fn bin(&self, edges: &[f64]) -> Bin {
        let ratio = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
        Bin {
            lower: edges[0],
            upper: edges[1],
            detections: self.detections,
            true_positives: self.true_positives,
            mean_score: ratio(self.score, self.detections),
            precision: ratio(self.true_positives as f64, self.detections),
            mean_iou: ratio(self.iou, self.true_positives),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(value: Option<f64>, expected: f64) -> bool {
        value.is_some_and(|value| (value - expected).abs() < 1e-12)
    }

    #[test]
    fn errors_are_the_gaps_of_the_bins_weighted_by_their_detections() {
        let sample = |score, iou| Sample { score, iou };
        // Two bins: (0, 0.5] and (0.5, 1].
        let samples = [
            sample(0.5, None),
            sample(0.9, Some(0.8)),
            sample(0.8, Some(0.6)),
            sample(0.7, None),
            sample(0.6, None),
        ];
        let reliability = Reliability::of(&samples, &[0.0, 0.5, 1.0]);
        assert!(close(reliability.ece, 0.2 * 0.5 + 0.8 * (0.75 - 0.5)));
        assert!(close(reliability.la_ece, 0.2 * 0.5 + 0.8 * (0.75 - 1.4 / 4.0)));
        let [low, high] = reliability.bins[..] else { panic!("two bins") };
        assert_eq!((low.detections, low.precision, low.mean_iou), (1, Some(0.0), None));
        assert_eq!((high.true_positives, high.precision), (2, Some(0.5)));
        assert!(close(high.mean_iou, 0.7));
    }

    #[test]
    fn borders_belong_to_the_lower_bin_and_scores_beyond_1_to_the_last() {
        let at = |score| {
            let reliability =
                Reliability::of(&[Sample { score, iou: None }], &linspace(0.0, 1.0, 26));
            reliability.bins.iter().position(|bin| bin.detections == 1)
        };
        let scores = [-3.0, 0.0, 0.04, 0.040_000_1, 0.96, 0.97, 1.0, 17.0];
        let bins = [0, 0, 0, 1, 23, 24, 24, 24];
        assert_eq!(scores.map(at), bins.map(Some));
    }

    #[test]
    fn of_nothing_there_is_no_error() {
        let reliability = Reliability::of(&[], &[0.0, 1.0]);
        assert_eq!((reliability.la_ece, reliability.ece), (None, None));
        assert_eq!(reliability.bins[0].mean_score, None);
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let with = |change: fn(&mut CalibrationParams)| {
            let mut params = CalibrationParams::default();
            change(&mut params);
            calibration(&[], &[], &params).unwrap_err().to_string()
        };
        assert_eq!(with(|p| p.bins = 0), "0 bins were asked for; use 1 to 10000");
        assert_eq!(with(|p| p.iou_thr = 0.0), "iou_thr is 0; use a number above 0 and at most 1");
        assert_eq!(with(|p| p.score_thr = f64::NAN), "score_thr is NaN; use a finite number");
    }
}
