//! The command line: from words to a [`Command`]. Nothing here acts.
//!
//! Deliberately absent: the flags of `detgate` itself. What follows `eval` or `bless` is handed through unread, so that
//! the two never disagree.

use std::ffi::OsString;
use std::path::PathBuf;

pub(crate) const HELP: &str = "\
cargo xtask COMMAND

  eval ARGS        fetch libtorch if needed, build, and run `detgate eval ARGS`; outside a project, on fixtures/demo
  bless ARGS       the same for `detgate bless ARGS`: accept the candidate as the baseline
  test             the whole test suite with torch; unit tests and the registry's in dev; doctests; xtask itself
  bench ARGS       cargo bench ARGS, with libtorch
  bench-peers ARGS time detgate against the other COCO engines, from JSON files to the 12 numbers
  bench-inference ARGS  time detgate against torchvision, ONNX Runtime and OpenVINO on the same images
  bench-scale      time metrics, bootstrap and merge at 10,000 to 1,000,000 images (30 GB of disk, 24 GB of memory)
  scale-test       the demo in shares on Slurm (where it is installed) and Ray, while nodes are lost and files damaged
  release ARGS     an archive of the program with its libraries, for machines without Rust, Python and libtorch
  ci               formatting, clippy per feature set, cargo deny if installed, then test, scale-test and release
  doctor           one line per requirement, with the fix where one is missing
  libtorch         fetch libtorch if needed and print its folder: `export LIBTORCH=$(cargo xtask libtorch)` for an editor
  mlflow-ui ARGS   the MLflow web pages on the project's database
  mlflow-python    make the MLflow environment if needed and print the path of its Python

  --help, -h       this text; behind a command, what that one does

`eval` and `bless` end with detgate's own exit code: 0 passed, 1 regressed, 2 could not evaluate, 3 inconclusive,
4 no comparable baseline, 70 a bug. The rest: 0 well, 1 a check failed, 2 something is missing.

Environment: DETGATE_CACHE_DIR (where libtorch and the Python environments are kept), DETGATE_PYTHON (the Python that
makes them), LIBTORCH or LIBTORCH_USE_PYTORCH (a libtorch of your own).
";

/// What to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Help,
    /// What one command does.
    HelpOf(String),
    /// `detgate eval` with these arguments.
    Eval(Vec<OsString>),
    /// `detgate bless` with these arguments.
    Bless(Vec<OsString>),
    Test,
    Bench(Vec<OsString>),
    BenchPeers(Vec<OsString>),
    BenchInference(Vec<OsString>),
    ScaleTest,
    BenchScale,
    Release(Vec<OsString>),
    Ci,
    Doctor,
    /// Provision libtorch and print where it is.
    Libtorch,
    MlflowUi(Vec<OsString>),
    MlflowPython,
    /// Load one shared library and say why it does not load; `doctor` runs this in a process of its own.
    LoadLibrary(PathBuf),
}

/// Reads the words after the program's name.
///
/// # Errors
/// One sentence, for an unknown command or a surplus argument.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut args = args.into_iter();
    let Some(word) = args.next() else {
        return Ok(Command::Help);
    };
    let rest: Vec<OsString> = args.collect();
    let command = match word.to_string_lossy().as_ref() {
        "eval" => return Ok(Command::Eval(rest)),
        "bless" => return Ok(Command::Bless(rest)),
        "bench" if !asks_for_help(&rest) => return Ok(Command::Bench(rest)),
        "bench-peers" => return Ok(Command::BenchPeers(rest)),
        "bench-inference" => return Ok(Command::BenchInference(rest)),
        "release" => return Ok(Command::Release(rest)),
        "mlflow-ui" => return Ok(Command::MlflowUi(rest)),
        "load-library" => return load_library(rest),
        "--help" | "-h" | "help" => Command::Help,
        "bench" => Command::Bench(Vec::new()),
        "test" => Command::Test,
        "scale-test" => Command::ScaleTest,
        "bench-scale" => Command::BenchScale,
        "ci" => Command::Ci,
        "doctor" => Command::Doctor,
        "libtorch" => Command::Libtorch,
        "mlflow-python" => Command::MlflowPython,
        other => {
            return Err(format!("there is no command `{other}`; `cargo xtask --help` lists them"));
        }
    };
    match rest.first() {
        None => Ok(command),
        Some(_) if command == Command::Help => Ok(Command::Help),
        Some(_) if asks_for_help(&rest) => Ok(Command::HelpOf(word.to_string_lossy().into_owned())),
        Some(extra) => Err(format!(
            "`{}` takes no arguments, but got `{}`",
            word.to_string_lossy(),
            extra.to_string_lossy()
        )),
    }
}

fn asks_for_help(args: &[OsString]) -> bool {
    args.first().is_some_and(|arg| arg == "--help" || arg == "-h")
}

/// A command's own lines of [`HELP`].
pub(crate) fn help_of(word: &str) -> String {
    let lines = HELP.lines().map(|line| line.strip_prefix("  ").unwrap_or_default());
    let mut lines = lines.skip_while(|line| line.split(' ').next() != Some(word));
    let first = lines.next().and_then(|line| line.strip_prefix(word)).unwrap_or_default();
    let (args, first) = match first.strip_prefix(" ARGS ") {
        Some(rest) => (" ARGS", rest),
        None => ("", first),
    };
    let more = lines.take_while(|line| line.starts_with(' '));
    let text: String =
        std::iter::once(first).chain(more).map(|l| format!("  {}\n", l.trim())).collect();
    format!(
        "cargo xtask {word}{args}\n\n{text}\n`cargo xtask --help` lists all commands, exit codes and environment variables.\n"
    )
}

fn load_library(rest: Vec<OsString>) -> Result<Command, String> {
    match <[OsString; 1]>::try_from(rest) {
        Ok([path]) => Ok(Command::LoadLibrary(path.into())),
        Err(_) => Err("`load-library` takes the path of one shared library".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Command, String> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn evals_arguments_are_handed_through_unread() {
        let command = parsed(&["eval", "--help", "--", "doctor"]).unwrap();
        assert_eq!(command, Command::Eval(vec!["--help".into(), "--".into(), "doctor".into()]));
    }

    #[test]
    fn no_command_is_a_request_for_help() {
        assert_eq!(parsed(&[]), Ok(Command::Help));
        assert_eq!(parsed(&["help", "ci"]), Ok(Command::Help));
    }

    #[test]
    fn help_behind_a_command_is_about_it() {
        assert_eq!(parsed(&["ci", "--help"]), Ok(Command::HelpOf("ci".into())));
        assert_eq!(parsed(&["bench", "-h"]), Ok(Command::HelpOf("bench".into())));
        let filtered = Command::Bench(vec!["iou".into(), "--help".into()]);
        assert_eq!(parsed(&["bench", "iou", "--help"]), Ok(filtered));
        let help = help_of("bench");
        assert!(
            help.starts_with("cargo xtask bench ARGS\n\n  cargo bench ARGS, with libtorch\n\n"),
            "{help}"
        );
    }

    #[test]
    fn surplus_and_unknown_words_are_named() {
        assert_eq!(
            parsed(&["test", "gate"]),
            Err("`test` takes no arguments, but got `gate`".into())
        );
        assert!(parsed(&["evaluate"]).unwrap_err().contains("`evaluate`"));
        assert!(parsed(&["load-library"]).is_err());
    }

    #[test]
    fn every_command_in_the_help_is_a_command() {
        let commands = HELP
            .lines()
            .filter_map(|line| line.strip_prefix("  "))
            .filter(|line| !line.starts_with([' ', '-']));
        for line in commands {
            let word = line.split_whitespace().next().unwrap();
            assert!(parsed(&[word]).is_ok(), "{word}");
            let told = help_of(word);
            let text = told.lines().nth(2).unwrap().trim();
            assert!(!text.is_empty() && line.ends_with(text), "{told}");
        }
    }
}
