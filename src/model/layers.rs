//! Convolution and linear layers, with batch normalisation folded in when they are loaded.
//!
//! Activations are channels-last (NHWC in memory, NCHW to libtorch), which is what the fast CPU
//! convolutions want and what RoIAlign reads. What computes a layer is in [`super::kernels`].
//!
//! Deliberately absent: training; in inference batch normalisation is a per-channel affine map.

use std::ops::Deref;

use tch::{Device, Kind, TchError, Tensor};

use super::buffers;
use super::kernels::{Convolution, Epilogue, Isa, Product, Shape};
use super::weights::{Dim, Weights};

/// A parameter that libtorch reads: never written to again.
#[derive(Debug)]
pub(super) struct Param(Tensor);

// SAFETY: a `Param` is private to its owner, is never mutated after loading, does not require
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
    convolution: Convolution,
    bias: Vec<f32>,
}

impl Conv2d {
    /// Takes `path.weight` `[outputs, inputs, k, k]` and `path.bias` `[outputs]`.
    pub(super) fn load(
        weights: &Weights<'_>,
        path: &str,
        (outputs, inputs): (Dim, i64),
        geometry: Geometry,
    ) -> Result<Self, TchError> {
        Self::load_stacked(weights, &[(path, outputs)], inputs, geometry)
    }

    /// Takes several convolutions of the same input, to be computed as one whose output channels are
    /// those of the first, then those of the second, and so on.
    pub(super) fn load_stacked(
        weights: &Weights<'_>,
        parts: &[(&str, Dim)],
        inputs: i64,
        geometry: Geometry,
    ) -> Result<Self, TchError> {
        let (mut kernels, mut biases) = (Vec::new(), Vec::new());
        for &(path, outputs) in parts {
            let kernel = take_kernel(weights, path, outputs, inputs, geometry);
            biases.push(weights.take(&format!("{path}.bias"), &[Some(kernel.size()[0])]));
            kernels.push(kernel);
        }
        Self::new(&Tensor::f_cat(&kernels, 0)?, Tensor::f_cat(&biases, 0)?, geometry)
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
            weights.take(&format!("{norm_path}.{name}"), &[Some(channels)]).f_to_kind(Kind::Double)
        };
        let (gamma, beta, mean, var) =
            (part("weight")?, part("bias")?, part("running_mean")?, part("running_var")?);
        if norm.tracked {
            weights.skip(&format!("{norm_path}.num_batches_tracked"));
        }
        let scale = gamma.f_div(&var.f_add_scalar(norm.eps)?.f_sqrt()?)?;
        let bias = beta.f_sub(&mean.f_mul(&scale)?)?.f_to_kind(Kind::Float)?;
        let folded = kernel.f_to_kind(Kind::Double)?.f_mul(&scale.f_reshape([-1, 1, 1, 1])?)?;
        Self::new(&folded, bias, geometry)
    }

    fn new(kernel: &Tensor, bias: Tensor, geometry: Geometry) -> Result<Self, TchError> {
        let (outputs, inputs, _, _) = kernel.size4()?;
        let shape = Shape {
            outputs: outputs as usize,
            inputs: inputs as usize,
            kernel: geometry.kernel as usize,
            stride: geometry.stride as usize,
        };
        let values = Vec::<f64>::try_from(kernel.f_to_kind(Kind::Double)?.f_flatten(0, -1)?)?;
        let convolution = Convolution::new(Isa::detect(), shape, shape.algorithm(), &values);
        Ok(Self { convolution, bias: Vec::try_from(bias)? })
    }

    /// `[1, inputs, h, w]` -> `[1, outputs, h / stride, w / stride]`, sizes rounded up.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.compute(x, None, false)
    }

    /// [`forward`](Self::forward), then ReLU.
    pub(super) fn forward_relu(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.compute(x, None, true)
    }

    /// [`forward`](Self::forward), plus a tensor of the output's shape.
    pub(super) fn forward_add(&self, x: &Tensor, other: &Tensor) -> Result<Tensor, TchError> {
        self.compute(x, Some(other), false)
    }

    /// [`forward`](Self::forward), plus a tensor of the output's shape, then ReLU.
    pub(super) fn forward_add_relu(&self, x: &Tensor, other: &Tensor) -> Result<Tensor, TchError> {
        self.compute(x, Some(other), true)
    }

    fn compute(&self, x: &Tensor, other: Option<&Tensor>, relu: bool) -> Result<Tensor, TchError> {
        let shape = self.convolution.shape();
        let input = pixels(x)?;
        let (batch, height, width, channels) = input.size4()?;
        if (batch, channels) != (1, shape.inputs as i64) {
            let size = x.size();
            let what =
                format!("expected [1, {}, h, w] for a convolution, got {size:?}", shape.inputs);
            return Err(TchError::Shape(what));
        }
        let size = (height as usize, width as usize);
        let (out_height, out_width) = shape.out_size(size);
        let out_shape = [1, out_height as i64, out_width as i64, self.outputs()];
        let other = other.map(pixels).transpose()?;
        if let Some(other) = other.as_ref().filter(|other| other.size() != out_shape) {
            let size = other.size();
            return Err(TchError::Shape(format!("cannot add {size:?} to {out_shape:?}")));
        }
        let residual = other.as_ref().map(values).transpose()?;
        let mut out = buffers::take(&out_shape)?;
        let epilogue = Epilogue { bias: Some(&self.bias), residual, relu };
        self.convolution.forward(values(&input)?, size, epilogue, values_mut(&mut out)?);
        out.f_permute([0, 3, 1, 2])
    }

    /// The number of output channels.
    pub(super) fn outputs(&self) -> i64 {
        self.convolution.shape().outputs as i64
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
    product: Product,
    bias: Vec<f32>,
}

impl Linear {
    /// Takes `path.weight` `[outputs, inputs]` and `path.bias` `[outputs]`.
    pub(super) fn load(
        weights: &Weights<'_>,
        path: &str,
        outputs: Dim,
        inputs: i64,
    ) -> Result<Self, TchError> {
        let weight = weights.take(&format!("{path}.weight"), &[outputs, Some(inputs)]);
        Self::new(&weight, weights, path)
    }

    /// The same for a weight that was trained on inputs `[channels, space]`, to be used with
    /// `[space, channels]`.
    pub(super) fn load_for_channels_last(
        weights: &Weights<'_>,
        path: &str,
        outputs: Dim,
        (channels, space): (i64, i64),
    ) -> Result<Self, TchError> {
        let weight = weights.take(&format!("{path}.weight"), &[outputs, Some(channels * space)]);
        let weight = weight.f_reshape([-1, channels, space])?.f_transpose(1, 2)?;
        Self::new(&weight.f_contiguous()?.f_flatten(1, 2)?, weights, path)
    }

    fn new(weight: &Tensor, weights: &Weights<'_>, path: &str) -> Result<Self, TchError> {
        let (outputs, inputs) = weight.size2()?;
        let bias = weights.take(&format!("{path}.bias"), &[Some(outputs)]);
        let sizes = (outputs as usize, inputs as usize);
        let product = Product::new(Isa::detect(), sizes, values(weight)?);
        Ok(Self { product, bias: Vec::try_from(bias)? })
    }

    /// `[n, inputs]` -> `[n, outputs]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.compute(x, false)
    }

    /// [`forward`](Self::forward), then ReLU.
    pub(super) fn forward_relu(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.compute(x, true)
    }

    fn compute(&self, x: &Tensor, relu: bool) -> Result<Tensor, TchError> {
        let (n, inputs) = x.size2()?;
        if inputs != self.product.inputs() as i64 {
            let size = x.size();
            let what =
                format!("expected [n, {}] for a product, got {size:?}", self.product.inputs());
            return Err(TchError::Shape(what));
        }
        let mut out = buffers::take(&[n, self.outputs()])?;
        let x = x.f_contiguous()?;
        let epilogue = Epilogue { bias: Some(&self.bias), residual: None, relu };
        self.product.forward(values(&x)?, epilogue, values_mut(&mut out)?);
        Ok(out)
    }

    /// The number of outputs.
    pub(super) fn outputs(&self) -> i64 {
        self.bias.len() as i64
    }
}

/// `[n, c, h, w]` -> `[n, h, w, c]`, contiguous; without a copy if `x` is channels-last.
fn pixels(x: &Tensor) -> Result<Tensor, TchError> {
    x.f_permute([0, 2, 3, 1])?.f_contiguous()
}

/// The same tensor `[n, c, h, w]`, its channels next to each other in memory.
pub fn channels_last(x: &Tensor) -> Result<Tensor, TchError> {
    pixels(x)?.f_permute([0, 3, 1, 2])
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
