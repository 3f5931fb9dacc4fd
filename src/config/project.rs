//! The notebook's own files: where the project is, its classes, its folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ConfigError;

pub(super) const PROJECT_CONFIG: &str = "data/processed/project_config.json";
pub(super) const LABEL_MAP: &str = "data/processed/labelmap.json";
/// How many folders above the working directory are searched.
const LEVELS: usize = 8;

/// `project_config.json`; other keys are the notebook's own business.
#[derive(Debug, Deserialize)]
pub(super) struct ProjectFile {
    pub(super) project_name: Option<String>,
    pub(super) val_dir: String,
    pub(super) target_classes: Vec<String>,
}

/// The classes of a project: COCO's category ids, the model's labels, and their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelMap {
    /// COCO category ids, in the order of the target classes.
    pub target_category_ids: Vec<i64>,
    /// COCO category id -> the model's label.
    pub coco_to_internal: BTreeMap<i64, i64>,
    /// The model's label -> name.
    pub internal_to_name: BTreeMap<i64, String>,
}

#[derive(Deserialize)]
struct LabelMapFile {
    target_category_ids: Vec<i64>,
    coco_to_internal: BTreeMap<i64, i64>,
    internal_to_name: BTreeMap<i64, String>,
}

impl LabelMap {
    /// The name of a COCO category id that the map holds.
    pub fn name(&self, category_id: i64) -> Option<&str> {
        let label = self.coco_to_internal.get(&category_id)?;
        self.internal_to_name.get(label).map(String::as_str)
    }
}

/// Whether `folder` is a project's root.
pub(super) fn is_root(folder: &Path) -> bool {
    folder.join(PROJECT_CONFIG).is_file()
}

/// The nearest folder, `start` or up to 8 above it, that is a project.
pub(super) fn find_root(start: &Path) -> Result<PathBuf, ConfigError> {
    start
        .ancestors()
        .take(LEVELS + 1)
        .find(|folder| is_root(folder))
        .map(Path::to_owned)
        .ok_or_else(|| ConfigError::NoProject(start.to_owned()))
}

pub(super) fn read_project(root: &Path) -> Result<ProjectFile, ConfigError> {
    let path = root.join(PROJECT_CONFIG);
    let project: ProjectFile = read_json(&path)?;
    if project.target_classes.is_empty() {
        return Err(ConfigError::Invalid {
            path,
            what: "\"target_classes\" is empty; list the classes' names".to_owned(),
        });
    }
    Ok(project)
}

/// Reads `labelmap.json` and checks it against itself and the project's target classes.
pub(super) fn read_label_map(
    root: &Path,
    target_classes: &[String],
) -> Result<LabelMap, ConfigError> {
    let path = root.join(LABEL_MAP);
    let file: LabelMapFile = read_json(&path)?;
    let map = LabelMap {
        target_category_ids: file.target_category_ids,
        coco_to_internal: file.coco_to_internal,
        internal_to_name: file.internal_to_name,
    };
    let names: Vec<Option<&str>> = map.target_category_ids.iter().map(|&id| map.name(id)).collect();
    let wanted: Vec<Option<&str>> = target_classes.iter().map(|name| Some(name.as_str())).collect();
    if names != wanted || map.coco_to_internal.len() != names.len() {
        let what = format!(
            "its categories are named {:?}, the target classes of project_config.json are {:?}; \
             make them agree, in order",
            names.iter().map(|name| name.unwrap_or("(unnamed)")).collect::<Vec<_>>(),
            target_classes
        );
        return Err(ConfigError::Invalid { path, what });
    }
    Ok(map)
}

/// The longest tail of `recorded`, a path that another machine wrote, which exists under `root`.
/// Windows and Unix separators both part it.
pub(super) fn relocate(recorded: &str, root: &Path) -> Option<PathBuf> {
    let parts: Vec<&str> = recorded
        .split(['/', '\\'])
        .filter(|part| !part.is_empty() && *part != "." && *part != ".." && !part.ends_with(':'))
        .collect();
    (0..parts.len())
        .map(|start| parts[start..].iter().fold(root.to_owned(), |path, part| path.join(part)))
        .find(|path| path.is_dir())
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text =
        std::fs::read(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
    serde_json::from_slice(&text).map_err(|error| ConfigError::Invalid {
        path: path.to_owned(),
        what: format!("{error}; correct it, or copy it from the notebook's project again"),
    })
}
