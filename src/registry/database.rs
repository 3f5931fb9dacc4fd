//! Whether the pinned MLflow may open a SQLite file, and bringing an older one up to date.
//!
//! Its server would migrate an older database in silence, after which the MLflow that wrote it could not
//! open it any more: upgrading is the user's decision, and a copy is made first. Deliberately absent:
//! SQL here; `inspect_database.py` and `migrate_database.py` have it.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::api;
use super::connection::with_client;
use super::server::{cannot_start, own_process_group};
use super::{Event, RegistryError, RegistrySettings, TrackingUri};

const INSPECT: &str = include_str!("inspect_database.py");
const MIGRATE: &str = include_str!("migrate_database.py");

/// How often a taken database is tried.
const POLL: Duration = Duration::from_millis(100);

/// Waits until no other detgate works on the database, and keeps others away while it is held: two MLflow
/// servers that make the tables of a new file at the same time break each other. Where the file system
/// knows no locks there is none.
///
/// # Errors
/// [`RegistryError::Interrupted`], and [`RegistryError::Database`] when the other takes too long.
pub(super) fn turn(
    database: &Path,
    settings: &RegistrySettings,
) -> Result<Option<File>, RegistryError> {
    let Some(lock) = lock_file(database) else { return Ok(None) };
    let started = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(Some(lock)),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) => {}
        }
        let elapsed = started.elapsed();
        if settings.is_interrupted() {
            return Err(RegistryError::Interrupted);
        }
        if elapsed > settings.timeouts.turn {
            let seconds = elapsed.as_secs();
            let reason = format!(
                "another detgate has been working on it for {seconds} s: wait for it, or end it"
            );
            return Err(RegistryError::Database { path: database.to_owned(), reason });
        }
        (settings.on_event)(Event::Waiting { database, elapsed });
        sleep(POLL);
    }
}

/// The folder itself, so that no file is left behind; where folders cannot be opened, a file.
fn lock_file(database: &Path) -> Option<File> {
    let folder = database.parent()?;
    // MLflow would make it, too; where it cannot be made, MLflow says so.
    let _ = std::fs::create_dir_all(folder);
    if cfg!(unix) {
        return File::open(folder).ok();
    }
    let mut name = database.file_name()?.to_owned();
    name.push(".lock");
    File::create(folder.join(name)).ok()
}

/// Says before the long part whether it is possible to register in `experiment`: whether a SQLite file is what MLflow
/// needs, which is migrated first where the settings say so, or could be made; whether a running server answers, lets
/// us in and has the experiment that is named by its id.
///
/// # Errors
/// [`RegistryError::Python`] and [`RegistryError::Database`]; what the server says.
pub fn check_before(settings: &RegistrySettings, experiment: &str) -> Result<(), RegistryError> {
    match &settings.tracking_uri {
        TrackingUri::Sqlite { database } if database.exists() => {
            let python = (settings.python)().map_err(RegistryError::Python)?;
            let _turn = turn(database, settings)?;
            check(&python, database, settings)
        }
        TrackingUri::Sqlite { database } => can_be_made(database),
        TrackingUri::Http { .. } => with_client(settings, "it answered", |client, _| {
            client.lastly(|| api::known_experiment(client, experiment, settings)).map(drop)
        }),
    }
}

/// Whether there can be a file: SQLite says no only after minutes, and in fifteen lines.
fn can_be_made(database: &Path) -> Result<(), RegistryError> {
    let folder = database.ancestors().skip(1).find(|folder| folder.exists());
    let folder = folder.unwrap_or(database);
    let made = tempfile::Builder::new().prefix(".detgate").tempfile_in(folder);
    made.map(drop).map_err(|error| RegistryError::Io {
        action: "make the database file in",
        path: folder.to_owned(),
        error,
    })
}

/// Refuses a database that the pinned MLflow would migrate, misunderstand or not be able to write.
pub(super) fn check(
    python: &Path,
    database: &Path,
    settings: &RegistrySettings,
) -> Result<(), RegistryError> {
    let state = inspect(python, database)?;
    if !matches!(&state, State::Older { .. }) || !settings.migrate {
        return state.accepted(database);
    }
    let State::Older { found, .. } = state else { return Ok(()) };
    let backup = backup_of(database, &found);
    migrate(python, database, &backup)?;
    inspect(python, database)?.accepted(database)?;
    (settings.on_event)(Event::Migrated { backup: &backup });
    Ok(())
}

/// What a database is for the MLflow that is installed.
enum State {
    Usable,
    /// An older MLflow wrote it.
    Older {
        found: String,
        expected: String,
        mlflow: String,
    },
    /// It must not be opened, and why.
    Unusable(String),
}

impl State {
    fn accepted(self, database: &Path) -> Result<(), RegistryError> {
        let reason = match self {
            Self::Usable => return Ok(()),
            Self::Older { found, expected, mlflow } => format!(
                "an older MLflow wrote it (schema {found}; MLflow {mlflow} needs {expected}), which could not open it \
                 any more afterwards: pass --migrate, which keeps a copy and brings it up to date, or name another file"
            ),
            Self::Unusable(reason) => reason,
        };
        Err(RegistryError::Database { path: database.to_owned(), reason })
    }
}

fn inspect(python: &Path, database: &Path) -> Result<State, RegistryError> {
    let answer = ask(python, INSPECT, &[database])?;
    let text = |key: &str| answer[key].as_str().unwrap_or("unknown").to_owned();
    let (found, expected, mlflow) = (text("found"), text("expected"), text("mlflow"));
    Ok(State::Unusable(match text("state").as_str() {
        "new" | "current" => return Ok(State::Usable),
        "no mlflow" => {
            return Err(RegistryError::Python(format!(
                "{} has no MLflow ({})",
                python.display(),
                text("reason")
            )));
        }
        "old mlflow" => {
            return Err(RegistryError::Python(format!(
                "{} has MLflow {mlflow}, whose server cannot listen on a socket of ours: name a Python with \
                 MLflow 3.17, or start that server and register over http",
                python.display()
            )));
        }
        "older" => return Ok(State::Older { found, expected, mlflow }),
        "unknown" => format!(
            "another MLflow than {mlflow} wrote it (schema {found}, here {expected}), probably a newer one: start its \
             server and register over http, or name another file"
        ),
        "foreign" => "it is a database of something else than MLflow: name another file".to_owned(),
        "locked" => {
            "another program is writing to it: close that program, or register through its server"
                .to_owned()
        }
        _ => format!(
            "it cannot be opened for writing ({}): repair its permissions, or name another file",
            text("reason")
        ),
    }))
}

/// `FILE.REVISION.bak`, or with a number where that is taken: a copy is never written over.
fn backup_of(database: &Path, revision: &str) -> PathBuf {
    let name = database.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let numbered = |number: u32| match number {
        1 => database.with_file_name(format!("{name}.{revision}.bak")),
        _ => database.with_file_name(format!("{name}.{revision}.{number}.bak")),
    };
    (1..).map(numbered).find(|path| !path.exists()).unwrap_or_else(|| numbered(1))
}

fn migrate(python: &Path, database: &Path, backup: &Path) -> Result<(), RegistryError> {
    let answer = ask(python, MIGRATE, &[database, backup])?;
    if answer["state"] == "migrated" {
        return Ok(());
    }
    let reason = answer["reason"].as_str().unwrap_or("it said nothing");
    let now = match answer["state"].as_str() {
        Some("restored") => "; it is as it was before",
        Some("damaged") => "; it may be damaged, and the copy is whole",
        _ => "; it was not touched",
    };
    let reason =
        format!("it cannot be brought up to date ({reason}){now}; its copy: {}", backup.display());
    Err(RegistryError::Database { path: database.to_owned(), reason })
}

/// Runs a script that prints one JSON object, to its end whatever signal a terminal sends.
fn ask(python: &Path, script: &str, paths: &[&Path]) -> Result<Value, RegistryError> {
    let mut command = Command::new(python);
    command.args(["-I", "-c", script]).args(paths).stdin(Stdio::null());
    own_process_group(&mut command);
    let output = command.output().map_err(|error| cannot_start(python, &error))?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().last().unwrap_or("it said nothing");
        let path = paths[0].display();
        RegistryError::Python(format!("{} cannot look at {path}: {last}", python.display()))
    })
}
