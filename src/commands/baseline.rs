//! What a candidate is compared with: a snapshot in the project, or that of a registered version.

use std::borrow::Cow;
use std::path::Path;

use detgate::config::{BaselineSource, Config, Environment};
use detgate::dataset::Dataset;
use detgate::detections::Detection;
use detgate::detections::coco_results::Results;
use detgate::gate::{Snapshot, stored};
use detgate::inference::ImageResult;

/// A baseline, with what was found then, where that was kept.
pub(crate) struct Baseline {
    pub(crate) snapshot: Snapshot,
    detections: Option<Results>,
}

/// `None` where there is none yet.
pub(crate) fn load(config: &Config, environment: &Environment) -> anyhow::Result<Option<Baseline>> {
    match &config.gate.baseline {
        BaselineSource::File(path) => read(path),
        BaselineSource::Model(reference) => registered(reference, config, environment),
    }
}

fn read(path: &Path) -> anyhow::Result<Option<Baseline>> {
    let Some(snapshot) = Snapshot::read(path)? else { return Ok(None) };
    let detections = stored::read(path, &snapshot)?;
    Ok(Some(Baseline { snapshot, detections }))
}

#[cfg(feature = "mlflow")]
fn registered(
    reference: &str,
    config: &Config,
    environment: &Environment,
) -> anyhow::Result<Option<Baseline>> {
    use detgate::registry::{ModelReference, fetch_baseline};
    let reference = ModelReference::parse(reference)?;
    let settings = super::register::settings(config, environment)?;
    let folder = tempfile::tempdir()?;
    match fetch_baseline(&reference, &settings, folder.path())? {
        Some(path) => read(&path),
        None => Ok(None),
    }
}

#[cfg(not(feature = "mlflow"))]
fn registered(
    reference: &str,
    _config: &Config,
    _environment: &Environment,
) -> anyhow::Result<Option<Baseline>> {
    anyhow::bail!(
        "this detgate was built without the feature `mlflow`, which the baseline {reference} needs"
    )
}

impl Baseline {
    /// What was found then on the images that are evaluated now.
    pub(crate) fn on<'b>(
        &'b self,
        dataset: &Dataset,
        results: &[ImageResult],
    ) -> Option<Vec<Cow<'b, [Detection]>>> {
        let by_image = self.detections.as_ref()?.by_image(&dataset.images);
        let evaluated = std::iter::zip(by_image.images, results);
        Some(evaluated.filter(|(_, result)| result.outcome.is_ok()).map(|(dts, _)| dts).collect())
    }
}
