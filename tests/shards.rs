//! An evaluation in shares: merged, it is the same to the last byte as one on a single machine; anything else is
//! refused with what is wrong.
#![cfg(feature = "torch")]

mod common;
#[path = "common/schema.rs"]
mod schema;

use std::fs;

use common::{Demo, Ran};

fn shard(demo: &Demo, which: &str, more: &[&str]) -> Ran {
    demo.run(&[&["eval", "--shard", which], more].concat())
}

/// Makes all shards, and names their files.
fn shards(demo: &Demo, count: usize) -> Vec<String> {
    let one = |index: usize| {
        let ran = shard(demo, &format!("{index}/{count}"), &["--quiet"]);
        assert_eq!(ran.code(), 0, "{}", ran.stderr());
        format!("reports/shards/{index}-of-{count}.shard")
    };
    (1..=count).map(one).collect()
}

fn merge(demo: &Demo, shards: &[String], more: &[&str]) -> Ran {
    let shards: Vec<&str> = shards.iter().map(String::as_str).collect();
    demo.run(&[&["merge", "--no-register"], more, &shards].concat())
}

fn written(demo: &Demo) -> [Vec<u8>; 2] {
    ["json", "detections.json"]
        .map(|kind| fs::read(demo.path(&format!("reports/evaluation.{kind}"))).unwrap())
}

/// The sentence of a refusal, without the folder's name.
fn refusal(demo: &Demo, ran: &Ran) -> String {
    assert_eq!(ran.code(), 2, "{}{}", ran.stdout(), ran.stderr());
    let folder = demo.path("").canonicalize().unwrap().display().to_string();
    ran.stderr().lines().last().unwrap().replace(&folder, "DEMO")
}

#[test]
fn however_many_shards_in_whatever_order_the_report_is_that_of_one_machine() {
    let demo = Demo::whole();
    let alone = demo.eval(&[]);
    assert_eq!(alone.code(), 0, "{}", alone.stderr());
    let expected = written(&demo);
    schema::Validator::of_report().check(&serde_json::from_slice(&expected[0]).unwrap());
    for count in [1, 2, 3, 7, 64] {
        fs::remove_dir_all(demo.path("reports")).unwrap();
        let mut files = shards(&demo, count);
        // Neither sorted nor reversed.
        files.reverse();
        files.rotate_left(count / 3);
        // Whoever merges need not have the images.
        fs::rename(demo.path("data/val2017"), demo.path("elsewhere")).unwrap();
        let merged = merge(&demo, &files, &[]);
        fs::rename(demo.path("elsewhere"), demo.path("data/val2017")).unwrap();
        assert_eq!(merged.code(), 0, "{count}: {}", merged.stderr());
        assert_eq!(merged.stdout(), alone.stdout(), "{count}");
        assert_eq!(written(&demo), expected, "{count} shards");
    }
}

#[test]
fn more_shards_than_images_are_fine() {
    let demo = Demo::small();
    assert_eq!(demo.eval(&[]).code(), 4);
    let expected = written(&demo);
    let files = shards(&demo, 7);
    assert_eq!(merge(&demo, &files, &[]).code(), 4);
    assert_eq!(written(&demo), expected);
}

#[test]
fn a_shard_is_written_the_same_again_and_resumed_from_what_is_kept() {
    let demo = Demo::small();
    let first = shard(&demo, "2/2", &[]);
    assert!(first.stdout().starts_with("shard 2/2: 2 images in "), "{}", first.stdout());
    let path = demo.path("reports/shards/2-of-2.shard");
    let bytes = fs::read(&path).unwrap();
    let timings = fs::read_to_string(demo.path("reports/shards/2-of-2.timings.csv")).unwrap();
    assert_eq!(timings.lines().count(), 3, "{timings}");
    fs::remove_dir_all(demo.path("cache")).unwrap();
    assert_eq!(shard(&demo, "2/2", &["--workers", "2"]).code(), 0);
    assert_eq!(fs::read(&path).unwrap(), bytes, "computed again");
    let again = shard(&demo, "2/2", &[]);
    assert!(again.stderr().contains("all 2 images from the cache"), "{}", again.stderr());
    assert_eq!(fs::read(&path).unwrap(), bytes, "not computed again");
}

#[test]
fn the_engine_says_which_share_it_is() {
    let demo = Demo::small();
    let mut command = demo.command(&["eval", "--shard", "auto", "--shard-file", "x.shard"]);
    let variables = [("JOB_COMPLETION_INDEX", "1"), ("DETGATE_SHARDS", "4")];
    let output = command.envs(variables).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("shard 2/4: 1 images in ") && said.ends_with("x.shard\n"), "{said}");
    let nobody = refusal(&demo, &shard(&demo, "auto", &[]));
    assert!(nobody.contains("pass --shard I/N"), "{nobody}");
}

#[test]
fn what_is_missing_or_there_twice_is_named() {
    let demo = Demo::small();
    let files = shards(&demo, 4);
    let said = |files: &[String]| refusal(&demo, &merge(&demo, files, &[]));
    let missing = said(&[files[0].clone(), files[2].clone()]);
    assert!(missing.contains("2 images are in no shard"), "{missing}");
    assert!(missing.ends_with("make them with `detgate eval --shard` 2/4, 4/4"), "{missing}");
    let twice = said(&[files.clone(), vec![files[1].clone()]].concat());
    assert!(
        twice.contains("2-of-4.shard and in ") && twice.ends_with("name each shard once"),
        "{twice}"
    );
}

#[test]
fn shards_of_something_else_are_refused_with_what_differs() {
    let demo = Demo::small();
    let files = shards(&demo, 2);
    let said = |more: &[&str]| refusal(&demo, &merge(&demo, &files, more));
    assert!(
        said(&["--min-size", "64"]).contains("min_size of "),
        "{}",
        said(&["--min-size", "64"])
    );
    let fewer = said(&["--max-images", "3"]);
    assert!(
        fewer.contains("the number of images of ") && fewer.contains(" is 4, here it is 3"),
        "{fewer}"
    );

    // One share by a checkpoint of another name.
    let best = demo.path("models/local_checkpoints/best_demo.pt");
    fs::copy(best, demo.path("other.pt")).unwrap();
    assert_eq!(shard(&demo, "2/2", &["--checkpoint", "other.pt"]).code(), 0);
    let mixed = said(&[]);
    let ends = mixed.ends_with("is best_demo.pt; merge shards of one evaluation");
    assert!(mixed.contains("the checkpoint of ") && ends, "{mixed}");

    // All by another than the one that would be registered.
    assert_eq!(shard(&demo, "1/2", &["--checkpoint", "other.pt"]).code(), 0);
    assert_eq!(merge(&demo, &files, &["--checkpoint", "other.pt"]).code(), 4);
    fs::write(demo.path("another.pt"), "another").unwrap();
    let foreign = said(&["--checkpoint", "another.pt"]);
    assert!(foreign.contains("the shards were made with other.pt (BLAKE3 "), "{foreign}");
    assert!(foreign.contains("another.pt is another model"), "{foreign}");
    assert!(said(&["--shard", "1/2"]).contains("merge takes all shards: leave --shard out"));
    let like_eval = ["--workers", "2", "--no-cache", "--skip-bad-images"];
    assert_eq!(merge(&demo, &files, &like_eval).code(), 4);
}

#[test]
fn a_damaged_shard_is_never_merged() {
    let demo = Demo::small();
    let files = shards(&demo, 2);
    let path = demo.path(&files[1]);
    let whole = fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() / 2], &whole[..whole.len() - 1], b"", b"{\"images\": []}"]
    {
        fs::write(&path, damaged).unwrap();
        let said = refusal(&demo, &merge(&demo, &files, &[]));
        assert!(said.contains("2-of-2.shard"), "{said}");
    }
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(&path, flipped).unwrap();
    let said = refusal(&demo, &merge(&demo, &files, &[]));
    assert!(said.ends_with("write it again with `detgate eval --shard 2/2`"), "{said}");
}
