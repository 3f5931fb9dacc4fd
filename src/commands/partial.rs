//! What is left of an evaluation whose end was asked for: a report that says so, and no verdict.

use detgate::config::Config;
use detgate::dataset::Dataset;
use detgate::detections::Detection;
use detgate::gate::Provenance;
use detgate::inference::ImageResult;
use detgate::matching::coco::CocoParams;
use detgate::matching::practical::PracticalParams;
use detgate::metrics;
use detgate::report::{DataSummary, PartialReport, SkippedImage};

use super::{eval, interrupt, page};
use crate::{exit, say};

/// Writes the metrics of the images that were finished, in the place of the report.
pub(crate) fn finish(
    config: &Config,
    dataset: &Dataset,
    results: &[Option<ImageResult>],
    provenance: &Provenance,
) -> anyhow::Result<u8> {
    let finished = || {
        let images = dataset.images.iter().zip(results);
        images.filter_map(|(image, result)| Some((image, &result.as_ref()?.outcome)))
    };
    let images: Vec<(_, &[Detection])> =
        finished().filter_map(|(image, found)| Some((image, found.as_deref().ok()?))).collect();
    let skipped = |(image, outcome): (&detgate::dataset::ImageRecord, &Result<_, String>)| {
        let reason = outcome.as_ref().err()?.clone();
        Some(SkippedImage { file_name: image.file_name.clone(), reason })
    };
    let skipped = finished().filter_map(skipped).collect();
    let practical = PracticalParams::of(config);
    let coco = CocoParams::default();
    let evaluation = metrics::evaluate(&dataset.categories, &images, &practical, &coco)?;
    let not_reached = results.iter().filter(|result| result.is_none()).count();
    let data = DataSummary::of(&images, skipped);
    let report = PartialReport::of(provenance, data, not_reached, &evaluation, practical);
    eval::write_report(config, &report.to_json()?, &images)?;
    page::remove(config)?;
    say(&format!(
        "INTERRUPTED: {} of {} images were evaluated and nothing was judged; {} says what is known\n",
        results.len() - not_reached,
        results.len(),
        config.report.display()
    ))?;
    Ok(interrupt::exit_code().unwrap_or(exit::COULD_NOT_EVALUATE))
}
