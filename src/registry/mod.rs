//! Registration in MLflow over REST: one run with everything that was measured, and one version of
//! the registered model that points at it.
//!
//! The order is what makes a version trustworthy: run created; params, tags and metrics logged;
//! artifacts uploaded; both read back; run `FINISHED`; only then the version. Whatever fails before
//! the version leaves no version, and a run that is marked `FAILED`.
//!
//! A tracking URI `sqlite:///FILE` needs no server to be running: MLflow's own server is started on
//! that file for the length of the call (`server`). `http(s)://` goes to a server that runs
//! already.
//!
//! Deliberately absent: an MLflow client in general (only what one publication needs), writing to
//! MLflow's tables or to a remote store such as S3 directly, setting aliases, retries of anything but the
//! version, and printing: progress goes to [`RegistrySettings::on_event`].

mod api;
mod artifacts;
mod baseline;
mod client;
mod connection;
mod error;
mod evaluation;
mod prepare;
mod publish;
mod server;
mod settings;
mod uri;

pub use baseline::fetch_baseline;
pub use error::RegistryError;
pub use evaluation::{Files, publication};
pub use publish::publish;
pub use settings::{Credentials, Event, PythonSource, RegistrySettings, Timeouts};
pub use uri::TrackingUri;

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything that is written to MLflow about one evaluation.
///
/// Values that MLflow would cut in silence are cut here and end in a mark that says so: params over
/// 6000 characters, tags over 8000, a description over 5000. [`Registered::truncated`] names them.
/// Keys are never cut: over 250 characters they are an error.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Publication {
    /// The experiment's name; it is created if there is none.
    pub experiment: String,
    /// The registered model's name, without `/`, `:` and `?`; it is created if there is none.
    pub model_name: String,
    /// The run's name, `eval_<UTC time>`.
    pub run_name: String,
    /// The run's params.
    pub params: BTreeMap<String, String>,
    /// The run's tags.
    pub tags: BTreeMap<String, String>,
    /// The run's metrics; every one finite.
    pub metrics: BTreeMap<String, f64>,
    /// The files to upload. One of those in `model_folder` is the checkpoint that passed the gate.
    pub artifacts: Vec<Artifact>,
    /// The artifact folder that becomes the version's source, such as `model_ckpt`.
    pub model_folder: String,
    /// The version's tags.
    pub version_tags: BTreeMap<String, String>,
    /// The version's description, Markdown.
    pub version_description: Option<String>,
}

/// One file among the run's artifacts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The folder below the run's artifact root, `/` between its parts; empty for the root itself.
    pub folder: String,
    /// What to put there.
    pub content: Content,
}

/// The bytes of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file on disk, which keeps its name and is streamed.
    File(PathBuf),
    /// Bytes in memory, such as a report that was rendered just now.
    Bytes {
        /// The file's name.
        name: String,
        /// Its content.
        bytes: Vec<u8>,
    },
}

impl Artifact {
    /// The file `path`, under its own name.
    pub fn file(folder: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), content: Content::File(path.into()) }
    }

    /// `bytes`, as the file `name`.
    pub fn bytes(
        folder: impl Into<String>,
        name: impl Into<String>,
        bytes: impl Into<Vec<u8>>,
    ) -> Self {
        Self {
            folder: folder.into(),
            content: Content::Bytes { name: name.into(), bytes: bytes.into() },
        }
    }
}

/// What now stands in MLflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The experiment's id.
    pub experiment_id: String,
    /// The run's id.
    pub run_id: String,
    /// Where MLflow keeps the run's artifacts.
    pub artifact_uri: String,
    /// The registered model's name.
    pub model_name: String,
    /// The version's number.
    pub version: String,
    /// What the version points at: `runs:/<run id>/<model folder>`.
    pub source: String,
    /// The names of the values that were cut to MLflow's limits, such as `param target_classes`.
    pub truncated: Vec<String>,
}
