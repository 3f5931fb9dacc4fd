//! JPEG by libjpeg (the `mozjpeg` crate) with the settings that Pillow uses: libjpeg's defaults,
//! which are the accurate integer DCT, fancy upsampling and block smoothing.
//!
//! Damaged files are treated as Pillow treats them. Where the data end before the end-of-image
//! marker the file is truncated: an error. What libjpeg only warns about (a bad Huffman code, bytes
//! between markers, bytes after the end) is tolerated: the rest of the picture is still there,
//! training saw the same pixels, and Pillow does not even mention it. (Where damage makes
//! coefficients that no encoder writes, libjpeg's C code overflows differently from the SIMD code
//! in Pillow, and those few pixels differ; with `JSIMD_FORCENONE=1` Pillow gives these very pixels.)
//!
//! Deliberately absent: arithmetic coding and lossless JPEG (this libjpeg is built without them),
//! 12-bit samples, and thumbnails.

use std::any::Any;
use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use mozjpeg::{ColorSpace, Decompress};

use super::{DecodeError, Format, RgbImage, Size};

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let ran_out = Cell::new(false);
    let source = Source { rest: bytes, ran_out: &ran_out };
    // libjpeg reports fatal errors by unwinding out of C; the crate does that with `resume_unwind`,
    // which does not run the panic hook, so nothing is printed.
    let outcome = catch_unwind(AssertUnwindSafe(|| decompress(source)));
    match outcome {
        Ok(Ok(image)) => Ok(image),
        _ if ran_out.get() => Err(DecodeError::Truncated { format: Format::Jpeg }),
        Ok(Err(error)) => Err(error),
        Err(panic) => Err(fatal(message(panic.as_ref()))),
    }
}

fn decompress(source: Source<'_>) -> Result<RgbImage, DecodeError> {
    let decoder = Decompress::builder().from_reader(source).map_err(|e| corrupt(&e.to_string()))?;
    let size = Size::checked(Format::Jpeg, to_u32(decoder.width()), to_u32(decoder.height()))?;
    match decoder.components().len() {
        1 => gray(decoder, size),
        3 => rgb(decoder, size),
        4 => cmyk(decoder, size),
        n => Err(DecodeError::Unsupported {
            format: Format::Jpeg,
            reason: format!("an image of {n} components"),
        }),
    }
}

fn gray(decoder: Decompress<Source<'_>>, size: Size) -> Result<RgbImage, DecodeError> {
    let samples = scanlines(decoder, ColorSpace::JCS_GRAYSCALE, size, 1)?;
    let mut image = size.black()?;
    for (pixel, &y) in image.pixels_mut().iter_mut().zip(&samples) {
        *pixel = [y; 3];
    }
    Ok(image)
}

fn rgb(decoder: Decompress<Source<'_>>, size: Size) -> Result<RgbImage, DecodeError> {
    let data = scanlines(decoder, ColorSpace::JCS_RGB, size, 3)?;
    Ok(RgbImage { width: size.width, height: size.height, data })
}

/// Pillow reads every four-component JPEG as Adobe writes it, inverted, with or without Adobe's
/// marker. YCCK becomes CMYK within libjpeg.
fn cmyk(decoder: Decompress<Source<'_>>, size: Size) -> Result<RgbImage, DecodeError> {
    let samples = scanlines(decoder, ColorSpace::JCS_CMYK, size, 4)?;
    let mut image = size.black()?;
    for (pixel, inverted) in image.pixels_mut().iter_mut().zip(samples.as_chunks::<4>().0) {
        *pixel = inverted_cmyk_to_rgb(*inverted);
    }
    Ok(image)
}

/// Pillow's `cmyk2rgb` (libImaging/Convert.c) for inverted samples: each colour is
/// `(1 - k) - c * (1 - k)`, with its way of rounding a product of bytes.
fn inverted_cmyk_to_rgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let paper = u32::from(k);
    [c, m, y].map(|inverted| {
        let product = (255 - u32::from(inverted)) * paper + 128;
        // At most `paper`, so neither the difference nor the cast can overflow.
        (paper - (((product >> 8) + product) >> 8)) as u8
    })
}

/// All samples of the image in `space`, and the data after them up to the end-of-image marker,
/// which must be there.
fn scanlines(
    decoder: Decompress<Source<'_>>,
    space: ColorSpace,
    size: Size,
    components: usize,
) -> Result<Vec<u8>, DecodeError> {
    let mut buffer = size.buffer(size.pixels() * components)?;
    let failed = |e: io::Error| corrupt(&e.to_string());
    let mut started = decoder.to_colorspace(space).map_err(failed)?;
    started.read_scanlines_into(&mut buffer).map_err(failed)?;
    started.finish().map_err(failed)?;
    Ok(buffer)
}

/// The file's bytes. Asked for more than there are, it fails and remembers it; the crate would
/// otherwise pretend that the image ended there, and libjpeg would fill the rest with gray.
struct Source<'a> {
    rest: &'a [u8],
    ran_out: &'a Cell<bool>,
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest.is_empty() {
            self.ran_out.set(true);
            return Err(io::Error::other("truncated"));
        }
        Ok(self.rest)
    }

    fn consume(&mut self, amount: usize) {
        self.rest = &self.rest[amount.min(self.rest.len())..];
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.rest.read(buf)
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("libjpeg gave up without saying why");
    text.strip_prefix("libjpeg fatal error: ").unwrap_or(text)
}

/// libjpeg's fatal errors; those about features start with one of two words.
fn fatal(message: &str) -> DecodeError {
    if message.starts_with("Unsupported") || message.starts_with("Sorry") {
        let reason = format!("this variant (libjpeg: {message})");
        return DecodeError::Unsupported { format: Format::Jpeg, reason };
    }
    corrupt(message)
}

fn corrupt(reason: &str) -> DecodeError {
    DecodeError::Corrupt { format: Format::Jpeg, reason: reason.to_owned() }
}

/// JPEG dimensions have 16 bits; anything else becomes too large.
fn to_u32(dimension: usize) -> u32 {
    u32::try_from(dimension).unwrap_or(u32::MAX)
}
