//! What a CSV file says of each image: one of its columns, by file name or by image id.
//!
//! The first line names the columns; commas part them. Deliberately absent: other separators, and any
//! meaning of the values.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;

use csv::{ErrorKind, Position, ReaderBuilder, StringRecord, Trim};

use super::{ImageRecord, SliceError};
use crate::nearest::nearest;
use crate::shown::count;

/// The columns that may say which image a row is about; the first that a file has does.
const KEYS: [&str; 2] = ["image_id", "file_name"];

/// Which image a row is about.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    Id(i64),
    /// Folders parted by `/`, without a leading `./`.
    FileName(String),
}

impl Key {
    fn file_name(text: &str) -> Self {
        let text = text.replace('\\', "/");
        Self::FileName(text.strip_prefix("./").map(str::to_owned).unwrap_or(text))
    }

    fn of(image: &ImageRecord, by_id: bool) -> Self {
        if by_id { Self::Id(image.id) } else { Self::file_name(&image.file_name) }
    }
}

/// What `column` of the CSV file `path` says of each image, in the order of `images`; `None` where no
/// row is about it. Rows about other images are passed over: the file may be about a whole data set.
///
/// # Errors
/// [`SliceError`] when the file cannot be read or understood, gives an image two values, or is about
/// none of the images.
pub(super) fn read_column<I: Borrow<ImageRecord>>(
    path: &Path,
    column: &str,
    images: &[I],
) -> Result<Vec<Option<String>>, SliceError> {
    let bytes =
        std::fs::read(path).map_err(|error| SliceError::Read { path: path.to_owned(), error })?;
    let table = Table { path, bytes: bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes) };
    let (by_id, rows) = table.column(column)?;
    let said: Vec<Option<String>> =
        images.iter().map(|image| rows.get(&Key::of(image.borrow(), by_id)).cloned()).collect();
    match images.first() {
        Some(image) if said.iter().all(Option::is_none) => {
            Err(table.about_others(image.borrow(), by_id))
        }
        _ => Ok(said),
    }
}

struct Table<'a> {
    path: &'a Path,
    /// The whole file, without a byte order mark.
    bytes: &'a [u8],
}

impl Table<'_> {
    /// Whether rows name images by id, and the value of `wanted` for each image that is named.
    fn column(&self, wanted: &str) -> Result<(bool, HashMap<Key, String>), SliceError> {
        if let Some(at) = unclosed_quote(self.bytes) {
            let what = "a quote that opens here is never closed; close it, or write \"\" for a quote in a value";
            return Err(self.wrong(at as u64, what.to_owned()));
        }
        let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(self.bytes);
        let header = reader.headers().map_err(|error| self.misread(error))?.clone();
        let (key, value) = self.columns(&header, wanted)?;
        let by_id = &header[key] == KEYS[0];
        let mut rows: HashMap<Key, (String, u64)> = HashMap::new();
        for record in reader.records() {
            let record = record.map_err(|error| self.misread(error))?;
            let at = record.position().map_or(0, Position::byte);
            let said = record[value].to_owned();
            match rows.entry(self.key(&record[key], by_id, at)?) {
                Entry::Vacant(place) => _ = place.insert((said, at)),
                Entry::Occupied(place) if place.get().0 == said => {}
                Entry::Occupied(place) => {
                    let (before, first) = place.get();
                    let what = format!(
                        "{wanted} of {} is {said:?} here and {before:?} in line {}; keep one",
                        &record[key],
                        self.line(*first)
                    );
                    return Err(self.wrong(at, what));
                }
            }
        }
        Ok((by_id, rows.into_iter().map(|(key, (said, _))| (key, said)).collect()))
    }

    /// Where the key and the wanted column are.
    fn columns(&self, header: &StringRecord, wanted: &str) -> Result<(usize, usize), SliceError> {
        let find = |name: &str| header.iter().position(|column| column == name);
        let all =
            || header.iter().map(|column| format!("{column:?}")).collect::<Vec<_>>().join(", ");
        if header.is_empty() {
            let what = format!("the file is empty; its first line must be file_name,{wanted}");
            return Err(self.wrong(0, what));
        }
        let Some(key) = KEYS.into_iter().find_map(find) else {
            let what = format!(
                "no column file_name or image_id says which image a row is about; the columns, \
                 parted by commas, are {}",
                all()
            );
            return Err(self.wrong(0, what));
        };
        let Some(value) = find(wanted) else {
            let remedy = match nearest(wanted, header.iter()) {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => format!("the columns are {}", all()),
            };
            return Err(self.wrong(0, format!("there is no column {wanted:?}; {remedy}")));
        };
        match header.iter().filter(|column| *column == wanted).count() {
            1 => Ok((key, value)),
            n => {
                Err(self.wrong(0, format!("{n} columns are named {wanted:?}; rename all but one")))
            }
        }
    }

    fn key(&self, text: &str, by_id: bool, at: u64) -> Result<Key, SliceError> {
        if !by_id {
            return Ok(Key::file_name(text));
        }
        let id = text.parse().map(Key::Id);
        id.map_err(|_| self.wrong(at, format!("image_id is {text:?}; it must be a whole number")))
    }

    fn about_others(&self, image: &ImageRecord, by_id: bool) -> SliceError {
        let (key, like) = match by_id {
            true => ("image_id", image.id.to_string()),
            false => ("file_name", format!("{:?}", image.file_name)),
        };
        let what = format!("no row is about an image that is evaluated; {key} must be like {like}");
        self.wrong(0, what)
    }

    fn misread(&self, error: csv::Error) -> SliceError {
        let at = error.position().map_or(0, Position::byte);
        let what = match error.into_kind() {
            ErrorKind::Utf8 { .. } => "this is not UTF-8; save the file as UTF-8".to_owned(),
            ErrorKind::UnequalLengths { expected_len, len, .. } => format!(
                "{} where the header has {expected_len}; put quotes around values with commas",
                count(len as usize, "value")
            ),
            other => format!("{other:?}"),
        };
        self.wrong(at, what)
    }

    fn wrong(&self, at: u64, what: String) -> SliceError {
        SliceError::Csv { path: self.path.to_owned(), line: self.line(at), what }
    }

    /// The line of the record that is read from byte `at` on: the reader passes over empty lines.
    fn line(&self, at: u64) -> usize {
        let (before, rest) = self.bytes.split_at(self.bytes.len().min(at as usize));
        let empty = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
        let breaks = before.iter().chain(empty).filter(|byte| **byte == b'\n');
        1 + breaks.count()
    }
}

/// Where a quoted value begins that has no end: the reader would take the rest of the file for it.
fn unclosed_quote(bytes: &[u8]) -> Option<usize> {
    /// Where in a value a byte is, as the reader sees it.
    enum Place {
        Start,
        Plain,
        Quoted(usize),
        /// After a quote in a quoted value, which closes it unless another follows.
        Closed(usize),
    }
    let mut place = Place::Start;
    for (at, byte) in bytes.iter().enumerate() {
        place = match (place, byte) {
            (Place::Start, b'"') => Place::Quoted(at),
            (Place::Closed(opened), b'"') => Place::Quoted(opened),
            (Place::Quoted(opened), b'"') => Place::Closed(opened),
            (Place::Quoted(opened), _) => Place::Quoted(opened),
            (_, b',' | b'\n' | b'\r') => Place::Start,
            _ => Place::Plain,
        };
    }
    match place {
        Place::Quoted(opened) => Some(opened),
        _ => None,
    }
}
