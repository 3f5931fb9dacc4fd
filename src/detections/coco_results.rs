//! Detections in COCO's results format: `[{"image_id", "category_id", "bbox", "score"}, ...]`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Detection;
use crate::dataset::Bbox;

/// Why a results file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// The file system refused.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Not JSON, or not COCO results.
    #[error("{} is not a COCO results file: {error}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What and where, as line and column.
        error: serde_json::Error,
    },
    /// A number that no box or score can have.
    #[error("{}: entry {index} has {what}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which entry, from 0.
        index: usize,
        /// What is wrong.
        what: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Entry {
    image_id: i64,
    category_id: i64,
    bbox: Bbox,
    score: f64,
}

/// Reads a results file: each detection with its image's id, in file order.
///
/// # Errors
/// Unreadable or malformed JSON; a score or box that is not finite, a negative width or height.
pub fn read(path: &Path) -> Result<Vec<(i64, Detection)>, ResultsError> {
    let text = std::fs::read(path).map_err(|error| ResultsError::Io {
        action: "read",
        path: path.to_owned(),
        error,
    })?;
    let entries: Vec<Entry> = serde_json::from_slice(&text)
        .map_err(|error| ResultsError::Json { path: path.to_owned(), error })?;
    let check = |(index, entry): (usize, Entry)| {
        let Entry { image_id, category_id, bbox, score } = entry;
        let numbers = [bbox.x, bbox.y, bbox.w, bbox.h, score];
        if numbers.iter().any(|n| !n.is_finite()) || bbox.w < 0.0 || bbox.h < 0.0 {
            let what = format!(
                "the box {:?} and score {score}; they must be finite, width and height not negative",
                <[f64; 4]>::from(bbox)
            );
            return Err(ResultsError::Invalid { path: path.to_owned(), index, what });
        }
        Ok((image_id, Detection { bbox, score, category_id }))
    };
    entries.into_iter().enumerate().map(check).collect()
}

/// Writes a results file, one detection a line, whole or not at all.
///
/// # Errors
/// [`ResultsError::Io`].
pub fn write<'a>(
    path: &Path,
    images: impl IntoIterator<Item = (i64, &'a [Detection])>,
) -> Result<(), ResultsError> {
    let io = |error| ResultsError::Io { action: "write", path: path.to_owned(), error };
    let entries = images.into_iter().flat_map(|(image_id, detections)| {
        detections.iter().map(move |d| Entry {
            image_id,
            category_id: d.category_id,
            bbox: d.bbox,
            score: d.score,
        })
    });
    let mut text = b"[".to_vec();
    for (index, entry) in entries.enumerate() {
        text.extend_from_slice(if index == 0 { b"\n" } else { b",\n" });
        serde_json::to_writer(&mut text, &entry).map_err(|error| io(error.into()))?;
    }
    text.extend_from_slice(b"\n]\n");
    crate::files::write_atomically(path, &text[..]).map_err(io)
}
