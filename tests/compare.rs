//! `detgate compare` as a user runs it: which change stops a candidate, which does not, and what is said.

#[path = "common/random.rs"]
mod random;

use std::path::PathBuf;
use std::process::{Command, Output};

use random::Random;
use serde_json::{Value, json};

impl Random {
    fn around(&mut self, width: f64) -> f64 {
        (self.unit() + self.unit() - 1.0) * width
    }
}

/// Ground truth and the detections of a good detector on it, in a folder.
struct Files {
    folder: tempfile::TempDir,
    detections: Vec<Value>,
}

impl Files {
    fn new(images: usize, classes: usize, seed: u64) -> Self {
        let mut random = Random::seeded(seed);
        let (mut annotations, mut detections) = (Vec::new(), Vec::new());
        for image in 1..=images {
            for place in 0..8 {
                let class = 1 + (random.unit() * classes as f64) as usize;
                let (w, h) = (20.0 + 90.0 * random.unit(), 20.0 + 90.0 * random.unit());
                let bbox = [f64::from(place % 4) * 150.0, f64::from(place / 4) * 150.0, w, h];
                annotations
                    .push(json!({"id": annotations.len() + 1, "image_id": image, "bbox": bbox,
                    "category_id": class, "area": w * h, "iscrowd": 0}));
                if random.unit() < 0.9 {
                    let shifted = bbox.map(|side| side + random.around(0.1) * w.min(h));
                    let score = 0.3 + 0.7 * random.unit();
                    detections
                        .push(json!({"image_id": image, "category_id": class, "bbox": shifted,
                        "score": score}));
                }
                if random.unit() < 0.3 {
                    let class = 1 + (random.unit() * classes as f64) as usize;
                    detections.push(json!({"image_id": image, "category_id": class,
                        "bbox": [bbox[0], 350.0, w, h], "score": 0.6 * random.unit()}));
                }
            }
        }
        let images: Vec<Value> = (1..=images)
            .map(|id| {
                json!({"id": id, "file_name": format!("{}/{id}.jpg", ["day", "night"][id % 2]),
                "width": 640, "height": 480})
            })
            .collect();
        let categories: Vec<Value> =
            (1..=classes).map(|id| json!({"id": id, "name": format!("class{id}")})).collect();
        let files = Self { folder: tempfile::tempdir().unwrap(), detections };
        let truth = json!({"images": images, "annotations": annotations, "categories": categories});
        files.write("gt.json", &truth.to_string());
        files.write_detections("baseline.json", &files.detections);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn write_detections(&self, name: &str, detections: &[Value]) {
        self.write(name, &serde_json::to_string(detections).unwrap());
    }

    /// Judges detections against those of [`Files::new`].
    fn compare(&self, candidate: &[Value], arguments: &[&str]) -> Ran {
        self.write_detections("candidate.json", candidate);
        let mut command = Command::new(env!("CARGO_BIN_EXE_detgate"));
        command.args(["compare", "--gt", "gt.json", "--baseline", "baseline.json"]);
        command.args(["--candidate", "candidate.json"]).args(arguments);
        Ran(command.current_dir(self.folder.path()).output().unwrap())
    }

    /// By a policy of its own.
    fn judged_by(&self, policy: &str, candidate: &[Value], arguments: &[&str]) -> Ran {
        self.write("policy.toml", policy);
        self.compare(candidate, &[&["--policy", "policy.toml"], arguments].concat())
    }

    /// Detections with noise on their scores, as another seed of training leaves it.
    fn noisy(&self, amount: f64, seed: u64) -> Vec<Value> {
        let mut random = Random::seeded(seed);
        let noisy = self.detections.iter().map(|detection| {
            let mut detection = detection.clone();
            let score = detection["score"].as_f64().unwrap() + random.around(amount);
            detection["score"] = score.clamp(0.0, 1.0).into();
            detection
        });
        noisy.collect()
    }

    /// Without a share of the detections of a class.
    fn without(&self, class: usize, share: f64) -> Vec<Value> {
        let mut random = Random::seeded(7);
        let stays =
            |detection: &&Value| detection["category_id"] != class || random.unit() >= share;
        self.detections.iter().filter(stays).cloned().collect()
    }
}

struct Ran(Output);

impl Ran {
    fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    fn said(&self) -> String {
        let (out, err) = (&self.0.stdout, &self.0.stderr);
        format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.0.stdout).unwrap()
    }
}

fn comparison<'r>(report: &'r Value, metric: &str) -> &'r Value {
    let comparisons = report["judgement"]["comparisons"].as_array().unwrap();
    comparisons.iter().find(|c| c["metric"] == metric).unwrap()
}

#[test]
fn one_class_that_halves_stops_a_candidate_whose_ap_hardly_moves() {
    let files = Files::new(300, 80, 1);
    let ran = files.compare(&files.without(17, 0.5), &["--format", "json", "--replicates", "0"]);
    assert_eq!(ran.code(), 1, "{}", ran.said());
    let change = comparison(&ran.json(), "AP")["change"].as_f64().unwrap();
    assert!((-0.005..0.0).contains(&change), "AP changed by {change}");
    let ran = files.compare(&files.without(17, 0.5), &["--quiet", "--replicates", "0"]);
    let said = ran.said();
    assert!(
        said.starts_with("REGRESSED: 1 of 83 judged metrics\n  AP50/class17 fell from"),
        "{said}"
    );
}

#[test]
fn the_same_detections_in_another_order_change_nothing() {
    let files = Files::new(40, 5, 2);
    let mut shuffled = files.detections.clone();
    let mut random = Random::seeded(3);
    for i in (1..shuffled.len()).rev() {
        shuffled.swap(i, (random.unit() * (i + 1) as f64) as usize);
    }
    let ran = files.compare(&shuffled, &["--format", "json", "--replicates", "200"]);
    assert_eq!(ran.code(), 0, "{}", ran.said());
    let report = ran.json();
    for comparison in report["judgement"]["comparisons"].as_array().unwrap() {
        let change = comparison["change"].as_f64().unwrap_or(0.0);
        assert_eq!(change, 0.0, "{comparison}");
    }
    let confident = files.compare(&shuffled, &["--judge", "confident", "--replicates", "200"]);
    assert_eq!(confident.code(), 0, "{}", confident.said());
}

/// The promise of the confident judge: noise below the margin is never called a regression.
#[test]
fn noise_below_the_margin_is_never_called_a_regression() {
    let files = Files::new(60, 3, 4);
    let policy = "[gate]\nreplicates = 200\ninterval = \"percentile\"\n[gate.metrics]\nAP = { max_drop = 0.02 }\n\"AP50/*\" = { max_drop = 0.03 }\n";
    let codes: Vec<i32> = (0..15)
        .map(|seed| {
            files.judged_by(policy, &files.noisy(0.1, seed), &["--judge", "confident"]).code()
        })
        .collect();
    assert!(codes.iter().all(|code| [0, 3].contains(code)), "{codes:?}");
    assert!(codes.contains(&0), "some can be told: {codes:?}");
}

#[test]
fn what_cannot_be_told_is_inconclusive_and_says_what_would_settle_it() {
    let files = Files::new(40, 3, 5);
    let policy = "[gate.metrics]\nAP = { max_drop = 0.01 }\n";
    let ran = files.judged_by(policy, &files.noisy(0.2, 1), &["--judge", "confident", "--quiet"]);
    let said = ran.said();
    assert_eq!(ran.code(), 3, "{said}");
    assert!(said.starts_with("INCONCLUSIVE: 1 of 1 judged metric\n  AP changed by"), "{said}");
    assert!(
        said.contains("a drop of 0.0100 is allowed") && said.contains("these images show drops of")
    );
    assert!(said.contains("images would settle this one"), "{said}");
}

#[test]
fn a_regression_beyond_chance_is_told_with_its_corrected_p_value() {
    let files = Files::new(150, 4, 6);
    let ran = files.compare(&files.without(2, 0.6), &["--judge", "confident", "--quiet"]);
    let said = ran.said();
    assert_eq!(ran.code(), 1, "{said}");
    assert!(said.contains("AP50/class2 fell") && said.contains("by Holm for 7 tests"), "{said}");
}

#[test]
fn rules_hold_on_slices_and_a_warning_stops_nobody() {
    let files = Files::new(80, 3, 8);
    // By night nothing of class 1 is found any more.
    let night = |image: &Value| image.as_i64().unwrap() % 2 == 1;
    let blind: Vec<Value> = (files.detections.iter())
        .filter(|d| d["category_id"] != 1 || !night(&d["image_id"]))
        .cloned()
        .collect();
    let policy = |tier: &str| {
        format!(
            "[gate.metrics]\n\"AP50/*@night\" = {{ max_drop = 0.05, tier = \"{tier}\" }}\n\
             \"AP50@day\" = {{ max_drop = 0.0 }}\n[gate.slices.night]\nfile_name = \"night/*\"\n\
             [gate.slices.day]\nfile_name = \"day/*\"\n"
        )
    };
    let blocked = files.judged_by(&policy("block"), &blind, &["--quiet"]);
    assert_eq!(blocked.code(), 1);
    assert!(blocked.said().contains("AP50/class1@night fell"), "{}", blocked.said());
    let warned = files.judged_by(&policy("warn"), &blind, &["--quiet"]);
    assert_eq!(warned.code(), 0, "{}", warned.said());
    assert!(warned.said().contains("warning: AP50/class1@night fell"), "{}", warned.said());
}

#[test]
fn a_candidate_can_be_asked_to_improve_and_a_drop_allowed_in_parts() {
    let files = Files::new(60, 3, 9);
    let better = "[gate.metrics]\nAP = { must_improve_by = 0.01 }\n";
    let same = files.judged_by(better, &files.detections, &["--quiet"]);
    assert_eq!(same.code(), 1);
    assert!(same.said().contains("less than 0.0100 up"), "{}", same.said());
    let worse = files.without(1, 0.2);
    let parts = |part: f64| format!("[gate.metrics]\nAP = {{ max_relative_drop = {part} }}\n");
    assert_eq!(files.judged_by(&parts(0.5), &worse, &[]).code(), 0);
    let broken = files.judged_by(&parts(0.01), &worse, &["--quiet"]);
    assert_eq!(broken.code(), 1);
    assert!(broken.said().contains("more than 1 %"), "{}", broken.said());
}

/// Frames of a video are alike: drawn as if they were not, the interval is too narrow.
#[test]
fn groups_are_drawn_together() {
    let files = Files::new(60, 3, 10);
    let rows: Vec<String> = (1..=60).map(|id| format!("{id},video{}", id % 6)).collect();
    files.write("videos.csv", &format!("image_id,video\n{}\n", rows.join("\n")));
    let policy = "[gate.metrics]\nAP = { max_drop = 0.5 }\n[gate.groups]\ncsv = \"videos.csv\"\ncolumn = \"video\"\n";
    let ran = files.judged_by(policy, &files.noisy(0.2, 1), &["--format", "json"]);
    let method = &ran.json()["judgement"]["method"];
    assert_eq!((&method["units"], &method["grouped"]), (&json!(6), &json!(true)), "{}", ran.said());
}

/// What warns is a family of its own: it does not make it harder to show a regression that blocks.
#[test]
fn warnings_do_not_weaken_the_rules_that_block() {
    let files = Files::new(150, 4, 6);
    let policy = "[gate.metrics]\n\"AP50/class2\" = { max_drop = 0.03 }\n\
                  \"AP/*\" = { max_drop = 0.03, tier = \"warn\" }\n";
    let arguments = ["--judge", "confident", "--format", "json"];
    let ran = files.judged_by(policy, &files.without(2, 0.6), &arguments);
    assert_eq!(ran.code(), 1, "{}", ran.said());
    let family = |metric| comparison(&ran.json(), metric)["tests"][0]["corrected_for"].clone();
    assert_eq!((family("AP50/class2"), family("AP/class1")), (json!(1), json!(4)));
}

/// Four images that all agree do so by chance once in 16 times: nothing is said of them with confidence,
/// not even that a detector which finds nothing has got worse. Of twenty it is.
#[test]
fn few_images_are_never_judged_confidently() {
    let policy = "[gate.metrics]\nAP = { max_drop = 0.05 }\n";
    let files = Files::new(4, 1, 13);
    for candidate in [&files.detections[..], &[]] {
        let ran = files.judged_by(policy, candidate, &["--judge", "confident", "--quiet"]);
        assert_eq!(ran.code(), 3, "{}", ran.said());
        assert!(ran.said().contains("rests on too few images"), "{}", ran.said());
    }
    assert_eq!(files.judged_by(policy, &[], &["--quiet"]).code(), 1, "the point tells");
    let many = Files::new(20, 1, 13);
    let ran = many.judged_by(policy, &[], &["--judge", "confident", "--quiet"]);
    assert!(ran.code() == 1 && ran.said().contains("p = 9.54e-7"), "{}", ran.said());
}

/// Small objects on four of 60 images: what is said of them rests on four images.
#[test]
fn a_metric_of_an_area_range_rests_on_the_images_that_show_it() {
    let files = Files::new(60, 1, 16);
    let mut truth: Value =
        serde_json::from_slice(&std::fs::read(files.path("gt.json")).unwrap()).unwrap();
    for gt in truth["annotations"].as_array_mut().unwrap() {
        let is_small = gt["image_id"].as_i64().unwrap() <= 4;
        gt["area"] = if is_small { json!(500.0) } else { json!(2000.0) };
    }
    files.write("gt.json", &truth.to_string());
    let report = files.compare(&files.noisy(0.1, 1), &["--format", "json"]).json();
    for (metric, has_interval) in
        [("AP", true), ("APm/class1", true), ("APs", false), ("ARs/class1", false)]
    {
        let comparison = comparison(&report, metric);
        assert!(comparison["change"].is_f64());
        assert_eq!(comparison["interval"].is_object(), has_interval, "{comparison}");
    }
}

/// What would settle it is more than there is.
#[test]
fn more_is_asked_for_than_there_is() {
    let files = Files::new(9, 1, 14);
    let policy = "[gate.metrics]\nAP = { max_drop = 0.03 }\n";
    for seed in 0..8 {
        let arguments = ["--judge", "confident", "--format", "json"];
        let ran = files.judged_by(policy, &files.noisy(0.5, seed), &arguments);
        let report = ran.json();
        let test = &comparison(&report, "AP")["tests"][0];
        let inconclusive = test["finding"] == "inconclusive";
        assert_eq!(
            test["images_needed"].as_u64().map(|needed| needed > 9),
            inconclusive.then_some(true)
        );
    }
}

/// A demand that is met exactly is met: with nothing moving, nothing is uncertain.
#[test]
fn a_demand_that_is_met_exactly_is_met() {
    let files = Files::new(20, 2, 15);
    // Found all, and nothing else: AP is 1 in every resample.
    let truth: Value =
        serde_json::from_slice(&std::fs::read(files.path("gt.json")).unwrap()).unwrap();
    let perfect: Vec<Value> = (truth["annotations"].as_array().unwrap().iter())
        .map(|gt| {
            json!({"image_id": gt["image_id"], "category_id": gt["category_id"], "bbox": gt["bbox"],
                "score": 0.9})
        })
        .collect();
    files.write_detections("baseline.json", &perfect);
    for demand in
        ["max_drop = 0.0", "max_relative_drop = 0.0", "must_improve_by = 0.0", "min = 1.0"]
    {
        let policy = format!("[gate.metrics]\nAP = {{ {demand} }}\n");
        let ran = files.judged_by(&policy, &perfect, &["--judge", "confident", "--quiet"]);
        assert_eq!(ran.code(), 0, "{demand}: {}", ran.said());
    }
}

#[test]
fn equal_inputs_give_equal_bytes_with_any_number_of_threads() {
    let files = Files::new(50, 3, 11);
    let bytes = |threads: &str| {
        let mut arguments = vec!["--format", "json", "--threads", threads];
        arguments.extend(["--judge", "confident", "--replicates", "200"]);
        files.compare(&files.noisy(0.2, 1), &arguments).0.stdout
    };
    let one = bytes("1");
    assert_eq!(one, bytes("2"));
    let report: Value = serde_json::from_slice(&one).unwrap();
    let test = &comparison(&report, "AP")["tests"][0];
    for key in ["p_pass", "p_regress", "p_regress_corrected", "smallest_detectable"] {
        assert!(test[key].is_f64(), "{test}");
    }
    let interval = &comparison(&report, "APs/class1")["interval"];
    assert!(interval["low"].as_f64() <= interval["high"].as_f64(), "{interval}");
}

#[test]
fn mistakes_are_one_sentence() {
    let files = Files::new(5, 2, 12);
    let sentence = |policy: &str, candidate: &[Value]| {
        let ran = files.judged_by(policy, candidate, &[]);
        assert_eq!(ran.code(), 2, "{}", ran.said());
        ran.said().replace(&files.folder.path().display().to_string(), "DIR")
    };
    insta::assert_snapshot!(sentence("[gate.metrics]\n\"AP/clas1\" = { max_drop = 0.1 }\n", &files.detections),
        @r#"error: DIR/policy.toml:2:1: the rule [gate.metrics] "AP/clas1" matches no metric of this run; did you mean "AP/class1"?"#);
    insta::assert_snapshot!(sentence("[gate.metrics]\nAP = { max_dorp = 0.1 }\n", &files.detections), @"error: DIR/policy.toml:2:8: unknown key `max_dorp` in [gate.metrics.AP]; did you mean `max_drop`?");
    let elsewhere = [json!({"image_id": 99, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5})];
    insta::assert_snapshot!(sentence("", &elsewhere), @"error: DIR/candidate.json: detections on images that the ground truth does not have: 1, among others on image 99; are the two files of the same data set? pass --skip-unknown-images to leave them out");
    let ran = files.compare(&files.detections, &["--policy", "no.toml"]);
    assert!(ran.code() == 2 && ran.said().contains("no.toml"), "{}", ran.said());
    let ran = files.compare(&files.detections, &["--threads", "100000"]);
    assert!(ran.code() == 2 && ran.said().contains("1 to 256"), "{}", ran.said());
}

/// Two classes of one name would be one metric.
#[test]
fn classes_that_cannot_be_told_apart_are_refused_and_so_is_nothing_to_find() {
    let files = Files::new(5, 2, 12);
    let truth = std::fs::read_to_string(files.path("gt.json")).unwrap();
    files.write("gt.json", &truth.replace("class2", "class1"));
    let ran = files.compare(&files.detections, &[]);
    assert_eq!(ran.code(), 2, "{}", ran.said());
    assert!(ran.said().contains("the categories 1 and 2 are both named \"class1\""));

    let mut bare: Value = serde_json::from_str(&truth).unwrap();
    bare["annotations"].as_array_mut().unwrap().retain(|gt| gt["image_id"] != 2);
    files.write("gt.json", &bare.to_string());
    let policy = "[gate.metrics]\n\"AP/*@bare\" = { max_drop = 0.1 }\n[gate.slices.bare]\n\
                  file_name = \"day/2.jpg\"\n";
    let ran = files.judged_by(policy, &files.detections, &[]);
    assert_eq!(ran.code(), 2, "{}", ran.said());
    assert!(ran.said().contains("\"AP/*@bare\" judges nothing"), "{}", ran.said());

    let mut empty: Value = serde_json::from_str(&truth).unwrap();
    empty["annotations"] = json!([]);
    files.write("gt.json", &empty.to_string());
    let ran = files.compare(&files.detections, &[]);
    assert_eq!(ran.code(), 2, "{}", ran.said());
    assert!(ran.said().contains("none of the 5 images has ground truth"), "{}", ran.said());
}

/// Rules and slices are found to be wrong only when the data are known: where they stand is said all the same.
#[test]
fn rules_and_slices_that_do_not_fit_the_data_are_said_with_their_place() {
    let files = Files::new(5, 2, 13);
    let sentence = |policy: &str| {
        let ran = files.judged_by(policy, &files.detections, &[]);
        assert_eq!(ran.code(), 2, "{}", ran.said());
        ran.said().replace(&files.folder.path().display().to_string(), "DIR")
    };
    insta::assert_snapshot!(sentence("[gate.metrics]\nAP = { max_drop = 0.1 }\n\"AP5/class1\" = { max_drop = 0.1 }\n"), @r#"error: DIR/policy.toml:3:1: the rule [gate.metrics] "AP5/class1" matches no metric of this run; did you mean "AP50/class1"?"#);
    insta::assert_snapshot!(sentence("[gate.metrics.\"AP50/clas2\"]\nmax_drop = 0.1\n"), @r#"error: DIR/policy.toml:1:15: the rule [gate.metrics] "AP50/clas2" matches no metric of this run; did you mean "AP50/class2"?"#);
    insta::assert_snapshot!(sentence("[gate]\nslices.night.file_name = \"night/*\"\nmetrics.\"AP75/*@nigth\".min = 0.1\n"), @r#"error: DIR/policy.toml:3:9: the rule [gate.metrics] "AP75/*@nigth" matches no metric of this run; did you mean "AP75/*@night"?"#);
    insta::assert_snapshot!(sentence("[gate.slices.rain]\nfile_name = \"rain/*\"\n"), @r#"error: DIR/policy.toml:1:14: the slice [gate.slices.rain] holds none of the 5 images; no file name is like "rain/*", one is "night/1.jpg""#);
    files.write(
        "gt.json",
        &std::fs::read_to_string(files.path("gt.json")).unwrap().replace("class2", "class1@night"),
    );
    insta::assert_snapshot!(sentence("\n[gate.slices]\n night = { file_name = \"night/*\" }\n"), @r#"error: DIR/policy.toml:3:2: the class "class1@night" is named like another on the slice [gate.slices.night]; rename the slice"#);
}

#[test]
fn what_is_not_counted_is_said() {
    let files = Files::new(5, 2, 14);
    let mut odd = files.detections.clone();
    odd[0]["category_id"] = json!(77);
    odd[1]["category_id"] = json!(78);
    let said = files.compare(&odd, &["-q", "--replicates", "0"]).said();
    assert!(
        said.contains("note: detections in ") && said.contains("candidate.json of categories that the ground truth does not list: 2, the first of category 77; left out"),
        "{said}"
    );
    let none = files.compare(&[], &["-q", "--replicates", "0"]);
    assert!(none.said().contains("note: there are no detections in "), "{}", none.said());
    assert!(none.said().contains("candidate.json\n"), "{}", none.said());
    assert_eq!(none.code(), 1);
}

/// Reports that are there already need neither ground truth nor detections.
#[test]
fn two_reports_are_shown_side_by_side() {
    let files = Files::new(20, 3, 19);
    let worse = files.without(1, 0.5);
    for (name, candidate) in [("same.json", &files.detections), ("worse.json", &worse)] {
        let report = files.compare(candidate, &["--format", "json", "--replicates", "0"]);
        std::fs::write(files.path(name), report.json().to_string()).unwrap();
    }
    let run = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_detgate"));
        Ran(command.arg("compare").args(words).current_dir(files.folder.path()).output().unwrap())
    };
    let shown = run(&["same.json", "worse.json"]);
    assert_eq!(shown.code(), 0, "{}", shown.said());
    insta::assert_snapshot!("two_reports", shown.said());
    let json = run(&["same.json", "worse.json", "--format", "json"]).json();
    let of = |name: &str| {
        let metrics = json["metrics"].as_array().unwrap().iter();
        metrics.clone().find(|metric| metric["metric"] == name).unwrap().clone()
    };
    let (ap, same) = (of("AP/class1"), of("AP/class2"));
    let number = |metric: &serde_json::Value, key: &str| metric[key].as_f64().unwrap();
    assert!(number(&ap, "change") == number(&ap, "after") - number(&ap, "before"));
    assert!(number(&ap, "change") < -0.1 && number(&same, "change") == 0.0);

    // Measured otherwise: shown, and not called comparable.
    let other = std::fs::read_to_string(files.path("worse.json")).unwrap();
    let other = other.replace(r#""image_count":"20""#, r#""image_count":"21""#);
    std::fs::write(files.path("other.json"), other).unwrap();
    let shown = run(&["same.json", "other.json"]);
    assert_eq!(shown.code(), 4, "{}", shown.said());
    assert!(shown.said().contains("image_count: baseline 20, candidate 21"));
    for (words, sentence) in [
        (&["same.json", "gone.json"][..], "gone.json"),
        (&["same.json", "gt.json"], "gt.json is not a report"),
        (&["same.json"], "2 values required"),
        (&["same.json", "worse.json", "--gt", "gt.json"], "cannot be used with"),
        (&["same.json", "worse.json", "--judge", "confident"], "cannot be used with"),
        (&["same.json", "worse.json", "--format", "html"], "detgate report --from"),
    ] {
        let refused = run(words);
        assert_eq!(refused.code(), 2, "{words:?}");
        assert!(refused.said().contains(sentence), "{}", refused.said());
    }
}

/// As `metrics --dt` takes them.
#[test]
fn results_in_several_files_are_one_side() {
    let files = Files::new(20, 3, 19);
    let worse = files.without(1, 0.5);
    let json = ["--format", "json", "--replicates", "200"];
    let whole = files.compare(&worse, &json).json();
    for (side, all) in [("baseline", &files.detections), ("candidate", &worse)] {
        let (one, other) = all.split_at(all.len() / 3);
        files.write_detections(&format!("{side}-1.json"), one);
        files.write_detections(&format!("{side}-2.json"), other);
    }
    let run = |sides: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_detgate"));
        command.args(["compare", "--gt", "gt.json"]).args(sides).args(json);
        Ran(command.current_dir(files.folder.path()).output().unwrap())
    };
    let before = ["--baseline", "baseline-1.json", "baseline-2.json"];
    let after = ["--candidate", "candidate-1.json", "--candidate", "candidate-2.json"];
    let parts = run(&[&before[..], &after].concat());
    assert_eq!(parts.code(), 1, "{}", parts.said());
    let mut parts = parts.json();
    assert_eq!(parts["checkpoint"]["checkpoint"], "candidate-1.json and 1 other");
    let bytes = |name: &str| std::fs::read(files.path(name)).unwrap();
    let both = blake3::hash(&[bytes("candidate-1.json"), bytes("candidate-2.json")].concat());
    assert_eq!(parts["checkpoint"]["checkpoint_blake3"], both.to_hex().as_str());
    // But for what the candidate is called, it is the same report.
    parts["checkpoint"] = whole["checkpoint"].clone();
    assert_eq!(parts, whole);

    let twice =
        run(&["--baseline", "baseline.json", "--candidate", "candidate.json", "candidate.json"]);
    assert_eq!(twice.code(), 2);
    assert!(
        twice.said().ends_with("candidate.json is named twice; name each file once\n"),
        "{}",
        twice.said()
    );
    let gone = run(&["--baseline", "baseline-1.json", "no.json", "--candidate", "candidate.json"]);
    assert!(gone.code() == 2 && gone.said().contains("no.json"), "{}", gone.said());
    // Both sides may well be the same.
    assert_eq!(run(&["--baseline", "baseline.json", "--candidate", "baseline.json"]).code(), 0);
}

#[test]
fn quiet_leaves_json_as_it_is() {
    let files = Files::new(5, 2, 15);
    let bytes = |arguments: &[&str]| files.compare(&files.detections, arguments).0.stdout;
    let json = bytes(&["--format", "json", "--replicates", "0"]);
    assert_eq!(json, bytes(&["--format", "json", "--replicates", "0", "-q"]));
    assert!(!json.is_empty());
}

/// Margins of a millionth are shown as what they are, and the drop that breaks them too.
#[test]
fn tiny_margins_are_not_shown_as_zero() {
    let files = Files::new(60, 3, 16);
    let mut worse = files.detections.clone();
    // The least certain right one goes to the end of its list.
    worse[0]["score"] = json!(0.0);
    let policy =
        "[gate]\nnumeric_noise = 0\nreplicates = 0\n[gate.metrics]\nAP = { max_drop = 0.000001 }\n";
    let said = files.judged_by(policy, &worse, &["-q"]).said();
    assert!(said.starts_with("REGRESSED") && said.contains(", more than 0.000001\n"), "{said}");
    let words: Vec<&str> = said.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "from").unwrap();
    assert_ne!(words[at + 1], words[at + 3].trim_end_matches(','), "{said}");
}

#[test]
fn the_table_says_what_it_leaves_out() {
    let files = Files::new(20, 40, 17);
    let said = files.compare(&files.detections, &["--replicates", "0"]).said();
    let line = said.lines().find(|line| line.starts_with("metrics that are only in the JSON: "));
    let numbers = line.unwrap().split([' ', ',']).filter_map(|word| word.parse::<usize>().ok());
    let left_out: usize = numbers.sum();
    let shown = said.split("\n\n").nth(2).unwrap().lines().count() - 3;
    let report =
        files.compare(&files.detections, &["--replicates", "0", "--format", "json"]).json();
    let all = report["judgement"]["comparisons"].as_array().unwrap().len();
    assert_eq!(left_out + shown, all, "{said}");
}

#[test]
fn numbers_in_flags_that_are_out_of_range_are_said_with_the_range() {
    let files = Files::new(2, 2, 18);
    let said = |arguments: &[&str]| {
        let ran = files.compare(&files.detections, arguments);
        assert_eq!(ran.code(), 2, "{}", ran.said());
        ran.said().lines().next().unwrap().to_owned() + "\n"
    };
    let metrics = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_detgate"));
        command.args(["metrics", "--gt", "gt.json", "--dt", "baseline.json", "--details"]);
        let ran = Ran(command.args(arguments).current_dir(files.folder.path()).output().unwrap());
        assert_eq!(ran.code(), 2, "{}", ran.said());
        ran.said().lines().next().unwrap().to_owned() + "\n"
    };
    let eval = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_detgate"));
        let ran = Ran(command.arg("eval").args(arguments).output().unwrap());
        assert_eq!(ran.code(), 2, "{}", ran.said());
        ran.said().lines().next().unwrap().to_owned() + "\n"
    };
    let all = [
        said(&["--confidence", "-1"]),
        said(&["--confidence", "95"]),
        said(&["--replicates", "-5"]),
        said(&["--replicates", "50"]),
        said(&["--replicates", "20001"]),
        said(&["--seed", "-1"]),
        said(&["--threads", "-2"]),
        metrics(&["--score-thr", "-0.1"]),
        metrics(&["--iou-thr", "-.5"]),
        metrics(&["--iou-thrs", "-0.5,0.5"]),
        metrics(&["--max-dets", "-1,10"]),
        metrics(&["--area-ranges", "-1"]),
        metrics(&["--worst", "-3"]),
        eval(&["--min-size", "-800"]),
        eval(&["--max-images", "-1"]),
    ];
    insta::assert_snapshot!(all.concat(), @r#"
    error: confidence is -1; it must be at least 0.5 and less than 1
    error: confidence is 95; it must be at least 0.5 and less than 1
    error: invalid value '-5' for '--replicates <N>': it must be 0, or between 200 and 20000
    error: invalid value '50' for '--replicates <N>': it must be 0, or between 200 and 20000
    error: invalid value '20001' for '--replicates <N>': it must be 0, or between 200 and 20000
    error: invalid value '-1' for '--seed <N>': it must be a whole number, at least 0
    error: invalid value '-2' for '--threads <N>': it must be 1 to 256
    error: --score-thr is -0.1; it must be between 0 and 1
    error: --iou-thr is -0.5; it must be between 0 and 1
    error: --iou-thrs is -0.5; it must be between 0 and 1
    error: --max-dets is "-1,10"; it must be whole numbers with commas between
    error: --area-ranges is "-1"; it must be NAME:SMALLEST:LARGEST in square pixels, with commas between
    error: invalid value '-3' for '--worst <N>': it must be a whole number, at least 0
    error: invalid value '-800' for '--min-size <PIXELS>': it must be between 1 and 16384
    error: invalid value '-1' for '--max-images <N>': it must be a whole number, at least 0
    "#);
}
