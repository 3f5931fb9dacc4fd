//! The Python objects of a pickle, as plain data.
//!
//! Objects live in one vector, the [`Heap`], and refer to each other by index. A pickle is a graph
//! (objects are shared, filled after they were referred to, and may contain themselves), and with
//! indices none of that needs copying, reference counting or a recursive drop that a deeply nested
//! file could overflow the stack with.
//!
//! Deliberately absent: classes, attributes and methods. Nothing here can be called; see `rebuild`
//! for the few functions whose results are known.

use std::borrow::Cow;
use std::ops::{Index, IndexMut};

use super::error::PickleError;
use super::rebuild::Global;
use super::tensor::{Dtype, Storage, Tensor};

/// More objects than any training run saves; it bounds the memory that a hostile file can ask for
/// (a one-byte instruction makes one object) to some hundred megabytes.
const MAX_OBJECTS: usize = 4 << 20;

/// The index of an object in its [`Heap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(u32);

/// A Python object. `'a` is the pickle's bytes: long strings are not copied.
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Set(Vec<Id>),
    /// In order of insertion; of equal keys the last one counts.
    Dict(Vec<(Id, Id)>),
    Tensor(Box<Tensor>),
    /// The elements' type and the bytes of a storage that tensors view.
    Storage(Box<(Dtype, Storage)>),
    /// A function or class of the allow-list, before it is called.
    Global(Global),
    NumpyDtype(NumpyDtype<'a>),
    /// Something legal that nothing asks for, by its Python type's name.
    Opaque(&'static str),
}

/// numpy's type of one scalar.
pub(super) struct NumpyDtype<'a> {
    /// Kind and size: `f8`, `i4`, `b1`, `U6`.
    pub(super) code: Cow<'a, str>,
    /// Whether the bytes are big endian.
    pub(super) big_endian: bool,
}

impl Value<'_> {
    /// The Python type's name, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::Bytes(_) => "bytes",
            Self::Tuple(_) => "tuple",
            Self::List(_) => "list",
            Self::Set(_) => "set",
            Self::Dict(_) => "dict",
            Self::Tensor(_) => "Tensor",
            Self::Storage(_) => "Storage",
            Self::Global(global) => global.name(),
            Self::NumpyDtype(_) => "numpy.dtype",
            Self::Opaque(name) => name,
        }
    }
}

/// All objects of one pickle.
#[derive(Default)]
pub(super) struct Heap<'a> {
    values: Vec<Value<'a>>,
}

impl<'a> Heap<'a> {
    /// Adds an object.
    ///
    /// # Errors
    /// When there are more of them than a checkpoint needs.
    pub(super) fn add(&mut self, value: Value<'a>) -> Result<Id, PickleError> {
        if self.values.len() >= MAX_OBJECTS {
            return Err(PickleError::TooManyObjects { limit: MAX_OBJECTS });
        }
        // Fits: MAX_OBJECTS is far below u32::MAX.
        let id = Id(self.values.len() as u32);
        self.values.push(value);
        Ok(id)
    }

    /// The text of a str object.
    pub(super) fn str(&self, id: Id) -> Option<&str> {
        match &self[id] {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of a tuple or list.
    pub(super) fn sequence(&self, id: Id) -> Option<&[Id]> {
        match &self[id] {
            Value::Tuple(items) | Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of a dict.
    pub(super) fn dict(&self, id: Id) -> Option<&[(Id, Id)]> {
        match &self[id] {
            Value::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value under a str key.
    pub(super) fn get(&self, dict: &[(Id, Id)], key: &str) -> Option<Id> {
        dict.iter()
            .rev()
            .find(|(k, _)| self.str(*k) == Some(key))
            .map(|&(_, value)| value)
    }
}

impl<'a> Index<Id> for Heap<'a> {
    type Output = Value<'a>;

    fn index(&self, Id(index): Id) -> &Value<'a> {
        // An id is only made by `add`, and objects are never removed.
        &self.values[index as usize]
    }
}

impl<'a> IndexMut<Id> for Heap<'a> {
    fn index_mut(&mut self, Id(index): Id) -> &mut Value<'a> {
        &mut self.values[index as usize]
    }
}
