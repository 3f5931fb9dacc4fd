//! Aliases: every version becomes `candidate`; `champion` moves only to a version whose evaluation was
//! compared with the present champion. And what `detgate registry` says of all that.

use std::path::Path;
use std::process::Command;

use detgate::config::{ModelReference, ModelVersion};
use detgate::registry::{Promotion, Registered, RegistrySettings, present, publish};
use serde_json::{Value, json};

use crate::mlflow::mlflow_python;
use crate::project::evaluated;
use crate::support::{running_server, settings};

/// Registers one more version that asks to become the champion.
fn promoted(
    root: &Path,
    settings: &RegistrySettings,
    model: &str,
    compared: Option<&str>,
    missed: usize,
) -> Registered {
    let mut it = evaluated(root, model, missed);
    let compared_with = compared.map(str::to_owned);
    it.publication.promotion = Some(Promotion { alias: "champion".to_owned(), compared_with });
    publish(&it.passed, &it.publication, settings).unwrap()
}

/// Why the version did not become the champion.
fn problem(registered: &Registered) -> Option<&str> {
    let last = registered.aliases.last().unwrap();
    assert_eq!((last.alias.as_str(), registered.aliases.len()), ("champion", 2));
    assert_eq!(
        (registered.aliases[0].alias.as_str(), &registered.aliases[0].problem),
        ("candidate", &None)
    );
    last.problem.as_deref()
}

#[test]
fn a_champion_gives_way_only_to_a_version_that_was_compared_with_it() {
    let Some(python) = mlflow_python() else { return };
    let server = running_server(&python);
    let root = tempfile::tempdir().unwrap();
    let settings = settings(&server.address, root.path(), &python);
    let model = "it's a \"team\" model";
    let named = |alias: &str| {
        let version = ModelVersion::Alias(alias.to_owned());
        present(&ModelReference { name: model.to_owned(), version }, &settings).unwrap()
    };
    assert_eq!(named("champion"), None);

    // Nobody is champion yet: there is nothing to compare with.
    let first = promoted(root.path(), &settings, model, None, 4);
    assert_eq!(problem(&first), None);
    assert_eq!(named("champion").as_ref(), Some(&first.version));
    // Compared with a file, while there is one.
    let second = promoted(root.path(), &settings, model, None, 3);
    assert!(
        problem(&second)
            .unwrap()
            .contains("the gate compared with a file, but champion is version 1 by now")
    );
    let third = promoted(root.path(), &settings, model, Some(&first.version), 2);
    assert_eq!(problem(&third), None);
    // Compared with the champion of then.
    let fourth = promoted(root.path(), &settings, model, Some(&first.version), 1);
    assert_eq!(
        problem(&fourth),
        Some(
            "the gate compared with version 1, but champion is version 3 by now; evaluate again with that as the baseline"
        )
    );
    assert_eq!(named("champion"), Some(third.version));
    // What was refused is registered all the same.
    assert_eq!(named("candidate"), Some(fourth.version));
}

fn detgate(python: &Path, folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_detgate"));
    command
        .arg("registry")
        .args(arguments)
        .current_dir(folder)
        .env("DETGATE_MLFLOW_PYTHON", python);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn versions_are_listed_shown_and_compared() {
    let Some(python) = mlflow_python() else { return };
    let server = running_server(&python);
    let root = tempfile::tempdir().unwrap();
    let settings = settings(&server.address, root.path(), &python);
    let place = ["--tracking-uri", server.address.as_str(), "--model-name", "listed"];
    let ask = |arguments: &[&str]| detgate(&python, root.path(), &[arguments, &place[..]].concat());
    let told = |arguments: &[&str]| {
        let (code, out, err) = ask(arguments);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        out
    };
    assert_eq!(told(&["ls"]), "listed has no versions yet\n");
    promoted(root.path(), &settings, "listed", None, 6);
    promoted(root.path(), &settings, "listed", Some("1"), 2);

    let list = told(&["ls"]);
    let row = |number: &str| {
        let line = list.lines().find(|line| line.trim_start().starts_with(number));
        line.unwrap_or_else(|| panic!("no version {number} in {list}"))
            .split_whitespace()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (row("2")[1..4].to_vec(), row("1")[1]),
        (vec!["candidate,", "champion", "passed"], "passed")
    );
    assert!(
        list.find("candidate").unwrap() < list.find("best_model.pt").unwrap(),
        "the newest is first: {list}"
    );
    assert!(!told(&["ls", "--limit", "1"]).contains("\n1 "));

    let shown = told(&["show", "@champion"]);
    for part in
        ["listed version 2 (candidate, champion)", "street_val", "c0ffee", "AP/traffic light"]
    {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
    let difference = told(&["diff", "1", "champion"]);
    assert!(
        difference.contains("version 1") && difference.contains("AP/traffic light"),
        "{difference}"
    );
    assert!(!difference.contains("note:"), "{difference}");

    let json = |arguments: &[&str]| -> Value {
        serde_json::from_str(&told(&[arguments, &["--format", "json"]].concat())).unwrap()
    };
    let versions = json(&["ls"]);
    assert_eq!(versions["versions"][0]["aliases"], json!(["candidate", "champion"]));
    assert_eq!(json(&["show", "2"])["versions"], json!([versions["versions"][0]]));
    let compared = json(&["diff", "1", "2"]);
    assert_eq!((&compared["comparable"], &compared["before"]), (&json!(true), &json!("1")));
    let recall = compared["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["metric"] == "recall")
        .unwrap();
    let expected = recall["after"].as_f64().unwrap() - recall["before"].as_f64().unwrap();
    assert_eq!(recall["change"], expected);

    let (code, _, error) = ask(&["show", "7"]);
    assert_eq!(
        (code, error.as_str()),
        (2, "error: there is no models:/listed/7; `detgate registry ls` lists what there is\n")
    );
    let (code, _, error) = ask(&["show", "a/b"]);
    assert!(code == 2 && error.contains("the version is \"a/b\""), "{error}");
}

/// Looking makes no database.
#[test]
fn a_registry_that_is_not_there_has_no_versions() {
    let root = tempfile::tempdir().unwrap();
    let place = ["ls", "--tracking-uri", "sqlite:///none.db", "--model-name", "m"];
    let (code, out, _) = detgate("/nonexistent".as_ref(), root.path(), &place);
    assert_eq!((code, out.as_str()), (0, "m has no versions yet\n"));
    assert_eq!(root.path().read_dir().unwrap().count(), 0);
}
