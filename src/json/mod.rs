//! Reading the large JSON documents of COCO quickly: annotations and results.
//!
//! A general reader spends more time on a results file than the whole evaluation takes. This one
//! knows what it looks for ([`cursor`]), keeps nothing else, reads from front to back ([`stream`]) or
//! on all threads ([`blocks`]), and unpacks on the way ([`source`]). Small documents are serde's.

mod blocks;
mod cursor;
mod number;
mod source;
mod stream;

use std::io::{self, Read};

pub(crate) use blocks::records;
pub(crate) use cursor::{Cursor, Parsed, What};
pub(crate) use source::open;
pub(crate) use stream::Stream;

/// No value is longer, bytes: a file without an end of one in so much text is something else, and must
/// not fill the memory.
const LONGEST_VALUE: usize = 1 << 30;

/// Why a document could not be read.
#[derive(Debug)]
pub(crate) enum Error {
    /// What the system said, or why packed data could not be unpacked.
    Io(io::Error),
    /// The text is not what was expected.
    Fault {
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
        /// Where in the document: `.annotations[41].bbox[2]`.
        path: String,
        /// What is wrong.
        what: What,
    },
}

impl Error {
    /// The same, seen from the object that holds it under `key`.
    fn inside(mut self, key: &str) -> Self {
        if let Self::Fault { path, .. } = &mut self {
            path.insert_str(0, &format!(".{key}"));
        }
        self
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Fault { line, column, path, what } => {
                write!(f, "line {line}, column {column}: ")?;
                match path.trim_start_matches('.') {
                    "" => write!(f, "{what}"),
                    path => write!(f, "at {path}: {what}"),
                }
            }
        }
    }
}

/// Appends up to `count` bytes, and says whether the source has ended.
fn read_up_to(source: &mut impl Read, text: &mut Vec<u8>, count: usize) -> io::Result<bool> {
    let mut filled = text.len();
    text.resize(filled + count, 0);
    while filled < text.len() {
        match source.read(&mut text[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let ended = filled < text.len();
    text.truncate(filled);
    Ok(ended)
}
