//! `cargo xtask bench-scale`: metrics, bootstrap and merge at 10,000, 100,000 and 1,000,000 images.
//!
//! Whole processes, from files to the verdict. The data are generated for each size and thrown away after it: a million
//! images with 50 detections on each, twice, are 15 GB. Deliberately absent: inference, which `bench-inference`
//! measures, and peers, none of which ends at the largest size.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use super::copy;
use crate::peers::measure::{self, Run};
use crate::peers::{Scratch, aligned, build as build_example, machine};
use crate::project::{build, repository};
use crate::{cache, libtorch};

const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];
const BOXES_PER_IMAGE: usize = 7;
const DETECTIONS_PER_IMAGE: usize = 50;
const SHARDS: usize = 64;
const TASKS: [&str; 4] =
    ["metrics", "compare, 1000 replicates", "merge of 64 shards", "merge, 1000 replicates"];
/// What a build of detgate calls itself behind its version (`src/commands/origin.rs`).
const ENGINE: &str = "libtorch 2.13.0";
const PLOT: &str = "docs/scale.svg";

/// Measures, prints a table in Markdown, and draws it.
///
/// # Errors
/// When something does not build, or a run fails.
pub(crate) fn run() -> Result<ExitCode> {
    let root = cache::root()?;
    let bench = Bench {
        detgate: build(&libtorch::provide()?)?,
        generate: build_example(&["--example", "generate"], "examples/generate")?,
        shards: build_example(&["--example", "shards"], "examples/shards")?,
        scratch: Scratch::make(&root)?,
    };
    let measured = SIZES.map(|images| bench.size(images));
    let measured = measured.into_iter().collect::<Result<Vec<_>>>()?;
    println!("{}\n", machine::describe());
    println!("{}", table(&measured));
    let plot = repository().join(PLOT);
    fs::write(&plot, drawing(&measured))
        .with_context(|| format!("cannot write {}", plot.display()))?;
    println!("drawn in {PLOT}");
    Ok(ExitCode::SUCCESS)
}

struct Bench {
    detgate: PathBuf,
    generate: PathBuf,
    shards: PathBuf,
    scratch: Scratch,
}

/// Of one size, in the order of [`TASKS`].
struct Measured {
    images: usize,
    runs: Vec<Run>,
}

impl Bench {
    fn size(&self, images: usize) -> Result<Measured> {
        eprintln!("{images} images");
        let folder = self.scratch.path().join(images.to_string());
        let data = folder.join("data");
        copy(&repository().join("fixtures/demo/data/processed"), &data.join("processed"))?;
        let mut generate = Command::new(&self.generate);
        generate.args(["--images", &images.to_string(), "--candidate"]);
        generate.args(["--boxes", &(images * BOXES_PER_IMAGE).to_string()]);
        generate
            .args(["--dts-per-image", &DETECTIONS_PER_IMAGE.to_string()])
            .arg("--out")
            .arg(&folder);
        self.measure(&mut generate)?;
        let truth = folder.join("instances.json");
        let file = |name: &str| folder.join(name);
        let detgate = |name: &str| {
            let mut command = Command::new(&self.detgate);
            command.arg(name).current_dir(&folder).env_remove("CI");
            command
        };
        let mut metrics = detgate("metrics");
        metrics.arg("--gt").arg(&truth).arg("--dt").arg(file("results.json"));
        let mut compare = detgate("compare");
        compare.arg("--gt").arg(&truth).arg("--baseline").arg(file("results.json"));
        compare.arg("--candidate").arg(file("candidate.json"));
        let mut runs = vec![self.measure(&mut metrics)?, self.measure(&mut compare)?];
        for (side, update) in [("results", "always"), ("candidate", "no")] {
            let results = file(&format!("{side}.json"));
            self.make_shards(&folder, &truth, &results)?;
            // The results have become shards, and space is short.
            fs::remove_file(&results)?;
            let mut merge = detgate("merge");
            merge.args(["--no-register", "--all-categories", "--max-images", "0", "--quiet"]);
            merge.arg("--ground-truth").arg(&truth).args(["--baseline", "it.snap"]);
            merge.arg(".");
            runs.push(self.measure(merge.env("INSTA_UPDATE", update))?);
        }
        fs::remove_dir_all(&folder)?;
        Ok(Measured { images, runs })
    }

    fn make_shards(&self, folder: &Path, truth: &Path, results: &Path) -> Result<()> {
        let version = Command::new(&self.detgate).arg("--version").output()?;
        let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        let mut shards = Command::new(&self.shards);
        shards.arg("--project").arg(folder).arg("--ground-truth").arg(truth);
        shards.arg("--results").arg(results).arg("--out").arg(folder);
        shards.args(["--engine", &format!("{version}, {ENGINE}")]);
        shards.args(["--shards", &SHARDS.to_string()]);
        self.measure(&mut shards).map(drop)
    }

    fn measure(&self, command: &mut Command) -> Result<Run> {
        measure::run_with(command, self.scratch.path(), |code| {
            // Passed, regressed, inconclusive, no baseline yet: all of them are verdicts.
            ensure!(matches!(code, Some(0 | 1 | 3 | 4)), "it ended with {code:?}");
            Ok(())
        })
    }
}

fn table(measured: &[Measured]) -> String {
    let header = ["images", "task", "wall s", "CPU s", "peak GB", "µs of CPU per image"];
    let mut lines = vec![header.map(str::to_owned)];
    for Measured { images, runs } in measured {
        for (task, run) in std::iter::zip(TASKS, runs) {
            let (cpu, peak) =
                run.usage.map_or((0.0, 0.0), |usage| (usage.cpu_seconds, usage.peak_bytes as f64));
            lines.push([
                images.to_string(),
                task.to_owned(),
                format!("{:.2}", run.seconds),
                format!("{cpu:.2}"),
                format!("{:.2}", peak / 1e9),
                format!("{:.0}", 1e6 * cpu / *images as f64),
            ]);
        }
    }
    aligned(&lines, |column| column != 1)
}

const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];
/// Of a panel, and what is beside and above it, in units of the drawing.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 60.0;

/// Two panels, seconds and gigabytes over images, on logarithmic axes: what grows in proportion is a line of
/// slope one.
fn drawing(measured: &[Measured]) -> String {
    let seconds = |run: &Run| run.seconds;
    let gigabytes = |run: &Run| run.usage.map_or(0.0, |usage| usage.peak_bytes as f64 / 1e9);
    let panels = panel(measured, 0.0, ("seconds", -1..=3), seconds)
        + &panel(measured, LEFT + WIDTH + 30.0, ("gigabytes at most", -1..=2), gigabytes);
    let mut legend = String::new();
    for (number, (task, colour)) in std::iter::zip(TASKS, COLOURS).enumerate() {
        let x = LEFT + 225.0 * number as f64;
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(
            legend,
            r#"<circle cx="{x}" cy="16" r="5" fill="{colour}"/><text x="{}" y="20">{task}</text>"#,
            x + 10.0
        );
    }
    let (width, height) = (2.0 * (LEFT + WIDTH) + 70.0, TOP + HEIGHT + 50.0);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{legend}{panels}</svg>\n"
    )
}

fn panel(
    measured: &[Measured],
    shift: f64,
    (title, decades): (&str, std::ops::RangeInclusive<i32>),
    of: impl Fn(&Run) -> f64,
) -> String {
    let (low, high) = (f64::from(*decades.start()), f64::from(*decades.end()));
    let x = |images: usize| shift + LEFT + WIDTH * ((images as f64).log10() - 4.0) / 2.0;
    let y = |value: f64| TOP + HEIGHT * (high - value.max(1e-9).log10().max(low)) / (high - low);
    let mut svg = format!(r#"<text x="{}" y="{}">{title}</text>"#, shift + LEFT, TOP - 10.0) + "\n";
    for decade in decades {
        let (value, line) = (10_f64.powi(decade), y(10_f64.powi(decade)));
        let (left, right) = (shift + LEFT, shift + LEFT + WIDTH);
        let _ = writeln!(
            svg,
            r##"<path d="M{left} {line}H{right}" stroke="#ccc"/><text x="{}" y="{}" text-anchor="end">{value}</text>"##,
            left - 6.0,
            line + 4.0
        );
    }
    for images in SIZES {
        let _ = writeln!(
            svg,
            r#"<text x="{}" y="{}" text-anchor="middle">{images}</text>"#,
            x(images),
            TOP + HEIGHT + 20.0
        );
    }
    let _ = writeln!(
        svg,
        r#"<text x="{}" y="{}" text-anchor="middle">images</text>"#,
        shift + LEFT + WIDTH / 2.0,
        TOP + HEIGHT + 40.0
    );
    for (task, colour) in COLOURS.iter().enumerate() {
        let points: Vec<(f64, f64)> =
            measured.iter().map(|at| (x(at.images), y(of(&at.runs[task])))).collect();
        let line: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#,
            line.join(" ")
        );
        for (x, y) in points {
            let _ = writeln!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="4" fill="{colour}"/>"#);
        }
    }
    svg
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::measure::Usage;

    #[test]
    fn what_grows_in_proportion_is_drawn_as_one_straight_line() {
        let run = |seconds: f64| Run {
            seconds,
            usage: Some(Usage { cpu_seconds: 2.0 * seconds, peak_bytes: 1_000_000_000 }),
            stdout: String::new(),
            stderr: String::new(),
        };
        let at = |images: usize| Measured {
            images,
            runs: TASKS.map(|_| run(images as f64 / 1e4)).into(),
        };
        let measured = SIZES.map(at);
        let svg = drawing(&measured);
        assert!(svg.contains(r#"points="60.0,285.0 270.0,210.0 480.0,135.0""#), "{svg}");
        let table = table(&measured);
        assert!(table.contains("| 1000000 | metrics "), "{table}");
        assert!(table.contains(" 100.00 | 200.00 |    1.00 | "), "{table}");
    }
}
