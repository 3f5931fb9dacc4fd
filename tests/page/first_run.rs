//! The page of a run that has nothing to be compared with: all that one side tells by itself.

use serde_json::{Value, json};

use crate::chromium::Tab;
use crate::common::{Demo, fixtures};
use crate::support::{count, island};

/// The demo's damaged model, evaluated for the first time.
fn first_run(demo: &Demo) -> (std::path::PathBuf, Value) {
    let found = fixtures().join("demo/reference/damaged_detections.json.gz");
    std::fs::remove_file(demo.path("baseline.snap")).unwrap();
    let ran = demo.eval(&["--detections", found.to_str().unwrap()]);
    assert_eq!(ran.code(), 4, "{}", ran.stderr());
    let report: Value = serde_json::from_slice(&demo.report()).unwrap();
    (demo.path("reports/evaluation.html"), report)
}

/// What the candidate alone tells is what stands on its side of a comparison with anything.
#[test]
fn one_side_alone_is_the_candidate_s_side_of_a_comparison() {
    let demo = Demo::whole();
    let found = fixtures().join("demo/reference/damaged_detections.json.gz");
    assert_eq!(demo.eval(&["--no-html", "--detections", found.to_str().unwrap()]).code(), 1);
    let both: Value = serde_json::from_slice(&demo.report()).unwrap();
    assert!(both["analysis"].get("alone").is_none());
    let (_, first) = first_run(&demo);
    assert!(first.get("why").is_none());
    let alone = &first["analysis"]["alone"];
    assert_eq!(alone["tide"], both["why"]["tide"]["candidate"]);
    assert_eq!(alone["calibration"], both["why"]["calibration"]["candidate"]);
    let classes = alone["best_f1"].as_array().unwrap();
    assert_eq!(classes.len(), 3);
    for (class, compared) in classes.iter().zip(both["why"]["best_f1"].as_array().unwrap()) {
        assert_eq!(class["name"], compared["name"]);
        assert_eq!(class["best_f1"], compared["candidate"]);
    }
}

#[test]
fn the_page_of_a_first_run_in_a_browser() {
    let demo = Demo::whole();
    let (path, report) = first_run(&demo);
    let island = island(&std::fs::read_to_string(&path).unwrap());
    assert_eq!(island["calibration"]["baseline"], Value::Null);
    let Some(mut tab) = Tab::open(&path) else { return };
    let order = tab.eval("[...document.querySelectorAll('main section')].map((s) => s.id)");
    let wanted = [
        "metrics",
        "next",
        "curves",
        "scores",
        "confusion",
        "errors",
        "classes",
        "pictures",
        "provenance",
    ];
    assert_eq!(order, json!(wanted));
    scores(&mut tab, &report["analysis"]["alone"]);
    mistakes(&mut tab, &report["analysis"]["alone"]["tide"]);
    tables(&mut tab, &report);
    // Nothing is said of a side that is not there.
    for section in ["metrics", "classes", "curves", "scores", "confusion", "errors"] {
        assert_eq!(count(&mut tab, &format!("#{section} .baseline")), 0, "{section}");
        let text = tab.eval(&format!("document.getElementById('{section}').innerText"));
        let text = text.as_str().unwrap();
        for absent in ["baseline", "→", "null", "undefined", "NaN"] {
            assert!(!text.contains(absent), "{section} says {absent}: {text}");
        }
    }
    tab.eval("document.getElementById('scores').scrollIntoView({behavior: 'instant'})");
    tab.picture("first-run-scores");
    tab.eval("document.getElementById('errors').scrollIntoView({behavior: 'instant'})");
    tab.picture("first-run-errors");
    assert_eq!(tab.complaints(), Vec::<String>::new());
}

/// No column for what is not known; the classes with the lowest AP50 first.
fn tables(tab: &mut Tab, report: &Value) {
    let texts = |tab: &mut Tab, selector: &str| {
        tab.eval(&format!("[...document.querySelectorAll('{selector}')].map((c) => c.textContent)"))
    };
    assert_eq!(
        texts(tab, "#metrics thead th"),
        json!(["metric", "candidate", "allowed", "verdict"])
    );
    assert_eq!(texts(tab, "#classes thead th"), json!(["class", "candidate ↑", "verdict"]));
    for (table, columns) in [("metrics", 4), ("classes", 3)] {
        let cells = count(tab, &format!("#{table} tbody tr > *"));
        assert_eq!(cells, columns * count(tab, &format!("#{table} tbody tr")), "{table}");
    }
    let mut classes = report["coco"]["per_class"].as_array().unwrap().clone();
    classes.sort_by(|a, b| a["AP50"].as_f64().unwrap().total_cmp(&b["AP50"].as_f64().unwrap()));
    let names: Vec<&Value> = classes.iter().map(|class| &class["name"]).collect();
    assert_eq!(texts(tab, "#classes tbody th"), json!(names));
}

fn fixed(value: &Value) -> String {
    format!("{:.3}", value.as_f64().unwrap())
}

/// A curve, a distribution, and a table of thresholds that begins with the class of the lowest F1.
fn scores(tab: &mut Tab, alone: &Value) {
    let calibration = &alone["calibration"];
    let told = tab.eval("document.querySelector('#scores .told').textContent");
    let wanted = format!(
        "Calibration error (ECE) {}, with the quality of boxes (LaECE) {};",
        fixed(&calibration["ece"]),
        fixed(&calibration["la_ece"])
    );
    assert!(told.as_str().unwrap().starts_with(&wanted), "{told}");
    let bins = calibration["pooled"]["bins"].as_array().unwrap();
    let filled = bins.iter().filter(|bin| bin["detections"] != 0).count();
    assert_eq!(count(tab, "#scores circle.point.candidate"), filled as i64);
    assert_eq!(count(tab, "#scores svg.wide"), 1);
    assert_eq!(count(tab, "#scores svg.wide g"), bins.len() as i64);
    let caption = tab.eval("document.querySelector('#scores .stack figcaption').textContent");
    assert_eq!(caption, format!("candidate {} detections", calibration["pooled"]["detections"]));

    let classes = alone["best_f1"].as_array().unwrap();
    let f1 = |class: &&Value| class["best_f1"]["f1"].as_f64().unwrap();
    let worst = classes.iter().min_by(|a, b| f1(a).total_cmp(&f1(b))).unwrap();
    let row = "[...document.querySelector('#scores tbody tr').children].map((c) => c.textContent)";
    let point = &worst["best_f1"];
    assert_eq!(
        tab.eval(row),
        json!([worst["name"], fixed(&point["score_thr"]), fixed(&point["f1"])])
    );
    assert_eq!(count(tab, "#scores tbody tr"), classes.len() as i64);
}

/// A bar for each kind, as long as it costs.
fn mistakes(tab: &mut Tab, tide: &Value) {
    assert_eq!(count(tab, "#errors tbody tr"), 8);
    assert_eq!(count(tab, "#errors .bar.candidate"), 8);
    let heads =
        tab.eval("[...document.querySelectorAll('#errors thead th')].map((th) => th.textContent)");
    assert_eq!(heads, json!(["mistake", "", "costs AP50", "how many"]));
    let rows = tab.eval(
        "[...document.querySelectorAll('#errors tbody tr')].map((tr) => [...tr.children].map((c) => c.textContent))",
    );
    let missed =
        json!(["missed", "", fixed(&tide["dap"]["Miss"]), tide["counts"]["Miss"].to_string()]);
    assert!(rows.as_array().unwrap().contains(&missed), "{rows} lack {missed}");
    let width = |kind: &str| {
        let all = ["Cls", "Loc", "Both", "Dupe", "Bkg", "Miss", "FalsePos", "FalseNeg"];
        let most =
            all.map(|kind| tide["dap"][kind].as_f64().unwrap()).into_iter().fold(0.0, f64::max);
        200.0 * tide["dap"][kind].as_f64().unwrap() / most
    };
    let drawn = tab.eval(
        "[...document.querySelectorAll('#errors .bar')].map((bar) => bar.width.baseVal.value)",
    );
    for (place, kind) in [(0, "Cls"), (5, "Miss"), (7, "FalseNeg")] {
        assert!((drawn[place].as_f64().unwrap() - width(kind)).abs() < 0.01, "{kind}: {drawn}");
    }
}
