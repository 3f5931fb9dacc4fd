//! `detgate eval --detections`: what another framework found, on the project's ground truth, by the
//! project's gate. No model and no images are needed.

mod common;

use common::{Demo, fixtures};
use serde_json::Value;

fn reference(name: &str) -> String {
    fixtures().join("demo/reference").join(name).display().to_string()
}

fn evaluate(demo: &Demo, detections: &str, arguments: &[&str]) -> common::Ran {
    let fixed = ["eval", "--detections", detections];
    demo.run(&[&fixed, arguments].concat())
}

#[test]
fn torchvision_s_results_pass_the_demo_s_gate_and_worse_ones_do_not() {
    let demo = Demo::whole();
    std::fs::remove_dir_all(demo.path("data/val2017")).unwrap();
    std::fs::remove_dir_all(demo.path("models")).unwrap();
    std::fs::create_dir(demo.path("data/val2017")).unwrap();
    let good = evaluate(&demo, &reference("torchvision_detections.json.gz"), &[]);
    assert_eq!(good.code(), 0, "{}{}", good.stdout(), good.stderr());
    assert!(
        good.stdout().contains("torchvision_detections.json.gz on 160 images"),
        "{}",
        good.stdout()
    );
    assert!(good.stderr().contains("nothing will be registered"), "{}", good.stderr());
    assert!(good.stderr().contains("is not known, and not compared"), "{}", good.stderr());
    let report: Value = serde_json::from_slice(&demo.report()).unwrap();
    assert_eq!(report["fingerprint"]["min_size"], "not known");
    assert_eq!(report["fingerprint"]["image_bytes_blake3"], "not known");
    let engine = report["checkpoint"]["engine"].as_str().unwrap();
    assert!(engine.contains("torchvision_detections.json.gz, BLAKE3 "), "{engine}");

    let bad = evaluate(&demo, &reference("damaged_detections.json.gz"), &[]);
    assert_eq!(bad.code(), 1, "{}{}", bad.stdout(), bad.stderr());
    // What is known is compared as ever.
    let other =
        evaluate(&demo, &reference("torchvision_detections.json.gz"), &["--score-thr", "0.3"]);
    assert_eq!(other.code(), 4, "{}", other.stdout());
}

#[test]
fn they_are_evaluated_on_as_many_images_as_a_model_would_be() {
    let demo = Demo::whole();
    let detections = reference("torchvision_detections.json.gz");
    assert_eq!(evaluate(&demo, &detections, &["--max-images", "20"]).code(), 4);
    let report: Value = serde_json::from_slice(&demo.report()).unwrap();
    assert_eq!(report["data"]["images"], 20);
}

#[test]
fn results_of_another_data_set_are_refused() {
    let demo = Demo::whole();
    let entry = r#"[{"image_id": 999999, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}]"#;
    std::fs::write(demo.path("other.json"), entry).unwrap();
    for arguments in
        [&["--detections", "other.json"][..], &["--detections", "other.json", "--max-images", "9"]]
    {
        let sentence = demo.refusal(arguments);
        assert!(sentence.contains("other.json") && sentence.contains("999999"), "{sentence}");
    }
    assert!(demo.refusal(&["--detections", "none.json"]).contains("none.json"));
    let both = demo.run(&["eval", "--detections", "other.json", "--torchscript", "a.pt"]);
    assert_eq!(both.code(), 2);
}

#[test]
fn the_checkpoint_beside_them_is_what_is_evaluated() {
    let demo = Demo::whole();
    let checkpoint = "models/local_checkpoints/best_demo.pt";
    let detections = reference("torchvision_detections.json.gz");
    let arguments = ["--no-register", "--checkpoint", checkpoint];
    let ran = evaluate(&demo, &detections, &arguments);
    assert_eq!(ran.code(), 0, "{}", ran.stderr());
    let report: Value = serde_json::from_slice(&demo.report()).unwrap();
    let digest = blake3::hash(&std::fs::read(demo.path(checkpoint)).unwrap()).to_string();
    assert_eq!(report["checkpoint"]["checkpoint"], "best_demo.pt");
    assert_eq!(report["checkpoint"]["checkpoint_blake3"], digest);
    assert!(report["checkpoint"]["engine"].as_str().unwrap().contains("another framework"));
    std::fs::remove_dir_all(demo.path("reports")).unwrap();
    let sentence = demo.refusal(&["--detections", &detections, "--checkpoint", "gone.pt"]);
    assert!(sentence.contains("gone.pt"), "{sentence}");
}
