//! A tensor as a checkpoint stores it: a strided view of bytes that usually stay in the file.
//!
//! Deliberately absent: arithmetic, devices, gradients, writing. A tensor here is read once, to be
//! handed to the model.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};
use memmap2::Mmap;
use thiserror::Error;

/// The parameters and buffers of a model, by their path (`backbone.body.conv1.weight`).
pub type StateDict = BTreeMap<String, Tensor>;

/// How many elements a view may have beyond those of its storage (a stride of 0 repeats elements).
/// `Tensor.expand` makes such views, small ones; a larger one would be a few bytes of a hostile file
/// that ask for all memory.
const MAX_REPEATED_ELEMENTS: usize = 1 << 24;

/// The type of a tensor's elements, little endian in storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE half precision (`torch.float16`).
    F16,
    /// The upper half of a single (`torch.bfloat16`).
    BF16,
    /// `torch.float32`.
    F32,
    /// `torch.float64`.
    F64,
    /// `torch.int64`.
    I64,
    /// `torch.int32`.
    I32,
    /// `torch.int16`.
    I16,
    /// `torch.int8`.
    I8,
    /// `torch.uint8`.
    U8,
    /// `torch.bool`, one byte, 0 or not.
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

    /// Whether elements are floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }
}

impl fmt::Display for Dtype {
    /// PyTorch's name: `float16`, `int64`, ...
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::I64 => "int64",
            Self::I32 => "int32",
            Self::I16 => "int16",
            Self::I8 => "int8",
            Self::U8 => "uint8",
            Self::Bool => "bool",
        })
    }
}

/// The bytes behind one or more tensors. Clones share them.
#[derive(Clone)]
pub(crate) enum Storage {
    /// A range of a memory-mapped file.
    Mapped(Arc<Mmap>, Range<usize>),
    /// Bytes in memory.
    Owned(Arc<[u8]>),
}

impl Storage {
    /// The range `range` of `map`, or `None` where it reaches past the end.
    pub(crate) fn mapped(map: Arc<Mmap>, range: Range<usize>) -> Option<Self> {
        map.get(range.clone())?;
        Some(Self::Mapped(map, range))
    }

    /// All bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(map, range) => &map[range.clone()],
            Self::Owned(bytes) => bytes,
        }
    }
}

/// Why a view of a storage is not one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ViewError {
    /// Shape and strides have different lengths.
    #[error("it has {shape} dimensions but {strides} strides")]
    Rank {
        /// Number of dimensions.
        shape: usize,
        /// Number of strides.
        strides: usize,
    },
    /// A number that only a damaged or hostile file holds.
    #[error("its shape {shape:?} is larger than any tensor this can hold")]
    TooLarge {
        /// The shape.
        shape: Vec<usize>,
    },
    /// The view reaches past the end of its storage.
    #[error("it reaches element {last} of a storage of {stored} elements")]
    OutOfBounds {
        /// Index of the furthest element.
        last: usize,
        /// Elements stored.
        stored: usize,
    },
}

/// An n-dimensional array: a strided view of a storage that it may share with other tensors.
///
/// Every tensor has been checked: each element that `shape`, `strides` and `offset` can name lies
/// within the storage.
#[derive(Clone)]
pub struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    strides: Vec<usize>,
    offset: usize,
    storage: Storage,
}

impl Tensor {
    /// A C-contiguous float32 tensor in memory, for tests and generated weights.
    ///
    /// # Panics
    /// When `values` does not hold exactly the product of `shape` elements, which is a mistake of
    /// the caller.
    pub fn from_f32(shape: &[usize], values: Vec<f32>) -> Self {
        let numel: usize = shape.iter().product();
        assert_eq!(
            numel,
            values.len(),
            "shape {shape:?} does not hold {} values",
            values.len()
        );
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            strides: contiguous_strides(shape),
            offset: 0,
            storage: Storage::Owned(bytes.into()),
        }
    }

    /// A view of `storage`; `strides` and `offset` count elements.
    ///
    /// # Errors
    /// When the view names an element outside the storage, or more elements than can be held.
    pub(crate) fn view(
        dtype: Dtype,
        shape: Vec<usize>,
        strides: Vec<usize>,
        offset: usize,
        storage: Storage,
    ) -> Result<Self, ViewError> {
        if shape.len() != strides.len() {
            return Err(ViewError::Rank {
                shape: shape.len(),
                strides: strides.len(),
            });
        }
        let stored = storage.bytes().len() / dtype.size();
        let too_large = || ViewError::TooLarge {
            shape: shape.clone(),
        };
        let numel = checked_product(&shape).ok_or_else(too_large)?;
        if numel > stored.saturating_add(MAX_REPEATED_ELEMENTS) {
            return Err(too_large());
        }
        let last = last_index(&shape, &strides, offset).ok_or_else(too_large)?;
        if numel > 0 && last >= stored {
            return Err(ViewError::OutOfBounds { last, stored });
        }
        Ok(Self {
            dtype,
            shape,
            strides,
            offset,
            storage,
        })
    }

    /// The size of each dimension; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The step of each dimension, in elements of the storage.
    pub fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// The index of the first element in the storage, in elements.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        // Cannot overflow: `view` and `from_f32` have checked the product.
        self.shape.iter().product()
    }

    /// The elements in C order (last dimension fastest), converted to float32 by rounding to
    /// nearest; booleans become 0 and 1.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            Dtype::F16 => self.gather(|b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => self.gather(|b| bf16::from_le_bytes(b).to_f32()),
            Dtype::F32 => self.gather(f32::from_le_bytes),
            Dtype::F64 => self.gather(|b| f64::from_le_bytes(b) as f32),
            Dtype::I64 => self.gather(|b| i64::from_le_bytes(b) as f32),
            Dtype::I32 => self.gather(|b| i32::from_le_bytes(b) as f32),
            Dtype::I16 => self.gather(|b| f32::from(i16::from_le_bytes(b))),
            Dtype::I8 => self.gather(|b| f32::from(i8::from_le_bytes(b))),
            Dtype::U8 => self.gather(|[b]| f32::from(b)),
            Dtype::Bool => self.gather(|[b]| f32::from(u8::from(b != 0))),
        }
    }

    /// The elements' bytes where they lie in C order without gaps, without copying; `None` for
    /// other views. Little endian; in a file written by torch the first byte is 64-byte aligned when
    /// the offset is 0, elsewhere no alignment is promised.
    pub fn as_contiguous_bytes(&self) -> Option<&[u8]> {
        let numel = self.numel();
        if numel == 0 {
            return Some(&[]);
        }
        if !self.is_contiguous() {
            return None;
        }
        let size = self.dtype.size();
        self.storage
            .bytes()
            .get(self.offset * size..(self.offset + numel) * size)
    }

    /// Whether the elements lie in C order without gaps. The stride of a dimension of size 1 does
    /// not matter, as in torch.
    fn is_contiguous(&self) -> bool {
        let expected = contiguous_strides(&self.shape);
        (self.shape.iter().zip(&self.strides).zip(&expected))
            .all(|((&n, stride), expected)| n == 1 || stride == expected)
    }

    /// Reads every element, in C order, with `convert`.
    fn gather<const SIZE: usize>(&self, convert: impl Fn([u8; SIZE]) -> f32) -> Vec<f32> {
        if let Some(bytes) = self.as_contiguous_bytes() {
            return bytes
                .as_chunks::<SIZE>()
                .0
                .iter()
                .map(|&b| convert(b))
                .collect();
        }
        let (elements, _) = self.storage.bytes().as_chunks::<SIZE>();
        let mut out = Vec::with_capacity(self.numel());
        for_each_index(&self.shape, &self.strides, self.offset, |i| {
            out.push(convert(elements[i]))
        });
        out
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}, {:?})", self.dtype, self.shape)
    }
}

/// The strides of a C-contiguous tensor. Wraps where a dimension of size 0 lets the others be
/// anything; such a tensor has no elements to find.
fn contiguous_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i].wrapping_mul(shape[i]);
    }
    strides
}

/// The number of elements; `None` when it does not fit, even if a later dimension is 0.
fn checked_product(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |product, &n| product.checked_mul(n))
}

/// The largest index of the storage that the view names, `None` when it does not fit.
fn last_index(shape: &[usize], strides: &[usize], offset: usize) -> Option<usize> {
    shape
        .iter()
        .zip(strides)
        .try_fold(offset, |last, (&n, &stride)| {
            last.checked_add(n.saturating_sub(1).checked_mul(stride)?)
        })
}

/// Calls `visit` with the storage index of every element, in C order. All sizes are above 0.
fn for_each_index(shape: &[usize], strides: &[usize], offset: usize, mut visit: impl FnMut(usize)) {
    let Some((&row, outer)) = shape.split_last() else {
        return visit(offset);
    };
    let step = strides[outer.len()];
    let mut position = vec![0; outer.len()];
    let mut start = offset;
    loop {
        (0..row).for_each(|i| visit(start + i * step));
        // The odometer: advance the innermost outer dimension that is not at its end.
        let mut dim = outer.len();
        loop {
            if dim == 0 {
                return;
            }
            dim -= 1;
            position[dim] += 1;
            start += strides[dim];
            if position[dim] < outer[dim] {
                break;
            }
            start -= strides[dim] * position[dim];
            position[dim] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes 0..n as a storage of uint8.
    fn counting(n: u8) -> Storage {
        Storage::Owned((0..n).collect())
    }

    #[test]
    fn a_contiguous_tensor_gives_its_bytes_without_copying() {
        let tensor = Tensor::from_f32(&[2, 1, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(tensor.to_f32(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(tensor.as_contiguous_bytes().unwrap().len(), 24);
    }

    #[test]
    fn a_transposed_view_is_read_in_c_order() {
        let view = Tensor::view(Dtype::U8, vec![3, 2], vec![1, 3], 1, counting(7)).unwrap();
        assert_eq!(view.to_f32(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert!(view.as_contiguous_bytes().is_none());
    }

    #[test]
    fn the_stride_of_a_dimension_of_size_one_does_not_matter() {
        let view = Tensor::view(Dtype::U8, vec![1, 2], vec![77, 1], 2, counting(4)).unwrap();
        assert_eq!(view.as_contiguous_bytes(), Some(&[2, 3][..]));
    }

    #[test]
    fn scalars_empty_and_expanded_views_have_the_right_number_of_elements() {
        let scalar = Tensor::view(Dtype::U8, vec![], vec![], 3, counting(4)).unwrap();
        assert_eq!(scalar.to_f32(), [3.0]);
        let empty = Tensor::view(Dtype::U8, vec![2, 0], vec![0, 1], 9, counting(4)).unwrap();
        assert!(empty.to_f32().is_empty());
        let expanded = Tensor::view(Dtype::U8, vec![2, 3], vec![1, 0], 1, counting(4)).unwrap();
        assert_eq!(expanded.to_f32(), [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    }

    #[test]
    fn views_outside_the_storage_and_overflowing_ones_are_refused() {
        let view = |shape: &[usize], strides: &[usize], offset| {
            Tensor::view(
                Dtype::U8,
                shape.to_vec(),
                strides.to_vec(),
                offset,
                counting(4),
            )
        };
        assert!(view(&[4], &[1], 0).is_ok());
        assert_eq!(
            view(&[4], &[1], 1).err(),
            Some(ViewError::OutOfBounds { last: 4, stored: 4 })
        );
        assert_eq!(
            view(&[4], &[], 0).err(),
            Some(ViewError::Rank {
                shape: 1,
                strides: 0
            })
        );
        for (shape, strides, offset) in [
            (vec![usize::MAX, 2], vec![0, 0], 0),
            (vec![2, 2], vec![usize::MAX, 1], 0),
            (vec![2], vec![1], usize::MAX),
            (vec![1 << 40], vec![0], 0),
        ] {
            assert!(matches!(
                view(&shape, &strides, offset),
                Err(ViewError::TooLarge { .. })
            ));
        }
    }
}
