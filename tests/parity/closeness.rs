//! How far two sets of numbers, or of detections, are apart.

use detgate::model::roi_heads::Scored;

/// design.md's criterion for a stage: within 1e-4 of the reference's standard deviation at most, and
/// 1e-5 in the root mean square.
pub(crate) fn assert_close(stage: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{stage}: count");
    let n = theirs.len() as f64;
    let mean = theirs.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let std = (theirs.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt();
    assert!(std > 1e-3, "{stage}: a flat reference tests nothing (std {std})");
    let errors: Vec<f64> =
        ours.iter().zip(theirs).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs()).collect();
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
struct Distance {
    /// Detections and reference detections without a partner.
    unmatched: usize,
    matched: usize,
    /// Root mean square, over the pairs, of the coordinate that is furthest off.
    rms_pixels: f64,
    /// Root mean square over the pairs.
    rms_score: f64,
}

impl Distance {
    /// Matches in the reference's order of score: each reference detection takes, of the detections of
    /// its label that are still free and less than a pixel away in every coordinate, the one nearest
    /// in score. A pixel is far above rounding and far below the distance of neighbours after NMS.
    fn new(found: &[Scored], reference: &[Reference]) -> Self {
        let mut free: Vec<&Scored> = found.iter().collect();
        let mut distance = Self::default();
        for (label, corners, score) in reference {
            let pixels = |other: &Scored| {
                let sides = other.corners.iter().zip(corners);
                sides.map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max)
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

/// Whether detections are at least as close to torchvision's float64 as torchvision's own channels-last
/// float32.
///
/// Both are float32 roundings of the same computation, so "at least as close" is a statement about two
/// samples of noise. It is made as sharp as 100 images allow: but for a flip or two no detection may lack a
/// partner that torchvision's has, and the ratio of the two distances, as a geometric mean over the images,
/// may not be above 1 by more than that mean's own spread explains (some 1.5 %, times three, because
/// torchvision's distances were measured on another processor).
#[derive(Debug, Default)]
pub(crate) struct Closeness {
    pixel_ratios: Vec<f64>,
    score_ratios: Vec<f64>,
    flipped: (usize, usize),
}

impl Closeness {
    /// Of one image, on which at least `least` detections must have a partner.
    pub(crate) fn add(
        &mut self,
        what: &str,
        (ours, theirs): (&[Scored], &[Scored]),
        reference: &[Reference],
        least: usize,
    ) {
        let (ours, theirs) = (Distance::new(ours, reference), Distance::new(theirs, reference));
        assert!(ours.matched >= least, "{what}: {ours:?}");
        self.flipped.0 += ours.unmatched;
        self.flipped.1 += theirs.unmatched;
        self.pixel_ratios.push(ours.rms_pixels / theirs.rms_pixels);
        self.score_ratios.push(ours.rms_score / theirs.rms_score);
    }

    /// Of one model, and of several together, where the mean is sharper.
    pub(crate) fn assert(&self, what: &str) {
        // A near-tie that rounding flips leaves two without a partner; whom it hits is chance.
        let flipped = self.flipped;
        assert!(flipped.0 <= flipped.1 + 4, "{what}: {flipped:?} detections without a partner");
        assert_not_above_one(&format!("{what}: pixels"), &self.pixel_ratios);
        assert_not_above_one(&format!("{what}: scores"), &self.score_ratios);
    }

    /// Takes over another model's images, after they were looked at by themselves.
    pub(crate) fn join(&mut self, what: &str, model: Self) {
        model.assert(what);
        self.pixel_ratios.extend(model.pixel_ratios);
        self.score_ratios.extend(model.score_ratios);
        self.flipped.0 += model.flipped.0;
        self.flipped.1 += model.flipped.1;
    }
}

/// That one distance is no larger than another, as a geometric mean over the images.
fn assert_not_above_one(what: &str, ratios: &[f64]) {
    let logs: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
    let n = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / n;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let spread = (variance / n).sqrt();
    if std::env::var_os("PARITY_VERBOSE").is_some() {
        eprintln!("{what}: {:.4} of the distance, spread {spread:.4}", mean.exp());
    }
    // Were the noise itself wild, the comparison would say nothing.
    assert!(spread < 0.15, "{what}: spread {spread}");
    assert!(
        mean <= 3.0 * spread,
        "{what}: {} of torchvision's distance, spread {spread}",
        mean.exp()
    );
}
