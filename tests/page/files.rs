//! The page as a file: what is in it, when it is written, and what it may read.

use serde_json::Value;

use crate::common::{Demo, fixtures};
use crate::support::{island, regressed};

#[test]
fn a_page_needs_nothing_else_and_equal_runs_give_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = regressed(folder.path());
    let page = std::fs::read_to_string(&path).unwrap();
    let again = std::fs::read(regressed(folder.path())).unwrap();
    assert!(page.as_bytes() == again);
    assert!(page.len() < 4_000_000, "{}", page.len());
    assert!(page.contains("default-src 'none'") && !page.contains("unsafe-inline"));
    let markup = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!markup.contains("http:") && !markup.contains("https:") && !markup.contains(" src="));
    let island = island(&page);
    assert_eq!(island["verdict"]["kind"], "regressed");
    let images = island["images"].as_array().unwrap();
    assert_eq!(images.len(), 40);
    let is_jpeg = |image: &Value| image["picture"].as_str().unwrap().starts_with("data:image/jpeg");
    assert!(images.iter().all(is_jpeg));
    // The temporary folder and the fixtures' place are of this machine: nothing of them is on the page.
    assert!(!page.contains(env!("CARGO_MANIFEST_DIR")));
}

#[test]
fn an_evaluation_leaves_its_page_and_the_report_makes_the_same_again() {
    let demo = Demo::whole();
    let found = demo.path("found.json.gz");
    std::fs::copy(fixtures().join("demo/reference/damaged_detections.json.gz"), &found).unwrap();
    let with = ["--detections", "found.json.gz"];
    demo.eval(&with);
    let page = std::fs::read(demo.path("reports/evaluation.html")).unwrap();
    let again = ["report", "--from", "reports/evaluation.json", "--format", "html"];
    assert_eq!(demo.run(&[&again[..], &["-o", "again.html"]].concat()).code(), 0);
    assert!(std::fs::read(demo.path("again.html")).unwrap() == page);
    let images = island(&String::from_utf8(page.clone()).unwrap())["images"].clone();
    assert!(!images.as_array().unwrap().is_empty());

    // Without the pictures the boxes are shown, and why there is no picture.
    std::fs::rename(demo.path("data/val2017"), demo.path("elsewhere")).unwrap();
    let text = demo.run(&again).stdout();
    let island = island(&text);
    assert_eq!(island["images"][0]["picture"], Value::Null);
    let missing = island["images"][0]["missing"].as_str().unwrap();
    assert!(missing.contains("pass --images DIR"), "{missing}");
    assert_eq!(island["images"][0]["candidate"], images[0]["candidate"]);
    let named = [&again[..], &["--images", "elsewhere"]].concat();
    assert!(demo.run(&named).stdout().as_bytes() == page);
}

#[test]
fn no_page_is_written_where_none_is_wanted() {
    let demo = Demo::whole();
    let found = fixtures().join("demo/reference/torchvision_detections.json.gz");
    demo.eval(&["--detections", found.to_str().unwrap()]);
    assert!(demo.path("reports/evaluation.html").exists());
    // Nor does that of another run stay.
    demo.eval(&["--no-html", "--detections", found.to_str().unwrap()]);
    assert!(demo.path("reports/evaluation.json").exists());
    assert!(!demo.path("reports/evaluation.html").exists());
}

/// A report from elsewhere names files; only those in the folder of the images are read.
#[test]
fn a_name_that_leads_out_of_the_folder_is_no_picture() {
    let demo = Demo::whole();
    let found = fixtures().join("demo/reference/damaged_detections.json.gz");
    demo.eval(&["--no-html", "--detections", found.to_str().unwrap()]);
    let path = demo.path("reports/evaluation.json");
    let mut report: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    report["analysis"]["gallery"][0]["file_name"] = "../val2017/000000000001.jpg".into();
    std::fs::write(&path, report.to_string()).unwrap();
    let ran = demo.run(&["report", "--from", "reports/evaluation.json", "--format", "html"]);
    let image = &island(&ran.stdout())["images"][0];
    assert_eq!(image["picture"], Value::Null);
    assert!(image["missing"].as_str().unwrap().contains("leads out of the folder"), "{image}");
}
