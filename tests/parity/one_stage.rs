//! The cases of `fixtures/parity/one_stage.py`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use detgate::checkpoint::StateDict;
use detgate::dataset::image::RgbImage;
use detgate::model::{Architecture, ModelError, OneStage, OneStageSettings};
use serde::Deserialize;

use crate::closeness::Reference;
use crate::fixture::{Fixture, identity};
use crate::random;

/// What a `.json` says beside its arrays; of the architecture only what no state dict holds.
#[derive(Deserialize)]
struct Described {
    seed: u64,
    classes: usize,
    detections: usize,
    topk: usize,
    norm_eps: f64,
    min_size: Option<usize>,
    max_size: Option<usize>,
    stage_size: (usize, usize),
    parameters: Vec<Parameter>,
}

#[derive(Deserialize)]
struct Parameter {
    name: String,
    shape: Vec<usize>,
    scale: f32,
    offset: f32,
}

/// A seeded model and torchvision's outputs.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) architecture: Architecture,
    pub(crate) fixture: Fixture,
    pub(crate) seed: u64,
    pub(crate) classes: usize,
    pub(crate) detections: usize,
    pub(crate) stage_size: (usize, usize),
    described: Described,
}

impl Case {
    pub(crate) fn load(name: &'static str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity").join(name);
        let json = std::fs::read(path.with_extension("json")).unwrap();
        let described: Described = serde_json::from_slice(&json).unwrap();
        let architecture = match name {
            "retinanet" | "retinanet_v2" => Architecture::RetinaNet,
            "fcos" => Architecture::Fcos,
            "ssd300" => Architecture::Ssd300Vgg16,
            "ssdlite320" => Architecture::SsdLite320MobileNetV3Large,
            other => panic!("{other}"),
        };
        let Described { seed, classes, detections, stage_size, .. } = described;
        let fixture = Fixture::load(name);
        Self { name, architecture, fixture, seed, classes, detections, stage_size, described }
    }

    pub(crate) fn state_dict(&self) -> StateDict {
        let make =
            |p: &Parameter| random::parameter(self.seed, &p.name, &p.shape, p.scale, p.offset);
        self.described.parameters.iter().map(|p| (p.name.clone(), make(p))).collect()
    }

    /// torchvision's, but for what the case makes smaller.
    pub(crate) fn settings(&self) -> OneStageSettings {
        let defaults = OneStageSettings::torchvision(self.architecture);
        assert_eq!(defaults.norm_eps, self.described.norm_eps);
        OneStageSettings {
            min_size: self.described.min_size.unwrap_or(defaults.min_size),
            max_size: self.described.max_size.unwrap_or(defaults.max_size),
            topk_candidates: self.described.topk,
            detections_per_image: self.detections,
            ..defaults
        }
    }

    pub(crate) fn build(&self) -> OneStage {
        self.with(&self.state_dict(), identity(self.classes)).unwrap()
    }

    pub(crate) fn with(
        &self,
        weights: &StateDict,
        labels: BTreeMap<i64, i64>,
    ) -> Result<OneStage, ModelError> {
        OneStage::new(self.architecture, weights, &self.settings(), labels)
    }

    pub(crate) fn images(&self) -> usize {
        self.fixture.index.images.len()
    }

    pub(crate) fn picture(&self, image: usize) -> RgbImage {
        let (seed, width, height) = self.fixture.index.images[image];
        random::picture(seed, width, height)
    }

    /// torchvision's detections in float64.
    pub(crate) fn float64(&self, image: usize) -> Vec<Reference> {
        self.fixture.references(&format!("end/{image}/float64"))
    }
}
