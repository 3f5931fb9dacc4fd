//! A version of the registered model as the baseline: what its run keeps of the evaluation it passed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::api;
use super::client::Client;
use super::connection::with_client;
use super::{RegistryError, RegistrySettings, TrackingUri};
use crate::config::{ModelReference, ModelVersion};

/// The artifact folder of the snapshot and its detections.
pub(super) const FOLDER: &str = "baseline";
/// The snapshot's name there.
pub(super) const SNAPSHOT: &str = "baseline.snap";

/// A registered version's evaluation, downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The snapshot, with its detections beside it.
    pub snapshot: PathBuf,
    /// The version's number.
    pub version: String,
}

/// Downloads the version's snapshot and detections into `folder`; `None` when there is no such model, version or alias yet.
///
/// # Errors
/// A [`RegistryError`]: the server cannot be asked, or the version's run keeps no evaluation of
/// detgate's.
pub fn fetch_baseline(
    reference: &ModelReference,
    settings: &RegistrySettings,
    folder: &Path,
) -> Result<Option<Fetched>, RegistryError> {
    if let TrackingUri::Sqlite { database } = &settings.tracking_uri
        && !database.exists()
    {
        return Ok(None);
    }
    with_client(settings, "the baseline was read", |client, _server| {
        let found = match &reference.version {
            ModelVersion::Alias(alias) => api::version_of_alias(client, &reference.name, alias),
            ModelVersion::Number(number) => api::version_of_number(client, &reference.name, number),
        }?;
        let Some(named) = found else { return Ok(None) };
        let snapshot = download(client, reference, &named.run_id, folder)?;
        Ok(Some(Fetched { snapshot, version: named.number }))
    })
}

fn download(
    client: &Client,
    reference: &ModelReference,
    run_id: &str,
    folder: &Path,
) -> Result<PathBuf, RegistryError> {
    // A version that somebody made by hand may have no run.
    let files = match run_id {
        "" => BTreeMap::new(),
        run_id => client.repeated(|| api::list_artifacts(client, run_id, FOLDER))?,
    };
    let snapshot = format!("{FOLDER}/{SNAPSHOT}");
    if !files.contains_key(&snapshot) {
        return Err(RegistryError::NoBaseline {
            reference: reference.to_string(),
            run_id: run_id.to_owned(),
        });
    }
    for path in files.keys() {
        let name = path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name);
        client.repeated(|| client.get_artifact(run_id, path, &folder.join(name)))?;
    }
    Ok(folder.join(SNAPSHOT))
}
