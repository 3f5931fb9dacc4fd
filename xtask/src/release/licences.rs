//! The licence texts of everything that an archive holds: a folder for each crate, for Rust's library and for each wheel.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use xshell::{Shell, cmd};

use crate::project::{FEATURES, cargo, repository};

/// How the names of such files begin, in capitals.
const BEGINNINGS: [&str; 5] = ["LICEN", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

/// What cargo says of the packages.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// `build`, `dev`, or nothing for what is linked.
    kind: Option<String>,
}

/// Copies all texts into `into`, with a list of who is under which.
///
/// # Errors
/// When there is no text of something.
pub(super) fn collect(sh: &Shell, torch: &Path, python: &Path, into: &Path) -> Result<()> {
    let mut list =
        String::from("detgate is under MIT OR Apache-2.0. It is linked with, or comes with:\n\n");
    for package in linked(sh)? {
        let licence = package.license.as_deref().unwrap_or("see its file");
        let name = format!("{}-{}", package.name, package.version);
        let folder = package.manifest_path.with_file_name("");
        if copy_texts(&folder, &into.join("rust").join(&name))? == 0 {
            // Where a package lacks the text, this is the licence among its own that asks for no line of copyright.
            ensure!(
                licence.contains("Apache-2.0"),
                "{name} ({licence}) comes without a licence text"
            );
            let (text, target) =
                (repository().join("LICENSE-APACHE"), into.join("rust").join(&name));
            sh.create_dir(&target)?;
            sh.copy_file(text, &target)?;
        }
        list += &format!("  rust/{name}: {licence}\n");
    }
    let sysroot = cmd!(sh, "rustc --print sysroot").quiet().read()?;
    let rust = Path::new(&sysroot).join("share/doc/rust");
    let copied = copy_texts(&rust, &into.join("rust-library"))?
        + copy_all(&rust.join("licenses"), &into.join("rust-library"))?;
    ensure!(copied > 0, "{} holds no licence texts", rust.display());
    list += "  rust-library: MIT OR Apache-2.0, and what COPYRIGHT-library.html names\n";
    let wheels = torch.join("licenses");
    ensure!(copy_all(&wheels, into)? > 0, "{} holds no licence texts", wheels.display());
    for wheel in sh.read_dir(&wheels)? {
        let name = wheel.file_name().unwrap_or_default().to_string_lossy();
        list += &format!("  {name}: as its files say\n");
    }
    if cfg!(target_arch = "x86_64") {
        copy_mkl(sh, python, &into.join("onemkl"))?;
        list += "  onemkl: Intel Simplified Software License; libtorch_cpu.so has Intel oneMKL linked in\n";
    }
    list += "  fixtures/demo: as its LICENSES.md says\n";
    list += "\nlib/libgomp.so.1 is of GCC: GPL-3.0-or-later with the GCC Runtime Library Exception 3.1, both in rust-library; \
             its source is at https://gcc.gnu.org.\n";
    sh.write_file(into.join("README.txt"), list)?;
    Ok(())
}

/// Copies the texts of Intel oneMKL, which PyTorch's wheel comes without, from the package `onemkl-license` of `python`.
fn copy_mkl(sh: &Shell, python: &Path, into: &Path) -> Result<()> {
    let script = "import importlib.metadata as m\n\
                  for file in m.files('onemkl-license'): print(file.locate())";
    let listed = cmd!(sh, "{python} -c {script}").quiet().read()?;
    sh.create_dir(into)?;
    for file in listed.lines().map(Path::new) {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("LICENSE") || name.starts_with("third-party") {
            sh.copy_file(file, into)?;
        }
    }
    ensure!(into.join("LICENSE.txt").is_file(), "onemkl-license holds no LICENSE.txt");
    Ok(())
}

/// The packages that are linked into the program, itself left out, by name.
fn linked(sh: &Shell) -> Result<Vec<Package>> {
    let (cargo, manifest) = (cargo(), repository().join("Cargo.toml"));
    let host = cmd!(sh, "rustc --print host-tuple").quiet().read()?;
    let options =
        ["--format-version", "1", "--locked", "--features", FEATURES, "--filter-platform", &host];
    let text = cmd!(sh, "{cargo} metadata {options...} --manifest-path {manifest}")
        .quiet()
        .ignore_stderr()
        .read()?;
    let metadata: Metadata = serde_json::from_str(&text).context("cannot read cargo's metadata")?;
    Ok(reached(metadata))
}

/// What is reached from `detgate` without what only builds or tests it.
fn reached(metadata: Metadata) -> Vec<Package> {
    let nodes: BTreeMap<&str, &Node> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let is_root = |package: &&Package| package.name == "detgate";
    let root: Option<&str> =
        metadata.packages.iter().find(is_root).map(|package| package.id.as_str());
    let (mut open, mut seen) = (Vec::from_iter(root), BTreeSet::new());
    while let Some(node) = open.pop().and_then(|id| nodes.get(id)) {
        let linked =
            node.deps.iter().filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind.is_none()));
        open.extend(linked.map(|dep| dep.pkg.as_str()).filter(|id| seen.insert(id.to_string())));
    }
    let mut packages: Vec<Package> =
        metadata.packages.into_iter().filter(|package| seen.contains(&package.id)).collect();
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    packages
}

/// Copies the licence texts below a folder, as they lie in it; returns how many that were.
fn copy_texts(from: &Path, into: &Path) -> Result<usize> {
    copy_if(from, into, &|name| {
        BEGINNINGS.iter().any(|start| name.to_uppercase().starts_with(start))
    })
}

fn copy_all(from: &Path, into: &Path) -> Result<usize> {
    copy_if(from, into, &|_| true)
}

fn copy_if(from: &Path, into: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<usize> {
    let mut copied = 0;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type()?.is_dir() {
            copied += copy_if(&path, &into.join(&name), wanted)?;
        } else if wanted(&name.to_string_lossy()) {
            fs::create_dir_all(into)?;
            fs::copy(&path, into.join(&name))
                .with_context(|| format!("cannot copy {}", path.display()))?;
            copied += 1;
        }
    }
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_builds_or_tests_is_not_linked() {
        let package = |name: &str| {
            format!(
                r#"{{"id":"{name}","name":"{name}","version":"1","license":"MIT","manifest_path":"/x/Cargo.toml"}}"#
            )
        };
        let node = |name: &str, deps: &str| format!(r#"{{"id":"{name}","deps":[{deps}]}}"#);
        let dep = |name: &str, kind: &str| {
            format!(r#"{{"pkg":"{name}","dep_kinds":[{{"kind":{kind}}}]}}"#)
        };
        let deps = [dep("a", "null"), dep("b", r#""dev""#), dep("c", r#""build""#)].join(",");
        let nodes = [
            node("detgate", &deps),
            node("a", &dep("d", "null")),
            node("b", ""),
            node("c", &dep("e", "null")),
            node("d", ""),
            node("e", ""),
        ];
        let packages = ["detgate", "a", "b", "c", "d", "e"].map(package).join(",");
        let text =
            format!(r#"{{"packages":[{packages}],"resolve":{{"nodes":[{}]}}}}"#, nodes.join(","));
        let names: Vec<_> =
            reached(serde_json::from_str(&text).unwrap()).into_iter().map(|p| p.name).collect();
        assert_eq!(names, ["a", "d"]);
    }

    #[test]
    fn licence_texts_are_found_wherever_they_lie_in_a_package() {
        let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("vendor")).unwrap();
        for file in ["LICENSE-MIT", "vendor/copying.txt", "src.rs"] {
            fs::write(from.path().join(file), file).unwrap();
        }
        assert_eq!(copy_texts(from.path(), into.path()).unwrap(), 2);
        assert_eq!(
            fs::read_to_string(into.path().join("vendor/copying.txt")).unwrap(),
            "vendor/copying.txt"
        );
    }
}
