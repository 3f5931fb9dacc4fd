//! The `MLmodel` file beside the checkpoint: what goes in, what comes out, and how the checkpoint was run.
//! MLflow's pages and `mlflow.models.get_model_info` read it.
//!
//! Source: `mlflow/models/model.py` and `mlflow/types/schema.py` of MLflow 3.17. The file is YAML; JSON is YAML
//! too, and needs no rules of quoting.
//!
//! Deliberately absent: the flavor `python_function`. Its loader would be Python code that this program
//! writes beside every checkpoint and that whoever loads the version executes, with torch and
//! torchvision of versions that nobody has evaluated; the gate would vouch for numbers of another
//! program. Also absent: the file itself where the model is another framework's (`--detections`), and a
//! time, so that equal models give equal bytes.

use serde_json::{Value, json};

use crate::config::{Config, LabelKind, ModelSource};
use crate::detections::ModelForm;
use crate::gate::Snapshot;

/// The file's name, which MLflow looks for.
pub(super) const NAME: &str = "MLmodel";

/// The content of the file.
pub(super) fn content(
    candidate: &Snapshot,
    config: &Config,
    form: &ModelForm,
    folder: &str,
) -> String {
    let provenance = &candidate.provenance;
    let mlmodel = json!({
        "artifact_path": folder,
        "flavors": {
            "detgate": {
                "data": provenance.checkpoint,
                "format": form.format,
                "checkpoint_blake3": provenance.checkpoint_blake3,
                "engine": provenance.engine,
                "labels": labels(config),
                "min_size": form.input_size.map(|(min_size, _)| min_size),
                "max_size": form.input_size.map(|(_, max_size)| max_size),
                "norm_eps": form.norm_eps,
            },
        },
        "signature": signature(),
    });
    format!("{mlmodel:#}\n")
}

/// What the numbers in `labels` of the output mean.
fn labels(config: &Config) -> Value {
    let map = &config.label_map;
    let by_category =
        map.target_category_ids.iter().filter_map(|id| Some((*id, map.name(*id)?.to_owned())));
    let names: std::collections::BTreeMap<i64, String> = match config.model {
        ModelSource::TorchScript(_, LabelKind::Category) => by_category.collect(),
        _ => map.internal_to_name.clone(),
    };
    names
        .into_iter()
        .map(|(label, name)| (label.to_string(), Value::from(name)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// One image: RGB, 0..1, `[3, height, width]`; of it n boxes (x1, y1, x2, y2 in pixels), scores, labels.
/// MLflow keeps each side as JSON in a string.
fn signature() -> Value {
    let tensor = |name: &str, dtype: &str, shape: &[i64]| json!({ "type": "tensor", "name": name, "tensor-spec": { "dtype": dtype, "shape": shape } });
    let inputs = json!([tensor("image", "float32", &[3, -1, -1])]);
    let outputs = json!([
        tensor("boxes", "float32", &[-1, 4]),
        tensor("scores", "float32", &[-1]),
        tensor("labels", "int64", &[-1]),
    ]);
    json!({ "inputs": inputs.to_string(), "outputs": outputs.to_string(), "params": null })
}
