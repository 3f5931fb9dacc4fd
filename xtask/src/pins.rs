//! The one table of what is fetched: name, version, wheel and SHA-256 per platform.
//!
//! Everything here comes from PyPI (or the mirror that the user's pip is configured for) as wheels. The digests were
//! taken from the wheels themselves. To move a pin: change the version, `pip download` the wheel for each platform,
//! and enter its name, size and digest. `TCH` and `LIBTORCH` move together; a test holds them to `Cargo.lock`.
//!
//! Deliberately absent: the Python environments, whose pins are hash-locked requirements files beside this crate.

use anyhow::bail;

/// The tch release whose bindings fit [`LIBTORCH`].
pub(crate) const TCH: &str = "0.26.0";
/// The libtorch that tch's bindings were generated from; torch-sys refuses any other.
pub(crate) const LIBTORCH: &str = "2.13.0";

/// Wheels are fetched for this CPython whatever the host's Python is: only its native libraries are used.
pub(crate) const WHEEL_PYTHON: (&str, &str) = ("3.11", "cp311");

/// One wheel and what is taken out of it.
pub(crate) struct Wheel {
    /// The distribution's name on the index.
    pub(crate) name: &'static str,
    /// Its exact version, without a local part.
    pub(crate) version: &'static str,
    /// The file's name on the index.
    pub(crate) file: &'static str,
    /// SHA-256 of the file, in lower-case hexadecimal.
    pub(crate) sha256: &'static str,
    /// Its size in bytes, for messages and the check of free disk.
    pub(crate) bytes: u64,
    /// The folder inside the wheel that holds the libraries.
    pub(crate) library_dir: &'static str,
    /// The libraries to unpack into `lib/`.
    pub(crate) libraries: &'static [&'static str],
    /// The folder inside the wheel to unpack as `include/`, if any.
    pub(crate) include_dir: Option<&'static str>,
}

/// A platform that libtorch is provided for.
pub(crate) struct Platform {
    /// What the cache folder and messages call it.
    pub(crate) name: &'static str,
    /// `std::env::consts::OS`.
    pub(crate) os: &'static str,
    /// `std::env::consts::ARCH`.
    pub(crate) arch: &'static str,
    /// The platform tags to ask pip for.
    pub(crate) pip_platforms: &'static [&'static str],
    /// The wheels that together make up libtorch.
    pub(crate) wheels: &'static [Wheel],
}

/// The libraries that an executable linked by torch-sys loads itself, dependencies first. `libtorch` is linked but not
/// loaded: it is an empty shell, and the one in the Linux wheels asks for the CUDA half.
pub(crate) const fn loaded_libraries() -> &'static [&'static str] {
    if cfg!(windows) {
        &["c10.dll", "torch_cpu.dll"]
    } else if cfg!(target_os = "macos") {
        &["libc10.dylib", "libtorch_cpu.dylib"]
    } else {
        &["libc10.so", "libtorch_cpu.so"]
    }
}

/// The platforms, the tested one first. The others' digests are real, but nothing was run there.
pub(crate) const PLATFORMS: &[Platform] = &[
    Platform {
        name: "linux-x86_64",
        os: "linux",
        arch: "x86_64",
        pip_platforms: &["manylinux_2_28_x86_64", "manylinux_2_25_x86_64", "manylinux2014_x86_64"],
        wheels: &[
            Wheel {
                name: "torch",
                version: LIBTORCH,
                file: "torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl",
                sha256: "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7",
                bytes: 526_574_961,
                library_dir: "torch/lib",
                libraries: &["libc10.so", "libgomp.so.1", "libtorch.so", "libtorch_cpu.so"],
                include_dir: Some("torch/include"),
            },
            Wheel {
                name: "nvidia-cuda-runtime",
                version: "13.0.96",
                file: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
                sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
                bytes: 2_243_632,
                library_dir: "nvidia/cu13/lib",
                libraries: &["libcudart.so.13"],
                include_dir: None,
            },
            Wheel {
                name: "nvidia-cuda-cupti",
                version: "13.0.85",
                file: "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
                sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
                bytes: 10_715_597,
                library_dir: "nvidia/cu13/lib",
                libraries: &["libcupti.so.13"],
                include_dir: None,
            },
        ],
    },
    Platform {
        name: "linux-aarch64",
        os: "linux",
        arch: "aarch64",
        pip_platforms: &[
            "manylinux_2_28_aarch64",
            "manylinux_2_25_aarch64",
            "manylinux2014_aarch64",
        ],
        wheels: &[
            Wheel {
                name: "torch",
                version: LIBTORCH,
                file: "torch-2.13.0-cp311-cp311-manylinux_2_28_aarch64.whl",
                sha256: "092790c696a760c729fd5722835f50b9d81fd7c8f141571f3f3cf4081a8f664c",
                bytes: 427_199_369,
                library_dir: "torch/lib",
                // Read from the NEEDED entries of the wheel's libtorch_cpu.so, and theirs in turn.
                libraries: &[
                    "libarm_compute.so",
                    "libarm_compute_graph.so",
                    "libc10.so",
                    "libgomp.so.1",
                    "libnvpl_blas_core.so.0",
                    "libnvpl_blas_lp64_gomp.so.0",
                    "libnvpl_lapack_core.so.0",
                    "libnvpl_lapack_lp64_gomp.so.0",
                    "libtorch.so",
                    "libtorch_cpu.so",
                ],
                include_dir: Some("torch/include"),
            },
            Wheel {
                name: "nvidia-cuda-runtime",
                version: "13.0.96",
                file: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
                sha256: "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55",
                bytes: 2_261_060,
                library_dir: "nvidia/cu13/lib",
                libraries: &["libcudart.so.13"],
                include_dir: None,
            },
            Wheel {
                name: "nvidia-cuda-cupti",
                version: "13.0.85",
                file: "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_aarch64.whl",
                sha256: "796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151",
                bytes: 10_310_827,
                library_dir: "nvidia/cu13/lib",
                libraries: &["libcupti.so.13"],
                include_dir: None,
            },
        ],
    },
    Platform {
        name: "macos-aarch64",
        os: "macos",
        arch: "aarch64",
        pip_platforms: &["macosx_14_0_arm64"],
        wheels: &[Wheel {
            name: "torch",
            version: LIBTORCH,
            file: "torch-2.13.0-cp311-cp311-macosx_14_0_arm64.whl",
            sha256: "e76f9bcecc52b8ff711239a2f7547d5353df95878ab232f0773c1d95928b92f8",
            bytes: 111_187_938,
            library_dir: "torch/lib",
            libraries: &["libc10.dylib", "libomp.dylib", "libtorch.dylib", "libtorch_cpu.dylib"],
            include_dir: Some("torch/include"),
        }],
    },
    Platform {
        name: "windows-x86_64",
        os: "windows",
        arch: "x86_64",
        pip_platforms: &["win_amd64"],
        wheels: &[Wheel {
            name: "torch",
            version: LIBTORCH,
            file: "torch-2.13.0-cp311-cp311-win_amd64.whl",
            sha256: "a0d8b11f16a48d60e2015d8213aa0390744cbebb98e58b62b3514dddc656e330",
            bytes: 122_015_870,
            library_dir: "torch/lib",
            // The import libraries (.lib) are what the linker reads.
            libraries: &[
                "c10.dll",
                "c10.lib",
                "libiomp5md.dll",
                "torch.dll",
                "torch.lib",
                "torch_cpu.dll",
                "torch_cpu.lib",
                "uv.dll",
            ],
            include_dir: Some("torch/include"),
        }],
    },
];

/// The row for the machine this runs on.
///
/// # Errors
/// When libtorch is not published for it; the message says what else the user can do.
pub(crate) fn host() -> anyhow::Result<&'static Platform> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let row = PLATFORMS.iter().find(|platform| (platform.os, platform.arch) == (os, arch));
    match row {
        Some(platform) if !cfg!(target_env = "musl") => Ok(platform),
        _ => bail!(
            "there is no libtorch {LIBTORCH} to fetch for {os} {arch}{}: build it yourself and set LIBTORCH to its folder",
            if cfg!(target_env = "musl") { " with musl" } else { "" }
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wheel name says its version and platform; a row that was pasted from another would fetch the wrong machine code.
    #[test]
    fn every_wheel_is_for_its_own_row() {
        for platform in PLATFORMS {
            let arch_tag = match platform.name {
                "linux-x86_64" => "_x86_64.whl",
                "linux-aarch64" => "_aarch64.whl",
                "macos-aarch64" => "_arm64.whl",
                _ => "win_amd64.whl",
            };
            for wheel in platform.wheels {
                let stem = format!("{}-{}-", wheel.name.replace('-', "_"), wheel.version);
                assert!(wheel.file.starts_with(&stem), "{}", wheel.file);
                assert!(wheel.file.ends_with(arch_tag), "{}", wheel.file);
                assert_eq!(wheel.sha256.len(), 64, "{}", wheel.file);
                assert!(
                    wheel.sha256.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
                );
            }
        }
    }

    #[test]
    fn no_digest_stands_twice() {
        let mut digests: Vec<_> =
            PLATFORMS.iter().flat_map(|p| p.wheels).map(|w| w.sha256).collect();
        digests.sort_unstable();
        assert!(digests.windows(2).all(|pair| pair[0] != pair[1]));
    }

    /// Bindings of one libtorch with the library of another fail at link or, worse, at run time.
    #[test]
    fn tch_in_the_lock_file_is_the_one_the_pins_are_for() {
        let lock = include_str!("../../Cargo.lock").replace("\r\n", "\n");
        for package in ["tch", "torch-sys"] {
            let entry = format!("name = \"{package}\"\nversion = \"{TCH}\"\n");
            assert!(
                lock.contains(&entry),
                "Cargo.lock holds another {package} than {TCH}: move the pins with it"
            );
        }
    }

    #[test]
    fn what_the_program_loads_is_among_what_is_unpacked() {
        let host = host().expect("the tests run on a platform of the table");
        for library in loaded_libraries() {
            assert!(host.wheels.iter().any(|wheel| wheel.libraries.contains(library)), "{library}");
        }
    }
}
