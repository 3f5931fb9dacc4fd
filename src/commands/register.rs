//! Registration in MLflow of what passed.

use std::path::Path;
#[cfg(feature = "mlflow")]
use std::path::PathBuf;
#[cfg(feature = "mlflow")]
use std::sync::Arc;

#[cfg(feature = "mlflow")]
use anyhow::Context;
use anyhow::bail;
use detgate::config::{Config, Environment, RegistryConfig};
use detgate::gate::Passed;
use detgate::gate::stored::Stored;
use detgate::metrics::Evaluation;
#[cfg(feature = "mlflow")]
use detgate::registry;

#[cfg(feature = "mlflow")]
use super::interrupt;
#[cfg(feature = "mlflow")]
use crate::{note, say};

/// Says before the long part, not after it, that registration will not be possible.
#[cfg(feature = "mlflow")]
pub(crate) fn require(config: &Config, environment: &Environment) -> anyhow::Result<()> {
    let Some(registry) = &config.registry else { return Ok(()) };
    let uri = registry::TrackingUri::parse(&registry.tracking_uri, &config.root)?;
    let has_python = environment.mlflow_python.is_some() || environment.mlflow_provision.is_some();
    if matches!(uri, registry::TrackingUri::Sqlite { .. }) && !has_python {
        bail!(
            "no Python with MLflow is known, which {} needs; use `cargo xtask eval`, set \
             DETGATE_MLFLOW_PYTHON, or pass --no-register",
            registry.tracking_uri
        );
    }
    Ok(())
}

#[cfg(not(feature = "mlflow"))]
pub(crate) fn require(config: &Config, _environment: &Environment) -> anyhow::Result<()> {
    if config.registry.is_some() {
        bail!("this detgate was built without the feature `mlflow`; pass --no-register");
    }
    Ok(())
}

#[cfg(feature = "mlflow")]
pub(crate) fn run(
    passed: &Passed,
    evaluation: &Evaluation,
    config: &Config,
    registry_config: &RegistryConfig,
    environment: &Environment,
    model_file: &Path,
    stored: &Stored,
) -> anyhow::Result<()> {
    let run_name = jiff::Timestamp::now().strftime("eval_%Y%m%d_%H%M%S").to_string();
    let files =
        registry::Files { checkpoint: model_file, report: &config.report, detections: stored };
    let publication =
        registry::publication(passed, evaluation, config, registry_config, files, run_name);
    // The first signal ends a registration in order.
    let careful = interrupt::careful()?;
    let settings = settings(config, environment, &careful)?;
    let registered = registry::publish(passed, &publication, &settings)
        .context("the gate passed, but the model was not registered")?;
    say(&format!(
        "registered {} version {} (run {})\n",
        registered.model_name, registered.version, registered.run_id
    ))?;
    for name in &registered.truncated {
        note(&format!("{name} was longer than MLflow keeps; it ends in a mark that says so"));
    }
    Ok(())
}

/// How to reach MLflow.
#[cfg(feature = "mlflow")]
pub(crate) fn settings(
    config: &Config,
    environment: &Environment,
    careful: &interrupt::Careful,
) -> anyhow::Result<registry::RegistrySettings> {
    let uri = registry::TrackingUri::parse(&config.tracking_uri, &config.root)?;
    let environment = environment.clone();
    let credentials = registry::Credentials::choose(
        environment.mlflow_username.as_deref(),
        environment.mlflow_password.as_deref(),
        environment.mlflow_token.as_deref(),
    );
    let interrupted = Arc::clone(careful.interrupted());
    let python = Box::new(move || mlflow_python(&environment));
    Ok(registry::RegistrySettings {
        credentials,
        interrupted,
        on_event: Arc::new(announce()),
        ..registry::RegistrySettings::new(uri, python)
    })
}

/// Says, once, what takes long enough for a person to wonder.
#[cfg(feature = "mlflow")]
fn announce() -> impl Fn(registry::Event<'_>) {
    let said = std::sync::Once::new();
    move |event| {
        if let registry::Event::ServerStarting { database, .. } = event {
            said.call_once(|| {
                eprintln!("opening {}; MLflow takes some seconds", database.display());
            });
        }
    }
}

#[cfg(not(feature = "mlflow"))]
pub(crate) fn run(
    _passed: &Passed,
    _evaluation: &Evaluation,
    _config: &Config,
    _registry_config: &RegistryConfig,
    _environment: &Environment,
    _model_file: &Path,
    _stored: &Stored,
) -> anyhow::Result<()> {
    unreachable!("`require` refuses to register without the feature `mlflow`")
}

/// The Python that has MLflow: named, or made by `cargo xtask` now that it is needed.
#[cfg(feature = "mlflow")]
fn mlflow_python(environment: &Environment) -> Result<PathBuf, String> {
    if let Some(python) = &environment.mlflow_python {
        return Ok(python.clone());
    }
    let Some(provision) = &environment.mlflow_provision else {
        return Err("no Python with MLflow is known; use `cargo xtask eval`".to_owned());
    };
    let output = std::process::Command::new(provision)
        .arg("mlflow-python")
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run {}: {error}", provision.display()))?;
    let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || printed.is_empty() {
        return Err("the MLflow environment could not be made; see the lines above".to_owned());
    }
    Ok(printed.into())
}
