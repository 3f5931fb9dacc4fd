//! From pooled features to class logits and box deltas: `TwoMLPHead` or `FastRCNNConvFCHead`, and
//! `FastRCNNPredictor`, of `torchvision.models.detection.faster_rcnn`.

use tch::{TchError, Tensor};

use super::buffers::{self, give_back};
use super::layers::{Conv2d, Geometry, Linear, Norm, values, values_mut};
use super::roi_align::OUTPUT_SIZE;
use super::weights::Weights;

const HEAD: &str = "roi_heads.box_head";
const PREDICTOR: &str = "roi_heads.box_predictor";
const BINS: usize = OUTPUT_SIZE * OUTPUT_SIZE;
/// RoIs that are convolved together: as many as make the products efficient, and no more than stay in
/// the cache from layer to layer.
const GROUP: usize = 64;

/// `roi_heads.box_head` and `roi_heads.box_predictor`.
#[derive(Debug)]
pub struct BoxHead {
    /// 3x3, with their normalisation; none in a `TwoMLPHead`.
    convs: Vec<Conv2d>,
    fcs: Vec<Linear>,
    cls_score: Linear,
    bbox_pred: Linear,
}

impl BoxHead {
    /// Takes all of `roi_heads` for a pyramid of `width` channels. `eps` is that of the normalisations,
    /// if there are any.
    ///
    /// # Errors
    /// libtorch's; missing and misshapen parameters are left to [`Weights::finish`].
    pub fn load(weights: &Weights<'_>, width: i64, eps: f64) -> Result<Self, TchError> {
        let mut convs: Vec<Conv2d> = Vec::new();
        let mut channels = width;
        while weights.contains(&format!("{HEAD}.{}.0.weight", convs.len())) {
            let conv = load_conv(weights, &format!("{HEAD}.{}", convs.len()), channels, eps)?;
            channels = conv.outputs();
            convs.push(conv);
        }
        let mut paths = fc_paths(weights, convs.len()).into_iter();
        let first = paths.next().unwrap_or_default();
        let flat = (channels, BINS as i64);
        let mut fcs = vec![Linear::load_for_channels_last(weights, &first, None, flat)?];
        let mut inputs = fcs[0].outputs();
        for path in paths {
            let fc = Linear::load(weights, &path, None, inputs)?;
            inputs = fc.outputs();
            fcs.push(fc);
        }
        let cls_score = Linear::load(weights, &format!("{PREDICTOR}.cls_score"), None, inputs)?;
        let deltas = Some(4 * cls_score.outputs());
        let bbox_pred = Linear::load(weights, &format!("{PREDICTOR}.bbox_pred"), deltas, inputs)?;
        Ok(Self { convs, fcs, cls_score, bbox_pred })
    }

    /// Classes, background included.
    pub fn num_classes(&self) -> usize {
        self.cls_score.outputs() as usize
    }

    /// Pooled features `[n, 49, c]` -> `[n, head width]`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn features(&self, pooled: &Tensor) -> Result<Tensor, TchError> {
        let convolved = self.convolve(pooled)?;
        let mut x = convolved.as_ref().unwrap_or(pooled).f_flatten(1, 2)?;
        for (i, fc) in self.fcs.iter().enumerate() {
            let next = fc.forward_relu(&x)?;
            let last = std::mem::replace(&mut x, next);
            // The first one is the caller's, or `convolved`.
            if i > 0 {
                give_back(last);
            }
        }
        if let Some(convolved) = convolved {
            give_back(convolved);
        }
        Ok(x)
    }

    /// `[n, head width]` -> class logits `[n, classes]` and box deltas `[n, 4 * classes]`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn predict(&self, features: &Tensor) -> Result<(Tensor, Tensor), TchError> {
        Ok((self.cls_score.forward(features)?, self.bbox_pred.forward(features)?))
    }

    /// Runs the convolutions over `[n, 49, c]`, if there are any.
    fn convolve(&self, pooled: &Tensor) -> Result<Option<Tensor>, TchError> {
        let Some(last) = self.convs.last() else { return Ok(None) };
        let (count, bins, channels) = pooled.size3()?;
        let mut out = buffers::take(&[count, bins, last.outputs()])?;
        if count == 0 {
            return Ok(Some(out));
        }
        let pooled = pooled.f_contiguous()?;
        let inputs = values(&pooled)?.chunks(GROUP * BINS * channels as usize);
        let outputs = values_mut(&mut out)?.chunks_mut(GROUP * BINS * last.outputs() as usize);
        for (input, output) in inputs.zip(outputs) {
            self.convolve_group(input, channels, output)?;
        }
        Ok(Some(out))
    }

    /// Some RoIs at once: as one tall map, below each of them a row of zeros, which is all that a 3x3
    /// convolution sees of what lies outside of a RoI.
    fn convolve_group(
        &self,
        input: &[f32],
        channels: i64,
        output: &mut [f32],
    ) -> Result<(), TchError> {
        let count = input.len() / (BINS * channels as usize);
        let rows = (count * (OUTPUT_SIZE + 1)) as i64;
        let mut map = buffers::take(&[1, rows, OUTPUT_SIZE as i64, channels])?;
        copy_rois(values_mut(&mut map)?, input, channels);
        for conv in &self.convs {
            let next = conv.forward_relu(&map.f_permute([0, 3, 1, 2])?)?;
            give_back(std::mem::replace(&mut map, next.f_permute([0, 2, 3, 1])?));
            clear_gaps(values_mut(&mut map)?, conv.outputs());
        }
        let width = output.len() / count;
        let tall = values(&map)?.chunks_exact(width + width / OUTPUT_SIZE);
        for (output, roi) in output.chunks_exact_mut(width).zip(tall) {
            output.copy_from_slice(&roi[..width]);
        }
        give_back(map);
        Ok(())
    }
}

/// `[n, 7, 7, c]` -> `[n, 8, 7, c]`, the eighth row zeros.
fn copy_rois(tall: &mut [f32], rois: &[f32], channels: i64) {
    let width = BINS * channels as usize;
    let rows = tall.chunks_exact_mut(width + width / OUTPUT_SIZE);
    for (tall, roi) in rows.zip(rois.chunks_exact(width)) {
        tall[..width].copy_from_slice(roi);
        tall[width..].fill(0.0);
    }
}

/// Makes the eighth row of each RoI zeros again.
fn clear_gaps(tall: &mut [f32], channels: i64) {
    let width = BINS * channels as usize;
    for roi in tall.chunks_exact_mut(width + width / OUTPUT_SIZE) {
        roi[width..].fill(0.0);
    }
}

/// The 3x3 convolution at `path.0`, with the normalisation at `path.1` if there is one.
fn load_conv(weights: &Weights<'_>, path: &str, inputs: i64, eps: f64) -> Result<Conv2d, TchError> {
    let (conv, norm_path) = (format!("{path}.0"), format!("{path}.1"));
    let (channels, geometry) = ((None, inputs), Geometry::new(3, 1));
    if !weights.contains(&format!("{norm_path}.running_mean")) {
        return Conv2d::load(weights, &conv, channels, geometry);
    }
    let norm = Norm::at(weights, &norm_path, eps);
    Conv2d::load_normed(weights, (&conv, &norm_path), channels, geometry, norm)
}

/// `fc6` and `fc7`; after convolutions the sequence goes on with `Flatten`, then linear layers and ReLUs
/// by turns.
fn fc_paths(weights: &Weights<'_>, convs: usize) -> Vec<String> {
    if convs == 0 {
        return vec![format!("{HEAD}.fc6"), format!("{HEAD}.fc7")];
    }
    let path = |i: usize| format!("{HEAD}.{}", convs + 1 + 2 * i);
    let exists = |path: &String| weights.contains(&format!("{path}.weight"));
    // At least one, so that a head without any is reported as missing it.
    std::iter::once(path(0)).chain((1..).map(path).take_while(exists)).collect()
}
