//! The published JSON Schema of the report: it is the program's own, takes every report that detgate writes, by a
//! validator that is not ours, and nothing else. And which versions of the report are read.

mod common;
#[path = "common/schema.rs"]
mod schema;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use common::{Demo, fixtures};
use detgate::detections::coco_results;
use detgate::gate::Provenance;
use detgate::matching::coco::CocoParams;
use detgate::matching::practical::PracticalParams;
use detgate::report::schema::json_schema;
use detgate::report::{DataSummary, PartialReport, Report, SCHEMA, html, junit, terminal};
use schema::Validator;
use serde_json::{Value, json};

fn repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn reference(name: &str) -> String {
    fixtures().join("demo/reference").join(name).display().to_string()
}

fn truth() -> String {
    fixtures().join("demo/data/processed/coco_person_car_airplane_val.json").display().to_string()
}

/// The demo's damaged model against its good one, by a policy.
fn compared(policy: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    std::fs::write(&file, policy).unwrap();
    std::fs::write(folder.path().join("t.csv"), csv()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_detgate"))
        .args(["compare", "--gt", &truth(), "--format", "json", "--policy"])
        .arg(&file)
        .args(["--baseline", &reference("torchvision_detections.json.gz")])
        .args(["--candidate", &reference("damaged_detections.json.gz")])
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// A slice of every second image.
fn csv() -> String {
    let truth: Value = serde_json::from_slice(&std::fs::read(truth()).unwrap()).unwrap();
    let images = truth["images"].as_array().unwrap().iter().enumerate();
    let row = |(i, image): (usize, &Value)| format!("{},{}\n", image["id"], ["yes", "no"][i % 2]);
    std::iter::once("image_id,night\n".to_owned()).chain(images.map(row)).collect()
}

/// Every kind of field: demands, slices, warnings, tests.
const REGRESSED: &str = r#"
[gate]
judge = "confident"
[gate.metrics]
AP = { max_relative_drop = 0.01, min = 0.3, tier = "warn" }
AP50 = { max_drop = 0.01 }
"AP50/*" = { must_improve_by = 0.01 }
"AP50@*" = { max_drop = 0.1 }
[gate.slices.night]
csv = "t.csv"
column = "night"
equals = "yes"
"#;

fn regressed() -> Value {
    let report = compared(REGRESSED);
    assert_eq!(report["judgement"]["verdict"], "regressed");
    report
}

#[test]
fn the_published_schema_is_the_program_s_own_and_what_the_command_prints() {
    let published = std::fs::read_to_string(repository("schemas/report.schema.json")).unwrap();
    assert!(
        published.replace("\r\n", "\n") == json_schema(),
        "run `cargo run -- schema report > schemas/report.schema.json`"
    );
    let detgate = Command::new(env!("CARGO_BIN_EXE_detgate")).args(["schema", "report"]).output();
    let output = detgate.unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), json_schema());
}

/// Whoever keeps a copy can tell from its name for which reports it is.
#[test]
fn the_schema_and_each_report_carry_the_version() {
    let schema: Value = serde_json::from_str(&json_schema()).unwrap();
    assert_eq!(schema["$id"], format!("urn:detgate:schema:report:{SCHEMA}"));
    let readme = std::fs::read_to_string(repository("README.md")).unwrap();
    assert!(readme.contains(&format!("`{}`", schema["$id"].as_str().unwrap())));
    let mut report = regressed();
    assert_eq!(report["schema"], SCHEMA);
    for other in [json!(SCHEMA - 1), json!(SCHEMA + 1), json!(SCHEMA.to_string()), Value::Null] {
        report["schema"] = other;
        assert!(!Validator::of_report().takes(&report), "{}", report["schema"]);
    }
}

#[test]
fn every_verdict_of_a_comparison_is_taken() {
    let validator = Validator::of_report();
    validator.check(&regressed());
    for (verdict, judge, allowed) in
        [("passed", "point", 0.5), ("inconclusive", "confident", 0.13), ("regressed", "point", 0.1)]
    {
        let rule = format!("[gate.metrics]\nAP50 = {{ max_drop = {allowed} }}\n");
        let report = compared(&format!("[gate]\njudge = \"{judge}\"\n{rule}"));
        assert_eq!(report["judgement"]["verdict"], verdict);
        validator.check(&report);
    }
}

#[test]
fn reports_of_evaluations_are_taken_with_a_baseline_and_without() {
    let validator = Validator::of_report();
    let demo = Demo::whole();
    let found = reference("damaged_detections.json.gz");
    let report = |arguments: &[&str], code: i32| -> Value {
        let ran = demo.eval(&[&["--no-html", "--detections", &found], arguments].concat());
        assert_eq!(ran.code(), code, "{}", ran.stderr());
        serde_json::from_slice(&demo.report()).unwrap()
    };
    validator.check(&report(&[], 1));
    let foreign = report(&["--score-thr", "0.3"], 4);
    assert_eq!(foreign["judgement"]["verdict"], "incomparable");
    assert!(!foreign["judgement"]["reasons"].as_array().unwrap().is_empty());
    validator.check(&foreign);
    // A snapshot whose detections are not beside it has numbers alone.
    let beside = |name: &str| name.ends_with(".json.zst");
    for entry in demo.path("").read_dir().unwrap().map(Result::unwrap) {
        if entry.file_name().to_str().is_some_and(beside) {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let numbers = report(&[], 1);
    assert!(numbers.get("why").is_none() && numbers["analysis"]["alone"].is_object(), "{numbers}");
    validator.check(&numbers);
    std::fs::remove_file(demo.path("baseline.snap")).unwrap();
    let first = report(&[], 4);
    assert!(first.get("why").is_none() && first["analysis"]["alone"].is_object(), "{first}");
    validator.check(&first);
}

#[test]
fn a_report_of_an_interrupted_evaluation_is_taken_and_has_no_verdict() {
    let validator = Validator::of_report();
    let partial = partial();
    validator.check(&partial);
    let mut judged = partial.clone();
    judged["judgement"] = regressed()["judgement"].clone();
    assert!(!validator.takes(&judged), "a part of the images has no verdict");
    let mut whole = regressed();
    whole["partial"] = true.into();
    assert!(!validator.takes(&whole));
    let mut denied = partial;
    denied["partial"] = false.into();
    assert!(!validator.takes(&denied));
}

/// As an interrupted evaluation of the demo leaves it (`tests/resume.rs` interrupts real ones).
fn partial() -> Value {
    let dataset = detgate::dataset::load_annotations(
        truth().as_ref(),
        &detgate::dataset::Classes::FromFile,
        Some(5),
    )
    .unwrap();
    let found = coco_results::read(reference("damaged_detections.json.gz").as_ref()).unwrap();
    let found = found.by_image(&dataset.images);
    let images = found.on(&dataset.images);
    let practical = PracticalParams { score_thr: 0.5, iou_thr: 0.5 };
    let coco = CocoParams::default();
    let evaluation =
        detgate::metrics::evaluate(&dataset.categories, &images, &practical, &coco).unwrap();
    let data = DataSummary::of(&images, Vec::new());
    let provenance = Provenance::default();
    let report = PartialReport::of(&provenance, data, 155, &evaluation, practical);
    serde_json::from_str(&report.to_json().unwrap()).unwrap()
}

/// Where something stands in a document: names of fields, places in lists.
type Steps = Vec<String>;

/// Every place of a document, as JSON pointers.
fn places(value: &Value, here: &Steps, found: &mut Vec<Steps>) {
    found.push(here.clone());
    let mut go_on = |name: String, child: &Value| {
        places(child, &[&here[..], &[name]].concat(), found);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, child)| go_on(name.clone(), child)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, child)| go_on(i.to_string(), child));
        }
        _ => {}
    }
}

fn pointer(path: &[String]) -> String {
    path.iter().map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1"))).collect()
}

/// The same without the places in lists, which differ from report to report.
fn kind_of_place(path: &[String]) -> String {
    let kind = |name: &String| match name.parse::<usize>() {
        Ok(_) => "/*".to_owned(),
        Err(_) => format!("/{name}"),
    };
    path.iter().map(kind).collect()
}

/// Of items that look alike one is enough: the same document, small.
fn shrink(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(shrink),
        Value::Array(items) if items.iter().all(Value::is_object) => {
            let mut seen = BTreeSet::new();
            items.iter_mut().for_each(shrink);
            items.retain(|item| {
                let mut found = Vec::new();
                places(item, &Vec::new(), &mut found);
                let kinds: BTreeSet<String> = found
                    .iter()
                    .map(|path| format!("{}{}", kind_of_place(path), is_null(item, path)))
                    .collect();
                seen.insert(kinds)
            });
        }
        _ => {}
    }
}

fn is_null(value: &Value, path: &[String]) -> bool {
    value.pointer(&pointer(path)).is_some_and(Value::is_null)
}

/// Documents that together have every field: with and without a baseline, and a partial one.
fn small_documents() -> Vec<Value> {
    let demo = Demo::whole();
    std::fs::remove_file(demo.path("baseline.snap")).unwrap();
    let found = reference("damaged_detections.json.gz");
    assert_eq!(demo.eval(&["--no-html", "--detections", &found]).code(), 4);
    let first: Value = serde_json::from_slice(&demo.report()).unwrap();
    let mut documents = vec![regressed(), first, partial()];
    documents.iter_mut().for_each(shrink);
    documents
}

#[test]
fn nothing_but_what_is_named_is_taken() {
    let validator = Validator::of_report();
    let (mut records, mut values) = (0, 0);
    for document in small_documents() {
        validator.check(&document);
        let mut found = Vec::new();
        places(&document, &Vec::new(), &mut found);
        for path in &found {
            let mut other = document.clone();
            let place = other.pointer_mut(&pointer(path)).unwrap();
            match place {
                // The fingerprint is a list of facts, whatever they are called.
                Value::Object(_) if path.last().is_some_and(|name| name == "fingerprint") => {
                    continue;
                }
                Value::Object(fields) => {
                    fields.insert("surprise".to_owned(), 1.into());
                    records += 1;
                }
                Value::Array(_) | Value::String(_) => *place = false.into(),
                Value::Number(_) | Value::Bool(_) => *place = "surprise".into(),
                Value::Null => *place = json!({"surprise": 1}),
            }
            values += 1;
            assert!(!validator.takes(&other), "{}", kind_of_place(path));
        }
    }
    assert!(records > 50 && values > 500, "{records} {values}");
}

/// What may be absent is what the schema says may be absent, and that is little.
#[test]
fn nothing_that_is_required_may_be_absent() {
    let validator = Validator::of_report();
    let mut optional = BTreeSet::new();
    for document in small_documents() {
        let mut found = Vec::new();
        places(&document, &Vec::new(), &mut found);
        for path in found.iter().filter(|path| !path.is_empty()) {
            let (name, parent) = path.split_last().unwrap();
            let mut other = document.clone();
            let Some(fields) = other.pointer_mut(&pointer(parent)).unwrap().as_object_mut() else {
                continue;
            };
            fields.remove(name);
            if validator.takes(&other) {
                optional.insert(kind_of_place(path));
            }
        }
    }
    // The fingerprint is a list of facts, whatever they are called.
    optional.retain(|place| !place.starts_with("/fingerprint/"));
    let wanted = [
        "/analysis",
        "/analysis/alone",
        "/judgement/comparisons/*/finding",
        "/judgement/comparisons/*/interval",
        "/judgement/comparisons/*/rule",
        "/judgement/comparisons/*/rule/max_drop",
        "/judgement/comparisons/*/rule/max_relative_drop",
        "/judgement/comparisons/*/rule/min",
        "/judgement/comparisons/*/rule/tier",
        "/judgement/comparisons/*/tests",
        "/why",
    ];
    assert_eq!(optional.iter().map(String::as_str).collect::<Vec<_>>(), wanted);
}

#[test]
fn kinds_that_are_not_known_are_refused() {
    let validator = Validator::of_report();
    let mut kinds = BTreeSet::new();
    for document in small_documents() {
        let mut found = Vec::new();
        places(&document, &Vec::new(), &mut found);
        for path in &found {
            let mut other = document.clone();
            let place = other.pointer_mut(&pointer(path)).unwrap();
            if place.is_string() {
                *place = "surprise".into();
                if !validator.takes(&other) {
                    kinds.insert(kind_of_place(path));
                }
            }
        }
    }
    let wanted = [
        "/judgement/comparisons/*/finding",
        "/judgement/comparisons/*/rule/tier",
        "/judgement/comparisons/*/tests/*/demand",
        "/judgement/comparisons/*/tests/*/finding",
        "/judgement/method/correction",
        "/judgement/method/interval",
        "/judgement/method/judge",
        "/judgement/verdict",
        "/why/improved/*/flips/*/kind",
        "/why/worst/*/flips/*/kind",
    ];
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), wanted);
}

#[test]
fn everything_is_described() {
    let schema: Value = serde_json::from_str(&json_schema()).unwrap();
    let mut bare = Vec::new();
    for (name, record) in schema["$defs"].as_object().unwrap() {
        for (field, value) in record["properties"].as_object().into_iter().flatten() {
            let text = value["description"].as_str().unwrap_or_default();
            assert!(!text.contains("None") && !text.contains("[`"), "{name}.{field}: {text}");
            if !text.ends_with('.') {
                bare.push(field.as_str());
            }
        }
    }
    // COCO's own names, and the two sides of a comparison, need no words.
    let known = ["AP", "AR", "baseline", "candidate"];
    bare.retain(|field| !known.iter().any(|known| field.starts_with(known)));
    assert_eq!(bare, [""; 0]);
}

/// `old_reports/` has a report of each older version that is read, as the detgate of then wrote it.
#[test]
fn a_report_of_an_older_version_is_read_as_one_of_this_version() {
    let path = repository("tests/old_reports/3.json");
    let old: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(old["schema"], 3);
    let report = Report::read(&path).unwrap();
    assert_eq!(report.schema, SCHEMA);
    let again: Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
    Validator::of_report().check(&again);
    let renumbered = { old }.as_object_mut().map(|old| {
        old.insert("schema".to_owned(), SCHEMA.into());
        Value::from(old.clone())
    });
    assert_eq!(Some(again), renumbered, "nothing is lost, and nothing made up");
    assert!(terminal::tables(&report).contains("REGRESSED"));
    assert!(junit::xml(&report).unwrap().contains("<failure"));
    assert!(html::page(&report, &html::Pictures::new()).unwrap().contains("Kinds of mistakes"));
}

#[test]
fn other_versions_and_partial_reports_are_refused_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evaluation.json");
    let refusal = |report: &Value| {
        std::fs::write(&path, report.to_string()).unwrap();
        let ran = Command::new(env!("CARGO_BIN_EXE_detgate"))
            .args(["report", "--from", "evaluation.json"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(ran.status.code(), Some(2));
        assert!(ran.stdout.is_empty());
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    };
    let mut report = regressed();
    for version in [2, SCHEMA + 1] {
        report["schema"] = version.into();
        let said = refusal(&report);
        let wanted = format!("has version {version}, and this detgate reads 3 to {SCHEMA}; ");
        assert!(said.contains("evaluation.json") && said.contains(&wanted), "{said}");
    }
    let said = refusal(&partial());
    assert!(
        said.contains("an interrupted evaluation, which has no verdict; evaluate again"),
        "{said}"
    );
}
