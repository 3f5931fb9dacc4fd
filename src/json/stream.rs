//! A JSON document read from front to back, with no more of it in memory than the value at hand.

use std::io::Read;

use super::cursor::{Cursor, Fault, Parsed, What};
use super::{Error, LONGEST_VALUE, read_up_to};

/// How much is read at once.
const WINDOW: usize = 1 << 20;

/// No number or keyword is longer.
const LONGEST_WORD: usize = 1 << 12;

/// A document, and how far it has been read.
pub(crate) struct Stream<R> {
    source: R,
    /// How much is read at once, bytes.
    window: usize,
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
        Self::with_window(source, WINDOW)
    }

    fn with_window(source: R, window: usize) -> Self {
        Self {
            source,
            window,
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
            // Spaces are let go of with what has been read.
            self.pass_spaces();
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

    fn pass_spaces(&mut self) {
        let spaces = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_whitespace());
        self.at += spaces.count();
    }

    /// Lets go of what has been read, and reads on.
    fn refill(&mut self) -> Result<(), Error> {
        (self.lines, self.column) = self.place(self.at);
        self.text.drain(..self.at);
        self.at = 0;
        let known = self.text.len();
        if known > LONGEST_VALUE {
            return Err(self.fault(What::Expected("no value of more than a gigabyte")));
        }
        // Twice as much each time that a value does not fit.
        self.ended = read_up_to(&mut self.source, &mut self.text, known.max(self.window))?;
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

    /// An array; `element` reads each, an object or array, and `keep` takes it.
    pub(crate) fn array<T>(
        &mut self,
        mut element: impl FnMut(&mut Cursor) -> Parsed<T>,
        mut keep: impl FnMut(T),
    ) -> Result<(), Error> {
        let mut open = self.read(|cursor| {
            cursor.expect(b'[', "an array")?;
            more(cursor, b']', None)
        })?;
        for index in 0.. {
            if !open {
                break;
            }
            keep(self.read(|cursor| element(cursor).map_err(|fault| fault.in_element(index)))?);
            open = self.read(|cursor| {
                let more = more(cursor, b']', Some("`,` or `]`"));
                more.map_err(|fault| fault.in_element(index))
            })?;
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
        loop {
            self.pass_spaces();
            if self.at < self.text.len() {
                return Err(self.fault(What::Expected("the end of the file")));
            }
            if self.ended {
                return Ok(());
            }
            self.refill()?;
        }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers of the records under "a"; the rest is passed over.
    fn read(text: &[u8], window: usize) -> Result<Vec<f64>, String> {
        let mut stream = Stream::with_window(text, window);
        let mut numbers = Vec::new();
        let record = |cursor: &mut Cursor| {
            let mut number = 0.0;
            cursor.object(|cursor, key| match key {
                b"v" => cursor.number().map(|v| number = v),
                b"ok" => cursor.flag().map(drop),
                _ => cursor.skip(),
            })?;
            Ok(number)
        };
        let document = stream.object(|stream, key| match key {
            "a" => stream.array(record, |number| numbers.push(number)),
            _ => stream.skip(),
        });
        document.and_then(|()| stream.end()).map_err(|error| error.to_string())?;
        assert_eq!(stream.digest(), blake3::hash(text).to_hex().to_string());
        Ok(numbers)
    }

    const DOCUMENT: &str = "{\"n\": 1234567, \"s\": \"a\\\"]}\", \"x\": [1, {\"y\": [2]}],\n \"a\": [\
        {\"v\": -12.5e1, \"ok\": true},\n{\"ok\": false, \"t\": null, \"v\": 0.25} ,{\"v\": 7}],\n\"last\": 98765} \n";

    #[test]
    fn the_size_of_the_window_changes_nothing() {
        for window in 1..200 {
            assert_eq!(read(DOCUMENT.as_bytes(), window), Ok(vec![-125.0, 0.25, 7.0]), "{window}");
        }
    }

    proptest! {
        #[test]
        fn a_mistake_is_the_same_with_any_window(
            place in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(), window in 1..64usize,
        ) {
            let mut text = DOCUMENT.as_bytes().to_vec();
            let at = place.index(text.len());
            if cut { text.truncate(at) } else { text[at] = byte }
            prop_assert_eq!(read(&text, window), read(&text, 1 << 20));
        }
    }
}
