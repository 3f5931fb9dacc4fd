//! A long array of records, read in blocks and parsed on all threads.
//!
//! A block ends where one record seems to end and the next to begin: `}`, `,`, `{`. That can be wrong
//! only inside a record, in an array of objects or a string. Every block that parses to its end proves
//! that the next one begins where a record begins, as the first one does; so if all of them parse, all
//! cuts were right. If one does not, the document is read once more from front to back, to tell a
//! wrong cut from a mistake.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::cursor::{Cursor, Parsed, What};
use super::stream::Stream;
use super::{Error, LONGEST_VALUE, open, read_up_to};

/// Large enough that the threads rarely meet, small enough that all of them are busy to the end.
const BLOCK: usize = 1 << 20;

/// Reads an array of records from a file on all threads of rayon's current pool: `record` reads one
/// and, as the last thing that it does, adds it to a piece, which `piece` makes for so many bytes of
/// text. The pieces come in the order of the records.
///
/// # Errors
/// What the system or `record` said; the first mistake in the document, whatever the threads.
pub(crate) fn records<T: Send>(
    path: &Path,
    piece: impl Fn(usize) -> T + Sync,
    record: impl Fn(&mut Cursor, &mut T) -> Parsed<()> + Sync,
) -> Result<Vec<T>, Error> {
    // A pipe can be read only once.
    if path.is_file()
        && let Some(pieces) = on_all_threads(open(path)?, BLOCK, &piece, &record)
    {
        return Ok(pieces);
    }
    front_to_back(open(path)?, piece, record)
}

/// `None` where a cut may have been wrong, or the document is.
fn on_all_threads<T: Send>(
    source: impl Read + Send,
    block: usize,
    piece: impl Fn(usize) -> T + Sync,
    record: impl Fn(&mut Cursor, &mut T) -> Parsed<()> + Sync,
) -> Option<Vec<T>> {
    let blocks = Mutex::new(Blocks::new(source, block));
    let pieces = Mutex::new(Vec::new());
    let failed = AtomicBool::new(false);
    let work = || {
        let mut text = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let next = blocks.lock().map(|mut blocks| blocks.next(&mut text));
            // A fault of the file system will be met again, and said, by the second reading.
            let Ok(Ok(place)) = next else { return failed.store(true, Ordering::Relaxed) };
            let Some(place) = place else { return };
            match (parse(&text, place, piece(text.len()), &record), pieces.lock()) {
                (Ok(piece), Ok(mut pieces)) => pieces.push((place.index, piece)),
                _ => failed.store(true, Ordering::Relaxed),
            }
        }
    };
    rayon::scope(|scope| (0..rayon::current_num_threads()).for_each(|_| scope.spawn(|_| work())));
    let mut pieces = pieces.into_inner().ok().filter(|_| !failed.into_inner())?;
    pieces.sort_unstable_by_key(|(index, _)| *index);
    Some(pieces.into_iter().map(|(_, piece)| piece).collect())
}

fn front_to_back<T>(
    source: impl Read,
    piece: impl Fn(usize) -> T,
    record: impl Fn(&mut Cursor, &mut T) -> Parsed<()>,
) -> Result<Vec<T>, Error> {
    let mut all = piece(0);
    let mut stream = Stream::new(source);
    stream.array(|cursor| record(cursor, &mut all), |()| {})?;
    stream.end()?;
    Ok(vec![all])
}

/// Which part of the document a block is.
#[derive(Clone, Copy)]
struct Place {
    index: usize,
    is_last: bool,
}

/// Reads one block; any fault may also come from a wrong cut.
fn parse<T>(
    text: &[u8],
    place: Place,
    mut piece: T,
    record: impl Fn(&mut Cursor, &mut T) -> Parsed<()>,
) -> Parsed<T> {
    let mut cursor = Cursor::new(text);
    if place.index > 0 {
        cursor.expect(b',', "`,`")?;
    } else {
        cursor.expect(b'[', "an array")?;
    }
    let mut ended = place.index == 0 && cursor.eat(b']');
    while !ended {
        record(&mut cursor, &mut piece)?;
        if cursor.peek().is_none() && !place.is_last {
            return Ok(piece);
        }
        ended = cursor.eat(b']');
        if !ended {
            cursor.expect(b',', "`,` or `]`")?;
        }
    }
    match cursor.peek() {
        None if place.is_last => Ok(piece),
        _ => Err(cursor.fault(What::Expected("the end of the file"))),
    }
}

/// Cuts a document into blocks.
struct Blocks<R> {
    source: R,
    /// How much is read at once, bytes.
    size: usize,
    /// What was read beyond the last cut.
    rest: Vec<u8>,
    index: usize,
    ended: bool,
}

impl<R: Read> Blocks<R> {
    fn new(source: R, size: usize) -> Self {
        Self { source, size, rest: Vec::new(), index: 0, ended: false }
    }

    /// Puts the next block in the place of `text`.
    fn next(&mut self, text: &mut Vec<u8>) -> io::Result<Option<Place>> {
        if self.ended {
            return Ok(None);
        }
        text.clear();
        text.append(&mut self.rest);
        loop {
            // Twice as much each time that no cut is found, so that all searches together stay short.
            self.ended = read_up_to(&mut self.source, text, text.len().max(self.size))?;
            if self.ended {
                break;
            }
            let mut bytes = text.iter().filter(|byte| !byte.is_ascii_whitespace());
            let is_array = self.index > 0 || bytes.next() == Some(&b'[');
            if !is_array || text.len() > LONGEST_VALUE {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if let Some(cut) = last_cut(text) {
                self.rest.extend_from_slice(&text[cut..]);
                text.truncate(cut);
                break;
            }
        }
        self.index += 1;
        Ok(Some(Place { index: self.index - 1, is_last: self.ended }))
    }
}

/// Where the last `,` between `}` and `{` stands.
fn last_cut(text: &[u8]) -> Option<usize> {
    let before = |end: usize| text[..end].iter().rposition(|b| !b.is_ascii_whitespace());
    let mut end = text.len();
    while let Some(brace) = text[..end].iter().rposition(|&b| b == b'{') {
        let comma = before(brace).filter(|&at| text[at] == b',');
        if comma.is_some_and(|at| before(at).is_some_and(|at| text[at] == b'}')) {
            return comma;
        }
        end = brace;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a record `{"v": N, ...}`.
    fn number(cursor: &mut Cursor, numbers: &mut Vec<i64>) -> Parsed<()> {
        let mut number = None;
        cursor.object(|cursor, key| match key {
            b"v" => cursor.integer().map(|v| number = Some(v)),
            _ => cursor.skip(),
        })?;
        numbers.push(number.ok_or_else(|| cursor.fault(What::Missing("v")))?);
        Ok(())
    }

    fn in_blocks(text: &str, size: usize) -> Option<Vec<i64>> {
        Some(on_all_threads(text.as_bytes(), size, |_| Vec::new(), number)?.concat())
    }

    /// From a file, as users have it.
    fn numbers(text: &str) -> Result<Vec<i64>, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Ok(records(file.path(), |_| Vec::new(), number)?.concat())
    }

    fn document(count: i64, extra: &str) -> String {
        let rows: Vec<String> = (0..count).map(|v| format!("{{{extra}\"v\": {v}}}")).collect();
        format!("[{}]", rows.join(" ,\n"))
    }

    #[test]
    fn many_blocks_give_all_records_in_order() {
        let text = document(400_000, "");
        assert!(text.len() > 3 * BLOCK);
        assert_eq!(numbers(&text).unwrap(), (0..400_000).collect::<Vec<_>>());
    }

    #[test]
    fn what_looks_like_a_boundary_inside_a_record_is_none() {
        for extra in ["\"note\": \"}, {\", ", "\"parts\": [{}, {\"v\": 1}, {}], "] {
            let text = document(150_000, extra);
            assert!(text.len() > 3 * BLOCK);
            assert_eq!(numbers(&text).unwrap(), (0..150_000).collect::<Vec<_>>());
        }
    }

    proptest! {
        /// Whatever the size of the blocks and wherever they end, the result is that of reading from
        /// front to back, or there is none.
        #[test]
        fn blocks_of_any_size_agree_with_reading_from_front_to_back(
            count in 0..40i64,
            extra in prop::sample::select(vec!["", "\"note\": \"}, {\", ", "\"p\": [{}, {\"v\": 1}], "]),
            edit in prop::option::of((any::<prop::sample::Index>(), prop::sample::select(&b"[]{},:\"\\1 "[..]))),
            size in 1..64usize,
        ) {
            let mut text = document(count, extra).into_bytes();
            if let Some((place, byte)) = edit {
                let at = place.index(text.len());
                text[at] = byte;
            }
            let whole = front_to_back(&text[..], |_| Vec::new(), number);
            let blocks = in_blocks(std::str::from_utf8(&text).unwrap(), size);
            match (whole, blocks) {
                (Ok(whole), Some(blocks)) => prop_assert_eq!(blocks, whole.concat()),
                (Err(_), blocks) => prop_assert_eq!(blocks, None),
                (Ok(_), None) => prop_assert!(!extra.is_empty() || edit.is_some()),
            }
        }
    }

    #[test]
    fn the_first_mistake_is_said_with_its_place() {
        let text =
            document(400_000, "").replace(": 250000}", ": 25x000}").replace(": 350000}", ": }");
        let error = numbers(&text).unwrap_err();
        assert_eq!(error.to_string(), "line 250001, column 9: at [250000]: expected `,` or `}`");
    }

    #[test]
    fn an_empty_array_has_no_records_and_an_empty_file_is_cut_short() {
        assert!(numbers(" [ ] ").unwrap().is_empty());
        for text in ["", "[", "[{\"v\": 1}", "[{\"v\": 1},"] {
            let error = numbers(text).unwrap_err().to_string();
            assert!(
                error.ends_with("the file ends too early; it is empty or was cut short"),
                "{error}"
            );
        }
        for text in ["[] 1", "[{\"v\": 1}] ]", "{}"] {
            assert!(numbers(text).is_err(), "{text}");
        }
    }
}
