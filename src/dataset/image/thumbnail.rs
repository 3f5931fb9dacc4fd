//! Small JPEGs of pictures, to be looked at: never what a detector sees.
//!
//! Equal pixels give equal bytes. Nothing but pixels is kept: no place, no camera, no time.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mozjpeg::{ColorSpace, Compress};

use super::RgbImage;

/// From best to smallest, until it is small enough.
const QUALITIES: [f32; 4] = [82.0, 65.0, 45.0, 20.0];

/// A picture to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thumbnail {
    /// Of the picture itself, pixels: boxes are in these.
    pub width: u32,
    /// Of the picture itself, pixels.
    pub height: u32,
    /// A JPEG with the same shape, smaller.
    pub jpeg: Vec<u8>,
}

/// The picture with a long side of at most `longest` pixels; of the qualities the best with at most
/// `most_bytes`, or the worst.
///
/// # Errors
/// What libjpeg said, as a sentence; the caller adds the image's name.
pub fn thumbnail(image: &RgbImage, longest: u32, most_bytes: usize) -> Result<Thumbnail, String> {
    let small = shrink(image, longest);
    let mut jpeg = Vec::new();
    for quality in QUALITIES {
        jpeg = encode(&small, quality)?;
        if jpeg.len() <= most_bytes {
            break;
        }
    }
    Ok(Thumbnail { width: image.width, height: image.height, jpeg })
}

/// Every pixel is the mean of those that it covers, whole ones.
fn shrink(image: &RgbImage, longest: u32) -> RgbImage {
    let long = image.width.max(image.height);
    if long <= longest {
        return image.clone();
    }
    let side = |length: u32| {
        let scaled = u64::from(length) * u64::from(longest) / u64::from(long);
        scaled.max(1) as u32
    };
    let (width, height) = (side(image.width), side(image.height));
    let (columns, rows) = (spans(image.width, width), spans(image.height, height));
    let mut data = Vec::with_capacity(3 * width as usize * height as usize);
    for row in &rows {
        for column in &columns {
            data.extend_from_slice(&mean(image, row.clone(), column.clone()));
        }
    }
    RgbImage { width, height, data }
}

/// What of `from` pixels each of `to` covers; `to` is not larger.
fn spans(from: u32, to: u32) -> Vec<std::ops::Range<usize>> {
    let edge = |i: u32| (u64::from(i) * u64::from(from) / u64::from(to)) as usize;
    (0..to).map(|i| edge(i)..edge(i + 1)).collect()
}

fn mean(
    image: &RgbImage,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
) -> [u8; 3] {
    let count = (rows.len() * columns.len()) as u64;
    let mut sums = [0_u64; 3];
    for row in rows {
        let start = row * image.width as usize;
        let pixels = &image.data[3 * (start + columns.start)..3 * (start + columns.end)];
        for pixel in pixels.as_chunks::<3>().0 {
            for (sum, value) in sums.iter_mut().zip(pixel) {
                *sum += u64::from(*value);
            }
        }
    }
    sums.map(|sum| ((sum + count / 2) / count) as u8)
}

fn encode(image: &RgbImage, quality: f32) -> Result<Vec<u8>, String> {
    // As for decoding: libjpeg's fatal errors unwind.
    let encoded = catch_unwind(AssertUnwindSafe(|| {
        let mut encoder = Compress::new(ColorSpace::JCS_RGB);
        encoder.set_size(image.width as usize, image.height as usize);
        encoder.set_quality(quality);
        // One scan: the search for the best ones is a third of the time, for one percent of the size.
        encoder.set_optimize_scans(false);
        let mut started = encoder.start_compress(Vec::new())?;
        started.write_scanlines(&image.data)?;
        started.finish()
    }));
    match encoded {
        Ok(Ok(jpeg)) => Ok(jpeg),
        Ok(Err(error)) => Err(format!("it cannot be written as a JPEG: {error}")),
        Err(_) => Err("it cannot be written as a JPEG".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode_bytes;
    use super::*;

    fn picture(width: u32, height: u32) -> RgbImage {
        let value = |i: u32| (i * 37 % 251) as u8;
        RgbImage { width, height, data: (0..3 * width * height).map(value).collect() }
    }

    #[test]
    fn a_thumbnail_has_the_shape_of_its_picture_and_is_as_small_as_it_must_be() {
        let wide = thumbnail(&picture(1000, 400), 100, usize::MAX).unwrap();
        assert_eq!((wide.width, wide.height), (1000, 400));
        let pixels = decode_bytes(&wide.jpeg).unwrap();
        assert_eq!((pixels.width, pixels.height), (100, 40));
        let fine = thumbnail(&picture(300, 300), 300, usize::MAX).unwrap();
        let coarse = thumbnail(&picture(300, 300), 300, fine.jpeg.len() / 2).unwrap();
        assert!(coarse.jpeg.len() < fine.jpeg.len());
        assert_eq!(fine, thumbnail(&picture(300, 300), 300, usize::MAX).unwrap());
    }

    /// A thin line does not vanish.
    #[test]
    fn every_pixel_counts() {
        let mut image = RgbImage { width: 4, height: 2, data: vec![0; 24] };
        image.data[..3].fill(200);
        let small = shrink(&image, 2);
        assert_eq!((small.width, small.height), (2, 1));
        assert_eq!(small.data, [50, 50, 50, 0, 0, 0]);
        let narrow = shrink(&RgbImage { width: 1, height: 900, data: vec![7; 2700] }, 9);
        assert_eq!((narrow.width, narrow.height, narrow.data), (1, 9, vec![7; 27]));
    }
}
