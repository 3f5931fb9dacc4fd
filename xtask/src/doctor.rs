//! `doctor`: one line per requirement, with the fix where one is missing. Exit code 0 when nothing is, 2 otherwise.
//!
//! What is fetched on first use (libtorch, the MLflow environment) is not missing before that. Deliberately absent:
//! mending. A doctor that installs things is a surprise.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::libtorch::{self, Libtorch};
use crate::{cache, fetch, load, machine, mlflow, pins, python};

/// How long the package index may take to answer.
const INDEX_TIMEOUT: Duration = Duration::from_secs(30);

/// What one check found.
#[derive(Debug, PartialEq)]
pub(crate) enum Finding {
    /// There, and this is what it is.
    Good(String),
    /// Not there, but not in the way.
    Note(String),
    /// In the way: what is wrong, and what to do about it.
    Missing(String, String),
}
use Finding::{Good, Missing, Note};

/// What a requirement is called and how it is looked at.
type Check = (&'static str, fn() -> Finding);

/// Runs every check and prints each line as it is known.
pub(crate) fn run() -> ExitCode {
    let checks: [Check; 8] = [
        ("Rust", rust),
        ("C++ compiler", compiler),
        ("Python", python_),
        ("package index", index),
        ("libtorch", libtorch_),
        ("MLflow", mlflow_),
        ("disk", machine::disk),
        ("memory", machine::memory),
    ];
    let mut missing = 0;
    for (name, check) in checks {
        let finding = check();
        missing += usize::from(matches!(finding, Missing(..)));
        println!("{}", line(name, &finding));
    }
    match missing {
        0 => ExitCode::SUCCESS,
        n => {
            println!("\n{n} of {} requirements not met", checks.len());
            ExitCode::from(crate::EXIT_MISSING)
        }
    }
}

fn line(name: &str, finding: &Finding) -> String {
    match finding {
        Good(what) => format!("ok       {name:14} {what}"),
        Note(what) => format!("note     {name:14} {what}"),
        Missing(what, fix) => format!("MISSING  {name:14} {what}; fix: {fix}"),
    }
}

/// The first line of a program's answer, if it starts and succeeds.
fn answer(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(|| text.lines().next().unwrap_or_default().to_owned())
}

fn rust() -> Finding {
    let wanted = env!("CARGO_PKG_RUST_VERSION");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let fix = || "install Rust from https://rustup.rs, or `rustup update stable`".to_owned();
    match answer(&rustc, &["--version"]) {
        Some(version)
            if at_least(version.split_whitespace().nth(1).unwrap_or_default(), wanted) =>
        {
            Good(version)
        }
        Some(version) => Missing(format!("{version}, but {wanted} is needed"), fix()),
        None => Missing(format!("`{rustc} --version` does not run"), fix()),
    }
}

/// Compares dotted numbers; what is no number counts as 0.
fn at_least(version: &str, wanted: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        text.split(['.', '-', '+']).take(3).map(|part| part.parse().unwrap_or(0)).collect()
    };
    numbers(version) >= numbers(wanted)
}

/// torch-sys compiles C++17 against the standard library: the compiler must do that, not only exist.
fn compiler() -> Finding {
    let fix = if cfg!(windows) {
        "install Visual Studio Build Tools with the C++ workload"
    } else if cfg!(target_os = "macos") {
        "`xcode-select --install`"
    } else if Path::new("/etc/debian_version").exists() {
        "`apt install g++`"
    } else {
        "install g++ or clang++, or set CXX"
    };
    if cfg!(windows) {
        return Note(format!(
            "not checked: cargo finds Microsoft's compiler by itself; if it does not, {fix}"
        ));
    }
    let compiler =
        std::env::var("CXX").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "c++".into());
    let Some(version) = answer(&compiler, &["--version"]) else {
        return Missing(format!("`{compiler}` does not run"), fix.into());
    };
    match compiles(&compiler) {
        true => Good(version),
        false => {
            Missing(format!("{version} cannot compile C++17 with the standard library"), fix.into())
        }
    }
}

fn compiles(compiler: &str) -> bool {
    use std::io::Write;
    let spawned = Command::new(compiler)
        .args(["-std=c++17", "-fsyntax-only", "-x", "c++", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = spawned else { return false };
    // Dropped at the end of the statement, which closes the pipe; a compiler that died is seen by its status.
    let _ = child
        .stdin
        .take()
        .map(|mut stdin| stdin.write_all(b"#include <optional>\nstd::optional<int> x;\n"));
    child.wait().is_ok_and(|status| status.success())
}

fn python_() -> Finding {
    match python::look() {
        Err(what) => Missing(what, python::remedy().into()),
        Ok(python) if python.can_make_venvs() => {
            Good(format!("{} with venv ({})", python.version, python.exe.display()))
        }
        Ok(python) => Missing(
            format!("{} has no venv with pip ({})", python.version, python.exe.display()),
            python::remedy().into(),
        ),
    }
}

/// Whether the user's pip sees the pinned torch.
fn index() -> Finding {
    let fix = "check the network, and pip's settings with `python3 -m pip config list` (index-url, proxy, cert)";
    let (platform, root) = match (pins::host(), cache::root()) {
        (Ok(platform), Ok(root)) => (platform, root),
        (Err(error), _) | (_, Err(error)) => return Note(format!("not asked: {error:#}")),
    };
    let Ok(pip) = python::find().and_then(|python| python.with_pip(&root)) else {
        return Note("not asked, for want of a Python with pip".into());
    };
    let mut command = Command::new(pip);
    command.args([
        "-m",
        "pip",
        "index",
        "versions",
        "torch",
        "--disable-pip-version-check",
        "--no-input",
    ]);
    command.args(fetch::wheel_options(platform));
    match within(command, INDEX_TIMEOUT) {
        Err(why) => missing_index(&why, fix),
        Ok(text) if lists(&text, pins::LIBTORCH) => {
            Good(format!("reachable, offers torch {}", pins::LIBTORCH))
        }
        Ok(text) => {
            let first = text.lines().next().unwrap_or("nothing");
            missing_index(
                &format!(
                    "it does not offer torch {} for {}, but {first}",
                    pins::LIBTORCH,
                    platform.name
                ),
                fix,
            )
        }
    }
}

/// An index that is out of reach is in the way only while something is still to be fetched.
fn missing_index(why: &str, fix: &str) -> Finding {
    match libtorch::locate() {
        Ok(Libtorch::Pinned(dir)) if dir.exists() => {
            Note(format!("{why} (libtorch is in the cache already)"))
        }
        Ok(Libtorch::Users(_) | Libtorch::UsersPython) => {
            Note(format!("{why} (libtorch is your own)"))
        }
        _ => Missing(why.into(), fix.into()),
    }
}

/// Whether pip's list `Available versions: 2.13.0, 2.12.1` holds this one.
fn lists(text: &str, version: &str) -> bool {
    text.split([',', ' ', '\n', '(', ')', ':']).any(|word| word.trim() == version)
}

/// A command's stdout; the last line of its stderr when it fails; a sentence when it takes too long.
fn within(mut command: Command, limit: Duration) -> Result<String, String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let deadline = Instant::now() + limit;
    // pip's answer fits into a pipe's buffer, so it cannot block on us while we wait.
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("no answer within {} s", limit.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(trouble(&String::from_utf8_lossy(&output.stderr)))
}

/// pip ends with "no matching distribution" even when it could not reach the index; the reason stands further up.
fn trouble(stderr: &str) -> String {
    let broken = stderr
        .lines()
        .find_map(|line| line.split_once("connection broken by "))
        .map(|(_, reason)| reason);
    broken.or(stderr.trim().lines().last()).unwrap_or("no reason given").trim().to_owned()
}

fn libtorch_() -> Finding {
    match libtorch::locate() {
        Err(error) => Missing(format!("{error:#}"), "set LIBTORCH".into()),
        Ok(Libtorch::Pinned(dir)) if !dir.exists() => Note(format!(
            "{} is not fetched yet; the first `cargo xtask eval` puts it into {}",
            pins::LIBTORCH,
            dir.display()
        )),
        Ok(Libtorch::Pinned(dir)) => {
            let fix = format!(
                "remove {} and run `cargo xtask eval`, which fetches it again",
                dir.display()
            );
            let damage = pins::host().ok().and_then(|platform| libtorch::damage(&dir, platform));
            match damage.or_else(|| libtorch::corruption(&dir)) {
                Some(reason) => Missing(format!("the cached one is damaged: {reason}"), fix),
                None => examine(&dir, &dir.join("lib"), &fix),
            }
        }
        Ok(found @ Libtorch::Users(_)) => {
            let (Libtorch::Users(dir), Some(lib)) = (&found, found.library_dir()) else {
                unreachable!("matched above")
            };
            examine(
                dir,
                &lib,
                &format!(
                    "mend the folder that LIBTORCH names, or unset LIBTORCH to use {}",
                    pins::LIBTORCH
                ),
            )
        }
        Ok(Libtorch::UsersPython) => users_python(),
    }
}

/// Version, then every library that the program loads, for real.
fn examine(dir: &Path, lib: &Path, fix: &str) -> Finding {
    if !dir.is_dir() {
        return Missing(format!("{} is not a folder", dir.display()), fix.into());
    }
    let version = libtorch::version(dir);
    match version.as_deref().map(|version| version.split('+').next().unwrap_or(version)) {
        Some(found) if found == pins::LIBTORCH => {}
        Some(found) => {
            let what = format!(
                "{} holds version {found}, but tch {} needs {}",
                dir.display(),
                pins::TCH,
                pins::LIBTORCH
            );
            return Missing(what, fix.into());
        }
        None => {
            return Missing(
                format!("{} has neither build-version nor headers", dir.display()),
                fix.into(),
            );
        }
    }
    for library in pins::loaded_libraries() {
        let path = lib.join(library);
        if !path.exists() {
            return Missing(format!("{library} is missing in {}", lib.display()), fix.into());
        }
        if let Err(sentence) = load::check(&path) {
            return Missing(format!("{} does not load: {sentence}", lib.display()), fix.into());
        }
    }
    Good(format!("{} loads and fits tch {} ({})", pins::LIBTORCH, pins::TCH, dir.display()))
}

/// Asks the Python that torch-sys will ask.
fn users_python() -> Finding {
    let fix = format!("install torch=={} there, or unset LIBTORCH_USE_PYTORCH", pins::LIBTORCH);
    let python = match (cfg!(windows), std::env::var_os("VIRTUAL_ENV")) {
        (true, _) => "python.exe",
        (false, Some(_)) => "python",
        (false, None) => "python3",
    };
    let script =
        "import torch, os; print(torch.__version__.split('+')[0], os.path.dirname(torch.__file__))";
    match answer(python, &["-c", script]).as_deref().and_then(|text| text.split_once(' ')) {
        None => {
            Missing(format!("LIBTORCH_USE_PYTORCH is set, but `{python}` cannot import torch"), fix)
        }
        Some((version, _)) if version != pins::LIBTORCH => Missing(
            format!(
                "`{python}` has torch {version}, but tch {} needs {}",
                pins::TCH,
                pins::LIBTORCH
            ),
            fix,
        ),
        Some((_, dir)) => Good(format!("{} of `{python}` ({dir})", pins::LIBTORCH)),
    }
}

fn mlflow_() -> Finding {
    let root: PathBuf = match cache::root() {
        Ok(root) => root,
        Err(error) => return Missing(format!("{error:#}"), "set DETGATE_CACHE_DIR".into()),
    };
    match mlflow::finished(&root) {
        Some(python) => Good(format!("{} ({})", mlflow::VERSION, python.display())),
        None => Note(format!(
            "{} is not installed yet; the first registration does it",
            mlflow::VERSION
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requirement_is_one_line_and_a_missing_one_says_what_to_do() {
        assert_eq!(line("Rust", &Good("1.95".into())), "ok       Rust           1.95");
        let missing = line("libtorch", &Missing("it is gone".into(), "fetch it".into()));
        assert_eq!(missing, "MISSING  libtorch       it is gone; fix: fetch it");
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(at_least("1.100.0", "1.95"));
        assert!(at_least("1.95.0-nightly", "1.95"));
        assert!(!at_least("1.94.9", "1.95"));
        assert!(!at_least("", "1.95"));
    }

    #[test]
    fn a_version_is_found_only_as_a_whole_word() {
        let text = "torch (2.14.0)\nAvailable versions: 2.14.0, 2.13.0, 2.12.1\n";
        assert!(lists(text, "2.13.0"));
        assert!(!lists(text, "2.13"));
        assert!(!lists("torch (2.13.0+cpu)\n", "2.13.0"));
    }

    #[test]
    fn an_unreachable_index_is_not_reported_as_an_empty_one() {
        let stderr = "WARNING: Retrying (Retry(total=4)) after connection broken by 'Connection refused': /simple/torch/\n\
                      ERROR: No matching distribution found for torch\n";
        assert_eq!(trouble(stderr), "'Connection refused': /simple/torch/");
        assert_eq!(
            trouble("ERROR: No matching distribution found for torch\n"),
            "ERROR: No matching distribution found for torch"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_silent_index_is_given_up_on() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let start = Instant::now();
        assert_eq!(within(command, Duration::from_millis(100)), Err("no answer within 0 s".into()));
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
