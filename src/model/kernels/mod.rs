//! The arithmetic that a detector spends its time on, in Rust: convolutions and linear layers on float32
//! slices, channels last.
//!
//! libtorch's own are not slow, but they cannot read a kernel that was transformed once, add bias and
//! residual on the way to memory, or use AVX-512 on every processor that has it.
//!
//! Deliberately absent: libtorch (that is [`super::layers`]), and threads.

mod aligned;
mod bf16;
mod conv;
mod gemm;
mod linear;
mod simd;
mod winograd;

pub use conv::{Algorithm, Convolution, Shape};
pub use gemm::Epilogue;
pub use linear::Product;
pub use simd::Isa;
