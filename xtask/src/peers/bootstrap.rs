//! `bench-peers --bootstrap`: how long it takes to say how far chance moves a change.
//!
//! Whole processes again, from three JSON files to intervals of the change of all 12 numbers. hotcoco resamples and evaluates
//! anew, which takes minutes: it runs once.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use super::data::{self, Files, VAL};
use super::engines::{ENGINES, Program};
use super::measure::{self, Run, median};
use super::options::Options;
use super::{Scratch, machine};

const REPLICATES: &str = "1000";

/// Measures both and prints the table.
///
/// # Errors
/// When either cannot be had or fails.
pub(crate) fn run(detgate: &Program, options: &Options, root: &Path) -> Result<ExitCode> {
    let Some(engine) = ENGINES.iter().find(|engine| engine.name == "hotcoco") else {
        bail!("hotcoco is not among the engines");
    };
    let hotcoco = engine.provide(root)?;
    let files = data::provide(root, VAL, options)?;
    let scratch = Scratch::make(root)?;
    let measured = |program: &Program, rounds: usize| -> Result<Vec<Run>> {
        (0..rounds).map(|_| measure::run(&mut command(program, &files)?, &scratch.0)).collect()
    };
    measured(detgate, 1)?;
    let mut ours = measured(detgate, options.rounds.div_ceil(2))?;
    eprintln!("hotcoco, {REPLICATES} replicates: about five minutes");
    let theirs = measured(&hotcoco, 1)?;
    ours.extend(measured(detgate, options.rounds / 2)?);
    println!("{}\n\n{}, twice; {REPLICATES} replicates\n", machine::describe(), files.about);
    println!("| engine | version | median s | ratio | CPU s | peak MB | intervals of |");
    println!("| --- | --- | ---: | ---: | ---: | ---: | --- |");
    let reference = seconds(&ours);
    let all = "all 12 numbers over all classes and for each, and the practical protocol's";
    println!("{}", row("detgate", env!("CARGO_PKG_VERSION"), &ours, reference, all));
    println!("{}", row(engine.name, engine.version, &theirs, reference, "all 12 numbers"));
    Ok(ExitCode::SUCCESS)
}

fn command(program: &Program, files: &Files) -> Result<Command> {
    let (mut command, [before, after, replicates]) = match program {
        Program::Detgate(program) => {
            // What the gate would say of them is not the question: no rule can be broken.
            let mut command = Command::new(program);
            command.args(["compare", "--quiet"]);
            (command, ["--baseline", "--candidate", "--replicates"])
        }
        Program::Python(python, _) => {
            let mut command = Command::new(python.with_file_name("coco"));
            command.arg("compare");
            (command, ["--dt-a", "--dt-b", "--bootstrap"])
        }
        Program::HotcocoCli(_) | Program::VernierCli(_) => bail!("it has no bootstrap"),
    };
    command.arg("--gt").arg(&files.instances);
    command.arg(before).arg(&files.results).arg(after).arg(&files.candidate);
    command.args([replicates, REPLICATES]);
    Ok(command)
}

fn seconds(runs: &[Run]) -> f64 {
    median(&runs.iter().map(|run| run.seconds).collect::<Vec<_>>())
}

fn row(name: &str, version: &str, runs: &[Run], reference: f64, what: &str) -> String {
    let time = seconds(runs);
    let usage = runs.iter().filter_map(|run| run.usage);
    let cpu = median(&usage.clone().map(|usage| usage.cpu_seconds).collect::<Vec<_>>());
    let peak = usage.map(|usage| usage.peak_bytes).max().unwrap_or(0) as f64 / 1e6;
    let ratio = time / reference;
    format!("| {name} | {version} | {time:.2} | {ratio:.2} | {cpu:.2} | {peak:.0} | {what} |")
}
