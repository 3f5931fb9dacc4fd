//! `detgate eval`: configuration, data, model, inference, metrics, verdict, report, registration.

use std::borrow::Cow;
use std::path::Path;

use anyhow::Context;
use detgate::config::{BaselineSource, Config, Environment, EvalFlags};
use detgate::dataset::{self, Category, Classes, Dataset, ImageRecord};
use detgate::detections::{Detection, coco_results};
use detgate::gate::stored::Stored;
use detgate::gate::{self, Fingerprint, MetricTable, Snapshot, Trial};
use detgate::inference::ImageResult;
use detgate::matching::practical::PracticalParams;
use detgate::report::{self, DataSummary, Report, SkippedImage, terminal};

use super::baseline::{self, Kept};
use super::predictions::{self, Predictions};
use super::target::Target;
use super::{bless, origin, page, partial, register, registered, shard};
use crate::{exit_code, note, say};

/// The pipeline.
pub(crate) fn run(flags: &EvalFlags, cwd: &Path, environment: &Environment) -> anyhow::Result<u8> {
    let target = Target::of(flags, cwd)?;
    let mut config = Config::resolve_in(environment, flags, cwd)?;
    config.notices.iter().for_each(|notice| note(notice));
    let mut dataset = load_dataset(&config)?;
    // A share looks for its own images only.
    if config.detections.is_none() && config.shard.is_none() {
        find_images(&config, &mut dataset)?;
    }
    // What is wrong with the rules is said before the long part.
    trial(&config, &dataset, dataset.images.iter().collect())?.check()?;
    if config.detections.is_none() {
        registered::provide(&mut config, environment)?;
    }
    if let Some(shard) = &config.shard {
        return shard::run(shard, &config, dataset, environment, flags.quiet);
    }
    let kept = require(&config, target.as_ref(), environment)?;
    let found = predictions::obtain(&config, &dataset, environment, flags.quiet)?;
    if found.results.iter().any(Option::is_none) {
        return partial::finish(&config, &dataset, &found.results, &found.provenance);
    }
    let bar = Bar { kept: kept.as_ref(), target: target.as_ref() };
    conclude(&config, &dataset, bar, found, environment, flags.quiet)
}

/// What is needed to judge and to register; that it is not there is said before the long part.
pub(crate) fn require(
    config: &Config,
    target: Option<&Target>,
    environment: &Environment,
) -> anyhow::Result<Option<Kept>> {
    register::require(config, environment)?;
    target.map(|target| target.prepare(config)).transpose()?;
    let kept = baseline::load(config, environment)?;
    register::require_no_champion(config, environment)?;
    Ok(kept)
}

pub(crate) fn trial<'a>(
    config: &'a Config,
    dataset: &'a Dataset,
    images: Vec<&'a ImageRecord>,
) -> anyhow::Result<Trial<'a>> {
    Ok(Trial::new(&config.gate, PracticalParams::of(config), dataset, images)?)
}

/// What a run is judged by.
#[derive(Clone, Copy)]
pub(crate) struct Bar<'a> {
    pub(crate) kept: Option<&'a Kept>,
    /// The commit that it comes from, if that is another one.
    pub(crate) target: Option<&'a Target>,
}

/// From what was found on all images to the verdict, the report and the registry.
pub(crate) fn conclude(
    config: &Config,
    dataset: &Dataset,
    Bar { kept, target }: Bar<'_>,
    found: Predictions,
    environment: &Environment,
    quiet: bool,
) -> anyhow::Result<u8> {
    let Predictions { results, provenance, model_file, form, .. } = found;
    let results: Vec<ImageResult> = results.into_iter().flatten().collect();
    let images = evaluated(dataset, &results);
    let stored = Stored::pack(images.iter().map(|(image, found)| (image.id, *found)))?;
    let candidate = Snapshot {
        schema: gate::SCHEMA,
        fingerprint: Fingerprint::of_run(config, dataset, &results, &form),
        provenance,
        recorded: origin::recorded(&config.root),
        detections_blake3: Some(stored.digest().to_owned()),
        metrics: MetricTable::new(),
    };
    let before = kept.and_then(|kept| kept.on(dataset, &results));
    let before = before.as_ref().map(|before| with_images(&images, before));
    let baseline = kept.map(|kept| kept.baseline(config, before.as_deref()));
    let trial = trial(config, dataset, images.iter().map(|(image, _)| *image).collect())?;
    trial.notices().for_each(note);
    let assessment = trial.assess(candidate, &images, baseline.as_ref())?;
    let skipped = skipped(dataset, &results);
    let candidate = report::for_review(&assessment);
    let report =
        Report::of(assessment, DataSummary::of(&images, skipped), PracticalParams::of(config));
    say(&if quiet { terminal::verdict(&report) } else { terminal::tables(&report) })?;
    write_report(config, &report.to_json()?, &images)?;
    page::write(config, &report)?;
    let judgement = &report.judgement;
    // Another commit's baseline is no file to review.
    if let (BaselineSource::File(path), None) = (&config.gate.baseline, target) {
        let review = bless::Review { candidate: &candidate, stored: &stored, place: &config.place };
        let snapshot = kept.map(|kept| &kept.snapshot);
        let kept = review.keep(path, environment, snapshot, config.gate.numeric_noise);
        // The verdict stands, whatever becomes of the review.
        kept.unwrap_or_else(|error| eprintln!("warning: {error:#}"));
    }
    if let (Some(passed), Some(registry)) = (judgement.passed(), &config.registry) {
        let compared_with = kept.and_then(Kept::version);
        let run = register::Run {
            report: &report,
            stored: &stored,
            model_file: &model_file,
            form: &form,
            compared_with,
        };
        register::run(passed, run, config, registry, environment)?;
    }
    let code = exit_code(judgement.verdict);
    target.map_or(Ok(code), |target| target.conclude(config, &candidate, code))
}

/// Another side's detections on the same images.
fn with_images<'a>(images: &[Evaluated<'a>], dts: &'a [Cow<[Detection]>]) -> Vec<Evaluated<'a>> {
    std::iter::zip(images, dts).map(|((image, _), dts)| (*image, dts.as_ref())).collect()
}

/// The annotations; where the images are is not asked.
pub(crate) fn load_dataset(config: &Config) -> anyhow::Result<Dataset> {
    let classes = match config.all_categories {
        true => Classes::FromFile,
        false => Classes::Only(
            std::iter::zip(&config.label_map.target_category_ids, &config.target_classes)
                .map(|(&id, name)| Category { id, name: name.clone() })
                .collect(),
        ),
    };
    Ok(dataset::load_annotations(&config.ground_truth, &classes, config.max_images)?)
}

/// Every image of `dataset` has to be there.
pub(crate) fn find_images(config: &Config, dataset: &mut Dataset) -> anyhow::Result<()> {
    Ok(dataset::find_images(&mut dataset.images, &config.ground_truth, &config.images)?)
}

/// An image that was evaluated, and what was found on it.
pub(crate) type Evaluated<'a> = (&'a ImageRecord, &'a [Detection]);

/// The images that could be decoded.
fn evaluated<'a>(dataset: &'a Dataset, results: &'a [ImageResult]) -> Vec<Evaluated<'a>> {
    std::iter::zip(&dataset.images, results)
        .filter_map(|(image, result)| Some((image, result.outcome.as_deref().ok()?)))
        .collect()
}

/// The images that could not be decoded, and why.
fn skipped(dataset: &Dataset, results: &[ImageResult]) -> Vec<SkippedImage> {
    std::iter::zip(&dataset.images, results)
        .filter_map(|(image, result)| {
            let reason = result.outcome.as_ref().err()?.clone();
            Some(SkippedImage { file_name: image.file_name.clone(), reason })
        })
        .collect()
}

/// The JSON report, and the detections beside it.
pub(crate) fn write_report(
    config: &Config,
    json: &str,
    images: &[Evaluated],
) -> anyhow::Result<()> {
    report::write(&config.report, json).with_context(|| {
        format!("cannot write the report {}; pass --report FILE", config.report.display())
    })?;
    let detections = config.report.with_extension("detections.json");
    coco_results::write(&detections, images.iter().map(|(image, found)| (image.id, *found)))?;
    Ok(())
}
