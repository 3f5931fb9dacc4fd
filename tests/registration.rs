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
         print(os.path.join(p, 'best_demo.pt'), sorted(os.listdir(p)) == ['MLmodel', 'best_demo.pt', 'registered_model_meta'])",
    );
    let (downloaded, whole) = downloaded.rsplit_once(' ').unwrap();
    // MLflow adds where it comes from.
    assert_eq!(whole, "True", "the checkpoint and what describes it, and nothing else");
    let same = std::fs::read(downloaded).unwrap()
        == std::fs::read(demo.path("models/local_checkpoints/best_demo.pt")).unwrap();
    assert!(same, "{downloaded} is not the checkpoint");

    let logged = ask_mlflow(
        &demo,
        &python,
        "import mlflow; c = mlflow.MlflowClient(); \
         v = c.get_model_version('detgate_demo', '1'); r = c.get_run(v.run_id); \
         tops = sorted(a.path for a in c.list_artifacts(v.run_id)); \
         outputs = mlflow.models.get_model_info('models:/detgate_demo/1').signature.outputs.input_names(); \
         files = sorted(a.path for t in tops for a in c.list_artifacts(v.run_id, t) \
                        if not a.path.endswith('.zst')); \
         print(r.info.status, r.info.run_name[:5], r.data.params['score_threshold'], \
               'AP50/person' in r.data.metrics, 'tp/car' in r.data.metrics, v.tags['verdict'], \
               v.source == f'runs:/{v.run_id}/model_ckpt', v.aliases, outputs, \
               r.inputs.dataset_inputs[0].dataset.name, '| `AP50/person`&nbsp; |' in v.description, files)",
    );
    assert_eq!(
        logged,
        "FINISHED eval_ 0.5 True True passed True ['candidate'] ['boxes', 'scores', 'labels'] \
         coco_person_car_airplane_val True ['baseline/baseline.snap', 'config/detgate.toml', \
         'config/labelmap.json', 'config/project_config.json', 'model_ckpt/MLmodel', \
         'model_ckpt/best_demo.pt', 'plots/precision_recall.svg', 'plots/precision_recall_1_person.svg', \
         'plots/precision_recall_3_car.svg', 'plots/precision_recall_5_airplane.svg', \
         'reports/evaluation.html', 'reports/evaluation.json']"
    );

    let again = eval(&demo, &python, &[]);
    assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stderr));
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(said.contains("already registered: detgate_demo version 1"), "{said}");
    let forced = eval(&demo, &python, &["--force-register"]);
    let said = String::from_utf8_lossy(&forced.stdout).into_owned();
    assert!(said.contains("registered detgate_demo version 2"), "{said}");
}

/// Before a model is even looked for: an evaluation may take hours.
#[test]
fn what_cannot_be_registered_is_said_before_the_evaluation() {
    let Some(python) = mlflow_python() else { return };
    let demo = Demo::whole();
    let refused = |variables: &[(&str, &str)]| {
        let mut command = demo.command(&["eval"]);
        command.env("DETGATE_MLFLOW_PYTHON", &python).envs(variables.iter().copied());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(output.stdout.is_empty(), "it was evaluated");
        said
    };
    // The first revision that MLflow ever had.
    ask_mlflow(
        &demo,
        &python,
        "import sqlite3; d = sqlite3.connect('mlflow.db'); \
         d.execute('CREATE TABLE alembic_version (version_num)'); \
         d.execute('INSERT INTO alembic_version VALUES (\\'451aebb31d03\\')'); d.commit()",
    );
    let older = refused(&[]);
    assert!(older.contains("an older MLflow") && older.contains("pass --migrate"), "{older}");
    let secret = [("MLFLOW_TRACKING_URI", "ftp://ann:hunter2@host/")];
    let odd = refused(&secret);
    assert!(odd.contains("MLFLOW_TRACKING_URI") && !odd.contains("hunter2"), "{odd}");
    let patience = [("MLFLOW_TRACKING_URI", "http://h"), ("MLFLOW_HTTP_REQUEST_TIMEOUT", "soon")];
    assert!(refused(&patience).contains("MLFLOW_HTTP_REQUEST_TIMEOUT is \"soon\""));
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

/// What was registered once can be judged again, by its name alone.
#[test]
fn a_registered_version_can_be_the_checkpoint() {
    let Some(python) = mlflow_python() else { return };
    let demo = Demo::whole();
    let judged = |checkpoint: &str| {
        let output = eval(&demo, &python, &["--no-register", "--checkpoint", checkpoint]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said, std::fs::read(demo.path("reports/evaluation.json")).unwrap())
    };
    let absent = eval(&demo, &python, &["--checkpoint", "models:/detgate_demo/1"]);
    let said = String::from_utf8_lossy(&absent.stderr).into_owned();
    assert_eq!(absent.status.code(), Some(2));
    assert!(said.contains("there is no models:/detgate_demo/1"), "{said}");

    assert_eq!(eval(&demo, &python, &[]).status.code(), Some(0));
    let (code, _, by_file) = judged("models/local_checkpoints/best_demo.pt");
    assert_eq!(code, Some(0));
    std::fs::remove_dir_all(demo.path("models/local_checkpoints")).unwrap();
    let (code, said, by_name) = judged("models:/detgate_demo@candidate");
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("models:/detgate_demo@candidate is version 1, whose checkpoint is"),
        "{said}"
    );
    assert!(by_name == by_file, "the report is not that of the file");

    // What is there is downloaded again only where it is not what was registered.
    let kept = demo.path("reports/models/detgate_demo-1/best_demo.pt");
    let bytes = std::fs::read(&kept).unwrap();
    std::fs::write(&kept, b"something else").unwrap();
    assert_eq!(judged("models:/detgate_demo/1").0, Some(0));
    assert!(std::fs::read(&kept).unwrap() == bytes);
    let stored = ask_mlflow(
        &demo,
        &python,
        "import mlflow; from urllib.parse import urlparse; c = mlflow.MlflowClient(); \
         r = c.get_model_version('detgate_demo', '1').run_id; \
         print(urlparse(c.get_run(r).info.artifact_uri).path)",
    );
    let stored = Path::new(&stored).join("model_ckpt/best_demo.pt");
    std::fs::write(stored, b"not what was registered").unwrap();
    assert_eq!(judged("models:/detgate_demo/1").0, Some(0), "nothing was to be downloaded");
    std::fs::remove_file(&kept).unwrap();
    let (code, said, _) = judged("models:/detgate_demo/1");
    assert_eq!(code, Some(2));
    assert!(said.contains("was registered with BLAKE3") && !kept.exists(), "{said}");

    let found = ["--checkpoint", "models:/detgate_demo/1", "--detections", "found.json"];
    let beside = eval(&demo, &python, &found);
    assert_eq!(beside.status.code(), Some(2));
    let said = String::from_utf8_lossy(&beside.stderr).into_owned();
    assert!(said.contains("cannot stand beside --detections"), "{said}");

    let (code, said, _) = judged("models:/detgate_demo");
    assert_eq!(code, Some(2));
    assert!(said.contains("models:/NAME@ALIAS or models:/NAME/VERSION"), "{said}");
}

/// From the first champion to the one that another job put in its place meanwhile.
#[test]
fn the_champion_moves_only_to_what_was_compared_with_it() {
    let Some(python) = mlflow_python() else { return };
    let demo = Demo::whole();
    let said = |output: &Output| {
        let (out, err) = (&output.stdout, &output.stderr);
        format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
    };
    let promote = |arguments: &[&str]| {
        let output =
            eval(&demo, &python, &[&["--quiet", "--promote", "champion"], arguments].concat());
        (output.status.code().unwrap(), said(&output))
    };
    let (code, text) = promote(&[]);
    assert!(code == 0 && text.contains("models:/detgate_demo@champion is version 1\n"), "{text}");
    // Hours of inference would be for nothing.
    let (code, text) = promote(&[]);
    let wanted =
        "models:/detgate_demo@champion is version 1, but the gate would compare with baseline.snap";
    assert!(code == 2 && text.contains(wanted) && !text.contains("PASSED"), "{text}");
    let (code, text) = promote(&["--baseline", "models:/other@champion"]);
    assert!(code == 2 && text.contains("the model is registered as detgate_demo"), "{text}");
    let (code, text) =
        promote(&["--baseline", "models:/detgate_demo@champion", "--force-register"]);
    assert!(code == 0 && text.contains("models:/detgate_demo@champion is version 2\n"), "{text}");
    // Version 1 is not the champion any more.
    let (code, text) = promote(&["--baseline", "models:/detgate_demo/1", "--force-register"]);
    let wanted = "error: version 3 is registered, but it did not become champion: the gate compared with version 1, \
                  but champion is version 2 by now";
    assert!(code == 2 && text.contains(wanted), "{text}");
    // What did not pass is not even registered.
    let damaged = ["--checkpoint", "models/damaged/best_damaged.pt"];
    let worse = promote(&[&["--baseline", "models:/detgate_demo@champion"][..], &damaged].concat());
    assert_eq!(worse.0, 1, "{}", worse.1);
    let listed =
        demo.command(&["registry", "ls"]).env("DETGATE_MLFLOW_PYTHON", &python).output().unwrap();
    let rows = said(&listed);
    let named: Vec<&str> = rows.lines().filter(|line| line.contains("best_demo.pt")).collect();
    assert_eq!(named.len(), 3, "{rows}");
    assert!(named[0].contains("candidate") && named[1].contains("champion"), "{rows}");
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
