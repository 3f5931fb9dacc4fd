//! Image files to pixels, equal to Pillow's.

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
