//! Convolution and linear layers, with batch normalisation folded in when they are loaded.
//!
//! Maps are channels-last (NHWC in memory, NCHW to libtorch), which is what the fast CPU convolutions
//! want and what RoIAlign reads. What computes a layer is in [`super::kernels`]; shapes that few models
//! have (grouped, dilated, padded otherwise than to the same size) are left to libtorch.
//!
//! Deliberately absent: training; in inference batch normalisation is a per-channel affine map.

mod activation;
mod conv;
mod linear;
mod squeeze_excitation;

use std::ops::Deref;

use tch::{Device, Kind, TchError, Tensor};

pub(super) use activation::Activation;
pub(super) use conv::{Conv2d, Geometry, Norm};
pub(super) use linear::Linear;
pub(super) use squeeze_excitation::SqueezeExcitation;

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

/// `[n, c, h, w]` -> `[n, h, w, c]`, contiguous; without a copy if `x` is channels-last.
pub(super) fn pixels(x: &Tensor) -> Result<Tensor, TchError> {
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
