//! `detgate.toml`: every key, with its default.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ConfigError, LabelKind};

/// The whole file; absent keys have their defaults.
#[derive(Debug, Default, Deserialize)]
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

#[derive(Debug, Deserialize)]
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

#[derive(Debug, Deserialize)]
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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Inference {
    /// 0 for one per core.
    pub(super) workers: usize,
    pub(super) skip_bad_images: bool,
}

#[derive(Debug, Deserialize)]
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Gate {
    pub(super) baseline: PathBuf,
    pub(super) metrics: BTreeMap<String, Rule>,
}

impl Default for Gate {
    fn default() -> Self {
        let max_drop = |drop| Rule { max_drop: Some(drop), min: None };
        let metrics = [("AP", 0.01), ("AP50", 0.01), ("AP50/*", 0.03), ("f1", 0.02)];
        Self {
            baseline: "detgate/baseline.snap".into(),
            metrics: metrics.map(|(name, drop)| (name.to_owned(), max_drop(drop))).into(),
        }
    }
}

/// What one metric has to satisfy. Values are 0..1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The largest absolute drop below the baseline that still passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_drop: Option<f64>,
    /// The least value that passes, whatever the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Report {
    pub(super) path: PathBuf,
}

impl Default for Report {
    fn default() -> Self {
        Self { path: "reports/evaluation.json".into() }
    }
}

#[derive(Debug, Deserialize)]
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
    let path = root.join("detgate.toml");
    match std::fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text)
            .map_err(|error| ConfigError::Toml { path, what: error.to_string() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Settings::default()),
        Err(error) => Err(ConfigError::Read { path, error }),
    }
}
