//! A version of the registered model as the baseline: what its run keeps of the evaluation it passed.

use std::path::{Path, PathBuf};

use super::api;
use super::client::Client;
use super::connection::with_client;
use super::{RegistryError, RegistrySettings, TrackingUri};

/// The artifact folder of the snapshot and its detections.
pub(super) const FOLDER: &str = "baseline";
/// The snapshot's name there.
pub(super) const SNAPSHOT: &str = "baseline.snap";

/// Which version: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelReference {
    name: String,
    which: Which,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Which {
    Alias(String),
    Version(String),
}

impl ModelReference {
    /// Reads MLflow's URI of a model version.
    ///
    /// # Errors
    /// [`RegistryError::Reference`] for anything else.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let refused = || RegistryError::Reference { text: text.to_owned() };
        let rest = text.strip_prefix("models:/").ok_or_else(refused)?;
        let (name, which) = match (rest.rsplit_once('@'), rest.rsplit_once('/')) {
            (Some((name, alias)), _) => (name, Which::Alias(alias.to_owned())),
            (None, Some((name, version))) if version.bytes().all(|b| b.is_ascii_digit()) => {
                (name, Which::Version(version.to_owned()))
            }
            _ => return Err(refused()),
        };
        let (Which::Alias(text) | Which::Version(text)) = &which;
        if name.is_empty() || text.is_empty() {
            return Err(refused());
        }
        Ok(Self { name: name.to_owned(), which })
    }
}

impl std::fmt::Display for ModelReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.which {
            Which::Alias(alias) => write!(f, "models:/{}@{alias}", self.name),
            Which::Version(version) => write!(f, "models:/{}/{version}", self.name),
        }
    }
}

/// Downloads the version's snapshot and detections into `folder`, and returns the snapshot's path;
/// `None` when there is no such model, version or alias yet.
///
/// # Errors
/// A [`RegistryError`]: the server cannot be asked, or the version's run keeps no evaluation of
/// detgate's.
pub fn fetch_baseline(
    reference: &ModelReference,
    settings: &RegistrySettings,
    folder: &Path,
) -> Result<Option<PathBuf>, RegistryError> {
    if let TrackingUri::Sqlite { database } = &settings.tracking_uri
        && !database.exists()
    {
        return Ok(None);
    }
    with_client(settings, "the baseline was read", |client, _server| {
        let found = match &reference.which {
            Which::Alias(alias) => api::run_of_alias(client, &reference.name, alias),
            Which::Version(number) => api::run_of_version(client, &reference.name, number),
        }?;
        let Some(run_id) = found else { return Ok(None) };
        download(client, reference, &run_id, folder).map(Some)
    })
}

fn download(
    client: &Client,
    reference: &ModelReference,
    run_id: &str,
    folder: &Path,
) -> Result<PathBuf, RegistryError> {
    let files = api::list_artifacts(client, run_id, FOLDER)?;
    let snapshot = format!("{FOLDER}/{SNAPSHOT}");
    if !files.contains_key(&snapshot) {
        return Err(RegistryError::NoBaseline {
            reference: reference.to_string(),
            run_id: run_id.to_owned(),
        });
    }
    for path in files.keys() {
        let name = path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name);
        client.get_artifact(run_id, path, &folder.join(name))?;
    }
    Ok(folder.join(SNAPSHOT))
}

#[cfg(test)]
mod tests {
    use super::ModelReference;

    #[test]
    fn a_reference_names_an_alias_or_a_version() {
        for text in ["models:/detector@champion", "models:/detector/12", "models:/a@b@champion"] {
            assert_eq!(ModelReference::parse(text).unwrap().to_string(), text);
        }
        for text in
            ["detector@champion", "models:/detector", "models:/@x", "models:/d@", "models:/d/x"]
        {
            let error = ModelReference::parse(text).unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("models:/NAME@ALIAS"), "{error}");
        }
    }
}
