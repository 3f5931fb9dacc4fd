//! `detgate launch`: the same evaluation in shares, on an engine that is there already.
//!
//! All that an engine has to do is to start a command several times and another one behind it. Deliberately
//! absent: scheduling, queues, copying files, and waiting for anything but the engine's own command.

mod ray;
mod slurm;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Parser;
use detgate::config::{Cli, Command, Config, Environment, LaunchCommand, Shard, SharesFlags};

use crate::note;

pub(crate) fn run(
    command: &LaunchCommand,
    cwd: &Path,
    environment: &Environment,
) -> anyhow::Result<u8> {
    let work = |shares| Work::of(shares, cwd, environment);
    match command {
        LaunchCommand::Slurm { shares, options, wait } => {
            slurm::run(&work(shares)?, options, *wait, shares.dry_run)
        }
        LaunchCommand::Ray { shares, address, retries, python } => {
            ray::run(&work(shares)?, address.as_deref(), *retries, python, shares.dry_run)
        }
    }
}

/// What is to be started.
struct Work {
    shards: u32,
    cpus: u16,
    /// Where it was asked for, which relative paths are relative to.
    cwd: PathBuf,
    /// Where shards and logs go.
    folder: PathBuf,
    /// The command of a share, but for which it is.
    eval: Vec<String>,
    /// The command behind all of them.
    merge: Vec<String>,
}

impl Work {
    /// What is wrong with the flags or the project is said here, not by every share.
    fn of(shares: &SharesFlags, cwd: &Path, environment: &Environment) -> anyhow::Result<Self> {
        let SharesFlags { shards, cpus, eval, .. } = shares;
        let typed = ["detgate", "eval"].into_iter().chain(eval.iter().map(String::as_str));
        let parsed = Cli::try_parse_from(typed).unwrap_or_else(|error| error.exit());
        let Command::Eval(flags) = parsed.command else {
            bail!("only flags of eval go behind `--`")
        };
        if flags.shard.is_some() || flags.shard_file.is_some() || flags.detections.is_some() {
            bail!("leave --shard, --shard-file and --detections out: every share gets its own");
        }
        let config = Config::resolve_in(environment, &flags, cwd)?;
        config.notices.iter().for_each(|notice| note(notice));
        let detgate = std::env::current_exe().context("cannot tell where detgate is")?;
        let detgate = text(&detgate)?;
        let folder = config.root.join(Shard::usual_folder(*shards));
        let command = |name: &str| [vec![detgate.clone(), name.to_owned()], eval.clone()].concat();
        let workers = match flags.workers {
            Some(_) => Vec::new(),
            None => vec!["--workers".to_owned(), cpus.to_string()],
        };
        let project = match flags.project.project {
            Some(_) => Vec::new(),
            None => vec!["--project".to_owned(), text(&config.root)?],
        };
        if !shares.dry_run {
            // The engine wants to write its logs there.
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(Self {
            shards: *shards,
            cpus: *cpus,
            cwd: cwd.to_owned(),
            eval: [command("eval"), project.clone(), workers].concat(),
            // As files, a hundred thousand shards would be too long for a command line.
            merge: [command("merge"), project, vec![text(&folder)?]].concat(),
            folder,
        })
    }
}

fn text(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(text.to_owned())
}

/// A command line as a shell reads it.
fn shell<'w>(words: impl IntoIterator<Item = &'w String>) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@%+,".contains(c);
    let quoted = |word: &String| match !word.is_empty() && word.chars().all(is_plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn words_reach_the_command_as_they_are() {
        let words = ["detgate", "a b", "it's", "$HOME", "", "--x=1/2"].map(str::to_owned);
        assert_eq!(super::shell(&words), r"detgate 'a b' 'it'\''s' '$HOME' '' --x=1/2");
    }
}
