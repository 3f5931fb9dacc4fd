//! What was evaluated on, as MLflow's dataset of a run (`runs/log-inputs`).
//!
//! Measured on MLflow 3.17: `log-batch` takes `dataset_name` and `dataset_digest` beside each metric and
//! drops both, unless the metric belongs to a logged model, which keeps its own copy of all metrics and
//! files. So what ties metrics to their data is the run: it has one dataset, and all metrics are of it.
//!
//! Deliberately absent: logged models. A version of the registry with two places for its files, of
//! which one could be whole and the other not, is what the order of a publication avoids.

use serde_json::{Value, json};

use super::RegistryError;
use super::api::{self, Run};
use super::client::Client;
use crate::config::Config;
use crate::gate::Snapshot;
use crate::metrics::Evaluation;

/// The longest digest, characters.
const DIGEST: usize = 36;
/// The longest name, characters.
const NAME: usize = 500;
/// Facts of the fingerprint that say what was evaluated on, whatever was counted how.
const FACTS: [&str; 4] = ["ground_truth_blake3", "image_bytes_blake3", "image_count", "classes"];

/// The dataset of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DatasetInput {
    /// Its name: that of the ground truth's file, without `.json`.
    pub name: String,
    /// At most 36 characters; equal where the same images were evaluated on the same ground truth.
    pub digest: String,
    /// Where the ground truth is, relative to the project.
    pub source: String,
    /// What a record of it holds.
    pub schema: Value,
    /// How much of what there is in it.
    pub profile: Value,
}

impl DatasetInput {
    /// What a run was evaluated on.
    pub(super) fn of(candidate: &Snapshot, evaluation: &Evaluation, config: &Config) -> Self {
        let stem = config.ground_truth.file_stem().unwrap_or_default().to_string_lossy();
        let inside = config.ground_truth.strip_prefix(&config.root);
        // A path of this machine says nothing to others, and may say too much.
        let named = || config.ground_truth.file_name().unwrap_or_default().as_ref();
        let source = inside.unwrap_or_else(|_| named()).to_string_lossy().replace('\\', "/");
        Self {
            name: stem.chars().take(NAME).collect(),
            digest: digest(candidate),
            source,
            schema: schema(),
            profile: profile(candidate, evaluation),
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "tags": [{ "key": "mlflow.data.context", "value": "evaluation" }],
            "dataset": {
                "name": self.name,
                "digest": self.digest,
                "source_type": "local",
                "source": json!({ "uri": self.source }).to_string(),
                "schema": self.schema.to_string(),
                "profile": self.profile.to_string(),
            },
        })
    }
}

fn digest(candidate: &Snapshot) -> String {
    let facts = candidate.fingerprint.facts();
    let known: Vec<_> = FACTS.iter().map(|name| (name, facts.get(*name))).collect();
    let digest = blake3::hash(json!(known).to_string().as_bytes());
    digest.to_hex()[..DIGEST].to_owned()
}

/// MLflow's columns; its page shows no other kind of schema.
fn schema() -> Value {
    let column = |name: &str, kind: &str| json!({ "name": name, "type": kind, "required": true });
    let columns = [
        column("image_id", "long"),
        column("file_name", "string"),
        column("width", "long"),
        column("height", "long"),
        column("category_id", "long"),
        column("bbox", "string"),
        column("iscrowd", "boolean"),
    ];
    json!({ "mlflow_colspec": columns })
}

/// `num_rows` and `num_elements` are what MLflow's page shows; the rest is for readers of the API.
fn profile(candidate: &Snapshot, evaluation: &Evaluation) -> Value {
    let facts = candidate.fingerprint.facts();
    let number = |name: &str| facts.get(name).and_then(|count| count.parse::<u64>().ok());
    let per_class = &evaluation.practical.per_class;
    let boxes: u64 = per_class.iter().map(|class| class.ground_truths).sum();
    let of_class: serde_json::Map<String, Value> =
        per_class.iter().map(|class| (class.name.clone(), json!(class.ground_truths))).collect();
    json!({
        "num_rows": number("image_count"),
        "num_elements": boxes,
        "images": number("image_count"),
        "skipped_images": number("skipped_images"),
        "ground_truths": boxes,
        "ground_truths_per_class": of_class,
        "ground_truth_blake3": facts.get("ground_truth_blake3"),
        "image_bytes_blake3": facts.get("image_bytes_blake3"),
    })
}

/// Logs the dataset and looks whether it is there. The same again changes nothing.
///
/// # Errors
/// A [`RegistryError`], among them [`RegistryError::Incomplete`].
pub(super) fn log(client: &Client, run: &Run, input: &DatasetInput) -> Result<(), RegistryError> {
    let body = json!({ "run_id": run.id, "datasets": [input.to_json()] });
    let log = || client.post("runs/log-inputs", &body);
    // Of two runs that bring the same dataset in the same moment MLflow refuses one, whose insertion breaks
    // a rule of the database (400 with SQLAlchemy's words); at the next try it finds the other's.
    match client.repeated(log) {
        Err(RegistryError::Refused { status: 400, .. }) => client.repeated(log)?,
        other => other?,
    };
    let answer = client.repeated(|| {
        let answer = client.get("runs/get", &[("run_id", &run.id)])?;
        api::text(client, &answer["run"]["info"], "run_id").map(|_| answer)
    })?;
    let held = answer["run"]["inputs"]["dataset_inputs"].as_array();
    let is_ours = |held: &Value| {
        held["dataset"]["name"] == input.name && held["dataset"]["digest"] == input.digest
    };
    if held.is_some_and(|held| held.iter().any(is_ours)) {
        return Ok(());
    }
    let reason = format!("the dataset {} is missing", input.name);
    Err(api::incomplete(run, reason))
}
