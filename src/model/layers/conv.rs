//! `torch.nn.Conv2d`, with the normalisation that follows it folded in.

use tch::{Kind, TchError, Tensor};

use super::{Activation, Param, channels_last, pixels, values, values_mut};
use crate::model::buffers;
use crate::model::kernels::{Convolution, Epilogue, Isa, Shape};
use crate::model::weights::{Dim, Weights};

/// How a convolution moves over its input; square throughout, as in every model here.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct Geometry {
    kernel: i64,
    stride: i64,
    padding: i64,
    dilation: i64,
    groups: i64,
}

impl Geometry {
    /// Padded by half of the kernel, so that the size is kept up to the stride.
    pub(in crate::model) const fn new(kernel: i64, stride: i64) -> Self {
        Self { kernel, stride, padding: kernel / 2, dilation: 1, groups: 1 }
    }

    /// With that many pixels of zeros at each side instead.
    pub(in crate::model) const fn padded(self, padding: i64) -> Self {
        Self { padding, ..self }
    }

    /// With that distance between the kernel's taps, and the padding that keeps the size
    /// (`Conv2dNormActivation`'s default).
    pub(in crate::model) const fn dilated(self, dilation: i64) -> Self {
        Self { dilation, padding: (self.kernel - 1) / 2 * dilation, ..self }
    }

    /// With the channels in that many groups that do not see each other; as many groups as channels is
    /// a depthwise convolution.
    pub(in crate::model) const fn grouped(self, groups: i64) -> Self {
        Self { groups, ..self }
    }

    /// Whether our own kernels compute it.
    fn is_plain(self) -> bool {
        self.groups == 1
            && self.dilation == 1
            && self.kernel % 2 == 1
            && self.padding == self.kernel / 2
    }
}

/// The batch normalisation that a checkpoint was trained with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::model) struct Norm {
    /// `BatchNorm2d` has a `num_batches_tracked`, `FrozenBatchNorm2d` does not.
    pub(in crate::model) tracked: bool,
    /// Added to the variance.
    pub(in crate::model) eps: f64,
}

impl Norm {
    /// The one at `path`: which of the two it is, its name says; `eps` no state dict holds.
    pub(in crate::model) fn at(weights: &Weights<'_>, path: &str, eps: f64) -> Self {
        Self { tracked: weights.contains(&format!("{path}.num_batches_tracked")), eps }
    }
}

/// A convolution and its bias.
#[derive(Debug)]
pub(in crate::model) struct Conv2d {
    inputs: i64,
    outputs: i64,
    computation: Computation,
}

#[derive(Debug)]
enum Computation {
    Own(Convolution, Vec<f32>),
    Libtorch { weight: Param, bias: Param, geometry: Geometry },
}

impl Conv2d {
    /// Takes `path.weight` `[outputs, inputs / groups, k, k]` and `path.bias` `[outputs]`.
    pub(in crate::model) fn load(
        weights: &Weights<'_>,
        path: &str,
        (outputs, inputs): (Dim, i64),
        geometry: Geometry,
    ) -> Result<Self, TchError> {
        Self::load_stacked(weights, &[(path, outputs)], inputs, geometry)
    }

    /// Takes `path.weight` alone: a convolution without a bias, before a normalisation that cannot be
    /// folded into it.
    pub(in crate::model) fn load_unbiased(
        weights: &Weights<'_>,
        path: &str,
        (outputs, inputs): (Dim, i64),
        geometry: Geometry,
    ) -> Result<Self, TchError> {
        let kernel = take_kernel(weights, path, outputs, inputs, geometry);
        let bias = Tensor::f_zeros([kernel.size()[0]], (Kind::Float, tch::Device::Cpu))?;
        Self::new(&kernel, bias, geometry)
    }

    /// Takes several convolutions of the same input, to be computed as one whose output channels are
    /// those of the first, then those of the second, and so on.
    pub(in crate::model) fn load_stacked(
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
    pub(in crate::model) fn load_normed(
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
        let (outputs, group_inputs, _, _) = kernel.size4()?;
        let inputs = group_inputs * geometry.groups;
        let computation = if geometry.is_plain() {
            let shape = Shape {
                outputs: outputs as usize,
                inputs: inputs as usize,
                kernel: geometry.kernel as usize,
                stride: geometry.stride as usize,
            };
            let values = Vec::<f64>::try_from(kernel.f_to_kind(Kind::Double)?.f_flatten(0, -1)?)?;
            let convolution = Convolution::new(Isa::detect(), shape, shape.algorithm(), &values);
            Computation::Own(convolution, Vec::try_from(bias)?)
        } else {
            let weight = channels_last(&kernel.f_to_kind(Kind::Float)?)?;
            Computation::Libtorch { weight: weight.into(), bias: bias.into(), geometry }
        };
        Ok(Self { inputs, outputs, computation })
    }

    /// `[1, inputs, h, w]` -> `[1, outputs, h', w']`; with the padding of [`Geometry::new`] these are
    /// `h / stride` and `w / stride`, rounded up.
    pub(in crate::model) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.compute(x, None, Activation::Identity)
    }

    /// [`forward`](Self::forward), then ReLU.
    pub(in crate::model) fn forward_relu(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.compute(x, None, Activation::Relu)
    }

    /// [`forward`](Self::forward), then any activation.
    pub(in crate::model) fn forward_activated(
        &self,
        x: &Tensor,
        activation: Activation,
    ) -> Result<Tensor, TchError> {
        self.compute(x, None, activation)
    }

    /// [`forward`](Self::forward), plus a tensor of the output's shape.
    pub(in crate::model) fn forward_add(
        &self,
        x: &Tensor,
        other: &Tensor,
    ) -> Result<Tensor, TchError> {
        self.compute(x, Some(other), Activation::Identity)
    }

    /// [`forward`](Self::forward), plus a tensor of the output's shape, then ReLU.
    pub(in crate::model) fn forward_add_relu(
        &self,
        x: &Tensor,
        other: &Tensor,
    ) -> Result<Tensor, TchError> {
        self.compute(x, Some(other), Activation::Relu)
    }

    fn compute(
        &self,
        x: &Tensor,
        other: Option<&Tensor>,
        activation: Activation,
    ) -> Result<Tensor, TchError> {
        let input = pixels(x)?;
        let (batch, _, _, channels) = input.size4()?;
        if (batch, channels) != (1, self.inputs) {
            let size = x.size();
            let what =
                format!("expected [1, {}, h, w] for a convolution, got {size:?}", self.inputs);
            return Err(TchError::Shape(what));
        }
        let other = other.map(pixels).transpose()?;
        let out = match &self.computation {
            Computation::Own(convolution, bias) => {
                own(convolution, bias, &input, other.as_ref(), activation)
            }
            Computation::Libtorch { weight, bias, geometry } => {
                let out = libtorchs(weight, bias, *geometry, &input)?;
                finish(out, other.as_ref(), activation)
            }
        };
        out?.f_permute([0, 3, 1, 2])
    }

    /// The number of output channels.
    pub(in crate::model) fn outputs(&self) -> i64 {
        self.outputs
    }
}

/// `input` and `other`: `[1, h, w, c]`, as is what is returned.
fn own(
    convolution: &Convolution,
    bias: &[f32],
    input: &Tensor,
    other: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor, TchError> {
    let shape = convolution.shape();
    let (_, height, width, _) = input.size4()?;
    let size = (height as usize, width as usize);
    let (out_height, out_width) = shape.out_size(size);
    let out_shape = [1, out_height as i64, out_width as i64, shape.outputs as i64];
    check_addend(other, &out_shape)?;
    let residual = other.map(values).transpose()?;
    let mut out = buffers::take(&out_shape)?;
    let relu = activation == Activation::Relu;
    let epilogue = Epilogue { bias: Some(bias), residual, relu };
    let numbers = values_mut(&mut out)?;
    convolution.forward(values(input)?, size, epilogue, numbers);
    if !relu {
        activation.apply(numbers);
    }
    Ok(out)
}

/// `[1, h, w, c]` -> `[1, h', w', c']`, as libtorch computes it.
fn libtorchs(
    weight: &Tensor,
    bias: &Tensor,
    geometry: Geometry,
    input: &Tensor,
) -> Result<Tensor, TchError> {
    let Geometry { stride, padding, dilation, groups, .. } = geometry;
    let map = input.f_permute([0, 3, 1, 2])?;
    let out = map.f_conv2d(weight, Some(bias), [stride; 2], [padding; 2], [dilation; 2], groups)?;
    pixels(&out)
}

/// What our own kernels do on the way to memory.
fn finish(
    mut out: Tensor,
    other: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor, TchError> {
    check_addend(other, &out.size())?;
    if let Some(other) = other {
        let sums = values_mut(&mut out)?.iter_mut().zip(values(other)?);
        sums.for_each(|(value, other)| *value += other);
    }
    activation.apply(values_mut(&mut out)?);
    Ok(out)
}

fn check_addend(other: Option<&Tensor>, expected: &[i64]) -> Result<(), TchError> {
    match other.map(Tensor::size).filter(|size| size != expected) {
        Some(size) => Err(TchError::Shape(format!("cannot add {size:?} to {expected:?}"))),
        None => Ok(()),
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
    weights.take(&format!("{path}.weight"), &[outputs, Some(inputs / geometry.groups), k, k])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{self, StateDict};
    use tch::Device;

    fn random(seed: u64, count: usize) -> Vec<f32> {
        let number = |i: u64| {
            let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(i + 1));
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count as u64).map(number).collect()
    }

    /// The layer's output and libtorch's in float64, for a map of 9x11 pixels.
    fn both(
        (outputs, inputs): (usize, usize),
        geometry: Geometry,
        activation: Activation,
    ) -> (Vec<f32>, Vec<f64>) {
        let k = geometry.kernel as usize;
        let shape = [outputs, inputs / geometry.groups as usize, k, k];
        let kernel = random(1, shape.iter().product());
        let bias = random(2, outputs);
        let dict: StateDict = [
            ("c.weight".to_owned(), checkpoint::Tensor::from_f32(&shape, kernel.clone())),
            ("c.bias".to_owned(), checkpoint::Tensor::from_f32(&[outputs], bias.clone())),
        ]
        .into();
        let weights = Weights::new(&dict);
        let layer = Conv2d::load(&weights, "c", (None, inputs as i64), geometry).unwrap();
        weights.finish().unwrap();
        let x = Tensor::from_slice(&random(3, inputs * 99)).reshape([1, inputs as i64, 9, 11]);
        let found = layer.forward_activated(&x, activation).unwrap();

        let double = |values: &[f32]| Tensor::from_slice(values).to_kind(Kind::Double);
        let size = shape.map(|n| n as i64);
        let Geometry { stride, padding, dilation, groups, .. } = geometry;
        let exact = x.to_kind(Kind::Double).conv2d(
            &double(&kernel).reshape(size),
            Some(&double(&bias)),
            [stride; 2],
            [padding; 2],
            [dilation; 2],
            groups,
        );
        assert_eq!(found.size(), exact.size(), "{geometry:?}");
        let exact = match activation {
            Activation::Hardswish => exact.hardswish(),
            Activation::Relu6 => exact.relu6(),
            _ => exact,
        };
        let flat = |tensor: &Tensor| tensor.contiguous().flatten(0, -1);
        (Vec::try_from(flat(&found)).unwrap(), Vec::try_from(flat(&exact)).unwrap())
    }

    #[test]
    fn every_geometry_that_a_model_has_is_libtorchs_in_float64() {
        let depthwise = |k, s| Geometry::new(k, s).grouped(24);
        for (channels, geometry) in [
            ((24, 24), depthwise(3, 1)),
            ((24, 24), depthwise(3, 2)),
            ((24, 24), depthwise(5, 1)),
            ((24, 24), depthwise(5, 2)),
            ((24, 24), depthwise(5, 1).dilated(2)),
            ((24, 24), Geometry::new(3, 1).grouped(6)),
            ((24, 24), Geometry::new(3, 2).grouped(6)),
            ((20, 12), Geometry::new(3, 1).dilated(6)),
            ((20, 12), Geometry::new(3, 1).padded(0)),
            ((20, 12), Geometry::new(3, 2).padded(1)),
            ((20, 12), Geometry::new(1, 1)),
        ] {
            for activation in [Activation::Identity, Activation::Relu6, Activation::Hardswish] {
                let (found, exact) = both(channels, geometry, activation);
                for (found, exact) in found.iter().zip(exact) {
                    let off = (f64::from(*found) - exact).abs();
                    assert!(off < 2e-5, "{geometry:?} {activation:?}: {found} {exact}");
                }
            }
        }
    }

    #[test]
    fn what_is_added_must_have_the_outputs_shape() {
        for geometry in [Geometry::new(3, 1), Geometry::new(3, 1).grouped(4)] {
            let shape = [4, 4 / geometry.groups as usize, 3, 3];
            let kernel = random(1, shape.iter().product());
            let dict: StateDict = [
                ("c.weight".to_owned(), checkpoint::Tensor::from_f32(&shape, kernel)),
                ("c.bias".to_owned(), checkpoint::Tensor::from_f32(&[4], vec![0.5; 4])),
            ]
            .into();
            let layer = Conv2d::load(&Weights::new(&dict), "c", (None, 4), geometry).unwrap();
            let map = |h, w| Tensor::ones([1, 4, h, w], (Kind::Float, Device::Cpu));
            let alone = layer.forward(&map(5, 6)).unwrap();
            let sum = layer.forward_add_relu(&map(5, 6), &map(5, 6)).unwrap();
            let expected = (&alone + 1.0).relu();
            assert!(sum.allclose(&expected, 1e-6, 1e-6, false), "{geometry:?}");
            assert!(layer.forward_add(&map(5, 6), &map(5, 5)).is_err(), "{geometry:?}");
            assert!(layer.forward(&map(5, 6).narrow(1, 0, 3)).is_err(), "{geometry:?}");
        }
    }
}
