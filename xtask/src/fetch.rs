//! Fetches wheels through the user's pip, checks them by SHA-256, and unpacks what is needed of them.
//!
//! Deliberately absent: retries and resuming. pip has both, and its cache makes a second attempt cheap.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::cache::sync_dir;
use crate::pins::{Platform, WHEEL_PYTHON, Wheel};
use crate::python;

/// Where wheels come from. Tests have one that copies; the program has [`Pip`].
pub(crate) trait Source {
    /// Puts the files of all the platform's wheels into the folder `into`.
    ///
    /// # Errors
    /// When one cannot be had.
    fn fetch(&self, platform: &Platform, into: &Path) -> Result<()>;
}

/// The user's pip, with the user's settings.
pub(crate) struct Pip {
    /// Where a pip is made if Python has none.
    pub(crate) cache_root: PathBuf,
}

impl Source for Pip {
    fn fetch(&self, platform: &Platform, into: &Path) -> Result<()> {
        let python = python::find()?.with_pip(&self.cache_root)?;
        let bytes: u64 = platform.wheels.iter().map(|wheel| wheel.bytes).sum();
        eprintln!(
            "fetching libtorch once, {} MB, into {}",
            bytes / 1_000_000,
            self.cache_root.display()
        );
        let list = into.join("requirements.txt");
        fs::write(&list, requirements(platform))
            .with_context(|| format!("cannot write {}", list.display()))?;
        let mut pip = python::pip(&python, "download");
        pip.arg("--no-deps")
            .args(wheel_options(platform))
            .arg("--dest")
            .arg(into)
            .arg("-r")
            .arg(&list);
        python::run(&mut pip)
            .context("cannot fetch libtorch from your package index (the reason stands above)")
    }
}

/// The table's rows as pip reads them. `===` and the digest keep an index with `2.13.0+cpu` from offering that instead.
fn requirements(platform: &Platform) -> String {
    let lines = platform
        .wheels
        .iter()
        .map(|w| format!("{}==={} --hash=sha256:{}\n", w.name, w.version, w.sha256));
    lines.collect()
}

/// Makes pip choose for the pinned platform and CPython instead of the host's Python.
pub(crate) fn wheel_options(platform: &Platform) -> Vec<&'static str> {
    let (version, abi) = WHEEL_PYTHON;
    let mut options =
        vec!["--only-binary=:all:", "--implementation", "cp", "--python-version", version];
    for abi in [abi, "abi3", "none"] {
        options.extend(["--abi", abi]);
    }
    for tag in platform.pip_platforms {
        options.extend(["--platform", *tag]);
    }
    options
}

/// Checks the fetched wheels in `wheels` and unpacks `lib/`, `include/` and `licenses/` into `into`, everything flushed
/// to disk.
/// Returns a line `SHA-256  bytes  name` for each library.
///
/// # Errors
/// When a wheel is missing, is not the pinned one, or cannot be read, or the disk is full.
pub(crate) fn unpack(platform: &Platform, wheels: &Path, into: &Path) -> Result<String> {
    let mut manifest = String::new();
    for wheel in platform.wheels {
        let path = wheels.join(wheel.file);
        let mut file = File::open(&path)
            .with_context(|| format!("cannot open the fetched {}", path.display()))?;
        verify(&mut file, wheel)?;
        // The handle that was checked is the one that is read.
        let mut archive =
            ZipArchive::new(file).with_context(|| format!("{} is not a wheel", path.display()))?;
        unpack_libraries(&mut archive, wheel, &into.join("lib"), &mut manifest)?;
        if let Some(dir) = wheel.include_dir {
            unpack_folder(&mut archive, dir, &into.join("include"))?;
        }
        let licences =
            format!("{}-{}.dist-info/licenses", wheel.name.replace('-', "_"), wheel.version);
        unpack_folder(&mut archive, &licences, &into.join("licenses").join(wheel.name))?;
    }
    Ok(manifest)
}

/// Compares a file with the pinned digest and rewinds it.
fn verify(file: &mut File, wheel: &Wheel) -> Result<()> {
    let digest = sha256(file).with_context(|| format!("cannot read {}", wheel.file))?;
    ensure!(
        digest == wheel.sha256,
        "{} from your package index is not the pinned file: its SHA-256 is {digest}, expected {}; \
         if you use a mirror, it is damaged or holds another build, and nothing was installed",
        wheel.file,
        wheel.sha256
    );
    file.rewind().with_context(|| format!("cannot read {}", wheel.file))
}

/// SHA-256 of what is left in a reader, in lower-case hexadecimal.
pub(crate) fn sha256(reader: &mut impl Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer)? {
            0 => {
                return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
            }
            n => hasher.update(&buffer[..n]),
        }
    }
}

fn unpack_libraries(
    archive: &mut ZipArchive<File>,
    wheel: &Wheel,
    lib: &Path,
    manifest: &mut String,
) -> Result<()> {
    fs::create_dir_all(lib).with_context(|| format!("cannot make {}", lib.display()))?;
    for name in wheel.libraries {
        let inside = format!("{}/{name}", wheel.library_dir);
        let mut entry = archive
            .by_name(&inside)
            .with_context(|| format!("{} does not hold {inside}", wheel.file))?;
        let target = lib.join(name);
        let bytes = write_durably(&mut entry, &target)?;
        let mut written =
            File::open(&target).with_context(|| format!("cannot read {}", target.display()))?;
        let digest =
            sha256(&mut written).with_context(|| format!("cannot read {}", target.display()))?;
        manifest.push_str(&format!("{digest}  {bytes}  {name}\n"));
    }
    sync_dir(lib)
}

fn unpack_folder(archive: &mut ZipArchive<File>, prefix: &str, into: &Path) -> Result<()> {
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    let (mut folders, mut files) = (vec![into.to_owned()], Vec::new());
    for index in 0..archive.len() {
        let mut entry =
            archive.by_index(index).context("the wheel's table of contents is damaged")?;
        // `enclosed_name` refuses `..` and absolute paths.
        let Some(name) = entry.enclosed_name() else {
            continue;
        };
        let Ok(relative) = name.strip_prefix(prefix) else {
            continue;
        };
        if entry.is_dir() {
            continue;
        }
        let target = into.join(relative);
        if let Some(parent) = target.parent()
            && !parent.exists()
        {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot make {}", parent.display()))?;
            folders.push(parent.to_owned());
        }
        File::create(&target)
            .and_then(|mut file| io::copy(&mut entry, &mut file))
            .with_context(|| format!("cannot unpack {}", target.display()))?;
        files.push(target);
    }
    sync_files(&files)?;
    folders.iter().try_for_each(|folder| sync_dir(folder))
}

/// Flushes many small files to disk, several at a time: the file system then commits them together, which for the
/// 10,000 headers takes seconds instead of half a minute.
fn sync_files(files: &[PathBuf]) -> Result<()> {
    const AT_A_TIME: usize = 32;
    let sync = |path: &PathBuf| {
        // Windows flushes only through a handle that may write.
        File::options()
            .write(true)
            .open(path)
            .and_then(|file| file.sync_all())
            .with_context(|| format!("cannot flush {} to disk", path.display()))
    };
    let share = files.len().div_ceil(AT_A_TIME).max(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = files
            .chunks(share)
            .map(|files| scope.spawn(move || files.iter().try_for_each(sync)))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}

fn write_durably(from: &mut impl Read, path: &Path) -> Result<u64> {
    let mut write = || -> io::Result<u64> {
        let mut file = File::create(path)?;
        let bytes = io::copy(from, &mut file)?;
        file.flush()?;
        file.sync_all()?;
        Ok(bytes)
    };
    write().with_context(|| format!("cannot unpack {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pins::PLATFORMS;

    #[test]
    fn pip_is_asked_for_the_pinned_platform_whatever_the_host_is() {
        let windows = PLATFORMS.iter().find(|platform| platform.os == "windows").unwrap();
        let options = wheel_options(windows).join(" ");
        assert!(options.contains("--platform win_amd64"), "{options}");
        assert!(options.contains("--python-version 3.11 --abi cp311"), "{options}");
    }

    #[test]
    fn every_requirement_carries_its_digest() {
        for platform in PLATFORMS {
            let text = requirements(platform);
            assert_eq!(text.lines().count(), platform.wheels.len());
            assert!(
                text.lines().all(|line| line.contains("===") && line.contains(" --hash=sha256:")),
                "{text}"
            );
        }
    }

    #[test]
    fn sha256_is_the_published_one() {
        let digest = sha256(&mut &b"abc"[..]).unwrap();
        assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
