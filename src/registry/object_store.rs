//! An object store that is written to under signed URLs, one part of a file at a time.
//!
//! A signed URL is a secret: who has it may write. None is in an error, nor any value of its query that
//! the store repeats. The store never gets what MLflow's server gets to know us by: neither its
//! credentials nor its certificates, and no redirect is followed.
//!
//! Deliberately absent: making or checking a signature, which are the server's and the store's, and the
//! stores' own interfaces: a `PUT` is all that they have in common.

use std::collections::BTreeSet;
use std::io::Read;
use std::time::Duration;

use reqwest::Url;
use reqwest::blocking::{Body, Client, Response};
use reqwest::header::{ETAG, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::client::{builder, is_loopback, retry_after, sentence};
use super::{RegistryError, RegistrySettings};

const MESSAGE_BYTES: u64 = 64 * 1024;
/// Values of a query that are shorter are no secrets: numbers of parts, algorithms' versions.
const SECRET_CHARS: usize = 8;
const ADVICE: &str = "large files go straight to the object store of the MLflow server, under addresses that it signs; where \
                      that store cannot be used from here, MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD=false sends them \
                      through the server";

/// Where one part goes. There is no `Debug`: the URL is secret.
pub(super) struct SignedUrl {
    url: Url,
    headers: HeaderMap,
}

impl SignedUrl {
    /// From the server's answer, with the headers that the signature wants; `None` where they make no sense.
    pub(super) fn read(url: &Value, headers: &Value) -> Option<Self> {
        let url = Url::parse(url.as_str()?).ok()?;
        let entries = headers.as_object().into_iter().flatten();
        let header = |(name, value): (&String, &Value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let mut value = HeaderValue::from_str(value.as_str()?).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        };
        let headers = entries.map(header).collect::<Option<_>>()?;
        matches!(url.scheme(), "http" | "https").then_some(Self { url, headers })
    }

    /// As the server wrote it, for the server.
    pub(super) fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// All that may be shown of it.
    fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// `text` without what is secret in the URL and its headers, should somebody repeat it.
    pub(super) fn redacted(&self, text: &str) -> String {
        let written = self.url.query().into_iter().flat_map(|query| query.split('&'));
        let written = written.filter_map(|pair| Some(pair.split_once('=')?.1.to_owned()));
        let read = self.url.query_pairs().map(|(_, value)| value.into_owned());
        let headers =
            self.headers.values().filter_map(|value| Some(value.to_str().ok()?.to_owned()));
        let secrets: BTreeSet<String> = written.chain(read).chain(headers).collect();
        let secrets = secrets.iter().filter(|secret| secret.len() >= SECRET_CHARS);
        // The longest first, for one may be part of another.
        let mut secrets: Vec<&String> = secrets.collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.into_iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

/// What is needed to write to it.
pub(super) struct ObjectStore {
    http: Client,
    timeout: Duration,
}

impl ObjectStore {
    /// For the store of a signed URL.
    ///
    /// # Errors
    /// [`RegistryError::Unreachable`] about the HTTP client itself.
    pub(super) fn new(
        first: &SignedUrl,
        settings: &RegistrySettings,
    ) -> Result<Self, RegistryError> {
        let builder = builder(&settings.timeouts)
            .redirect(reqwest::redirect::Policy::none())
            .tls_danger_accept_invalid_certs(settings.multipart.insecure_tls);
        // A proxy from the environment cannot reach this machine's loopback.
        let builder = if is_loopback(&first.url) { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| unreachable(first, error))?;
        Ok(Self { http, timeout: settings.timeouts.request })
    }

    /// `PUT` of a body of `length` bytes, beside `others` at the same time. Returns the part's ETag, empty
    /// where the store has none.
    ///
    /// # Errors
    /// [`RegistryError::Unreachable`] and [`RegistryError::Refused`], which name the store's origin only.
    pub(super) fn put(
        &self,
        to: &SignedUrl,
        reader: impl Read + Send + 'static,
        length: u64,
        others: u64,
    ) -> Result<String, RegistryError> {
        let patience = self.timeout + Duration::from_secs(length * (others + 1) / (256 * 1024));
        let request = self.http.put(to.url.clone()).headers(to.headers.clone()).timeout(patience);
        let response = request.body(Body::sized(reader, length)).send();
        let response = response.map_err(|error| unreachable(to, error))?;
        if !response.status().is_success() {
            return Err(refused(to, response));
        }
        let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
        Ok(etag.unwrap_or_default().to_owned())
    }
}

fn unreachable(to: &SignedUrl, error: reqwest::Error) -> RegistryError {
    RegistryError::Unreachable {
        url: to.origin(),
        is_permanent: super::tls::distrust(&error).is_some() || error.is_builder(),
        reason: to.redacted(&sentence(error)),
        advice: ADVICE.to_owned(),
    }
}

fn refused(to: &SignedUrl, response: Response) -> RegistryError {
    let status = response.status().as_u16();
    let retry_after = retry_after(&response);
    let mut body = Vec::new();
    // The status says enough where the rest is cut.
    let _ = response.take(MESSAGE_BYTES).read_to_end(&mut body);
    RegistryError::Refused {
        url: to.origin(),
        status,
        code: None,
        message: to.redacted(&words(&String::from_utf8_lossy(&body))),
        advice: format!("; {ADVICE}"),
        retry_after,
    }
}

/// The code and message of a store's XML. Nothing else of it: S3 repeats what was signed, and how.
fn words(xml: &str) -> String {
    let element = |name: &str| {
        let (_, rest) = xml.split_once(&format!("<{name}>"))?;
        let text = rest.split_once('<')?.0.split_whitespace().collect::<Vec<_>>().join(" ");
        (!text.is_empty()).then_some(text)
    };
    let found: Vec<String> = ["Code", "Message"].into_iter().filter_map(element).collect();
    if found.is_empty() { "no explanation".to_owned() } else { found.join(": ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn signed() -> SignedUrl {
        let url = "https://bucket.s3.example/key?partNumber=3&X-Amz-Credential=AKIAEXAMPLE%2F20261123\
                   &X-Amz-Signature=0123456789abcdef";
        SignedUrl::read(&json!(url), &json!({ "x-amz-security-token": "token of the session" }))
            .unwrap()
    }

    #[test]
    fn nothing_of_a_signature_is_repeated() {
        let said = "part 3: AKIAEXAMPLE/20261123, AKIAEXAMPLE%2F20261123, 0123456789abcdef, token of the session";
        assert_eq!(signed().redacted(said), "part 3: ***, ***, ***, ***");
        assert_eq!(signed().origin(), "https://bucket.s3.example");
    }

    #[test]
    fn of_a_stores_answer_only_code_and_message_are_repeated() {
        let xml = "<?xml version=\"1.0\"?>\n<Error><Code>SignatureDoesNotMatch</Code><Message>It does\n not match.\
                   </Message><AWSAccessKeyId>AKIA</AWSAccessKeyId><StringToSign>secret</StringToSign></Error>";
        assert_eq!(words(xml), "SignatureDoesNotMatch: It does not match.");
        for other in ["", "<html><body>AKIA</body></html>", "<Code>", "secret"] {
            assert_eq!(words(other), "no explanation", "{other}");
        }
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        for url in [json!(null), json!("not a url"), json!("file:///etc/passwd")] {
            assert!(SignedUrl::read(&url, &json!({})).is_none(), "{url}");
        }
        for headers in [json!({ "a b": "c" }), json!({ "a": "b\nc" }), json!({ "a": 1 })] {
            assert!(SignedUrl::read(&json!("https://host/"), &headers).is_none(), "{headers}");
        }
        assert!(SignedUrl::read(&json!("https://host/"), &json!(null)).is_some());
    }
}
