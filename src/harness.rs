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
//! it does not let through fails with the verdict, and waits for review. `INSTA_UPDATE` and `CI` do what
//! they do for every insta snapshot.
//!
//! Relative paths are relative to the crate whose test runs, as cargo runs tests there. Deliberately
//! absent: inference; and facts about images and preprocessing, which results files do not tell: those
//! of the baseline are taken to hold.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, ensure};

use crate::config::{Environment, GateConfig, policy_file};
use crate::dataset::{self, Classes, Dataset};
use crate::detections::coco_results::{self, Results};
use crate::gate::stored::{self, Stored};
use crate::gate::{
    self, Division, Evidence, Fingerprint, Judgement, Policy, Provenance, Recorded, Snapshot,
    Verdict, judge,
};
use crate::matching::practical::PracticalParams;
use crate::report::terminal;

/// A ground truth and a policy, to judge detections by.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    ground_truth: PathBuf,
    policy: Option<PathBuf>,
}

impl Gate {
    /// With the ground truth, a COCO file (also `.gz` or `.zst`), and the default policy.
    pub fn new(ground_truth: impl Into<PathBuf>) -> Self {
        Self { ground_truth: ground_truth.into(), policy: None }
    }

    /// By `[gate]` and `[practical]` of a `detgate.toml`.
    pub fn policy(self, file: impl Into<PathBuf>) -> Self {
        Self { policy: Some(file.into()), ..self }
    }

    /// Asserts that the detections, a COCO results file, pass the gate against the baseline, an insta
    /// snapshot.
    ///
    /// # Panics
    /// With the verdict in words where they do not, and with one sentence where that cannot be told.
    #[track_caller]
    pub fn assert(&self, baseline: impl AsRef<Path>, detections: impl AsRef<Path>) {
        let (baseline, detections) = (baseline.as_ref(), detections.as_ref());
        if let Err(error) = self.compare(baseline, detections) {
            panic!("{error:#}");
        }
    }

    /// The verdict on the detections, without insta: nothing is written.
    ///
    /// # Errors
    /// One sentence that names the file and the remedy.
    pub fn judge(&self, baseline: &Path, detections: &Path) -> anyhow::Result<Judgement> {
        let loaded = Loaded::read(self, detections)?;
        let snapshot = Snapshot::read(baseline)?;
        let candidate = loaded.snapshot(snapshot.as_ref())?;
        loaded.judge(baseline, snapshot.as_ref(), &candidate)
    }

    fn compare(&self, baseline: &Path, detections: &Path) -> anyhow::Result<()> {
        // insta joins a relative path to the folder of its caller's source.
        let baseline = std::path::absolute(baseline)
            .with_context(|| format!("cannot tell where {} is", baseline.display()))?;
        let name = baseline.file_name().and_then(|name| name.to_str());
        let name = name.and_then(|name| name.strip_suffix(".snap"));
        let name = name.with_context(|| {
            format!("{} is not called NAME.snap, as insta wants it", baseline.display())
        })?;
        let loaded = Loaded::read(self, detections)?;
        let before = Snapshot::read(&baseline)?;
        let candidate = loaded.snapshot(before.as_ref())?;
        if Environment::from_process().ci {
            // insta would write with INSTA_UPDATE=always; under CI nothing ever is.
            let judgement = loaded.judge(&baseline, before.as_ref(), &candidate)?;
            ensure!(judgement.verdict == Verdict::Passed, terminal::judgement(&judgement));
            return Ok(());
        }
        let stored = loaded.stored()?;
        let said =
            Arc::new(Mutex::new("there is no baseline yet; review the new snapshot".to_owned()));
        let comparator = ByPolicy { loaded, baseline: baseline.clone(), said: Arc::clone(&said) };
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_snapshot_path(baseline.parent().unwrap_or(Path::new("/")));
        settings.set_comparator(Box::new(comparator));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            settings.bind(|| insta::assert_snapshot!(name, candidate.body()));
        }));
        // Where insta has written the snapshot, its detections belong beside it.
        stored.write_if_wanted(&baseline)?;
        stored::tidy(&baseline)?;
        let said = said.lock().map(|said| said.clone()).unwrap_or_default();
        ensure!(outcome.is_ok(), "{said}");
        Ok(())
    }
}

/// insta's question whether two snapshots are equal, answered by the policy.
#[derive(Clone)]
struct ByPolicy {
    loaded: Arc<Loaded>,
    baseline: PathBuf,
    /// The last verdict, in words.
    said: Arc<Mutex<String>>,
}

impl insta::Comparator for ByPolicy {
    fn matches(&self, reference: &insta::Snapshot, test: &insta::Snapshot) -> bool {
        let judged = || -> anyhow::Result<Judgement> {
            let text = |snapshot: &insta::Snapshot| {
                snapshot.contents().as_text().map(ToString::to_string).unwrap_or_default()
            };
            let before = Snapshot::parse(&text(reference), &self.baseline)?;
            let candidate = Snapshot::parse(&text(test), &self.baseline)?;
            self.loaded.judge(&self.baseline, Some(&before), &candidate)
        };
        let (passed, words) = match judged() {
            Ok(judgement) => {
                (judgement.verdict == Verdict::Passed, terminal::judgement(&judgement))
            }
            Err(error) => (false, format!("{error:#}")),
        };
        if let Ok(mut said) = self.said.lock() {
            *said = words;
        }
        passed
    }

    fn dyn_clone(&self) -> Box<dyn insta::Comparator> {
        Box::new(self.clone())
    }
}

/// A candidate with all that it is judged by.
struct Loaded {
    dataset: Dataset,
    results: Results,
    gate: GateConfig,
    policy: Policy,
    practical: PracticalParams,
    provenance: Provenance,
}

impl Loaded {
    fn read(gate: &Gate, detections: &Path) -> anyhow::Result<Arc<Self>> {
        let (config, practical) = policy_file(gate.policy.as_deref())?;
        let practical = PracticalParams { score_thr: practical.0, iou_thr: practical.1 };
        let policy = Policy::new(config.rules.clone())?;
        let dataset = dataset::read(&gate.ground_truth, &Classes::FromFile, Default::default())?;
        let results = coco_results::read(detections)?;
        let by_image = results.by_image(&dataset.images);
        ensure!(
            by_image.elsewhere.is_empty() && by_image.ambiguous.is_empty(),
            "{} has detections on images that {} does not have",
            detections.display(),
            gate.ground_truth.display()
        );
        drop(by_image);
        let provenance = Provenance {
            checkpoint: detections.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            checkpoint_blake3: String::new(),
            engine: concat!("detgate ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        Ok(Arc::new(Self { dataset, results, gate: config, policy, practical, provenance }))
    }

    fn stored(&self) -> anyhow::Result<Stored> {
        let by_image = self.results.by_image(&self.dataset.images);
        let images = self.dataset.images.iter().zip(&by_image.images);
        Ok(Stored::pack(images.map(|(image, dts)| (image.id, dts.as_ref())))?)
    }

    /// The facts that are known here, over those of the baseline.
    fn fingerprint(&self, baseline: Option<&Snapshot>) -> Fingerprint {
        let mut fingerprint =
            baseline.map_or_else(Fingerprint::default, |baseline| baseline.fingerprint.clone());
        fingerprint.record_evaluation(
            &self.dataset,
            self.dataset.images.len(),
            self.practical.score_thr,
            self.practical.iou_thr,
        );
        fingerprint
    }

    fn snapshot(&self, baseline: Option<&Snapshot>) -> anyhow::Result<Snapshot> {
        let by_image = self.results.by_image(&self.dataset.images);
        let images = by_image.on(&self.dataset.images);
        Ok(Snapshot {
            schema: gate::SCHEMA,
            fingerprint: self.fingerprint(baseline),
            provenance: self.provenance.clone(),
            recorded: Recorded::default(),
            detections_blake3: Some(self.stored()?.digest().to_owned()),
            metrics: self.division()?.table(&images)?,
        })
    }

    fn division(&self) -> anyhow::Result<Division<'_>> {
        let images = self.dataset.images.iter().collect();
        Ok(Division::of(&self.gate, self.practical, &self.dataset, images)?)
    }

    fn judge(
        &self,
        path: &Path,
        baseline: Option<&Snapshot>,
        candidate: &Snapshot,
    ) -> anyhow::Result<Judgement> {
        let images = &self.dataset.images;
        let before = baseline.map(|baseline| stored::read(path, baseline)).transpose()?.flatten();
        let before = before.as_ref().map(|before| before.by_image(images));
        let before = before.as_ref().map(|before| before.on(images));
        let after = self.results.by_image(images);
        let after = after.on(images);
        let recorded = baseline.map(|baseline| &baseline.metrics);
        let division = self.division()?;
        let (evidence, _) =
            Evidence::gather(division.subject(), &after, before.as_deref(), recorded)?;
        Ok(judge(candidate, baseline, &evidence, &self.policy, &self.gate)?)
    }
}
