//! The whole way on the embedded demo, with a real MLflow: what passed is registered and can be
//! downloaded, what did not leaves no trace.
#![cfg(all(feature = "torch", feature = "mlflow"))]

mod common;
#[path = "common/mlflow.rs"]
mod mlflow;

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
         files = sorted(a.path for t in tops for a in c.list_artifacts(v.run_id, t)); \
         print(r.info.status, r.info.run_name[:5], r.data.params['score_threshold'], \
               'AP50/person' in r.data.metrics, 'tp/car' in r.data.metrics, v.tags['verdict'], \
               v.source == f'runs:/{v.run_id}/model_ckpt', files)",
    );
    assert_eq!(
        logged,
        "FINISHED eval_ 0.5 True True passed True ['config/labelmap.json', \
         'config/project_config.json', 'model_ckpt/best_demo.pt', 'reports/evaluation.json']"
    );
}
