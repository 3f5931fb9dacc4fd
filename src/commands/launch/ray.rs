//! Ray: a task for each share, and `merge` where this was asked for.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
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
        "merge": work.merge,
    });
    let job = job.to_string();
    if dry_run {
        let words = [text(python)?, "-".to_owned(), job];
        say(&format!("{} <<'DRIVER'\n{DRIVER}DRIVER\n", shell(&words)))?;
        return Ok(exit::PASSED);
    }
    let status = Command::new(python).args(["-c", DRIVER, &job]).status().with_context(|| {
        format!("cannot start {}; name a Python that has ray by --python", python.display())
    })?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.unwrap_or(exit::COULD_NOT_EVALUATE))
}
