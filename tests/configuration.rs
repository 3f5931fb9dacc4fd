//! Where the configuration comes from, and the sentence for each way in which it can be wrong.

use std::path::{Path, PathBuf};

use detgate::config::{
    BaselineSource, Config, Environment, EvalFlags, ModelSource, Preprocessing, ProjectFlags,
};

/// The notebook's layout in a temporary folder.
struct Project(tempfile::TempDir);

impl Project {
    fn new() -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        project.write(
            "data/processed/project_config.json",
            r#"{"project_name": "street", "train_dir": "/gone", "val_dir": "C:\\Users\\dev\\street\\data\\val2017",
                "target_classes": ["person", "car"], "epochs": 12}"#,
        );
        project.write(
            "data/processed/labelmap.json",
            r#"{"target_category_ids": [1, 3], "coco_to_internal": {"1": 1, "3": 2},
                "internal_to_name": {"1": "person", "2": "car"}}"#,
        );
        std::fs::create_dir_all(project.path("data/val2017")).unwrap();
        project
    }

    fn root(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap()
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.root().join(relative)
    }

    fn write(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn resolve(&self) -> Config {
        Config::resolve(&EvalFlags::default(), &self.root()).unwrap()
    }

    fn error(&self) -> String {
        let error = Config::resolve(&EvalFlags::default(), &self.root()).unwrap_err();
        error.to_string().replace(&self.root().display().to_string(), "ROOT")
    }
}

#[test]
fn the_notebook_s_layout_needs_no_settings() {
    let project = Project::new();
    let config = project.resolve();
    assert_eq!(config.ground_truth, project.path("data/processed/coco_person_car_val.json"));
    assert_eq!(config.model, ModelSource::Newest(project.path("models/local_checkpoints")));
    assert_eq!((config.max_images, config.score_thr, config.iou_thr), (Some(300), 0.5, 0.5));
    // The architecture's.
    let Preprocessing { min_size, max_size, norm_eps } = config.preprocessing;
    assert_eq!((min_size, max_size, norm_eps), (None, None, None));
    assert_eq!(config.registry.unwrap().tracking_uri, "sqlite:///mlflow.db");
    assert!(config.workers >= 1);
}

#[test]
fn the_project_is_found_from_up_to_eight_folders_below() {
    let project = Project::new();
    let below = |levels: usize| {
        let folder = project.path(&vec!["x"; levels].join("/"));
        std::fs::create_dir_all(&folder).unwrap();
        Config::resolve(&EvalFlags::default(), &folder)
    };
    assert_eq!(below(8).unwrap().root, project.root());
    assert!(below(9).unwrap_err().to_string().contains("--project"));
}

#[test]
fn the_longest_tail_of_another_machine_s_path_is_used_and_said() {
    let project = Project::new();
    assert_eq!(project.resolve().images, project.path("data/val2017"));
    std::fs::create_dir_all(project.path("street/data/val2017")).unwrap();
    let config = project.resolve();
    assert_eq!(config.images, project.path("street/data/val2017"));
    assert_eq!(config.notices.len(), 1);
    assert!(
        config.notices[0].contains(r"C:\Users\dev\street\data\val2017"),
        "{:?}",
        config.notices
    );
}

#[test]
fn a_val_dir_without_any_tail_here_is_an_error() {
    let project = Project::new();
    std::fs::remove_dir_all(project.path("data/val2017")).unwrap();
    insta::assert_snapshot!(project.error(), @r#""val_dir" is C:\Users\dev\street\data\val2017, which does not exist here, and no tail of it exists under ROOT; correct it in project_config.json or pass --images"#);
}

#[test]
fn flags_go_before_detgate_toml_which_goes_before_defaults() {
    let project = Project::new();
    project.write(
        "detgate.toml",
        "[data]\nmax_images = 0\n[practical]\nscore_thr = 0.3\niou_thr = 0.6\n\
         [gate.metrics]\n\"AP50/*\" = { max_drop = 0.1, min = 0.2 }\n[registry]\nregister = false\n",
    );
    let config = project.resolve();
    assert_eq!((config.max_images, config.score_thr, config.iou_thr), (None, 0.3, 0.6));
    assert_eq!(config.gate.rules.keys().collect::<Vec<_>>(), ["AP50/*"]);
    assert_eq!(config.registry, None);
    let flags = EvalFlags {
        score_thr: Some(0.7),
        checkpoint: Some("mine.pt".into()),
        project: ProjectFlags { project: Some(project.root()), baseline: Some("b.snap".into()) },
        ..EvalFlags::default()
    };
    let config = Config::resolve(&flags, Path::new("/elsewhere")).unwrap();
    assert_eq!((config.score_thr, config.iou_thr), (0.7, 0.6));
    assert_eq!(config.model, ModelSource::Checkpoint("/elsewhere/mine.pt".into()));
    assert_eq!(config.gate.baseline, BaselineSource::File("/elsewhere/b.snap".into()));
}

#[test]
fn limits_on_the_model_s_input_hold_whoever_sets_them() {
    let project = Project::new();
    project.write("detgate.toml", "[model]\nmin_size = 900\nmax_size = 800\n");
    insta::assert_snapshot!(project.error(),
        @"[model] min_size is 900 and max_size 800; it must be at least 1, at most max_size, and max_size at most 16384 pixels");
    let flags = EvalFlags { max_size: Some(1000), ..EvalFlags::default() };
    assert!(Config::resolve(&flags, &project.root()).is_ok());
}

#[test]
fn a_label_map_that_disagrees_with_the_project_is_an_error() {
    let project = Project::new();
    project.write(
        "data/processed/labelmap.json",
        r#"{"target_category_ids": [3, 1], "coco_to_internal": {"1": 1, "3": 2},
            "internal_to_name": {"1": "person", "2": "car"}}"#,
    );
    insta::assert_snapshot!(project.error(), @r#"ROOT/data/processed/labelmap.json: its categories are named ["car", "person"], the target classes of project_config.json are ["person", "car"]; make them agree, in order"#);
    project.write("data/processed/labelmap.json", "{\n\"target_category_ids\": 3}");
    assert!(project.error().contains("line 2"), "{}", project.error());
    std::fs::remove_file(project.path("data/processed/labelmap.json")).unwrap();
    assert!(project.error().starts_with("cannot read ROOT/data/processed/labelmap.json"));
}

#[test]
fn outside_a_project_the_remedy_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let flags = EvalFlags {
        project: ProjectFlags { project: Some(folder.path().to_owned()), baseline: None },
        ..EvalFlags::default()
    };
    let error = Config::resolve(&flags, folder.path()).unwrap_err().to_string();
    assert!(error.contains("project_config.json"), "{error}");
}

#[test]
fn ci_is_what_ci_systems_set() {
    let with = |variable: &'static str, value: Option<&str>| {
        Environment::from_lookup(|name| value.filter(|_| name == variable).map(str::to_owned))
    };
    let ci = |value: Option<&str>| with("CI", value).unwrap().ci;
    assert_eq!([Some("true"), Some("1"), Some("yes")].map(ci), [true; 3]);
    assert_eq!([None, Some(""), Some("0"), Some("false"), Some("False")].map(ci), [false; 5]);
    assert!(with("TF_BUILD", Some("True")).unwrap().ci, "Azure Pipelines");
    let error = with("INSTA_UPDATE", Some("alwyas")).err().unwrap().to_string();
    assert!(error.contains("\"alwyas\"") && error.contains("always"), "{error}");
}

#[test]
fn advice_names_the_command_that_was_typed() {
    let called_as = |value: Option<&str>| {
        let lookup = |name: &str| value.filter(|_| name == "DETGATE_CALLED_AS").map(str::to_owned);
        Environment::from_lookup(lookup).unwrap().called_as.to_string()
    };
    assert_eq!(called_as(None), "detgate");
    assert_eq!(called_as(Some("cargo xtask")), "cargo xtask");
}

#[test]
fn mlflows_variables_stand_between_flags_and_the_file() {
    let project = Project::new();
    project.write(
        "detgate.toml",
        "[registry]\ntracking_uri = \"http://file\"\nexperiment = \"file\"\nmodel_name = \"m\"",
    );
    let variables: &[(&str, &str)] = &[
        ("MLFLOW_TRACKING_URI", "https://ann:hunter2@variable/x"),
        ("MLFLOW_EXPERIMENT_NAME", "variable"),
        ("MLFLOW_EXPERIMENT_ID", "7"),
    ];
    let resolved = |variables: &[(&str, &str)], flags: &EvalFlags| {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let environment = Environment::from_lookup(lookup).unwrap();
        Config::resolve_in(&environment, flags, &project.root()).unwrap()
    };
    let of = |config: &Config| {
        let registry = config.registry.clone().unwrap();
        assert_eq!(registry.tracking_uri, config.tracking_uri);
        (registry.tracking_uri.to_string(), registry.experiment, registry.experiment_id)
    };
    let none = EvalFlags::default();
    assert_eq!(of(&resolved(&[], &none)), ("http://file".into(), "file".into(), None));

    let from_variables = resolved(variables, &none);
    let (uri, experiment, id) = of(&from_variables);
    assert_eq!((uri.as_str(), experiment.as_str()), ("https://variable/x", "variable"));
    let id = id.unwrap();
    assert_eq!((id.id.as_str(), id.name.as_deref()), ("7", Some("variable")));
    // That a shell's variable decides is said, and nothing shows its password.
    let notices = from_variables.notices.join("\n");
    assert!(notices.contains("MLFLOW_TRACKING_URI") && notices.contains("https://variable/x"));
    assert!(!format!("{from_variables:?}").contains("hunter2"));

    let flags = EvalFlags {
        tracking_uri: Some("http://flag".into()),
        experiment: Some("flag".into()),
        ..EvalFlags::default()
    };
    let from_flags = resolved(variables, &flags);
    assert_eq!(of(&from_flags), ("http://flag".into(), "flag".into(), None));
    assert!(!from_flags.notices.join("\n").contains("MLFLOW"));
}

#[test]
fn a_relative_database_is_relative_to_where_it_was_written() {
    let project = Project::new();
    let uri = |variable: Option<&str>, flag: Option<&str>, cwd: &str| {
        let lookup =
            |name: &str| variable.filter(|_| name == "MLFLOW_TRACKING_URI").map(str::to_owned);
        let environment = Environment::from_lookup(lookup).unwrap();
        let flags = EvalFlags {
            project: ProjectFlags { project: Some(project.root()), baseline: None },
            tracking_uri: flag.map(str::to_owned),
            ..EvalFlags::default()
        };
        let config = Config::resolve_in(&environment, &flags, Path::new(cwd)).unwrap();
        config.tracking_uri.to_string()
    };
    // That of the file is below the project's root.
    assert_eq!(uri(None, None, "/here"), "sqlite:///mlflow.db");
    assert_eq!(uri(Some("sqlite:///a.db"), None, "/here"), "sqlite:////here/a.db");
    assert_eq!(uri(None, Some("sqlite:///a.db"), "/here"), "sqlite:////here/a.db");
    assert_eq!(uri(Some("sqlite:////a.db"), None, "/here"), "sqlite:////a.db");
}

/// What MLflow would refuse is said before hours are spent, and so is a promotion that can never be.
#[test]
fn aliases_are_checked_before_anything_is_evaluated() {
    let project = Project::new();
    let resolve = |toml: &str, promote: &str| {
        project.write("detgate.toml", toml);
        let promote = Some(promote.to_owned()).filter(|alias| !alias.is_empty());
        let flags = EvalFlags { promote, ..EvalFlags::default() };
        Config::resolve(&flags, &project.root())
            .map(|config| config.registry.and_then(|registry| registry.alias))
            .map_err(|error| error.to_string())
    };
    assert_eq!(resolve("", ""), Ok(Some("candidate".to_owned())));
    assert_eq!(resolve("[registry]\nalias = \"\"\n", "champion"), Ok(None));
    for odd in ["v3", "latest", "7", "a b", "a/b"] {
        let error = resolve("", odd).unwrap_err();
        assert!(
            error.starts_with(&format!("--promote is {odd:?}; it must be of letters")),
            "{error}"
        );
        let error = resolve(&format!("[registry]\nalias = {odd:?}\n"), "").unwrap_err();
        assert!(error.starts_with("[registry] alias is"), "{error}");
    }
    let error = resolve("", "candidate").unwrap_err();
    assert!(error.contains("[registry] alias is candidate already"), "{error}");
    let other = "[gate]\nbaseline = \"models:/other@champion\"\n";
    let error = resolve(other, "champion").unwrap_err();
    assert!(error.contains("the model is registered as street_detector"), "{error}");
    let error = resolve("[registry]\nregister = false\n", "champion").unwrap_err();
    assert!(error.contains("nothing will be registered"), "{error}");
}
