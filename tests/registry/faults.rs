//! Requests that go wrong for good, and a user who stops a publication: a failed run and no version.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use detgate::registry::{Event, RegistryError, publish};

use crate::mlflow::mlflow_python;
use crate::proxy::{Fault, Proxy};
use crate::support::{RunningServer, passed, publication, running_server, settings};

/// Publishes through a proxy; `name` is the experiment's and the model's.
fn publish_through(
    server: &RunningServer,
    name: &str,
    rule: impl Fn(&str) -> Fault + Send + Sync + 'static,
) -> Result<detgate::registry::Registered, RegistryError> {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::new(&server.address, rule);
    let settings = settings(&proxy.address, folder.path(), "python3".as_ref());
    publish(&passed(), &publication(folder.path(), name, name), &settings)
}

#[test]
fn a_failing_upload_leaves_a_failed_run_and_no_version() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let server = running_server(&python);
    const FULL: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/html\r\n\r\n\
                        <html><head><title>500</title></head><body><h1>Oops</h1><p>No space left</p></body></html>";
    let rule = |line: &str| {
        if line.starts_with("PUT") && line.contains("reports") {
            Fault::Answer(FULL)
        } else {
            Fault::None
        }
    };

    let error = publish_through(server, "failing upload", rule).unwrap_err();

    let text = error.to_string();
    assert!(text.contains("500: Oops No space left") && text.contains("a%20report"), "{text}");
    let runs = server.runs("failing upload");
    assert_eq!(runs, [("FAILED".to_owned(), text)]);
    assert!(server.versions("failing upload").is_empty());
}

#[test]
fn an_upload_that_the_server_never_got_is_found_out_by_listing() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let server = running_server(&python);
    let rule = |line: &str| {
        if line.starts_with("PUT") {
            Fault::Answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        } else {
            Fault::None
        }
    };

    let error = publish_through(server, "vanished upload", rule).unwrap_err();

    assert!(error.to_string().contains("model_ckpt/best_model.pt is missing"), "{error}");
    assert_eq!(server.runs("vanished upload")[0].0, "FAILED");
    assert!(server.versions("vanished upload").is_empty());
}

#[test]
fn a_lost_answer_never_makes_two_versions_and_a_lost_request_never_none() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let server = running_server(&python);
    for (name, fault) in [("lost answer", Fault::LoseAnswer), ("lost request", Fault::LoseRequest)]
    {
        let count = AtomicU32::new(0);
        let rule = move |line: &str| {
            let first = line.contains("model-versions/create")
                && count.fetch_add(1, Ordering::Relaxed) == 0;
            if first { fault } else { Fault::None }
        };
        let registered = publish_through(server, name, rule).unwrap();
        assert_eq!(registered.version, "1", "{name}");
        assert_eq!(server.versions(name), ["1"], "{name}");
        assert_eq!(server.runs(name), [("FINISHED".to_owned(), String::new())], "{name}");
    }
}

#[test]
fn a_version_that_the_server_refuses_leaves_a_failed_run() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let server = running_server(&python);
    const DENIED: &str =
        "HTTP/1.1 403 FORBIDDEN\r\ncontent-type: text/html\r\n\r\n<h1>Permission denied</h1>";
    let rule = |line: &str| {
        if line.contains("model-versions/create") { Fault::Answer(DENIED) } else { Fault::None }
    };

    let error = publish_through(server, "refused version", rule).unwrap_err();

    assert!(error.to_string().contains("403: Permission denied; the account of"), "{error}");
    assert_eq!(server.runs("refused version")[0].0, "FAILED");
    assert!(server.versions("refused version").is_empty());
}

#[test]
fn an_interruption_in_the_middle_of_an_upload_leaves_a_failed_run_and_no_version() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let server = running_server(&python);
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(&server.address, folder.path(), &python);
    let interrupted = Arc::clone(&settings.interrupted);
    settings.on_event = Arc::new(move |event| {
        if let Event::Uploading { sent, total, .. } = event {
            assert!(sent < total, "the upload went on after it was interrupted");
            interrupted.store(true, Ordering::Relaxed);
        }
    });
    let mut publication = publication(folder.path(), "interrupted", "interrupted");
    let large = folder.path().join("large.bin");
    std::fs::File::create(&large).unwrap().set_len(64 << 20).unwrap();
    publication.artifacts.insert(0, detgate::registry::Artifact::file("large", large));

    let error = publish(&passed(), &publication, &settings).unwrap_err();

    assert!(matches!(error, RegistryError::Interrupted), "{error}");
    assert_eq!(server.runs("interrupted"), [("FAILED".to_owned(), error.to_string())]);
    assert!(server.versions("interrupted").is_empty());
}
