//! The head of SSD (Liu et al. 2015, <https://arxiv.org/abs/1512.02325>), with layers of its own for each level:
//! `torchvision.models.detection.ssd.SSDHead`, and `ssdlite.SSDLiteHead` with depthwise ones (Sandler et al. 2018,
//! <https://arxiv.org/abs/1801.04381>).

use tch::{TchError, Tensor};

use super::default_boxes::DefaultBoxes;
use super::select::LevelOutput;
use super::{CLASSIFICATION, REGRESSION, classes_of};
use crate::model::ModelError;
use crate::model::backbone::normed;
use crate::model::buffers::give_back;
use crate::model::layers::{Activation, Conv2d, Geometry, pixels};
use crate::model::weights::{Dim, Weights};

/// For each level, what predicts classes and what predicts boxes.
#[derive(Debug)]
pub struct SsdHead {
    levels: Vec<(Predictor, Predictor)>,
    classes: i64,
}

impl SsdHead {
    /// Takes all of `head` for feature maps of the given widths. `eps` is that of the normalisations, if there
    /// are any.
    ///
    /// # Errors
    /// [`ModelError::Shape`] where the class logits are not as many for each box; missing and misshapen
    /// parameters are left to [`Weights::finish`].
    pub(super) fn load(
        weights: &Weights<'_>,
        widths: &[i64],
        boxes: &DefaultBoxes,
        eps: f64,
    ) -> Result<Self, ModelError> {
        let (mut levels, mut classes) = (Vec::new(), None);
        for (level, &width) in widths.iter().enumerate() {
            let anchors = boxes.per_place(level);
            let path = format!("{CLASSIFICATION}.module_list.{level}");
            let expected = classes.map(|classes| classes * anchors as i64);
            let logits = Predictor::load(weights, &path, (expected, width), eps)?;
            if classes.is_none() {
                classes = Some(classes_of(&path, &logits.last, anchors)?);
            }
            let path = format!("{REGRESSION}.module_list.{level}");
            let outputs = Some(4 * anchors as i64);
            levels.push((logits, Predictor::load(weights, &path, (outputs, width), eps)?));
        }
        Ok(Self { levels, classes: classes.unwrap_or(0) })
    }

    /// Classes, background included.
    pub(super) fn num_classes(&self) -> usize {
        self.classes as usize
    }

    /// The map `[1, c, h, w]` of a level.
    pub(super) fn forward(&self, level: usize, map: &Tensor) -> Result<LevelOutput, TchError> {
        let (_, _, height, width) = map.size4()?;
        let (logits, deltas) = &self.levels[level];
        let row = |predictor: &Predictor, columns: i64| {
            pixels(&predictor.forward(map)?)?.f_reshape([-1, columns])
        };
        Ok(LevelOutput {
            logits: row(logits, self.classes)?,
            deltas: row(deltas, 4)?,
            centerness: None,
            grid: (height as usize, width as usize),
        })
    }
}

/// A 3x3 convolution; or a depthwise one and a 1x1.
#[derive(Debug)]
struct Predictor {
    depthwise: Option<Conv2d>,
    last: Conv2d,
}

impl Predictor {
    fn load(
        weights: &Weights<'_>,
        path: &str,
        (outputs, width): (Dim, i64),
        eps: f64,
    ) -> Result<Self, TchError> {
        let first = format!("{path}.0");
        if !weights.contains(&format!("{first}.0.weight")) {
            let last = Conv2d::load(weights, path, (outputs, width), Geometry::new(3, 1))?;
            return Ok(Self { depthwise: None, last });
        }
        let geometry = Geometry::new(3, 1).grouped(width);
        let depthwise = Some(normed(weights, &first, (Some(width), width), geometry, eps)?);
        let path = format!("{path}.1");
        let last = Conv2d::load(weights, &path, (outputs, width), Geometry::new(1, 1))?;
        Ok(Self { depthwise, last })
    }

    fn forward(&self, map: &Tensor) -> Result<Tensor, TchError> {
        let Some(depthwise) = &self.depthwise else { return self.last.forward(map) };
        let hidden = depthwise.forward_activated(map, Activation::Relu6)?;
        let out = self.last.forward(&hidden)?;
        give_back(hidden);
        Ok(out)
    }
}
