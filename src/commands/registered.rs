//! `--checkpoint models:/NAME/VERSION`: the checkpoint of a registered version.

use detgate::config::{Config, Environment, ModelReference, ModelSource};

/// Where such checkpoints go in the project, each in a folder of its own.
#[cfg(feature = "mlflow")]
const FOLDER: &str = "reports/models";

/// Downloads the checkpoint, if `config` names a registered version, and names its file instead.
pub(crate) fn provide(config: &mut Config, environment: &Environment) -> anyhow::Result<()> {
    if let ModelSource::Registered(reference) = &config.model {
        config.model = ModelSource::Checkpoint(fetch(reference, config, environment)?);
    }
    Ok(())
}

#[cfg(feature = "mlflow")]
fn fetch(
    reference: &ModelReference,
    config: &Config,
    environment: &Environment,
) -> anyhow::Result<std::path::PathBuf> {
    use super::{interrupt, register};
    let careful = interrupt::careful()?;
    let settings = register::settings(&register::Reach::of(config), environment, &careful)?;
    let folder = config.root.join(FOLDER);
    let fetched = detgate::registry::fetch_checkpoint(reference, &settings, &folder)?;
    crate::note(&format!(
        "{reference} is version {}, whose checkpoint is {}",
        fetched.version,
        fetched.path.strip_prefix(&config.root).unwrap_or(&fetched.path).display()
    ));
    Ok(fetched.path)
}

#[cfg(not(feature = "mlflow"))]
fn fetch(
    reference: &ModelReference,
    _config: &Config,
    _environment: &Environment,
) -> anyhow::Result<std::path::PathBuf> {
    anyhow::bail!(
        "this detgate was built without the feature `mlflow`, which the checkpoint {reference} needs"
    )
}
