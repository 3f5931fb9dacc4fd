//! The detections of a baseline, in a file beside its snapshot: what intervals are computed from.
//!
//! The file is called after its own digest, which the snapshot holds: `baseline.<digest>.detections.json.zst`.
//! So whoever accepts a snapshot (`detgate bless`, `cargo insta accept`, a merge in git) accepts its
//! detections with it, and a snapshot can never be read with the detections of another one.
//!
//! Deliberately absent: any choice of when to write; that is the caller's.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::{GateError, Snapshot};
use crate::detections::Detection;
use crate::detections::coco_results::{self, Results};

/// How much of the digest is in the name.
const NAMED: usize = 16;
const ENDING: &str = ".detections.json.zst";

/// Detections as they are stored: COCO results, packed.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    bytes: Vec<u8>,
    digest: String,
}

impl Stored {
    /// Packs the detections of each image (by id), in the order given. Equal detections give equal
    /// bytes.
    ///
    /// # Errors
    /// [`GateError::Detections`], which memory alone can cause.
    pub fn pack<'a>(
        images: impl IntoIterator<Item = (i64, &'a [Detection])>,
    ) -> Result<Self, GateError> {
        let bytes = coco_results::pack(images)?;
        let digest = blake3::hash(&bytes).to_hex().to_string();
        Ok(Self { bytes, digest })
    }

    /// BLAKE3 of the packed bytes, hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The packed bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What their file is called beside `baseline`.
    pub fn name(&self, baseline: &Path) -> String {
        let path = path(baseline, &self.digest);
        path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Writes them beside the baseline, if it or the candidate waiting for review refers to them.
    ///
    /// # Errors
    /// A [`GateError`] that names the file.
    pub fn write_if_wanted(&self, baseline: &Path) -> Result<(), GateError> {
        let path = path(baseline, &self.digest);
        if !path.exists() && wanted(baseline)?.contains(&path) {
            self.write(baseline)?;
        }
        Ok(())
    }

    /// Writes them beside the baseline, if they are not there yet.
    ///
    /// # Errors
    /// [`GateError::Io`].
    pub fn write(&self, baseline: &Path) -> Result<(), GateError> {
        let path = path(baseline, &self.digest);
        crate::files::write_atomically(&path, &self.bytes[..]).map_err(|error| GateError::Io {
            action: "write",
            path,
            error,
        })
    }
}

/// Where the detections with this digest lie.
pub fn path(baseline: &Path, digest: &str) -> PathBuf {
    let named = digest.get(..NAMED).unwrap_or(digest);
    baseline.with_file_name(format!("{}.{named}{ENDING}", stem(baseline)))
}

/// Reads the detections that belong to a snapshot; `None` when it has none, or they were not kept.
///
/// # Errors
/// A [`GateError`] that names the file: unreadable, malformed, or not the one the snapshot was made
/// with.
pub fn read(baseline: &Path, snapshot: &Snapshot) -> Result<Option<Results>, GateError> {
    let Some(digest) = &snapshot.detections_blake3 else { return Ok(None) };
    let path = path(baseline, digest);
    let mut hasher = blake3::Hasher::new();
    match File::open(&path).and_then(|file| hasher.update_reader(file).map(drop)) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(GateError::Io { action: "read", path, error }),
    }
    if hasher.finalize().to_hex().as_str() != digest {
        return Err(GateError::ForeignDetections { path });
    }
    Ok(Some(coco_results::read(&path)?))
}

/// Removes the detections beside `baseline` that neither it nor the candidate waiting for review
/// refers to: what `cargo insta` has accepted over or rejected. Where there is no baseline at all it may
/// only be away for a moment, and nothing is removed.
///
/// # Errors
/// A [`GateError`] that names the file.
pub fn tidy(baseline: &Path) -> Result<(), GateError> {
    if !baseline.exists() {
        return Ok(());
    }
    // Listed before the snapshots are read: whoever writes detections meanwhile wrote their snapshot first.
    let there = beside(baseline);
    let wanted = wanted(baseline)?;
    for path in there.into_iter().filter(|path| !wanted.contains(path)) {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(GateError::Io { action: "remove", path, error });
            }
            _ => {}
        }
    }
    Ok(())
}

/// All detections beside a baseline.
fn beside(baseline: &Path) -> Vec<PathBuf> {
    let folder = baseline.parent().filter(|folder| !folder.as_os_str().is_empty());
    let Ok(entries) = folder.unwrap_or(Path::new(".")).read_dir() else { return Vec::new() };
    let paths = entries.flatten().map(|entry| baseline.with_file_name(entry.file_name()));
    paths.filter(|path| is_ours(baseline, path)).collect()
}

/// Whether the detections that a snapshot refers to are beside `baseline`.
pub fn are_there(baseline: &Path, snapshot: &Snapshot) -> bool {
    let digest = snapshot.detections_blake3.as_ref();
    digest.is_some_and(|digest| path(baseline, digest).exists())
}

/// The detections that the baseline and the candidate waiting for review refer to.
fn wanted(baseline: &Path) -> Result<BTreeSet<PathBuf>, GateError> {
    let mut wanted = BTreeSet::new();
    for snapshot in [baseline.to_owned(), Snapshot::pending_path(baseline)] {
        let digest = Snapshot::read(&snapshot)?.and_then(|snapshot| snapshot.detections_blake3);
        wanted.extend(digest.map(|digest| path(baseline, &digest)));
    }
    Ok(wanted)
}

/// Whether a file has the name of detections of this baseline.
fn is_ours(baseline: &Path, path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let named = name
        .strip_prefix(&stem(baseline))
        .and_then(|rest| rest.strip_prefix('.'))
        .and_then(|rest| rest.strip_suffix(ENDING));
    named.is_some_and(|hex| hex.len() == NAMED && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The baseline's name without `.snap`.
fn stem(baseline: &Path) -> String {
    let name = baseline.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(".snap").unwrap_or(&name).to_owned()
}
