//! The published JSON Schema of `detgate.toml`: it is the program's own, it takes what the README shows,
//! and a validator that is not ours refuses with it what detgate refuses.

use std::path::Path;

use detgate::config::{Config, EvalFlags, ProjectFlags, json_schema};
use serde_json::Value;

fn repository(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The `detgate.toml` that the README shows.
fn readme_s_example() -> String {
    let readme = repository("README.md");
    let settings = readme.split_once("\n### Settings\n").expect("a section on settings").1;
    let code = settings.split_once("```toml\n").expect("an example").1;
    code.split_once("```").unwrap().0.to_owned()
}

/// The example with every key that it only shows in a comment.
fn whole_example() -> String {
    let lines = readme_s_example();
    let is_setting = |rest: &str| {
        rest.starts_with('[') || rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
    };
    lines
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| is_setting(rest)).unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Whether the schema takes a document, by a validator that has nothing of ours.
fn schema_takes(text: &str) -> bool {
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    let schema: Value = serde_json::from_str(&json_schema()).unwrap();
    let name = schema["$id"].as_str().unwrap().to_owned();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    compiler.add_resource(&name, schema).unwrap();
    let index = compiler.compile(&name, &mut schemas).unwrap();
    let document: Value = toml::from_str(text).unwrap();
    schemas.validate(&document, index).is_ok()
}

/// Whether detgate takes a `detgate.toml`.
fn detgate_takes(text: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("data/processed/project_config.json", r#"{"val_dir": ".", "target_classes": ["a"]}"#);
    write(
        "data/processed/labelmap.json",
        r#"{"target_category_ids": [1], "coco_to_internal": {"1": 1}, "internal_to_name": {"1": "a"}}"#,
    );
    write("detgate.toml", text);
    let project = ProjectFlags { project: Some(folder.path().to_owned()), baseline: None };
    let flags = EvalFlags { project, ..EvalFlags::default() };
    Config::resolve(&flags, folder.path()).map_err(|error| error.to_string())
}

#[test]
fn the_published_schema_is_the_program_s_own() {
    let published = repository("schemas/detgate-toml.schema.json").replace("\r\n", "\n");
    assert!(
        published == json_schema(),
        "run `cargo run -- schema config > schemas/detgate-toml.schema.json`"
    );
}

#[test]
fn the_command_prints_it() {
    let detgate = std::process::Command::new(env!("CARGO_BIN_EXE_detgate"));
    let output = { detgate }.args(["schema", "config"]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), json_schema());
}

#[test]
fn every_key_is_described() {
    fn undescribed(path: &str, schema: &Value, found: &mut Vec<String>) {
        for (key, value) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{key}");
            if value["description"].as_str().is_none_or(|text| !text.ends_with('.')) {
                found.push(path.clone());
            }
            undescribed(&path, value, found);
            undescribed(&format!("{path}.*"), &value["additionalProperties"], found);
        }
    }
    let mut found = Vec::new();
    undescribed("", &serde_json::from_str(&json_schema()).unwrap(), &mut found);
    assert_eq!(found, [""; 0]);
}

#[test]
fn the_readme_shows_the_defaults_and_the_schema_takes_them() {
    let example = readme_s_example();
    assert!(schema_takes(&example), "{example}");
    let shown = detgate_takes(&example).unwrap();
    let defaults = detgate_takes("").unwrap();
    assert_eq!(shown.gate.rules, defaults.gate.rules);
    let key = |config: &Config| {
        let gate = &config.gate;
        let statistics = (gate.judge, gate.confidence, gate.correction, gate.numeric_noise);
        let bootstrap = (gate.interval, gate.replicates, gate.seed);
        let rest = (config.max_images, config.preprocessing, config.score_thr, config.iou_thr);
        (statistics, bootstrap, rest, config.registry.clone().map(|registry| registry.tracking_uri))
    };
    assert_eq!(key(&shown), key(&defaults));
}

#[test]
fn the_readme_shows_every_key() {
    let example = whole_example();
    assert!(schema_takes(&example), "{example}");
    detgate_takes(&example).unwrap();
    let document: Value = toml::from_str(&example).unwrap();
    let schema: Value = serde_json::from_str(&json_schema()).unwrap();
    for (table, keys) in schema["properties"].as_object().unwrap() {
        for key in keys["properties"].as_object().unwrap().keys() {
            assert!(document[table].get(key).is_some(), "the README does not show {table}.{key}");
        }
    }
}

#[test]
fn what_the_schema_refuses_detgate_refuses_and_the_other_way_round() {
    let taken = [
        "",
        "[gate.metrics]\nAP = { max_drop = 0 }\n",
        "[gate.metrics]\n\"AP50/*@*\" = { max_relative_drop = 1.0, min = 0.5, tier = \"warn\" }\n",
        "[gate]\nbaseline = \"models:/a/1\"\njudge = \"confident\"\nreplicates = 20000\n",
        "[gate.slices.a-b_c]\ncsv = \"a.csv\"\ncolumn = \"b\"\nequals = \"\"\n",
        "[gate.groups]\nfolder = true\n",
        "[gate.groups]\ncsv = \"a.csv\"\ncolumn = \"video\"\n",
    ];
    for text in taken {
        assert!(schema_takes(text), "{text}");
        assert!(detgate_takes(text).is_ok(), "{text}");
    }
    let refused = [
        "gates = 1\n",
        "gate = 1\n",
        "[gate]\njudges = \"point\"\n",
        "[gate]\njudge = \"Point\"\n",
        "[gate]\nconfidence = 1\n",
        "[gate]\nconfidence = 0.4\n",
        "[gate]\nreplicates = 1.5\n",
        "[gate]\nreplicates = 100001\n",
        "[gate]\nseed = -1\n",
        "[gate]\nbaseline = 1\n",
        "[gate.metrics]\n",
        "[gate.metrics]\nAP = {}\n",
        "[gate.metrics]\nAP = { tier = \"warn\" }\n",
        "[gate.metrics]\nAP = { max_drop = \"1\" }\n",
        "[gate.metrics]\nAP = { max_drop = 1.01 }\n",
        "[gate.metrics]\nAP = { max_drop = 0.1, must_improve_by = 0.1 }\n",
        "[gate.slices.night]\n",
        "[gate.slices.\"a b\"]\nmin_objects = 1\n",
        "[gate.slices.night]\ncsv = \"a.csv\"\ncolumn = \"b\"\n",
        "[gate.groups]\n",
        "[gate.groups]\nfolder = false\n",
        "[gate.groups]\ncsv = \"a.csv\"\n",
        "[gate.groups]\ncsv = \"a.csv\"\ncolumn = \"b\"\nfolder = true\n",
    ];
    for text in refused {
        assert!(!schema_takes(text), "{text}");
        assert!(detgate_takes(text).is_err(), "{text}");
    }
}
