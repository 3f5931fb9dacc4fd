//! Matrix products for convolutions and linear layers: rows that may lie anywhere, times a matrix that
//! was packed once, plus bias, plus residual, with ReLU, in one pass.
//!
//! A convolution is the product of its input's pixels, gathered anew for each place ("tap") of its
//! kernel, with that place's matrix: Dukhan 2019, "The indirect convolution algorithm",
//! <https://arxiv.org/abs/1907.02129>. The loops around the inner one are those of Goto and van de Geijn
//! 2008, "Anatomy of high-performance matrix multiplication"; rows are not packed, because the inner loop
//! reads them number by number anyhow.
//!
//! An output is the sum of the sums over at most [`DEPTH`] products each, which is nearer to the exact
//! result than one long sum, and is the same on every processor that has a fused multiply-add.
//!
//! Deliberately absent: threads; an image is computed by one.

use std::ops::Range;

use super::aligned::Aligned;
use super::bf16;
use super::simd::{Isa, Kernel, MAX_LANES, Simd, run, run_pairs};

/// Products that are added up before they are added to the rest.
const DEPTH: usize = 128;
/// Products of an output between two looks at whether that was all.
const UNROLLED: usize = 4;
/// Vectors of a row that are computed together.
pub(super) const VECTORS: usize = 2;
/// Rows are taken in blocks whose input, output and residual together stay in the second-level cache while the matrix
/// passes by, bytes; but never fewer than [`FEWEST_ROWS`].
const BLOCK_BYTES: usize = 256 << 10;
/// With fewer, reading the matrix costs more than the cache saves.
const FEWEST_ROWS: usize = 48;
/// Taps are taken together as far as the sum of their depths is at most that; the rest is added in
/// further passes over the output. A panel then stays in the second-level cache while the rows pass by.
pub(super) const PASS_DEPTH: usize = 1536;

/// A matrix `[taps, depth, outputs]`, in the order in which the inner loop reads it.
#[derive(Debug)]
pub(super) struct Packed {
    panels: Panels,
    isa: Isa,
    taps: usize,
    depth: usize,
    outputs: usize,
}

/// Zero where the last panel is wider than the matrix.
#[derive(Debug)]
enum Panels {
    /// `[panels, taps * depth, width]`.
    Numbers(Aligned),
    /// In bfloat16.
    Pairs(bf16::Panels),
}

impl Packed {
    /// Packs the matrix whose element at tap, depth and output is what `at` says.
    pub(super) fn new(
        isa: Isa,
        (taps, depth, outputs): (usize, usize, usize),
        at: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let isa = isa.or_best();
        let width = VECTORS * isa.lanes();
        if isa == Isa::Avx512Bf16 && outputs >= bf16::FEWEST_OUTPUTS {
            let panels = Panels::Pairs(bf16::Panels::new(width, (taps, depth, outputs), at));
            return Self { panels, isa, taps, depth, outputs };
        }
        let mut panels = Aligned::zeros(outputs.div_ceil(width) * taps * depth * width);
        for (index, value) in panels.iter_mut().enumerate() {
            let (rest, column) = (index / width, index % width);
            let (panel, row) = (rest / (taps * depth), rest % (taps * depth));
            let output = panel * width + column;
            if output < outputs {
                *value = at(row / depth, row % depth, output);
            }
        }
        Self { panels: Panels::Numbers(panels), isa, taps, depth, outputs }
    }

    /// Columns of the product.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Numbers in a row at one tap.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }
}

/// Where the rows of the left-hand side are.
pub(super) trait Rows {
    /// What is to be known of a row to find it at each tap.
    type Place: Copy + Default;

    /// Looks for row `row`.
    fn place(&self, row: usize) -> Self::Place;

    /// The row at `place` as it is seen at `tap`: as many numbers as the matrix is deep.
    fn row(&self, tap: usize, place: Self::Place) -> &[f32];
}

/// Rows one after the other, each cut into as many pieces as there are taps.
pub(super) struct Dense<'a> {
    /// `[rows, taps, depth]`.
    pub(super) values: &'a [f32],
    pub(super) taps: usize,
    pub(super) depth: usize,
}

impl Rows for Dense<'_> {
    type Place = usize;

    #[inline(always)]
    fn place(&self, row: usize) -> usize {
        row * self.taps * self.depth
    }

    #[inline(always)]
    fn row(&self, tap: usize, place: usize) -> &[f32] {
        &self.values[place + tap * self.depth..][..self.depth]
    }
}

/// What happens to a product before it is stored.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// Added to every row, `[outputs]`.
    pub bias: Option<&'a [f32]>,
    /// Added, `[rows, outputs]`.
    pub residual: Option<&'a [f32]>,
    /// Negative results become 0.
    pub relu: bool,
}

/// Computes the product for all rows into `out`, `[rows, outputs]`.
///
/// # Panics
/// Where a length does not fit.
pub(super) fn multiply(rows: &impl Rows, matrix: &Packed, epilogue: Epilogue<'_>, out: &mut [f32]) {
    assert!(out.len().is_multiple_of(matrix.outputs));
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == matrix.outputs));
    assert!(epilogue.residual.is_none_or(|residual| residual.len() == out.len()));
    let &Packed { taps, depth, outputs, .. } = matrix;
    let output = Output { outputs, taps, epilogue, out };
    match &matrix.panels {
        Panels::Numbers(panels) => run(matrix.isa, Product { rows, panels, depth, output }),
        Panels::Pairs(panels) => run_pairs(bf16::Product { rows, panels, depth, output }),
    }
}

/// Where the products go.
pub(super) struct Output<'a> {
    pub(super) outputs: usize,
    /// Taps that are added up.
    pub(super) taps: usize,
    epilogue: Epilogue<'a>,
    pub(super) out: &'a mut [f32],
}

impl Output<'_> {
    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.out.len() / self.outputs
    }

    /// Rows, of so many numbers, to a block.
    pub(super) fn block(&self, length: usize) -> usize {
        let bytes = size_of::<f32>() * (length + 2 * self.outputs);
        (BLOCK_BYTES / bytes).max(FEWEST_ROWS)
    }

    /// Fetches what [`finish`](Self::finish) will need, while the products are computed: lines that lie a row of the
    /// output apart are not what the processor foresees.
    #[inline(always)]
    pub(super) fn prefetch<S: Simd>(
        &self,
        simd: S,
        (row, count): (usize, usize),
        column: usize,
        taps: (usize, usize),
    ) {
        let residual = self.epilogue.residual.filter(|_| taps.1 == self.taps);
        let width = (VECTORS * S::LANES).min(self.outputs - column);
        for row in row..row + count {
            let at = row * self.outputs + column;
            simd.prefetch(&self.out[at..at + width]);
            if let Some(residual) = residual {
                simd.prefetch(&residual[at..at + width]);
            }
        }
    }

    /// Stores a tile: the sums of `count` rows from `row` on, in the columns from `column` on, and what is to be added
    /// to them. `taps`: the first of the pass, and the first after it.
    #[inline(always)]
    pub(super) fn finish<S: Simd, const N: usize>(
        &mut self,
        simd: S,
        (row, count): (usize, usize),
        column: usize,
        taps: (usize, usize),
        tile: &Tile<S, N>,
    ) {
        let (first, last) = (taps.0 == 0, taps.1 == self.taps);
        let epilogue = if last { self.epilogue } else { Epilogue::default() };
        if first && epilogue.is_empty() && column + VECTORS * S::LANES <= self.outputs {
            let out = &mut self.out[row * self.outputs + column..];
            for (out, sums) in out.chunks_mut(self.outputs).zip(tile).take(count) {
                for (v, &sum) in sums.iter().enumerate() {
                    simd.store(sum, &mut out[v * S::LANES..]);
                }
            }
        } else {
            for (i, sums) in tile.iter().take(count).enumerate() {
                self.finish_row(simd, (row + i, column), first, epilogue, sums);
            }
        }
    }

    /// Adds what is to be added to the columns of a row from `column` on, unless it is the first pass what is there
    /// as well, and stores them.
    #[inline(always)]
    fn finish_row<S: Simd>(
        &mut self,
        simd: S,
        (row, column): (usize, usize),
        first: bool,
        epilogue: Epilogue<'_>,
        sums: &[S::V; VECTORS],
    ) {
        let outputs = self.outputs;
        for (v, &sum) in sums.iter().enumerate() {
            let column = column + v * S::LANES;
            let at = row * outputs + column;
            if column + S::LANES <= outputs {
                let before = if first { sum } else { simd.add(sum, simd.load(&self.out[at..])) };
                let value = epilogue.apply(simd, before, column, at);
                simd.store(value, &mut self.out[at..]);
            } else if column < outputs {
                let mut lanes = [0.0; MAX_LANES];
                simd.store(sum, &mut lanes);
                for (i, (value, out)) in
                    lanes.iter().zip(&mut self.out[at..at + outputs - column]).enumerate()
                {
                    let before = if first { *value } else { *value + *out };
                    *out = epilogue.apply_one(before, column + i, at + i);
                }
            }
        }
    }
}

/// The sums of `N` rows, [`VECTORS`] vectors of columns each, as they lie in the registers.
pub(super) type Tile<S, const N: usize> = [[<S as Simd>::V; VECTORS]; N];

/// `sum` plus what was added up before it, if anything was. (Not a closure: that would be compiled without the
/// instructions.)
#[inline(always)]
pub(super) fn add<S: Simd, const N: usize>(
    simd: S,
    before: Option<Tile<S, N>>,
    mut sum: Tile<S, N>,
) -> Tile<S, N> {
    if let Some(before) = before {
        for (sums, before) in sum.iter_mut().zip(&before) {
            for (sum, &before) in sums.iter_mut().zip(before) {
                *sum = simd.add(before, *sum);
            }
        }
    }
    sum
}

struct Product<'a, R> {
    rows: &'a R,
    panels: &'a [f32],
    depth: usize,
    output: Output<'a>,
}

impl<R: Rows> Kernel for Product<'_, R> {
    #[inline(always)]
    fn call<S: Simd>(mut self, simd: S) {
        let (taps, depth) = (self.output.taps, self.depth);
        let together = (PASS_DEPTH / depth).clamp(1, taps);
        for start in (0..taps).step_by(together) {
            self.pass(simd, start..taps.min(start + together));
        }
    }
}

/// What a tile is of.
#[derive(Clone, Copy)]
struct Part<'a> {
    /// The first tap of the pass, and the first after it.
    taps: (usize, usize),
    /// The first column.
    column: usize,
    /// The panel's rows of these taps.
    panel: &'a [f32],
}

impl<R: Rows> Product<'_, R> {
    /// Adds the products at some taps.
    #[inline(always)]
    fn pass<S: Simd>(&mut self, simd: S, taps: Range<usize>) {
        let (panels, depth) = (self.panels, self.depth);
        let width = VECTORS * S::LANES;
        let panel_size = self.output.taps * depth * width;
        let count = self.output.rows();
        let block = self.output.block(depth * taps.len()).next_multiple_of(S::ROWS);
        for start in (0..count).step_by(block) {
            let end = count.min(start + block);
            for (index, panel) in panels.chunks_exact(panel_size).enumerate() {
                let panel = &panel[taps.start * depth * width..taps.end * depth * width];
                let part = Part { taps: (taps.start, taps.end), column: index * width, panel };
                let mut row = start;
                while row < end {
                    row += self.tile_of(simd, row, end - row, part);
                }
            }
        }
    }

    /// Computes as many rows, of the `left`, as the registers hold; returns how many that were.
    #[inline(always)]
    fn tile_of<S: Simd>(&mut self, simd: S, first: usize, left: usize, part: Part<'_>) -> usize {
        let count = left.min(S::ROWS);
        match (S::ROWS, count) {
            (12, 9..) => self.tile::<S, 12>(simd, (first, count), part),
            (12, 7..) => self.tile::<S, 8>(simd, (first, count), part),
            (_, 5..) => self.tile::<S, 6>(simd, (first, count), part),
            (_, 3..) => self.tile::<S, 4>(simd, (first, count), part),
            _ => self.tile::<S, 2>(simd, (first, count), part),
        }
        count
    }

    /// Computes `count` rows from `first` on as `N` rows, of which the last is repeated.
    #[inline(always)]
    fn tile<S: Simd, const N: usize>(
        &mut self,
        simd: S,
        (first, count): (usize, usize),
        part: Part<'_>,
    ) {
        self.output.prefetch(simd, (first, count), part.column, part.taps);
        let depth = self.depth;
        let width = VECTORS * S::LANES;
        let mut places = [R::Place::default(); N];
        for (i, place) in places.iter_mut().enumerate() {
            *place = self.rows.place(first + i.min(count - 1));
        }
        let mut panel = part.panel;
        let mut total = None;
        for tap in part.taps.0..part.taps.1 {
            for start in (0..depth).step_by(DEPTH) {
                let end = depth.min(start + DEPTH);
                let mut rows: [&[f32]; N] = [&[]; N];
                for (row, &place) in rows.iter_mut().zip(&places) {
                    *row = &self.rows.row(tap, place)[start..end];
                }
                let (columns, rest) = panel.split_at((end - start) * width);
                total = Some(add(simd, total, dot::<S, N>(simd, &rows, columns)));
                panel = rest;
            }
        }
        if let Some(total) = total {
            self.output.finish(simd, (first, count), part.column, part.taps, &total);
        }
    }
}

impl Epilogue<'_> {
    /// Whether sums are stored as they are.
    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.bias.is_none() && self.residual.is_none() && !self.relu
    }

    /// What becomes of the sums of the columns from `column` on, which are stored from `at` on.
    #[inline(always)]
    pub(super) fn apply<S: Simd>(&self, simd: S, sum: S::V, column: usize, at: usize) -> S::V {
        let mut value = sum;
        if let Some(bias) = self.bias {
            value = simd.add(value, simd.load(&bias[column..]));
        }
        if let Some(residual) = self.residual {
            value = simd.add(value, simd.load(&residual[at..]));
        }
        if self.relu { simd.relu(value) } else { value }
    }

    /// [`apply`](Self::apply) for one column.
    #[inline(always)]
    fn apply_one(&self, sum: f32, column: usize, at: usize) -> f32 {
        let mut value = sum + self.bias.map_or(0.0, |bias| bias[column]);
        value += self.residual.map_or(0.0, |residual| residual[at]);
        if self.relu && value < 0.0 { 0.0 } else { value }
    }
}

/// `N` rows times a panel, which is as deep as they are long.
#[inline(always)]
fn dot<S: Simd, const N: usize>(simd: S, rows: &[&[f32]; N], panel: &[f32]) -> Tile<S, N> {
    let depth = rows[0].len();
    assert!(rows.iter().all(|row| row.len() == depth));
    assert!(panel.len() == depth * VECTORS * S::LANES);
    let mut sums = [[simd.splat(0.0); VECTORS]; N];
    let (whole, rest) = panel.split_at((depth - depth % UNROLLED) * VECTORS * S::LANES);
    let mut k = 0;
    for panel in whole.chunks_exact(UNROLLED * VECTORS * S::LANES) {
        for columns in panel.chunks_exact(VECTORS * S::LANES) {
            // SAFETY: panel and rows are `depth` deep.
            unsafe { dot_one(simd, rows, k, columns, &mut sums) };
            k += 1;
        }
    }
    for columns in rest.chunks_exact(VECTORS * S::LANES) {
        // SAFETY: panel and rows are `depth` deep.
        unsafe { dot_one(simd, rows, k, columns, &mut sums) };
        k += 1;
    }
    sums
}

/// Adds the products with the panel's row `k`.
///
/// # Safety
/// Every row is longer than `k`.
#[inline(always)]
unsafe fn dot_one<S: Simd, const N: usize>(
    simd: S,
    rows: &[&[f32]; N],
    k: usize,
    columns: &[f32],
    sums: &mut Tile<S, N>,
) {
    let columns = [simd.load(columns), simd.load(&columns[S::LANES..])];
    for i in 0..N {
        // SAFETY: the caller's.
        let value = simd.splat(unsafe { *rows[i].get_unchecked(k) });
        for v in 0..VECTORS {
            sums[i][v] = simd.mul_add(value, columns[v], sums[i][v]);
        }
    }
}
