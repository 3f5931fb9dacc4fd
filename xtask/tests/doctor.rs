//! `doctor` against libtorch folders that are broken in the ways that happen: the libraries are small, but real, and
//! the system's loader is what refuses them.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A folder in libtorch's shape: `libtorch_cpu.so` needs `libc10.so` and `libcudart.so.13`, as the real one does.
fn libtorch() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let lib = dir.path().join("lib");
    fs::create_dir(&lib).unwrap();
    fs::write(dir.path().join("build-version"), "2.13.0\n").unwrap();
    // A megabyte of data, so that cutting the file short cuts what the loader maps.
    library(&lib, "libc10.so", "char c10_data[1 << 20] = {1}; int c10(void) { return 1; }", &[]);
    library(&lib, "libcudart.so.13", "int cudart(void) { return 1; }", &[]);
    let source = "int c10(void); int cudart(void); int torch(void) { return c10() + cudart(); }";
    library(&lib, "libtorch_cpu.so", source, &["libc10.so", "libcudart.so.13"]);
    dir
}

fn library(lib: &Path, name: &str, source: &str, needs: &[&str]) {
    let code = lib.join("code.c");
    fs::write(&code, source).unwrap();
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wl,-rpath,$ORIGIN", "-o"])
        .arg(lib.join(name))
        .arg(format!("-Wl,-soname,{name}"))
        .arg(&code)
        .args(needs.iter().map(|needed| lib.join(needed)))
        .status()
        .unwrap();
    assert!(status.success());
}

/// What doctor says about libtorch, having checked that its exit code agrees with its lines.
fn diagnosis(libtorch: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("doctor")
        .env("LIBTORCH", libtorch)
        .env_remove("LIBTORCH_USE_PYTORCH")
        .env_remove("LIBTORCH_LIB")
        // No network: the index is another line's matter.
        .env("PIP_NO_INDEX", "1")
        .env("PIP_FIND_LINKS", "")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let missing = text.lines().any(|line| line.starts_with("MISSING"));
    assert_eq!(output.status.code(), Some(if missing { 2 } else { 0 }), "{text}");
    let line = text.lines().find(|line| line.split_whitespace().nth(1) == Some("libtorch"));
    line.unwrap_or_else(|| panic!("no line about libtorch in:\n{text}")).to_owned()
}

#[test]
fn a_whole_libtorch_is_good() {
    let dir = libtorch();
    let line = diagnosis(dir.path());
    assert!(line.starts_with("ok") && line.contains("2.13.0 loads and fits tch 0.26.0"), "{line}");
}

#[test]
fn a_missing_dependency_is_named_with_the_library_that_needs_it() {
    let dir = libtorch();
    fs::remove_file(dir.path().join("lib/libcudart.so.13")).unwrap();
    let line = diagnosis(dir.path());
    assert!(
        line.contains("does not load: libcudart.so.13 is missing, needed by libtorch_cpu.so; fix:"),
        "{line}"
    );
}

#[test]
fn a_missing_library_is_named() {
    let dir = libtorch();
    fs::remove_file(dir.path().join("lib/libtorch_cpu.so")).unwrap();
    let line = diagnosis(dir.path());
    assert!(line.contains("libtorch_cpu.so is missing in"), "{line}");
}

/// Depending on where a file ends, the loader refuses it or is killed by it: both must end in the sentence.
#[test]
fn a_library_that_was_cut_short_is_named() {
    for bytes in [0, 10, 100, 5_000, 500_000] {
        let dir = libtorch();
        let file = fs::File::options().write(true).open(dir.path().join("lib/libc10.so")).unwrap();
        file.set_len(bytes).unwrap();
        let line = diagnosis(dir.path());
        assert!(
            line.starts_with("MISSING") && line.contains("libc10.so"),
            "{bytes} bytes left: {line}"
        );
        assert!(line.contains("cut short or damaged"), "{bytes} bytes left: {line}");
    }
}

#[test]
fn another_version_is_refused_with_both_numbers() {
    let dir = libtorch();
    fs::write(dir.path().join("build-version"), "2.4.0+cpu\n").unwrap();
    let line = diagnosis(dir.path());
    assert!(line.contains("holds version 2.4.0, but tch 0.26.0 needs 2.13.0"), "{line}");
}

#[test]
fn the_headers_tell_the_version_where_build_version_is_absent() {
    let dir = libtorch();
    fs::remove_file(dir.path().join("build-version")).unwrap();
    assert!(diagnosis(dir.path()).contains("has neither build-version nor headers"));
    let headers = dir.path().join("include/torch/headeronly");
    fs::create_dir_all(&headers).unwrap();
    let text = "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 13\n#define TORCH_VERSION_PATCH 0\n";
    fs::write(headers.join("version.h"), text).unwrap();
    assert!(diagnosis(dir.path()).starts_with("ok"));
}

#[test]
fn a_libtorch_that_is_no_folder_is_said_to_be_none() {
    assert!(
        diagnosis(Path::new("/nonexistent/libtorch"))
            .contains("/nonexistent/libtorch is not a folder")
    );
}
