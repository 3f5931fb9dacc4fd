//! How large an image is, from its header alone: a data set of 100,000 images is asked for its sizes
//! without decoding any.
//!
//! Deliberately absent: any promise that the rest of the file can be decoded.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use super::{DecodeError, Format, ImageError, Size, bmp, png, recognise, webp};

/// What an image's header says of its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dimensions {
    /// Pixels of a stored row; the width of [`super::decode`]'s image.
    pub width: u32,
    /// Stored rows; the height of [`super::decode`]'s image.
    pub height: u32,
    /// A JPEG's EXIF orientation lays the picture on its side, so that viewers show `height` pixels
    /// across.
    pub on_its_side: bool,
}

impl Dimensions {
    /// Width and height as viewers show the picture, and as OpenCV's `imread` loads it.
    pub fn upright(self) -> (u32, u32) {
        if self.on_its_side { (self.height, self.width) } else { (self.width, self.height) }
    }
}

/// Reads how large the image at `path` is. The format is told by the content, as in
/// [`super::decode`].
///
/// # Errors
/// [`ImageError`], which names the file. Never panics, whatever the file holds.
pub fn dimensions(path: &Path) -> Result<Dimensions, ImageError> {
    let read = |error| ImageError::Read { path: path.to_path_buf(), error };
    let mut reader = BufReader::new(File::open(path).map_err(read)?);
    let mut start = Vec::new();
    let header = bmp::DIMENSIONS_END as u64;
    reader.by_ref().take(header).read_to_end(&mut start).map_err(read)?;
    reader.seek(SeekFrom::Start(0)).map_err(read)?;
    from_header(&start, reader)
        .map_err(|error| ImageError::Decode { path: path.to_path_buf(), error })
}

fn from_header(start: &[u8], reader: impl BufRead + Seek) -> Result<Dimensions, DecodeError> {
    let Size { width, height } = match recognise(start)? {
        Format::Jpeg => return jpeg(reader),
        Format::Png => png::size(reader)?,
        Format::Bmp => bmp::size(start)?,
        Format::WebP => webp::size(reader)?,
    };
    Ok(Dimensions { width, height, on_its_side: false })
}

/// Follows the markers of a JPEG to its frame header (ISO 10918-1, B.1.1 and B.2.2).
fn jpeg(mut reader: impl BufRead + Seek) -> Result<Dimensions, DecodeError> {
    let mut on_its_side = false;
    bytes::<2>(&mut reader)?;
    loop {
        match next_marker(&mut reader)? {
            // Stand alone, without a length.
            0x01 | 0xD0..=0xD8 => {}
            0xC4 | 0xC8 | 0xCC => drop(segment(&mut reader)?),
            0xC0..=0xCF => {
                let [_, _, _, high, low, wide, narrow] = bytes(&mut reader)?;
                let of = |high, low| u32::from(u16::from_be_bytes([high, low]));
                let size = Size::checked(Format::Jpeg, of(wide, narrow), of(high, low))?;
                return Ok(Dimensions { width: size.width, height: size.height, on_its_side });
            }
            0xD9 | 0xDA => {
                let reason = "there is no frame header before the picture".to_owned();
                return Err(DecodeError::Corrupt { format: Format::Jpeg, reason });
            }
            0xE1 => {
                if let Some(exif) = segment(&mut reader)?.strip_prefix(b"Exif\0\0") {
                    on_its_side = matches!(orientation(exif), Some(5..=8));
                }
            }
            _ => drop(segment(&mut reader)?),
        }
    }
}

/// The code of the next marker; bytes before it are passed over, as libjpeg does.
fn next_marker(reader: &mut impl BufRead) -> Result<u8, DecodeError> {
    loop {
        let [mut byte] = bytes(reader)?;
        if byte != 0xFF {
            continue;
        }
        while byte == 0xFF {
            [byte] = bytes(reader)?;
        }
        if byte != 0 {
            return Ok(byte);
        }
    }
}

/// What a marker segment holds after its length; at most 64 KiB.
fn segment(reader: &mut impl BufRead) -> Result<Vec<u8>, DecodeError> {
    let length = u16::from_be_bytes(bytes(reader)?).saturating_sub(2);
    let mut content = vec![0; usize::from(length)];
    reader.read_exact(&mut content).map_err(failed)?;
    Ok(content)
}

fn bytes<const N: usize>(reader: &mut impl BufRead) -> Result<[u8; N], DecodeError> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn failed(error: std::io::Error) -> DecodeError {
    match error.kind() {
        ErrorKind::UnexpectedEof => DecodeError::Truncated { format: Format::Jpeg },
        _ => DecodeError::Corrupt { format: Format::Jpeg, reason: error.to_string() },
    }
}

/// EXIF's tag 0x0112, from the first directory of its TIFF structure. Damaged EXIF says nothing.
fn orientation(tiff: &[u8]) -> Option<u16> {
    let big = match tiff.first_chunk()? {
        b"MM\0*" => true,
        b"II*\0" => false,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk()?;
        Some(if big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    };
    let bytes = *tiff.get(4..)?.first_chunk()?;
    let directory = if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    let directory = usize::try_from(directory).ok()?;
    let entries = usize::from(u16_at(directory)?);
    let entry = |index: usize| directory.checked_add(2 + 12 * index);
    let found = (0..entries).map_while(entry).find(|&at| u16_at(at) == Some(0x0112))?;
    u16_at(found.checked_add(8)?)
}
