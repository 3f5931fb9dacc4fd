//! A checkpoint of 2 GB passes through without being held.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use detgate::registry::{Artifact, publish};
use serde_json::json;

use crate::mlflow::mlflow_python;
use crate::proxy::finish_request;
use crate::sqlite::peak_memory_kib;
use crate::support::{passed_with, publication, running_server, settings};

const LENGTH: u64 = 2 << 30;

/// Relays to a real server, except that uploads are counted and thrown away, and listed with their size:
/// no test should write gigabytes.
fn swallowing(server: &str) -> String {
    let target = server.trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let target = target.clone();
            std::thread::spawn(move || drop(handle(client, &target)));
        }
    });
    address
}

fn handle(mut client: TcpStream, target: &str) -> std::io::Result<()> {
    // Byte by byte, so that nothing of the body is read.
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: u64 = length.map_or(0, |length| length.parse().unwrap());
    let mut body = (&client).take(length);
    let answer = if head.starts_with("PUT ") {
        let count = std::io::copy(&mut body, &mut std::io::sink())?;
        assert_eq!(count, length);
        answer_of("")
    } else if head.contains("artifacts/list") {
        let file = json!({ "path": "model_ckpt/huge.pt", "is_dir": false, "file_size": LENGTH });
        answer_of(&json!({ "root_uri": "mlflow-artifacts:/", "files": [file] }).to_string())
    } else {
        let mut server = TcpStream::connect(target)?;
        server.write_all(finish_request(&head).as_bytes())?;
        std::io::copy(&mut body, &mut server)?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        answer
    };
    client.write_all(&answer)
}

fn answer_of(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}").into()
}

#[test]
fn a_checkpoint_of_two_gigabytes_is_never_held() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let address = swallowing(&running_server(&python).address);
    let folder = tempfile::tempdir().unwrap();
    let huge = folder.path().join("huge.pt");
    let file = std::fs::File::create(&huge).unwrap();
    file.set_len(LENGTH).unwrap();
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(&huge).unwrap()).unwrap();
    let passed = passed_with(&hasher.finalize().to_hex());
    let mut publication = publication(folder.path(), "huge", "huge");
    publication.artifacts = vec![Artifact::file("model_ckpt", &huge)];
    let before = peak_memory_kib();

    let registered =
        publish(&passed, &publication, &settings(&address, folder.path(), &python)).unwrap();

    // Other tests run beside this one.
    let grown = peak_memory_kib() - before;
    assert!(grown < 96 * 1024, "{grown} KiB");
    assert_eq!(registered.version, "1");
}
