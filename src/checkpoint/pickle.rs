//! A pickle machine that can build data and nothing else.
//!
//! Pickle is a small stack language. The instructions here are those that CPython's pickler writes
//! in protocols 1 to 5 for what torch.save passes to it (`pickletools.py` in CPython documents each).
//! The ones that could do harm in Python are three: `GLOBAL`/`STACK_GLOBAL` import a name, `REDUCE`
//! and `NEWOBJ` call it, `BUILD` changes an object. Here, importing looks the name up in a closed
//! list and refuses all others, and calling means one of the few functions of `rebuild`, written in
//! Rust.
//!
//! Deliberately absent: the text instructions of protocol 0, which torch.save cannot use; the
//! extension registry; out-of-band buffers.

use std::borrow::Cow;
use std::collections::HashMap;

use super::error::PickleError;
use super::rebuild::{self, Calls};
use super::value::{Heap, Id, Value};

/// The newest protocol known.
const MAX_PROTOCOL: u8 = 5;

/// Where a pickle could not be read, and why.
#[derive(Debug)]
pub(super) struct Failure {
    /// Offset of the instruction.
    pub(super) offset: usize,
    /// The str nearest to the top of the stack, usually the dict key whose value was being built.
    pub(super) near: Option<String>,
    /// What is wrong.
    pub(super) reason: PickleError,
}

/// Reads one pickle; `calls` knows the archive's storages.
///
/// # Errors
/// At the first instruction that is unknown, malformed or refused.
pub(super) fn load<'a>(bytes: &'a [u8], calls: Calls<'_>) -> Result<(Heap<'a>, Id), Failure> {
    let mut machine = Machine {
        input: Input { bytes, position: 0 },
        heap: Heap::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        calls,
    };
    loop {
        let offset = machine.input.position;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(result)) => return Ok((machine.heap, result)),
            Err(reason) => {
                return Err(Failure {
                    offset,
                    near: machine.nearest_str(),
                    reason,
                });
            }
        }
    }
}

type Outcome<T> = Result<T, PickleError>;

struct Machine<'a, 'c> {
    input: Input<'a>,
    heap: Heap<'a>,
    stack: Vec<Id>,
    /// Heights of the stack at each open MARK.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    calls: Calls<'c>,
}

impl<'a> Machine<'a, '_> {
    /// Executes one instruction; the result when it was STOP.
    fn step(&mut self) -> Outcome<Option<Id>> {
        let opcode = self.input.u8()?;
        match opcode {
            b'.' => return self.pop().map(Some),
            0x80 => self.protocol()?,
            // FRAME: a hint for readers of streams.
            0x95 => drop(self.input.u64()?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => self.discard()?,
            b'1' => drop(self.pop_to_mark()?),
            b'2' => self.stack.push(self.top()?),
            b'q' | b'r' | 0x94 => self.memoize(opcode)?,
            b'h' | b'j' => self.recall(opcode)?,
            b'c' | 0x93 => self.global(opcode)?,
            b'R' | 0x81 | 0x92 | b'b' | b'Q' => self.call(opcode)?,
            b'a' | b'e' | 0x90 => self.append(opcode)?,
            b's' | b'u' => self.set_items(opcode)?,
            _ => {
                let value = match opcode {
                    b't' | 0x85..=0x87 | b')' | b']' | b'l' | b'}' | b'd' | 0x8f | 0x91 => {
                        self.container(opcode)?
                    }
                    _ => self.input.scalar(opcode)?,
                };
                self.push(value)?;
            }
        }
        Ok(None)
    }

    fn protocol(&mut self) -> Outcome<()> {
        match self.input.u8()? {
            0..=MAX_PROTOCOL => Ok(()),
            other => Err(PickleError::Protocol(other)),
        }
    }

    /// BINPUT, LONG_BINPUT and MEMOIZE: name the top of the stack.
    fn memoize(&mut self, opcode: u8) -> Outcome<()> {
        let key = match opcode {
            b'q' => self.input.u8()?.into(),
            b'r' => self.input.u32()?,
            // Fits: there are fewer memo entries than input bytes read, and a pickle of 4 GiB has
            // met the limit on objects long before.
            _ => self.memo.len() as u32,
        };
        self.memo.insert(key, self.top()?);
        Ok(())
    }

    /// BINGET and LONG_BINGET: push what was memoized.
    fn recall(&mut self, opcode: u8) -> Outcome<()> {
        let key = if opcode == b'h' {
            self.input.u8()?.into()
        } else {
            self.input.u32()?
        };
        let missing = PickleError::Malformed("it recalls an object that was not memoized");
        self.stack.push(*self.memo.get(&key).ok_or(missing)?);
        Ok(())
    }

    /// GLOBAL and STACK_GLOBAL: look a name up in the allow-list.
    fn global(&mut self, opcode: u8) -> Outcome<()> {
        let global = if opcode == b'c' {
            let (module, name) = (self.input.line()?, self.input.line()?);
            rebuild::Global::find(&module, &name)?
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            match (self.heap.str(module), self.heap.str(name)) {
                (Some(module), Some(name)) => rebuild::Global::find(module, name)?,
                _ => return Err(PickleError::Malformed("a global's name is not a str")),
            }
        };
        self.push(Value::Global(global))
    }

    /// REDUCE, NEWOBJ, NEWOBJ_EX, BUILD and BINPERSID.
    fn call(&mut self, opcode: u8) -> Outcome<()> {
        match opcode {
            b'Q' => {
                let id = self.pop()?;
                let storage = self.calls.persistent_storage(&self.heap, id)?;
                self.push(storage)
            }
            b'b' => {
                let (state, target) = (self.pop()?, self.top()?);
                rebuild::set_state(&mut self.heap, target, state)
            }
            _ => {
                // NEWOBJ_EX has keyword arguments, which none of the allowed classes takes.
                let keywords = if opcode == 0x92 {
                    Some(self.pop()?)
                } else {
                    None
                };
                if keywords.is_some_and(|k| self.heap.dict(k).is_none_or(|d| !d.is_empty())) {
                    return Err(PickleError::Malformed(
                        "a class is called with keyword arguments",
                    ));
                }
                let (args, function) = (self.pop()?, self.pop()?);
                let result = self.calls.call(&self.heap, function, args)?;
                self.push(result)
            }
        }
    }

    /// Instructions that make a tuple, list, dict or set.
    fn container(&mut self, opcode: u8) -> Outcome<Value<'a>> {
        Ok(match opcode {
            b')' => Value::Tuple(Vec::new()),
            b']' => Value::List(Vec::new()),
            b'}' => Value::Dict(Vec::new()),
            0x8f => Value::Set(Vec::new()),
            b't' => Value::Tuple(self.pop_to_mark()?),
            b'l' => Value::List(self.pop_to_mark()?),
            0x91 => Value::Set(self.pop_to_mark()?),
            b'd' => Value::Dict(pairs(&self.pop_to_mark()?)?),
            // TUPLE1, TUPLE2, TUPLE3.
            _ => Value::Tuple(self.pop_many(usize::from(opcode - 0x84))?),
        })
    }

    /// APPEND, APPENDS and ADDITEMS.
    fn append(&mut self, opcode: u8) -> Outcome<()> {
        let added = if opcode == b'a' {
            vec![self.pop()?]
        } else {
            self.pop_to_mark()?
        };
        let target = self.top()?;
        match (&mut self.heap[target], opcode) {
            (Value::List(items), b'a' | b'e') | (Value::Set(items), 0x90) => items.extend(added),
            _ => {
                return Err(PickleError::Malformed(
                    "it appends to something that is no list or set",
                ));
            }
        }
        Ok(())
    }

    /// SETITEM and SETITEMS.
    fn set_items(&mut self, opcode: u8) -> Outcome<()> {
        let added = if opcode == b's' {
            self.pop_many(2)?
        } else {
            self.pop_to_mark()?
        };
        let added = pairs(&added)?;
        let target = self.top()?;
        match &mut self.heap[target] {
            Value::Dict(entries) => entries.extend(added),
            _ => {
                return Err(PickleError::Malformed(
                    "it sets an item of something that is no dict",
                ));
            }
        }
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) -> Outcome<()> {
        let id = self.heap.add(value)?;
        self.stack.push(id);
        Ok(())
    }

    /// The height that instructions may not dig below.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Outcome<Id> {
        self.stack
            .get(self.floor()..)
            .and_then(<[Id]>::last)
            .copied()
            .ok_or(UNDERFLOW)
    }

    fn pop(&mut self) -> Outcome<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Outcome<Vec<Id>> {
        match self.stack.len().checked_sub(count) {
            Some(start) if start >= self.floor() => Ok(self.stack.split_off(start)),
            _ => Err(UNDERFLOW),
        }
    }

    fn pop_to_mark(&mut self) -> Outcome<Vec<Id>> {
        let mark = self
            .marks
            .pop()
            .ok_or(PickleError::Malformed("a mark is missing"))?;
        Ok(self.stack.split_off(mark))
    }

    /// POP, which also discards a mark.
    fn discard(&mut self) -> Outcome<()> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    /// See [`Failure::near`].
    fn nearest_str(&self) -> Option<String> {
        const FAR: usize = 8;
        const LONG: usize = 200;
        let near = self
            .stack
            .iter()
            .rev()
            .take(FAR)
            .find_map(|&id| self.heap.str(id))?;
        (near.len() <= LONG).then(|| near.to_owned())
    }
}

const UNDERFLOW: PickleError = PickleError::Malformed("an instruction finds too few operands");

/// Keys and values that alternate.
fn pairs(items: &[Id]) -> Outcome<Vec<(Id, Id)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(PickleError::Malformed("a dict's key has no value"));
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}

/// The bytes still to be read. Every length is checked against what is left before it is used, so
/// that a length of 4 GiB in a small file allocates nothing.
struct Input<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Outcome<&'a [u8]> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let taken = rest.get(..count).ok_or(PickleError::UnexpectedEnd)?;
        self.position += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| PickleError::UnexpectedEnd)
    }

    fn u8(&mut self) -> Outcome<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Outcome<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Outcome<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Bytes after their length, a little-endian number of `width` bytes.
    fn prefixed(&mut self, width: usize) -> Outcome<&'a [u8]> {
        let mut len = [0; 8];
        len[..width].copy_from_slice(self.take(width)?);
        let len = usize::try_from(u64::from_le_bytes(len));
        self.take(len.map_err(|_| PickleError::UnexpectedEnd)?)
    }

    /// Text up to the next line feed, which is read too.
    fn line(&mut self) -> Outcome<Cow<'a, str>> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let end = rest
            .iter()
            .position(|&b| b == b'\n')
            .ok_or(PickleError::UnexpectedEnd)?;
        self.position += end + 1;
        Ok(String::from_utf8_lossy(&rest[..end]))
    }

    /// The operand of an instruction that pushes None, a bool, a number, a str or bytes.
    fn scalar(&mut self, opcode: u8) -> Outcome<Value<'a>> {
        Ok(match opcode {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Value::Int(self.u8()?.into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            b'I' | b'L' => decimal(&self.line()?)?,
            0x8a => long(self.prefixed(1)?),
            0x8b => long(self.prefixed(4)?),
            b'G' => Value::Float(f64::from_be_bytes(self.array()?)),
            // Str. Python 3 writes lone surrogates into what is otherwise UTF-8; such a text names
            // nothing that is looked for, so it is kept with replacement characters.
            0x8c | b'U' => Value::Str(String::from_utf8_lossy(self.prefixed(1)?)),
            b'X' | b'T' => Value::Str(String::from_utf8_lossy(self.prefixed(4)?)),
            0x8d => Value::Str(String::from_utf8_lossy(self.prefixed(8)?)),
            b'C' => Value::Bytes(self.prefixed(1)?.into()),
            b'B' => Value::Bytes(self.prefixed(4)?.into()),
            0x8e | 0x96 => Value::Bytes(self.prefixed(8)?.into()),
            other => return Err(PickleError::Opcode(other)),
        })
    }
}

/// INT and LONG, which protocol 1 writes for bools and large numbers.
fn decimal<'a>(text: &str) -> Outcome<Value<'a>> {
    match text {
        "00" => return Ok(Value::Bool(false)),
        "01" => return Ok(Value::Bool(true)),
        _ => {}
    }
    let digits = text.strip_suffix('L').unwrap_or(text);
    if let Ok(number) = digits.parse() {
        return Ok(Value::Int(number));
    }
    let unsigned = digits.strip_prefix('-').unwrap_or(digits);
    if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return Err(PickleError::Malformed("a number is not one"));
    }
    Ok(HUGE_INT)
}

/// A little-endian two's complement number of any length.
fn long<'a>(bytes: &[u8]) -> Value<'a> {
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut extended = [if negative { 0xff } else { 0 }; 8];
    match extended.get_mut(..bytes.len()) {
        Some(low) => low.copy_from_slice(bytes),
        None => return HUGE_INT,
    }
    Value::Int(i64::from_le_bytes(extended))
}

/// An int beyond 64 bits: nothing that is looked for is so large.
const HUGE_INT: Value<'static> = Value::Opaque("int beyond 64 bits");
