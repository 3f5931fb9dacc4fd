//! What `detgate compare` needs to know.

use std::path::{Path, PathBuf};

use super::metrics::check_threads;
use super::{
    CompareFlags, CompareFormat, ConfigError, GateConfig, GateFlags, ProjectFlags, settings, unit,
};

/// The results files of two sides, and how to judge one against the other.
#[derive(Debug, Clone, PartialEq)]
pub struct CompareConfig {
    /// Ground truth.
    pub gt: PathBuf,
    /// What is compared with.
    pub baseline: Vec<PathBuf>,
    /// What is judged.
    pub candidate: Vec<PathBuf>,
    /// How.
    pub gate: GateConfig,
    /// The practical protocol's least score.
    pub score_thr: f64,
    /// The practical protocol's IoU threshold.
    pub iou_thr: f64,
    /// How to print.
    pub format: CompareFormat,
    /// The folder of the images, for the page.
    pub images: Option<PathBuf>,
    /// Only the verdict.
    pub quiet: bool,
    /// Detections on unknown images are left out.
    pub skip_unknown_images: bool,
    /// Threads; `None` for one per core.
    pub threads: Option<usize>,
}

impl CompareConfig {
    /// Resolves flags over the policy over defaults. Paths in the policy are relative to its folder.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the file or key.
    pub fn resolve(flags: &CompareFlags, cwd: &Path) -> Result<Self, ConfigError> {
        check_threads(flags.threads)?;
        let policy = flags.policy.as_ref().map(|path| cwd.join(path));
        let (gate, (score_thr, iou_thr)) = policy_settings(policy.as_deref(), &flags.gate, cwd)?;
        Ok(Self {
            // The command line has one, unless there are reports.
            gt: cwd.join(flags.gt.as_deref().unwrap_or(Path::new(""))),
            baseline: flags.baseline.iter().map(|path| cwd.join(path)).collect(),
            candidate: flags.candidate.iter().map(|path| cwd.join(path)).collect(),
            gate,
            score_thr,
            iou_thr,
            format: flags.format,
            images: flags.images.as_ref().map(|images| cwd.join(images)),
            quiet: flags.quiet,
            skip_unknown_images: flags.skip_unknown_images,
            threads: flags.threads,
        })
    }
}

/// `[gate]` of a `detgate.toml`, or the default, with the practical protocol's least score and IoU
/// threshold.
///
/// # Errors
/// A [`ConfigError`] that names the file or key.
#[cfg(feature = "harness")]
pub(crate) fn policy_file(path: Option<&Path>) -> Result<(GateConfig, (f64, f64)), ConfigError> {
    policy_settings(path, &GateFlags::default(), Path::new(""))
}

fn policy_settings(
    path: Option<&Path>,
    flags: &GateFlags,
    cwd: &Path,
) -> Result<(GateConfig, (f64, f64)), ConfigError> {
    let settings = path.map(settings::read_file).transpose()?.unwrap_or_default();
    let folder = path.and_then(Path::parent).unwrap_or(cwd);
    let settings::Practical { score_thr, iou_thr } = settings.practical;
    unit("score_thr", score_thr)?;
    unit("iou_thr", iou_thr)?;
    let gate = settings.gate.resolve(&ProjectFlags::default(), flags, cwd, folder)?;
    Ok((gate, (score_thr, iou_thr)))
}
