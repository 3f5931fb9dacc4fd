//! `detgate eval` and `bless` as a user runs them, on the embedded demo project: exit codes, what is
//! said, what is written. No registration here; that is `tests/registration.rs`.
#![cfg(feature = "torch")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// A copy of the demo project in a temporary folder.
struct Demo {
    folder: tempfile::TempDir,
}

impl Demo {
    /// All images, with the committed baseline.
    fn whole() -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy_tree(&fixtures().join("demo"), folder.path());
        Self { folder }
    }

    /// Only the first images, and no baseline.
    fn small() -> Self {
        let demo = Self::whole();
        std::fs::remove_file(demo.path("baseline.snap")).unwrap();
        demo.edit_truth(|truth| {
            let images: Vec<Value> = truth["images"].as_array().unwrap()[..4].to_vec();
            let kept: Vec<&Value> = images.iter().map(|image| &image["id"]).collect();
            let annotations: Vec<Value> = truth["annotations"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|annotation| kept.contains(&&annotation["image_id"]))
                .cloned()
                .collect();
            truth["annotations"] = annotations.into();
            truth["images"] = images.into();
        });
        demo
    }

    /// As [`Demo::small`], with its own results as baseline.
    fn blessed() -> Self {
        let demo = Self::small();
        assert_eq!(demo.eval(&[]).code(), 4);
        assert_eq!(demo.run(&["bless"]).code(), 0);
        demo
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    fn truth(&self) -> PathBuf {
        self.path("data/processed/coco_person_car_airplane_val.json")
    }

    fn edit_truth(&self, edit: impl FnOnce(&mut Value)) {
        let mut truth = serde_json::from_slice(&std::fs::read(self.truth()).unwrap()).unwrap();
        edit(&mut truth);
        std::fs::write(self.truth(), truth.to_string()).unwrap();
    }

    fn report(&self) -> Vec<u8> {
        std::fs::read(self.path("reports/evaluation.json")).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_detgate"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("CI");
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran(self.command(arguments).output().unwrap())
    }

    fn eval(&self, arguments: &[&str]) -> Ran {
        self.run(&[&["eval", "--no-register"], arguments].concat())
    }

    /// The sentence of an evaluation that exits with 2, without the folder's name.
    fn refusal(&self, arguments: &[&str]) -> String {
        let ran = self.eval(arguments);
        assert_eq!(ran.code(), 2, "{}", ran.stderr());
        assert!(!self.path("reports").exists(), "a run that could not evaluate leaves no report");
        let folder = self.folder.path().canonicalize().unwrap().display().to_string();
        let text = ran.stderr().replace(&folder, "DEMO");
        let errors: Vec<&str> = text.lines().filter(|line| !line.starts_with("note: ")).collect();
        assert_eq!(errors.len(), 1, "one sentence, not {errors:?}");
        errors[0].to_owned()
    }
}

struct Ran(Output);

impl Ran {
    fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    fn stdout(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    fn stderr(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
    let leftover = to.join("reports");
    if leftover.is_dir() {
        std::fs::remove_dir_all(leftover).unwrap();
    }
}

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
    assert!(ran.stderr().contains("bless"), "{}", ran.stderr());
    assert_eq!(demo.run(&["bless"]).code(), 0);
    assert_eq!(demo.eval(&[]).code(), 0);
    let again = demo.run(&["bless"]);
    assert_eq!(again.code(), 2);
    assert!(again.stderr().contains("nothing to accept"), "{}", again.stderr());
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
        demo.eval(&["--workers", workers]);
        (demo.report(), std::fs::read(demo.path("reports/evaluation.detections.json")).unwrap())
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
    assert!(sentence.contains("system"), "{sentence}");
    let sentence = checkpoint("wrong_class_count.pt");
    assert!(sentence.contains("91") && sentence.contains('4'), "{sentence}");
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
