//! The environment variables that detgate knows, read once.

use std::path::PathBuf;

use super::{ConfigError, MlflowVariables};

/// What the process was told by its environment.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `CI`, or Azure's `TF_BUILD`: set and neither empty, `0` nor `false`. Then no baseline is ever
    /// written.
    pub ci: bool,
    /// `INSTA_UPDATE`: what happens to a baseline that a run does not agree with.
    pub snapshot_update: SnapshotUpdate,
    /// The user's cache folder: `DETGATE_CACHE_DIR`, else `detgate` in the platform's place for such
    /// things; `None` where nothing says where that is.
    pub cache: Option<PathBuf>,
    /// Variables by which libtorch, oneDNN and MKL choose their kernels, and so results; those that are
    /// set, by name.
    pub kernels: Vec<(&'static str, String)>,
    /// Variables by which Slurm, Kubernetes and the like tell a process which of many it is; those that are
    /// set, by name.
    pub engine: Vec<(&'static str, String)>,
    /// `DETGATE_CALLED_AS`: what a user types in place of `detgate`, for advice; `cargo xtask` sets it to itself.
    pub called_as: CalledAs,
    /// `DETGATE_MLFLOW_PYTHON`: a Python that has MLflow.
    pub mlflow_python: Option<PathBuf>,
    /// `DETGATE_MLFLOW_PROVISION`: a program that, given `mlflow-python`, prints the path of a Python
    /// that has MLflow, making it first if need be.
    pub mlflow_provision: Option<PathBuf>,
    /// What MLflow's own clients read.
    pub mlflow: MlflowVariables,
}

/// insta's ways with a snapshot that differs; under [`Environment::ci`] nothing is written whatever this
/// says. Source: insta 1.49, `INSTA_UPDATE`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SnapshotUpdate {
    /// `auto`, `new` or unset: the candidate waits beside the baseline for review.
    #[default]
    Pending,
    /// `always` and `force`: the candidate becomes the baseline.
    Always,
    /// `unseen`: it becomes the baseline where there is none, and waits where there is one.
    Unseen,
    /// `no`: nothing is written.
    No,
}

/// The command that starts detgate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalledAs(String);

impl Default for CalledAs {
    fn default() -> Self {
        Self("detgate".to_owned())
    }
}

impl std::fmt::Display for CalledAs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl SnapshotUpdate {
    fn of(value: Option<&str>) -> Result<Self, ConfigError> {
        match value {
            Some("always" | "force" | "1") => Ok(Self::Always),
            Some("unseen") => Ok(Self::Unseen),
            Some("no") => Ok(Self::No),
            None | Some("auto" | "new") => Ok(Self::Pending),
            Some(other) => Err(ConfigError::InstaUpdate(other.to_owned())),
        }
    }
}

const KERNELS: [&str; 6] = [
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
];

impl Environment {
    /// What `ATEN_CPU_CAPABILITY` says, by which libtorch chooses its instructions.
    pub fn capability(&self) -> Option<&str> {
        let said = self.kernels.iter().find(|(name, _)| *name == "ATEN_CPU_CAPABILITY");
        said.map(|(_, value)| value.as_str())
    }

    /// Reads the process's environment.
    ///
    /// # Errors
    /// [`ConfigError::InstaUpdate`].
    pub fn from_process() -> Result<Self, ConfigError> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Reads variables through `lookup`; empty ones count as unset.
    ///
    /// # Errors
    /// [`ConfigError::InstaUpdate`].
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let says_yes = |value: String| value != "0" && !value.eq_ignore_ascii_case("false");
        Ok(Self {
            snapshot_update: SnapshotUpdate::of(get("INSTA_UPDATE").as_deref())?,
            ci: ["CI", "TF_BUILD"].iter().filter_map(|name| get(name)).any(says_yes),
            cache: super::cache::folder(get),
            kernels: KERNELS.iter().filter_map(|name| Some((*name, get(name)?))).collect(),
            engine: super::shard::variables(get),
            called_as: get("DETGATE_CALLED_AS").map(CalledAs).unwrap_or_default(),
            mlflow_python: get("DETGATE_MLFLOW_PYTHON").map(PathBuf::from),
            mlflow_provision: get("DETGATE_MLFLOW_PROVISION").map(PathBuf::from),
            mlflow: MlflowVariables::read(get),
        })
    }
}
