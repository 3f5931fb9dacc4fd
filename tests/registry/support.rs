//! A candidate that passed, a publication of it, and MLflow's own view of what was registered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use detgate::config::{GateConfig, Rule};
use detgate::gate::{
    self, Baseline, Evidence, Passed, Policy, Provenance, Recorded, SCHEMA, Snapshot,
};
use detgate::registry::{Artifact, DatasetInput, Publication, RegistrySettings, TrackingUri};
use serde_json::Value;

use crate::mlflow::{mlflow_python, python_of, skipped};

pub(crate) const CHECKPOINT: &[u8] = b"not really weights, but these very bytes must come back";

/// Of the user `admin`, on servers that have users.
pub(crate) const ADMIN_PASSWORD: &str = "s3cr3t of this test";

pub(crate) fn settings(uri: &str, root: &Path, python: &Path) -> RegistrySettings {
    let python = python.to_owned();
    let uri = TrackingUri::parse(uri, root).unwrap();
    let mut settings = RegistrySettings::new(uri, Box::new(move || Ok(python.clone())));
    settings.retries.first = Duration::from_millis(20);
    settings.retries.longest = Duration::from_millis(100);
    settings
}

/// A Python with MLflow 2, or `None` after saying that the test is skipped.
pub(crate) fn mlflow2_python() -> Option<PathBuf> {
    let python = python_of("DETGATE_MLFLOW2_PYTHON");
    if python.is_none() {
        skipped("needs DETGATE_MLFLOW2_PYTHON, a Python with MLflow 2.22");
    }
    python
}

/// A Python with MLflow and an S3 server, or `None` after saying that the test is skipped.
pub(crate) fn s3_python() -> Option<PathBuf> {
    let python = python_of("DETGATE_S3_PYTHON");
    if python.is_none() {
        skipped("needs DETGATE_S3_PYTHON, a Python with MLflow, boto3 and moto's S3 server");
    }
    python
}

/// A candidate that passed, whose checkpoint is [`CHECKPOINT`].
pub(crate) fn passed() -> Passed {
    passed_with(&blake3::hash(CHECKPOINT).to_hex())
}

/// A candidate that passed, whose checkpoint has this digest.
pub(crate) fn passed_with(checkpoint_blake3: &str) -> Passed {
    let snapshot = Snapshot {
        schema: SCHEMA,
        fingerprint: gate::Fingerprint::default(),
        provenance: Provenance {
            checkpoint: "best_model.pt".to_owned(),
            checkpoint_blake3: checkpoint_blake3.to_owned(),
            engine: "test".to_owned(),
        },
        recorded: Recorded::default(),
        detections_blake3: None,
        metrics: BTreeMap::from([("AP".to_owned(), Some(0.5))]),
    };
    let rule = Rule { max_drop: Some(0.0), ..Rule::default() };
    let policy = Policy::new(BTreeMap::from([("AP".to_owned(), rule)])).unwrap();
    let baseline = Baseline::of("baseline.snap".to_owned(), &snapshot, None);
    let evidence = Evidence::of_tables(&snapshot.metrics, Some(&baseline));
    let settings = GateConfig::default();
    let judgement = gate::judge(&snapshot, Some(&baseline), &evidence, &policy, &settings).unwrap();
    judgement.passed().cloned().expect("a run passes against itself")
}

fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A publication whose checkpoint is a file below `folder`.
pub(crate) fn publication(folder: &Path, experiment: &str, model: &str) -> Publication {
    let checkpoint = folder.join("best_model.pt");
    std::fs::write(&checkpoint, CHECKPOINT).unwrap();
    Publication {
        experiment: experiment.to_owned(),
        model_name: model.to_owned(),
        run_name: "eval_20261122_120000".to_owned(),
        params: strings(&[("max_images", "300"), ("target_classes", "person,car,airplane")]),
        tags: strings(&[("task", "object_detection"), ("verdict", "passed")]),
        metrics: BTreeMap::from([
            ("AP/person".to_owned(), 0.1 + 0.2),
            ("global_precision".to_owned(), 1.0),
        ]),
        artifacts: vec![
            Artifact::file("model_ckpt", checkpoint),
            Artifact::bytes("reports/eval", "a report ü.json", "{}"),
        ],
        model_folder: "model_ckpt".to_owned(),
        version_tags: strings(&[("dataset", "coco")]),
        version_description: Some("**passed**".to_owned()),
        note: Some("**passed**".to_owned()),
        links: Vec::new(),
        dataset: Some(DatasetInput {
            name: "street_val".to_owned(),
            digest: "d".repeat(36),
            source: "data/street_val.json".to_owned(),
            schema: Value::Null,
            profile: Value::Null,
        }),
        aliases: vec!["candidate".to_owned()],
        promotion: None,
    }
}

/// Every Python whose server detgate must get on with.
pub(crate) fn mlflow_pythons() -> Vec<PathBuf> {
    [mlflow_python(), mlflow2_python()].into_iter().flatten().collect()
}

/// Runs a script in MLflow's Python and reads the JSON that it prints.
pub(crate) fn ask_python(python: &Path, script: &str, arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(python);
    command.args(["-I", "-W", "ignore", "-c", script]).args(arguments).current_dir(folder.path());
    let output = command.env("MLFLOW_DISABLE_TELEMETRY", "true").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {:?}: {stderr}", output.stdout))
}

/// What Python's MLflow, which knows nothing of us, finds in a version of a model, its files
/// included.
pub(crate) fn version_seen_by_python(
    python: &Path,
    tracking_uri: &str,
    model: &str,
    version: &str,
) -> Value {
    const SCRIPT: &str = r#"
import json, os, sys
import mlflow
uri, model, number = sys.argv[1:]
mlflow.set_tracking_uri(uri)
client = mlflow.MlflowClient()
version = client.get_model_version(model, number)
run = client.get_run(version.run_id)
root = mlflow.artifacts.download_artifacts(f"models:/{model}/{number}")
files = {name: open(os.path.join(root, name), "rb").read().decode() for name in os.listdir(root)}
def listed(folder=None):
    for info in client.list_artifacts(run.info.run_id, folder):
        yield from listed(info.path) if info.is_dir else [info.path]
print(json.dumps({
    "source": version.source, "run_id": version.run_id, "status": version.status, "tags": version.tags,
    "description": version.description, "files": files, "artifacts": sorted(listed()),
    "run_name": run.info.run_name, "run_status": run.info.status, "params": run.data.params,
    "metrics": run.data.metrics, "run_tags": run.data.tags,
    "experiment": client.get_experiment(run.info.experiment_id).name,
}))
"#;
    ask_python(python, SCRIPT, &[tracking_uri, model, version])
}

/// The status and failure tag of every run, and the number of versions, in a SQLite file that no
/// server has open.
pub(crate) fn runs_and_versions(python: &Path, database: &Path) -> (Vec<(String, String)>, u64) {
    const SCRIPT: &str = r#"
import json, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
runs = database.execute("""
    SELECT status, (SELECT value FROM tags WHERE tags.run_uuid = runs.run_uuid AND key = 'detgate.failure') FROM runs
""").fetchall()
versions = database.execute("SELECT count(*) FROM model_versions").fetchone()[0]
print(json.dumps({"runs": runs, "versions": versions}))
"#;
    let found = ask_python(python, SCRIPT, &[database.to_str().unwrap()]);
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let runs = found["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| (text(&run[0]), text(&run[1])))
        .collect();
    (runs, found["versions"].as_u64().unwrap())
}

/// Runs a program as a user (empty: this one) until its own stdin ends: until the test's process ends,
/// however it ends. Postgres leaves memory behind unless it is asked to end.
pub(crate) const KEEPER: &str = r#"
import os, signal, subprocess, sys, threading
user, *command = sys.argv[1:]
server = subprocess.Popen(command, stdin=subprocess.DEVNULL, **({"user": int(user), "group": int(user)} if user else {}))
def end():
    os.read(0, 1)
    server.send_signal(signal.SIGINT)
    try:
        server.wait(3)
    except subprocess.TimeoutExpired:
        pass
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=end, daemon=True).start()
server.wait()
# What it has started (gunicorn, with MLflow 2) need not have ended with it.
os.killpg(0, signal.SIGKILL)
"#;

/// A running MLflow server on a loopback port.
pub(crate) struct RunningServer {
    pub(crate) address: String,
    launcher: Child,
    folder: tempfile::TempDir,
}

/// One server for each Python, shared by the tests of this process; it ends with the process.
pub(crate) fn running_server(python: &Path) -> &'static RunningServer {
    static SERVERS: Mutex<BTreeMap<PathBuf, &'static RunningServer>> = Mutex::new(BTreeMap::new());
    let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
    servers.entry(python.to_owned()).or_insert_with(|| Box::leak(Box::new(start(python, &[]))))
}

/// A server that stores its artifacts behind `mlflow-artifacts:`, as teams run it.
pub(crate) fn start(python: &Path, options: &[&str]) -> RunningServer {
    start_with(python, options, &[])
}

/// The same, with more variables in its environment.
pub(crate) fn start_with(
    python: &Path,
    options: &[&str],
    variables: &[(&str, &str)],
) -> RunningServer {
    // The tests ask servers with reqwest too, which wants to know its TLS library even for http.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
        .to_string();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut command = Command::new(python);
    command.args(["-c", KEEPER, "", python.to_str().unwrap(), "-m", "mlflow", "server"]);
    command.args(["--workers", "1", "--port", &port, "--backend-store-uri", "sqlite:///mlflow.db"]);
    command
        .args(["--artifacts-destination", "./artifacts"])
        .args(options)
        .current_dir(folder.path());
    command.envs([
        ("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false"),
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
    ]);
    command.envs(variables.iter().copied());
    // Only servers with `--app-name basic-auth` read it.
    let accounts = folder.path().join("basic_auth.ini");
    let text = format!(
        "[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///basic_auth.db\nadmin_username = admin\n\
         admin_password = {ADMIN_PASSWORD}\nauthorization_function = \
         mlflow.server.auth:authenticate_request_basic_auth\n"
    );
    std::fs::write(&accounts, text).unwrap();
    command.env("MLFLOW_AUTH_CONFIG_PATH", accounts);
    command.env("MLFLOW_FLASK_SERVER_SECRET_KEY", "for this test");
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut launcher = command.spawn().unwrap();
    let address = format!("http://127.0.0.1:{port}");
    let deadline = Instant::now() + Duration::from_secs(120);
    while reqwest::blocking::get(format!("{address}/version")).is_err() {
        let log = || std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(launcher.try_wait().unwrap().is_none() && Instant::now() < deadline, "{}", log());
        std::thread::sleep(Duration::from_millis(100));
    }
    RunningServer { address, launcher, folder }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        // Its folder is removed next.
        drop(self.launcher.stdin.take());
        let _ = self.launcher.wait();
    }
}

impl RunningServer {
    /// Holds `mlflow.db` and `artifacts`.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Asks the server itself.
    pub(crate) fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let url = format!("{}/api/2.0/mlflow/{path}", self.address);
        let url = reqwest::Url::parse_with_params(&url, query).unwrap();
        reqwest::blocking::get(url).unwrap().json().unwrap()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}/api/2.0/mlflow/{path}", self.address);
        reqwest::blocking::Client::new().post(url).json(body).send().unwrap().json().unwrap()
    }

    pub(crate) fn delete(&self, path: &str, body: &Value) {
        let url = format!("{}/api/2.0/mlflow/{path}", self.address);
        let request = reqwest::blocking::Client::new().delete(url).json(body);
        request.send().unwrap().error_for_status().unwrap();
    }

    /// The numbers of a model's versions; empty where there is no such model.
    pub(crate) fn versions(&self, model: &str) -> Vec<String> {
        let filter = format!("name = '{model}'");
        let answer = self.get("model-versions/search", &[("filter", &filter)]);
        let versions = answer["model_versions"].as_array().into_iter().flatten();
        versions.map(|version| version["version"].as_str().unwrap().to_owned()).collect()
    }

    /// Status and failure tag of the runs of an experiment.
    pub(crate) fn runs(&self, experiment: &str) -> Vec<(String, String)> {
        let found = self.get("experiments/get-by-name", &[("experiment_name", experiment)]);
        let body = serde_json::json!({ "experiment_ids": [found["experiment"]["experiment_id"]] });
        let answer = self.post("runs/search", &body);
        let reason = |run: &Value| {
            let mut tags = run["data"]["tags"].as_array().into_iter().flatten();
            let tag = tags.find(|tag| tag["key"] == "detgate.failure");
            tag.map_or("", |tag| tag["value"].as_str().unwrap()).to_owned()
        };
        let runs = answer["runs"].as_array().into_iter().flatten();
        runs.map(|run| (run["info"]["status"].as_str().unwrap().to_owned(), reason(run))).collect()
    }
}
