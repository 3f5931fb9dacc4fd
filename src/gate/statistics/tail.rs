//! Beyond the replicates: what a tail of the distribution looks like where too few replicates are.
//!
//! With 80 rules a corrected test at 5 % asks for quantiles at 0.06 %, where 1,000 replicates say
//! nothing. From the tenth replicate outwards the tail is therefore taken to be normal: on normal
//! probability paper a straight line from that replicate on.

use super::normal;

/// Scores end here, where their squares still are finite; only where nothing varies, or far beyond all
/// that an interval asks for, does one come so far.
pub(super) const FURTHEST: f64 = 1e150;

/// One tail, by distance: as if it were the upper one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tail {
    /// Where the tail begins.
    pub(super) anchor: f64,
    /// The standard score of its beginning, positive.
    pub(super) z: f64,
    /// Growth per unit of standard score; 0 only where all replicates are equal.
    slope: f64,
}

impl Tail {
    /// How many replicates, counted from the outside, the tail begins with.
    pub(super) const REPLICATES: usize = 10;

    /// The tail of `ordered`, the outermost [`Self::REPLICATES`] of `count` replicates, outermost
    /// first and negated where they are the lower ones.
    ///
    /// The line is as steep as the one from the median to the anchor, or as the replicates beyond
    /// the anchor ask for, whichever is wider: a heavy tail must not be drawn as a light one. Where
    /// both are flat and the replicates are not all equal, `standard_error` is the slope.
    pub(super) fn new(ordered: &[f64], count: usize, median: f64, standard_error: f64) -> Self {
        let score = |rank: usize| -normal::quantile(rank as f64 / (count + 1) as f64);
        let z = score(ordered.len());
        let anchor = ordered[ordered.len() - 1];
        let inner = (anchor - median) / z;
        let excess: f64 = ordered.iter().map(|value| value - anchor).sum();
        let expected: f64 = (1..=ordered.len()).map(|rank| score(rank) - z).sum();
        let slope = inner.max(excess / expected);
        Self { anchor, z, slope: if slope > 0.0 { slope } else { standard_error } }
    }

    /// The value at the standard score `z`, which is not below the anchor's.
    pub(super) fn value(&self, z: f64) -> f64 {
        self.anchor + self.slope * (z - self.z)
    }

    /// The standard score at which `value` is reached, which is not below the anchor.
    pub(super) fn score(&self, value: f64) -> f64 {
        if self.is_flat() { FURTHEST } else { self.z + (value - self.anchor) / self.slope }
    }

    /// Whether nothing lies beyond the anchor.
    pub(super) fn is_flat(&self) -> bool {
        self.slope == 0.0
    }
}
