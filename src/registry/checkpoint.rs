//! The checkpoint of a registered version, downloaded again.
//!
//! Deliberately absent: versions that detgate did not register, of which nothing says what their files must be.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::client::Client;
use super::connection::with_client;
use super::evaluation::{CHECKPOINT_TAG, MODEL_FOLDER};
use super::{RegistryError, RegistrySettings, api, browse};
use crate::config::{ModelReference, ModelVersion};

/// A registered version's checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedCheckpoint {
    /// The file.
    pub path: PathBuf,
    /// The version's number.
    pub version: String,
}

/// Downloads the version's checkpoint into a folder of its own in `folder`, unless it is there; either way the file has the
/// digest that the version was registered with.
///
/// # Errors
/// A [`RegistryError`]: the server cannot be asked, there is no such version, detgate did not register it, or the file is not the
/// one that was registered, which is then removed.
pub fn fetch_checkpoint(
    reference: &ModelReference,
    settings: &RegistrySettings,
    folder: &Path,
) -> Result<FetchedCheckpoint, RegistryError> {
    let no_version = || RegistryError::NoVersion { reference: reference.to_string() };
    if browse::is_absent(settings) {
        return Err(no_version());
    }
    with_client(settings, "the checkpoint was read", |client, _server| {
        let number = browse::named(client, &reference.name, &reference.version)?;
        let query =
            [("name", reference.name.as_str()), ("version", &number.ok_or_else(no_version)?)];
        let answer = client.repeated(|| client.get("model-versions/get", &query))?;
        let version = browse::record(client, &answer["model_version"], &BTreeMap::new())?;
        // Names of folders and files are made of what the server says.
        let is_number = !version.version.is_empty()
            && version.version.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number
            || matches!(&reference.version, ModelVersion::Number(number) if *number != version.version)
        {
            return Err(no_version());
        }
        let path = download(client, reference, &version, folder)?;
        Ok(FetchedCheckpoint { path, version: version.version })
    })
}

fn download(
    client: &Client,
    reference: &ModelReference,
    version: &browse::VersionRecord,
    folder: &Path,
) -> Result<PathBuf, RegistryError> {
    let refused = |reason: String| RegistryError::NoCheckpoint {
        reference: reference.to_string(),
        run_id: version.run_id.clone(),
        reason,
    };
    let Some(expected) = version.tags.get(CHECKPOINT_TAG) else {
        return Err(refused(format!(
            "has no tag {CHECKPOINT_TAG}, so detgate did not register it"
        )));
    };
    // Its run says what the file was called; what others put beside it is of no interest.
    let files = client.repeated(|| api::list_artifacts(client, &version.run_id, MODEL_FOLDER))?;
    let name = version.params.get("checkpoint").map(String::as_str).unwrap_or_default();
    let artifact = format!("{MODEL_FOLDER}/{name}");
    let mut parts = Path::new(name).components();
    let is_file_name = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    if !is_file_name || name.contains('\\') || !files.contains_key(&artifact) {
        return Err(refused(format!("does not keep its checkpoint {artifact}")));
    }
    // By its number: an alias moves.
    let own =
        folder.join(format!("{}-{}", reference.name.replace(['/', '\\'], "_"), version.version));
    let path = own.join(name);
    if path.is_file() && digest(&path)? == *expected {
        return Ok(path);
    }
    client.repeated(|| client.get_artifact(&version.run_id, &artifact, &path))?;
    let found = digest(&path)?;
    if found != *expected {
        // Nobody shall take it for the model.
        let _ = std::fs::remove_file(&path);
        return Err(refused(format!(
            "was registered with BLAKE3 {expected}, but {artifact} has {found} now"
        )));
    }
    Ok(path)
}

/// Read, not mapped, so that a checkpoint of gigabytes takes no memory.
fn digest(path: &Path) -> Result<String, RegistryError> {
    let hash = || -> io::Result<String> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        Ok(hasher.finalize().to_hex().to_string())
    };
    hash().map_err(|error| RegistryError::Io { action: "read", path: path.to_owned(), error })
}
