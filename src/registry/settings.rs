//! How to reach MLflow. Nothing here reads the environment: `config` does, and hands it in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{RegistryError, Retries, TrackingUri};
use crate::config::ExperimentId;

/// Gives the Python that has the pinned MLflow, making its environment first if need be; the error
/// is a sentence.
pub type PythonSource = Box<dyn Fn() -> Result<PathBuf, String> + Send + Sync>;

/// Told what happens during a publication.
pub type Listener = Arc<dyn Fn(Event<'_>) + Send + Sync>;

/// How to reach MLflow and how long to wait for it.
pub struct RegistrySettings {
    /// Where to register.
    pub tracking_uri: TrackingUri,
    /// Sent with every request to a running server; those in the tracking URI itself are used where
    /// this is `None`.
    pub credentials: Option<Credentials>,
    /// Asked only when a SQLite file needs a server.
    pub python: PythonSource,
    /// Set by a signal handler: the publication then stops at the next step, or in the middle of an
    /// upload, and its run is marked `FAILED`.
    pub interrupted: Arc<AtomicBool>,
    /// Told what happens, on the calling thread and, during uploads, on the network's.
    pub on_event: Listener,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// What is tried again, and when.
    pub retries: Retries,
    /// How large files get past the server.
    pub multipart: Multipart,
    /// Which servers are trusted, and how this client shows who it is.
    pub tls: Tls,
    /// The id of the experiment; `None` for the one that the publication names.
    pub experiment_id: Option<ExperimentId>,
    /// Add a version even where the same results of the same checkpoint are registered already.
    pub force: bool,
    /// Bring a SQLite file that an older MLflow wrote up to date, after a copy was made.
    pub migrate: bool,
}

impl RegistrySettings {
    /// Settings without credentials, with the default deadlines and nobody listening.
    pub fn new(tracking_uri: TrackingUri, python: PythonSource) -> Self {
        Self {
            tracking_uri,
            credentials: None,
            python,
            interrupted: Arc::default(),
            on_event: Arc::new(|_| {}),
            timeouts: Timeouts::default(),
            retries: Retries::default(),
            multipart: Multipart::default(),
            tls: Tls::default(),
            experiment_id: None,
            force: false,
            migrate: false,
        }
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

/// What happens during a publication.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Another detgate works on the SQLite file; told again while it is waited for.
    Waiting {
        /// The SQLite file.
        database: &'a Path,
        /// Since it is waited for.
        elapsed: Duration,
    },
    /// A SQLite file was brought up to date.
    Migrated {
        /// The file as it was before.
        backup: &'a Path,
    },
    /// A request failed for the moment and is made again.
    Retrying {
        /// Why.
        error: &'a RegistryError,
        /// How long is waited first.
        wait: Duration,
        /// Which repetition this is, from 1.
        number: u32,
        /// How many there may be.
        of: u32,
    },
    /// A server is being started for a SQLite file; told again while it is waited for.
    ServerStarting {
        /// The SQLite file.
        database: &'a Path,
        /// Since it was started.
        elapsed: Duration,
    },
    /// The server answers.
    ServerReady {
        /// Since it was started.
        elapsed: Duration,
    },
    /// The run exists.
    RunCreated {
        /// Its id.
        run_id: &'a str,
    },
    /// Bytes of an artifact were sent.
    Uploading {
        /// The artifact's path below the run's artifact root.
        path: &'a str,
        /// Bytes sent; fewer again where something is sent a second time.
        sent: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The version exists and is READY.
    VersionReady {
        /// Its number.
        version: &'a str,
    },
}

/// Who asks. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// HTTP basic authentication (`MLFLOW_TRACKING_USERNAME`, `MLFLOW_TRACKING_PASSWORD`).
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: String,
    },
    /// A bearer token (`MLFLOW_TRACKING_TOKEN`).
    Token(String),
}

impl Credentials {
    /// From the three variables as MLflow reads them: user name and password where both are set,
    /// else the token.
    pub fn choose(
        username: Option<&str>,
        password: Option<&str>,
        token: Option<&str>,
    ) -> Option<Self> {
        match (username, password, token) {
            (Some(username), Some(password), _) => {
                Some(Self::Basic { username: username.to_owned(), password: password.to_owned() })
            }
            (_, _, Some(token)) => Some(Self::Token(token.to_owned())),
            _ => None,
        }
    }

    pub(super) fn secret(&self) -> &str {
        match self {
            Self::Basic { password, .. } => password,
            Self::Token(token) => token,
        }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Basic { username, .. } => {
                write!(f, "Basic {{ username: {username:?}, password: *** }}")
            }
            Self::Token(_) => f.write_str("Token(***)"),
        }
    }
}

/// Certificates, as MLflow's variables name them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// `MLFLOW_TRACKING_INSECURE_TLS`: any certificate is accepted.
    pub insecure: bool,
    /// `MLFLOW_TRACKING_SERVER_CERT_PATH`: a PEM file of the authorities that are trusted, instead of
    /// the system's.
    pub server_cert: Option<PathBuf>,
    /// `MLFLOW_TRACKING_CLIENT_CERT_PATH`: a PEM file of this client's certificate and its key.
    pub client_cert: Option<PathBuf>,
}

/// Which files are uploaded in parts, straight to the object store behind the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multipart {
    /// `MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD`; where it is not set, the server says whether it offers this.
    pub enabled: Option<bool>,
    /// `MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE`: bytes from which on a file is uploaded in parts.
    pub minimum: u64,
    /// `MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE`: bytes of each part but the last; more where there would be over
    /// 10 000 parts.
    pub part: u64,
    /// `MLFLOW_S3_IGNORE_TLS`: any certificate of the store is accepted.
    pub insecure_tls: bool,
}

impl Default for Multipart {
    /// MLflow's: files from 500 MiB on, in parts of 10 MiB, where the server offers it.
    fn default() -> Self {
        Self { enabled: None, minimum: 500 << 20, part: 10 << 20, insecure_tls: false }
    }
}

/// Deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For another detgate that works on the same SQLite file.
    pub turn: Duration,
    /// From starting a server for a SQLite file to its first answer; a new database adds 4-9 s to
    /// 6-10 s.
    pub server_start: Duration,
    /// For connecting to a running server.
    pub connect: Duration,
    /// For one answer. An upload gets a second more for each 256 KiB.
    pub request: Duration,
    /// From creating the version until it is READY.
    pub version_ready: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            turn: Duration::from_secs(3600),
            server_start: Duration::from_secs(120),
            connect: Duration::from_secs(10),
            request: Duration::from_secs(120),
            version_ready: Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Credentials;

    #[test]
    fn a_password_without_a_user_is_no_credential_and_a_pair_goes_before_the_token() {
        assert_eq!(Credentials::choose(None, Some("p"), None), None);
        assert_eq!(
            Credentials::choose(Some("u"), None, Some("t")),
            Some(Credentials::Token("t".into()))
        );
        let pair = Credentials::Basic { username: "u".into(), password: "p".into() };
        assert_eq!(Credentials::choose(Some("u"), Some("p"), Some("t")), Some(pair));
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let basic = Credentials::Basic { username: "ann".into(), password: "hunter2".into() };
        assert!(
            !format!("{basic:?} {:?}", Credentials::Token("s3cr3t".into())).contains("hunter2")
        );
        assert!(!format!("{:?}", Credentials::Token("s3cr3t".into())).contains("s3cr3t"));
    }
}
