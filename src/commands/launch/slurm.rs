//! Slurm: a job array and a job that depends on it.
//!
//! A share whose node is lost or taken away is queued again by Slurm, and goes on from the predictions that it
//! has kept. If a share fails for good, the second job is cancelled: there is no verdict on a part.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::{Work, shell};
use crate::{exit, note, say};

/// How often Slurm is asked for the state of a job.
const POLL: Duration = Duration::from_secs(2);
/// How often it may not answer, one time after the other: five minutes.
const PATIENCE: u32 = 150;

pub(super) fn run(
    work: &Work,
    options: &[String],
    wait: bool,
    dry_run: bool,
) -> anyhow::Result<u8> {
    for path in [&work.cwd, &work.folder] {
        ensure!(
            !path.display().to_string().contains(['"', '\n']),
            "Slurm's scripts cannot name {}: rename the folder",
            path.display()
        );
    }
    let array = array(work, options);
    if dry_run {
        let merge = merge(work, options, "ARRAY");
        // Without its folder for logs Slurm ends a job without a word.
        let folder = shell(&[work.folder.display().to_string()]);
        say(&format!(
            "mkdir -p {folder}\nsbatch --parsable <<'SHARDS'\n{array}SHARDS\n\n# ARRAY: the number that the first one prints\n\
             sbatch --parsable <<'MERGE'\n{merge}MERGE\n"
        ))?;
        return Ok(exit::PASSED);
    }
    let job = submit(&array)?;
    say(&format!("job {job}: {} shares\n", work.shards))?;
    let behind = submit(&merge(work, options, &job)).inspect_err(|_| {
        // Nobody would merge what it finds.
        let ended = ask("scancel", &[&job]).is_ok();
        note(&format!(
            "job {job} {}",
            if ended { "was ended" } else { "is running: end it with scancel" }
        ));
    })?;
    let log = work.folder.join(format!("merge-{behind}.log"));
    let log = log.display();
    say(&format!("job {behind}: merges them, and says what came of it in {log}\n"))?;
    if !wait {
        return Ok(exit::PASSED);
    }
    let code = wait_for(&behind)?;
    say(&std::fs::read_to_string(log.to_string()).unwrap_or_default())?;
    Ok(code)
}

/// The exit code of a job, once it has ended.
///
/// # Errors
/// Where it was cancelled: not even what it would have judged is there.
fn wait_for(job: &str) -> anyhow::Result<u8> {
    let mut unanswered = 0;
    loop {
        let state = match ask("scontrol", &["show", "job", "--oneliner", job]) {
            Ok(state) => state,
            // A controller that is busy or starts again is no end.
            Err(_) if unanswered < PATIENCE => {
                unanswered += 1;
                std::thread::sleep(POLL);
                continue;
            }
            Err(error) => {
                return Err(error.context(format!("cannot tell what became of job {job}")));
            }
        };
        unanswered = 0;
        let field = |name: &str| {
            state.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        match field("JobState") {
            Some("COMPLETED" | "FAILED") => {
                // `code:signal`.
                let code = field("ExitCode").and_then(|code| code.strip_suffix(":0"));
                let code = code.and_then(|code| code.parse().ok());
                return Ok(code.unwrap_or(exit::COULD_NOT_EVALUATE));
            }
            Some(
                "PENDING" | "CONFIGURING" | "RUNNING" | "COMPLETING" | "SUSPENDED" | "REQUEUED",
            ) => {
                std::thread::sleep(POLL);
            }
            other => bail!(
                "job {job} is {}; a share has failed, or somebody ended it: see the logs beside the shards",
                other.unwrap_or("not known to Slurm")
            ),
        }
    }
}

/// As Slurm reads it, for which `%` begins a pattern.
fn log(work: &Work, pattern: &str) -> String {
    let folder = work.folder.display().to_string().replace('%', "%%");
    format!("{folder}/{pattern}.log")
}

fn array(work: &Work, options: &[String]) -> String {
    let Work { shards, cpus, .. } = work;
    let more = [
        format!("--array=1-{shards}"),
        format!("--cpus-per-task={cpus}"),
        "--requeue".to_owned(),
        "--open-mode=append".to_owned(),
    ];
    // Not `auto`: the variables of whatever submits this are handed on to its tasks.
    let command = format!("{} --shard \"$SLURM_ARRAY_TASK_ID/{shards}\"", shell(&work.eval));
    script("detgate-shards", &log(work, "shards-%A_%a"), &more, options, work, &command)
}

fn merge(work: &Work, options: &[String], array: &str) -> String {
    let more = [format!("--dependency=afterok:{array}"), "--kill-on-invalid-dep=yes".to_owned()];
    let command = shell(&work.merge);
    script("detgate-merge", &log(work, "merge-%j"), &more, options, work, &command)
}

fn script(
    name: &str,
    log: &str,
    more: &[String],
    options: &[String],
    work: &Work,
    command: &str,
) -> String {
    let own = [
        format!("--job-name={name}"),
        format!("--chdir={}", quoted(&work.cwd.display().to_string())),
        format!("--output={}", quoted(log)),
    ];
    let lines = own.iter().chain(more).chain(options).map(|option| format!("#SBATCH {option}\n"));
    let lines: String = lines.collect();
    format!("#!/bin/sh\n{lines}exec {command}\n")
}

/// As `#SBATCH` reads it: in quotes where there is a blank.
fn quoted(value: &str) -> String {
    if value.contains(char::is_whitespace) { format!("\"{value}\"") } else { value.to_owned() }
}

/// What one of Slurm's commands prints.
fn ask(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    ensure!(output.status.success(), "{program} says: {}", said(&output.stderr));
    Ok(said(&output.stdout))
}

/// The number of the job that `sbatch` makes of a script.
fn submit(script: &str) -> anyhow::Result<String> {
    let mut sbatch = Command::new("sbatch")
        .arg("--parsable")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start sbatch; run this where Slurm's commands are, or see --dry-run")?;
    if let Some(mut stdin) = sbatch.stdin.take() {
        stdin.write_all(script.as_bytes()).context("sbatch does not read the script")?;
    }
    let output = sbatch.wait_with_output().context("cannot wait for sbatch")?;
    // Of several clusters, `job;cluster`.
    let said = String::from_utf8_lossy(&output.stdout);
    match said.trim().split(';').next() {
        Some(job) if output.status.success() && !job.is_empty() => Ok(job.to_owned()),
        _ => bail!("sbatch took no job; see what it says above"),
    }
}
