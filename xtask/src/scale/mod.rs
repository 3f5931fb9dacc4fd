//! `cargo xtask scale-test`: the demo in shares on real clusters of this machine, while nodes are lost and files are
//! damaged.
//!
//! Whatever happens, what is merged is the report of a single machine to the last byte, or it is said what is missing.
//! Slurm is Debian's `slurm-wlm`, Ray is PyPI's. Deliberately absent: more than one real machine.

pub(crate) mod bench;
mod ray;
mod slurm;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::peers::Scratch;
use crate::project::{build, repository};
use crate::{cache, libtorch, python};

const REQUIREMENTS: &str = include_str!("../../scale-requirements.txt");
const MANIFEST: &str = "docs/clusters/kubernetes.yaml";
/// Into how many shares the demo's 160 images go.
const SHARES: usize = 8;
/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs all of it.
///
/// # Errors
/// Where something cannot be started, or comes out wrong.
pub(crate) fn run() -> Result<ExitCode> {
    let root = cache::root()?;
    let detgate = build(&libtorch::provide()?)?;
    let python = python::venv(&root, "scale", REQUIREMENTS)?;
    let scratch = Scratch::make(&root)?;
    let demo = Demo::make(detgate, scratch.path())?;
    manifest(&python)?;
    damaged_and_missing(&demo)?;
    slurm::run(&demo, &scratch.path().join("slurm"))?;
    ray::run(&demo, &python)?;
    println!("all shares came together as on one machine");
    Ok(ExitCode::SUCCESS)
}

/// The demo project, and what one machine says of it.
struct Demo {
    detgate: PathBuf,
    folder: PathBuf,
    expected: Vec<u8>,
}

impl Demo {
    fn make(detgate: PathBuf, scratch: &Path) -> Result<Self> {
        let folder = scratch.join("demo");
        copy(&repository().join("fixtures/demo"), &folder)?;
        let mut demo = Self { detgate, folder, expected: Vec::new() };
        let output = demo.run(&["eval", "--no-register", "--quiet"])?;
        ensure!(output.status.success(), "the demo does not pass: {}", text(&output));
        demo.expected = demo.report()?;
        Ok(demo)
    }

    /// A command in the project, whose predictions are not those of any other.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.detgate);
        command.args(arguments).current_dir(&self.folder).env_remove("CI");
        command.env("DETGATE_CACHE_DIR", self.folder.join("cache"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.command(arguments).output().context("cannot start detgate")
    }

    fn report(&self) -> Result<Vec<u8>> {
        let path = self.folder.join("reports/evaluation.json");
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn shard(&self, index: usize) -> PathBuf {
        self.folder.join(format!("reports/shards/of-{SHARES}/{index}-of-{SHARES}.shard"))
    }

    /// As if nothing had ever been evaluated.
    fn forget(&self) -> Result<()> {
        for name in ["cache", "reports"] {
            match fs::remove_dir_all(self.folder.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn merge(&self, shares: impl IntoIterator<Item = usize>) -> Result<Output> {
        let shares = shares.into_iter().map(|index| self.shard(index));
        self.command(&["merge", "--no-register", "--quiet"])
            .args(shares)
            .output()
            .context("cannot start detgate")
    }

    fn is_as_expected(&self, output: &Output) -> Result<()> {
        ensure!(output.status.success(), "it did not pass: {}", text(output));
        ensure!(self.report()? == self.expected, "the report is not that of one machine");
        Ok(())
    }

    /// The numbers of the processes that are evaluating a share, with what `of` finds in their environment.
    fn at_work(&self, of: impl Fn(&str) -> bool) -> Vec<u32> {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ours = |id: &u32| {
            let read = |name: &str| fs::read(format!("/proc/{id}/{name}")).unwrap_or_default();
            let words = read("cmdline");
            let mut words = words.split(|&byte| byte == 0);
            let is_detgate = words.next() == Some(self.detgate.as_os_str().as_encoded_bytes());
            is_detgate
                && words.any(|word| word == b"--shard")
                && read("environ")
                    .split(|&byte| byte == 0)
                    .any(|variable| std::str::from_utf8(variable).is_ok_and(&of))
        };
        processes
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(ours)
            .collect()
    }
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err)).trim().to_owned()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            // What an evaluation of the demo has left there.
            true if entry.file_name() == "reports" => {}
            true => copy(&entry.path(), &target)?,
            false => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}

/// Waits until `is_so` says something.
fn wait<T>(what: &str, mut is_so: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = is_so() {
            return Ok(answer);
        }
        ensure!(Instant::now() < end, "waited {} s in vain: {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ends a process as a power cut would.
fn kill(id: u32) {
    // It may have ended by itself.
    let _ = Command::new("kill").args(["-9", &id.to_string()]).output();
}

/// The manifest is what Kubernetes takes.
fn manifest(python: &Path) -> Result<()> {
    let output = Command::new(python)
        .args(["-m", "kubernetes_validate", "--strict", MANIFEST])
        .current_dir(repository())
        .output()
        .context("cannot start kubernetes-validate")?;
    ensure!(output.status.success(), "{MANIFEST}: {}", text(&output));
    println!("kubernetes: {MANIFEST} is valid");
    Ok(())
}

/// A shard that is damaged, and one that is not there, by whatever engine.
fn damaged_and_missing(demo: &Demo) -> Result<()> {
    demo.forget()?;
    let make = |index: usize| -> Result<()> {
        let output = demo.run(&["eval", "--quiet", "--shard", &format!("{index}/{SHARES}")])?;
        ensure!(output.status.success(), "{}", text(&output));
        Ok(())
    };
    (1..=SHARES).try_for_each(make)?;
    let path = demo.shard(5);
    let mut bytes = fs::read(&path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes)?;
    let refused = demo.merge(1..=SHARES)?;
    ensure!(refused.status.code() == Some(2), "a damaged share was merged");
    println!("damaged: {}", text(&refused));
    let without = demo.merge((1..=SHARES).filter(|&index| index != 5))?;
    ensure!(without.status.code() == Some(2), "a missing share was merged");
    println!("missing: {}", text(&without));
    make(5)?;
    demo.is_as_expected(&demo.merge(1..=SHARES)?)
}
