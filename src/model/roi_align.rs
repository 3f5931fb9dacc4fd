//! RoIAlign (He et al. 2017, <https://arxiv.org/abs/1703.06870>) over the levels of a pyramid:
//! `torchvision.ops.MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2)`, with
//! torchvision's `aligned=False`. A level without such a name, the subsampled last one, is not pooled from.
//!
//! Reads channels-last features, so that the inner loop runs over channels that lie side by side.
//!
//! One difference by intent: torchvision infers the levels' scales from the first image that a model
//! sees (`_setup_scales`), which for an image that is resized to fewer than 68 pixels can give
//! other ones, for it and for all later images. Here they always follow from the backbone's strides,
//! which are what torchvision infers from any larger image, and no image depends on another.

use tch::{TchError, Tensor};

use super::boxes::{Xyxy, area};
use super::buffers;
use super::layers::{channels_last, values, values_mut};

/// Bins per side of the pooled output.
pub const OUTPUT_SIZE: usize = 7;
/// Sampling points per side of a bin.
const SAMPLING_RATIO: usize = 2;
const SAMPLES: usize = SAMPLING_RATIO * SAMPLING_RATIO;
/// A RoI of this size, the square root of its area in pixels, ...
const CANONICAL_SCALE: f32 = 224.0;
/// ... is pooled from this level.
const CANONICAL_LEVEL: f64 = 4.0;

/// Pools the levels of a pyramid (each `[1, c, h, w]`) at `rois` -> `[n, 49, c]`, bins in rows. `strides`,
/// image pixels per feature pixel, are powers of two; levels beyond them are not pooled from.
///
/// # Errors
/// libtorch's.
pub fn multi_scale_roi_align(
    pyramid: &[Tensor],
    strides: &[usize],
    rois: &[Xyxy],
) -> Result<Tensor, TchError> {
    let channels = pyramid.first().map_or(0, |level| level.size()[1]);
    let bins = (OUTPUT_SIZE * OUTPUT_SIZE) as i64;
    let mut pooled = buffers::take(&[rois.len() as i64, bins, channels])?;
    if rois.is_empty() {
        return Ok(pooled);
    }
    let levels = roi_levels(rois, strides)?;
    let outputs = values_mut(&mut pooled)?;
    let row = (bins * channels) as usize;
    for (level, (features, &stride)) in pyramid.iter().zip(strides).enumerate() {
        let features = channels_last(features)?.f_permute([0, 2, 3, 1])?;
        let map = FeatureMap::new(&features, 1.0 / stride as f32)?;
        for (index, roi) in rois.iter().enumerate().filter(|&(index, _)| levels[index] == level) {
            map.pool(roi, &mut outputs[index * row..][..row]);
        }
    }
    Ok(pooled)
}

/// Which level each RoI is pooled from, 0 for the first: `torchvision.ops.poolers.LevelMapper`, equation 1
/// of the FPN paper. The logarithm is libtorch's, because a last bit decides.
///
/// As in torchvision a level is a power of two: of several levels of the same stride, as MobileNetV3 has
/// them, only the first is ever pooled from.
///
/// # Errors
/// libtorch's.
pub fn roi_levels(rois: &[Xyxy], strides: &[usize]) -> Result<Vec<usize>, TchError> {
    let exponent = |stride: Option<&usize>| stride.map_or(0.0, |stride| stride.ilog2() as f32);
    let (first, last) = (exponent(strides.first()), exponent(strides.last()));
    let ratios: Vec<f32> = rois.iter().map(|roi| area(roi).sqrt() / CANONICAL_SCALE).collect();
    let levels = Tensor::f_from_slice(&ratios)?
        .f_log2()?
        .f_add_scalar(CANONICAL_LEVEL)?
        .f_add_scalar(1e-6)?;
    let levels = Vec::<f32>::try_from(levels)?;
    Ok(levels.iter().map(|level| (level.floor().clamp(first, last) - first) as usize).collect())
}

/// One level's features in channels-last order.
struct FeatureMap<'a> {
    values: &'a [f32],
    height: usize,
    width: usize,
    channels: usize,
    scale: f32,
}

impl<'a> FeatureMap<'a> {
    /// `features`: `[1, h, w, c]`, contiguous.
    fn new(features: &'a Tensor, scale: f32) -> Result<Self, TchError> {
        let (_, height, width, channels) = features.size4()?;
        let [height, width, channels] = [height, width, channels].map(|size| size as usize);
        Ok(Self { values: values(features)?, height, width, channels, scale })
    }

    /// Averages the bilinear samples of each of the 49 bins: `roi_align_forward_kernel_impl`.
    fn pool(&self, roi: &Xyxy, output: &mut [f32]) {
        let [x1, y1, x2, y2] = roi.map(|side| side * self.scale);
        let rows = Axis::sample(y1, y2, self.height);
        let columns = Axis::sample(x1, x2, self.width);
        for (bin, output) in output.chunks_exact_mut(self.channels).enumerate() {
            output.fill(0.0);
            let (bin_y, bin_x) = (bin / OUTPUT_SIZE, bin % OUTPUT_SIZE);
            for y in &rows[bin_y * SAMPLING_RATIO..][..SAMPLING_RATIO] {
                for x in &columns[bin_x * SAMPLING_RATIO..][..SAMPLING_RATIO] {
                    self.add_sample(y, x, output);
                }
            }
            output.iter_mut().for_each(|value| *value /= SAMPLES as f32);
        }
    }

    /// Adds the bilinear interpolation at one point, for all channels.
    fn add_sample(&self, y: &Axis, x: &Axis, output: &mut [f32]) {
        if y.outside || x.outside {
            return;
        }
        let corner = |row: usize, column: usize| {
            let start = (row * self.width + column) * self.channels;
            &self.values[start..start + self.channels]
        };
        let (c1, c2) = (corner(y.low, x.low), corner(y.low, x.high));
        let (c3, c4) = (corner(y.high, x.low), corner(y.high, x.high));
        let (w1, w2) = (y.low_weight * x.low_weight, y.low_weight * x.high_weight);
        let (w3, w4) = (y.high_weight * x.low_weight, y.high_weight * x.high_weight);
        for ((((out, v1), v2), v3), v4) in output.iter_mut().zip(c1).zip(c2).zip(c3).zip(c4) {
            *out += w1 * v1 + w2 * v2 + w3 * v3 + w4 * v4;
        }
    }
}

/// A sampling point along one axis: the two pixels around it and their weights
/// (`pre_calc_for_bilinear_interpolate`).
#[derive(Clone, Copy, Default)]
struct Axis {
    low: usize,
    high: usize,
    low_weight: f32,
    high_weight: f32,
    /// More than a pixel outside of the map: counts as zero.
    outside: bool,
}

impl Axis {
    /// The sampling points of all bins of a RoI from `start` to `end`, in feature pixels.
    fn sample(start: f32, end: f32, size: usize) -> [Self; OUTPUT_SIZE * SAMPLING_RATIO] {
        // A RoI is at least one feature pixel long.
        let bin = (end - start).max(1.0) / OUTPUT_SIZE as f32;
        std::array::from_fn(|i| {
            let (index, step) = (i / SAMPLING_RATIO, i % SAMPLING_RATIO);
            let offset = (step as f32 + 0.5) * bin / SAMPLING_RATIO as f32;
            Self::at(start + index as f32 * bin + offset, size)
        })
    }

    fn at(position: f32, size: usize) -> Self {
        // Written so that NaN, for which every comparison is false, is outside.
        if !(-1.0..=size as f32).contains(&position) {
            return Self { outside: true, ..Self::default() };
        }
        let position = position.max(0.0);
        let low = position as usize;
        if low >= size - 1 {
            return Self {
                low: size - 1,
                high: size - 1,
                low_weight: 1.0,
                high_weight: 0.0,
                outside: false,
            };
        }
        let high_weight = position - low as f32;
        Self { low, high: low + 1, low_weight: 1.0 - high_weight, high_weight, outside: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tch::{Device, Kind};

    const STRIDES: [usize; 4] = [4, 8, 16, 32];

    fn pyramid(level: impl Fn(i64, i64) -> Tensor) -> Vec<Tensor> {
        [(64, 96), (32, 48), (16, 24), (8, 12)].map(|(h, w)| level(h, w)).into()
    }

    /// Inside of the image, and at least a feature pixel long: a shorter one is stretched to that, and
    /// may then reach beyond the map, where everything is zero.
    fn any_roi() -> impl Strategy<Value = Xyxy> {
        (0f32..380.0, 0f32..252.0, 4f32..384.0, 4f32..256.0)
            .prop_map(|(x, y, w, h)| [x, y, (x + w).min(384.0), (y + h).min(256.0)])
    }

    proptest! {
        #[test]
        fn a_constant_map_stays_constant(rois in proptest::collection::vec(any_roi(), 1..20)) {
            let levels = pyramid(|h, w| Tensor::full([1, 5, h, w], 0.75, (Kind::Float, Device::Cpu)));
            let pooled = multi_scale_roi_align(&levels, &STRIDES, &rois).unwrap();
            for value in values(&pooled).unwrap() {
                prop_assert!((value - 0.75).abs() < 1e-6, "{value}");
            }
        }

        /// Bilinear interpolation reproduces a linear map, so a bin's mean is its value at the middle.
        #[test]
        fn a_linear_map_gives_the_middle_of_each_bin(x in 8f32..100.0, y in 8f32..100.0, side in 30f32..100.0) {
            let ramp = |n: i64| Tensor::arange(n, (Kind::Float, Device::Cpu));
            let levels = pyramid(|h, w| {
                let (down, right) = (ramp(h).view([1, 1, h, 1]), ramp(w).view([1, 1, 1, w]));
                Tensor::cat(&[down.expand([1, 1, h, w], false), right.expand([1, 1, h, w], false)], 1)
            });
            // Below 112 pixels: pooled from P2, scale 1/4.
            let pooled = multi_scale_roi_align(&levels, &STRIDES, &[[x, y, x + side, y + side]]).unwrap();
            for (bin, found) in values(&pooled).unwrap().as_chunks::<2>().0.iter().enumerate() {
                let middle = |start: f32, index: usize| (start + side * (index as f32 + 0.5) / 7.0) / 4.0;
                let expected = [middle(y, bin / 7), middle(x, bin % 7)];
                for (found, expected) in found.iter().zip(expected) {
                    prop_assert!((found - expected).abs() < 1e-4, "bin {bin}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn the_level_follows_the_size() {
        let square = |side: f32| [0.0, 0.0, side, side];
        let rois = [1.0, 111.9, 112.0, 223.9, 224.0, 447.9, 448.0, 2000.0].map(square);
        assert_eq!(roi_levels(&rois, &STRIDES).unwrap(), [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(roi_levels(&rois, &[32, 32]).unwrap(), [0; 8]);
    }

    #[test]
    fn no_rois_give_an_empty_output() {
        let levels = pyramid(|h, w| Tensor::zeros([1, 5, h, w], (Kind::Float, Device::Cpu)));
        assert_eq!(multi_scale_roi_align(&levels, &STRIDES, &[]).unwrap().size(), [0, 49, 5]);
    }
}
