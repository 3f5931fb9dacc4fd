//! HTTP: requests out, JSON or a sentence back.
//!
//! Deliberately absent: what the paths mean, and retries.

use std::error::Error as _;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use reqwest::blocking::{Body, ClientBuilder, RequestBuilder, Response};
use reqwest::{Method, Url};
use serde_json::Value;

use super::{Credentials, RegistryError, Timeouts};

/// How much of an answer that is not JSON is looked at.
const MESSAGE_BYTES: u64 = 64 * 1024;
/// How much of the server's words is repeated, characters.
const MESSAGE_CHARS: usize = 600;

/// A tracking server's address with all that is needed to ask it.
pub(super) struct Client {
    http: reqwest::blocking::Client,
    base: Url,
    credentials: Option<Credentials>,
    timeout: Duration,
}

impl Client {
    /// For a running server.
    pub(super) fn running(
        base: &Url,
        credentials: Option<Credentials>,
        timeouts: &Timeouts,
    ) -> Result<Self, RegistryError> {
        let builder = builder(timeouts);
        // A proxy from the environment cannot reach this machine's loopback.
        let builder = if is_loopback(base) { builder.no_proxy() } else { builder };
        Self::build(builder, base.clone(), credentials, timeouts)
    }

    /// For a server of ours that listens on a Unix socket.
    #[cfg(unix)]
    pub(super) fn unix(
        socket: &std::path::Path,
        base: Url,
        timeouts: &Timeouts,
    ) -> Result<Self, RegistryError> {
        Self::build(builder(timeouts).no_proxy().unix_socket(socket), base, None, timeouts)
    }

    fn build(
        builder: ClientBuilder,
        base: Url,
        credentials: Option<Credentials>,
        timeouts: &Timeouts,
    ) -> Result<Self, RegistryError> {
        let http = builder.build().map_err(|error| RegistryError::Unreachable {
            url: base.to_string(),
            reason: sentence(error),
            advice: "this is about the HTTP client itself, such as missing CA certificates"
                .to_owned(),
        })?;
        Ok(Self { http, base, credentials, timeout: timeouts.request })
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
        crate::files::write_atomically(to, response).map_err(|error| RegistryError::Io {
            action: "download",
            path: to.to_owned(),
            error,
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

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.http.request(method, url).timeout(self.timeout);
        match &self.credentials {
            Some(Credentials::Basic { username, password }) => {
                request.basic_auth(username, Some(password))
            }
            Some(Credentials::Token(token)) => request.bearer_auth(token),
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
        let advice = if error.is_timeout() {
            "the server is overloaded or something between swallows the request"
        } else {
            "check the tracking URI and that the MLflow server is running"
        };
        RegistryError::Unreachable {
            url: url.to_owned(),
            reason: self.redacted(&sentence(error)),
            advice: advice.to_owned(),
        }
    }

    fn refused(&self, url: &str, response: Response) -> RegistryError {
        let status = response.status().as_u16();
        let html = is_html(&response);
        let mut body = Vec::new();
        // What arrived before a broken connection is still worth reading.
        let _ = response.take(MESSAGE_BYTES).read_to_end(&mut body);
        let (code, message) = server_message(&body, html);
        let advice = advice(status, &message, self.credentials.is_some());
        RegistryError::Refused {
            url: url.to_owned(),
            status,
            code,
            message: self.redacted(&message),
            advice,
        }
    }

    /// Some servers and proxies repeat the request's header in their answer.
    fn redacted(&self, message: &str) -> String {
        match self.credentials.as_ref().map(Credentials::secret) {
            Some(secret) if !secret.is_empty() => message.replace(secret, "***"),
            _ => message.to_owned(),
        }
    }
}

fn builder(timeouts: &Timeouts) -> ClientBuilder {
    static PROVIDER: std::sync::Once = std::sync::Once::new();
    // An error says that the program has already installed one, which is as good.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    // Each request has its own deadline; the client's default of 30 s would cut long uploads.
    reqwest::blocking::Client::builder()
        .user_agent(concat!("detgate/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(timeouts.connect)
        .timeout(None)
}

fn is_loopback(url: &Url) -> bool {
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
fn sentence(error: reqwest::Error) -> String {
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
fn server_message(body: &[u8], html: bool) -> (Option<String>, String) {
    if let Ok(json) = serde_json::from_slice::<Value>(body) {
        let text = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
        if let Some(message) = text("message").or_else(|| text("detail")) {
            return (text("error_code"), shortened(&message));
        }
    }
    let text = String::from_utf8_lossy(body);
    let words = if html || text.trim_start().starts_with("<") {
        without_tags(&text)
    } else {
        text.into_owned()
    };
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
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

    #[test]
    fn the_servers_words_are_found_in_json_web_pages_and_text() {
        let json = br#"{"error_code": "RESOURCE_ALREADY_EXISTS", "message": "it exists"}"#;
        assert_eq!(
            server_message(json, false),
            (Some("RESOURCE_ALREADY_EXISTS".into()), "it exists".into())
        );
        let page = b"<!doctype html>\n<html><title>x</title><body><h1>Forbidden</h1>\n<p>not  for you</p></body>";
        assert_eq!(server_message(page, true), (None, "Forbidden not for you".into()));
        assert_eq!(
            server_message(b"Invalid Host header\n", false),
            (None, "Invalid Host header".into())
        );
        assert_eq!(server_message(b"", true), (None, "no explanation".into()));
        assert_eq!(
            server_message("ü".repeat(10_000).as_bytes(), false).1.chars().count(),
            MESSAGE_CHARS + 4
        );
    }

    #[test]
    fn path_segments_are_escaped_and_a_prefix_is_kept() {
        let base = Url::parse("http://host/team/").unwrap();
        let client = Client::running(&base, None, &Timeouts::default()).unwrap();
        let url = client.url(&["api", "1/run id/artifacts/a+b ü?.pt"]);
        assert_eq!(url.as_str(), "http://host/team/api/1/run%20id/artifacts/a+b%20%C3%BC%3F.pt");
    }

    #[test]
    fn a_secret_that_the_server_repeats_is_not_repeated() {
        let base = Url::parse("http://host/").unwrap();
        let token = Some(Credentials::Token("s3cr3t".into()));
        let client = Client::running(&base, token, &Timeouts::default()).unwrap();
        assert_eq!(client.redacted("Bearer s3cr3t is unknown"), "Bearer *** is unknown");
    }
}
