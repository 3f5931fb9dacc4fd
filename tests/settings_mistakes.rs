//! What a user reads who made a mistake in `detgate.toml`: file, line, column, and what was meant.

use std::path::PathBuf;

use detgate::config::{
    BaselineSource, Config, EvalFlags, GateFlags, Judge, ModelReference, ProjectFlags,
};
use proptest::prelude::*;

mod damage;

/// A project in a temporary folder whose `detgate.toml` is written anew for each question.
struct Project(tempfile::TempDir);

impl Project {
    fn new() -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        let folder = project.0.path().join("data/processed");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(
            folder.join("project_config.json"),
            r#"{"val_dir": "data", "target_classes": ["person"]}"#,
        )
        .unwrap();
        std::fs::write(
            folder.join("labelmap.json"),
            r#"{"target_category_ids": [1], "coco_to_internal": {"1": 1}, "internal_to_name": {"1": "person"}}"#,
        )
        .unwrap();
        project
    }

    fn settings(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap().join("detgate.toml")
    }

    fn resolve(&self, text: impl AsRef<[u8]>, flags: &EvalFlags) -> Result<Config, String> {
        std::fs::write(self.settings(), text).unwrap();
        Config::resolve(flags, self.0.path()).map_err(|error| error.to_string())
    }

    /// The one line that is said, without the project's folder.
    fn mistake(&self, text: impl AsRef<[u8]>) -> String {
        let sentence = self.resolve(text, &EvalFlags::default()).unwrap_err();
        assert!(!sentence.contains('\n'), "{sentence}");
        let settings = self.settings().display().to_string();
        sentence.strip_prefix(&settings).unwrap_or_else(|| panic!("{sentence}")).to_owned()
    }
}

/// Each text with the sentence it gives.
fn mistakes(texts: &[&str]) -> String {
    let project = Project::new();
    texts.iter().map(|text| format!("{}\n", project.mistake(text))).collect()
}

#[test]
fn an_unknown_key_is_said_with_the_one_that_was_meant() {
    insta::assert_snapshot!(mistakes(&[
        "[gate.metrics.AP]\nmax_dorp = 0.01\n",
        "[gate.metrics]\n\"AP50/*\" = { max_dorp = 0.01 }\n",
        "[practical]\nscore_threshold = 0.5\n",
        "[gate]\n\n  replicas = 5\n",
        "[gaet]\njudge = \"point\"\n",
        "[gate]\nscore_thr = 0.5\n",
        "[report]\ncolour = true\n",
        "[gate.slices.\"night\"]\nfilename = \"night/*\"\n",
        "[gate.groups]\ncolum = \"video\"\n",
        "gate.confidance = 0.9\n",
        "[gate]\n\"two\\nlines\" = 1\n",
        "\u{feff}[dat]\n",
    ]), @r#"
    :2:1: unknown key `max_dorp` in [gate.metrics.AP]; did you mean `max_drop`?
    :2:14: unknown key `max_dorp` in [gate.metrics."AP50/*"]; did you mean `max_drop`?
    :2:1: unknown key `score_threshold` in [practical]; did you mean `score_thr`?
    :3:3: unknown key `replicas` in [gate]; did you mean `replicates`?
    :1:2: unknown key `gaet` at the top level; did you mean `gate`?
    :2:1: unknown key `score_thr` in [gate]; it belongs to [practical]
    :2:1: unknown key `colour` in [report]; the keys are path
    :2:1: unknown key `filename` in [gate.slices.night]; did you mean `file_name`?
    :2:1: unknown key `colum` in [gate.groups]; did you mean `column`?
    :1:6: unknown key `confidance` in [gate]; did you mean `confidence`?
    :2:1: unknown key `"two\nlines"` in [gate]; the keys are baseline, confidence, correction, groups, interval, judge, metrics, numeric_noise, replicates, seed, slices
    :1:2: unknown key `dat` at the top level; did you mean `data`?
    "#);
}

#[test]
fn a_value_of_another_kind_is_said_with_what_it_must_be() {
    insta::assert_snapshot!(mistakes(&[
        "[gate]\njudge = \"confidnet\"\n",
        "[gate]\ncorrection = \"bonferroni\"\n",
        "[gate]\ncorrection = 3\n",
        "[gate]\ninterval = [\"bca\"]\n",
        "[gate.metrics]\nAP = { max_drop = \"1%\" }\n",
        "[gate.metrics]\nAP = 0.01\n",
        "[gate]\nmetrics = []\n",
        "[data]\nmax_images = 3.5\n",
        "[data]\nmax_images = \"all\"\n",
        "[data]\nall_categories = 1\n",
        "[report]\npath = 2026-11-23\n",
        "[model]\ntorchscript_labels = \"categories\"\n",
        "[gate]\nbaseline = true\n",
        "gate = \"strict, please, and with all the rules that there can be\"\n",
        "[gate.slices.rain]\nequals = 1\n",
    ]), @r#"
    :2:9: judge in [gate] is "confidnet"; did you mean "confident"?
    :2:14: correction in [gate] is "bonferroni"; it must be "holm" or "benjamini-hochberg" or "none"
    :2:14: correction in [gate] is 3; it must be "holm" or "benjamini-hochberg" or "none"
    :2:12: interval in [gate] is a list; it must be "percentile" or "bca"
    :2:19: max_drop in [gate.metrics.AP] is "1%"; it must be a number, between 0 and 1
    :2:6: [gate.metrics.AP] is 0.01; it must be a table of max_drop, max_relative_drop, min, must_improve_by, tier
    :2:11: [gate.metrics] is a list; it must be a table
    :2:14: max_images in [data] is 3.5; it must be a whole number, at least 0
    :2:14: max_images in [data] is "all"; it must be a whole number, at least 0
    :2:18: all_categories in [data] is 1; it must be true or false
    :2:8: path in [report] is a date or time; it must be text in quotes
    :2:22: torchscript_labels in [model] is "categories"; did you mean "category"?
    :2:12: baseline in [gate] is true; it must be text in quotes
    :1:8: [gate] is "strict, please, and with all the rules t"...; it must be a table of baseline, confidence, correction, groups, interval, judge, metrics, numeric_noise, replicates, seed, slices
    :2:10: equals in [gate.slices.rain] is 1; it must be text in quotes
    "#);
}

#[test]
fn a_value_out_of_its_range_is_said_with_the_range() {
    insta::assert_snapshot!(mistakes(&[
        "[practical]\nscore_thr = 1.5\n",
        "[gate.metrics]\nAP = { max_drop = -0.1 }\n",
        "[gate.metrics]\nAP = { min = nan }\n",
        "[gate.metrics]\nAP = { max_drop = 0.01,\n  must_improve_by = +inf }\n",
        "[gate]\nconfidence = 95\n",
        "[gate]\nconfidence = 1.0\n",
        "[gate]\nreplicates = 1_000_000\n",
        "[gate]\nreplicates = 50\n",
        "[gate]\nreplicates = -1\n",
        "[gate]\nreplicates = \"many\"\n",
        "[gate]\nseed = -1\n",
        "[gate]\nseed = -99999999999999999999\n",
        "[gate]\nseed = 0xFFFF_FFFF_FFFF_FFFF_FFFF\n",
        "[gate]\nseed = 999999999999999999999999999999999999999999\n",
        "[gate]\nnumeric_noise = 1e-1\n",
        "[model]\nmin_size = 0\n",
        "[model]\nmax_size = 4294967296\n",
        "[inference]\nworkers = 9223372036854775808999\n",
        "[gate.slices.a]\nmin_pixels = -5\n",
    ]), @r#"
    :2:13: score_thr in [practical] is 1.5; it must be between 0 and 1
    :2:19: max_drop in [gate.metrics.AP] is -0.1; it must be between 0 and 1
    :2:14: min in [gate.metrics.AP] is nan; it must be between 0 and 1
    :3:21: must_improve_by in [gate.metrics.AP] is +inf; it must be between 0 and 1
    :2:14: confidence in [gate] is 95; it must be at least 0.5 and less than 1
    :2:14: confidence in [gate] is 1.0; it must be at least 0.5 and less than 1
    :2:14: replicates in [gate] is 1000000; it must be 0, or between 200 and 20000
    :2:14: replicates in [gate] is 50; it must be 0, or between 200 and 20000
    :2:14: replicates in [gate] is -1; it must be 0, or between 200 and 20000
    :2:14: replicates in [gate] is "many"; it must be a whole number, 0, or between 200 and 20000
    :2:8: seed in [gate] is -1; it must be at least 0
    :2:8: seed in [gate] is -99999999999999999999; it must be at least 0
    :2:8: seed in [gate] is 0xFFFFFFFFFFFFFFFFFFFF; it must be at most 9223372036854775807
    :2:8: seed in [gate] is 999999999999999999999999999999999999999999; it must be at most 9223372036854775807
    :2:17: numeric_noise in [gate] is 1e-1; it must be between 0 and 0.01
    :2:12: min_size in [model] is 0; it must be between 1 and 16384
    :2:12: max_size in [model] is 4294967296; it must be between 1 and 16384
    :2:11: workers in [inference] is 9223372036854775808999; it must be at most 9223372036854775807
    :2:14: min_pixels in [gate.slices.a] is -5; it must be at least 0
    "#);
}

#[test]
fn what_contradicts_itself_or_says_nothing_is_a_mistake() {
    insta::assert_snapshot!(mistakes(&[
        "[gate.metrics]\n",
        "[gate.metrics]\nAP = {}\n",
        "[gate.metrics]\n\n\"AP50/a b\" = { tier = \"warn\" }\n",
        "[gate.metrics.AP]\nmax_drop = 0.01\nmust_improve_by = 0.01\n",
        "[gate]\nbaseline = \"\"\n",
        "[gate]\nbaseline = \"models:/street\"\n",
        "[gate.slices.night]\n",
        "[gate.slices.\"by night\"]\nfile_name = \"*\"\n",
        "[gate.slices.\"\"]\nfile_name = \"*\"\n",
        "[gate.slices.night]\nfile_name = \"night/[a\"\n",
        "[gate.slices.rain]\ncsv = \"weather.csv\"\nequals = \"rain\"\n",
        "[gate.slices.rain]\nequals = \"rain\"\n",
        "[gate.slices.odd]\nmax_pixels = 10\nmin_pixels = 20\n",
        "[gate.slices.odd]\nmin_objects = 3\nmax_objects = 2\n",
        "[gate.groups]\n",
        "[gate.groups]\nfolder = true\ncsv = \"a.csv\"\ncolumn = \"video\"\n",
        "[gate.groups]\ncsv = \"a.csv\"\n",
        "[gate.groups]\nfolder = false\ncolumn = \"video\"\n",
    ]), @r#"
    :1:7: [gate.metrics] has no rule; leave it out for the defaults, or judge at least one metric
    :2:1: [gate.metrics.AP] demands nothing; give it max_drop, max_relative_drop, min or must_improve_by
    :3:1: [gate.metrics."AP50/a b"] demands nothing; give it max_drop, max_relative_drop, min or must_improve_by
    :3:19: must_improve_by in [gate.metrics.AP] contradicts max_drop: one asks for a rise, the other allows a fall; keep one
    :2:12: baseline in [gate] is empty; name the snapshot's file
    :2:12: baseline in [gate] is "models:/street"; a model is models:/NAME@ALIAS or models:/NAME/VERSION
    :1:14: [gate.slices.night] has no condition; give it file_name, csv with column and equals, min_pixels, max_pixels, min_objects or max_objects
    :1:14: [gate.slices."by night"] is no name for a slice; use the letters a-z, digits, `_`, `-` and `.`
    :1:14: [gate.slices.""] is no name for a slice; use the letters a-z, digits, `_`, `-` and `.`
    :2:13: file_name in [gate.slices.night] is no pattern: unclosed character class; missing ']'
    :2:7: csv in [gate.slices.rain] needs `column` too: csv, column and equals go together
    :2:10: equals in [gate.slices.rain] needs `csv` too: csv, column and equals go together
    :3:14: min_pixels in [gate.slices.odd] is greater than max_pixels; no image can be in the slice
    :2:15: min_objects in [gate.slices.odd] is greater than max_objects; no image can be in the slice
    :1:7: [gate.groups] says nothing; give it csv and column, or folder = true, or leave it out
    :2:10: folder in [gate.groups] contradicts csv: images are grouped by one of them
    :2:7: csv in [gate.groups] needs `column` too: the one that names the group
    :3:10: column in [gate.groups] needs `csv` too: the file that has the column
    "#);
}

#[test]
fn what_is_not_toml_is_said_on_one_line() {
    let binary = Project::new().mistake(b"[gate]\njudge = \"\xff\"\n");
    assert_eq!(binary, ":2:10: this is not UTF-8; save the file as UTF-8");
    insta::assert_snapshot!(mistakes(&[
        "[gate\n",
        "[gate]\njudge = point\n",
        "[gate]\njudge = \"point\"\njudge = \"point\"\n",
        "[gate]\n[gate]\n",
        "[gate]\nconfidence = 0,95\n",
        "{\"gate\": {}}\n",
        "[gate.metrics]\nAP/* = { max_drop = 0.1 }\n",
    ]), @"
    :1:6: unclosed table, expected `]`
    :2:9: string values must be quoted, expected literal string
    :3:1: duplicate key
    :2:2: duplicate key
    :2:15: unexpected key or value, expected newline, `#`
    :1:1: invalid key-value pair, expected key
    :2:3: invalid unquoted key, expected letters, numbers, `-`, `_`
    ");
}

#[test]
fn of_several_mistakes_the_first_in_the_file_is_said() {
    let sentence = Project::new()
        .mistake("[practical]\niou_thr = 2\nscore_thr = 2\n[gate]\nconfidence = 0.1\nA = 1\n");
    assert!(sentence.starts_with(":2:11: iou_thr in [practical]"), "{sentence}");
}

#[test]
fn flags_are_held_to_the_same_limits() {
    let project = Project::new();
    let said = |text: &str, gate: GateFlags| {
        let flags = EvalFlags { gate, ..EvalFlags::default() };
        project.resolve(text, &flags).unwrap_err()
    };
    let confident = || GateFlags { judge: Some(Judge::Confident), ..GateFlags::default() };
    let few = |n| GateFlags { replicates: Some(n), ..GateFlags::default() };
    insta::assert_snapshot!(
        [
            said("", GateFlags { confidence: Some(95.0), ..GateFlags::default() }),
            said("", few(99)),
            said("", few(20_001)),
            said("[gate]\nreplicates = 0\n", confident()),
            said("[gate]\njudge = \"confident\"\n", few(0)),
            project
                .resolve("", &EvalFlags {
                    project: ProjectFlags { baseline: Some("models:/a".into()), ..ProjectFlags::default() },
                    ..EvalFlags::default()
                })
                .unwrap_err(),
        ]
        .join("\n"),
        @r#"
    confidence is 95; it must be at least 0.5 and less than 1
    replicates is 99; it must be 0, or between 200 and 20000
    replicates is 20001; it must be 0, or between 200 and 20000
    judge is confident and replicates 0; the test needs replicates, for example 1000
    judge is confident and replicates 0; the test needs replicates, for example 1000
    baseline is "models:/a"; a model is models:/NAME@ALIAS or models:/NAME/VERSION
    "#
    );
    let both = GateFlags { replicates: Some(200), seed: Some(7), ..confident() };
    let gate = project
        .resolve("[gate]\nreplicates = 0\n", &EvalFlags { gate: both, ..EvalFlags::default() });
    let gate = gate.unwrap().gate;
    assert_eq!((gate.judge, gate.replicates, gate.seed), (Judge::Confident, Some(200), 7));
    let largest = project.resolve("[gate]\nseed = 9223372036854775807\n", &EvalFlags::default());
    assert_eq!(largest.unwrap().gate.seed, i64::MAX as u64);
}

#[test]
fn a_baseline_is_a_file_of_the_project_or_a_model_of_the_registry() {
    let project = Project::new();
    let baseline = |text: &str| project.resolve(text, &EvalFlags::default()).unwrap().gate.baseline;
    assert_eq!(
        baseline(""),
        BaselineSource::File(project.settings().with_file_name("detgate").join("baseline.snap"))
    );
    let model = "models:/street_detector@champion";
    assert_eq!(
        baseline(&format!("[gate]\nbaseline = \"{model}\"\n")),
        BaselineSource::Model(ModelReference::parse(model).unwrap())
    );
}

/// Every key and every kind of value.
const WHOLE: &str = r#"[data]
ground_truth = "gt.json"
all_categories = true
max_images = 0
[model]
torchscript_labels = "internal"
norm_eps = 1e-5
[gate]
baseline = "models:/a@b"
judge = "confident"
confidence = 0.9
correction = "benjamini-hochberg"
seed = 0x2a
[gate.metrics]
AP = { max_drop = 0.01, min = 0.5, tier = "warn" }
"AP50/*@*" = { max_relative_drop = 0.1 }
[gate.slices.night]
file_name = "night/**"
csv = "weather.csv"
column = "weather"
equals = "rain"
min_objects = 1
[gate.groups]
folder = true
"#;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Wrong characters anywhere: the file is still right, or one line says where it is wrong.
    #[test]
    fn damage_is_located(edits in damage::edits()) {
        let mut bytes = WHOLE.as_bytes().to_vec();
        damage::apply(edits, &mut bytes);
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
        let project = Project::new();
        if let Err(sentence) = project.resolve(&bytes, &EvalFlags::default()) {
            prop_assert!(!sentence.contains('\n'), "{}", sentence);
            let place = sentence.strip_prefix(&format!("{}:", project.settings().display()));
            let (line, rest) = place.and_then(|place| place.split_once(':')).expect(&sentence);
            let (column, what) = rest.split_once(": ").expect(&sentence);
            prop_assert!((1..=lines).contains(&line.parse().unwrap()), "{}", sentence);
            prop_assert!(column.parse::<usize>().unwrap() >= 1 && what.len() > 5, "{}", sentence);
        }
    }
}

#[test]
fn the_whole_file_is_right_before_it_is_damaged() {
    Project::new().resolve(WHOLE, &EvalFlags::default()).unwrap();
}
