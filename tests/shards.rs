//! An evaluation in shares: merged, it is the same to the last byte as one on a single machine; anything else is
//! refused with what is wrong.
#![cfg(feature = "torch")]

mod common;
#[cfg(feature = "mlflow")]
#[path = "common/mlflow.rs"]
mod mlflow;
#[path = "common/schema.rs"]
mod schema;

use std::fs;

use common::{Demo, Ran};
use detgate::inference::shards::ShardFile;

fn shard(demo: &Demo, which: &str, more: &[&str]) -> Ran {
    demo.run(&[&["eval", "--shard", which], more].concat())
}

/// Makes all shards, and names their files.
fn shards(demo: &Demo, count: usize) -> Vec<String> {
    let one = |index: usize| {
        let ran = shard(demo, &format!("{index}/{count}"), &["--quiet"]);
        assert_eq!(ran.code(), 0, "{}", ran.stderr());
        format!("reports/shards/of-{count}/{index}-of-{count}.shard")
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

/// Names of the images of a share, as its file says.
fn images_of(demo: &Demo, shard: &str) -> Vec<String> {
    let truth: serde_json::Value =
        serde_json::from_slice(&fs::read(demo.truth()).unwrap()).unwrap();
    let name = |id: i64| {
        let mut images = truth["images"].as_array().unwrap().iter();
        images.find(|image| image["id"] == id).unwrap()["file_name"].as_str().unwrap().to_owned()
    };
    let images = ShardFile::read(&demo.path(shard)).unwrap().images;
    images.into_iter().map(|(id, _)| name(id)).collect()
}

#[test]
fn a_share_needs_no_images_but_its_own() {
    let demo = Demo::small();
    let files = shards(&demo, 2);
    let expected = fs::read(demo.path(&files[0])).unwrap();
    let (mine, others) = (images_of(&demo, &files[0]), images_of(&demo, &files[1]));
    let image = |name: &String| demo.path("data/val2017").join(name);
    others.iter().for_each(|name| fs::remove_file(image(name)).unwrap());
    for folder in ["cache", "reports"] {
        fs::remove_dir_all(demo.path(folder)).unwrap();
    }
    let ran = shard(&demo, "1/2", &[]);
    assert_eq!(ran.code(), 0, "{}", ran.stderr());
    assert_eq!(fs::read(demo.path(&files[0])).unwrap(), expected);

    fs::remove_file(image(&mine[1])).unwrap();
    let said = refusal(&demo, &shard(&demo, "1/2", &[]));
    let expected = format!("lacks 1 of 2 images, the first is {}; correct ", mine[1]);
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn a_folder_stands_for_all_shards_in_it() {
    let demo = Demo::small();
    let files = shards(&demo, 3);
    assert_eq!(merge(&demo, &files, &[]).code(), 4);
    let expected = written(&demo);
    // Timings are beside the shards, and so are the logs of an engine.
    fs::write(demo.path("reports/shards/of-3/1.log"), "").unwrap();
    let said = |named: &[&str]| {
        fs::remove_file(demo.path("reports/evaluation.json")).unwrap();
        let ran = demo.run(&[&["merge", "--no-register"], named].concat());
        assert_eq!(ran.code(), 4, "{}", ran.stderr());
        assert_eq!(written(&demo), expected, "{named:?}");
    };
    said(&["reports/shards/of-3"]);
    // Some of them from elsewhere.
    fs::create_dir(demo.path("more")).unwrap();
    fs::rename(demo.path(&files[1]), demo.path("more/x.shard")).unwrap();
    said(&["reports/shards/of-3", "more/x.shard"]);
    said(&["more", "reports/shards/of-3"]);

    fs::create_dir(demo.path("empty")).unwrap();
    let none = refusal(&demo, &demo.run(&["merge", "--no-register", "more", "empty"]));
    assert!(none.contains("there is no *.shard file in empty; name the folder that"), "{none}");
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
    let path = demo.path("reports/shards/of-2/2-of-2.shard");
    let bytes = fs::read(&path).unwrap();
    let timings = fs::read_to_string(demo.path("reports/shards/of-2/2-of-2.timings.csv")).unwrap();
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
    fs::copy(demo.path(&files[1]), demo.path("copy.shard")).unwrap();
    let twice = said(&[files.clone(), vec!["copy.shard".to_owned()]].concat());
    assert!(
        twice.contains("2-of-4.shard and in copy.shard") && twice.ends_with("name each shard once"),
        "{twice}"
    );
}

/// It is not that images are in two shards.
#[test]
fn a_file_that_is_named_twice_is_said_to_be() {
    let demo = Demo::small();
    let files = shards(&demo, 2);
    let said = |more: &str| {
        let named = [files.clone(), vec![more.to_owned()]].concat();
        refusal(&demo, &merge(&demo, &named, &[]))
    };
    let once = "error: reports/shards/of-2/2-of-2.shard is named twice; name each file once";
    assert_eq!(said(&files[1]), once);
    let again = said("reports/shards/of-2");
    assert!(again.ends_with("of-2.shard is named twice; name each file once"), "{again}");
    let dots = said("reports/../reports/shards/of-2/1-of-2.shard");
    assert_eq!(
        dots,
        "error: reports/shards/of-2/1-of-2.shard and reports/../reports/shards/of-2/1-of-2.shard are the same file; \
         name each file once"
    );
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(demo.path(&files[1]), demo.path("link.shard")).unwrap();
        let link = said("link.shard");
        assert!(link.contains("2-of-2.shard and link.shard are the same file"), "{link}");
    }
}

#[test]
fn a_model_that_is_not_there_is_said_with_the_one_that_is_wanted() {
    let demo = Demo::small();
    let files = shards(&demo, 2);
    for flag in ["--torchscript", "--checkpoint"] {
        let said = refusal(&demo, &merge(&demo, &files, &[flag, "gone.pt"]));
        assert!(said.starts_with("error: cannot read DEMO/gone.pt: "), "{said}");
        let remedy = format!(
            "; the shards were made with best_demo.pt: name it by {flag}, or leave it out with --no-register"
        );
        assert!(said.ends_with(&remedy), "{said}");
    }
}

#[test]
#[cfg(feature = "mlflow")]
fn without_a_checkpoint_to_register_it_is_said_how_to_go_on() {
    let Some(python) = mlflow::mlflow_python() else { return };
    let demo = Demo::small();
    shards(&demo, 2);
    fs::remove_dir_all(demo.path("models/local_checkpoints")).unwrap();
    let mut command = demo.command(&["merge", "reports/shards/of-2"]);
    let output = command.env("DETGATE_MLFLOW_PYTHON", python).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("error: there is no checkpoint to register in "), "{said}");
    assert!(
        said.ends_with(
            "models/local_checkpoints; the shards were made with best_demo.pt: name it by --checkpoint, or leave it \
             out with --no-register\n"
        ),
        "{said}"
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
    // As a full disk leaves it.
    let again = "write it again with `detgate eval --shard 2/2 --shard-file reports/shards/of-2/2-of-2.shard`";
    for cut in [0, 7, whole.len() / 2] {
        fs::write(&path, &whole[..cut]).unwrap();
        let said = refusal(&demo, &merge(&demo, &files, &[]));
        assert!(said.ends_with(again), "{said}");
    }
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(&path, flipped).unwrap();
    let said = refusal(&demo, &merge(&demo, &files, &[]));
    assert!(said.ends_with(again), "{said}");

    // The command that is named does make it again, also under another name.
    fs::rename(&path, demo.path("second.shard")).unwrap();
    let renamed = [files[0].clone(), "second.shard".to_owned()];
    let said = refusal(&demo, &merge(&demo, &renamed, &[]));
    let (_, named) = said.rsplit_once("`detgate ").unwrap();
    assert_eq!(named, "eval --shard 2/2 --shard-file second.shard`");
    let words: Vec<&str> = named.trim_end_matches('`').split(' ').collect();
    assert_eq!(demo.run(&words).code(), 0);
    assert_eq!(fs::read(demo.path("second.shard")).unwrap(), whole);
    assert_eq!(merge(&demo, &renamed, &[]).code(), 4);
}
