//! Programs that their authors publish on crates.io, each compiled once into a folder of its own in the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::project::cargo;
use crate::{cache, python};

/// `binary` of a crate, with the dependencies that its authors locked; crates.io's index has the digests.
///
/// # Errors
/// When there is no network, or it does not compile.
pub(crate) fn program(root: &Path, name: &str, version: &str, binary: &str) -> Result<PathBuf> {
    let place = format!("program-{name}-{version}");
    let folder = root.join(&place);
    let program = folder.join("bin").join(binary).with_extension(std::env::consts::EXE_EXTENSION);
    let _lock = cache::lock(root, &place)?;
    if !program.is_file() {
        eprintln!("compiling {name} {version} from crates.io");
        let mut install = Command::new(cargo());
        install.args(["install", "--quiet", "--locked", name, "--root"]).arg(&folder);
        install.arg("--version").arg(format!("={version}"));
        python::run(&mut install).with_context(|| format!("{name} does not compile"))?;
        ensure!(program.is_file(), "{name} did not install {}", program.display());
    }
    Ok(program)
}
