//! The MLflow environment, and MLflow's web pages on a project's database.
//!
//! The environment is made only when something asks for it: a registration, the tests, or the web
//! pages. Its packages are locked by hash in `mlflow/requirements.txt`; `mlflow/ui.txt` adds the
//! full package for its web pages. `mlflow/requirements-2.txt` is a server of MLflow 2, and
//! `mlflow/requirements-s3.txt` one that keeps its artifacts in S3, which only the tests start.
//!
//! Deliberately absent: registration, which is detgate's, and stopping a server: it ends with this
//! process.

use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::{project, python};

/// The MLflow that is pinned.
pub(crate) const VERSION: &str = "3.17.2";

/// The environment's name in the cache. Clones that pin other packages must not take turns in
/// replacing it.
const NAME: &str = "mlflow-pg-3.17.2";
/// That of MLflow 2.
const NAME_2: &str = "mlflow-2.22.5";
/// That of the server with S3.
const NAME_S3: &str = "mlflow-s3-3.17.2";
const REQUIREMENTS: &str =
    concat!(include_str!("../mlflow/requirements.txt"), include_str!("../mlflow/ui.txt"));
const REQUIREMENTS_2: &str = include_str!("../mlflow/requirements-2.txt");
const REQUIREMENTS_S3: &str = include_str!("../mlflow/requirements-s3.txt");

/// detgate's own scripts, so that a database is never migrated here either, and no server outlives
/// us.
const LAUNCHER: &str = include_str!("../../src/registry/launcher.py");
const INSPECT: &str = include_str!("../../src/registry/inspect_database.py");

/// Where MLflow listens unless told otherwise; another free port is taken when this one is not.
const PORT: u16 = 5000;
const PATIENCE: Duration = Duration::from_secs(120);

const HELP: &str = "\
cargo xtask mlflow-ui [--project DIR | --database FILE] [--port N]

Serves MLflow's web pages on the project's mlflow.db until it is stopped with Ctrl-C. The project is the one that you
stand in, else fixtures/demo.
";

/// The Python that has the pinned MLflow; its environment is made first if it is not there.
///
/// # Errors
/// When Python, its venv module, the package index or a package is missing.
pub(crate) fn python(cache_root: &Path) -> Result<PathBuf> {
    python::venv(cache_root, NAME, REQUIREMENTS).context("cannot make the MLflow environment")
}

/// A Python with the MLflow 2 that detgate is tested with.
///
/// # Errors
/// As [`python`].
pub(crate) fn python_2(cache_root: &Path) -> Result<PathBuf> {
    python::venv(cache_root, NAME_2, REQUIREMENTS_2)
        .context("cannot make the environment of MLflow 2")
}

/// A Python with an S3 server, and an MLflow that keeps its artifacts there.
///
/// # Errors
/// As [`python`].
pub(crate) fn python_s3(cache_root: &Path) -> Result<PathBuf> {
    python::venv(cache_root, NAME_S3, REQUIREMENTS_S3)
        .context("cannot make the environment of MLflow with S3")
}

/// The first, only if it has been made.
pub(crate) fn finished(cache_root: &Path) -> Option<PathBuf> {
    python::finished_venv(&cache_root.join(NAME), REQUIREMENTS)
}

/// Serves the web pages until the user stops it.
///
/// # Errors
/// When there is no database, another MLflow wrote it, or the server does not start.
pub(crate) fn ui(cache_root: &Path, args: &[OsString]) -> Result<ExitCode> {
    let Some(options) = parse(args)? else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    let database = database(&options)?;
    let python = python(cache_root)?;
    inspect(&python, &database)?;
    let port = port(options.port)?;
    let mut server = start(&python, &database, port)?;
    // Held to the end: closing it ends the server, and `wait` would close it first of all.
    let _lifeline = server.stdin.take();
    let address = format!("http://127.0.0.1:{port}");
    wait_until_it_answers(&mut server, port)?;
    eprintln!("MLflow {VERSION} shows {} at {address} (Ctrl-C ends it)", database.display());
    open_browser(&address);
    let status = server.wait().context("cannot wait for the MLflow server")?;
    bail!(
        "the MLflow server ended by itself ({status}); what it had to say about that stands above"
    )
}

#[derive(Debug, Default, PartialEq)]
struct Options {
    project: Option<PathBuf>,
    database: Option<PathBuf>,
    port: Option<u16>,
}

/// `None` when help was asked for.
fn parse(args: &[OsString]) -> Result<Option<Options>> {
    let mut options = Options::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let name = arg.to_string_lossy();
        if name == "--help" || name == "-h" {
            return Ok(None);
        }
        let value = args
            .next()
            .with_context(|| format!("`{name}` is unknown or lacks its value\n\n{HELP}"))?;
        match name.as_ref() {
            "--project" => options.project = Some(value.into()),
            "--database" => options.database = Some(value.into()),
            "--port" => {
                let number = value.to_str().and_then(|text| text.parse().ok());
                options.port =
                    Some(number.with_context(|| format!("{} is no port", value.display()))?);
            }
            _ => bail!("`mlflow-ui` has no flag `{name}`\n\n{HELP}"),
        }
    }
    Ok(Some(options))
}

/// The SQLite file to show, absolute.
fn database(options: &Options) -> Result<PathBuf> {
    let here = std::env::current_dir().context("cannot tell the working directory")?;
    let file = match &options.database {
        Some(file) => here.join(file),
        None => {
            let root = match &options.project {
                Some(project) => here.join(project),
                None => nearest_project(&here),
            };
            let toml = std::fs::read_to_string(root.join("detgate.toml")).unwrap_or_default();
            root.join(file_of(tracking_uri(&toml).unwrap_or("sqlite:///mlflow.db"))?)
        }
    };
    ensure!(
        file.is_file(),
        "there is no {} yet: `cargo xtask eval` makes it when it registers the first model",
        file.display()
    );
    Ok(file)
}

/// The project that contains `here`, else the demo.
fn nearest_project(here: &Path) -> PathBuf {
    project::nearest(here)
        .map_or_else(|| project::repository().join("fixtures/demo"), Path::to_owned)
}

/// The value of `tracking_uri` in a `detgate.toml`; detgate itself validates that file.
fn tracking_uri(toml: &str) -> Option<&str> {
    toml.lines().find_map(|line| {
        let value = line.trim().strip_prefix("tracking_uri")?.trim_start().strip_prefix('=')?;
        value.split(['"', '\'']).nth(1)
    })
}

fn file_of(tracking_uri: &str) -> Result<&str> {
    tracking_uri.strip_prefix("sqlite:///").with_context(|| {
        format!("this project registers at {tracking_uri}, not in a file: open that in a browser")
    })
}

/// Refuses what the server would migrate in silence, or could not read.
fn inspect(python: &Path, database: &Path) -> Result<()> {
    let mut command = Command::new(python);
    let output = command
        .args(["-I", "-c", INSPECT])
        .arg(database)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", python.display()))?;
    let answer = String::from_utf8_lossy(&output.stdout);
    let is = |state: &str| answer.contains(&format!("\"state\": \"{state}\""));
    if is("current") || is("new") || is("locked") {
        return Ok(());
    }
    if is("older") || is("unknown") {
        bail!(
            "another MLflow than {VERSION} wrote {}, and a server of {VERSION} would change it so that the other could \
             not open it any more: use that MLflow's `mlflow ui`, or bring the file up to date with `cargo xtask eval --migrate`",
            database.display()
        );
    }
    let said =
        if answer.trim().is_empty() { String::from_utf8_lossy(&output.stderr) } else { answer };
    bail!("{} is not a database that MLflow can open: {}", database.display(), said.trim())
}

/// The port to listen on.
fn port(wanted: Option<u16>) -> Result<u16> {
    let free = |port: u16| {
        TcpListener::bind(("127.0.0.1", port)).and_then(|listener| listener.local_addr())
    };
    if let Some(port) = wanted {
        free(port)
            .with_context(|| format!("cannot listen on port {port}: choose another with --port"))?;
        return Ok(port);
    }
    let address = free(PORT).or_else(|_| free(0)).context("cannot find a free port")?;
    Ok(address.port())
}

fn start(python: &Path, database: &Path, port: u16) -> Result<Child> {
    let artifacts = database.parent().unwrap_or(database).join("mlruns");
    let mut command = Command::new(python);
    command.args(["-I", "-c", LAUNCHER]).arg(database).arg(artifacts);
    command.args(["tcp", "127.0.0.1", &port.to_string()]);
    // The launcher ends the server when our end of this pipe closes: on Ctrl-C, and on anything
    // worse.
    command.stdin(Stdio::piped());
    // MLflow leaves files in its working folder.
    command.current_dir(std::env::temp_dir());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().with_context(|| format!("cannot start {}", python.display()))
}

fn wait_until_it_answers(server: &mut Child, port: u16) -> Result<()> {
    let started = Instant::now();
    while !answers(port) {
        if let Some(status) = server.try_wait().context("cannot wait for the MLflow server")? {
            bail!(
                "the MLflow server did not start ({status}); what it had to say about that stands above"
            );
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "the MLflow server did not answer within {} s",
            PATIENCE.as_secs()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Whether an MLflow of our version answers there.
fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "GET /version HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.trim_end().ends_with(VERSION))
}

/// Only where somebody sits before it. A machine without a browser still has the address on the
/// screen.
fn open_browser(address: &str) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let opener = if cfg!(target_os = "macos") {
        "open"
    } else if cfg!(windows) {
        "explorer"
    } else {
        "xdg-open"
    };
    let mut command = Command::new(opener);
    let _ = command
        .arg(address)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Option<Options>> {
        parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn flags_are_read_and_wrong_ones_named() {
        let wanted = Options { port: Some(8080), project: Some("demo".into()), database: None };
        assert_eq!(parsed(&["--port", "8080", "--project", "demo"]).unwrap(), Some(wanted));
        assert_eq!(parsed(&["--help"]).unwrap(), None);
        for words in [&["--port", "high"][..], &["--port"], &["--colour", "red"], &["demo"]] {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn the_projects_own_database_is_shown() {
        let toml = "[registry]\n# tracking_uri = \"http://old\"\ntracking_uri = \"sqlite:///runs/m.db\"  # local\n";
        assert_eq!(file_of(tracking_uri(toml).unwrap()).unwrap(), "runs/m.db");
        assert_eq!(tracking_uri("[gate]\n"), None);
        let error = file_of("https://mlflow.example").unwrap_err().to_string();
        assert!(error.contains("https://mlflow.example"), "{error}");
    }

    #[test]
    fn a_port_that_was_asked_for_is_not_replaced_by_another() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        assert!(port(Some(number)).unwrap_err().to_string().contains(&number.to_string()));
        drop(taken);
        assert_eq!(port(Some(number)).unwrap(), number);
    }

    #[test]
    fn every_package_of_the_environments_is_locked_by_hash() {
        for (requirements, least) in
            [(REQUIREMENTS, 60), (REQUIREMENTS_2, 50), (REQUIREMENTS_S3, 60)]
        {
            let packages = requirements.lines().filter(|line| line.contains("=="));
            let (mut count, mut text) = (0, requirements);
            for line in packages {
                let (_, rest) = text.split_once(line).unwrap();
                assert!(rest.trim_start().starts_with("--hash=sha256:"), "{line}");
                (count, text) = (count + 1, rest);
            }
            assert!(count > least, "{count}");
        }
        assert!(REQUIREMENTS.contains(&format!("mlflow=={VERSION} ")) && NAME.ends_with(VERSION));
        assert!(REQUIREMENTS_S3.contains(&format!("mlflow-skinny=={VERSION} ")));
        assert!(NAME_S3.ends_with(VERSION));
        let version_2 = NAME_2.trim_start_matches("mlflow-");
        assert!(REQUIREMENTS_2.contains(&format!("mlflow-skinny=={version_2} ")));
    }
}
