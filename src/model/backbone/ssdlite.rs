//! MobileNetV3-Large as SSDlite uses it, and the blocks that follow it:
//! `torchvision.models.detection.ssdlite.SSDLiteFeatureExtractorMobileNet`.
//!
//! Widths are read from the state dict: with a pretrained backbone the last blocks are twice as wide as without
//! (`reduced_tail`).

use tch::{TchError, Tensor};

use super::mobilenet::{BlockPaths, FIRST_OUTPUT, InvertedResidual, LARGE, normed};
use crate::model::buffers::give_back;
use crate::model::layers::{Activation, Conv2d, Geometry};
use crate::model::weights::Weights;

/// Blocks behind MobileNetV3.
const EXTRA: usize = 4;
const ONE: Geometry = Geometry::new(1, 1);

/// The feature extractor of `ssdlite320_mobilenet_v3_large`: six maps.
#[derive(Debug)]
pub struct SsdLite {
    stem: Conv2d,
    blocks: Vec<InvertedResidual>,
    last: Conv2d,
    /// 1x1, depthwise and strided, 1x1.
    extra: Vec<[Conv2d; 3]>,
}

impl SsdLite {
    /// Takes all of `backbone`. `eps` is the normalisation's.
    ///
    /// # Errors
    /// libtorch's; missing and misshapen parameters are left to [`Weights::finish`].
    pub fn load(weights: &Weights<'_>, eps: f64) -> Result<Self, TchError> {
        let stem = normed(weights, "backbone.features.0.0", (None, 3), Geometry::new(3, 2), eps)?;
        let mut width = stem.outputs();
        let mut blocks = Vec::with_capacity(LARGE.len());
        for (i, &shape) in LARGE.iter().enumerate() {
            let paths = block_paths(weights, i);
            let block = InvertedResidual::load(weights, &paths, width, shape, eps)?;
            width = block.outputs();
            blocks.push(block);
        }
        let path = format!("backbone.features.1.{}", LARGE.len() - FIRST_OUTPUT);
        let last = normed(weights, &path, (None, width), ONE, eps)?;
        width = last.outputs();
        let mut extra = Vec::with_capacity(EXTRA);
        for i in 0..EXTRA {
            let path = |layer| format!("backbone.extra.{i}.{layer}");
            let narrow = normed(weights, &path(0), (None, width), ONE, eps)?;
            let inner = narrow.outputs();
            let strided = Geometry::new(3, 2).grouped(inner);
            let depthwise = normed(weights, &path(1), (Some(inner), inner), strided, eps)?;
            let wide = normed(weights, &path(2), (None, inner), ONE, eps)?;
            width = wide.outputs();
            extra.push([narrow, depthwise, wide]);
        }
        Ok(Self { stem, blocks, last, extra })
    }

    /// Channels of the six maps.
    pub fn widths(&self) -> Vec<i64> {
        let expanded = self.blocks[FIRST_OUTPUT].width();
        let extra = self.extra.iter().map(|block| block[2].outputs());
        [expanded, self.last.outputs()].into_iter().chain(extra).collect()
    }

    /// A batch `[1, 3, 320, 320]`, normalised -> maps of 20, 10, 5, 3, 2 and 1 pixels squared.
    ///
    /// # Errors
    /// libtorch's.
    pub fn forward(&self, batch: &Tensor) -> Result<Vec<Tensor>, TchError> {
        let mut x = self.stem.forward_activated(batch, Activation::Hardswish)?;
        for block in &self.blocks[..FIRST_OUTPUT] {
            let next = block.forward(&x)?;
            give_back(std::mem::replace(&mut x, next));
        }
        // The first map is taken inside of a block, where it is widest.
        let cut = &self.blocks[FIRST_OUTPUT];
        let expanded = cut.widen(&x)?.unwrap_or_else(|| x.shallow_clone());
        let mut x = cut.narrow(&expanded, &x)?;
        for block in &self.blocks[FIRST_OUTPUT + 1..] {
            let next = block.forward(&x)?;
            give_back(std::mem::replace(&mut x, next));
        }
        let mut maps = vec![expanded, self.last.forward_activated(&x, Activation::Hardswish)?];
        for [narrow, depthwise, wide] in &self.extra {
            let last = maps.last().expect("two maps at least");
            let narrowed = narrow.forward_activated(last, Activation::Relu6)?;
            let strided = depthwise.forward_activated(&narrowed, Activation::Relu6)?;
            maps.push(wide.forward_activated(&strided, Activation::Relu6)?);
        }
        Ok(maps)
    }
}

/// Where block `i` is: `features.0` ends with the first convolution of the block that the first map is taken
/// from, `features.1` begins with the rest of it.
fn block_paths(weights: &Weights<'_>, i: usize) -> BlockPaths {
    if i < FIRST_OUTPUT {
        return BlockPaths::whole(weights, &format!("backbone.features.0.{}", i + 1));
    }
    if i > FIRST_OUTPUT {
        let index = i - FIRST_OUTPUT;
        return BlockPaths::whole(weights, &format!("backbone.features.1.{index}"));
    }
    let expand = Some(format!("backbone.features.0.{}", i + 1));
    BlockPaths { expand, rest: "backbone.features.1.0".to_owned(), first: 1 }
}
