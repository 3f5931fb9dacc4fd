//! The feature pyramid (Lin et al. 2016, <https://arxiv.org/abs/1612.03144>):
//! `torchvision.ops.FeaturePyramidNetwork` with `LastLevelMaxPool`.

use tch::{TchError, Tensor};

use super::buffers::give_back;
use super::layers::{Conv2d, Geometry};
use super::weights::Weights;

const FPN: &str = "backbone.fpn";

/// Lateral 1x1 convolutions, a top-down path of nearest-neighbour upsampling, and 3x3 output
/// convolutions.
#[derive(Debug)]
pub struct Fpn {
    inner: [Conv2d; 4],
    output: [Conv2d; 4],
}

impl Fpn {
    /// Takes all of `backbone.fpn` for a backbone of the given widths.
    ///
    /// # Errors
    /// libtorch's; missing and misshapen parameters are left to [`Weights::finish`].
    pub fn load(weights: &Weights<'_>, widths: [i64; 4]) -> Result<Self, TchError> {
        let inner = |i: usize, outputs| {
            let path = format!("{FPN}.inner_blocks.{i}.0");
            Conv2d::load(weights, &path, (outputs, widths[i]), Geometry::new(1, 1))
        };
        let first = inner(0, None)?;
        let width = first.outputs();
        let output = |i: usize| {
            let path = format!("{FPN}.layer_blocks.{i}.0");
            Conv2d::load(weights, &path, (Some(width), width), Geometry::new(3, 1))
        };
        let same = Some(width);
        Ok(Self {
            inner: [first, inner(1, same)?, inner(2, same)?, inner(3, same)?],
            output: [output(0)?, output(1)?, output(2)?, output(3)?],
        })
    }

    /// Channels of every level.
    pub fn width(&self) -> i64 {
        self.inner[0].outputs()
    }

    /// The backbone's outputs -> P2 to P5 and, last, the subsampled P6 that only the RPN uses;
    /// strides 4, 8, 16, 32 and 64.
    ///
    /// # Errors
    /// libtorch's.
    pub fn forward(&self, features: &[Tensor; 4]) -> Result<[Tensor; 5], TchError> {
        let top = self.inner[3].forward(&features[3])?;
        let p5 = self.output[3].forward(&top)?;
        let (next, p4) = self.merge(2, features, top)?;
        let (next, p3) = self.merge(1, features, next)?;
        let (last, p2) = self.merge(0, features, next)?;
        give_back(last);
        let p6 = p5.f_max_pool2d([1, 1], [2, 2], [0, 0], [1, 1], false)?;
        Ok([p2, p3, p4, p5, p6])
    }

    /// One step down: the lateral connection plus the upsampled level above, and its output.
    fn merge(
        &self,
        level: usize,
        features: &[Tensor; 4],
        above: Tensor,
    ) -> Result<(Tensor, Tensor), TchError> {
        let (_, _, height, width) = features[level].size4()?;
        let upsampled = above.f_upsample_nearest2d([height, width], None, None)?;
        give_back(above);
        let merged = self.inner[level].forward_add(&features[level], &upsampled)?;
        give_back(upsampled);
        let output = self.output[level].forward(&merged)?;
        Ok((merged, output))
    }
}
