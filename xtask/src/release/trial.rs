//! Whether an archive runs: that it loads its own libraries, and, in an empty Debian, that it evaluates the demo.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use xshell::{Shell, cmd};

/// Debian's release of the trial: its glibc is among the older ones that are in use.
const SUITE: &str = "bookworm";

/// Asks the loader what the program would load, without this machine's settings.
///
/// # Errors
/// When a library is not found, or is not the one in `staged`.
pub(super) fn loads_its_own(sh: &Shell, staged: &Path) -> Result<()> {
    let detgate = staged.join("bin/detgate");
    let loaded = cmd!(sh, "env -i LD_TRACE_LOADED_OBJECTS=1 {detgate}").quiet().read()?;
    ensure!(!loaded.contains("not found"), "the program lacks a library:\n{loaded}");
    for library in sh.read_dir(staged.join("lib"))? {
        let name = library.file_name().unwrap_or_default().to_string_lossy();
        let own = loaded.lines().any(|line| line.contains(&*name) && line.contains("/bin/../lib/"));
        ensure!(own, "{name} is not loaded from the archive:\n{loaded}");
    }
    Ok(())
}

/// Evaluates the demo and its damaged model in a system that was just made and holds neither Rust nor Python.
///
/// # Errors
/// When it does not end as it does here.
pub(super) fn in_an_empty_system(sh: &Shell, archive: &Path, scratch: &Path) -> Result<()> {
    if let Some(why) = obstacle(sh) {
        eprintln!("skipped: the trial in an empty Debian: {why}");
        return Ok(());
    }
    let root = scratch.join("root");
    eprintln!("making an empty Debian {SUITE}");
    cmd!(sh, "debootstrap --variant=minbase {SUITE} {root}")
        .quiet()
        .ignore_stdout()
        .run()
        .context("debootstrap failed (the reason stands above)")?;
    for program in ["python3", "rustc", "cargo"] {
        let found = cmd!(sh, "chroot {root} which {program}").quiet().ignore_status().read()?;
        ensure!(found.is_empty(), "the empty system has {found}");
    }
    cmd!(sh, "tar --extract --file {archive} --directory {root}/opt --strip-components 1")
        .quiet()
        .run()?;
    let ends_with = |arguments: &[&str], code: i32| -> Result<()> {
        // With /proc, from which the loader knows where a program is, in a namespace that takes it along when it ends.
        let inside = ["--fork", "--pid", "--mount", "--kill-child"];
        let command = cmd!(
            sh,
            "unshare {inside...} --mount-proc={root}/proc chroot {root} env -i /opt/bin/detgate eval --project /opt/fixtures/demo --no-register {arguments...}"
        );
        let output = command.quiet().ignore_status().output()?;
        eprint!("{}", String::from_utf8_lossy(&output.stdout));
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(code),
            "the demo ended with {}, not {code}: {told}",
            output.status
        );
        Ok(())
    };
    ends_with(&[], 0)?;
    ends_with(&["--checkpoint", "/opt/fixtures/demo/models/damaged/best_damaged.pt"], 1)
}

/// Why there can be no such system here.
fn obstacle(sh: &Shell) -> Option<&'static str> {
    let is_root = cmd!(sh, "id -u").quiet().read().is_ok_and(|id| id == "0");
    let has_tool = cmd!(sh, "debootstrap --version").quiet().ignore_stdout().run().is_ok();
    match (has_tool, is_root) {
        (false, _) => Some("debootstrap is not installed (`apt install debootstrap`)"),
        (true, false) => Some("only root may make one"),
        (true, true) => None,
    }
}
