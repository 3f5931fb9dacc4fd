//! BMP, decoded here: the `image` crate rounds 16-bit pixels differently from Pillow, whose
//! BmpImagePlugin this follows: 1, 4, 8, 16, 24 and 32 bits, bottom-up or top-down, RLE4 and RLE8,
//! bit fields, and the OS/2 header. Alpha is dropped.
//!
//! Pillow's habits that are kept: palette entries that are missing are black, unless the palette is
//! the gray ramp, which then continues; an empty RLE line is no line at all. Not kept, because what
//! comes out is garbage: Pillow reads 4- and 8-bit pixels as single bits when the palette is just
//! black and white, and 4-bit pixels as bytes when it is the gray ramp.
//!
//! Deliberately absent: JPEG and PNG inside BMP, Huffman and 24-bit RLE (OS/2), 2 bits, and bit
//! fields other than 5-5-5, 5-6-5 and whole bytes; Pillow reads none of them.

use super::{DecodeError, Format, RgbImage, Size};

const FILE_HEADER: usize = 14;
/// Where the part of the file ends that [`size`] needs.
pub(super) const DIMENSIONS_END: usize = 34;
const RAW: u32 = 0;
const RLE8: u32 = 1;
const RLE4: u32 = 2;
const BITFIELDS: u32 = 3;

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let input = Input(bytes);
    let header = Header::read(input)?;
    match (header.compression, header.bits) {
        (RAW, 1 | 4 | 8) => header.indexed(input),
        (RAW | BITFIELDS, 16 | 24 | 32) => header.direct(input),
        (RLE8 | RLE4, 4 | 8) => header.run_lengths(input),
        (compression, bits) => {
            Err(unsupported(format!("compression {compression} of {bits}-bit pixels")))
        }
    }
}

/// Width and height from the first bytes of the file: at least [`DIMENSIONS_END`] of them, or all.
pub(super) fn size(start: &[u8]) -> Result<Size, DecodeError> {
    let input = Input(start);
    let header = match input.u32(FILE_HEADER)? {
        12 => Header::read_core(input)?,
        _ => Header::read_info(input)?,
    };
    Ok(header.size)
}

/// The file's bytes; reading past the end is an error.
#[derive(Clone, Copy)]
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn slice(self, at: usize, len: usize) -> Result<&'a [u8], DecodeError> {
        at.checked_add(len)
            .and_then(|end| self.0.get(at..end))
            .ok_or(DecodeError::Truncated { format: Format::Bmp })
    }

    fn u16(self, at: usize) -> Result<u32, DecodeError> {
        let bytes = self.slice(at, 2)?;
        Ok(u32::from(bytes[0]) | u32::from(bytes[1]) << 8)
    }

    fn u32(self, at: usize) -> Result<u32, DecodeError> {
        Ok(self.u16(at)? | self.u16(at + 2)? << 16)
    }
}

struct Header {
    size: Size,
    top_down: bool,
    bits: u32,
    compression: u32,
    /// Where the pixels start.
    offset: usize,
    /// The colour of each index; empty above 8 bits.
    palette: Vec<[u8; 3]>,
    /// Where red, green and blue are within a pixel; only for bit fields.
    masks: [u32; 3],
}

impl Header {
    fn read(input: Input<'_>) -> Result<Self, DecodeError> {
        let header_size = input.u32(FILE_HEADER)? as usize;
        let mut header = match header_size {
            12 => Self::read_core(input)?,
            40 | 52 | 56 | 64 | 108 | 124 => Self::read_info(input)?,
            n => return Err(unsupported(format!("a header of {n} bytes"))),
        };
        if !matches!(header.bits, 1 | 4 | 8 | 16 | 24 | 32) {
            return Err(unsupported(format!("a pixel of {} bits", header.bits)));
        }
        let mut end = FILE_HEADER + header_size;
        if header.compression == BITFIELDS {
            // A longer header has the masks inside, where they follow a short one.
            let at = FILE_HEADER + 40;
            header.masks = [input.u32(at)?, input.u32(at + 4)?, input.u32(at + 8)?];
            end = end.max(at + 12);
        }
        header.offset = input.u32(10)? as usize;
        if header.bits <= 8 {
            end += header.read_palette(input, header_size, end)?;
        }
        if header.offset == 0 {
            header.offset = end;
        }
        Ok(header)
    }

    /// OS/2's BITMAPCOREHEADER.
    fn read_core(input: Input<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            size: Size::checked(Format::Bmp, input.u16(18)?, input.u16(20)?)?,
            top_down: false,
            bits: input.u16(24)?,
            compression: RAW,
            offset: 0,
            palette: Vec::new(),
            masks: [0; 3],
        })
    }

    /// BITMAPINFOHEADER and what later grew out of it.
    fn read_info(input: Input<'_>) -> Result<Self, DecodeError> {
        let height = input.u32(22)?;
        // Pillow's test for a negative height.
        let top_down = height >> 24 == 0xFF;
        let height = if top_down { height.wrapping_neg() } else { height };
        Ok(Self {
            size: Size::checked(Format::Bmp, input.u32(18)?, height)?,
            top_down,
            bits: input.u16(28)?,
            compression: input.u32(30)?,
            offset: 0,
            palette: Vec::new(),
            masks: [0; 3],
        })
    }

    /// Fills `palette` from what starts at `at`; returns its length in bytes.
    fn read_palette(
        &mut self,
        input: Input<'_>,
        header_size: usize,
        at: usize,
    ) -> Result<usize, DecodeError> {
        let entry = if header_size == 12 { 3 } else { 4 };
        let said = if header_size == 12 { 0 } else { input.u32(46)? as usize };
        let colors = if said == 0 { 1 << self.bits } else { said };
        if colors > 256 {
            return Err(unsupported(format!("a palette of {colors} colours")));
        }
        if self.offset == FILE_HEADER + header_size {
            // Written by programs that forget the palette when they say where the pixels start.
            self.offset += colors * entry;
        }
        let bytes = input.slice(at, colors * entry)?;
        self.palette = bytes.chunks_exact(entry).map(|c| [c[2], c[1], c[0]]).collect();
        let ramp = (0..=255).map(|v| [v; 3]);
        let is_ramp = self.palette.iter().copied().eq(ramp.clone().take(colors));
        let missing =
            if is_ramp { ramp.skip(colors).collect() } else { vec![[0; 3]; 256 - colors] };
        self.palette.extend(missing);
        Ok(colors * entry)
    }

    /// One row's bytes, without the padding; `row` counts from the top of the picture.
    fn row<'a>(&self, input: Input<'a>, row: usize) -> Result<&'a [u8], DecodeError> {
        let bits = self.size.width as usize * self.bits as usize;
        let stride = bits.div_ceil(32) * 4;
        let stored = if self.top_down { row } else { self.size.height as usize - 1 - row };
        let start = self.offset.saturating_add(stride * stored);
        input.slice(start, bits.div_ceil(8))
    }

    /// A black image, once it is sure that the file holds all of its rows: a damaged header must not
    /// cost the memory that it asks for.
    fn black(&self, input: Input<'_>) -> Result<RgbImage, DecodeError> {
        self.row(input, 0)?;
        self.row(input, self.size.height as usize - 1)?;
        self.size.black()
    }

    fn indexed(&self, input: Input<'_>) -> Result<RgbImage, DecodeError> {
        let mut image = self.black(input)?;
        let bits = self.bits as usize;
        let mask = u8::MAX >> (8 - bits);
        let rows = image.pixels_mut().chunks_exact_mut(self.size.width as usize);
        for (y, out) in rows.enumerate() {
            for (pixels, byte) in out.chunks_mut(8 / bits).zip(self.row(input, y)?) {
                for (i, pixel) in pixels.iter_mut().enumerate() {
                    let index = (byte >> (8 - bits * (i + 1))) & mask;
                    *pixel = self.palette[usize::from(index)];
                }
            }
        }
        Ok(image)
    }

    fn direct(&self, input: Input<'_>) -> Result<RgbImage, DecodeError> {
        let channels = self.channels()?;
        let mut image = self.black(input)?;
        let bytes_per_pixel = self.bits as usize / 8;
        let rows = image.pixels_mut().chunks_exact_mut(self.size.width as usize);
        for (y, out) in rows.enumerate() {
            for (pixel, bytes) in
                out.iter_mut().zip(self.row(input, y)?.chunks_exact(bytes_per_pixel))
            {
                let value = bytes.iter().rev().fold(0, |sum, &b| sum << 8 | u32::from(b));
                *pixel = channels.map(|channel| channel.of(value));
            }
        }
        Ok(image)
    }

    /// Where red, green and blue are within a pixel.
    fn channels(&self) -> Result<[Channel; 3], DecodeError> {
        const WORD: [u32; 3] = [0x7C00, 0x3E0, 0x1F];
        const WORD_565: [u32; 3] = [0xF800, 0x7E0, 0x1F];
        const BYTES: [u32; 3] = [0xFF_0000, 0xFF00, 0xFF];
        let masks = match (self.compression, self.bits) {
            (RAW, 16) => WORD,
            (RAW, _) => BYTES,
            (_, 16) if [WORD, WORD_565].contains(&self.masks) => self.masks,
            // Some programs leave the masks out.
            (_, 32) if self.masks == [0; 3] => BYTES,
            (_, 24 | 32) if self.masks.iter().all(|&m| is_whole_byte(m)) => self.masks,
            _ => return Err(unsupported(format!("the bit fields {:x?}", self.masks))),
        };
        Ok(masks.map(Channel::new))
    }

    fn run_lengths(&self, input: Input<'_>) -> Result<RgbImage, DecodeError> {
        let codes = input.0.get(self.offset..).unwrap_or_default();
        let indices = Runs { codes, at: 0, offset: self.offset }
            .expand(self.size, self.compression == RLE4)?;
        let mut image = self.size.black()?;
        let width = self.size.width as usize;
        let height = self.size.height as usize;
        let rows = image.pixels_mut().chunks_exact_mut(width);
        for (y, out) in rows.enumerate() {
            let stored = if self.top_down { y } else { height - 1 - y };
            for (pixel, &index) in out.iter_mut().zip(&indices[stored * width..]) {
                *pixel = self.palette[usize::from(index)];
            }
        }
        Ok(image)
    }
}

fn is_whole_byte(mask: u32) -> bool {
    mask != 0 && mask.trailing_zeros().is_multiple_of(8) && mask >> mask.trailing_zeros() == 0xFF
}

/// One colour's bits within a pixel.
#[derive(Clone, Copy)]
struct Channel {
    shift: u32,
    max: u32,
}

impl Channel {
    fn new(mask: u32) -> Self {
        let shift = mask.trailing_zeros();
        Self { shift, max: mask >> shift }
    }

    /// 0..=255, rounded down as Pillow's unpackers do.
    fn of(self, pixel: u32) -> u8 {
        let value = (pixel >> self.shift) & self.max;
        // Whole bytes are by far the most common; spare them the division.
        if self.max == 255 { value as u8 } else { (value * 255 / self.max) as u8 }
    }
}

/// The codes of a run-length-encoded bitmap.
struct Runs<'a> {
    codes: &'a [u8],
    at: usize,
    /// Of the first code in the file: absolute runs are aligned to even file positions.
    offset: usize,
}

impl Runs<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = self.codes.get(self.at).copied();
        self.at += 1;
        byte
    }

    /// One index per pixel, in stored order. Indices beyond a short palette stay as they are.
    fn expand(mut self, size: Size, rle4: bool) -> Result<Vec<u8>, DecodeError> {
        let width = size.width as usize;
        let total = size.pixels();
        let mut out = Vec::new();
        let mut x = 0;
        while out.len() < total {
            let (Some(count), Some(value)) = (self.byte(), self.byte()) else {
                break;
            };
            match (count, value) {
                (0, 0) => {
                    out.resize(out.len().next_multiple_of(width), 0);
                    x = 0;
                }
                (0, 1) => break,
                (0, 2) => {
                    let (Some(right), Some(up)) = (self.byte(), self.byte()) else {
                        break;
                    };
                    let skipped = usize::from(right) + usize::from(up) * width;
                    out.resize(total.min(out.len() + skipped), 0);
                    x = out.len() % width;
                }
                (0, count) => {
                    let count = usize::from(count);
                    let wanted = count.min(total - out.len());
                    if !self.absolute(wanted, rle4, &mut out) {
                        break;
                    }
                    x += count;
                }
                (count, value) => {
                    let count = usize::from(count).min(width.saturating_sub(x));
                    let pair = if rle4 { [value >> 4, value & 15] } else { [value; 2] };
                    out.extend((0..count).map(|i| pair[i % 2]));
                    x += count;
                }
            }
        }
        if out.len() < total {
            return Err(DecodeError::Truncated { format: Format::Bmp });
        }
        Ok(out)
    }

    /// Copies `count` pixels as they stand, and the alignment after them; false at the end.
    fn absolute(&mut self, count: usize, rle4: bool, out: &mut Vec<u8>) -> bool {
        let bytes = if rle4 { count.div_ceil(2) } else { count };
        let Some(literal) = self.codes.get(self.at..self.at + bytes) else {
            return false;
        };
        self.at += bytes;
        if rle4 {
            out.extend(literal.iter().flat_map(|b| [b >> 4, b & 15]).take(count));
        } else {
            out.extend_from_slice(literal);
        }
        self.at += (self.offset + self.at) % 2;
        true
    }
}

fn unsupported(reason: String) -> DecodeError {
    DecodeError::Unsupported { format: Format::Bmp, reason }
}
