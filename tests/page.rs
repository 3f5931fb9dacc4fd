//! The HTML page as a reader has it: what it says without a browser, and what it does in a real one.

#[path = "common/chromium.rs"]
mod chromium;
mod common;
#[path = "common/random.rs"]
mod random;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use chromium::Tab;
use common::{Demo, fixtures};
use detgate::dataset::{self, Classes};
use detgate::detections::coco_results;
use detgate::matching::coco::CocoParams;
use detgate::metrics::details::{DetailParams, details};
use random::Random;
use serde_json::{Value, json};

fn detgate(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_detgate"));
    command.args(arguments).current_dir(folder).output().unwrap()
}

fn demo(path: &str) -> String {
    fixtures().join("demo").join(path).display().to_string()
}

/// The demo's damaged model against its good one, with pictures.
fn regressed(folder: &Path) -> PathBuf {
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

fn island(page: &str) -> Value {
    let start = page.find("id=\"data\">").unwrap() + "id=\"data\">".len();
    let end = start + page[start..].find("</script>").unwrap();
    serde_json::from_str(&page[start..end]).unwrap()
}

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

#[test]
fn the_page_of_a_regression_in_a_browser() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut tab) = Tab::open(&regressed(folder.path())) else { return };
    let text = tab.eval("document.body.innerText");
    let text = text.as_str().unwrap();
    // Which class, by how much, how sure.
    for said in [
        "Regressed",
        "The class that lost most is airplane: its AP50 went from 0.748 to 0.597 (−0.151 ▼)",
        "so it is more than chance",
        "cargo xtask bless --force",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    // What it looks like: before and after, with pixels.
    assert_eq!(tab.eval("document.querySelectorAll('#lead .canvas image').length"), 2);
    let order = tab.eval("[...document.querySelectorAll('main section')].map((s) => s.id)");
    let wanted = json!([
        "metrics",
        "next",
        "curves",
        "scores",
        "confusion",
        "errors",
        "classes",
        "pictures",
        "provenance"
    ]);
    assert_eq!(order, wanted);
    let drawn = "[...document.images].every((i) => i.naturalWidth > 0) && document.images.length";
    tab.eval("Promise.all([...document.images].map((i) => i.decode()))");
    assert_eq!(tab.eval(drawn), 20);
    switches(&mut tab);
    tables(&mut tab);
    viewer(&mut tab);
    forms(&mut tab);
    assert_eq!(tab.complaints(), Vec::<String>::new());
}

fn count(tab: &mut Tab, selector: &str) -> i64 {
    tab.eval(&format!("document.querySelectorAll({selector:?}).length")).as_i64().unwrap()
}

/// Layers, the slider and the choice of images.
fn switches(tab: &mut Tab) {
    for layer in ["truth", "baseline", "candidate"] {
        let boxes = format!("#pictures .box.{layer}");
        let before = count(tab, &boxes);
        assert!(before > 0, "{layer}");
        let click = format!("document.querySelector('#pictures [data-layer={layer}]').click()");
        tab.eval(&click);
        assert_eq!(count(tab, &boxes), 0);
        tab.eval(&click);
        assert_eq!(count(tab, &boxes), before);
    }
    let candidates = count(tab, "#pictures .box.candidate");
    slide(tab, 0.9);
    assert!(count(tab, "#pictures .box.candidate") < candidates);
    slide(tab, 0.5);
    tab.eval("document.querySelector('[data-kind=better]').click()");
    assert_eq!(
        count(tab, "#pictures .card .flips .better"),
        count(tab, "#pictures .card .flips li:not(.quiet):not(.worse)")
    );
    let filter = "const f = document.querySelector('[data-filter=class]'); f.value = 'car'; \
                  f.dispatchEvent(new Event('change'))";
    tab.eval(&format!("{{{filter}}}"));
    assert!(count(tab, "#pictures .card") < 20);
    tab.eval(&format!("{{{}}}", filter.replace("'car'", "''")));
    tab.eval("document.querySelector('[data-kind=worse]').click()");
    assert_eq!(count(tab, "#pictures .card"), 20);
}

fn slide(tab: &mut Tab, score: f64) {
    tab.eval(&format!(
        "{{const s = document.querySelector('#pictures [data-slider]'); s.value = {score}; \
         s.dispatchEvent(new Event('input'))}}"
    ));
}

fn tables(tab: &mut Tab) {
    let names = "[...document.querySelectorAll('#classes tbody th')].map((th) => th.textContent)";
    assert_eq!(tab.eval(names), json!(["airplane", "person", "car"]));
    let sort = "document.querySelector('#classes thead button')";
    tab.eval(&format!("{sort}.focus()"));
    tab.press(" ", 32);
    assert_eq!(tab.eval(names), json!(["airplane", "car", "person"]));
    assert_eq!(tab.eval("document.querySelector('#classes th').ariaSort"), "ascending");
    tab.eval(&format!("{sort}.click()"));
    assert_eq!(tab.eval(names), json!(["person", "car", "airplane"]));
    tab.eval(
        "{const f = document.querySelector('#classes input'); f.value = 'AR'; f.dispatchEvent(new Event('input'))}",
    );
    assert_eq!(tab.eval(names), json!(["car"]));
    tab.eval("{const m = document.querySelector('#classes select'); m.value = 'AP'; m.dispatchEvent(new Event('change'))}");
    let cell = tab.eval("document.querySelector('#classes tbody td').textContent");
    // What torchvision and pycocotools measured (fixtures/demo/README.md).
    let shown: f64 = cell.as_str().unwrap().parse().unwrap();
    assert!((shown - 0.555).abs() < 6e-4, "{cell}");
}

/// The closer look, by keyboard alone.
fn viewer(tab: &mut Tab) {
    tab.eval("document.querySelector('#pictures .open').focus()");
    tab.press(" ", 32);
    assert_eq!(tab.eval("document.getElementById('viewer').open"), true);
    let name = "document.querySelector('#viewer .file').textContent";
    let first = tab.eval(name);
    tab.press("ArrowRight", 39);
    assert_ne!(tab.eval(name), first);
    tab.press("ArrowLeft", 37);
    assert_eq!(tab.eval(name), first);
    tab.press("+", 187);
    assert_eq!(tab.eval("document.getElementById('viewer').dataset.zoom"), "1.50");
    tab.picture("viewer-zoomed");
    tab.press("0", 48);
    tab.picture("viewer");
    tab.press("b", 66);
    assert_eq!(count(tab, "#viewer .box.baseline"), 0);
    tab.press("b", 66);
    tab.press("Escape", 27);
    assert_eq!(tab.eval("document.getElementById('viewer').open"), false);
}

/// Dark, narrow, on paper.
fn forms(tab: &mut Tab) {
    let paper = "getComputedStyle(document.body).backgroundColor";
    tab.colours("light");
    let light = tab.eval(paper);
    tab.colours("dark");
    assert_ne!(tab.eval(paper), light);
    tab.picture("dark");
    tab.resize(360, 740);
    tab.picture("phone");
    let wide = tab.eval("document.documentElement.scrollWidth");
    assert!(wide.as_i64().unwrap() <= 360, "a phone would scroll sideways: {wide}");
    tab.eval("document.querySelector('#pictures .open').click()");
    let wide = tab.eval("document.getElementById('viewer').scrollWidth <= 360");
    assert_eq!(wide, true);
    tab.picture("phone-viewer");
    tab.eval("document.getElementById('viewer').close()");
    tab.eval("document.getElementById('classes').scrollIntoView()");
    tab.picture("phone-classes");
    tab.colours("light");
    tab.resize(1280, 900);
    let printed = tab.call("Page.printToPDF", json!({"printBackground": true}));
    let printed = printed["data"].as_str().unwrap();
    assert!(printed.starts_with("JVBERi0") && printed.len() > 100_000, "{}", printed.len());
}

/// What the slider counts is what the evaluation counts, at any score, with crowds, ties and many classes.
#[test]
fn counts_on_the_page_are_those_of_the_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    random_files(folder.path());
    let ran = detgate(
        &[
            "compare",
            "--gt",
            &path("gt.json"),
            "--baseline",
            &path("a.json"),
            "--candidate",
            &path("b.json"),
            "--format",
            "html",
            "--replicates",
            "0",
            "--judge",
            "point",
        ],
        folder.path(),
    );
    std::fs::write(path("page.html"), &ran.stdout).unwrap();
    let Some(mut tab) = Tab::open(&folder.path().join("page.html")) else { return };
    let dataset =
        dataset::load_annotations(path("gt.json").as_ref(), &Classes::FromFile, None).unwrap();
    for score_thr in [0.05, 0.3, 0.5, 0.77] {
        slide(&mut tab, score_thr);
        let mut seen = 0;
        for kind in ["worse", "better"] {
            tab.eval(&format!("document.querySelector('[data-kind={kind}]').click()"));
            let cards = tab.eval(
                "[...document.querySelectorAll('.card')].map((card) => [card.querySelector('.file').textContent, \
                 ...['baseline', 'candidate'].map((side) => { const d = card.querySelector(`[data-side=${side}]`).dataset; \
                 return [d.tp, d.fp, d.fn].map(Number); })])",
            );
            for (side, file) in [(1, "a.json"), (2, "b.json")] {
                let found = coco_results::read(path(file).as_ref()).unwrap();
                let found = found.by_image(&dataset.images);
                let found = found.on(&dataset.images);
                let wanted = DetailParams { score_thr, ..DetailParams::default() };
                let details =
                    details(&dataset.categories, &found, &wanted, &CocoParams::default()).unwrap();
                for card in cards.as_array().unwrap() {
                    let image = dataset.images.iter().find(|i| i.file_name == card[0]).unwrap();
                    let result = details.per_image.iter().find(|r| r.image_id == image.id).unwrap();
                    let tally = result.tally;
                    assert_eq!(
                        card[side],
                        json!([tally.tp, tally.fp, tally.fn_]),
                        "{card} {score_thr}"
                    );
                    seen += 1;
                }
            }
        }
        assert!(seen >= 40, "{seen}");
    }
    assert_eq!(tab.complaints(), Vec::<String>::new());
}

/// Crowded images of three classes, with crowds, equal scores and boxes on the edge of a match.
fn random_files(folder: &Path) {
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
    let categories: Vec<Value> =
        (1..=3).map(|id| json!({"id": id, "name": format!("class {id}")})).collect();
    let truth = json!({"images": images, "annotations": annotations, "categories": categories});
    std::fs::write(folder.join("gt.json"), truth.to_string()).unwrap();
    for (name, side) in ["a.json", "b.json"].into_iter().zip(sides) {
        std::fs::write(folder.join(name), Value::from(side).to_string()).unwrap();
    }
}

/// Names are data, whatever they look like.
#[test]
fn hostile_names_are_text() {
    const HOSTILE: &str =
        "</script><img src=x onerror=alert(1)><script>document.title='owned'</script><!--\u{2028}";
    let folder = tempfile::tempdir().unwrap();
    random_files(folder.path());
    let edit = |text: String| {
        let file = |i: usize| format!("\"{i}.jpg\"");
        let hostile = serde_json::to_string(HOSTILE).unwrap();
        let numbered = |i: usize| format!("\"{i}{}", &hostile[1..]);
        let text = text.replace("\"class 2\"", &hostile);
        (1..=60).fold(text, |text, i| text.replace(&file(i), &numbered(i)))
    };
    let truth = folder.path().join("gt.json");
    std::fs::write(&truth, edit(std::fs::read_to_string(&truth).unwrap())).unwrap();
    let ran = detgate(
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
        folder.path(),
    );
    let page = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(page.matches("<script").count(), 2, "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(page.matches("</script>").count(), 2);
    assert!(!page.contains("<img") && !page.contains('\u{2028}'));
    let path = folder.path().join("page.html");
    std::fs::write(&path, page).unwrap();
    let Some(mut tab) = Tab::open(&path) else { return };
    assert!(tab.eval("document.title").as_str().unwrap().starts_with("detgate: "));
    let text = tab.eval("document.body.innerText");
    assert!(text.as_str().unwrap().contains("</script><img src=x"), "{text}");
    assert_eq!(count(&mut tab, "img, script:not(#data)"), 1, "its own script alone");
    // Even markup that came in some other way runs nothing.
    let injected = "{const d = document.createElement('div'); \
        d.innerHTML = '<img src=\"data:,\" onerror=\"document.title=1\">'; document.body.append(d); \
        const s = document.createElement('script'); s.textContent = 'document.title=2'; document.body.append(s); \
        new Promise((done) => setTimeout(() => done(document.title), 200))}";
    assert!(tab.eval(injected).as_str().unwrap().starts_with("detgate: "));
    let complaints = tab.complaints();
    assert!(
        !complaints.is_empty() && complaints.iter().all(|c| c.contains("Content Security Policy")),
        "{complaints:?}"
    );
}

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
    let categories: Vec<Value> =
        (1..=80).map(|id| json!({"id": id, "name": format!("class {id}")})).collect();
    let truth = json!({"images": images, "annotations": annotations, "categories": categories});
    std::fs::write(folder.path().join("gt.json"), truth.to_string()).unwrap();
    for (name, side) in ["a.json", "b.json"].into_iter().zip(sides) {
        std::fs::write(folder.path().join(name), Value::from(side).to_string()).unwrap();
    }
    let ran = detgate(
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
        folder.path(),
    );
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
