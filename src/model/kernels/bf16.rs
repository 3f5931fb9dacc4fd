//! Matrix products of bfloat16 with sums in float32, on processors that multiply pairs of them (AVX512_BF16).
//!
//! As in [`super::gemm`], but for two things: numbers stand in pairs, and the rows are gathered and rounded once, before
//! all panels of the matrix pass by.
//!
//! Deliberately absent: bfloat16 anywhere else. What one layer hands to the next is float32.

use std::cell::RefCell;
use std::ops::Range;

use super::gemm::{Output, PASS_DEPTH, Rows, Tile, VECTORS, add};
use super::simd::{Pairs, PairsKernel};

/// With fewer columns it takes longer to round the rows than pairs of products save.
pub(super) const FEWEST_OUTPUTS: usize = 128;
/// Pairs whose products are added up before they are added to the rest.
const DEPTH: usize = 256;

thread_local! {
    static ROUNDED: RefCell<Vec<u32>> = RefCell::default();
}

/// A matrix `[taps, depth, outputs]`, as `[panels, taps * pairs, width]`.
#[derive(Debug)]
pub(super) struct Panels(Vec<u32>);

impl Panels {
    /// Rounds and packs what `at` says of tap, depth and output.
    pub(super) fn new(
        width: usize,
        (taps, depth, outputs): (usize, usize, usize),
        at: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let pairs = depth.div_ceil(2);
        let number = |tap, k, output| {
            let inside = k < depth && output < outputs;
            u32::from(half::bf16::from_f32(if inside { at(tap, k, output) } else { 0.0 }).to_bits())
        };
        let pair = |index: usize| {
            let (rest, column) = (index / width, index % width);
            let (panel, row) = (rest / (taps * pairs), rest % (taps * pairs));
            let (tap, k, output) = (row / pairs, 2 * (row % pairs), panel * width + column);
            number(tap, k + 1, output) << 16 | number(tap, k, output)
        };
        Self((0..outputs.div_ceil(width) * taps * pairs * width).map(pair).collect())
    }
}

pub(super) struct Product<'a, R> {
    pub(super) rows: &'a R,
    pub(super) panels: &'a Panels,
    pub(super) depth: usize,
    pub(super) output: Output<'a>,
}

/// What a tile is of.
#[derive(Clone, Copy)]
struct Part<'a> {
    /// The first tap of the pass, and the first after it.
    taps: (usize, usize),
    /// The first column.
    column: usize,
    /// The panel's rows of these taps.
    panel: &'a [u32],
}

impl<R: Rows> PairsKernel for Product<'_, R> {
    #[inline(always)]
    fn call<S: Pairs>(mut self, simd: S) {
        let taps = self.output.taps;
        let together = (2 * PASS_DEPTH / self.depth).clamp(1, taps);
        // Taken, not borrowed: a closure would be compiled without the instructions.
        let mut rounded = ROUNDED.take();
        for start in (0..taps).step_by(together) {
            self.pass(simd, start..taps.min(start + together), &mut rounded);
        }
        ROUNDED.set(rounded);
    }
}

impl<R: Rows> Product<'_, R> {
    /// Adds the products at some taps.
    #[inline(always)]
    fn pass<S: Pairs>(&mut self, simd: S, taps: Range<usize>, rounded: &mut Vec<u32>) {
        let (panels, pairs) = (self.panels, self.depth.div_ceil(2));
        let width = VECTORS * S::LANES;
        let panel_size = self.output.taps * pairs * width;
        let count = self.output.rows();
        let length = pairs * taps.len();
        let block = self.output.block(length).next_multiple_of(S::ROWS);
        rounded.resize(rounded.len().max(block * length), 0);
        for start in (0..count).step_by(block) {
            let end = count.min(start + block);
            self.round(simd, start..end, taps.clone(), rounded);
            for (index, panel) in panels.0.chunks_exact(panel_size).enumerate() {
                let panel = &panel[taps.start * pairs * width..taps.end * pairs * width];
                let part = Part { taps: (taps.start, taps.end), column: index * width, panel };
                for first in (start..end).step_by(S::ROWS) {
                    let rows = &rounded[(first - start) * length..(end - start) * length];
                    self.tile_of(simd, first, rows, part);
                }
            }
        }
    }

    /// Gathers and rounds rows: `[rows, taps, pairs]`.
    #[inline(always)]
    fn round<S: Pairs>(
        &self,
        simd: S,
        rows: Range<usize>,
        taps: Range<usize>,
        rounded: &mut [u32],
    ) {
        let pairs = self.depth.div_ceil(2);
        let mut to = rounded.chunks_exact_mut(pairs);
        for row in rows {
            let place = self.rows.place(row);
            for (tap, to) in taps.clone().zip(to.by_ref()) {
                simd.pair(self.rows.row(tap, place), to);
            }
        }
    }

    /// Computes as many of `rows` as the registers hold.
    #[inline(always)]
    fn tile_of<S: Pairs>(&mut self, simd: S, first: usize, rows: &[u32], part: Part<'_>) {
        let count = (rows.len() / (part.panel.len() / (VECTORS * S::LANES))).min(S::ROWS);
        match count {
            9.. => self.tile::<S, 12>(simd, (first, count), rows, part),
            5.. => self.tile::<S, 8>(simd, (first, count), rows, part),
            3.. => self.tile::<S, 4>(simd, (first, count), rows, part),
            _ => self.tile::<S, 2>(simd, (first, count), rows, part),
        }
    }

    /// Computes `count` rows as `N` rows, of which the last is repeated.
    #[inline(always)]
    fn tile<S: Pairs, const N: usize>(
        &mut self,
        simd: S,
        (first, count): (usize, usize),
        rows: &[u32],
        part: Part<'_>,
    ) {
        self.output.prefetch(simd, (first, count), part.column, part.taps);
        let length = part.panel.len() / (VECTORS * S::LANES);
        let rows: [&[u32]; N] =
            std::array::from_fn(|i| &rows[i.min(count - 1) * length..][..length]);
        let mut total = None;
        for (piece, panel) in part.panel.chunks(DEPTH * VECTORS * S::LANES).enumerate() {
            let start = piece * DEPTH;
            let piece: [&[u32]; N] =
                std::array::from_fn(|i| &rows[i][start..length.min(start + DEPTH)]);
            total = Some(add(simd, total, dot::<S, N>(simd, &piece, panel)));
        }
        if let Some(total) = total {
            self.output.finish(simd, (first, count), part.column, part.taps, &total);
        }
    }
}

/// `N` rows times a panel, which is as deep as they are long.
#[inline(always)]
fn dot<S: Pairs, const N: usize>(simd: S, rows: &[&[u32]; N], panel: &[u32]) -> Tile<S, N> {
    let length = rows[0].len();
    assert!(rows.iter().all(|row| row.len() == length));
    let mut sums = [[simd.splat(0.0); VECTORS]; N];
    for (k, columns) in panel.chunks_exact(VECTORS * S::LANES).take(length).enumerate() {
        let columns = [simd.load_pairs(columns), simd.load_pairs(&columns[S::LANES..])];
        for i in 0..N {
            // SAFETY: `take` keeps `k` below `length`, which is the length of every row.
            let pair = simd.splat_pair(unsafe { *rows[i].get_unchecked(k) });
            for v in 0..VECTORS {
                sums[i][v] = simd.dot_add(pair, columns[v], sums[i][v]);
            }
        }
    }
    sums
}
