//! How small a drop a validation set can show, and how large one must be to show a given drop.
//!
//! Both take the statistic to be normal and its standard error to fall with the square root of the
//! number of units (images, or groups of them). That is enough for planning, not for a verdict.

use super::normal;

/// The true distance from the margin at which a one-sided test at level `alpha` claims something with
/// probability `power`, where the statistic has this standard error.
pub fn smallest_detectable(standard_error: f64, alpha: f64, power: f64) -> f64 {
    (normal::quantile(1.0 - alpha) + normal::quantile(power)) * standard_error
}

/// How many units, drawn as the present `units` were, settle a case that lies `distance` from its
/// margin, with probability `power` and at level `alpha`. Can be fewer than `units`.
///
/// `None` where no number is enough or none can be told: the distance is 0, or not finite.
pub fn units_needed(
    units: u64,
    standard_error: f64,
    distance: f64,
    alpha: f64,
    power: f64,
) -> Option<u64> {
    let ratio = smallest_detectable(standard_error, alpha, power) / distance.abs();
    let needed = (units as f64 * ratio * ratio).ceil();
    // Beyond 2^53 a float no longer counts.
    (needed < 9e15).then_some((needed as u64).max(1))
}
