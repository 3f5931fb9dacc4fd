//! Reads what `fixtures/parity/generate.py` wrote.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use detgate::checkpoint::StateDict;
use detgate::dataset::image::RgbImage;
use detgate::model::boxes::{Xyxy, rows};
use detgate::model::roi_heads::Scored;
use detgate::model::{FasterRcnn, FasterRcnnSettings, channels_last};
use serde::Deserialize;
use tch::Tensor;

use crate::closeness::Reference;
use crate::random;

/// The seeded models, one per depth.
pub(crate) const ALL: [&str; 5] = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"];

/// What one `.json` says.
#[derive(Deserialize)]
pub(crate) struct Index {
    #[serde(default)]
    pub(crate) images: Vec<(u64, u32, u32)>,
    arrays: HashMap<String, Array>,
    #[serde(flatten)]
    pub(crate) model: Option<Model>,
}

/// The architecture of a case; only what `FasterRcnn` must *not* be told is left out of its use.
#[derive(Deserialize)]
pub(crate) struct Model {
    pub(crate) depth: Option<usize>,
    pub(crate) classes: usize,
    pub(crate) fpn: i64,
    pub(crate) seed: u64,
    detections: Option<usize>,
    rpn_score_thr: Option<f64>,
    min_size: usize,
    max_size: usize,
    pre_nms: usize,
    post_nms: usize,
    norm_eps: f64,
    stage_image: Option<(u64, u32, u32)>,
    pub(crate) stage_size: Option<(usize, usize)>,
    parameters: Vec<Parameter>,
}

#[derive(Deserialize)]
struct Parameter {
    name: String,
    shape: Vec<usize>,
    scale: f32,
    offset: f32,
}

#[derive(Deserialize)]
struct Array {
    dtype: String,
    shape: Vec<i64>,
    offset: usize,
}

impl Model {
    pub(crate) fn state_dict(&self) -> StateDict {
        let make =
            |p: &Parameter| random::parameter(self.seed, &p.name, &p.shape, p.scale, p.offset);
        self.parameters.iter().map(|p| (p.name.clone(), make(p))).collect()
    }

    pub(crate) fn settings(&self) -> FasterRcnnSettings {
        let defaults = FasterRcnnSettings::torchvision();
        FasterRcnnSettings {
            min_size: self.min_size,
            max_size: self.max_size,
            rpn_pre_nms_top_n: self.pre_nms,
            rpn_post_nms_top_n: self.post_nms,
            rpn_score_thr: self.rpn_score_thr.unwrap_or(defaults.rpn_score_thr),
            detections_per_image: self.detections.unwrap_or(defaults.detections_per_image),
            norm_eps: self.norm_eps,
            ..defaults
        }
    }

    pub(crate) fn build(&self) -> FasterRcnn {
        FasterRcnn::new(&self.state_dict(), &self.settings(), identity(self.classes)).unwrap()
    }

    pub(crate) fn stage_image(&self) -> RgbImage {
        let (seed, width, height) = self.stage_image.unwrap();
        random::picture(seed, width, height)
    }
}

/// Labels that are their own categories.
pub(crate) fn identity(classes: usize) -> BTreeMap<i64, i64> {
    (1..classes as i64).map(|label| (label, label)).collect()
}

/// A fixture: the index and the numbers.
pub(crate) struct Fixture {
    pub(crate) index: Index,
    bytes: Vec<u8>,
}

impl Fixture {
    pub(crate) fn load(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity").join(name);
        let json = std::fs::read(path.with_extension("json")).unwrap();
        let bytes = std::fs::read(path.with_extension("bin")).unwrap();
        Self { index: serde_json::from_slice(&json).unwrap(), bytes }
    }

    pub(crate) fn model(&self) -> &Model {
        self.index.model.as_ref().unwrap()
    }

    fn raw<const N: usize>(&self, name: &str, dtype: &str) -> impl Iterator<Item = [u8; N]> {
        let array = &self.index.arrays[name];
        assert_eq!(array.dtype, dtype, "{name}");
        let count = array.shape.iter().product::<i64>() as usize;
        self.bytes[array.offset..][..count * N].as_chunks::<N>().0.iter().copied()
    }

    pub(crate) fn f32(&self, name: &str) -> Vec<f32> {
        self.raw(name, "float32").map(f32::from_le_bytes).collect()
    }

    pub(crate) fn f64(&self, name: &str) -> Vec<f64> {
        self.raw(name, "float64").map(f64::from_le_bytes).collect()
    }

    pub(crate) fn i64(&self, name: &str) -> Vec<i64> {
        self.raw(name, "int64").map(i64::from_le_bytes).collect()
    }

    pub(crate) fn shape(&self, name: &str) -> &[i64] {
        &self.index.arrays[name].shape
    }

    /// A feature map `[1, c, h, w]` or a matrix; maps channels-last, as the stages pass them on.
    pub(crate) fn tensor(&self, name: &str) -> Tensor {
        let tensor = Tensor::from_slice(&self.f32(name)).reshape(self.shape(name));
        if tensor.dim() == 4 { channels_last(&tensor).unwrap() } else { tensor }
    }

    pub(crate) fn boxes(&self, name: &str) -> Vec<Xyxy> {
        rows(&self.f32(name)).to_vec()
    }

    /// Detections in float64.
    pub(crate) fn references(&self, name: &str) -> Vec<Reference> {
        let part = |part: &str| format!("{name}/{part}");
        let (boxes, scores) = (self.f64(&part("boxes")), self.f64(&part("scores")));
        let corners = boxes.as_chunks().0.iter().copied();
        let parts = self.i64(&part("labels")).into_iter().zip(corners).zip(scores);
        parts.map(|((label, corners), score)| (label, corners, score)).collect()
    }

    pub(crate) fn detections(&self, name: &str) -> Vec<Scored> {
        let (scores, labels) =
            (self.f32(&format!("{name}/scores")), self.i64(&format!("{name}/labels")));
        let boxes = self.boxes(&format!("{name}/boxes"));
        let parts = boxes.into_iter().zip(scores).zip(labels);
        parts.map(|((corners, score), label)| Scored { corners, score, label }).collect()
    }
}
