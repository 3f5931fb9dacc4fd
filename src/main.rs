//! The `detgate` command: parses arguments, runs the pipeline, hands out the exit code.

mod commands;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use detgate::config::{Cli, Command, Environment, SchemaOf, json_schema};
use detgate::gate::Verdict;
use detgate::{report, shown};

/// The exit codes; the README lists them for users.
mod exit {
    pub(crate) const PASSED: u8 = 0;
    pub(crate) const REGRESSED: u8 = 1;
    pub(crate) const COULD_NOT_EVALUATE: u8 = 2;
    pub(crate) const INCONCLUSIVE: u8 = 3;
    pub(crate) const INCOMPARABLE: u8 = 4;
    pub(crate) const BUG: u8 = 70;
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = match std::panic::catch_unwind(|| run(cli)) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            eprintln!("error: {}", shown::lines(&format!("{error:#}")));
            commands::interrupt::exit_code().unwrap_or(exit::COULD_NOT_EVALUATE)
        }
        Err(_panic) => {
            eprintln!("error: this is a bug in detgate; please report it with the lines above");
            exit::BUG
        }
    };
    ExitCode::from(code)
}

fn run(cli: Cli) -> anyhow::Result<u8> {
    let cwd = std::env::current_dir().context("the working directory is not readable")?;
    let environment = Environment::from_process()?;
    match cli.command {
        Command::Eval(flags) => commands::eval::run(&flags, &cwd, &environment),
        Command::Merge(flags) => commands::merge::run(&flags, &cwd, &environment),
        Command::Launch(command) => commands::launch::run(&command, &cwd, &environment),
        Command::Bless(flags) => commands::bless::run(&flags, &cwd, &environment),
        Command::Compare(flags) => commands::compare::run(&flags, &cwd),
        Command::Registry(flags) => {
            say(&commands::registry::run(&flags, &cwd, &environment)?)?;
            Ok(exit::PASSED)
        }
        Command::Report(flags) => {
            commands::report::run(&flags, &cwd)?;
            Ok(exit::PASSED)
        }
        Command::Schema(flags) => {
            say(&match flags.of {
                SchemaOf::Config => json_schema(),
                SchemaOf::Report => report::schema::json_schema(),
            })?;
            Ok(exit::PASSED)
        }
        Command::Completions(flags) => {
            say(&commands::manual::completions(flags.shell)?)?;
            Ok(exit::PASSED)
        }
        Command::Man(flags) => {
            say(&commands::manual::man(&flags, &cwd)?)?;
            Ok(exit::PASSED)
        }
        Command::Cache(command) => {
            say(&commands::cache::run(command, &environment)?)?;
            Ok(exit::PASSED)
        }
        Command::Metrics(flags) => {
            say(&commands::metrics::run(&flags, &cwd)?)?;
            Ok(exit::PASSED)
        }
    }
}

fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Passed => exit::PASSED,
        Verdict::Regressed => exit::REGRESSED,
        Verdict::Inconclusive => exit::INCONCLUSIVE,
        Verdict::Incomparable => exit::INCOMPARABLE,
    }
}

/// Says on standard error what a person should know.
fn note(what: &str) {
    eprintln!("note: {}", shown::line(what));
}

/// Prints to standard output; that nobody reads on (`| head`) is no reason to stop.
fn say(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
