//! State dicts in the format of <https://github.com/huggingface/safetensors>: a header in JSON, then the tensors.
//!
//! Deliberately absent: a class map. There is no convention for one, so such a file is a bare state dict.

use std::sync::Arc;

use memmap2::Mmap;
use safetensors::{Dtype as Stored, SafeTensorError, SafeTensors};

use super::tensor::{Bytes, Dtype, StateDict, Tensor};

/// Whether the bytes begin like such a file: the length of the header, eight bytes, then the header, an object.
pub(super) fn recognise(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return false };
    // Longer headers are refused by the format; no other file that is known here begins with such a number.
    u64::from_le_bytes(*length) < 1 << 32 && rest.first() == Some(&b'{')
}

/// Every tensor as a view of the mapped file.
///
/// # Errors
/// What is wrong with the file, and what to do.
pub(super) fn read(map: &Arc<Mmap>) -> Result<StateDict, String> {
    let damaged = |error: SafeTensorError| {
        format!("is not a whole safetensors file ({error}); copy it again, it may be cut short")
    };
    let (header, metadata) = SafeTensors::read_metadata(map).map_err(damaged)?;
    let start = header + size_of::<u64>();
    let tensors = metadata.tensors();
    if tensors.is_empty() {
        return Err("holds no tensor; save model.state_dict()".to_owned());
    }
    let tensor = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
        let dtype = dtype(info.dtype).ok_or_else(|| {
            format!("has a parameter {name} of the type {:?}, which no detector has", info.dtype)
        })?;
        let (from, to) = info.data_offsets;
        let bytes = Bytes::Mapped(Arc::clone(map), start + from..start + to);
        Ok((name, Tensor::contiguous(bytes, dtype, info.shape.clone())?))
    };
    tensors.into_iter().map(tensor).collect()
}

fn dtype(stored: Stored) -> Option<Dtype> {
    Some(match stored {
        Stored::F16 => Dtype::F16,
        Stored::BF16 => Dtype::BF16,
        Stored::F32 => Dtype::F32,
        Stored::F64 => Dtype::F64,
        Stored::I64 => Dtype::I64,
        Stored::I32 => Dtype::I32,
        Stored::I16 => Dtype::I16,
        Stored::I8 => Dtype::I8,
        Stored::U8 => Dtype::U8,
        Stored::BOOL => Dtype::Bool,
        _ => return None,
    })
}
