//! A proxy between detgate and a real server that goes wrong at a chosen request, and what must
//! hold then: one version or none, and a run that is marked as failed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use detgate::registry::{Event, RegistryError, publish};

use crate::mlflow::mlflow_python;
use crate::support::{RunningServer, passed, publication, running_server, settings};

/// What happens to one request.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    None,
    /// The client gets this answer; the server gets nothing.
    Answer(&'static str),
    /// The server does what it is asked; the client gets no answer.
    LoseAnswer,
    /// The server gets nothing, the client gets no answer.
    LoseRequest,
    /// The server is asked under this host name.
    Host(&'static str),
}

/// Listens on a new port for a server; `rule` sees each request's first line.
pub(crate) fn proxy(server: &str, rule: impl Fn(&str) -> Fault + Send + Sync + 'static) -> String {
    let target = server.trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let rule = Arc::new(rule);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (target, rule) = (target.clone(), Arc::clone(&rule));
            // A broken connection is what this is for.
            std::thread::spawn(move || drop(handle(client, &target, &*rule)));
        }
    });
    address
}

/// A server that has one answer to everything.
pub(crate) fn answering(answer: &'static str) -> String {
    proxy("", move |_| Fault::Answer(answer))
}

/// One request per connection, so that the rule sees every request.
fn handle(
    mut client: TcpStream,
    target: &str,
    rule: &dyn Fn(&str) -> Fault,
) -> std::io::Result<()> {
    let (head, rest) = read_head(&mut client)?;
    let fault = rule(head.lines().next().unwrap_or(""));
    let mut head = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    match fault {
        Fault::Answer(answer) => return client.write_all(answer.as_bytes()),
        Fault::LoseRequest => return Ok(()),
        Fault::Host(name) => {
            let lines = head.split("\r\n").map(|line| {
                if line.to_ascii_lowercase().starts_with("host:") {
                    format!("host: {name}")
                } else {
                    line.to_owned()
                }
            });
            head = lines.collect::<Vec<_>>().join("\r\n");
        }
        Fault::None | Fault::LoseAnswer => {}
    }
    let mut server = TcpStream::connect(target)?;
    server.write_all(head.as_bytes())?;
    server.write_all(&rest)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || drop(std::io::copy(&mut from_client, &mut to_server)));
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    if !matches!(fault, Fault::LoseAnswer) {
        client.write_all(&answer)?;
    }
    client.shutdown(std::net::Shutdown::Both)
}

/// The request's head with its empty line, and what was read of its body.
fn read_head(client: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = client.read(&mut buffer)?;
        bytes.extend(&buffer[..count]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Publishes through a proxy; `name` is the experiment's and the model's.
fn publish_through(
    server: &RunningServer,
    name: &str,
    rule: impl Fn(&str) -> Fault + Send + Sync + 'static,
) -> Result<detgate::registry::Registered, RegistryError> {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&proxy(&server.address, rule), folder.path(), "python3".as_ref());
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
