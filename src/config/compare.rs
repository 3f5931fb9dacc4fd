//! What `detgate compare` needs to know.

use std::path::{Path, PathBuf};

use super::{CompareFlags, ConfigError, GateConfig, OutputFormat, ProjectFlags, settings, unit};

/// Two results files, and how to judge one against the other.
#[derive(Debug, Clone, PartialEq)]
pub struct CompareConfig {
    /// Ground truth.
    pub gt: PathBuf,
    /// What is compared with.
    pub baseline: PathBuf,
    /// What is judged.
    pub candidate: PathBuf,
    /// How.
    pub gate: GateConfig,
    /// The practical protocol's least score.
    pub score_thr: f64,
    /// The practical protocol's IoU threshold.
    pub iou_thr: f64,
    /// How to print.
    pub format: OutputFormat,
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
        let policy = flags.policy.as_ref().map(|path| cwd.join(path));
        let settings = policy.as_deref().map(settings::read_file).transpose()?.unwrap_or_default();
        let folder = policy.as_deref().and_then(Path::parent).unwrap_or(cwd);
        let settings::Practical { score_thr, iou_thr } = settings.practical;
        unit("score_thr", score_thr)?;
        unit("iou_thr", iou_thr)?;
        Ok(Self {
            gt: cwd.join(&flags.gt),
            baseline: cwd.join(&flags.baseline),
            candidate: cwd.join(&flags.candidate),
            gate: settings.gate.resolve(&ProjectFlags::default(), &flags.gate, cwd, folder)?,
            score_thr,
            iou_thr,
            format: flags.format,
            quiet: flags.quiet,
            skip_unknown_images: flags.skip_unknown_images,
            threads: flags.threads,
        })
    }
}
