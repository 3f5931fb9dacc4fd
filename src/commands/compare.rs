//! `detgate compare`: one results file judged against another, without a model.

use std::path::Path;

use detgate::config::{CompareConfig, CompareFlags, OutputFormat};
use detgate::dataset::Dataset;
use detgate::detections::coco_results;
use detgate::gate::{
    self, Division, Evidence, Fingerprint, Found, MetricTable, Policy, Recorded, Snapshot, judge,
    why,
};
use detgate::matching::practical::PracticalParams;
use detgate::report::{self, DataSummary, Report, Thresholds, terminal};

use super::metrics::{ground_truth, note_unlisted, require_known_images, start_threads};
use super::origin;
use crate::{exit_code, note, say};

/// Reads, evaluates both, judges, prints.
pub(crate) fn run(flags: &CompareFlags, cwd: &Path) -> anyhow::Result<u8> {
    let config = CompareConfig::resolve(flags, cwd)?;
    let policy = Policy::new(config.gate.rules.clone())?;
    start_threads(config.threads)?;
    let (dataset, (before, after)) = rayon::join(
        || ground_truth(&config.gt, Default::default()),
        || {
            rayon::join(
                || coco_results::read(&config.baseline),
                || coco_results::read(&config.candidate),
            )
        },
    );
    let (dataset, before, after) = (dataset?, before?, after?);
    let (before, after) = (before.by_image(&dataset.images), after.by_image(&dataset.images));
    require_known_images(&config.baseline, config.skip_unknown_images, &before)?;
    require_known_images(&config.candidate, config.skip_unknown_images, &after)?;
    let (before, after) = (before.on(&dataset.images), after.on(&dataset.images));
    note_unlisted(&dataset, &[(&config.baseline, &before), (&config.candidate, &after)]);
    let practical = PracticalParams { score_thr: config.score_thr, iou_thr: config.iou_thr };
    let images = dataset.images.iter().collect();
    let division = Division::of(&config.gate, practical, &dataset, images)?;
    division.notices().for_each(note);
    let baseline = snapshot(&config.baseline, &dataset, &config, division.table(&before)?)?;
    let recorded = Some(&baseline.metrics);
    let (evidence, evaluation) =
        Evidence::gather(division.subject(), &after, Some(&before), recorded)?;
    let candidate = snapshot(&config.candidate, &dataset, &config, evaluation.table())?;
    let judgement = judge(&candidate, Some(&baseline), &evidence, &policy, &config.gate)?;
    let why = why(&division.subject(), &before, &after)?;
    let report = Report {
        schema: report::SCHEMA,
        checkpoint: &candidate.provenance,
        data: summary(&after),
        settings: Thresholds { score_thr: config.score_thr, iou_thr: config.iou_thr },
        fingerprint: &candidate.fingerprint,
        evaluation: &evaluation,
        judgement: &judgement,
        why: Some(&why),
    };
    say(&match (config.format, config.quiet) {
        (OutputFormat::Json, _) => report.to_json()?,
        (OutputFormat::Text, true) => terminal::verdict(&report),
        (OutputFormat::Text, false) => terminal::tables(&report),
    })?;
    Ok(exit_code(judgement.verdict))
}

/// Both sides are measured here and now, in the same way: what is compared is comparable.
fn snapshot(
    path: &Path,
    dataset: &Dataset,
    config: &CompareConfig,
    metrics: MetricTable,
) -> anyhow::Result<Snapshot> {
    let mut fingerprint = Fingerprint::default();
    let images = dataset.images.len();
    fingerprint.record_evaluation(dataset, images, config.score_thr, config.iou_thr);
    let provenance = origin::provenance(path)?;
    Ok(Snapshot {
        schema: gate::SCHEMA,
        fingerprint,
        provenance,
        recorded: Recorded::default(),
        detections_blake3: None,
        metrics,
    })
}

fn summary(images: &[Found]) -> DataSummary {
    DataSummary {
        images: images.len(),
        ground_truth: images.iter().map(|(image, _)| image.ground_truth.len()).sum(),
        zero_area_boxes: images.iter().map(|(image, _)| image.zero_area_boxes()).sum(),
        skipped_images: Vec::new(),
    }
}
