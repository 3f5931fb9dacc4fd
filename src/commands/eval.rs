//! `detgate eval`: configuration, data, model, inference, metrics, verdict, report, registration.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use anyhow::Context;
use detgate::config::{BaselineSource, Config, Environment, EvalFlags};
use detgate::dataset::{self, Category, Classes, Dataset, ImageRecord};
use detgate::detections::{Detection, Detector, coco_results};
use detgate::gate::stored::Stored;
use detgate::gate::{
    self, Division, Evidence, Fingerprint, Judgement, MetricTable, Policy, Recorded, Snapshot,
    judge, why,
};
use detgate::inference::{self, ImageResult};
use detgate::matching::practical::PracticalParams;
use detgate::report::{self, DataSummary, Progress, Report, SkippedImage, Thresholds, terminal};

use super::baseline::{self, Baseline};
use super::{bless, origin, register};
use crate::{exit_code, say};

/// The pipeline.
pub(crate) fn run(flags: &EvalFlags, cwd: &Path, environment: &Environment) -> anyhow::Result<u8> {
    let config = Config::resolve(flags, cwd)?;
    config.notices.iter().for_each(|notice| eprintln!("note: {notice}"));
    let dataset = load_dataset(&config)?;
    register::require(&config, environment)?;
    let policy = Policy::new(config.gate.rules.clone())?;
    // What is wrong with the rules is said before the long part.
    let practical = PracticalParams { score_thr: config.score_thr, iou_thr: config.iou_thr };
    let divide = |images| Division::of(&config.gate, practical, &dataset, images);
    divide(dataset.images.iter().collect())?.check(&policy)?;
    let baseline = baseline::load(&config, environment)?;
    let (detector, model_file) = load_detector(&config)?;
    // Before inference: a training run may put another checkpoint in its place meanwhile.
    let provenance = origin::provenance(&model_file)?;
    let results = infer(&config, &dataset, detector.as_ref(), flags.quiet)?;
    let images = evaluated(&dataset, &results);
    let stored = Stored::pack(images.iter().map(|(image, found)| (image.id, *found)))?;
    let mut candidate = Snapshot {
        schema: gate::SCHEMA,
        fingerprint: Fingerprint::of_run(&config, &dataset, &results),
        provenance,
        recorded: origin::recorded(&config.root),
        detections_blake3: Some(stored.digest().to_owned()),
        metrics: MetricTable::new(),
    };
    // What was found on other data says nothing here.
    let same_data = |baseline: &&Baseline| {
        baseline.snapshot.fingerprint.differences(&candidate.fingerprint).is_empty()
    };
    let before = baseline.as_ref().filter(same_data);
    let before = before.and_then(|baseline| baseline.on(&dataset, &results));
    let before = before.as_ref().map(|before| with_images(&images, before));
    let division = divide(images.iter().map(|(image, _)| *image).collect())?;
    let snapshot = baseline.as_ref().map(|baseline| &baseline.snapshot);
    let recorded = snapshot.map(|snapshot| &snapshot.metrics);
    division.notices().for_each(|notice| eprintln!("note: {notice}"));
    let (evidence, evaluation) =
        Evidence::gather(division.subject(), &images, before.as_deref(), recorded)?;
    candidate.metrics = evaluation.table();
    let judgement = judge(&candidate, snapshot, &evidence, &policy, &config.gate)?;
    let subject = division.subject();
    let why = before.as_deref().map(|before| why(&subject, before, &images)).transpose()?;
    let report = Report {
        schema: report::SCHEMA,
        checkpoint: &candidate.provenance,
        data: summary(&dataset, &results, &images),
        settings: Thresholds { score_thr: config.score_thr, iou_thr: config.iou_thr },
        fingerprint: &candidate.fingerprint,
        evaluation: &evaluation,
        judgement: &judgement,
        why: why.as_ref(),
    };
    say(&if flags.quiet { terminal::verdict(&report) } else { terminal::tables(&report) })?;
    write_report(&config, &report, &images)?;
    if let BaselineSource::File(path) = &config.gate.baseline {
        let recorded = Recorded {
            verdict: Some(judgement.verdict),
            objections: objections(&judgement, snapshot),
            against: snapshot.map(Snapshot::digest),
            ..candidate.recorded.clone()
        };
        let candidate = Snapshot { recorded, ..candidate.clone() };
        let review = bless::Review { candidate: &candidate, stored: &stored };
        review.keep(path, environment, snapshot, config.gate.numeric_noise)?;
    }
    if let (Some(passed), Some(registry)) = (judgement.passed(), &config.registry) {
        register::run(&passed, &evaluation, &config, registry, environment, &model_file, &stored)?;
    }
    Ok(exit_code(judgement.verdict))
}

/// What speaks against making the candidate the baseline. That there is none yet does not.
fn objections(judgement: &Judgement, baseline: Option<&Snapshot>) -> Vec<String> {
    let mut objections = terminal::objections(judgement);
    if baseline.is_some() {
        objections.extend(judgement.reasons.iter().cloned());
    }
    objections
}

/// Another side's detections on the same images.
fn with_images<'a>(images: &[Evaluated<'a>], dts: &'a [Cow<[Detection]>]) -> Vec<Evaluated<'a>> {
    std::iter::zip(images, dts).map(|((image, _), dts)| (*image, dts.as_ref())).collect()
}

fn load_dataset(config: &Config) -> anyhow::Result<Dataset> {
    let classes = match config.all_categories {
        true => Classes::FromFile,
        false => Classes::Only(
            std::iter::zip(&config.label_map.target_category_ids, &config.target_classes)
                .map(|(&id, name)| Category { id, name: name.clone() })
                .collect(),
        ),
    };
    Ok(dataset::load(&config.ground_truth, &config.images, &classes, config.max_images)?)
}

/// An image that was evaluated, and what was found on it.
type Evaluated<'a> = (&'a ImageRecord, &'a [Detection]);

fn infer(
    config: &Config,
    dataset: &Dataset,
    detector: &dyn Detector,
    quiet: bool,
) -> anyhow::Result<Vec<ImageResult>> {
    let progress = Progress::new(dataset.images.len(), quiet);
    let settings =
        inference::Settings { workers: config.workers, skip_bad_images: config.skip_bad_images };
    Ok(inference::run(detector, &dataset.images, settings, || progress.advance())?)
}

/// The images that could be decoded.
fn evaluated<'a>(dataset: &'a Dataset, results: &'a [ImageResult]) -> Vec<Evaluated<'a>> {
    std::iter::zip(&dataset.images, results)
        .filter_map(|(image, result)| Some((image, result.outcome.as_deref().ok()?)))
        .collect()
}

fn summary(dataset: &Dataset, results: &[ImageResult], images: &[Evaluated]) -> DataSummary {
    DataSummary {
        images: images.len(),
        ground_truth: images.iter().map(|(image, _)| image.ground_truth.len()).sum(),
        zero_area_boxes: images.iter().map(|(image, _)| image.zero_area_boxes()).sum(),
        skipped_images: std::iter::zip(&dataset.images, results)
            .filter_map(|(image, result)| {
                let reason = result.outcome.as_ref().err()?.clone();
                Some(SkippedImage { file_name: image.file_name.clone(), reason })
            })
            .collect(),
    }
}

/// The JSON report, and the detections beside it.
fn write_report(config: &Config, report: &Report, images: &[Evaluated]) -> anyhow::Result<()> {
    report::write(&config.report, &report.to_json()?).with_context(|| {
        format!("cannot write the report {}; pass --report FILE", config.report.display())
    })?;
    let detections = config.report.with_extension("detections.json");
    coco_results::write(&detections, images.iter().map(|(image, found)| (image.id, *found)))?;
    Ok(())
}

#[cfg(feature = "torch")]
fn load_detector(config: &Config) -> anyhow::Result<(Box<dyn Detector>, PathBuf)> {
    Ok(detgate::model::load(config)?)
}

#[cfg(not(feature = "torch"))]
fn load_detector(_config: &Config) -> anyhow::Result<(Box<dyn Detector>, PathBuf)> {
    anyhow::bail!("this detgate was built without the feature `torch`; use `cargo xtask eval`")
}
