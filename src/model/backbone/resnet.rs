//! ResNet-18, 34, 50, 101 and 152 (He et al. 2015, <https://arxiv.org/abs/1512.03385>; with the stride
//! in the 3x3 convolution of a bottleneck, "v1.5"), wide ResNet (Zagoruyko and Komodakis 2016,
//! <https://arxiv.org/abs/1605.07146>) and ResNeXt (Xie et al. 2016, <https://arxiv.org/abs/1611.05431>)
//! up to `layer4`: `torchvision.models.resnet`.
//!
//! Which of them it is, and every width and number of groups, is read from the state dict.
//! Deliberately absent: the classifier, and dilation.

use tch::{TchError, Tensor};

use super::BODY;
use crate::model::ModelError;
use crate::model::buffers::give_back;
use crate::model::layers::{Conv2d, Geometry, Norm};
use crate::model::weights::Weights;

/// Which ResNet a checkpoint holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Layers by the usual count: 18, 34, 50, 101 or 152; wide ones and ResNeXt are counted alike.
    pub layers: usize,
    /// Residual blocks of `layer1` to `layer4`.
    pub blocks: [usize; 4],
    /// Whether the blocks are bottlenecks (1x1, 3x3, 1x1) or basic ones (3x3, 3x3).
    pub bottleneck: bool,
}

const DEPTHS: [Depth; 5] = [
    Depth { layers: 18, blocks: [2, 2, 2, 2], bottleneck: false },
    Depth { layers: 34, blocks: [3, 4, 6, 3], bottleneck: false },
    Depth { layers: 50, blocks: [3, 4, 6, 3], bottleneck: true },
    Depth { layers: 101, blocks: [3, 4, 23, 3], bottleneck: true },
    Depth { layers: 152, blocks: [3, 8, 36, 3], bottleneck: true },
];

impl Depth {
    /// Counts the blocks of a state dict.
    ///
    /// # Errors
    /// [`ModelError::Depth`] where no ResNet has that many.
    pub fn read(weights: &Weights<'_>) -> Result<Self, ModelError> {
        let blocks = [1, 2, 3, 4].map(|layer| weights.count(&format!("{BODY}.layer{layer}")));
        let bottleneck = weights.contains(&format!("{BODY}.layer1.0.conv3.weight"));
        let known =
            DEPTHS.iter().find(|depth| depth.blocks == blocks && depth.bottleneck == bottleneck);
        let block = if bottleneck { "bottleneck" } else { "basic" };
        known.copied().ok_or(ModelError::Depth { found: blocks, block })
    }
}

/// The feature extractor: `IntermediateLayerGetter` over `layer1` to `layer4`.
#[derive(Debug)]
pub struct ResNet {
    depth: Depth,
    stem: Conv2d,
    layers: [Vec<Block>; 4],
}

impl ResNet {
    /// Takes all of `backbone.body`. `eps` is the normalisation's; it is not in a checkpoint.
    ///
    /// # Errors
    /// [`ModelError::Depth`]; missing and misshapen parameters are left to [`Weights::finish`].
    pub(super) fn load(weights: &Weights<'_>, eps: f64) -> Result<Self, ModelError> {
        let depth = Depth::read(weights)?;
        let bn1 = format!("{BODY}.bn1");
        let norm = Norm::at(weights, &bn1, eps);
        let paths = (&*format!("{BODY}.conv1"), &*bn1);
        let stem = Conv2d::load_normed(weights, paths, (None, 3), Geometry::new(7, 2), norm)?;
        let mut width = stem.outputs();
        let mut layers = [const { Vec::new() }; 4];
        for (i, layer) in layers.iter_mut().enumerate() {
            for block in 0..depth.blocks[i] {
                let stride = if i > 0 && block == 0 { 2 } else { 1 };
                let path = format!("{BODY}.layer{}.{block}", i + 1);
                let loaded = Block::load(weights, &path, width, stride, depth.bottleneck, norm)?;
                width = loaded.outputs();
                layer.push(loaded);
            }
        }
        Ok(Self { depth, stem, layers })
    }

    /// Which ResNet this is.
    pub fn depth(&self) -> Depth {
        self.depth
    }

    /// Channels of the four outputs.
    pub(super) fn widths(&self) -> Vec<i64> {
        self.layers.iter().map(|layer| layer.last().map_or(0, Block::outputs)).collect()
    }

    /// A batch `[1, 3, h, w]`, normalised and padded -> the outputs of `layer1` to `layer4`, of
    /// strides 4, 8, 16 and 32.
    ///
    /// # Errors
    /// libtorch's.
    pub(super) fn forward(&self, batch: &Tensor) -> Result<Vec<Tensor>, TchError> {
        let stem = self.stem.forward_relu(batch)?;
        let pooled = stem.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?;
        give_back(stem);
        let [layer1, layer2, layer3, layer4] = &self.layers;
        let c2 = run(layer1, &pooled)?;
        let c3 = run(layer2, &c2)?;
        let c4 = run(layer3, &c3)?;
        let c5 = run(layer4, &c4)?;
        Ok(vec![c2, c3, c4, c5])
    }
}

fn run(blocks: &[Block], x: &Tensor) -> Result<Tensor, TchError> {
    let (first, others) = blocks.split_first().expect("a layer has at least two blocks");
    let mut out = first.forward(x)?;
    for block in others {
        let next = block.forward(&out)?;
        give_back(std::mem::replace(&mut out, next));
    }
    Ok(out)
}

/// A residual block: `BasicBlock` or `Bottleneck`.
#[derive(Debug)]
struct Block {
    /// Two 3x3, or 1x1, 3x3 and 1x1; each with its normalisation.
    convs: Vec<Conv2d>,
    /// A strided 1x1 where the block changes the shape.
    downsample: Option<Conv2d>,
}

impl Block {
    fn load(
        weights: &Weights<'_>,
        path: &str,
        inputs: i64,
        stride: i64,
        bottleneck: bool,
        norm: Norm,
    ) -> Result<Self, TchError> {
        let geometries: &[Geometry] = if bottleneck {
            &[Geometry::new(1, 1), Geometry::new(3, stride), Geometry::new(1, 1)]
        } else {
            &[Geometry::new(3, stride), Geometry::new(3, 1)]
        };
        let downsample_path = format!("{path}.downsample");
        let shape_changes = stride != 1 || weights.contains(&format!("{downsample_path}.0.weight"));
        let mut convs = Vec::with_capacity(geometries.len());
        let mut width = inputs;
        for (i, &geometry) in geometries.iter().enumerate() {
            let conv_path = format!("{path}.conv{}", i + 1);
            let geometry = geometry.grouped(groups(weights, &conv_path, width));
            // Without a downsampling the block's output is added to its input: same width.
            let last = i + 1 == geometries.len();
            let outputs = (last && !shape_changes).then_some(inputs);
            let paths = (&*conv_path, &*format!("{path}.bn{}", i + 1));
            let conv = Conv2d::load_normed(weights, paths, (outputs, width), geometry, norm)?;
            width = conv.outputs();
            convs.push(conv);
        }
        let downsample = shape_changes
            .then(|| {
                let paths = (&*format!("{downsample_path}.0"), &*format!("{downsample_path}.1"));
                Conv2d::load_normed(
                    weights,
                    paths,
                    (Some(width), inputs),
                    Geometry::new(1, stride),
                    norm,
                )
            })
            .transpose()?;
        Ok(Self { convs, downsample })
    }

    fn outputs(&self) -> i64 {
        self.convs.last().map_or(0, Conv2d::outputs)
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (last, inner) = self.convs.split_last().expect("a block has two or three convolutions");
        let (first, others) = inner.split_first().expect("see above");
        let mut inside = first.forward_relu(x)?;
        for conv in others {
            let next = conv.forward_relu(&inside)?;
            give_back(std::mem::replace(&mut inside, next));
        }
        let shortcut = self.downsample.as_ref().map(|conv| conv.forward(x)).transpose()?;
        let out = last.forward_add_relu(&inside, shortcut.as_ref().unwrap_or(x))?;
        give_back(inside);
        if let Some(shortcut) = shortcut {
            give_back(shortcut);
        }
        Ok(out)
    }
}

/// How many groups the channels of a convolution are in. 1, and so an error about its shape, where the
/// kernel's width does not divide the input's.
fn groups(weights: &Weights<'_>, path: &str, inputs: i64) -> i64 {
    let found = weights.shape(&format!("{path}.weight")).and_then(|shape| shape.get(1));
    match found {
        Some(&width) if width > 0 && inputs % width as i64 == 0 => inputs / width as i64,
        _ => 1,
    }
}
