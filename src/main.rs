//! The `detgate` command: parses arguments, runs the pipeline, hands out the exit code.

mod commands;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
#[cfg(feature = "mlflow")]
use std::sync::{Arc, atomic::AtomicBool};

use anyhow::{Context, bail};
use clap::Parser;
use detgate::config::{
    self, BaselineSource, BlessConfig, BlessFlags, Cli, Command, Config, Environment, EvalFlags,
    GateConfig, RegistryConfig, SchemaOf,
};
use detgate::dataset::{self, Category, Classes, Dataset, ImageRecord};
use detgate::detections::{Detection, Detector, coco_results};
use detgate::gate::{
    self, Fingerprint, Judgement, Passed, Policy, Provenance, Snapshot, Verdict, judge,
};
use detgate::inference::{self, ImageResult};
use detgate::matching::coco::CocoParams;
use detgate::matching::practical::PracticalParams;
use detgate::metrics::{self, Evaluation};
#[cfg(feature = "mlflow")]
use detgate::registry;
use detgate::report::{self, DataSummary, Progress, Report, SkippedImage, Thresholds, terminal};

/// The exit codes; the README lists them for users.
mod exit {
    pub(crate) const PASSED: u8 = 0;
    pub(crate) const REGRESSED: u8 = 1;
    pub(crate) const COULD_NOT_EVALUATE: u8 = 2;
    pub(crate) const INCONCLUSIVE: u8 = 3;
    pub(crate) const INCOMPARABLE: u8 = 4;
    pub(crate) const BUG: u8 = 70;
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = match std::panic::catch_unwind(|| run(cli)) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            eprintln!("error: {error:#}");
            exit::COULD_NOT_EVALUATE
        }
        Err(_panic) => {
            eprintln!("error: this is a bug in detgate; please report it with the lines above");
            exit::BUG
        }
    };
    ExitCode::from(code)
}

fn run(cli: Cli) -> anyhow::Result<u8> {
    let cwd = std::env::current_dir().context("the working directory is not readable")?;
    let environment = Environment::from_process();
    match cli.command {
        Command::Eval(flags) => eval(&flags, &cwd, &environment),
        Command::Bless(flags) => bless(&flags, &cwd, &environment),
        Command::Metrics(flags) => {
            say(&commands::metrics::run(&flags, &cwd)?)?;
            Ok(exit::PASSED)
        }
        Command::Schema(flags) => {
            say(&match flags.of {
                SchemaOf::Config => config::json_schema(),
            })?;
            Ok(exit::PASSED)
        }
    }
}

/// Configuration, data, model, inference, metrics, verdict, report, registration.
fn eval(flags: &EvalFlags, cwd: &Path, environment: &Environment) -> anyhow::Result<u8> {
    let config = Config::resolve(flags, cwd)?;
    config.notices.iter().for_each(|notice| eprintln!("note: {notice}"));
    let dataset = load_dataset(&config)?;
    require_registry(&config, environment)?;
    let policy = Policy::new(config.gate.rules.clone())?;
    let baseline = Snapshot::read(baseline_file(&config.gate)?)?;
    let (detector, model_file) = load_detector(&config)?;
    // Before inference: a training run may put another checkpoint in its place meanwhile.
    let provenance = provenance(&model_file)?;
    let results = infer(&config, &dataset, detector.as_ref(), flags.quiet)?;
    let images = evaluated(&dataset, &results);
    let evaluation = evaluate(&config, &dataset, &images)?;
    let candidate = Snapshot {
        schema: gate::SCHEMA,
        fingerprint: Fingerprint::of_run(&config, &dataset, &results),
        provenance,
        metrics: evaluation.table(),
    };
    let judgement = judge(&candidate, baseline.as_ref(), &policy)?;
    let report = Report {
        schema: report::SCHEMA,
        checkpoint: &candidate.provenance,
        data: summary(&dataset, &results, &images),
        settings: Thresholds { score_thr: config.score_thr, iou_thr: config.iou_thr },
        fingerprint: &candidate.fingerprint,
        evaluation: &evaluation,
        judgement: &judgement,
    };
    say(&if flags.quiet { terminal::verdict(&report) } else { terminal::tables(&report) })?;
    write_report(&config, &report, &images)?;
    keep_for_review(&config, environment, &judgement, &candidate, baseline.as_ref())?;
    if let (Some(passed), Some(registry)) = (judgement.passed(), &config.registry) {
        register(&passed, &evaluation, &config, registry, environment, &model_file)?;
    }
    Ok(exit_code(judgement.verdict))
}

/// The baseline's snapshot.
fn baseline_file(gate: &GateConfig) -> anyhow::Result<&Path> {
    match &gate.baseline {
        BaselineSource::File(path) => Ok(path),
        BaselineSource::Model(model) => {
            bail!("the baseline {model} is of the registry, which cannot be read yet; name a file")
        }
    }
}

fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Passed => exit::PASSED,
        Verdict::Regressed => exit::REGRESSED,
        Verdict::Inconclusive => exit::INCONCLUSIVE,
        Verdict::Incomparable => exit::INCOMPARABLE,
    }
}

/// Prints to standard output; that nobody reads on (`| head`) is no reason to stop.
fn say(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// Whether a candidate may become the baseline without `--force`: it breaks no rule, and it was
/// measured as the present baseline was, if there is one.
fn may_be_blessed(judgement: &Judgement, baseline: Option<&Snapshot>) -> bool {
    let comparable = baseline.is_none() || judgement.verdict != Verdict::Incomparable;
    comparable && judgement.broken().next().is_none()
}

fn load_dataset(config: &Config) -> anyhow::Result<Dataset> {
    let classes = match config.all_categories {
        true => Classes::FromFile,
        false => Classes::Only(
            std::iter::zip(&config.label_map.target_category_ids, &config.target_classes)
                .map(|(&id, name)| Category { id, name: name.clone() })
                .collect(),
        ),
    };
    Ok(dataset::load(&config.ground_truth, &config.images, &classes, config.max_images)?)
}

/// An image that was evaluated, and what was found on it.
type Evaluated<'a> = (&'a ImageRecord, &'a [Detection]);

fn infer(
    config: &Config,
    dataset: &Dataset,
    detector: &dyn Detector,
    quiet: bool,
) -> anyhow::Result<Vec<ImageResult>> {
    let progress = Progress::new(dataset.images.len(), quiet);
    let settings =
        inference::Settings { workers: config.workers, skip_bad_images: config.skip_bad_images };
    Ok(inference::run(detector, &dataset.images, settings, || progress.advance())?)
}

/// The images that could be decoded.
fn evaluated<'a>(dataset: &'a Dataset, results: &'a [ImageResult]) -> Vec<Evaluated<'a>> {
    std::iter::zip(&dataset.images, results)
        .filter_map(|(image, result)| Some((image, result.outcome.as_deref().ok()?)))
        .collect()
}

fn evaluate(
    config: &Config,
    dataset: &Dataset,
    images: &[Evaluated],
) -> anyhow::Result<Evaluation> {
    let practical = PracticalParams { score_thr: config.score_thr, iou_thr: config.iou_thr };
    Ok(metrics::evaluate(&dataset.categories, images, &practical, &CocoParams::default())?)
}

fn summary(dataset: &Dataset, results: &[ImageResult], images: &[Evaluated]) -> DataSummary {
    DataSummary {
        images: images.len(),
        ground_truth: images.iter().map(|(image, _)| image.ground_truth.len()).sum(),
        zero_area_boxes: images.iter().map(|(image, _)| image.zero_area_boxes()).sum(),
        skipped_images: std::iter::zip(&dataset.images, results)
            .filter_map(|(image, result)| {
                let reason = result.outcome.as_ref().err()?.clone();
                Some(SkippedImage { file_name: image.file_name.clone(), reason })
            })
            .collect(),
    }
}

/// The JSON report, and the detections beside it.
fn write_report(config: &Config, report: &Report, images: &[Evaluated]) -> anyhow::Result<()> {
    report::write(&config.report, &report.to_json()?).with_context(|| {
        format!("cannot write the report {}; pass --report FILE", config.report.display())
    })?;
    let detections = config.report.with_extension("detections.json");
    coco_results::write(&detections, images.iter().map(|(image, found)| (image.id, *found)))?;
    Ok(())
}

/// Leaves a candidate that differs from its baseline where `bless` finds it; never under `CI`.
fn keep_for_review(
    config: &Config,
    environment: &Environment,
    judgement: &Judgement,
    candidate: &Snapshot,
    baseline: Option<&Snapshot>,
) -> anyhow::Result<()> {
    if environment.ci {
        return Ok(());
    }
    let pending = Snapshot::pending_path(baseline_file(&config.gate)?);
    if baseline.is_some_and(|baseline| baseline.same_results(candidate)) {
        if pending.exists() {
            std::fs::remove_file(&pending)
                .with_context(|| format!("cannot remove {}", pending.display()))?;
        }
        return Ok(());
    }
    candidate.write(&pending)?;
    let force = if may_be_blessed(judgement, baseline) { "" } else { " --force" };
    eprintln!("note: `cargo xtask bless{force}` accepts this run as the baseline");
    Ok(())
}

/// Makes the pending candidate the baseline.
fn bless(flags: &BlessFlags, cwd: &Path, environment: &Environment) -> anyhow::Result<u8> {
    let config = BlessConfig::resolve(flags, cwd)?;
    if environment.ci {
        bail!("nothing is written to a baseline under CI; bless on your own machine and commit");
    }
    let pending = Snapshot::pending_path(baseline_file(&config.gate)?);
    let Some(candidate) = Snapshot::read(&pending)? else {
        bail!("nothing to accept: there is no {}; run `cargo xtask eval` first", pending.display());
    };
    let baseline = Snapshot::read(baseline_file(&config.gate)?)?;
    let judgement = judge(&candidate, baseline.as_ref(), &Policy::new(config.gate.rules.clone())?)?;
    if !flags.force && !may_be_blessed(&judgement, baseline.as_ref()) {
        judgement.reasons.iter().for_each(|reason| eprintln!("  {reason}"));
        eprintln!(
            "refused: this candidate {}; pass --force to accept it all the same",
            match judgement.verdict {
                Verdict::Incomparable if baseline.is_some() =>
                    "was not measured as the baseline was",
                _ => "breaks the gate's rules",
            }
        );
        return Ok(exit_code(judgement.verdict));
    }
    candidate.write(baseline_file(&config.gate)?)?;
    std::fs::remove_file(&pending)
        .with_context(|| format!("cannot remove {}", pending.display()))?;
    say(&format!(
        "accepted {} as the baseline {}
",
        candidate.provenance.checkpoint,
        baseline_file(&config.gate)?.display()
    ))?;
    Ok(exit::PASSED)
}

fn provenance(model_file: &Path) -> anyhow::Result<Provenance> {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_mmap(model_file)
        .with_context(|| format!("cannot read {}", model_file.display()))?;
    Ok(Provenance {
        checkpoint: model_file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        checkpoint_blake3: hasher.finalize().to_hex().to_string(),
        engine: ENGINE.to_owned(),
    })
}

#[cfg(feature = "torch")]
const ENGINE: &str = concat!("detgate ", env!("CARGO_PKG_VERSION"), ", libtorch 2.13.0");
#[cfg(not(feature = "torch"))]
const ENGINE: &str = concat!("detgate ", env!("CARGO_PKG_VERSION"));

#[cfg(feature = "torch")]
fn load_detector(config: &Config) -> anyhow::Result<(Box<dyn Detector>, PathBuf)> {
    Ok(detgate::model::load(config)?)
}

#[cfg(not(feature = "torch"))]
fn load_detector(_config: &Config) -> anyhow::Result<(Box<dyn Detector>, PathBuf)> {
    bail!("this detgate was built without the feature `torch`; use `cargo xtask eval`")
}

/// Says before the long part, not after it, that registration will not be possible.
#[cfg(feature = "mlflow")]
fn require_registry(config: &Config, environment: &Environment) -> anyhow::Result<()> {
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
fn require_registry(config: &Config, _environment: &Environment) -> anyhow::Result<()> {
    if config.registry.is_some() {
        bail!("this detgate was built without the feature `mlflow`; pass --no-register");
    }
    Ok(())
}

#[cfg(feature = "mlflow")]
fn register(
    passed: &Passed,
    evaluation: &Evaluation,
    config: &Config,
    registry_config: &RegistryConfig,
    environment: &Environment,
    model_file: &Path,
) -> anyhow::Result<()> {
    let run_name = jiff::Timestamp::now().strftime("eval_%Y%m%d_%H%M%S").to_string();
    let files = registry::Files { checkpoint: model_file, report: &config.report };
    let publication =
        registry::publication(passed, evaluation, config, registry_config, files, run_name);
    let uri = registry::TrackingUri::parse(&registry_config.tracking_uri, &config.root)?;
    let environment = environment.clone();
    let credentials = registry::Credentials::choose(
        environment.mlflow_username.as_deref(),
        environment.mlflow_password.as_deref(),
        environment.mlflow_token.as_deref(),
    );
    let interrupted = watch_signals()?;
    let python = Box::new(move || mlflow_python(&environment));
    let settings = registry::RegistrySettings {
        credentials,
        interrupted,
        on_event: Arc::new(announce()),
        ..registry::RegistrySettings::new(uri, python)
    };
    let registered = registry::publish(passed, &publication, &settings)
        .context("the gate passed, but the model was not registered")?;
    say(&format!(
        "registered {} version {} (run {})
",
        registered.model_name, registered.version, registered.run_id
    ))?;
    for name in &registered.truncated {
        eprintln!("note: {name} was longer than MLflow keeps; it ends in a mark that says so");
    }
    Ok(())
}

/// The first SIGINT or SIGTERM ends a registration in order, the second ends the process.
#[cfg(feature = "mlflow")]
fn watch_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let code = 128 + signal;
        signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(&interrupted))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&interrupted)))
            .context("cannot watch for signals")?;
    }
    Ok(interrupted)
}

/// Says, once, what takes long enough for a person to wonder.
#[cfg(feature = "mlflow")]
fn announce() -> impl Fn(registry::Event<'_>) {
    let said = std::sync::Once::new();
    move |event| {
        if let registry::Event::ServerStarting { database, .. } = event {
            said.call_once(|| {
                eprintln!("registering in {}; MLflow takes some seconds", database.display());
            });
        }
    }
}

#[cfg(not(feature = "mlflow"))]
fn register(
    _passed: &Passed,
    _evaluation: &Evaluation,
    _config: &Config,
    _registry_config: &RegistryConfig,
    _environment: &Environment,
    _model_file: &Path,
) -> anyhow::Result<()> {
    unreachable!("require_registry refuses to register without the feature `mlflow`")
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
