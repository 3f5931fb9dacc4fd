//! `detgate.toml`: every key, with its default.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::gate::Gate;
use super::{ConfigError, LabelKind, mistake};

/// The whole file; absent keys have their defaults.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    pub(super) data: Data,
    pub(super) model: Model,
    pub(super) inference: Inference,
    pub(super) practical: Practical,
    pub(super) gate: Gate,
    pub(super) report: Report,
    pub(super) registry: Registry,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Data {
    pub(super) ground_truth: Option<PathBuf>,
    pub(super) images: Option<PathBuf>,
    pub(super) all_categories: bool,
    /// 0 for all.
    pub(super) max_images: usize,
}

impl Default for Data {
    fn default() -> Self {
        Self { ground_truth: None, images: None, all_categories: false, max_images: 300 }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Model {
    pub(super) checkpoint: Option<PathBuf>,
    pub(super) checkpoint_dir: PathBuf,
    pub(super) torchscript: Option<PathBuf>,
    pub(super) torchscript_labels: LabelKind,
    pub(super) min_size: u32,
    pub(super) max_size: u32,
    pub(super) norm_eps: f64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            checkpoint: None,
            checkpoint_dir: "models/local_checkpoints".into(),
            torchscript: None,
            torchscript_labels: LabelKind::Category,
            min_size: 800,
            max_size: 1333,
            norm_eps: 1e-5,
        }
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Inference {
    /// 0 for one per core.
    pub(super) workers: usize,
    pub(super) skip_bad_images: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Practical {
    pub(super) score_thr: f64,
    pub(super) iou_thr: f64,
}

impl Default for Practical {
    fn default() -> Self {
        Self { score_thr: 0.5, iou_thr: 0.5 }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Report {
    pub(super) path: PathBuf,
}

impl Default for Report {
    fn default() -> Self {
        Self { path: "reports/evaluation.json".into() }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Registry {
    pub(super) register: bool,
    pub(super) tracking_uri: String,
    pub(super) experiment: Option<String>,
    pub(super) model_name: Option<String>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            register: true,
            tracking_uri: "sqlite:///mlflow.db".to_owned(),
            experiment: None,
            model_name: None,
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
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
    toml::from_str(&text).map_err(|error| ConfigError::Toml(mistake::sentence(path, &text, &error)))
}

/// The JSON Schema of `detgate.toml`, for editors.
pub fn json_schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Settings).to_value();
    schema["title"] = "detgate.toml".into();
    schema
}
