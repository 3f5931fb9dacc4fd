//! The inner loops: [`LANES`] replicates at a time, one per lane, written so that the compiler makes
//! vector instructions of the loops over lanes. Integers, divisions and comparisons only, lane by lane:
//! no result depends on how wide those instructions are.
//!
//! Deliberately absent: what is counted ([`super::coco`], [`super::practical`]).

/// Replicates that are evaluated together: a row of weights is 16 bytes.
pub(super) const LANES: usize = 16;

/// A value per replicate of a block.
pub(super) type Lanes<T> = [T; LANES];

/// One unit's weights in the replicates of a block.
pub(super) type Row = Lanes<u8>;

/// Units and how much of something each has; units ascend and are there once.
#[derive(Debug, Default)]
pub(super) struct Counts(Vec<(u32, u32)>);

impl Counts {
    /// Adds what is of the same unit together.
    pub(super) fn new(counts: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut counts: Vec<(u32, u32)> = counts.filter(|&(_, count)| count > 0).collect();
        counts.sort_unstable();
        counts.dedup_by(|next, last| {
            let same = next.0 == last.0;
            last.1 += if same { next.1 } else { 0 };
            same
        });
        counts.shrink_to_fit();
        Self(counts)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How much there is in each replicate.
    pub(super) fn weigh(&self, block: &[Row]) -> Lanes<i32> {
        let mut sum = [0; LANES];
        for &(unit, count) in &self.0 {
            let row = &block[unit as usize];
            for (sum, &weight) in sum.iter_mut().zip(row) {
                *sum += i32::from(weight) * count as i32;
            }
        }
        sum
    }
}

/// Adds the weights of `units`.
fn add(sum: &mut Lanes<i32>, units: &[u32], block: &[Row]) {
    // As many weights of 255 fit into 16 bits, of which a vector holds twice as many as of 32.
    for units in units.chunks(256) {
        let mut part = [0u16; LANES];
        for &unit in units {
            for (part, &weight) in part.iter_mut().zip(&block[unit as usize]) {
                *part += u16::from(weight);
            }
        }
        for (sum, part) in sum.iter_mut().zip(part) {
            *sum += i32::from(part);
        }
    }
}

/// How many detections there are up to each of `ends`, which are places in the ranked `units` and
/// ascend; `upto` is overwritten with a row for each.
pub(super) fn cumulate(units: &[u32], ends: &[u32], block: &[Row], upto: &mut Vec<Lanes<i32>>) {
    upto.clear();
    let (mut sum, mut start) = ([0; LANES], 0);
    for &end in ends {
        add(&mut sum, &units[start..end as usize], block);
        upto.push(sum);
        start = end as usize;
    }
}

/// What a detection near a ground truth changes, at one IoU threshold and in one area range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It is a true positive.
    Found,
    /// It is a true positive although its own area is out of range: it is not among the ranked.
    FoundOutside,
    /// It is among the ranked, and ignored.
    Ignored,
}

/// A detection that is not simply a false positive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Row of the cumulated counts.
    pub(super) hit: u32,
    pub(super) unit: u32,
    pub(super) effect: Effect,
}

/// What all entries together change.
pub(super) struct Totals {
    /// True positives.
    pub(super) tp: Lanes<i32>,
    /// True positives out of range less ignored detections in range: what is to be added to the
    /// number of ranked detections for that of true and false positives.
    correction: Lanes<i32>,
}

impl Totals {
    pub(super) fn new(entries: &[Entry], block: &[Row]) -> Self {
        let (mut tp, mut correction) = ([0; LANES], [0; LANES]);
        for entry in entries {
            let row = block[entry.unit as usize].map(i32::from);
            if entry.effect != Effect::Ignored {
                (0..LANES).for_each(|l| tp[l] += row[l]);
            }
            match entry.effect {
                Effect::Found => {}
                Effect::FoundOutside => (0..LANES).for_each(|l| correction[l] += row[l]),
                Effect::Ignored => (0..LANES).for_each(|l| correction[l] -= row[l]),
            }
        }
        Self { tp, correction }
    }
}

/// What [`average_precision`] walks along.
#[derive(Clone, Copy)]
pub(super) struct Path<'p> {
    pub(super) entries: &'p [Entry],
    pub(super) block: &'p [Row],
    /// From [`cumulate`].
    pub(super) upto: &'p [Lanes<i32>],
    /// Ground truths to be found; 0 counts as 1.
    pub(super) positives: &'p Lanes<f64>,
    pub(super) totals: &'p Totals,
}

/// The mean of the interpolated precision at the 101 recalls.
///
/// Recall thresholds are not looked up one by one. Going backward from the last entry, precision's
/// running maximum is the interpolated precision, and every entry answers for as many thresholds as
/// lie between its recall and that of the entry before.
///
/// Most of the bootstrap's time is spent here. On x86-64, vectors twice as wide as every processor has
/// take a third of all time away; the bits are the same.
pub(super) fn average_precision(path: Path<'_>) -> Lanes<f64> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: this processor has what the function is compiled for.
        return unsafe { walk_avx2(path) };
    }
    walk(path)
}

/// [`walk`] with 256-bit vectors. No other feature: a fused multiply-add would change last bits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn walk_avx2(path: Path<'_>) -> Lanes<f64> {
    walk(path)
}

#[inline(always)]
fn walk(path: Path<'_>) -> Lanes<f64> {
    let mut ap = [0.0; LANES];
    for (group, ap) in ap.as_chunks_mut().0.iter_mut().enumerate() {
        *ap = Walk::<GROUP>::new(group * GROUP, path).back(path);
    }
    ap
}

/// Lanes whose state fits into vector registers.
const GROUP: usize = 8;

/// The state of `N` neighbouring lanes on their way back.
struct Walk<const N: usize> {
    first: usize,
    positives: [f64; N],
    tp: [f64; N],
    correction: [i32; N],
    /// The threshold that the true positives reach.
    reached: [f64; N],
    /// Interpolated precision.
    best: [f64; N],
    sum: [f64; N],
}

impl<const N: usize> Walk<N> {
    #[inline(always)]
    fn new(first: usize, path: Path<'_>) -> Self {
        let totals = path.totals;
        let positives = std::array::from_fn(|l| path.positives[first + l].max(1.0));
        let tp = std::array::from_fn(|l| f64::from(totals.tp[first + l]));
        Self {
            first,
            positives,
            tp,
            correction: std::array::from_fn(|l| totals.correction[first + l]),
            reached: std::array::from_fn(|l| last_reached(tp[l], positives[l])),
            best: [0.0; N],
            sum: [0.0; N],
        }
    }

    #[inline(always)]
    fn back(mut self, path: Path<'_>) -> [f64; N] {
        let lanes = self.first..self.first + N;
        for entry in path.entries.iter().rev() {
            let weights = &path.block[entry.unit as usize][lanes.clone()];
            let weights: [i32; N] = std::array::from_fn(|l| i32::from(weights[l]));
            if entry.effect == Effect::Ignored {
                (0..N).for_each(|l| self.correction[l] += weights[l]);
                continue;
            }
            self.step(&weights, &path.upto[entry.hit as usize][lanes.clone()]);
            if entry.effect == Effect::FoundOutside {
                (0..N).for_each(|l| self.correction[l] -= weights[l]);
            }
        }
        // The first threshold is 0: any true positive reaches it, and so the best precision of all.
        std::array::from_fn(|l| (self.sum[l] + self.best[l]) / 101.0)
    }

    /// Goes from a true positive to what is before it. Where its weight is 0 nothing changes: its
    /// precision is no better than that of the true positive before it.
    #[inline(always)]
    fn step(&mut self, weights: &[i32; N], upto: &[i32]) {
        for l in 0..N {
            let counted = f64::from(upto[l] + self.correction[l]);
            // `tp / (fp+tp+np.spacing(1))`, cocoeval.py line 385.
            let precision = self.tp[l] / (counted + f64::EPSILON);
            self.best[l] = if precision > self.best[l] { precision } else { self.best[l] };
            self.tp[l] -= f64::from(weights[l]);
            let before = last_reached(self.tp[l], self.positives[l]);
            self.sum[l] += self.best[l] * (self.reached[l] - before);
            self.reached[l] = before;
        }
    }
}

/// The last of the thresholds 0, 0.01, .. 1 that recall reaches, by its number: exactly as
/// `np.searchsorted` finds it in `np.linspace(0, 1, 101)`, whose values are these products.
#[inline(always)]
fn last_reached(tp: f64, positives: f64) -> f64 {
    /// Added and taken away again, it rounds to an integer, which vector instructions can do.
    const ROUND: f64 = 1.5 * (1u64 << 52) as f64;
    let recall = tp / positives;
    // Down, but not where a product that should be an integer fell short of it.
    let number = (recall * 100.0 - (0.5 - 1e-9) + ROUND) - ROUND;
    number - if number * 0.01 > recall { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::linspace;

    #[test]
    fn the_last_threshold_reached_is_the_one_that_a_search_finds() {
        let thresholds = linspace(0.0, 1.0, 101);
        for positives in (1..=700u32).chain([12_345, 1_000_003, 40_000_000]) {
            let step = (positives / 900).max(1) as usize;
            for tp in (0..=positives).step_by(step).chain([positives]) {
                let recall = f64::from(tp) / f64::from(positives);
                let expected = thresholds.partition_point(|&thr| thr <= recall) - 1;
                let found = last_reached(f64::from(tp), f64::from(positives));
                assert_eq!(found, expected as f64, "{tp} of {positives}");
            }
        }
    }

    /// Sums of many heavy weights do not fit into 16 bits.
    #[test]
    fn long_runs_of_the_heaviest_weights_are_added_exactly() {
        let block = [[255; LANES], [0; LANES]];
        let units: Vec<u32> = (0..2000).map(|i| u32::from(i % 5 == 0)).collect();
        let mut upto = Vec::new();
        cumulate(&units, &[0, 1000, 2000], &block, &mut upto);
        assert_eq!(upto.iter().map(|row| row[3]).collect::<Vec<_>>(), [0, 204_000, 408_000]);
    }

    #[test]
    fn counts_of_one_unit_are_added_and_weighed() {
        let counts = Counts::new([(1, 2), (0, 0), (2, 5), (1, 1)].into_iter());
        assert_eq!(counts.0, [(1, 3), (2, 5)]);
        let block = [[9; LANES], std::array::from_fn(|l| l as u8), [2; LANES]];
        let weighed = counts.weigh(&block);
        assert_eq!((weighed[0], weighed[15]), (10, 55));
        assert!(Counts::new([(3, 0)].into_iter()).is_empty());
    }

    /// Whoever runs it, and on whatever processor: the same bits.
    #[test]
    fn wide_vectors_give_the_bits_that_narrow_ones_give() {
        let effects = [Effect::Found, Effect::Found, Effect::FoundOutside, Effect::Ignored];
        let block: Vec<Row> = (0..97)
            .map(|unit| std::array::from_fn(|l| (unit * 31 + l * 17) as u8 % 11 / 4))
            .collect();
        let entries: Vec<Entry> = (0..500)
            .map(|i| Entry { hit: i, unit: i * 7 % 97, effect: effects[i as usize * 5 % 7 % 4] })
            .collect();
        let units: Vec<u32> = (0..2000).map(|i| i * 13 % 97).collect();
        let ends: Vec<u32> = (1..=500).map(|i| i * 4).collect();
        let mut upto = Vec::new();
        cumulate(&units, &ends, &block, &mut upto);
        let totals = Totals::new(&entries, &block);
        let positives = totals.tp.map(|tp| f64::from(tp) * 1.25);
        let (entries, block, upto) = (&entries[..], &block[..], &upto[..]);
        let path = Path { entries, block, upto, positives: &positives, totals: &totals };
        let bits = |ap: Lanes<f64>| ap.map(f64::to_bits);
        let narrow = walk(path);
        assert!(narrow.iter().all(|ap| (0.01..0.99).contains(ap)), "{narrow:?}");
        assert_eq!(bits(average_precision(path)), bits(narrow));
    }
}
