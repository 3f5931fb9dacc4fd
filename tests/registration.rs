//! The whole way on the embedded demo, with a real MLflow: what passed is registered and can be
//! downloaded, what did not leaves no trace.
#![cfg(all(feature = "torch", feature = "mlflow"))]

mod common;
#[path = "common/mlflow.rs"]
mod mlflow;
#[cfg(unix)]
#[path = "common/signals.rs"]
mod signals;

use std::path::Path;
use std::process::{Command, Output};

use common::Demo;
use mlflow::mlflow_python;

fn eval(demo: &Demo, python: &Path, arguments: &[&str]) -> Output {
    let mut command = demo.command(&[&["eval"], arguments].concat());
    command.env("DETGATE_MLFLOW_PYTHON", python).output().unwrap()
}

/// Runs Python against the demo's own tracking database and gives back what it prints.
fn ask_mlflow(demo: &Demo, python: &Path, script: &str) -> String {
    let output = Command::new(python)
        .args(["-c", script])
        .current_dir(demo.path(""))
        .env("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        .env("MLFLOW_DISABLE_TELEMETRY", "true")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn what_passed_is_registered_and_what_regressed_is_not() {
    let Some(python) = mlflow_python() else { return };
    let demo = Demo::whole();

    let regressed = eval(&demo, &python, &["--checkpoint", "models/damaged/best_damaged.pt"]);
    assert_eq!(regressed.status.code(), Some(1));
    assert!(!demo.path("mlflow.db").exists(), "a candidate that did not pass left a trace");

    let passed = eval(&demo, &python, &[]);
    let said = String::from_utf8_lossy(&passed.stdout).into_owned();
    assert_eq!(passed.status.code(), Some(0), "{}", String::from_utf8_lossy(&passed.stderr));
    assert!(said.contains("registered detgate_demo version 1"), "{said}");

    let downloaded = ask_mlflow(
        &demo,
        &python,
        "import mlflow, os; p = mlflow.artifacts.download_artifacts('models:/detgate_demo/1'); \
         print(os.path.join(p, os.listdir(p)[0]))",
    );
    let same = std::fs::read(&downloaded).unwrap()
        == std::fs::read(demo.path("models/local_checkpoints/best_demo.pt")).unwrap();
    assert!(same, "{downloaded} is not the checkpoint");

    let logged = ask_mlflow(
        &demo,
        &python,
        "import mlflow; c = mlflow.MlflowClient(); \
         v = c.get_model_version('detgate_demo', '1'); r = c.get_run(v.run_id); \
         tops = sorted(a.path for a in c.list_artifacts(v.run_id)); \
         files = sorted(a.path for t in tops for a in c.list_artifacts(v.run_id, t) \
                        if not a.path.endswith('.zst')); \
         print(r.info.status, r.info.run_name[:5], r.data.params['score_threshold'], \
               'AP50/person' in r.data.metrics, 'tp/car' in r.data.metrics, v.tags['verdict'], \
               v.source == f'runs:/{v.run_id}/model_ckpt', files)",
    );
    assert_eq!(
        logged,
        "FINISHED eval_ 0.5 True True passed True ['baseline/baseline.snap', 'config/labelmap.json', \
         'config/project_config.json', 'model_ckpt/best_demo.pt', 'reports/evaluation.json']"
    );
}

/// A team whose champion is an alias of the registry needs no snapshot in its repository.
#[test]
fn a_registered_version_can_be_the_baseline() {
    let Some(python) = mlflow_python() else { return };
    let demo = Demo::whole();
    let against = |reference: &str, arguments: &[&str]| {
        eval(&demo, &python, &[&["--no-register", "--baseline", reference], arguments].concat())
    };
    let said = |output: &Output| {
        let (out, err) = (&output.stdout, &output.stderr);
        format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
    };
    let none_yet = against("models:/detgate_demo@champion", &[]);
    assert_eq!(none_yet.status.code(), Some(4), "{}", said(&none_yet));

    assert_eq!(eval(&demo, &python, &[]).status.code(), Some(0));
    ask_mlflow(
        &demo,
        &python,
        "import mlflow; c = mlflow.MlflowClient(); \
         c.set_registered_model_alias('detgate_demo', 'champion', '1')",
    );
    std::fs::remove_file(demo.path("baseline.snap")).unwrap();
    let same = against("models:/detgate_demo@champion", &[]);
    assert_eq!(same.status.code(), Some(0), "{}", said(&same));
    let damaged = ["--checkpoint", "models/damaged/best_damaged.pt"];
    let worse = against("models:/detgate_demo/1", &damaged);
    assert_eq!(worse.status.code(), Some(1), "{}", said(&worse));
    // With intervals: the version keeps its detections.
    assert!(said(&worse).contains("95 %"), "{}", said(&worse));
    assert!(
        !demo.path("baseline.snap.new").exists(),
        "the registry's baseline is not ours to write"
    );
    let absent = against("models:/detgate_demo/99", &[]);
    assert_eq!(absent.status.code(), Some(4), "{}", said(&absent));
}

/// To ask the registry takes care of signals; the first one during inference, later, counts all the same.
#[cfg(unix)]
#[test]
fn with_a_baseline_of_the_registry_the_first_signal_ends_inference() {
    let Some(python) = mlflow_python() else { return };
    let demo = Demo::whole();
    let baseline = ["eval", "--workers", "1", "--baseline", "models:/detgate_demo@champion"];
    let mut command = demo.command(&baseline);
    command.env("DETGATE_MLFLOW_PYTHON", python);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    signals::wait_for_images(&demo, &mut child);
    signals::kill(&["INT"], &child);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("INTERRUPTED"), "{said}");
}
