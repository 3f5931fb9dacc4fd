//! What `detgate launch` would start.
#![cfg(unix)]

mod common;

use common::Demo;

/// The text without what differs between machines.
fn dry(demo: &Demo, arguments: &[&str]) -> String {
    let ran = demo.run(&[&["launch"], arguments].concat());
    assert_eq!(ran.code(), 0, "{}", ran.stderr());
    let folder = demo.path("").canonicalize().unwrap().display().to_string();
    let folder = folder.trim_end_matches('/');
    ran.stdout().replace(folder, "/demo").replace(env!("CARGO_BIN_EXE_detgate"), "/bin/detgate")
}

#[test]
fn slurm_gets_an_array_and_a_job_behind_it() {
    let demo = Demo::small();
    let flags = ["slurm", "--shards", "2", "--cpus", "4", "--option=--partition=cpu", "--dry-run"];
    let eval = ["--", "--no-register", "--report", "a b.json"];
    insta::assert_snapshot!(dry(&demo, &[&flags[..], &eval].concat()));
}

#[test]
fn ray_gets_a_driver() {
    let demo = Demo::small();
    let text = dry(&demo, &["ray", "--shards", "2", "--address", "auto", "--dry-run"]);
    let (command, driver) = text.split_once('\n').unwrap();
    insta::assert_snapshot!(command);
    assert!(driver.contains("ray.remote"), "{driver}");
    let (_, merge) = driver.split_once("\nDRIVER\n").unwrap();
    insta::assert_snapshot!("ray_merges_behind_it", merge);
}

/// Python's own exit code for whatever goes wrong is that of a model that has regressed.
#[test]
fn a_driver_that_fails_is_no_verdict() {
    let demo = Demo::small();
    let ran = demo.run(&["launch", "ray", "--shards", "2", "--python", "false"]);
    assert_eq!(ran.code(), 2, "{}", ran.stderr());
    assert!(ran.stderr().contains("Ray did not run all shares"), "{}", ran.stderr());
}

/// 1 would be a verdict.
#[test]
fn what_is_printed_for_ray_ends_with_2_where_its_driver_fails() {
    let demo = Demo::small();
    let flags = ["launch", "ray", "--shards", "2", "--python", "false", "--dry-run"];
    let script = demo.run(&flags).stdout();
    let ended = std::process::Command::new("sh").args(["-c", &script]).status().unwrap();
    assert_eq!(ended.code(), Some(2));
}

#[test]
fn what_every_share_would_refuse_is_refused_at_once() {
    let demo = Demo::small();
    let said = |flags: &[&str]| {
        let all = [&["launch", "slurm", "--shards", "2", "--dry-run", "--"], flags].concat();
        let ran = demo.run(&all);
        assert_eq!(ran.code(), 2, "{}", ran.stdout());
        ran.stderr()
    };
    assert!(said(&["--score-thr", "7"]).contains("score_thr"), "{}", said(&["--score-thr", "7"]));
    assert!(said(&["--shard", "1/2"]).contains("every share gets its own"));
    assert!(said(&["--scoer-thr", "0.1"]).contains("--scoer-thr"));
}
