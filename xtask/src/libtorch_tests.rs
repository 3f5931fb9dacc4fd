//! Provisioning with small wheels: complete or absent, whatever happens on the way.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};

use super::*;
use crate::pins::Wheel;

/// Copies wheels from a folder and counts how often it was asked.
struct Folder {
    dir: PathBuf,
    asked: AtomicUsize,
}

impl Folder {
    fn new(dir: &Path) -> Folder {
        Folder { dir: dir.to_owned(), asked: AtomicUsize::new(0) }
    }
}

impl Source for Folder {
    fn fetch(&self, platform: &Platform, into: &Path) -> Result<()> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        for wheel in platform.wheels {
            fs::copy(self.dir.join(wheel.file), into.join(wheel.file))?;
        }
        Ok(())
    }
}

struct Unreachable;

impl Source for Unreachable {
    fn fetch(&self, _: &Platform, into: &Path) -> Result<()> {
        fs::write(into.join("fake.whl.part"), "half of it")?;
        bail!("cannot reach the index")
    }
}

/// `megabytes` that do not compress, so that unpacking takes time; the same ones each time.
fn noise(megabytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).take(megabytes << 17).flatten().collect()
}

/// Writes a wheel with two libraries, headers and a file that must not be unpacked; returns a platform that pins it.
fn platform_with_wheel(dir: &Path, megabytes: usize) -> &'static Platform {
    let path = dir.join("fake-1.whl");
    let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut add = |name: &str, content: &[u8]| {
        zip.start_file(name, options).unwrap();
        zip.write_all(content).unwrap();
    };
    add("torch/lib/liba.so", &noise(megabytes));
    add("torch/lib/libb.so.1", b"b");
    add("torch/lib/libtorch_cuda.so", b"not wanted");
    for header in 0..200 {
        add(&format!("torch/include/ATen/h{header}.h"), b"#pragma once\n");
    }
    add("fake-1.dist-info/licenses/LICENSE", b"free");
    add("torch/include/../../../escaped.h", b"not wanted either");
    zip.finish().unwrap();
    platform_pinning(dir)
}

/// A platform that pins the wheel in `dir`. (The table is `'static`; a test's row is leaked, once per test.)
fn platform_pinning(dir: &Path) -> &'static Platform {
    let path = dir.join("fake-1.whl");
    let sha256 = fetch::sha256(&mut File::open(&path).unwrap()).unwrap();
    let wheel = Wheel {
        name: "fake",
        version: "1",
        file: "fake-1.whl",
        sha256: sha256.leak(),
        bytes: 1,
        library_dir: "torch/lib",
        libraries: &["liba.so", "libb.so.1"],
        include_dir: Some("torch/include"),
    };
    let wheels = Box::leak(Box::new([wheel]));
    Box::leak(Box::new(Platform { name: "test", os: "", arch: "", pip_platforms: &[], wheels }))
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn unpacks_what_is_named_and_nothing_else_and_fetches_once() {
    let (wheels, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let platform = platform_with_wheel(wheels.path(), 1);
    let source = Folder::new(wheels.path());
    let dir = install(cache.path(), platform, &source).unwrap();
    assert_eq!(names(&dir), ["build-version", "include", "lib", "libraries.sha256", "licenses"]);
    assert_eq!(names(&dir.join("licenses/fake")), ["LICENSE"]);
    assert_eq!(names(&dir.join("lib")), ["liba.so", "libb.so.1"]);
    assert_eq!(fs::read(dir.join("lib/liba.so")).unwrap(), noise(1));
    assert_eq!(names(&dir.join("include/ATen")).len(), 200);
    assert_eq!(fs::read_to_string(dir.join("build-version")).unwrap(), pins::LIBTORCH);
    assert!(!cache.path().join("escaped.h").exists() && !dir.join("escaped.h").exists());

    assert_eq!(install(cache.path(), platform, &source).unwrap(), dir);
    assert_eq!(source.asked.load(Ordering::SeqCst), 1);
    assert_eq!(corruption(&dir), None);
}

#[test]
fn a_wheel_that_is_not_the_pinned_one_is_refused_by_digest() {
    let (wheels, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let platform = platform_with_wheel(wheels.path(), 1);
    let path = wheels.path().join("fake-1.whl");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error =
        install(cache.path(), platform, &Folder::new(wheels.path())).unwrap_err().to_string();
    assert!(error.contains("fake-1.whl") && error.contains(platform.wheels[0].sha256), "{error}");
    assert!(
        names(cache.path()).iter().all(|name| name.ends_with(".lock")),
        "{:?}",
        names(cache.path())
    );
}

#[test]
fn an_index_that_cannot_be_reached_leaves_nothing() {
    let (wheels, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let platform = platform_with_wheel(wheels.path(), 1);
    let error = install(cache.path(), platform, &Unreachable).unwrap_err();
    assert_eq!(error.to_string(), "cannot reach the index");
    assert!(
        names(cache.path()).iter().all(|name| name.ends_with(".lock")),
        "{:?}",
        names(cache.path())
    );
}

#[test]
fn a_library_that_lost_bytes_is_fetched_again() {
    let (wheels, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let platform = platform_with_wheel(wheels.path(), 1);
    let source = Folder::new(wheels.path());
    let dir = install(cache.path(), platform, &source).unwrap();
    fs::write(dir.join("lib/liba.so"), "cut short").unwrap();
    assert!(damage(&dir, platform).unwrap().contains("liba.so has 9 bytes"));
    install(cache.path(), platform, &source).unwrap();
    assert_eq!(damage(&dir, platform), None);
    assert_eq!(fs::metadata(dir.join("lib/liba.so")).unwrap().len(), 1 << 20);
}

#[test]
fn a_library_that_changed_at_equal_size_is_found_by_digest() {
    let (wheels, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let platform = platform_with_wheel(wheels.path(), 1);
    let dir = install(cache.path(), platform, &Folder::new(wheels.path())).unwrap();
    fs::write(dir.join("lib/libb.so.1"), "x").unwrap();
    assert_eq!(damage(&dir, platform), None);
    assert!(corruption(&dir).unwrap().contains("libb.so.1 has changed"));
}

#[test]
fn two_at_once_fetch_once() {
    let (wheels, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let platform = platform_with_wheel(wheels.path(), 8);
    let source = Folder::new(wheels.path());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| install(cache.path(), platform, &source).unwrap());
        }
    });
    assert_eq!(source.asked.load(Ordering::SeqCst), 1);
}

/// The parent starts this test again as a child that installs, and kills it (SIGKILL) after a time that grows from run
/// to run until a child finishes: every moment of the installation is hit, in steps of a few milliseconds.
#[test]
fn killed_at_any_moment_leaves_all_or_nothing() {
    const WHEELS: &str = "XTASK_TEST_WHEELS";
    const CACHE: &str = "XTASK_TEST_CACHE";
    if let (Some(wheels), Some(cache)) = (std::env::var_os(WHEELS), std::env::var_os(CACHE)) {
        let wheels = PathBuf::from(wheels);
        let platform = platform_pinning(&wheels);
        install(Path::new(&cache), platform, &Folder::new(&wheels)).unwrap();
        return;
    }
    let (wheels, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let platform = platform_with_wheel(wheels.path(), 24);
    let dir = cache.path().join(folder_name(platform));
    let (mut interrupted, mut delay) = (0, Duration::from_millis(2));
    loop {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "libtorch::tests::killed_at_any_moment_leaves_all_or_nothing"])
            .env(WHEELS, wheels.path())
            .env(CACHE, cache.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(delay);
        let finished = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let litter = names(cache.path()).iter().any(|name| name.contains(".partial-"));
        interrupted += usize::from(litter && !dir.exists());
        // What stands under the trusted name is whole, to the last byte.
        if dir.exists() {
            assert_eq!(damage(&dir, platform), None, "after {delay:?}");
            assert_eq!(corruption(&dir), None, "after {delay:?}");
            assert_eq!(names(&dir.join("include/ATen")).len(), 200, "after {delay:?}");
        }
        if let Some(status) = finished {
            assert!(status.success(), "{status}");
            break;
        }
        delay = delay * 5 / 4 + Duration::from_millis(3);
        assert!(delay < Duration::from_secs(120), "the child never finishes");
    }
    assert!(interrupted > 0, "no child was killed half-way: the test tested nothing");
    // The run that finished also cleaned up after those that did not.
    assert!(
        names(cache.path()).iter().all(|name| !name.contains(".partial-")),
        "{:?}",
        names(cache.path())
    );
}

#[test]
fn the_users_own_libtorch_is_used_as_it_is() {
    let only = |name: &'static str, value: &'static str| {
        move |asked: &str| (asked == name).then(|| OsString::from(value))
    };
    assert_eq!(
        locate_with(only("LIBTORCH", "/opt/libtorch")).unwrap(),
        Libtorch::Users("/opt/libtorch".into())
    );
    assert_eq!(locate_with(only("LIBTORCH_USE_PYTORCH", "1")).unwrap(), Libtorch::UsersPython);
    assert!(Libtorch::Users("/opt/libtorch".into()).build_env().is_empty());
    // An empty variable is none.
    assert!(matches!(locate_with(only("LIBTORCH", "")).unwrap(), Libtorch::Pinned(_)));
}

#[test]
fn the_loader_finds_the_library_before_what_it_already_knew() {
    let (_, value) = Libtorch::Pinned("/cache/libtorch".into()).loader_env().unwrap();
    assert_eq!(std::env::split_paths(&value).next().unwrap(), Path::new("/cache/libtorch/lib"));
}
