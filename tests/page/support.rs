//! Pages to look at, and what all who look do.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::chromium::Tab;
use crate::common::fixtures;
use crate::random::Random;

pub(crate) fn detgate(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_detgate"));
    command.args(arguments).current_dir(folder).output().unwrap()
}

pub(crate) fn demo(path: &str) -> String {
    fixtures().join("demo").join(path).display().to_string()
}

/// The demo's damaged model against its good one, with pictures.
pub(crate) fn regressed(folder: &Path) -> PathBuf {
    let arguments = [
        "compare",
        "--gt",
        &demo("data/processed/coco_person_car_airplane_val.json"),
        "--baseline",
        &demo("reference/torchvision_detections.json.gz"),
        "--candidate",
        &demo("reference/damaged_detections.json.gz"),
        "--policy",
        &demo("detgate.toml"),
        "--images",
        &demo("data/val2017"),
        "--format",
        "html",
    ];
    let ran = detgate(&arguments, folder);
    assert_eq!(ran.status.code(), Some(1), "{}", String::from_utf8_lossy(&ran.stderr));
    let path = folder.join("page.html");
    std::fs::write(&path, ran.stdout).unwrap();
    path
}

/// The page of `a.json` against `b.json` on `gt.json`, all in the folder, without intervals.
pub(crate) fn compared(folder: &Path) -> Output {
    detgate(
        &[
            "compare",
            "--gt",
            "gt.json",
            "--baseline",
            "a.json",
            "--candidate",
            "b.json",
            "--format",
            "html",
            "--replicates",
            "0",
            "--judge",
            "point",
        ],
        folder,
    )
}

/// Ground truth and the two sides' detections, as [`compared`] reads them.
pub(crate) fn write_files(folder: &Path, truth: &Value, [a, b]: [Vec<Value>; 2]) {
    let files = [
        ("gt.json", truth.to_string()),
        ("a.json", json!(a).to_string()),
        ("b.json", json!(b).to_string()),
    ];
    for (name, text) in files {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

/// `class 1`, `class 2`, ..
pub(crate) fn categories(count: usize) -> Vec<Value> {
    (1..=count).map(|id| json!({"id": id, "name": format!("class {id}")})).collect()
}

pub(crate) fn island(page: &str) -> Value {
    let start = page.find("id=\"data\">").unwrap() + "id=\"data\">".len();
    let end = start + page[start..].find("</script>").unwrap();
    serde_json::from_str(&page[start..end]).unwrap()
}

pub(crate) fn count(tab: &mut Tab, selector: &str) -> i64 {
    tab.eval(&format!("document.querySelectorAll({selector:?}).length")).as_i64().unwrap()
}

pub(crate) fn slide(tab: &mut Tab, score: f64) {
    tab.eval(&format!(
        "{{const s = document.querySelector('#pictures [data-slider]'); s.value = {score}; \
         s.dispatchEvent(new Event('input'))}}"
    ));
}

/// Crowded images of three classes, with crowds, equal scores and boxes on the edge of a match.
pub(crate) fn random_files(folder: &Path) {
    let mut random = Random::seeded(7);
    let mut number = |most: f64| (random.unit() * most).floor();
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    let mut sides = [Vec::new(), Vec::new()];
    for image in 1..=60 {
        images.push(
            json!({"id": image, "file_name": format!("{image}.jpg"), "width": 400, "height": 400}),
        );
        for _ in 0..6 {
            let (w, h) = (20.0 + number(8.0) * 10.0, 20.0 + number(8.0) * 10.0);
            let bbox = [number(30.0) * 10.0, number(30.0) * 10.0, w, h];
            let (class, crowd) = (1 + number(3.0) as i64, i32::from(number(6.0) == 0.0));
            annotations.push(json!({"id": annotations.len(), "image_id": image, "bbox": bbox,
                "category_id": class, "area": w * h, "iscrowd": crowd}));
            for side in &mut sides {
                for _ in 0..3 {
                    let shift =
                        [number(5.0), number(5.0), number(3.0), number(3.0)].map(|n| n * 5.0);
                    let found: Vec<f64> = bbox.iter().zip(shift).map(|(a, b)| a + b).collect();
                    let class = if number(4.0) == 0.0 { 1 + number(3.0) as i64 } else { class };
                    side.push(json!({"image_id": image, "category_id": class, "bbox": found,
                        "score": (1.0 + number(19.0)) / 20.0}));
                }
            }
        }
    }
    let truth = json!({"images": images, "annotations": annotations, "categories": categories(3)});
    write_files(folder, &truth, sides);
}
