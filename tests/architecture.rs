//! Rules of the code base that a compiler does not check, and why each one is a rule.

use std::path::{Path, PathBuf};

/// The library's modules in the order in which data flows (`ARCHITECTURE.md`).
const ORDER: [&str; 11] = [
    "config",
    "dataset",
    "detections",
    "checkpoint",
    "model",
    "inference",
    "matching",
    "metrics",
    "gate",
    "registry",
    "report",
];

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn sources(module: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(module);
    rust_files(&folder)
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            // The rules are for what ships; unit tests stand at the end of a file.
            let shipped = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
            (path, shipped)
        })
        .collect()
}

/// A module that knows what comes after it cannot be tested, replaced or understood alone.
#[test]
fn a_module_uses_only_what_stands_before_it() {
    for (index, module) in ORDER.iter().enumerate() {
        for (path, text) in sources(module) {
            for later in &ORDER[index + 1..] {
                let uses = text
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"))
                    .any(|line| line.contains(&format!("crate::{later}")));
                assert!(!uses, "{} uses `{later}`, which comes after `{module}`", path.display());
            }
        }
    }
}

/// Metrics, gate and report must build and be tested on machines without libtorch.
#[test]
fn only_model_knows_libtorch() {
    for module in ORDER.iter().filter(|module| **module != "model") {
        for (path, text) in sources(module) {
            assert!(!text.contains("tch::"), "{} uses tch", path.display());
        }
    }
}

/// Whoever embeds the library decides what is said to whom.
#[test]
fn the_library_does_not_print() {
    for module in ORDER {
        for (path, text) in sources(module) {
            for printing in ["println!(", "print!(", "dbg!("] {
                assert!(!text.contains(printing), "{} contains {printing}", path.display());
            }
        }
    }
}

/// A run's numbers must not depend on variables that a report does not show.
#[test]
fn only_config_reads_the_environment() {
    for module in ORDER.iter().filter(|module| **module != "config") {
        for (path, text) in sources(module) {
            assert!(!text.contains("env::var"), "{} reads the environment", path.display());
        }
    }
}

/// A fixture that was edited by hand no longer is what its generator makes.
#[test]
fn fixtures_are_what_their_lists_say() {
    use sha2::{Digest, Sha256};
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for entry in std::fs::read_dir(fixtures).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let list = std::fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
        assert!(!list.trim().is_empty(), "{}", folder.display());
        for line in list.lines() {
            let (expected, name) = line.split_once("  ").unwrap();
            let bytes = std::fs::read(folder.join(name)).unwrap();
            let digest: String =
                Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digest, expected, "{}", folder.join(name).display());
        }
    }
}
