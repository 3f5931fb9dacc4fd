//! Many tests at once: p-values that may each be compared with the level of the whole family.
//!
//! A p-value that is not a number claims nothing: it counts as 1, and as a test that was made.

/// Adjusted so that the chance of *any* false claim is at most the level, however the tests depend on
/// each other. In the order given.
///
/// Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of
/// Statistics 6, 1979.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let p = numbers(p);
    let mut adjusted = vec![1.0; p.len()];
    let mut largest = 0.0_f64;
    for (place, &index) in ascending(&p).iter().enumerate() {
        largest = largest.max(p[index] * (p.len() - place) as f64).min(1.0);
        adjusted[index] = largest;
    }
    adjusted
}

/// Adjusted so that of the claims made, the expected share of false ones is at most the level, where
/// the tests are independent or positively dependent. In the order given.
///
/// Source: Benjamini and Hochberg, Controlling the False Discovery Rate, JRSS B 57, 1995.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let p = numbers(p);
    let mut adjusted = vec![1.0; p.len()];
    let mut smallest = 1.0_f64;
    for (place, &index) in ascending(&p).iter().enumerate().rev() {
        smallest = smallest.min(p[index] * (p.len() as f64 / (place + 1) as f64));
        adjusted[index] = smallest;
    }
    adjusted
}

fn numbers(p: &[f64]) -> Vec<f64> {
    p.iter().map(|p| if p.is_nan() { 1.0 } else { p.clamp(0.0, 1.0) }).collect()
}

/// Places by ascending p-value.
fn ascending(p: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    order
}
