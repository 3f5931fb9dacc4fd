//! `detgate compare`: results files judged against others, without a model; or two reports beside each other.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use detgate::config::{CompareConfig, CompareFlags, CompareFormat};
use detgate::detections::coco_results;
use detgate::gate::{self, Baseline, Fingerprint, MetricTable, Recorded, Snapshot, Trial};
use detgate::matching::practical::PracticalParams;
use detgate::report::side_by_side::Comparison;
use detgate::report::{DataSummary, Report, terminal};

use super::metrics::{ground_truth, note_unlisted, require_known_images, start_threads};
use super::{named, origin, page};
use crate::{exit, exit_code, note, say};

/// Reads, evaluates both, judges, prints.
pub(crate) fn run(flags: &CompareFlags, cwd: &Path) -> anyhow::Result<u8> {
    if let [before, after] = &flags.reports[..] {
        return reports([before, after].map(|path| cwd.join(path)), flags.format);
    }
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

/// Two results that are there already, without judging anything.
fn reports([before, after]: [PathBuf; 2], format: CompareFormat) -> anyhow::Result<u8> {
    ensure!(
        format != CompareFormat::Html,
        "a page is of one result: take `detgate report --from {} --format html`",
        after.display()
    );
    let comparison = Comparison::of(&Report::read(&before)?, &Report::read(&after)?);
    say(&match format {
        CompareFormat::Json => comparison.to_json()?,
        CompareFormat::Text | CompareFormat::Html => comparison.text(),
    })?;
    Ok(if comparison.differences.is_empty() { exit::PASSED } else { exit::INCOMPARABLE })
}
