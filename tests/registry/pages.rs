//! What a person or a program finds in MLflow: on its pages, and by its Python.

use detgate::registry::publish;
use serde_json::json;

use crate::browser::{Browser, browser, has_pages};
use crate::mlflow::mlflow_python;
use crate::project::{CLASSES, evaluated};
use crate::support::{ask_python, running_server, settings, start};

const SEEN: &str = r#"
import json, sys
import mlflow
uri, model, number = sys.argv[1:]
mlflow.set_tracking_uri(uri)
client = mlflow.MlflowClient()
version = client.get_model_version(model, number)
run = client.get_run(version.run_id)
dataset = run.inputs.dataset_inputs[0]
info = mlflow.models.get_model_info(f"models:/{model}/{number}")
signature = info.signature.to_dict()
def listed(folder=None):
    for found in client.list_artifacts(run.info.run_id, folder):
        yield from listed(found.path) if found.is_dir else [found.path]
toml = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/config/detgate.toml")
print(json.dumps({
    "aliases": client.get_model_version_by_alias(model, "candidate").version,
    "dataset": dataset.dataset.to_dictionary() | {"tags": {tag.key: tag.value for tag in dataset.tags}},
    "source": mlflow.data.get_source(dataset).to_dict(),
    "inputs": [[i.name, str(i.type), list(i.shape)] for i in info.signature.inputs],
    "outputs": [[o.name, str(o.type), list(o.shape)] for o in info.signature.outputs],
    "flavors": info.flavors, "artifacts": sorted(listed()), "metrics": run.data.metrics,
    "run_tags": run.data.tags, "tags": version.tags, "description": version.description, "toml": toml,
}))
"#;

#[test]
fn python_finds_dataset_signature_files_metrics_and_tags() {
    let Some(python) = mlflow_python() else { return };
    let server = running_server(&python);
    let root = tempfile::tempdir().unwrap();
    let it = evaluated(root.path(), "seen", 2);

    let registered =
        publish(&it.passed, &it.publication, &settings(&server.address, root.path(), &python))
            .unwrap();

    assert!(registered.truncated.is_empty(), "{:?}", registered.truncated);
    let seen = ask_python(&python, SEEN, &[&server.address, "seen", &registered.version]);
    assert_eq!(seen["aliases"], json!(registered.version));
    assert_eq!(seen["dataset"]["name"], "street_val");
    assert_eq!(seen["dataset"]["digest"].as_str().unwrap().len(), 36);
    assert_eq!(seen["dataset"]["tags"], json!({ "mlflow.data.context": "evaluation" }));
    assert_eq!(seen["source"], json!({ "uri": "data/processed/street_val.json" }));
    let profile =
        serde_json::from_str::<serde_json::Value>(seen["dataset"]["profile"].as_str().unwrap());
    let profile = profile.unwrap();
    assert_eq!((&profile["images"], &profile["ground_truths"]), (&json!(8), &json!(24)));
    assert_eq!(profile["ground_truths_per_class"][CLASSES[1]], 8);
    assert_eq!(seen["inputs"], json!([["image", "float32", [3, -1, -1]]]));
    let outputs = json!([
        ["boxes", "float32", [-1, 4]],
        ["scores", "float32", [-1]],
        ["labels", "int64", [-1]]
    ]);
    assert_eq!(seen["outputs"], outputs);
    assert_eq!(seen["flavors"]["detgate"]["data"], "best_model.pt");
    assert_eq!(seen["flavors"]["detgate"]["format"], "torchvision.RetinaNet");
    assert_eq!(seen["flavors"]["detgate"]["max_size"], 1333);
    assert_eq!(seen["flavors"]["detgate"]["labels"]["2"], "traffic light");
    let artifacts: Vec<&str> =
        seen["artifacts"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
    let detections = artifacts.iter().find(|path| path.ends_with(".detections.json.zst")).unwrap();
    assert_eq!(
        artifacts,
        [
            detections,
            "baseline/baseline.snap",
            "config/detgate.toml",
            "config/labelmap.json",
            "config/project_config.json",
            "model_ckpt/MLmodel",
            "model_ckpt/best_model.pt",
            "plots/precision_recall.svg",
            "plots/precision_recall_10_traffic_light.svg",
            "plots/precision_recall_1_person.svg",
            "plots/precision_recall_77__script_document_title__owned___script__.svg",
            "reports/evaluation.json",
        ]
    );
    // Grouped by what stands before the slash; the counts and names of the practical protocol beside them.
    for name in [
        "AP",
        "AP/person",
        "AP50/traffic light",
        "tp",
        "fn/person",
        "mAP50_approx",
        "ap50_approx/person",
        "f1",
    ] {
        assert!(seen["metrics"][name].is_number(), "{name}: {}", seen["metrics"]);
    }
    // What MLflow would refuse in a name is replaced: a class's name must not undo an evaluation.
    let odd = "AP/_script_document.title__owned___script___x__javascript_a____";
    assert!(seen["metrics"][odd].is_number(), "{}", seen["metrics"]);
    for tags in [&seen["run_tags"], &seen["tags"]] {
        assert_eq!(tags["verdict"], "passed");
        assert_eq!(tags["git_commit"], "c0ffee".repeat(6));
        assert_eq!(tags["detgate_version"], env!("CARGO_PKG_VERSION"));
        assert!(
            ["checkpoint_blake3", "fingerprint_blake3"].iter().all(|name| tags[*name]
                .as_str()
                .unwrap()
                .len()
                == 64)
        );
    }
    assert!(
        !seen["toml"].as_str().unwrap().contains("hunter2")
            && seen["toml"].as_str().unwrap().contains("***@ml.example")
    );
    let description = seen["description"].as_str().unwrap();
    assert!(description.starts_with("PASSED: AP 0.6"), "{description}");
    assert!(description.contains(". 4 judged metrics, none fell too far.\n"), "{description}");
    assert!(description.contains("\n| `AP50/traffic light`&nbsp; | 0."), "{description}");
    assert!(
        !description.contains("<script") && description.chars().count() <= 5000,
        "{description}"
    );
    let link = format!("/runs/{}/artifacts/reports/evaluation.json)", registered.run_id);
    assert!(description.contains(&link), "{description}");
    assert_eq!(seen["run_tags"]["mlflow.note.content"].as_str().unwrap(), description);
}

/// Where there is a browser, its view of MLflow's own pages.
#[test]
fn the_pages_show_verdict_table_dataset_and_groups_of_metrics() {
    let (Some(python), Some(program)) = (mlflow_python(), browser()) else { return };
    let root = tempfile::tempdir().unwrap();
    let files = root.path().join("mlruns");
    // MLflow 3.17 shows a version's signature only where its own process can read the files.
    let server = start(
        &python,
        &["--no-serve-artifacts", "--default-artifact-root", files.to_str().unwrap()],
    );
    if !has_pages(&server.address) {
        return;
    }
    let it = evaluated(root.path(), "paged", 3);
    let registered =
        publish(&it.passed, &it.publication, &settings(&server.address, root.path(), &python))
            .unwrap();
    let browser = Browser { program, server: &server.address };
    let (experiment, run) = (&registered.experiment_id, &registered.run_id);

    let version = browser.page(
        "version",
        &format!("/models/paged/versions/{}", registered.version),
        "judged metrics",
    );
    for part in
        ["<table>", "<code>AP50/traffic light</code>", "PASSED", "report (JSON)", "candidate"]
    {
        assert!(version.contains(part), "no {part} in {version}");
    }
    // Shown, and neither run nor made a link.
    assert!(version.contains("&lt;script&gt;document.title='ow…"), "{version}");
    assert!(
        !version.contains("<title>owned") && !version.contains("href=\"javascript:"),
        "{version}"
    );

    let page = browser.page("run", &format!("/experiments/{experiment}/runs/{run}"), "street_val");
    for part in ["street_val", "AP/person", "<table>", "passed"] {
        assert!(page.contains(part), "no {part} in {page}");
    }
    let charts = browser.page(
        "metrics",
        &format!("/experiments/{experiment}/runs/{run}/model-metrics"),
        "AP50",
    );
    for group in ["AP50", "AR100", "ap50_approx", "precision"] {
        assert!(
            charts.contains(&format!("title=\"{group}\""))
                || charts.contains(&format!(">{group}<")),
            "no {group} in {charts}"
        );
    }
    let link = format!("/experiments/{experiment}/runs/{run}/artifacts/plots/precision_recall.svg");
    let plot = browser.page("plot", &link, "precision_recall.svg");
    assert!(plot.contains("precision_recall_10_traffic_light.svg"), "{plot}");
}
