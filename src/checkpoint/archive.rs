//! The zip file around a checkpoint: which record lies where.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::Range;
use std::sync::Arc;

use memmap2::Mmap;

use super::tensor::Bytes;

/// What a legacy file begins with: the pickle protocol 2 opcode.
const PICKLE: &[u8] = b"\x80";
/// The record that says what the others are.
const STRUCTURE: &str = "data.pkl";
const LFS: &[u8] = b"version https://git-lfs";

/// A mapped checkpoint file and its records, whose names have lost the archive's own.
pub(super) struct Archive {
    map: Arc<Mmap>,
    records: BTreeMap<String, Record>,
}

struct Record {
    range: Range<usize>,
    /// 0 where it was saved without (`torch.serialization.set_crc32_options(False)`).
    crc32: u32,
}

impl Archive {
    /// Reads the directory of a mapped file, nothing else.
    pub(super) fn read(map: Arc<Mmap>) -> Result<Self, String> {
        recognise(&map)?;
        let damaged = |error: zip::result::ZipError| {
            format!("is not a whole zip archive ({error}); copy it again, it may be cut short")
        };
        let mut zip = zip::ZipArchive::new(Cursor::new(&map[..])).map_err(damaged)?;
        require_checkpoint(&zip)?;
        let mut records = BTreeMap::new();
        for index in 0..zip.len() {
            let entry = zip.by_index_raw(index).map_err(damaged)?;
            let name = entry.name().map_err(damaged)?.into_owned();
            let shown = name.escape_debug();
            if entry.compression() != zip::CompressionMethod::Stored || entry.encrypted() {
                return Err(format!(
                    "holds the compressed record {shown}; torch.save does not compress"
                ));
            }
            let range = entry.data_start().and_then(|start| {
                let start = usize::try_from(start).ok()?;
                let end = start.checked_add(usize::try_from(entry.compressed_size()).ok()?)?;
                (end <= map.len()).then_some(start..end)
            });
            let range = range.ok_or_else(|| format!("is cut short within the record {shown}"))?;
            records.insert(name, Record { range, crc32: entry.crc32() });
        }
        let archive = Self { records: without_root(records)?, map };
        if archive.record("byteorder").is_some_and(|bytes| bytes.get() != b"little") {
            return Err("was saved on a big-endian machine; save it again on a little-endian one"
                .to_owned());
        }
        // What is read from it next would be misunderstood.
        archive.verify_record(STRUCTURE)?;
        Ok(archive)
    }

    /// The bytes of a record such as `data.pkl` or `data/0`.
    pub(super) fn record(&self, name: &str) -> Option<Bytes> {
        let range = self.records.get(name)?.range.clone();
        Some(Bytes::Mapped(Arc::clone(&self.map), range))
    }

    /// Compares every record with its checksum, for which the whole file is read.
    pub(super) fn verify(&self) -> Result<(), String> {
        self.records.keys().try_for_each(|name| self.verify_record(name))
    }

    fn verify_record(&self, name: &str) -> Result<(), String> {
        let is_damaged = |record: &Record| {
            record.crc32 != 0 && crc32fast::hash(&self.map[record.range.clone()]) != record.crc32
        };
        match self.records.get(name).is_some_and(is_damaged) {
            true => Err(format!(
                "is damaged: the record {} is not what its checksum says; copy it again",
                name.escape_debug()
            )),
            false => Ok(()),
        }
    }
}

/// Refuses, by what it is, a file that is no zip archive.
fn recognise(bytes: &[u8]) -> Result<(), String> {
    let is_tar = bytes.get(257..262) == Some(b"ustar");
    if bytes.starts_with(PICKLE) || is_tar {
        return Err(
            "is in the format from before PyTorch 1.6; load it in Python and torch.save it \
                    again"
                .to_owned(),
        );
    }
    if bytes.starts_with(LFS) {
        return Err("is a Git LFS pointer, not the file itself; run `git lfs pull`".to_owned());
    }
    if !bytes.starts_with(b"PK") {
        return Err(
            "is no file that torch.save writes, and no safetensors file; name the checkpoint itself"
                .to_owned(),
        );
    }
    Ok(())
}

fn require_checkpoint(zip: &zip::ZipArchive<Cursor<&[u8]>>) -> Result<(), String> {
    let torchscript = zip
        .file_names()
        .flatten()
        .any(|name| name.ends_with("/constants.pkl") || name.contains("/code/"));
    match torchscript {
        true => Err("is a TorchScript archive; pass it with --torchscript".to_owned()),
        false => Ok(()),
    }
}

/// All records lie in one folder, named after the file that was once written; take its name off.
fn without_root(records: BTreeMap<String, Record>) -> Result<BTreeMap<String, Record>, String> {
    let root = records
        .keys()
        .find_map(|name| {
            name.strip_suffix("data.pkl").filter(|root| root.matches('/').count() <= 1)
        })
        .map(str::to_owned)
        .ok_or_else(|| "holds no data.pkl; it was not written by torch.save".to_owned())?;
    Ok(records
        .into_iter()
        .filter_map(|(name, record)| Some((name.strip_prefix(&root)?.to_owned(), record)))
        .collect())
}
