//! VGG-16 (Simonyan and Zisserman 2014, <https://arxiv.org/abs/1409.1556>) as SSD300 uses it (Liu et al. 2015,
//! <https://arxiv.org/abs/1512.02325>): `torchvision.models.detection.ssd.SSDFeatureExtractorVGG`.
//!
//! Widths are read from the state dict.
//! Deliberately absent: VGG with batch normalisation, and the further block of SSD512, which torchvision has no
//! model with.

use tch::{TchError, Tensor};

use crate::model::buffers::{self, give_back};
use crate::model::layers::{Conv2d, Geometry, Param, pixels, values, values_mut};
use crate::model::weights::Weights;

/// Where the convolutions of `backbone.features` are, up to conv4_3; a pooling lies before each group but the first.
const GROUPS: [&[usize]; 4] = [&[0, 2], &[5, 7], &[10, 12, 14], &[17, 19, 21]];
/// conv5_1 to conv5_3, in `backbone.extra.0`.
const CONV5: [usize; 3] = [1, 3, 5];
/// Stride of the second convolution of each later block; where it is 1 the convolution is not padded.
const STRIDES: [i64; 4] = [2, 2, 1, 1];
/// `torch.nn.functional.normalize`'s smallest length.
const EPS: f32 = 1e-12;

/// The feature extractor of `ssd300_vgg16`: six maps.
#[derive(Debug)]
pub struct SsdVgg {
    groups: Vec<Vec<Conv2d>>,
    /// What a pixel's channels are multiplied by after their length was made one.
    scale: Param,
    conv5: Vec<Conv2d>,
    /// fc6, dilated, and fc7.
    fc: [Conv2d; 2],
    /// conv8 to conv11.
    extra: Vec<[Conv2d; 2]>,
}

impl SsdVgg {
    /// Takes all of `backbone`.
    ///
    /// # Errors
    /// libtorch's; missing and misshapen parameters are left to [`Weights::finish`].
    pub fn load(weights: &Weights<'_>) -> Result<Self, TchError> {
        let mut width = 3;
        let mut conv = |path: &str, geometry| {
            let conv = Conv2d::load(weights, path, (None, width), geometry)?;
            width = conv.outputs();
            Ok::<_, TchError>(conv)
        };
        let three = Geometry::new(3, 1);
        let mut groups = Vec::new();
        for group in GROUPS {
            let load = |index| conv(&format!("backbone.features.{index}"), three);
            groups.push(group.iter().map(load).collect::<Result<Vec<_>, _>>()?);
        }
        let conv5 = CONV5.iter().map(|index| conv(&format!("backbone.extra.0.{index}"), three));
        let conv5 = conv5.collect::<Result<_, _>>()?;
        let fc = [
            conv("backbone.extra.0.7.1", three.dilated(6))?,
            conv("backbone.extra.0.7.3", Geometry::new(1, 1))?,
        ];
        let mut extra = Vec::new();
        for (i, stride) in STRIDES.into_iter().enumerate() {
            let second = Geometry::new(3, stride).padded(stride - 1);
            let path = |layer| format!("backbone.extra.{}.{layer}", i + 1);
            extra.push([conv(&path(0), Geometry::new(1, 1))?, conv(&path(2), second)?]);
        }
        let channels = groups.last().and_then(|group| group.last()).map(Conv2d::outputs);
        let scale = weights.take("backbone.scale_weight", &[channels]).into();
        Ok(Self { groups, scale, conv5, fc, extra })
    }

    /// Channels of the six maps.
    pub fn widths(&self) -> Vec<i64> {
        let conv4_3 = self.groups.last().and_then(|group| group.last()).map_or(0, Conv2d::outputs);
        let extra = self.extra.iter().map(|block| block[1].outputs());
        [conv4_3, self.fc[1].outputs()].into_iter().chain(extra).collect()
    }

    /// A batch `[1, 3, 300, 300]`, normalised -> maps of 38, 19, 10, 5, 3 and 1 pixels squared.
    ///
    /// # Errors
    /// libtorch's.
    pub fn forward(&self, batch: &Tensor) -> Result<Vec<Tensor>, TchError> {
        let (first, others) = self.groups.split_first().expect("VGG has groups");
        let mut x = run(first, batch)?;
        for (i, group) in others.iter().enumerate() {
            // The third pooling rounds up, to get the paper's 38 pixels.
            let pooled = x.f_max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], i == 2)?;
            give_back(std::mem::replace(&mut x, run(group, &pooled)?));
        }
        let mut maps = vec![self.rescaled(&x)?];
        let pooled = x.f_max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false)?;
        give_back(x);
        let conv5 = run(&self.conv5, &pooled)?;
        let pooled = conv5.f_max_pool2d([3, 3], [1, 1], [1, 1], [1, 1], false)?;
        give_back(conv5);
        maps.push(run(&self.fc, &pooled)?);
        for block in &self.extra {
            let next = run(block, maps.last().expect("two maps at least"))?;
            maps.push(next);
        }
        Ok(maps)
    }

    /// Each pixel's channels made to a vector of length one, then each channel scaled (Liu et al. 2015b, "ParseNet").
    fn rescaled(&self, map: &Tensor) -> Result<Tensor, TchError> {
        let map = pixels(map)?;
        let mut out = buffers::take(&map.size())?;
        let scale = values(&self.scale)?;
        let pixels = values(&map)?.chunks_exact(scale.len());
        for (pixel, out) in pixels.zip(values_mut(&mut out)?.chunks_exact_mut(scale.len())) {
            let squares: f64 = pixel.iter().map(|&value| f64::from(value).powi(2)).sum();
            let length = (squares.sqrt() as f32).max(EPS);
            let scaled = pixel.iter().zip(scale).map(|(value, scale)| scale * (value / length));
            out.iter_mut().zip(scaled).for_each(|(out, value)| *out = value);
        }
        out.f_permute([0, 3, 1, 2])
    }
}

/// Convolutions, each followed by ReLU.
fn run(convs: &[Conv2d], x: &Tensor) -> Result<Tensor, TchError> {
    let (first, others) = convs.split_first().expect("a block has a convolution");
    let mut out = first.forward_relu(x)?;
    for conv in others {
        let next = conv.forward_relu(&out)?;
        give_back(std::mem::replace(&mut out, next));
    }
    Ok(out)
}
