//! `detgate registry`: which model of which registry, and what is wanted of it; and what an alias may be called.

use std::path::{Path, PathBuf};

use super::{
    BaselineSource, ConfigError, Environment, ModelVersion, OutputFormat, ProjectFlags,
    RegistryCommand, RegistryConfig, RegistryFlags, RegistryPlace, TrackingAddress,
    default_model_name, project, root, settings, tracking_uri,
};

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowseConfig {
    /// What a relative `sqlite:///FILE` is relative to.
    pub root: PathBuf,
    /// `sqlite:///FILE` or `http(s)://HOST`.
    pub tracking_uri: TrackingAddress,
    /// The registered model's name.
    pub model_name: String,
    /// How to print it.
    pub format: OutputFormat,
    /// What is wanted.
    pub wanted: Wanted,
}

/// What of a model is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The newest versions, so many.
    List(usize),
    /// One version.
    One(ModelVersion),
    /// Two, beside each other.
    Two(ModelVersion, ModelVersion),
}

impl BrowseConfig {
    /// Resolves flags over MLflow's variables over the project's settings. With both `--tracking-uri` and `--model-name` no
    /// project is needed.
    ///
    /// # Errors
    /// A [`ConfigError`]: there is no project, or something that is no version.
    pub fn resolve(
        flags: &RegistryFlags,
        cwd: &Path,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let (place, wanted) = match &flags.command {
            RegistryCommand::Ls { place, limit } => (place, Wanted::List(*limit)),
            RegistryCommand::Show { version, place } => {
                (place, Wanted::One(self::version(version)?))
            }
            RegistryCommand::Diff { before, after, place } => {
                (place, Wanted::Two(version(before)?, version(after)?))
            }
        };
        let (root, tracking_uri, model_name) = registry(place, cwd, environment)?;
        Ok(Self { root, tracking_uri, model_name, format: place.format, wanted })
    }
}

fn registry(
    place: &RegistryPlace,
    cwd: &Path,
    environment: &Environment,
) -> Result<(PathBuf, TrackingAddress, String), ConfigError> {
    let (flag, mlflow) = (place.tracking_uri.as_deref(), &environment.mlflow);
    if let (Some(uri), Some(model), None) = (flag, &place.model_name, &place.project) {
        return Ok((cwd.to_owned(), TrackingAddress::new(uri, cwd), model.clone()));
    }
    let root = root(&ProjectFlags { project: place.project.clone(), baseline: None }, cwd)?;
    let settings = settings::read(&root)?.registry;
    let uri = tracking_uri(flag, mlflow, &settings.tracking_uri, cwd);
    let model_name = match place.model_name.clone().or(settings.model_name) {
        Some(name) => name,
        None => default_model_name(&project::read_project(&root)?),
    };
    Ok((root, uri, model_name))
}

/// A number, or an alias with or without its `@`.
fn version(text: &str) -> Result<ModelVersion, ConfigError> {
    let name = text.strip_prefix('@').unwrap_or(text);
    let is_letter = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || !name.chars().all(is_letter) {
        return Err(ConfigError::Range {
            name: "the version".to_owned(),
            value: format!("{text:?}"),
            range: "a number such as 3, or an alias such as champion",
        });
    }
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    let version = if is_number { ModelVersion::Number } else { ModelVersion::Alias };
    Ok(version(name.to_owned()))
}

/// Whether MLflow takes a name for an alias (`_validate_model_alias_name`, MLflow 3.17), of ASCII.
fn is_alias(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let is_version = name
        .strip_prefix(['v', 'V'])
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()));
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    name.len() <= 255
        && name.chars().all(is_letter)
        && !is_version
        && !is_number
        && !name.eq_ignore_ascii_case("latest")
}

/// What is wrong with the aliases, before hours are spent.
pub(super) fn check_aliases(
    registry: &RegistryConfig,
    baseline: &BaselineSource,
) -> Result<(), ConfigError> {
    let named = [("[registry] alias", &registry.alias), ("--promote", &registry.promote)];
    for (name, alias) in named {
        if let Some(alias) = alias.as_ref().filter(|alias| !is_alias(alias)) {
            return Err(ConfigError::Range {
                name: name.to_owned(),
                value: format!("{alias:?}"),
                range: "of letters, digits, - and _, and neither a number, `latest` nor like v1",
            });
        }
    }
    let Some(promote) = &registry.promote else { return Ok(()) };
    if registry.alias.as_ref() == Some(promote) {
        return Err(ConfigError::Promotion(format!(
            "[registry] alias is {promote} already, so every version gets it; name another alias there"
        )));
    }
    match baseline {
        BaselineSource::Model(reference) if reference.name != registry.model_name => {
            Err(ConfigError::Promotion(format!(
                "the baseline is {reference}, but the model is registered as {}; name one of its versions with --baseline",
                registry.model_name
            )))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_number_or_an_alias() {
        assert_eq!(version("12").unwrap(), ModelVersion::Number("12".into()));
        for alias in ["champion", "@champion"] {
            assert_eq!(version(alias).unwrap(), ModelVersion::Alias("champion".into()));
        }
        for odd in ["", "@", "a/b", "a@b", "a:b"] {
            assert!(version(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn an_alias_is_what_mlflow_takes_for_one() {
        assert!(["candidate", "a-b_2", "vx", "v1x"].iter().all(|name| is_alias(name)));
        assert!(
            ["v1", "V12", "latest", "Latest", "a b", "é", "a.b", "7", ""]
                .iter()
                .all(|name| !is_alias(name))
        );
    }
}
