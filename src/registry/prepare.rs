//! Checks a publication before anything is sent, and brings it within MLflow's limits
//! (`mlflow/utils/validation.py` of MLflow 3.17), which its server enforces by cutting in silence.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use serde_json::{Value, json};

use super::{Artifact, Content, Publication, RegistryError};
use crate::gate::{Passed, Snapshot};

/// The longest key of a param, metric or tag, characters.
const KEY: usize = 250;
/// The longest value of a param, characters.
const PARAM: usize = 6000;
/// The longest value of a run's tag, characters.
pub(super) const TAG: usize = 8000;
/// The longest value of a version's tag, characters.
const VERSION_TAG: usize = 100_000;
/// The longest description of a version, characters.
pub(super) const DESCRIPTION: usize = 5000;
/// The longest experiment name, characters.
const EXPERIMENT: usize = 500;
/// The bytes of one log-batch request; the server takes 1,000,000.
const BATCH_BYTES: usize = 900_000;

/// A publication that MLflow will store as it stands.
#[derive(Debug)]
pub(super) struct Prepared<'a> {
    pub(super) publication: &'a Publication,
    pub(super) params: BTreeMap<String, String>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) version_tags: BTreeMap<String, String>,
    pub(super) description: Option<String>,
    pub(super) files: Vec<Upload<'a>>,
    pub(super) truncated: Vec<String>,
    /// Of what is registered: checkpoint, results and fingerprint. The same digest, the same version.
    pub(super) digest: String,
}

/// A file to upload.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    /// Below the run's artifact root, `/` between the parts.
    pub(super) path: String,
    pub(super) content: &'a Content,
    /// Bytes.
    pub(super) length: u64,
}

/// Checks everything that can be checked without a server.
///
/// # Errors
/// [`RegistryError::Publication`] and [`RegistryError::Io`]; among others when no file in the model
/// folder is the checkpoint that `passed`: it was replaced after the evaluation.
pub(super) fn prepare<'a>(
    passed: &Passed,
    publication: &'a Publication,
) -> Result<Prepared<'a>, RegistryError> {
    names(publication)?;
    metrics(&publication.metrics)?;
    let mut truncated = Vec::new();
    let params = shorten("param", &publication.params, PARAM, &mut truncated)?;
    let tags = shorten("tag", &publication.tags, TAG, &mut truncated)?;
    let version_tags =
        shorten("version tag", &publication.version_tags, VERSION_TAG, &mut truncated)?;
    let description = publication.version_description.as_deref().map(|text| cut(text, DESCRIPTION));
    if description.as_deref() != publication.version_description.as_deref() {
        truncated.push("version description".to_owned());
    }
    let files = uploads(&publication.artifacts)?;
    checkpoint_is_the_one_that(passed, publication)?;
    let digest = registration_digest(passed.candidate());
    Ok(Prepared { publication, params, tags, version_tags, description, files, truncated, digest })
}

/// BLAKE3 over everything that makes two registrations the same, each part with its length.
fn registration_digest(candidate: &Snapshot) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |part: &str| {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    };
    add(&candidate.provenance.checkpoint_blake3);
    add(candidate.detections_blake3.as_deref().unwrap_or(""));
    for (name, value) in candidate.fingerprint.facts() {
        add(name);
        add(value);
    }
    for (name, value) in &candidate.metrics {
        add(name);
        add(&value.map_or_else(String::new, |value| format!("{:x}", value.to_bits())));
    }
    hasher.finalize().to_hex().to_string()
}

fn refused<T>(reason: String) -> Result<T, RegistryError> {
    Err(RegistryError::Publication(reason))
}

fn names(publication: &Publication) -> Result<(), RegistryError> {
    let Publication { experiment, model_name, run_name, model_folder, .. } = publication;
    if experiment.trim().is_empty() || experiment.chars().count() > EXPERIMENT {
        return refused(format!(
            "an experiment's name has 1 to {EXPERIMENT} characters, not {experiment:?}"
        ));
    }
    let odd_model =
        model_name.contains(['/', ':', '?']) || matches!(model_name.trim(), "" | "." | "..");
    if odd_model {
        return refused(format!(
            "a registered model's name cannot be empty or hold `/`, `:` or `?`, like {model_name:?}"
        ));
    }
    if run_name.trim().is_empty() || model_folder.is_empty() {
        return refused("the run's name and the model's folder cannot be empty".to_owned());
    }
    Ok(())
}

/// MLflow stores NaN as 0 and answers 200.
fn metrics(metrics: &BTreeMap<String, f64>) -> Result<(), RegistryError> {
    for (name, value) in metrics {
        key("metric", name)?;
        if !value.is_finite() {
            return refused(format!(
                "the metric {name} is {value}, which MLflow would store as another number"
            ));
        }
    }
    Ok(())
}

fn key(kind: &str, name: &str) -> Result<(), RegistryError> {
    if name.trim().is_empty() || name.chars().count() > KEY {
        return refused(format!("the name of a {kind} has 1 to {KEY} characters, not {name:?}"));
    }
    Ok(())
}

fn shorten(
    kind: &str,
    values: &BTreeMap<String, String>,
    limit: usize,
    truncated: &mut Vec<String>,
) -> Result<BTreeMap<String, String>, RegistryError> {
    let mut short = BTreeMap::new();
    for (name, value) in values {
        key(kind, name)?;
        let kept = cut(value, limit);
        if kept != *value {
            truncated.push(format!("{kind} {name}"));
        }
        short.insert(name.clone(), kept);
    }
    Ok(short)
}

/// At most `limit` characters, ending in a mark when something is missing.
pub(super) fn cut(text: &str, limit: usize) -> String {
    let length = text.chars().count();
    if length <= limit {
        return text.to_owned();
    }
    let mark = format!(" ... [cut by detgate; {length} characters]");
    let kept: String = text.chars().take(limit.saturating_sub(mark.chars().count())).collect();
    kept + &mark
}

fn uploads(artifacts: &[Artifact]) -> Result<Vec<Upload<'_>>, RegistryError> {
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    for artifact in artifacts {
        let upload = upload(artifact)?;
        if !seen.insert(upload.path.clone()) {
            return refused(format!("two artifacts would both become {}", upload.path));
        }
        files.push(upload);
    }
    Ok(files)
}

fn upload(artifact: &Artifact) -> Result<Upload<'_>, RegistryError> {
    let (name, length) = match &artifact.content {
        Content::Bytes { name, bytes } => (name.clone(), bytes.len() as u64),
        Content::File(path) => {
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(name) = name else {
                return refused(format!("the file name of {} is not UTF-8", path.display()));
            };
            (name.to_owned(), length(path)?)
        }
    };
    if name.contains('/') {
        return refused(format!(
            "the artifact name {name:?} holds a `/`: put that part into its folder"
        ));
    }
    let path =
        if artifact.folder.is_empty() { name } else { format!("{}/{name}", artifact.folder) };
    // The server decodes `%` once more than it should, takes `#` for a fragment and refuses the
    // rest.
    let odd = |part: &str| {
        matches!(part, "" | "." | "..")
            || part.contains(['%', '#', '\\'])
            || part.contains(char::is_control)
    };
    if path.split('/').any(odd) {
        return refused(format!(
            "MLflow cannot store an artifact named {path:?}: rename it, without any of `% # \\`"
        ));
    }
    Ok(Upload { path, content: &artifact.content, length })
}

fn length(path: &Path) -> Result<u64, RegistryError> {
    let read = |error| RegistryError::Io { action: "read", path: path.to_owned(), error };
    // Opened, not only looked at: a file without read permission must fail before a run exists.
    let metadata = File::open(path).and_then(|file| file.metadata()).map_err(read)?;
    if !metadata.is_file() {
        return refused(format!("{} is not a file", path.display()));
    }
    Ok(metadata.len())
}

/// Looks whether the checkpoint's file still is what was evaluated.
pub(super) fn checkpoint_is_the_one_that(
    passed: &Passed,
    publication: &Publication,
) -> Result<(), RegistryError> {
    let expected = &passed.candidate().provenance.checkpoint_blake3;
    for artifact in
        publication.artifacts.iter().filter(|artifact| artifact.folder == publication.model_folder)
    {
        if digest(&artifact.content)? == *expected {
            return Ok(());
        }
    }
    refused(format!(
        "no file for {} has the digest {expected} of the checkpoint that passed: it was replaced after the evaluation, so evaluate again",
        publication.model_folder
    ))
}

fn digest(content: &Content) -> Result<String, RegistryError> {
    let mut hasher = blake3::Hasher::new();
    match content {
        Content::Bytes { bytes, .. } => hasher.update(bytes),
        // Read, not mapped, so that a checkpoint of gigabytes takes no memory.
        Content::File(path) => File::open(path)
            .and_then(|file| hasher.update_reader(file))
            .map_err(|error| RegistryError::Io { action: "read", path: path.clone(), error })?,
    };
    Ok(hasher.finalize().to_hex().to_string())
}

/// `{"key", "value"}` objects.
pub(super) fn pairs(values: &BTreeMap<String, String>) -> Vec<Value> {
    values.iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

/// Splits entries into requests of at most `count` entries and [`BATCH_BYTES`] bytes.
pub(super) fn batches(entries: Vec<Value>, count: usize) -> Vec<Vec<Value>> {
    let mut batches: Vec<Vec<Value>> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        let size = entry.to_string().len() + 1;
        match batches.last_mut() {
            Some(batch) if batch.len() < count && bytes + size <= BATCH_BYTES => {
                bytes += size;
                batch.push(entry);
            }
            _ => {
                bytes = size;
                batches.push(vec![entry]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_ends_in_a_mark_within_the_limit() {
        let cut = cut(&"ü".repeat(7000), PARAM);
        assert_eq!(cut.chars().count(), PARAM);
        assert!(cut.ends_with("ü ... [cut by detgate; 7000 characters]"));
        assert_eq!(super::cut("as it is", PARAM), "as it is");
    }

    #[test]
    fn batches_respect_the_number_and_the_bytes() {
        let many = batches((0..250).map(|i| json!({ "key": i })).collect(), 100);
        assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50]);
        let wide = batches((0..50).map(|_| json!("ü".repeat(20_000))).collect(), 100);
        assert_eq!(wide.iter().map(Vec::len).collect::<Vec<_>>(), [22, 22, 6]);
        assert!(batches(vec![], 100).is_empty());
    }

    #[test]
    fn numbers_that_mlflow_would_change_are_refused() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error =
                metrics(&BTreeMap::from([("AP".to_owned(), value)])).unwrap_err().to_string();
            assert!(error.contains("metric AP"), "{error}");
        }
    }

    #[test]
    fn artifact_names_that_the_server_would_change_or_refuse_are_refused() {
        for (folder, name) in [
            ("..", "a"),
            ("a//b", "c"),
            ("/etc", "a"),
            ("a", "50%25"),
            ("a", "b#c"),
            ("a", "b\\c"),
            ("a", "b/c"),
            ("", ""),
        ] {
            let artifact = Artifact::bytes(folder, name, "x");
            assert!(
                matches!(upload(&artifact), Err(RegistryError::Publication(_))),
                "{folder:?} {name:?}"
            );
        }
        assert_eq!(
            upload(&Artifact::bytes("plots/AP", "a b ü.png", "x")).unwrap().path,
            "plots/AP/a b ü.png"
        );
    }
}
