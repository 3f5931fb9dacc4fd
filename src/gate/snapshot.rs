//! The baseline on disk: an insta-format snapshot whose body is JSON. Its detections lie beside it
//! ([`super::stored`]).

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fingerprint, GateError, MetricTable, Verdict};

/// The version of the snapshot's body; raised when a field changes its meaning.
pub const SCHEMA: u32 = 2;

/// The metrics of one run, what must be equal to compare with them, and where they come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SCHEMA`] when it was written.
    pub schema: u32,
    /// What must be equal in a run that is compared with this one.
    pub fingerprint: Fingerprint,
    /// Where the numbers come from; never compared.
    pub provenance: Provenance,
    /// When, from which commit and why; never compared.
    pub recorded: Recorded,
    /// BLAKE3 of the file of detections beside the snapshot, hexadecimal, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detections_blake3: Option<String>,
    /// Every metric over all images; those on slices follow from the detections.
    pub metrics: MetricTable,
}

/// What a reviewer wants to know of how a snapshot came about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// When it was evaluated: RFC 3339, UTC, to the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// The project's commit, where it is a git repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_commit: Option<String>,
    /// Why it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the gate said of it, against the baseline of then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// What spoke against accepting it, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objections: Vec<String>,
    /// [`Snapshot::digest`] of the baseline that it was compared with, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
}

/// Where a run's numbers come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Provenance {
    /// The checkpoint's file name.
    pub checkpoint: String,
    /// BLAKE3 of the checkpoint's bytes, hexadecimal.
    pub checkpoint_blake3: String,
    /// The versions of detgate and of the inference engine, and what the CPU can do. Another engine
    /// may move a metric by `numeric_noise`; it is said, not refused.
    pub engine: String,
}

impl Snapshot {
    /// Reads a snapshot; `Ok(None)` when there is no such file.
    ///
    /// # Errors
    /// [`GateError::Io`] and [`GateError::Malformed`], both naming `path`.
    pub fn read(path: &Path) -> Result<Option<Self>, GateError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(GateError::Io { action: "read", path: path.to_owned(), error });
            }
        };
        Self::parse(&text, path).map(Some)
    }

    /// Reads a snapshot's text; `path` is where it stands.
    ///
    /// # Errors
    /// [`GateError::Malformed`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, GateError> {
        let malformed = |reason: String| GateError::Malformed { path: path.to_owned(), reason };
        let parse_error = |error: serde_json::Error| malformed(error.to_string());
        // Another version may lack fields: its number is looked at before them.
        let Version { schema } = serde_json::from_str(body(text)).map_err(parse_error)?;
        if schema != SCHEMA {
            return Err(malformed(format!("its schema is {schema}, this detgate reads {SCHEMA}")));
        }
        serde_json::from_str(body(text)).map_err(parse_error)
    }

    /// The snapshot without insta's header.
    pub fn body(&self) -> String {
        // Every value has a JSON form.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Writes the snapshot whole or not at all.
    ///
    /// # Errors
    /// [`GateError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), GateError> {
        crate::files::write_atomically(path, self.to_string().as_bytes())
            .map_err(|error| GateError::Io { action: "write", path: path.to_owned(), error })
    }

    /// Whether the two agree in everything but where they come from; metrics that differ by at most
    /// `numeric_noise` are equal.
    pub fn same_results(&self, other: &Self, numeric_noise: f64) -> bool {
        let close = |a: &Option<f64>, b: &Option<f64>| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() <= numeric_noise,
            (a, b) => a == b,
        };
        let metrics = || self.metrics.iter().zip(&other.metrics);
        self.fingerprint == other.fingerprint
            && self.metrics.len() == other.metrics.len()
            && metrics().all(|((a_name, a), (b_name, b))| a_name == b_name && close(a, b))
    }

    /// BLAKE3 of what a candidate is compared with, hexadecimal.
    pub fn digest(&self) -> String {
        let compared = serde_json::json!([self.fingerprint, self.metrics, self.detections_blake3]);
        blake3::hash(compared.to_string().as_bytes()).to_hex().to_string()
    }

    /// Where a candidate waits for review: `baseline.snap.new`, as insta names it.
    pub fn pending_path(baseline: &Path) -> PathBuf {
        let mut name = baseline.as_os_str().to_owned();
        name.push(".new");
        name.into()
    }
}

impl std::fmt::Display for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "---\nsource: detgate\nexpression: evaluation\n---\n{}\n", self.body())
    }
}

/// All that every version has.
#[derive(Deserialize)]
struct Version {
    schema: u32,
}

/// The snapshot without insta's YAML header, which review tools may rewrite; git may end its lines as
/// Windows does.
fn body(text: &str) -> &str {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_fence = |line: &str| line.trim_end_matches(['\r', '\n']) == "---";
    let Some(first) = text.split_inclusive('\n').next().filter(|line| is_fence(line)) else {
        return text;
    };
    let mut at = first.len();
    for line in text[at..].split_inclusive('\n') {
        at += line.len();
        if is_fence(line) {
            return &text[at..];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_may_come_with_the_line_ends_of_windows() {
        let snapshot = Snapshot {
            schema: SCHEMA,
            fingerprint: Fingerprint::default(),
            provenance: Provenance::default(),
            recorded: Recorded { reason: Some("a\n---\nb".to_owned()), ..Recorded::default() },
            detections_blake3: None,
            metrics: MetricTable::from([("AP".to_owned(), Some(0.5))]),
        };
        let (text, path) = (snapshot.to_string(), Path::new("b.snap"));
        let windows = text.replace('\n', "\r\n");
        for text in [&text, &windows, &format!("\u{feff}{windows}"), &snapshot.body()] {
            assert_eq!(Snapshot::parse(text, path).unwrap(), snapshot, "{text:?}");
        }
        assert!(Snapshot::parse("---\r\nsource: detgate\r\n", path).is_err());
    }
}
