//! The per-user cache: where it is, who may write to it, and how a folder in it comes into being all at once.
//!
//! It is shared by all clones and lies outside `target/`, so that neither `cargo clean` nor a second clone fetches
//! libtorch again. Deliberately absent: eviction. A pin that moved leaves its old folder behind, for other clones may
//! still use it; `doctor` says where the cache is.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The cache folder, absolute; it need not exist yet. `DETGATE_CACHE_DIR`, or the platform's place for such things.
///
/// # Errors
/// When no variable says where the user's files are.
pub(crate) fn root() -> Result<PathBuf> {
    let Some(dir) = choose(|name| std::env::var_os(name).filter(|value| !value.is_empty())) else {
        bail!(
            "cannot tell where your cache folder is: set DETGATE_CACHE_DIR to a folder with 2 GB free"
        );
    };
    // The path ends up in an rpath and in cargo's fingerprints: it must not depend on the working directory.
    std::path::absolute(&dir)
        .with_context(|| format!("cannot resolve the cache folder {}", dir.display()))
}

fn choose(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(dir) = var("DETGATE_CACHE_DIR") {
        return Some(dir.into());
    }
    let base: PathBuf = if cfg!(windows) {
        var("LOCALAPPDATA")?.into()
    } else if cfg!(target_os = "macos") {
        PathBuf::from(var("HOME")?).join("Library/Caches")
    } else {
        // The XDG specification says that a relative path here is to be ignored.
        let xdg = var("XDG_CACHE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
        match xdg {
            Some(dir) => dir,
            None => PathBuf::from(var("HOME")?).join(".cache"),
        }
    };
    Some(base.join("detgate"))
}

/// Held while one entry of the cache is written; the operating system lets go of it when the process ends, however it
/// ends, so a killed run never leaves a stale lock.
#[must_use]
pub(crate) struct Lock {
    _file: File,
}

/// Waits until no other xtask writes the entry `name`.
///
/// # Errors
/// When the cache folder cannot be made or written to.
pub(crate) fn lock(root: &Path, name: &str) -> Result<Lock> {
    fs::create_dir_all(root)
        .with_context(|| format!("cannot make the cache folder {}", root.display()))?;
    let path = root.join(format!("{name}.lock"));
    let file =
        File::create(&path).with_context(|| format!("cannot write to {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("waiting for another xtask that is preparing {name}");
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    Ok(Lock { _file: file })
}

/// Makes `root/name` all at once: `fill` writes into a sibling that is renamed when it is complete and on disk. What an
/// earlier run left half-made is removed first, and so is an unusable `root/name`.
///
/// The sibling's name holds the process id: a downloader that outlives a killed run then writes into a folder that
/// nobody reads. The caller holds the entry's [`Lock`].
///
/// # Errors
/// What `fill` says, or what the file system says; `root/name` is then absent.
pub(crate) fn publish(
    root: &Path,
    name: &str,
    _lock: &Lock,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let partial_prefix = format!("{name}.partial-");
    remove_matching(root, &partial_prefix);
    let partial = root.join(format!("{partial_prefix}{}", std::process::id()));
    fs::create_dir(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
    if let Err(error) = fill(&partial) {
        // The error matters more than the litter, which the next run removes anyway.
        let _ = fs::remove_dir_all(&partial);
        return Err(error);
    }
    let target = root.join(name);
    if target.exists() {
        // Renamed first: a removal that is interrupted must not leave a half-empty folder under the trusted name.
        let old = root.join(format!("{partial_prefix}old-{}", std::process::id()));
        fs::rename(&target, &old)
            .with_context(|| format!("cannot move {} away", target.display()))?;
    }
    fs::rename(&partial, &target)
        .with_context(|| format!("cannot rename {} to {}", partial.display(), target.display()))?;
    sync_dir(root)?;
    remove_matching(root, &partial_prefix);
    Ok(())
}

/// Removes litter as far as that goes: a downloader that outlived a killed run may still be writing into it, and then
/// the next run has another try.
fn remove_matching(root: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(root) else {
        return;
    };
    for entry in
        entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
    {
        let _ = fs::remove_dir_all(entry.path());
    }
}

/// Makes the names in a folder durable. Windows has no such operation and orders metadata itself.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .with_context(|| format!("cannot flush {} to disk", dir.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_choice_of_folder_comes_first() {
        let all = |name: &str| Some(OsString::from(format!("/{name}")));
        assert_eq!(choose(all), Some(PathBuf::from("/DETGATE_CACHE_DIR")));
        assert_eq!(choose(|_| None), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn xdg_is_followed_as_its_specification_says() {
        let with = |xdg: &'static str| {
            move |name: &str| match name {
                "XDG_CACHE_HOME" => Some(OsString::from(xdg)),
                "HOME" => Some(OsString::from("/home/u")),
                _ => None,
            }
        };
        assert_eq!(choose(with("/x")), Some(PathBuf::from("/x/detgate")));
        assert_eq!(choose(with("relative")), Some(PathBuf::from("/home/u/.cache/detgate")));
    }

    #[test]
    fn a_failed_fill_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let lock = lock(dir.path(), "entry").unwrap();
        let result = publish(dir.path(), "entry", &lock, |partial| {
            fs::write(partial.join("half"), "half")?;
            bail!("the network went away")
        });
        assert_eq!(result.unwrap_err().to_string(), "the network went away");
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["entry.lock"]);
    }

    #[test]
    fn a_new_entry_replaces_an_unusable_one_and_the_litter_of_a_killed_run() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("entry")).unwrap();
        fs::write(dir.path().join("entry/old"), "").unwrap();
        fs::create_dir(dir.path().join("entry.partial-1")).unwrap();
        let lock = lock(dir.path(), "entry").unwrap();
        publish(dir.path(), "entry", &lock, |partial| Ok(fs::write(partial.join("new"), "")?))
            .unwrap();
        assert!(dir.path().join("entry/new").exists() && !dir.path().join("entry/old").exists());
        assert!(!dir.path().join("entry.partial-1").exists());
    }

    #[test]
    fn two_writers_take_turns() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path(), "entry").unwrap();
        let root = dir.path().to_owned();
        let (sender, receiver) = std::sync::mpsc::channel();
        let second = std::thread::spawn(move || {
            let _lock = lock(&root, "entry").unwrap();
            sender.send(()).unwrap();
        });
        let wait = std::time::Duration::from_millis(200);
        assert!(receiver.recv_timeout(wait).is_err(), "the second writer did not wait");
        drop(held);
        receiver
            .recv_timeout(std::time::Duration::from_secs(10))
            .expect("the second writer never got its turn");
        second.join().unwrap();
    }
}
