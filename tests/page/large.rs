//! As many images as COCO's validation set has.

use serde_json::json;

use crate::chromium::Tab;
use crate::random::Random;
use crate::support::{categories, compared, count, write_files};

/// The largest gallery, 80 classes, and a limit on its time in a browser that other work slows down.
#[test]
fn a_page_of_5000_images_stays_small_and_opens_soon() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::seeded(1);
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    let mut sides = [Vec::new(), Vec::new()];
    for image in 1..=5000 {
        images.push(json!({"id": image, "file_name": format!("{image:012}.jpg"), "width": 640, "height": 480}));
        for _ in 0..7 {
            let class = 1 + (random.unit() * 80.0) as i64;
            let [x, y, w, h] = [500.0, 400.0, 200.0, 200.0].map(|most| 1.0 + random.unit() * most);
            annotations
                .push(json!({"id": annotations.len() + 1, "image_id": image, "bbox": [x, y, w, h],
                "category_id": class, "area": w * h, "iscrowd": 0}));
            for side in &mut sides {
                for _ in 0..7 {
                    side.push(json!({"image_id": image, "category_id": class,
                        "bbox": [x + 20.0 * random.unit(), y, w, h], "score": random.unit()}));
                }
            }
        }
    }
    let truth = json!({"images": images, "annotations": annotations, "categories": categories(80)});
    write_files(folder.path(), &truth, sides);
    let ran = compared(folder.path());
    let pictures = 40 * detgate::report::html::PICTURE_BYTES * 4 / 3;
    let whole = ran.stdout.len() + pictures;
    assert!(ran.stdout.len() > 100_000 && whole < 15_000_000, "{whole} bytes");
    let path = folder.path().join("page.html");
    std::fs::write(&path, ran.stdout).unwrap();
    let Some(mut tab) = Tab::open(&path) else { return };
    let took =
        tab.eval("performance.getEntriesByType('navigation')[0].loadEventEnd").as_f64().unwrap();
    eprintln!("{} bytes without pictures, opened in {took:.0} ms", whole - pictures);
    assert!(took < 10_000.0, "{took} ms");
    assert_eq!(count(&mut tab, "#curves svg.chart"), 12);
    tab.eval("document.querySelector('#curves > button').click()");
    assert_eq!(count(&mut tab, "#curves svg.chart"), 80);
    assert_eq!(tab.complaints(), Vec::<String>::new());
}
