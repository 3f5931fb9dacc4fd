//! 3x3 convolutions of stride 1 with a quarter of the multiplications: Winograd's F(4x4, 3x3) (Lavin and
//! Gray 2015, "Fast algorithms for convolutional neural networks", <https://arxiv.org/abs/1509.09308>).
//!
//! The output is cut into tiles of 4x4. A tile's 6x6 inputs are transformed (`B^T d B`), multiplied with
//! the kernel's transform (`G g G^T`, made once, in float64) position by position, which for all channels
//! and many tiles is 36 matrix products, and transformed back (`A^T m A`).
//!
//! The polynomials are evaluated at 0, ±5/8, ±3/2 and infinity, not at Lavin and Gray's 0, ±1, ±2 and
//! infinity: that halves the rounding error (Barabasz et al. 2018, "Error analysis and improving the
//! accuracy of Winograd convolution for deep neural networks", <https://arxiv.org/abs/1803.10986>, on how
//! much the points matter; these were found by trying; all constants are exact in float32).
//!
//! Deliberately absent: other kernel sizes, strides and dilations, which [`super::conv`] computes as
//! matrix products.

use super::aligned::Aligned;
use super::gemm::{Dense, Epilogue, Packed, multiply};
use super::simd::{Isa, Kernel, MAX_LANES, Simd, run};

/// Outputs per side of a tile.
const OUT: usize = 4;
/// Inputs per side of a tile.
const IN: usize = 6;
/// Matrix products.
const POSITIONS: usize = IN * IN;
/// The transforms take a vector of channels at a time.
const MIN_CHANNELS: usize = MAX_LANES;
/// Tiles that are transformed, multiplied and transformed back before the next ones: few, so that the
/// transforms find their numbers in the cache, but enough to pay for reading the kernel.
const BLOCK: usize = 48;
/// As many for a kernel that comes from memory each time, because it is larger than [`CACHED_BYTES`].
const LARGE_BLOCK: usize = 96;
/// What of a kernel a third-level cache may be expected to hold.
const CACHED_BYTES: usize = 16 << 20;
/// Put between the matrices, so that 36 stores in a row do not fall on the same lines of the cache.
const GAP: usize = 16;

/// The evaluation points are 0, `±P`, `±Q` and infinity.
const P: f32 = 0.625;
const Q: f32 = 1.5;
const P2: f32 = P * P;
const Q2: f32 = Q * Q;

/// A kernel, transformed.
#[derive(Debug)]
pub(super) struct Winograd {
    positions: Vec<Packed>,
    isa: Isa,
}

/// Memory that is used again by the next layer.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    transformed: Aligned,
    products: Aligned,
}

/// A map's height and width.
pub(super) type Size = (usize, usize);

impl Winograd {
    /// Whether a convolution of that many channels can be computed.
    pub(super) fn supports(inputs: usize, outputs: usize) -> bool {
        inputs.min(outputs) >= MIN_CHANNELS
    }

    /// Transforms the kernel `[outputs, inputs, 3, 3]`.
    pub(super) fn new(isa: Isa, outputs: usize, inputs: usize, kernel: &[f64]) -> Self {
        assert!(Self::supports(inputs, outputs) && kernel.len() == outputs * inputs * 9);
        // The transform back magnifies what bfloat16 rounds away fourfold.
        let isa = isa.min(Isa::Avx512);
        let mut transformed = vec![0.0; POSITIONS * outputs * inputs];
        for (index, kernel) in kernel.as_chunks::<9>().0.iter().enumerate() {
            for (position, value) in transform_kernel(kernel).into_iter().enumerate() {
                transformed[position * outputs * inputs + index] = value as f32;
            }
        }
        let pack = |position: &[f32]| {
            Packed::new(isa, (1, inputs, outputs), |_, input, output| {
                position[output * inputs + input]
            })
        };
        let positions = transformed.chunks_exact(outputs * inputs).map(pack).collect();
        Self { positions, isa }
    }

    fn inputs(&self) -> usize {
        self.positions[0].depth()
    }

    fn outputs(&self) -> usize {
        self.positions[0].outputs()
    }

    /// Convolves `input`, `[h, w, inputs]` of `size`, padded with a zero all around, to `out`,
    /// `[h, w, outputs]`.
    ///
    /// # Panics
    /// Where a length does not fit.
    pub(super) fn forward(
        &self,
        input: &[f32],
        size: Size,
        epilogue: Epilogue<'_>,
        workspace: &mut Workspace,
        out: &mut [f32],
    ) {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        assert!(input.len() == size.0 * size.1 * inputs);
        assert!(out.len() == size.0 * size.1 * outputs);
        assert!(epilogue.bias.is_none_or(|bias| bias.len() == outputs));
        assert!(epilogue.residual.is_none_or(|residual| residual.len() == out.len()));
        let columns = size.1.div_ceil(OUT);
        let tiles = size.0.div_ceil(OUT) * columns;
        let zeros = vec![0.0; inputs];
        let block = block(inputs, outputs);
        for start in (0..tiles).step_by(block) {
            let count = block.min(tiles - start);
            let grid = Grid { size, columns, start, count };
            let stride = count * inputs + GAP;
            let transformed = workspace.transformed.at_least(POSITIONS * stride);
            let source = Source { input, zeros: &zeros, grid };
            run(self.isa, InputTransform { source, stride, transformed });
            let product_stride = count * outputs + GAP;
            let products = workspace.products.at_least(POSITIONS * product_stride);
            for (position, matrix) in self.positions.iter().enumerate() {
                let values = &transformed[position * stride..][..count * inputs];
                let product = &mut products[position * product_stride..][..count * outputs];
                let rows = Dense { values, taps: 1, depth: inputs };
                multiply(&rows, matrix, Epilogue::default(), product);
            }
            let stride = product_stride;
            run(self.isa, OutputTransform { products, grid, stride, outputs, epilogue, out });
        }
    }
}

/// Tiles to a block.
fn block(inputs: usize, outputs: usize) -> usize {
    let kernel_bytes = POSITIONS * inputs * outputs * size_of::<f32>();
    if kernel_bytes <= CACHED_BYTES { BLOCK } else { LARGE_BLOCK }
}

/// `G g G^T` of a kernel in rows.
fn transform_kernel(kernel: &[f64; 9]) -> [f64; POSITIONS] {
    let rows: [[f64; 3]; IN] = {
        let columns: [[f64; IN]; 3] =
            std::array::from_fn(|x| evaluate([kernel[x], kernel[3 + x], kernel[6 + x]]));
        std::array::from_fn(|y| columns.map(|column| column[y]))
    };
    let mut all = [0.0; POSITIONS];
    for (row, out) in rows.into_iter().zip(all.as_chunks_mut::<IN>().0) {
        *out = evaluate(row);
    }
    all
}

/// The polynomial of these coefficients at each point, divided by the product of the point's distances
/// from the others.
fn evaluate([c0, c1, c2]: [f64; 3]) -> [f64; IN] {
    let (p, q, p2, q2) = (f64::from(P), f64::from(Q), f64::from(P2), f64::from(Q2));
    let (at_p, at_q) = (2.0 * p2 * (p2 - q2), 2.0 * q2 * (q2 - p2));
    [
        c0 / (p2 * q2),
        (c0 + c1 * p + c2 * p2) / at_p,
        (c0 - c1 * p + c2 * p2) / at_p,
        (c0 + c1 * q + c2 * q2) / at_q,
        (c0 - c1 * q + c2 * q2) / at_q,
        c2,
    ]
}

/// Which tiles a block has.
#[derive(Clone, Copy)]
struct Grid {
    size: Size,
    /// Tiles per row of the map.
    columns: usize,
    start: usize,
    count: usize,
}

impl Grid {
    /// The first row and column of the outputs of a tile of this block.
    #[inline(always)]
    fn origin(&self, tile: usize) -> (usize, usize) {
        let tile = self.start + tile;
        (tile / self.columns * OUT, tile % self.columns * OUT)
    }
}

/// Where the vectors that cover `channels` start. The last one overlaps the one before it where it would
/// not be full.
#[inline(always)]
fn vector_starts(channels: usize, lanes: usize) -> impl Iterator<Item = usize> {
    (0..channels).step_by(lanes).map(move |start| start.min(channels - lanes))
}

/// A map, cut into tiles.
#[derive(Clone, Copy)]
struct Source<'a> {
    input: &'a [f32],
    /// What lies outside of the map: a pixel.
    zeros: &'a [f32],
    grid: Grid,
}

struct InputTransform<'a> {
    source: Source<'a>,
    /// From one position's matrix to the next.
    stride: usize,
    /// `[36, count, inputs]`.
    transformed: &'a mut [f32],
}

impl Kernel for InputTransform<'_> {
    #[inline(always)]
    fn call<S: Simd>(self, simd: S) {
        let channels = self.source.zeros.len();
        // Out here it is cleared once.
        let mut columns = [[simd.splat(0.0); IN]; IN];
        for tile in 0..self.source.grid.count {
            let pixels = self.source.pixels(tile);
            for start in vector_starts(channels, S::LANES) {
                for (x, column) in columns.iter_mut().enumerate() {
                    let mut values = [simd.splat(0.0); IN];
                    for (y, value) in values.iter_mut().enumerate() {
                        *value = simd.load(&pixels[y * IN + x][start..]);
                    }
                    *column = transform_input(simd, values);
                }
                for y in 0..IN {
                    let mut row = [simd.splat(0.0); IN];
                    for (value, column) in row.iter_mut().zip(&columns) {
                        *value = column[y];
                    }
                    for (x, value) in transform_input(simd, row).into_iter().enumerate() {
                        let at = (y * IN + x) * self.stride + tile * channels + start;
                        simd.store(value, &mut self.transformed[at..]);
                    }
                }
            }
        }
    }
}

impl<'a> Source<'a> {
    /// A tile's inputs, in rows; they start a pixel above and left of its outputs.
    #[inline(always)]
    fn pixels(self, tile: usize) -> [&'a [f32]; POSITIONS] {
        let ((height, width), (top, left)) = (self.grid.size, self.grid.origin(tile));
        let channels = self.zeros.len();
        let mut pixels = [self.zeros; POSITIONS];
        for (index, pixel) in pixels.iter_mut().enumerate() {
            let (y, x) = (top + index / IN, left + index % IN);
            if (1..=height).contains(&y) && (1..=width).contains(&x) {
                *pixel = &self.input[((y - 1) * width + x - 1) * channels..][..channels];
            }
        }
        pixels
    }
}

/// A row or column of `B^T d B`: at each point the product of what is left of
/// `x (x^2 - p^2) (x^2 - q^2)` without it.
#[inline(always)]
fn transform_input<S: Simd>(simd: S, d: [S::V; IN]) -> [S::V; IN] {
    let (p, q) = (simd.splat(P), simd.splat(Q));
    let (p2, q2) = (simd.splat(P2), simd.splat(Q2));
    let (sum, product) = (simd.splat(P2 + Q2), simd.splat(P2 * Q2));
    let even_p = simd.neg_mul_add(q2, d[2], d[4]);
    let odd_p = simd.mul(p, simd.neg_mul_add(q2, d[1], d[3]));
    let even_q = simd.neg_mul_add(p2, d[2], d[4]);
    let odd_q = simd.mul(q, simd.neg_mul_add(p2, d[1], d[3]));
    [
        simd.mul_add(product, d[0], simd.neg_mul_add(sum, d[2], d[4])),
        simd.add(even_p, odd_p),
        simd.sub(even_p, odd_p),
        simd.add(even_q, odd_q),
        simd.sub(even_q, odd_q),
        simd.mul_add(product, d[1], simd.neg_mul_add(sum, d[3], d[5])),
    ]
}

struct OutputTransform<'a> {
    /// `[36, count, outputs]`.
    products: &'a [f32],
    grid: Grid,
    /// From one position's matrix to the next.
    stride: usize,
    outputs: usize,
    epilogue: Epilogue<'a>,
    out: &'a mut [f32],
}

impl Kernel for OutputTransform<'_> {
    #[inline(always)]
    fn call<S: Simd>(mut self, simd: S) {
        // Out here it is cleared once.
        let mut columns = [[simd.splat(0.0); OUT]; IN];
        for tile in 0..self.grid.count {
            for start in vector_starts(self.outputs, S::LANES) {
                for (x, column) in columns.iter_mut().enumerate() {
                    let mut values = [simd.splat(0.0); IN];
                    for (y, value) in values.iter_mut().enumerate() {
                        let at = (y * IN + x) * self.stride + tile * self.outputs + start;
                        *value = simd.load(&self.products[at..]);
                    }
                    *column = transform_output(simd, values);
                }
                for y in 0..OUT {
                    let mut row = [simd.splat(0.0); IN];
                    for (value, column) in row.iter_mut().zip(&columns) {
                        *value = column[y];
                    }
                    self.store(simd, (tile, y), start, transform_output(simd, row));
                }
            }
        }
    }
}

impl OutputTransform<'_> {
    /// Stores a row of a tile, as far as it lies in the map.
    #[inline(always)]
    fn store<S: Simd>(
        &mut self,
        simd: S,
        (tile, y): (usize, usize),
        start: usize,
        row: [S::V; OUT],
    ) {
        let ((height, width), (top, left)) = (self.grid.size, self.grid.origin(tile));
        if top + y >= height {
            return;
        }
        for (x, sum) in row.into_iter().enumerate().take(width - left) {
            let at = ((top + y) * width + left + x) * self.outputs + start;
            let value = self.epilogue.apply(simd, sum, start, at);
            simd.store(value, &mut self.out[at..]);
        }
    }
}

/// A row or column of `A^T m A`: the polynomial's coefficients from its values.
#[inline(always)]
fn transform_output<S: Simd>(simd: S, m: [S::V; IN]) -> [S::V; OUT] {
    let (sum_p, sum_q) = (simd.add(m[1], m[2]), simd.add(m[3], m[4]));
    let odd_p = simd.mul(simd.splat(P), simd.sub(m[1], m[2]));
    let odd_q = simd.mul(simd.splat(Q), simd.sub(m[3], m[4]));
    let (p2, q2) = (simd.splat(P2), simd.splat(Q2));
    [
        simd.add(m[0], simd.add(sum_p, sum_q)),
        simd.add(odd_p, odd_q),
        simd.mul_add(q2, sum_q, simd.mul(p2, sum_p)),
        simd.add(simd.mul_add(q2, odd_q, simd.mul(p2, odd_p)), m[5]),
    ]
}
