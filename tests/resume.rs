//! `detgate eval` that is killed, interrupted, repeated: nothing is lost, nothing is run twice, and the
//! report is the same to the last byte.
#![cfg(all(feature = "torch", unix))]

mod common;
#[path = "common/random.rs"]
mod random;
#[path = "common/schema.rs"]
mod schema;
#[path = "common/signals.rs"]
mod signals;

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::Demo;
use random::Random;
use serde_json::Value;
use signals::{kill, wait_for_images};

const KILLS: usize = 50;

fn start(demo: &Demo, arguments: &[&str]) -> Child {
    let mut command = demo.command(&[&["eval", "--no-register"], arguments].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The report and the detections, which are gone then.
fn written(demo: &Demo) -> (Vec<u8>, Vec<u8>) {
    let detections = std::fs::read(demo.path("reports/evaluation.detections.json")).unwrap();
    let report = demo.report();
    std::fs::remove_dir_all(demo.path("reports")).unwrap();
    (report, detections)
}

/// How many images came from the cache.
fn resumed(stderr: &[u8]) -> usize {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().find(|line| line.ends_with("images from the cache"));
    let number = |line: &str| line.split(' ').find_map(|word| word.parse().ok());
    line.and_then(number).unwrap_or(0)
}

#[test]
fn killed_at_any_moment_it_loses_nothing_and_ends_with_the_same_report() {
    let demo = Demo::small();
    let uninterrupted = Instant::now();
    assert_eq!(demo.eval(&["--no-cache"]).code(), 4);
    let whole = uninterrupted.elapsed();
    let expected = written(&demo);
    let mut random = Random::seeded(20_261_123);
    let (mut kills, mut resumptions) = (0, 0);
    while kills < KILLS {
        let mut child = start(&demo, &["--workers", "1"]);
        // Now and then in the middle of the start, mostly while it works, sometimes when it is done.
        std::thread::sleep(whole.mul_f64(random.unit() * 1.3));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let before = resumed(&output.stderr);
        resumptions += usize::from((1..4).contains(&before));
        if output.status.signal() == Some(9) {
            kills += 1;
            continue;
        }
        assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(written(&demo), expected);
        // From the beginning.
        std::fs::remove_dir_all(demo.path("cache")).unwrap();
    }
    assert!(resumptions > 0, "no run was ever killed while it worked");
    assert_eq!(demo.eval(&[]).code(), 4);
    assert_eq!(written(&demo), expected);
    let again = demo.eval(&[]);
    assert!(again.stderr().contains("all 4 images from the cache"), "{}", again.stderr());
    assert_eq!(written(&demo), expected);
}

/// Labels are kept as the model says them: what they mean is the project's.
#[test]
fn other_classes_are_no_reason_to_run_the_model_again() {
    let demo = Demo::small();
    assert_eq!(demo.eval(&[]).code(), 4);
    let expected = written(&demo);
    for classes in [&["--all-categories"][..], &[]] {
        let again = demo.eval(classes);
        assert!(again.stderr().contains("all 4 images from the cache"), "{}", again.stderr());
    }
    assert_eq!(written(&demo), expected);
}

#[test]
fn a_signal_ends_it_in_order_and_the_next_run_goes_on() {
    let demo = Demo::whole();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = start(&demo, &["--workers", "1", "--report", "reports/evaluation.json"]);
        wait_for_images(&demo, &mut child);
        kill(&[signal], &child);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("INTERRUPTED"), "{said}");
        let report: Value = serde_json::from_slice(&demo.report()).unwrap();
        assert_eq!(report["partial"], true);
        schema::Validator::of_report().check(&report);
        assert!(report.get("judgement").is_none(), "{report}");
        let number = |value: &Value| value.as_u64().unwrap() as usize;
        let images = number(&report["data"]["images"]);
        assert_eq!(images + number(&report["images_not_reached"]), 160);
        assert!(report["coco"]["AP50"].as_f64().is_some(), "{report}");
        assert!(!demo.path("baseline.snap.new").exists(), "a part is nothing to accept");
        std::fs::remove_dir_all(demo.path("reports")).unwrap();

        let mut second = start(&demo, &[]);
        let output = {
            let stderr = second.stderr.take().unwrap();
            drop(second.stdout.take());
            // It says at once how far the other one came; the rest is the same as ever.
            use std::io::BufRead;
            let mut lines = std::io::BufReader::new(stderr).lines().map(Result::unwrap);
            let first = lines.find(|line| line.ends_with("images from the cache")).unwrap();
            second.kill().unwrap();
            second.wait().unwrap();
            first
        };
        assert_eq!(resumed(output.as_bytes()), images, "{output}");
        std::fs::remove_dir_all(demo.path("cache")).unwrap();
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let demo = Demo::whole();
    let mut child = start(&demo, &["--workers", "1"]);
    wait_for_images(&demo, &mut child);
    kill(&["INT", "TERM"], &child);
    // Which of two that wait together is delivered first is the system's choice.
    let code = child.wait().unwrap().code();
    assert!([Some(130), Some(143)].contains(&code), "{code:?}");
    assert!(!demo.path("reports").exists());
}

#[test]
fn what_is_done_with_predictions_does_not_run_the_model_and_what_changes_them_does() {
    let demo = Demo::small();
    let from_cache = |arguments: &[&str]| {
        let ran = demo.eval(arguments);
        assert_eq!(ran.code(), 4, "{}", ran.stderr());
        resumed(ran.stderr().as_bytes())
    };
    assert_eq!(from_cache(&[]), 0);
    for same in [
        &[][..],
        &["--verify-cache"],
        &["--score-thr", "0.3", "--iou-thr", "0.6"],
        &["--all-categories"],
        &["--judge", "point", "--replicates", "0"],
        &["--skip-bad-images"],
        &["--workers", "1"],
    ] {
        assert_eq!(from_cache(same), 4, "{same:?}");
    }
    // The same weights under another name are the same model.
    let (from, to) = ("models/local_checkpoints/best_demo.pt", "models/copy.pt");
    std::fs::copy(demo.path(from), demo.path(to)).unwrap();
    assert_eq!(from_cache(&["--checkpoint", to]), 4);
    assert_eq!(from_cache(&["--no-cache"]), 0);
    for other in [
        &["--min-size", "256"][..],
        &["--max-size", "500"],
        &["--norm-eps", "0.001"],
        &["--checkpoint", "models/damaged/best_damaged.pt"],
    ] {
        assert_eq!(from_cache(other), 0, "{other:?}");
        assert_eq!(from_cache(other), 4, "{other:?}");
    }
    let kernels =
        demo.command(&["eval", "--no-register"]).env("ATEN_CPU_CAPABILITY", "default").output();
    assert_eq!(resumed(&kernels.unwrap().stderr), 0);

    let truth: Value = serde_json::from_slice(&std::fs::read(demo.truth()).unwrap()).unwrap();
    let file = |n: usize| {
        demo.path("data/val2017").join(truth["images"][n]["file_name"].as_str().unwrap())
    };
    std::fs::copy(file(0), file(2)).unwrap();
    let bytes = std::fs::read(file(1)).unwrap();
    std::fs::write(file(1), [&bytes[..], b"behind the end of the JPEG"].concat()).unwrap();
    assert_eq!(from_cache(&[]), 3);
}

#[test]
fn two_runs_at_once_share_a_cache_and_agree() {
    let demo = Demo::small();
    assert_eq!(demo.eval(&["--no-cache"]).code(), 4);
    let (expected, _) = written(&demo);
    let runs = ["a.json", "b.json"].map(|report| (report, start(&demo, &["--report", report])));
    for (report, run) in runs {
        let output = run.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(std::fs::read(demo.path(report)).unwrap(), expected);
    }
    assert_eq!(resumed(demo.eval(&[]).stderr().as_bytes()), 4);
}

#[test]
fn a_cache_that_cannot_be_used_is_said_and_costs_no_result() {
    let demo = Demo::small();
    std::fs::write(demo.path("cache"), "a file where the folder should be").unwrap();
    let ran = demo.eval(&[]);
    assert_eq!(ran.code(), 4);
    assert_eq!(ran.stderr().matches("goes on without it").count(), 1, "{}", ran.stderr());
    let nowhere = |command: &mut Command| {
        let command = command.env_remove("DETGATE_CACHE_DIR").env_remove("HOME");
        command.env_remove("XDG_CACHE_HOME").output().unwrap()
    };
    let ran = nowhere(&mut demo.command(&["eval", "--no-register"]));
    assert_eq!(ran.status.code(), Some(4));
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(said.contains("set DETGATE_CACHE_DIR, or pass --no-cache"), "{said}");
}

#[test]
fn what_is_kept_can_be_listed_and_removed() {
    let demo = Demo::small();
    assert!(demo.run(&["cache", "ls"]).stdout().contains("no predictions are kept"));
    assert_eq!(demo.eval(&[]).code(), 4);
    let list = demo.run(&["cache", "ls"]);
    assert_eq!(list.code(), 0);
    let row = list.stdout().lines().find(|line| line.contains("best_demo.pt")).unwrap().to_owned();
    assert!(row.contains(" 4 ") && row.contains("320 to 533 px"), "{row}");
    let kept = demo.run(&["cache", "gc", "--max-size", "1GB"]).stdout();
    assert!(kept.starts_with("removed 0 files"), "{kept}");
    let removed = demo.run(&["cache", "gc", "--all"]).stdout();
    assert!(removed.ends_with("0 B left\n"), "{removed}");
    assert_eq!(resumed(demo.eval(&[]).stderr().as_bytes()), 0);
    assert_eq!(demo.run(&["cache", "gc", "--max-size", "much"]).code(), 2);
    // A limit in the settings holds at the end of a run, but not for its own.
    let settings = std::fs::read_to_string(demo.path("detgate.toml")).unwrap();
    std::fs::write(demo.path("detgate.toml"), settings + "\n[cache]\nmax_gb = 0\n").unwrap();
    assert_eq!(demo.eval(&["--min-size", "256"]).code(), 4);
    let list = demo.run(&["cache", "ls"]).stdout();
    assert!(!list.contains("320 to 533") && list.contains("256 to 533"), "{list}");
}
