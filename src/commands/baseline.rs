//! What a candidate is compared with: a snapshot in the project, or that of a registered version.

use std::borrow::Cow;
use std::path::Path;

use detgate::config::{BaselineSource, Config, Environment, ModelReference};
use detgate::dataset::Dataset;
use detgate::detections::Detection;
use detgate::detections::coco_results::Results;
use detgate::gate::{Baseline, Found, Snapshot, stored};
use detgate::inference::ImageResult;

/// A baseline, with what was found then, where that was kept.
pub(crate) struct Kept {
    pub(crate) snapshot: Snapshot,
    detections: Option<Results>,
}

/// `None` where there is none yet.
pub(crate) fn load(config: &Config, environment: &Environment) -> anyhow::Result<Option<Kept>> {
    match &config.gate.baseline {
        BaselineSource::File(path) => read(path),
        BaselineSource::Model(reference) => registered(reference, config, environment),
    }
}

fn read(path: &Path) -> anyhow::Result<Option<Kept>> {
    let Some(snapshot) = Snapshot::read(path)? else { return Ok(None) };
    let detections = stored::read(path, &snapshot)?;
    Ok(Some(Kept { snapshot, detections }))
}

#[cfg(feature = "mlflow")]
fn registered(
    reference: &ModelReference,
    config: &Config,
    environment: &Environment,
) -> anyhow::Result<Option<Kept>> {
    use detgate::registry::fetch_baseline;
    let careful = super::interrupt::careful()?;
    let settings = super::register::settings(config, environment, &careful)?;
    let folder = tempfile::tempdir()?;
    match fetch_baseline(reference, &settings, folder.path())? {
        Some(path) => read(&path),
        None => {
            crate::note(&format!(
                "{reference} names no version yet: judge by a file until one is registered and called so"
            ));
            Ok(None)
        }
    }
}

#[cfg(not(feature = "mlflow"))]
fn registered(
    reference: &ModelReference,
    _config: &Config,
    _environment: &Environment,
) -> anyhow::Result<Option<Kept>> {
    anyhow::bail!(
        "this detgate was built without the feature `mlflow`, which the baseline {reference} needs"
    )
}

impl Kept {
    /// As the gate wants it, with what was found then on the images that are evaluated now.
    pub(crate) fn baseline<'b>(
        &'b self,
        config: &Config,
        found: Option<&'b [Found<'b>]>,
    ) -> Baseline<'b> {
        // A report holds no path of this machine.
        let name = match &config.gate.baseline {
            BaselineSource::File(path) => {
                path.strip_prefix(&config.root).unwrap_or(path).display().to_string()
            }
            BaselineSource::Model(reference) => reference.to_string(),
        };
        Baseline::of(name, &self.snapshot, found)
    }

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
