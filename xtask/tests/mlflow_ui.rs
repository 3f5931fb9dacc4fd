//! `cargo xtask mlflow-ui`: it serves until it is stopped, and leaves nothing running.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn the_pages_are_served_until_it_is_killed_and_no_longer() {
    if std::env::var_os("DETGATE_MLFLOW_PYTHON").is_none() {
        // Not eprintln!, which the test harness swallows when a test passes.
        let note = b"skipped: mlflow-ui needs the MLflow environment, which DETGATE_MLFLOW_PYTHON tells of\n";
        let _ = std::io::stderr().write_all(note);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("mlflow.db");
    std::fs::write(&database, "").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("mlflow-ui").arg("--database").arg(&database).args(["--port", &port.to_string()]);
    // A file, not a pipe, which would break under the server when this stops reading.
    let log = folder.path().join("log");
    let stderr = std::fs::File::create(&log).unwrap();
    let mut ui = command
        .stdin(Stdio::null())
        .stdout(stderr.try_clone().unwrap())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(&log).unwrap();
    let wanted = format!("{} at http://127.0.0.1:{port} (Ctrl-C ends it)", database.display());
    while !said().contains(&wanted) {
        assert!(ui.try_wait().unwrap().is_none(), "{}", said());
        std::thread::sleep(Duration::from_millis(100));
    }

    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        let page = get(port, "/").unwrap();
        assert!(page.starts_with("HTTP/1.1 200") && page.contains("<!doctype html>"), "{page}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let answer = get(port, "/ajax-api/2.0/mlflow/experiments/search?max_results=5").unwrap();
    assert!(answer.contains("\"Default\""), "{answer}");

    ui.kill().unwrap();
    ui.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while get(port, "/").is_ok() {
        assert!(Instant::now() < deadline, "the server outlived xtask");
        std::thread::sleep(Duration::from_millis(100));
    }
}
