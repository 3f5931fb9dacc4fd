//! Candidates that wait for review, and `detgate bless`, which accepts one.
//!
//! A candidate waits as `baseline.snap.new`, where `cargo insta review` finds it too.

use std::path::Path;

use anyhow::{Context, bail};
use detgate::config::{
    BaselineSource, BlessConfig, BlessFlags, Config, Environment, ProjectFlags, SnapshotUpdate,
};
use detgate::gate::stored::{self, Stored};
use detgate::gate::{Snapshot, Verdict};
use detgate::shown;

use crate::{exit, exit_code, note, say};

/// A run as the reviewer of a baseline gets it.
pub(crate) struct Review<'r> {
    pub(crate) candidate: &'r Snapshot,
    pub(crate) stored: &'r Stored,
    /// Where `bless` finds the candidate.
    pub(crate) place: &'r ProjectFlags,
}

impl Review<'_> {
    /// Leaves a candidate that differs from its baseline where it can be accepted, as `INSTA_UPDATE`
    /// says; never under `CI`.
    pub(crate) fn keep(
        &self,
        path: &Path,
        environment: &Environment,
        baseline: Option<&Snapshot>,
        numeric_noise: f64,
    ) -> anyhow::Result<()> {
        if !may_leave_one(environment) {
            return Ok(());
        }
        if self.is_same(path, baseline, numeric_noise)? {
            remove_pending(path)?;
        } else {
            self.propose(path, environment, baseline.is_none())?;
        }
        Ok(stored::tidy(path)?)
    }

    /// Whether the baseline says the same, and has its detections: where these are this run's, they
    /// are put back.
    fn is_same(
        &self,
        path: &Path,
        baseline: Option<&Snapshot>,
        numeric_noise: f64,
    ) -> anyhow::Result<bool> {
        let Some(baseline) = baseline else { return Ok(false) };
        self.stored.write_if_wanted(path)?;
        let same = baseline.same_results(self.candidate, numeric_noise);
        Ok(same && stored::are_there(path, baseline))
    }

    fn propose(&self, path: &Path, environment: &Environment, unseen: bool) -> anyhow::Result<()> {
        let accepts = match environment.snapshot_update {
            SnapshotUpdate::Always => true,
            SnapshotUpdate::Unseen => unseen,
            SnapshotUpdate::Pending | SnapshotUpdate::No => false,
        };
        if accepts {
            return self.accept(path);
        }
        // The snapshot first: from then on nobody takes its detections for left over.
        self.candidate.write(&Snapshot::pending_path(path))?;
        self.stored.write(path)?;
        let objected = !self.candidate.recorded.objections.is_empty();
        let force = if objected { " --force" } else { "" };
        note(&format!(
            "`{} bless{}{force} --reason \"...\"` accepts this run as the baseline {}",
            environment.called_as,
            self.place,
            path.display()
        ));
        Ok(())
    }

    fn accept(&self, path: &Path) -> anyhow::Result<()> {
        self.candidate.write(path)?;
        self.stored.write(path)?;
        note(&format!("INSTA_UPDATE makes this run the baseline {}", path.display()));
        remove_pending(path)
    }
}

/// Makes the pending candidate the baseline.
pub(crate) fn run(flags: &BlessFlags, cwd: &Path, environment: &Environment) -> anyhow::Result<u8> {
    let config = BlessConfig::resolve(flags, cwd)?;
    if environment.ci {
        bail!("nothing is written to a baseline under CI; bless on your own machine and commit");
    }
    let evaluate = format!("{} eval{}", environment.called_as, flags.project);
    let pending = Snapshot::pending_path(&config.baseline);
    let Some(mut candidate) = Snapshot::read(&pending)? else {
        bail!("nothing to accept: there is no {}; run `{evaluate}` first", pending.display());
    };
    let baseline = Snapshot::read(&config.baseline)?;
    if candidate.recorded.against != baseline.as_ref().map(Snapshot::digest) {
        bail!(
            "{} was compared with another baseline than the present one; run `{evaluate}` again",
            pending.display()
        );
    }
    if stored::read(&config.baseline, &candidate)?.is_none() {
        bail!("the detections of {} are not beside it; run `{evaluate}` again", pending.display());
    }
    if !flags.force && !candidate.recorded.objections.is_empty() {
        return Ok(refuse(&candidate));
    }
    candidate.recorded.reason = flags.reason.clone();
    candidate.write(&config.baseline)?;
    remove_pending(&config.baseline)?;
    stored::tidy(&config.baseline)?;
    // The hour, because it need not be that of the last run: one that was refused leaves no candidate.
    let evaluated = candidate.recorded.date.as_deref().unwrap_or("at an unknown hour");
    say(&format!(
        "accepted {}, evaluated {}, as the baseline {}\n",
        shown::name(&candidate.provenance.checkpoint),
        shown::line(evaluated),
        config.baseline.display()
    ))?;
    Ok(exit::PASSED)
}

/// Says what speaks against a candidate.
fn refuse(candidate: &Snapshot) -> u8 {
    eprintln!("refused, unless with --force:");
    candidate
        .recorded
        .objections
        .iter()
        .for_each(|objection| eprintln!("  {}", shown::line(objection)));
    exit_code(candidate.recorded.verdict.unwrap_or(Verdict::Incomparable))
}

/// Whether runs leave candidates.
fn may_leave_one(environment: &Environment) -> bool {
    !environment.ci && environment.snapshot_update != SnapshotUpdate::No
}

/// Takes back the candidate of an earlier run, now that another one's model is about to run: `bless` accepts the last run,
/// and no other where that is interrupted. A share is not judged, and takes back nothing.
pub(crate) fn withdraw(config: &Config, environment: &Environment) {
    if let BaselineSource::File(path) = &config.gate.baseline
        && config.shard.is_none()
        && may_leave_one(environment)
    {
        // A project that cannot be written to is evaluated all the same.
        remove_pending(path).unwrap_or_else(|error| eprintln!("warning: {error:#}"));
    }
}

fn remove_pending(baseline: &Path) -> anyhow::Result<()> {
    let pending = Snapshot::pending_path(baseline);
    match std::fs::remove_file(&pending) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", pending.display()))
        }
        _ => Ok(()),
    }
}
