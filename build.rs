//! Gives the executables an rpath to the libtorch that torch-sys linked, so that they run without `LD_LIBRARY_PATH`.
//! (A library's build script cannot do this for the executables that use it.) And digests the sources that inference
//! depends on, for the prediction cache.
//!
//! torch-sys names the folder on Linux and macOS only, where `cc` is the linker and takes these flags. Windows has no
//! rpath: there `cargo xtask` puts the folder on `PATH`.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(libtorch) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        // One word per flag: `-Wl,-rpath,DIR` would break a folder's name at its commas.
        for flag in ["-Xlinker", "-rpath", "-Xlinker", &libtorch] {
            println!("cargo::rustc-link-arg={flag}");
        }
    }
    println!("cargo::rustc-env=DETGATE_INFERENCE_SOURCES={:016x}", inference_sources());
}

/// What turns the bytes of an image into detections, and nothing of what is done with these.
const SOURCES: [&str; 5] = [
    "src/checkpoint",
    "src/dataset/image",
    "src/detections/mod.rs",
    "src/inference/mod.rs",
    "src/model",
];
/// Crates that do so too.
const CRATES: [&str; 9] = [
    "flate2",
    "half",
    "image-webp",
    "mozjpeg",
    "mozjpeg-sys",
    "png",
    "safetensors",
    "tch",
    "torch-sys",
];

/// FNV-1a over the sources and over the versions of the crates.
fn inference_sources() -> u64 {
    let mut digest = Fnv(0xcbf2_9ce4_8422_2325);
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
        for file in files(Path::new(source)) {
            let text = std::fs::read(&file).unwrap_or_default();
            digest.update(file.to_string_lossy().replace('\\', "/").as_bytes());
            // Whatever git does to line ends.
            text.split(|&byte| byte == b'\r').for_each(|part| digest.update(part));
        }
    }
    // A dependency of another crate has no Cargo.lock of its own, and no inference.
    if let Ok(lock) = std::fs::read_to_string("Cargo.lock") {
        println!("cargo::rerun-if-changed=Cargo.lock");
        let is_ours = |package: &&str| {
            CRATES.iter().any(|name| package.contains(&format!("\nname = \"{name}\"\n")))
        };
        let lock = lock.replace('\r', "");
        lock.split("[[package]]")
            .filter(is_ours)
            .for_each(|package| digest.update(package.as_bytes()));
    }
    digest.0
}

/// All files in a folder and below it, sorted; or the file itself.
fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else { return vec![path.to_owned()] };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().flat_map(|path| files(path)).collect()
}

struct Fnv(u64);

impl Fnv {
    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
