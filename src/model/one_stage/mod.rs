//! The detectors that predict classes and boxes at every place of their feature maps, without proposals:
//! `torchvision.models.detection.RetinaNet`, `FCOS` and `SSD` in evaluation mode.
//!
//! They differ in where the maps come from, in the head, and in the selection; each of these is in a file of its
//! own, and this one puts them together.

pub mod default_boxes;
mod dense_head;
pub mod select;
mod ssd_head;

use std::collections::BTreeMap;

use tch::{TchError, Tensor};

pub use dense_head::DenseHead;
pub use ssd_head::SsdHead;

use self::default_boxes::DefaultBoxes;
use self::select::{Coder, LevelOutput, by_class, by_level};
use super::anchors::AnchorShapes;
use super::architecture::Architecture;
use super::backbone::{Backbone, SsdLite, SsdVgg};
use super::boxes::{BoxCoder, Xyxy};
use super::buffers::give_back;
use super::error::ModelError;
use super::faster_rcnn::{check_classes, check_levels, to_detections};
use super::fpn::Fpn;
use super::layers::Conv2d;
use super::roi_heads::Scored;
use super::threads::init_thread;
use super::transform::{Transform, resize_boxes};
use super::weights::Weights;
use crate::checkpoint::StateDict;
use crate::dataset::image::RgbImage;
use crate::detections::{DetectError, Detection, Detector};

const CLASSIFICATION: &str = "head.classification_head";
const REGRESSION: &str = "head.regression_head";
/// RetinaNet's and FCOS's pyramids leave out the backbone's largest output.
const LEFT_OUT: usize = 1;
const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// What a state dict does not say; the names are torchvision's, but for the first two of the thresholds.
#[derive(Debug, Clone, PartialEq)]
pub struct OneStageSettings {
    /// Images are resized so that the shorter side has this length, pixels; SSD's have this length on both
    /// sides ...
    pub min_size: usize,
    /// ... but the longer one at most this one, pixels.
    pub max_size: usize,
    /// Detections must score above this (`score_thresh`).
    pub score_thr: f64,
    /// IoU above which the lower of two detections of a class is suppressed (`nms_thresh`).
    pub nms_iou: f64,
    /// Most candidates of a level, or of a class in SSD (`topk_candidates`).
    pub topk_candidates: usize,
    /// Most detections of an image, all classes together (`detections_per_img`).
    pub detections_per_image: usize,
    /// `eps` of the batch normalisations; 0.0 for torchvision's own `retinanet_resnet50_fpn` and
    /// `fcos_resnet50_fpn` weights of COCO where they say `overwrite_eps`. No state dict says it.
    pub norm_eps: f64,
    /// How many classes the checkpoint's class map names, background included, if it has one. A head of
    /// another size is then refused.
    pub num_classes: Option<usize>,
}

impl OneStageSettings {
    /// torchvision 0.28's defaults for an architecture; RetinaNet's for Faster R-CNN, which has settings of
    /// its own.
    pub const fn torchvision(architecture: Architecture) -> Self {
        let retinanet = Self {
            min_size: 800,
            max_size: 1333,
            score_thr: 0.05,
            nms_iou: 0.5,
            topk_candidates: 1000,
            detections_per_image: 300,
            norm_eps: 1e-5,
            num_classes: None,
        };
        match architecture {
            Architecture::FasterRcnn | Architecture::RetinaNet => retinanet,
            Architecture::Fcos => {
                Self { score_thr: 0.2, nms_iou: 0.6, detections_per_image: 100, ..retinanet }
            }
            Architecture::Ssd300Vgg16 => Self {
                min_size: 300,
                max_size: 300,
                score_thr: 0.01,
                nms_iou: 0.45,
                topk_candidates: 400,
                detections_per_image: 200,
                ..retinanet
            },
            Architecture::SsdLite320MobileNetV3Large => Self {
                min_size: 320,
                max_size: 320,
                score_thr: 0.001,
                nms_iou: 0.55,
                topk_candidates: 300,
                norm_eps: 1e-3,
                ..retinanet
            },
        }
    }

    fn check(&self) -> Result<(), ModelError> {
        let counts = [
            ("min_size", self.min_size),
            ("max_size", self.max_size),
            ("topk_candidates", self.topk_candidates),
            ("detections_per_image", self.detections_per_image),
        ];
        let setting = |name, value, expected| Err(ModelError::Setting { name, value, expected });
        for (name, value) in counts {
            if value == 0 {
                return setting(name, value.to_string(), "at least 1");
            }
        }
        let fractions =
            [("score_thr", self.score_thr), ("nms_iou", self.nms_iou), ("norm_eps", self.norm_eps)];
        for (name, value) in fractions {
            if !(0.0..=1.0).contains(&value) {
                return setting(name, value.to_string(), "0 to 1");
            }
        }
        Ok(())
    }
}

/// A loaded one-stage detector. Its stages are public for comparison with torchvision's.
#[derive(Debug)]
pub struct OneStage {
    /// Pixels to batch.
    pub transform: Transform,
    /// Batch to maps to predictions.
    pub network: Network,
    settings: OneStageSettings,
    label_to_category: BTreeMap<i64, i64>,
}

/// Where the maps come from, what reads them, and where its boxes start.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one for each model")]
pub enum Network {
    /// RetinaNet and FCOS: a pyramid, the same head on each level.
    Pyramid {
        /// A ResNet.
        backbone: Backbone,
        /// P3 to P7.
        fpn: Fpn,
        /// For all levels.
        head: DenseHead,
        /// Of each level.
        anchors: AnchorShapes,
        /// RetinaNet's or FCOS's.
        coder: Coder,
    },
    /// SSD: six maps, each with a head of its own.
    Ssd {
        /// VGG-16 or MobileNetV3, and further blocks.
        extractor: SsdExtractor,
        /// Of all maps.
        head: SsdHead,
        /// Of each map.
        boxes: DefaultBoxes,
    },
}

/// What makes SSD's six maps.
#[derive(Debug)]
pub enum SsdExtractor {
    /// `ssd300_vgg16`'s.
    Vgg(SsdVgg),
    /// `ssdlite320_mobilenet_v3_large`'s.
    Lite(SsdLite),
}

impl OneStage {
    /// Builds the detector of that architecture; widths, normalisations and the number of classes are read
    /// from the names and shapes of `weights`.
    ///
    /// `label_to_category` maps the checkpoint's own labels (1 and up) to category ids. Detections of a
    /// label that it does not have are dropped, after the selection of the best per image, as one
    /// would drop them from torchvision's output.
    ///
    /// # Errors
    /// Where the state dict is not that of such a model, its number of classes is not that of the
    /// class map, or a setting is out of range; see [`ModelError`].
    pub fn new(
        architecture: Architecture,
        weights: &StateDict,
        settings: &OneStageSettings,
        label_to_category: BTreeMap<i64, i64>,
    ) -> Result<Self, ModelError> {
        settings.check()?;
        init_thread()?;
        let _no_grad = tch::no_grad_guard();
        let weights = Weights::new(weights);
        let network = Network::load(architecture, &weights, settings.norm_eps)?;
        weights.finish()?;
        check_classes(network.num_classes(), settings.num_classes, &label_to_category)?;
        Ok(Self {
            transform: transform(architecture, settings)?,
            network,
            settings: settings.clone(),
            label_to_category,
        })
    }

    /// Classes of the head, background included.
    pub fn num_classes(&self) -> usize {
        self.network.num_classes()
    }

    /// The detections under the checkpoint's own labels, by descending score: what torchvision's model
    /// returns for this image. Boxes in pixels of `image`.
    ///
    /// # Errors
    /// libtorch's; and where the network's outputs are not finite.
    pub fn predict(&self, image: &RgbImage) -> Result<Vec<Scored>, DetectError> {
        init_thread()?;
        let _no_grad = tch::no_grad_guard();
        let input = self.transform.forward(image)?;
        let maps = self.network.maps(&input.batch)?;
        let outputs = self.network.outputs(&maps)?;
        maps.into_iter().for_each(give_back);
        let (_, _, height, width) = input.batch.size4()?;
        let padded = (height as usize, width as usize);
        let mut found = self.network.select(&outputs, padded, input.size, &self.settings)?;
        let original = (image.height as usize, image.width as usize);
        for scored in &mut found {
            resize_boxes(std::slice::from_mut(&mut scored.corners), input.size, original);
        }
        Ok(found)
    }
}

impl Detector for OneStage {
    fn detect(&self, image: &RgbImage) -> Result<Vec<Detection>, DetectError> {
        Ok(to_detections(self.predict(image)?, &self.label_to_category))
    }
}

impl Network {
    fn load(
        architecture: Architecture,
        weights: &Weights<'_>,
        eps: f64,
    ) -> Result<Self, ModelError> {
        match architecture {
            Architecture::FasterRcnn => Err(ModelError::Unknown { resembles: "Faster R-CNN" }),
            Architecture::RetinaNet => {
                let coder = Coder::Centre(BoxCoder { weights: [1.0; 4] });
                Self::pyramid(weights, eps, AnchorShapes::three_sizes_per_level(), coder)
            }
            Architecture::Fcos => {
                Self::pyramid(weights, eps, AnchorShapes::one_square_per_place(), Coder::Sides)
            }
            Architecture::Ssd300Vgg16 => {
                let extractor = SsdExtractor::Vgg(SsdVgg::load(weights)?);
                Self::ssd(weights, eps, extractor, DefaultBoxes::ssd300())
            }
            Architecture::SsdLite320MobileNetV3Large => {
                let extractor = SsdExtractor::Lite(SsdLite::load(weights, eps)?);
                Self::ssd(weights, eps, extractor, DefaultBoxes::ssdlite320())
            }
        }
    }

    fn pyramid(
        weights: &Weights<'_>,
        eps: f64,
        anchors: AnchorShapes,
        coder: Coder,
    ) -> Result<Self, ModelError> {
        let backbone = Backbone::load(weights, eps)?;
        let widths = backbone.widths();
        let widths = widths.get(LEFT_OUT..).unwrap_or_default();
        check_levels(Fpn::levels(weights), widths.len())?;
        let fpn = Fpn::load(weights, widths, eps)?;
        let p6 = "backbone.fpn.extra_blocks.p6.weight";
        if !weights.contains(p6) {
            // A pyramid without convolutions at its top is another detector's.
            weights.skip(p6);
        }
        let centerness = matches!(coder, Coder::Sides);
        let head = DenseHead::load(weights, fpn.width(), anchors.per_place(), centerness)?;
        Ok(Self::Pyramid { backbone, fpn, head, anchors, coder })
    }

    fn ssd(
        weights: &Weights<'_>,
        eps: f64,
        extractor: SsdExtractor,
        boxes: DefaultBoxes,
    ) -> Result<Self, ModelError> {
        let head = SsdHead::load(weights, &extractor.widths(), &boxes, eps)?;
        Ok(Self::Ssd { extractor, head, boxes })
    }

    fn num_classes(&self) -> usize {
        match self {
            Self::Pyramid { head, .. } => head.num_classes(),
            Self::Ssd { head, .. } => head.num_classes(),
        }
    }

    /// A batch `[1, 3, h, w]` -> the maps that the head reads, the largest first.
    ///
    /// # Errors
    /// libtorch's.
    pub fn maps(&self, batch: &Tensor) -> Result<Vec<Tensor>, TchError> {
        match self {
            Self::Pyramid { backbone, fpn, .. } => {
                let features = backbone.forward(batch)?;
                let maps = fpn.forward(features.get(LEFT_OUT..).unwrap_or_default())?;
                features.into_iter().for_each(give_back);
                Ok(maps)
            }
            Self::Ssd { extractor, .. } => extractor.forward(batch),
        }
    }

    /// What the head says of each map.
    ///
    /// # Errors
    /// libtorch's.
    pub fn outputs(&self, maps: &[Tensor]) -> Result<Vec<LevelOutput>, TchError> {
        match self {
            Self::Pyramid { head, .. } => maps.iter().map(|map| head.forward(map)).collect(),
            Self::Ssd { head, .. } => {
                maps.iter().enumerate().map(|(i, map)| head.forward(i, map)).collect()
            }
        }
    }

    /// The detections of an image of `size` `(h, w)`, `padded` to the batch's; pixels of the resized image.
    ///
    /// # Errors
    /// libtorch's; and where the network's outputs are not finite.
    pub fn select(
        &self,
        outputs: &[LevelOutput],
        padded: (usize, usize),
        size: (usize, usize),
        settings: &OneStageSettings,
    ) -> Result<Vec<Scored>, DetectError> {
        match self {
            Self::Pyramid { anchors, coder, .. } => {
                let level =
                    |(i, output): (usize, &LevelOutput)| anchors.level(i, output.grid, padded);
                let levels: Vec<_> = outputs.iter().enumerate().map(level).collect();
                let anchor = |level: usize, index| levels[level].get(index);
                by_level(outputs, anchor, *coder, size, settings)
            }
            Self::Ssd { boxes, .. } => {
                let grids: Vec<(usize, usize)> = outputs.iter().map(|output| output.grid).collect();
                let anchors: Vec<Xyxy> = boxes.boxes(&grids, padded.0);
                let coder = Coder::Centre(BoxCoder { weights: [10.0, 10.0, 5.0, 5.0] });
                by_class(outputs, &anchors, coder, size, settings)
            }
        }
    }
}

impl SsdExtractor {
    fn widths(&self) -> Vec<i64> {
        match self {
            Self::Vgg(vgg) => vgg.widths(),
            Self::Lite(lite) => lite.widths(),
        }
    }

    fn forward(&self, batch: &Tensor) -> Result<Vec<Tensor>, TchError> {
        match self {
            Self::Vgg(vgg) => vgg.forward(batch),
            Self::Lite(lite) => lite.forward(batch),
        }
    }
}

fn transform(
    architecture: Architecture,
    settings: &OneStageSettings,
) -> Result<Transform, TchError> {
    let (mean, std) = match architecture {
        // Undoes the scaling to 0..1.
        Architecture::Ssd300Vgg16 => ([0.48235, 0.45882, 0.40784], [(1.0_f64 / 255.0) as f32; 3]),
        Architecture::SsdLite320MobileNetV3Large => ([0.5; 3], [0.5; 3]),
        _ => IMAGENET,
    };
    match architecture.fixed_size() {
        Some(_) => Transform::fixed(settings.min_size, mean, std),
        None => Transform::new(settings.min_size, settings.max_size),
    }
}

/// How many classes a convolution predicts for each of `anchors`.
fn classes_of(path: &str, conv: &Conv2d, anchors: usize) -> Result<i64, ModelError> {
    let (outputs, anchors) = (conv.outputs(), anchors as i64);
    // One output is what stands for a parameter that is missing, which is reported later.
    if outputs % anchors == 0 || outputs == 1 {
        return Ok((outputs / anchors).max(1));
    }
    Err(ModelError::Shape {
        name: path.to_owned(),
        found: vec![outputs as usize],
        expected: format!("a multiple of its {anchors} anchors"),
    })
}
