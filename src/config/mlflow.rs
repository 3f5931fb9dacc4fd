//! The environment variables and the credentials file that MLflow's own clients read.
//!
//! Values are read when they are asked for: a mistake in one stops a registration, not `detgate metrics`.
//! Deliberately absent: `MLFLOW_TRACKING_AUTH` and `_AWS_SIGV4` (plug-ins of the Python client),
//! `MLFLOW_REGISTRY_URI` (runs and versions go to one server), `MLFLOW_RUN_ID`, and Databricks.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::ConfigError;

/// The variables that are known; the README lists them for users.
const NAMES: [&str; 15] = [
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_INSECURE_TLS",
    "MLFLOW_TRACKING_SERVER_CERT_PATH",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
    "MLFLOW_HTTP_REQUEST_TIMEOUT",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD",
    "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE",
    "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE",
    "MLFLOW_S3_IGNORE_TLS",
];

/// MLflow's variables as they are set. There is no `Debug`: some are secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MlflowVariables {
    values: BTreeMap<&'static str, String>,
    /// `~/.mlflow/credentials`.
    credentials_file: Option<PathBuf>,
}

/// How a tracking server is reached, as far as variables say it. There is no `Debug`: some of it is
/// secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MlflowConnection {
    /// `MLFLOW_TRACKING_USERNAME`, or that of the credentials file.
    pub username: Option<String>,
    /// `MLFLOW_TRACKING_PASSWORD`, or that of the credentials file.
    pub password: Option<String>,
    /// `MLFLOW_TRACKING_TOKEN`.
    pub token: Option<String>,
    /// `MLFLOW_TRACKING_INSECURE_TLS`.
    pub insecure_tls: bool,
    /// `MLFLOW_TRACKING_SERVER_CERT_PATH`.
    pub server_cert: Option<PathBuf>,
    /// `MLFLOW_TRACKING_CLIENT_CERT_PATH`.
    pub client_cert: Option<PathBuf>,
    /// `MLFLOW_HTTP_REQUEST_TIMEOUT`.
    pub request_timeout: Option<Duration>,
    /// `MLFLOW_HTTP_REQUEST_MAX_RETRIES`.
    pub max_retries: Option<u32>,
    /// `MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD`.
    pub multipart: Option<bool>,
    /// `MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE`, bytes.
    pub multipart_minimum: Option<u64>,
    /// `MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE`, bytes.
    pub multipart_part: Option<u64>,
    /// `MLFLOW_S3_IGNORE_TLS`.
    pub insecure_store_tls: bool,
}

/// An experiment that is named by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExperimentId {
    /// `MLFLOW_EXPERIMENT_ID`.
    pub id: String,
    /// `MLFLOW_EXPERIMENT_NAME`, which must then be its name.
    pub name: Option<String>,
}

impl MlflowVariables {
    /// Reads variables through `get`, which gives nothing for those that are empty.
    pub(super) fn read(get: impl Fn(&'static str) -> Option<String>) -> Self {
        let home = get("HOME").or_else(|| get("USERPROFILE"));
        Self {
            values: NAMES.into_iter().filter_map(|name| Some((name, get(name)?))).collect(),
            credentials_file: home.map(|home| Path::new(&home).join(".mlflow/credentials")),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// `MLFLOW_TRACKING_URI`.
    pub(super) fn tracking_uri(&self) -> Option<&str> {
        self.get("MLFLOW_TRACKING_URI")
    }

    /// `MLFLOW_EXPERIMENT_NAME`.
    pub(super) fn experiment_name(&self) -> Option<&str> {
        self.get("MLFLOW_EXPERIMENT_NAME")
    }

    /// `MLFLOW_EXPERIMENT_ID`.
    pub(super) fn experiment_id(&self) -> Option<ExperimentId> {
        let id = self.get("MLFLOW_EXPERIMENT_ID")?.to_owned();
        Some(ExperimentId { id, name: self.experiment_name().map(str::to_owned) })
    }

    /// How a tracking server is reached.
    ///
    /// # Errors
    /// [`ConfigError::Variable`] for a value that MLflow could not read either, and
    /// [`ConfigError::Read`] for a credentials file that is there but cannot be read.
    pub fn connection(&self) -> Result<MlflowConnection, ConfigError> {
        let text = |name| self.get(name).map(str::to_owned);
        let path = |name| self.get(name).map(PathBuf::from);
        let mut username = text("MLFLOW_TRACKING_USERNAME");
        let mut password = text("MLFLOW_TRACKING_PASSWORD");
        if username.is_none() || password.is_none() {
            let file = self.credentials()?;
            username = username.or_else(|| file.get("mlflow_tracking_username").cloned());
            password = password.or_else(|| file.get("mlflow_tracking_password").cloned());
        }
        let token = text("MLFLOW_TRACKING_TOKEN");
        if token.as_ref().is_some_and(|token| token.contains(['\n', '\r'])) {
            return Err(wrong("MLFLOW_TRACKING_TOKEN", "***", "one line"));
        }
        let seconds =
            self.number("MLFLOW_HTTP_REQUEST_TIMEOUT", "seconds, from 1 to 86400", 1..=86_400)?;
        let bytes = |name| self.number(name, "bytes, from 1 on", 1..=u64::MAX);
        Ok(MlflowConnection {
            username,
            password,
            token,
            insecure_tls: self.yes_or_no("MLFLOW_TRACKING_INSECURE_TLS")?.unwrap_or(false),
            server_cert: path("MLFLOW_TRACKING_SERVER_CERT_PATH"),
            client_cert: path("MLFLOW_TRACKING_CLIENT_CERT_PATH"),
            request_timeout: seconds.map(Duration::from_secs),
            max_retries: self.number(
                "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
                "from 0 to 100",
                0..=100,
            )?,
            multipart: self.yes_or_no("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD")?,
            multipart_minimum: bytes("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE")?,
            multipart_part: bytes("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE")?,
            insecure_store_tls: self.yes_or_no("MLFLOW_S3_IGNORE_TLS")?.unwrap_or(false),
        })
    }

    fn number<N: FromStr + PartialOrd>(
        &self,
        name: &'static str,
        wanted: &'static str,
        range: std::ops::RangeInclusive<N>,
    ) -> Result<Option<N>, ConfigError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number = text.trim().parse().ok().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| wrong(name, text, wanted))
    }

    /// As MLflow reads yes and no.
    fn yes_or_no(&self, name: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(Some(true)),
            "false" | "0" => Ok(Some(false)),
            _ => Err(wrong(name, text, "true, false, 1 or 0")),
        }
    }

    fn credentials(&self) -> Result<BTreeMap<String, String>, ConfigError> {
        let Some(path) = &self.credentials_file else { return Ok(BTreeMap::new()) };
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(section(&text, "mlflow")),
            // A home that is a file, or that others own, holds no credentials for us.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                Err(ConfigError::Read { path: path.clone(), error })
            }
            Err(error) if path.exists() => Err(ConfigError::Read { path: path.clone(), error }),
            Err(_) => Ok(BTreeMap::new()),
        }
    }
}

fn wrong(name: &'static str, value: &str, wanted: &'static str) -> ConfigError {
    ConfigError::Variable { name, value: value.to_owned(), wanted }
}

/// One section of an INI file as Python's `configparser` reads it, keys in lower case. Of its syntax
/// values over several lines, `[DEFAULT]` and `%(name)s` are left out; `%%` is one `%`.
fn section(text: &str, wanted: &str) -> BTreeMap<String, String> {
    let mut is_wanted = false;
    let mut values = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_wanted = name == wanted;
        } else if let Some((key, value)) = line.split_once(['=', ':']).filter(|_| is_wanted) {
            let value = value.trim().replace("%%", "%");
            values.insert(key.trim().to_lowercase(), value);
        }
    }
    values.retain(|_, value| !value.is_empty());
    values
}

/// A tracking URI as it was written; `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct TrackingAddress(String);

impl TrackingAddress {
    /// A `sqlite:///` file that is relative becomes one below `folder`; all else stays as it is.
    pub(super) fn new(text: &str, folder: &Path) -> Self {
        match text.strip_prefix("sqlite:///").map(Path::new) {
            Some(file)
                if !file.is_absolute()
                    && !file.as_os_str().is_empty()
                    && !file.starts_with(":memory:") =>
            {
                Self(format!("sqlite:///{}", folder.join(file).display()))
            }
            _ => Self(text.to_owned()),
        }
    }
}

impl std::ops::Deref for TrackingAddress {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for TrackingAddress {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl PartialEq<&str> for TrackingAddress {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

/// Without what may be a user name and a password.
impl fmt::Display for TrackingAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.split_once("://"), self.0.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => write!(f, "{scheme}://{host}"),
            _ => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for TrackingAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> MlflowVariables {
        MlflowVariables::read(|name| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_credentials_file_fills_in_what_the_environment_does_not_say() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".mlflow")).unwrap();
        let text = "# ours\n[other]\nmlflow_tracking_username = no\n[mlflow]\n; a comment\n\
                    MLFLOW_TRACKING_USERNAME = ann\nmlflow_tracking_password: 50%%=p@ss:word\n";
        std::fs::write(home.path().join(".mlflow/credentials"), text).unwrap();
        let home = home.path().to_str().unwrap();
        let login = |extra: &[(&str, &str)]| {
            let pairs = [&[("HOME", home)], extra].concat();
            let connection = variables(&pairs).connection().unwrap();
            (connection.username.unwrap(), connection.password.unwrap())
        };
        assert_eq!(login(&[]), ("ann".to_owned(), "50%=p@ss:word".to_owned()));
        let both = [("MLFLOW_TRACKING_USERNAME", "bob"), ("MLFLOW_TRACKING_PASSWORD", "x")];
        assert_eq!(login(&both), ("bob".to_owned(), "x".to_owned()));
        assert_eq!(login(&both[..1]).0, "bob");
    }

    #[test]
    fn a_home_without_credentials_is_no_mistake_and_unreadable_ones_are() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().to_str().unwrap();
        assert!(variables(&[("HOME", path)]).connection().unwrap().username.is_none());
        std::fs::create_dir_all(home.path().join(".mlflow/credentials")).unwrap();
        let error = variables(&[("HOME", path)]).connection().err().unwrap().to_string();
        assert!(error.contains(".mlflow/credentials"), "{error}");
    }

    #[test]
    fn values_that_mlflow_could_not_read_are_named_with_their_variable() {
        for (name, value) in [
            ("MLFLOW_HTTP_REQUEST_TIMEOUT", "soon"),
            ("MLFLOW_HTTP_REQUEST_TIMEOUT", "0"),
            ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "-1"),
            ("MLFLOW_TRACKING_INSECURE_TLS", "yes"),
            ("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "auto"),
            ("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", "0"),
            ("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "500 MB"),
            ("MLFLOW_S3_IGNORE_TLS", "maybe"),
        ] {
            let error = variables(&[(name, value)]).connection().err().unwrap().to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
        let set = variables(&[
            ("MLFLOW_HTTP_REQUEST_TIMEOUT", "7"),
            ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0"),
            ("MLFLOW_TRACKING_INSECURE_TLS", "True"),
        ]);
        let connection = set.connection().unwrap();
        assert_eq!(connection.request_timeout, Some(Duration::from_secs(7)));
        assert_eq!((connection.max_retries, connection.insecure_tls), (Some(0), true));
    }

    #[test]
    fn whether_files_are_sent_in_parts_is_said_by_the_user_or_by_nobody() {
        let said = |value: &str| {
            let set = variables(&[
                ("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", value),
                ("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", "6000000000"),
            ]);
            set.connection().unwrap()
        };
        assert_eq!(variables(&[]).connection().unwrap().multipart, None);
        assert_eq!(said("false").multipart, Some(false));
        assert_eq!(said("TRUE").multipart, Some(true));
        assert_eq!(said("1").multipart_part, Some(6_000_000_000));
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        for text in
            ["https://ann:hunter2@host/x", "https://ann:hun/ter2@host/x", "x://@hunter2@host/x"]
        {
            let address = TrackingAddress::from(text);
            let shown = format!("{address} {address:?}");
            assert!(!shown.contains("ter2") && shown.contains("://host/x"), "{shown}");
        }
        assert_eq!(TrackingAddress::from("sqlite:///a.db").to_string(), "sqlite:///a.db");
    }
}
