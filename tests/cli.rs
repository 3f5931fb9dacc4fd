//! `detgate eval` and `bless` as a user runs them, on the embedded demo project: exit codes, what is
//! said, what is written. No registration here; that is `tests/registration.rs`.
#![cfg(feature = "torch")]

mod common;

use std::path::PathBuf;

use common::{Demo, fixtures};
use serde_json::{Value, json};

#[test]
fn the_demo_passes_against_its_committed_baseline() {
    let demo = Demo::whole();
    let ran = demo.eval(&[]);
    assert_eq!(ran.code(), 0, "{}{}", ran.stdout(), ran.stderr());
    assert!(ran.stdout().contains("PASSED"), "{}", ran.stdout());
    let report: Value = serde_json::from_slice(&demo.report()).unwrap();
    assert_eq!(report["judgement"]["verdict"], "passed");
    let ap50 = report["coco"]["AP50"].as_f64().unwrap();
    assert!((0.55..0.95).contains(&ap50), "AP50 {ap50}");
}

#[test]
fn the_same_weights_in_safetensors_find_the_same() {
    use detgate::checkpoint::{Dtype, load};
    use safetensors::tensor::TensorView;
    let demo = Demo::small();
    assert_eq!(demo.eval(&[]).code(), 4);
    let found = || std::fs::read(demo.path("reports/evaluation.detections.json")).unwrap();
    let expected = found();
    let weights = load(&demo.path("models/local_checkpoints/best_demo.pt")).unwrap().state_dict;
    let view = |(name, tensor): (&String, &detgate::checkpoint::Tensor)| {
        let dtype = match tensor.dtype() {
            Dtype::F16 => safetensors::Dtype::F16,
            Dtype::F32 => safetensors::Dtype::F32,
            Dtype::I64 => safetensors::Dtype::I64,
            other => panic!("{name} is {other:?}"),
        };
        let bytes = tensor.as_contiguous_bytes().unwrap().to_vec();
        (name.clone(), dtype, tensor.shape().to_vec(), bytes)
    };
    let views: Vec<_> = weights.iter().map(view).collect();
    let views = views.iter().map(|(name, dtype, shape, bytes)| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    let packed = safetensors::serialize(views, None).unwrap();
    std::fs::remove_dir_all(demo.path("models/local_checkpoints")).unwrap();
    std::fs::create_dir(demo.path("models/local_checkpoints")).unwrap();
    std::fs::write(demo.path("models/local_checkpoints/best_demo.safetensors"), packed).unwrap();
    let ran = demo.eval(&[]);
    assert_eq!(ran.code(), 4, "{}", ran.stderr());
    assert!(ran.stdout().starts_with("best_demo.safetensors on 4 images"), "{}", ran.stdout());
    assert!(expected == found(), "other detections");
}

#[test]
fn the_damaged_checkpoint_is_refused_and_bless_refuses_it_too() {
    let demo = Demo::whole();
    let ran = demo.eval(&["--checkpoint", "models/damaged/best_damaged.pt"]);
    assert_eq!(ran.code(), 1, "{}{}", ran.stdout(), ran.stderr());
    assert!(ran.stdout().contains("REGRESSED"), "{}", ran.stdout());
    assert!(ran.stdout().contains("AP50 fell from"), "{}", ran.stdout());
    assert_eq!(demo.run(&["bless"]).code(), 1);
    assert_eq!(demo.run(&["bless", "--force"]).code(), 0);
}

#[test]
fn without_a_baseline_the_exit_code_is_4_until_one_is_blessed() {
    let demo = Demo::small();
    let ran = demo.eval(&[]);
    assert_eq!(ran.code(), 4, "{}", ran.stderr());
    assert!(ran.stdout().contains("there is no baseline yet"), "{}", ran.stdout());
    let advice = "`detgate bless --reason \"...\"` accepts this run as the baseline";
    assert!(ran.stderr().contains(advice), "{}", ran.stderr());
    assert_eq!(demo.run(&["bless"]).code(), 0);
    assert_eq!(demo.eval(&[]).code(), 0);
    let again = demo.run(&["bless"]);
    assert_eq!(again.code(), 2);
    assert!(again.stderr().contains("nothing to accept"), "{}", again.stderr());
}

#[test]
fn the_advice_to_bless_names_the_same_project_and_baseline() {
    let demo = Demo::small();
    let elsewhere = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = demo.command(arguments);
        command.current_dir(&elsewhere).output().unwrap()
    };
    let project = demo.path("").display().to_string();
    let (project, baseline) = (["--project", &project], ["--baseline", "it's a/base line.snap"]);
    let ran = run(&[&["eval", "--no-register"], &project[..], &baseline].concat());
    let said = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(4), "{said}");
    let command = said.split('`').find(|text| text.starts_with("detgate bless")).unwrap();
    let words = shlex::split(command).unwrap();
    let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    let blessed = run(&words);
    let said = String::from_utf8(blessed.stdout).unwrap();
    assert!(said.starts_with("accepted best_demo.pt, evaluated 20"), "{command}: {said}");
    assert!(elsewhere.path().join("it's a/base line.snap").is_file());
}

#[test]
fn the_report_never_takes_the_place_of_what_is_read() {
    let demo = Demo::small();
    let truth = demo.truth().display().to_string();
    for input in ["detgate.toml", "models/local_checkpoints/best_demo.pt", &truth] {
        let before = std::fs::read(demo.path(input)).unwrap();
        let text = demo.refusal(&["--report", input]);
        assert!(text.contains("the report cannot be"), "{text}");
        assert!(std::fs::read(demo.path(input)).unwrap() == before, "{input} was changed");
    }
}

#[test]
fn a_run_that_came_to_nothing_leaves_nothing_to_accept() {
    let demo = Demo::small();
    assert_eq!(demo.eval(&[]).code(), 4);
    assert!(demo.path("baseline.snap.new").is_file());
    let truth: Value = serde_json::from_slice(&std::fs::read(demo.truth()).unwrap()).unwrap();
    let first = truth["images"][0]["file_name"].as_str().unwrap();
    std::fs::write(demo.path("data/val2017").join(first), "no image").unwrap();
    assert_eq!(demo.eval(&[]).code(), 2);
    let blessed = demo.run(&["bless"]);
    assert_eq!(blessed.code(), 2);
    assert!(blessed.stderr().contains("nothing to accept"), "{}", blessed.stderr());
}

#[test]
fn a_folder_of_images_that_is_not_there_is_named() {
    let text = Demo::small().refusal(&["--images", "typo"]);
    assert!(text.contains("there is no folder of images") && text.contains("typo"), "{text}");
}

#[test]
fn other_settings_or_data_are_not_comparable_and_say_what_differs() {
    let demo = Demo::blessed();
    let ran = demo.eval(&["--score-thr", "0.3"]);
    assert_eq!(ran.code(), 4);
    assert!(ran.stdout().contains("score_thr: baseline 0.5, candidate 0.3"), "{}", ran.stdout());
    demo.edit_truth(|truth| truth["annotations"][0]["area"] = json!(77.0));
    let ran = demo.eval(&[]);
    assert_eq!(ran.code(), 4);
    assert!(ran.stdout().contains("ground_truth_blake3"), "{}", ran.stdout());
}

#[test]
fn bless_asks_for_force_where_the_candidate_was_measured_otherwise() {
    let demo = Demo::blessed();
    assert_eq!(demo.eval(&["--max-images", "2"]).code(), 4);
    let refused = demo.run(&["bless"]);
    assert_eq!(refused.code(), 4);
    assert!(
        refused.stderr().contains("image_count: baseline 4, candidate 2"),
        "{}",
        refused.stderr()
    );
    assert_eq!(demo.run(&["bless", "--force"]).code(), 0);
    // Now it is comparable; what two pictures say of three classes is another matter.
    assert_ne!(demo.eval(&["--max-images", "2"]).code(), 4);
}

#[test]
fn all_categories_evaluates_what_the_checkpoint_was_trained_for() {
    let demo = Demo::small();
    let coco = |arguments: &[&str]| {
        assert_eq!(demo.eval(arguments).code(), 4);
        let report: Value = serde_json::from_slice(&demo.report()).unwrap();
        report["coco"].clone()
    };
    let of_label_map = coco(&[]);
    assert!(of_label_map["AP"].as_f64().unwrap() > 0.1);
    assert_eq!(coco(&["--all-categories"]), of_label_map);
}

#[test]
fn a_reader_that_leaves_early_is_no_bug() {
    let demo = Demo::small();
    let mut command = demo.command(&["eval", "--no-register"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

#[test]
fn a_gate_that_cannot_close_is_an_error() {
    let demo = Demo::small();
    let settings = std::fs::read_to_string(demo.path("detgate.toml")).unwrap();
    let start = settings.find("[gate.metrics]").unwrap();
    let rules = |rules: &str| {
        std::fs::write(
            demo.path("detgate.toml"),
            format!("{}[gate.metrics]\n{rules}", &settings[..start]),
        )
        .unwrap();
        demo.refusal(&[])
    };
    assert!(rules("").contains("has no rule"));
    assert!(rules("AP = {}\n").contains("demands nothing"));
    let line = settings[..start].lines().count() + 2;
    let place =
        format!("error: DEMO/detgate.toml:{line}:1: the rule [gate.metrics] \"AP5/person\"");
    let sentence = rules("\"AP5/person\" = { min = 0.1 }\n");
    assert!(sentence.starts_with(&place), "{sentence}");
    assert!(sentence.ends_with("did you mean \"AP50/person\"?"), "{sentence}");
}

#[test]
fn a_damaged_baseline_is_said_before_inference_and_its_remedy_works() {
    let demo = Demo::small();
    std::fs::write(demo.path("baseline.snap"), "garbage").unwrap();
    let sentence = demo.refusal(&[]);
    assert!(sentence.contains("baseline.snap is not a detgate baseline"), "{sentence}");
    std::fs::remove_file(demo.path("baseline.snap")).unwrap();
    assert_eq!(demo.eval(&[]).code(), 4);
    assert_eq!(demo.run(&["bless"]).code(), 0);
}

/// Lost detections are put back by a run that finds the same; where a test needs them before that, it
/// says so, and how to go on.
#[test]
fn lost_detections_are_missed_and_put_back() {
    let demo = Demo::blessed();
    let detections = || -> Vec<PathBuf> {
        let entries = demo.path("").read_dir().unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "zst")).collect()
    };
    let lost = &detections()[0];
    let bytes = std::fs::read(lost).unwrap();
    std::fs::remove_file(lost).unwrap();
    let ran = demo.eval(&["--judge", "confident"]);
    assert_eq!(ran.code(), 4, "{}", ran.stdout());
    assert!(ran.stdout().contains("not beside baseline.snap"), "{}", ran.stdout());
    assert_eq!(std::fs::read(lost).unwrap(), bytes);

    let snapshot = std::fs::read_to_string(demo.path("baseline.snap")).unwrap();
    let start = snapshot.find("\"detections_blake3\": \"").unwrap() + 22;
    let other = format!("{}{}{}", &snapshot[..start], "0".repeat(64), &snapshot[start + 64..]);
    std::fs::write(demo.path("baseline.snap"), other).unwrap();
    let ran = demo.eval(&["--judge", "confident"]);
    assert_eq!(ran.code(), 4, "{}", ran.stdout());
    assert_eq!(demo.run(&["bless", "--force"]).code(), 0);
    assert_ne!(demo.eval(&["--judge", "confident"]).code(), 4);
}

/// What an evaluation leaves for review is an insta snapshot, and cargo-insta is a reviewer.
#[test]
fn cargo_insta_accepts_an_evaluation() {
    let Some(cargo_insta) = std::env::var_os("DETGATE_CARGO_INSTA").filter(|path| !path.is_empty())
    else {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "skipped: cargo_insta needs DETGATE_CARGO_INSTA");
        return;
    };
    let demo = Demo::small();
    std::fs::create_dir(demo.path("src")).unwrap();
    std::fs::write(demo.path("src/lib.rs"), "").unwrap();
    let manifest = "[package]\nname = \"team\"\nversion = \"0.1.0\"\n[workspace]\n";
    std::fs::write(demo.path("Cargo.toml"), manifest).unwrap();
    assert_eq!(demo.eval(&[]).code(), 4);
    let mut review = std::process::Command::new(cargo_insta);
    review.args(["insta", "accept"]).current_dir(demo.path("")).env_remove("CI");
    let output = review.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!demo.path("baseline.snap.new").exists());
    assert_eq!(demo.eval(&[]).code(), 0);
}

#[test]
fn a_report_that_cannot_be_written_costs_no_result() {
    let demo = Demo::small();
    std::fs::write(demo.path("reports"), "a file where the folder should be").unwrap();
    let ran = demo.eval(&[]);
    assert_eq!(ran.code(), 2);
    assert!(ran.stdout().contains("AP50"), "{}", ran.stdout());
    assert!(ran.stderr().contains("pass --report FILE"), "{}", ran.stderr());
}

#[test]
fn under_ci_no_baseline_is_written() {
    let demo = Demo::small();
    let in_ci = |arguments: &[&str]| demo.command(arguments).env("CI", "true").output().unwrap();
    assert_eq!(in_ci(&["eval", "--no-register"]).status.code(), Some(4));
    assert!(!demo.path("baseline.snap").exists() && !demo.path("baseline.snap.new").exists());
    assert_eq!(demo.eval(&[]).code(), 4);
    assert_eq!(in_ci(&["bless"]).status.code(), Some(2));
    assert!(!demo.path("baseline.snap").exists());
}

#[test]
fn the_number_of_workers_changes_no_byte() {
    let demo = Demo::small();
    let with_workers = |workers: &str| {
        assert_eq!(demo.eval(&["--no-cache", "--workers", workers]).code(), 4);
        let detections = std::fs::read(demo.path("reports/evaluation.detections.json")).unwrap();
        let written = (demo.report(), detections);
        std::fs::remove_dir_all(demo.path("reports")).unwrap();
        written
    };
    assert_eq!(with_workers("1"), with_workers("3"));
}

#[test]
fn a_corrupt_image_stops_the_run_or_is_listed_on_request() {
    let demo = Demo::small();
    let truth: Value = serde_json::from_slice(&std::fs::read(demo.truth()).unwrap()).unwrap();
    let name = truth["images"][1]["file_name"].as_str().unwrap().to_owned();
    let image = demo.path("data/val2017").join(&name);
    let bytes = std::fs::read(&image).unwrap();
    std::fs::write(&image, &bytes[..bytes.len() / 2]).unwrap();
    assert!(demo.refusal(&[]).contains(&name));
    assert_eq!(demo.eval(&["--skip-bad-images"]).code(), 4);
    let report: Value = serde_json::from_slice(&demo.report()).unwrap();
    assert_eq!(report["data"]["images"], 3);
    assert_eq!(report["data"]["skipped_images"][0]["file_name"], name.as_str());
}

#[test]
fn each_bad_input_is_one_clear_sentence_and_exit_code_2() {
    let demo = Demo::small();
    let refused = |edit: fn(&mut Value)| {
        let before = std::fs::read(demo.truth()).unwrap();
        demo.edit_truth(edit);
        let sentence = demo.refusal(&[]);
        std::fs::write(demo.truth(), before).unwrap();
        sentence
    };
    let has = |sentence: String, parts: &[&str]| {
        for part in parts {
            assert!(sentence.contains(part), "{part:?} is not in {sentence:?}");
        }
    };
    has(refused(|t| t["annotations"][0]["category_id"] = json!(2)), &["category 2", "label map"]);
    has(refused(|t| t["annotations"][0]["image_id"] = json!(-5)), &["image -5"]);
    has(refused(|t| t["annotations"][0]["bbox"][2] = json!(-1)), &["annotation", "-1"]);
    has(refused(|t| t["images"][0]["file_name"] = json!("gone.jpg")), &["gone.jpg", "--images"]);

    std::fs::write(demo.path("broken.json"), "{\"images\": [").unwrap();
    has(demo.refusal(&["--ground-truth", "broken.json"]), &["broken.json", "line 1"]);
    has(demo.refusal(&["--checkpoint", "none.pt"]), &["none.pt"]);
    has(demo.refusal(&["--torchscript", "none.pt"]), &["none.pt"]);
    std::fs::remove_dir_all(demo.path("models/local_checkpoints")).unwrap();
    has(demo.refusal(&[]), &["models/local_checkpoints", "best_*.pt"]);
}

#[test]
fn checkpoints_that_cannot_be_used_say_why() {
    let demo = Demo::small();
    let checkpoint = |name: &str| {
        let path = fixtures().join("checkpoint").join(name);
        demo.refusal(&["--checkpoint", path.to_str().unwrap()])
    };
    let sentence = checkpoint("unknown_global.pt");
    assert!(
        sentence.contains("unknown_global.pt names posix.system, which is not on"),
        "{sentence}"
    );
    let sentence = checkpoint("wrong_class_count.pt");
    let expected = "the weights are for 91 classes, the class map names 4 (background included)";
    assert!(sentence.contains(expected), "{sentence}");
}

#[test]
fn usage_errors_exit_with_2_and_help_lists_the_exit_codes() {
    let demo = Demo::small();
    assert_eq!(demo.run(&["evaluate"]).code(), 2);
    assert_eq!(demo.run(&["eval", "--score-thr", "high"]).code(), 2);
    let help = demo.run(&["--help"]);
    assert_eq!(help.code(), 0);
    assert!(help.stdout().contains("70 a bug"), "{}", help.stdout());
}
