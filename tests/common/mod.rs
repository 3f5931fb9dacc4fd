//! The embedded demo project in a temporary folder, and `detgate` run in it.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// A copy of the demo project in a temporary folder.
pub(crate) struct Demo {
    folder: tempfile::TempDir,
}

impl Demo {
    /// All images, with the committed baseline.
    pub(crate) fn whole() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let demo = fixtures().join("demo");
        // Not the whole folder: an evaluation of the demo leaves its own results there.
        for name in ["data", "models"] {
            copy_tree(&demo.join(name), &folder.path().join(name));
        }
        for entry in demo.read_dir().unwrap() {
            let name = entry.unwrap().file_name();
            let stays = |name: &str| {
                name == "detgate.toml" || name == "baseline.snap" || name.ends_with(".json.zst")
            };
            if name.to_str().is_some_and(stays) {
                std::fs::copy(demo.join(&name), folder.path().join(&name)).unwrap();
            }
        }
        Self { folder }
    }

    /// Only the first images, and no baseline.
    pub(crate) fn small() -> Self {
        let demo = Self::whole();
        std::fs::remove_file(demo.path("baseline.snap")).unwrap();
        demo.edit_truth(|truth| {
            let images: Vec<Value> = truth["images"].as_array().unwrap()[..4].to_vec();
            let kept: Vec<&Value> = images.iter().map(|image| &image["id"]).collect();
            let annotations: Vec<Value> = truth["annotations"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|annotation| kept.contains(&&annotation["image_id"]))
                .cloned()
                .collect();
            truth["annotations"] = annotations.into();
            truth["images"] = images.into();
        });
        demo
    }

    /// As [`Demo::small`], with its own results as baseline.
    pub(crate) fn blessed() -> Self {
        let demo = Self::small();
        assert_eq!(demo.eval(&[]).code(), 4);
        assert_eq!(demo.run(&["bless"]).code(), 0);
        demo
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub(crate) fn truth(&self) -> PathBuf {
        self.path("data/processed/coco_person_car_airplane_val.json")
    }

    pub(crate) fn edit_truth(&self, edit: impl FnOnce(&mut Value)) {
        let mut truth = serde_json::from_slice(&std::fs::read(self.truth()).unwrap()).unwrap();
        edit(&mut truth);
        std::fs::write(self.truth(), truth.to_string()).unwrap();
    }

    pub(crate) fn report(&self) -> Vec<u8> {
        std::fs::read(self.path("reports/evaluation.json")).unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_detgate"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("CI");
        for variable in [
            "ATEN_CPU_CAPABILITY",
            "DETGATE_CALLED_AS",
            "MLFLOW_TRACKING_URI",
            "MLFLOW_EXPERIMENT_NAME",
            "MLFLOW_EXPERIMENT_ID",
        ] {
            command.env_remove(variable);
        }
        // No test uses what another one found, nor leaves anything with the user.
        command.env("DETGATE_CACHE_DIR", self.path("cache"));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran(self.command(arguments).output().unwrap())
    }

    pub(crate) fn eval(&self, arguments: &[&str]) -> Ran {
        self.run(&[&["eval", "--no-register"], arguments].concat())
    }

    /// The sentence of an evaluation that exits with 2, without the folder's name.
    pub(crate) fn refusal(&self, arguments: &[&str]) -> String {
        let ran = self.eval(arguments);
        assert_eq!(ran.code(), 2, "{}", ran.stderr());
        assert!(!self.path("reports").exists(), "a run that could not evaluate leaves no report");
        let folder = self.folder.path().canonicalize().unwrap().display().to_string();
        let text = ran.stderr().replace(&folder, "DEMO");
        let errors: Vec<&str> = text.lines().filter(|line| !line.starts_with("note: ")).collect();
        assert_eq!(errors.len(), 1, "one sentence, not {errors:?}");
        errors[0].to_owned()
    }
}

pub(crate) struct Ran(Output);

impl Ran {
    pub(crate) fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
