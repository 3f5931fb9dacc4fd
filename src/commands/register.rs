//! Registration in MLflow of what passed.

#[cfg(feature = "mlflow")]
use std::hash::{BuildHasher, Hasher};
use std::path::Path;
#[cfg(feature = "mlflow")]
use std::path::PathBuf;
#[cfg(feature = "mlflow")]
use std::sync::Arc;

#[cfg(feature = "mlflow")]
use anyhow::Context;
use anyhow::bail;
#[cfg(feature = "mlflow")]
use detgate::config::{BaselineSource, ModelReference, ModelVersion};
use detgate::config::{Config, Environment, RegistryConfig};
use detgate::detections::ModelForm;
use detgate::gate::Passed;
use detgate::gate::stored::Stored;
#[cfg(feature = "mlflow")]
use detgate::matching::coco::CocoParams;
use detgate::report::Report;
#[cfg(feature = "mlflow")]
use detgate::{registry, report};

#[cfg(feature = "mlflow")]
use super::{baseline, interrupt};
#[cfg(feature = "mlflow")]
use crate::{note, say};

/// A run that passed.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "mlflow"), allow(dead_code, reason = "nothing is registered then"))]
pub(crate) struct Run<'a> {
    pub(crate) report: &'a Report,
    pub(crate) stored: &'a Stored,
    pub(crate) model_file: &'a Path,
    pub(crate) form: &'a ModelForm,
    /// The number of the registered version that was the baseline, if it was one.
    pub(crate) compared_with: Option<&'a str>,
}

/// Says before the long part, not after it, that registration will not be possible.
#[cfg(feature = "mlflow")]
pub(crate) fn require(config: &Config, environment: &Environment) -> anyhow::Result<()> {
    let Some(registry) = &config.registry else { return Ok(()) };
    let uri = registry::TrackingUri::parse(&registry.tracking_uri, &config.root)?;
    let has_python = environment.mlflow_python.is_some() || environment.mlflow_provision.is_some();
    if matches!(uri, registry::TrackingUri::Sqlite { .. }) && !has_python {
        bail!(
            "no Python with MLflow is known, which {} needs; set DETGATE_MLFLOW_PYTHON to one, pass \
             --no-register, or run `cargo xtask eval` in a clone of detgate",
            registry.tracking_uri
        );
    }
    let settings = reached(&Reach::of(config), environment)?;
    registry::check_before(&settings, &registry.experiment)?;
    Ok(())
}

#[cfg(not(feature = "mlflow"))]
pub(crate) fn require(config: &Config, _environment: &Environment) -> anyhow::Result<()> {
    if config.registry.is_some() {
        bail!("this detgate was built without the feature `mlflow`; pass --no-register");
    }
    Ok(())
}

/// Says before the long part that `--promote` will be refused: the alias names a version, and the gate is
/// going to compare with a file.
#[cfg(feature = "mlflow")]
pub(crate) fn require_no_champion(
    config: &Config,
    environment: &Environment,
) -> anyhow::Result<()> {
    let Some(registry) = &config.registry else { return Ok(()) };
    let (Some(alias), BaselineSource::File(_)) = (&registry.promote, &config.gate.baseline) else {
        return Ok(());
    };
    let version = ModelVersion::Alias(alias.clone());
    let reference = ModelReference { name: registry.model_name.clone(), version };
    let careful = interrupt::careful()?;
    let settings = settings(&Reach::of(config), environment, &careful)?;
    if let Some(version) = registry::present(&reference, &settings)? {
        bail!(
            "{reference} is version {version}, but the gate would compare with {}; pass --baseline {reference}, or \
             leave --promote out",
            baseline::name(config)
        );
    }
    Ok(())
}

#[cfg(not(feature = "mlflow"))]
pub(crate) fn require_no_champion(
    _config: &Config,
    _environment: &Environment,
) -> anyhow::Result<()> {
    Ok(())
}

#[cfg(feature = "mlflow")]
pub(crate) fn run(
    passed: &Passed,
    run: Run<'_>,
    config: &Config,
    registry_config: &RegistryConfig,
    environment: &Environment,
) -> anyhow::Result<()> {
    let publication = publication(passed, run, config, registry_config)?;
    // The first signal ends a registration in order.
    let careful = interrupt::careful()?;
    let settings = registry::RegistrySettings {
        experiment_id: registry_config.experiment_id.clone(),
        force: registry_config.force,
        ..settings(&Reach::of(config), environment, &careful)?
    };
    let registered = registry::publish(passed, &publication, &settings)
        .context("the gate passed, but the model was not registered")?;
    let registry::Registered { model_name, version, run_id, .. } = &registered;
    say(&match registered.is_new {
        true => format!("registered {model_name} version {version} (run {run_id})\n"),
        false => format!(
            "already registered: {model_name} version {version} (run {run_id}) has this checkpoint and these \
             results; --force-register adds another\n"
        ),
    })?;
    for name in &registered.truncated {
        note(&format!("{name} was longer than MLflow keeps; it ends in a mark that says so"));
    }
    named(&registered)
}

#[cfg(feature = "mlflow")]
fn publication(
    passed: &Passed,
    run: Run<'_>,
    config: &Config,
    registry_config: &RegistryConfig,
) -> anyhow::Result<registry::Publication> {
    let evaluation = &run.report.evaluation;
    let summary = report::version_page::summary(run.report, &baseline::name(config));
    let reports: Vec<PathBuf> =
        std::iter::once(config.report.clone()).chain(super::page::path(config)).collect();
    let files = registry::Files {
        checkpoint: run.model_file,
        form: run.form,
        reports: &reports,
        detections: run.stored,
        plots: &report::curves::drawings(&evaluation.coco, &CocoParams::default()),
    };
    let pages = registry::Pages { description: summary.clone(), note: summary };
    let run_name = jiff::Timestamp::now().strftime("eval_%Y%m%d_%H%M%S").to_string();
    let publication =
        registry::publication(passed, evaluation, config, registry_config, files, pages, run_name)?;
    let promotion = registry_config.promote.clone().map(|alias| registry::Promotion {
        alias,
        compared_with: run.compared_with.map(str::to_owned),
    });
    Ok(registry::Publication { promotion, ..publication })
}

/// Says what the version is called now.
///
/// # Errors
/// A sentence, where it did not get a name that it was to get.
#[cfg(feature = "mlflow")]
fn named(registered: &registry::Registered) -> anyhow::Result<()> {
    let registry::Registered { model_name, version, aliases, .. } = registered;
    for outcome in aliases.iter().filter(|outcome| outcome.problem.is_none()) {
        say(&format!("models:/{model_name}@{} is version {version}\n", outcome.alias))?;
    }
    let problems = aliases.iter().filter_map(|outcome| {
        Some(format!("it did not become {}: {}", outcome.alias, outcome.problem.as_ref()?))
    });
    match problems.collect::<Vec<_>>().join("; ") {
        none if none.is_empty() => Ok(()),
        problems => bail!("version {version} is registered, but {problems}"),
    }
}

/// What is said of an MLflow on the command line and in `detgate.toml`.
#[cfg(feature = "mlflow")]
pub(crate) struct Reach<'a> {
    pub(crate) tracking_uri: &'a str,
    /// What a relative `sqlite:///FILE` is relative to.
    pub(crate) root: &'a Path,
    pub(crate) migrate: bool,
}

#[cfg(feature = "mlflow")]
impl<'a> Reach<'a> {
    pub(crate) fn of(config: &'a Config) -> Self {
        let Config { tracking_uri, root, migrate, .. } = config;
        Self { tracking_uri, root, migrate: *migrate }
    }
}

/// How to reach MLflow, until a signal comes.
#[cfg(feature = "mlflow")]
pub(crate) fn settings(
    reach: &Reach<'_>,
    environment: &Environment,
    careful: &interrupt::Careful,
) -> anyhow::Result<registry::RegistrySettings> {
    let interrupted = Arc::clone(careful.interrupted());
    Ok(registry::RegistrySettings { interrupted, ..reached(reach, environment)? })
}

/// How to reach MLflow.
#[cfg(feature = "mlflow")]
fn reached(
    reach: &Reach<'_>,
    environment: &Environment,
) -> anyhow::Result<registry::RegistrySettings> {
    let uri = registry::TrackingUri::parse(reach.tracking_uri, reach.root)?;
    let variables = environment.mlflow.connection()?;
    let environment = environment.clone();
    let python = Box::new(move || mlflow_python(&environment));
    let mut settings = registry::RegistrySettings::new(uri, python);
    settings.credentials = registry::Credentials::choose(
        variables.username.as_deref(),
        variables.password.as_deref(),
        variables.token.as_deref(),
    );
    settings.tls = registry::Tls {
        insecure: variables.insecure_tls,
        server_cert: variables.server_cert,
        client_cert: variables.client_cert,
    };
    settings.timeouts.request = variables.request_timeout.unwrap_or(settings.timeouts.request);
    settings.retries.max = variables.max_retries.unwrap_or(settings.retries.max);
    settings.multipart.enabled = variables.multipart;
    settings.multipart.insecure_tls = variables.insecure_store_tls;
    let multipart = &mut settings.multipart;
    multipart.minimum = variables.multipart_minimum.unwrap_or(multipart.minimum);
    multipart.part = variables.multipart_part.unwrap_or(multipart.part);
    // Jobs that failed together must not come back together; in containers all processes have the same number.
    settings.retries.seed = std::hash::RandomState::new().build_hasher().finish();
    settings.migrate = reach.migrate;
    settings.on_event = Arc::new(announce());
    Ok(settings)
}

/// Says, once, what takes long enough for a person to wonder.
#[cfg(feature = "mlflow")]
fn announce() -> impl Fn(registry::Event<'_>) {
    let (said, waiting) = (std::sync::Once::new(), std::sync::Once::new());
    move |event| match event {
        registry::Event::ServerStarting { database, .. } => said.call_once(|| {
            eprintln!("opening {}; MLflow takes some seconds", database.display());
        }),
        registry::Event::Waiting { database, .. } => waiting.call_once(|| {
            eprintln!("waiting for another detgate that works on {}", database.display());
        }),
        registry::Event::Retrying { error, wait, number, of } => note(&format!(
            "{error}; trying again in {:.1} s ({number} of {of})",
            wait.as_secs_f64()
        )),
        registry::Event::Migrated { backup } => {
            note(&format!(
                "the database was brought up to date; as it was before: {}",
                backup.display()
            ));
        }
        _ => {}
    }
}

#[cfg(not(feature = "mlflow"))]
pub(crate) fn run(
    _passed: &Passed,
    _run: Run<'_>,
    _config: &Config,
    _registry_config: &RegistryConfig,
    _environment: &Environment,
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
        return Err("no Python with MLflow is known; set DETGATE_MLFLOW_PYTHON to one".to_owned());
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
