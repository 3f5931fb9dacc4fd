//! The built `xtask`, as a user meets it.

use std::process::{Command, Output};

fn xtask(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask")).args(args).output().unwrap()
}

#[test]
fn an_unknown_command_is_one_sentence_and_exit_code_2() {
    for args in [&["evaluate"][..], &["test", "gate"], &["--frobnicate"]] {
        let output = xtask(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(args[args.len() - 1]), "{stderr}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn help_goes_to_stdout_and_is_no_error() {
    for (args, usage) in [
        (&["--help"][..], "cargo xtask COMMAND\n"),
        (&[], "cargo xtask COMMAND\n"),
        (&["doctor", "-h"], "cargo xtask doctor\n\n  one line per requirement"),
        (&["mlflow-ui", "--help"], "cargo xtask mlflow-ui"),
        (&["bench-peers", "--help"], "cargo xtask bench-peers"),
    ] {
        let output = xtask(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with(usage), "{text}");
        assert!(output.stderr.is_empty());
    }
}
