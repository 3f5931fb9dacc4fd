//! The feature pyramid (Lin et al. 2016, <https://arxiv.org/abs/1612.03144>):
//! `torchvision.ops.FeaturePyramidNetwork` with `LastLevelMaxPool` or `LastLevelP6P7`.

use tch::{TchError, Tensor};

use super::buffers::{give_back, take};
use super::layers::{Conv2d, Geometry, Norm};
use super::weights::Weights;

const FPN: &str = "backbone.fpn";

/// Lateral 1x1 convolutions, a top-down path of nearest-neighbour upsampling, and 3x3 output
/// convolutions; each with a batch normalisation if the checkpoint has one.
#[derive(Debug)]
pub struct Fpn {
    /// As many as the backbone has outputs, at least one.
    inner: Vec<Conv2d>,
    output: Vec<Conv2d>,
    /// What makes the two smallest levels; without it a subsampled last level is the one more.
    top: Option<P6P7>,
}

/// The convolutions of `LastLevelP6P7` (Lin et al. 2017, <https://arxiv.org/abs/1708.02002>).
#[derive(Debug)]
struct P6P7 {
    p6: Conv2d,
    p7: Conv2d,
    /// Whether P6 follows from P5, and not from the backbone's last output.
    from_p5: bool,
}

impl Fpn {
    /// How many levels the checkpoint's pyramid has, those of its top not counted.
    pub fn levels(weights: &Weights<'_>) -> usize {
        weights.count(&format!("{FPN}.inner_blocks"))
    }

    /// Takes all of `backbone.fpn` for backbone outputs of the given widths. `eps` is that of the
    /// normalisations, if there are any.
    ///
    /// # Errors
    /// libtorch's; missing and misshapen parameters are left to [`Weights::finish`].
    pub fn load(weights: &Weights<'_>, widths: &[i64], eps: f64) -> Result<Self, TchError> {
        let (mut inner, mut output) = (Vec::new(), Vec::new());
        let mut width = None;
        for (i, &inputs) in widths.iter().enumerate() {
            let path = format!("{FPN}.inner_blocks.{i}");
            let lateral = block(weights, &path, (width, inputs), 1, eps)?;
            let channels = lateral.outputs();
            let path = format!("{FPN}.layer_blocks.{i}");
            output.push(block(weights, &path, (Some(channels), channels), 3, eps)?);
            width = Some(channels);
            inner.push(lateral);
        }
        let top = P6P7::load(weights, width.unwrap_or(0), widths.last().copied().unwrap_or(0))?;
        Ok(Self { inner, output, top })
    }

    /// Channels of every level.
    pub fn width(&self) -> i64 {
        self.inner.first().map_or(0, Conv2d::outputs)
    }

    /// The backbone's outputs -> as many levels, and those of the top: for a ResNet's four outputs P2 to
    /// P5 and the subsampled P6 that only the RPN uses; strides 4, 8, 16, 32 and 64.
    ///
    /// # Errors
    /// libtorch's; and where there are not as many features as the pyramid was loaded for.
    pub fn forward(&self, features: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
        if features.len() != self.inner.len() || features.is_empty() {
            let (expected, found) = (self.inner.len(), features.len());
            let what = format!("expected {expected} features for a pyramid, got {found}");
            return Err(TchError::Shape(what));
        }
        let last = features.len() - 1;
        let mut merged = self.inner[last].forward(&features[last])?;
        let mut levels = vec![self.output[last].forward(&merged)?];
        for level in (0..last).rev() {
            let (next, output) = self.merge(level, &features[level], merged)?;
            merged = next;
            levels.push(output);
        }
        give_back(merged);
        levels.reverse();
        let p5 = &levels[last];
        let smaller = match &self.top {
            None => vec![p5.f_max_pool2d([1, 1], [2, 2], [0, 0], [1, 1], false)?],
            Some(top) => top.forward(p5, &features[last])?,
        };
        levels.extend(smaller);
        Ok(levels)
    }

    /// One step down: the lateral connection plus the upsampled level above, and its output.
    fn merge(
        &self,
        level: usize,
        feature: &Tensor,
        above: Tensor,
    ) -> Result<(Tensor, Tensor), TchError> {
        let upsampled = upsample(&above, feature)?;
        give_back(above);
        let merged = self.inner[level].forward_add(feature, &upsampled)?;
        give_back(upsampled);
        let output = self.output[level].forward(&merged)?;
        Ok((merged, output))
    }
}

impl P6P7 {
    /// Takes `backbone.fpn.extra_blocks`, if there are any, for a pyramid of `width` channels and a last
    /// backbone output of `last`.
    fn load(weights: &Weights<'_>, width: i64, last: i64) -> Result<Option<Self>, TchError> {
        let path = |name: &str| format!("{FPN}.extra_blocks.{name}");
        let Some(shape) = weights.shape(&format!("{}.weight", path("p6"))) else {
            return Ok(None);
        };
        let from_p5 = shape.get(1) == Some(&(width as usize));
        let inputs = if from_p5 { width } else { last };
        let strided = Geometry::new(3, 2);
        let p6 = Conv2d::load(weights, &path("p6"), (Some(width), inputs), strided)?;
        let p7 = Conv2d::load(weights, &path("p7"), (Some(width), width), strided)?;
        Ok(Some(Self { p6, p7, from_p5 }))
    }

    /// P6 and P7.
    fn forward(&self, p5: &Tensor, c5: &Tensor) -> Result<Vec<Tensor>, TchError> {
        let p6 = self.p6.forward(if self.from_p5 { p5 } else { c5 })?;
        let p7 = self.p7.forward(&p6.f_relu()?)?;
        Ok(vec![p6, p7])
    }
}

/// `above`, `[1, c, h, w]`, with the height and width of `feature`: `torch.nn.functional.interpolate`, mode `nearest`.
fn upsample(above: &Tensor, feature: &Tensor) -> Result<Tensor, TchError> {
    let (_, channels, _, _) = above.size4()?;
    let (_, _, height, width) = feature.size4()?;
    let out = take(&[1, height, width, channels])?.f_permute([0, 3, 1, 2])?;
    above.f_upsample_nearest2d_out(&out, [height, width], None, None)
}

/// The convolution at `path.0`, with the normalisation at `path.1` if there is one.
fn block(
    weights: &Weights<'_>,
    path: &str,
    channels: (Option<i64>, i64),
    kernel: i64,
    eps: f64,
) -> Result<Conv2d, TchError> {
    let (conv, norm_path) = (format!("{path}.0"), format!("{path}.1"));
    let geometry = Geometry::new(kernel, 1);
    if !weights.contains(&format!("{norm_path}.running_mean")) {
        return Conv2d::load(weights, &conv, channels, geometry);
    }
    let norm = Norm::at(weights, &norm_path, eps);
    Conv2d::load_normed(weights, (&conv, &norm_path), channels, geometry, norm)
}
