//! One program from start to end: wall time and peak memory.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// What one run took, and what it said.
#[derive(Debug)]
pub(crate) struct Run {
    /// From before the process is made until it has ended.
    pub(crate) seconds: f64,
    /// What the kernel says of it; not known on Windows.
    pub(crate) usage: Option<Usage>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// What a process used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Seconds of all its threads, in the program and in the kernel for it: steadier than wall time on a busy machine.
    pub(crate) cpu_seconds: f64,
    /// The most memory that was resident at once.
    pub(crate) peak_bytes: u64,
}

/// Runs a program to its end, its output in files in `scratch`: nobody has to read a pipe meanwhile.
///
/// The kernel counts into a program's peak that of the process that started it. This one must therefore stay small
/// until the last measurement: no large file is read and no large buffer made before.
///
/// # Errors
/// When it cannot be started or fails; the message ends with its last words.
pub(crate) fn run(command: &mut Command, scratch: &Path) -> Result<Run> {
    run_with(command, scratch, |code| {
        ensure!(code == Some(0), "it ended with {code:?}");
        Ok(())
    })
}

/// As [`run`], where `check` says which exit codes are well.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_with(
    command: &mut Command,
    scratch: &Path,
    check: impl Fn(Option<i32>) -> Result<()>,
) -> Result<Run> {
    let name = command.get_program().to_string_lossy().into_owned();
    let (out, err) = (scratch.join("stdout.txt"), scratch.join("stderr.txt"));
    let create = |path: &Path| {
        File::create(path).with_context(|| format!("cannot write {}", path.display()))
    };
    command.stdin(Stdio::null()).stdout(create(&out)?).stderr(create(&err)?);
    let start = Instant::now();
    let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    let (status, usage) = wait(child).with_context(|| format!("cannot wait for {name}"))?;
    let seconds = start.elapsed().as_secs_f64();
    let stderr = fs::read_to_string(&err).unwrap_or_default();
    check(status.code()).with_context(|| {
        format!("{name} failed: {}", stderr.lines().last().unwrap_or("it said nothing"))
    })?;
    let stdout =
        fs::read_to_string(&out).with_context(|| format!("cannot read {}", out.display()))?;
    Ok(Run { seconds, usage, stdout, stderr })
}

/// The standard library's `wait` throws away what the kernel says about memory and processor time.
#[cfg(unix)]
fn wait(child: Child) -> io::Result<(ExitStatus, Option<Usage>)> {
    use std::os::unix::process::ExitStatusExt;
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    let mut status = 0;
    // SAFETY: rusage is plain numbers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to locals that outlive the call, and nobody else waits for this child, which is
        // dropped only at the end of this function.
        let waited = unsafe { libc::wait4(pid, &mut status, 0, &mut usage) };
        if waited == pid {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // KiB everywhere but on macOS.
    let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
    let peak_bytes = u64::try_from(usage.ru_maxrss).unwrap_or(0) * unit;
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    Ok((ExitStatus::from_raw(status), Some(Usage { cpu_seconds, peak_bytes })))
}

#[cfg(not(unix))]
fn wait(mut child: Child) -> io::Result<(ExitStatus, Option<Usage>)> {
    Ok((child.wait()?, None))
}

/// The middle one, or the mean of the two in the middle; NaN of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// Whose turn it is in a round, each once, another one first each time: neither what ran before nor a machine that
/// grows slower favours anybody.
pub(crate) fn order(count: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |turn| (round + turn) % count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_programs_own_peak_is_measured() {
        let scratch = tempfile::tempdir().unwrap();
        let peak = |block: &str| {
            let mut command = Command::new("dd");
            command.args(["if=/dev/zero", "of=/dev/null", "count=1", block]);
            run(&mut command, scratch.path()).unwrap().usage.unwrap().peak_bytes
        };
        let (small, large) = (peak("bs=1024"), peak("bs=268435456"));
        assert!(large >= 256 << 20, "{large}");
        assert!(small < 128 << 20, "{small}");
    }

    #[cfg(unix)]
    #[test]
    fn time_and_words_are_the_programs() {
        let scratch = tempfile::tempdir().unwrap();
        let shell = |script: &str| run(Command::new("sh").args(["-c", script]), scratch.path());
        let slept = shell("sleep 0.2; echo done; echo note >&2").unwrap();
        assert!(slept.seconds >= 0.2, "{}", slept.seconds);
        assert!(slept.usage.unwrap().cpu_seconds < 0.2, "sleeping is no work");
        assert_eq!((slept.stdout.as_str(), slept.stderr.as_str()), ("done\n", "note\n"));
        let error = shell("echo first >&2; echo 'no such file' >&2; exit 3").unwrap_err();
        assert!(error.to_string().ends_with("no such file"), "{error}");
    }

    #[test]
    fn everybody_runs_once_a_round_and_is_first_in_turn() {
        let rounds: Vec<Vec<usize>> = (0..4).map(|round| order(3, round).collect()).collect();
        assert_eq!(rounds, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
    }

    #[test]
    fn the_median_needs_no_order() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
