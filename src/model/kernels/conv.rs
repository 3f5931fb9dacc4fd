//! A convolution, by the algorithm that is fastest for its shape.
//!
//! Deliberately absent: groups and dilation.

use std::cell::RefCell;

use super::aligned::Aligned;
use super::gemm::{Dense, Epilogue, Packed, Rows, multiply};
use super::simd::Isa;
use super::winograd::{Size, Winograd, Workspace};

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// As products of the input's pixels with a matrix for each place of the kernel.
    Direct,
    /// By Winograd's F(4x4, 3x3).
    Winograd,
}

/// What a convolution's kernel looks like: square, padded by half of its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Channels out.
    pub outputs: usize,
    /// Channels in.
    pub inputs: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Pixels from one output to the next.
    pub stride: usize,
}

impl Shape {
    /// The size of the output for an input of `(height, width)`.
    pub fn out_size(&self, (height, width): Size) -> Size {
        let side = |side: usize| (side + 2 * (self.kernel / 2) - self.kernel) / self.stride + 1;
        (side(height), side(width))
    }

    /// The fastest algorithm: Winograd's wherever it can be used with as many channels as make its
    /// matrix products efficient.
    pub fn algorithm(&self) -> Algorithm {
        let winograd = self.kernel == 3
            && self.stride == 1
            && Winograd::supports(self.inputs, self.outputs)
            && self.inputs.min(self.outputs) >= 32;
        if winograd { Algorithm::Winograd } else { Algorithm::Direct }
    }
}

/// A convolution with its kernel in the order in which it is read.
#[derive(Debug)]
pub struct Convolution {
    shape: Shape,
    prepared: Prepared,
}

#[derive(Debug)]
enum Prepared {
    Direct(Packed),
    /// A kernel of few channels: the rows of the kernel are the taps, and the input is padded first.
    Rows(Packed),
    Winograd(Winograd),
}

/// A row of a kernel with fewer numbers than that is multiplied at once.
const SHORT: usize = 64;

thread_local! {
    static WORKSPACE: RefCell<Workspace> = RefCell::default();
    static PADDED: RefCell<Aligned> = RefCell::default();
}

impl Convolution {
    /// Prepares the kernel, `[outputs, inputs, k, k]`.
    ///
    /// # Panics
    /// Where the kernel has another length, or the algorithm is not for this shape.
    pub fn new(isa: Isa, shape: Shape, algorithm: Algorithm, kernel: &[f64]) -> Self {
        let Shape { outputs, inputs, kernel: k, stride } = shape;
        assert_eq!(kernel.len(), outputs * inputs * k * k);
        let at = |output: usize, input: usize, tap: usize| {
            kernel[(output * inputs + input) * k * k + tap] as f32
        };
        let prepared = match algorithm {
            Algorithm::Winograd => {
                assert!(k == 3 && stride == 1);
                Prepared::Winograd(Winograd::new(isa, outputs, inputs, kernel))
            }
            Algorithm::Direct if k > 1 && k * inputs <= SHORT => {
                let sizes = (k, k * inputs, outputs);
                Prepared::Rows(Packed::new(isa, sizes, |y, column, output| {
                    at(output, column % inputs, y * k + column / inputs)
                }))
            }
            Algorithm::Direct => {
                let sizes = (k * k, inputs, outputs);
                Prepared::Direct(Packed::new(isa, sizes, |tap, input, output| {
                    at(output, input, tap)
                }))
            }
        };
        Self { shape, prepared }
    }

    /// What it was made for.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Convolves `input`, `[h, w, inputs]` of `size`, to `out`, `[h', w', outputs]` of
    /// [`Shape::out_size`]; adds `bias`, `[outputs]`, and `residual`, of the shape of `out`; then ReLU.
    ///
    /// # Panics
    /// Where a length does not fit.
    pub fn forward(&self, input: &[f32], size: Size, epilogue: Epilogue<'_>, out: &mut [f32]) {
        let Shape { outputs, inputs, kernel, stride } = self.shape;
        let out_size = self.shape.out_size(size);
        assert_eq!(input.len(), size.0 * size.1 * inputs);
        assert_eq!(out.len(), out_size.0 * out_size.1 * outputs);
        match &self.prepared {
            Prepared::Winograd(winograd) => WORKSPACE.with_borrow_mut(|workspace| {
                winograd.forward(input, size, epilogue, workspace, out);
            }),
            Prepared::Direct(matrix) if kernel == 1 && stride == 1 => {
                multiply(&Dense { values: input, taps: 1, depth: inputs }, matrix, epilogue, out);
            }
            Prepared::Direct(matrix) => {
                let zeros = vec![0.0; inputs];
                let out_width = out_size.1;
                let patches = Patches { input, size, zeros: &zeros, out_width, kernel, stride };
                multiply(&patches, matrix, epilogue, out);
            }
            Prepared::Rows(matrix) => PADDED.with_borrow_mut(|memory| {
                let rows = KernelRows {
                    padded: pad(input, size, inputs, kernel / 2, memory),
                    width: (size.1 + 2 * (kernel / 2)) * inputs,
                    depth: kernel * inputs,
                    channels: inputs,
                    stride,
                    out_width: out_size.1,
                };
                multiply(&rows, matrix, epilogue, out);
            }),
        }
    }
}

/// The input, pixel by pixel of the kernel.
struct Patches<'a> {
    input: &'a [f32],
    size: Size,
    /// What lies outside of the map: a pixel.
    zeros: &'a [f32],
    out_width: usize,
    kernel: usize,
    stride: usize,
}

impl Rows for Patches<'_> {
    /// The row and column of the kernel's first pixel, in the padded input.
    type Place = (usize, usize);

    #[inline(always)]
    fn place(&self, row: usize) -> Self::Place {
        (row / self.out_width * self.stride, row % self.out_width * self.stride)
    }

    #[inline(always)]
    fn row(&self, tap: usize, (y, x): Self::Place) -> &[f32] {
        let channels = self.zeros.len();
        let (height, width) = self.size;
        let padding = self.kernel / 2;
        let (y, x) = (y + tap / self.kernel, x + tap % self.kernel);
        if (padding..height + padding).contains(&y) && (padding..width + padding).contains(&x) {
            &self.input[((y - padding) * width + x - padding) * channels..][..channels]
        } else {
            self.zeros
        }
    }
}

/// The padded input, row by row of the kernel.
struct KernelRows<'a> {
    padded: &'a [f32],
    /// Numbers in a row of the padded input.
    width: usize,
    /// Numbers in a row of the kernel.
    depth: usize,
    channels: usize,
    stride: usize,
    out_width: usize,
}

impl Rows for KernelRows<'_> {
    type Place = usize;

    #[inline(always)]
    fn place(&self, row: usize) -> usize {
        let (y, x) = (row / self.out_width * self.stride, row % self.out_width * self.stride);
        y * self.width + x * self.channels
    }

    #[inline(always)]
    fn row(&self, tap: usize, place: usize) -> &[f32] {
        &self.padded[place + tap * self.width..][..self.depth]
    }
}

/// `[h, w, channels]` -> `[h + 2 padding, w + 2 padding, channels]`.
fn pad<'a>(
    input: &[f32],
    (height, width): Size,
    channels: usize,
    padding: usize,
    memory: &'a mut Aligned,
) -> &'a [f32] {
    let (row, edge) = ((width + 2 * padding) * channels, padding * channels);
    let padded = memory.at_least((height + 2 * padding) * row);
    for (y, to) in padded.chunks_exact_mut(row).enumerate() {
        if (padding..height + padding).contains(&y) {
            let from = &input[(y - padding) * width * channels..][..width * channels];
            to[..edge].fill(0.0);
            to[edge..row - edge].copy_from_slice(from);
            to[row - edge..].fill(0.0);
        } else {
            to.fill(0.0);
        }
    }
    padded
}
