//! Judging by another commit, which a pull request is to be merged into: a change must not lower its own bar unseen.
//!
//! The rules and the baseline of that commit judge; what of both the change itself replaces is said. A regression that is
//! meant is accepted by a baseline that is this very run and says why; whoever reviews the change sees both.
//!
//! Deliberately absent: fetching. The commit must be there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use detgate::config::{self, BaselineSource, Config, EvalFlags, TARGET_FOLDER};
use detgate::gate::{Snapshot, stored};
use detgate::report::markdown;

use crate::{exit, note, say};

const SETTINGS: &str = "detgate.toml";
/// What the change replaces, as Markdown, for whoever shows the report.
const CHANGES: &str = "changes.md";

/// The commit that judges.
pub(crate) struct Target {
    name: String,
    root: PathBuf,
}

/// What of its own bar a change replaces.
struct Changes {
    rules: bool,
    /// Of another baseline, or of none.
    baseline: bool,
    /// The change's own baseline.
    own: Option<Snapshot>,
}

impl Target {
    /// Puts the rules of the commit where [`Config`] looks for them; `None` where no commit was named.
    pub(crate) fn of(flags: &EvalFlags, cwd: &Path) -> anyhow::Result<Option<Self>> {
        let Some(name) = flags.target.clone() else { return Ok(None) };
        let root = config::root(&flags.project, cwd)?;
        let target = Self { name, root };
        let commit = format!("{}^{{commit}}", target.name);
        let known =
            target.git(&["rev-parse", "--verify", "--quiet", "--end-of-options", &commit])?;
        ensure!(
            known.is_some(),
            "{} names no commit of the repository of {}; fetch it first (in GitHub Actions: fetch-depth: 0)",
            target.name,
            target.root.display()
        );
        let folder = target.root.join(TARGET_FOLDER);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        target.extract(Path::new(SETTINGS))?;
        Ok(Some(target))
    }

    /// Puts the baseline of the commit where `config` expects it, and says what of its own bar the change replaces.
    pub(crate) fn prepare(&self, config: &Config) -> anyhow::Result<()> {
        let Some(baseline) = self.baseline(config)? else { return Ok(()) };
        if let Some(path) = self.extract(baseline)? {
            let snapshot = Snapshot::read(&path)?;
            let digest = snapshot.and_then(|snapshot| snapshot.detections_blake3);
            digest.map(|digest| self.extract(&stored::path(baseline, &digest))).transpose()?;
        }
        let changes = self.changes(config)?;
        let gives_reason = |own: &Snapshot| own.recorded.reason.is_some();
        if changes.baseline && !changes.own.as_ref().is_none_or(gives_reason) {
            bail!(
                "{} is not that of {}, and does not say why; accept it again with `detgate bless --reason`",
                self.root.join(baseline).display(),
                self.name
            );
        }
        Ok(())
    }

    /// The exit code, which is `code` unless the change accepts what it does; and says what it replaces.
    pub(crate) fn conclude(&self, config: &Config, run: &Snapshot, code: u8) -> anyhow::Result<u8> {
        let changes = self.changes(config)?;
        let mut sentences = Vec::new();
        if changes.rules {
            sentences.push(format!(
                "This change has other rules ([gate] in {SETTINGS}) than {}, whose rules judged it.",
                self.name
            ));
        }
        let mut code = code;
        let reason = changes.own.as_ref().and_then(|own| own.recorded.reason.as_deref());
        if changes.baseline {
            sentences.push(match (&changes.own, reason) {
                (Some(_), reason) => format!(
                    "This change has another baseline than {}, whose baseline judged it. The reason that it gives: {}",
                    self.name,
                    reason.unwrap_or_default()
                ),
                (None, _) => {
                    format!("This change removes the baseline of {}, which judged it.", self.name)
                }
            });
            let noise = config.gate.numeric_noise;
            let is_this_run = changes.own.as_ref().is_some_and(|own| own.same_results(run, noise));
            if code != exit::PASSED && is_this_run {
                sentences.push("That baseline is this run: what it does is accepted.".to_owned());
                code = exit::PASSED;
            }
        }
        sentences.iter().for_each(|sentence| note(sentence));
        if code == exit::PASSED && !sentences.is_empty() {
            say(&format!("ACCEPTED: {}\n", sentences.join(" ")))?;
        }
        let path = self.root.join(TARGET_FOLDER).join(CHANGES);
        std::fs::write(&path, markdown::list(&sentences))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(code)
    }

    fn changes(&self, config: &Config) -> anyhow::Result<Changes> {
        let folder = self.root.join(TARGET_FOLDER);
        let rules = rules(&self.root)? != rules(&folder)?;
        let Some(baseline) = self.baseline(config)? else {
            return Ok(Changes { rules, baseline: false, own: None });
        };
        let own = self.root.join(baseline);
        let bytes = |path: &Path| std::fs::read(path).ok();
        let changed = bytes(&own) != bytes(&folder.join(baseline));
        Ok(Changes { rules, baseline: changed, own: Snapshot::read(&own)? })
    }

    /// Where in the project the baseline is, if it is a file.
    fn baseline<'c>(&self, config: &'c Config) -> anyhow::Result<Option<&'c Path>> {
        let BaselineSource::File(path) = &config.gate.baseline else { return Ok(None) };
        let inside = path.strip_prefix(self.root.join(TARGET_FOLDER));
        let inside = inside.with_context(|| {
            format!("the baseline of {} is outside of the project: {}", self.name, path.display())
        });
        Ok(Some(inside?))
    }

    /// Writes a file of the commit below [`TARGET_FOLDER`]; `None` where the commit does not have it. Filters are
    /// applied as in a checkout, those of Git LFS too.
    fn extract(&self, file: &Path) -> anyhow::Result<Option<PathBuf>> {
        let file = file.to_str().with_context(|| format!("{} is not UTF-8", file.display()))?;
        let object = format!("{}:./{file}", self.name);
        if self.git(&["cat-file", "-e", &object])?.is_none() {
            return Ok(None);
        }
        let bytes = self.git(&["cat-file", "--filters", &object])?;
        let bytes = bytes.with_context(|| format!("git cannot show {file} of {}", self.name))?;
        let path = self.root.join(TARGET_FOLDER).join(file);
        let folder = path.parent().unwrap_or(&self.root);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, bytes))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Some(path))
    }

    /// What git prints; `None` where it fails.
    fn git(&self, arguments: &[&str]) -> anyhow::Result<Option<Vec<u8>>> {
        let output = Command::new("git").arg("-C").arg(&self.root).args(arguments).output();
        let output = output.context("cannot start git, which --target needs")?;
        Ok(output.status.success().then_some(output.stdout))
    }
}

/// The table `[gate]`, if the folder has settings with one.
fn rules(folder: &Path) -> anyhow::Result<Option<toml::Value>> {
    let path = folder.join(SETTINGS);
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
    let mut settings: toml::Table =
        text.parse().with_context(|| format!("cannot read {}", path.display()))?;
    Ok(settings.remove("gate"))
}
