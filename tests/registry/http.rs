//! `http://...`: a server that runs already.

use detgate::registry::{Artifact, Credentials, RegistryError, publish};
use serde_json::json;

use crate::mlflow::mlflow_python;
use crate::proxy::{Fault, Proxy, answering};
use crate::support::{
    ADMIN_PASSWORD, CHECKPOINT, RunningServer, mlflow_pythons, passed, publication, running_server,
    settings, start, version_seen_by_python,
};

#[test]
fn everything_goes_through_the_server_under_awkward_names_too() {
    for python in mlflow_pythons() {
        everything_goes_through(running_server(&python), &python);
    }
}

fn everything_goes_through(server: &RunningServer, python: &std::path::Path) {
    let folder = tempfile::tempdir().unwrap();
    let model = "детектор & co 50% #1";
    let mut publication = publication(folder.path(), "a/b c?d&e=f+g ü", model);
    publication.artifacts.push(Artifact::bytes("plots/AP & co", "per class=1+1?: ü.txt", "plot"));
    publication.metrics.extend((0..2100).map(|i| (format!("AP/class {i}"), f64::from(i) / 8.0)));
    publication.params.extend((0..230).map(|i| (format!("param {i}"), "ü".repeat(5000))));

    let registered =
        publish(&passed(), &publication, &settings(&server.address, folder.path(), python))
            .unwrap();

    assert!(
        registered.artifact_uri.starts_with("mlflow-artifacts:"),
        "{}",
        registered.artifact_uri
    );
    let seen = version_seen_by_python(python, &server.address, model, &registered.version);
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

    let login = answering("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<html>Log in</html>");
    let text = error(&login.address).to_string();
    assert!(text.contains("login page") && text.contains(&login.address), "{text}");
}

#[test]
fn no_secret_is_ever_repeated() {
    let (user, password) = ("ann", "hunter2/?&");
    let encoded = "YW5uOmh1bnRlcjIvPyY=";
    let proxy = Proxy::new("", |_| Fault::Echo);
    let broken = Proxy::new("", |_| Fault::Stall(std::time::Duration::ZERO));
    let folder = tempfile::tempdir().unwrap();
    let said = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    for address in [&proxy.address, &broken.address] {
        let inside = address.replace("http://", "http://ann:hunter2%2F%3F%26@");
        for credentials in [
            Credentials::choose(Some(user), Some(password), None),
            Credentials::choose(None, None, Some("hunter2token")),
            // Those of the URI.
            None,
        ] {
            let mut settings = settings(&inside, folder.path(), "python3".as_ref());
            settings.retries.max = 1;
            settings.credentials = credentials;
            let heard = std::sync::Arc::clone(&said);
            settings.on_event = std::sync::Arc::new(move |event| {
                heard.lock().unwrap().push_str(&format!("{event:?}\n"));
            });
            let publication = publication(folder.path(), "e", "m");
            let error = publish(&passed(), &publication, &settings).unwrap_err();
            let uri = &settings.tracking_uri;
            let all = format!("{error} {error:?} {:?} {uri:?}\n", settings.credentials);
            said.lock().unwrap().push_str(&all);
        }
    }
    let said = said.lock().unwrap();
    assert!(said.contains("authorization: Basic ***"), "nothing was repeated at all: {said}");
    assert!(said.contains("authorization: Bearer ***") && said.contains("Retrying"), "{said}");
    for secret in ["hunter2", encoded] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[test]
fn a_server_that_does_not_answer_is_given_up_after_the_time_that_was_set() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let server = running_server(&python);
    let folder = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    // The first request hangs; so does every one that creates a version.
    let proxy = Proxy::new(&server.address, move |line| {
        let is_first = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        match is_first || line.contains("model-versions/create") {
            true => Fault::Stall(std::time::Duration::from_secs(30)),
            false => Fault::None,
        }
    });
    let mut settings = settings(&proxy.address, folder.path(), &python);
    settings.timeouts.request = std::time::Duration::from_secs(3);
    settings.retries.max = 1;
    let begin = std::time::Instant::now();
    let publication = publication(folder.path(), "stalled", "stalled");
    let error = publish(&passed(), &publication, &settings).unwrap_err().to_string();
    assert!(error.contains("MLFLOW_HTTP_REQUEST_TIMEOUT"), "{error}");
    assert!(begin.elapsed() < std::time::Duration::from_secs(25), "{:?}", begin.elapsed());
    assert_eq!(server.runs("stalled"), [("FAILED".to_owned(), error)]);
    assert!(server.versions("stalled").is_empty());
}

#[test]
fn an_experiment_can_be_named_by_its_id() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let server = running_server(&python);
    let folder = tempfile::tempdir().unwrap();
    let created = server.post("experiments/create", &json!({ "name": "by id" }));
    let id = created["experiment_id"].as_str().unwrap();
    let with = |id: &str, name: Option<&str>| {
        let mut settings = settings(&server.address, folder.path(), &python);
        let (id, name) = (id.to_owned(), name.map(str::to_owned));
        settings.experiment_id = Some(detgate::config::ExperimentId { id, name });
        settings.force = true;
        publish(&passed(), &publication(folder.path(), "not used", "by_id"), &settings)
    };
    assert_eq!(with(id, None).unwrap().experiment_id, id);
    assert_eq!(with(id, Some("by id")).unwrap().experiment_id, id);
    let other = with(id, Some("other")).unwrap_err().to_string();
    assert!(other.contains("\"by id\"") && other.contains("\"other\""), "{other}");
    let missing = with("987654", None).unwrap_err().to_string();
    assert!(missing.contains("MLFLOW_EXPERIMENT_ID is 987654"), "{missing}");
}

#[test]
fn a_server_with_accounts_says_which_variables_to_set_and_takes_the_right_ones() {
    for python in mlflow_pythons() {
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
}

#[test]
fn a_host_name_that_the_server_does_not_know_is_explained() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let server = start(&python, &["--allowed-hosts", "mlflow.example"]);
    let folder = tempfile::tempdir().unwrap();
    let publication = publication(folder.path(), "hosts", "hosts");
    let at = |address: &str| {
        publish(&passed(), &publication, &settings(address, folder.path(), &python))
    };
    let unknown = at(&server.address).unwrap_err().to_string();
    assert!(unknown.contains("--allowed-hosts"), "{unknown}");
    let known = Proxy::new(&server.address, |_| Fault::Host("mlflow.example"));
    assert_eq!(at(&known.address).unwrap().version, "1");
}
