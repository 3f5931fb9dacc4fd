//! `cargo xtask bench-inference`: detgate against the other ways to run the same detector on a CPU.
//!
//! Whole processes, from JPEG files to a results file, on the same seeded Faster R-CNN ResNet-50-FPN. What an image
//! costs is the difference between a run on many and a run on few, so that nobody pays for starting. Every engine runs
//! once in each round, and its boxes are compared with eager torchvision's. Deliberately absent: engines inside of one
//! process, batches of several images, and GPUs.

mod found;
mod options;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::peers::measure::{self, Run, median};
use crate::peers::{Scratch, aligned, machine};
use crate::project::{build, repository};
use crate::{cache, libtorch, python};
use found::{Difference, Found};
use options::Options;

const REQUIREMENTS: &str = include_str!("../../inference-requirements.txt");
const WORKER: &str = include_str!("worker.py");
/// Of the shorter run.
const FEW: usize = 2;
/// What a picture of 640x480 takes, seen as multiplications and additions (800x1088 inside).
const GFLOP: f64 = 354.0;

/// The engines, the yardstick first, and what they are.
const ENGINES: [(&str, &str); 6] = [
    ("eager", "torchvision 0.28, torch 2.13"),
    ("channels-last", "the same, channels_last"),
    ("onnxruntime", "ONNX Runtime"),
    ("openvino", "OpenVINO, one stream"),
    ("openvino-streams", "OpenVINO, a stream per thread"),
    ("detgate", "detgate, a worker per thread"),
];

/// Runs the comparison and prints its table.
///
/// # Errors
/// When detgate does not build, or the peers' environment cannot be made. An engine that fails says so in its row.
pub(crate) fn run(args: &[OsString]) -> Result<ExitCode> {
    let Some(options) = options::parse(args)? else {
        print!("{}", options::HELP);
        return Ok(ExitCode::SUCCESS);
    };
    let bench = Bench::prepare(&options)?;
    let mut contenders: Vec<Contender> =
        options.engines.iter().map(|&engine| Contender::new(engine)).collect();
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for turn in measure::order(contenders.len(), round) {
            contenders[turn].round(&bench);
        }
    }
    let threads = options.threads;
    let peak: f64 = bench.python(&["peak", &threads.to_string()])?.trim().parse()?;
    println!("{}\n", machine::describe());
    println!(
        "{} photographs of 640x480, {} rounds, {threads} threads\n",
        options.images, options.rounds
    );
    println!("{}", table(&contenders, peak));
    println!(
        "sgemm of 2048x2048 in the same run: {peak:.0} GFLOP/s; an image is {GFLOP} GFLOP by definition."
    );
    Ok(ExitCode::SUCCESS)
}

/// Everything that the engines run on.
struct Bench {
    detgate: PathBuf,
    python: PathBuf,
    worker: PathBuf,
    folder: PathBuf,
    scratch: Scratch,
    images: usize,
    threads: usize,
}

impl Bench {
    fn prepare(options: &Options) -> Result<Self> {
        let root = cache::root()?;
        let detgate = build(&libtorch::provide()?)?;
        let python = python::venv(&root, "inference-peers", REQUIREMENTS)?;
        let scratch = Scratch::make(&root)?;
        let worker = scratch.path().join("worker.py");
        std::fs::write(&worker, WORKER)
            .with_context(|| format!("cannot write {}", worker.display()))?;
        let (images, threads) = (options.images, options.threads);
        // The photographs are few megabytes, the weights the same each time: made anew, nothing is ever stale.
        let folder = scratch.path().join("project");
        let bench = Self { detgate, python, worker, folder, scratch, images, threads };
        eprintln!("making {images} photographs and seeded weights");
        let pictures = repository().join("fixtures/demo/data/val2017");
        let pictures = pictures.to_str().context("the repository's path is not UTF-8")?;
        bench.python(&["make", bench.folder()?, pictures, &images.to_string()])?;
        let graph = ["onnxruntime", "openvino", "openvino-streams"];
        if options.engines.iter().any(|engine| graph.contains(engine)) {
            bench.python(&["onnx", bench.folder()?])?;
        }
        Ok(bench)
    }

    fn folder(&self) -> Result<&str> {
        self.folder.to_str().context("the cache's path is not UTF-8")
    }

    fn python(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.python);
        command.arg(&self.worker).args(arguments);
        Ok(measure::run(&mut command, self.scratch.path())?.stdout)
    }

    /// One engine on the first `count` photographs: what it took, and what it found.
    fn run(&self, engine: &str, count: usize) -> Result<(Run, Found)> {
        let out = self.scratch.path().join(format!("{engine}.json"));
        let (count, threads) = (count.to_string(), self.threads.to_string());
        if engine != "detgate" {
            let mut command = Command::new(&self.python);
            command
                .arg(&self.worker)
                .args(["run", engine, self.folder()?, &count, &threads])
                .arg(&out);
            let run = measure::run(&mut command, self.scratch.path())?;
            return Ok((run, Found::read(&out)?));
        }
        // Without a baseline it would exit with 4: the first run of each length makes one.
        let baseline = self.scratch.path().join(format!("of-{count}.snap"));
        let command = || {
            let mut command = Command::new(&self.detgate);
            command.args([
                "eval",
                "--no-register",
                "--no-cache",
                "--quiet",
                "--max-images",
                &count,
            ]);
            command.args(["--workers", &threads]).arg("--project").arg(&self.folder);
            command.arg("--baseline").arg(&baseline).arg("--report").arg(&out);
            command.env_remove("CI").env("INSTA_UPDATE", "always");
            command
        };
        if !baseline.exists() {
            let output = command().output().context("cannot start detgate")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(baseline.exists(), "detgate eval made no baseline: {said}");
        }
        let run = measure::run(&mut command(), self.scratch.path())?;
        Ok((run, Found::read(&out.with_extension("detections.json"))?))
    }
}

/// One engine while it is measured.
struct Contender {
    name: &'static str,
    /// Wall seconds of each round: on all images, and of these those of one image without starting.
    runs: Vec<Measured>,
    found: Option<Found>,
    failed: Option<String>,
}

struct Measured {
    whole: f64,
    per_image: f64,
    peak_bytes: u64,
}

impl Contender {
    fn new(name: &'static str) -> Self {
        Self { name, runs: Vec::new(), found: None, failed: None }
    }

    fn round(&mut self, bench: &Bench) {
        if self.failed.is_some() {
            return;
        }
        match self.measure(bench) {
            Ok(measured) => self.runs.push(measured),
            Err(error) => self.failed = Some(format!("{error:#}")),
        }
    }

    fn measure(&mut self, bench: &Bench) -> Result<Measured> {
        let (few, _) = bench.run(self.name, FEW)?;
        let (all, found) = bench.run(self.name, bench.images)?;
        self.found = Some(found);
        Ok(Measured {
            whole: all.seconds,
            per_image: (all.seconds - few.seconds) / (bench.images - FEW) as f64,
            peak_bytes: all.usage.map_or(0, |usage| usage.peak_bytes),
        })
    }

    fn median(&self, of: impl Fn(&Measured) -> f64) -> f64 {
        median(&self.runs.iter().map(of).collect::<Vec<_>>())
    }
}

const HEADER: [&str; 9] = [
    "engine",
    "s per image",
    "ratio to eager",
    "spread",
    "whole s",
    "peak MB",
    "of sgemm",
    "largest difference",
    "unmatched",
];

fn table(contenders: &[Contender], peak: f64) -> String {
    let yardstick = contenders.iter().find(|contender| contender.name == "eager");
    let mut rows: Vec<&Contender> = contenders.iter().collect();
    rows.sort_by(|a, b| a.median(|run| run.per_image).total_cmp(&b.median(|run| run.per_image)));
    let mut lines = vec![HEADER.map(str::to_owned)];
    lines.extend(rows.into_iter().map(|contender| row(contender, yardstick, peak)));
    aligned(&lines, |column| (1..7).contains(&column))
}

fn row(contender: &Contender, yardstick: Option<&Contender>, peak: f64) -> [String; 9] {
    let about =
        ENGINES.iter().find(|(name, _)| *name == contender.name).map_or("", |(_, about)| about);
    let none = || "-".to_owned();
    if let Some(why) = &contender.failed {
        let why = why.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "/");
        return [about.to_owned(), none(), none(), none(), none(), none(), none(), why, none()];
    }
    let per_image = contender.median(|run| run.per_image);
    // Round by round, because the machine is not the same from one to the next.
    let ratios: Vec<f64> = yardstick
        .into_iter()
        .flat_map(|eager| contender.runs.iter().zip(&eager.runs))
        .map(|(run, eager)| run.per_image / eager.per_image)
        .collect();
    let (low, high) =
        ratios.iter().fold((f64::INFINITY, 0.0_f64), |(l, h), r| (l.min(*r), h.max(*r)));
    let found = |contender: &Contender| contender.found.clone();
    let difference =
        yardstick.and_then(found).zip(found(contender)).map(|(a, b)| Difference::of(&a, &b));
    let bytes = contender.runs.iter().map(|run| run.peak_bytes).max().unwrap_or(0);
    [
        about.to_owned(),
        format!("{per_image:.3}"),
        if ratios.is_empty() { none() } else { format!("{:.2}", median(&ratios)) },
        if ratios.is_empty() { none() } else { format!("{low:.2} to {high:.2}") },
        format!("{:.1}", contender.median(|run| run.whole)),
        format!("{:.0}", bytes as f64 / 1e6),
        format!("{:.0} %", 100.0 * GFLOP / per_image / peak),
        difference
            .as_ref()
            .map_or_else(none, |d| format!("{:.1e} px, {:.1e} score", d.pixels, d.score)),
        difference.map_or_else(none, |d| format!("{} of {}", d.unmatched, d.boxes)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contender(name: &'static str, per_image: &[f64]) -> Contender {
        let measured = |&per_image: &f64| Measured {
            whole: 10.0 * per_image,
            per_image,
            peak_bytes: 1_400_000_000,
        };
        Contender { runs: per_image.iter().map(measured).collect(), ..Contender::new(name) }
    }

    #[test]
    fn ratios_are_taken_round_by_round_and_who_failed_says_why() {
        let mut failed = contender("openvino", &[]);
        failed.failed = Some("no wheel\nfor this | machine".to_owned());
        let rows =
            [contender("eager", &[2.0, 4.0, 3.0]), contender("detgate", &[0.5, 1.0, 0.6]), failed];
        let table = table(&rows, 200.0);
        let lines: Vec<&str> = table.lines().collect();
        assert!(
            lines[2].starts_with("| detgate") && lines[2].contains("0.25 | 0.20 to 0.25"),
            "{table}"
        );
        assert!(lines[2].contains("295 %"), "{table}");
        assert!(lines[3].contains("1.00 | 1.00 to 1.00"), "{table}");
        assert!(lines[4].contains("no wheel for this / machine"), "{table}");
    }
}
