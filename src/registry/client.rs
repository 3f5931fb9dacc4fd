//! HTTP: requests out, JSON or a sentence back.
//!
//! Each function here asks once. Deliberately absent: what the paths mean, and what is tried again
//! (`retry`).

use std::error::Error as _;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use reqwest::blocking::{Body, ClientBuilder, RequestBuilder, Response};
use reqwest::{Method, Url};
use serde_json::Value;

use super::retry::asked_wait;
use super::settings::Listener;
use super::{Credentials, RegistryError, RegistrySettings, Retries, Timeouts, tls};

/// How much of an answer that is not JSON is looked at.
const MESSAGE_BYTES: u64 = 64 * 1024;
/// How much of the server's words is repeated, characters.
const MESSAGE_CHARS: usize = 600;

/// For one answer when the publication is at its end; a tenth of it where the user has ended it.
const LAST_PATIENCE: Duration = Duration::from_secs(30);

/// A tracking server's address with all that is needed to ask it.
pub(super) struct Client {
    http: reqwest::blocking::Client,
    base: Url,
    credentials: Option<Credentials>,
    /// What no message may repeat.
    secrets: Vec<String>,
    timeout: Duration,
    /// The end is near: requests have [`LAST_PATIENCE`] at most.
    is_hurried: AtomicBool,
    is_ours: bool,
    pub(super) retries: Retries,
    /// The state of the random numbers that make waits differ.
    pub(super) random: AtomicU64,
    pub(super) interrupted: Arc<AtomicBool>,
    pub(super) on_event: Listener,
}

impl Client {
    /// For a running server.
    ///
    /// # Errors
    /// [`RegistryError::Tls`] and [`RegistryError::Io`] about certificates.
    pub(super) fn running(
        base: &Url,
        credentials: Option<Credentials>,
        settings: &RegistrySettings,
    ) -> Result<Self, RegistryError> {
        let builder = tls::configured(builder(&settings.timeouts), &settings.tls)?;
        // A proxy from the environment cannot reach this machine's loopback.
        let builder = if is_loopback(base) { builder.no_proxy() } else { builder };
        Self::build(builder, base.clone(), credentials, settings)
    }

    /// For a server of ours that listens on a Unix socket.
    #[cfg(unix)]
    pub(super) fn unix(
        socket: &std::path::Path,
        base: Url,
        settings: &RegistrySettings,
    ) -> Result<Self, RegistryError> {
        let builder = builder(&settings.timeouts).no_proxy().unix_socket(socket);
        Self::build(builder, base, None, settings).map(Self::ours)
    }

    /// For a server that ends with us: when it does not answer, it never will.
    pub(super) fn ours(self) -> Self {
        Self { is_ours: true, ..self }
    }

    fn build(
        builder: ClientBuilder,
        base: Url,
        credentials: Option<Credentials>,
        settings: &RegistrySettings,
    ) -> Result<Self, RegistryError> {
        let http = builder.build().map_err(|error| RegistryError::Unreachable {
            url: base.to_string(),
            reason: sentence(error),
            advice: "this is about the HTTP client itself, such as missing CA certificates"
                .to_owned(),
            is_permanent: true,
        })?;
        let secrets =
            credentials.as_ref().map_or_else(Vec::new, |known| secrets(&http, &base, known));
        Ok(Self {
            http,
            base,
            secrets,
            credentials,
            timeout: settings.timeouts.request,
            is_hurried: AtomicBool::new(false),
            is_ours: false,
            retries: settings.retries,
            random: AtomicU64::new(settings.retries.seed),
            interrupted: Arc::clone(&settings.interrupted),
            on_event: Arc::clone(&settings.on_event),
        })
    }

    /// The same, with less patience for one answer.
    pub(super) fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Whether the server was started for this publication.
    pub(super) fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// Whether the server is on this machine, so that its file paths are ours.
    pub(super) fn is_local(&self) -> bool {
        is_loopback(&self.base)
    }

    /// The server's address.
    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// `GET api/2.0/mlflow/PATH?QUERY`.
    pub(super) fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, RegistryError> {
        let mut url = self.url(&["api", "2.0", "mlflow", path]);
        url.query_pairs_mut().extend_pairs(query);
        self.json(self.request(Method::GET, url))
    }

    /// `POST api/2.0/mlflow/PATH` with a JSON body.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, RegistryError> {
        let url = self.url(&["api", "2.0", "mlflow", path]);
        self.json(self.request(Method::POST, url).json(body))
    }

    /// `POST api/2.0/mlflow-artifacts/PATH` with a JSON body.
    pub(super) fn post_artifacts(&self, path: &str, body: &Value) -> Result<Value, RegistryError> {
        let url = self.url(&["api", "2.0", "mlflow-artifacts", path]);
        self.json(self.request(Method::POST, url).json(body))
    }

    /// `GET api/3.0/mlflow/server-info`: what the server can do.
    pub(super) fn server_info(&self) -> Result<Value, RegistryError> {
        let url = self.url(&["api", "3.0", "mlflow", "server-info"]);
        self.json(self.request(Method::GET, url))
    }

    /// `DELETE api/2.0/mlflow/PATH` with a JSON body.
    pub(super) fn delete(&self, path: &str, body: &Value) -> Result<Value, RegistryError> {
        let url = self.url(&["api", "2.0", "mlflow", path]);
        self.json(self.request(Method::DELETE, url).json(body))
    }

    /// `PUT` of a body of `length` bytes to `api/2.0/mlflow-artifacts/artifacts/PATH`. The answer's
    /// body is empty.
    pub(super) fn put_artifact(
        &self,
        path: &str,
        reader: impl Read + Send + 'static,
        length: u64,
    ) -> Result<(), RegistryError> {
        let url = self.url(&["api", "2.0", "mlflow-artifacts", "artifacts", path]);
        let patience = self.timeout + Duration::from_secs(length / (256 * 1024));
        let request = self.request(Method::PUT, url).timeout(patience);
        // MLflow guesses nothing from the type, but some proxies refuse a body without one.
        let request = request.header(reqwest::header::CONTENT_TYPE, "application/octet-stream");
        self.send(request.body(Body::sized(reader, length))).map(drop)
    }

    /// Downloads an artifact of a run through the server, whatever store it is in, whole or not at all.
    pub(super) fn get_artifact(
        &self,
        run_id: &str,
        path: &str,
        to: &Path,
    ) -> Result<(), RegistryError> {
        let mut url = self.url(&["get-artifact"]);
        url.query_pairs_mut().append_pair("path", path).append_pair("run_uuid", run_id);
        let response = self.send(self.request(Method::GET, url))?;
        let address = bare(response.url());
        let mut body = Download { response, is_cut: false };
        crate::files::write_atomically(to, &mut body).map_err(|error| match body.is_cut {
            true => RegistryError::Unreachable {
                url: address,
                reason: error.to_string(),
                advice: "the connection broke in the middle of the answer".to_owned(),
                is_permanent: false,
            },
            false => RegistryError::Io { action: "download", path: to.to_owned(), error },
        })
    }

    /// The address of a path; each argument may hold several segments, separated by `/`.
    fn url(&self, parts: &[&str]) -> Url {
        let mut url = self.base.clone();
        // An http URL is never a cannot-be-a-base URL.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(parts.iter().flat_map(|part| part.split('/')));
        }
        url
    }

    /// While what is returned lives, no request waits long: whoever has pressed Ctrl-C, and whoever stops a CI job,
    /// does not either.
    pub(super) fn hurried(&self) -> impl Drop {
        struct Hurry<'a>(&'a AtomicBool, bool);
        impl Drop for Hurry<'_> {
            fn drop(&mut self) {
                self.0.store(self.1, Ordering::Relaxed);
            }
        }
        Hurry(&self.is_hurried, self.is_hurried.swap(true, Ordering::Relaxed))
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let longest = match (
            self.is_hurried.load(Ordering::Relaxed),
            self.interrupted.load(Ordering::Relaxed),
        ) {
            (false, _) => self.timeout,
            (true, false) => self.timeout.min(LAST_PATIENCE),
            (true, true) => self.timeout.min(LAST_PATIENCE / 10),
        };
        let request = self.http.request(method, url).timeout(longest);
        match &self.credentials {
            Some(credentials) => authorized(request, credentials),
            None => request,
        }
    }

    fn json(&self, request: RequestBuilder) -> Result<Value, RegistryError> {
        let response = self.send(request)?;
        let url = bare(response.url());
        let html = is_html(&response);
        let body = response.bytes().map_err(|error| self.unreachable(&url, error))?;
        serde_json::from_slice(&body).map_err(|error| RegistryError::Answer {
            url,
            is_page: html,
            reason: if html {
                "a web page where JSON was expected; is there a login page or another program at this address?".to_owned()
            } else {
                format!("no JSON ({error}); is this an MLflow tracking server?")
            },
        })
    }

    fn send(&self, request: RequestBuilder) -> Result<Response, RegistryError> {
        let (http, request) = request.build_split();
        let request = request.map_err(|error| self.unreachable(self.base.as_str(), error))?;
        let url = bare(request.url());
        let response = http.execute(request).map_err(|error| self.unreachable(&url, error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refused(&url, response))
    }

    fn unreachable(&self, url: &str, error: reqwest::Error) -> RegistryError {
        let distrust = tls::distrust(&error);
        let advice = if let Some(advice) = distrust {
            advice
        } else if error.is_timeout() {
            "the server is overloaded or something between swallows the request; MLFLOW_HTTP_REQUEST_TIMEOUT is the \
             patience in seconds"
        } else {
            "check the tracking URI and that the MLflow server is running"
        };
        RegistryError::Unreachable {
            url: url.to_owned(),
            is_permanent: distrust.is_some() || error.is_builder(),
            reason: self.redacted(&sentence(error)),
            advice: advice.to_owned(),
        }
    }

    fn refused(&self, url: &str, response: Response) -> RegistryError {
        let status = response.status().as_u16();
        let html = is_html(&response);
        let retry_after = retry_after(&response);
        let mut body = Vec::new();
        let read = response.take(MESSAGE_BYTES).read_to_end(&mut body);
        // What the status says alone stands; of the rest, MLflow's code is part of what was said.
        if let (Err(error), false) = (read, matches!(status, 401 | 403 | 413)) {
            return RegistryError::Unreachable {
                url: url.to_owned(),
                reason: format!("the answer {status} broke off: {error}"),
                advice: "check the network between here and the MLflow server".to_owned(),
                is_permanent: false,
            };
        }
        let (code, message) = server_message(&body, html, |words| self.redacted(words));
        let advice = advice(status, &message, self.credentials.is_some());
        RegistryError::Refused { url: url.to_owned(), status, code, message, advice, retry_after }
    }

    /// Some servers and proxies repeat the request's header in their answer.
    pub(super) fn redacted(&self, message: &str) -> String {
        let hide = |message: String, secret: &String| message.replace(secret, "***");
        self.secrets.iter().fold(message.to_owned(), hide)
    }
}

/// Tells trouble with the network from trouble with the disk.
struct Download {
    response: Response,
    is_cut: bool,
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.response.read(buffer).inspect_err(|_| self.is_cut = true)
    }
}

fn authorized(request: RequestBuilder, credentials: &Credentials) -> RequestBuilder {
    match credentials {
        Credentials::Basic { username, password } => request.basic_auth(username, Some(password)),
        Credentials::Token(token) => request.bearer_auth(token),
    }
}

/// The password or token, and the form that it has in a request's header.
fn secrets(http: &reqwest::blocking::Client, base: &Url, credentials: &Credentials) -> Vec<String> {
    let request = authorized(http.get(base.clone()), credentials).build().ok();
    let header = request.as_ref().and_then(|request| {
        let value = request.headers().get(reqwest::header::AUTHORIZATION)?;
        value.to_str().ok()?.split_once(' ')
    });
    let encoded = header.map_or("", |(_scheme, encoded)| encoded);
    let known = [encoded, credentials.secret()];
    known.into_iter().filter(|secret| !secret.is_empty()).map(str::to_owned).collect()
}

/// For how long an answer asks to be left alone.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    asked_wait(header(reqwest::header::RETRY_AFTER)?, header(reqwest::header::DATE))
}

pub(super) fn builder(timeouts: &Timeouts) -> ClientBuilder {
    static PROVIDER: std::sync::Once = std::sync::Once::new();
    // An error says that the program has already installed one, which is as good.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    // Each request has its own deadline; the client's default of 30 s would cut long uploads.
    reqwest::blocking::Client::builder()
        .user_agent(concat!("detgate/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(timeouts.connect)
        .timeout(None)
}

pub(super) fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_html(response: &Response) -> bool {
    let content_type = response.headers().get(reqwest::header::CONTENT_TYPE);
    content_type
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("text/html"))
}

/// A URL for messages: a query may hold names, never secrets, but makes sentences unreadable.
fn bare(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

/// An error with its causes, without the URL, which the caller names.
pub(super) fn sentence(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

/// MLflow's `error_code` and the words of an answer, whichever of its forms it has: JSON, a web
/// page, or text.
///
/// What is secret goes through `redacted` before anything is cut: half a password is one, too.
fn server_message(
    body: &[u8],
    html: bool,
    redacted: impl Fn(&str) -> String,
) -> (Option<String>, String) {
    if let Ok(json) = serde_json::from_slice::<Value>(body) {
        let text = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
        if let Some(message) = text("message").or_else(|| text("detail")) {
            return (text("error_code"), shortened(&redacted(&message)));
        }
    }
    let text = String::from_utf8_lossy(body);
    let words = if html || text.trim_start().starts_with("<") {
        without_tags(&text)
    } else {
        text.into_owned()
    };
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = redacted(&words);
    (None, if words.is_empty() { "no explanation".to_owned() } else { shortened(&words) })
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MESSAGE_CHARS) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_owned(),
    }
}

/// The text of a web page, good enough for an error page.
fn without_tags(html: &str) -> String {
    let body = html.find("<body").map_or(html, |start| &html[start..]);
    let mut text = String::new();
    let mut in_tag = false;
    for character in body.chars() {
        match character {
            '<' => in_tag = true,
            '>' => {
                in_tag = false;
                text.push(' ');
            }
            _ if !in_tag => text.push(character),
            _ => {}
        }
    }
    text
}

fn advice(status: u16, message: &str, had_credentials: bool) -> String {
    let advice = match status {
        401 if had_credentials => {
            "; the server does not accept the credentials: check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        }
        401 => {
            "; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        }
        403 if message.contains("Host header") => {
            "; use a host name that the server was started with (`mlflow server --allowed-hosts`)"
        }
        403 => {
            "; the account of MLFLOW_TRACKING_USERNAME or MLFLOW_TRACKING_TOKEN may not do this: ask for the permission"
        }
        404 => {
            "; check that the tracking URI is the address of an MLflow tracking server, with its path prefix if it has one"
        }
        413 => "; a proxy before the server limits the size of uploads: raise its limit",
        500.. => "; the server's log says more",
        _ => "",
    };
    advice.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::TrackingUri;

    fn settings() -> RegistrySettings {
        let uri = TrackingUri::parse("http://host", Path::new("/")).unwrap();
        RegistrySettings::new(uri, Box::new(|| Err("not asked".to_owned())))
    }

    #[test]
    fn the_servers_words_are_found_in_json_web_pages_and_text() {
        let json = br#"{"error_code": "RESOURCE_ALREADY_EXISTS", "message": "it exists"}"#;
        assert_eq!(
            server_message(json, false, str::to_owned),
            (Some("RESOURCE_ALREADY_EXISTS".into()), "it exists".into())
        );
        let page = b"<!doctype html>\n<html><title>x</title><body><h1>Forbidden</h1>\n<p>not  for you</p></body>";
        assert_eq!(
            server_message(page, true, str::to_owned),
            (None, "Forbidden not for you".into())
        );
        assert_eq!(
            server_message(b"Invalid Host header\n", false, str::to_owned),
            (None, "Invalid Host header".into())
        );
        assert_eq!(server_message(b"", true, str::to_owned), (None, "no explanation".into()));
        assert_eq!(
            server_message("ü".repeat(10_000).as_bytes(), false, str::to_owned).1.chars().count(),
            MESSAGE_CHARS + 4
        );
    }

    #[test]
    fn path_segments_are_escaped_and_a_prefix_is_kept() {
        let base = Url::parse("http://host/team/").unwrap();
        let client = Client::running(&base, None, &settings()).unwrap();
        let url = client.url(&["api", "1/run id/artifacts/a+b ü?.pt"]);
        assert_eq!(url.as_str(), "http://host/team/api/1/run%20id/artifacts/a+b%20%C3%BC%3F.pt");
    }

    #[test]
    fn a_secret_that_the_server_repeats_is_not_repeated() {
        let base = Url::parse("http://host/").unwrap();
        let client = |credentials| Client::running(&base, Some(credentials), &settings()).unwrap();
        let token = client(Credentials::Token("s3cr3t".into()));
        assert_eq!(token.redacted("Bearer s3cr3t is unknown"), "Bearer *** is unknown");
        let basic = client(Credentials::Basic {
            username: "Aladdin".into(),
            password: "open sesame".into(),
        });
        // The example of RFC 7617.
        let header = "authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ== (open sesame)";
        assert_eq!(basic.redacted(header), "authorization: Basic *** (***)");
    }

    #[test]
    fn a_secret_at_the_end_of_what_is_shown_is_not_cut_but_hidden() {
        let text = format!("{}Basic c2VjcmV0OnBhc3N3b3Jk", "x".repeat(MESSAGE_CHARS - 12));
        let hide = |words: &str| words.replace("c2VjcmV0OnBhc3N3b3Jk", "***");
        let (_, shown) = server_message(text.as_bytes(), false, hide);
        assert!(!shown.contains("c2Vj"), "{shown}");
    }
}
