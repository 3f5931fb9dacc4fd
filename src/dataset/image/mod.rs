//! Image files to pixels, equal to those of Pillow 13's `Image.open(path).convert("RGB")`: detectors
//! are trained on what Pillow decodes, and a different decoder moves their boxes.
//!
//! Every format is equal to the last bit (lossy WebP as far as was tried); each format's module says
//! how, and where it deliberately differs from Pillow with damaged files. Pillow's
//! surprises are kept: 16-bit grayscale PNG is *clipped* at 255, not scaled; alpha is dropped, not
//! blended; an EXIF orientation is not applied; colour profiles and gamma are ignored; of an
//! animation only the first frame counts.
//!
//! Deliberately absent: resizing and normalising (the model's own business), encoding (but for the
//! pictures of a report, `thumbnail`), and every
//! other format that Pillow reads.

mod bmp;
mod dimensions;
mod jpeg;
mod png;
mod thumbnail;
mod webp;

pub use dimensions::{Dimensions, dimensions};
pub use thumbnail::{Thumbnail, thumbnail};

use std::path::{Path, PathBuf};

/// The largest number of pixels that is decoded: Pillow's limit, twice its `MAX_IMAGE_PIXELS`, above
/// which `Image.open` raises `DecompressionBombError`.
pub const MAX_PIXELS: u64 = 178_956_970;

/// Decoded pixels: 8-bit RGB, row-major, interleaved, no padding: `data.len() == 3 * width * height`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// R, G, B of each pixel in turn.
    pub data: Vec<u8>,
}

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// ISO 10918: baseline, extended and progressive, Huffman-coded, 8 bits.
    Jpeg,
    /// Any PNG; of an APNG the default image.
    Png,
    /// Windows and OS/2 bitmaps.
    Bmp,
    /// Lossy, lossless or animated.
    WebP,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Bmp => "BMP",
            Self::WebP => "WebP",
        })
    }
}

/// Why an image file gave no pixels; always names the file.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file could not be read at all.
    #[error("cannot read image {}: {error}; check that it exists and is readable", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file was read, but what it holds cannot be decoded.
    #[error("cannot decode image {}: {error}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: DecodeError,
    },
}

impl ImageError {
    /// The file that the error is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Read { path, .. } | Self::Decode { path, .. } => path,
        }
    }
}

/// Why bytes could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The file is empty.
    #[error("the file is empty; fetch or copy it again")]
    Empty,
    /// The first bytes are those of no supported format.
    #[error(
        "not a supported image (it starts with {start}); JPEG, PNG, BMP and WebP are read, \
         recognised by content: convert it to one of them"
    )]
    Unrecognised {
        /// The first bytes, in hexadecimal.
        start: String,
    },
    /// The data end before the image does.
    #[error("the {format} data end too early: the file is truncated; fetch or copy it again")]
    Truncated {
        /// What the file claims to be.
        format: Format,
    },
    /// The data contradict the format.
    #[error("the {format} data are corrupt: {reason}; fetch or copy it again")]
    Corrupt {
        /// What the file claims to be.
        format: Format,
        /// What the decoder said.
        reason: String,
    },
    /// A variant of the format that is not read.
    #[error("{reason} is not supported in {format}; save it as an ordinary 8-bit RGB image")]
    Unsupported {
        /// The file's format.
        format: Format,
        /// The variant.
        reason: String,
    },
    /// The header says that there are no pixels.
    #[error("the {format} header says {width} x {height} pixels: the image has no area")]
    NoArea {
        /// The file's format.
        format: Format,
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// More pixels than [`MAX_PIXELS`].
    #[error(
        "the header says {width} x {height} pixels, more than the limit of {MAX_PIXELS}: it could be \
         a decompression bomb; scale the image down"
    )]
    TooLarge {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// The pixels do not fit into memory.
    #[error("{width} x {height} pixels do not fit into memory; use fewer workers")]
    OutOfMemory {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
}

/// Reads and decodes one image file. The format is told by the content, never by the extension.
///
/// # Errors
/// [`ImageError`], which names the file. Never panics, whatever the file holds.
pub fn decode(path: &Path) -> Result<RgbImage, ImageError> {
    let bytes = std::fs::read(path)
        .map_err(|error| ImageError::Read { path: path.to_path_buf(), error })?;
    decode_bytes(&bytes).map_err(|error| ImageError::Decode { path: path.to_path_buf(), error })
}

/// Decodes one image that is already in memory; see [`decode`].
///
/// # Errors
/// [`DecodeError`]. Never panics, whatever the bytes are.
pub fn decode_bytes(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    match recognise(bytes)? {
        Format::Jpeg => jpeg::decode(bytes),
        Format::Png => png::decode(bytes),
        Format::Bmp => bmp::decode(bytes),
        Format::WebP => webp::decode(bytes),
    }
}

/// The format, by the signatures that Pillow's plugins accept.
fn recognise(bytes: &[u8]) -> Result<Format, DecodeError> {
    match bytes {
        [] => Err(DecodeError::Empty),
        [0xFF, 0xD8, 0xFF, ..] => Ok(Format::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Ok(Format::Png),
        [b'B', b'M', ..] => Ok(Format::Bmp),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::WebP),
        _ => {
            let start: Vec<_> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
            Err(DecodeError::Unrecognised { start: start.join(" ") })
        }
    }
}

/// Width and height in pixels, checked once, straight from a header.
#[derive(Debug, Clone, Copy)]
struct Size {
    width: u32,
    height: u32,
}

impl Size {
    /// Refuses images without area and decompression bombs, before anything is allocated for them.
    fn checked(format: Format, width: u32, height: u32) -> Result<Self, DecodeError> {
        if width == 0 || height == 0 {
            return Err(DecodeError::NoArea { format, width, height });
        }
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(DecodeError::TooLarge { width, height });
        }
        Ok(Self { width, height })
    }

    fn pixels(self) -> usize {
        self.width as usize * self.height as usize
    }

    /// `len` zero bytes, or an error where an ordinary allocation would abort the process.
    fn buffer(self, len: usize) -> Result<Vec<u8>, DecodeError> {
        let mut buffer = Vec::new();
        buffer
            .try_reserve_exact(len)
            .map_err(|_| DecodeError::OutOfMemory { width: self.width, height: self.height })?;
        buffer.resize(len, 0);
        Ok(buffer)
    }

    /// A black image.
    fn black(self) -> Result<RgbImage, DecodeError> {
        let data = self.buffer(3 * self.pixels())?;
        Ok(RgbImage { width: self.width, height: self.height, data })
    }
}

impl RgbImage {
    /// The pixels, writable.
    fn pixels_mut(&mut self) -> &mut [[u8; 3]] {
        self.data.as_chunks_mut().0
    }
}
