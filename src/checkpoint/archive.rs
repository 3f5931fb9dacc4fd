//! The container that torch.save writes since PyTorch 1.6: a zip archive of stored records, mapped
//! into memory.
//!
//! Records are found through the zip directory and handed out as ranges of the map, so a tensor's
//! bytes are read from disk when, and only if, somebody looks at them.
//!
//! Deliberately absent: decompression (torch.save stores, so that files can be mapped) and CRC
//! checks, which would read the whole file before the first tensor is needed; torch.load does
//! neither check.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Cursor};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use zip::{CompressionMethod, ZipArchive};

use super::error::{CheckpointError, ForeignFormat};
use super::tensor::Storage;

/// The first bytes of the legacy format: a pickle (protocol 2) of the number 0x1950a86a20f9469cfc6c.
const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
const LFS_MAGIC: &[u8] = b"version https://git-lfs";
/// Where a tar archive says so.
const TAR_MAGIC: (usize, &[u8]) = (257, b"ustar");

/// An opened archive: its records by their name below the root folder.
#[derive(Debug)]
pub(super) struct Archive {
    map: Arc<Mmap>,
    records: HashMap<String, Range<usize>>,
}

impl Archive {
    /// Opens and maps `path`, and finds its records.
    ///
    /// # Errors
    /// When the file cannot be opened, is another format, is cut short, or is compressed.
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let map = map(path)
            .map_err(|source| CheckpointError::Open {
                path: path.to_owned(),
                source,
            })?
            .ok_or_else(|| foreign(path, ForeignFormat::Empty))?;
        if !map.starts_with(ZIP_MAGIC) {
            return Err(foreign(path, recognise(&map)));
        }
        let records = find_records(&map).map_err(|reason| CheckpointError::Archive {
            path: path.to_owned(),
            reason,
        })?;
        let archive = Self {
            map: Arc::new(map),
            records,
        };
        match archive.refusal() {
            Some(format) => Err(foreign(path, format)),
            None => Ok(archive),
        }
    }

    /// The bytes of a record, for example `data.pkl`.
    pub(super) fn record(&self, name: &str) -> Option<&[u8]> {
        self.map.get(self.records.get(name)?.clone())
    }

    /// The first `length` bytes of a record as the storage of tensors, without reading them.
    ///
    /// # Errors
    /// The record's length where it is shorter, `None` where there is no such record.
    pub(super) fn storage(&self, name: &str, length: usize) -> Result<Storage, Option<usize>> {
        let range = self.records.get(name).ok_or(None)?;
        if range.len() < length {
            return Err(Some(range.len()));
        }
        Storage::mapped(Arc::clone(&self.map), range.start..range.start + length).ok_or(None)
    }

    /// The kinds of archive that are like a checkpoint and are none.
    fn refusal(&self) -> Option<ForeignFormat> {
        if self.records.contains_key("constants.pkl") {
            return Some(ForeignFormat::TorchScript);
        }
        if !self.records.contains_key("data.pkl") {
            return Some(ForeignFormat::Unknown);
        }
        // Files from before PyTorch 2.1 do not say; they are taken as little endian, as torch does.
        (self.record("byteorder") == Some(b"big")).then_some(ForeignFormat::BigEndian)
    }
}

fn foreign(path: &Path, format: ForeignFormat) -> CheckpointError {
    CheckpointError::Format {
        path: path.to_owned(),
        format,
    }
}

/// Maps a file; `None` when it is empty, which some systems cannot map.
fn map(path: &Path) -> io::Result<Option<Mmap>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    if metadata.len() == 0 {
        return Ok(None);
    }
    // SAFETY: the map is only read. Rust also asks that the file does not change meanwhile, which
    // no program can promise about a file; as in every reader that maps its input, another process
    // that overwrites the checkpoint during an evaluation makes the numbers meaningless, and one
    // that cuts it short ends this process with SIGBUS. All lengths are checked against the map
    // itself, never against the file again.
    unsafe { Mmap::map(&file) }.map(Some)
}

/// What a file that is no zip archive is.
fn recognise(bytes: &[u8]) -> ForeignFormat {
    let (tar_at, tar_magic) = TAR_MAGIC;
    if bytes.starts_with(LEGACY_MAGIC) {
        ForeignFormat::Legacy
    } else if bytes.starts_with(LFS_MAGIC) {
        ForeignFormat::LfsPointer
    } else if bytes
        .get(tar_at..)
        .is_some_and(|rest| rest.starts_with(tar_magic))
    {
        ForeignFormat::Tar
    } else {
        ForeignFormat::Unknown
    }
}

/// The ranges of all records, by their names below the root folder, which is that of the first
/// record (torch names it after the file).
fn find_records(bytes: &[u8]) -> Result<HashMap<String, Range<usize>>, String> {
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|e| {
        format!(
            "its zip directory, which ends the file, cannot be read ({e}); it is probably cut short"
        )
    })?;
    let mut records = HashMap::with_capacity(zip.len());
    let mut root = None;
    for index in 0..zip.len() {
        let entry = zip
            .by_index_raw(index)
            .map_err(|e| format!("record {index}: {e}"))?;
        let name = entry
            .name()
            .map_err(|e| format!("record {index}: {e}"))?
            .into_owned();
        if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
            return Err(format!(
                "its record {name} is compressed, which torch.save never does"
            ));
        }
        let range = entry
            .data_start()
            .and_then(|start| Some(start..start.checked_add(entry.compressed_size())?))
            .and_then(|range| within(range, bytes.len()))
            .ok_or_else(|| format!("its record {name} lies outside the file"))?;
        let root = root.get_or_insert_with(|| root_of(&name));
        if let Some(below) = name.strip_prefix(root.as_str()) {
            records.insert(below.to_owned(), range);
        }
    }
    Ok(records)
}

/// The root folder of a record's name, with its slash; empty when it has none.
fn root_of(name: &str) -> String {
    name.find('/')
        .map_or(String::new(), |slash| name[..=slash].to_owned())
}

fn within(range: Range<u64>, len: usize) -> Option<Range<usize>> {
    let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
    (range.end <= len).then_some(range)
}
