//! What a candidate is compared with: a snapshot in the project, or that of a registered version.

use std::borrow::Cow;
use std::path::Path;

use detgate::config::{BaselineSource, Config, Environment, ModelReference, TARGET_FOLDER};
use detgate::dataset::Dataset;
use detgate::detections::Detection;
use detgate::detections::coco_results::Results;
use detgate::gate::{Baseline, Found, Snapshot, stored};
use detgate::inference::ImageResult;

/// A baseline, with what was found then, where that was kept.
pub(crate) struct Kept {
    pub(crate) snapshot: Snapshot,
    detections: Option<Results>,
    /// The number of the registered version that it is.
    version: Option<String>,
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
    Ok(Some(Kept { snapshot, detections, version: None }))
}

#[cfg(feature = "mlflow")]
fn registered(
    reference: &ModelReference,
    config: &Config,
    environment: &Environment,
) -> anyhow::Result<Option<Kept>> {
    use detgate::registry::fetch_baseline;
    let careful = super::interrupt::careful()?;
    let settings =
        super::register::settings(&super::register::Reach::of(config), environment, &careful)?;
    let folder = tempfile::tempdir()?;
    match fetch_baseline(reference, &settings, folder.path())? {
        Some(fetched) => {
            let kept = read(&fetched.snapshot)?;
            Ok(kept.map(|kept| Kept { version: Some(fetched.version), ..kept }))
        }
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

/// What the baseline is called in reports, which hold no path of this machine.
pub(crate) fn name(config: &Config) -> String {
    match &config.gate.baseline {
        BaselineSource::File(path) => match path.strip_prefix(config.root.join(TARGET_FOLDER)) {
            Ok(path) => format!("{} of the target", path.display()),
            Err(_) => path.strip_prefix(&config.root).unwrap_or(path).display().to_string(),
        },
        BaselineSource::Model(reference) => reference.to_string(),
    }
}

impl Kept {
    /// The number of the registered version that it is; `None` where it is a file.
    pub(crate) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// As the gate wants it, with what was found then on the images that are evaluated now.
    pub(crate) fn baseline<'b>(
        &'b self,
        config: &Config,
        found: Option<&'b [Found<'b>]>,
    ) -> Baseline<'b> {
        Baseline::of(name(config), &self.snapshot, found)
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
