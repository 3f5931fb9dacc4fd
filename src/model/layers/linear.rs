//! `torch.nn.Linear`.

use tch::{TchError, Tensor};

use super::{values, values_mut};
use crate::model::buffers;
use crate::model::kernels::{Epilogue, Isa, Product};
use crate::model::weights::{Dim, Weights};

/// `torch.nn.Linear`.
#[derive(Debug)]
pub(in crate::model) struct Linear {
    product: Product,
    bias: Vec<f32>,
}

impl Linear {
    /// Takes `path.weight` `[outputs, inputs]` and `path.bias` `[outputs]`.
    pub(in crate::model) fn load(
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
    pub(in crate::model) fn load_for_channels_last(
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
    pub(in crate::model) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.compute(x, false)
    }

    /// [`forward`](Self::forward), then ReLU.
    pub(in crate::model) fn forward_relu(&self, x: &Tensor) -> Result<Tensor, TchError> {
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
    pub(in crate::model) fn outputs(&self) -> i64 {
        self.bias.len() as i64
    }
}
