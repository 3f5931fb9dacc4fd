//! What can go wrong, in sentences. No variant ever holds a password or token.

use std::path::PathBuf;

use crate::files::failed;

/// Why nothing was registered.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The tracking URI is not one that detgate can use.
    #[error("cannot use the tracking URI {uri:?}: {reason}")]
    TrackingUri {
        /// The URI, without its credentials.
        uri: String,
        /// What is wrong, and what to write instead.
        reason: String,
    },
    /// The version was not registered by detgate, or by one that kept no evaluation.
    #[error(
        "the run {run_id} of {reference} keeps no evaluation to compare with; register a version with this detgate"
    )]
    NoBaseline {
        /// The version.
        reference: String,
        /// Its run.
        run_id: String,
    },
    /// A version's checkpoint cannot be had.
    #[error("{reference} (run {run_id}) {reason}; name a checkpoint's file instead")]
    NoCheckpoint {
        /// The version.
        reference: String,
        /// Its run.
        run_id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No version has that number or alias.
    #[error("there is no {reference}; `detgate registry ls` lists what there is")]
    NoVersion {
        /// The version that was asked for.
        reference: String,
    },
    /// Something in the publication cannot be logged; nothing was sent.
    #[error("cannot register: {0}")]
    Publication(String),
    /// A file to upload could not be read, or not be written to its place.
    #[error("cannot {action} {}: {}", path.display(), failed(error))]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// There is no Python with the pinned MLflow.
    #[error("cannot run MLflow: {0}")]
    Python(String),
    /// The SQLite file must not be opened by the pinned MLflow, or cannot be.
    #[error("cannot register in {}: {reason}", path.display())]
    Database {
        /// The SQLite file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The server for a SQLite file did not start, or ended too early.
    #[error("the MLflow server for {} {reason}; the end of its log:\n{log}", database.display())]
    Server {
        /// The SQLite file.
        database: PathBuf,
        /// What happened.
        reason: String,
        /// The last lines that it wrote.
        log: String,
    },
    /// No answer.
    #[error("no answer from {url}: {reason}; {advice}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// What the network said.
        reason: String,
        /// What to do.
        advice: String,
        /// Trying again changes nothing: a certificate is not trusted.
        is_permanent: bool,
    },
    /// A certificate or key that was named cannot be used.
    #[error("cannot use the certificates of {variable}: {reason}")]
    Tls {
        /// The environment variable.
        variable: &'static str,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The server said no.
    #[error("{url} answered {status}: {message}{advice}")]
    Refused {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// MLflow's `error_code`, where the answer had one.
        code: Option<String>,
        /// The server's words.
        message: String,
        /// What to do; empty, or starts with `; `.
        advice: String,
        /// For how long the server asks to be left alone.
        retry_after: Option<std::time::Duration>,
    },
    /// An answer that makes no sense.
    #[error("{url} answered something unexpected: {reason}")]
    Answer {
        /// What was asked.
        url: String,
        /// What is odd about the answer.
        reason: String,
        /// It is a web page, which the next answer will be, too.
        is_page: bool,
    },
    /// The experiment is in MLflow's trash, where its name stays taken.
    #[error(
        "the experiment {name:?} is deleted in MLflow: restore it with `mlflow experiments restore --experiment-id {id}`, or choose another name"
    )]
    ExperimentDeleted {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
    },
    /// There is no experiment of the id that `MLFLOW_EXPERIMENT_ID` names, or it has another name than
    /// `MLFLOW_EXPERIMENT_NAME`.
    #[error("MLFLOW_EXPERIMENT_ID is {id}, {reason}; correct it, or unset it")]
    ExperimentId {
        /// The id.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The run's artifacts are kept where detgate cannot write.
    #[error(
        "cannot upload to the artifact store {uri:?} of the experiment {experiment:?}: {reason}"
    )]
    ArtifactStore {
        /// The run's artifact URI.
        uri: String,
        /// The experiment's name.
        experiment: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// What the server holds is not what was sent.
    #[error("MLflow does not hold what was sent for the run {run_id}: {reason}")]
    Incomplete {
        /// The run.
        run_id: String,
        /// What differs.
        reason: String,
    },
    /// The version was made but did not become usable.
    #[error(
        "version {version} of the model {model:?} was created but is {status}, not READY: {reason}"
    )]
    NotReady {
        /// The registered model.
        model: String,
        /// The version.
        version: String,
        /// Its status.
        status: String,
        /// What MLflow says about it.
        reason: String,
    },
    /// The version exists and is whole, but what follows could not be done.
    #[error(
        "version {version} of the model {model:?} was registered, but not looked at again: {reason}; run detgate again, which finds it"
    )]
    Unchecked {
        /// The registered model.
        model: String,
        /// The version.
        version: String,
        /// Why not.
        reason: String,
    },
    /// The version was asked for, no answer came, and nobody can be asked any more.
    #[error(
        "it is not known whether a version of the model {model:?} was created for the run {run_id}, which is complete: {reason}; run detgate again, which finds the version if it is there"
    )]
    InDoubt {
        /// The registered model.
        model: String,
        /// The run.
        run_id: String,
        /// The last error.
        reason: String,
    },
    /// The user stopped it.
    #[error("interrupted: the model was not registered")]
    Interrupted,
}
