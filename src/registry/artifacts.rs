//! Where a run's artifacts go, and getting them there.
//!
//! `mlflow-artifacts:/...` is uploaded through the server, and so is a file path below the folder
//! that a server of ours serves. Another file path of this machine (an experiment that an older
//! project created elsewhere) is written to directly, as MLflow's own client does.
//!
//! Deliberately absent: object stores (`s3://` and the like) as a run's own store, which need the
//! store's credentials here, while a server that proxies artifacts needs none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::api::{self, Run};
use super::client::Client;
use super::multipart::{self, Outcome, Target};
use super::prepare::Upload;
use super::settings::Listener;
use super::{Content, Event, RegistryError, RegistrySettings};

/// Where a run's artifacts go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Store {
    /// Through the server, below this path of its artifact store.
    Proxied { prefix: String },
    /// Into this folder.
    Folder(PathBuf),
}

/// Reads a run's artifact URI. `served` is the artifact folder of a server of ours; `local` whether
/// the server's file paths are ours.
///
/// # Errors
/// A sentence, when detgate cannot write there.
pub(super) fn store(
    uri: &str,
    base_host: Option<&str>,
    served: Option<&Path>,
    local: bool,
) -> Result<Store, String> {
    if let Some(rest) = uri.strip_prefix("mlflow-artifacts:") {
        return proxied(rest, base_host);
    }
    let Some(folder) = local_path(uri) else {
        return Err("detgate uploads through the server only; start it with `--artifacts-destination` instead of \
                    `--default-artifact-root`, and register in an experiment that was created since"
            .to_owned());
    };
    if !local {
        return Err("it is a folder of the server's machine; start the server with `--artifacts-destination` instead \
                    of `--default-artifact-root`, and register in an experiment that was created since"
            .to_owned());
    }
    if !folder.is_absolute() {
        return Err("it is not a path of this machine; register in an experiment of another name"
            .to_owned());
    }
    let below = served.and_then(|served| folder.strip_prefix(served).ok()).and_then(Path::to_str);
    Ok(match below {
        Some(prefix) => Store::Proxied { prefix: prefix.replace('\\', "/") },
        None => Store::Folder(folder),
    })
}

fn proxied(rest: &str, base_host: Option<&str>) -> Result<Store, String> {
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(authority) => {
            let (host, path) = authority.split_once('/').unwrap_or((authority, ""));
            let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
            if !host.is_empty() && Some(name) != base_host {
                return Err(format!("its files are served by another server, {host}"));
            }
            path
        }
    };
    Ok(Store::Proxied { prefix: path.trim_matches('/').to_owned() })
}

/// The path of `file:` URIs and of plain paths; `None` for other schemes.
fn local_path(uri: &str) -> Option<PathBuf> {
    if uri.starts_with("file:") {
        return reqwest::Url::parse(uri).ok()?.to_file_path().ok();
    }
    // One letter before the colon is a Windows drive, not a scheme.
    let is_scheme = uri
        .split_once(':')
        .is_some_and(|(scheme, _)| scheme.len() > 1 && !scheme.contains(['/', '\\']));
    (!is_scheme).then(|| PathBuf::from(uri))
}

/// Uploads one file, in parts if the server offers it for a file of that size.
pub(super) fn upload(
    client: &Client,
    run: &Run,
    store: &Store,
    file: &Upload<'_>,
    settings: &RegistrySettings,
) -> Result<(), RegistryError> {
    if let Store::Proxied { prefix } = store {
        let target = Target { client, settings, run, prefix, file };
        if multipart::upload(&target)? == Outcome::Uploaded {
            return Ok(());
        }
    }
    upload_whole(client, store, file, settings)
}

/// Uploads one file in one request; from its beginning again where that fails for the moment.
fn upload_whole(
    client: &Client,
    store: &Store,
    file: &Upload<'_>,
    settings: &RegistrySettings,
) -> Result<(), RegistryError> {
    let send = || match store {
        Store::Proxied { prefix } => {
            let path = [prefix.as_str(), file.path.as_str()].join("/");
            let reader = watched(file, settings)?;
            client.put_artifact(path.trim_start_matches('/'), reader, file.length)
        }
        Store::Folder(folder) => {
            let path = folder.join(&file.path);
            let reader = watched(file, settings)?;
            crate::files::write_atomically(&path, reader).map_err(|error| RegistryError::Io {
                action: "write the artifact",
                path,
                error,
            })
        }
    };
    // A cut body looks like a network error.
    let interrupted =
        |error| if settings.is_interrupted() { RegistryError::Interrupted } else { error };
    client.repeated(|| send().map_err(interrupted))
}

fn watched(file: &Upload<'_>, settings: &RegistrySettings) -> Result<Watched, RegistryError> {
    let progress = Arc::new(Progress::new(file, settings));
    Ok(Watched::new(open(file.content)?, &progress, Arc::default()))
}

fn open(content: &Content) -> Result<Box<dyn Read + Send>, RegistryError> {
    match content {
        Content::Bytes { bytes, .. } => Ok(Box::new(Cursor::new(bytes.clone()))),
        Content::File(path) => match File::open(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(RegistryError::Io { action: "read", path: path.clone(), error }),
        },
    }
}

/// How much of a file was sent.
pub(super) struct Progress {
    path: String,
    sent: Mutex<u64>,
    total: u64,
    interrupted: Arc<AtomicBool>,
    on_event: Listener,
}

impl Progress {
    pub(super) fn new(file: &Upload<'_>, settings: &RegistrySettings) -> Self {
        Self {
            path: file.path.clone(),
            sent: Mutex::default(),
            total: file.length,
            interrupted: Arc::clone(&settings.interrupted),
            on_event: Arc::clone(&settings.on_event),
        }
    }

    /// Told under the lock, so that numbers come in order.
    fn add(&self, count: u64) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        *sent += count;
        (self.on_event)(Event::Uploading { path: &self.path, sent: *sent, total: self.total });
    }

    /// What was sent in vain does not count.
    pub(super) fn take_back(&self, counted: &AtomicU64) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        *sent = sent.saturating_sub(counted.swap(0, Ordering::Relaxed));
    }
}

/// Tells of progress, and stops when the user asks for it or another part of the file has failed.
pub(super) struct Watched {
    inner: Box<dyn Read + Send>,
    progress: Arc<Progress>,
    counted: Arc<AtomicU64>,
    has_failed: Arc<AtomicBool>,
}

impl Watched {
    pub(super) fn new(
        inner: Box<dyn Read + Send>,
        progress: &Arc<Progress>,
        has_failed: Arc<AtomicBool>,
    ) -> Self {
        Self { inner, progress: Arc::clone(progress), counted: Arc::default(), has_failed }
    }

    /// Bytes that were read from it.
    pub(super) fn counted(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.counted)
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let flags = [&self.progress.interrupted, &self.has_failed];
        if flags.iter().any(|flag| flag.load(Ordering::Relaxed)) {
            return Err(std::io::Error::other("interrupted"));
        }
        let count = self.inner.read(buffer)?;
        self.counted.fetch_add(count as u64, Ordering::Relaxed);
        self.progress.add(count as u64);
        Ok(count)
    }
}

/// A file of which the server does not hold what was sent.
pub(super) struct Mismatch<'a, 'b> {
    pub(super) file: &'a Upload<'b>,
    /// The size that the server tells; `None` where it has no such file.
    found: Option<u64>,
}

impl Mismatch<'_, '_> {
    /// As an error about a run.
    pub(super) fn error(&self, run: &Run) -> RegistryError {
        let Upload { path, length, .. } = self.file;
        let found = self.found.map_or("is missing".to_owned(), |size| format!("has {size} bytes"));
        let reason = format!("the artifact {path} {found} instead of {length} bytes");
        RegistryError::Incomplete { run_id: run.id.clone(), reason }
    }
}

/// Lists what the server holds, and tells which files are missing or have another size.
pub(super) fn mismatches<'a, 'b>(
    client: &Client,
    run: &Run,
    files: &'a [Upload<'b>],
) -> Result<Vec<Mismatch<'a, 'b>>, RegistryError> {
    let folder = |path: &str| path.rsplit_once('/').map_or("", |(folder, _name)| folder).to_owned();
    let folders: BTreeSet<String> = files.iter().map(|file| folder(&file.path)).collect();
    let mut sizes = BTreeMap::new();
    for folder in folders {
        sizes.extend(client.repeated(|| api::list_artifacts(client, &run.id, &folder))?);
    }
    let found = files.iter().map(|file| Mismatch { file, found: sizes.get(&file.path).copied() });
    Ok(found.filter(|mismatch| mismatch.found != Some(mismatch.file.length)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxied(prefix: &str) -> Result<Store, String> {
        Ok(Store::Proxied { prefix: prefix.to_owned() })
    }

    #[test]
    fn a_proxied_store_is_uploaded_to_through_its_own_server_only() {
        let at = |uri| store(uri, Some("host"), None, false);
        assert_eq!(at("mlflow-artifacts:/1/ab/artifacts"), proxied("1/ab/artifacts"));
        assert_eq!(at("mlflow-artifacts://host:5000/1/ab/artifacts"), proxied("1/ab/artifacts"));
        assert!(at("mlflow-artifacts://elsewhere/1/ab").unwrap_err().contains("elsewhere"));
    }

    #[cfg(unix)]
    #[test]
    fn files_go_through_our_server_where_it_serves_them_and_beside_it_elsewhere() {
        let at = |uri| store(uri, None, Some(Path::new("/p/mlruns")), true);
        assert_eq!(at("/p/mlruns/1/ab/artifacts"), proxied("1/ab/artifacts"));
        assert_eq!(at("file:///p/mlruns/1/a%20b"), proxied("1/a b"));
        assert_eq!(at("file:///old%20place/1"), Ok(Store::Folder("/old place/1".into())));
        assert!(at("C:/old/mlruns/1").unwrap_err().contains("not a path of this machine"));
        assert!(at("s3://bucket/1").unwrap_err().contains("--artifacts-destination"));
        assert!(
            store("/srv/mlruns/1", None, None, false).unwrap_err().contains("the server's machine")
        );
    }
}
