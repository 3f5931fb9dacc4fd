//! `detgate registry`: the registered versions of a model.

use std::path::Path;

use detgate::config::{Environment, RegistryFlags};

#[cfg(feature = "mlflow")]
pub(crate) fn run(
    flags: &RegistryFlags,
    cwd: &Path,
    environment: &Environment,
) -> anyhow::Result<String> {
    use detgate::config::{BrowseConfig, OutputFormat, Wanted};
    use detgate::registry::{find, versions};
    use detgate::report::registry_text::{self, Difference};

    use super::register::Reach;

    let config = BrowseConfig::resolve(flags, cwd, environment)?;
    let careful = super::interrupt::careful()?;
    // To look at a database is no reason to change it.
    let reach = Reach { tracking_uri: &config.tracking_uri, root: &config.root, migrate: false };
    let settings = super::register::settings(&reach, environment, &careful)?;
    let model = &config.model_name;
    let is_json = config.format == OutputFormat::Json;
    Ok(match &config.wanted {
        Wanted::List(limit) => {
            let found = versions(model, *limit, &settings)?;
            if is_json {
                registry_text::json(model, &found)?
            } else {
                registry_text::list(model, &found)
            }
        }
        Wanted::One(version) => {
            let found = find(model, std::slice::from_ref(version), &settings)?;
            match found.first() {
                _ if is_json => registry_text::json(model, &found)?,
                found => found.map_or_else(String::new, |found| registry_text::one(model, found)),
            }
        }
        Wanted::Two(before, after) => {
            let found = find(model, &[before.clone(), after.clone()], &settings)?;
            let [before, after] = &found[..] else { return Ok(String::new()) };
            let difference = Difference::of(model, before, after);
            if is_json { difference.to_json()? } else { registry_text::difference(&difference) }
        }
    })
}

#[cfg(not(feature = "mlflow"))]
pub(crate) fn run(
    _flags: &RegistryFlags,
    _cwd: &Path,
    _environment: &Environment,
) -> anyhow::Result<String> {
    anyhow::bail!(
        "this detgate was built without the feature `mlflow`; use `cargo xtask eval` for one that has it"
    )
}
