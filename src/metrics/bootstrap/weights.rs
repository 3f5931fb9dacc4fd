//! How often each image counts in each replicate.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use super::kernel::{LANES, Lanes, Row};

/// Multiplicities of the units in each replicate; a unit is an image, or a group of images that
/// belong together, such as a video.
///
/// They are drawn where they are needed, so that a million images need no gigabytes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    units: usize,
    replicates: usize,
    scheme: Scheme,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Bootstrap { seed: u64 },
    Jackknife,
    Ones,
}

impl Weights {
    /// Draws as many units as there are, with replacement: the multiplicities of the bootstrap (Efron,
    /// Annals of Statistics 7, 1979). Replicate `b` depends on `seed`, `b` and `units` alone: it is
    /// stream `b` of ChaCha8, whose output is fixed by its specification. Of 2^32 units and more nothing
    /// is drawn: [`Sample::replicate`](super::Sample::replicate) refuses them.
    pub fn bootstrap(units: usize, replicates: usize, seed: u64) -> Self {
        Self { units, replicates, scheme: Scheme::Bootstrap { seed } }
    }

    /// Leaves one of at most `folds` groups of units out in each replicate. Unit `u` is in group `u` modulo
    /// the number of groups: neighbours, which are often alike, are left out apart.
    pub fn jackknife(units: usize, folds: usize) -> Self {
        Self { units, replicates: units.min(folds), scheme: Scheme::Jackknife }
    }

    /// Every unit once, in one replicate: what is measured is the point.
    pub fn ones(units: usize) -> Self {
        Self { units, replicates: 1, scheme: Scheme::Ones }
    }

    /// How many units there are.
    pub fn units(&self) -> usize {
        self.units
    }

    /// How many replicates there are.
    pub fn replicates(&self) -> usize {
        self.replicates
    }

    /// `[units]`: how often each counts in one replicate.
    pub fn replicate(&self, replicate: usize) -> Vec<u32> {
        match self.scheme {
            Scheme::Bootstrap { seed } => draw(self.units, seed, replicate as u64),
            Scheme::Jackknife => {
                let stays = |unit| u32::from(unit % self.replicates.max(1) != replicate);
                (0..self.units).map(stays).collect()
            }
            Scheme::Ones => vec![1; self.units],
        }
    }

    /// Neighbouring replicates, as many at a time as fit well into memory.
    pub(super) fn drawn(&self) -> impl Iterator<Item = Drawn> {
        const BYTES: usize = 1 << 26;
        let blocks = (BYTES / (LANES * self.units.max(1))).max(1);
        let starts = (0..self.replicates).step_by(blocks * LANES);
        starts
            .map(move |start| Drawn::new(self, start..self.replicates.min(start + blocks * LANES)))
    }
}

/// The multiplicities of some replicates, ready to be weighed with.
///
/// A byte each. That a unit is drawn more than 255 times has a probability below 1/255!, whatever the
/// number of units; it would count 255 times.
pub(super) struct Drawn {
    units: usize,
    replicates: usize,
    /// `[blocks, units]` of rows with a weight per replicate of the block; 0 beyond the last replicate.
    rows: Vec<Row>,
}

impl Drawn {
    /// No replicate.
    pub(super) fn none() -> Self {
        Self { units: 0, replicates: 0, rows: Vec::new() }
    }

    fn new(weights: &Weights, replicates: Range<usize>) -> Self {
        let units = weights.units;
        let mut rows = vec![Row::default(); replicates.len().div_ceil(LANES) * units];
        // Without units there are no rows, and nothing to draw.
        rows.par_chunks_mut(units.max(1)).enumerate().for_each(|(block, rows)| {
            for (lane, replicate) in replicates.clone().skip(block * LANES).take(LANES).enumerate()
            {
                for (row, count) in rows.iter_mut().zip(weights.replicate(replicate)) {
                    row[lane] = count.min(u32::from(u8::MAX)) as u8;
                }
            }
        });
        Self { units, replicates: replicates.len(), rows }
    }

    /// How many replicates there are.
    pub(super) fn replicates(&self) -> usize {
        self.replicates
    }

    /// Number of blocks of [`LANES`] replicates; the last may be only partly used.
    pub(super) fn blocks(&self) -> usize {
        self.replicates.div_ceil(LANES)
    }

    /// A block's rows, `[units]`.
    pub(super) fn block(&self, block: usize) -> &[Row] {
        &self.rows[block * self.units..(block + 1) * self.units]
    }

    /// The lanes of all blocks one after another, `[replicates]`.
    pub(super) fn joined(&self, blocks: impl Iterator<Item = Lanes<f64>>) -> Vec<f64> {
        let mut values = Vec::with_capacity(self.blocks() * LANES);
        blocks.for_each(|lanes| values.extend(lanes));
        values.truncate(self.replicates);
        values
    }
}

fn draw(units: usize, seed: u64, stream: u64) -> Vec<u32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    let mut counts = vec![0; units];
    for _ in 0..units {
        counts[below(&mut random, units as u32) as usize] += 1;
    }
    counts
}

/// A number below `bound`, each equally likely: Lemire, Fast random integer generation in an interval,
/// ACM TOMACS 29 (2019).
fn below(random: &mut ChaCha8Rng, bound: u32) -> u32 {
    let mut product = u64::from(random.next_u32()) * u64::from(bound);
    if (product as u32) < bound {
        let threshold = bound.wrapping_neg() % bound;
        while (product as u32) < threshold {
            product = u64::from(random.next_u32()) * u64::from(bound);
        }
    }
    (product >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bootstrap_replicate_draws_as_many_units_as_there_are() {
        for units in [1, 2, 7, 1000] {
            let weights = Weights::bootstrap(units, 50, 3);
            for replicate in 0..50 {
                let counts = weights.replicate(replicate);
                assert_eq!(counts.iter().sum::<u32>() as usize, units);
            }
        }
    }

    /// What a seed means must not change with a dependency: stored intervals would.
    #[test]
    fn the_stream_of_a_seed_is_pinned() {
        let weights = Weights::bootstrap(8, 2, 0);
        assert_eq!(weights.replicate(0), [1, 0, 0, 1, 2, 4, 0, 0]);
        assert_eq!(weights.replicate(1), [1, 0, 0, 1, 1, 1, 2, 2]);
    }

    #[test]
    fn units_are_drawn_equally_often() {
        let (units, replicates) = (10, 4000);
        let weights = Weights::bootstrap(units, replicates, 1);
        let mut drawn = vec![0; units];
        for replicate in 0..replicates {
            for (sum, count) in drawn.iter_mut().zip(weights.replicate(replicate)) {
                *sum += count;
            }
        }
        // 4000 expected, with a standard deviation of 60.
        assert!(drawn.iter().all(|count| (3700..4300).contains(count)), "{drawn:?}");
    }

    #[test]
    fn the_jackknife_leaves_every_unit_out_once() {
        for (units, folds) in [(5, 200), (201, 200), (1000, 200)] {
            let weights = Weights::jackknife(units, folds);
            assert_eq!(weights.replicates(), units.min(folds));
            let mut left_out = vec![0; units];
            for replicate in 0..weights.replicates() {
                for (sum, count) in left_out.iter_mut().zip(weights.replicate(replicate)) {
                    *sum += 1 - count;
                }
            }
            assert!(left_out.iter().all(|&count| count == 1));
        }
    }

    #[test]
    fn a_block_holds_the_replicates_side_by_side() {
        let weights = Weights::bootstrap(6, 2 * LANES + 3, 9);
        let drawn = Drawn::new(&weights, LANES..2 * LANES + 3);
        assert_eq!((drawn.blocks(), drawn.replicates()), (2, LANES + 3));
        for i in 0..drawn.replicates() {
            let block = drawn.block(i / LANES);
            let column: Vec<u32> = block.iter().map(|row| u32::from(row[i % LANES])).collect();
            assert_eq!(column, weights.replicate(LANES + i));
        }
        assert!(drawn.block(1).iter().all(|row| row[3..] == [0; LANES - 3]));
    }
}
