//! `detgate compare`: results files judged against others, without a model.

use std::path::Path;

use detgate::config::{CompareConfig, CompareFlags, CompareFormat};
use detgate::detections::coco_results;
use detgate::gate::{self, Baseline, Fingerprint, MetricTable, Recorded, Snapshot, Trial};
use detgate::matching::practical::PracticalParams;
use detgate::report::{DataSummary, Report, terminal};

use super::metrics::{ground_truth, note_unlisted, require_known_images, start_threads};
use super::{named, origin, page};
use crate::{exit_code, note, say};

/// Reads, evaluates both, judges, prints.
pub(crate) fn run(flags: &CompareFlags, cwd: &Path) -> anyhow::Result<u8> {
    let config = CompareConfig::resolve(flags, cwd)?;
    named::require_once(&config.baseline)?;
    named::require_once(&config.candidate)?;
    start_threads(config.threads)?;
    let (dataset, (before, after)) = rayon::join(
        || ground_truth(&config.gt, Default::default()),
        || {
            rayon::join(
                || coco_results::read_all(&config.baseline),
                || coco_results::read_all(&config.candidate),
            )
        },
    );
    let (dataset, before, after) = (dataset?, before?, after?);
    let (before, after) = (before.by_image(&dataset.images), after.by_image(&dataset.images));
    let files = (named::paths(&config.baseline), named::paths(&config.candidate));
    require_known_images(&files.0, config.skip_unknown_images, &before)?;
    require_known_images(&files.1, config.skip_unknown_images, &after)?;
    let (before, after) = (before.on(&dataset.images), after.on(&dataset.images));
    note_unlisted(&dataset, &[(&files.0, &before), (&files.1, &after)]);
    let practical = PracticalParams { score_thr: config.score_thr, iou_thr: config.iou_thr };
    let trial = Trial::new(&config.gate, practical, &dataset, dataset.images.iter().collect())?;
    trial.notices().for_each(note);
    let mut fingerprint = Fingerprint::default();
    // Both sides are measured here and now, in the same way: what is compared is comparable.
    fingerprint.record_evaluation(&dataset, dataset.images.len(), practical);
    let provenance = origin::provenance_of_results(&config.baseline)?;
    let baseline = Baseline {
        name: files.0.clone(),
        fingerprint: &fingerprint,
        engine: &provenance.engine,
        digest: None,
        recorded: None,
        found: Some(&before),
    };
    let candidate = Snapshot {
        schema: gate::SCHEMA,
        fingerprint: fingerprint.clone(),
        provenance: origin::provenance_of_results(&config.candidate)?,
        recorded: Recorded::default(),
        detections_blake3: None,
        metrics: MetricTable::new(),
    };
    let assessment = trial.assess(candidate, &after, Some(&baseline))?;
    let report = Report::of(assessment, DataSummary::of(&after, Vec::new()), practical);
    say(&match (config.format, config.quiet) {
        (CompareFormat::Json, _) => report.to_json()?,
        (CompareFormat::Html, _) => {
            page::of_images(&report, config.images.as_deref(), &dataset.images)?
        }
        (CompareFormat::Text, true) => terminal::verdict(&report),
        (CompareFormat::Text, false) => terminal::tables(&report),
    })?;
    Ok(exit_code(report.judgement.verdict))
}
