//! `--target`: a pull request is judged by the rules and the baseline of the branch that it goes into, in a real
//! repository.

mod common;

use std::process::Command;

use common::{Demo, Ran, fixtures};

const GOOD: &str = "torchvision_detections.json.gz";
const DAMAGED: &str = "damaged_detections.json.gz";

/// The demo as a repository with the branches `main` and `change`, the second checked out.
fn repository() -> Demo {
    let demo = Demo::whole();
    for folder in ["data/val2017", "models"] {
        std::fs::remove_dir_all(demo.path(folder)).unwrap();
    }
    std::fs::create_dir(demo.path("data/val2017")).unwrap();
    std::fs::write(demo.path(".gitignore"), "reports/\n*.snap.new\ncache/\n").unwrap();
    git(&demo, &["init", "--quiet", "--initial-branch", "main"]);
    commit(&demo, "the project");
    git(&demo, &["checkout", "--quiet", "-b", "change"]);
    demo
}

fn git(demo: &Demo, arguments: &[&str]) {
    let identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"];
    let mut command = Command::new("git");
    command.arg("-C").arg(demo.path("")).args(identity).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn commit(demo: &Demo, message: &str) {
    git(demo, &["add", "--all"]);
    git(demo, &["commit", "--quiet", "--message", message]);
}

fn check(demo: &Demo, detections: &str) -> Ran {
    let detections = fixtures().join("demo/reference").join(detections);
    let detections = detections.to_str().unwrap();
    demo.run(&["eval", "--target", "main", "--no-register", "--detections", detections])
}

/// Accepts these detections as the baseline of the change.
fn bless(demo: &Demo, detections: &str, reason: &[&str]) {
    let path = fixtures().join("demo/reference").join(detections);
    demo.run(&["eval", "--no-register", "--detections", path.to_str().unwrap()]);
    let blessed = demo.run(&[&["bless", "--force"], reason].concat());
    assert_eq!(blessed.code(), 0, "{}", blessed.stderr());
    commit(demo, "another baseline");
}

fn changes(demo: &Demo) -> String {
    std::fs::read_to_string(demo.path("reports/target/changes.md")).unwrap()
}

#[test]
fn a_change_that_replaces_nothing_is_judged_as_ever() {
    let demo = repository();
    let good = check(&demo, GOOD);
    assert_eq!(good.code(), 0, "{}{}", good.stdout(), good.stderr());
    assert_eq!(changes(&demo), "");
    let bad = check(&demo, DAMAGED);
    assert_eq!(bad.code(), 1, "{}", bad.stderr());
    assert_eq!(changes(&demo), "");
}

#[test]
fn nobody_lowers_the_bar_for_his_own_change_unseen() {
    let demo = repository();
    // Rules that let everything through.
    let settings = std::fs::read_to_string(demo.path("detgate.toml")).unwrap();
    let lax = settings.replace("max_drop = 0.0", "max_drop = 0.9");
    assert_ne!(lax, settings);
    std::fs::write(demo.path("detgate.toml"), lax).unwrap();
    commit(&demo, "lax");
    let ran = check(&demo, DAMAGED);
    assert_eq!(ran.code(), 1, "{}{}", ran.stdout(), ran.stderr());
    assert!(ran.stderr().contains("This change has other rules"), "{}", ran.stderr());
    assert!(changes(&demo).starts_with("- This change has other rules"), "{}", changes(&demo));
}

#[test]
fn another_baseline_must_say_why() {
    let demo = repository();
    bless(&demo, DAMAGED, &[]);
    let ran = check(&demo, DAMAGED);
    assert_eq!(ran.code(), 2, "{}", ran.stdout());
    assert!(ran.stderr().contains("does not say why"), "{}", ran.stderr());
    assert!(ran.stderr().contains("bless --reason"), "{}", ran.stderr());
}

#[test]
fn a_regression_that_is_meant_is_accepted_and_said() {
    let demo = repository();
    let reason = "half the <b>size</b>\n# and @everyone";
    bless(&demo, DAMAGED, &["--reason", reason]);
    let ran = check(&demo, DAMAGED);
    assert_eq!(ran.code(), 0, "{}{}", ran.stdout(), ran.stderr());
    assert!(ran.stdout().contains("REGRESSED"), "{}", ran.stdout());
    assert!(
        ran.stdout().contains("ACCEPTED: This change has another baseline"),
        "{}",
        ran.stdout()
    );
    let changes = changes(&demo);
    assert!(changes.contains("half the &#60;b&#62;size") && !changes.contains('@'), "{changes}");
    assert!(!changes.contains("\n#") && changes.contains("what it does is accepted"), "{changes}");
    // It accepts this run, and no other.
    let other = fixtures().join("demo/reference").join(DAMAGED);
    let fewer = ["--target", "main", "--no-register", "--max-images", "100", "--detections"];
    let ran = demo.run(&[&["eval"], &fewer[..], &[other.to_str().unwrap()]].concat());
    assert_eq!(ran.code(), 4, "{}", ran.stdout());
}

#[test]
fn the_first_baseline_is_accepted_by_its_reason() {
    let demo = repository();
    git(&demo, &["checkout", "--quiet", "main"]);
    for entry in std::fs::read_dir(demo.path("")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("baseline.") {
            std::fs::remove_file(path).unwrap();
        }
    }
    commit(&demo, "no baseline yet");
    git(&demo, &["checkout", "--quiet", "-B", "change"]);
    assert_eq!(check(&demo, GOOD).code(), 4);
    bless(&demo, GOOD, &["--reason", "the first one"]);
    let ran = check(&demo, GOOD);
    assert_eq!(ran.code(), 0, "{}{}", ran.stdout(), ran.stderr());
    assert!(changes(&demo).contains("the first one"), "{}", changes(&demo));
}

#[test]
fn what_is_no_commit_is_said() {
    let demo = repository();
    for name in ["origin/main", "--upload-pack=x", ""] {
        let target = format!("--target={name}");
        let ran = demo.run(&["eval", "--no-register", &target, "--detections", "x.json"]);
        assert_eq!(ran.code(), 2, "{}", ran.stdout());
        assert!(ran.stderr().contains("names no commit"), "{}", ran.stderr());
    }
    std::fs::remove_dir_all(demo.path(".git")).unwrap();
    let ran = demo.run(&["eval", "--no-register", "--target", "main", "--detections", "x.json"]);
    assert_eq!(ran.code(), 2, "{}", ran.stdout());
}
