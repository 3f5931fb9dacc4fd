//! From what the configuration names to a detector that runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{FasterRcnn, FasterRcnnSettings, ModelError, TorchScriptDetector};
use crate::checkpoint::{self, Checkpoint, CheckpointError, ClassMap};
use crate::config::{Config, LabelKind, LabelMap, ModelSource};
use crate::detections::Detector;

/// Why there is no detector.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Its weights are not those of a model that detgate knows.
    #[error("{}: {error}", path.display())]
    Model {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with them.
        error: ModelError,
    },
    /// The TorchScript file cannot be loaded.
    #[error(transparent)]
    TorchScript(ModelError),
    /// It was trained for other classes.
    #[error(
        "{} was trained for {trained}, the project's label map has {wanted}; evaluate a checkpoint of this project, or correct labelmap.json",
        path.display()
    )]
    Classes {
        /// The checkpoint.
        path: PathBuf,
        /// Its classes.
        trained: String,
        /// The project's.
        wanted: String,
    },
    /// There is no TorchScript file.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

/// Loads the detector that `config` names; also says which file it came from.
///
/// # Errors
/// [`LoadError`], naming the file.
pub fn load(config: &Config) -> Result<(Box<dyn Detector>, PathBuf), LoadError> {
    let path = match &config.model {
        ModelSource::TorchScript(path, labels) => return torchscript(path, *labels, config),
        ModelSource::Checkpoint(path) => path.clone(),
        ModelSource::Newest(folder) => checkpoint::newest(folder)?,
    };
    let checkpoint = checkpoint::load(&path)?;
    require_classes(&checkpoint, &config.label_map)?;
    let settings = FasterRcnnSettings {
        min_size: config.preprocessing.min_size as usize,
        max_size: config.preprocessing.max_size as usize,
        norm_eps: config.preprocessing.norm_eps,
        // A model for all of COCO may be evaluated on every category that it was trained for.
        num_classes: (!config.all_categories)
            .then_some(config.label_map.coco_to_internal.len() + 1),
        ..FasterRcnnSettings::torchvision()
    };
    let labels = match config.all_categories {
        true => BTreeMap::new(),
        false => label_to_category(&config.label_map),
    };
    let detector = FasterRcnn::new(&checkpoint.state_dict, &settings, labels)
        .map_err(|error| LoadError::Model { path: path.clone(), error })?;
    Ok((Box::new(detector), path))
}

fn torchscript(
    path: &Path,
    labels: LabelKind,
    config: &Config,
) -> Result<(Box<dyn Detector>, PathBuf), LoadError> {
    // libtorch's own error for a missing file is a page long.
    std::fs::metadata(path).map_err(|error| LoadError::Read { path: path.to_owned(), error })?;
    let map = (labels == LabelKind::Internal).then(|| label_to_category(&config.label_map));
    let detector = TorchScriptDetector::load(path, map).map_err(LoadError::TorchScript)?;
    Ok((Box::new(detector), path.to_owned()))
}

fn label_to_category(map: &LabelMap) -> BTreeMap<i64, i64> {
    map.coco_to_internal.iter().map(|(&category, &label)| (label, category)).collect()
}

/// A checkpoint that carries its classes must carry the project's.
fn require_classes(checkpoint: &Checkpoint, map: &LabelMap) -> Result<(), LoadError> {
    let Some(classes) = &checkpoint.classes else { return Ok(()) };
    let same = classes.coco_to_internal == map.coco_to_internal
        && classes.internal_to_name == map.internal_to_name;
    if same {
        return Ok(());
    }
    let ClassMap { coco_to_internal, internal_to_name, .. } = classes;
    Err(LoadError::Classes {
        path: checkpoint.path.clone(),
        trained: describe(coco_to_internal, internal_to_name),
        wanted: describe(&map.coco_to_internal, &map.internal_to_name),
    })
}

/// `person (1 -> 1), car (3 -> 2)`: name, category id, label.
fn describe(to_label: &BTreeMap<i64, i64>, names: &BTreeMap<i64, String>) -> String {
    let class = |(category, label): (&i64, &i64)| {
        let name = names.get(label).map_or("(unnamed)", String::as_str);
        format!("{name} ({category} -> {label})")
    };
    to_label.iter().map(class).collect::<Vec<_>>().join(", ")
}
