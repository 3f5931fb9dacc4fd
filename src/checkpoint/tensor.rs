//! Tensors as views of bytes: in the memory-mapped checkpoint, or owned.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};
use memmap2::Mmap;

/// Parameters and buffers by their path, such as `backbone.body.conv1.weight`.
pub type StateDict = BTreeMap<String, Tensor>;

/// Element types that `torch.save` writes for ordinary models. Stored little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "torch's own names")]
pub enum Dtype {
    F16,
    BF16,
    F32,
    F64,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Dtype {
    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }
}

/// The bytes that tensors are views of; shared, never copied.
#[derive(Debug, Clone)]
pub(super) enum Bytes {
    Mapped(Arc<Mmap>, Range<usize>),
    Owned(Arc<[u8]>),
}

impl Bytes {
    pub(super) fn get(&self) -> &[u8] {
        match self {
            Self::Mapped(map, range) => &map[range.clone()],
            Self::Owned(bytes) => bytes,
        }
    }
}

/// A view of a storage: element `[i, j, ...]` is at `offset + i * strides[0] + j * strides[1] + ...`.
/// Every element lies within the storage.
#[derive(Debug, Clone)]
pub struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    strides: Vec<usize>,
    offset: usize,
    bytes: Bytes,
}

/// More elements than any detector's tensor has; a view can claim any number without having bytes.
const MOST_ELEMENTS: usize = 1 << 31;

impl Tensor {
    /// An owned, C-contiguous float32 tensor: for weights that are made, not read.
    ///
    /// # Panics
    /// When the number of `values` is not the product of `shape`.
    pub fn from_f32(shape: &[usize], values: Vec<f32>) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "values do not fill {shape:?}");
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            strides: contiguous_strides(shape),
            offset: 0,
            bytes: Bytes::Owned(bytes),
        }
    }

    /// A view, checked: every element must lie within `bytes`.
    pub(super) fn view(
        bytes: Bytes,
        dtype: Dtype,
        offset: usize,
        shape: Vec<usize>,
        strides: Vec<usize>,
    ) -> Result<Self, String> {
        let problem = || format!("a tensor of shape {shape:?} with strides {strides:?}");
        if shape.len() != strides.len() {
            return Err(format!("{} has not one stride per dimension", problem()));
        }
        let count = shape.iter().try_fold(1_usize, |count, &n| count.checked_mul(n));
        if count.is_none_or(|count| count > MOST_ELEMENTS) {
            return Err(format!("{} is larger than any model's", problem()));
        }
        let last = std::iter::zip(&shape, &strides).try_fold(offset, |last, (&n, &stride)| {
            last.checked_add(n.saturating_sub(1).checked_mul(stride)?)
        });
        let available = bytes.get().len() / dtype.size();
        if count != Some(0) && last.is_none_or(|last| last >= available) {
            return Err(format!(
                "{} and offset {offset} leaves its storage of {available}",
                problem()
            ));
        }
        Ok(Self { dtype, shape, strides, offset, bytes })
    }

    /// A view of elements in C order, checked as [`Tensor::view`] does.
    pub(super) fn contiguous(
        bytes: Bytes,
        dtype: Dtype,
        shape: Vec<usize>,
    ) -> Result<Self, String> {
        let count = shape.iter().try_fold(1_usize, |count, &n| count.checked_mul(n));
        if count.is_none_or(|count| count > MOST_ELEMENTS) {
            return Err(format!(
                "has a tensor of shape {shape:?}, which is larger than any model's"
            ));
        }
        let strides = contiguous_strides(&shape);
        Self::view(bytes, dtype, 0, shape, strides)
    }

    /// Length of each dimension; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Element type in the file.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements' bytes in C order, little-endian, without copying; `None` for other layouts.
    pub fn as_contiguous_bytes(&self) -> Option<&[u8]> {
        let expected = contiguous_strides(&self.shape);
        let contiguous = std::iter::zip(&self.shape, std::iter::zip(&self.strides, &expected))
            .all(|(&n, (stride, expected))| n <= 1 || stride == expected);
        if self.is_empty() {
            return Some(&[]);
        }
        let size = self.dtype.size();
        let start = self.offset * size;
        contiguous.then(|| &self.bytes.get()[start..start + self.len() * size])
    }

    /// The elements in C order as float32: float16 and bfloat16 exactly, float64 and integers rounded,
    /// booleans as 0 and 1.
    pub fn to_f32(&self) -> Vec<f32> {
        let size = self.dtype.size();
        let element: fn(&[u8]) -> f32 = match self.dtype {
            Dtype::F16 => |b| f16::from_le_bytes([b[0], b[1]]).to_f32(),
            Dtype::BF16 => |b| bf16::from_le_bytes([b[0], b[1]]).to_f32(),
            Dtype::F32 => |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            Dtype::F64 => |b| f64::from_le_bytes(eight(b)) as f32,
            Dtype::I64 => |b| i64::from_le_bytes(eight(b)) as f32,
            Dtype::I32 => |b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f32,
            Dtype::I16 => |b| f32::from(i16::from_le_bytes([b[0], b[1]])),
            Dtype::I8 => |b| f32::from(b[0].cast_signed()),
            Dtype::U8 => |b| f32::from(b[0]),
            Dtype::Bool => |b| f32::from(u8::from(b[0] != 0)),
        };
        if let Some(bytes) = self.as_contiguous_bytes() {
            return bytes.chunks_exact(size).map(element).collect();
        }
        let bytes = self.bytes.get();
        self.positions().into_iter().map(|at| element(&bytes[at * size..(at + 1) * size])).collect()
    }

    /// Where each element is in the storage, in C order.
    fn positions(&self) -> Vec<usize> {
        std::iter::zip(&self.shape, &self.strides).fold(
            vec![self.offset],
            |outer, (&n, &stride)| {
                outer.iter().flat_map(|start| (0..n).map(move |i| start + i * stride)).collect()
            },
        )
    }
}

fn eight(b: &[u8]) -> [u8; 8] {
    [b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]
}

fn contiguous_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis].max(1);
    }
    strides
}
