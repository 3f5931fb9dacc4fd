//! torchvision's other Faster R-CNNs (v2, ResNeXt, MobileNetV3), and the first at its own widths, against
//! torchvision 0.28 eager, stage by stage and end to end, on seeded weights.
//!
//! Every stage is fed inputs that both sides make from the seed, and compared by samples of its output. The
//! references and their generator, `two_stage.py`, are in `fixtures/parity`.
#![cfg(feature = "torch")]

#[path = "parity/closeness.rs"]
mod closeness;
#[path = "parity/fixture.rs"]
#[allow(dead_code, reason = "tests/parity.rs uses the rest")]
mod fixture;
#[path = "parity/random.rs"]
mod random;
#[path = "parity/sampled.rs"]
mod sampled;

use closeness::Closeness;
use detgate::model::roi_align::{multi_scale_roi_align, roi_levels};
use detgate::model::rpn::{RpnOutput, candidates};
use detgate::model::{Architecture, FasterRcnn, FasterRcnnSettings};
use fixture::{Fixture, identity};
use tch::Tensor;

const ALL: [&str; 5] =
    ["resnet50_full", "resnet50_v2", "resnext50", "mobilenet_v3", "mobilenet_v3_320"];

/// A seeded model, ours and torchvision's outputs.
struct Case {
    name: &'static str,
    fixture: Fixture,
    model: FasterRcnn,
}

impl Case {
    fn load(name: &'static str) -> Self {
        let fixture = Fixture::load(name);
        let model = fixture.model().build();
        Self { name, fixture, model }
    }

    fn assert_sampled(&self, stage: &str, found: &Tensor) {
        let seed = self.fixture.model().seed;
        sampled::assert_sampled(&self.fixture, (self.name, seed), stage, found);
    }

    fn input(&self, name: &str, shape: &[i64]) -> Tensor {
        sampled::input(self.fixture.model().seed, name, shape)
    }

    /// `(height, width)` of the stages' picture.
    fn size(&self) -> (usize, usize) {
        self.fixture.model().stage_size.unwrap()
    }

    /// Seeded maps with the shapes of a stage's outputs.
    fn maps(&self, input: &str, stage: &str, count: usize) -> Vec<Tensor> {
        let shape = |i: usize| self.fixture.i64(&format!("{stage}/{i}/shape"));
        (0..count).map(|i| self.input(&format!("{input}/{i}"), &shape(i))).collect()
    }

    /// The pyramid, its topmost level included.
    fn pyramid(&self) -> Vec<Tensor> {
        self.maps("level", "fpn", self.model.backbone.strides().len() + 1)
    }
}

#[test]
fn the_model_is_read_from_the_state_dict() {
    for name in ALL {
        let fixture = Fixture::load(name);
        let model = fixture.model();
        let weights = model.state_dict();
        assert_eq!(Architecture::recognise(&weights).unwrap(), Architecture::FasterRcnn, "{name}");
        assert_eq!(Architecture::FasterRcnn.num_classes(&weights), model.classes, "{name}");
        assert_eq!(model.build().num_classes(), model.classes, "{name}");
    }
}

/// torchvision's two MobileNets have one state dict: their sizes tell them apart.
#[test]
fn thresholds_are_those_of_torchvisions_builder() {
    let settings = |name: &str, min_size, max_size| {
        let weights = Fixture::load(name).model().state_dict();
        let found = FasterRcnnSettings::for_weights(&weights, min_size, max_size);
        (found.rpn_score_thr, found.rpn_pre_nms_top_n, found.rpn_post_nms_top_n)
    };
    assert_eq!(settings("resnet50_v2", 800, 1333), (0.0, 1000, 1000));
    assert_eq!(settings("mobilenet_v3", 800, 1333), (0.05, 1000, 1000));
    assert_eq!(settings("mobilenet_v3", 320, 640), (0.05, 150, 150));
}

#[test]
fn backbone_and_pyramid() {
    for name in ALL {
        let case = Case::load(name);
        let (height, width) = case.size();
        let batch = case.input("backbone", &[1, 3, height as i64, width as i64]);
        let features = case.model.backbone.forward(&batch).unwrap();
        for (i, level) in features.iter().enumerate() {
            case.assert_sampled(&format!("backbone/{i}"), level);
        }
        let maps = case.maps("fpn", "backbone", features.len());
        for (i, level) in case.model.fpn.forward(&maps).unwrap().iter().enumerate() {
            case.assert_sampled(&format!("fpn/{i}"), level);
        }
    }
}

#[test]
fn rpn_head_and_decoded_anchors() {
    for name in ALL {
        let case = Case::load(name);
        let mut grids = Vec::new();
        for (i, level) in case.pyramid().iter().enumerate() {
            let RpnOutput { objectness, deltas, grid } = case.model.rpn.forward(level).unwrap();
            let by_place = |all: &Tensor| all.reshape([1, grid.0 as i64, grid.1 as i64, -1]);
            case.assert_sampled(&format!("objectness/{i}"), &by_place(&objectness));
            case.assert_sampled(&format!("deltas/{i}"), &by_place(&deltas));
            grids.push((grid, objectness.size()[0]));
        }
        let anchors = grids.iter().map(|(_, count)| count).sum();
        let deltas = case.input("decoded", &[anchors, 4]);
        let mut start = 0;
        let outputs = grids.into_iter().map(|(grid, count)| {
            start += count;
            // Falling, so that the sort by logit leaves the anchors where they are.
            let objectness =
                Tensor::arange_start_step(count, 0, -1, (tch::Kind::Float, tch::Device::Cpu));
            RpnOutput { objectness, deltas: deltas.narrow(0, start - count, count), grid }
        });
        let outputs: Vec<_> = outputs.collect();
        let all = candidates(&outputs, &case.model.anchors, case.size(), usize::MAX >> 1).unwrap();
        let corners: Vec<f32> = all.iter().flat_map(|candidate| candidate.corners).collect();
        case.assert_sampled("decoded", &Tensor::from_slice(&corners).reshape([anchors, 4]));
    }
}

#[test]
fn roi_align_and_box_head() {
    for name in ALL {
        let case = Case::load(name);
        let (model, rois) = (&case.model, case.fixture.boxes("rois"));
        let levels = roi_levels(&rois, model.backbone.strides()).unwrap();
        let levels: Vec<i64> = levels.into_iter().map(|level| level as i64).collect();
        assert_eq!(levels, case.fixture.i64("roi_levels"), "{name}");
        let pooled =
            multi_scale_roi_align(&case.pyramid(), model.backbone.strides(), &rois).unwrap();
        let shape = [rois.len() as i64, case.fixture.model().fpn, 7, 7];
        case.assert_sampled("pooled", &pooled.transpose(1, 2).reshape(shape));
        let flat = [70, shape[1], 49];
        let pooled = case.input("pooled", &[70, shape[1], 7, 7]).reshape(flat).transpose(1, 2);
        let hidden = model.head.features(&pooled.contiguous()).unwrap();
        case.assert_sampled("hidden", &hidden);
        let (logits, deltas) = model.head.predict(&case.input("hidden", &hidden.size())).unwrap();
        case.assert_sampled("logits", &logits);
        case.assert_sampled("box_deltas", &deltas);
    }
}

#[test]
fn end_to_end_at_least_as_close_to_float64_as_torchvision_itself() {
    let mut all = Closeness::default();
    for name in ALL {
        let mut closeness = Closeness::default();
        let Case { fixture, model, .. } = Case::load(name);
        for (i, &(seed, width, height)) in fixture.index.images.iter().enumerate() {
            let ours = model.predict(&random::picture(seed, width, height)).unwrap();
            let theirs = fixture.detections(&format!("end/{i}/channels_last"));
            let reference = fixture.references(&format!("end/{i}/float64"));
            closeness.add(&format!("{name} {i}"), (&ours, &theirs), &reference, 60);
        }
        all.join(name, closeness);
    }
    all.assert("all");
}

/// `extra_blocks=LastLevelP6P7` gives a pyramid of six levels, whose anchors no state dict holds.
#[test]
fn a_pyramid_with_retinanets_top_is_refused() {
    let fixture = Fixture::load("resnet50_v2");
    let model = fixture.model();
    let mut weights = model.state_dict();
    let width = model.fpn as usize;
    for level in ["p6", "p7"] {
        let name = |part: &str| format!("backbone.fpn.extra_blocks.{level}.{part}");
        let zeros = |shape: &[usize]| {
            let count = shape.iter().product();
            detgate::checkpoint::Tensor::from_f32(shape, vec![0.0; count])
        };
        weights.insert(name("weight"), zeros(&[width, width, 3, 3]));
        weights.insert(name("bias"), zeros(&[width]));
    }
    let error = FasterRcnn::new(&weights, &model.settings(), identity(model.classes)).unwrap_err();
    assert!(error.to_string().contains("5") && error.to_string().contains("4"), "{error}");
}

/// Mask R-CNN and Keypoint R-CNN have the boxes of Faster R-CNN, and further heads.
#[test]
fn heads_for_masks_and_keypoints_are_passed_over() {
    let fixture = Fixture::load("resnet50_v2");
    let model = fixture.model();
    let mut weights = model.state_dict();
    for name in
        ["roi_heads.mask_head.0.0.weight", "roi_heads.keypoint_predictor.kps_score_lowres.bias"]
    {
        weights.insert(name.to_owned(), detgate::checkpoint::Tensor::from_f32(&[1], vec![1.0]));
    }
    FasterRcnn::new(&weights, &model.settings(), identity(model.classes)).unwrap();
}
