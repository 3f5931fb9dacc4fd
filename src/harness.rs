//! The gate as a cargo test: a team's own `tests/detector.rs` judges stored detections against a
//! stored baseline, in the way of insta's snapshots (feature `harness`).
//!
//! ```no_run
//! # use detgate::harness::Gate;
//! // #[test]
//! fn the_detector_did_not_get_worse() {
//!     Gate::new("data/instances_val.json")
//!         .policy("detgate.toml")
//!         .assert("tests/detector.snap", "reports/detections.json");
//! }
//! ```
//!
//! The first run leaves `detector.snap.new`, which `cargo insta review` or `accept` makes the baseline;
//! its detections lie beside it. From then on the test passes while the policy does, and a change that
//! it does not let through fails with the verdict, and waits for review. A change that it lets through
//! leaves the baseline as it is: `INSTA_UPDATE=force` takes it, such as that of a better detector.
//! `INSTA_UPDATE` does what it does for every insta snapshot; under `CI` nothing is written at all.
//!
//! Relative paths are relative to the crate whose test runs, as cargo runs tests there. Deliberately
//! absent: inference; and facts about images and preprocessing, which results files do not tell: those
//! of the baseline are taken to hold.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::config::{Environment, policy_file};
use crate::dataset::{self, Classes, Dataset};
use crate::detections::coco_results::{self, Results};
use crate::gate::stored::{self, Stored};
use crate::gate::{
    self, Baseline, Fingerprint, Judgement, MetricTable, Provenance, Recorded, Snapshot, Trial,
    Verdict,
};
use crate::matching::practical::PracticalParams;
use crate::report::{self, DataSummary, Report, terminal};

/// A ground truth and a policy, to judge detections by.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    ground_truth: PathBuf,
    policy: Option<PathBuf>,
    max_images: Option<usize>,
}

impl Gate {
    /// With the ground truth, a COCO file (also `.gz` or `.zst`), and the default policy.
    pub fn new(ground_truth: impl Into<PathBuf>) -> Self {
        Self { ground_truth: ground_truth.into(), policy: None, max_images: None }
    }

    /// By `[gate]` and `[practical]` of a `detgate.toml`.
    pub fn policy(self, file: impl Into<PathBuf>) -> Self {
        Self { policy: Some(file.into()), ..self }
    }

    /// On the first images of the ground truth only, where the detector ran on these: what it did not
    /// look at would count as missed.
    pub fn max_images(self, images: usize) -> Self {
        Self { max_images: Some(images), ..self }
    }

    /// Asserts that the detections, a COCO results file, pass the gate against the baseline, an insta
    /// snapshot.
    ///
    /// # Panics
    /// With the verdict in words where they do not, and with one sentence where that cannot be told.
    #[track_caller]
    pub fn assert(&self, baseline: impl AsRef<Path>, detections: impl AsRef<Path>) {
        if let Err(error) = self.compare(baseline.as_ref(), detections.as_ref()) {
            panic!("{error:#}");
        }
    }

    /// The verdict on the detections, without insta: nothing is written.
    ///
    /// # Errors
    /// One sentence that names the file and the remedy.
    pub fn judge(&self, baseline: &Path, detections: &Path) -> anyhow::Result<Judgement> {
        Ok(self.judged(baseline, detections)?.judgement)
    }

    fn compare(&self, baseline: &Path, detections: &Path) -> anyhow::Result<()> {
        let environment = Environment::from_process()?;
        // insta joins a relative path to the folder of its caller's source.
        let baseline = std::path::absolute(baseline)
            .with_context(|| format!("cannot tell where {} is", baseline.display()))?;
        let judged = self.judged(&baseline, detections)?;
        let passed = judged.judgement.verdict == Verdict::Passed;
        if environment.ci {
            // insta would write with INSTA_UPDATE=always; under CI nothing ever is.
            ensure!(passed, judged.words);
            return Ok(());
        }
        let outcome = assert_snapshot(&baseline, &judged.candidate.body(), passed)?;
        // Where insta has written the snapshot, its detections belong beside it.
        let kept = judged.stored.write_if_wanted(&baseline).and_then(|()| stored::tidy(&baseline));
        match (outcome, kept) {
            (Ok(()), _) => Ok(()),
            (Err(said), _) if passed => anyhow::bail!(said),
            (Err(_), Ok(())) => anyhow::bail!(judged.words),
            (Err(_), Err(error)) => anyhow::bail!("{}{error}", judged.words),
        }
    }

    fn judged(&self, path: &Path, detections: &Path) -> anyhow::Result<Judged> {
        let (settings, (score_thr, iou_thr)) = policy_file(self.policy.as_deref())?;
        let practical = PracticalParams { score_thr, iou_thr };
        let mut dataset =
            dataset::read(&self.ground_truth, &Classes::FromFile, Default::default())?;
        dataset.images.truncate(self.max_images.unwrap_or(usize::MAX));
        let results = coco_results::read(detections)?;
        let after = self.dealt(&dataset, &results, detections)?;
        let after = after.on(&dataset.images);
        let snapshot = Snapshot::read(path)?;
        let kept = snapshot.as_ref().map(|snapshot| stored::read(path, snapshot)).transpose()?;
        let kept = kept.flatten();
        let before = kept.as_ref().map(|kept| kept.by_image(&dataset.images));
        let before = before.as_ref().map(|before| before.on(&dataset.images));
        let baseline = snapshot
            .as_ref()
            .map(|snapshot| Baseline::of(path.display().to_string(), snapshot, before.as_deref()));
        let stored = Stored::pack(after.iter().map(|(image, found)| (image.id, *found)))?;
        let candidate = Snapshot {
            schema: gate::SCHEMA,
            fingerprint: fingerprint(snapshot.as_ref(), &dataset, practical),
            provenance: provenance(detections)?,
            recorded: Recorded::default(),
            detections_blake3: Some(stored.digest().to_owned()),
            metrics: MetricTable::new(),
        };
        let trial = Trial::new(&settings, practical, &dataset, dataset.images.iter().collect())?;
        let assessment = trial.assess(candidate, &after, baseline.as_ref())?;
        let candidate = report::for_review(&assessment);
        let data = DataSummary::of(&after, Vec::new());
        let report = Report::of(assessment, data, practical);
        let words = words(&report, &trial);
        Ok(Judged { judgement: report.judgement, candidate, stored, words })
    }

    fn dealt<'r>(
        &self,
        dataset: &Dataset,
        results: &'r Results,
        detections: &Path,
    ) -> anyhow::Result<coco_results::ByImage<'r>> {
        let by_image = results.by_image(&dataset.images);
        ensure!(
            by_image.elsewhere.is_empty() && by_image.ambiguous.is_empty(),
            "{} has detections on images that {} does not have, or that are not judged",
            detections.display(),
            self.ground_truth.display()
        );
        Ok(by_image)
    }
}

/// A candidate that was judged.
struct Judged {
    judgement: Judgement,
    /// For review.
    candidate: Snapshot,
    stored: Stored,
    words: String,
}

/// The report as a failing test prints it.
fn words(report: &Report, trial: &Trial) -> String {
    let notices: String = trial.notices().map(|notice| format!("note: {notice}\n")).collect();
    let tables = terminal::tables(report);
    let review = match report.judgement.against {
        Some(_) => "",
        None => "there is no baseline yet; review the new snapshot (cargo insta review)\n",
    };
    format!("{notices}{tables}{review}")
}

/// insta's ways with a snapshot that is, or is not, good enough; what it said where it is not.
fn assert_snapshot(
    baseline: &Path,
    candidate: &str,
    passed: bool,
) -> anyhow::Result<Result<(), String>> {
    let name = baseline.file_name().and_then(|name| name.to_str());
    let name = name.and_then(|name| name.strip_suffix(".snap"));
    let name = name.with_context(|| {
        format!("{} is not called NAME.snap, as insta wants it", baseline.display())
    })?;
    ensure!(
        std::env::var_os("INSTA_PENDING_DIR").is_none(),
        "INSTA_PENDING_DIR is set, but a new snapshot has to lie beside its detections; unset it"
    );
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_snapshot_path(baseline.parent().unwrap_or(Path::new("/")));
    settings.set_comparator(Box::new(ByVerdict { passed }));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        settings.bind(|| insta::assert_snapshot!(name, candidate));
    }));
    Ok(outcome.map_err(|panic| said(panic.as_ref())))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("insta failed: {}", text.unwrap_or("it did not say why"))
}

/// insta's question whether two snapshots are equal, answered by the verdict.
#[derive(Clone)]
struct ByVerdict {
    passed: bool,
}

impl insta::Comparator for ByVerdict {
    fn matches(&self, _reference: &insta::Snapshot, _test: &insta::Snapshot) -> bool {
        self.passed
    }

    fn dyn_clone(&self) -> Box<dyn insta::Comparator> {
        Box::new(self.clone())
    }
}

/// The facts that are known here, over those of the baseline.
fn fingerprint(
    baseline: Option<&Snapshot>,
    dataset: &Dataset,
    practical: PracticalParams,
) -> Fingerprint {
    let mut fingerprint =
        baseline.map_or_else(Fingerprint::default, |baseline| baseline.fingerprint.clone());
    fingerprint.record_evaluation(dataset, dataset.images.len(), practical);
    fingerprint
}

/// The results file stands for the checkpoint that it is of.
fn provenance(detections: &Path) -> anyhow::Result<Provenance> {
    let bytes = std::fs::read(detections)
        .with_context(|| format!("cannot read {}", detections.display()))?;
    Ok(Provenance {
        checkpoint: detections.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        checkpoint_blake3: blake3::hash(&bytes).to_hex().to_string(),
        engine: concat!("detgate ", env!("CARGO_PKG_VERSION")).to_owned(),
    })
}
