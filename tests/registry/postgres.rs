//! A server whose runs and versions are in PostgreSQL, as larger teams have it. Debian's `postgresql` is
//! started in a temporary folder; without it, the test says that it is skipped.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use detgate::registry::publish;
use serde_json::json;

use crate::mlflow::skipped;
use crate::support::{
    CHECKPOINT, KEEPER, mlflow_pythons, passed, publication, settings, start,
    version_seen_by_python,
};
use crate::together::{assert_all_end_well, at_once};

/// `nobody`, on Debian: PostgreSQL does not run as root.
const NOBODY: u32 = 65534;

/// A running PostgreSQL; it ends when this is dropped, and with the process.
struct Postgres {
    keeper: Child,
    uri: String,
    _folder: tempfile::TempDir,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// The programs of the newest version that is installed.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let folders = versions.map(|version| version.path().join("bin"));
    folders.filter(|folder| folder.join("initdb").exists()).max()
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout.trim_ascii() == b"0"
}

fn postgres(python: &Path, programs: &Path) -> Postgres {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let user = is_root().then_some(NOBODY);
    let mut initialise = Command::new(programs.join("initdb"));
    initialise
        .args(["--auth", "trust", "--username", "detgate", "--no-sync", "--pgdata"])
        .arg(&data);
    if let Some(user) = user {
        std::os::unix::fs::chown(folder.path(), Some(user), Some(user)).unwrap();
        initialise.uid(user).gid(user);
    }
    let output = initialise.current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut keeper = Command::new(python);
    keeper.args(["-c", KEEPER, &user.map_or(String::new(), |user| user.to_string())]);
    keeper.arg(programs.join("postgres")).arg("-D").arg(&data).arg("-F");
    keeper.args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c"]);
    keeper.arg(format!("unix_socket_directories={}", folder.path().display()));
    keeper.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut keeper = keeper.process_group(0).current_dir(folder.path()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let is_ready = || {
        let mut ask = Command::new(programs.join("pg_isready"));
        ask.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]).status().unwrap().success()
    };
    while !is_ready() {
        let log = || std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(keeper.try_wait().unwrap().is_none() && Instant::now() < deadline, "{}", log());
        std::thread::sleep(Duration::from_millis(100));
    }
    let uri = format!("postgresql+psycopg2://detgate@127.0.0.1:{port}/postgres");
    Postgres { keeper, uri, _folder: folder }
}

fn has_driver(python: &Path) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", "import psycopg2"]).stderr(Stdio::null());
    command.status().unwrap().success()
}

#[test]
fn a_server_on_postgresql_registers_and_keeps_jobs_apart() {
    for python in mlflow_pythons() {
        let Some(programs) = programs() else {
            return skipped("needs PostgreSQL in /usr/lib/postgresql (Debian's `postgresql`)");
        };
        if !has_driver(&python) {
            return skipped("needs psycopg2 in the Python with MLflow");
        }
        let database = postgres(&python, &programs);
        let server = start(&python, &["--backend-store-uri", &database.uri]);
        let folder = tempfile::tempdir().unwrap();
        let model = "детектор & co 50% #1";
        let publication = publication(folder.path(), "a/b c?d&e=f+g ü", model);

        let registered =
            publish(&passed(), &publication, &settings(&server.address, folder.path(), &python))
                .unwrap();

        let seen = version_seen_by_python(&python, &server.address, model, &registered.version);
        assert_eq!(seen["files"], json!({ "best_model.pt": String::from_utf8_lossy(CHECKPOINT) }));
        assert_eq!(seen["metrics"], json!(publication.metrics));
        assert_eq!(seen["params"], json!(publication.params));
        assert_all_end_well(at_once("one", |folder| settings(&server.address, folder, &python)));
        assert_eq!(server.versions("one").len(), 1);
    }
}
