//! Bytes of a document from disk, unpacked where they are packed.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Opens a file that may be packed with gzip or Zstandard, which its first bytes tell. Pipes are fine.
///
/// # Errors
/// What the system said; what is wrong with packed data is said by the reader.
pub(crate) fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    let mut file = File::open(path)?;
    let mut start = Vec::new();
    file.by_ref().take(4).read_to_end(&mut start)?;
    let is_gzip = start.starts_with(&GZIP);
    let is_zstd = start.starts_with(&ZSTD);
    let whole = Cursor::new(start).chain(file);
    Ok(match () {
        () if is_gzip => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        () if is_zstd => Box::new(zstd::stream::read::Decoder::new(whole)?),
        () => Box::new(whole),
    })
}
