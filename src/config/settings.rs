//! `detgate.toml`: every key, with its default.
//!
//! The doc comments here are what users read: they become the descriptions of the published JSON
//! Schema. Deliberately absent: what a file must satisfy beyond the type and range of each key
//! (`gate.rs`), and how mistakes are said (`mistakes.rs`).

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cache::Cache;
use super::gate::Gate;
use super::{ConfigError, LabelKind, Precision, mistakes};

/// Settings of detgate for one project. Every key has a default; paths are relative to the project.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    pub(super) data: Data,
    pub(super) model: Model,
    pub(super) inference: Inference,
    pub(super) cache: Cache,
    pub(super) practical: Practical,
    pub(super) gate: Gate,
    pub(super) report: Report,
    pub(super) registry: Registry,
}

/// What is evaluated.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Data {
    /// COCO ground truth; by default data/processed/coco_{classes}_val.json.
    pub(super) ground_truth: Option<PathBuf>,
    /// The folder of the validation images; by default val_dir of project_config.json.
    pub(super) images: Option<PathBuf>,
    /// Evaluate every category of the ground truth, not only those of the label map.
    pub(super) all_categories: bool,
    /// How many images are evaluated, in file order; 0 for all.
    pub(super) max_images: usize,
}

impl Default for Data {
    fn default() -> Self {
        Self { ground_truth: None, images: None, all_categories: false, max_images: 300 }
    }
}

/// The model, and how images are given to it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Model {
    /// The checkpoint: a file, or that of a registered version as models:/NAME/VERSION or models:/NAME@ALIAS; by default the newest best_*.pt or best_*.safetensors in checkpoint_dir.
    pub(super) checkpoint: Option<PathBuf>,
    /// Where the newest best_*.pt or best_*.safetensors is looked for.
    pub(super) checkpoint_dir: PathBuf,
    /// An exported TorchScript detector, evaluated instead of a checkpoint.
    pub(super) torchscript: Option<PathBuf>,
    /// What the labels of the TorchScript detector are.
    pub(super) torchscript_labels: LabelKind,
    /// Length of the short side of the model's input, pixels; by default torchvision's for the architecture, 800.
    #[schemars(range(min = 1, max = 16384))]
    pub(super) min_size: Option<u32>,
    /// Greatest length of the long side of the model's input, pixels; by default torchvision's for the architecture,
    /// 1333.
    #[schemars(range(min = 1, max = 16384))]
    pub(super) max_size: Option<u32>,
    /// Epsilon of the model's batch normalisation; by default torchvision's for the architecture, 1e-5 or 1e-3.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub(super) norm_eps: Option<f64>,
    /// In which numbers the products of the model's layers are computed; a baseline is only compared with runs of the
    /// same.
    pub(super) precision: Precision,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            checkpoint: None,
            checkpoint_dir: "models/local_checkpoints".into(),
            torchscript: None,
            torchscript_labels: LabelKind::Category,
            min_size: None,
            max_size: None,
            norm_eps: None,
            precision: Precision::F32,
        }
    }
}

/// How all images are run.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Inference {
    /// Images evaluated at once, each on one thread; 0 for one per core.
    pub(super) workers: usize,
    /// Count and list images that cannot be decoded instead of stopping.
    pub(super) skip_bad_images: bool,
}

/// The thresholds of precision, recall and F1.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Practical {
    /// Least score that counts.
    #[schemars(range(min = 0, max = 1))]
    pub(super) score_thr: f64,
    /// IoU from which a detection has found an object.
    #[schemars(range(min = 0, max = 1))]
    pub(super) iou_thr: f64,
}

impl Default for Practical {
    fn default() -> Self {
        Self { score_thr: 0.5, iou_thr: 0.5 }
    }
}

/// What is written.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Report {
    /// Where the JSON report goes.
    pub(super) path: PathBuf,
}

impl Default for Report {
    fn default() -> Self {
        Self { path: "reports/evaluation.json".into() }
    }
}

/// How a model that passed is registered in MLflow.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Registry {
    /// Register a model that passed.
    pub(super) register: bool,
    /// sqlite:///FILE or http(s)://HOST.
    pub(super) tracking_uri: String,
    /// The MLflow experiment; by default {project_name}_evaluation.
    pub(super) experiment: Option<String>,
    /// The name of the registered model; by default {project_name}_detector.
    pub(super) model_name: Option<String>,
    /// The alias that a version gets when it is registered; empty for none.
    pub(super) alias: String,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            register: true,
            tracking_uri: "sqlite:///mlflow.db".to_owned(),
            experiment: None,
            model_name: None,
            alias: "candidate".to_owned(),
        }
    }
}

/// Reads `detgate.toml` in the project root; all defaults when there is none.
pub(super) fn read(root: &Path) -> Result<Settings, ConfigError> {
    match read_file(&root.join("detgate.toml")) {
        Err(ConfigError::Read { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(Settings::default())
        }
        other => other,
    }
}

/// Reads settings from a file that must be there.
pub(super) fn read_file(path: &Path) -> Result<Settings, ConfigError> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let parsed = mistakes::parse(&bytes);
            let mut settings = parsed.map_err(|mistake| mistake.in_file(path.to_owned()))?;
            settings.gate.places.set_file(path);
            Ok(settings)
        }
        Err(error) => Err(ConfigError::Read { path: path.to_owned(), error }),
    }
}
