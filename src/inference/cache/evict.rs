//! What is in a cache folder, and what goes when there is too much.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::key::Key;
use super::record::Scan;
use super::{file_index, segment};

/// A file that was begun this long ago and has no name yet was left by a killed run.
const ABANDONED: Duration = Duration::from_secs(3600);

/// The predictions of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What they depend on; empty where no file's header is legible.
    pub facts: BTreeMap<String, String>,
    /// Images of which something is known.
    pub images: usize,
    /// On disk.
    pub bytes: u64,
    /// When they were last used.
    pub used: SystemTime,
}

/// What [`gc`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Files that are gone.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that are left.
    pub left: u64,
}

/// A file of the cache.
#[derive(Debug)]
struct Entry {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

/// The predictions in `folder`, the last used first.
///
/// # Errors
/// What the system says of the folder; that there is none is no error.
pub fn list(folder: &Path) -> io::Result<Vec<Group>> {
    let mut groups: BTreeMap<[u8; 32], (Group, HashSet<blake3::Hash>)> = BTreeMap::new();
    for entry in entries(folder)? {
        let Some(key) = segment::key_of(&entry.path) else { continue };
        // One that another run has just merged into another.
        let Ok(bytes) = fs::read(&entry.path) else { continue };
        let (group, images) = groups.entry(key).or_insert_with(|| {
            let used = SystemTime::UNIX_EPOCH;
            let group = Group { facts: BTreeMap::new(), images: 0, bytes: 0, used };
            (group, HashSet::new())
        });
        images.extend(Scan::new(&key, &bytes).map(|record| record.image));
        group.bytes += bytes.len() as u64;
        group.used = group.used.max(entry.modified);
        if group.facts.is_empty() {
            group.facts = segment::facts(&bytes).unwrap_or_default();
        }
    }
    let count = |(group, images): (Group, HashSet<_>)| Group { images: images.len(), ..group };
    let mut groups: Vec<Group> = groups.into_values().map(count).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.used));
    Ok(groups)
}

/// Removes files until at most `limit` bytes are left: the least recently used first, none that a
/// process is using, none of the key to `spare`.
///
/// # Errors
/// What the system says of the folder; a file that cannot be removed stays.
pub fn gc(folder: &Path, limit: u64, spare: Option<&Key>) -> io::Result<Removed> {
    let mut entries = entries(folder)?;
    entries.sort_by_key(|entry| entry.modified);
    let mut done =
        Removed { left: entries.iter().map(|entry| entry.bytes).sum(), ..Default::default() };
    for entry in &entries {
        let wanted = done.left > limit || (limit == 0 && entry.bytes == 0);
        let spared = spare.is_some_and(|key| segment::key_of(&entry.path) == Some(*key.bytes()));
        if (wanted && !spared || is_abandoned(entry)) && remove(entry) {
            done.files += 1;
            done.bytes += entry.bytes;
            done.left -= entry.bytes;
        }
    }
    Ok(done)
}

/// Unless a process is using it.
fn remove(entry: &Entry) -> bool {
    let name = entry.path.to_string_lossy();
    if name.ends_with(file_index::ENDING) {
        return fs::remove_file(&entry.path).is_ok();
    }
    // The lock is held until the name is gone: nobody can begin to use the file in between.
    File::open(&entry.path)
        .is_ok_and(|file| file.try_lock().is_ok() && fs::remove_file(&entry.path).is_ok())
}

fn is_abandoned(entry: &Entry) -> bool {
    let age = entry.modified.elapsed().unwrap_or_default();
    entry.path.to_string_lossy().ends_with(segment::UNFINISHED) && age > ABANDONED
}

/// The files of the cache, and nothing else that may lie there.
fn entries(folder: &Path) -> io::Result<Vec<Entry>> {
    let read = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let endings = [segment::ENDING, segment::UNFINISHED, file_index::ENDING];
    let entry = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let ours = endings.iter().any(|ending| name.to_string_lossy().ends_with(ending));
        let metadata = entry.metadata().ok().filter(|metadata| ours && metadata.is_file())?;
        let modified = metadata.modified().ok()?;
        Some(Entry { path: entry.path(), bytes: metadata.len(), modified })
    };
    Ok(read.flatten().filter_map(entry).collect())
}
