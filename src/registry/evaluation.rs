//! What a passed evaluation looks like in MLflow: names of params, tags, metrics and folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Artifact, DatasetInput, Link, Publication, RegistryError, baseline, keys, mlmodel};
use crate::config::{Config, RegistryConfig};
use crate::detections::ModelForm;
use crate::gate::stored::Stored;
use crate::gate::{Passed, Snapshot};
use crate::metrics::Evaluation;

/// The artifact folder of the checkpoint, which is also the version's source.
pub(super) const MODEL_FOLDER: &str = "model_ckpt";
/// The tag of a version that holds the digest of its checkpoint.
pub(super) const CHECKPOINT_TAG: &str = "checkpoint_blake3";
const REPORTS_FOLDER: &str = "reports";
const PLOTS_FOLDER: &str = "plots";
const CONFIG_FOLDER: &str = "config";
/// The project's own settings.
const SETTINGS: &str = "detgate.toml";

/// The files that a publication carries beside the notebook's two.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// The checkpoint that was evaluated.
    pub checkpoint: &'a Path,
    /// What it is of, and how images were given to it.
    pub form: &'a ModelForm,
    /// The report: the JSON, and whatever else is written of it for people.
    pub reports: &'a [PathBuf],
    /// What the candidate found, for those that are compared with it.
    pub detections: &'a Stored,
    /// Drawings, by file name.
    pub plots: &'a [(String, String)],
}

/// What stands on MLflow's pages, Markdown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pages {
    /// Of the version.
    pub description: String,
    /// Of the run.
    pub note: String,
}

/// Composes the publication of a run that passed. `run_name` is `eval_<UTC time>`.
///
/// # Errors
/// [`RegistryError::Io`], where the project's settings cannot be read.
pub fn publication(
    passed: &Passed,
    evaluation: &Evaluation,
    config: &Config,
    registry: &RegistryConfig,
    files: Files<'_>,
    pages: Pages,
    run_name: String,
) -> Result<Publication, RegistryError> {
    let candidate = passed.candidate();
    Ok(Publication {
        experiment: registry.experiment.clone(),
        model_name: registry.model_name.clone(),
        run_name,
        params: params(candidate, config),
        tags: tags(candidate, config),
        metrics: keys::acceptable(metrics(candidate, evaluation)),
        artifacts: artifacts(candidate, config, files)?,
        model_folder: MODEL_FOLDER.to_owned(),
        version_tags: version_tags(candidate),
        version_description: Some(pages.description),
        note: Some(pages.note),
        links: links(files),
        dataset: Some(DatasetInput::of(candidate, evaluation, config)),
        aliases: registry.alias.iter().cloned().collect(),
        promotion: None,
    })
}

fn artifacts(
    candidate: &Snapshot,
    config: &Config,
    files: Files<'_>,
) -> Result<Vec<Artifact>, RegistryError> {
    let mut artifacts = vec![
        Artifact::file(MODEL_FOLDER, files.checkpoint),
        Artifact::bytes(baseline::FOLDER, baseline::SNAPSHOT, candidate.to_string()),
        Artifact::bytes(baseline::FOLDER, detections(files), files.detections.bytes()),
        Artifact::file(CONFIG_FOLDER, config.project_config()),
        Artifact::file(CONFIG_FOLDER, config.label_map_file()),
    ];
    artifacts.extend(settings(&config.root)?);
    // What another framework's model takes and gives is not known here.
    if config.detections.is_none() {
        let mlmodel = mlmodel::content(candidate, config, files.form, MODEL_FOLDER);
        artifacts.push(Artifact::bytes(MODEL_FOLDER, mlmodel::NAME, mlmodel));
    }
    artifacts.extend(files.reports.iter().map(|path| Artifact::file(REPORTS_FOLDER, path)));
    let plots = files.plots.iter();
    artifacts.extend(plots.map(|(name, svg)| Artifact::bytes(PLOTS_FOLDER, name, svg.as_bytes())));
    Ok(artifacts)
}

fn detections(files: Files<'_>) -> String {
    files.detections.name(Path::new(baseline::SNAPSHOT))
}

/// The project's `detgate.toml`, if it has one, without what a tracking URI may hold of secrets.
fn settings(root: &Path) -> Result<Option<Artifact>, RegistryError> {
    let path = root.join(SETTINGS);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(Artifact::bytes(CONFIG_FOLDER, SETTINGS, without_userinfo(&text)))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RegistryError::Io { action: "read", path, error }),
    }
}

/// The text with `***` for all that stands between `://` and the `@` of a host.
fn without_userinfo(text: &str) -> String {
    let mut pieces = text.split("://");
    let mut whole = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.find(['"', '\'', '\n', '\r']).unwrap_or(piece.len());
        let authority = piece[..end].split(['/', '?', '#']).next().unwrap_or_default();
        // A password may hold any of `/ ? #` by mistake: then all up to the last `@` is taken for it.
        let at =
            if authority.contains('@') { authority.rfind('@') } else { piece[..end].rfind('@') };
        whole += "://";
        match at {
            Some(at) => whole += &format!("***{}", &piece[at..]),
            None => whole += piece,
        }
    }
    whole
}

/// What a reader of the pages wants to open.
fn links(files: Files<'_>) -> Vec<Link> {
    let reports = files.reports.iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?;
        let kind = path.extension().map(|kind| kind.to_string_lossy().to_uppercase())?;
        Some(Link::new(&format!("report ({kind})"), format!("{REPORTS_FOLDER}/{name}")))
    });
    let plots = files.plots.first();
    let plots = plots.map(|(name, _)| Link::new("curves", format!("{PLOTS_FOLDER}/{name}")));
    let rest = [
        Link::new("detections", format!("{}/{}", baseline::FOLDER, detections(files))),
        Link::new("configuration", CONFIG_FOLDER),
        Link::new("checkpoint", MODEL_FOLDER),
    ];
    reports.chain(plots).chain(rest).collect()
}

fn params(candidate: &Snapshot, config: &Config) -> BTreeMap<String, String> {
    let facts = candidate.fingerprint.facts();
    let fact = |name: &str| facts.get(name).cloned().unwrap_or_default();
    [
        ("checkpoint", candidate.provenance.checkpoint.clone()),
        ("num_images", fact("image_count")),
        ("skipped_images", fact("skipped_images")),
        ("score_threshold", config.score_thr.to_string()),
        ("iou_threshold", config.iou_thr.to_string()),
        ("target_classes", config.target_classes.join(",")),
        ("min_size", fact("min_size")),
        ("max_size", fact("max_size")),
        ("device", "cpu".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn tags(candidate: &Snapshot, config: &Config) -> BTreeMap<String, String> {
    let mut tags = version_tags(candidate);
    let ground_truth = config.ground_truth.file_name().unwrap_or_default().to_string_lossy();
    tags.insert("ground_truth".to_owned(), ground_truth.into_owned());
    // What MLflow's pages show as the run's source.
    let mut source =
        |name: &str, value: &str| tags.insert(format!("mlflow.source.{name}"), value.to_owned());
    source("name", "detgate");
    source("type", "LOCAL");
    if let Some(commit) = &candidate.recorded.git_commit {
        source("git.commit", commit);
    }
    tags
}

/// What identifies a version: what was evaluated, by what, on what.
fn version_tags(candidate: &Snapshot) -> BTreeMap<String, String> {
    let facts = candidate.fingerprint.facts();
    let provenance = &candidate.provenance;
    [
        ("verdict", Some("passed".to_owned())),
        (CHECKPOINT_TAG, Some(provenance.checkpoint_blake3.clone())),
        ("engine", Some(provenance.engine.clone())),
        ("detgate_version", Some(env!("CARGO_PKG_VERSION").to_owned())),
        ("fingerprint_blake3", Some(fingerprint_digest(candidate))),
        ("git_commit", candidate.recorded.git_commit.clone()),
        ("ground_truth_blake3", facts.get("ground_truth_blake3").cloned()),
        ("image_bytes_blake3", facts.get("image_bytes_blake3").cloned()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

/// Equal where two runs are comparable.
fn fingerprint_digest(candidate: &Snapshot) -> String {
    // Facts in name order: a map has one form.
    blake3::hash(json!(candidate.fingerprint).to_string().as_bytes()).to_hex().to_string()
}

/// Every defined metric by its flat name, and the counts of the practical protocol.
fn metrics(candidate: &Snapshot, evaluation: &Evaluation) -> BTreeMap<String, f64> {
    let mut metrics: BTreeMap<String, f64> = candidate
        .metrics
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), (*value)?)))
        .collect();
    let practical = &evaluation.practical;
    let all = [(String::new(), &practical.global)];
    let classes =
        practical.per_class.iter().map(|class| (format!("/{}", class.name), &class.counts));
    for (suffix, counts) in all.into_iter().chain(classes) {
        for (name, count) in [("tp", counts.tp), ("fp", counts.fp), ("fn", counts.fn_)] {
            metrics.insert(format!("{name}{suffix}"), count as f64);
        }
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::without_userinfo;

    #[test]
    fn settings_are_kept_without_the_secrets_of_a_uri() {
        let hidden =
            |uri: &str| without_userinfo(&format!("tracking_uri = \"{uri}\"  # a@b\nx = 1\n"));
        let kept = |uri: &str| format!("tracking_uri = \"{uri}\"  # a@b\nx = 1\n");
        assert_eq!(hidden("https://ann:hunter2@ml.example/x"), kept("https://***@ml.example/x"));
        assert_eq!(hidden("https://ann:hun/ter2@ml.example"), kept("https://***@ml.example"));
        for plain in ["sqlite:///mlflow.db", "https://ml.example/x", "models:/a@champion"] {
            assert_eq!(hidden(plain), kept(plain));
        }
    }
}
