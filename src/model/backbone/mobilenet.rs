//! MobileNetV3-Large (Howard et al. 2019, <https://arxiv.org/abs/1905.02244>) up to its last convolution:
//! `torchvision.models.mobilenetv3`, as `_mobilenet_extractor` cuts it.
//!
//! Widths, and which blocks expand, squeeze or are added to their input, are read from the state dict;
//! strides, activations and kernels are the architecture's.
//! Deliberately absent: MobileNetV3-Small, which torchvision has no detector with, and the classifier.

use tch::{TchError, Tensor};

use super::BODY;
use crate::model::ModelError;
use crate::model::buffers::give_back;
use crate::model::layers::{Activation, Conv2d, Geometry, Norm, SqueezeExcitation};
use crate::model::weights::{Dim, Weights};

/// What a block's names and shapes do not say.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct BlockShape {
    /// Side of the depthwise kernel.
    pub(in crate::model) kernel: i64,
    /// Of the depthwise convolution.
    pub(in crate::model) stride: i64,
    /// What follows the first two convolutions.
    pub(in crate::model) activation: Activation,
}

const fn relu(kernel: i64, stride: i64) -> BlockShape {
    BlockShape { kernel, stride, activation: Activation::Relu }
}

const fn hardswish(kernel: i64, stride: i64) -> BlockShape {
    BlockShape { kernel, stride, activation: Activation::Hardswish }
}

/// The blocks of MobileNetV3-Large: `_mobilenet_v3_conf("mobilenet_v3_large")`.
pub(in crate::model) const LARGE: [BlockShape; 15] = [
    relu(3, 1),
    relu(3, 2),
    relu(3, 1),
    relu(5, 2),
    relu(5, 1),
    relu(5, 1),
    hardswish(3, 2),
    hardswish(3, 1),
    hardswish(3, 1),
    hardswish(3, 1),
    hardswish(3, 1),
    hardswish(3, 1),
    hardswish(5, 2),
    hardswish(5, 1),
    hardswish(5, 1),
];

/// The block after which the first output is taken, the last one that halves the size ("C4"); the second
/// output is that of the convolution after all blocks.
pub(super) const FIRST_OUTPUT: usize = 12;

/// The feature extractor of `fasterrcnn_mobilenet_v3_large_fpn`.
#[derive(Debug)]
pub struct MobileNetV3 {
    stem: Conv2d,
    blocks: Vec<InvertedResidual>,
    last: Conv2d,
}

impl MobileNetV3 {
    /// Takes all of `backbone.body`.
    pub(super) fn load(weights: &Weights<'_>, eps: f64) -> Result<Self, ModelError> {
        let (found, expected) = (weights.count(BODY), LARGE.len() + 2);
        if found != expected {
            return Err(ModelError::MobileNet { found, expected });
        }
        let path = |index: usize| format!("{BODY}.{index}");
        let stem = normed(weights, &path(0), (None, 3), Geometry::new(3, 2), eps)?;
        let mut width = stem.outputs();
        let mut blocks = Vec::with_capacity(LARGE.len());
        for (i, &shape) in LARGE.iter().enumerate() {
            let paths = BlockPaths::whole(weights, &path(i + 1));
            let block = InvertedResidual::load(weights, &paths, width, shape, eps)?;
            width = block.outputs();
            blocks.push(block);
        }
        let last =
            normed(weights, &path(LARGE.len() + 1), (None, width), Geometry::new(1, 1), eps)?;
        Ok(Self { stem, blocks, last })
    }

    /// Channels of the two outputs.
    pub(super) fn widths(&self) -> Vec<i64> {
        vec![self.blocks[FIRST_OUTPUT].outputs(), self.last.outputs()]
    }

    /// A batch `[1, 3, h, w]` -> two maps of stride 32.
    pub(super) fn forward(&self, batch: &Tensor) -> Result<Vec<Tensor>, TchError> {
        let mut x = self.stem.forward_activated(batch, Activation::Hardswish)?;
        for block in &self.blocks[..=FIRST_OUTPUT] {
            let next = block.forward(&x)?;
            give_back(std::mem::replace(&mut x, next));
        }
        let first = x;
        let mut x = first.shallow_clone();
        for block in &self.blocks[FIRST_OUTPUT + 1..] {
            x = block.forward(&x)?;
        }
        let second = self.last.forward_activated(&x, Activation::Hardswish)?;
        Ok(vec![first, second])
    }
}

/// Where a block's parameters are.
#[derive(Debug)]
pub(in crate::model) struct BlockPaths {
    /// The 1x1 convolution that widens the input, if the block has one.
    pub(in crate::model) expand: Option<String>,
    /// The depthwise convolution, the squeeze-and-excitation if there is one, and the 1x1 convolution
    /// that narrows: `rest.first`, `rest.{first + 1}`, ...
    pub(in crate::model) rest: String,
    /// See [`rest`](Self::rest).
    pub(in crate::model) first: usize,
}

impl BlockPaths {
    /// Of the block at `path`, all in one sequence; its first convolution widens unless it is depthwise.
    pub(in crate::model) fn whole(weights: &Weights<'_>, path: &str) -> Self {
        let rest = format!("{path}.block");
        let first = format!("{rest}.0");
        let depthwise = weights.shape(&format!("{first}.0.weight")).is_some_and(is_depthwise);
        match depthwise {
            true => Self { expand: None, rest, first: 0 },
            false => Self { expand: Some(first), rest, first: 1 },
        }
    }
}

/// Of a kernel `[outputs, inputs / groups, k, k]`, where k is 1 in a convolution that widens.
fn is_depthwise(shape: &[usize]) -> bool {
    shape.len() == 4 && shape[1] == 1 && shape[2] > 1
}

/// `torchvision.models.mobilenetv3.InvertedResidual`.
#[derive(Debug)]
pub(in crate::model) struct InvertedResidual {
    expand: Option<Conv2d>,
    depthwise: Conv2d,
    squeeze: Option<SqueezeExcitation>,
    project: Conv2d,
    activation: Activation,
    /// Whether the input is added to the output.
    residual: bool,
}

impl InvertedResidual {
    /// Takes a block of a map of `inputs` channels.
    pub(in crate::model) fn load(
        weights: &Weights<'_>,
        paths: &BlockPaths,
        inputs: i64,
        shape: BlockShape,
        eps: f64,
    ) -> Result<Self, TchError> {
        let expand = paths.expand.as_ref();
        let expand =
            expand.map(|path| normed(weights, path, (None, inputs), Geometry::new(1, 1), eps));
        let expand = expand.transpose()?;
        let width = expand.as_ref().map_or(inputs, Conv2d::outputs);
        let geometry = Geometry::new(shape.kernel, shape.stride).grouped(width);
        let path = |index: usize| format!("{}.{index}", paths.rest);
        let (mut next, depthwise_path) = (paths.first + 1, path(paths.first));
        let depthwise = normed(weights, &depthwise_path, (Some(width), width), geometry, eps)?;
        let squeeze = weights
            .contains(&format!("{}.fc1.weight", path(next)))
            .then(|| SqueezeExcitation::load(weights, &path(next), width))
            .transpose()?;
        next += usize::from(squeeze.is_some());
        let project = normed(weights, &path(next), (None, width), Geometry::new(1, 1), eps)?;
        let residual = shape.stride == 1 && project.outputs() == inputs;
        Ok(Self { expand, depthwise, squeeze, project, activation: shape.activation, residual })
    }

    /// The number of output channels.
    pub(in crate::model) fn outputs(&self) -> i64 {
        self.project.outputs()
    }

    /// Channels of the widened input.
    pub(in crate::model) fn width(&self) -> i64 {
        self.depthwise.outputs()
    }

    /// `[1, inputs, h, w]` -> `[1, outputs, h / stride, w / stride]`, rounded up.
    pub(in crate::model) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let Some(wide) = self.widen(x)? else { return self.narrow(x, x) };
        let out = self.narrow(&wide, x)?;
        give_back(wide);
        Ok(out)
    }

    /// The first convolution, if there is one.
    pub(in crate::model) fn widen(&self, x: &Tensor) -> Result<Option<Tensor>, TchError> {
        let conv = self.expand.as_ref();
        conv.map(|conv| conv.forward_activated(x, self.activation)).transpose()
    }

    /// The rest: of the widened input, and of the input itself.
    pub(in crate::model) fn narrow(&self, wide: &Tensor, x: &Tensor) -> Result<Tensor, TchError> {
        let mut inside = self.depthwise.forward_activated(wide, self.activation)?;
        if let Some(squeeze) = &self.squeeze {
            inside = squeeze.forward(inside)?;
        }
        let out = match self.residual {
            true => self.project.forward_add(&inside, x)?,
            false => self.project.forward(&inside)?,
        };
        give_back(inside);
        Ok(out)
    }
}

/// A convolution at `path.0` and its normalisation at `path.1`: `Conv2dNormActivation`.
pub(in crate::model) fn normed(
    weights: &Weights<'_>,
    path: &str,
    (outputs, inputs): (Dim, i64),
    geometry: Geometry,
    eps: f64,
) -> Result<Conv2d, TchError> {
    let (conv, norm_path) = (format!("{path}.0"), format!("{path}.1"));
    let norm = Norm::at(weights, &norm_path, eps);
    Conv2d::load_normed(weights, (&conv, &norm_path), (outputs, inputs), geometry, norm)
}
