//! What a passed evaluation looks like in MLflow: names of params, tags, metrics and folders.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Artifact, Publication, baseline};
use crate::config::{Config, RegistryConfig};
use crate::gate::stored::Stored;
use crate::gate::{Passed, Snapshot};
use crate::metrics::Evaluation;

/// The artifact folder of the checkpoint, which is also the version's source.
const MODEL_FOLDER: &str = "model_ckpt";

/// The files that a publication carries beside the notebook's two.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// The checkpoint that was evaluated.
    pub checkpoint: &'a Path,
    /// The JSON report.
    pub report: &'a Path,
    /// What the candidate found, for those that are compared with it.
    pub detections: &'a Stored,
}

/// Composes the publication of a run that passed. `run_name` is `eval_<UTC time>`.
pub fn publication(
    passed: &Passed,
    evaluation: &Evaluation,
    config: &Config,
    registry: &RegistryConfig,
    files: Files<'_>,
    run_name: String,
) -> Publication {
    let candidate = passed.candidate();
    let detections = files.detections.name(Path::new(baseline::SNAPSHOT));
    Publication {
        experiment: registry.experiment.clone(),
        model_name: registry.model_name.clone(),
        run_name,
        params: params(candidate, config),
        tags: tags(candidate, config),
        metrics: metrics(candidate, evaluation),
        artifacts: vec![
            Artifact::file(MODEL_FOLDER, files.checkpoint),
            Artifact::file("reports", files.report),
            Artifact::bytes(baseline::FOLDER, baseline::SNAPSHOT, candidate.to_string()),
            Artifact::bytes(baseline::FOLDER, detections, files.detections.bytes()),
            Artifact::file("config", config.project_config()),
            Artifact::file("config", config.label_map_file()),
        ],
        model_folder: MODEL_FOLDER.to_owned(),
        version_tags: version_tags(candidate),
        version_description: Some(description(candidate, evaluation)),
    }
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
    tags
}

/// What identifies a version: what was evaluated, by what, on what.
fn version_tags(candidate: &Snapshot) -> BTreeMap<String, String> {
    let facts = candidate.fingerprint.facts();
    let provenance = &candidate.provenance;
    [
        ("verdict", Some("passed".to_owned())),
        ("checkpoint_blake3", Some(provenance.checkpoint_blake3.clone())),
        ("engine", Some(provenance.engine.clone())),
        ("ground_truth_blake3", facts.get("ground_truth_blake3").cloned()),
        ("image_bytes_blake3", facts.get("image_bytes_blake3").cloned()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
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

fn description(candidate: &Snapshot, evaluation: &Evaluation) -> String {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    let coco = &evaluation.coco.summary;
    format!(
        "Passed the detgate regression gate: AP {}, AP50 {}, F1 {:.4} ({}).",
        number(coco.ap),
        number(coco.ap50),
        evaluation.practical.global.f1,
        candidate.provenance.checkpoint
    )
}
