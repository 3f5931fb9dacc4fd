//! A finished run as text: for terminals, as JSON for machines, as Markdown for pages, as SVG,
//! as a page.
//!
//! Values in, text out; nothing is computed here.

pub mod cache_text;
pub mod csv_table;
pub mod curves;
pub mod github;
pub mod html;
pub mod junit;
pub mod markdown;
pub mod metrics_text;
mod progress;
#[cfg(feature = "mlflow")]
pub mod registry_text;
pub mod schema;
pub mod side_by_side;
pub mod terminal;
pub mod version_page;
mod why_text;
pub mod words;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::files::failed;

use crate::gate::{
    Analysis, Assessment, Fingerprint, Found, Judgement, Provenance, Recorded, Snapshot, Why,
};
use crate::matching::coco::CocoParams;
use crate::matching::practical::PracticalParams;
use crate::metrics::details::Details;
use crate::metrics::lvis::{LvisMetrics, LvisParams};
use crate::metrics::{CocoMetrics, Evaluation};

pub use progress::Progress;

/// The version of the JSON report; raised with every field that comes, goes or changes its meaning, since its JSON
/// Schema ([`schema`]) takes no others.
pub const SCHEMA: u32 = 4;

/// The oldest version that is still read. What came later is not there, and nothing is made of it: version 4 added
/// `analysis.alone`.
pub const OLDEST_SCHEMA: u32 = 3;

/// The version of the JSON of `detgate metrics`.
pub const METRICS_SCHEMA: u32 = 1;

/// Everything that is reported of a run. Equal runs give equal bytes: there is no clock in it. Every face of
/// a report is made from these values alone, now or when it is read again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The version of the report.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: u32,
    /// The checkpoint and what ran it.
    pub checkpoint: Provenance,
    /// What was evaluated.
    pub data: DataSummary,
    /// The practical protocol's thresholds.
    pub settings: Thresholds,
    /// What must be equal in a comparable run.
    pub fingerprint: Fingerprint,
    /// The metrics of both protocols.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// The gate's verdict.
    pub judgement: Judgement,
    /// What is behind it; `None` where the baseline's detections are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// What a page shows beside the numbers; `None` where nothing but numbers is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
}

/// All that every version of a report has.
#[derive(Deserialize)]
struct Version {
    schema: u32,
    #[serde(default)]
    partial: bool,
}

/// Why a report could not be read again.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file cannot be read.
    #[error("cannot read the report {}: {}", path.display(), failed(error))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is not a report of ours.
    #[error("{} is not a report of detgate eval or compare ({reason}); make it again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It was written by another detgate, which is too old or too new.
    #[error(
        "the report {} has version {version}, and this detgate reads {OLDEST_SCHEMA} to {SCHEMA}; evaluate again, or \
         read it with the detgate that wrote it",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Of an evaluation that was interrupted.
    #[error(
        "the report {} is of an interrupted evaluation, which has no verdict; evaluate again",
        path.display()
    )]
    Partial {
        /// The file.
        path: PathBuf,
    },
}

/// The data set in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkippedImage {
    /// As in the annotation file.
    pub file_name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What the practical protocol counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Thresholds {
    /// Least score.
    pub score_thr: f64,
    /// Least IoU of a match.
    pub iou_thr: f64,
}

impl Report {
    /// What is reported of a judged candidate.
    pub fn of(assessment: Assessment, data: DataSummary, practical: PracticalParams) -> Self {
        let PracticalParams { score_thr, iou_thr } = practical;
        let Assessment { candidate, evaluation, judgement, why, analysis } = assessment;
        Self {
            schema: SCHEMA,
            checkpoint: candidate.provenance,
            data,
            settings: Thresholds { score_thr, iou_thr },
            fingerprint: candidate.fingerprint,
            evaluation,
            judgement,
            why,
            analysis,
        }
    }

    /// Reads a report that was written as JSON, also one of an older version, from [`OLDEST_SCHEMA`] on: it becomes
    /// one of this version that lacks what came later.
    ///
    /// # Errors
    /// A [`ReportError`] that names the file.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let text = std::fs::read(path)
            .map_err(|error| ReportError::Read { path: path.to_owned(), error })?;
        let malformed = |reason: String| ReportError::Malformed { path: path.to_owned(), reason };
        let refused = |error: serde_json::Error| malformed(error.to_string());
        // Another version may lack fields: its number is looked at before them.
        let Version { schema, partial } = serde_json::from_slice(&text).map_err(refused)?;
        if !(OLDEST_SCHEMA..=SCHEMA).contains(&schema) {
            return Err(ReportError::Version { path: path.to_owned(), version: schema });
        }
        if partial {
            return Err(ReportError::Partial { path: path.to_owned() });
        }
        let report: Self = serde_json::from_slice(&text).map_err(refused)?;
        Ok(Self { schema: SCHEMA, ..report })
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
#[derive(Debug, Serialize, JsonSchema)]
pub struct PartialReport<'a> {
    /// The version of the report.
    #[schemars(extend("const" = SCHEMA))]
    schema: u32,
    /// That it is of an interrupted evaluation.
    #[schemars(extend("const" = true))]
    partial: bool,
    /// The checkpoint and what ran it.
    checkpoint: &'a Provenance,
    /// What was evaluated.
    data: DataSummary,
    /// How many images were left.
    images_not_reached: usize,
    /// The practical protocol's thresholds.
    settings: Thresholds,
    /// The metrics of both protocols on the images that were reached.
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
pub fn for_review(assessment: &Assessment) -> Snapshot {
    let (candidate, judgement) = (assessment.candidate.clone(), &assessment.judgement);
    let recorded = Recorded {
        verdict: Some(judgement.verdict),
        objections: words::objections(judgement),
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

/// Where a report comes from, as facts with their names.
fn sources(report: &Report) -> Vec<(String, String)> {
    let Provenance { checkpoint, checkpoint_blake3, engine } = &report.checkpoint;
    let facts = [("checkpoint", checkpoint), ("its BLAKE3", checkpoint_blake3), ("engine", engine)];
    let facts = facts.map(|(name, fact)| (name.to_owned(), fact.clone()));
    let fingerprint = report.fingerprint.facts().iter();
    facts.into_iter().chain(fingerprint.map(|(n, fact)| (n.clone(), fact.clone()))).collect()
}

/// Writes a report, or what belongs to one, whole or not at all, making its folder if need be.
///
/// # Errors
/// What the system said; the caller names the path.
pub fn write(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    crate::files::write_atomically(path, text.as_bytes())
}
