//! `sqlite:///FILE`: no server is running.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use detgate::registry::{Artifact, Event, RegistryError, publish};
use serde_json::json;

use crate::mlflow::mlflow_python;
use crate::processes::processes_of;
use crate::support::{
    CHECKPOINT, ask_python, passed, publication, settings, version_seen_by_python,
};

#[test]
fn everything_is_found_by_pythons_mlflow_and_a_second_publication_adds_a_version() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    // A folder as people have them; `%` would be decoded by what takes a path for a URI.
    let project = root.path().join("my project ü 50%");
    std::fs::create_dir(&project).unwrap();
    let mut settings = settings("sqlite:///mlflow.db", &project, &python);
    let mut publication = publication(&project, "detector evaluation/ü", "person_car_detector");
    publication.tags.insert("long".into(), "x".repeat(9000));

    let first = publish(&passed(), &publication, &settings).unwrap();

    assert_eq!(first.version, "1");
    assert_eq!(first.source, format!("runs:/{}/model_ckpt", first.run_id));
    assert_eq!(first.truncated, ["tag long"]);
    assert_eq!(processes_of(&project), Vec::<String>::new());
    let uri = format!("sqlite:///{}", project.join("mlflow.db").display());
    let seen = version_seen_by_python(&python, &uri, "person_car_detector", "1");
    assert_eq!(seen["files"], json!({ "best_model.pt": String::from_utf8_lossy(CHECKPOINT) }));
    assert_eq!(
        seen["artifacts"],
        json!(["model_ckpt/best_model.pt", "reports/eval/a report ü.json"])
    );
    assert_eq!(seen["source"], first.source.as_str());
    assert_eq!(seen["run_id"], first.run_id.as_str());
    assert_eq!((&seen["status"], &seen["run_status"]), (&json!("READY"), &json!("FINISHED")));
    assert_eq!(seen["experiment"], "detector evaluation/ü");
    assert_eq!(seen["run_name"], "eval_20261122_120000");
    assert_eq!(seen["params"], json!(publication.params));
    assert_eq!(seen["metrics"], json!(publication.metrics));
    assert_eq!(seen["run_tags"]["verdict"], "passed");
    let long = seen["run_tags"]["long"].as_str().unwrap();
    assert!(long.len() == 8000 && long.ends_with("[cut by detgate; 9000 characters]"));
    assert_eq!(seen["tags"]["dataset"], "coco");
    let key = &seen["tags"]["detgate.publication"];
    assert_eq!((key, key.as_str().unwrap().len()), (&seen["run_tags"]["detgate.publication"], 32));
    assert_eq!(seen["tags"]["detgate.registration"].as_str().unwrap().len(), 64);
    assert_eq!(seen["description"], "**passed**");

    // The second, of the same results, is forced. It has a large file, which must not pass through memory
    // whole.
    settings.force = true;
    let large = project.join("weights.bin");
    let length = 96 << 20;
    std::fs::File::create(&large).unwrap().set_len(length).unwrap();
    publication.artifacts.push(Artifact::file("large", &large));
    let progress = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&progress);
    settings.on_event = Arc::new(move |event| {
        if let Event::Uploading { path: "large/weights.bin", sent, total } = event {
            told.lock().unwrap().push((sent, total));
        }
    });
    let before = peak_memory_kib();

    let second = publish(&passed(), &publication, &settings).unwrap();

    // Other tests run beside this one; holding the file would take 98304 KiB.
    let grown = peak_memory_kib() - before;
    assert!(grown < 48 * 1024, "{grown} KiB");
    assert_eq!((second.version.as_str(), &second.experiment_id), ("2", &first.experiment_id));
    assert_ne!(second.run_id, first.run_id);
    let progress = progress.lock().unwrap();
    assert!(progress.iter().all(|(_, total)| *total == length) && progress.len() > 100);
    assert!(progress.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    assert_eq!(progress.last().unwrap().0, length);
}

#[test]
fn an_experiment_that_python_created_elsewhere_keeps_its_place() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let elsewhere = root.path().join("else where/mlruns");
    let database = root.path().join("mlflow.db");
    let script = "import json, sys, mlflow\nmlflow.set_tracking_uri(sys.argv[1])\n\
                  print(json.dumps(mlflow.create_experiment('old', sys.argv[2])))";
    let uri = format!("sqlite:///{}", database.display());
    let location = reqwest::Url::from_file_path(&elsewhere).unwrap();
    ask_python(&python, script, &[&uri, location.as_str()]);

    let publication = publication(root.path(), "old", "m");
    let registered =
        publish(&passed(), &publication, &settings(&uri, root.path(), &python)).unwrap();

    let file = elsewhere.join(registered.run_id).join("artifacts/model_ckpt/best_model.pt");
    assert_eq!(std::fs::read(file).unwrap(), CHECKPOINT);
    let seen = version_seen_by_python(&python, &uri, "m", "1");
    assert_eq!(seen["files"], json!({ "best_model.pt": String::from_utf8_lossy(CHECKPOINT) }));
}

#[test]
fn what_cannot_be_logged_is_refused_before_a_server_is_started() {
    let root = tempfile::tempdir().unwrap();
    let started = Arc::new(Mutex::new(false));
    let mut settings = settings("sqlite:///mlflow.db", root.path(), "/nonexistent".as_ref());
    let told = Arc::clone(&started);
    settings.python = Box::new(move || {
        *told.lock().unwrap() = true;
        Ok(PathBuf::from("/nonexistent"))
    });
    let good = publication(root.path(), "e", "m");
    let refusal = |change: &dyn Fn(&mut detgate::registry::Publication)| {
        let mut publication = good.clone();
        change(&mut publication);
        publish(&passed(), &publication, &settings).unwrap_err().to_string()
    };

    assert!(
        refusal(&|p| p.metrics = [("AP".into(), f64::NAN)].into()).contains("metric AP is NaN")
    );
    assert!(refusal(&|p| p.model_name = "team/model".into()).contains("\"team/model\""));
    assert!(
        refusal(&|p| p.params = [("k".repeat(251), String::new())].into())
            .contains("250 characters")
    );
    assert!(
        refusal(&|p| p.artifacts.push(Artifact::file("x", "/nonexistent.json")))
            .contains("/nonexistent.json")
    );
    assert!(
        refusal(&|p| p.artifacts.push(p.artifacts[0].clone())).contains("model_ckpt/best_model.pt")
    );
    // The file was replaced after it was evaluated: what passed is not what would be registered.
    let replaced = refusal(&|p| {
        p.artifacts[0] = Artifact::bytes("model_ckpt", "best_model.pt", "other weights")
    });
    assert!(replaced.contains("replaced after the evaluation"), "{replaced}");
    assert!(!*started.lock().unwrap());
}

#[test]
fn a_python_that_is_missing_or_without_mlflow_is_said() {
    let root = tempfile::tempdir().unwrap();
    let publication = publication(root.path(), "e", "m");
    let with = |python: &str| {
        let settings = settings("sqlite:///mlflow.db", root.path(), python.as_ref());
        publish(&passed(), &publication, &settings).unwrap_err()
    };
    let missing = with("/nonexistent/python");
    assert!(
        matches!(&missing, RegistryError::Python(_))
            && missing.to_string().contains("/nonexistent/python")
    );
    let without = with("python3");
    assert!(
        matches!(&without, RegistryError::Python(_)) && without.to_string().contains("no MLflow"),
        "{without}"
    );
    assert!(!root.path().join("mlflow.db").exists());
}

/// The most memory that this process has had at one time.
pub(crate) fn peak_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
