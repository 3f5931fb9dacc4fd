//! Large files go in parts to the object store behind the server, whole or not at all, and what the
//! server signed for that stays a secret.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use detgate::registry::{
    Artifact, Credentials, Event, Registered, RegistryError, RegistrySettings, publish,
};

use crate::common::{Demo, fixtures};
use crate::mlflow::mlflow_python;
use crate::proxy::{Fault, Proxy, answering};
use crate::random::Random;
use crate::s3::{S3, SECRET_KEY, s3};
use crate::support::{mlflow_pythons, passed, publication, running_server, settings};

const PART: usize = 300_000;
/// Two parts and some more.
const LENGTH: usize = 2 * PART + 77_777;
const TOKEN: &str = "s3cr3t token for MLflow";

/// S3's answer, which repeats what nobody else should see.
const BUSY: &str = "HTTP/1.1 500 Internal Server Error\r\nretry-after: 0\r\n\r\n<Error><Code>InternalError</Code>\
                    <Message>We encountered an internal error.</Message><AWSAccessKeyId>AKIADETGATETEST\
                    </AWSAccessKeyId></Error>";

/// A publication of a large file; `name` is the experiment's, the model's and the file's.
struct Large {
    folder: tempfile::TempDir,
    name: &'static str,
    bytes: Vec<u8>,
    settings: RegistrySettings,
    /// All that a user may be told.
    said: Arc<Mutex<String>>,
}

impl Large {
    fn new(address: &str, name: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut random = Random::seeded(7);
        let bytes: Vec<u8> = (0..LENGTH).map(|_| random.next() as u8).collect();
        std::fs::write(folder.path().join(name), &bytes).unwrap();
        let mut settings = settings(address, folder.path(), Path::new("python3"));
        settings.credentials = Some(Credentials::Token(TOKEN.to_owned()));
        settings.multipart.minimum = LENGTH as u64;
        settings.multipart.part = PART as u64;
        let said = Arc::<Mutex<String>>::default();
        let told = Arc::clone(&said);
        settings.on_event = Arc::new(move |event| {
            if let Event::Retrying { error, .. } = event {
                told.lock().unwrap().push_str(&format!("{error} {error:?}\n"));
            }
        });
        Self { folder, name, bytes, settings, said }
    }

    /// Through the server that keeps its files in S3.
    fn in_s3(s3: &S3, name: &'static str) -> Self {
        Self::new(&s3.mlflow.address, name)
    }

    fn publish(&self) -> Result<Registered, RegistryError> {
        let mut publication = publication(self.folder.path(), self.name, self.name);
        let file = self.folder.path().join(self.name);
        publication.artifacts.push(Artifact::file("weights", file));
        let result = publish(&passed(), &publication, &self.settings);
        if let Err(error) = &result {
            self.said.lock().unwrap().push_str(&format!("{error} {error:?}"));
        }
        result
    }

    /// The file is in S3 to the last byte. Returns the ETag, which tells of how many parts it was made.
    fn assert_in_s3(&self, s3: &S3, registered: &Registered) -> String {
        let root = registered.artifact_uri.strip_prefix("mlflow-artifacts:/").unwrap();
        let (bytes, etag) = s3.object(&format!("{root}/weights/{}", self.name));
        assert!(bytes == self.bytes, "{} is not what was sent", self.name);
        assert_eq!(s3.mlflow.versions(self.name), ["1"]);
        assert!(!s3.has_upload(self.name), "parts are left behind");
        etag.trim_matches('"').to_owned()
    }

    /// A run that says why, no version, and nothing in the store.
    fn assert_failed(&self, s3: &S3) {
        let runs = s3.mlflow.runs(self.name);
        assert_eq!((runs.len(), runs[0].0.as_str()), (1, "FAILED"));
        self.said.lock().unwrap().push_str(&runs[0].1);
        assert!(s3.mlflow.versions(self.name).is_empty());
        assert!(!s3.has_upload(self.name), "parts are left behind");
    }

    fn assert_secrets_kept(&self, s3: &S3) {
        assert_no_secret(s3, self.name, &self.said.lock().unwrap());
    }
}

/// `said` holds neither keys nor the signature of any URL that parts of `file` were sent to; and the store
/// was not told who MLflow's server takes us for.
fn assert_no_secret(s3: &S3, file: &str, said: &str) {
    let heads = s3.heads(file);
    let parts: Vec<&String> = heads.iter().filter(|head| is_part(head)).collect();
    assert!(parts.len() >= 2, "{heads:#?}");
    for head in parts {
        let line = head.lines().next().unwrap();
        let query = line.split(' ').nth(1).unwrap().split_once('?').unwrap().1;
        let signature = query.split('&').find(|pair| pair.contains("ignature=")).unwrap();
        let signature = signature.split_once('=').unwrap().1;
        assert!(signature.len() > 20 && !said.contains(signature), "{said}");
        let lower = head.to_ascii_lowercase();
        assert!(!lower.contains("\r\nauthorization:") && !head.contains(TOKEN), "{head}");
    }
    for secret in [SECRET_KEY, TOKEN, "AKIA", "ignature="] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
}

/// The variables that MLflow users set decide, and what the program says keeps all secrets.
#[test]
fn the_program_uploads_in_parts_as_the_variables_say_and_tells_no_secret() {
    let Some(s3) = s3() else { return };
    let demo = Demo::whole();
    let checkpoint = "models/local_checkpoints/best_demo.pt";
    let bytes = std::fs::read(demo.path(checkpoint)).unwrap();
    let count = AtomicU32::new(0);
    s3.rule("best_demo.pt", move |line| {
        let is_first = is_part_2(line) && count.fetch_add(1, Ordering::Relaxed) == 0;
        if is_first { Fault::Answer(BUSY) } else { Fault::None }
    });
    let detections = fixtures().join("demo/reference/torchvision_detections.json.gz");
    let arguments = ["eval", "--detections", detections.to_str().unwrap()];
    let mut command = demo.command(&[&arguments[..], &["--checkpoint", checkpoint]].concat());
    command.envs([
        ("MLFLOW_TRACKING_URI", s3.mlflow.address.as_str()),
        ("MLFLOW_TRACKING_TOKEN", TOKEN),
        ("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "5000000"),
        ("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", "2000000"),
    ]);

    let output = command.output().unwrap();

    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    let said = said.concat();
    assert!(said.contains("registered detgate_demo version 1"), "{said}");
    assert!(said.contains("answered 500: InternalError"), "{said}");
    assert_no_secret(s3, "best_demo.pt", &said);
    let run = said.split_once("(run ").unwrap().1.split_once(')').unwrap().0;
    let run = s3.mlflow.get("runs/get", &[("run_id", run)]);
    let root = run["run"]["info"]["artifact_uri"].as_str().unwrap();
    let root = root.strip_prefix("mlflow-artifacts:/").unwrap();
    let (stored, etag) = s3.object(&format!("{root}/model_ckpt/best_demo.pt"));
    assert!(stored == bytes && etag.ends_with("-3\""), "{etag} of {} bytes", stored.len());
}

/// Whether a request, by its first line, sends a part to the store.
fn is_part(line: &str) -> bool {
    line.starts_with("PUT") && line.contains("partNumber=")
}

fn is_part_2(line: &str) -> bool {
    is_part(line) && line.contains("partNumber=2")
}

#[test]
fn a_large_file_arrives_in_parts_and_small_ones_do_not() {
    let Some(s3) = s3() else { return };
    let mut large = Large::in_s3(s3, "in_parts.bin");
    let progress = Arc::<Mutex<Vec<u64>>>::default();
    let told = Arc::clone(&progress);
    large.settings.on_event = Arc::new(move |event| {
        if let Event::Uploading { path: "weights/in_parts.bin", sent, total } = event {
            assert!(sent <= total);
            told.lock().unwrap().push(sent);
        }
    });

    let registered = large.publish().unwrap();

    let etag = large.assert_in_s3(s3, &registered);
    assert!(etag.ends_with("-3"), "{etag} is not that of three parts");
    large.assert_secrets_kept(s3);
    assert_eq!(s3.heads("in_parts.bin").iter().filter(|head| is_part(head)).count(), 3);
    let root = registered.artifact_uri.strip_prefix("mlflow-artifacts:/").unwrap();
    let small = s3.object(&format!("{root}/model_ckpt/best_model.pt"));
    assert!(!small.1.contains('-'), "{} is that of parts", small.1);
    let progress = progress.lock().unwrap();
    assert!(progress.is_sorted() && progress.last() == Some(&(LENGTH as u64)));
}

#[test]
fn a_part_that_fails_for_the_moment_is_sent_again() {
    let Some(s3) = s3() else { return };
    let large = Large::in_s3(s3, "part_again.bin");
    let count = AtomicU32::new(0);
    s3.rule("part_again.bin", move |line| {
        let is_early = is_part_2(line) && count.fetch_add(1, Ordering::Relaxed) < 2;
        if is_early { Fault::Answer(BUSY) } else { Fault::None }
    });

    let registered = large.publish().unwrap();

    assert!(large.assert_in_s3(s3, &registered).ends_with("-3"));
    assert_eq!(s3.heads("part_again.bin").iter().filter(|head| is_part(head)).count(), 5);
    large.assert_secrets_kept(s3);
    let said = large.said.lock().unwrap();
    assert_eq!(
        said.matches("InternalError: We encountered an internal error.; large files").count(),
        2,
        "{said}"
    );
}

#[test]
fn a_failure_in_the_middle_leaves_no_part_no_version_and_a_failed_run() {
    let Some(s3) = s3() else { return };
    const EXPIRED: &str = "HTTP/1.1 403 Forbidden\r\n\r\n<Error><Code>AccessDenied</Code><Message>Request has expired\
                           </Message></Error>";
    // Followed, it would look as if the part had arrived.
    let elsewhere = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let redirect = format!("HTTP/1.1 303 See Other\r\nlocation: {}/\r\n\r\n", elsewhere.address);
    let redirect: &str = Box::leak(redirect.into_boxed_str());
    for (name, answer, expected) in [
        ("expired.bin", EXPIRED, "answered 403: AccessDenied: Request has expired; large files go"),
        ("elsewhere.bin", redirect, "answered 303: no explanation; large files go"),
    ] {
        let large = Large::in_s3(s3, name);
        s3.rule(
            name,
            move |line| if is_part_2(line) { Fault::Answer(answer) } else { Fault::None },
        );

        let error = large.publish().unwrap_err().to_string();

        assert!(error.contains(expected), "{error}");
        assert!(error.contains("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD=false"), "{error}");
        large.assert_failed(s3);
        large.assert_secrets_kept(s3);
    }
}

#[test]
fn an_interruption_in_the_middle_leaves_no_part_and_no_version() {
    let Some(s3) = s3() else { return };
    let mut large = Large::in_s3(s3, "stopped.bin");
    let interrupted = Arc::clone(&large.settings.interrupted);
    large.settings.on_event = Arc::new(move |event| {
        if let Event::Uploading { path: "weights/stopped.bin", sent, .. } = event {
            interrupted.store(sent > PART as u64, Ordering::Relaxed);
        }
    });

    let error = large.publish().unwrap_err();

    assert!(matches!(error, RegistryError::Interrupted), "{error}");
    large.assert_failed(s3);
}

/// Servers that sign addresses which only they can reach are common.
#[test]
fn where_the_store_cannot_be_used_from_here_the_file_goes_through_the_server() {
    let Some(s3) = s3() else { return };
    let large = Large::in_s3(s3, "unreachable.bin");
    s3.rule("unreachable.bin", |line| if is_part(line) { Fault::LoseRequest } else { Fault::None });

    let registered = large.publish().unwrap();

    let etag = large.assert_in_s3(s3, &registered);
    assert!(!etag.contains('-'), "{etag} is that of parts");
    large.assert_secrets_kept(s3);

    // Who asked for parts is told.
    let mut large = Large::in_s3(s3, "unreachable_too.bin");
    s3.rule(
        "unreachable_too.bin",
        |line| if is_part(line) { Fault::LoseRequest } else { Fault::None },
    );
    large.settings.multipart.enabled = Some(true);
    let error = large.publish().unwrap_err().to_string();
    assert!(error.starts_with("no answer from http://127.0.0.1:"), "{error}");
    large.assert_failed(s3);
    large.assert_secrets_kept(s3);
}

#[test]
fn requests_about_an_upload_that_go_wrong_for_the_moment_cost_no_registration() {
    let Some(s3) = s3() else { return };
    const DOWN: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    for (name, action, fault) in [
        ("info_busy.bin", "server-info", Fault::Answer(DOWN)),
        ("create_busy.bin", "mpu/create", Fault::Answer(DOWN)),
        ("complete_busy.bin", "mpu/complete", Fault::Answer(DOWN)),
        ("complete_lost.bin", "mpu/complete", Fault::LoseAnswer),
        ("complete_cut.bin", "mpu/complete", Fault::CutAnswer),
    ] {
        let count = AtomicU32::new(0);
        let proxy = Proxy::new(&s3.mlflow.address, move |line| {
            let is_first = line.contains(action) && count.fetch_add(1, Ordering::Relaxed) == 0;
            if is_first { fault } else { Fault::None }
        });
        // What stores say that do not remember what they put together; S3 does, for a while.
        const GONE: &str = "HTTP/1.1 404 Not Found\r\n\r\n<Error><Code>NoSuchUpload</Code></Error>";
        let completed = AtomicU32::new(0);
        s3.rule(name, move |line| {
            let is_completion = line.starts_with("POST") && line.contains("uploadId=");
            match is_completion && completed.fetch_add(1, Ordering::Relaxed) > 0 {
                true => Fault::Answer(GONE),
                false => Fault::None,
            }
        });
        let large = Large::new(&proxy.address, name);

        let registered = large.publish().unwrap_or_else(|error| panic!("{name}: {error}"));

        assert!(large.assert_in_s3(s3, &registered).ends_with("-3"), "{name}");
        assert!(
            proxy
                .heads(|head| head.contains("mpu/complete"))
                .iter()
                .all(|head| head.contains(TOKEN))
        );
    }
}

#[test]
fn a_server_that_repeats_signed_addresses_gives_none_away() {
    let Some(s3) = s3() else { return };
    let seen = Arc::<Mutex<String>>::default();
    let store = Arc::clone(&seen);
    s3.rule("repeated.bin", move |line| {
        if is_part_2(line) {
            *store.lock().unwrap() = line.split(' ').nth(1).unwrap().to_owned();
        }
        Fault::None
    });
    let proxy = Proxy::new(&s3.mlflow.address, move |line| {
        if !line.contains("mpu/complete") {
            return Fault::None;
        }
        let path = seen.lock().unwrap().clone();
        let answer =
            format!("HTTP/1.1 400 Bad Request\r\n\r\n{{\"message\": \"cannot read {path}\"}}");
        Fault::Answer(Box::leak(answer.into_boxed_str()))
    });
    let large = Large::new(&proxy.address, "repeated.bin");

    let error = large.publish().unwrap_err().to_string();

    assert!(error.contains("400: cannot read /bucket/x/") && error.contains("=***"), "{error}");
    large.assert_failed(s3);
    let said = large.said.lock().unwrap().replace("ignature=***", "");
    *large.said.lock().unwrap() = said;
    large.assert_secrets_kept(s3);
}

#[test]
fn whoever_asks_for_no_parts_gets_none() {
    let Some(s3) = s3() else { return };
    let mut large = Large::in_s3(s3, "no_parts.bin");
    large.settings.multipart.enabled = Some(false);
    let registered = large.publish().unwrap();
    assert!(!large.assert_in_s3(s3, &registered).contains('-'));

    let mut large = Large::in_s3(s3, "too_small.bin");
    large.settings.multipart.minimum += 1;
    let registered = large.publish().unwrap();
    assert!(!large.assert_in_s3(s3, &registered).contains('-'));
}

#[test]
fn a_server_that_does_not_offer_parts_gets_the_file_in_one_request() {
    if mlflow_python().is_none() {
        return;
    }
    for (index, python) in mlflow_pythons().iter().enumerate() {
        let server = running_server(python);
        for (name, enabled) in [("offered.bin", None), ("demanded.bin", Some(true))] {
            let proxy = Proxy::new(&server.address, |_| Fault::None);
            let mut large = Large::new(&proxy.address, name);
            large.settings.multipart.enabled = enabled;

            let registered = large.publish().unwrap();

            let line = |head: &String| head.lines().next().unwrap().to_owned();
            let sent = proxy.heads(|head| head.starts_with("PUT") && head.contains(name));
            assert_eq!(sent.len(), 1, "{:?}", sent.iter().map(line).collect::<Vec<_>>());
            let asked = proxy.heads(|head| head.contains("mpu/"));
            assert_eq!(asked.len(), usize::from(enabled.is_some()), "{index}");
            let root = registered.artifact_uri.strip_prefix("mlflow-artifacts:/").unwrap();
            let path = server.folder().join("artifacts").join(root).join("weights").join(name);
            assert!(std::fs::read(path).unwrap() == large.bytes);
            assert_eq!(server.versions(name), ["1"]);
        }
    }
}
