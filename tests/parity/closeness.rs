//! How far two sets of numbers, or of detections, are apart.

use detgate::model::roi_heads::Scored;

/// design.md's criterion for a stage: within 1e-4 of the reference's standard deviation at most, and
/// 1e-5 in the root mean square.
pub(crate) fn assert_close(stage: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{stage}: count");
    let n = theirs.len() as f64;
    let mean = theirs.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let std = (theirs
        .iter()
        .map(|&v| (f64::from(v) - mean).powi(2))
        .sum::<f64>()
        / n)
        .sqrt();
    assert!(
        std > 1e-3,
        "{stage}: a flat reference tests nothing (std {std})"
    );
    let errors: Vec<f64> = ours
        .iter()
        .zip(theirs)
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs())
        .collect();
    // `fold` with `max` would lose a NaN; the sum keeps it.
    let max = errors.iter().copied().fold(0.0, f64::max) / std;
    let rms = (errors.iter().map(|e| e * e).sum::<f64>() / n).sqrt() / std;
    if std::env::var_os("PARITY_VERBOSE").is_some() {
        eprintln!("{stage}: max {max:.1e} rms {rms:.1e}");
    }
    assert!(
        max <= 1e-4 && rms <= 1e-5,
        "{stage}: max {max:e} rms {rms:e} of the standard deviation"
    );
}

/// A reference detection: its label, corners and score.
pub(crate) type Reference = (i64, [f64; 4], f64);

/// The distance of a set of detections from a reference.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Distance {
    /// Detections and reference detections without a partner.
    pub(crate) unmatched: usize,
    pub(crate) matched: usize,
    /// Root mean square, over the pairs, of the coordinate that is furthest off.
    pub(crate) rms_pixels: f64,
    /// Root mean square over the pairs.
    pub(crate) rms_score: f64,
}

impl Distance {
    /// Matches in the reference's order of score: each reference detection takes, of the detections of
    /// its label that are still free and less than a pixel away in every coordinate, the one nearest
    /// in score. A pixel is far above rounding and far below the distance of neighbours after NMS.
    pub(crate) fn new(found: &[Scored], reference: &[Reference]) -> Self {
        let mut free: Vec<&Scored> = found.iter().collect();
        let mut distance = Self::default();
        for (label, corners, score) in reference {
            let pixels = |other: &Scored| {
                let sides = other.corners.iter().zip(corners);
                sides
                    .map(|(&a, b)| (f64::from(a) - b).abs())
                    .fold(0.0, f64::max)
            };
            let gap = |other: &Scored| (f64::from(other.score) - score).abs();
            let near = free
                .iter()
                .enumerate()
                .filter(|(_, other)| other.label == *label && pixels(other) < 1.0);
            let Some((index, _)) = near.min_by(|a, b| gap(a.1).total_cmp(&gap(b.1))) else {
                distance.unmatched += 1;
                continue;
            };
            let partner = free.remove(index);
            distance.matched += 1;
            distance.rms_pixels += pixels(partner).powi(2);
            distance.rms_score += gap(partner).powi(2);
        }
        distance.unmatched += free.len();
        let mean_root = |sum: f64| (sum / distance.matched as f64).sqrt();
        Self {
            rms_pixels: mean_root(distance.rms_pixels),
            rms_score: mean_root(distance.rms_score),
            ..distance
        }
    }
}
