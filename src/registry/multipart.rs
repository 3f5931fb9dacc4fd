//! Multipart upload: a large file in parts, straight to the object store behind the server.
//!
//! As MLflow's own client does it (`mlflow/store/artifact/http_artifact_repo.py`,
//! `_try_multipart_upload`): the server is asked to begin an upload and answers with a signed URL for each
//! part; the parts are sent there; the server is told to put them together, or to throw them away.
//!
//! Where MLflow's client gives up, this one does not: a part is repeated like any request, a completion
//! whose answer was lost is looked for, and where the server offers parts by itself but the store does not
//! take the first one from here, the file goes through the server.
//!
//! Deliberately absent: going on with the upload of an earlier process, and fresh signatures for an upload
//! that takes longer than they hold (an hour, with S3), which MLflow does not offer. An upload whose beginning
//! got no answer cannot be thrown away, because only that answer names it; it holds no part.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::api::{self, Run};
use super::artifacts::{Progress, Watched};
use super::client::Client;
use super::object_store::{ObjectStore, SignedUrl};
use super::prepare::Upload;
use super::retry::is_transient;
use super::{Content, RegistryError, RegistrySettings};

/// How many parts are on their way at once. A store serves each connection at a limited rate.
const WORKERS: usize = 4;
/// The most that S3 and GCS take.
const MOST_PARTS: u64 = 10_000;
/// Statuses of servers that do not know the request, or cannot do it with their store.
const NOT_OFFERED: [u16; 3] = [404, 405, 501];

/// One file, and where it goes.
pub(super) struct Target<'a> {
    pub(super) client: &'a Client,
    pub(super) settings: &'a RegistrySettings,
    pub(super) run: &'a Run,
    /// The path of the run's artifact root in the server's store.
    pub(super) prefix: &'a str,
    pub(super) file: &'a Upload<'a>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Uploaded,
    /// Nothing was sent: the file is to go through the server, in one request.
    NotOffered,
}

/// Uploads a file in parts where it is large enough and the server offers it.
pub(super) fn upload(target: &Target<'_>) -> Result<Outcome, RegistryError> {
    let Content::File(path) = target.file.content else { return Ok(Outcome::NotOffered) };
    if target.file.length < target.settings.multipart.minimum.max(1) || !target.is_offered()? {
        return Ok(Outcome::NotOffered);
    }
    let Some(begun) = Begun::new(target, path)? else { return Ok(Outcome::NotOffered) };
    begun.finish()
}

impl Target<'_> {
    /// What the user says, else the server. A server of ours keeps its files in a folder.
    fn is_offered(&self) -> Result<bool, RegistryError> {
        if self.client.is_ours() {
            return Ok(false);
        }
        if let Some(is_enabled) = self.settings.multipart.enabled {
            return Ok(is_enabled);
        }
        match self.client.repeated(|| self.client.server_info()) {
            Ok(info) => Ok(info["multipart_uploads_enabled"] == true),
            // An older server knows no such request.
            Err(RegistryError::Refused { .. } | RegistryError::Answer { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Bytes of each part but the last.
    fn part_length(&self) -> u64 {
        let least = self.file.length.div_ceil(MOST_PARTS);
        self.settings.multipart.part.max(least).max(1)
    }

    /// `POST mpu/ACTION/FOLDER` about this file.
    fn post(&self, action: &str, mut body: Value) -> Result<Value, RegistryError> {
        let whole = [self.prefix, self.file.path.as_str()].join("/");
        let (folder, name) = whole.rsplit_once('/').unwrap_or(("", &whole));
        body["path"] = json!(name);
        let path = format!("mpu/{action}/{}", folder.trim_matches('/'));
        self.client.post_artifacts(path.trim_end_matches('/'), &body)
    }

    /// Whether the server has the whole file.
    fn is_there(&self) -> Result<bool, RegistryError> {
        let folder = self.file.path.rsplit_once('/').map_or("", |(folder, _name)| folder);
        let sizes = api::list_artifacts(self.client, &self.run.id, folder)?;
        Ok(sizes.get(&self.file.path) == Some(&self.file.length))
    }
}

/// An upload that the store knows of. It is thrown away again unless it was completed, also when a panic
/// unwinds.
struct Begun<'a> {
    target: &'a Target<'a>,
    path: &'a Path,
    /// What the store calls it; null where it has no name for it (Azure).
    id: Value,
    parts: Vec<Part>,
    is_open: bool,
}

struct Part {
    number: u64,
    offset: u64,
    length: u64,
    to: SignedUrl,
}

/// A part that arrived.
struct Sent {
    number: u64,
    etag: String,
    /// Azure's parts are named in it.
    url: String,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if self.is_open {
            let body = json!({ "upload_id": self.id });
            // The error that brought us here is the one to report.
            let _ = self.target.client.lastly(|| self.target.post("abort", body.clone()));
        }
    }
}

impl<'a> Begun<'a> {
    /// Asks the server to begin; `None` where it offers nothing.
    fn new(target: &'a Target<'a>, path: &'a Path) -> Result<Option<Self>, RegistryError> {
        let length = target.part_length();
        let body = json!({ "num_parts": target.file.length.div_ceil(length) });
        let answer = match target.client.repeated(|| target.post("create", body.clone())) {
            Err(RegistryError::Refused { status, .. }) if NOT_OFFERED.contains(&status) => {
                return Ok(None);
            }
            other => other?,
        };
        let id = answer["upload_id"].clone();
        let mut begun = Self { target, path, id, parts: Vec::new(), is_open: true };
        begun.parts =
            parts(&answer["credentials"], target.file.length, length).ok_or_else(|| {
                RegistryError::Answer {
                    url: target.client.base().to_string(),
                    reason: "it began a multipart upload, but did not say where its parts go; \
                         MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD=false does without"
                        .to_owned(),
                    is_page: false,
                }
            })?;
        Ok(Some(begun))
    }

    /// Sends all parts and has them put together.
    fn finish(mut self) -> Result<Outcome, RegistryError> {
        let Some((first, rest)) = self.parts.split_first() else { return Ok(Outcome::NotOffered) };
        let sender = self.sender(first)?;
        // Alone: where the store cannot be used from here, that is found out once.
        let mut sent = match sender.send(first) {
            Ok(sent) => vec![sent],
            Err(RegistryError::Unreachable { .. } | RegistryError::Refused { .. })
                if self.target.settings.multipart.enabled.is_none() =>
            {
                return Ok(Outcome::NotOffered);
            }
            Err(other) => return Err(other),
        };
        sent.extend(sender.send_all(rest)?);
        sent.sort_by_key(|sent| sent.number);
        self.complete(&sent)?;
        self.is_open = false;
        Ok(Outcome::Uploaded)
    }

    fn sender(&self, first: &Part) -> Result<Sender<'_>, RegistryError> {
        let settings = self.target.settings;
        Ok(Sender {
            client: self.target.client,
            settings,
            path: self.path,
            store: ObjectStore::new(&first.to, settings)?,
            progress: Arc::new(Progress::new(self.target.file, settings)),
            has_failed: Arc::default(),
        })
    }

    fn complete(&self, sent: &[Sent]) -> Result<(), RegistryError> {
        let part =
            |sent: &Sent| json!({ "part_number": sent.number, "etag": sent.etag, "url": sent.url });
        let parts: Vec<Value> = sent.iter().map(part).collect();
        let body = json!({ "upload_id": self.id, "parts": parts });
        let target = self.target;
        let made = target.client.once(
            || {
                target
                    .post("complete", body.clone())
                    .map(drop)
                    .map_err(|error| self.redacted(error))
            },
            || Ok(target.is_there()?.then_some(())),
        );
        made.map(drop).map_err(|unmade| *unmade.error)
    }

    /// A server that repeats what it was sent repeats signed URLs.
    fn redacted(&self, mut error: RegistryError) -> RegistryError {
        if let RegistryError::Refused { message, .. } = &mut error {
            let hide = |text: String, part: &Part| part.to.redacted(&text);
            *message = self.parts.iter().fold(std::mem::take(message), hide);
        }
        error
    }
}

/// The parts that a server's answer describes; `None` where they are not those that were asked for.
fn parts(credentials: &Value, total: u64, length: u64) -> Option<Vec<Part>> {
    let credentials = credentials.as_array()?;
    let part = |credential: &Value| {
        let number = credential["part_number"].as_u64()?;
        // Where a part lies in the file follows from its number, not from its place in the answer.
        let offset = number.checked_sub(1)?.checked_mul(length)?;
        Some(Part {
            number,
            offset,
            length: length.min(total.checked_sub(offset)?),
            to: SignedUrl::read(&credential["url"], &credential["headers"])?,
        })
    };
    let mut parts = credentials.iter().map(part).collect::<Option<Vec<_>>>()?;
    parts.sort_by_key(|part| part.number);
    let is_complete = parts.iter().map(|part| part.number).eq(1..=total.div_ceil(length));
    is_complete.then_some(parts)
}

/// Sends parts, from several threads.
struct Sender<'a> {
    client: &'a Client,
    settings: &'a RegistrySettings,
    path: &'a Path,
    store: ObjectStore,
    progress: Arc<Progress>,
    /// One part was given up, and so is all.
    has_failed: Arc<AtomicBool>,
}

impl Sender<'_> {
    fn send_all(&self, parts: &[Part]) -> Result<Vec<Sent>, RegistryError> {
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let work = || {
            let mut sent = Vec::new();
            while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                match self.send(part) {
                    Ok(part) => sent.push(part),
                    Err(error) => {
                        // Of the others' errors, most say that this one stopped them.
                        let first = !self.has_failed.swap(true, Ordering::Relaxed);
                        if let (true, Ok(mut failure)) = (first, failure.lock()) {
                            *failure = Some(error);
                        }
                        break;
                    }
                }
            }
            sent
        };
        let sent = std::thread::scope(|scope| {
            let workers = [(); WORKERS].map(|()| scope.spawn(work));
            let sent = workers.map(|worker| {
                worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            sent.into_iter().flatten().collect()
        });
        match failure.into_inner() {
            Ok(Some(error)) => Err(error),
            _ => Ok(sent),
        }
    }

    /// Sends one part; from its beginning again where that fails for the moment.
    fn send(&self, part: &Part) -> Result<Sent, RegistryError> {
        let etag = self.client.repeated(|| {
            let reader = self.reader(part)?;
            let counted = reader.counted();
            let etag = self.store.put(&part.to, reader, part.length, WORKERS as u64 - 1);
            etag.map_err(|error| {
                self.progress.take_back(&counted);
                let is_stopped =
                    self.settings.is_interrupted() || self.has_failed.load(Ordering::Relaxed);
                // A cut body looks like a network error.
                if is_stopped && is_transient(&error) { RegistryError::Interrupted } else { error }
            })
        })?;
        Ok(Sent { number: part.number, etag, url: part.to.as_str().to_owned() })
    }

    fn reader(&self, part: &Part) -> Result<Watched, RegistryError> {
        let open = || {
            let mut file = File::open(self.path)?;
            file.seek(SeekFrom::Start(part.offset))?;
            Ok(file.take(part.length))
        };
        let file = open().map_err(|error| RegistryError::Io {
            action: "read",
            path: self.path.to_owned(),
            error,
        })?;
        Ok(Watched::new(Box::new(file), &self.progress, Arc::clone(&self.has_failed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(count: u64) -> Value {
        let one = |number| json!({ "part_number": number, "url": "https://host/", "headers": {} });
        (1..=count).map(one).collect()
    }

    #[test]
    fn parts_cover_the_file_without_gap_or_overlap() {
        for (total, length) in [(10, 4), (8, 4), (3, 4), (1, 1)] {
            let parts = parts(&credentials(u64::div_ceil(total, length)), total, length).unwrap();
            let mut end = 0;
            for part in &parts {
                assert_eq!(part.offset, end, "{total} in parts of {length}");
                end += part.length;
            }
            assert_eq!(end, total);
            assert!(parts.iter().all(|part| (1..=length).contains(&part.length)));
            assert_eq!(parts.last().unwrap().number, parts.len() as u64);
        }
    }

    #[test]
    fn an_answer_with_other_parts_than_were_asked_for_is_refused() {
        assert!(parts(&credentials(3), 10, 4).is_some());
        for odd in [credentials(2), credentials(4), json!(null), json!([{}, {}, {}])] {
            assert!(parts(&odd, 10, 4).is_none(), "{odd}");
        }
        let numbered = |numbers: [u64; 3]| -> Value {
            let one =
                |number| json!({ "part_number": number, "url": "https://host/", "headers": {} });
            numbers.into_iter().map(one).collect()
        };
        for numbers in [[1, 1, 2], [0, 1, 2], [1, 2, 4]] {
            assert!(parts(&numbered(numbers), 10, 4).is_none(), "{numbers:?}");
        }
        let shuffled = parts(&numbered([3, 1, 2]), 10, 4).unwrap();
        assert!(shuffled.iter().map(|part| (part.number, part.offset)).eq([
            (1, 0),
            (2, 4),
            (3, 8)
        ]));
    }
}
