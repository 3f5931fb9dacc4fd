//! Which detector a state dict is of: its names tell.
//!
//! Deliberately absent: a choice by the user, who would have to be right; and names of Python classes, which no
//! state dict holds.

use std::fmt;

use super::error::ModelError;
use crate::checkpoint::StateDict;

/// The detectors of `torchvision.models.detection` that detgate computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// `FasterRCNN` with a ResNet or MobileNetV3 pyramid; and the boxes of `MaskRCNN` and `KeypointRCNN`.
    FasterRcnn,
    /// `retinanet_resnet50_fpn` and `_v2`, of any ResNet.
    RetinaNet,
    /// `fcos_resnet50_fpn`, of any ResNet.
    Fcos,
    /// `ssd300_vgg16`.
    Ssd300Vgg16,
    /// `ssdlite320_mobilenet_v3_large`.
    SsdLite320MobileNetV3Large,
}

impl Architecture {
    /// By a name that only this architecture has.
    ///
    /// # Errors
    /// [`ModelError::Unknown`].
    pub fn recognise(weights: &StateDict) -> Result<Self, ModelError> {
        let has = |prefix: &str| has_prefix(weights, prefix);
        if has("rpn.head.") || has("roi_heads.box_predictor.") {
            Ok(Self::FasterRcnn)
        } else if has("head.regression_head.bbox_ctrness.") {
            Ok(Self::Fcos)
        } else if has("head.classification_head.cls_logits.") {
            Ok(Self::RetinaNet)
        } else if weights.contains_key("backbone.scale_weight") {
            Ok(Self::Ssd300Vgg16)
        } else if has("head.classification_head.module_list.0.0.0.") {
            Ok(Self::SsdLite320MobileNetV3Large)
        } else {
            Err(ModelError::Unknown { resembles: resembles(weights) })
        }
    }

    /// Classes that the detector distinguishes, background included; 0 where the state dict misses what says it.
    pub fn num_classes(self, weights: &StateDict) -> usize {
        // How many outputs there are for each class.
        let (bias, anchors) = match self {
            Self::FasterRcnn => ("roi_heads.box_predictor.cls_score.bias", 1),
            Self::RetinaNet => ("head.classification_head.cls_logits.bias", 9),
            Self::Fcos => ("head.classification_head.cls_logits.bias", 1),
            Self::Ssd300Vgg16 => ("head.classification_head.module_list.0.bias", 4),
            Self::SsdLite320MobileNetV3Large => {
                ("head.classification_head.module_list.0.1.bias", 6)
            }
        };
        weights.get(bias).map_or(0, |bias| bias.len() / anchors)
    }

    /// What torchvision's Python class is called.
    pub const fn class_name(self) -> &'static str {
        match self {
            Self::FasterRcnn => "FasterRCNN",
            Self::RetinaNet => "RetinaNet",
            Self::Fcos => "FCOS",
            Self::Ssd300Vgg16 | Self::SsdLite320MobileNetV3Large => "SSD",
        }
    }

    /// Both sides of the images that it takes, pixels, where that is not a setting.
    pub const fn fixed_size(self) -> Option<u32> {
        match self {
            Self::FasterRcnn | Self::RetinaNet | Self::Fcos => None,
            Self::Ssd300Vgg16 => Some(300),
            Self::SsdLite320MobileNetV3Large => Some(320),
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FasterRcnn => "Faster R-CNN",
            Self::RetinaNet => "RetinaNet",
            Self::Fcos => "FCOS",
            Self::Ssd300Vgg16 => "ssd300_vgg16",
            Self::SsdLite320MobileNetV3Large => "ssdlite320_mobilenet_v3_large",
        })
    }
}

/// What a state dict that is none of these may be of, by names that its kind is known for.
fn resembles(weights: &StateDict) -> &'static str {
    let kinds = [
        ("transformer.decoder.", "a DETR"),
        ("model.decoder.", "a DETR"),
        ("class_labels_classifier.", "a DETR"),
        ("model.0.conv.", "a YOLO"),
        ("model.model.0.conv.", "a YOLO"),
        ("roi_heads.", "an R-CNN without its region proposal network"),
        ("head.", "a one-stage detector without its class logits"),
        ("module.", "a model that was saved inside of DataParallel (names begin with module.)"),
        ("fc.", "a classifier"),
        ("classifier.", "a classifier"),
        ("heads.", "a classifier"),
    ];
    let known = kinds.iter().find(|(prefix, _)| has_prefix(weights, prefix));
    known.map_or("another model", |(_, kind)| kind)
}

fn has_prefix(weights: &StateDict, prefix: &str) -> bool {
    weights.keys().any(|name| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Tensor;

    fn of(names: &[&str]) -> Result<Architecture, String> {
        let one = Tensor::from_f32(&[1], vec![1.0]);
        let dict: StateDict = names.iter().map(|name| (name.to_string(), one.clone())).collect();
        Architecture::recognise(&dict).map_err(|error| error.to_string())
    }

    #[test]
    fn masks_and_keypoints_do_not_hide_the_boxes() {
        for more in ["roi_heads.mask_head.mask_fcn1.weight", "roi_heads.keypoint_head.0.weight"] {
            let names =
                ["rpn.head.cls_logits.bias", "roi_heads.box_predictor.cls_score.bias", more];
            assert_eq!(of(&names), Ok(Architecture::FasterRcnn));
        }
    }

    #[test]
    fn what_is_not_known_is_refused_in_a_sentence_that_says_what_it_is_like() {
        for (names, like) in [
            (["transformer.decoder.norm.bias", "class_embed.bias"], "a DETR"),
            (["model.0.conv.weight", "model.22.dfl.conv.weight"], "a YOLO"),
            (["layer1.0.conv1.weight", "fc.weight"], "a classifier"),
            (["module.rpn.head.conv.weight", "module.backbone.body.conv1.weight"], "DataParallel"),
            (["encoder.weight", "decoder.weight"], "another model"),
        ] {
            let text = of(&names).unwrap_err();
            assert!(text.contains(like) && text.contains("FCOS") && !text.contains('\n'), "{text}");
            assert!(text.contains("--torchscript"), "{text}");
        }
    }
}
