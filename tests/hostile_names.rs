//! What stands in a file of somebody else does not command the terminal in which it is shown.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

const CLASSES: [&str; 8] = [
    "\u{1b}[2Jcar\u{7}",
    "a\u{202e}b",
    "x\nPASSED: 1 of 1",
    "",
    "LONG",
    "<script>alert(1)</script> & ]]>",
    "`[a](https://b.example) | @everyone ![x](y) *z* #1`",
    "=HYPERLINK(\"https://b.example\"), ::error::% %0A",
];

fn class(i: usize) -> String {
    if CLASSES[i] == "LONG" { "人".repeat(3000) } else { CLASSES[i].to_owned() }
}

fn file_name(i: usize) -> String {
    format!("night\r/{i}\u{1b}]0;title\u{9c}{}.jpg", "y".repeat(400))
}

/// Ground truth of 12 images with an object of each class, all of which the baseline finds and the
/// candidate misses on every second image.
fn write(folder: &Path) {
    let images: Vec<Value> = (0..12)
        .map(|i| json!({"id": i, "file_name": file_name(i), "width": 640, "height": 480}))
        .collect();
    let categories: Vec<Value> =
        (0..CLASSES.len()).map(|k| json!({"id": k, "name": class(k)})).collect();
    let place = |k: usize| [k as f64 * 100.0, 0.0, 50.0, 50.0];
    let all = || (0..12).flat_map(|i| (0..CLASSES.len()).map(move |k| (i, k)));
    let annotations: Vec<Value> = all()
        .map(|(i, k)| {
            json!({"id": i * 10 + k + 1, "image_id": i, "category_id": k, "bbox": place(k),
                "area": 2500, "iscrowd": 0})
        })
        .collect();
    let found = |(i, k): (usize, usize)| json!({"image_id": i, "category_id": k, "bbox": place(k), "score": 0.9});
    let baseline: Vec<Value> = all().map(found).collect();
    let candidate: Vec<Value> = all().filter(|(i, _)| i % 2 == 0).map(found).collect();
    let truth = json!({"images": images, "categories": categories, "annotations": annotations});
    let rows: String = (0..11).map(|i| format!("{i},yes\n")).collect();
    for (name, text) in [
        ("gt.json", truth.to_string()),
        ("baseline.json", Value::from(baseline).to_string()),
        ("candidate.json", Value::from(candidate).to_string()),
        ("t.csv", format!("image_id,dry\n{rows}")),
        (
            "policy.toml",
            "[gate.slices.dry]\ncsv = \"t.csv\"\ncolumn = \"dry\"\nequals = \"yes\"\n".to_owned(),
        ),
        ("wrong.toml", "[gate.groups]\ncsv = \"t.csv\"\ncolumn = \"dry\"\n".to_owned()),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_detgate"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn assert_harmless(output: &Output) -> String {
    let bytes = [&output.stdout[..], &output.stderr].concat();
    let text = String::from_utf8(bytes).unwrap();
    let is_hostile =
        |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!text.contains(is_hostile), "{text:?}");
    assert!(!text.contains("\nPASSED: 1 of 1"), "{text}");
    let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest < 600, "a line has {widest} characters\n{text}");
    text
}

#[test]
fn names_are_shown_escaped_and_cut_and_stay_exact_in_json() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let compare = ["compare", "--gt", "gt.json", "--baseline", "baseline.json"];
    let compare = [&compare[..], &["--candidate", "candidate.json"]].concat();
    let ran = run(folder.path(), &[&compare[..], &["--policy", "policy.toml"]].concat());
    let text = assert_harmless(&ran);
    assert!(text.contains(r"AP50/\u{1b}[2Jcar\u{7} fell from"), "{text}");
    assert!(text.contains(r"x\nPASSED: 1 of 1") && text.contains(r"night\r/1"), "{text}");
    assert!(text.contains("has no row for 1 of 12 images"), "{text}");
    assert!(text.contains("人…人") && text.contains("\"\""), "{text}");
    let error = run(folder.path(), &[&compare[..], &["--policy", "wrong.toml"]].concat());
    assert!(assert_harmless(&error).contains("names no dry for 1 of 12 images"));
    let metrics = ["metrics", "--gt", "gt.json", "--dt", "candidate.json"];
    let details = run(folder.path(), &[&metrics[..], &["--per-class", "--details"]].concat());
    assert!(assert_harmless(&details).contains(r"a\u{202e}b"));
    let json = run(folder.path(), &[&compare[..], &["--format", "json"]].concat());
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    let names: Vec<&str> = report["practical"]["per_class"]
        .as_array()
        .unwrap()
        .iter()
        .map(|class| class["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, (0..CLASSES.len()).map(class).collect::<Vec<_>>());
    assert!(report["why"]["worst"][0]["file_name"].as_str().unwrap().contains('\u{1b}'));
}

/// Markdown, HTML, XML, spreadsheets and workflow commands have signs of their own.
#[test]
fn names_are_inert_in_every_form_of_a_report() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let compare = ["compare", "--gt", "gt.json", "--baseline", "baseline.json"];
    let compare = [&compare[..], &["--candidate", "candidate.json", "--format", "json"]].concat();
    let json = run(folder.path(), &compare).stdout;
    std::fs::write(folder.path().join("report.json"), &json).unwrap();
    let form = |name: &str| {
        let ran = run(folder.path(), &["report", "--from", "report.json", "--format", name]);
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    };
    assert_eq!(form("json").as_bytes(), json);

    let markdown = form("markdown");
    assert!(markdown.len() < 60_000, "{} bytes", markdown.len());
    assert!(markdown.contains("&#60;script&#62;alert"), "{markdown}");
    let own = ["<code>", "</code>", "<details><summary>", "</summary>", "</details>"];
    let rest = own.iter().fold(markdown.clone(), |text, tag| text.replace(tag, ""));
    assert_eq!(rest.matches('*').count(), 4, "the verdict alone is bold");
    assert!(!rest.contains(['<', '@', '[']), "{rest}");
    let columns = |line: &str| line.matches('|').count();
    let table: Vec<&str> = markdown.lines().filter(|line| line.starts_with('|')).collect();
    assert!(table.iter().all(|line| columns(line) == columns(table[0])), "{table:?}");

    let junit = form("junit");
    assert!(!junit.contains("<script") && junit.contains("&lt;script&gt;"), "{junit}");
    let github = form("github");
    assert!(!github.is_empty() && github.lines().count() <= 10);
    assert!(github.lines().all(|line| line.starts_with("::error title=")), "{github}");
    let csv = form("csv");
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    let names: Vec<String> =
        rows.records().map(|row| row.unwrap().get(1).unwrap().to_owned()).collect();
    assert_eq!(names.len(), CLASSES.len());
    assert!(names[7].starts_with("'=HYPERLINK"), "{names:?}");
    for text in [&markdown, &junit, &github, &csv] {
        let hostile = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!text.contains(hostile), "{text:?}");
    }
}
