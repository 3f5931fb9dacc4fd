//! Candidate against baseline: are they comparable, and did anything get worse?
//!
//! Deliberately absent: how metrics are computed, and what happens after a verdict. Only this
//! module can make a [`Passed`], and only a `Passed` can be registered.

mod fingerprint;
mod judge;
mod policy;
mod snapshot;
pub mod statistics;

pub use fingerprint::Fingerprint;
pub use judge::{Comparison, Finding, Judgement, Passed, Verdict, judge};
pub use policy::Policy;
pub use snapshot::{Provenance, SCHEMA, Snapshot};

use std::path::PathBuf;

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
    /// A rule that every run would satisfy.
    #[error("the rule [gate.metrics] {pattern:?} has neither max_drop nor min; give it one")]
    EmptyRule {
        /// The rule's metric pattern.
        pattern: String,
    },
    /// A rule that cannot act would be a gate that is silently open.
    #[error(
        "the rule [gate.metrics] {pattern:?} matches no metric of this run; known names look like {examples}"
    )]
    RuleWithoutMetric {
        /// The rule's metric pattern.
        pattern: String,
        /// A few names that exist.
        examples: String,
    },
    /// The file system refused.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
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
