//! Candidate against baseline: are they comparable, and did anything get worse?
//!
//! Deliberately absent: how metrics are computed, and what happens after a verdict. Only this
//! module can make a [`Passed`], and only a `Passed` can be registered.

mod analysis;
mod evidence;
mod fingerprint;
mod judge;
mod judgement;
mod policy;
mod resampled;
mod snapshot;
pub mod statistics;
pub mod stored;
mod trial;
mod why;

pub use analysis::{
    Analysis, ClassCurve, Confusion, ConfusionCell, GalleryImage, MATRIX_CLASSES, TruthBox,
};
pub use evidence::{Baseline, Evidence, Found, Subject};
pub use fingerprint::Fingerprint;
pub use judge::judge;
pub use judgement::{
    Comparison, ConfidentTest, Demand, Finding, Judgement, Method, Passed, Test, Verdict,
};
pub use policy::Policy;
pub use snapshot::{Provenance, Recorded, SCHEMA, Snapshot};
pub use statistics::Interval;
pub use trial::{Assessment, Trial};
pub use why::{Alone, BestF1, ChangedImage, ClassThreshold, Sides, Why};

use std::path::PathBuf;

use crate::config::{Place, RuleMistake, prefix};
use crate::dataset::SliceError;
use crate::detections::coco_results::ResultsError;
use crate::files::failed;
use crate::metrics::EvaluateError;

/// Metric values by flat name (`AP`, `AP50/person`, `precision`); `None` is undefined.
pub type MetricTable = std::collections::BTreeMap<String, Option<f64>>;

/// Why a baseline could not be used or a policy not applied.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// Nothing would be judged.
    #[error(
        "[gate.metrics] has no rule; leave it out for the defaults, or judge at least one metric"
    )]
    NoRules,
    /// A rule that every run would satisfy, or none can.
    #[error("the rule [gate.metrics] {pattern:?}: {mistake}")]
    BadRule {
        /// The rule's metric pattern.
        pattern: String,
        /// What is wrong with it.
        mistake: RuleMistake,
    },
    /// A rule that cannot act would be a gate that is silently open.
    #[error(
        "{}the rule [gate.metrics] {pattern:?} matches no metric of this run; {hint}",
        prefix(place.as_ref())
    )]
    RuleWithoutMetric {
        /// Where the rule stands, if in a file.
        place: Option<Place>,
        /// The rule's metric pattern.
        pattern: String,
        /// The nearest names that exist.
        hint: String,
    },
    /// Images cannot be divided into slices or groups.
    #[error(transparent)]
    Slice(#[from] SliceError),
    /// Two images have the same id.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The two sides cannot be explained beside each other.
    #[error("{0}")]
    Why(String),
    /// A rule that judges nothing would be a gate that is silently open.
    #[error(
        "{}the rule [gate.metrics] {pattern:?} judges nothing: there is no ground truth for any metric that it \
         matches; take more images, or the rule out",
        prefix(place.as_ref())
    )]
    RuleWithoutObjects {
        /// Where the rule stands, if in a file.
        place: Option<Place>,
        /// The rule's metric pattern.
        pattern: String,
    },
    /// Nothing can be measured.
    #[error("none of the {images} images has ground truth: nothing can be measured; take others")]
    NothingToFind {
        /// How many images were looked at.
        images: usize,
    },
    /// A snapshot that was edited, or one of a detgate that counts differently.
    #[error(
        "{name}: its {metric} is {recorded}, but the detections beside it give {computed}; restore it from \
         version control, or remove it, evaluate and bless again"
    )]
    Disagrees {
        /// The baseline.
        name: String,
        /// The first metric that is off.
        metric: String,
        /// What the snapshot says.
        recorded: String,
        /// What follows from the detections.
        computed: String,
    },
    /// The file system refused.
    #[error("cannot {action} {}: {}", path.display(), failed(error))]
    Io {
        /// `read`, `write` or `remove`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The detections beside the baseline cannot be read.
    #[error(transparent)]
    Detections(#[from] ResultsError),
    /// The detections beside the baseline were changed, or cut short.
    #[error(
        "{} is not what the baseline was made with; restore it from version control (git lfs pull, if it \
         is kept there), or remove it, evaluate and bless again",
        path.display()
    )]
    ForeignDetections {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a snapshot of ours.
    #[error(
        "{} is not a detgate baseline ({reason}); restore it from version control, or remove it, evaluate and bless again",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}
