//! Disk and memory, as far as the platform's own tools tell; what they do not tell is a note, not a fault.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::doctor::Finding::{self, Good, Missing, Note};
use crate::libtorch::{self, Libtorch};
use crate::{cache, project};

/// Fetching and unpacking libtorch and the Python environments, measured 1.5 GB at the peak.
const CACHE_MB: u64 = 2_000;
/// The target folder of one whole test run, measured; see CONTRIBUTING.md.
const BUILD_MB: u64 = 4_000;
/// One C++ file of torch-sys takes 2 GB to compile.
const MEMORY_MB: u64 = 4_000;

/// Whether the cache and the build fit on their disks.
pub(crate) fn disk() -> Finding {
    let mut places = vec![("the build", project::repository().to_owned(), BUILD_MB)];
    match (libtorch::locate(), cache::root()) {
        (Ok(Libtorch::Pinned(dir)), Ok(root)) if !dir.exists() => {
            places.push(("the cache", root, CACHE_MB))
        }
        _ => {}
    }
    let mut found = Vec::new();
    for (what, path, needed) in places {
        let Some(free) = free_mb(&existing(path.clone())) else {
            return Note(format!("not checked; {what} needs about {} GB", needed / 1000));
        };
        if free < needed {
            let text =
                format!("{free} MB free in {}, but {what} needs about {needed}", path.display());
            return Missing(
                text,
                "free some, or move it with DETGATE_CACHE_DIR or CARGO_TARGET_DIR".into(),
            );
        }
        found.push(format!("{} GB free for {what}", free / 1000));
    }
    Good(found.join(", "))
}

/// The nearest folder that exists: the cache may not yet.
fn existing(path: PathBuf) -> PathBuf {
    path.ancestors().find(|dir| dir.exists()).map_or(path.clone(), Path::to_owned)
}

/// POSIX `df`: the fourth column of the second line, in KiB.
fn free_mb(dir: &Path) -> Option<u64> {
    let output = Command::new("df").arg("-Pk").arg(dir).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let kib: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kib * 1024 / 1_000_000)
}

/// Whether torch-sys can be compiled here.
pub(crate) fn memory() -> Finding {
    match memory_mb() {
        None => Note(format!("not checked; building needs about {} GB", MEMORY_MB / 1000)),
        Some(mb) if mb < MEMORY_MB => Missing(
            format!("{mb} MB, but compiling libtorch's bindings needs about {MEMORY_MB}"),
            "build with `CARGO_BUILD_JOBS=1`, or add swap".into(),
        ),
        Some(mb) => Good(format!("{} GB", mb / 1000)),
    }
}

fn memory_mb() -> Option<u64> {
    if cfg!(target_os = "macos") {
        let output = Command::new("sysctl").args(["-n", "hw.memsize"]).output().ok()?;
        let bytes: u64 = String::from_utf8(output.stdout).ok()?.trim().parse().ok()?;
        return Some(bytes / 1_000_000);
    }
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |name: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    // Swap counts: a compiler that swaps is slow, not stopped.
    Some((kib("MemTotal:")? + kib("SwapTotal:").unwrap_or(0)) * 1024 / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machines_disk_and_memory_are_read() {
        assert!(free_mb(&std::env::temp_dir()).is_some());
        assert!(memory_mb().unwrap() > 100);
    }

    #[test]
    fn a_folder_that_does_not_exist_yet_is_judged_by_its_nearest_ancestor() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(existing(dir.path().join("a/b/c")), dir.path());
    }
}
