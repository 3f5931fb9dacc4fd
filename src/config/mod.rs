//! Flags, `detgate.toml`, `project_config.json` and `labelmap.json` to one validated [`Config`].
//!
//! Nothing below this module knows a default or reads an environment variable. Deliberately absent:
//! any look into the data or the model.

mod cache;
mod compare;
mod environment;
mod fixes;
mod flags;
mod gate;
mod metrics;
mod mistakes;
mod mlflow;
mod model_reference;
mod partition;
mod place;
mod project;
mod registry;
mod rule;
mod schema;
mod self_flags;
mod settings;
mod shard;

use std::path::{Path, PathBuf};

pub use cache::{ByteSize, CacheConfig};
pub use compare::CompareConfig;
#[cfg(feature = "harness")]
pub(crate) use compare::policy_file;
pub use environment::{CalledAs, Environment, SnapshotUpdate};
pub use fixes::{Fix, Fixes, UnknownFix};
pub use flags::{
    BlessFlags, CacheCommand, Cli, Command, CompareFlags, CompareFormat, EvalFlags, GateFlags,
    LabelKind, LaunchCommand, MergeFlags, MetricsFlags, OutputFormat, Precision, ProjectFlags,
    RegistryCommand, RegistryFlags, RegistryPlace, ReportFlags, ReportForm, SharesFlags,
};
pub use gate::{BaselineSource, Correction, GateConfig, Interval, Judge};
pub(crate) use metrics::linspace;
pub use metrics::{DetailsConfig, MetricsConfig, Rules};
pub use mlflow::{ExperimentId, MlflowConnection, MlflowVariables, TrackingAddress};
pub use model_reference::{ModelReference, ModelVersion};
pub use partition::{Condition, FileNamePattern, GroupsConfig, SliceConfig};
pub use place::Place;
pub(crate) use place::prefix;
pub use project::LabelMap;
pub use registry::{BrowseConfig, Wanted};
pub use rule::{Rule, RuleMistake, RuleSet, Tier};
pub use schema::json_schema;
pub use self_flags::{CompletionsFlags, ManFlags, SchemaFlags, SchemaOf};
pub use shard::{Shard, ShardConfig, ShardFlag};

use crate::files::failed;
use crate::shown;

/// Why there is no valid configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No `project_config.json` here or above.
    #[error(
        "no data/processed/project_config.json in {} or the 8 folders above it; run inside the project or pass --project",
        .0.display()
    )]
    NoProject(PathBuf),
    /// `--project` names something else.
    #[error("{} holds no data/processed/project_config.json; pass the project's root folder", .0.display())]
    NotAProject(PathBuf),
    /// A registered version is named wrongly.
    #[error("{what} is {text:?}; a registered model is models:/NAME@ALIAS or models:/NAME/VERSION")]
    Checkpoint {
        /// The flag or key.
        what: &'static str,
        /// What it says.
        text: String,
    },
    /// A registered version beside what another framework found.
    #[error(
        "--checkpoint {0} cannot stand beside --detections; name the file of the model that found them"
    )]
    RegisteredBesideDetections(ModelReference),
    /// A file cannot be read.
    #[error("cannot read {}: {}", path.display(), failed(error))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// `INSTA_UPDATE` has a value that insta does not know.
    #[error("INSTA_UPDATE is {0:?}; it is auto, new, always, force, unseen or no")]
    InstaUpdate(String),
    /// One of MLflow's variables has a value that cannot be read.
    #[error("{name} is {value:?}; it must be {wanted}")]
    Variable {
        /// The variable, never a secret one.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        wanted: &'static str,
    },
    /// `detgate.toml` is not as it should be.
    #[error("{}:{line}:{column}: {what}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The character in the line, from 1.
        column: usize,
        /// What is wrong and what to do.
        what: String,
    },
    /// A JSON file is not as it should be.
    #[error("{}: {what}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What and where.
        what: String,
    },
    /// A value is out of its range.
    #[error("{name} is {value}; it must be {range}")]
    Range {
        /// The key or flag.
        name: String,
        /// What it is.
        value: String,
        /// What it may be.
        range: &'static str,
    },
    /// Settings of the gate that a flag made wrong, alone or together.
    #[error("{0}")]
    Gate(String),
    /// Nobody says which share of the images this is.
    #[error("--shard auto: {0}")]
    Shard(String),
    /// The report would take the place of something else.
    #[error(
        "the report cannot be {}: {why}; pass --report FILE, or correct `path` of [report] in detgate.toml",
        path.display()
    )]
    Report {
        /// Where it would be written.
        path: PathBuf,
        /// Why not there.
        why: &'static str,
    },
    /// `--promote` cannot do what it is asked for.
    #[error("--promote: {0}")]
    Promotion(String),
    /// The folder of images is nowhere.
    #[error(
        "\"val_dir\" is {recorded}, which does not exist here, and no tail of it exists under {}; correct it in project_config.json or pass --images",
        root.display()
    )]
    NoImages {
        /// What `project_config.json` says.
        recorded: String,
        /// The project.
        root: PathBuf,
    },
}

/// Where the model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// This checkpoint.
    Checkpoint(PathBuf),
    /// That of this registered version, until it is downloaded.
    Registered(ModelReference),
    /// The newest `best_*.pt` or `best_*.safetensors` in this folder.
    Newest(PathBuf),
    /// An exported TorchScript detector.
    TorchScript(PathBuf, LabelKind),
}

/// What another framework found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherDetections {
    /// A COCO results file.
    pub path: PathBuf,
    /// The model that found it, which is registered if it passes.
    pub checkpoint: Option<PathBuf>,
}

/// The model's input and normalisation, where these are not torchvision's for its architecture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preprocessing {
    /// Length of the short side, pixels.
    pub min_size: Option<u32>,
    /// Greatest length of the long side, pixels.
    pub max_size: Option<u32>,
    /// Epsilon of batch normalisation.
    pub norm_eps: Option<f64>,
}

/// How the model is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    /// `sqlite:///FILE` or `http(s)://HOST`.
    pub tracking_uri: TrackingAddress,
    /// The MLflow experiment.
    pub experiment: String,
    /// The experiment by its id, instead.
    pub experiment_id: Option<ExperimentId>,
    /// The registered model's name.
    pub model_name: String,
    /// The alias that every version gets.
    pub alias: Option<String>,
    /// The alias that a version gets only if the gate compared with the version that has it.
    pub promote: Option<String>,
    /// Register again what is registered already.
    pub force: bool,
}

/// Everything that `eval` needs to know, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The project's folder, absolute.
    pub root: PathBuf,
    /// The project's classes.
    pub label_map: LabelMap,
    /// The names of the classes, in order.
    pub target_classes: Vec<String>,
    /// COCO ground truth.
    pub ground_truth: PathBuf,
    /// The folder of the images.
    pub images: PathBuf,
    /// Every category of the ground truth is evaluated.
    pub all_categories: bool,
    /// How many images, in file order; `None` for all.
    pub max_images: Option<usize>,
    /// Where the model comes from.
    pub model: ModelSource,
    /// Detections of another framework, evaluated instead of a model's.
    pub detections: Option<OtherDetections>,
    /// The model's input.
    pub preprocessing: Preprocessing,
    /// The share of the images that is evaluated; `None` for all.
    pub shard: Option<ShardConfig>,
    /// Worker threads, at least 1.
    pub workers: usize,
    /// In which numbers the model's products are computed.
    pub precision: Precision,
    /// What is kept of earlier runs.
    pub cache: CacheConfig,
    /// Go on past images that cannot be decoded.
    pub skip_bad_images: bool,
    /// The practical protocol's least score.
    pub score_thr: f64,
    /// The practical protocol's IoU threshold.
    pub iou_thr: f64,
    /// When a run passes.
    pub gate: GateConfig,
    /// Where the JSON report goes.
    pub report: PathBuf,
    /// A page is written beside it.
    pub html: bool,
    /// MLflow's, for registering and for a baseline that is a registered version.
    pub tracking_uri: TrackingAddress,
    /// Bring the SQLite file of an older MLflow up to date.
    pub migrate: bool,
    /// How to register; `None` when the model shall not be registered.
    pub registry: Option<RegistryConfig>,
    /// What a person should know of how this came about, such as a relocated folder.
    pub notices: Vec<String>,
    /// How project and baseline were named, for advice that names them again.
    pub place: ProjectFlags,
}

impl Config {
    /// [`Config::resolve_in`] an environment that says nothing.
    ///
    /// # Errors
    /// As [`Config::resolve_in`].
    pub fn resolve(flags: &EvalFlags, cwd: &Path) -> Result<Self, ConfigError> {
        Self::resolve_in(&Environment::default(), flags, cwd)
    }

    /// Resolves flags over MLflow's variables over `detgate.toml` over defaults. Relative paths are
    /// relative to `cwd` in flags and variables, and to the project root in `detgate.toml`.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the file or key and what to do.
    pub fn resolve_in(
        environment: &Environment,
        flags: &EvalFlags,
        cwd: &Path,
    ) -> Result<Self, ConfigError> {
        // Whoever has the detections need not have the images.
        Self::resolve_with(environment, flags, cwd, flags.detections.is_none())
    }

    /// As [`Config::resolve_in`], for `merge`: the images may be elsewhere.
    ///
    /// # Errors
    /// As [`Config::resolve_in`].
    pub fn resolve_for_merge(
        environment: &Environment,
        flags: &EvalFlags,
        cwd: &Path,
    ) -> Result<Self, ConfigError> {
        Self::resolve_with(environment, flags, cwd, false)
    }

    fn resolve_with(
        environment: &Environment,
        flags: &EvalFlags,
        cwd: &Path,
        needs_images: bool,
    ) -> Result<Self, ConfigError> {
        let mlflow = &environment.mlflow;
        let root = root(&flags.project, cwd)?;
        let settings = settings::read(&root)?;
        let project = project::read_project(&root)?;
        let label_map = project::read_label_map(&root, &project.target_classes)?;
        let mut notices = Vec::new();
        let path = |flag: &Option<PathBuf>, setting: &Option<PathBuf>| {
            let from_flag = flag.as_ref().map(|path| cwd.join(path));
            from_flag.or_else(|| setting.as_ref().map(|path| root.join(path)))
        };
        let images = match path(&flags.images, &settings.data.images) {
            Some(folder) => folder,
            None if needs_images => images(&project.val_dir, &root, &mut notices)?,
            // Then they are only shown, where they are there.
            None => images(&project.val_dir, &root, &mut Vec::new())
                .unwrap_or_else(|_| root.join(&project.val_dir)),
        };
        let default_truth = || {
            root.join(format!("data/processed/coco_{}_val.json", project.target_classes.join("_")))
        };
        let max_images = flags.max_images.unwrap_or(settings.data.max_images);
        let workers = match flags.workers.unwrap_or(settings.inference.workers) {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        let tracking_uri = {
            let flag = flags.tracking_uri.as_deref();
            tracking_uri(flag, mlflow, &settings.registry.tracking_uri, cwd)
        };
        let registry = registry(flags, mlflow, &settings, &project, &tracking_uri, &mut notices);
        notices.extend(registry.as_ref().and_then(|_| said_by_variables(flags, mlflow)));
        let model = model(flags, &settings, cwd, &root)?;
        if let (Some(_), Some(_), ModelSource::Registered(reference)) =
            (&flags.detections, &flags.checkpoint, &model)
        {
            return Err(ConfigError::RegisteredBesideDetections(reference.clone()));
        }
        let config = Self {
            ground_truth: path(&flags.ground_truth, &settings.data.ground_truth)
                .unwrap_or_else(default_truth),
            images,
            all_categories: flags.all_categories || settings.data.all_categories,
            max_images: (max_images > 0).then_some(max_images),
            model,
            detections: flags.detections.as_ref().map(|path| OtherDetections {
                path: cwd.join(path),
                checkpoint: flags.checkpoint.as_ref().map(|path| cwd.join(path)),
            }),
            shard: shard(flags, environment, cwd, &root)?,
            cache: settings.cache.resolve(flags),
            preprocessing: Preprocessing {
                min_size: flags.min_size.or(settings.model.min_size),
                max_size: flags.max_size.or(settings.model.max_size),
                norm_eps: flags.norm_eps.or(settings.model.norm_eps),
            },
            precision: flags.precision.unwrap_or(settings.model.precision),
            workers,
            skip_bad_images: flags.skip_bad_images || settings.inference.skip_bad_images,
            score_thr: flags.score_thr.unwrap_or(settings.practical.score_thr),
            iou_thr: flags.iou_thr.unwrap_or(settings.practical.iou_thr),
            gate: gate_of(&settings, flags, cwd, &root)?,
            html: !flags.no_html,
            report: rebase(flags.report.as_ref(), cwd, &settings.report.path, &root),
            tracking_uri,
            migrate: flags.migrate,
            registry,
            target_classes: project.target_classes,
            label_map,
            root,
            notices,
            place: flags.project.clone(),
        };
        config.validate()?;
        if flags.promote.is_some() && config.registry.is_none() {
            let what = "nothing will be registered, so there is no version to promote; see [registry] register and --checkpoint";
            return Err(ConfigError::Promotion(what.to_owned()));
        }
        Ok(config)
    }

    /// The notebook's `project_config.json`.
    pub fn project_config(&self) -> PathBuf {
        self.root.join(project::PROJECT_CONFIG)
    }

    /// The notebook's `labelmap.json`.
    pub fn label_map_file(&self) -> PathBuf {
        self.root.join(project::LABEL_MAP)
    }

    /// A slip must not cost a checkpoint or the ground truth.
    fn check_report(&self) -> Result<(), ConfigError> {
        let refused = |why| ConfigError::Report { path: self.report.clone(), why };
        if self.report.extension().is_none_or(|extension| extension != "json") {
            return Err(refused("its name must end in .json"));
        }
        let detections = self.detections.as_ref().map(|detections| &detections.path);
        let inputs = [&self.ground_truth, &self.project_config(), &self.label_map_file()];
        match inputs.into_iter().chain(detections).any(|input| *input == self.report) {
            true => Err(refused("that is read, not written")),
            false => Ok(()),
        }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        if let Some(registry) = &self.registry {
            registry::check_aliases(registry, &self.gate.baseline)?;
        }
        self.check_report()?;
        unit("score_thr", self.score_thr)?;
        unit("iou_thr", self.iou_thr)?;
        let Preprocessing { min_size, max_size, norm_eps } = self.preprocessing;
        // torchvision's for every model that takes images of any size.
        let (min_size, max_size) = (min_size.unwrap_or(800), max_size.unwrap_or(1333));
        if min_size == 0 || min_size > max_size || max_size > 16_384 {
            return Err(ConfigError::Range {
                name: "[model] min_size".to_owned(),
                value: format!("{min_size} and max_size {max_size}"),
                range: "at least 1, at most max_size, and max_size at most 16384 pixels",
            });
        }
        if let Some(norm_eps) = norm_eps.filter(|eps| !(0.0..1.0).contains(eps)) {
            return Err(ConfigError::Range {
                name: "[model] norm_eps".to_owned(),
                value: norm_eps.to_string(),
                range: "at least 0 and less than 1",
            });
        }
        Ok(())
    }
}

/// What `bless` needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct BlessConfig {
    /// The baseline snapshot.
    pub baseline: PathBuf,
}

impl BlessConfig {
    /// As [`Config::resolve`].
    ///
    /// # Errors
    /// As [`Config::resolve`]; and where the baseline is no file.
    pub fn resolve(flags: &BlessFlags, cwd: &Path) -> Result<Self, ConfigError> {
        let root = root(&flags.project, cwd)?;
        let settings = settings::read(&root)?;
        let gate = settings.gate.resolve(&flags.project, &GateFlags::default(), cwd, &root)?;
        match gate.baseline {
            BaselineSource::File(baseline) => Ok(Self { baseline }),
            BaselineSource::Model(model) => Err(ConfigError::Gate(format!(
                "the baseline is {model}; register a version and move its alias, or name a snapshot with --baseline"
            ))),
        }
    }
}

/// Where, in the project, files of the commit are that judges (`--target`).
pub const TARGET_FOLDER: &str = "reports/target";

/// The project's own rules and baseline, or those of the commit that judges, which were put into
/// [`TARGET_FOLDER`].
fn gate_of(
    settings: &settings::Settings,
    flags: &EvalFlags,
    cwd: &Path,
    root: &Path,
) -> Result<GateConfig, ConfigError> {
    if flags.target.is_none() {
        return settings.gate.resolve(&flags.project, &flags.gate, cwd, root);
    }
    let folder = root.join(TARGET_FOLDER);
    let judging = settings::read(&folder)?.gate;
    let baseline = judging.resolve(&flags.project, &flags.gate, cwd, &folder)?.baseline;
    // Tables of slices are data, and the fingerprint does not know them: they are this commit's.
    Ok(GateConfig { baseline, ..judging.resolve(&flags.project, &flags.gate, cwd, root)? })
}

/// The project in which a command works.
///
/// # Errors
/// A [`ConfigError`] where there is none.
pub fn root(flags: &ProjectFlags, cwd: &Path) -> Result<PathBuf, ConfigError> {
    let Some(given) = &flags.project else {
        return project::find_root(cwd);
    };
    let folder = cwd.join(given);
    match folder.canonicalize() {
        Ok(folder) if project::is_root(&folder) => Ok(folder),
        _ => Err(ConfigError::NotAProject(folder)),
    }
}

/// A path out of a flag, relative to where it was typed, or else out of the settings.
fn rebase(flag: Option<&PathBuf>, cwd: &Path, setting: &Path, root: &Path) -> PathBuf {
    flag.map_or_else(|| root.join(setting), |path| cwd.join(path))
}

fn shard(
    flags: &EvalFlags,
    environment: &Environment,
    cwd: &Path,
    root: &Path,
) -> Result<Option<ShardConfig>, ConfigError> {
    let shard = match flags.shard {
        None => return Ok(None),
        Some(ShardFlag::Named(shard)) => shard,
        Some(ShardFlag::Auto) => shard::of_engine(&environment.engine)?,
    };
    let file = rebase(flags.shard_file.as_ref(), cwd, &shard.usual_file(), root);
    Ok(Some(ShardConfig { shard, file }))
}

/// The folder of the images of the project in which `folder` is, where there is one: what is shown of a
/// report that was written there.
pub fn images_of_project(folder: &Path) -> Option<PathBuf> {
    let root = project::find_root(folder).ok()?;
    match settings::read(&root).ok()?.data.images {
        Some(images) => Some(root.join(images)),
        None => images(&project::read_project(&root).ok()?.val_dir, &root, &mut Vec::new()).ok(),
    }
}

fn images(recorded: &str, root: &Path, notices: &mut Vec<String>) -> Result<PathBuf, ConfigError> {
    // A relative val_dir is the project's own; join leaves an absolute one as it is.
    let as_recorded = root.join(recorded);
    if as_recorded.is_dir() {
        return Ok(as_recorded);
    }
    let found = project::relocate(recorded, root).ok_or_else(|| ConfigError::NoImages {
        recorded: recorded.to_owned(),
        root: root.to_owned(),
    })?;
    notices.push(format!(
        "val_dir {} does not exist here; its tail is used: {}",
        shown::line(recorded),
        found.display()
    ));
    Ok(found)
}

fn model(
    flags: &EvalFlags,
    settings: &settings::Settings,
    cwd: &Path,
    root: &Path,
) -> Result<ModelSource, ConfigError> {
    let labels = flags.torchscript_labels.unwrap_or(settings.model.torchscript_labels);
    Ok(match (&flags.torchscript, &flags.checkpoint) {
        (Some(file), _) => ModelSource::TorchScript(cwd.join(file), labels),
        (None, Some(file)) => checkpoint(file, cwd, "--checkpoint")?,
        (None, None) => match (&settings.model.torchscript, &settings.model.checkpoint) {
            (Some(file), _) => ModelSource::TorchScript(root.join(file), labels),
            (None, Some(file)) => checkpoint(file, root, "checkpoint in [model]")?,
            (None, None) => ModelSource::Newest(root.join(&settings.model.checkpoint_dir)),
        },
    })
}

/// A file, relative to `folder`, or a registered version.
fn checkpoint(file: &Path, folder: &Path, what: &'static str) -> Result<ModelSource, ConfigError> {
    match file.to_str().filter(|text| text.starts_with("models:")) {
        Some(text) => match ModelReference::parse(text) {
            Some(reference) => Ok(ModelSource::Registered(reference)),
            None => Err(ConfigError::Checkpoint { what, text: text.to_owned() }),
        },
        None => Ok(ModelSource::Checkpoint(folder.join(file))),
    }
}

fn tracking_uri(
    flag: Option<&str>,
    mlflow: &MlflowVariables,
    setting: &str,
    cwd: &Path,
) -> TrackingAddress {
    match flag.or(mlflow.tracking_uri()) {
        Some(uri) => TrackingAddress::new(uri, cwd),
        // Relative to the root, as all paths of the file are where they are used.
        None => setting.into(),
    }
}

/// A variable that a shell has set for something else must not decide in silence.
fn said_by_variables(flags: &EvalFlags, mlflow: &MlflowVariables) -> Option<String> {
    let uri = mlflow.tracking_uri().filter(|_| flags.tracking_uri.is_none())?;
    Some(format!("MLFLOW_TRACKING_URI says where to register: {}", TrackingAddress::from(uri)))
}

fn registry(
    flags: &EvalFlags,
    mlflow: &MlflowVariables,
    settings: &settings::Settings,
    project: &project::ProjectFile,
    tracking_uri: &TrackingAddress,
    notices: &mut Vec<String>,
) -> Option<RegistryConfig> {
    if flags.no_register || !settings.registry.register {
        return None;
    }
    if flags.detections.is_some() && flags.checkpoint.is_none() {
        notices.push(
            "nothing will be registered: --detections names no model; pass --checkpoint beside it"
                .to_owned(),
        );
        return None;
    }
    let chosen = |first: Option<&str>, setting: &Option<String>, default: String| {
        first.map(str::to_owned).or_else(|| setting.clone()).unwrap_or(default)
    };
    let experiment = flags.experiment.as_deref().or(mlflow.experiment_name());
    let default = format!("{}_evaluation", project_name(project));
    let settings = &settings.registry;
    let model_name = flags.model_name.as_deref();
    Some(RegistryConfig {
        tracking_uri: tracking_uri.clone(),
        experiment: chosen(experiment, &settings.experiment, default),
        experiment_id: mlflow.experiment_id().filter(|_| flags.experiment.is_none()),
        model_name: chosen(model_name, &settings.model_name, default_model_name(project)),
        force: flags.force_register,
        alias: Some(settings.alias.clone()).filter(|alias| !alias.is_empty()),
        promote: flags.promote.clone(),
    })
}

fn project_name(project: &project::ProjectFile) -> String {
    project.project_name.clone().unwrap_or_else(|| project.target_classes.join("_"))
}

/// What a project's registered model is called.
fn default_model_name(project: &project::ProjectFile) -> String {
    format!("{}_detector", project_name(project))
}

fn unit(name: &str, value: f64) -> Result<(), ConfigError> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Range {
        name: name.to_owned(),
        value: value.to_string(),
        range: "between 0 and 1",
    })
}
