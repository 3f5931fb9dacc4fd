//! The feature extractors: `torchvision.models._utils.IntermediateLayerGetter` over a classifier's layers.
//!
//! Deliberately absent: a choice by the user. Which backbone it is, the state dict's names say.

mod mobilenet;
mod resnet;
mod ssdlite;
mod vgg;

use tch::{TchError, Tensor};

pub use mobilenet::MobileNetV3;
pub(super) use mobilenet::normed;
pub use resnet::{Depth, ResNet};
pub use ssdlite::SsdLite;
pub use vgg::SsdVgg;

use super::error::ModelError;
use super::weights::Weights;

/// Where a detector with a feature pyramid keeps its backbone.
const BODY: &str = "backbone.body";

/// A feature extractor of one of the kinds that torchvision's detectors have.
#[derive(Debug)]
pub enum Backbone {
    /// `resnet_fpn_backbone`'s: outputs of strides 4, 8, 16 and 32.
    ResNet(ResNet),
    /// `_mobilenet_extractor`'s: two outputs, both of stride 32.
    MobileNetV3(MobileNetV3),
}

impl Backbone {
    /// Takes all of `backbone.body`. `eps` is the normalisation's; it is not in a checkpoint.
    ///
    /// # Errors
    /// [`ModelError::Depth`] and [`ModelError::MobileNet`]; missing and misshapen parameters are left to
    /// [`Weights::finish`].
    pub fn load(weights: &Weights<'_>, eps: f64) -> Result<Self, ModelError> {
        if weights.contains(&format!("{BODY}.0.0.weight")) {
            return Ok(Self::MobileNetV3(MobileNetV3::load(weights, eps)?));
        }
        Ok(Self::ResNet(ResNet::load(weights, eps)?))
    }

    /// Channels of the outputs.
    pub fn widths(&self) -> Vec<i64> {
        match self {
            Self::ResNet(resnet) => resnet.widths(),
            Self::MobileNetV3(mobilenet) => mobilenet.widths(),
        }
    }

    /// Image pixels per pixel of each output.
    pub fn strides(&self) -> &'static [usize] {
        match self {
            Self::ResNet(_) => &[4, 8, 16, 32],
            Self::MobileNetV3(_) => &[32, 32],
        }
    }

    /// A batch `[1, 3, h, w]`, normalised and padded -> the outputs, the largest first.
    ///
    /// # Errors
    /// libtorch's.
    pub fn forward(&self, batch: &Tensor) -> Result<Vec<Tensor>, TchError> {
        match self {
            Self::ResNet(resnet) => resnet.forward(batch),
            Self::MobileNetV3(mobilenet) => mobilenet.forward(batch),
        }
    }
}
