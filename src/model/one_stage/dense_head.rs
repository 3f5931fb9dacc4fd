//! The head that RetinaNet (Lin et al. 2017, <https://arxiv.org/abs/1708.02002>) and FCOS (Tian et al. 2019,
//! <https://arxiv.org/abs/1904.01355>) share: two towers of convolutions that run over every level of a pyramid.
//! `torchvision.models.detection.retinanet.RetinaNetHead` and `fcos.FCOSHead`.

use tch::{TchError, Tensor};

use super::select::LevelOutput;
use super::{CLASSIFICATION, REGRESSION, classes_of};
use crate::model::ModelError;
use crate::model::buffers::give_back;
use crate::model::layers::{Conv2d, Geometry, Param, channels_last, pixels};
use crate::model::weights::Weights;

/// Convolutions of a tower, at least.
const DEPTH: usize = 4;
const THREE: Geometry = Geometry::new(3, 1);

/// The towers and what follows them.
#[derive(Debug)]
pub struct DenseHead {
    classification: Vec<Layer>,
    cls_logits: Conv2d,
    regression: Vec<Layer>,
    /// Deltas, then the centerness if there is one: one pass over the tower's output.
    predictor: Conv2d,
    anchors: i64,
    classes: i64,
    centerness: bool,
}

impl DenseHead {
    /// Takes all of `head` for a pyramid of `width` channels and that many anchors per place.
    ///
    /// # Errors
    /// [`ModelError::Shape`] where the class logits are not as many for each anchor; missing and misshapen
    /// parameters are left to [`Weights::finish`].
    pub(super) fn load(
        weights: &Weights<'_>,
        width: i64,
        anchors: usize,
        centerness: bool,
    ) -> Result<Self, ModelError> {
        let classification = tower(weights, &format!("{CLASSIFICATION}.conv"), width)?;
        let path = format!("{CLASSIFICATION}.cls_logits");
        let cls_logits = Conv2d::load(weights, &path, (None, width), THREE)?;
        let classes = classes_of(&path, &cls_logits, anchors)?;
        let regression = tower(weights, &format!("{REGRESSION}.conv"), width)?;
        let anchors = anchors as i64;
        let paths = ["bbox_reg", "bbox_ctrness"].map(|name| format!("{REGRESSION}.{name}"));
        let parts = [(&*paths[0], Some(4 * anchors)), (&*paths[1], Some(anchors))];
        let parts = &parts[..1 + usize::from(centerness)];
        let predictor = Conv2d::load_stacked(weights, parts, width, THREE)?;
        Ok(Self { classification, cls_logits, regression, predictor, anchors, classes, centerness })
    }

    /// Classes, background included.
    pub(super) fn num_classes(&self) -> usize {
        self.classes as usize
    }

    /// One level `[1, c, h, w]`.
    pub(super) fn forward(&self, level: &Tensor) -> Result<LevelOutput, TchError> {
        let (_, _, height, width) = level.size4()?;
        let hidden = climb(&self.classification, level)?;
        let logits = self.cls_logits.forward(&hidden)?;
        give_back(hidden);
        let logits = pixels(&logits)?.f_reshape([-1, self.classes])?;
        let hidden = climb(&self.regression, level)?;
        let predicted = self.predictor.forward(&hidden)?;
        give_back(hidden);
        let channels = |start, count, columns: i64| {
            pixels(&predicted.f_narrow(1, start, count)?)?.f_reshape([-1, columns])
        };
        let deltas = channels(0, 4 * self.anchors, 4)?;
        let (deltas, centerness) = match self.centerness {
            true => (deltas.f_relu()?, Some(channels(4 * self.anchors, self.anchors, 1)?)),
            false => (deltas, None),
        };
        let grid = (height as usize, width as usize);
        Ok(LevelOutput { logits, deltas, centerness, grid })
    }
}

/// A convolution, its group normalisation if it has one, and ReLU.
#[derive(Debug)]
struct Layer {
    conv: Conv2d,
    norm: Option<GroupNorm>,
}

fn tower(weights: &Weights<'_>, path: &str, width: i64) -> Result<Vec<Layer>, TchError> {
    let names = Names::of(weights, path);
    let exists = |i: usize| weights.contains(&format!("{}.weight", names.conv(path, i)));
    let load = |i| Layer::load(weights, &names.conv(path, i), names.norm(path, i), width);
    (0..).take_while(|&i| i < DEPTH || exists(i)).map(load).collect()
}

/// How the parameters of a tower's layers are called.
#[derive(Debug, Clone, Copy)]
enum Names {
    /// Each layer is a block of a convolution and, maybe, a normalisation: RetinaNet.
    Blocks { normed: bool },
    /// Convolution, ReLU, one after the other: RetinaNet before torchvision 0.13 (`_v1_to_v2_weights`).
    Pairs,
    /// Convolution, normalisation, ReLU, one after the other: FCOS.
    Triples,
}

impl Names {
    fn of(weights: &Weights<'_>, path: &str) -> Self {
        let has = |name: &str| weights.contains(&format!("{path}.{name}"));
        match (has("0.weight"), has("1.weight")) {
            (true, true) => Self::Triples,
            (true, false) => Self::Pairs,
            (false, _) => Self::Blocks { normed: has("0.1.weight") || has("0.1.bias") },
        }
    }

    fn conv(self, path: &str, layer: usize) -> String {
        match self {
            Self::Blocks { .. } => format!("{path}.{layer}.0"),
            Self::Pairs => format!("{path}.{}", 2 * layer),
            Self::Triples => format!("{path}.{}", 3 * layer),
        }
    }

    fn norm(self, path: &str, layer: usize) -> Option<String> {
        match self {
            Self::Blocks { normed } => normed.then(|| format!("{path}.{layer}.1")),
            Self::Pairs => None,
            Self::Triples => Some(format!("{path}.{}", 3 * layer + 1)),
        }
    }
}

fn climb(tower: &[Layer], level: &Tensor) -> Result<Tensor, TchError> {
    let (first, others) = tower.split_first().expect("a tower has at least four layers");
    let mut hidden = first.forward(level)?;
    for layer in others {
        let next = layer.forward(&hidden)?;
        give_back(std::mem::replace(&mut hidden, next));
    }
    Ok(hidden)
}

impl Layer {
    fn load(
        weights: &Weights<'_>,
        path: &str,
        norm: Option<String>,
        width: i64,
    ) -> Result<Self, TchError> {
        let channels = (Some(width), width);
        // RetinaNet v2's normalised convolutions have no bias, FCOS's do.
        let unbiased = norm.is_some() && !weights.contains(&format!("{path}.bias"));
        let conv = match unbiased {
            true => Conv2d::load_unbiased(weights, path, channels, THREE)?,
            false => Conv2d::load(weights, path, channels, THREE)?,
        };
        Ok(Self { conv, norm: norm.map(|norm| GroupNorm::load(weights, &norm, width)) })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let Some(norm) = &self.norm else { return self.conv.forward_relu(x) };
        let out = self.conv.forward(x)?;
        let normed = norm.forward(&out)?;
        give_back(out);
        Ok(normed)
    }
}

/// `torch.nn.GroupNorm(32, channels)` (Wu and He 2018, <https://arxiv.org/abs/1803.08494>), libtorch's.
#[derive(Debug)]
struct GroupNorm {
    weight: Param,
    bias: Param,
}

impl GroupNorm {
    const GROUPS: i64 = 32;
    /// The class's default, which no torchvision detector changes.
    const EPS: f64 = 1e-5;

    fn load(weights: &Weights<'_>, path: &str, width: i64) -> Self {
        let part = |name| weights.take(&format!("{path}.{name}"), &[Some(width)]).into();
        Self { weight: part("weight"), bias: part("bias") }
    }

    /// Normalises, then ReLU.
    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (weight, bias) = (Some(&*self.weight), Some(&*self.bias));
        let mut out = x.f_group_norm(Self::GROUPS, weight, bias, Self::EPS, false)?;
        channels_last(&out.f_relu_()?)
    }
}
