//! A regression in a browser: what a reader sees at once, and every control.

use serde_json::json;

use crate::chromium::Tab;
use crate::support::{count, regressed, slide};

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
        "detgate bless --force",
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
