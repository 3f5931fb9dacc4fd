//! Sums in numpy's order: a float's last bit depends on the order of additions.

/// `numpy.mean` of a contiguous float64 array; `None` of nothing.
pub(crate) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| pairwise(values) / values.len() as f64)
}

/// `numpy.sum` of a contiguous float64 array: pairwise summation with eight accumulators in blocks
/// of 128 (numpy `_core/src/umath/loops_utils.h.src`).
fn pairwise(values: &[f64]) -> f64 {
    const BLOCK: usize = 128;
    if values.len() < 8 {
        return values.iter().fold(0.0, |sum, v| sum + v);
    }
    if values.len() > BLOCK {
        let half = values.len() / 2;
        let (left, right) = values.split_at(half - half % 8);
        return pairwise(left) + pairwise(right);
    }
    let (eights, rest) = values.as_chunks::<8>();
    let mut lanes = eights[0];
    for eight in &eights[1..] {
        for (lane, value) in lanes.iter_mut().zip(eight) {
            *lane += value;
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    rest.iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, v| sum + v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_numpys_to_the_last_bit() {
        // values = [(i * 0.1) % 1.0 for i in range(n)]; np.mean(values)
        for (n, expected) in [
            (1, 0.0),
            (7, 0.3),
            (8, 0.35000000000000003),
            (9, 0.4000000000000001),
            (127, 0.44173228346456733),
            (128, 0.44375000000000037),
            (129, 0.4465116279069771),
            (136, 0.4411764705882356),
            (137, 0.44233576642335803),
            (1010, 0.4500000000000028),
            (80800, 0.4500000000002163),
        ] {
            let values: Vec<f64> = (0..n).map(|i| (f64::from(i) * 0.1) % 1.0).collect();
            assert_eq!(mean(&values), Some(expected), "{n} values");
        }
        // [1e16] + [1] * (n - 1), of which every order of additions loses other ones.
        for (n, expected) in [(8, 1250000000000000.8), (128, 78125000000000.88)] {
            let mut values = vec![1.0; n];
            values[0] = 1e16;
            assert_eq!(mean(&values), Some(expected), "{n} values");
        }
        assert_eq!(mean(&[]), None);
    }
}
