//! The functions and classes that a checkpoint may name, and what calling each of them gives.
//!
//! The list is what `torch.load(weights_only=True)` reads, as far as detgate can represent it, and
//! numpy scalars, which training loops leave among losses and class maps. A name that is not in
//! [`Global::find`] is refused; there is no way to extend the list from a file.
//!
//! Deliberately absent: sparse, quantized, nested, complex and meta tensors; numpy arrays; modules
//! saved whole.

use std::borrow::Cow;

use half::f16;

use super::archive::Archive;
use super::error::{PickleError, printable};
use super::tensor::{Dtype, Tensor};
use super::value::{Heap, Id, NumpyDtype, Value};

/// More dimensions than any tensor of a detector has.
const MAX_DIMENSIONS: usize = 16;

/// Longer storage keys than torch.save makes (it counts).
const MAX_KEY_LENGTH: usize = 64;

/// A function or class of the allow-list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    Counter,
    Set,
    Bytes,
    ByteArray,
    Complex,
    /// `_codecs.encode`, with which protocol 2 spells bytes.
    Encode,
    RebuildTensor,
    RebuildParameter,
    RebuildParameterWithState,
    /// A tensor that carries Python attributes, which are dropped.
    RebuildFromType,
    /// `torch.Tensor` and `Parameter`, which are named but never called.
    TensorType,
    /// A storage class; its elements' type.
    Storage(Dtype),
    Size,
    Device,
    /// `torch.float16` and so on, which is a value, not a function.
    TorchDtype,
    NumpyDtype,
    NumpyScalar,
}

impl Global {
    /// The entry of the allow-list.
    ///
    /// # Errors
    /// Every other name is refused, with the name.
    pub(super) fn find(module: &str, name: &str) -> Result<Self, PickleError> {
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("collections", "Counter") => Self::Counter,
            ("builtins" | "__builtin__", "set" | "frozenset") => Self::Set,
            ("builtins" | "__builtin__", "bytes") => Self::Bytes,
            ("builtins" | "__builtin__", "bytearray") => Self::ByteArray,
            ("builtins" | "__builtin__", "complex") => Self::Complex,
            ("_codecs", "encode") => Self::Encode,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch._utils", "_rebuild_parameter_with_state") => Self::RebuildParameterWithState,
            ("torch._tensor", "_rebuild_from_type_v2") => Self::RebuildFromType,
            ("torch", "Tensor") | ("torch.nn.parameter", "Parameter") => Self::TensorType,
            ("torch", "Size") => Self::Size,
            ("torch", "device") => Self::Device,
            ("torch.storage", "UntypedStorage") => Self::Storage(Dtype::U8),
            ("torch", name) if let Some(dtype) = storage_dtype(name) => Self::Storage(dtype),
            ("torch", name) if is_dtype(name) => Self::TorchDtype,
            ("numpy", "dtype") => Self::NumpyDtype,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Self::NumpyScalar,
            _ => return Err(PickleError::Global(printable(&format!("{module}.{name}")))),
        })
    }

    /// Its Python name, or what it is, for messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OrderedDict => "collections.OrderedDict",
            Self::Counter => "collections.Counter",
            Self::Set => "set",
            Self::Bytes => "bytes",
            Self::ByteArray => "bytearray",
            Self::Complex => "complex",
            Self::Encode => "_codecs.encode",
            Self::RebuildTensor => "torch._utils._rebuild_tensor_v2",
            Self::RebuildParameter => "torch._utils._rebuild_parameter",
            Self::RebuildParameterWithState => "torch._utils._rebuild_parameter_with_state",
            Self::RebuildFromType => "torch._tensor._rebuild_from_type_v2",
            Self::TensorType => "torch.Tensor",
            Self::Storage(_) => "a torch storage",
            Self::Size => "torch.Size",
            Self::Device => "torch.device",
            Self::TorchDtype => "a torch.dtype",
            Self::NumpyDtype => "numpy.dtype",
            Self::NumpyScalar => "a numpy scalar",
        }
    }
}

/// The element type of `torch.FloatStorage` and the others.
fn storage_dtype(class: &str) -> Option<Dtype> {
    Some(match class {
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "FloatStorage" => Dtype::F32,
        "DoubleStorage" => Dtype::F64,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::Bool,
        _ => return None,
    })
}

/// Whether `torch.<name>` is one of the element types that tensors here can have.
fn is_dtype(name: &str) -> bool {
    use Dtype::*;
    [F16, BF16, F32, F64, I64, I32, I16, I8, U8, Bool]
        .iter()
        .any(|dtype| dtype.to_string() == name)
}

/// Performs the calls of one pickle.
pub(super) struct Calls<'c> {
    archive: &'c Archive,
    /// How much calls may still copy, in elements and bytes. Whatever a call copies has been spelled
    /// out for it in the pickle, so a genuine file never copies more than its own length; one that
    /// calls a function again and again with the same long list does.
    allowance: usize,
}

type Outcome<T> = Result<T, PickleError>;

impl<'c> Calls<'c> {
    /// For a pickle of `length` bytes whose storages are in `archive`.
    pub(super) fn new(archive: &'c Archive, length: usize) -> Self {
        Self {
            archive,
            allowance: length,
        }
    }

    /// The storage that the persistent id `("storage", class, key, location, elements)` names.
    pub(super) fn persistent_storage<'a>(&self, heap: &Heap<'a>, id: Id) -> Outcome<Value<'a>> {
        let wrong = PickleError::Arguments("a storage's persistent id");
        let Some(&[tag, class, key, _location, elements]) = heap.sequence(id) else {
            return Err(wrong);
        };
        let (Some("storage"), Value::Global(Global::Storage(dtype)), Some(key), Some(elements)) = (
            heap.str(tag),
            &heap[class],
            heap.str(key),
            size(heap, elements),
        ) else {
            return Err(wrong);
        };
        if key.len() > MAX_KEY_LENGTH {
            return Err(wrong);
        }
        let length = elements.checked_mul(dtype.size()).ok_or(wrong)?;
        let storage = self
            .archive
            .storage(&format!("data/{key}"), length)
            .map_err(|found| {
                let key = printable(key);
                match found {
                    Some(found) => PickleError::ShortRecord {
                        key,
                        expected: length,
                        found,
                    },
                    None => PickleError::MissingRecord(key),
                }
            })?;
        Ok(Value::Storage(Box::new((*dtype, storage))))
    }

    /// Calls `function` with the tuple `args`.
    pub(super) fn call<'a>(
        &mut self,
        heap: &Heap<'a>,
        function: Id,
        args: Id,
    ) -> Outcome<Value<'a>> {
        let Value::Global(global) = heap[function] else {
            return Err(PickleError::Malformed(
                "it calls something that is no function",
            ));
        };
        let args = match &heap[args] {
            Value::Tuple(args) => args.as_slice(),
            _ => return Err(PickleError::Malformed("a call's arguments are no tuple")),
        };
        let result = match global {
            Global::OrderedDict | Global::Counter => self.dict(heap, args)?,
            Global::Set => self.copy_items(heap, args, Value::Set)?,
            Global::Size => self.copy_items(heap, args, Value::Tuple)?,
            Global::Bytes | Global::ByteArray => self.bytes(heap, args)?,
            Global::Encode => self.encode(heap, args)?,
            Global::Complex => Some(Value::Opaque("complex")),
            Global::Device => Some(Value::Opaque("torch.device")),
            Global::RebuildTensor => self.tensor(heap, args)?,
            Global::RebuildParameter | Global::RebuildParameterWithState => {
                self.parameter(heap, args)?
            }
            Global::RebuildFromType => self.subclass(heap, args)?,
            Global::NumpyDtype => self.numpy_dtype(heap, args)?,
            Global::NumpyScalar => numpy_scalar(heap, args),
            Global::TensorType | Global::Storage(_) | Global::TorchDtype => None,
        };
        result.ok_or(PickleError::Arguments(global.name()))
    }

    fn charge(&mut self, amount: usize) -> Outcome<()> {
        self.allowance = self
            .allowance
            .checked_sub(amount)
            .ok_or(PickleError::Expansion)?;
        Ok(())
    }

    /// `OrderedDict()`, `OrderedDict([(key, value), ...])`, `Counter({...})`.
    fn dict<'a>(&mut self, heap: &Heap<'a>, args: &[Id]) -> Outcome<Option<Value<'a>>> {
        let entries = match args {
            [] => return Ok(Some(Value::Dict(Vec::new()))),
            [one] => match &heap[*one] {
                Value::Dict(entries) => {
                    self.charge(entries.len())?;
                    Some(entries.clone())
                }
                Value::List(items) | Value::Tuple(items) => {
                    self.charge(items.len())?;
                    items.iter().map(|&item| pair(heap, item)).collect()
                }
                _ => None,
            },
            _ => None,
        };
        Ok(entries.map(Value::Dict))
    }

    /// `set([...])`, `frozenset([...])`, `torch.Size((...))`, or without an argument.
    fn copy_items<'a>(
        &mut self,
        heap: &Heap<'a>,
        args: &[Id],
        make: fn(Vec<Id>) -> Value<'a>,
    ) -> Outcome<Option<Value<'a>>> {
        let items = match args {
            [] => Some(&[][..]),
            &[one] => heap.sequence(one),
            _ => None,
        };
        let Some(items) = items else { return Ok(None) };
        self.charge(items.len())?;
        Ok(Some(make(items.to_vec())))
    }

    /// `bytes()`, `bytearray()`, `bytearray(b"...")`.
    fn bytes<'a>(&mut self, heap: &Heap<'a>, args: &[Id]) -> Outcome<Option<Value<'a>>> {
        match args {
            [] => Ok(Some(Value::Bytes(Cow::Borrowed(&[])))),
            [one] => match &heap[*one] {
                Value::Bytes(bytes) => {
                    self.charge(bytes.len())?;
                    Ok(Some(Value::Bytes(bytes.clone())))
                }
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// `_codecs.encode("...", "latin1")`.
    fn encode<'a>(&mut self, heap: &Heap<'a>, args: &[Id]) -> Outcome<Option<Value<'a>>> {
        let &[text, encoding] = args else {
            return Ok(None);
        };
        let (Some(text), Some("latin1" | "latin-1")) = (heap.str(text), heap.str(encoding)) else {
            return Ok(None);
        };
        self.charge(text.len())?;
        let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
        Ok(bytes.map(|bytes| Value::Bytes(bytes.into())))
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])`.
    fn tensor<'a>(&mut self, heap: &Heap<'a>, args: &[Id]) -> Outcome<Option<Value<'a>>> {
        let [storage, offset, shape, strides, _requires_grad, _hooks, ..] = args else {
            return Ok(None);
        };
        let (Value::Storage(storage), Some(offset), Some(shape), Some(strides)) = (
            &heap[*storage],
            size(heap, *offset),
            sizes(heap, *shape),
            sizes(heap, *strides),
        ) else {
            return Ok(None);
        };
        self.charge(shape.len() + strides.len())?;
        let (dtype, storage) = &**storage;
        let tensor = Tensor::view(*dtype, shape, strides, offset, storage.clone())?;
        Ok(Some(Value::Tensor(Box::new(tensor))))
    }

    /// `_rebuild_parameter(tensor, requires_grad, hooks[, state])`: the same tensor, as a parameter
    /// differs only by what training needs.
    fn parameter<'a>(&mut self, heap: &Heap<'a>, args: &[Id]) -> Outcome<Option<Value<'a>>> {
        let &[tensor, _requires_grad, _hooks, ..] = args else {
            return Ok(None);
        };
        let Value::Tensor(tensor) = &heap[tensor] else {
            return Ok(None);
        };
        self.charge(2 * tensor.shape().len())?;
        Ok(Some(Value::Tensor(tensor.clone())))
    }

    /// `_rebuild_from_type_v2(function, type, args, state)`, where the function makes a tensor.
    fn subclass<'a>(&mut self, heap: &Heap<'a>, args: &[Id]) -> Outcome<Option<Value<'a>>> {
        let &[function, _type, args, _state] = args else {
            return Ok(None);
        };
        match heap[function] {
            // Not itself, so that this calls no deeper than once.
            Value::Global(Global::RebuildTensor | Global::RebuildParameter) => {
                self.call(heap, function, args).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// `numpy.dtype("f8", False, True)`.
    fn numpy_dtype<'a>(&mut self, heap: &Heap<'a>, args: &[Id]) -> Outcome<Option<Value<'a>>> {
        let Some(Value::Str(code)) = args.first().map(|&code| &heap[code]) else {
            return Ok(None);
        };
        self.charge(code.len())?;
        Ok(Some(Value::NumpyDtype(NumpyDtype {
            code: code.clone(),
            big_endian: false,
        })))
    }
}

/// BUILD: gives an object its state.
///
/// # Errors
/// When the object is none that takes a state.
pub(super) fn set_state(heap: &mut Heap<'_>, target: Id, state: Id) -> Outcome<()> {
    let big = match heap.sequence(state) {
        Some(&[_version, order, ..]) => heap.str(order) == Some(">"),
        _ => false,
    };
    match &mut heap[target] {
        // The attributes of an OrderedDict, such as a state dict's `_metadata`: nothing asks for them.
        Value::Dict(_) => Ok(()),
        Value::NumpyDtype(dtype) => {
            dtype.big_endian = big;
            Ok(())
        }
        _ => Err(PickleError::Malformed(
            "it sets the attributes of an object that has none",
        )),
    }
}

fn pair(heap: &Heap<'_>, item: Id) -> Option<(Id, Id)> {
    match heap.sequence(item) {
        Some(&[key, value]) => Some((key, value)),
        _ => None,
    }
}

/// A size, stride or offset.
fn size(heap: &Heap<'_>, id: Id) -> Option<usize> {
    match heap[id] {
        Value::Int(number) => usize::try_from(number).ok(),
        _ => None,
    }
}

fn sizes(heap: &Heap<'_>, id: Id) -> Option<Vec<usize>> {
    let items = heap.sequence(id)?;
    if items.len() > MAX_DIMENSIONS {
        return None;
    }
    items.iter().map(|&item| size(heap, item)).collect()
}

/// `numpy.core.multiarray.scalar(dtype, bytes)` as the Python value it equals.
fn numpy_scalar<'a>(heap: &Heap<'a>, args: &[Id]) -> Option<Value<'a>> {
    let &[dtype, data] = args else { return None };
    let Value::NumpyDtype(dtype) = &heap[dtype] else {
        return None;
    };
    let Value::Bytes(data) = &heap[data] else {
        // An object scalar holds its object instead of bytes.
        return Some(Value::Opaque("numpy scalar"));
    };
    let big = dtype.big_endian;
    Some(match &*dtype.code {
        "b1" => Value::Bool(u8::from_le_bytes(ordered(data, big)?) != 0),
        "f2" => Value::Float(f16::from_le_bytes(ordered(data, big)?).to_f64()),
        "f4" => Value::Float(f32::from_le_bytes(ordered(data, big)?).into()),
        "f8" => Value::Float(f64::from_le_bytes(ordered(data, big)?)),
        "i1" => Value::Int(i8::from_le_bytes(ordered(data, big)?).into()),
        "i2" => Value::Int(i16::from_le_bytes(ordered(data, big)?).into()),
        "i4" => Value::Int(i32::from_le_bytes(ordered(data, big)?).into()),
        "i8" => Value::Int(i64::from_le_bytes(ordered(data, big)?)),
        "u1" => Value::Int(u8::from_le_bytes(ordered(data, big)?).into()),
        "u2" => Value::Int(u16::from_le_bytes(ordered(data, big)?).into()),
        "u4" => Value::Int(u32::from_le_bytes(ordered(data, big)?).into()),
        "u8" => match i64::try_from(u64::from_le_bytes(ordered(data, big)?)) {
            Ok(number) => Value::Int(number),
            Err(_) => Value::Opaque("int beyond 64 bits"),
        },
        code if code.starts_with('U') => Value::Str(utf32(data, big)?.into()),
        _ => Value::Opaque("numpy scalar"),
    })
}

/// Exactly `N` bytes, made little endian.
fn ordered<const N: usize>(data: &[u8], big_endian: bool) -> Option<[u8; N]> {
    let mut bytes: [u8; N] = data.try_into().ok()?;
    if big_endian {
        bytes.reverse();
    }
    Some(bytes)
}

/// numpy's str: four bytes per character.
fn utf32(data: &[u8], big_endian: bool) -> Option<String> {
    let (characters, rest) = data.as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    characters
        .iter()
        .map(|c| char::from_u32(u32::from_le_bytes(ordered(c, big_endian)?)))
        .collect()
}
