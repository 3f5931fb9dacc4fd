//! Finds and reads `.pt` files without Python and without executing anything in them.

mod tensor;

pub use tensor::{Dtype, StateDict, Tensor, ViewError};
