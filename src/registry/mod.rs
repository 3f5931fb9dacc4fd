//! Registration in MLflow over REST: one run with everything that was measured, and one version of
//! the registered model that points at it.
//!
//! The order is what makes a version trustworthy: run created; params, tags and metrics logged;
//! artifacts uploaded; both read back; run `FINISHED`; only then the version. Whatever fails before
//! the version leaves no version, and a run that is marked `FAILED`. Its aliases come last: one that could not
//! be set is told, and the version stands.
//!
//! Every request is repeated where it failed for the moment (`retry`). Runs and versions carry a mark
//! of their publication and are looked for before they are made again: a lost answer makes neither
//! two runs nor two versions. What outlives a request that something between held back for longer
//! than the client waited is found and taken away again. A version also carries a digest of
//! checkpoint, results and fingerprint, by which the same is recognised later and by others.
//!
//! A tracking URI `sqlite:///FILE` needs no server to be running: MLflow's own server is started on
//! that file for the length of the call (`server`). `http(s)://` goes to a server that runs
//! already.
//!
//! Files go through the server, or, where they are large and it offers that, in parts to the object store
//! behind it under URLs that it signs (`multipart`).
//!
//! Deliberately absent: an MLflow client in general (only what one publication needs), writing to
//! MLflow's tables or, with keys of our own, to a remote store such as S3, and printing: progress goes
//! to [`RegistrySettings::on_event`].

mod aliases;
mod api;
mod artifacts;
mod baseline;
mod browse;
mod checkpoint;
mod client;
mod connection;
mod database;
mod dataset_input;
mod error;
mod evaluation;
mod keys;
mod links;
mod mlmodel;
mod multipart;
mod object_store;
mod prepare;
mod publish;
mod retry;
mod server;
mod settings;
mod tls;
mod uri;

pub use aliases::{AliasOutcome, Promotion};
pub use baseline::{Fetched, fetch_baseline};
pub use browse::{VersionRecord, find, present, versions};
pub use checkpoint::{FetchedCheckpoint, fetch_checkpoint};
pub use database::check_before;
pub use dataset_input::DatasetInput;
pub use error::RegistryError;
pub use evaluation::{Files, Pages, publication};
pub use links::Link;
pub use publish::publish;
pub use retry::Retries;
pub use settings::{
    Credentials, Event, Listener, Multipart, PythonSource, RegistrySettings, Timeouts, Tls,
};
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
    /// The version's description, Markdown; the links stand below it.
    pub version_description: Option<String>,
    /// The run's note, Markdown, likewise.
    pub note: Option<String>,
    /// The run's files that a reader of either wants.
    pub links: Vec<Link>,
    /// What was evaluated on.
    pub dataset: Option<DatasetInput>,
    /// The aliases that the version gets.
    pub aliases: Vec<String>,
    /// The alias that it gets if the gate compared with the version that has it now.
    pub promotion: Option<Promotion>,
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
    /// Whether this publication made the version; `false` where the same results of the same checkpoint
    /// were registered already.
    pub is_new: bool,
    /// The names of the values that were cut to MLflow's limits, such as `param target_classes`.
    pub truncated: Vec<String>,
    /// What became of the version's aliases, the promotion last.
    pub aliases: Vec<AliasOutcome>,
}
