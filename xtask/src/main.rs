//! Provisioning and one-word tasks: `cargo xtask COMMAND`.
//!
//! This crate fetches what a build of detgate needs and starts cargo or detgate; it knows nothing of detectors. It links
//! no libtorch and few crates, because every `cargo xtask` of a fresh clone waits for it to compile.

mod cache;
mod crates_io;
mod doctor;
mod fetch;
mod flags;
mod inference;
mod libtorch;
mod load;
mod machine;
mod mlflow;
mod peers;
mod pins;
mod project;
mod python;
mod release;
mod scale;
mod tasks;
mod workflows;

use std::process::ExitCode;

use flags::Command;

/// Something that is needed is missing or broken (detgate's own codes are in its `--help`).
const EXIT_MISSING: u8 = 2;

fn main() -> ExitCode {
    let outcome = match flags::parse(std::env::args_os().skip(1)) {
        Ok(command) => run(command),
        Err(sentence) => Err(anyhow::Error::msg(sentence)),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(EXIT_MISSING)
    })
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Help => {
            print!("{}", flags::HELP);
            Ok(ExitCode::SUCCESS)
        }
        Command::HelpOf(word) => {
            print!("{}", flags::help_of(&word));
            Ok(ExitCode::SUCCESS)
        }
        Command::Eval(args) => project::run("eval", args),
        Command::Bless(args) => project::run("bless", args),
        Command::Test => tasks::test(),
        Command::Bench(args) => tasks::bench(args),
        Command::BenchPeers(args) => peers::run(&args),
        Command::BenchInference(args) => inference::run(&args),
        Command::ScaleTest => scale::run(),
        Command::BenchScale => scale::bench::run(),
        Command::Ci => tasks::ci(),
        Command::Release(args) => release::run(&args),
        Command::Doctor => Ok(doctor::run()),
        Command::Libtorch => {
            println!("{}", libtorch::provide()?.folder()?.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::MlflowUi(args) => mlflow::ui(&cache::root()?, &args),
        Command::MlflowPython => {
            println!("{}", mlflow::python(&cache::root()?)?.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::LoadLibrary(path) => Ok(load::child(&path)),
    }
}
