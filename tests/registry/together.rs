//! Publications that run at the same time, and the same published again.

use std::path::Path;
use std::sync::Barrier;

use detgate::registry::{Registered, RegistryError, RegistrySettings, publish};

use crate::mlflow::mlflow_python;
use crate::proxy::{Fault, Proxy};
use crate::support::{
    mlflow_pythons, passed, publication, running_server, runs_and_versions, settings,
};

const JOBS: usize = 3;

/// What several jobs get that register the same checkpoint as `model` at the same moment.
pub(crate) fn at_once(
    model: &str,
    settings: impl Fn(&Path) -> RegistrySettings + Sync,
) -> Vec<Result<Registered, RegistryError>> {
    let start = Barrier::new(JOBS);
    std::thread::scope(|scope| {
        let job = || {
            let folder = tempfile::tempdir().unwrap();
            let publication = publication(folder.path(), model, model);
            let settings = settings(folder.path());
            start.wait();
            publish(&passed(), &publication, &settings)
        };
        let jobs: Vec<_> = (0..JOBS).map(|_| scope.spawn(job)).collect();
        jobs.into_iter().map(|job| job.join().unwrap()).collect()
    })
}

/// All end well, with the same version, which one of them made.
pub(crate) fn assert_all_end_well(results: Vec<Result<Registered, RegistryError>>) {
    let registered: Vec<_> = results
        .into_iter()
        .map(|result| result.unwrap_or_else(|error| panic!("{error}")))
        .collect();
    let made = registered.iter().filter(|registered| registered.is_new).count();
    assert_eq!(made, 1, "{registered:#?}");
    assert!(
        registered.iter().all(|other| other.version == registered[0].version),
        "{registered:#?}"
    );
}

#[test]
fn jobs_that_register_the_same_at_once_on_one_server_make_one_version() {
    for python in mlflow_pythons() {
        let server = running_server(&python);
        for model in ["together", "together again"] {
            assert_all_end_well(at_once(model, |folder| {
                settings(&server.address, folder, &python)
            }));
            assert_eq!(server.versions(model).len(), 1);
        }
        let force = |folder: &Path| RegistrySettings {
            force: true,
            ..settings(&server.address, folder, &python)
        };
        at_once("forced", force).into_iter().for_each(|result| assert!(result.unwrap().is_new));
        assert_eq!(server.versions("forced").len(), JOBS, "forced versions are all kept");
    }
}

#[test]
fn jobs_that_register_at_once_in_one_new_file_make_one_version() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    assert_all_end_well(at_once("one", |_| settings("sqlite:///mlflow.db", root.path(), &python)));
    let (runs, versions) = runs_and_versions(&python, &root.path().join("mlflow.db"));
    assert_eq!(versions, 1);
    assert!(runs.iter().all(|(status, _)| status == "FINISHED"), "{runs:?}");
}

/// A training run that goes on writes its next best checkpoint into the same file, which keeps its size.
#[test]
fn a_checkpoint_that_changes_on_its_way_is_not_registered() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let server = running_server(&python);
    let folder = tempfile::tempdir().unwrap();
    let publication = publication(folder.path(), "swapped", "swapped");
    let checkpoint = folder.path().join("best_model.pt");
    let length = std::fs::metadata(&checkpoint).unwrap().len() as usize;
    let proxy = Proxy::new(&server.address, move |line| {
        if line.contains("runs/create") {
            std::fs::write(&checkpoint, vec![0; length]).unwrap();
        }
        Fault::None
    });
    let settings = settings(&proxy.address, folder.path(), &python);
    let error = publish(&passed(), &publication, &settings).unwrap_err().to_string();
    assert!(error.contains("was replaced after the evaluation"), "{error}");
    assert!(server.versions("swapped").is_empty());
    assert_eq!(server.runs("swapped")[0].0, "FAILED");
}

#[test]
fn the_same_results_of_the_same_checkpoint_are_recognised() {
    for python in mlflow_pythons() {
        let server = running_server(&python);
        let folder = tempfile::tempdir().unwrap();
        // Quotes, which MLflow's filters have trouble with.
        let model = r#"Ann's "best" détecteur"#;
        let publish_it = |force: bool| {
            let mut settings = settings(&server.address, folder.path(), &python);
            settings.force = force;
            publish(&passed(), &publication(folder.path(), "twice", model), &settings).unwrap()
        };
        let first = publish_it(false);
        let second = publish_it(false);
        assert!(first.is_new && !second.is_new);
        assert_eq!(second, Registered { is_new: false, aliases: Vec::new(), ..first.clone() });
        assert_eq!(server.runs("twice").len(), 1, "the second wrote something");
        // Whatever ended the first before it gave the version its alias: the second does.
        let alias = &first.aliases[0].alias;
        let of_model = serde_json::json!({ "name": model, "alias": alias });
        server.delete("registered-models/alias", &of_model);
        let named = publish_it(false);
        assert_eq!((named.is_new, &named.aliases), (false, &first.aliases));
        assert_eq!(publish_it(false).aliases, []);

        let forced = publish_it(true);
        assert_eq!((forced.version.as_str(), forced.is_new), ("2", true));

        // A version whose run somebody deleted is nothing to rely on.
        for run in [&first.run_id, &forced.run_id] {
            server.post("runs/delete", &serde_json::json!({ "run_id": run }));
        }
        let third = publish_it(false);
        assert_eq!((third.version.as_str(), third.is_new), ("3", true));
    }
}
