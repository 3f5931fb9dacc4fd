//! A linear layer: the product with a matrix that was packed once.

use super::gemm::{Dense, Epilogue, Packed, multiply};
use super::simd::Isa;

/// A row is cut into pieces of at most that many numbers: the matrix is read a piece at a time by as many
/// rows as the cache holds.
const PIECE: usize = 1024;

/// A weight `[outputs, inputs]`, packed.
#[derive(Debug)]
pub struct Product {
    matrix: Packed,
    /// Pieces of a row.
    pieces: usize,
}

impl Product {
    /// Packs `weight`, `[outputs, inputs]`.
    ///
    /// # Panics
    /// Where it has another length.
    pub fn new(isa: Isa, (outputs, inputs): (usize, usize), weight: &[f32]) -> Self {
        assert_eq!(weight.len(), outputs * inputs);
        // Equal pieces; a row whose length has no such divisor stays whole.
        let fewest = inputs.div_ceil(PIECE);
        let pieces = (fewest..2 * fewest).find(|&n| inputs.is_multiple_of(n)).unwrap_or(1);
        let depth = inputs / pieces;
        let at = |piece: usize, column: usize, output: usize| {
            weight[output * inputs + piece * depth + column]
        };
        Self { matrix: Packed::new(isa, (pieces, depth, outputs), at), pieces }
    }

    /// Numbers in a row of the input.
    pub fn inputs(&self) -> usize {
        self.pieces * self.matrix.depth()
    }

    /// `input`, `[n, inputs]`, times the transposed weight, to `out`, `[n, outputs]`.
    ///
    /// # Panics
    /// Where a length does not fit.
    pub fn forward(&self, input: &[f32], epilogue: Epilogue<'_>, out: &mut [f32]) {
        assert_eq!(input.len() * self.matrix.outputs(), out.len() * self.inputs());
        let depth = self.matrix.depth();
        let rows = Dense { values: input, taps: self.pieces, depth };
        multiply(&rows, &self.matrix, epilogue, out);
    }
}
