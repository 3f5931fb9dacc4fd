//! The engines, where each comes from, and how each is asked for the 12 numbers.
//!
//! Two engines stand here twice, because their authors offer them twice: as a Python package, and as a program of their
//! own, which spares the start of Python. Deliberately absent: engines that need a GPU or a framework to run.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::data::Files;
use super::numbers::{self, Numbers};
use crate::project::repository;
use crate::{crates_io, python};

/// Every package of every engine, with hashes.
const REQUIREMENTS: &str = include_str!("../../peers-requirements.txt");

/// One engine other than detgate.
pub(crate) struct Engine {
    /// The package's name, on PyPI or crates.io.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    source: Source,
    /// Why it is left out at ten times the size, unless asked for: measured at 500,000 detections and multiplied.
    pub(crate) too_slow: Option<&'static str>,
}

enum Source {
    /// A package and what it needs beside numpy.
    PyPi(&'static [&'static str]),
    /// The program that the crate installs.
    CratesIo(&'static str),
}

/// In the order of their first release.
pub(crate) const ENGINES: [Engine; 7] = [
    Engine {
        name: "pycocotools",
        version: "2.0.11",
        source: Source::PyPi(&[]),
        too_slow: Some("would take about 10 minutes and 20 GB"),
    },
    Engine {
        name: "faster-coco-eval",
        version: "1.8.0",
        source: Source::PyPi(&[]),
        too_slow: Some("would take about 1 minute and 13 GB"),
    },
    Engine { name: "hotcoco", version: "1.3.0", source: Source::PyPi(&[]), too_slow: None },
    Engine {
        name: "vernier",
        version: "0.5.4",
        source: Source::PyPi(&["pyarrow"]),
        too_slow: None,
    },
    Engine {
        name: "ultrafast-pycocotools",
        version: "0.1.14",
        source: Source::PyPi(&[]),
        too_slow: None,
    },
    Engine {
        name: "hotcoco-cli",
        version: "1.3.1",
        source: Source::CratesIo("coco-eval"),
        too_slow: None,
    },
    Engine {
        name: "vernier-cli",
        version: "0.6.0",
        source: Source::CratesIo("vernier"),
        too_slow: None,
    },
];

/// A program that can be run.
pub(crate) enum Program {
    Detgate(PathBuf),
    /// The interpreter of an engine's environment, and the engine.
    Python(PathBuf, &'static str),
    HotcocoCli(PathBuf),
    VernierCli(PathBuf),
}

impl Engine {
    /// Installs it, the first time; an environment or program of its own.
    ///
    /// # Errors
    /// When there is no wheel for this machine, no network, or it does not compile.
    pub(crate) fn provide(&self, root: &Path) -> Result<Program> {
        match self.source {
            Source::PyPi(needs) => {
                let packages = [&["numpy", self.name], needs].concat();
                let name = format!("peer-{}", self.name);
                let python = python::venv(root, &name, &blocks(REQUIREMENTS, &packages))?;
                Ok(Program::Python(python, self.name))
            }
            Source::CratesIo(binary) => {
                let program = crates_io::program(root, self.name, self.version, binary)?;
                Ok(match self.name {
                    "hotcoco-cli" => Program::HotcocoCli(program),
                    _ => Program::VernierCli(program),
                })
            }
        }
    }
}

/// The blocks of a requirements file, each a line and its hashes, that are of these packages.
fn blocks(requirements: &str, packages: &[&str]) -> String {
    let mut wanted = false;
    let mut chosen = String::new();
    for line in requirements.lines() {
        if line.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            let name = line.split("==").next().unwrap_or(line);
            wanted = packages.contains(&name);
        }
        if wanted && !line.starts_with('#') {
            chosen.push_str(line);
            chosen.push('\n');
        }
    }
    chosen
}

impl Program {
    /// From the files to the 12 printed lines, on as many threads as it has use for.
    pub(crate) fn command(&self, files: &Files, threads: usize) -> Command {
        let flags = |program: &Path, subcommand: &str| {
            let mut command = Command::new(program);
            command.arg(subcommand).arg("--gt").arg(&files.instances);
            command.arg("--dt").arg(&files.results);
            command
        };
        match self {
            Program::Detgate(program) => {
                let mut command = flags(program, "metrics");
                command.arg("--timings");
                command
            }
            Program::HotcocoCli(program) => flags(program, "eval"),
            Program::VernierCli(program) => {
                let mut command = flags(program, "eval");
                // One thread is its default.
                command.args(["--iou-type", "bbox", "--threads", &threads.to_string()]);
                command
            }
            Program::Python(python, engine) => {
                let script = repository().join("xtask/src/peers/summarize.py");
                let mut command = Command::new(python);
                // Isolated: neither the user's packages nor PYTHONPATH change what is measured.
                command.arg("-I").arg(script).arg(engine);
                command.arg(&files.instances).arg(&files.results);
                command
            }
        }
    }

    /// As [`Program::command`], telling every digit too; `told` is a file that it may write.
    pub(crate) fn exact_command(&self, files: &Files, threads: usize, told: &Path) -> Command {
        let mut command = self.command(files, threads);
        match self {
            Program::Detgate(_) => command.args(["--format", "json"]),
            Program::HotcocoCli(_) => command.arg("--output").arg(told),
            Program::VernierCli(_) => {
                command.args(["--emit", "text", "--emit"]);
                command.arg(format!("json={}", told.display()))
            }
            Program::Python(..) => &mut command,
        };
        command
    }

    /// Every digit, out of what [`Program::exact_command`] said.
    ///
    /// # Errors
    /// When it did not say them.
    pub(crate) fn exact(&self, stdout: &str, told: &Path) -> Result<Numbers> {
        let read = || {
            std::fs::read_to_string(told).with_context(|| format!("cannot read {}", told.display()))
        };
        match self {
            Program::Detgate(_) => numbers::by_name(stdout),
            Program::HotcocoCli(_) => numbers::by_name(&read()?),
            Program::VernierCli(_) => numbers::by_order(&read()?),
            Program::Python(..) => numbers::exact_line(stdout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a digest, an index could serve anything under the pinned name.
    #[test]
    fn every_engine_from_pypi_is_hash_locked_in_its_version() {
        for engine in &ENGINES {
            let Source::PyPi(needs) = engine.source else {
                continue;
            };
            let packages = [&["numpy", engine.name], needs].concat();
            let chosen = blocks(REQUIREMENTS, &packages);
            assert!(chosen.contains(&format!("{}=={}", engine.name, engine.version)), "{chosen}");
            for package in packages {
                let block = blocks(REQUIREMENTS, &[package]);
                assert!(block.contains("--hash=sha256:"), "{package}: {block}");
            }
        }
    }

    #[test]
    fn a_block_is_a_package_with_its_own_hashes() {
        let file =
            "# about\na==1 \\\n    --hash=sha256:1\nab==2 \\\n    --hash=sha256:2\na==3 ; x\n";
        assert_eq!(blocks(file, &["a"]), "a==1 \\\n    --hash=sha256:1\na==3 ; x\n");
        assert_eq!(blocks(file, &["b"]), "");
    }
}
