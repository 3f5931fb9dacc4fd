//! Which detection found which ground truth: one image at a time, for all protocols.
//!
//! What a function here returns depends on that image alone, so images can be matched on any
//! thread, process or machine. The results carry the image's key (its position for [`practical`],
//! its id for [`coco`] and [`lvis`]); [`crate::metrics`] sorts by it, which makes the merge order irrelevant to
//! the last bit. They are serialisable for that reason, scores as the bits of their `f64`.
//!
//! Deliberately absent: numbers over more than one image (`metrics`), and any check of the input:
//! `dataset` and `detections` have seen to finite numbers and unique ids. Nothing here panics or
//! loops on input that they would have refused; it only means less.

pub mod coco;
pub mod confusion;
pub mod iou;
pub mod lvis;
pub mod pairing;
mod params;
pub mod practical;
pub(crate) mod prepare;
pub mod tide;

pub use iou::{iou, iou_matrix};

pub use crate::config::{Fix, Fixes};

/// A key that sorts ascending when scores are to be sorted descending.
///
/// Equal for scores that compare equal (so `-0.0` and `0.0` tie, as in `numpy.argsort(-scores)`);
/// a total order even for NaN.
pub(crate) fn descending_key(score: f64) -> u64 {
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    !ascending
}

/// Serialises scores as the bits of the `f64`, so that no text format can round them.
pub(crate) mod as_bits {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(|v| v.to_bits()))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        Ok(Vec::<u64>::deserialize(from)?.into_iter().map(f64::from_bits).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descending_keys_order_scores_from_high_to_low_and_tie_the_two_zeros() {
        let scores = [f64::INFINITY, 1.0, 0.5, 1e-300, 0.0, -1e-300, -1.0, f64::NEG_INFINITY];
        for pair in scores.windows(2) {
            assert!(descending_key(pair[0]) < descending_key(pair[1]), "{pair:?}");
        }
        assert_eq!(descending_key(0.0), descending_key(-0.0));
    }
}
