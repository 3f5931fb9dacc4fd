//! The sequence of a publication, from the experiment to the version.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::aliases;
use super::api::{self, DIGEST_TAG, PUBLICATION_TAG, Run, Version};
use super::artifacts;
use super::client::Client;
use super::connection::with_client;
use super::dataset_input;
use super::links::with_links;
use super::prepare::{
    DESCRIPTION, Prepared, TAG, batches, checkpoint_is_the_one_that, pairs, prepare,
};
use super::retry::{Made, Unmade};
use super::server::Server;
use super::{AliasOutcome, Event, Publication, Registered, RegistryError, RegistrySettings};
use crate::config::ExperimentId;
use crate::gate::Passed;

/// The tag of a run that MLflow's pages show as its description.
const NOTE_TAG: &str = "mlflow.note.content";
/// How often files are sent again of which the server holds something else.
const UPLOAD_ROUNDS: usize = 2;
/// How often a server is asked whether a version is READY.
const POLL: Duration = Duration::from_millis(200);

/// Writes a run and a version of the registered model, for a candidate that passed the gate. Where the
/// same results of the same checkpoint are registered already, that version is returned and nothing is
/// written, unless the settings force it.
///
/// # Errors
/// A [`RegistryError`]. There is no version then, and a run that was created is marked `FAILED` if the
/// server could still be reached; except for [`RegistryError::NotReady`] and
/// [`RegistryError::Unchecked`], which name the version that exists, and [`RegistryError::InDoubt`].
pub fn publish(
    passed: &Passed,
    publication: &Publication,
    settings: &RegistrySettings,
) -> Result<Registered, RegistryError> {
    let prepared = prepare(passed, publication)?;
    with_client(settings, "everything was logged", |client, server| {
        Sequence { client, server, passed, prepared: &prepared, settings }.run()
    })
}

struct Sequence<'a> {
    client: &'a Client,
    server: Option<&'a Server>,
    passed: &'a Passed,
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
        self.go_on()?;
        if !self.settings.force
            && let Some(registered) = self.recognised(None)?
        {
            return Ok(registered);
        }
        let experiment_id = self.experiment()?;
        let key = new_key();
        let name = &self.prepared.publication.run_name;
        let made = api::create_run(self.client, &experiment_id, name, &key);
        let made = made.map_err(|unmade| *unmade.error)?;
        let run = made.value;
        let mut open = OpenRun {
            client: self.client,
            run: run.clone(),
            reason: "detgate panicked".to_owned(),
            is_open: true,
        };
        (self.settings.on_event)(Event::RunCreated { run_id: &run.id });
        let only_one = match made.in_doubt {
            true => self.only_one_run(&experiment_id, &run, &key),
            false => Ok(()),
        };
        let made = only_one.and_then(|()| self.fill(&run)).and_then(|()| self.version(&run, &key));
        let made = made.inspect_err(|error| {
            // A version may stand on that run.
            open.is_open = !matches!(error, RegistryError::InDoubt { .. });
            open.reason = error.to_string();
        })?;
        open.is_open = false;
        let number = made.value.number.clone();
        self.settle(run, experiment_id, made, &key).map_err(|error| self.unchecked(number, error))
    }

    /// What is left to do once a version exists.
    fn settle(
        &self,
        run: Run,
        experiment_id: String,
        made: Made<Version>,
        key: &str,
    ) -> Result<Registered, RegistryError> {
        let version = match made.in_doubt {
            true => self.only_one_version(made.value, key)?,
            false => made.value,
        };
        if let Some(registered) = self.withdrawn_for_an_older(&run, &version)? {
            return Ok(registered);
        }
        self.wait_until_ready(&version)?;
        Ok(self.registered(run, experiment_id, version, true))
    }

    fn unchecked(&self, version: String, error: RegistryError) -> RegistryError {
        let model = self.prepared.publication.model_name.clone();
        match error {
            RegistryError::NotReady { .. } => error,
            other => RegistryError::Unchecked { model, version, reason: other.to_string() },
        }
    }

    fn registered(
        &self,
        run: Run,
        experiment_id: String,
        version: Version,
        is_new: bool,
    ) -> Registered {
        let aliases = self.name(&version, is_new);
        Registered {
            experiment_id,
            run_id: run.id,
            artifact_uri: run.artifact_uri,
            model_name: self.prepared.publication.model_name.clone(),
            source: version.source,
            version: version.number,
            is_new,
            aliases,
            truncated: if is_new { self.prepared.truncated.clone() } else { Vec::new() },
        }
    }

    fn experiment(&self) -> Result<String, RegistryError> {
        let Some(ExperimentId { id, name: wanted }) = &self.settings.experiment_id else {
            return api::experiment(self.client, &self.prepared.publication.experiment);
        };
        let (found, name) = api::experiment_of_id(self.client, id)?;
        match wanted {
            Some(wanted) if *wanted != name => Err(RegistryError::ExperimentId {
                id: id.clone(),
                reason: format!(
                    "which is called {name:?}, not {wanted:?} as MLFLOW_EXPERIMENT_NAME says"
                ),
            }),
            _ => Ok(found),
        }
    }

    /// The oldest version that has the same digest, is READY and stands on a run that ended well; of
    /// those before the version `before`, if that is given.
    fn recognised(&self, before: Option<&Version>) -> Result<Option<Registered>, RegistryError> {
        let model = &self.prepared.publication.model_name;
        let digest = &self.prepared.digest;
        let versions =
            self.client.repeated(|| api::find_versions(self.client, model, DIGEST_TAG, digest))?;
        let is_older =
            |version: &Version| before.is_none_or(|before| version.count() < before.count());
        let older = versions.into_iter().filter(is_older);
        for version in older.filter(|version| version.status == "READY") {
            if let Some((run, experiment_id)) = api::finished_run(self.client, &version.run_id)? {
                return Ok(Some(self.registered(run, experiment_id, version, false)));
            }
        }
        Ok(None)
    }

    /// Two publications of the same that ran at the same time both made a version. Versions are counted
    /// up, so the one with the greater number sees the other, and goes.
    fn withdrawn_for_an_older(
        &self,
        run: &Run,
        version: &Version,
    ) -> Result<Option<Registered>, RegistryError> {
        if self.settings.force {
            return Ok(None);
        }
        let Some(older) = self.recognised(Some(version))? else { return Ok(None) };
        let model = &self.prepared.publication.model_name;
        api::delete_version(self.client, model, &version.number)?;
        api::same_as(self.client, run, &format!("models:/{model}/{}", older.version))?;
        Ok(Some(older))
    }

    /// Takes away what a request made that was given up and arrived all the same.
    fn only_one_run(&self, experiment_id: &str, run: &Run, key: &str) -> Result<(), RegistryError> {
        self.client.settle()?;
        let all = self.client.repeated(|| api::find_runs(self.client, experiment_id, key))?;
        all.iter()
            .filter(|other| other.id != run.id)
            .try_for_each(|other| api::discard_run(self.client, other))
    }

    /// Gives the version its aliases; what fails there is told, for the version stands. One that was
    /// registered before gets those that an end before its time has cost it: none of a newer version.
    fn name(&self, version: &Version, is_new: bool) -> Vec<AliasOutcome> {
        let Publication { model_name, aliases, promotion, .. } = self.prepared.publication;
        let is_due = |alias: &&String| {
            is_new || aliases::is_due(self.client, model_name, alias, version).unwrap_or(false)
        };
        let aliases: Vec<String> = aliases.iter().filter(is_due).cloned().collect();
        aliases::assign(self.client, model_name, &version.number, &aliases, promotion.as_ref())
    }

    /// Everything that belongs to the run, up to its end.
    fn fill(&self, run: &Run) -> Result<(), RegistryError> {
        self.log(run)?;
        self.describe(run)?;
        self.upload(run)?;
        // A training run that writes its next best checkpoint into the same file keeps its size.
        checkpoint_is_the_one_that(self.passed, self.prepared.publication)?;
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

    /// What a person sees first: the note, and what was evaluated on.
    fn describe(&self, run: &Run) -> Result<(), RegistryError> {
        let publication = self.prepared.publication;
        if let Some(note) = &publication.note {
            let note = with_links(note, &publication.links, run, TAG);
            self.go_on()?;
            self.client.repeated(|| api::set_tag(self.client, run, NOTE_TAG, &note))?;
        }
        if let Some(dataset) = &publication.dataset {
            self.go_on()?;
            dataset_input::log(self.client, run, dataset)?;
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
        let send = |file| {
            self.go_on()?;
            artifacts::upload(self.client, run, &store, file, self.settings)
        };
        let files = &self.prepared.files;
        files.iter().try_for_each(send)?;
        // A request that was cut can be worked off after its repetition, and leave half a file.
        for _ in 0..UPLOAD_ROUNDS {
            let wrong = artifacts::mismatches(self.client, run, files)?;
            if wrong.is_empty() {
                return Ok(());
            }
            wrong.iter().try_for_each(|wrong| send(wrong.file))?;
        }
        let wrong = artifacts::mismatches(self.client, run, files)?;
        wrong.first().map_or(Ok(()), |wrong| Err(wrong.error(run)))
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

    /// Creates the version, the last step of all: once it exists, all that it needs is there.
    fn version(&self, run: &Run, key: &str) -> Result<Made<Version>, RegistryError> {
        let model = &self.prepared.publication.model_name;
        api::registered_model(self.client, model)?;
        self.go_on()?;
        let mut tags = self.prepared.version_tags.clone();
        tags.insert(PUBLICATION_TAG.to_owned(), key.to_owned());
        tags.insert(DIGEST_TAG.to_owned(), self.prepared.digest.clone());
        let mut body = json!({ "name": model, "source": self.source(run), "run_id": run.id, "tags": pairs(&tags) });
        if let Some(description) = &self.prepared.description {
            let links = &self.prepared.publication.links;
            body["description"] = json!(with_links(description, links, run, DESCRIPTION));
        }
        api::create_version(self.client, model, key, &body).map_err(|unmade| match unmade {
            Unmade { error, in_doubt: false } => *error,
            Unmade { error, in_doubt: true } => RegistryError::InDoubt {
                model: model.clone(),
                run_id: run.id.clone(),
                reason: error.to_string(),
            },
        })
    }

    /// As [`Self::only_one_run`], for versions. The first stays.
    fn only_one_version(&self, version: Version, key: &str) -> Result<Version, RegistryError> {
        let model = &self.prepared.publication.model_name;
        self.client.settle()?;
        let all = || api::find_versions(self.client, model, PUBLICATION_TAG, key);
        let mut versions = self.client.repeated(all)?.into_iter();
        let first = versions.next().unwrap_or(version);
        for other in versions {
            api::delete_version(self.client, model, &other.number)?;
        }
        Ok(first)
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
                        status: self.client.redacted(&version.status),
                        reason: self.client.redacted(&version.message),
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

/// A mark that no other publication has: 32 hexadecimal digits.
fn new_key() -> String {
    // The standard library's only source of randomness that the system seeds.
    let random = || std::hash::RandomState::new().build_hasher().finish();
    let parts = [random(), random(), api::now(), u64::from(std::process::id())];
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
    blake3::hash(&bytes).to_hex().as_str()[..32].to_owned()
}
