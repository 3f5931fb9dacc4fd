//! What was found on a share of the images, as a file.
//!
//! ```text
//! detgate shard 1
//! {"shard":"3/8","facts":{..},"images":[ids]}
//! a record per image, in this order (`cache/record.rs`), keyed with the two lines above
//! BLAKE3 of all before, 32 bytes
//! ```
//!
//! It holds no time of day and no duration: written again, it is the same to the last byte. Deliberately
//! absent: reading a part of it. A shard is whole, or made again.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::ImageResult;
use super::super::cache::record::{self, KeyBytes, Scan};
use super::facts::Facts;
use crate::config::Shard;
use crate::files::{failed, write_atomically};

const TITLE: &str = "detgate shard ";
const FIRST_LINE: &str = "detgate shard 1\n";
const CONTEXT: &str = "detgate shard, version 1";
const CHECK: usize = blake3::OUT_LEN;

/// What was found on a share of the images.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardFile {
    /// Which share.
    pub shard: Shard,
    /// What it depends on.
    pub facts: Facts,
    /// Image ids with results; each was read, so each has its digest.
    pub images: Vec<(i64, ImageResult)>,
}

/// Why a file is no shard.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The system refused.
    #[error("cannot {action} the shard {}: {}", path.display(), failed(error))]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Something else.
    #[error("{} is no shard; name the files that `detgate eval --shard` has written", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A later detgate wrote it.
    #[error("{} was written by another version of detgate; use the same one for all shards and for merging", path.display())]
    Version {
        /// The file.
        path: PathBuf,
    },
    /// Bits were lost.
    #[error("{} is damaged or cut off; write it again with `detgate eval --shard {} --shard-file {}`", path.display(), number(*shard), path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which share its name says that it is, else its contents, if they are legible.
        shard: Option<Shard>,
    },
}

fn number(shard: Option<Shard>) -> String {
    shard.map_or_else(|| "I/N".to_owned(), |shard| shard.to_string())
}

#[derive(Serialize, Deserialize)]
struct Header {
    shard: Shard,
    facts: Facts,
    images: Vec<i64>,
}

impl ShardFile {
    /// Writes it whole or not at all.
    ///
    /// # Errors
    /// [`ShardError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), ShardError> {
        let written = self.bytes().and_then(|bytes| write_atomically(path, &bytes[..]));
        written.map_err(|error| ShardError::Io { action: "write", path: path.to_owned(), error })
    }

    fn bytes(&self) -> io::Result<Vec<u8>> {
        let images = self.images.iter().map(|(id, _)| *id).collect();
        let header = Header { shard: self.shard, facts: self.facts.clone(), images };
        let mut bytes = FIRST_LINE.as_bytes().to_vec();
        serde_json::to_writer(&mut bytes, &header)?;
        bytes.push(b'\n');
        let key = key(&bytes);
        for (id, result) in &self.images {
            let record =
                result.digest.and_then(|image| record::encode(&key, &image, &result.outcome));
            let unfit = || io::Error::other(format!("image {id} has more detections than fit"));
            bytes.extend(record.ok_or_else(unfit)?);
        }
        let check = blake3::hash(&bytes);
        bytes.extend(check.as_bytes());
        Ok(bytes)
    }

    /// Reads it whole.
    ///
    /// # Errors
    /// A [`ShardError`] that names the file.
    pub fn read(path: &Path) -> Result<Self, ShardError> {
        let bytes = std::fs::read(path).map_err(|error| ShardError::Io {
            action: "read",
            path: path.to_owned(),
            error,
        })?;
        Self::parse(&bytes).map_err(|problem| {
            let path = path.to_owned();
            match problem {
                Problem::Foreign => ShardError::Foreign { path },
                Problem::Version => ShardError::Version { path },
                Problem::Damaged(shard) => {
                    ShardError::Damaged { shard: Shard::of_file(&path).or(shard), path }
                }
            }
        })
    }

    fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let rest = bytes.strip_prefix(FIRST_LINE.as_bytes()).ok_or_else(|| match () {
            () if FIRST_LINE.as_bytes().starts_with(bytes) => Problem::Damaged(None),
            () if bytes.starts_with(TITLE.as_bytes()) => Problem::Version,
            () => Problem::Foreign,
        })?;
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or(Problem::Damaged(None))?;
        let header: Option<Header> = serde_json::from_slice(&rest[..end]).ok();
        let damaged = || Problem::Damaged(header.as_ref().map(|header| header.shard));
        let (covered, check) = bytes.split_last_chunk::<CHECK>().ok_or_else(damaged)?;
        if blake3::hash(covered).as_bytes() != check {
            return Err(damaged());
        }
        let start = bytes.len() - rest.len() + end + 1;
        let key = key(&bytes[..start]);
        let results: Option<Vec<ImageResult>> = Scan::new(&key, &covered[start..])
            .map(|record| {
                Some(ImageResult { digest: Some(record.image), outcome: record.outcome()? })
            })
            .collect();
        let results = results.ok_or_else(damaged)?;
        // Whoever can make the checksum can make anything; but nothing wrong is ever taken for whole.
        let Some(Header { shard, facts, images }) = header else {
            return Err(Problem::Damaged(None));
        };
        if images.len() != results.len() {
            return Err(Problem::Damaged(Some(shard)));
        }
        Ok(Self { shard, facts, images: images.into_iter().zip(results).collect() })
    }
}

enum Problem {
    Foreign,
    Version,
    Damaged(Option<Shard>),
}

fn key(header: &[u8]) -> KeyBytes {
    blake3::derive_key(CONTEXT, header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Bbox;
    use crate::detections::Detection;

    fn shard() -> ShardFile {
        let found = |score| Detection {
            bbox: Bbox { x: 0.1, y: -0.0, w: 1.0 / 3.0, h: 4.0 },
            score,
            category_id: 3,
        };
        let image = |id: i64, outcome| {
            (id, ImageResult { digest: Some(blake3::hash(&id.to_le_bytes())), outcome })
        };
        ShardFile {
            shard: Shard::new(2, 3).unwrap(),
            facts: [("checkpoint".to_owned(), "a\nb".to_owned())].into(),
            images: vec![
                image(7, Ok(vec![found(0.1 + 0.2), found(0.5)])),
                image(-1, Ok(Vec::new())),
                image(9, Err("the JPEG data end too early".to_owned())),
            ],
        }
    }

    #[test]
    fn what_was_written_is_read_and_is_written_the_same_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a folder/2-of-3.shard");
        shard().write(&path).unwrap();
        let read = ShardFile::read(&path).unwrap();
        assert_eq!(read, shard());
        assert_eq!(read.bytes().unwrap(), std::fs::read(&path).unwrap());
    }

    #[test]
    fn no_damage_goes_unnoticed() {
        let whole = shard().bytes().unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(ShardFile::parse(&bytes).is_err(), "bit {bit}");
        }
        for end in 0..whole.len() {
            assert!(ShardFile::parse(&whole[..end]).is_err(), "{end} bytes");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.shard");
        let said = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            ShardFile::read(&path).unwrap_err().to_string()
        };
        let whole = shard().bytes().unwrap();
        let again = format!("with `detgate eval --shard 2/3 --shard-file {}`", path.display());
        assert!(said(&whole[..whole.len() - 1]).ends_with(&again));
        for cut in [0, 5, 15] {
            assert!(said(&whole[..cut]).contains("cut off; write it again"), "{cut}");
        }
        assert!(said(b"{}").contains("is no shard"));
        assert!(said(b"detgate shard 2\n").contains("another version"));
        let gone = ShardFile::read(&folder.path().join("none")).unwrap_err().to_string();
        assert!(gone.contains("check the path"), "{gone}");
    }
}
