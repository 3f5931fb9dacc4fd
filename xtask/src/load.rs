//! Loads a shared library for real, and says in one sentence which one does not load and why.
//!
//! A damaged library can take the process down with it (SIGBUS), so the loading happens in a child: this program again,
//! as `load-library PATH`. On Linux the loader's own log (`LD_DEBUG=files`) tells who asked for what is missing; on
//! Windows the system says only that "a module" was not found, so the sentence names the usual cause.

use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

/// Loads the library in a child process.
///
/// # Errors
/// One sentence that names the library at fault.
pub(crate) fn check(library: &Path) -> Result<(), String> {
    let xtask = std::env::current_exe()
        .map_err(|error| format!("cannot find this program's own path: {error}"))?;
    let output = Command::new(xtask)
        .arg("load-library")
        .arg(library)
        .env("LD_DEBUG", "files")
        .env_remove("LD_DEBUG_OUTPUT")
        // The answer must not depend on what happens to be on this shell's path.
        .env_remove("LD_LIBRARY_PATH")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start this program again: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let name = library.file_name().unwrap_or_default().to_string_lossy();
    let reason = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if reason.is_empty() {
        return Err(crashed(&name, output.status));
    }
    Err(explain(&name, &reason, &String::from_utf8_lossy(&output.stderr)))
}

fn crashed(name: &str, status: ExitStatus) -> String {
    format!(
        "{name} takes down the process that loads it ({status}): the file is cut short or damaged"
    )
}

/// One sentence from the loader's reason and, on Linux, its log.
fn explain(name: &str, reason: &str, log: &str) -> String {
    if let Some((missing, _)) = reason.split_once(": cannot open shared object file") {
        let missing = missing.rsplit('/').next().unwrap_or(missing);
        return match needed_by(missing, log) {
            Some(by) => format!("{missing} is missing, needed by {by}"),
            None => format!("{missing} is missing"),
        };
    }
    if let Some((file, why)) = reason.split_once(": ").filter(|(_, why)| is_damage(why)) {
        return format!(
            "{} is cut short or damaged ({why})",
            file.rsplit('/').next().unwrap_or(file)
        );
    }
    if reason.contains("os error 126") {
        // ERROR_MOD_NOT_FOUND: the library or, when that exists, one that it needs.
        return format!(
            "{name} or a library that it needs is missing ({reason}); if it stands in the folder, install the \
             Microsoft Visual C++ Redistributable (`winget install Microsoft.VCRedist.2015+.x64`)"
        );
    }
    format!("{name} does not load: {reason}")
}

fn is_damage(why: &str) -> bool {
    ["file too short", "invalid ELF header", "ELF file", "cannot read file data"]
        .iter()
        .any(|sign| why.starts_with(sign))
}

/// The library that asked for `missing`: `file=libb.so [0];  needed by /x/liba.so [0]`.
fn needed_by(missing: &str, log: &str) -> Option<String> {
    let asked = format!("file={missing} ");
    let line = log.lines().find(|line| line.contains(&asked) && line.contains("needed by "))?;
    let by = line.split_once("needed by ")?.1.split(" [").next()?;
    Some(by.rsplit('/').next().unwrap_or(by).to_owned())
}

/// The child's half: loads the library, tells the loader's reason on stdout if it does not load.
pub(crate) fn child(library: &Path) -> ExitCode {
    match open(library) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            println!("{reason}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(unix)]
fn open(library: &Path) -> Result<(), String> {
    use std::ffi::{CStr, CString, c_char, c_int, c_void};
    use std::os::unix::ffi::OsStrExt;

    unsafe extern "C" {
        fn dlopen(filename: *const c_char, flags: c_int) -> *mut c_void;
        fn dlerror() -> *const c_char;
    }
    /// Resolve every symbol now: 2 in both glibc and macOS.
    const RTLD_NOW: c_int = 2;

    let path = CString::new(library.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: the path is a valid C string. Loading runs the library's initialisers, which is the point; this process
    // does nothing else before or after.
    let handle = unsafe { dlopen(path.as_ptr(), RTLD_NOW) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: called on the same thread right after a failed dlopen, dlerror returns null or a C string that lives
    // until the next call.
    let reason = unsafe {
        let text = dlerror();
        if text.is_null() {
            None
        } else {
            Some(CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    };
    Err(reason.unwrap_or_else(|| "the loader gives no reason".into()))
}

#[cfg(windows)]
fn open(library: &Path) -> Result<(), String> {
    use std::ffi::c_void;
    use std::os::windows::ffi::OsStrExt;

    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn LoadLibraryExW(name: *const u16, file: *mut c_void, flags: u32) -> *mut c_void;
    }
    /// Search the library's own folder and the system's, as the built program does with its folder on the path:
    /// LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | LOAD_LIBRARY_SEARCH_DEFAULT_DIRS.
    const FLAGS: u32 = 0x100 | 0x1000;

    let path: Vec<u16> = library.as_os_str().encode_wide().chain([0]).collect();
    // SAFETY: the path is a NUL-terminated wide string; the second argument must be null. Loading runs the library's
    // initialisers, which is the point; this process does nothing else before or after.
    let handle = unsafe { LoadLibraryExW(path.as_ptr(), std::ptr::null_mut(), FLAGS) };
    if handle.is_null() { Err(std::io::Error::last_os_error().to_string()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_dependency_is_named_with_who_needs_it() {
        let log = "
      812:\tfile=libtorch_cpu.so [0];  dynamically loaded by xtask [0]
      812:\tfile=libcudart.so.13 [0];  needed by /cache/lib/libtorch_cpu.so [0]
";
        let reason = "libcudart.so.13: cannot open shared object file: No such file or directory";
        assert_eq!(
            explain("libtorch_cpu.so", reason, log),
            "libcudart.so.13 is missing, needed by libtorch_cpu.so"
        );
        assert_eq!(explain("libtorch_cpu.so", reason, ""), "libcudart.so.13 is missing");
    }

    /// The case that stopped the author of the notebook.
    #[test]
    fn windows_module_not_found_leads_to_the_redistributable() {
        let reason = "The specified module could not be found. (os error 126)";
        let sentence = explain("torch_cpu.dll", reason, "");
        assert!(
            sentence.starts_with("torch_cpu.dll or a library that it needs is missing"),
            "{sentence}"
        );
        assert!(sentence.contains("Visual C++ Redistributable"), "{sentence}");
    }

    #[test]
    fn a_damaged_file_is_called_so() {
        let sentence = explain("libtorch_cpu.so", "/cache/lib/libc10.so: file too short", "");
        assert_eq!(sentence, "libc10.so is cut short or damaged (file too short)");
    }

    #[test]
    fn what_is_not_understood_is_quoted() {
        let reason = "/x/liba.so: undefined symbol: frobnicate";
        assert_eq!(
            explain("liba.so", reason, ""),
            "liba.so does not load: /x/liba.so: undefined symbol: frobnicate"
        );
    }
}
