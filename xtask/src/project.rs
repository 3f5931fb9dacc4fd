//! Runs the built `detgate`: provisions libtorch, builds, and hands over to the program.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::libtorch::{self, Libtorch};

/// What the program is built with for real use.
pub(crate) const FEATURES: &str = "torch,mlflow";

/// The program that was tested, for the steps of `ci` behind the tests: another build would have other features of the
/// crates that tests use, too, and be another program.
pub(crate) const TESTED: &str = "DETGATE_TESTED";

/// How many folders above the working directory are searched for a project (detgate's rule, which was the notebook's).
const LEVELS: usize = 8;

/// The repository that this xtask was compiled in.
pub(crate) fn repository() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// The cargo that runs us, or the one on the path.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// `detgate SUBCOMMAND ARGS`, in the user's working directory, with detgate's own exit code.
///
/// # Errors
/// When libtorch cannot be had or the program does not build.
pub(crate) fn run(subcommand: &str, args: Vec<OsString>) -> Result<ExitCode> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        return help(subcommand);
    }
    let libtorch = libtorch::provide()?;
    let program = build(&libtorch)?;
    let here = std::env::current_dir().context("cannot tell the working directory")?;
    let mut command = Command::new(program);
    command.arg(subcommand).args(with_project(args, &here));
    command.env("DETGATE_CALLED_AS", "cargo xtask");
    // detgate asks for the MLflow environment only when it registers a model.
    command.env(
        "DETGATE_MLFLOW_PROVISION",
        std::env::current_exe().context("cannot find this program's own path")?,
    );
    if cfg!(windows) {
        command.envs(libtorch.loader_env());
    }
    hand_over(command)
}

/// The help needs no libtorch: half a gigabyte is too much for a page of text.
fn help(subcommand: &str) -> Result<ExitCode> {
    let mut command = Command::new(cargo());
    command.args(["run", "--quiet", "--package", "detgate", "--manifest-path"]);
    command.arg(repository().join("Cargo.toml")).args(["--", subcommand, "--help"]);
    hand_over(command)
}

/// Puts the demo project in where the user neither names a project nor stands in one.
fn with_project(mut args: Vec<OsString>, here: &Path) -> Vec<OsString> {
    let named = args
        .iter()
        .any(|arg| arg == "--project" || arg.as_encoded_bytes().starts_with(b"--project="));
    if !named && nearest(here).is_none() {
        // First, because what follows a `--` is no flag.
        args.splice(0..0, ["--project".into(), repository().join("fixtures/demo").into()]);
    }
    args
}

/// The project that contains `here`, by detgate's own rule.
pub(crate) fn nearest(here: &Path) -> Option<&Path> {
    here.ancestors()
        .take(LEVELS + 1)
        .find(|dir| dir.join("data/processed/project_config.json").is_file())
}

/// Builds the release program and returns its path. Shows cargo's progress at a terminal; elsewhere one line when it
/// takes long.
pub(crate) fn build(libtorch: &Libtorch) -> Result<PathBuf> {
    use std::io::IsTerminal;
    if let Some(tested) = std::env::var_os(TESTED) {
        return Ok(tested.into());
    }
    let terminal = std::io::stderr().is_terminal();
    let mut command = Command::new(cargo());
    command.args([
        "build",
        "--release",
        "--package",
        "detgate",
        "--bin",
        "detgate",
        "--features",
        FEATURES,
    ]);
    command.arg("--manifest-path").arg(repository().join("Cargo.toml")).envs(libtorch.build_env());
    if !terminal {
        command.arg("--quiet");
    }
    let mut child = command.spawn().context("cannot start cargo")?;
    let notice = Instant::now() + Duration::from_secs(3);
    let mut told = terminal;
    let status = loop {
        if let Some(status) = child.try_wait().context("cannot wait for cargo")? {
            break status;
        }
        if !told && Instant::now() > notice {
            eprintln!(
                "building detgate (the first time, with libtorch's bindings, takes some minutes)"
            );
            told = true;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    ensure!(
        status.success(),
        "detgate does not build ({status}); `cargo xtask doctor` checks the tools"
    );
    program(OsStr::new("detgate"))
}

/// The release program beside this one: `<target>/debug/xtask` -> `<target>/release/detgate`.
pub(crate) fn program(name: &OsStr) -> Result<PathBuf> {
    let xtask = std::env::current_exe().context("cannot find this program's own path")?;
    let Some(target) = xtask.parent().and_then(Path::parent) else {
        bail!("{} is not in a cargo target folder", xtask.display());
    };
    let program = target.join("release").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    ensure!(
        program.is_file(),
        "cargo built detgate, but not as {}: start it with `cargo xtask`",
        program.display()
    );
    Ok(program)
}

/// Becomes the other program: signals reach it directly, and its end, by code or by signal, is ours.
#[cfg(unix)]
fn hand_over(mut command: Command) -> Result<ExitCode> {
    let error = std::os::unix::process::CommandExt::exec(&mut command);
    Err(error).with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))
}

/// Runs the other program and ends with its code. Windows sends Ctrl-C to both; this process lets it pass and waits.
#[cfg(windows)]
fn hand_over(mut command: Command) -> Result<ExitCode> {
    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn SetConsoleCtrlHandler(
            handler: Option<unsafe extern "system" fn(u32) -> i32>,
            add: i32,
        ) -> i32;
    }
    unsafe extern "system" fn let_pass(_event: u32) -> i32 {
        1
    }
    // SAFETY: the handler is a function that lives as long as the process and touches no state.
    unsafe { SetConsoleCtrlHandler(Some(let_pass), 1) };
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot start {program}"))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(70)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(args: &[&str]) -> Vec<OsString> {
        args.iter().map(OsString::from).collect()
    }

    #[test]
    fn outside_a_project_the_demo_is_evaluated() {
        let dir = tempfile::tempdir().unwrap();
        let args = with_project(words(&["--no-register"]), dir.path());
        assert_eq!(args[0], "--project");
        assert!(Path::new(&args[1]).ends_with("fixtures/demo"));
        assert_eq!(args[2], "--no-register");
    }

    #[test]
    fn a_project_that_is_named_or_stood_in_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for args in [&["--project", "x"][..], &["--project=x"]] {
            assert_eq!(with_project(words(args), dir.path()), words(args));
        }
        let deep = dir.path().join("1/2/3/4/5/6/7/8");
        std::fs::create_dir_all(deep.join("9")).unwrap();
        std::fs::create_dir_all(dir.path().join("data/processed")).unwrap();
        std::fs::write(dir.path().join("data/processed/project_config.json"), "{}").unwrap();
        assert!(nearest(&deep).is_some());
        assert!(nearest(&deep.join("9")).is_none(), "the project is nine folders up");
    }
}
