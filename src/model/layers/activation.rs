//! What follows a layer, number by number.
//!
//! Deliberately absent: anything that hides a NaN; a network that diverged must not look healthy.

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum Activation {
    /// None: the layer's output as it is.
    Identity,
    /// `torch.nn.ReLU`.
    Relu,
    /// `torch.nn.ReLU6`: ReLU, at most 6.
    Relu6,
    /// `torch.nn.Hardswish` (Howard et al. 2019, <https://arxiv.org/abs/1905.02244>):
    /// `x * relu6(x + 3) / 6`.
    Hardswish,
    /// `torch.nn.Hardsigmoid`: `relu6(x + 3) / 6`.
    Hardsigmoid,
}

impl Activation {
    /// Replaces each of `values` by its image.
    pub(in crate::model) fn apply(self, values: &mut [f32]) {
        match self {
            Self::Identity => {}
            // Not `max`, which would turn NaN into zero.
            Self::Relu => each(values, |v| if v < 0.0 { 0.0 } else { v }),
            Self::Relu6 => each(values, relu6),
            Self::Hardswish => each(values, |v| v * relu6(v + 3.0) / 6.0),
            Self::Hardsigmoid => each(values, |v| relu6(v + 3.0) / 6.0),
        }
    }
}

fn relu6(value: f32) -> f32 {
    value.clamp(0.0, 6.0)
}

#[inline(always)]
fn each(values: &mut [f32], function: impl Fn(f32) -> f32) {
    for value in values {
        *value = function(*value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Tensor;

    #[test]
    fn every_one_is_libtorchs_and_keeps_nan() {
        let input: Vec<f32> = (-80..=80).map(|i| i as f32 / 8.0).collect();
        let tensor = Tensor::from_slice(&input);
        for (ours, theirs) in [
            (Activation::Identity, tensor.shallow_clone()),
            (Activation::Relu, tensor.relu()),
            (Activation::Relu6, tensor.relu6()),
            (Activation::Hardswish, tensor.hardswish()),
            (Activation::Hardsigmoid, tensor.hardsigmoid()),
        ] {
            let mut found = input.clone();
            ours.apply(&mut found);
            for (found, expected) in found.iter().zip(Vec::<f32>::try_from(theirs).unwrap()) {
                assert!((found - expected).abs() <= 1e-6, "{ours:?}: {found} {expected}");
            }
            let mut nan = [f32::NAN];
            ours.apply(&mut nan);
            assert!(nan[0].is_nan(), "{ours:?}");
        }
    }
}
