//! Walks through JSON text, value by value, building nothing that is not asked for.
//!
//! Deliberately absent: a tree of values, and a check of what nobody asks for: such a value is passed
//! over from bracket to matching bracket, whatever stands between.

use std::borrow::Cow;

use super::number;

/// How deep arrays and objects may nest, as in serde_json.
const DEPTH: usize = 128;

/// Where and how JSON text is not what was expected.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    /// Offset of the byte.
    pub(crate) at: usize,
    /// Where in the document, from the inside out: `[41].bbox[2]`.
    pub(crate) path: String,
    /// What was there instead.
    pub(crate) what: What,
}

/// What is wrong with JSON text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    /// The text ends too early.
    End,
    /// Something else should be here.
    Expected(&'static str),
    /// The keyword is not there.
    Missing(&'static str),
    /// A number that JSON does not have, though Python writes it.
    NotFinite(&'static str),
    /// A value that is no possible one, and what it must be.
    Invalid(String),
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::End => write!(f, "the file ends too early; it is empty or was cut short"),
            Self::Expected(what) => write!(f, "expected {what}"),
            Self::Missing(key) => write!(f, "expected the key {key:?}"),
            Self::NotFinite(number) => write!(f, "{number}, but every number must be finite"),
            Self::Invalid(what) => f.write_str(what),
        }
    }
}

/// Rare, and large beside the numbers that are read by the million.
pub(crate) type Parsed<T> = Result<T, Box<Fault>>;

impl Fault {
    /// The same, seen from one level further out.
    #[cold]
    fn inside(mut self: Box<Self>, segment: &str) -> Box<Self> {
        self.path.insert_str(0, segment);
        self
    }

    #[cold]
    pub(crate) fn in_key(self: Box<Self>, key: &[u8]) -> Box<Self> {
        self.inside(&format!(".{}", String::from_utf8_lossy(key)))
    }

    #[cold]
    pub(crate) fn in_element(self: Box<Self>, index: usize) -> Box<Self> {
        self.inside(&format!("[{index}]"))
    }
}

/// A place in JSON text.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// How much has been read, bytes.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    #[cold]
    pub(crate) fn fault(&self, what: What) -> Box<Fault> {
        self.fault_at(self.at, what)
    }

    #[cold]
    fn fault_at(&self, at: usize, what: What) -> Box<Fault> {
        Box::new(Fault { at, path: String::new(), what })
    }

    #[cold]
    fn expected(&self, what: &'static str) -> Box<Fault> {
        let python = [&b"NaN"[..], b"Infinity", b"-Infinity"].into_iter();
        let rest = &self.text[self.at..];
        let number =
            python.zip(["NaN", "Infinity", "-Infinity"]).find(|(n, _)| rest.starts_with(n));
        if rest.starts_with(b"\xef\xbb\xbf") {
            let what = "a byte order mark, which JSON does not have; save the file without it";
            return self.fault(What::Invalid(what.to_owned()));
        }
        self.fault(match (rest.is_empty(), number) {
            (true, _) => What::End,
            (_, Some((_, number))) => What::NotFinite(number),
            _ => What::Expected(what),
        })
    }

    /// The next byte that is no space, which stays unread; `None` at the end.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Reads `byte`, if that is next.
    #[inline]
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Reads `byte`, named `name` where it is missing.
    #[inline]
    pub(crate) fn expect(&mut self, byte: u8, name: &'static str) -> Parsed<()> {
        if self.eat(byte) { Ok(()) } else { Err(self.expected(name)) }
    }

    /// Reads `text`, if exactly that is next.
    #[inline]
    pub(crate) fn literal<const N: usize>(&mut self, text: &[u8; N]) -> Option<()> {
        (self.text[self.at..].first_chunk() == Some(text)).then(|| self.at += N)
    }

    /// Goes back to where it was.
    pub(crate) fn rewind(&mut self, position: usize) {
        self.at = position;
    }

    /// Reads `null`, if that is next.
    pub(crate) fn null(&mut self) -> bool {
        self.peek() == Some(b'n') && self.literal(b"null").is_some()
    }

    /// Any number.
    #[inline]
    pub(crate) fn number(&mut self) -> Parsed<f64> {
        self.peek();
        match number::parse(&self.text[self.at..]) {
            Some((value, length)) if value.is_finite() => {
                self.at += length;
                Ok(value)
            }
            Some(_) => Err(self.fault(What::NotFinite("infinity"))),
            None => Err(self.expected("a number")),
        }
    }

    /// A number without a fraction: `7`, and also `7.0`, as Python takes both for the same id.
    #[inline]
    pub(crate) fn integer(&mut self) -> Parsed<i64> {
        let first = self.peek();
        let start = self.at;
        self.at += usize::from(first == Some(b'-'));
        let digits = self.at;
        let mut value = 0i64;
        while let Some(digit) = self.text.get(self.at).map(|byte| byte.wrapping_sub(b'0'))
            && digit < 10
        {
            value = value.wrapping_mul(10).wrapping_sub(i64::from(digit));
            self.at += 1;
        }
        let is_plain = (1..=18).contains(&(self.at - digits))
            && !matches!(self.text.get(self.at), Some(b'.' | b'e' | b'E'))
            && (self.text[digits] != b'0' || self.at == digits + 1);
        if is_plain {
            return Ok(if first == Some(b'-') { value } else { -value });
        }
        self.at = start;
        self.unusual_integer()
    }

    /// Integers with 19 digits, with `.0`, and what is none.
    #[cold]
    fn unusual_integer(&mut self) -> Parsed<i64> {
        let start = self.at;
        let value = self.number().map_err(|mut fault| {
            if fault.what == What::Expected("a number") {
                fault.what = What::Expected("an integer");
            }
            fault
        })?;
        let text = std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default();
        if let Ok(integer) = text.parse() {
            return Ok(integer);
        }
        // Beyond 2^53 the fraction, if there was one, has been rounded away.
        if value.fract() == 0.0 && value.abs() < (1u64 << 53) as f64 {
            return Ok(value as i64);
        }
        Err(self.fault_at(start, What::Expected("an integer of at most 64 bits")))
    }

    /// A string, as it stands between its quotes.
    #[inline]
    fn raw_string(&mut self) -> Parsed<&'a [u8]> {
        self.expect(b'"', "a string")?;
        let start = self.at;
        loop {
            match self.text.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => {
                    self.at = self.text.len();
                    return Err(self.fault(What::End));
                }
            }
        }
        self.at += 1;
        Ok(&self.text[start..self.at - 1])
    }

    #[inline]
    fn key(&mut self) -> Parsed<Cow<'a, [u8]>> {
        self.peek();
        let start = self.at;
        let raw = self.raw_string()?;
        if !raw.contains(&b'\\') {
            return Ok(Cow::Borrowed(raw));
        }
        self.at = start;
        Ok(Cow::Owned(self.string()?.into_owned().into_bytes()))
    }

    /// A string.
    pub(crate) fn string(&mut self) -> Parsed<Cow<'a, str>> {
        self.peek();
        let start = self.at;
        let raw = self.raw_string()?;
        let invalid = |_| self.fault_at(start, What::Expected("a string of valid UTF-8"));
        if !raw.contains(&b'\\') && !raw.iter().any(|&byte| byte < b' ') {
            return std::str::from_utf8(raw).map(Cow::Borrowed).map_err(|_| invalid(()));
        }
        let decoded: Result<String, _> = serde_json::from_slice(&self.text[start..self.at]);
        decoded.map(Cow::Owned).map_err(|_| invalid(()))
    }

    /// `true`, `false`, or a number other than 0.
    pub(crate) fn flag(&mut self) -> Parsed<bool> {
        match self.peek() {
            Some(b't' | b'f') => {
                let rest = &self.text[self.at..];
                let value = rest.starts_with(b"true");
                if !value && !rest.starts_with(b"false") {
                    return Err(self.expected("true, false, 0 or 1"));
                }
                self.at += if value { 4 } else { 5 };
                Ok(value)
            }
            _ => Ok(self.number()? != 0.0),
        }
    }

    /// An object; `field` reads the value of each key.
    #[inline]
    pub(crate) fn object(
        &mut self,
        mut field: impl FnMut(&mut Self, &[u8]) -> Parsed<()>,
    ) -> Parsed<()> {
        self.expect(b'{', "an object")?;
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            let key = self.key()?;
            self.expect(b':', "`:` after a key")?;
            field(self, &key).map_err(|fault| fault.in_key(&key))?;
            if self.eat(b'}') {
                return Ok(());
            }
            self.expect(b',', "`,` or `}`")?;
        }
    }

    /// An array; `element` reads each.
    #[inline]
    pub(crate) fn array(&mut self, mut element: impl FnMut(&mut Self) -> Parsed<()>) -> Parsed<()> {
        self.expect(b'[', "an array")?;
        if self.eat(b']') {
            return Ok(());
        }
        for index in 0.. {
            element(self).map_err(|fault| fault.in_element(index))?;
            if self.eat(b']') {
                break;
            }
            self.expect(b',', "`,` or `]`")?;
        }
        Ok(())
    }

    /// `[x, y, width, height]`.
    #[inline]
    pub(crate) fn four_numbers(&mut self) -> Parsed<[f64; 4]> {
        let mut numbers = [0.0; 4];
        self.expect(b'[', "[x, y, width, height]")?;
        for (index, number) in numbers.iter_mut().enumerate() {
            if index > 0 {
                self.expect(b',', "`,` and four numbers: [x, y, width, height]")?;
            }
            *number = self.number().map_err(|fault| fault.in_element(index))?;
        }
        self.expect(b']', "`]` after four numbers: [x, y, width, height]")?;
        Ok(numbers)
    }

    /// Passes over any value.
    pub(crate) fn skip(&mut self) -> Parsed<()> {
        match self.peek() {
            Some(b'"') => self.raw_string().map(drop),
            Some(b'[' | b'{') => self.skip_nested(),
            Some(b'-' | b'0'..=b'9' | b'a'..=b'z' | b'N' | b'I') => {
                let rest = self.text[self.at..].iter();
                let is_word =
                    |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
                self.at += rest.take_while(is_word).count();
                Ok(())
            }
            _ => Err(self.expected("a value")),
        }
    }

    fn skip_nested(&mut self) -> Parsed<()> {
        // A bit per level, set in an object; the deepest is the lowest.
        let (mut depth, mut objects) = (0, 0u128);
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b'"' => {
                    self.raw_string()?;
                    continue;
                }
                b'[' | b'{' if depth == DEPTH => {
                    return Err(self.fault(What::Expected("at most 128 levels of nesting")));
                }
                b'[' | b'{' => {
                    depth += 1;
                    objects = objects << 1 | u128::from(byte == b'{');
                }
                b']' | b'}' => {
                    if (objects & 1 == 1) != (byte == b'}') {
                        return Err(self.fault(What::Expected("a bracket that matches")));
                    }
                    depth -= 1;
                    objects >>= 1;
                    if depth == 0 {
                        self.at += 1;
                        return Ok(());
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
        Err(self.fault(What::End))
    }
}
