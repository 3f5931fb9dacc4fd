//! MLflow's REST calls, one function each, as far as a publication needs them
//! (`mlflow/protos/{service,model_registry}.proto` of MLflow 3.17).
//!
//! Every field that comes back is checked: MLflow answers 200 to much that it did not do.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::RegistryError;
use super::client::Client;

/// The tag of a version that tells which publication made it. A run has one publication, so its id
/// is the key.
pub(super) const PUBLICATION_TAG: &str = "detgate.publication";
/// The tag of a failed run that tells why.
const FAILURE_TAG: &str = "detgate.failure";

/// A run that was created.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) id: String,
    pub(super) artifact_uri: String,
}

/// A version as the server tells it.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) number: String,
    pub(super) status: String,
    pub(super) message: String,
}

/// The id of the experiment `name`, created if there is none.
///
/// # Errors
/// [`RegistryError::ExperimentDeleted`] when the name is in MLflow's trash.
pub(super) fn experiment(client: &Client, name: &str) -> Result<String, RegistryError> {
    match find_experiment(client, name) {
        Err(error) if has_code(&error, "RESOURCE_DOES_NOT_EXIST") => {}
        other => return other,
    }
    match client.post("experiments/create", &json!({ "name": name })) {
        Ok(answer) => text(client, &answer, "experiment_id"),
        // Another publication was faster.
        Err(error) if has_code(&error, "RESOURCE_ALREADY_EXISTS") => find_experiment(client, name),
        Err(error) => Err(error),
    }
}

fn find_experiment(client: &Client, name: &str) -> Result<String, RegistryError> {
    let answer = client.get("experiments/get-by-name", &[("experiment_name", name)])?;
    let experiment = &answer["experiment"];
    let id = text(client, experiment, "experiment_id")?;
    if experiment["lifecycle_stage"] == "deleted" {
        return Err(RegistryError::ExperimentDeleted { name: name.to_owned(), id });
    }
    Ok(id)
}

/// Creates a run.
pub(super) fn create_run(
    client: &Client,
    experiment_id: &str,
    name: &str,
) -> Result<Run, RegistryError> {
    let body = json!({ "experiment_id": experiment_id, "run_name": name, "start_time": now() });
    let answer = client.post("runs/create", &body)?;
    let info = &answer["run"]["info"];
    Ok(Run { id: text(client, info, "run_id")?, artifact_uri: text(client, info, "artifact_uri")? })
}

/// Logs one batch; each list within the server's limits.
pub(super) fn log_batch(
    client: &Client,
    run: &Run,
    kind: &str,
    entries: &[Value],
) -> Result<(), RegistryError> {
    client.post("runs/log-batch", &json!({ "run_id": run.id, kind: entries })).map(drop)
}

/// The params, tags and metrics that the server holds for a run.
pub(super) fn run_data(client: &Client, run: &Run) -> Result<Value, RegistryError> {
    let mut answer = client.get("runs/get", &[("run_id", &run.id)])?;
    Ok(answer["run"]["data"].take())
}

/// Sizes of the files directly in an artifact folder, by path below the artifact root.
pub(super) fn list_artifacts(
    client: &Client,
    run_id: &str,
    folder: &str,
) -> Result<BTreeMap<String, u64>, RegistryError> {
    let mut sizes = BTreeMap::new();
    let mut page = String::new();
    loop {
        let mut query = vec![("run_id", run_id)];
        query.extend((!folder.is_empty()).then_some(("path", folder)));
        query.extend((!page.is_empty()).then_some(("page_token", page.as_str())));
        let answer = client.get("artifacts/list", &query)?;
        for file in answer["files"].as_array().into_iter().flatten() {
            // Protocol buffers write 64-bit integers as strings; MLflow does so in some versions.
            let size =
                file["file_size"].as_u64().or_else(|| file["file_size"].as_str()?.parse().ok());
            if let (Some(path), Some(size)) = (file["path"].as_str(), size) {
                sizes.insert(path.to_owned(), size);
            }
        }
        match answer["next_page_token"].as_str() {
            Some(next) if !next.is_empty() && next != page => page = next.to_owned(),
            _ => return Ok(sizes),
        }
    }
}

/// Marks the run as well ended.
pub(super) fn finish_run(client: &Client, run: &Run) -> Result<(), RegistryError> {
    end_run(client, run, "FINISHED")
}

/// Marks the run as failed and says why, as far as the server can still be reached.
pub(super) fn fail_run(client: &Client, run: &Run, reason: &str) {
    // The error that brought us here is the one to report.
    let reason: String = reason.chars().take(5000).collect();
    let tag = json!({ "run_id": run.id, "key": FAILURE_TAG, "value": reason });
    let _ = end_run(client, run, "FAILED");
    let _ = client.post("runs/set-tag", &tag);
}

fn end_run(client: &Client, run: &Run, status: &str) -> Result<(), RegistryError> {
    let answer = client
        .post("runs/update", &json!({ "run_id": run.id, "status": status, "end_time": now() }))?;
    // An unknown status is ignored with a 200.
    if answer["run_info"]["status"] == status {
        return Ok(());
    }
    Err(RegistryError::Incomplete {
        run_id: run.id.clone(),
        reason: format!("its status is {}, not {status}", answer["run_info"]["status"]),
    })
}

/// Creates the registered model if there is none.
pub(super) fn registered_model(client: &Client, name: &str) -> Result<(), RegistryError> {
    match client.post("registered-models/create", &json!({ "name": name })) {
        Err(error) if has_code(&error, "RESOURCE_ALREADY_EXISTS") => Ok(()),
        other => other.map(drop),
    }
}

/// Creates a version; not idempotent: see [`find_version`].
pub(super) fn create_version(client: &Client, body: &Value) -> Result<Version, RegistryError> {
    let answer = client.post("model-versions/create", body)?;
    version(client, &answer["model_version"])
}

/// The version that this run's publication made, if it made one.
pub(super) fn find_version(
    client: &Client,
    model: &str,
    run: &Run,
) -> Result<Option<Version>, RegistryError> {
    let filter = format!("run_id = '{}'", run.id);
    let answer =
        client.get("model-versions/search", &[("filter", &filter), ("max_results", "100")])?;
    let is_ours = |version: &Value| {
        let tagged = |tag: &Value| tag["key"] == PUBLICATION_TAG && tag["value"] == run.id.as_str();
        version["name"] == model
            && version["tags"].as_array().is_some_and(|tags| tags.iter().any(tagged))
    };
    let versions = answer["model_versions"].as_array();
    versions
        .into_iter()
        .flatten()
        .find(|found| is_ours(found))
        .map(|found| version(client, found))
        .transpose()
}

/// A version as it is now.
pub(super) fn get_version(
    client: &Client,
    model: &str,
    number: &str,
) -> Result<Version, RegistryError> {
    let answer = client.get("model-versions/get", &[("name", model), ("version", number)])?;
    version(client, &answer["model_version"])
}

/// The run of the version that an alias names; `None` when there is no such model or alias.
pub(super) fn run_of_alias(
    client: &Client,
    model: &str,
    alias: &str,
) -> Result<Option<String>, RegistryError> {
    run_of(client, client.get("registered-models/alias", &[("name", model), ("alias", alias)]))
}

/// The run of a version; `None` when there is no such model or version.
pub(super) fn run_of_version(
    client: &Client,
    model: &str,
    number: &str,
) -> Result<Option<String>, RegistryError> {
    run_of(client, client.get("model-versions/get", &[("name", model), ("version", number)]))
}

fn run_of(
    client: &Client,
    answer: Result<Value, RegistryError>,
) -> Result<Option<String>, RegistryError> {
    match answer {
        Ok(answer) => text(client, &answer["model_version"], "run_id").map(Some),
        // MLflow says INVALID_PARAMETER_VALUE of an alias that is not there.
        Err(error)
            if has_code(&error, "RESOURCE_DOES_NOT_EXIST")
                || has_code(&error, "INVALID_PARAMETER_VALUE") =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn version(client: &Client, found: &Value) -> Result<Version, RegistryError> {
    Ok(Version {
        number: text(client, found, "version")?,
        status: found["status"].as_str().unwrap_or("READY").to_owned(),
        message: found["status_message"].as_str().unwrap_or("no explanation").to_owned(),
    })
}

fn text(client: &Client, object: &Value, key: &str) -> Result<String, RegistryError> {
    match &object[key] {
        Value::String(text) if !text.is_empty() => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(RegistryError::Answer {
            url: client.base().to_string(),
            reason: format!("there is no {key} in its answer; is this an MLflow tracking server?"),
        }),
    }
}

fn has_code(error: &RegistryError, wanted: &str) -> bool {
    matches!(error, RegistryError::Refused { code: Some(code), .. } if code == wanted)
}

/// Milliseconds since 1970, as MLflow counts time.
pub(super) fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
