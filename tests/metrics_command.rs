//! `detgate metrics` as a user runs it: from files on disk to the numbers, and each refusal.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};

/// A folder with ground truth and results in it.
struct Files(tempfile::TempDir);

impl Files {
    fn new(gt: &Value, dt: &Value) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("gt.json", gt.to_string());
        files.write("dt.json", dt.to_string());
        files
    }

    /// Two images with three boxes of two classes, and four detections.
    fn small() -> Self {
        let annotation = |id: i64, image_id: i64, category_id: i64, x: f64, crowd: i64| {
            json!({"id": id, "image_id": image_id, "category_id": category_id, "iscrowd": crowd,
                   "bbox": [x, 0.0, 50.0, 40.0], "area": 2000.0})
        };
        let dt = |image_id: i64, category_id: i64, x: f64, score: f64| {
            json!({"image_id": image_id, "category_id": category_id, "bbox": [x, 0.0, 50.0, 40.0],
                   "score": score})
        };
        Self::new(
            &json!({
                "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 3, "file_name": "b.jpg"}],
                "annotations": [annotation(1, 7, 1, 0.0, 0), annotation(2, 7, 3, 100.0, 0),
                                annotation(3, 3, 1, 0.0, 0), annotation(4, 3, 1, 200.0, 1)],
                "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
            }),
            &json!([
                dt(7, 1, 5.0, 0.9),
                dt(3, 3, 0.0, 0.8),
                dt(7, 3, 110.0, 0.7),
                dt(3, 1, 30.0, 0.6)
            ]),
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap();
        change(&mut value);
        self.write(name, value.to_string());
    }

    fn run(&self, args: &[&str]) -> Output {
        self.detgate(&[&["metrics", "--gt", "gt.json", "--dt", "dt.json"], args].concat())
    }

    fn detgate(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_detgate"));
        command.current_dir(self.0.path()).args(args).output().unwrap()
    }

    /// What was printed by a run that must succeed.
    fn stdout(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a run that must fail said, without the temporary folder's name.
    fn error(&self, args: &[&str]) -> String {
        self.explained(&self.run(args))
    }

    fn explained(&self, output: &Output) -> String {
        assert_eq!(output.status.code(), Some(2));
        let folder = self.0.path().display().to_string() + "/";
        String::from_utf8_lossy(&output.stderr).replace(&folder, "").trim_end().to_owned()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.stdout(&[&["--format", "json"], args].concat())).unwrap()
    }
}

const NAMES: [&str; 12] =
    ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"];

/// From text to text nothing is lost: every bit of pycocotools' numbers is in the JSON.
#[test]
fn results_in_several_files_are_one() {
    let files = Files::small();
    let whole = files.stdout(&["--format", "json"]);
    let all: Vec<Value> =
        serde_json::from_slice(&std::fs::read(files.path("dt.json")).unwrap()).unwrap();
    for (name, part) in [("a.json", &all[..1]), ("b.json", &all[1..]), ("empty.json", &[])] {
        files.write(name, json!(part).to_string());
    }
    let run = |names: &[&str]| {
        files
            .detgate(&[&["metrics", "--gt", "gt.json", "--format", "json", "--dt"], names].concat())
    };
    for names in [&["b.json", "a.json"][..], &["a.json", "--dt", "empty.json", "b.json"]] {
        let output = run(names);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), whole, "{names:?}");
    }
    let missing = files.explained(&run(&["a.json", "none.json"]));
    assert!(missing.contains("none.json"), "{missing}");
    // Every box would be there twice.
    let twice = files.explained(&run(&["a.json", "b.json", "a.json"]));
    assert_eq!(twice, "error: a.json is named twice; name each file once");
}

#[test]
fn the_recorded_data_sets_give_pycocotools_numbers_from_files_too() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/metrics");
    let mut compared = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let dataset = &record["dataset"];
        if dataset["params"].as_object().is_some_and(|params| !params.is_empty()) {
            continue;
        }
        let mut gt = dataset.clone();
        // What pycocotools passes over in silence is a mistake in a file.
        let known: Vec<Value> =
            gt["categories"].as_array().unwrap().iter().map(|c| c["id"].clone()).collect();
        gt["annotations"].as_array_mut().unwrap().retain(|a| known.contains(&a["category_id"]));
        gt.as_object_mut().unwrap().retain(|key, _| key != "detections");
        let files = Files::new(&gt, &dataset["detections"]);
        let report = files.json(&["--skip-unknown-images"]);
        for (name, bits) in NAMES.iter().zip(record["coco"]["stats"].as_array().unwrap()) {
            let expected = f64::from_bits(u64::from_str_radix(bits.as_str().unwrap(), 16).unwrap());
            let expected = Some(expected).filter(|value| *value >= 0.0);
            assert_eq!(report[name].as_f64(), expected, "{name} of {}", path.display());
        }
        compared += 1;
    }
    assert!(compared >= 40, "only {compared} data sets were compared");
}

#[test]
fn the_numbers_are_printed_as_pycocotools_prints_them() {
    insta::assert_snapshot!("metrics_command", Files::small().stdout(&[]));
}

#[test]
fn tables_come_on_request() {
    let printed = Files::small().stdout(&["--per-class", "--details", "--worst", "1"]);
    insta::assert_snapshot!("metrics_command_tables", printed);
}

#[test]
fn the_json_holds_everything_that_was_asked_for() {
    let report = Files::small().json(&["--details", "--iou-thrs", "0.5,0.75", "--recalls", "0.5"]);
    insta::assert_snapshot!(
        "metrics_command_json",
        serde_json::to_string_pretty(&{
            let mut report = report;
            report["settings"]["rec_thrs"] = json!("101 of them");
            report
        })
        .unwrap()
    );
}

#[test]
fn threads_and_packing_change_no_byte() {
    let files = Files::small();
    let args = ["--format", "json", "--details"];
    let one = files.stdout(&[&args[..], &["--threads", "1"]].concat());
    assert_eq!(files.stdout(&[&args[..], &["--threads", "7"]].concat()), one);
    let gt = std::fs::read(files.path("gt.json")).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &gt).unwrap();
    files.write("gt.json", gzip.finish().unwrap());
    let dt = std::fs::read(files.path("dt.json")).unwrap();
    files.write("dt.json", zstd::encode_all(&dt[..], 3).unwrap());
    assert_eq!(files.stdout(&args), one);
}

#[test]
fn settings_are_pycocotools_parameters() {
    let files = Files::small();
    let value = |args: &[&str], name: &str| files.json(args)[name].as_f64();
    let default = value(&[], "AP");
    assert_eq!(value(&["--iou-thrs", "0.5:0.95:0.05"], "AP"), default);
    assert_eq!(value(&["--rec-thrs", "0:1:0.01"], "AP"), default);
    assert_eq!(value(&["--max-dets", "100,1,10"], "AP"), default);
    let ranges = "all:0:1e10,small:0:1024,medium:1024:9216,large:9216:1e10";
    assert_eq!(value(&["--area-ranges", ranges], "APm"), value(&[], "APm"));
    assert_eq!(value(&["--iou-thrs", "0.3,0.4"], "AP50"), None);
    assert_eq!(value(&["--max-dets", "1,10,50"], "AP"), None);
    assert_eq!(value(&["--area-ranges", "all:0:1e10"], "APs"), None);
}

#[test]
fn what_does_not_belong_together_is_refused_or_said() {
    let files = Files::small();
    files.edit("dt.json", |dt| dt[1]["image_id"] = json!(99));
    insta::assert_snapshot!(files.error(&[]), @"error: dt.json: detections on images that the ground truth does not have: 1, among others on image 99; are the two files of the same data set? pass --skip-unknown-images to leave them out");
    let output = files.run(&["--skip-unknown-images"]);
    assert_eq!(output.status.code(), Some(0));
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stderr).trim_end(), @"note: detections on images that the ground truth does not have: 1, among others on image 99; left out");
    let files = Files::small();
    files.edit("dt.json", |dt| dt[1]["category_id"] = json!(0));
    let output = files.run(&[]);
    assert_eq!(output.status.code(), Some(0));
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stderr).trim_end(), @"note: detections of categories that the ground truth does not list: 1, the first of category 0; left out");
}

#[test]
fn every_wrong_setting_is_one_clear_sentence() {
    let files = Files::small();
    insta::assert_snapshot!(files.error(&["--iou-thrs", "0.5,2"]), @"error: --iou-thrs is 2; it must be between 0 and 1");
    insta::assert_snapshot!(files.error(&["--iou-thrs", "0.5:0.95"]), @r#"error: --iou-thrs is "0.5:0.95"; it must be numbers with commas between, or FIRST:LAST:STEP"#);
    insta::assert_snapshot!(files.error(&["--iou-thrs", "0.9:0.5:0.1"]), @r#"error: --iou-thrs is "0.9:0.5:0.1"; it must be FIRST:LAST:STEP with 1 to 9999 whole steps up"#);
    insta::assert_snapshot!(files.error(&["--rec-thrs", "all"]), @r#"error: --rec-thrs is "all"; it must be numbers with commas between, or FIRST:LAST:STEP"#);
    insta::assert_snapshot!(files.error(&["--max-dets", "1,-1"]), @r#"error: --max-dets is "1,-1"; it must be whole numbers with commas between"#);
    insta::assert_snapshot!(files.error(&["--area-ranges", "small:5:1"]), @r#"error: --area-ranges is "small:5:1"; it must be NAME:SMALLEST:LARGEST in square pixels, with commas between"#);
    insta::assert_snapshot!(files.error(&["--threads", "0"]), @"
    error: invalid value '0' for '--threads <N>': it must be 1 to 256

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(files.error(&["--details", "--score-thr", "2"]), @"error: --score-thr is 2; it must be between 0 and 1");
    let of = |gt, dt| files.explained(&files.detgate(&["metrics", "--gt", gt, "--dt", dt]));
    insta::assert_snapshot!(of("dt.json", "dt.json"), @"error: dt.json is not COCO ground truth: line 1, column 1: expected an object");
    insta::assert_snapshot!(of("gt.json", "gt.json"), @"error: gt.json is not a COCO results file: line 1, column 1: expected an array");
    insta::assert_snapshot!(of("gt.json", "nowhere.json"), @"error: cannot read nowhere.json: No such file or directory (os error 2); check the path");
}

#[test]
fn fixes_mend_and_lvis_rules_hold_where_they_are_asked_for() {
    let files = Files::small();
    let ap = |files: &Files, args: &[&str]| files.json(args)["AP"].as_f64();
    let default = ap(&files, &[]);
    assert_eq!(ap(&files, &["--fix", "all"]), default, "nothing here is a trap");
    assert_eq!(ap(&files, &["--max-dets", "1,10,50", "--fix", "max-dets"]), default);
    files.edit("gt.json", |gt| gt["annotations"][0]["id"] = json!(0));
    assert!(ap(&files, &[]) < default);
    assert_eq!(ap(&files, &["--fix", "ties,annotation-id-zero"]), default);
    // A difficult object that nothing found: no mistake, where its key is honoured.
    files.edit("gt.json", |gt| {
        gt["annotations"][0]["id"] = json!(1);
        gt["annotations"][2]["ignore"] = json!(1);
    });
    assert_eq!(ap(&files, &[]), default);
    assert!(ap(&files, &["--fix", "ignore-key"]) > default);
    assert_ne!(ap(&Files::small(), &["--class-agnostic"]), default);

    insta::assert_snapshot!(Files::small().error(&["--lvis"]), @"error: gt.json has none of LVIS' keys (neg_category_ids, not_exhaustive_category_ids, frequency); leave --lvis out");
    files.edit("gt.json", |gt| {
        gt["images"][0]["neg_category_ids"] = json!([]);
        gt["images"][1]["neg_category_ids"] = json!([3]);
        gt["images"][1]["not_exhaustive_category_ids"] = json!([1]);
        gt["categories"][0]["frequency"] = json!("r");
        gt["categories"][1]["frequency"] = json!("f");
    });
    insta::assert_snapshot!("metrics_command_lvis", files.stdout(&["--lvis", "--per-class"]));
    assert_eq!(files.json(&["--lvis"])["rules"], "lvis");
}

/// With the fix one limit serves all numbers, and the lines must say which.
#[test]
fn the_lines_name_the_limits_that_were_used() {
    let files = Files::small();
    let limits = |max_dets: &str, fix: &str| {
        let printed = files.stdout(&["--max-dets", max_dets, "--fix", fix]);
        let limit = |line: &str| line.split("maxDets=").nth(1).unwrap()[..4].trim().to_owned();
        let lines: Vec<String> = printed.lines().map(limit).collect();
        [0, 1, 6, 7, 8].map(|line| lines[line].clone()).join(" ")
    };
    assert_eq!(limits("1,10,50", "ties"), "100 50 1 10 50");
    assert_eq!(limits("1,10,50", "max-dets"), "50 50 1 10 50");
    assert_eq!(limits("10,100,300", "max-dets"), "100 100 10 100 100");
}

/// A pipe can be read once: neither a mistake nor an unusual layout may need a second reading.
#[cfg(unix)]
#[test]
fn results_may_come_through_a_pipe() {
    let files = Files::small();
    let piped = |text: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_detgate"))
            .current_dir(files.path(""))
            .args(["metrics", "--gt", "gt.json", "--dt", "/dev/stdin"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let text = std::fs::read_to_string(files.path("dt.json")).unwrap();
    assert_eq!(String::from_utf8_lossy(&piped(&text).stdout), files.stdout(&[]));
    let unusual = text.replacen('{', "{\"parts\": [{}, {\"score\": 2}], ", 1);
    assert_eq!(String::from_utf8_lossy(&piped(&unusual).stdout), files.stdout(&[]));
    let broken = piped(&text.replacen("\"score\"", "\"scor\"", 1));
    assert_eq!(broken.status.code(), Some(2));
    let error = String::from_utf8_lossy(&broken.stderr).into_owned();
    assert!(error.contains("at [0]: expected the key \"score\""), "{error}");
}

#[test]
fn hostile_names_are_inert_in_tables() {
    let files = Files::small();
    files.edit("gt.json", |gt| {
        gt["categories"][0]["name"] = json!("\u{1b}[31mred\n\u{202e}evil");
        gt["categories"][1]["name"] = json!("x".repeat(5000));
        gt["images"][1]["file_name"] = json!("\u{1b}[2J.jpg");
    });
    let printed = files.stdout(&["--per-class", "--details"]);
    assert!(!printed.contains(['\u{1b}', '\u{202e}']), "{printed:?}");
    assert!(printed.lines().all(|line| line.chars().count() < 200));
}

#[test]
fn a_name_that_several_images_have_is_no_reason_to_leave_detections_out() {
    let files = Files::small();
    files.edit("gt.json", |gt| {
        gt["images"][0]["file_name"] = json!("north/0001.jpg");
        gt["images"][1]["file_name"] = json!("south/0001.jpg");
    });
    files.edit("dt.json", |dt| dt[0]["image_id"] = json!("0001"));
    insta::assert_snapshot!(files.error(&["--skip-unknown-images"]), @r#"error: dt.json: several images of the ground truth are called "0001"; name them with their folders, or by their ids"#);
}
