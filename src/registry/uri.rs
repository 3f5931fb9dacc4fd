//! The tracking URI: a SQLite file or a running server.

use std::path::{Path, PathBuf};

use reqwest::Url;

use super::{Credentials, RegistryError};

/// Where to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrackingUri {
    /// A SQLite file, absolute; a server is started for it. Artifacts go to `mlruns` beside it.
    Sqlite {
        /// The file; it need not exist.
        database: PathBuf,
    },
    /// A running tracking server.
    Http {
        /// Its address, ending in `/`, without credentials.
        base: Url,
        /// The credentials that stood in the URI.
        credentials: Option<Credentials>,
    },
}

impl TrackingUri {
    /// Reads `sqlite:///relative/to/root.db`, `sqlite:////absolute.db`, `http://host:port/prefix`
    /// or `https://...`.
    ///
    /// # Errors
    /// [`RegistryError::TrackingUri`] for anything else; the message says what to write instead.
    pub fn parse(text: &str, root: &Path) -> Result<Self, RegistryError> {
        let refused = |reason: &str| RegistryError::TrackingUri {
            uri: without_userinfo(text),
            reason: reason.to_owned(),
        };
        if let Some(file) = text.strip_prefix("sqlite:///") {
            return sqlite(file, root).map_err(refused);
        }
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
        if scheme != "http" && scheme != "https" {
            return Err(refused(
                "write sqlite:///FILE for a database file, or http(s)://HOST for a running MLflow server",
            ));
        }
        let mut base = Url::parse(text).map_err(|error| refused(&error.to_string()))?;
        if base.query().is_some() || base.fragment().is_some() {
            return Err(refused("leave out what follows `?` or `#`"));
        }
        if base.path().contains('@') {
            return Err(refused("in a password, write %2F for `/` and %40 for `@`"));
        }
        let credentials = take_credentials(&mut base);
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        Ok(Self::Http { base, credentials })
    }
}

fn sqlite(file: &str, root: &Path) -> Result<TrackingUri, &'static str> {
    if file.is_empty() || file.starts_with(":memory:") {
        return Err("name a file, such as sqlite:///mlflow.db");
    }
    let database = std::path::absolute(root.join(file)).map_err(|_| "this is not a path")?;
    // SQLAlchemy would take what follows `?` for options, MLflow what follows `#` for a fragment.
    if database.to_string_lossy().contains(['?', '#']) || database.to_str().is_none() {
        return Err(
            "MLflow cannot open a database whose path holds `?`, `#` or bytes that are not UTF-8; move it",
        );
    }
    Ok(TrackingUri::Sqlite { database })
}

/// Takes user name and password out of a URL, so that no message about it can show them.
fn take_credentials(url: &mut Url) -> Option<Credentials> {
    let decoded = |text: &str| percent_decode(text);
    let username = decoded(url.username());
    let password = url.password().map(decoded);
    // Neither can fail: an http URL has a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(Credentials::Basic {
        username: Some(username).filter(|name| !name.is_empty())?,
        password: password?,
    })
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// For messages about a text that may not even be a URL: what stands before the last `@` may be a
/// password, with a `/` in it too.
fn without_userinfo(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    let rest = rest.rsplit_once('@').map_or(rest, |(_userinfo, host)| host);
    // What follows `?` may be a token.
    match rest.split_once('?') {
        Some((address, _)) => format!("{scheme}{address}?***"),
        None => format!("{scheme}{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TrackingUri, RegistryError> {
        TrackingUri::parse(text, Path::new("/project"))
    }

    #[cfg(unix)]
    #[test]
    fn sqlite_files_are_relative_to_the_root_unless_there_is_a_fourth_slash() {
        let database = |path: &str| TrackingUri::Sqlite { database: path.into() };
        assert_eq!(parse("sqlite:///mlflow.db").unwrap(), database("/project/mlflow.db"));
        assert_eq!(parse("sqlite:////var/mlflow.db").unwrap(), database("/var/mlflow.db"));
    }

    #[test]
    fn credentials_leave_the_address() {
        let TrackingUri::Http { base, credentials } =
            parse("https://ann:p%40ss@mlflow.example/team").unwrap()
        else {
            panic!("not http");
        };
        assert_eq!(base.as_str(), "https://mlflow.example/team/");
        assert_eq!(
            credentials,
            Some(Credentials::Basic { username: "ann".into(), password: "p@ss".into() })
        );
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_showing_its_password() {
        for uri in [
            "",
            "mlruns",
            "file:///mlruns",
            "databricks",
            "sqlite://",
            "sqlite:///:memory:",
            "sqlite:///a?b",
        ] {
            assert!(matches!(parse(uri), Err(RegistryError::TrackingUri { .. })), "{uri}");
        }
        for uri in [
            "postgresql://ann:hunter2@db/mlflow",
            "http://ann:hunter2@/x",
            "http://ann:hunter2@host/?x=1",
            "http://ann:/hunter2@host:port/",
            "ann:hunter2@host/mlflow",
        ] {
            let message = parse(uri).unwrap_err().to_string();
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
