//! Gives the executables an rpath to the libtorch that torch-sys linked, so that they run without `LD_LIBRARY_PATH`.
//! (A library's build script cannot do this for the executables that use it.)
//!
//! torch-sys names the folder on Linux and macOS only, where `cc` is the linker and takes these flags. Windows has no
//! rpath: there `cargo xtask` puts the folder on `PATH`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(libtorch) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        // One word per flag: `-Wl,-rpath,DIR` would break a folder's name at its commas.
        for flag in ["-Xlinker", "-rpath", "-Xlinker", &libtorch] {
            println!("cargo::rustc-link-arg={flag}");
        }
    }
}
