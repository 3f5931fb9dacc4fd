//! Detections in COCO's results format: `[{"image_id", "category_id", "bbox", "score"}, ...]`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Detection;
use crate::dataset::Bbox;
use crate::json::{self, Cursor, Parsed, What};

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
    /// Not JSON, or not COCO results; or numbers that no box or score can have.
    #[error("{} is not a COCO results file: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, column, JSON path, and what was expected there.
        what: String,
    },
}

#[derive(Serialize)]
struct Entry {
    image_id: i64,
    category_id: i64,
    bbox: Bbox,
    score: f64,
}

/// The detections of a results file in its order, with their image ids. Detections on the same image
/// usually stand together, so an id is kept once for all of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Results {
    pieces: Vec<Piece>,
}

/// A part of the file.
#[derive(Debug, Clone, PartialEq, Default)]
struct Piece {
    detections: Vec<Detection>,
    /// Image id and one past its last detection; it begins where the one before ends.
    runs: Vec<(i64, u32)>,
}

impl Results {
    /// How many detections there are.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.detections.len()).sum()
    }

    /// There is no detection.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Neighbours on the same image, with its id, in file order.
    pub fn runs(&self) -> impl Iterator<Item = (i64, &[Detection])> {
        self.pieces.iter().flat_map(|piece| {
            let mut start = 0;
            piece.runs.iter().map(move |&(image_id, end)| {
                let run = start..end as usize;
                start = run.end;
                (image_id, &piece.detections[run])
            })
        })
    }

    /// Deals the detections out to the images with these ids, in file order.
    pub fn by_image(&self, image_ids: impl Iterator<Item = i64>) -> ByImage<'_> {
        let index: HashMap<i64, usize> = image_ids.zip(0..).collect();
        let mut images = vec![Cow::Borrowed(&[][..]); index.len()];
        let mut elsewhere = BTreeMap::new();
        for (image_id, run) in self.runs() {
            let Some(&image) = index.get(&image_id) else {
                *elsewhere.entry(image_id).or_default() += run.len();
                continue;
            };
            match &mut images[image] {
                empty if empty.is_empty() => *empty = Cow::Borrowed(run),
                begun => begun.to_mut().extend_from_slice(run),
            }
        }
        ByImage { images, elsewhere }
    }
}

/// Detections, image by image.
#[derive(Debug, Clone, PartialEq)]
pub struct ByImage<'r> {
    /// In the order of the images.
    pub images: Vec<Cow<'r, [Detection]>>,
    /// How many detections are on images that were not asked for, by image id.
    pub elsewhere: BTreeMap<i64, usize>,
}

/// Reads a results file, which may be packed with gzip or Zstandard, on rayon's current pool.
///
/// # Errors
/// Unreadable or malformed JSON; a score or box that is not finite, a negative width or height.
pub fn read(path: &Path) -> Result<Results, ResultsError> {
    let pieces =
        json::records(|| json::open(path), Piece::for_text, entry).map_err(
            |error| match error {
                json::Error::Io(error) => {
                    ResultsError::Io { action: "read", path: path.to_owned(), error }
                }
                fault => ResultsError::Malformed { path: path.to_owned(), what: fault.to_string() },
            },
        )?;
    Ok(Results { pieces })
}

impl Piece {
    /// With room for what so many bytes hold, so that it need not grow and be copied. Entries are
    /// seldom shorter than 70 bytes.
    fn for_text(bytes: usize) -> Self {
        Self { detections: Vec::with_capacity(bytes / 70), runs: Vec::new() }
    }
}

/// Reads one detection.
fn entry(cursor: &mut Cursor, piece: &mut Piece) -> Parsed<()> {
    let (mut image_id, mut category_id, mut bbox, mut score) = (None, None, None, None);
    cursor.object(|cursor, key| {
        match key {
            b"image_id" => image_id = Some(cursor.integer()?),
            b"category_id" => category_id = Some(cursor.integer()?),
            b"bbox" => bbox = Some(Bbox::from(cursor.four_numbers()?)),
            b"score" => score = Some(cursor.number()?),
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    let (Some(image_id), Some(category_id), Some(bbox), Some(score)) =
        (image_id, category_id, bbox, score)
    else {
        let present = [image_id.is_some(), category_id.is_some(), bbox.is_some(), score.is_some()];
        let keys = ["image_id", "category_id", "bbox", "score"].into_iter().zip(present);
        let missing = keys.filter(|(_, present)| !present).map(|(key, _)| key).next();
        return Err(cursor.fault(What::Missing(missing.unwrap_or_default())));
    };
    if bbox.w < 0.0 || bbox.h < 0.0 {
        let bbox = <[f64; 4]>::from(bbox);
        let what = format!("the box {bbox:?}; width and height must not be negative");
        return Err(cursor.fault(What::Invalid(what)));
    }
    piece.detections.push(Detection { bbox, score, category_id });
    let end = piece.detections.len() as u32;
    match piece.runs.last_mut() {
        Some((last, last_end)) if *last == image_id => *last_end = end,
        _ => piece.runs.push((image_id, end)),
    }
    Ok(())
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
