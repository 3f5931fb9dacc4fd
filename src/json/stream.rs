//! A JSON document read from front to back, with no more of it in memory than the value at hand.

use std::io::Read;

use super::cursor::{Cursor, Fault, Parsed, What};
use super::{Error, read_up_to};

/// How much is read at once.
const WINDOW: usize = 1 << 20;

/// No number or keyword is longer.
const LONGEST_WORD: usize = 1 << 12;

/// A document, and how far it has been read.
pub(crate) struct Stream<R> {
    source: R,
    /// What is in memory of the document.
    text: Vec<u8>,
    /// How much of `text` has been read.
    at: usize,
    /// Nothing comes after `text`.
    ended: bool,
    /// Line breaks before `text`.
    lines: usize,
    /// Bytes before `text` since the last line break.
    column: usize,
    digest: blake3::Hasher,
}

impl<R: Read> Stream<R> {
    pub(crate) fn new(source: R) -> Self {
        Self {
            source,
            text: Vec::new(),
            at: 0,
            ended: false,
            lines: 0,
            column: 0,
            digest: blake3::Hasher::new(),
        }
    }

    /// A fault of the document as far as it has been read.
    pub(crate) fn fault(&self, what: What) -> Error {
        self.locate(Fault { at: 0, path: String::new(), what })
    }

    /// BLAKE3 of what has been read, hexadecimal.
    pub(crate) fn digest(&self) -> String {
        self.digest.finalize().to_hex().to_string()
    }

    /// Reads one value with `parse`. It is called again with more text where it may have failed for the
    /// lack of it, so it must not keep anything.
    fn read<T>(&mut self, mut parse: impl FnMut(&mut Cursor) -> Parsed<T>) -> Result<T, Error> {
        loop {
            let mut cursor = Cursor::new(&self.text[self.at..]);
            match parse(&mut cursor) {
                Ok(value) => {
                    self.at += cursor.position();
                    return Ok(value);
                }
                Err(fault) if self.ended || !self.may_be_cut(&fault) => {
                    return Err(self.locate(*fault));
                }
                Err(_) => self.refill()?,
            }
        }
    }

    /// Whether what is in memory may end in the middle of the word that was not understood.
    fn may_be_cut(&self, fault: &Fault) -> bool {
        fault.what == What::End || self.text.len() - (self.at + fault.at) < LONGEST_WORD
    }

    /// Lets go of what has been read, and reads on.
    fn refill(&mut self) -> Result<(), Error> {
        (self.lines, self.column) = self.place(self.at);
        self.text.drain(..self.at);
        self.at = 0;
        let known = self.text.len();
        // Twice as much each time that a value does not fit.
        self.ended = read_up_to(&mut self.source, &mut self.text, known.max(WINDOW))?;
        self.digest.update(&self.text[known..]);
        Ok(())
    }

    /// Lines before a place in `text`, and bytes in its line before it.
    fn place(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..at];
        match before.iter().rposition(|&byte| byte == b'\n') {
            None => (self.lines, self.column + at),
            Some(last) => {
                let lines = before.iter().filter(|&&byte| byte == b'\n').count();
                (self.lines + lines, at - last - 1)
            }
        }
    }

    fn locate(&self, fault: Fault) -> Error {
        let (lines, column) = self.place(self.at + fault.at);
        Error::Fault { line: lines + 1, column: column + 1, path: fault.path, what: fault.what }
    }

    /// An object; `field` reads the value of each key from the stream.
    pub(crate) fn object(
        &mut self,
        mut field: impl FnMut(&mut Self, &str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut open = self.read(|cursor| {
            cursor.expect(b'{', "an object")?;
            more(cursor, b'}', None)
        })?;
        while open {
            let key = self.read(|cursor| {
                let key = cursor.string()?.into_owned();
                cursor.expect(b':', "`:` after a key")?;
                Ok(key)
            })?;
            field(self, &key).map_err(|error| error.inside(&key))?;
            open = self.read(|cursor| more(cursor, b'}', Some("`,` or `}`")))?;
        }
        Ok(())
    }

    /// An array; `element` reads each, `keep` takes it.
    pub(crate) fn array<T>(
        &mut self,
        element: impl Fn(&mut Cursor) -> Parsed<T>,
        mut keep: impl FnMut(T),
    ) -> Result<(), Error> {
        let mut open = self.read(|cursor| {
            cursor.expect(b'[', "an array")?;
            more(cursor, b']', None)
        })?;
        let mut index = 0;
        while open {
            let read = self.read(|cursor| {
                let value = element(cursor).map_err(|fault| fault.in_element(index))?;
                Ok((value, more(cursor, b']', Some("`,` or `]`"))?))
            })?;
            keep(read.0);
            open = read.1;
            index += 1;
        }
        Ok(())
    }

    /// Passes over any value.
    pub(crate) fn skip(&mut self) -> Result<(), Error> {
        self.read(|cursor| {
            cursor.skip()?;
            // A number may go on in what has not been read yet.
            cursor.peek().map(drop).ok_or_else(|| cursor.fault(What::End))
        })
    }

    /// Makes sure that nothing but space comes after the document.
    pub(crate) fn end(&mut self) -> Result<(), Error> {
        while !self.ended {
            self.refill()?;
        }
        self.read(|cursor| match cursor.peek() {
            None => Ok(()),
            Some(_) => Err(cursor.fault(What::Expected("the end of the file"))),
        })
    }
}

/// Whether another element comes, after the one before or, without a `separator`, as the first.
fn more(cursor: &mut Cursor, close: u8, separator: Option<&'static str>) -> Parsed<bool> {
    if cursor.eat(close) {
        return Ok(false);
    }
    match separator {
        Some(name) => cursor.expect(b',', name)?,
        None if cursor.peek().is_none() => return Err(cursor.fault(What::End)),
        None => {}
    }
    Ok(true)
}
