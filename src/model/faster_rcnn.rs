//! The assembled detector: `torchvision.models.detection.FasterRCNN` in evaluation mode.

use std::collections::BTreeMap;

use tch::Tensor;

use super::anchors::AnchorShapes;
use super::backbone::Backbone;
use super::boxes::Xyxy;
use super::buffers::give_back;
use super::error::ModelError;
use super::fpn::Fpn;
use super::roi_align::multi_scale_roi_align;
use super::roi_heads::{BoxHead, Scored, SelectionSettings, select};
use super::rpn::{RpnHead, RpnSettings, candidates, filter_proposals};
use super::threads::init_thread;
use super::transform::{Transform, resize_boxes};
use super::weights::Weights;
use crate::checkpoint::StateDict;
use crate::config::Precision;
use crate::dataset::{Bbox, image::RgbImage};
use crate::detections::{DetectError, Detection, Detector};

/// What a state dict does not say; the names are torchvision's, for `FasterRCNN.__init__`.
#[derive(Debug, Clone, PartialEq)]
pub struct FasterRcnnSettings {
    /// Images are resized so that the shorter side has this length, pixels (`min_size`) ...
    pub min_size: usize,
    /// ... but the longer one at most this one, pixels (`max_size`).
    pub max_size: usize,
    /// Detections must score above this (`box_score_thresh`).
    pub score_thr: f64,
    /// IoU above which the lower of two detections of a class is suppressed (`box_nms_thresh`).
    pub nms_iou: f64,
    /// Most detections of an image, all classes together (`box_detections_per_img`).
    pub detections_per_image: usize,
    /// Proposals per pyramid level before NMS (`rpn_pre_nms_top_n_test`).
    pub rpn_pre_nms_top_n: usize,
    /// Proposals per image after NMS (`rpn_post_nms_top_n_test`).
    pub rpn_post_nms_top_n: usize,
    /// IoU above which the lower of two proposals is suppressed (`rpn_nms_thresh`).
    pub rpn_nms_thr: f64,
    /// Lowest objectness of a proposal, 0..1 (`rpn_score_thresh`).
    pub rpn_score_thr: f64,
    /// `eps` of the batch normalisations. 1e-5, except for weights that were trained before torchvision
    /// 0.8.2, such as its own pretrained COCO weights: 0.0 (`overwrite_eps`). No state dict says it.
    pub norm_eps: f64,
    /// How many classes the checkpoint's class map names, background included, if it has one. A box
    /// predictor of another size is then refused.
    pub num_classes: Option<usize>,
    /// In which numbers products are computed.
    pub precision: Precision,
}

impl FasterRcnnSettings {
    /// torchvision 0.28's defaults for the detector that `weights` describes, with images of `min_size`
    /// and `max_size`.
    ///
    /// `fasterrcnn_mobilenet_v3_large_fpn` and `fasterrcnn_mobilenet_v3_large_320_fpn` have the same state
    /// dict; which of the two it is, these sizes say: 320 and 640 mean the second, with its 150 proposals.
    pub fn for_weights(weights: &StateDict, min_size: usize, max_size: usize) -> Self {
        let defaults = match weights.contains_key("backbone.body.0.0.weight") {
            true if (min_size, max_size) == (320, 640) => Self::mobilenet_v3_large_320_fpn(),
            true => Self::mobilenet_v3_large_fpn(),
            false => Self::torchvision(),
        };
        Self { min_size, max_size, ..defaults }
    }

    /// torchvision 0.28's defaults for `fasterrcnn_mobilenet_v3_large_fpn`.
    pub const fn mobilenet_v3_large_fpn() -> Self {
        Self { rpn_score_thr: 0.05, ..Self::torchvision() }
    }

    /// torchvision 0.28's defaults for `fasterrcnn_mobilenet_v3_large_320_fpn`.
    pub const fn mobilenet_v3_large_320_fpn() -> Self {
        Self {
            min_size: 320,
            max_size: 640,
            rpn_pre_nms_top_n: 150,
            rpn_post_nms_top_n: 150,
            ..Self::mobilenet_v3_large_fpn()
        }
    }

    /// torchvision 0.28's defaults for `FasterRCNN`, and so for `fasterrcnn_resnet50_fpn` and `_v2`.
    pub const fn torchvision() -> Self {
        Self {
            min_size: 800,
            max_size: 1333,
            score_thr: 0.05,
            nms_iou: 0.5,
            detections_per_image: 100,
            rpn_pre_nms_top_n: 1000,
            rpn_post_nms_top_n: 1000,
            rpn_nms_thr: 0.7,
            rpn_score_thr: 0.0,
            norm_eps: 1e-5,
            num_classes: None,
            precision: Precision::F32,
        }
    }

    fn check(&self) -> Result<(), ModelError> {
        let counts = [
            ("min_size", self.min_size),
            ("max_size", self.max_size),
            ("detections_per_image", self.detections_per_image),
            ("rpn_pre_nms_top_n", self.rpn_pre_nms_top_n),
            ("rpn_post_nms_top_n", self.rpn_post_nms_top_n),
        ];
        for (name, value) in counts {
            if value == 0 {
                return Err(ModelError::Setting {
                    name,
                    value: value.to_string(),
                    expected: "at least 1",
                });
            }
        }
        let fractions = [
            ("score_thr", self.score_thr),
            ("nms_iou", self.nms_iou),
            ("rpn_nms_thr", self.rpn_nms_thr),
            ("rpn_score_thr", self.rpn_score_thr),
            ("norm_eps", self.norm_eps),
        ];
        for (name, value) in fractions {
            if !(0.0..=1.0).contains(&value) {
                return Err(ModelError::Setting {
                    name,
                    value: value.to_string(),
                    expected: "0 to 1",
                });
            }
        }
        Ok(())
    }

    fn rpn(&self) -> RpnSettings {
        RpnSettings {
            pre_nms_top_n: self.rpn_pre_nms_top_n,
            post_nms_top_n: self.rpn_post_nms_top_n,
            nms_thr: self.rpn_nms_thr,
            score_thr: self.rpn_score_thr,
        }
    }

    fn selection(&self) -> SelectionSettings {
        SelectionSettings {
            score_thr: self.score_thr,
            nms_iou: self.nms_iou,
            detections_per_image: self.detections_per_image,
        }
    }
}

impl Default for FasterRcnnSettings {
    fn default() -> Self {
        Self::torchvision()
    }
}

/// A loaded Faster R-CNN. Its stages are public for comparison with torchvision's.
#[derive(Debug)]
pub struct FasterRcnn {
    /// Pixels to batch.
    pub transform: Transform,
    /// Batch to features.
    pub backbone: Backbone,
    /// Features to pyramid.
    pub fpn: Fpn,
    /// What the region proposal network starts from.
    pub anchors: AnchorShapes,
    /// Pyramid to objectness and deltas.
    pub rpn: RpnHead,
    /// Pooled features to class logits and deltas.
    pub head: BoxHead,
    rpn_settings: RpnSettings,
    selection: SelectionSettings,
    label_to_category: BTreeMap<i64, i64>,
}

impl FasterRcnn {
    /// Builds the detector that `weights` describes: backbone, normalisation, all widths, the RPN's and
    /// the box head's layers and the number of classes are read from its names and shapes.
    ///
    /// `label_to_category` maps the checkpoint's own labels (1 and up) to category ids. Detections of a
    /// label that it does not have are dropped, after the selection of the best per image, as one
    /// would drop them from torchvision's output.
    ///
    /// # Errors
    /// Where the state dict is not that of such a model, its number of classes is not that of the
    /// class map, or a setting is out of range; see [`ModelError`].
    pub fn new(
        weights: &StateDict,
        settings: &FasterRcnnSettings,
        label_to_category: BTreeMap<i64, i64>,
    ) -> Result<Self, ModelError> {
        settings.check()?;
        init_thread()?;
        let _no_grad = tch::no_grad_guard();
        let weights = Weights::new(weights).computed_in(settings.precision)?;
        let eps = settings.norm_eps;
        let backbone = Backbone::load(&weights, eps)?;
        let expected = backbone.strides().len();
        // RetinaNet's convolutions at the top are two levels where Faster R-CNN has one, which its anchors are made for.
        let more = usize::from(weights.contains("backbone.fpn.extra_blocks.p6.weight"));
        check_levels(Fpn::levels(&weights) + more, expected)?;
        let fpn = Fpn::load(&weights, &backbone.widths(), eps)?;
        let anchors = anchors(&backbone);
        let rpn = RpnHead::load(&weights, fpn.width(), anchors.per_place())?;
        let head = BoxHead::load(&weights, fpn.width(), eps)?;
        // What Mask R-CNN and Keypoint R-CNN compute from the boxes does not change these.
        weights.skip_all("roi_heads.mask_");
        weights.skip_all("roi_heads.keypoint_");
        weights.finish()?;
        check_classes(head.num_classes(), settings.num_classes, &label_to_category)?;
        Ok(Self {
            transform: Transform::new(settings.min_size, settings.max_size)?,
            backbone,
            fpn,
            anchors,
            rpn,
            head,
            rpn_settings: settings.rpn(),
            selection: settings.selection(),
            label_to_category,
        })
    }

    /// Classes of the box predictor, background included.
    pub fn num_classes(&self) -> usize {
        self.head.num_classes()
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
        let features = self.backbone.forward(&input.batch)?;
        let pyramid = self.fpn.forward(&features)?;
        features.into_iter().for_each(give_back);
        let proposals = self.propose(&pyramid, &input.batch, input.size)?;
        if proposals.is_empty() {
            return Ok(Vec::new());
        }
        let pooled = multi_scale_roi_align(&pyramid, self.backbone.strides(), &proposals)?;
        pyramid.into_iter().for_each(give_back);
        let hidden = self.head.features(&pooled)?;
        give_back(pooled);
        let (logits, deltas) = self.head.predict(&hidden)?;
        let mut found = select((&logits, &deltas), &proposals, input.size, &self.selection)?;
        let original = (image.height as usize, image.width as usize);
        for scored in &mut found {
            resize_boxes(std::slice::from_mut(&mut scored.corners), input.size, original);
        }
        Ok(found)
    }

    fn propose(
        &self,
        pyramid: &[Tensor],
        batch: &Tensor,
        size: (usize, usize),
    ) -> Result<Vec<Xyxy>, DetectError> {
        let outputs =
            pyramid.iter().map(|level| self.rpn.forward(level)).collect::<Result<Vec<_>, _>>()?;
        let (_, _, height, width) = batch.size4()?;
        let padded = (height as usize, width as usize);
        let found = candidates(&outputs, &self.anchors, padded, self.rpn_settings.pre_nms_top_n)?;
        Ok(filter_proposals(&found, size, &self.rpn_settings)?)
    }
}

impl Detector for FasterRcnn {
    fn detect(&self, image: &RgbImage) -> Result<Vec<Detection>, DetectError> {
        Ok(to_detections(self.predict(image)?, &self.label_to_category))
    }
}

/// What has a category.
pub(super) fn to_detections(
    found: Vec<Scored>,
    label_to_category: &BTreeMap<i64, i64>,
) -> Vec<Detection> {
    let to_detection = |scored: Scored| {
        let category_id = *label_to_category.get(&scored.label)?;
        let bbox = Bbox::from_xyxy(scored.corners.map(f64::from));
        Some(Detection { bbox, score: f64::from(scored.score), category_id })
    };
    found.into_iter().filter_map(to_detection).collect()
}

/// The anchors of torchvision's detector with that backbone.
fn anchors(backbone: &Backbone) -> AnchorShapes {
    match backbone {
        Backbone::ResNet(_) => AnchorShapes::one_size_per_level(),
        Backbone::MobileNetV3(_) => AnchorShapes::all_sizes_on_three_levels(),
    }
}

/// A pyramid without any level is reported by the names that it misses.
pub(super) fn check_levels(found: usize, expected: usize) -> Result<(), ModelError> {
    match found == expected || found == 0 {
        true => Ok(()),
        false => Err(ModelError::Levels { found, expected }),
    }
}

pub(super) fn check_classes(
    found: usize,
    expected: Option<usize>,
    label_to_category: &BTreeMap<i64, i64>,
) -> Result<(), ModelError> {
    if let Some(expected) = expected.filter(|&expected| expected != found) {
        return Err(ModelError::ClassCount { found, expected });
    }
    let known = 1..found as i64;
    match label_to_category.keys().find(|label| !known.contains(label)) {
        Some(&label) => Err(ModelError::Label { label, last: found - 1 }),
        None => Ok(()),
    }
}
