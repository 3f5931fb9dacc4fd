//! What the replicates of a bootstrap say: intervals, p-values, corrections for many rules, and how
//! many images would be enough.
//!
//! A replicate is a metric, or a difference of two, on images that were drawn again with repetition
//! (`metrics::bootstrap`). [`Distribution`] is what all replicates of one statistic say together;
//! `docs/statistics.md` says what that means, what it assumes, and shows by simulation how far it
//! holds (`examples/gate_simulation.rs`).
//!
//! Sources: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 14; for
//! the interval that corrects bias and skew, Efron, Better Bootstrap Confidence Intervals, JASA 82,
//! 1987.
//!
//! Deliberately absent: drawing images and computing metrics (`metrics`), and what follows from a
//! p-value (the judge). Pure functions, no randomness.

mod correction;
mod distribution;
pub mod normal;
mod planning;
mod student;
mod tail;

pub use correction::{benjamini_hochberg, holm};
pub use distribution::{Distribution, Interval, LEAST_REPLICATES};
pub use planning::{smallest_detectable, units_needed};
