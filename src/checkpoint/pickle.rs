//! A pickle machine that builds data and can do nothing else.
//!
//! It knows the opcodes of protocols 0 to 5 that plain data needs. A global is only ever a name out
//! of [`Global`]'s list; what calling one means is in `rebuild`. Values live in one arena and refer to
//! each other by index: shared and even cyclic structures cost nothing, and nothing recurses.
//! Deliberately absent: classes, extension registries, out-of-band buffers. No crate that was found
//! reads these files with views, an allow-list and a memory map (`candle-core` and `burn` bring whole
//! frameworks, `serde-pickle` has no persistent ids).

use std::collections::HashMap;

use super::rebuild::{self, Global, Storages};
use super::tensor::Tensor;

/// Index of a value in the arena.
pub(super) type Id = usize;

/// What a pickle can hold here.
#[derive(Debug, Clone)]
pub(super) enum Value {
    None,
    Int(i64),
    Str(String),
    Bytes(Vec<u8>),
    /// Lists, tuples and sets: what contains what is all that matters.
    Sequence(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// A storage's record, and the type of its elements.
    Storage(rebuild::Storage),
    Tensor(Tensor),
    /// A numpy element type under construction.
    NumpyType(rebuild::NumpyType),
    /// Data without any use here: booleans, fractions, integers beyond 64 bits, devices.
    Opaque,
}

impl Value {
    /// How many elements or bytes a copy of it takes.
    fn len(&self) -> usize {
        match self {
            Self::Str(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Sequence(items) => items.len(),
            Self::Dict(entries) => entries.len(),
            _ => 1,
        }
    }
}

/// A finished pickle.
pub(super) struct Pickle {
    pub(super) values: Vec<Value>,
    pub(super) root: Id,
}

impl Pickle {
    /// Reads `bytes` up to STOP; `storages` resolves persistent ids.
    pub(super) fn read(bytes: &[u8], storages: &dyn Storages) -> Result<Self, String> {
        let mut machine = Machine {
            input: bytes,
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            copies_left: bytes.len().saturating_mul(4),
            storages,
        };
        let root = machine.run()?;
        Ok(Self { values: machine.values, root })
    }

    pub(super) fn value(&self, id: Id) -> &Value {
        &self.values[id]
    }

    pub(super) fn str(&self, id: Id) -> Option<&str> {
        match self.value(id) {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The entry of a dict under a text key; the last one, as in Python.
    pub(super) fn get(&self, dict: Id, key: &str) -> Option<Id> {
        let Value::Dict(entries) = self.value(dict) else {
            return None;
        };
        entries.iter().rev().find(|(k, _)| self.str(*k) == Some(key)).map(|(_, value)| *value)
    }
}

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    /// How many elements calls may still copy. Honest files write what they pass to a function, so
    /// their own length bounds it; a hostile one could pass the same list a million times.
    copies_left: usize,
    storages: &'a dyn Storages,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id, String> {
        loop {
            let at = self.at;
            let opcode = self.byte()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode).map_err(|problem| format!("{problem} (byte {at} of data.pkl)"))?;
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            0x80 => self.protocol(),
            0x95 => self.take(8).map(drop), // FRAME: its length adds nothing
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Opaque), // True, False
            b'I' | b'L' | b'F' | b'J' | b'K' | b'M' | 0x8a | 0x8b | b'G' => self.number(opcode),
            b'V' | b'X' | 0x8c | 0x8d | b'T' | b'U' | b'B' | b'C' | 0x8e | 0x96 => {
                self.text(opcode)
            }
            b']' | b')' | 0x8f => self.push(Value::Sequence(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b't' | b'l' | 0x91 => {
                let items = self.pop_mark()?;
                self.push(Value::Sequence(items))
            }
            0x85..=0x87 => self.tuple(usize::from(opcode - 0x84)),
            b'd' => {
                let items = self.pop_mark()?;
                let entries = pairs(&items)?;
                self.push(Value::Dict(entries))
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(&[item])
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.extend(&items)
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(&items)
            }
            b'0' => self.discard(),
            b'1' => self.pop_mark().map(drop),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }
            b'g' | b'h' | b'j' | b'p' | b'q' | b'r' | 0x94 => self.memoize(opcode),
            b'c' | 0x93 => self.global(opcode),
            b'R' | 0x81 => self.call(),
            b'b' => self.build(),
            b'Q' => self.persistent(),
            _ => Err(format!("the pickle opcode {opcode:#04x} is not one that torch.save needs")),
        }
    }

    fn protocol(&mut self) -> Result<(), String> {
        match self.byte()? {
            0..=5 => Ok(()),
            version => Err(format!("pickle protocol {version} is not known")),
        }
    }

    fn number(&mut self, opcode: u8) -> Result<(), String> {
        let value = match opcode {
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.array()?))),
            b'K' => Value::Int(i64::from(self.byte()?)),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.array()?))),
            b'G' => self.take(8).map(|_| Value::Opaque)?,
            0x8a => {
                let length = usize::from(self.byte()?);
                long(self.take(length)?)
            }
            0x8b => {
                let length = self.length(4)?;
                long(self.take(length)?)
            }
            _ => parse_number(self.line()?)?,
        };
        self.push(value)
    }

    fn text(&mut self, opcode: u8) -> Result<(), String> {
        let length = match opcode {
            b'V' => {
                let line = self.line()?.to_owned();
                return self.push(Value::Str(line));
            }
            0x8c | b'U' | b'C' => usize::from(self.byte()?),
            b'X' | b'T' | b'B' => self.length(4)?,
            _ => self.length(8)?,
        };
        let bytes = self.take(length)?;
        let value = match opcode {
            b'B' | b'C' | 0x8e | 0x96 => Value::Bytes(bytes.to_vec()),
            _ => match std::str::from_utf8(bytes) {
                Ok(text) => Value::Str(text.to_owned()),
                // Python 2's byte strings.
                Err(_) => Value::Bytes(bytes.to_vec()),
            },
        };
        self.push(value)
    }

    fn tuple(&mut self, length: usize) -> Result<(), String> {
        let start = self.stack.len().checked_sub(length).filter(|&start| start >= self.floor());
        let items = self.stack.split_off(start.ok_or_else(underflow)?);
        self.push(Value::Sequence(items))
    }

    fn extend(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()?;
        match &mut self.values[top] {
            Value::Sequence(sequence) => sequence.extend_from_slice(items),
            _ => return Err("something that is no list or set is appended to".to_owned()),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()?;
        match &mut self.values[top] {
            Value::Dict(entries) => entries.extend(pairs(items)?),
            _ => return Err("something that is no dict is given items".to_owned()),
        }
        Ok(())
    }

    fn memoize(&mut self, opcode: u8) -> Result<(), String> {
        let key = match opcode {
            0x94 => self.memo.len() as u64,
            b'h' | b'q' => u64::from(self.byte()?),
            b'j' | b'r' => u64::from(u32::from_le_bytes(self.array()?)),
            _ => self.line()?.parse().map_err(|_| "a memo key is no number".to_owned())?,
        };
        if matches!(opcode, b'g' | b'h' | b'j') {
            let id = *self.memo.get(&key).ok_or_else(|| format!("memo {key} was never set"))?;
            self.stack.push(id);
        } else {
            let top = self.top()?;
            self.memo.insert(key, top);
        }
        Ok(())
    }

    fn global(&mut self, opcode: u8) -> Result<(), String> {
        let (module, name) = if opcode == b'c' {
            (self.line()?.to_owned(), self.line()?.to_owned())
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            match (&self.values[module], &self.values[name]) {
                (Value::Str(module), Value::Str(name)) => (module.clone(), name.clone()),
                _ => return Err("a global's name is no text".to_owned()),
            }
        };
        self.push(Value::Global(Global::allowed(&module, &name)?))
    }

    fn call(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::Global(global) = self.values[function] else {
            return Err("something that is no function is called".to_owned());
        };
        let Value::Sequence(arguments) = &self.values[arguments] else {
            return Err("a function's arguments are no tuple".to_owned());
        };
        let arguments: Vec<&Value> = arguments.iter().map(|&id| &self.values[id]).collect();
        let copied: usize = arguments.iter().map(|argument| argument.len()).sum();
        self.copies_left =
            self.copies_left.checked_sub(copied).ok_or("the pickle grows beyond all measure")?;
        let result = rebuild::call(global, &arguments, &self.values)?;
        self.push(result)
    }

    /// State that is set on a value after it was made. Only numpy's element types need theirs; that
    /// of dicts (`_metadata`) is of no use here.
    fn build(&mut self) -> Result<(), String> {
        let state = self.pop()?;
        let top = self.top()?;
        let order = match &self.values[state] {
            Value::Sequence(items) => items.get(1).and_then(|&id| match &self.values[id] {
                Value::Str(order) => Some(order.clone()),
                _ => None,
            }),
            _ => None,
        };
        match &mut self.values[top] {
            Value::NumpyType(numpy) => numpy.set_order(order.as_deref()),
            Value::Dict(_) | Value::Tensor(_) | Value::Opaque => Ok(()),
            _ => Err("state is set on something that has none".to_owned()),
        }
    }

    fn persistent(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let Value::Sequence(parts) = &self.values[id] else {
            return Err("a persistent id is no tuple".to_owned());
        };
        let parts: Vec<&Value> = parts.iter().map(|&part| &self.values[part]).collect();
        let storage = rebuild::storage(&parts, self.storages)?;
        self.push(Value::Storage(storage))
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    /// Nothing below the last mark may be taken.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id, String> {
        if self.stack.len() <= self.floor() {
            return Err(underflow());
        }
        self.stack.pop().ok_or_else(underflow)
    }

    fn top(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or_else(underflow)
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or_else(underflow)?;
        Ok(self.stack.split_off(mark))
    }

    /// POP takes a value, or a mark that has nothing above it.
    fn discard(&mut self) -> Result<(), String> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.input.len());
        let bytes = &self.input[self.at..end.ok_or("data.pkl ends too early")?];
        self.at += length;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// An unsigned little-endian length of `width` bytes.
    fn length(&mut self, width: usize) -> Result<usize, String> {
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(self.take(width)?);
        usize::try_from(u64::from_le_bytes(wide)).map_err(|_| "a length is too large".to_owned())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.input[self.at..];
        let end = rest.iter().position(|&b| b == b'\n').ok_or("data.pkl ends too early")?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|_| "a line is not UTF-8".to_owned())
    }
}

fn underflow() -> String {
    "the pickle takes what was never put".to_owned()
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    match items.as_chunks::<2>() {
        (pairs, []) => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
        _ => Err("a dict has a key without value".to_owned()),
    }
}

/// Python's integer of any size: little-endian, two's complement.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Opaque;
    }
    let negative = bytes.last().is_some_and(|&last| last >= 0x80);
    let mut wide = if negative { [0xff; 8] } else { [0; 8] };
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}

/// The text forms of protocol 0. What is no 64-bit integer (`01` for True among them) has no use here.
fn parse_number(line: &str) -> Result<Value, String> {
    let digits = line.strip_suffix('L').unwrap_or(line);
    let boolean = matches!(line, "00" | "01");
    let int = (!boolean).then(|| digits.parse().ok()).flatten();
    match int {
        Some(int) => Ok(Value::Int(int)),
        None if boolean || digits.parse::<f64>().is_ok() => Ok(Value::Opaque),
        None => Err(format!("{line:?} is no number")),
    }
}
