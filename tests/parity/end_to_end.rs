//! Detections on seeded weights, from pixels to boxes.

use crate::closeness::{Distance, Reference};
use crate::fixture::{ALL, Fixture};
use crate::random;

/// Both are float32 roundings of the same computation, so "at least as close" is a statement about two
/// samples of noise. It is made as sharp as 100 images of 100 detections allow: but for a flip or two no
/// detection may lack a partner that torchvision's has, and the ratio of the two distances, as a
/// geometric mean over the images, may not be above 1 by more than that mean's own spread explains
/// (some 1.5 %, times three, because torchvision's distances were measured on another processor).
#[test]
fn end_to_end_at_least_as_close_to_float64_as_torchvision_itself() {
    let (mut pixel_ratios, mut score_ratios, mut flipped) = (Vec::new(), Vec::new(), (0, 0));
    for name in ALL {
        let fixture = Fixture::load(name);
        let model = fixture.model().build();
        for (i, &(seed, width, height)) in fixture.index.images.iter().enumerate() {
            let reference = float64(&fixture, i);
            let ours = Distance::new(
                &model
                    .predict(&random::picture(seed, width, height))
                    .unwrap(),
                &reference,
            );
            let theirs = Distance::new(
                &fixture.detections(&format!("end/{i}/channels_last")),
                &reference,
            );
            assert!(ours.matched >= 90, "{name} {i}: {ours:?}");
            flipped.0 += ours.unmatched;
            flipped.1 += theirs.unmatched;
            pixel_ratios.push(ours.rms_pixels / theirs.rms_pixels);
            score_ratios.push(ours.rms_score / theirs.rms_score);
        }
    }
    assert_eq!(pixel_ratios.len(), 100);
    // A near-tie that rounding flips leaves two without a partner; whom it hits is chance.
    assert!(
        flipped.0 <= flipped.1 + 4,
        "{flipped:?} of 10,000 detections without a partner"
    );
    assert_not_above_one("pixels", &pixel_ratios);
    assert_not_above_one("scores", &score_ratios);
}

fn assert_not_above_one(what: &str, ratios: &[f64]) {
    let logs: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
    let n = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / n;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let spread = (variance / n).sqrt();
    // Were the noise itself wild, the comparison would say nothing.
    assert!(spread < 0.05, "{what}: spread {spread}");
    assert!(
        mean <= 3.0 * spread,
        "{what}: {} of torchvision's distance, spread {spread}",
        mean.exp()
    );
}

/// torchvision's detections in float64.
fn float64(fixture: &Fixture, image: usize) -> Vec<Reference> {
    let part = |name: &str| format!("end/{image}/float64/{name}");
    let (boxes, scores) = (fixture.f64(&part("boxes")), fixture.f64(&part("scores")));
    let corners = boxes.as_chunks().0.iter().copied();
    let parts = fixture
        .i64(&part("labels"))
        .into_iter()
        .zip(corners)
        .zip(scores);
    parts
        .map(|((label, corners), score)| (label, corners, score))
        .collect()
}
