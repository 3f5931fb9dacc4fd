//! Where a run comes from: the checkpoint, the engine, the commit, the hour.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use detgate::gate::{Provenance, Recorded};

use super::named;

/// Digests the checkpoint and names the engine.
pub(crate) fn provenance(model_file: &Path) -> anyhow::Result<Provenance> {
    let mut hasher = blake3::Hasher::new();
    digest(&mut hasher, model_file)?;
    Ok(provenance_of(model_file, &hasher.finalize()))
}

/// As [`provenance`], of results files that are one side together. Their digest is that of their bytes one file
/// after the other, so that of one file is its own.
pub(crate) fn provenance_of_results(files: &[PathBuf]) -> anyhow::Result<Provenance> {
    let mut hasher = blake3::Hasher::new();
    files.iter().try_for_each(|file| digest(&mut hasher, file))?;
    Ok(Provenance {
        checkpoint: named::together(files, file_name),
        checkpoint_blake3: hasher.finalize().to_hex().to_string(),
        engine: engine(&cpu()),
    })
}

fn digest(hasher: &mut blake3::Hasher, file: &Path) -> anyhow::Result<()> {
    hasher.update_mmap(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(())
}

/// As [`provenance`], of a file whose digest is known.
pub(crate) fn provenance_of(model_file: &Path, digest: &blake3::Hash) -> Provenance {
    Provenance {
        checkpoint: file_name(model_file),
        checkpoint_blake3: digest.to_hex().to_string(),
        engine: engine(&cpu()),
    }
}

/// The engine on processors that have these vector instructions.
pub(crate) fn engine(processors: &str) -> String {
    format!("{ENGINE}, {processors}")
}

/// What stands for the engine where another framework found the objects: the file that says so.
pub(crate) fn results_file(path: &Path) -> anyhow::Result<String> {
    let digest = provenance(path)?.checkpoint_blake3;
    Ok(format!("another framework: {}, BLAKE3 {digest}", file_name(path)))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(feature = "torch")]
pub(crate) const ENGINE: &str = concat!("detgate ", env!("CARGO_PKG_VERSION"), ", libtorch 2.13.0");
#[cfg(not(feature = "torch"))]
pub(crate) const ENGINE: &str = concat!("detgate ", env!("CARGO_PKG_VERSION"));

/// The vector instructions that libtorch chooses its kernels by.
pub(crate) fn cpu() -> String {
    #[cfg(target_arch = "x86_64")]
    let best = [
        ("AVX512", std::arch::is_x86_feature_detected!("avx512f")),
        ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let best: [(&str, bool); 0] = [];
    let best =
        best.iter().find(|(_, has)| *has).map_or(String::new(), |(name, _)| format!(" {name}"));
    format!("{}{best}", std::env::consts::ARCH)
}

/// The hour and the project's commit, for reviewers.
pub(crate) fn recorded(root: &Path) -> Recorded {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    Recorded { date: Some(now), git_commit: git_commit(root), ..Recorded::default() }
}

/// `None` where there is no repository, or no git.
fn git_commit(root: &Path) -> Option<String> {
    let output =
        Command::new("git").arg("-C").arg(root).args(["rev-parse", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}
