//! Detections in COCO's results format: `[{"image_id", "category_id", "bbox", "score"}, ...]`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Detection;
use crate::dataset::{Bbox, Category, ImageRecord};
use crate::files::failed;
use crate::json::{self, Cursor, Parsed, What};

/// Why a results file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// The file system refused.
    #[error("cannot {action} {}: {}", path.display(), failed(error))]
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

/// The detections of a results file in its order, with their images. Detections on the same image
/// usually stand together, so it is kept once for all of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Results {
    pieces: Vec<Piece>,
}

/// How a results file says which image a detection is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ImageKey<'r> {
    /// By the image's id.
    Id(i64),
    /// By its file's name, with the extension or without: what Ultralytics writes where the names
    /// are no numbers.
    Name(&'r str),
}

impl std::fmt::Display for ImageKey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => write!(f, "{name:?}"),
        }
    }
}

/// A part of the file.
#[derive(Debug, Clone, PartialEq, Default)]
struct Piece {
    detections: Vec<Detection>,
    /// An image and one past its last detection; it begins where the one before ends.
    runs: Vec<(Key, u32)>,
    /// What the keys of `runs` refer to.
    names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Key {
    Id(i64),
    /// Place among the piece's names.
    Name(u32),
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

    /// The first detection's category where there are detections, and none of them is of one of `categories`.
    pub fn only_unlisted(&self, categories: &[Category]) -> Option<i64> {
        let listed = |detection: &Detection| {
            categories.iter().any(|category| category.id == detection.category_id)
        };
        let mut all = self.pieces.iter().flat_map(|piece| &piece.detections);
        let first = all.clone().next()?;
        (!all.any(listed)).then_some(first.category_id)
    }

    /// Neighbours on the same image, in file order.
    pub fn runs(&self) -> impl Iterator<Item = (ImageKey<'_>, &[Detection])> {
        self.pieces.iter().flat_map(|piece| {
            let mut start = 0;
            piece.runs.iter().map(move |&(key, end)| {
                let run = start..end as usize;
                start = run.end;
                let key = match key {
                    Key::Id(id) => ImageKey::Id(id),
                    Key::Name(name) => ImageKey::Name(&piece.names[name as usize]),
                };
                (key, &piece.detections[run])
            })
        })
    }

    /// Deals the detections out to the images, in file order.
    pub fn by_image(&self, records: &[ImageRecord]) -> ByImage<'_> {
        let index = index(records, self.pieces.iter().any(|piece| !piece.names.is_empty()));
        let mut images = vec![Cow::Borrowed(&[][..]); records.len()];
        let (mut elsewhere, mut ambiguous) = (BTreeMap::new(), BTreeSet::new());
        for (key, run) in self.runs() {
            let image = match index.get(&key) {
                None => {
                    *elsewhere.entry(key).or_default() += run.len();
                    continue;
                }
                Some(Meaning { image: None, .. }) => {
                    ambiguous.insert(key);
                    continue;
                }
                Some(Meaning { image: Some(image), .. }) => *image,
            };
            match &mut images[image] {
                empty if empty.is_empty() => *empty = Cow::Borrowed(run),
                begun => begun.to_mut().extend_from_slice(run),
            }
        }
        ByImage { images, elsewhere, ambiguous }
    }
}

/// Which image a key means.
struct Meaning {
    /// Place of the image; `None` where there are several.
    image: Option<usize>,
    /// How much of a path the key is; the lower the more.
    rank: usize,
}

/// What every key means. The whole path of an image goes before the names of files, and these before
/// names without their extension.
fn index(records: &[ImageRecord], with_names: bool) -> HashMap<ImageKey<'_>, Meaning> {
    let by_id = |(image, i): (&ImageRecord, usize)| {
        (ImageKey::Id(image.id), Meaning { image: Some(i), rank: 0 })
    };
    let mut index: HashMap<ImageKey, Meaning> = records.iter().zip(0..).map(by_id).collect();
    let ranks = if with_names { 0..3 } else { 0..0 };
    for (rank, (image, i)) in ranks.flat_map(|r| records.iter().zip(0..).map(move |i| (r, i))) {
        let path = Path::new(&image.file_name);
        let name = [Some(path.as_os_str()), path.file_name(), path.file_stem()][rank];
        let Some(name) = name.and_then(OsStr::to_str) else { continue };
        let meaning = index.entry(ImageKey::Name(name)).or_insert(Meaning { image: Some(i), rank });
        if meaning.rank == rank && meaning.image != Some(i) {
            meaning.image = None;
        }
    }
    index
}

/// Detections, image by image.
#[derive(Debug, Clone, PartialEq)]
pub struct ByImage<'r> {
    /// In the order of the images.
    pub images: Vec<Cow<'r, [Detection]>>,
    /// How many detections are on images that were not asked for.
    pub elsewhere: BTreeMap<ImageKey<'r>, usize>,
    /// Names of files that several images have; their detections are on none.
    pub ambiguous: BTreeSet<ImageKey<'r>>,
}

impl ByImage<'_> {
    /// With the images that they were dealt to.
    pub fn on<'a>(&'a self, records: &'a [ImageRecord]) -> Vec<(&'a ImageRecord, &'a [Detection])> {
        records.iter().zip(self.images.iter().map(AsRef::as_ref)).collect()
    }
}

/// Reads a results file, which may be packed with gzip or Zstandard, on rayon's current pool.
///
/// # Errors
/// Unreadable or malformed JSON; a score or box that is not finite, a negative width or height.
pub fn read(path: &Path) -> Result<Results, ResultsError> {
    let pieces = json::records(path, Piece::for_text, entry).map_err(|error| match error {
        json::Error::Io(error) => ResultsError::Io { action: "read", path: path.to_owned(), error },
        fault => ResultsError::Malformed { path: path.to_owned(), what: fault.to_string() },
    })?;
    Ok(Results { pieces })
}

/// Reads several results files as one, whose order makes no difference between images.
///
/// # Errors
/// As [`read`], for the first file that has one.
pub fn read_all(paths: &[PathBuf]) -> Result<Results, ResultsError> {
    let mut pieces = Vec::new();
    for path in paths {
        pieces.extend(read(path)?.pieces);
    }
    Ok(Results { pieces })
}

impl Piece {
    /// With room for what so many bytes hold, so that it need not grow and be copied. Entries are
    /// seldom shorter than 70 bytes.
    fn for_text(bytes: usize) -> Self {
        Self { detections: Vec::with_capacity(bytes / 70), ..Self::default() }
    }

    fn key(&mut self, cursor: &mut Cursor) -> Parsed<Key> {
        if cursor.peek() != Some(b'"') {
            return cursor.integer().map(Key::Id);
        }
        let name = cursor.string()?;
        if self.names.last().is_none_or(|last| *last != name) {
            self.names.push(name.into_owned());
        }
        Ok(Key::Name(self.names.len() as u32 - 1))
    }
}

/// Reads one detection.
fn entry(cursor: &mut Cursor, piece: &mut Piece) -> Parsed<()> {
    let start = cursor.position();
    let (image, detection) = match usual_entry(cursor) {
        Some(usual) => usual,
        None => {
            cursor.rewind(start);
            any_entry(cursor, piece)?
        }
    };
    let bbox = detection.bbox;
    if bbox.w < 0.0 || bbox.h < 0.0 {
        let bbox = <[f64; 4]>::from(bbox);
        let what = format!("the box {bbox:?}; width and height must not be negative");
        return Err(cursor.fault(What::Invalid(what)).in_key(b"bbox"));
    }
    piece.detections.push(detection);
    let end = piece.detections.len() as u32;
    match piece.runs.last_mut() {
        Some((last, last_end)) if *last == image => *last_end = end,
        _ => piece.runs.push((image, end)),
    }
    Ok(())
}

/// The keys that a box needs, in COCO's order and as Python writes them by default; `None` for all
/// else, whether it is right or wrong.
#[inline]
fn usual_entry(cursor: &mut Cursor) -> Option<(Key, Detection)> {
    cursor.peek();
    cursor.literal(b"{\"image_id\": ")?;
    let image = Key::Id(cursor.integer().ok()?);
    cursor.literal(b", \"category_id\": ")?;
    let category_id = cursor.integer().ok()?;
    cursor.literal(b", \"bbox\": ")?;
    let bbox = Bbox::from(cursor.four_numbers().ok()?);
    cursor.literal(b", \"score\": ")?;
    let score = cursor.number().ok()?;
    cursor.literal(b"}")?;
    Some((image, Detection { bbox, score, category_id }))
}

fn any_entry(cursor: &mut Cursor, piece: &mut Piece) -> Parsed<(Key, Detection)> {
    let (mut image, mut category_id, mut bbox, mut score) = (None, None, None, None);
    cursor.object(|cursor, key| {
        match key {
            b"image_id" => image = Some(piece.key(cursor)?),
            b"category_id" => category_id = Some(cursor.integer()?),
            b"bbox" => bbox = Some(Bbox::from(cursor.four_numbers()?)),
            b"score" => score = Some(cursor.number()?),
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    let (Some(image), Some(category_id), Some(bbox), Some(score)) =
        (image, category_id, bbox, score)
    else {
        let present = [image.is_some(), category_id.is_some(), bbox.is_some(), score.is_some()];
        let keys = ["image_id", "category_id", "bbox", "score"].into_iter().zip(present);
        let missing = keys.filter(|(_, present)| !present).map(|(key, _)| key).next();
        return Err(cursor.fault(What::Missing(missing.unwrap_or_default())));
    };
    Ok((image, Detection { bbox, score, category_id }))
}

/// Writes a results file, one detection a line, whole or not at all.
///
/// # Errors
/// [`ResultsError::Io`].
pub fn write<'a>(
    path: &Path,
    images: impl IntoIterator<Item = (i64, &'a [Detection])>,
) -> Result<(), ResultsError> {
    let written = crate::files::write_atomically_with(path, |file| {
        let mut out = BufWriter::new(file);
        write_to(&mut out, images)?;
        out.flush()
    });
    written.map_err(|error| ResultsError::Io { action: "write", path: path.to_owned(), error })
}

/// A results file in memory, packed with Zstandard. Equal detections give equal bytes.
///
/// # Errors
/// [`ResultsError::Io`], where memory ends.
pub fn pack<'a>(
    images: impl IntoIterator<Item = (i64, &'a [Detection])>,
) -> Result<Vec<u8>, ResultsError> {
    /// Numbers pack no better with more.
    const LEVEL: i32 = 3;
    let packed = || {
        let mut packer = zstd::Encoder::new(Vec::new(), LEVEL)?;
        packer.include_checksum(true)?;
        write_to(&mut packer, images)?;
        packer.finish()
    };
    packed().map_err(|error| ResultsError::Io { action: "pack", path: PathBuf::new(), error })
}

fn write_to<'a>(
    out: &mut impl Write,
    images: impl IntoIterator<Item = (i64, &'a [Detection])>,
) -> io::Result<()> {
    let entries = images.into_iter().flat_map(|(image_id, detections)| {
        detections.iter().map(move |d| Entry {
            image_id,
            category_id: d.category_id,
            bbox: d.bbox,
            score: d.score,
        })
    });
    out.write_all(b"[")?;
    for (index, entry) in entries.enumerate() {
        out.write_all(if index == 0 { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut *out, &entry)?;
    }
    out.write_all(b"\n]\n")
}
