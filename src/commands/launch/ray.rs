//! Ray: a task for each share, and `merge` where this was asked for.
//!
//! The driver's exit code says only whether all shares are there: Python ends with 1 for whatever goes wrong,
//! which must never be taken for a verdict.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::json;

use super::{Work, shell, text};
use crate::{exit, say};

const DRIVER: &str = include_str!("ray_driver.py");

pub(super) fn run(
    work: &Work,
    address: Option<&str>,
    retries: u16,
    python: &Path,
    dry_run: bool,
) -> anyhow::Result<u8> {
    let job = json!({
        "address": address,
        "shards": work.shards,
        "cpus": work.cpus,
        "retries": retries,
        "cwd": text(&work.cwd)?,
        "eval": work.eval,
    });
    let job = job.to_string();
    if dry_run {
        let words = [text(python)?, "-".to_owned(), job];
        let (driver, merge) = (shell(&words), shell(&work.merge));
        // Python ends with 1 for whatever goes wrong, which would be taken for a verdict.
        say(&format!("{driver} <<'DRIVER' || exit 2\n{DRIVER}DRIVER\n{merge}\n"))?;
        return Ok(exit::PASSED);
    }
    let driver = Command::new(python).args(["-c", DRIVER, &job]).status().with_context(|| {
        format!("cannot start {}; name a Python that has ray by --python", python.display())
    })?;
    ensure!(
        driver.success(),
        "Ray did not run all shares ({driver}): see what {} says above, or name a Python that has ray by --python",
        python.display()
    );
    let merge = work.merge.split_first().map(|(detgate, arguments)| {
        Command::new(detgate).args(arguments).current_dir(&work.cwd).status()
    });
    let status = merge.transpose().context("cannot start detgate merge")?;
    let code = status.and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
    Ok(code.unwrap_or(exit::COULD_NOT_EVALUATE))
}
