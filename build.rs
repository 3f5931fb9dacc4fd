//! Gives the executables an rpath to the libtorch that `torch-sys` linked, so that they run without
//! `LD_LIBRARY_PATH`. (A library's build script cannot do this for the executables that use it.)

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Ok(libtorch) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}");
    }
}
