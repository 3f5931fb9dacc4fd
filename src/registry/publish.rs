//! The sequence of a publication, from the experiment to the version.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::api::{self, Run, Version};
use super::artifacts;
use super::client::Client;
use super::connection::with_client;
use super::prepare::{Prepared, batches, pairs, prepare};
use super::server::Server;
use super::{Event, Publication, Registered, RegistryError, RegistrySettings};
use crate::gate::Passed;

/// How often the creation of a version is tried.
const VERSION_ATTEMPTS: u32 = 3;
/// How often a server is asked whether a version is READY.
const POLL: Duration = Duration::from_millis(200);

/// Writes a run and a version of the registered model, for a candidate that passed the gate.
///
/// # Errors
/// A [`RegistryError`]. Up to [`RegistryError::Incomplete`] and with [`RegistryError::Interrupted`]
/// there is no version, and a run that was created is marked `FAILED` if the server could still be
/// reached; [`RegistryError::NotReady`] names the version that exists.
pub fn publish(
    passed: &Passed,
    publication: &Publication,
    settings: &RegistrySettings,
) -> Result<Registered, RegistryError> {
    let prepared = prepare(passed, publication)?;
    with_client(settings, "everything was logged", |client, server| {
        Sequence { client, server, prepared: &prepared, settings }.run()
    })
}

struct Sequence<'a> {
    client: &'a Client,
    server: Option<&'a Server>,
    prepared: &'a Prepared<'a>,
    settings: &'a RegistrySettings,
}

/// Marks the run as failed unless it is told that all is well; also when a panic unwinds.
struct OpenRun<'a> {
    client: &'a Client,
    run: Run,
    reason: String,
    is_open: bool,
}

impl Drop for OpenRun<'_> {
    fn drop(&mut self) {
        if self.is_open {
            api::fail_run(self.client, &self.run, &self.reason);
        }
    }
}

impl Sequence<'_> {
    fn run(&self) -> Result<Registered, RegistryError> {
        let publication = self.prepared.publication;
        self.go_on()?;
        let experiment_id = api::experiment(self.client, &publication.experiment)?;
        let run = api::create_run(self.client, &experiment_id, &publication.run_name)?;
        let mut open = OpenRun {
            client: self.client,
            run: run.clone(),
            reason: "detgate panicked".to_owned(),
            is_open: true,
        };
        (self.settings.on_event)(Event::RunCreated { run_id: &run.id });
        let version = match self.fill(&run).and_then(|()| self.version(&run)) {
            Ok(version) => version,
            Err(error) => {
                open.reason = error.to_string();
                return Err(error);
            }
        };
        open.is_open = false;
        self.wait_until_ready(&version)?;
        Ok(Registered {
            experiment_id,
            source: self.source(&run),
            run_id: run.id,
            artifact_uri: run.artifact_uri,
            model_name: publication.model_name.clone(),
            version: version.number,
            truncated: self.prepared.truncated.clone(),
        })
    }

    /// Everything that belongs to the run, up to its end.
    fn fill(&self, run: &Run) -> Result<(), RegistryError> {
        self.log(run)?;
        self.upload(run)?;
        artifacts::verify(self.client, run, &self.prepared.files)?;
        self.verify_data(run)?;
        self.go_on()?;
        api::finish_run(self.client, run)
    }

    fn log(&self, run: &Run) -> Result<(), RegistryError> {
        let timestamp = api::now();
        let metrics = self.prepared.publication.metrics.iter();
        let metrics = metrics.map(
            |(key, value)| json!({"key": key, "value": value, "timestamp": timestamp, "step": 0}),
        );
        let kinds = [
            ("params", pairs(&self.prepared.params), 100),
            ("tags", pairs(&self.prepared.tags), 100),
            ("metrics", metrics.collect(), 1000),
        ];
        for (kind, entries, count) in kinds {
            for batch in batches(entries, count) {
                self.go_on()?;
                api::log_batch(self.client, run, kind, &batch)?;
            }
        }
        Ok(())
    }

    fn upload(&self, run: &Run) -> Result<(), RegistryError> {
        let served = self.server.map(Server::artifacts);
        let local = served.is_some() || self.client.is_local();
        let store =
            artifacts::store(&run.artifact_uri, self.client.base().host_str(), served, local);
        let store = store.map_err(|reason| RegistryError::ArtifactStore {
            uri: run.artifact_uri.clone(),
            experiment: self.prepared.publication.experiment.clone(),
            reason,
        })?;
        for file in &self.prepared.files {
            self.go_on()?;
            artifacts::upload(self.client, &store, file, self.settings)?;
        }
        Ok(())
    }

    /// MLflow answers 200 to values that it stores as something else: what it holds is read back.
    fn verify_data(&self, run: &Run) -> Result<(), RegistryError> {
        let data = api::run_data(self.client, run)?;
        let by_key = |kind: &str| -> BTreeMap<String, Value> {
            let entries = data[kind].as_array().into_iter().flatten();
            entries
                .filter_map(|entry| {
                    Some((entry["key"].as_str()?.to_owned(), entry["value"].clone()))
                })
                .collect()
        };
        let incomplete =
            |what: String| Err(RegistryError::Incomplete { run_id: run.id.clone(), reason: what });
        for (kind, sent) in [("params", &self.prepared.params), ("tags", &self.prepared.tags)] {
            let held = by_key(kind);
            if let Some((key, _)) =
                sent.iter().find(|(key, value)| held.get(*key) != Some(&json!(value)))
            {
                return incomplete(format!("{kind}: {key} is missing or has another value"));
            }
        }
        let held = by_key("metrics");
        for (key, sent) in &self.prepared.publication.metrics {
            let stored = held.get(key).and_then(Value::as_f64);
            // Room for the last digit, which JSON readers may round.
            if !stored.is_some_and(|stored| (stored - sent).abs() <= 1e-12 * sent.abs()) {
                return incomplete(format!("the metric {key} is {stored:?} instead of {sent}"));
            }
        }
        Ok(())
    }

    fn source(&self, run: &Run) -> String {
        // The folder, not the file in it: MLflow downloads nothing for a file.
        format!("runs:/{}/{}", run.id, self.prepared.publication.model_folder)
    }

    /// Creates the version once: an answer that was lost is looked for before another attempt.
    fn version(&self, run: &Run) -> Result<Version, RegistryError> {
        let model = &self.prepared.publication.model_name;
        api::registered_model(self.client, model)?;
        let mut tags = self.prepared.version_tags.clone();
        tags.insert(api::PUBLICATION_TAG.to_owned(), run.id.clone());
        let mut body = json!({ "name": model, "source": self.source(run), "run_id": run.id, "tags": pairs(&tags) });
        if let Some(description) = &self.prepared.description {
            body["description"] = json!(description);
        }
        let mut attempt = 1;
        loop {
            self.go_on()?;
            let error = match api::create_version(self.client, &body) {
                Ok(version) => return Ok(version),
                Err(error) if !is_doubtful(&error) => return Err(error),
                Err(error) => error,
            };
            sleep(Duration::from_millis(500) * attempt);
            match api::find_version(self.client, model, run) {
                Ok(Some(version)) => return Ok(version),
                Ok(None) if attempt < VERSION_ATTEMPTS => attempt += 1,
                Ok(None) | Err(_) => return Err(error),
            }
        }
    }

    fn wait_until_ready(&self, created: &Version) -> Result<(), RegistryError> {
        let model = &self.prepared.publication.model_name;
        let deadline = Instant::now() + self.settings.timeouts.version_ready;
        loop {
            let version = api::get_version(self.client, model, &created.number)?;
            match version.status.as_str() {
                "READY" => break,
                "PENDING_REGISTRATION" if Instant::now() < deadline => sleep(POLL),
                _ => {
                    return Err(RegistryError::NotReady {
                        model: model.clone(),
                        version: version.number,
                        status: version.status,
                        reason: version.message,
                    });
                }
            }
        }
        (self.settings.on_event)(Event::VersionReady { version: &created.number });
        Ok(())
    }

    fn go_on(&self) -> Result<(), RegistryError> {
        if self.settings.is_interrupted() { Err(RegistryError::Interrupted) } else { Ok(()) }
    }
}

/// Whether the server may have done what it was asked all the same.
fn is_doubtful(error: &RegistryError) -> bool {
    match error {
        RegistryError::Unreachable { .. } | RegistryError::Answer { .. } => true,
        RegistryError::Refused { status, .. } => matches!(status, 408 | 429 | 500..),
        _ => false,
    }
}
