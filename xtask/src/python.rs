//! Finds a Python and a pip, makes virtual environments from hash-locked requirements, and says what to install where
//! one is missing. pip is used, not a downloader of our own, so that the user's index, mirror, proxy and certificate
//! settings hold.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, ensure};

use crate::cache;

/// The oldest Python that the pinned packages support.
pub(crate) const OLDEST: (u32, u32) = (3, 10);

/// A Python interpreter that is new enough.
#[derive(Debug)]
pub(crate) struct Python {
    pub(crate) exe: PathBuf,
    /// Such as `3.11.7`.
    pub(crate) version: String,
}

/// The first Python >= [`OLDEST`]: `DETGATE_PYTHON` alone where it is set, else the usual names on the path.
///
/// # Errors
/// When there is none; the message says how to install one here.
pub(crate) fn find() -> Result<Python> {
    look().map_err(|what| anyhow!("{what}: {}", remedy()))
}

/// As [`find`], the error without the remedy.
pub(crate) fn look() -> Result<Python, String> {
    let (major, minor) = OLDEST;
    if let Some(exe) = std::env::var_os("DETGATE_PYTHON").filter(|exe| !exe.is_empty()) {
        let exe = PathBuf::from(exe);
        return probe(&exe).ok_or_else(|| {
            format!("DETGATE_PYTHON is {}, which is not a Python >= {major}.{minor}", exe.display())
        });
    }
    let names: &[&str] = if cfg!(windows) {
        &["python", "py", "python3"]
    } else {
        &["python3", "python", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10"]
    };
    let found = names.iter().find_map(|name| probe(Path::new(name)));
    found.ok_or_else(|| format!("there is no Python >= {major}.{minor} on the path"))
}

fn probe(exe: &Path) -> Option<Python> {
    let script = "import sys; print('%d %d %d' % sys.version_info[:3])";
    let output = Command::new(exe).args(["-c", script]).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let numbers: Vec<u32> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [major, minor, patch] = numbers[..] else {
        return None;
    };
    ((major, minor) >= OLDEST)
        .then(|| Python { exe: exe.to_owned(), version: format!("{major}.{minor}.{patch}") })
}

impl Python {
    /// Whether `python -m MODULE --help` or its like can work.
    fn has(&self, modules: &str) -> bool {
        let status = Command::new(&self.exe)
            .args(["-c", &format!("import {modules}")])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    }

    /// Whether it can make virtual environments that have a pip.
    pub(crate) fn can_make_venvs(&self) -> bool {
        self.has("venv, ensurepip")
    }

    /// A Python that has pip: itself, or (Debian ships Python without) one of its virtual environments in the cache.
    ///
    /// # Errors
    /// When neither can be had; the message says what to install.
    pub(crate) fn with_pip(&self, cache_root: &Path) -> Result<PathBuf> {
        if self.has("pip") {
            return Ok(self.exe.clone());
        }
        venv(cache_root, "pip-venv", "").context("this Python has no pip of its own")
    }
}

/// The Python of the virtual environment `name` in the cache, made first if it is not there, with exactly the packages
/// of `requirements` (pip's format, every line with its hashes; may be empty).
///
/// # Errors
/// When Python, venv or a package is missing.
pub(crate) fn venv(cache_root: &Path, name: &str, requirements: &str) -> Result<PathBuf> {
    let dir = cache_root.join(name);
    if let Some(python) = finished_venv(&dir, requirements) {
        return Ok(python);
    }
    let _lock = cache::lock(cache_root, name)?;
    if let Some(python) = finished_venv(&dir, requirements) {
        return Ok(python);
    }
    let host = find()?;
    ensure!(
        host.can_make_venvs(),
        "{} cannot make virtual environments: {}",
        host.exe.display(),
        remedy()
    );
    // A virtual environment holds its own path and cannot be renamed into place: the marker, written last, is what
    // tells a finished one from one that was interrupted.
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    eprintln!("making the Python environment {}", dir.display());
    let mut make = Command::new(&host.exe);
    run(make.args(["-m", "venv"]).arg(&dir))
        .with_context(|| format!("cannot make {}: {}", dir.display(), remedy()))?;
    let python = venv_python(&dir);
    if !requirements.is_empty() {
        install(&python, &dir, requirements)?;
    }
    let marker = dir.join(MARKER);
    fs::write(&marker, requirements)
        .with_context(|| format!("cannot write {}", marker.display()))?;
    Ok(python)
}

/// Holds the requirements that were installed.
const MARKER: &str = "detgate-installed.txt";

/// The Python of a finished environment with these packages, if `dir` is one.
pub(crate) fn finished_venv(dir: &Path, requirements: &str) -> Option<PathBuf> {
    let installed = fs::read_to_string(dir.join(MARKER)).ok()?;
    let python = venv_python(dir);
    // A link to a host Python that has since been removed does not exist.
    (installed == requirements && python.exists()).then_some(python)
}

fn venv_python(dir: &Path) -> PathBuf {
    dir.join(if cfg!(windows) { r"Scripts\python.exe" } else { "bin/python" })
}

fn install(python: &Path, dir: &Path, requirements: &str) -> Result<()> {
    let list = dir.join("requirements.txt");
    fs::write(&list, requirements).with_context(|| format!("cannot write {}", list.display()))?;
    let mut pip = pip(python, "install");
    pip.args([
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
        "--no-warn-script-location",
        "-r",
    ])
    .arg(&list);
    run(&mut pip)
        .with_context(|| format!("cannot install the packages that {} lists", list.display()))
}

/// `python -m pip SUBCOMMAND`, telling on stderr what it does: a progress bar at a terminal, else only trouble.
pub(crate) fn pip(python: &Path, subcommand: &str) -> Command {
    use std::io::IsTerminal;
    let mut command = Command::new(python);
    command.args(["-m", "pip", subcommand, "--disable-pip-version-check"]);
    if !std::io::stderr().is_terminal() {
        command.args(["--quiet", "--progress-bar", "off"]);
    }
    command
}

/// Runs a command to its end, its stdout turned into our stderr: our stdout belongs to the result.
///
/// # Errors
/// When it cannot be started or fails; what it had to say about that stands above on stderr.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(stderr_again());
    let status = command.status().with_context(|| format!("cannot start {program}"))?;
    ensure!(status.success(), "{program} failed ({status})");
    Ok(())
}

fn stderr_again() -> Stdio {
    #[cfg(unix)]
    let copy = std::os::fd::AsFd::as_fd(&std::io::stderr()).try_clone_to_owned();
    #[cfg(windows)]
    let copy = std::os::windows::io::AsHandle::as_handle(&std::io::stderr()).try_clone_to_owned();
    copy.map_or_else(|_| Stdio::null(), Stdio::from)
}

/// How to install Python with venv and pip on this machine.
pub(crate) fn remedy() -> &'static str {
    if cfg!(windows) {
        "install it with `winget install Python.Python.3.12`"
    } else if cfg!(target_os = "macos") {
        "install it with `brew install python`"
    } else if Path::new("/etc/debian_version").exists() {
        "install it with `apt install python3 python3-venv python3-pip`"
    } else if Path::new("/etc/redhat-release").exists() {
        "install it with `dnf install python3 python3-pip`"
    } else if Path::new("/etc/arch-release").exists() {
        "install it with `pacman -S python python-pip`"
    } else {
        "install Python 3.10 or newer with its venv and pip modules"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_that_was_interrupted_or_is_for_other_packages_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let python = venv_python(dir.path());
        fs::create_dir_all(python.parent().unwrap()).unwrap();
        fs::write(&python, "").unwrap();
        assert_eq!(finished_venv(dir.path(), "numpy==1"), None);
        fs::write(dir.path().join(MARKER), "numpy==1").unwrap();
        assert_eq!(finished_venv(dir.path(), "numpy==2"), None);
        assert_eq!(finished_venv(dir.path(), "numpy==1"), Some(python.clone()));
        fs::remove_file(&python).unwrap();
        assert_eq!(finished_venv(dir.path(), "numpy==1"), None);
    }

    #[test]
    fn something_that_is_not_a_python_is_not_taken_for_one() {
        assert!(probe(Path::new("cargo")).is_none());
        assert!(probe(Path::new("/nonexistent/python")).is_none());
    }
}
