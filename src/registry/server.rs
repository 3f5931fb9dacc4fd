//! MLflow's own server on a SQLite file, for the length of one publication.
//!
//! It listens on a Unix socket in a private folder: no port to race for, nobody else can connect,
//! and whoever answers there is the process that was started. (Elsewhere: a loopback port, below a
//! path that only this process knows.)
//!
//! It never outlives us: `launcher.py`, the leader of the server's process group, ends the group
//! when its stdin closes, and the operating system closes that however we end, by SIGKILL too.
//!
//! Deliberately absent: reading the database, and migrating it unless the user decided so
//! (`database`).

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use reqwest::Url;
use serde_json::json;
use tempfile::TempDir;

use super::client::Client;
use super::database;
use super::{Event, RegistryError, RegistrySettings};

const LAUNCHER: &str = include_str!("launcher.py");
/// How often a starting server is asked.
const POLL: Duration = Duration::from_millis(100);
/// How long a server may take to end; the launcher kills it after 5 s.
const STOP: Duration = Duration::from_secs(10);
/// How long after a broken connection a dead server may still look alive.
const NOTICE: Duration = Duration::from_secs(15);
/// How often a port is tried that another program took in between.
const PORT_ATTEMPTS: u32 = 3;
/// The part of the log that an error shows.
const LOG_LINES: usize = 15;
const LOG_BYTES: u64 = 16 * 1024;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Endpoint {
    #[cfg(unix)]
    Socket(PathBuf),
    #[cfg_attr(
        unix,
        allow(dead_code, reason = "unix has sockets; its tests cover this all the same")
    )]
    Loopback { port: u16, prefix: String },
}

/// A running server; dropping it ends it.
#[derive(Debug)]
pub(super) struct Server {
    launcher: Child,
    /// Closing it ends the server.
    lifeline: Option<ChildStdin>,
    endpoint: Endpoint,
    database: PathBuf,
    artifacts: PathBuf,
    /// The server's working folder, with its socket and log.
    folder: TempDir,
    /// Keeps other detgates away from the database; ends last.
    turn: Option<File>,
}

impl Server {
    /// Starts a server for `database` and waits until it answers.
    ///
    /// # Errors
    /// [`RegistryError::Python`], [`RegistryError::Database`], [`RegistryError::Server`], or
    /// [`RegistryError::Interrupted`]; no process is left then.
    pub(super) fn start(
        database: &Path,
        settings: &RegistrySettings,
    ) -> Result<Self, RegistryError> {
        let python = (settings.python)().map_err(RegistryError::Python)?;
        let mut turn = database::turn(database, settings)?;
        database::check(&python, database, settings)?;
        for attempt in 1.. {
            let folder = private_folder()
                .map_err(|error| io_error("make a folder below", &std::env::temp_dir(), error))?;
            let endpoint = endpoint(&folder)?;
            let mut server = Self::launch(&python, database, folder, endpoint)?;
            match server.wait_until_ready(settings) {
                Ok(()) => {
                    server.turn = turn.take();
                    return Ok(server);
                }
                Err(error)
                    if attempt < PORT_ATTEMPTS
                        && server.log_tail().contains("address already in use") =>
                {
                    drop(error)
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("the last attempt returns")
    }

    fn launch(
        python: &Path,
        database: &Path,
        folder: TempDir,
        endpoint: Endpoint,
    ) -> Result<Self, RegistryError> {
        let artifacts = database.parent().unwrap_or(database).join("mlruns");
        let log = folder.path().join("log");
        let output = File::create(&log).and_then(|file| Ok((file.try_clone()?, file)));
        let (stdout, stderr) = output.map_err(|error| io_error("write", &log, error))?;
        let mut command = Command::new(python);
        // Isolated: the user's Python settings and working folder are not the server's business.
        command.args(["-I", "-c", LAUNCHER]).arg(database).arg(&artifacts);
        match &endpoint {
            #[cfg(unix)]
            Endpoint::Socket(path) => command.arg("unix").arg(path),
            Endpoint::Loopback { port, prefix } => {
                command.args(["tcp", "127.0.0.1", &port.to_string(), prefix])
            }
        };
        own_process_group(&mut command);
        command.current_dir(folder.path()).stdin(Stdio::piped()).stdout(stdout).stderr(stderr);
        let mut launcher = command.spawn().map_err(|error| cannot_start(python, &error))?;
        let lifeline = launcher.stdin.take();
        Ok(Self {
            launcher,
            lifeline,
            endpoint,
            database: database.to_owned(),
            artifacts,
            folder,
            turn: None,
        })
    }

    fn wait_until_ready(&mut self, settings: &RegistrySettings) -> Result<(), RegistryError> {
        let started = Instant::now();
        let client = self.client(settings)?.with_timeout(Duration::from_secs(10));
        loop {
            if settings.is_interrupted() {
                return Err(RegistryError::Interrupted);
            }
            if answers(&client) {
                break;
            }
            let elapsed = started.elapsed();
            if !self.is_running() {
                return Err(self.error("did not start"));
            }
            if elapsed > settings.timeouts.server_start {
                return Err(self.error(&format!("did not answer within {} s", elapsed.as_secs())));
            }
            (settings.on_event)(Event::ServerStarting { database: &self.database, elapsed });
            sleep(POLL);
        }
        (settings.on_event)(Event::ServerReady { elapsed: started.elapsed() });
        Ok(())
    }

    /// A client for this server.
    pub(super) fn client(&self, settings: &RegistrySettings) -> Result<Client, RegistryError> {
        match &self.endpoint {
            #[cfg(unix)]
            Endpoint::Socket(path) => Client::unix(path, address("http://localhost/")?, settings),
            Endpoint::Loopback { port, prefix } => {
                let address = address(&format!("http://127.0.0.1:{port}{prefix}/"))?;
                Client::running(&address, None, settings).map(Client::ours)
            }
        }
    }

    /// The folder of the artifacts that this server serves.
    pub(super) fn artifacts(&self) -> &Path {
        &self.artifacts
    }

    /// Whether the launcher is alive; it ends with the server.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.launcher.try_wait(), Ok(None))
    }

    /// Whether the server is gone, after a connection to it broke. A dead server's launcher lives
    /// on for a moment.
    pub(super) fn has_ended(&mut self, client: &Client) -> bool {
        let deadline = Instant::now() + NOTICE;
        while self.is_running() {
            if answers(client) || Instant::now() > deadline {
                return false;
            }
            sleep(POLL);
        }
        true
    }

    /// What happened to the server, with the end of its log.
    pub(super) fn error(&self, reason: &str) -> RegistryError {
        RegistryError::Server {
            database: self.database.clone(),
            reason: reason.to_owned(),
            log: self.log_tail(),
        }
    }

    fn log_tail(&self) -> String {
        let mut bytes = Vec::new();
        // A log that cannot be read is shown as empty: it only illustrates another error.
        if let Ok(mut file) = File::open(self.folder.path().join("log")) {
            let length = file.metadata().map_or(0, |metadata| metadata.len());
            let _ = file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES)));
            let _ = file.take(LOG_BYTES).read_to_end(&mut bytes);
        }
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A launcher that is gone already was killed from outside, and may have left its group
        // behind.
        let was_running = self.is_running();
        drop(self.lifeline.take());
        let deadline = Instant::now() + STOP;
        while self.is_running() && Instant::now() < deadline {
            sleep(Duration::from_millis(20));
        }
        if !was_running || self.is_running() {
            kill_group(self.launcher.id());
            let _ = self.launcher.kill();
        }
        let _ = self.launcher.wait();
    }
}

/// Not asked by /health, which answers before the database does.
fn answers(client: &Client) -> bool {
    client.post("experiments/search", &json!({ "max_results": 1 })).is_ok()
}

fn address(text: &str) -> Result<Url, RegistryError> {
    Url::parse(text).map_err(|error| RegistryError::Answer {
        url: text.to_owned(),
        reason: error.to_string(),
        is_page: false,
    })
}

fn io_error(action: &'static str, path: &Path, error: std::io::Error) -> RegistryError {
    RegistryError::Io { action, path: path.to_owned(), error }
}

pub(super) fn cannot_start(python: &Path, error: &std::io::Error) -> RegistryError {
    RegistryError::Python(format!("cannot start {}: {error}", python.display()))
}

/// A folder that no other user can enter, with a path short enough for a socket (108 bytes with its
/// name on Linux, 104 on macOS).
#[cfg(unix)]
fn private_folder() -> std::io::Result<TempDir> {
    let private = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700);
    let mut builder = tempfile::Builder::new();
    builder.prefix("detgate-").permissions(private);
    let folder = builder.tempdir()?;
    if folder.path().as_os_str().len() < 90 { Ok(folder) } else { builder.tempdir_in("/tmp") }
}

#[cfg(not(unix))]
fn private_folder() -> std::io::Result<TempDir> {
    tempfile::Builder::new().prefix("detgate-").tempdir()
}

#[cfg(unix)]
fn endpoint(folder: &TempDir) -> Result<Endpoint, RegistryError> {
    Ok(Endpoint::Socket(folder.path().join("socket")))
}

#[cfg(not(unix))]
fn endpoint(folder: &TempDir) -> Result<Endpoint, RegistryError> {
    loopback(folder)
}

/// A port that is free now, and a path that nobody else knows: an answer below it comes from our
/// server.
#[cfg_attr(unix, allow(dead_code, reason = "unix has sockets; its tests cover this all the same"))]
fn loopback(folder: &TempDir) -> Result<Endpoint, RegistryError> {
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = port.map_err(|error| io_error("find a free port for", folder.path(), error))?.port();
    let name = folder.path().file_name().unwrap_or_default().to_string_lossy();
    Ok(Endpoint::Loopback { port, prefix: format!("/{name}") })
}

#[cfg(unix)]
pub(super) fn own_process_group(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

#[cfg(windows)]
pub(super) fn own_process_group(command: &mut Command) {
    const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
    std::os::windows::process::CommandExt::creation_flags(command, CREATE_NEW_PROCESS_GROUP);
}

/// The last resort; the launcher does this in all ordinary cases.
fn kill_group(leader: u32) {
    let mut command = if cfg!(windows) {
        let mut command = Command::new("taskkill");
        command.args(["/F", "/T", "/PID", &leader.to_string()]);
        command
    } else {
        let mut command = Command::new("kill");
        command.args(["-KILL", "--", &format!("-{leader}")]);
        command
    };
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::TrackingUri;

    /// What machines without Unix sockets rely on.
    #[test]
    fn a_loopback_server_answers_below_its_own_path_only() {
        let Some(python) =
            std::env::var_os("DETGATE_MLFLOW_PYTHON").filter(|python| !python.is_empty())
        else {
            // Not eprintln!, which the test harness swallows when a test passes.
            let note =
                b"skipped: a loopback server needs DETGATE_MLFLOW_PYTHON, a Python with MLflow\n";
            let _ = std::io::Write::write_all(&mut std::io::stderr(), note);
            return;
        };
        let root = tempfile::tempdir().unwrap();
        let uri = TrackingUri::parse("sqlite:///mlflow.db", root.path()).unwrap();
        let settings = RegistrySettings::new(uri, Box::new(|| Err("not asked".to_owned())));
        let folder = private_folder().unwrap();
        let endpoint = loopback(&folder).unwrap();
        let Endpoint::Loopback { port, .. } = endpoint else { panic!("not loopback") };

        let database = root.path().join("mlflow.db");
        let mut server = Server::launch(Path::new(&python), &database, folder, endpoint).unwrap();
        server.wait_until_ready(&settings).unwrap();

        let client = server.client(&settings).unwrap();
        client.put_artifact("1/a b/c ü.txt", &b"content"[..], 7).unwrap();
        assert_eq!(std::fs::read(root.path().join("mlruns/1/a b/c ü.txt")).unwrap(), b"content");
        let elsewhere = address(&format!("http://127.0.0.1:{port}/")).unwrap();
        assert!(!answers(&Client::running(&elsewhere, None, &settings).unwrap()));
        drop(server);
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}
