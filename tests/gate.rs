//! The gate as a cargo test, on the embedded demo: stored detections against the stored baseline, without
//! libtorch. And what the harness promises: pass, fail, wait for review.

use std::path::{Path, PathBuf};
use std::process::Command;

use detgate::detections::coco_results;
use detgate::gate::{Snapshot, Verdict, stored};
use detgate::harness::Gate;
use serde_json::Value;

fn demo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/demo").join(name)
}

fn demo_gate() -> Gate {
    Gate::new(demo("data/processed/coco_person_car_airplane_val.json")).policy(demo("detgate.toml"))
}

/// What torchvision finds with the very checkpoint that the baseline is of.
const TORCHVISION: &str = "reference/torchvision_detections.json.gz";
const DAMAGED: &str = "reference/damaged_detections.json.gz";

#[test]
fn the_demo_has_not_got_worse() {
    demo_gate().assert(demo("baseline.snap"), demo(TORCHVISION));
}

#[test]
fn the_damaged_checkpoint_is_refused_with_the_verdict() {
    let judgement = demo_gate().judge(&demo("baseline.snap"), &demo(DAMAGED)).unwrap();
    assert_eq!(judgement.verdict, Verdict::Regressed);
    assert_eq!(judgement.broken()[0].metric, "AP50/airplane");
}

/// A folder like a team's, in which this very test file's other half runs.
fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("src")).unwrap();
    std::fs::write(folder.path().join("src/lib.rs"), "").unwrap();
    let manifest =
        "[package]\nname = \"team\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
    std::fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    folder
}

/// Runs [`assert_in_a_process_of_its_own`] there; what it printed where it failed.
fn assert_there(folder: &Path, detections: &str, variables: &[(&str, &str)]) -> Result<(), String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "assert_in_a_process_of_its_own", "--nocapture"]);
    command.env_remove("CI").env_remove("INSTA_UPDATE").env_remove("INSTA_FORCE_PASS");
    command.env("GATE_BASELINE", folder.join("detector.snap"));
    command.env("GATE_DETECTIONS", demo(detections)).envs(variables.iter().copied());
    let output = command.output().unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

#[test]
fn assert_in_a_process_of_its_own() {
    let (Some(baseline), Some(detections)) =
        (std::env::var_os("GATE_BASELINE"), std::env::var_os("GATE_DETECTIONS"))
    else {
        return;
    };
    demo_gate().assert(Path::new(&baseline), Path::new(&detections));
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("detector"))
        .collect();
    names.sort();
    names
}

#[test]
fn without_a_baseline_it_fails_and_leaves_one_to_review() {
    let project = project();
    let said = assert_there(project.path(), TORCHVISION, &[]).unwrap_err();
    assert!(said.contains("there is no baseline yet"), "{said}");
    let files = files(project.path());
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files[0].ends_with(".detections.json.zst") && files[1] == "detector.snap.new");
}

#[test]
fn under_ci_nothing_is_written() {
    let project = project();
    assert_there(project.path(), TORCHVISION, &[("CI", "true")]).unwrap_err();
    assert_eq!(files(project.path()), [""; 0]);
    let _ = assert_there(project.path(), TORCHVISION, &[("INSTA_UPDATE", "always")]);
    let before = files(project.path());
    let always = [("CI", "true"), ("INSTA_UPDATE", "always")];
    let said = assert_there(project.path(), DAMAGED, &always).unwrap_err();
    assert!(said.contains("REGRESSED"), "{said}");
    assert_eq!(files(project.path()), before);
}

#[test]
fn what_insta_cannot_do_is_said() {
    let project = project();
    for (variable, value) in [("INSTA_UPDATE", "alwyas"), ("INSTA_PENDING_DIR", "elsewhere")] {
        let said = assert_there(project.path(), TORCHVISION, &[(variable, value)]).unwrap_err();
        assert!(said.contains(variable) && !said.contains("no baseline yet"), "{said}");
    }
    assert_eq!(files(project.path()), [""; 0]);
}

/// A better detector passes, and the baseline stays: taking it is a decision.
#[test]
fn a_change_that_passes_is_taken_with_force() {
    let project = project();
    let _ = assert_there(project.path(), DAMAGED, &[("INSTA_UPDATE", "always")]);
    let baseline = project.path().join("detector.snap");
    let before = Snapshot::read(&baseline).unwrap().unwrap();
    assert_there(project.path(), TORCHVISION, &[]).unwrap();
    assert_eq!(Snapshot::read(&baseline).unwrap().unwrap(), before);
    assert_there(project.path(), TORCHVISION, &[("INSTA_UPDATE", "force")]).unwrap();
    let after = Snapshot::read(&baseline).unwrap().unwrap();
    assert_eq!(after.recorded.verdict, Some(Verdict::Passed));
    assert_eq!(after.recorded.against, Some(before.digest()));
    assert!(stored::are_there(&baseline, &after));
    assert_eq!(files(project.path()).len(), 2, "the old detections are tidied away");
}

/// `detgate bless` takes what a cargo test has left, and refuses as it does for its own.
#[test]
fn bless_takes_a_candidate_of_the_harness() {
    let project = project();
    std::fs::create_dir_all(project.path().join("data/processed")).unwrap();
    for name in ["project_config.json", "labelmap.json"] {
        let name = Path::new("data/processed").join(name);
        std::fs::copy(demo(name.to_str().unwrap()), project.path().join(name)).unwrap();
    }
    let bless = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_detgate"));
        command.args(["bless", "--baseline", "detector.snap"]).args(arguments);
        command.env_remove("CI").env_remove("INSTA_UPDATE").current_dir(project.path());
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_there(project.path(), TORCHVISION, &[]).unwrap_err();
    assert_eq!(bless(&["--reason", "the first"]).0, 0);
    assert_there(project.path(), TORCHVISION, &[]).unwrap();

    assert_there(project.path(), DAMAGED, &[]).unwrap_err();
    let (code, said) = bless(&[]);
    assert!(code == 1 && said.contains("AP50/airplane fell"), "{code} {said}");
    let baseline = project.path().join("detector.snap");
    let pending = Snapshot::read(&Snapshot::pending_path(&baseline)).unwrap().unwrap();
    let detections = stored::path(&baseline, pending.detections_blake3.as_deref().unwrap());
    let moved = project.path().join("moved");
    std::fs::rename(&detections, &moved).unwrap();
    let (code, said) = bless(&["--force"]);
    assert!(code == 2 && said.contains("the detections of"), "{code} {said}");
    std::fs::rename(&moved, &detections).unwrap();
    assert_eq!(bless(&["--force"]).0, 0);
    assert_there(project.path(), DAMAGED, &[]).unwrap();
}

/// As while git checks something else out.
#[test]
fn a_baseline_that_is_away_keeps_its_detections() {
    let project = project();
    let _ = assert_there(project.path(), TORCHVISION, &[("INSTA_UPDATE", "always")]);
    let (baseline, away) = (project.path().join("detector.snap"), project.path().join("away"));
    std::fs::rename(&baseline, &away).unwrap();
    assert_there(project.path(), DAMAGED, &[]).unwrap_err();
    std::fs::rename(&away, &baseline).unwrap();
    let snapshot = Snapshot::read(&baseline).unwrap().unwrap();
    assert!(stored::are_there(&baseline, &snapshot));
}

#[test]
fn metrics_that_were_edited_by_hand_are_not_believed() {
    let project = project();
    let _ = assert_there(project.path(), DAMAGED, &[("INSTA_UPDATE", "always")]);
    let baseline = project.path().join("detector.snap");
    let mut snapshot = Snapshot::read(&baseline).unwrap().unwrap();
    snapshot.metrics.insert("AP50".to_owned(), Some(0.1));
    snapshot.write(&baseline).unwrap();
    let error = demo_gate().judge(&baseline, &demo(DAMAGED)).unwrap_err().to_string();
    assert!(
        error.contains("detector.snap: its AP50 is 0.1, but the detections beside it"),
        "{error}"
    );
}

#[test]
fn only_the_images_that_were_looked_at_are_judged() {
    let found = demo(TORCHVISION);
    let error = demo_gate().max_images(10).judge(&demo("baseline.snap"), &found).unwrap_err();
    assert!(error.to_string().contains("or that are not judged"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let few = folder.path().join("few.json");
    let read = |path: &Path| -> Vec<u8> {
        let (mut bytes, file) = (Vec::new(), std::fs::File::open(path).unwrap());
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(file), &mut bytes).unwrap();
        bytes
    };
    let all: Vec<Value> = serde_json::from_slice(&read(&found)).unwrap();
    let truth = std::fs::read(demo("data/processed/coco_person_car_airplane_val.json")).unwrap();
    let truth: Value = serde_json::from_slice(&truth).unwrap();
    let first: Vec<&Value> =
        truth["images"].as_array().unwrap()[..10].iter().map(|image| &image["id"]).collect();
    let kept: Vec<_> = all.iter().filter(|found| first.contains(&&found["image_id"])).collect();
    std::fs::write(&few, serde_json::to_string(&kept).unwrap()).unwrap();
    let judgement = demo_gate().max_images(10).judge(&demo("baseline.snap"), &few);
    let said = format!("{:?}", judgement.map(|judgement| judgement.reasons));
    assert!(said.contains("image_count: baseline 160, candidate 10"), "{said}");
}

#[test]
fn insta_update_makes_baselines_and_a_regression_waits_for_review() {
    let project = project();
    let baseline = project.path().join("detector.snap");
    // insta writes the snapshot, and the next run agrees with it.
    let _ = assert_there(project.path(), TORCHVISION, &[("INSTA_UPDATE", "always")]);
    assert_there(project.path(), TORCHVISION, &[]).unwrap();
    let snapshot = Snapshot::read(&baseline).unwrap().unwrap();
    assert!(stored::read(&baseline, &snapshot).unwrap().is_some(), "its detections are kept");

    let said = assert_there(project.path(), DAMAGED, &[]).unwrap_err();
    assert!(said.contains("REGRESSED: 6 of 6") && said.contains("AP50/airplane fell"), "{said}");
    assert_eq!(Snapshot::read(&baseline).unwrap().unwrap(), snapshot);
    assert!(Snapshot::pending_path(&baseline).exists());
}

/// The reviewer that Rust developers know accepts and rejects, and the detections follow.
#[test]
fn cargo_insta_accepts_and_rejects() {
    let Some(cargo_insta) = std::env::var_os("DETGATE_CARGO_INSTA").filter(|path| !path.is_empty())
    else {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "skipped: cargo_insta needs DETGATE_CARGO_INSTA");
        return;
    };
    let project = project();
    let baseline = project.path().join("detector.snap");
    let review = |what: &str| {
        let mut command = Command::new(&cargo_insta);
        command.args(["insta", what]).current_dir(project.path()).env_remove("CI");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    assert_there(project.path(), TORCHVISION, &[]).unwrap_err();
    review("accept");
    assert_there(project.path(), TORCHVISION, &[]).unwrap();

    assert_there(project.path(), DAMAGED, &[]).unwrap_err();
    assert_eq!(files(project.path()).len(), 4, "two snapshots, each with its detections");
    review("reject");
    assert_there(project.path(), TORCHVISION, &[]).unwrap();
    assert_eq!(files(project.path()).len(), 2, "what was rejected is tidied away");

    assert_there(project.path(), DAMAGED, &[]).unwrap_err();
    review("accept");
    assert_there(project.path(), DAMAGED, &[]).unwrap();
    let snapshot = Snapshot::read(&baseline).unwrap().unwrap();
    let kept = stored::read(&baseline, &snapshot).unwrap().unwrap();
    assert_eq!(kept.len(), coco_results::read(&demo(DAMAGED)).unwrap().len());
    assert_eq!(files(project.path()).len(), 2);
}

#[test]
fn what_is_wrong_is_said_in_a_sentence() {
    let gate = demo_gate();
    let error = |gate: &Gate, baseline: &str, detections: &str| {
        gate.judge(&demo(baseline), &demo(detections)).unwrap_err().to_string()
    };
    assert!(error(&gate, "baseline.snap", "no.json").contains("no.json"));
    assert!(error(&gate, "detgate.toml", TORCHVISION).contains("is not a detgate baseline"));
    let other = gate.policy(demo("no.toml"));
    assert!(error(&other, "baseline.snap", TORCHVISION).contains("no.toml"));
}
