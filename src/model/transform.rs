//! From pixels to the network's input and back:
//! `torchvision.models.detection.transform.GeneralizedRCNNTransform` in evaluation mode.
//!
//! Deliberately absent: batches of several images (padding would make one depend on another).

use tch::{Device, Kind, TchError, Tensor};

use super::boxes::Xyxy;
use super::layers::{Param, channels_last};
use crate::dataset::image::RgbImage;

/// ImageNet's mean of R, G and B, of values in 0..1.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's standard deviation of R, G and B.
const STD: [f32; 3] = [0.229, 0.224, 0.225];
/// The batch is padded to multiples of this: the stride of the last backbone level.
const SIZE_DIVISIBLE: usize = 32;

/// Normalises, resizes and pads.
#[derive(Debug)]
pub struct Transform {
    size: Size,
    mean: Param,
    std: Param,
}

/// How large an image becomes.
#[derive(Debug, Clone, Copy)]
enum Size {
    /// Its shorter side `min`, or its longer one `max` where that is smaller; then padded.
    Limited { min: usize, max: usize },
    /// Both sides, whatever its shape; not padded.
    Fixed(usize),
}

/// What the network sees of one image.
#[derive(Debug)]
pub struct Transformed {
    /// `[1, 3, h, w]`, channels-last, zero-padded at the right and bottom.
    pub batch: Tensor,
    /// `(height, width)` before padding.
    pub size: (usize, usize),
}

impl Transform {
    /// Resizes so that the shorter side is `min_size` pixels long, or the longer one `max_size` where
    /// that is smaller.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(min_size: usize, max_size: usize) -> Result<Self, TchError> {
        Self::of(Size::Limited { min: min_size, max: max_size }, MEAN, STD)
    }

    /// Resizes to a square of that side, pixels (`fixed_size`), and normalises by a mean and standard deviation
    /// of R, G and B, of values in 0..1.
    ///
    /// # Errors
    /// libtorch's.
    pub fn fixed(side: usize, mean: [f32; 3], std: [f32; 3]) -> Result<Self, TchError> {
        Self::of(Size::Fixed(side), mean, std)
    }

    fn of(size: Size, mean: [f32; 3], std: [f32; 3]) -> Result<Self, TchError> {
        let channels = |values: [f32; 3]| Tensor::f_from_slice(&values)?.f_reshape([3, 1, 1]);
        Ok(Self { size, mean: channels(mean)?.into(), std: channels(std)?.into() })
    }

    /// The size of an image of `(height, width)` after resizing, as eager torchvision computes it:
    /// the scale in float64, the product cut off (`_resize_image_and_masks`, `interpolate` with
    /// `recompute_scale_factor`).
    pub fn resized(&self, (height, width): (usize, usize)) -> (usize, usize) {
        let (min, max) = match self.size {
            Size::Limited { min, max } => (min, max),
            Size::Fixed(side) => return (side, side),
        };
        let (short, long) = (height.min(width) as f64, height.max(width) as f64);
        let scale = (min as f64 / short).min(max as f64 / long);
        ((height as f64 * scale) as usize, (width as f64 * scale) as usize)
    }

    /// Runs the transform on one image.
    ///
    /// # Errors
    /// libtorch's; and where a side would be shorter than a pixel.
    pub fn forward(&self, image: &RgbImage) -> Result<Transformed, TchError> {
        let size @ (height, width) = self.resized((image.height as usize, image.width as usize));
        if height == 0 || width == 0 {
            let what = format!(
                "an image of {}x{} pixels vanishes when it is resized",
                image.width, image.height
            );
            return Err(TchError::Shape(what));
        }
        let normalized = to_tensor(image)?.f_sub(&self.mean)?.f_div(&self.std)?.f_unsqueeze(0)?;
        let resized =
            normalized.f_upsample_bilinear2d([height as i64, width as i64], false, None, None)?;
        if let Size::Fixed(_) = self.size {
            return Ok(Transformed { batch: channels_last(&resized)?, size });
        }
        let padding = |side: usize| (side.next_multiple_of(SIZE_DIVISIBLE) - side) as i64;
        let batch = resized.f_constant_pad_nd([0, padding(width), 0, padding(height)])?;
        Ok(Transformed { batch: channels_last(&batch)?, size })
    }
}

/// Pixels to float32 `[3, h, w]` in 0..1, contiguous: `torchvision.transforms.functional.to_tensor`.
///
/// # Errors
/// libtorch's, and where the image's buffer does not fit its size.
pub(super) fn to_tensor(image: &RgbImage) -> Result<Tensor, TchError> {
    let (height, width) = (i64::from(image.height), i64::from(image.width));
    let interleaved = Tensor::f_from_slice(&image.data)?.f_reshape([height, width, 3])?;
    interleaved
        .f_permute([2, 0, 1])?
        .f_contiguous()?
        .f_to_device(Device::Cpu)?
        .f_to_kind(Kind::Float)?
        .f_div_scalar(255)
}

/// Maps boxes from the resized image to the original one: `transform.resize_boxes`. Sizes are
/// `(height, width)`.
pub fn resize_boxes(boxes: &mut [Xyxy], from: (usize, usize), to: (usize, usize)) {
    let ratio_y = to.0 as f32 / from.0 as f32;
    let ratio_x = to.1 as f32 / from.1 as f32;
    for [x1, y1, x2, y2] in boxes {
        *x1 *= ratio_x;
        *x2 *= ratio_x;
        *y1 *= ratio_y;
        *y2 *= ratio_y;
    }
}
