//! Which libtorch is used: the user's, where `LIBTORCH` or `LIBTORCH_USE_PYTORCH` says so; otherwise the pinned one in
//! the cache, fetched once.
//!
//! Deliberately absent: CUDA. detgate runs on CPU, and the Linux wheels' CUDA half is left in the wheel.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cache;
use crate::fetch::{self, Source};
use crate::pins::{self, Platform};

/// A libtorch to build and run with.
#[derive(Debug, PartialEq)]
pub(crate) enum Libtorch {
    /// The folder that the user's `LIBTORCH` names, as it is.
    Users(PathBuf),
    /// The PyTorch of the user's Python (`LIBTORCH_USE_PYTORCH`), as it is.
    UsersPython,
    /// The pinned one, in this folder of the cache, which may not exist yet.
    Pinned(PathBuf),
}

/// Says which libtorch is used, without fetching anything. The rules are torch-sys's: `LIBTORCH_USE_PYTORCH` counts
/// before `LIBTORCH`.
///
/// # Errors
/// When there is neither a setting nor a pinned libtorch for this platform.
pub(crate) fn locate() -> Result<Libtorch> {
    locate_with(|name| std::env::var_os(name))
}

fn locate_with(var: impl Fn(&str) -> Option<OsString>) -> Result<Libtorch> {
    if var("LIBTORCH_USE_PYTORCH").is_some() {
        return Ok(Libtorch::UsersPython);
    }
    match var("LIBTORCH").filter(|dir| !dir.is_empty()) {
        Some(dir) => Ok(Libtorch::Users(dir.into())),
        None => Ok(Libtorch::Pinned(cache::root()?.join(folder_name(pins::host()?)))),
    }
}

/// As [`locate`], and fetches the pinned libtorch if it is not in the cache. Silent when there is nothing to do.
///
/// # Errors
/// When it cannot be fetched, is not the pinned one, or does not fit on the disk. Nothing half-made is left.
pub(crate) fn provide() -> Result<Libtorch> {
    let libtorch = locate()?;
    if let Libtorch::Pinned(_) = &libtorch {
        let root = cache::root()?;
        install(&root, pins::host()?, &fetch::Pip { cache_root: root.clone() })?;
    }
    Ok(libtorch)
}

impl Libtorch {
    /// The variables under which cargo must run for torch-sys to use this libtorch. The value never changes for the
    /// same pins, or cargo would compile torch-sys again.
    pub(crate) fn build_env(&self) -> Vec<(&'static str, OsString)> {
        match self {
            Libtorch::Pinned(dir) => vec![("LIBTORCH", dir.into())],
            Libtorch::Users(_) | Libtorch::UsersPython => Vec::new(),
        }
    }

    /// The folder for `LIBTORCH`.
    ///
    /// # Errors
    /// When it is the user's PyTorch, which torch-sys asks for itself.
    pub(crate) fn folder(&self) -> Result<&Path> {
        match self {
            Libtorch::Pinned(dir) | Libtorch::Users(dir) => Ok(dir),
            Libtorch::UsersPython => {
                bail!("LIBTORCH_USE_PYTORCH is set: libtorch is in your Python's torch package")
            }
        }
    }

    /// The folder of shared libraries, where it is known without asking Python.
    pub(crate) fn library_dir(&self) -> Option<PathBuf> {
        match self {
            Libtorch::Pinned(dir) => Some(dir.join("lib")),
            Libtorch::Users(dir) => Some(
                std::env::var_os("LIBTORCH_LIB").map_or(dir.clone(), PathBuf::from).join("lib"),
            ),
            Libtorch::UsersPython => None,
        }
    }

    /// The variable by which the dynamic loader finds the libraries, the folder put before what it already holds.
    /// Needed where there is no rpath: on Windows always, elsewhere for doctests, which cargo links without it.
    pub(crate) fn loader_env(&self) -> Option<(&'static str, OsString)> {
        let name = if cfg!(windows) {
            "PATH"
        } else if cfg!(target_os = "macos") {
            "DYLD_LIBRARY_PATH"
        } else {
            "LD_LIBRARY_PATH"
        };
        let mut dirs = vec![self.library_dir()?];
        dirs.extend(std::env::var_os(name).iter().flat_map(std::env::split_paths));
        Some((name, std::env::join_paths(dirs).ok()?))
    }
}

/// Fetches `platform`'s libtorch into the cache unless it is there; returns its folder.
///
/// # Errors
/// As [`provide`].
pub(crate) fn install(root: &Path, platform: &Platform, source: &dyn Source) -> Result<PathBuf> {
    let name = folder_name(platform);
    let dir = root.join(&name);
    if damage(&dir, platform).is_none() {
        return Ok(dir);
    }
    let lock = cache::lock(root, &name)?;
    match damage(&dir, platform) {
        None => return Ok(dir),
        Some(reason) if dir.exists() => {
            eprintln!("the cached libtorch is damaged and is fetched again: {reason}")
        }
        Some(_) => {}
    }
    cache::publish(root, &name, &lock, |partial| fill(partial, platform, source))?;
    Ok(dir)
}

fn fill(partial: &Path, platform: &Platform, source: &dyn Source) -> Result<()> {
    let wheels = partial.join("wheels");
    fs::create_dir(&wheels).with_context(|| format!("cannot make {}", wheels.display()))?;
    source.fetch(platform, &wheels)?;
    eprintln!("unpacking libtorch");
    let manifest = fetch::unpack(platform, &wheels, partial)?;
    fs::remove_dir_all(&wheels).with_context(|| format!("cannot remove {}", wheels.display()))?;
    write_durably(&partial.join("build-version"), pins::LIBTORCH)?;
    write_durably(&partial.join(MANIFEST), &manifest)?;
    cache::sync_dir(partial)
}

/// A line `SHA-256  bytes  name` for each library in `lib/`.
const MANIFEST: &str = "libraries.sha256";

fn write_durably(path: &Path, text: &str) -> Result<()> {
    let write = || {
        fs::write(path, text)?;
        fs::File::options().write(true).open(path)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// What is taken out of the wheels; another number, where that changes.
const LAYOUT: &str = "2";

/// The cache folder's name: readable, and another one whenever any pin of the platform changes, or what is unpacked.
pub(crate) fn folder_name(platform: &Platform) -> String {
    let digests = platform.wheels.iter().map(|wheel| wheel.sha256);
    let parts: Vec<&str> = digests.chain([LAYOUT]).collect();
    // Reading from memory cannot fail.
    let key = fetch::sha256(&mut parts.concat().as_bytes()).unwrap_or_default();
    format!("libtorch-{}-{}-{}", pins::LIBTORCH, platform.name, &key[..8.min(key.len())])
}

/// Why the folder is not a complete libtorch, judged in microseconds by presence and size: the folder appeared all at
/// once, so only later damage (a full disk, a clean-up tool) can be found here. [`corruption`] looks closer.
pub(crate) fn damage(dir: &Path, platform: &Platform) -> Option<String> {
    let manifest = match fs::read_to_string(dir.join(MANIFEST)) {
        Ok(text) => text,
        Err(error) => return Some(format!("{}: {error}", dir.join(MANIFEST).display())),
    };
    let version = fs::read_to_string(dir.join("build-version")).unwrap_or_default();
    if version != pins::LIBTORCH {
        return Some(format!("{} says `{version}`", dir.join("build-version").display()));
    }
    if platform.wheels.iter().any(|wheel| wheel.include_dir.is_some())
        && !dir.join("include").is_dir()
    {
        return Some(format!("{} is missing", dir.join("include").display()));
    }
    for library in platform.wheels.iter().flat_map(|wheel| wheel.libraries) {
        let path = dir.join("lib").join(library);
        let Some((_, bytes)) = manifest_entry(&manifest, library) else {
            return Some(format!("{library} is not in {}", dir.join(MANIFEST).display()));
        };
        match fs::metadata(&path) {
            Ok(found) if found.len() == bytes => {}
            Ok(found) => {
                return Some(format!("{} has {} bytes, not {bytes}", path.display(), found.len()));
            }
            Err(error) => return Some(format!("{}: {error}", path.display())),
        }
    }
    None
}

/// Why a library in the folder is not the one that was installed, judged by its SHA-256 (about a second).
pub(crate) fn corruption(dir: &Path) -> Option<String> {
    let manifest = fs::read_to_string(dir.join(MANIFEST)).ok()?;
    for line in manifest.lines() {
        let mut words = line.split_whitespace();
        let (Some(expected), Some(_), Some(name)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let path = dir.join("lib").join(name);
        match fs::File::open(&path).and_then(|mut file| fetch::sha256(&mut file)) {
            Ok(digest) if digest == expected => {}
            Ok(_) => {
                return Some(format!("{} has changed since it was installed", path.display()));
            }
            Err(error) => return Some(format!("{}: {error}", path.display())),
        }
    }
    None
}

/// The version of the libtorch in a folder: what `build-version` says, else the headers; `None` where neither is there.
pub(crate) fn version(dir: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(dir.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let header = fs::read_to_string(dir.join("include/torch/headeronly/version.h"))
        .or_else(|_| fs::read_to_string(dir.join("include/torch/csrc/api/include/torch/version.h")))
        .ok()?;
    let part = |name: &str| {
        let line = header
            .lines()
            .find(|line| line.starts_with(&format!("#define TORCH_VERSION_{name} ")))?;
        line.split_whitespace().nth(2)
    };
    Some(format!("{}.{}.{}", part("MAJOR")?, part("MINOR")?, part("PATCH")?))
}

fn manifest_entry<'a>(manifest: &'a str, library: &str) -> Option<(&'a str, u64)> {
    manifest.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [digest, bytes, name] = words[..] else {
            return None;
        };
        (name == library).then_some((digest, bytes.parse().ok()?))
    })
}

#[cfg(test)]
#[path = "libtorch_tests.rs"]
mod tests;
