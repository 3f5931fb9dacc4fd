//! WebP by the `image-webp` crate. Lossless images are exact by the nature of the format. Lossy ones
//! depend on how chroma is upsampled: the crate's default does it as libwebp's, and every image
//! tried (see the fixtures) came out equal to the last bit, but the crate does not promise it.
//! Alpha is dropped without blending, as Pillow does.
//!
//! Deliberately absent: every frame of an animation but the first.

use std::io::{BufRead, Cursor, ErrorKind, Seek};

use image_webp::{DecodingError, WebPDecoder};

use super::{DecodeError, Format, RgbImage, Size};

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    refuse_truncated(bytes)?;
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    let (width, height) = decoder.dimensions();
    let size = Size::checked(Format::WebP, width, height)?;
    if decoder.is_animated() {
        // libwebp's animation decoder, which Pillow uses, ignores the file's background colour.
        decoder.set_background_color([0; 4]).map_err(failed)?;
    }
    if !decoder.has_alpha() {
        let mut image = size.black()?;
        decoder.read_image(&mut image.data).map_err(failed)?;
        return Ok(image);
    }
    let mut rgba = size.buffer(4 * size.pixels())?;
    decoder.read_image(&mut rgba).map_err(failed)?;
    let mut image = size.black()?;
    for (pixel, &[r, g, b, _]) in image.pixels_mut().iter_mut().zip(rgba.as_chunks::<4>().0) {
        *pixel = [r, g, b];
    }
    Ok(image)
}

/// Width and height, of an animation its canvas; decodes nothing.
pub(super) fn size(reader: impl BufRead + Seek) -> Result<Size, DecodeError> {
    let (width, height) = WebPDecoder::new(reader).map_err(failed)?.dimensions();
    Size::checked(Format::WebP, width, height)
}

/// The container's header says how many bytes follow it. libwebp insists on them all, and without
/// this check a cut would be reported as a corrupt bitstream.
fn refuse_truncated(bytes: &[u8]) -> Result<(), DecodeError> {
    let truncated = DecodeError::Truncated { format: Format::WebP };
    let (header, rest) = bytes.split_first_chunk::<8>().ok_or(truncated.clone())?;
    let [.., a, b, c, d] = *header;
    if (rest.len() as u64) < u64::from(u32::from_le_bytes([a, b, c, d])) {
        return Err(truncated);
    }
    Ok(())
}

fn failed(error: DecodingError) -> DecodeError {
    match error {
        DecodingError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: Format::WebP }
        }
        other => DecodeError::Corrupt { format: Format::WebP, reason: other.to_string() },
    }
}
