//! SQLite files that the pinned MLflow must not open, or cannot.

use std::path::Path;

use detgate::registry::{RegistryError, publish};

use crate::mlflow::mlflow_python;
use crate::support::{ask_python, passed, publication, settings};

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
    assert!(older.contains("an older MLflow") && older.contains("mlflow db upgrade"), "{older}");
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
