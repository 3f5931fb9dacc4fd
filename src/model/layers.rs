//! Convolution and linear layers, with batch normalisation folded in when they are loaded.
//!
//! Activations are channels-last (NHWC in memory, NCHW to libtorch), which is what the fast CPU
//! convolutions want and what RoIAlign reads.
//!
//! Deliberately absent: training; in inference batch normalisation is a per-channel affine map.

use std::ops::Deref;

use tch::{Device, Kind, TchError, Tensor};

use super::weights::{Dim, Weights};

/// A parameter of a loaded layer: never written to again.
#[derive(Debug)]
pub(super) struct Param(Tensor);

// SAFETY: a `Param` is private to a layer, is never mutated after loading, does not require
// gradients and hands out no owned alias; libtorch operators may read one tensor from several
// threads at once, and its reference counts are atomic.
unsafe impl Sync for Param {}

impl From<Tensor> for Param {
    fn from(tensor: Tensor) -> Self {
        Self(tensor)
    }
}

impl Deref for Param {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.0
    }
}

/// How a convolution moves over its input; square throughout, as in ResNet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) kernel: i64,
    pub(super) stride: i64,
}

impl Geometry {
    pub(super) const fn new(kernel: i64, stride: i64) -> Self {
        Self { kernel, stride }
    }
}

/// Which batch normalisation a checkpoint was trained with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Norm {
    /// `BatchNorm2d` has a `num_batches_tracked`, `FrozenBatchNorm2d` does not.
    pub(super) tracked: bool,
    /// Added to the variance.
    pub(super) eps: f64,
}

/// `torch.nn.Conv2d` with a bias; padding keeps the size up to the stride.
#[derive(Debug)]
pub(super) struct Conv2d {
    weight: Param,
    bias: Param,
    geometry: Geometry,
}

impl Conv2d {
    /// Takes `path.weight` `[outputs, inputs, k, k]` and `path.bias` `[outputs]`.
    pub(super) fn load(
        weights: &Weights<'_>,
        path: &str,
        (outputs, inputs): (Dim, i64),
        geometry: Geometry,
    ) -> Result<Self, TchError> {
        let weight = take_kernel(weights, path, outputs, inputs, geometry);
        let bias = weights.take(&format!("{path}.bias"), &[Some(weight.size()[0])]);
        Self::new(&weight, bias, geometry)
    }

    /// Takes `conv.weight` and the normalisation `norm.{weight,bias,running_mean,running_var}`, and
    /// folds the second into the first: `scale = weight / sqrt(running_var + eps)`, as
    /// `FrozenBatchNorm2d.forward` and `torch.nn.BatchNorm2d` in evaluation mode compute it. In
    /// float64, so that the fold costs one rounding per parameter.
    pub(super) fn load_normed(
        weights: &Weights<'_>,
        (conv, norm_path): (&str, &str),
        (outputs, inputs): (Dim, i64),
        geometry: Geometry,
        norm: Norm,
    ) -> Result<Self, TchError> {
        let kernel = take_kernel(weights, conv, outputs, inputs, geometry);
        let channels = kernel.size()[0];
        let part = |name: &str| {
            weights
                .take(&format!("{norm_path}.{name}"), &[Some(channels)])
                .f_to_kind(Kind::Double)
        };
        let (gamma, beta, mean, var) = (
            part("weight")?,
            part("bias")?,
            part("running_mean")?,
            part("running_var")?,
        );
        if norm.tracked {
            weights.skip(&format!("{norm_path}.num_batches_tracked"));
        }
        let scale = gamma.f_div(&var.f_add_scalar(norm.eps)?.f_sqrt()?)?;
        let bias = beta.f_sub(&mean.f_mul(&scale)?)?.f_to_kind(Kind::Float)?;
        let folded = kernel
            .f_to_kind(Kind::Double)?
            .f_mul(&scale.f_reshape([-1, 1, 1, 1])?)?;
        Self::new(&folded.f_to_kind(Kind::Float)?, bias, geometry)
    }

    fn new(weight: &Tensor, bias: Tensor, geometry: Geometry) -> Result<Self, TchError> {
        Ok(Self {
            weight: channels_last(weight)?.into(),
            bias: bias.into(),
            geometry,
        })
    }

    /// `[1, inputs, h, w]` -> `[1, outputs, h / stride, w / stride]`, sizes rounded up.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let Geometry { kernel, stride } = self.geometry;
        let padding = kernel / 2;
        x.f_conv2d(
            &self.weight,
            Some(&*self.bias),
            [stride, stride],
            [padding, padding],
            [1, 1],
            1,
        )
    }

    /// [`forward`](Self::forward), then ReLU.
    pub(super) fn forward_relu(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.forward(x)?.f_relu_()
    }

    /// The number of output channels.
    pub(super) fn outputs(&self) -> i64 {
        self.weight.size()[0]
    }
}

fn take_kernel(
    weights: &Weights<'_>,
    path: &str,
    outputs: Dim,
    inputs: i64,
    geometry: Geometry,
) -> Tensor {
    let k = Some(geometry.kernel);
    weights.take(&format!("{path}.weight"), &[outputs, Some(inputs), k, k])
}

/// `torch.nn.Linear`.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Param,
    bias: Param,
}

impl Linear {
    /// Takes `path.weight` `[outputs, inputs]` and `path.bias` `[outputs]`.
    pub(super) fn load(weights: &Weights<'_>, path: &str, outputs: Dim, inputs: i64) -> Self {
        let weight = weights.take(&format!("{path}.weight"), &[outputs, Some(inputs)]);
        let bias = weights.take(&format!("{path}.bias"), &[Some(weight.size()[0])]);
        Self {
            weight: weight.into(),
            bias: bias.into(),
        }
    }

    /// The same layer for an input that is laid out `[space, channels]` instead of
    /// `[channels, space]`.
    pub(super) fn for_channels_last(self, channels: i64, space: i64) -> Result<Self, TchError> {
        let weight = self
            .weight
            .f_reshape([-1, channels, space])?
            .f_transpose(1, 2)?;
        let weight = weight.f_contiguous()?.f_reshape([-1, space * channels])?;
        Ok(Self {
            weight: weight.into(),
            bias: self.bias,
        })
    }

    /// `[n, inputs]` -> `[n, outputs]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_linear(&self.weight, Some(&*self.bias))
    }

    /// The number of outputs.
    pub(super) fn outputs(&self) -> i64 {
        self.weight.size()[0]
    }
}

/// The same tensor `[n, c, h, w]`, its channels next to each other in memory.
pub fn channels_last(x: &Tensor) -> Result<Tensor, TchError> {
    x.f_permute([0, 2, 3, 1])?
        .f_contiguous()?
        .f_permute([0, 3, 1, 2])
}

/// An uninitialised float32 tensor.
pub(super) fn empty(size: &[i64]) -> Result<Tensor, TchError> {
    Tensor::f_empty(size, (Kind::Float, Device::Cpu))
}

/// The numbers of a contiguous float32 CPU tensor, without copying them.
pub(super) fn values(x: &Tensor) -> Result<&[f32], TchError> {
    check_plain(x)?;
    // SAFETY: `check_plain` made sure that the memory holds `numel` float32 in a row; it lives as
    // long as the tensor, and nothing writes to it while the tensor is borrowed.
    Ok(unsafe { std::slice::from_raw_parts(x.data_ptr().cast::<f32>(), x.numel()) })
}

/// Like [`values`], to write to.
pub(super) fn values_mut(x: &mut Tensor) -> Result<&mut [f32], TchError> {
    check_plain(x)?;
    // SAFETY: as in `values`; the tensor is borrowed mutably, and its callers own its storage alone.
    Ok(unsafe { std::slice::from_raw_parts_mut(x.data_ptr().cast::<f32>(), x.numel()) })
}

fn check_plain(x: &Tensor) -> Result<(), TchError> {
    if x.f_kind()? != Kind::Float
        || !x.is_contiguous()
        || x.device() != Device::Cpu
        || x.numel() == 0
    {
        let what = format!("expected a contiguous float32 tensor that is not empty, got {x:?}");
        return Err(TchError::Kind(what));
    }
    Ok(())
}
