//! Files that a command line names.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::bail;

/// Makes sure that no file is named twice, be it by another name: what is in it would count twice.
pub(crate) fn require_once(files: &[PathBuf]) -> anyhow::Result<()> {
    let mut known = HashMap::new();
    for file in files {
        // What is not there is said where it is read; a pipe has no other name.
        let Ok(real) = file.canonicalize() else { continue };
        match known.insert(real, file) {
            Some(before) if before == file => {
                bail!("{} is named twice; name each file once", file.display())
            }
            Some(before) => bail!(
                "{} and {} are the same file; name each file once",
                before.display(),
                file.display()
            ),
            None => {}
        }
    }
    Ok(())
}

/// What files are called together, by their paths.
pub(crate) fn paths(files: &[PathBuf]) -> String {
    together(files, |path| path.display().to_string())
}

/// What files are called together: as `shown`, the first one.
pub(crate) fn together(files: &[PathBuf], shown: impl Fn(&Path) -> String) -> String {
    match files {
        [] => String::new(),
        [file] => shown(file),
        [first, _] => format!("{} and 1 other", shown(first)),
        [first, others @ ..] => format!("{} and {} others", shown(first), others.len()),
    }
}
