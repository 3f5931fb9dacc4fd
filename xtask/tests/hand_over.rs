//! `eval` and `bless` end as detgate ends. A script stands in for detgate and `true` for cargo: what is tested is what
//! xtask gives to the program and what it gives back.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

/// A target folder, which no other test writes programs beside: a file that another thread's child still holds open for
/// writing cannot be started ("text file busy").
struct Target {
    dir: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Target {
    fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// A target folder with this xtask in `debug/` and a script as `release/detgate`.
fn target(script: &str) -> Target {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("debug")).unwrap();
    fs::create_dir(dir.path().join("release")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_xtask"), dir.path().join("debug/xtask")).unwrap();
    let detgate = dir.path().join("release/detgate");
    fs::write(&detgate, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&detgate, fs::Permissions::from_mode(0o755)).unwrap();
    Target { dir, _alone: alone }
}

fn xtask(target: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(target.join("debug/xtask"));
    command.args(args).current_dir(target).env("CARGO", "true").env("LIBTORCH", "/opt/libtorch");
    command.env_remove("LIBTORCH_USE_PYTORCH");
    command
}

#[test]
fn every_exit_code_is_handed_through() {
    let target = target("exit $3");
    for code in [0, 1, 2, 3, 4, 70] {
        let args = ["eval", "--project=x", &code.to_string()];
        assert_eq!(xtask(target.path(), &args).status().unwrap().code(), Some(code));
    }
}

#[test]
fn arguments_working_directory_and_stdout_are_the_programs() {
    let target = target(r#"pwd; for word in "$@"; do echo "[$word]"; done"#);
    let output = xtask(target.path(), &["bless", "--project", "a b", "--", "x"]).output().unwrap();
    let here = target.path().canonicalize().unwrap();
    let expected = format!("{}\n[bless]\n[--project]\n[a b]\n[--]\n[x]\n", here.display());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn outside_a_project_the_program_is_given_the_demo() {
    let target = target(r#"echo "$2 $3""#);
    let output = xtask(target.path(), &["eval"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("--project /") && text.ends_with("/fixtures/demo\n"), "{text}");
}

/// A signal reaches the program, which ends its server and says so; xtask neither dies first nor hides it. SIGTERM, not
/// SIGINT: a shell cannot trap what it inherits as ignored, as background jobs inherit SIGINT.
#[test]
fn a_signal_reaches_the_program_and_its_end_is_ours() {
    let target =
        target("trap 'echo tidied; exit 143' TERM; echo ready; while :; do sleep 0.05; done");
    let mut command = xtask(target.path(), &["eval", "--project=x"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(lines.next().unwrap().unwrap(), "tidied");
    assert_eq!(child.wait().unwrap().code(), Some(143));
    drop(target);

    let target = self::target("kill -TERM $$");
    let status = xtask(target.path(), &["eval", "--project=x"]).status().unwrap();
    assert_eq!(status.signal(), Some(15));
}

/// The program asks for the MLflow environment by running this variable's value with `mlflow-python`.
#[test]
fn the_program_knows_whom_to_ask_for_mlflow() {
    let target = target(r#""$DETGATE_MLFLOW_PROVISION" --help"#);
    let output = xtask(target.path(), &["eval", "--project=x"]).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("mlflow-python"));
}

#[test]
fn a_program_that_does_not_build_is_not_run() {
    let target = target("echo ran");
    let output =
        xtask(target.path(), &["eval", "--project=x"]).env("CARGO", "false").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8(output.stderr).unwrap().contains("detgate does not build"));
}
