//! The allow-list: which names a checkpoint may mention, and what calling them makes.

use super::pickle::{Id, Value};
use super::tensor::{Bytes, Dtype, Tensor};

/// Everything that may be named. None of it is looked up or run: each is a word with a meaning here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    Set,
    Bytearray,
    Encode,
    Size,
    /// `torch.device`, and torch's element types: read past.
    Inert,
    Tensor,
    Parameter,
    /// A tensor that carries Python attributes: the tensor, without them.
    FromType,
    NumpyScalar,
    NumpyType,
    Storage(Option<Dtype>),
}

impl Global {
    /// The meaning of `module.name`, or a refusal that names it.
    pub(super) fn allowed(module: &str, name: &str) -> Result<Self, String> {
        let global = match (module, name) {
            ("collections", "OrderedDict" | "Counter") => Self::OrderedDict,
            ("builtins" | "__builtin__", "set" | "frozenset" | "list" | "tuple") => Self::Set,
            ("builtins" | "__builtin__", "dict") => Self::OrderedDict,
            ("builtins" | "__builtin__", "bytearray" | "bytes") => Self::Bytearray,
            ("_codecs", "encode") => Self::Encode,
            ("builtins" | "__builtin__", "complex") => Self::Inert,
            ("torch", "Size") => Self::Size,
            ("torch", "device" | "Tensor") | ("torch.nn.parameter", "Parameter") => Self::Inert,
            ("torch._tensor", "_rebuild_from_type_v2") => Self::FromType,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Self::Tensor,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Self::Parameter
            }
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Self::NumpyScalar,
            ("numpy", "dtype") => Self::NumpyType,
            ("torch", name) => torch_type(name).ok_or_else(|| refusal(module, name))?,
            ("torch.storage", "UntypedStorage" | "_UntypedStorage") => {
                Self::Storage(Some(Dtype::U8))
            }
            ("torch.storage", "TypedStorage" | "_TypedStorage") => Self::Storage(None),
            _ => return Err(refusal(module, name)),
        };
        Ok(global)
    }
}

/// Escaped, so that a hostile name cannot write to a terminal.
fn refusal(module: &str, name: &str) -> String {
    format!(
        "names {}.{}, which is not on the list of what a checkpoint may hold; nothing was executed",
        module.escape_debug(),
        name.escape_debug()
    )
}

fn torch_type(name: &str) -> Option<Global> {
    let dtype = match name {
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
        "float16" | "bfloat16" | "float32" | "float64" | "int8" | "int16" | "int32" | "int64"
        | "uint8" | "bool" | "contiguous_format" | "channels_last" | "preserve_format"
        | "strided" => {
            return Some(Global::Inert);
        }
        _ => return None,
    };
    Some(Global::Storage(Some(dtype)))
}

/// The bytes of one storage, and what its elements are.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    bytes: Bytes,
    dtype: Dtype,
}

/// Where storages come from.
pub(super) trait Storages {
    /// The bytes of the storage `key`, if there is one.
    fn storage(&self, key: &str) -> Option<Bytes>;
}

/// `("storage", type, key, device, number of elements)`, as `torch.serialization.persistent_id` makes.
pub(super) fn storage(parts: &[&Value], storages: &dyn Storages) -> Result<Storage, String> {
    let [
        Value::Str(kind),
        Value::Global(Global::Storage(dtype)),
        Value::Str(key),
        _,
        Value::Int(count),
    ] = parts
    else {
        return Err("a persistent id is not that of a storage".to_owned());
    };
    let dtype = dtype.ok_or("a storage has no element type")?;
    let bytes =
        storages.storage(key).ok_or_else(|| format!("the storage data/{key} is missing"))?;
    let needed = usize::try_from(*count).ok().and_then(|count| count.checked_mul(dtype.size()));
    if kind != "storage" || needed.is_none_or(|needed| needed > bytes.get().len()) {
        return Err(format!("the storage data/{key} is shorter than its {count} elements"));
    }
    Ok(Storage { bytes, dtype })
}

/// What `global(*arguments)` makes.
pub(super) fn call(global: Global, arguments: &[&Value], arena: &[Value]) -> Result<Value, String> {
    match (global, arguments) {
        (Global::OrderedDict, []) => Ok(Value::Dict(Vec::new())),
        (Global::OrderedDict, [Value::Dict(entries)]) => Ok(Value::Dict(entries.clone())),
        (Global::OrderedDict, [Value::Sequence(items)]) => ordered_dict(items, arena),
        (Global::Set, []) => Ok(Value::Sequence(Vec::new())),
        (Global::Set | Global::Size, [Value::Sequence(items)]) => {
            Ok(Value::Sequence(items.clone()))
        }
        (Global::Bytearray, []) => Ok(Value::Bytes(Vec::new())),
        (Global::Bytearray, [Value::Bytes(bytes), ..]) => Ok(Value::Bytes(bytes.clone())),
        (Global::Encode, [Value::Str(text), ..]) => latin1(text),
        (Global::Inert, _) => Ok(Value::Opaque),
        (
            Global::Tensor,
            [
                Value::Storage(storage),
                Value::Int(offset),
                Value::Sequence(shape),
                Value::Sequence(strides),
                ..,
            ],
        ) => {
            let offset = usize::try_from(*offset).map_err(|_| "a tensor's offset is negative")?;
            let (shape, strides) = (lengths(shape, arena)?, lengths(strides, arena)?);
            Tensor::view(storage.bytes.clone(), storage.dtype, offset, shape, strides)
                .map(Value::Tensor)
        }
        (Global::Parameter, [Value::Tensor(tensor), ..]) => Ok(Value::Tensor(tensor.clone())),
        (
            Global::FromType,
            [
                Value::Global(inner @ (Global::Tensor | Global::Parameter)),
                _,
                Value::Sequence(items),
                ..,
            ],
        ) => {
            let arguments: Vec<&Value> = items.iter().map(|&id| &arena[id]).collect();
            call(*inner, &arguments, arena)
        }
        (Global::NumpyType, [Value::Str(code), ..]) => Ok(Value::NumpyType(NumpyType::new(code)?)),
        (Global::NumpyScalar, [Value::NumpyType(numpy), Value::Bytes(bytes)]) => {
            numpy.scalar(bytes)
        }
        _ => Err(format!("{global:?} is called with arguments that it does not take")),
    }
}

/// `OrderedDict([(key, value), ...])`, as protocol 0 and Python 2 write it.
fn ordered_dict(items: &[Id], arena: &[Value]) -> Result<Value, String> {
    let entry = |&item: &Id| match &arena[item] {
        Value::Sequence(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
        _ => Err("an OrderedDict is made of something else than pairs".to_owned()),
    };
    items.iter().map(entry).collect::<Result<_, _>>().map(Value::Dict)
}

fn lengths(items: &[Id], arena: &[Value]) -> Result<Vec<usize>, String> {
    let length = |&item: &Id| match arena[item] {
        Value::Int(n) => usize::try_from(n).ok(),
        _ => None,
    };
    let lengths: Option<Vec<usize>> = items.iter().map(length).collect();
    lengths.ok_or_else(|| "a tensor's shape or strides are not whole numbers from 0".to_owned())
}

/// Protocol 2 has no bytes: `_codecs.encode(text, "latin1")` stands for them.
fn latin1(text: &str) -> Result<Value, String> {
    let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
    bytes.map(Value::Bytes).map_err(|_| "bytes are written as text beyond latin-1".to_owned())
}

/// A numpy element type: `f8`, `i4`, `b1`, ...
#[derive(Debug, Clone, Copy)]
pub(super) struct NumpyType {
    kind: u8,
    size: usize,
    big_endian: bool,
}

impl NumpyType {
    fn new(code: &str) -> Result<Self, String> {
        match code.as_bytes() {
            &[kind @ (b'f' | b'i' | b'u' | b'b'), size @ (b'1' | b'2' | b'4' | b'8')] => {
                Ok(Self { kind, size: usize::from(size - b'0'), big_endian: false })
            }
            _ => Err(format!("the numpy type {code:?} is not that of a number")),
        }
    }

    pub(super) fn set_order(&mut self, order: Option<&str>) -> Result<(), String> {
        match order {
            Some("<" | "|" | "=") => self.big_endian = false,
            Some(">") => self.big_endian = true,
            _ => return Err("a numpy type has an unknown byte order".to_owned()),
        }
        Ok(())
    }

    fn scalar(self, bytes: &[u8]) -> Result<Value, String> {
        if bytes.len() != self.size {
            return Err("a numpy scalar has not the size of its type".to_owned());
        }
        let mut wide = [0; 8];
        wide[..self.size].copy_from_slice(bytes);
        if self.big_endian {
            wide[..self.size].reverse();
        }
        let raw = u64::from_le_bytes(wide);
        let unused = 64 - 8 * self.size as u32;
        Ok(match (self.kind, self.size) {
            (b'f', 2 | 4 | 8) | (b'b', 1) => Value::Opaque,
            (b'i', _) => Value::Int((raw << unused).cast_signed() >> unused),
            (b'u', _) => i64::try_from(raw).map_or(Value::Opaque, Value::Int),
            _ => return Err("a numpy scalar's type does not exist".to_owned()),
        })
    }
}
