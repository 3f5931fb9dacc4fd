//! What a model found on an image, kept on disk, so that it is never computed twice.
//!
//! A prediction is known by the digest of the image's bytes and a [`Key`]: the digest of the model and
//! everything else that changes what it finds. What is done with predictions afterwards, such as thresholds
//! of a protocol, the classes that are evaluated or the gate's policy, is not part of it.
//!
//! - Each run that has something new appends it to a file of its own (`segment`), one write per image as it
//!   is finished, so that a killed run loses what was in flight and two runs at once are never in each
//!   other's way. A run that is over merges small files into one.
//! - Each record has its own checksum (`record`): a torn end, a flipped bit or a full disk cost the
//!   records that they touch, which are computed again; they never give a wrong result.
//! - Files are locked while they are in use. Removing ([`gc`]) leaves these alone, and takes first what was
//!   not used for longest.
//! - A cache that cannot be read or written is a notice, and the run goes on without it.
//!
//! [`FileIndex`] beside it remembers digests of files that have not changed since, by what the file
//! system says of them. Deliberately absent: where the folder is (`config`), when to look something up
//! ([`super::resume`]), printing, and synchronisation with the disk: after a power cut the checksums say
//! what is left.

mod evict;
mod file_index;
mod key;
pub(super) mod record;
mod segment;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

pub use evict::{Group, Removed, gc, list};
pub use file_index::{FileIndex, Read, Stamp, digest};
pub use key::{Key, SOURCES};

use crate::detections::Detection;
use segment::Writer;

/// What was found on an image, or why it could not be decoded, without its path.
pub type Outcome = Result<Vec<Detection>, String>;

/// Above so many files with the predictions of one key they are merged.
const MANY: usize = 8;

/// The predictions of one key.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    key: Key,
    /// Held, and so locked, until the run is over.
    read: Vec<std::fs::File>,
    writer: Option<Writer>,
    gave_up: bool,
    notices: Vec<String>,
}

impl Cache {
    /// The predictions of `key` in `folder`, which need not exist yet. Nothing is read or written.
    pub fn new(folder: &Path, key: Key) -> Self {
        Self {
            folder: folder.to_owned(),
            key,
            read: Vec::new(),
            writer: None,
            gave_up: false,
            notices: Vec::new(),
        }
    }

    /// What is known of these images. Of several records of an image the first holds, in the order of the
    /// files' names.
    pub fn recall(&mut self, wanted: &HashSet<blake3::Hash>) -> HashMap<blake3::Hash, Outcome> {
        let mut known = HashMap::new();
        let segments = match segment::open_all(&self.folder, &self.key) {
            Ok(segments) => segments,
            Err(error) => {
                self.gave_up = true;
                self.note(&format!("cannot be read ({error})"));
                return known;
            }
        };
        let mut foreign = 0;
        for mut segment in segments {
            let Ok(bytes) = segment.read() else { continue };
            let mut any = false;
            for record in record::Scan::new(self.key.bytes(), &bytes) {
                any = true;
                if wanted.contains(&record.image)
                    && !known.contains_key(&record.image)
                    && let Some(outcome) = record.outcome()
                {
                    known.insert(record.image, outcome);
                }
            }
            foreign += usize::from(!any && segment::is_of_another_version(&bytes));
            self.read.push(segment.into_file());
        }
        if foreign > 0 {
            self.notices.push(format!(
                "the cache has predictions of another version of detgate ({foreign} files in {}), which are left alone",
                self.folder.display()
            ));
        }
        known
    }

    /// Keeps what became of an image, with one write.
    pub fn keep(&mut self, image: &blake3::Hash, outcome: &Outcome) {
        if self.gave_up {
            return;
        }
        let Some(record) = record::encode(self.key.bytes(), image, outcome) else { return };
        let written = match &mut self.writer {
            Some(writer) => writer.append(&record),
            None => Writer::create(&self.folder, &self.key).and_then(|mut writer| {
                writer.append(&record)?;
                self.writer = Some(writer);
                Ok(())
            }),
        };
        if let Err(error) = written {
            self.gave_up = true;
            self.note(&format!("cannot be written ({error})"));
        }
    }

    /// Ends the use: merges many files into one, and removes what is beyond `limit` bytes, least
    /// recently used first and never of this key. Gives back what a person should know.
    pub fn finish(mut self, limit: u64) -> Vec<String> {
        let new = self.writer.is_some();
        self.writer = None;
        let files = std::mem::take(&mut self.read).len() + usize::from(new);
        // Neither is of any consequence for this run, and the next one tries again.
        if !self.gave_up && files > MANY {
            let _ = segment::merge(&self.folder, &self.key);
        }
        if !self.gave_up && new {
            let _ = evict::gc(&self.folder, limit, Some(&self.key));
        }
        self.notices
    }

    fn note(&mut self, what: &str) {
        let folder = self.folder.display();
        self.notices.push(format!("the cache {folder} {what}; this run goes on without it"));
    }
}
