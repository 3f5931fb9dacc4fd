//! PNG by the `png` crate, samples to 8-bit RGB by Pillow's rules (PngImagePlugin `_MODES`, then
//! `convert("RGB")`).
//!
//! Those rules: 1, 2 and 4 bits are spread over 0..255; of 16-bit RGB, RGBA and gray with alpha the
//! high byte is taken; **16-bit gray without alpha is clipped at 255**, because Pillow keeps it as a
//! 16-bit mode whose conversion clips; alpha and tRNS are dropped without blending; palette
//! entries that are missing are black.
//!
//! Stricter than Pillow with damaged files, whose pixels Pillow would give without a word: the
//! checksum of image data is verified, image data that decompress to too few rows are an error
//! (Pillow leaves the rest black), and a file that ends before its IEND chunk is truncated. A wrong
//! checksum of a chunk that does not affect pixels is tolerated.
//!
//! Deliberately absent: the frames of an APNG other than its default image.

use std::io::{BufRead, Cursor, ErrorKind, Seek};

use ::png::{BitDepth, ColorType, DecodeOptions, Decoder, DecodingError, Limits, Transformations};

use super::{DecodeError, Format, RgbImage, Size};

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let mut options = DecodeOptions::default();
    options.set_ignore_adler32(false);
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    let mut decoder = Decoder::new_with_options(Cursor::new(bytes), options);
    decoder.set_transformations(Transformations::IDENTITY);
    // The crate's default would refuse rows that are legal; `Size` bounds what is allocated.
    decoder.set_limits(Limits { bytes: usize::MAX });
    let header = decoder.read_header_info().map_err(failed)?;
    let size = Size::checked(Format::Png, header.width, header.height)?;

    let mut reader = decoder.read_info().map_err(failed)?;
    let len = reader.output_buffer_size().ok_or_else(|| corrupt("its rows are too long"))?;
    let mut samples = size.buffer(len)?;
    let frame = reader.next_frame(&mut samples).map_err(failed)?;
    if (frame.width, frame.height) != (size.width, size.height) {
        return Err(corrupt("its first frame is not of the image's size"));
    }
    let palette = reader.info().palette.as_deref().unwrap_or_default();
    to_rgb(&samples, frame.line_size, frame.color_type, frame.bit_depth, palette, size)
}

/// Width and height; reads no further than the header.
pub(super) fn size(reader: impl BufRead + Seek) -> Result<Size, DecodeError> {
    let mut decoder = Decoder::new(reader);
    let header = decoder.read_header_info().map_err(failed)?;
    Size::checked(Format::Png, header.width, header.height)
}

/// Applies one row converter to all rows of `samples`.
fn to_rgb(
    samples: &[u8],
    line_size: usize,
    color: ColorType,
    depth: BitDepth,
    palette: &[u8],
    size: Size,
) -> Result<RgbImage, DecodeError> {
    let mut image = size.black()?;
    let palette = Palette::new(palette);
    let rows = image.pixels_mut().chunks_exact_mut(size.width as usize);
    for (out, row) in rows.zip(samples.chunks_exact(line_size)) {
        match (color, depth) {
            (ColorType::Indexed, _) => each_packed(out, row, depth, |i| palette.0[usize::from(i)]),
            (ColorType::Grayscale, BitDepth::Sixteen) => each(out, row, clipped_gray),
            (ColorType::Grayscale, _) => {
                let scale = gray_scale(depth);
                each_packed(out, row, depth, |v| [v * scale; 3]);
            }
            (ColorType::GrayscaleAlpha, BitDepth::Sixteen) => {
                each(out, row, |&[y, _, _, _]: &[u8; 4]| [y; 3]);
            }
            (ColorType::GrayscaleAlpha, _) => each(out, row, |&[y, _]: &[u8; 2]| [y; 3]),
            (ColorType::Rgb, BitDepth::Sixteen) => {
                each(out, row, |&[r, _, g, _, b, _]: &[u8; 6]| [r, g, b]);
            }
            (ColorType::Rgb, _) => each(out, row, |&rgb: &[u8; 3]| rgb),
            (ColorType::Rgba, BitDepth::Sixteen) => {
                each(out, row, |&[r, _, g, _, b, _, _, _]: &[u8; 8]| [r, g, b]);
            }
            (ColorType::Rgba, _) => each(out, row, |&[r, g, b, _]: &[u8; 4]| [r, g, b]),
        }
    }
    Ok(image)
}

/// Pillow's `I;16` to `RGB`: whatever exceeds a byte is white.
fn clipped_gray(&[high, low]: &[u8; 2]) -> [u8; 3] {
    [if high == 0 { low } else { 255 }; 3]
}

/// What a gray sample of `depth` bits is multiplied with to reach 255.
fn gray_scale(depth: BitDepth) -> u8 {
    match depth {
        BitDepth::One => 255,
        BitDepth::Two => 85,
        BitDepth::Four => 17,
        BitDepth::Eight | BitDepth::Sixteen => 1,
    }
}

/// Pixels of `N` bytes each.
fn each<const N: usize>(out: &mut [[u8; 3]], row: &[u8], convert: impl Fn(&[u8; N]) -> [u8; 3]) {
    for (pixel, bytes) in out.iter_mut().zip(row.as_chunks::<N>().0) {
        *pixel = convert(bytes);
    }
}

/// Pixels of 1, 2, 4 or 8 bits, the first in the high bits.
fn each_packed(out: &mut [[u8; 3]], row: &[u8], depth: BitDepth, convert: impl Fn(u8) -> [u8; 3]) {
    let bits = depth as usize;
    let per_byte = 8 / bits;
    let mask = u8::MAX >> (8 - bits);
    for (pixels, byte) in out.chunks_mut(per_byte).zip(row) {
        for (i, pixel) in pixels.iter_mut().enumerate() {
            *pixel = convert((byte >> (8 - bits * (i + 1))) & mask);
        }
    }
}

/// 256 colours; those that the file does not give are black.
struct Palette([[u8; 3]; 256]);

impl Palette {
    fn new(bytes: &[u8]) -> Self {
        let mut colors = [[0; 3]; 256];
        for (color, entry) in colors.iter_mut().zip(bytes.as_chunks().0) {
            *color = *entry;
        }
        Self(colors)
    }
}

fn failed(error: DecodingError) -> DecodeError {
    match error {
        DecodingError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: Format::Png }
        }
        other => corrupt(&other.to_string()),
    }
}

fn corrupt(reason: &str) -> DecodeError {
    DecodeError::Corrupt { format: Format::Png, reason: reason.trim_end_matches('.').to_owned() }
}
