//! The bootstrap distribution of one statistic.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::normal;
use super::student;
use super::tail::{FURTHEST, Tail};

/// With fewer defined replicates there is no [`Distribution`]: the tenth of 200 replicates stands at
/// the 5 % quantile, which a one-sided test at 5 % needs to see and not to extrapolate.
pub const LEAST_REPLICATES: usize = 200;

/// Of the replicates at least this share must be defined. A class that is on `k` images is missing
/// from a share of about `exp(-k)` of the resamples: 37 %, 14 %, 5 % for 1, 2, 3 images. Where more
/// than a tenth is missing, the rest is a choice of lucky draws from one or two images.
const LEAST_DEFINED: f64 = 0.9;

/// An interval with both its ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ChangeInterval")]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The bootstrap distribution of a statistic: a candidate's metric minus the baseline's, one metric
/// alone, or what a rule demands to be at least 0. In the statistic's own unit.
///
/// Quantiles are type 6 of Hyndman and Fan (The American Statistician 50, 1996): of `B` replicates
/// the `i`-th stands at level `i / (B + 1)`, straight lines between. Beyond the tenth replicate from
/// either end the tail is normal (see `tail`), so that there is a quantile for every level and no
/// p-value is 0. Equal replicates are one step: [`Self::p_at_most`] and [`Self::p_at_least`] both
/// count them, so that a test never claims what its interval does not.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    point: f64,
    /// Ascending.
    replicates: Vec<f64>,
    /// Negated: see [`Tail`].
    lower: Tail,
    upper: Tail,
    standard_error: f64,
    bias: f64,
    acceleration: f64,
    /// Infinite where the replicates are taken as they are.
    units: f64,
}

impl Distribution {
    /// The distribution whose quantiles are those of the replicates: the percentile method.
    ///
    /// Replicates that are not finite are undefined and left out. `None` where `point` is not finite,
    /// where fewer than [`LEAST_REPLICATES`] are left, or fewer than nine in ten.
    pub fn percentile(point: f64, mut replicates: Vec<f64>) -> Option<Self> {
        let drawn = replicates.len();
        replicates.retain(|value| value.is_finite());
        let count = replicates.len();
        let enough = count >= LEAST_REPLICATES && count as f64 >= LEAST_DEFINED * drawn as f64;
        if !point.is_finite() || !enough {
            return None;
        }
        replicates.sort_unstable_by(f64::total_cmp);
        let median = f64::midpoint(replicates[(count - 1) / 2], replicates[count / 2]);
        let standard_error = standard_deviation(&replicates);
        let outermost = Tail::REPLICATES;
        let low: Vec<f64> = replicates.iter().take(outermost).map(|value| -value).collect();
        let high: Vec<f64> = replicates.iter().rev().take(outermost).copied().collect();
        Some(Self {
            point,
            lower: Tail::new(&low, count, -median, standard_error),
            upper: Tail::new(&high, count, median, standard_error),
            replicates,
            standard_error,
            bias: 0.0,
            acceleration: 0.0,
            units: f64::INFINITY,
        })
    }

    /// As [`Self::percentile`], corrected for median bias and for a standard error that changes with
    /// the value: BCa. `jackknife` holds the statistic without each image, or without each of several
    /// equally large groups of images; values that are not finite are left out, and where nothing
    /// remains or all are equal there is no acceleration.
    ///
    /// Source: Efron 1987, equations 2.3 and 4.1 (the correction), 6.6 (the acceleration); equal
    /// replicates count half.
    pub fn bca(point: f64, replicates: Vec<f64>, jackknife: &[f64]) -> Option<Self> {
        let mut distribution = Self::percentile(point, replicates)?;
        let sorted = &distribution.replicates;
        let below = sorted.partition_point(|&value| value < point);
        let upto = sorted.partition_point(|&value| value <= point);
        // Half a replicate on either side: a point outside of all replicates has a finite bias.
        let share = ((below + upto) as f64 + 1.0) / (2 * sorted.len() + 2) as f64;
        distribution.bias = normal::quantile(share);
        distribution.acceleration = acceleration(jackknife);
        Some(distribution)
    }

    /// Widened for few units: those (images, or groups of images) on which the statistic rests; of a
    /// class's metric, those that show the class. The bootstrap's spread is that of `units` values
    /// around their own mean, too small by `sqrt((units - 1) / units)`, and quantiles are the normal's
    /// where Student's are due. Fewer than 2 units count as 2.
    ///
    /// Source: Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician
    /// 69, 2015, section 3.3 (the expanded percentile interval).
    pub fn expanded(self, units: usize) -> Self {
        Self { units: units.max(2) as f64, ..self }
    }

    /// Shifted so that the replicates' mean is the point: for a metric's own value. A resample shows
    /// images twice, and AP on it is too high as a rule; of a difference of two sides that cancels,
    /// and what does not is noise: do not centre a difference.
    pub fn centred(mut self) -> Self {
        if self.standard_error == 0.0 {
            return self;
        }
        let shift = self.point - mean(&self.replicates);
        self.replicates.iter_mut().for_each(|value| *value += shift);
        self.lower.anchor -= shift;
        self.upper.anchor += shift;
        self
    }

    /// The statistic on the images as they are.
    pub fn point(&self) -> f64 {
        self.point
    }

    /// How many replicates were defined.
    pub fn replicates(&self) -> usize {
        self.replicates.len()
    }

    /// The replicates' standard deviation.
    pub fn standard_error(&self) -> f64 {
        self.standard_error
    }

    /// BCa's `z0`: positive where the replicates lie below the point more often than above; 0 without.
    pub fn bias(&self) -> f64 {
        self.bias
    }

    /// BCa's `a`, at most 1/6 either way; 0 without.
    pub fn acceleration(&self) -> f64 {
        self.acceleration
    }

    /// The value that the statistic stays below with confidence `level`; NaN unless that is in 0..=1.
    pub fn quantile(&self, level: f64) -> f64 {
        if !(0.0..=1.0).contains(&level) {
            return f64::NAN;
        }
        let z = self.corrected(student::score(normal::quantile(level), self.units));
        if z <= -self.lower.z {
            return -self.lower.value(-z);
        }
        if z >= self.upper.z {
            return self.upper.value(z);
        }
        let rank = normal::cdf(z) * (self.replicates.len() + 1) as f64;
        let (low, high) = self.inner_ranks();
        let rank = rank.clamp(low, high);
        let left = self.replicates[rank as usize - 1];
        let right = self.replicates[rank as usize];
        left + rank.fract() * (right - left)
    }

    /// The p-value of "the statistic is at most `x`": the highest level whose quantile does not
    /// exceed `x`. Below a level exactly where that level's quantile lies above `x`. Never 0; 1 where
    /// `x` is NaN, of which nothing is claimed.
    pub fn p_at_most(&self, x: f64) -> f64 {
        if x.is_nan() {
            return 1.0;
        }
        let z = if x < -self.lower.anchor {
            -self.lower.score(-x)
        } else if x > self.upper.anchor || (x == self.upper.anchor && self.upper.is_flat()) {
            self.upper.score(x)
        } else {
            self.score_at(x, self.replicates.partition_point(|&value| value <= x))
        };
        normal::cdf(self.nominal(z))
    }

    /// The p-value of "the statistic is at least `x`", as [`Self::p_at_most`] from the other side.
    pub fn p_at_least(&self, x: f64) -> f64 {
        if x.is_nan() {
            return 1.0;
        }
        let z = if x > self.upper.anchor {
            self.upper.score(x)
        } else if x < -self.lower.anchor || (x == -self.lower.anchor && self.lower.is_flat()) {
            -self.lower.score(-x)
        } else {
            self.score_at(x, self.replicates.partition_point(|&value| value < x))
        };
        normal::cdf(-self.nominal(z))
    }

    /// The two-sided interval: as much is left out at one end as at the other.
    pub fn interval(&self, confidence: f64) -> Interval {
        let left_out = (1.0 - confidence) / 2.0;
        Interval { low: self.quantile(left_out), high: self.quantile(1.0 - left_out) }
    }

    /// The ranks between the tails, both ends included.
    fn inner_ranks(&self) -> (f64, f64) {
        let outermost = Tail::REPLICATES;
        (outermost as f64, (self.replicates.len() + 1 - outermost) as f64)
    }

    /// The standard score of `x` between the tails, where the first `upto` replicates are on its left.
    fn score_at(&self, x: f64, upto: usize) -> f64 {
        let (low, high) = self.inner_ranks();
        let rank = match (upto.checked_sub(1), self.replicates.get(upto)) {
            (None, _) => low,
            (_, None) => high,
            (Some(left), Some(right)) => {
                let left = self.replicates[left];
                upto as f64 + (x - left) / (right - left)
            }
        };
        normal::quantile(rank.clamp(low, high) / (self.replicates.len() + 1) as f64)
    }

    /// The nominal score that is read off at `z` among the replicates.
    fn nominal(&self, z: f64) -> f64 {
        let z = student::normal_score(self.uncorrected(z), self.units);
        z.clamp(-normal::LARGEST_Z, normal::LARGEST_Z)
    }

    /// The score among the replicates at which the nominal score `z` is read off: Efron 1987,
    /// equation 2.3. Beyond its pole (6 standard errors away, or further) the formula turns back;
    /// there is nothing to read off there.
    fn corrected(&self, z: f64) -> f64 {
        let shifted = self.bias + z;
        let scale = 1.0 - self.acceleration * shifted;
        let z = if scale > 0.0 { self.bias + shifted / scale } else { shifted * f64::INFINITY };
        z.clamp(-FURTHEST, FURTHEST)
    }

    /// The inverse of [`Self::corrected`].
    fn uncorrected(&self, z: f64) -> f64 {
        let shifted = z - self.bias;
        let scale = 1.0 + self.acceleration * shifted;
        let z = if scale > 0.0 { shifted / scale - self.bias } else { shifted * f64::INFINITY };
        z.clamp(-FURTHEST, FURTHEST)
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Exactly 0 where all values are equal, whatever the rounding of their mean.
fn standard_deviation(sorted: &[f64]) -> f64 {
    if sorted.first() == sorted.last() {
        return 0.0;
    }
    let mean = mean(sorted);
    let squares: f64 = sorted.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (sorted.len() - 1) as f64).sqrt()
}

/// A sixth of the skewness of the influence of each left-out unit.
fn acceleration(jackknife: &[f64]) -> f64 {
    let defined: Vec<f64> = jackknife.iter().copied().filter(|value| value.is_finite()).collect();
    let mean = mean(&defined);
    let (squares, cubes) = defined.iter().fold((0.0, 0.0), |(squares, cubes), value| {
        let influence = mean - value;
        (squares + influence.powi(2), cubes + influence.powi(3))
    });
    // Rounding of the mean is no skewness.
    let rounding = defined.len() as f64 * (mean * f64::EPSILON).powi(2);
    if squares > rounding { cubes / (6.0 * squares * squares.sqrt()) } else { 0.0 }
}
