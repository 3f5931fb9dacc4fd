//! `cargo xtask bench-peers`: detgate against the other COCO engines, from files on disk to the 12 numbers.
//!
//! Whole processes are timed, because that is what a user waits for; every engine runs once in each round, so that
//! a busy minute of the machine meets all of them; and each one's numbers are compared with detgate's to the last bit,
//! because a fast engine that computes something else is no rival. Deliberately absent: engines inside of one Python
//! process, timed after their imports; and confidence intervals, which five runs do not give.

mod bandwidth;
mod bootstrap;
mod data;
mod engines;
pub(crate) mod machine;
pub(crate) mod measure;
mod numbers;
mod options;
mod table;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, anyhow};

use crate::project::{cargo, program, repository};
use crate::{cache, python};
use data::{Files, Size, TENFOLD};
use engines::{ENGINES, Engine, Program};
use machine::threads;
use measure::median;
use options::Options;
pub(crate) use table::aligned;
use table::{Measured, Row};

/// An engine whose first run takes longer has no other: five of pycocotools' would take as long as everything else.
const SLOW_SECONDS: f64 = 20.0;

/// Names alone do not tell.
const THE_SAME_TWICE: &str = "\
The engines are Python packages from PyPI, but for those in `-cli`, their authors' own programs from crates.io.";

/// Runs the comparison and prints its tables.
///
/// # Errors
/// When detgate or the generator does not build, or detgate fails. Another engine's failure stands in its row.
pub(crate) fn run(args: &[OsString]) -> Result<ExitCode> {
    let Some(options) = options::parse(args)? else {
        print!("{}", options::HELP);
        return Ok(ExitCode::SUCCESS);
    };
    let root = cache::root()?;
    let detgate = Program::Detgate(build(&["--bin", "detgate"], "detgate")?);
    if options.bootstrap {
        return bootstrap::run(&detgate, &options, &root);
    }
    let chosen = ENGINES.iter().filter(|engine| options.peers.iter().any(|n| n == engine.name));
    let peers: Vec<_> = chosen.map(|engine| (engine, engine.provide(&root))).collect();
    println!("{}\n", machine::describe());
    let mut ours = Vec::new();
    for &size in &options.sizes {
        ours.push(one_size(&detgate, &peers, size, &options, &root)?);
    }
    println!("{THE_SAME_TWICE}");
    if let [smaller, larger] = &ours[..] {
        println!("{}", growth_sentence(smaller, larger));
    }
    // Last, because this process must be small while others are measured.
    println!("{}", bandwidth_sentence(&ours));
    Ok(ExitCode::SUCCESS)
}

/// detgate at one size.
struct Ours {
    detections: usize,
    /// Median wall time.
    seconds: f64,
    /// Of both files.
    bytes: u64,
    /// Median of the step of this name, if detgate still has one.
    parse_seconds: Option<f64>,
}

/// Measures and prints one size.
fn one_size(
    detgate: &Program,
    peers: &[(&'static Engine, Result<Program>)],
    size: Size,
    options: &Options,
    root: &Path,
) -> Result<Ours> {
    let files = data::provide(root, size, options)?;
    let rows = compare(detgate, peers, size, &files, options, root)?;
    let reference = rows[0].outcome.clone().map_err(|why| anyhow!("detgate: {why}"))?;
    println!("{}, {:.0} MB\n", files.about, files.bytes as f64 / 1e6);
    println!("{}", table::render(&rows, &reference, options.rounds));
    let steps = steps(&reference.said);
    println!("{}\n", steps_sentence(&steps));
    let parse = steps.iter().find(|(name, _)| name == "parse");
    Ok(Ours {
        detections: size.detections(),
        seconds: reference.median(),
        bytes: files.bytes,
        parse_seconds: parse.map(|&(_, seconds)| seconds),
    })
}

/// Builds one target of detgate without features in release, and returns its path.
pub(crate) fn build(target: &[&str], name: &str) -> Result<PathBuf> {
    let mut command = Command::new(cargo());
    command.args(["build", "--release", "--quiet", "--package", "detgate"]).args(target);
    command.arg("--manifest-path").arg(repository().join("Cargo.toml"));
    python::run(&mut command).with_context(|| format!("{name} does not build"))?;
    program(OsStr::new(name))
}

/// One engine while it is measured.
struct Contender<'a> {
    name: &'static str,
    version: &'static str,
    program: Result<&'a Program, String>,
    measured: Option<Measured>,
}

impl Contender<'_> {
    fn row(self) -> Row {
        let absent = || "not measured".to_owned();
        let outcome = match (self.program, self.measured) {
            (Err(why), _) => Err(why),
            (Ok(_), measured) => measured.ok_or_else(absent),
        };
        Row { name: self.name.into(), version: self.version.into(), outcome }
    }
}

/// The rows of one size, detgate's first.
fn compare(
    detgate: &Program,
    peers: &[(&'static Engine, Result<Program>)],
    size: Size,
    files: &Files,
    options: &Options,
    root: &Path,
) -> Result<Vec<Row>> {
    let mut contenders = vec![Contender {
        name: "detgate",
        version: env!("CARGO_PKG_VERSION"),
        program: Ok(detgate),
        measured: None,
    }];
    contenders.extend(peers.iter().map(|(engine, program)| Contender {
        name: engine.name,
        version: engine.version,
        program: available(engine, program, size, options),
        measured: None,
    }));
    let scratch = Scratch::make(root)?;
    first_runs(&mut contenders, files, &scratch.0);
    timed_rounds(&mut contenders, files, options.rounds, &scratch.0);
    Ok(contenders.into_iter().map(Contender::row).collect())
}

fn available<'a>(
    engine: &Engine,
    program: &'a Result<Program>,
    size: Size,
    options: &Options,
) -> Result<&'a Program, String> {
    let program = program.as_ref().map_err(|error| format!("not installed: {error:#}"))?;
    match engine.too_slow {
        Some(why) if size == TENFOLD && !options.all => Err(format!("{why}; `--all` includes it")),
        _ => Ok(program),
    }
}

/// One run of each: brings files and libraries into the page cache, and tells every digit. Not timed, but for those
/// that are too slow for another.
fn first_runs(contenders: &mut [Contender], files: &Files, scratch: &Path) {
    for contender in contenders {
        let Ok(program) = contender.program else {
            continue;
        };
        eprintln!("first run of {}", contender.name);
        match first_run(program, files, scratch) {
            Ok(measured) => contender.measured = Some(measured),
            Err(error) => contender.program = Err(format!("failed: {error:#}")),
        }
    }
}

fn first_run(program: &Program, files: &Files, scratch: &Path) -> Result<Measured> {
    let told = scratch.join("exact.json");
    let run = measure::run(&mut program.exact_command(files, threads(), &told), scratch)?;
    let numbers = program.exact(&run.stdout, &told)?;
    let mut measured = Measured::new(numbers);
    if run.seconds > SLOW_SECONDS {
        measured.add(run);
    }
    Ok(measured)
}

fn timed_rounds(contenders: &mut [Contender], files: &Files, rounds: usize, scratch: &Path) {
    let quick = |contender: &&mut Contender| {
        contender.measured.as_ref().is_some_and(|measured| measured.seconds.is_empty())
    };
    let mut contenders: Vec<_> = contenders.iter_mut().filter(quick).collect();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for turn in measure::order(contenders.len(), round) {
            timed_run(contenders[turn], files, scratch);
        }
    }
}

fn timed_run(contender: &mut Contender, files: &Files, scratch: &Path) {
    let (Ok(program), Some(measured)) = (&contender.program, contender.measured.as_mut()) else {
        return;
    };
    let run = measure::run(&mut program.command(files, threads()), scratch).and_then(|run| {
        numbers::check_printed(&numbers::printed(&run.stdout)?, &measured.numbers)?;
        Ok(run)
    });
    match run {
        Ok(run) => measured.add(run),
        Err(error) => contender.program = Err(format!("failed: {error:#}")),
    }
}

/// Where detgate's own time goes, out of what its timed runs said with `--timings`: the median of each step.
fn steps(said: &[String]) -> Vec<(String, f64)> {
    let runs: Vec<Vec<(&str, f64)>> =
        said.iter().map(|text| text.lines().filter_map(step).collect()).collect();
    let names = runs.first().into_iter().flatten().map(|&(name, _)| name);
    let medians = names.map(|name| {
        let times = runs.iter().flatten().filter(|(other, _)| *other == name);
        (name.to_owned(), median(&times.map(|&(_, seconds)| seconds).collect::<Vec<_>>()))
    });
    medians.collect()
}

/// A line such as `parse 0.0310 s`.
fn step(line: &str) -> Option<(&str, f64)> {
    let (name, seconds) = line.strip_suffix(" s")?.rsplit_once(' ')?;
    Some((name.trim(), seconds.parse().ok()?))
}

fn steps_sentence(steps: &[(String, f64)]) -> String {
    let parts: Vec<String> = steps.iter().map(|(name, s)| format!("{name} {s:.3} s")).collect();
    format!("Where detgate's time goes (medians): {}.", parts.join(", "))
}

fn growth_sentence(smaller: &Ours, larger: &Ours) -> String {
    format!(
        "{} times the detections take detgate {:.1} times as long.",
        larger.detections / smaller.detections,
        larger.seconds / smaller.seconds,
    )
}

fn bandwidth_sentence(ours: &[Ours]) -> String {
    let speed = bandwidth::measure(threads(), bandwidth::BYTES);
    let rate = |ours: &Ours| {
        let rate = ours.bytes as f64 / ours.parse_seconds?;
        Some(format!("{:.2} GB/s ({:.1} % of reading)", rate / 1e9, 100.0 * rate / speed.read))
    };
    let rates: Vec<String> = ours.iter().filter_map(rate).collect();
    format!(
        "Memory in the same run, {} threads: read at {:.1} GB/s, copied at {:.1} GB/s. detgate parses at {}.",
        threads(),
        speed.read / 1e9,
        speed.copy / 1e9,
        if rates.is_empty() { "a speed it did not tell".to_owned() } else { rates.join(", then ") },
    )
}

/// A folder for the programs' output, removed at the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes it in the cache.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn make(root: &Path) -> Result<Scratch> {
        let folder = root.join(format!("bench-scratch-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A few kilobytes in the cache are no reason to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_among_other_lines() {
        let run =
            |parse: f64| format!("note: 3 boxes are crowds\nparse {parse:.4} s\ngroup  0.0021 s\n");
        let steps = steps(&[run(0.031), run(0.5), run(0.02)]);
        assert_eq!(steps, [("parse".to_owned(), 0.031), ("group".to_owned(), 0.0021)]);
        assert_eq!(
            steps_sentence(&steps),
            "Where detgate's time goes (medians): parse 0.031 s, group 0.002 s."
        );
    }

    #[test]
    fn slow_engines_are_left_out_of_the_largest_size_only_and_say_how_to_get_them() {
        let slow = &ENGINES[0];
        let program = Ok(Program::Detgate("detgate".into()));
        let mut options = Options::default();
        let why = available(slow, &program, TENFOLD, &options).err().unwrap();
        assert!(why.contains("minutes") && why.contains("--all"), "{why}");
        assert!(available(slow, &program, data::VAL, &options).is_ok());
        options.all = true;
        assert!(available(slow, &program, TENFOLD, &options).is_ok());
        let missing = Err(anyhow!("no wheel for this platform"));
        let why = available(slow, &missing, data::VAL, &options).err().unwrap();
        assert!(why.contains("no wheel"), "{why}");
    }
}
