//! What is registered: the versions of a model, with what their runs hold.
//!
//! Deliberately absent: any change to the registry, and pages beyond the number that was asked for.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::api::{self, has_code};
use super::client::Client;
use super::connection::with_client;
use super::{RegistryError, RegistrySettings, TrackingUri};
use crate::config::{ModelReference, ModelVersion};

/// The most versions that are asked for at once.
const MOST: usize = 1000;

/// A version of a registered model, and its run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionRecord {
    /// Its number.
    pub version: String,
    /// When it was registered: RFC 3339, UTC, to the second.
    pub created: String,
    /// `READY`, or what else MLflow says.
    pub status: String,
    /// The aliases that name it.
    pub aliases: Vec<String>,
    /// Its tags; `verdict` and the digests are among them where detgate registered it.
    pub tags: BTreeMap<String, String>,
    /// Its run's id; empty where it has none.
    pub run_id: String,
    /// The run's params.
    pub params: BTreeMap<String, String>,
    /// The run's metrics.
    pub metrics: BTreeMap<String, f64>,
    /// What the run was evaluated on, name and digest.
    pub datasets: Vec<(String, String)>,
    /// Markdown.
    pub description: String,
}

/// The newest `limit` versions of a model, the newest first; none where there is no such model.
///
/// # Errors
/// A [`RegistryError`]: the server cannot be asked.
pub fn versions(
    model: &str,
    limit: usize,
    settings: &RegistrySettings,
) -> Result<Vec<VersionRecord>, RegistryError> {
    if is_absent(settings) {
        return Ok(Vec::new());
    }
    with_client(settings, "the versions were listed", |client, _server| {
        let aliases = aliases(client, model)?;
        let limit = limit.clamp(1, MOST).to_string();
        let filter = format!("name = {}", quoted(model));
        let query = [
            ("filter", filter.as_str()),
            ("max_results", &limit),
            ("order_by", "version_number DESC"),
        ];
        let answer = client.repeated(|| {
            let answer = client.get("model-versions/search", &query)?;
            api::answer_is_object(client, &answer).map(|()| answer)
        })?;
        let found = answer["model_versions"].as_array().into_iter().flatten();
        found.map(|version| record(client, version, &aliases)).collect()
    })
}

/// The versions that are named, in that order.
///
/// # Errors
/// [`RegistryError::NoVersion`] where one is not there; and as [`versions`].
pub fn find(
    model: &str,
    wanted: &[ModelVersion],
    settings: &RegistrySettings,
) -> Result<Vec<VersionRecord>, RegistryError> {
    let reference = |version: &ModelVersion| {
        ModelReference { name: model.to_owned(), version: version.clone() }.to_string()
    };
    if let (Some(first), true) = (wanted.first(), is_absent(settings)) {
        return Err(RegistryError::NoVersion { reference: reference(first) });
    }
    with_client(settings, "the versions were read", |client, _server| {
        let aliases = aliases(client, model)?;
        let one = |version: &ModelVersion| {
            let named = named(client, model, version)?;
            let number =
                named.ok_or_else(|| RegistryError::NoVersion { reference: reference(version) })?;
            let query = [("name", model), ("version", number.as_str())];
            let answer = client.repeated(|| client.get("model-versions/get", &query))?;
            record(client, &answer["model_version"], &aliases)
        };
        wanted.iter().map(one).collect()
    })
}

/// The number of the version that a reference names now; `None` where it names none.
///
/// # Errors
/// As [`versions`].
pub fn present(
    reference: &ModelReference,
    settings: &RegistrySettings,
) -> Result<Option<String>, RegistryError> {
    if is_absent(settings) {
        return Ok(None);
    }
    with_client(settings, "the alias was read", |client, _server| {
        named(client, &reference.name, &reference.version)
    })
}

/// Where there is no database yet, none shall be made by looking.
pub(super) fn is_absent(settings: &RegistrySettings) -> bool {
    matches!(&settings.tracking_uri, TrackingUri::Sqlite { database } if !database.exists())
}

pub(super) fn named(
    client: &Client,
    model: &str,
    version: &ModelVersion,
) -> Result<Option<String>, RegistryError> {
    let named = match version {
        ModelVersion::Alias(alias) => api::version_of_alias(client, model, alias),
        ModelVersion::Number(number) => api::version_of_number(client, model, number),
    };
    Ok(named?.map(|named| named.number))
}

/// MLflow's filters have quotes of two kinds and no way to write one in itself.
fn quoted(text: &str) -> String {
    if text.contains('\'') { format!("\"{text}\"") } else { format!("'{text}'") }
}

/// The aliases of each version; searches leave them out.
fn aliases(client: &Client, model: &str) -> Result<BTreeMap<String, Vec<String>>, RegistryError> {
    let get = || client.get("registered-models/get", &[("name", model)]);
    let answer = match client.repeated(get) {
        Err(error) if has_code(&error, "RESOURCE_DOES_NOT_EXIST") => return Ok(BTreeMap::new()),
        other => other?,
    };
    let mut aliases: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for alias in answer["registered_model"]["aliases"].as_array().into_iter().flatten() {
        if let (Some(name), Some(version)) = (alias["alias"].as_str(), word(&alias["version"])) {
            aliases.entry(version).or_default().push(name.to_owned());
        }
    }
    aliases.values_mut().for_each(|names| names.sort());
    Ok(aliases)
}

pub(super) fn record(
    client: &Client,
    version: &Value,
    aliases: &BTreeMap<String, Vec<String>>,
) -> Result<VersionRecord, RegistryError> {
    let number = api::text(client, version, "version")?;
    let run_id = word(&version["run_id"]).unwrap_or_default();
    let run = run(client, &run_id)?;
    let data = &run["data"];
    let metrics = data["metrics"].as_array().into_iter().flatten();
    let datasets = run["inputs"]["dataset_inputs"].as_array().into_iter().flatten();
    Ok(VersionRecord {
        created: created(&version["creation_timestamp"]),
        status: word(&version["status"]).unwrap_or_else(|| "READY".to_owned()),
        aliases: aliases.get(&number).cloned().unwrap_or_default(),
        tags: pairs(&version["tags"]),
        params: pairs(&data["params"]),
        metrics: metrics
            .filter_map(|metric| Some((word(&metric["key"])?, metric["value"].as_f64()?)))
            .collect(),
        datasets: datasets
            .filter_map(|input| {
                Some((word(&input["dataset"]["name"])?, word(&input["dataset"]["digest"])?))
            })
            .collect(),
        description: word(&version["description"]).unwrap_or_default(),
        version: number,
        run_id,
    })
}

/// The run of a version; nothing where it has none, or it was deleted for good.
fn run(client: &Client, id: &str) -> Result<Value, RegistryError> {
    if id.is_empty() {
        return Ok(Value::Null);
    }
    match client.repeated(|| client.get("runs/get", &[("run_id", id)])) {
        Err(error) if has_code(&error, "RESOURCE_DOES_NOT_EXIST") => Ok(Value::Null),
        other => other.map(|mut answer| answer["run"].take()),
    }
}

/// Protocol buffers write 64-bit integers as strings; MLflow does so in some versions.
fn created(milliseconds: &Value) -> String {
    let number = milliseconds.as_i64().or_else(|| milliseconds.as_str()?.parse().ok());
    let time = number.and_then(|number| jiff::Timestamp::from_millisecond(number).ok());
    time.map_or_else(String::new, |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn pairs(entries: &Value) -> BTreeMap<String, String> {
    let entries = entries.as_array().into_iter().flatten();
    entries.filter_map(|entry| Some((word(&entry["key"])?, word(&entry["value"])?))).collect()
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
