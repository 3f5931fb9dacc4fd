//! A checkpoint of 2 GB passes through without being held, in one request or in parts.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use detgate::registry::{Artifact, publish};
use serde_json::{Value, json};

use crate::mlflow::mlflow_python;
use crate::proxy::finish_request;
use crate::sqlite::peak_memory_kib;
use crate::support::{passed_with, publication, running_server, settings};

const LENGTH: u64 = 2 << 30;

/// Relays to a real server, except that uploads are counted and thrown away, and listed with their size:
/// no test should write gigabytes.
struct Swallowing {
    /// The real server.
    target: String,
    address: String,
    /// Whether it offers to take files in parts, which it takes itself.
    offers_parts: bool,
    swallowed: AtomicU64,
}

impl Swallowing {
    fn start(server: &str, offers_parts: bool) -> Arc<Self> {
        let target = server.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Arc::new(Self { target, address, offers_parts, swallowed: AtomicU64::new(0) });
        let shared = Arc::clone(&server);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || drop(shared.handle(client)));
            }
        });
        server
    }

    /// MLflow's answer to a request about parts.
    fn parts(&self, head: &str, body: &[u8]) -> Option<Vec<u8>> {
        if head.contains("server-info") {
            let info = json!({ "multipart_uploads_enabled": self.offers_parts });
            return Some(answer_of(&info.to_string()));
        }
        if head.contains("mpu/complete") {
            return Some(answer_of("{}"));
        }
        let body: Value =
            serde_json::from_slice(body).ok().filter(|_| head.contains("mpu/create"))?;
        let url = |number| format!("{}/part?number={number}", self.address);
        let part = |number| json!({ "url": url(number), "part_number": number, "headers": {} });
        let parts: Value = (1..=body["num_parts"].as_u64()?).map(part).collect();
        Some(answer_of(&json!({ "upload_id": "1", "credentials": parts }).to_string()))
    }

    fn handle(&self, mut client: TcpStream) -> std::io::Result<()> {
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
            self.swallowed.fetch_add(count, Ordering::Relaxed);
            answer_of("")
        } else if head.contains("artifacts/list") {
            let file =
                json!({ "path": "model_ckpt/huge.pt", "is_dir": false, "file_size": LENGTH });
            answer_of(&json!({ "root_uri": "mlflow-artifacts:/", "files": [file] }).to_string())
        } else {
            let mut bytes = Vec::new();
            body.read_to_end(&mut bytes)?;
            self.parts(&head, &bytes).map_or_else(|| self.relayed(&head, &bytes), Ok)?
        };
        client.write_all(&answer)
    }

    fn relayed(&self, head: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut server = TcpStream::connect(&self.target)?;
        server.write_all(finish_request(head).as_bytes())?;
        server.write_all(body)?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        Ok(answer)
    }
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
    let folder = tempfile::tempdir().unwrap();
    let huge = folder.path().join("huge.pt");
    let file = std::fs::File::create(&huge).unwrap();
    file.set_len(LENGTH).unwrap();
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(&huge).unwrap()).unwrap();
    let passed = passed_with(&hasher.finalize().to_hex());
    for (name, offers_parts) in [("huge", false), ("huge in parts", true)] {
        let server = Swallowing::start(&running_server(&python).address, offers_parts);
        let mut publication = publication(folder.path(), name, name);
        publication.artifacts = vec![Artifact::file("model_ckpt", &huge)];
        let before = peak_memory_kib();

        let settings = settings(&server.address, folder.path(), &python);
        let registered = publish(&passed, &publication, &settings).unwrap();

        // Other tests run beside this one.
        let grown = peak_memory_kib() - before;
        assert!(grown < 96 * 1024, "{name}: {grown} KiB");
        assert_eq!(registered.version, "1");
        assert_eq!(server.swallowed.load(Ordering::Relaxed), LENGTH);
    }
}
