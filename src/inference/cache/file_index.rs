//! Digests of files that have not changed since they were last read.
//!
//! A digest holds while size, times of modification and of status change, inode and device are the same.
//! The clock of a file system ticks slowly: a file that changed within the same tick in which it was read
//! looks as it did (git calls it *racy*). So a digest is remembered only of a file whose times were
//! [`SETTLED`] before it was read. Setting a modification time back does not deceive this, for the time of
//! status change cannot be set; only on Windows, which has none, does it.
//!
//! There is one index for each folder of files, rewritten whole, under one checksum; of two processes the
//! last one's stays. A damaged index, or none, costs time only. Deliberately absent: folders that are
//! moved; their files are read again.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How files of an index end.
pub(super) const ENDING: &str = ".files";
const CONTEXT: &str = "detgate file index, version 1";
/// Coarser than the clocks of all file systems in use; FAT's ticks every two seconds.
const SETTLED: Duration = Duration::from_secs(3);
/// Path 16, stamp 48, digest 32.
const ENTRY: usize = 16 + STAMP + 32;
const STAMP: usize = 48;

/// What a file system says of a file that changes whenever its contents do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    size: u64,
    /// Since 1970, nanoseconds; saturated.
    modified: i64,
    changed: i64,
    inode: u64,
    device: u64,
}

impl Stamp {
    /// Of the file at `path`, through links.
    ///
    /// # Errors
    /// The system's.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from_metadata(&std::fs::metadata(path)?))
    }

    #[cfg(unix)]
    fn from_metadata(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        let time = |seconds: i64, nanoseconds: i64| {
            seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
        };
        Self {
            size: metadata.len(),
            modified: time(metadata.mtime(), metadata.mtime_nsec()),
            changed: time(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }

    #[cfg(not(unix))]
    fn from_metadata(metadata: &Metadata) -> Self {
        let time = |time: io::Result<SystemTime>| time.map_or(i64::MAX, since_1970);
        let (modified, changed) = (time(metadata.modified()), time(metadata.created()));
        Self { size: metadata.len(), modified, changed, inode: 0, device: 0 }
    }

    /// Whether a later change would show, if the file is read from `now` on.
    fn is_settled(&self, now: SystemTime) -> bool {
        let settled = i64::try_from(SETTLED.as_nanos()).unwrap_or(i64::MAX);
        let latest = self.modified.max(self.changed);
        latest.saturating_add(settled) < since_1970(now)
    }

    fn to_bytes(self) -> [u8; STAMP] {
        let Self { size, modified, changed, inode, device } = self;
        let mut bytes = [0; STAMP];
        let numbers = [size, modified as u64, changed as u64, inode, device];
        for (place, number) in bytes.chunks_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }
}

fn since_1970(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// By what is known of the path: the stamp and the digest.
type Entries = HashMap<[u8; 16], ([u8; STAMP], blake3::Hash)>;

/// The digests of one folder's files.
#[derive(Debug)]
pub struct FileIndex {
    path: PathBuf,
    entries: Entries,
    /// Since it was read.
    changed: bool,
}

impl FileIndex {
    /// Reads the index of the files in `of`; an empty one where there is none, or it is damaged.
    pub fn read(cache: &Path, of: &Path) -> Self {
        let name = blake3::derive_key(CONTEXT, of.as_os_str().as_encoded_bytes());
        let name = blake3::Hash::from_bytes(name).to_hex();
        let path = cache.join(format!("{}{ENDING}", &name[..32]));
        let entries = std::fs::read(&path).ok().and_then(|bytes| parse(&bytes)).unwrap_or_default();
        Self { path, entries, changed: false }
    }

    /// The digest of a file that has not changed.
    pub fn get(&self, path: &Path) -> Option<blake3::Hash> {
        let (stamp, digest) = self.entries.get(&path_key(path))?;
        (Stamp::of(path).ok()?.to_bytes() == *stamp).then_some(*digest)
    }

    /// Remembers what [`digest`] has read.
    pub fn insert(&mut self, path: &Path, read: &Read) {
        if let Some(stamp) = read.settled {
            self.entries.insert(path_key(path), (stamp.to_bytes(), read.digest));
            self.changed = true;
        }
    }

    /// Writes the index if it has changed; otherwise marks it as used.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self) -> io::Result<()> {
        if !self.changed {
            if let Ok(file) = File::open(&self.path) {
                let _ = file.set_modified(SystemTime::now());
            }
            return Ok(());
        }
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|(path, _)| **path);
        let mut bytes = Vec::with_capacity(entries.len() * ENTRY + 32);
        for (path, (stamp, digest)) in entries {
            bytes.extend(path);
            bytes.extend(stamp);
            bytes.extend(digest.as_bytes());
        }
        let check = blake3::derive_key(CONTEXT, &bytes);
        bytes.extend(check);
        crate::files::write_atomically(&self.path, &bytes[..])
    }
}

fn parse(bytes: &[u8]) -> Option<Entries> {
    let (entries, check) = bytes.split_last_chunk::<32>()?;
    if blake3::derive_key(CONTEXT, entries) != *check {
        return None;
    }
    let (entries, []) = entries.as_chunks::<ENTRY>() else { return None };
    let entry = |entry: &[u8; ENTRY]| {
        let (path, rest) = entry.split_first_chunk::<16>()?;
        let (stamp, digest) = rest.split_first_chunk::<STAMP>()?;
        Some((*path, (*stamp, blake3::Hash::from_bytes(digest.try_into().ok()?))))
    };
    entries.iter().map(entry).collect()
}

fn path_key(path: &Path) -> [u8; 16] {
    let digest = blake3::hash(path.as_os_str().as_encoded_bytes());
    let mut key = [0; 16];
    key.copy_from_slice(&digest.as_bytes()[..16]);
    key
}

/// A file's digest, and whether it may be remembered.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    /// BLAKE3 of its bytes.
    pub digest: blake3::Hash,
    settled: Option<Stamp>,
}

/// Reads a file for its digest.
///
/// # Errors
/// The system's.
pub fn digest(path: &Path) -> io::Result<Read> {
    let now = SystemTime::now();
    let before = Stamp::of(path)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    let settled = before.is_settled(now) && Stamp::of(path)? == before;
    Ok(Read { digest: hasher.finalize(), settled: settled.then_some(before) })
}
