//! SQLite files that the pinned MLflow must not open, or cannot.

use std::path::Path;
use std::sync::{Arc, Mutex};

use detgate::registry::{Event, RegistryError, check_before, publish};
use serde_json::json;

use crate::mlflow::mlflow_python;
use crate::support::{
    ask_python, mlflow2_python, passed, publication, settings, version_seen_by_python,
};

/// Runs SQL on a new database and returns what registering there says; the file must stay as it is.
fn refusal(python: &Path, sql: &str) -> String {
    let root = tempfile::tempdir().unwrap();
    let database = root.path().join("mlflow.db");
    let script = "import sqlite3, sys\nsqlite3.connect(sys.argv[1]).executescript(sys.argv[2])\nprint('null')";
    ask_python(python, script, &[database.to_str().unwrap(), sql]);
    refused_untouched(python, root.path())
}

fn refused_untouched(python: &Path, root: &Path) -> String {
    let database = root.join("mlflow.db");
    let before = std::fs::read(&database).unwrap();
    let publication = publication(root, "e", "m");
    let error = publish(&passed(), &publication, &settings("sqlite:///mlflow.db", root, python))
        .unwrap_err();
    assert!(matches!(error, RegistryError::Database { .. }), "{error}");
    assert_eq!(std::fs::read(&database).unwrap(), before);
    let text = error.to_string();
    assert!(text.contains(database.to_str().unwrap()), "{text}");
    text
}

#[test]
fn a_database_of_another_mlflow_is_never_migrated() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let with_revision = |revision: &str| {
        refusal(
            &python,
            &format!(
                "CREATE TABLE alembic_version (version_num); INSERT INTO alembic_version VALUES ('{revision}')"
            ),
        )
    };
    // The first revision that MLflow ever had.
    let older = with_revision("451aebb31d03");
    assert!(older.contains("an older MLflow") && older.contains("pass --migrate"), "{older}");
    let newer = with_revision("ffffffffffff");
    assert!(newer.contains("ffffffffffff") && newer.contains("over http"), "{newer}");
}

#[test]
fn a_file_that_is_not_mlflows_is_left_alone() {
    let Some(python) = mlflow_python() else {
        return;
    };
    assert!(
        refusal(&python, "CREATE TABLE photographs (id)").contains("something else than MLflow")
    );
    let root = tempfile::tempdir().unwrap();
    std::fs::write(
        root.path().join("mlflow.db"),
        "once upon a time there was no database ".repeat(100),
    )
    .unwrap();
    assert!(refused_untouched(&python, root.path()).contains("not a database"));
}

#[test]
fn a_database_that_another_program_writes_to_is_not_waited_for_forever() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let database = root.path().join("mlflow.db");
    let script = "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
                  db.execute('BEGIN EXCLUSIVE')\nprint('locked', flush=True)\nsys.stdin.read()";
    let mut command = std::process::Command::new(&python);
    command.args(["-c", script]).arg(&database);
    let pipes = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut writer = pipes.spawn().unwrap();
    let mut line = [0; 6];
    std::io::Read::read_exact(writer.stdout.as_mut().unwrap(), &mut line).unwrap();

    let text = refused_untouched(&python, root.path());

    drop(writer.stdin.take());
    writer.wait().unwrap();
    assert!(text.contains("another program is writing to it"), "{text}");
}

/// A database with a run and a version, as MLflow 2 leaves it.
fn of_mlflow_2(python: &Path, root: &Path) {
    const SCRIPT: &str = r#"
import sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
client = mlflow.MlflowClient()
run = client.create_run(client.create_experiment("old", sys.argv[2]))
client.log_metric(run.info.run_id, "AP", 0.25)
client.create_registered_model("m")
client.create_model_version("m", f"runs:/{run.info.run_id}/model_ckpt", run.info.run_id)
print("null")
"#;
    let uri = format!("sqlite:///{}", root.join("mlflow.db").display());
    ask_python(python, SCRIPT, &[&uri, root.join("mlruns").to_str().unwrap()]);
}

#[test]
fn a_database_of_mlflow_2_is_migrated_on_request_after_it_was_copied() {
    let (Some(python), Some(old)) = (mlflow_python(), mlflow2_python()) else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    of_mlflow_2(&old, root.path());
    let database = root.path().join("mlflow.db");
    let before = std::fs::read(&database).unwrap();
    let refused = refused_untouched(&python, root.path());
    assert!(refused.contains("an older MLflow") && refused.contains("--migrate"), "{refused}");

    let mut settings = settings("sqlite:///mlflow.db", root.path(), &python);
    assert!(check_before(&settings, "e").is_err(), "said only after the evaluation");
    settings.migrate = true;
    let backups = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&backups);
    settings.on_event = Arc::new(move |event| {
        if let Event::Migrated { backup } = event {
            told.lock().unwrap().push(backup.to_owned());
        }
    });
    check_before(&settings, "e").unwrap();
    let publication = publication(root.path(), "old", "m");
    let registered = publish(&passed(), &publication, &settings).unwrap();

    // The old version is there, and the copy is what MLflow 2 goes on with.
    assert_eq!(registered.version, "2");
    let uri = |path: &Path| format!("sqlite:///{}", path.display());
    assert_eq!(version_seen_by_python(&python, &uri(&database), "m", "2")["status"], "READY");
    let backups = backups.lock().unwrap().clone();
    let [backup] = backups.as_slice() else { panic!("{backups:?}") };
    let name = backup.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("mlflow.db.") && name.ends_with(".bak"), "{name}");
    const READ: &str = "import json, sys, mlflow\nmlflow.set_tracking_uri(sys.argv[1])\n\
        client = mlflow.MlflowClient()\nrun = client.get_run(client.get_model_version('m', '1').run_id)\n\
        print(json.dumps(run.data.metrics))";
    assert_eq!(ask_python(&old, READ, &[&uri(backup)]), json!({ "AP": 0.25 }));

    // A second migration of the same schema writes over no copy.
    std::fs::write(&database, before).unwrap();
    let first = std::fs::read(backup).unwrap();
    check_before(&settings, "e").unwrap();
    let copies = std::fs::read_dir(root.path()).unwrap().flatten();
    let copies = copies.filter(|entry| entry.path().extension().is_some_and(|end| end == "bak"));
    assert_eq!(copies.count(), 2);
    assert_eq!(std::fs::read(root.path().join(name)).unwrap(), first);
}

#[test]
fn a_migration_that_fails_leaves_the_database_as_it_was() {
    let (Some(python), Some(old)) = (mlflow_python(), mlflow2_python()) else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    of_mlflow_2(&old, root.path());
    let database = root.path().join("mlflow.db");
    // A table of the newer schema is in the way.
    let script = "import json, sqlite3, sys\ndatabase = sqlite3.connect(sys.argv[1])\n\
                  database.executescript(sys.argv[2])\n\
                  print(json.dumps(sorted(database.execute('SELECT name, sql FROM sqlite_master').fetchall(), key=str)))";
    let schema = |sql: &str| ask_python(&python, script, &[database.to_str().unwrap(), sql]);
    let before = schema("CREATE TABLE logged_models (oops INTEGER)");

    let mut settings = settings("sqlite:///mlflow.db", root.path(), &python);
    settings.migrate = true;
    let text = check_before(&settings, "e").unwrap_err().to_string();

    assert!(text.contains("as it was before") && text.contains(".bak"), "{text}");
    assert_eq!(schema(""), before);
}
