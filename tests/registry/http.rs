//! `http://...`: a server that runs already.

use detgate::registry::{Artifact, Credentials, RegistryError, publish};
use serde_json::json;

use crate::faults::{Fault, proxy};
use crate::mlflow::mlflow_python;
use crate::support::{
    ADMIN_PASSWORD, CHECKPOINT, passed, publication, running_server, settings, start,
    version_seen_by_python,
};

#[test]
fn everything_goes_through_the_server_under_awkward_names_too() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let server = running_server(&python);
    let folder = tempfile::tempdir().unwrap();
    let model = "детектор & co 50% #1";
    let mut publication = publication(folder.path(), "a/b c?d&e=f+g ü", model);
    publication.artifacts.push(Artifact::bytes("plots/AP & co", "per class=1+1?: ü.txt", "plot"));
    publication.metrics.extend((0..2100).map(|i| (format!("AP/class {i}"), f64::from(i) / 8.0)));
    publication.params.extend((0..230).map(|i| (format!("param {i}"), "ü".repeat(5000))));

    let registered =
        publish(&passed(), &publication, &settings(&server.address, folder.path(), &python))
            .unwrap();

    assert!(
        registered.artifact_uri.starts_with("mlflow-artifacts:"),
        "{}",
        registered.artifact_uri
    );
    let seen = version_seen_by_python(&python, &server.address, model, &registered.version);
    assert_eq!(seen["files"], json!({ "best_model.pt": String::from_utf8_lossy(CHECKPOINT) }));
    assert_eq!(seen["experiment"], "a/b c?d&e=f+g ü");
    assert_eq!(seen["params"], json!(publication.params));
    assert_eq!(seen["metrics"], json!(publication.metrics));
    let artifacts = [
        "model_ckpt/best_model.pt",
        "plots/AP & co/per class=1+1?: ü.txt",
        "reports/eval/a report ü.json",
    ];
    assert_eq!(seen["artifacts"], json!(artifacts));
}

#[test]
fn an_experiment_in_mlflows_trash_is_named_with_the_way_out() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let server = running_server(&python);
    let folder = tempfile::tempdir().unwrap();
    let created = server.post("experiments/create", &json!({ "name": "trashed" }));
    server.post("experiments/delete", &json!({ "experiment_id": created["experiment_id"] }));

    let publication = publication(folder.path(), "trashed", "trashed_model");
    let error =
        publish(&passed(), &publication, &settings(&server.address, folder.path(), &python))
            .unwrap_err();

    let id = created["experiment_id"].as_str().unwrap();
    let wanted = format!("mlflow experiments restore --experiment-id {id}");
    assert!(
        error.to_string().contains("\"trashed\" is deleted") && error.to_string().contains(&wanted),
        "{error}"
    );
    assert!(server.versions("trashed_model").is_empty());
}

#[test]
fn a_server_that_is_not_there_or_not_mlflow_is_said_with_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let publication = publication(folder.path(), "e", "m");
    let error = |uri: &str| {
        publish(&passed(), &publication, &settings(uri, folder.path(), "python3".as_ref()))
            .unwrap_err()
    };

    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = error(&format!("http://ann:hunter2@{free}/"));
    let text = nobody.to_string();
    assert!(matches!(nobody, RegistryError::Unreachable { .. }), "{text}");
    assert!(
        text.contains(&free.to_string()) && text.to_lowercase().contains("connection refused"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");

    let login = crate::faults::answering(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<html>Log in</html>",
    );
    let text = error(&login).to_string();
    assert!(text.contains("login page") && text.contains(&login), "{text}");
}

#[test]
fn a_server_with_accounts_says_which_variables_to_set_and_takes_the_right_ones() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let server = start(&python, &["--app-name", "basic-auth"]);
    let folder = tempfile::tempdir().unwrap();
    let publication = publication(folder.path(), "accounts", "accounts");
    let with = |password: Option<&str>| {
        let mut settings = settings(&server.address, folder.path(), &python);
        settings.credentials = Credentials::choose(Some("admin"), password, None);
        publish(&passed(), &publication, &settings)
    };

    let anonymous = with(None).unwrap_err().to_string();
    assert!(
        anonymous.contains("401") && anonymous.contains("set MLFLOW_TRACKING_USERNAME"),
        "{anonymous}"
    );
    let wrong = with(Some("hunter2-wrong")).unwrap_err().to_string();
    assert!(
        wrong.contains("check MLFLOW_TRACKING_USERNAME") && !wrong.contains("hunter2"),
        "{wrong}"
    );
    assert_eq!(with(Some(ADMIN_PASSWORD)).unwrap().version, "1");
}

#[test]
fn a_host_name_that_the_server_does_not_know_is_explained() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let server = running_server(&python);
    let folder = tempfile::tempdir().unwrap();
    let address = proxy(&server.address, |_| Fault::Host("mlflow.example"));
    let publication = publication(folder.path(), "hosts", "hosts");
    let error =
        publish(&passed(), &publication, &settings(&address, folder.path(), &python)).unwrap_err();
    assert!(error.to_string().contains("--allowed-hosts"), "{error}");
}
