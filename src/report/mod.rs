//! A finished run as text: for terminals and, as JSON, for machines.
//!
//! Values in, text out; nothing is computed here.

pub mod cache_text;
pub mod metrics_text;
mod progress;
pub mod terminal;
mod why_text;

use serde::Serialize;

use crate::gate::{Assessment, Fingerprint, Found, Judgement, Provenance, Recorded, Snapshot, Why};
use crate::matching::coco::CocoParams;
use crate::matching::practical::PracticalParams;
use crate::metrics::details::Details;
use crate::metrics::lvis::{LvisMetrics, LvisParams};
use crate::metrics::{CocoMetrics, Evaluation};

pub use progress::Progress;

/// The version of the JSON report; raised when a field changes its meaning.
pub const SCHEMA: u32 = 3;

/// The version of the JSON of `detgate metrics`.
pub const METRICS_SCHEMA: u32 = 1;

/// Everything that is reported of a run. Equal runs give equal bytes: there is no clock in it.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The checkpoint and what ran it.
    pub checkpoint: &'a Provenance,
    /// What was evaluated.
    pub data: DataSummary,
    /// The practical protocol's thresholds.
    pub settings: Thresholds,
    /// What must be equal in a comparable run.
    pub fingerprint: &'a Fingerprint,
    /// The metrics of both protocols.
    #[serde(flatten)]
    pub evaluation: &'a Evaluation,
    /// The gate's verdict.
    pub judgement: &'a Judgement,
    /// What is behind it; `None` where the baseline's detections are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<&'a Why>,
}

/// The data set in numbers.
#[derive(Debug, Serialize)]
pub struct DataSummary {
    /// Images evaluated.
    pub images: usize,
    /// Boxes on them.
    pub ground_truth: usize,
    /// Of these, boxes without area.
    pub zero_area_boxes: usize,
    /// Images that could not be decoded and are in no number.
    pub skipped_images: Vec<SkippedImage>,
}

/// An image that `--skip-bad-images` left out.
#[derive(Debug, Serialize)]
pub struct SkippedImage {
    /// As in the annotation file.
    pub file_name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What the practical protocol counts.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Thresholds {
    /// Least score.
    pub score_thr: f64,
    /// Least IoU of a match.
    pub iou_thr: f64,
}

impl<'a> Report<'a> {
    /// What is reported of a judged candidate.
    pub fn of(assessment: &'a Assessment, data: DataSummary, practical: PracticalParams) -> Self {
        let PracticalParams { score_thr, iou_thr } = practical;
        let candidate = assessment.judgement.candidate();
        Self {
            schema: SCHEMA,
            checkpoint: &candidate.provenance,
            data,
            settings: Thresholds { score_thr, iou_thr },
            fingerprint: &candidate.fingerprint,
            evaluation: &assessment.evaluation,
            judgement: &assessment.judgement,
            why: assessment.why.as_ref(),
        }
    }

    /// The report as JSON, ending in a line break.
    ///
    /// # Errors
    /// None that a finished run can cause: every value has a JSON form.
    pub fn to_json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// What is reported of an evaluation that was interrupted. It has no verdict, so nothing can be taken
/// for one, and its numbers are of the images that were reached.
#[derive(Debug, Serialize)]
pub struct PartialReport<'a> {
    schema: u32,
    partial: bool,
    checkpoint: &'a Provenance,
    data: DataSummary,
    images_not_reached: usize,
    settings: Thresholds,
    #[serde(flatten)]
    evaluation: &'a Evaluation,
}

impl<'a> PartialReport<'a> {
    /// Of the images that were reached.
    pub fn of(
        checkpoint: &'a Provenance,
        data: DataSummary,
        images_not_reached: usize,
        evaluation: &'a Evaluation,
        practical: PracticalParams,
    ) -> Self {
        let PracticalParams { score_thr, iou_thr } = practical;
        let settings = Thresholds { score_thr, iou_thr };
        let (schema, partial) = (SCHEMA, true);
        Self { schema, partial, checkpoint, data, images_not_reached, settings, evaluation }
    }

    /// The report as JSON, ending in a line break.
    ///
    /// # Errors
    /// None that an evaluation can cause: every value has a JSON form.
    pub fn to_json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

impl DataSummary {
    /// Counts what was evaluated.
    pub fn of(images: &[Found], skipped_images: Vec<SkippedImage>) -> Self {
        Self {
            images: images.len(),
            ground_truth: images.iter().map(|(image, _)| image.ground_truth.len()).sum(),
            zero_area_boxes: images.iter().map(|(image, _)| image.zero_area_boxes()).sum(),
            skipped_images,
        }
    }
}

/// The candidate as a reviewer of the baseline gets it: with what the gate said of it.
pub fn for_review(judgement: &Judgement) -> Snapshot {
    let candidate = judgement.candidate().clone();
    let recorded = Recorded {
        verdict: Some(judgement.verdict),
        objections: terminal::objections(judgement),
        against: judgement.against.clone(),
        ..candidate.recorded
    };
    Snapshot { recorded, ..candidate }
}

/// Everything that `detgate metrics` reports. Equal inputs give equal bytes.
#[derive(Debug, Serialize)]
pub struct MetricsReport<'a> {
    /// [`METRICS_SCHEMA`].
    pub schema: u32,
    /// What was evaluated.
    pub data: MetricsSubject,
    /// The numbers, for all classes and for each, and the settings that they were computed with.
    #[serde(flatten)]
    pub numbers: Numbers,
    /// What was asked for beyond them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<&'a Details>,
}

/// By whose rules was counted, how, and what came out.
#[derive(Debug, Serialize)]
#[serde(tag = "rules", rename_all = "lowercase")]
#[allow(missing_docs, reason = "the fields are what their types say")]
pub enum Numbers {
    /// pycocotools'.
    Coco {
        settings: CocoParams,
        #[serde(flatten)]
        metrics: CocoMetrics,
    },
    /// LVIS'.
    Lvis {
        settings: LvisParams,
        #[serde(flatten)]
        metrics: LvisMetrics,
    },
}

/// The two inputs of `detgate metrics`.
#[derive(Debug, Serialize)]
pub struct MetricsSubject {
    /// BLAKE3 of the ground truth.
    pub ground_truth_blake3: String,
    /// Images of the ground truth.
    pub images: usize,
    /// Boxes on them.
    pub ground_truths: usize,
    /// Detections that were read.
    pub detections: usize,
}

impl MetricsReport<'_> {
    /// The report as JSON, ending in a line break.
    ///
    /// # Errors
    /// None that a finished evaluation can cause.
    pub fn to_json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// Writes a report whole or not at all, making its folder if need be.
///
/// # Errors
/// What the system said; the caller names the path.
pub fn write(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    crate::files::write_atomically(path, text.as_bytes())
}
