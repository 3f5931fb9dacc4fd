//! MLflow's REST calls, one function each, as far as a publication needs them
//! (`mlflow/protos/{service,model_registry}.proto` of MLflow 3.17).
//!
//! Every field that comes back is checked: MLflow answers 200 to much that it did not do.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::client::Client;
use super::retry::{Made, Unmade};
use super::{RegistryError, RegistrySettings};
use crate::config::ExperimentId;

/// The tag of a run and of a version that tells which publication made it.
pub(super) const PUBLICATION_TAG: &str = "detgate.publication";
/// The tag of a version that tells what was registered: [`super::prepare::Prepared::digest`].
pub(super) const DIGEST_TAG: &str = "detgate.registration";
/// The tag of a failed run that tells why.
const FAILURE_TAG: &str = "detgate.failure";
/// The tag of a run whose results another version has.
const SAME_AS_TAG: &str = "detgate.same_as";

/// A run that was created.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) id: String,
    pub(super) experiment_id: String,
    pub(super) artifact_uri: String,
}

/// A version as the server tells it.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) number: String,
    pub(super) status: String,
    pub(super) message: String,
    pub(super) run_id: String,
    pub(super) source: String,
}

impl Version {
    /// The number as one; MLflow counts a model's versions up from 1.
    pub(super) fn count(&self) -> u64 {
        self.number.parse().unwrap_or(u64::MAX)
    }
}

/// The id of the experiment `name`, created if there is none.
///
/// # Errors
/// [`RegistryError::ExperimentDeleted`] when the name is in MLflow's trash.
pub(super) fn experiment(client: &Client, name: &str) -> Result<String, RegistryError> {
    let find = || find_experiment(client, name);
    if let Some(id) = client.repeated(find)? {
        return Ok(id);
    }
    let create = || match client.post("experiments/create", &json!({ "name": name })) {
        Ok(answer) => text(client, &answer, "experiment_id"),
        // Another publication was faster, or an earlier attempt of this one.
        Err(error) if has_code(&error, "RESOURCE_ALREADY_EXISTS") => find()?.ok_or(error),
        Err(error) => Err(error),
    };
    // A name is given only once, so nothing can come of a lost answer.
    client.once(create, find).map(|made| made.value).map_err(|unmade| *unmade.error)
}

/// The id of the experiment, if there is one; nothing is made.
///
/// # Errors
/// As [`experiment`] and [`experiment_of_id`].
pub(super) fn known_experiment(
    client: &Client,
    name: &str,
    settings: &RegistrySettings,
) -> Result<Option<String>, RegistryError> {
    match &settings.experiment_id {
        Some(ExperimentId { id, .. }) => experiment_of_id(client, id).map(|(id, _)| Some(id)),
        None => find_experiment(client, name),
    }
}

fn find_experiment(client: &Client, name: &str) -> Result<Option<String>, RegistryError> {
    let answer = match client.get("experiments/get-by-name", &[("experiment_name", name)]) {
        Err(error) if has_code(&error, "RESOURCE_DOES_NOT_EXIST") => return Ok(None),
        other => other?,
    };
    active_experiment(client, &answer["experiment"]).map(Some)
}

/// The id again, if that is an experiment which is not in MLflow's trash; and its name.
pub(super) fn experiment_of_id(
    client: &Client,
    id: &str,
) -> Result<(String, String), RegistryError> {
    let ask = || match client.get("experiments/get", &[("experiment_id", id)]) {
        Err(error) if has_code(&error, "RESOURCE_DOES_NOT_EXIST") => {
            let reason = "which is no experiment of this server".to_owned();
            Err(RegistryError::ExperimentId { id: id.to_owned(), reason })
        }
        other => other,
    };
    let answer = client.repeated(ask)?;
    let experiment = &answer["experiment"];
    Ok((active_experiment(client, experiment)?, text(client, experiment, "name")?))
}

fn active_experiment(client: &Client, experiment: &Value) -> Result<String, RegistryError> {
    let id = text(client, experiment, "experiment_id")?;
    if experiment["lifecycle_stage"] == "deleted" {
        let name = text(client, experiment, "name")?;
        return Err(RegistryError::ExperimentDeleted { name, id });
    }
    Ok(id)
}

/// Creates a run of the publication `key`.
pub(super) fn create_run(
    client: &Client,
    experiment_id: &str,
    name: &str,
    key: &str,
) -> Result<Made<Run>, Unmade> {
    let tags = [json!({ "key": PUBLICATION_TAG, "value": key })];
    let body = json!({
        "experiment_id": experiment_id, "run_name": name, "start_time": now(), "tags": tags,
    });
    let create = || {
        let answer = client.post("runs/create", &body)?;
        run(client, &answer["run"])
    };
    client.once(create, || Ok(find_runs(client, experiment_id, key)?.into_iter().next()))
}

/// The runs of the publication `key` that are not deleted, the oldest first.
pub(super) fn find_runs(
    client: &Client,
    experiment_id: &str,
    key: &str,
) -> Result<Vec<Run>, RegistryError> {
    let body = json!({
        "experiment_ids": [experiment_id],
        "filter": format!("tags.`{PUBLICATION_TAG}` = '{key}'"),
        "order_by": ["attributes.start_time ASC"],
        "max_results": 100,
    });
    let answer = client.post("runs/search", &body)?;
    answer_is_object(client, &answer)?;
    answer["runs"].as_array().into_iter().flatten().map(|found| run(client, found)).collect()
}

fn run(client: &Client, found: &Value) -> Result<Run, RegistryError> {
    let info = &found["info"];
    Ok(Run {
        id: text(client, info, "run_id")?,
        experiment_id: text(client, info, "experiment_id")?,
        artifact_uri: text(client, info, "artifact_uri")?,
    })
}

/// Takes a run of ours away that a repeated request made once more. It is empty.
pub(super) fn discard_run(client: &Client, run: &Run) -> Result<(), RegistryError> {
    fail_run(client, run, "a lost answer made this run a second time");
    client.repeated(|| client.post("runs/delete", &json!({ "run_id": run.id }))).map(drop)
}

/// Logs one batch; each list within the server's limits.
pub(super) fn log_batch(
    client: &Client,
    run: &Run,
    kind: &str,
    entries: &[Value],
) -> Result<(), RegistryError> {
    // The same again changes nothing: the timestamps of metrics are in the entries.
    let body = json!({ "run_id": run.id, kind: entries });
    client.repeated(|| client.post("runs/log-batch", &body)).map(drop)
}

/// The params, tags and metrics that the server holds for a run.
pub(super) fn run_data(client: &Client, run: &Run) -> Result<Value, RegistryError> {
    let ask = || {
        let mut answer = client.get("runs/get", &[("run_id", &run.id)])?;
        text(client, &answer["run"]["info"], "run_id")?;
        Ok(answer["run"]["data"].take())
    };
    client.repeated(ask)
}

/// A run that ended well and is not deleted, with its experiment's id; `None` for all others.
pub(super) fn finished_run(
    client: &Client,
    run_id: &str,
) -> Result<Option<(Run, String)>, RegistryError> {
    let ask = || {
        let answer = match client.get("runs/get", &[("run_id", run_id)]) {
            Err(error) if has_code(&error, "RESOURCE_DOES_NOT_EXIST") => return Ok(None),
            other => other?,
        };
        let info = &answer["run"]["info"];
        if info["status"] != "FINISHED" || info["lifecycle_stage"] == "deleted" {
            return Ok(None);
        }
        Ok(Some((run(client, &answer["run"])?, text(client, info, "experiment_id")?)))
    };
    client.repeated(ask)
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
        text(client, &answer, "root_uri")?;
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
    let time = now();
    client.repeated(|| end_run(client, run, "FINISHED", time))
}

/// Marks the run as failed and says why, as far as the server can still be reached.
pub(super) fn fail_run(client: &Client, run: &Run, reason: &str) {
    // The error that brought us here is the one to report.
    let reason: String = reason.chars().take(5000).collect();
    let time = now();
    let _ = client.lastly(|| end_run(client, run, "FAILED", time));
    let _ = client.lastly(|| set_tag(client, run, FAILURE_TAG, &reason));
}

/// Says in a run without a version which version has the same results.
pub(super) fn same_as(client: &Client, run: &Run, reference: &str) -> Result<(), RegistryError> {
    client.repeated(|| set_tag(client, run, SAME_AS_TAG, reference))
}

/// Sets a tag of a run; the same again changes nothing.
pub(super) fn set_tag(
    client: &Client,
    run: &Run,
    key: &str,
    value: &str,
) -> Result<(), RegistryError> {
    let tag = json!({ "run_id": run.id, "key": key, "value": value });
    client.post("runs/set-tag", &tag).map(drop)
}

fn end_run(client: &Client, run: &Run, status: &str, time: u64) -> Result<(), RegistryError> {
    let body = json!({ "run_id": run.id, "status": status, "end_time": time });
    let answer = client.post("runs/update", &body)?;
    answer_is_object(client, &answer)?;
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
    let create = || match client.post("registered-models/create", &json!({ "name": name })) {
        Err(error) if has_code(&error, "RESOURCE_ALREADY_EXISTS") => Ok(()),
        other => other.map(drop),
    };
    client.repeated(create)
}

/// Creates a version of the publication `key`.
pub(super) fn create_version(
    client: &Client,
    model: &str,
    key: &str,
    body: &Value,
) -> Result<Made<Version>, Unmade> {
    let create = || {
        let answer = client.post("model-versions/create", body)?;
        version(client, &answer["model_version"])
    };
    let find = || Ok(find_versions(client, model, PUBLICATION_TAG, key)?.into_iter().next());
    client.once(create, find)
}

/// The versions of a model that have a tag, the oldest first. `tag` and `value` hold no quotes.
pub(super) fn find_versions(
    client: &Client,
    model: &str,
    tag: &str,
    value: &str,
) -> Result<Vec<Version>, RegistryError> {
    let mut filter = format!("tags.`{tag}` = '{value}'");
    // A name with both quotes cannot be said in MLflow's filters.
    if let Some(quote) = ['\'', '"'].into_iter().find(|quote| !model.contains(*quote)) {
        filter = format!("name = {quote}{model}{quote} AND {filter}");
    }
    let (mut versions, mut page) = (Vec::new(), String::new());
    loop {
        let mut query = vec![("filter", filter.as_str()), ("max_results", "1000")];
        query.extend((!page.is_empty()).then_some(("page_token", page.as_str())));
        let answer = client.get("model-versions/search", &query)?;
        answer_is_object(client, &answer)?;
        let found = answer["model_versions"].as_array().into_iter().flatten();
        for found in found.filter(|found| found["name"] == model) {
            versions.push(version(client, found)?);
        }
        match answer["next_page_token"].as_str() {
            Some(next) if !next.is_empty() && next != page => page = next.to_owned(),
            _ => break,
        }
    }
    versions.sort_by_key(Version::count);
    Ok(versions)
}

/// Takes a version of ours away again.
pub(super) fn delete_version(
    client: &Client,
    model: &str,
    number: &str,
) -> Result<(), RegistryError> {
    let body = json!({ "name": model, "version": number });
    let delete = || match client.delete("model-versions/delete", &body) {
        Err(error) if has_code(&error, "RESOURCE_DOES_NOT_EXIST") => Ok(()),
        other => other.map(drop),
    };
    client.repeated(delete)
}

/// A version as it is now.
pub(super) fn get_version(
    client: &Client,
    model: &str,
    number: &str,
) -> Result<Version, RegistryError> {
    let query = [("name", model), ("version", number)];
    client.repeated(|| {
        let answer = client.get("model-versions/get", &query)?;
        version(client, &answer["model_version"])
    })
}

/// A version that was asked for by its number or an alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) number: String,
    pub(super) run_id: String,
}

/// The version that an alias names; `None` when there is no such model or alias.
pub(super) fn version_of_alias(
    client: &Client,
    model: &str,
    alias: &str,
) -> Result<Option<Named>, RegistryError> {
    let query = [("name", model), ("alias", alias)];
    client.repeated(|| named(client, client.get("registered-models/alias", &query)))
}

/// The version with a number; `None` when there is no such model or version.
pub(super) fn version_of_number(
    client: &Client,
    model: &str,
    number: &str,
) -> Result<Option<Named>, RegistryError> {
    let query = [("name", model), ("version", number)];
    client.repeated(|| named(client, client.get("model-versions/get", &query)))
}

fn named(
    client: &Client,
    answer: Result<Value, RegistryError>,
) -> Result<Option<Named>, RegistryError> {
    match answer {
        Ok(answer) => {
            let found = &answer["model_version"];
            let number = text(client, found, "version")?;
            // A version that somebody made by hand may have none.
            let run_id = found["run_id"].as_str().unwrap_or_default().to_owned();
            Ok(Some(Named { number, run_id }))
        }
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

/// The server does not hold what was sent for a run.
pub(super) fn incomplete(run: &Run, reason: String) -> RegistryError {
    RegistryError::Incomplete { run_id: run.id.clone(), reason }
}

fn version(client: &Client, found: &Value) -> Result<Version, RegistryError> {
    let word = |key: &str, default: &str| found[key].as_str().unwrap_or(default).to_owned();
    Ok(Version {
        number: text(client, found, "version")?,
        status: word("status", "READY"),
        message: word("status_message", "no explanation"),
        run_id: word("run_id", ""),
        source: word("source", ""),
    })
}

/// MLflow leaves empty lists out of its answers: only an object can be taken for one without them.
pub(super) fn answer_is_object(client: &Client, answer: &Value) -> Result<(), RegistryError> {
    if answer.is_object() {
        return Ok(());
    }
    Err(RegistryError::Answer {
        url: client.base().to_string(),
        reason: "its answer is no JSON object; is this an MLflow tracking server?".to_owned(),
        is_page: false,
    })
}

pub(super) fn text(client: &Client, object: &Value, key: &str) -> Result<String, RegistryError> {
    match &object[key] {
        Value::String(text) if !text.is_empty() => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(RegistryError::Answer {
            url: client.base().to_string(),
            reason: format!("there is no {key} in its answer; is this an MLflow tracking server?"),
            is_page: false,
        }),
    }
}

pub(super) fn has_code(error: &RegistryError, wanted: &str) -> bool {
    matches!(error, RegistryError::Refused { code: Some(code), .. } if code == wanted)
}

/// Milliseconds since 1970, as MLflow counts time.
pub(super) fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
