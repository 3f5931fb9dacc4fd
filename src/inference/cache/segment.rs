//! Files of predictions: `<key>.<unique>.predictions`, a header for people and tools, then records.
//!
//! A file is written by one process, which holds an exclusive lock on it, and never changed after that.
//! Whoever reads it holds a shared lock. Locks are the operating system's: they end with the process,
//! however it ends, so nothing is ever left locked. Where the file system has none, nothing is removed.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use super::key::Key;
use super::record::{KeyBytes, Scan};

/// How files of predictions end.
pub(super) const ENDING: &str = ".predictions";
/// A file that its writer has not given its name yet.
pub(super) const UNFINISHED: &str = ".predictions-new";
const TITLE: &str = "detgate predictions ";
const VERSION: &str = "1";

/// What to do again when a file vanished between listing and opening: another run has merged it.
const ATTEMPTS: usize = 4;

/// A file that is read.
#[derive(Debug)]
pub(super) struct Segment(File);

impl Segment {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // Where its writer is at work, that one's lock protects it.
        let _ = file.try_lock_shared();
        // The hour of the last use. Where that cannot be set, that of the writing counts.
        let _ = file.set_modified(SystemTime::now());
        Ok(Self(file))
    }

    pub(super) fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The open file, which keeps the lock.
    pub(super) fn into_file(self) -> File {
        self.0
    }
}

/// All files of a key, in the order of their names; none where there is no folder.
pub(super) fn open_all(folder: &Path, key: &Key) -> io::Result<Vec<Segment>> {
    for attempt in 1.. {
        let opened: io::Result<Vec<Segment>> =
            paths(folder, key)?.iter().map(|path| Segment::open(path)).collect();
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => {}
            other => return other,
        }
    }
    Ok(Vec::new())
}

/// The files of a key, sorted.
fn paths(folder: &Path, key: &Key) -> io::Result<Vec<PathBuf>> {
    let prefix = format!("{}.", key.hex());
    let is_of_key = |name: &str| name.starts_with(&prefix) && name.ends_with(ENDING);
    let mut paths: Vec<PathBuf> = match fs::read_dir(folder) {
        Ok(entries) => entries
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(is_of_key))
            .map(|entry| entry.path())
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    paths.sort();
    Ok(paths)
}

/// The key in a file's name.
pub(super) fn key_of(path: &Path) -> Option<KeyBytes> {
    let name = path.file_name()?.to_str()?.strip_suffix(ENDING)?;
    let (key, _unique) = name.split_once('.')?;
    Some(*blake3::Hash::from_hex(key).ok()?.as_bytes())
}

/// The facts in a file's header, as far as it is legible.
pub(super) fn facts(bytes: &[u8]) -> Option<BTreeMap<String, String>> {
    let (title, rest) = bytes.split_at(bytes.iter().position(|&byte| byte == b'\n')?);
    (title == [TITLE, VERSION].concat().as_bytes()).then_some(())?;
    let mut json = serde_json::Deserializer::from_slice(rest).into_iter();
    json.next()?.ok()
}

/// Whether a file says that it is of another version.
pub(super) fn is_of_another_version(bytes: &[u8]) -> bool {
    let version = bytes.strip_prefix(TITLE.as_bytes());
    version.is_some_and(|rest| !rest.starts_with([VERSION, "\n"].concat().as_bytes()))
}

fn header(key: &Key) -> Vec<u8> {
    // A map of texts always has a JSON form.
    let facts = serde_json::to_string(&key.described()).unwrap_or_default();
    format!("{TITLE}{VERSION}\n{facts}\n").into_bytes()
}

/// A file that is written.
#[derive(Debug)]
pub(super) struct Writer {
    file: File,
    path: PathBuf,
    length: u64,
}

impl Writer {
    /// A new file, locked, with its header.
    pub(super) fn create(folder: &Path, key: &Key) -> io::Result<Self> {
        let mut writer = Self::unfinished(folder, key)?;
        writer.publish()?;
        Ok(writer)
    }

    /// As [`Writer::create`], under a name that nobody reads yet.
    fn unfinished(folder: &Path, key: &Key) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("{}.{}{UNFINISHED}", key.hex(), unique()));
        let file = File::create_new(&path)?;
        let _ = file.try_lock();
        let mut writer = Self { file, path, length: 0 };
        let begun = writer.append(&header(key));
        begun.inspect_err(|_| drop(fs::remove_file(&writer.path)))?;
        Ok(writer)
    }

    /// Gives the file its name.
    fn publish(&mut self) -> io::Result<()> {
        let path = self.path.with_extension(&ENDING[1..]);
        fs::rename(&self.path, &path)?;
        self.path = path;
        Ok(())
    }

    /// Adds whole records, in one write where the system allows it.
    pub(super) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(records);
        match written {
            Ok(()) => self.length += records.len() as u64,
            // A torn record does no harm, but needs room.
            Err(_) => drop(self.file.set_len(self.length)),
        }
        written
    }
}

/// Names that no other process or call gives: a process's id is used again, but not at the same instant.
fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanoseconds = now.map_or(0, |since| since.as_nanos());
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    format!("{nanoseconds:x}-{process:x}-{count:x}")
}

/// Merges the files of a key that nobody else is using: the new one gets its name when it is whole and on
/// disk, then the others are removed. Killed in between, it leaves records twice, which does no harm.
pub(super) fn merge(folder: &Path, key: &Key) -> io::Result<()> {
    let mut ours = Vec::new();
    for path in paths(folder, key)? {
        let Ok(file) = File::open(&path) else { continue };
        if file.try_lock().is_ok() {
            ours.push((path, file));
        }
    }
    if ours.len() < 2 {
        return Ok(());
    }
    let mut merged = Writer::unfinished(folder, key)?;
    let copied = copy(&mut ours, key, &mut merged).and_then(|()| merged.file.sync_all());
    if let Err(error) = copied.and_then(|()| merged.publish()) {
        drop(fs::remove_file(&merged.path));
        return Err(error);
    }
    ours.iter().try_for_each(|(path, _file)| fs::remove_file(path))
}

fn copy(from: &mut [(PathBuf, File)], key: &Key, to: &mut Writer) -> io::Result<()> {
    let mut seen = HashSet::new();
    for (_, file) in from {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        for record in Scan::new(key.bytes(), &bytes).filter(|record| seen.insert(record.image)) {
            to.append(record.bytes)?;
        }
    }
    Ok(())
}
