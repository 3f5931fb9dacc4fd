//! The baseline on disk: an insta-format snapshot whose body is JSON.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Fingerprint, GateError, MetricTable};

/// The version of the snapshot's body; raised when a field changes its meaning.
pub const SCHEMA: u32 = 1;

/// The metrics of one run, what must be equal to compare with them, and where they come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SCHEMA`] when it was written.
    pub schema: u32,
    /// What must be equal in a run that is compared with this one.
    pub fingerprint: Fingerprint,
    /// Recorded for people; never compared.
    pub provenance: Provenance,
    /// Every reported metric.
    pub metrics: MetricTable,
}

/// Where a run's numbers come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The checkpoint's file name.
    pub checkpoint: String,
    /// BLAKE3 of the checkpoint's bytes, hexadecimal.
    pub checkpoint_blake3: String,
    /// detgate's version and the inference engine's.
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
        let malformed = |reason: String| GateError::Malformed { path: path.to_owned(), reason };
        let snapshot: Self =
            serde_json::from_str(body(&text)).map_err(|error| malformed(error.to_string()))?;
        if snapshot.schema != SCHEMA {
            return Err(malformed(format!(
                "its schema is {}, this detgate reads {SCHEMA}",
                snapshot.schema
            )));
        }
        Ok(Some(snapshot))
    }

    /// Writes the snapshot whole or not at all.
    ///
    /// # Errors
    /// [`GateError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), GateError> {
        crate::files::write_atomically(path, self.to_string().as_bytes())
            .map_err(|error| GateError::Io { action: "write", path: path.to_owned(), error })
    }

    /// Whether the two agree in everything but where they come from.
    pub fn same_results(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.metrics == other.metrics
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
        let json = serde_json::to_string_pretty(self).map_err(|_| std::fmt::Error)?;
        write!(f, "---\nsource: detgate\nexpression: evaluation\n---\n{json}\n")
    }
}

/// The snapshot without insta's YAML header, which review tools may rewrite.
fn body(text: &str) -> &str {
    text.strip_prefix("---\n")
        .and_then(|rest| rest.split_once("\n---\n"))
        .map_or(text, |(_header, body)| body)
}
