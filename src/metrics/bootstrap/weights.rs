//! How often each unit is drawn in each replicate.
//!
//! Deliberately absent: what a unit is. An image where images are independent of each other, a video
//! or a scene where they come in groups; the caller numbers them.

use rayon::prelude::*;

use super::kernel::{LANES, Lanes, Row};
use super::random::Xoshiro256;

/// Multiplicities of the units (images, or groups of images such as a video) in each replicate.
///
/// A byte each. That a unit is drawn more than 255 times has a probability below 1/255!, whatever the
/// number of units; it would count 255 times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    units: usize,
    replicates: usize,
    /// `[blocks, units]` of rows with a weight per replicate of the block; 0 beyond the last replicate.
    rows: Vec<Row>,
}

impl Weights {
    /// Draws `units` units with replacement, `replicates` times (the multinomial bootstrap of Efron,
    /// 1979).
    ///
    /// Replicate b depends on `seed`, b and `units` alone: on no thread, and on no number of
    /// replicates. What is drawn for a seed is part of the stored results' meaning and will not change.
    pub fn bootstrap(units: usize, replicates: usize, seed: u64) -> Self {
        let draw = |replicate: usize, add: &mut dyn FnMut(usize)| {
            let mut random = Xoshiro256::stream(seed, replicate as u64);
            (0..units).for_each(|_| add(random.below(units as u64) as usize));
        };
        Self::new(units, replicates, draw)
    }

    /// Leaves one of at most `folds` groups of units out in each replicate: the grouped jackknife, and
    /// with no more units than folds the ordinary one. Fewer than two units have no replicates.
    ///
    /// Unit u is in group u modulo the number of groups. Neighbours in a file are often alike (one
    /// camera, one day); dealt out like this every group resembles the whole, so that what a group's
    /// absence changes is what as many units taken at random would change, as BCa's acceleration
    /// supposes.
    pub fn jackknife(units: usize, folds: usize) -> Self {
        let groups = if units < 2 || folds < 2 { 0 } else { units.min(folds) };
        let draw = |replicate: usize, add: &mut dyn FnMut(usize)| {
            (0..units).filter(|unit| unit % groups != replicate).for_each(add);
        };
        Self::new(units, groups, draw)
    }

    /// Every unit once, in one replicate: what is measured without resampling.
    pub fn ones(units: usize) -> Self {
        Self::new(units, 1, |_, add| (0..units).for_each(add))
    }

    /// `draw` names a replicate's units, each as often as it is drawn.
    fn new(
        units: usize,
        replicates: usize,
        draw: impl Fn(usize, &mut dyn FnMut(usize)) + Sync,
    ) -> Self {
        let mut rows = vec![Row::default(); replicates.div_ceil(LANES) * units];
        // Without units there are no rows, and nothing to draw.
        rows.par_chunks_mut(units.max(1)).enumerate().for_each(|(block, rows)| {
            let first = block * LANES;
            for replicate in first..replicates.min(first + LANES) {
                draw(replicate, &mut |unit| {
                    let weight = &mut rows[unit][replicate - first];
                    *weight = weight.saturating_add(1);
                });
            }
        });
        Self { units, replicates, rows }
    }

    /// How many units there are to draw from.
    pub fn units(&self) -> usize {
        self.units
    }

    /// How many replicates there are.
    pub fn replicates(&self) -> usize {
        self.replicates
    }

    /// How often a unit is in a replicate; 0 where there is no such unit or replicate.
    pub fn of(&self, replicate: usize, unit: usize) -> u32 {
        if unit >= self.units {
            return 0;
        }
        let row = self.rows.get(replicate / LANES * self.units + unit);
        row.map_or(0, |row| u32::from(row[replicate % LANES]))
    }

    /// Number of blocks of [`LANES`] replicates; the last may be only partly used.
    pub(super) fn blocks(&self) -> usize {
        self.replicates.div_ceil(LANES)
    }

    /// The lanes of all blocks one after another, `[replicates]`.
    pub(super) fn joined(&self, blocks: impl Iterator<Item = Lanes<f64>>) -> Vec<f64> {
        let mut values = Vec::with_capacity(self.blocks() * LANES);
        blocks.for_each(|lanes| values.extend(lanes));
        values.truncate(self.replicates);
        values
    }

    /// A block's rows, `[units]`.
    pub(super) fn block(&self, block: usize) -> &[Row] {
        &self.rows[block * self.units..(block + 1) * self.units]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicate(weights: &Weights, replicate: usize) -> Vec<u32> {
        (0..weights.units()).map(|unit| weights.of(replicate, unit)).collect()
    }

    #[test]
    fn a_bootstrap_draws_as_many_units_as_there_are() {
        let weights = Weights::bootstrap(50, 40, 3);
        for b in 0..40 {
            assert_eq!(replicate(&weights, b).iter().sum::<u32>(), 50);
        }
        assert_ne!(replicate(&weights, 0), replicate(&weights, 1));
        assert_eq!((weights.of(40, 0), weights.of(0, 50), weights.of(1000, 0)), (0, 0, 0));
    }

    /// These were drawn when this was written: a stored verdict is only as lasting as they are.
    #[test]
    fn what_a_seed_draws_does_not_change() {
        let weights = Weights::bootstrap(12, 20, 42);
        assert_eq!(replicate(&weights, 0), [1, 2, 1, 1, 1, 1, 1, 0, 3, 0, 1, 0]);
        assert_eq!(replicate(&weights, 19), [0, 1, 1, 0, 2, 2, 1, 1, 0, 1, 1, 2]);
    }

    #[test]
    fn a_replicate_depends_on_its_number_and_not_on_how_many_there_are_or_on_threads() {
        let few = Weights::bootstrap(30, 5, 7);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let many = pool.install(|| Weights::bootstrap(30, 100, 7));
        for b in 0..5 {
            assert_eq!(replicate(&few, b), replicate(&many, b));
        }
        assert_ne!(replicate(&few, 0), replicate(&Weights::bootstrap(30, 1, 8), 0));
    }

    /// A multiplicity is nearly Poisson with mean 1.
    #[test]
    fn a_third_of_the_units_is_not_drawn_and_a_third_once() {
        let weights = Weights::bootstrap(2000, 50, 11);
        let mut counts = [0u32; 4];
        for b in 0..50 {
            replicate(&weights, b).iter().for_each(|&w| counts[(w as usize).min(3)] += 1);
        }
        for (count, expected) in counts.into_iter().zip([0.3679, 0.3679, 0.1839, 0.0803]) {
            assert!((f64::from(count) / 100_000.0 - expected).abs() < 0.005, "{counts:?}");
        }
    }

    #[test]
    fn a_jackknife_leaves_every_unit_out_once() {
        for (units, folds, expected) in [(5, 200, 5), (10, 3, 3), (40, 40, 40)] {
            let weights = Weights::jackknife(units, folds);
            assert_eq!(weights.replicates(), expected);
            for unit in 0..units {
                let left_out = (0..expected).filter(|&b| weights.of(b, unit) == 0).count();
                assert_eq!(left_out, 1, "unit {unit} of {units}");
            }
            let drawn = (0..expected).flat_map(|b| replicate(&weights, b));
            assert!(drawn.max() == Some(1));
        }
        assert_eq!(replicate(&Weights::jackknife(7, 3), 1), [1, 0, 1, 1, 0, 1, 1]);
    }

    #[test]
    fn nothing_is_drawn_from_nothing() {
        assert_eq!(Weights::bootstrap(0, 3, 1).of(0, 0), 0);
        assert_eq!(Weights::bootstrap(3, 0, 1).replicates(), 0);
        for (units, folds) in [(0, 5), (1, 5), (5, 0), (5, 1)] {
            assert_eq!(Weights::jackknife(units, folds).replicates(), 0);
        }
        assert_eq!(replicate(&Weights::ones(3), 0), [1, 1, 1]);
    }
}
