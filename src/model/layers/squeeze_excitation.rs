//! Squeeze-and-excitation (Hu et al. 2017, <https://arxiv.org/abs/1709.01507>), as
//! `torchvision.ops.SqueezeExcitation` with ReLU and Hardsigmoid, which is how MobileNetV3 uses it.

use tch::{TchError, Tensor};

use super::{Activation, Conv2d, Geometry, pixels, values, values_mut};
use crate::model::weights::Weights;

/// Scales each channel by a number between 0 and 1 that follows from the means of all channels.
#[derive(Debug)]
pub(in crate::model) struct SqueezeExcitation {
    fc1: Conv2d,
    fc2: Conv2d,
}

impl SqueezeExcitation {
    /// Takes `path.fc1` and `path.fc2`, 1x1 convolutions, for a map of `channels`.
    pub(in crate::model) fn load(
        weights: &Weights<'_>,
        path: &str,
        channels: i64,
    ) -> Result<Self, TchError> {
        let fc = |name: &str, outputs, inputs| {
            let path = format!("{path}.{name}");
            Conv2d::load(weights, &path, (outputs, inputs), Geometry::new(1, 1))
        };
        let fc1 = fc("fc1", None, channels)?;
        let fc2 = fc("fc2", Some(channels), fc1.outputs())?;
        Ok(Self { fc1, fc2 })
    }

    /// Scales `x`, `[1, c, h, w]`, in place; no one else may hold it.
    pub(in crate::model) fn forward(&self, x: Tensor) -> Result<Tensor, TchError> {
        let mut x = pixels(&x)?;
        let (_, _, _, channels) = x.size4()?;
        let means = means(values(&x)?, channels as usize);
        let squeezed = Tensor::f_from_slice(&means)?.f_reshape([1, channels, 1, 1])?;
        let hidden = self.fc1.forward_relu(&squeezed)?;
        let scale = self.fc2.forward_activated(&hidden, Activation::Hardsigmoid)?;
        let scale = pixels(&scale)?;
        let scale = values(&scale)?;
        for pixel in values_mut(&mut x)?.chunks_exact_mut(scale.len()) {
            pixel.iter_mut().zip(scale).for_each(|(value, factor)| *value *= factor);
        }
        x.f_permute([0, 3, 1, 2])
    }
}

/// Of each channel of `[h, w, c]`. Summed in float64: a map has thousands of pixels.
fn means(values: &[f32], channels: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f64; channels];
    for pixel in values.chunks_exact(channels) {
        sums.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let pixels = (values.len() / channels) as f64;
    sums.iter().map(|sum| (sum / pixels) as f32).collect()
}
