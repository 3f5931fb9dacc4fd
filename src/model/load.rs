//! From what the configuration names to a detector that runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::faster_rcnn::check_classes;
use super::{
    Architecture, FasterRcnn, FasterRcnnSettings, ModelError, OneStage, OneStageSettings,
    TorchScriptDetector,
};
use crate::checkpoint::{self, Checkpoint, CheckpointError, ClassMap};
use crate::config::{Config, LabelKind, LabelMap, ModelSource, Precision};
use crate::detections::{Detector, ModelForm};
use crate::files::failed;
use crate::shown;

/// The fact of what labels mean.
pub const LABELS: &str = "labels";

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
    #[error("cannot read {}: {}", path.display(), failed(error))]
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
    let model = open(config)?;
    let path = model.path.clone();
    Ok((model.load()?, path))
}

/// A model that was found and has the project's classes; its weights are not in memory yet.
#[derive(Debug)]
pub struct Opened {
    path: PathBuf,
    kind: Kind,
    /// From label to category id; `None` where labels are category ids.
    labels: Option<BTreeMap<i64, i64>>,
}

#[derive(Debug)]
enum Kind {
    Checkpoint(Box<Checkpoint>, Settings),
    TorchScript,
}

/// How a checkpoint's weights are computed with.
#[derive(Debug, Clone)]
enum Settings {
    FasterRcnn(FasterRcnnSettings),
    OneStage(Architecture, OneStageSettings),
}

impl Settings {
    fn architecture(&self) -> Architecture {
        match self {
            Self::FasterRcnn(_) => Architecture::FasterRcnn,
            Self::OneStage(architecture, _) => *architecture,
        }
    }

    fn num_classes(&self) -> Option<usize> {
        match self {
            Self::FasterRcnn(settings) => settings.num_classes,
            Self::OneStage(_, settings) => settings.num_classes,
        }
    }

    /// Without the number of classes that the project has: it is checked, and changes nothing.
    fn of_any_classes(&self) -> Self {
        match self.clone() {
            Self::FasterRcnn(settings) => {
                Self::FasterRcnn(FasterRcnnSettings { num_classes: None, ..settings })
            }
            Self::OneStage(architecture, settings) => {
                Self::OneStage(architecture, OneStageSettings { num_classes: None, ..settings })
            }
        }
    }
}

/// Finds the model that `config` names, and reads as much of it as is needed to know its classes.
///
/// # Errors
/// [`LoadError`], naming the file.
pub fn open(config: &Config) -> Result<Opened, LoadError> {
    let path = match &config.model {
        ModelSource::TorchScript(path, labels) => return torchscript(path, *labels, config),
        ModelSource::Checkpoint(path) => path.clone(),
        ModelSource::Newest(folder) => checkpoint::newest(folder)?,
        ModelSource::Registered(reference) => {
            return Err(CheckpointError::Registered(reference.clone()).into());
        }
    };
    let checkpoint = checkpoint::load(&path)?;
    let of_model = |error| LoadError::Model { path: path.clone(), error };
    let architecture = Architecture::recognise(&checkpoint.state_dict).map_err(of_model)?;
    let (labels, num_classes) = labels(&checkpoint, architecture, config)?;
    let settings = settings(architecture, &checkpoint, config, num_classes);
    let settings = settings.map_err(of_model)?;
    Ok(Opened {
        path,
        kind: Kind::Checkpoint(Box::new(checkpoint), settings),
        labels: Some(labels),
    })
}

impl Opened {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything but the file's contents, the code and the machine that changes what the detector finds,
    /// by name: what predictions that are kept depend on; and, as [`LABELS`], what its labels mean, on which they do
    /// not.
    pub fn facts(&self) -> [(&'static str, String); 2] {
        let model = match &self.kind {
            Kind::Checkpoint(_, settings) => format!("{:?}", settings.of_any_classes()),
            Kind::TorchScript => "TorchScript".to_owned(),
        };
        let labels = match &self.labels {
            None => "category ids".to_owned(),
            Some(map) => {
                let pairs = map.iter().map(|(label, category)| format!("{label}={category}"));
                pairs.collect::<Vec<_>>().join(" ")
            }
        };
        [("model", model), (LABELS, labels)]
    }

    /// What the file is of, and how images are given to it.
    pub fn form(&self) -> ModelForm {
        let (architecture, input_size, norm_eps, precision) = match &self.kind {
            Kind::Checkpoint(_, Settings::FasterRcnn(s)) => {
                (Architecture::FasterRcnn, (s.min_size, s.max_size), s.norm_eps, s.precision)
            }
            Kind::Checkpoint(_, Settings::OneStage(architecture, s)) => {
                (*architecture, (s.min_size, s.max_size), s.norm_eps, s.precision)
            }
            Kind::TorchScript => {
                return ModelForm { format: "torchscript".to_owned(), ..ModelForm::default() };
            }
        };
        ModelForm {
            format: format!("torchvision.{}", architecture.class_name()),
            input_size: Some(input_size),
            norm_eps: Some(norm_eps),
            precision,
        }
    }

    /// The category id of each label; `None` where labels are category ids. A label without one is of a class that
    /// nobody asked for.
    pub fn labels(&self) -> Option<&BTreeMap<i64, i64>> {
        self.labels.as_ref()
    }

    /// Loads the weights for a detector whose categories are its own labels: what they mean is [`Self::labels`]'.
    ///
    /// # Errors
    /// [`LoadError`], naming the file.
    pub fn load_labels(self) -> Result<Box<dyn Detector>, LoadError> {
        let of_model = |error| LoadError::Model { path: self.path.clone(), error };
        let labels = match &self.kind {
            Kind::TorchScript => None,
            Kind::Checkpoint(checkpoint, settings) => {
                let count = settings.architecture().num_classes(&checkpoint.state_dict);
                let asked_for = self.labels.as_ref();
                check_classes(count, settings.num_classes(), asked_for.unwrap_or(&BTreeMap::new()))
                    .map_err(of_model)?;
                Some((1..count as i64).map(|label| (label, label)).collect())
            }
        };
        Self { labels, ..self }.load()
    }

    /// Loads the weights.
    ///
    /// # Errors
    /// [`LoadError`], naming the file.
    pub fn load(self) -> Result<Box<dyn Detector>, LoadError> {
        let Self { path, kind, labels } = self;
        Ok(match kind {
            Kind::Checkpoint(_, settings) => {
                // The one whose names were read is a view of a file that others may write to.
                let checkpoint = checkpoint::load_copied(&path)?;
                build(&checkpoint, &settings, labels.unwrap_or_default())
                    .map_err(|error| LoadError::Model { path, error })?
            }
            Kind::TorchScript => {
                Box::new(TorchScriptDetector::load(&path, labels).map_err(LoadError::TorchScript)?)
            }
        })
    }
}

fn build(
    checkpoint: &Checkpoint,
    settings: &Settings,
    labels: BTreeMap<i64, i64>,
) -> Result<Box<dyn Detector>, ModelError> {
    let weights = &checkpoint.state_dict;
    Ok(match settings {
        Settings::FasterRcnn(settings) => Box::new(FasterRcnn::new(weights, settings, labels)?),
        Settings::OneStage(architecture, settings) => {
            Box::new(OneStage::new(*architecture, weights, settings, labels)?)
        }
    })
}

/// torchvision's for the architecture, but for what the user has set.
fn settings(
    architecture: Architecture,
    checkpoint: &Checkpoint,
    config: &Config,
    num_classes: Option<usize>,
) -> Result<Settings, ModelError> {
    let (set, precision) = (config.preprocessing, config.precision);
    let resized = set.min_size.is_some() || set.max_size.is_some();
    if let Some(size) = architecture.fixed_size().filter(|_| resized) {
        return Err(ModelError::FixedSize { architecture, size });
    }
    let defaults = OneStageSettings::torchvision(architecture);
    let pixels = |set: Option<u32>, default| set.map_or(default, |pixels| pixels as usize);
    let min_size = pixels(set.min_size, defaults.min_size);
    let max_size = pixels(set.max_size, defaults.max_size);
    let norm_eps = set.norm_eps.unwrap_or(defaults.norm_eps);
    Ok(match architecture {
        Architecture::FasterRcnn => {
            let defaults =
                FasterRcnnSettings::for_weights(&checkpoint.state_dict, min_size, max_size);
            Settings::FasterRcnn(FasterRcnnSettings {
                norm_eps,
                num_classes,
                precision,
                ..defaults
            })
        }
        _ => Settings::OneStage(
            architecture,
            OneStageSettings { min_size, max_size, norm_eps, num_classes, precision, ..defaults },
        ),
    })
}

/// From label to category id, and the number of classes that the weights must have, background
/// included, where that is known.
///
/// A project's model has the project's classes. With `--all-categories` the ground truth decides what is
/// evaluated, and the model's labels mean what its own class map says; those of a bare state dict are
/// category ids, as with torchvision's weights for COCO.
fn labels(
    checkpoint: &Checkpoint,
    architecture: Architecture,
    config: &Config,
) -> Result<(BTreeMap<i64, i64>, Option<usize>), LoadError> {
    if !config.all_categories {
        require_classes(checkpoint, &config.label_map)?;
        let labels = label_to_category(&config.label_map.coco_to_internal);
        return Ok((labels, Some(config.label_map.coco_to_internal.len() + 1)));
    }
    if let Some(classes) = &checkpoint.classes {
        let labels = label_to_category(&classes.coco_to_internal);
        return Ok((labels, Some(classes.coco_to_internal.len() + 1)));
    }
    let count = architecture.num_classes(&checkpoint.state_dict) as i64;
    Ok(((1..count).map(|label| (label, label)).collect(), None))
}

fn torchscript(path: &Path, labels: LabelKind, config: &Config) -> Result<Opened, LoadError> {
    if config.precision != Precision::F32 {
        return Err(LoadError::TorchScript(ModelError::TorchScriptPrecision));
    }
    // libtorch's own error for a missing file is a page long.
    std::fs::metadata(path).map_err(|error| LoadError::Read { path: path.to_owned(), error })?;
    let labels = (labels == LabelKind::Internal)
        .then(|| label_to_category(&config.label_map.coco_to_internal));
    Ok(Opened { path: path.to_owned(), kind: Kind::TorchScript, labels })
}

fn label_to_category(coco_to_internal: &BTreeMap<i64, i64>) -> BTreeMap<i64, i64> {
    coco_to_internal.iter().map(|(&category, &label)| (label, category)).collect()
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
        let name = names.get(label).map_or("(unnamed)".to_owned(), |name| shown::line(name));
        format!("{name} ({category} -> {label})")
    };
    to_label.iter().map(class).collect::<Vec<_>>().join(", ")
}
