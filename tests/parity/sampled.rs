//! Stages that are fed inputs which both sides make from the seed, and compared by samples of their outputs.

use detgate::model::channels_last;
use tch::Tensor;

use crate::closeness::assert_close;
use crate::fixture::Fixture;
use crate::random;

/// In torchvision's order of axes.
fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.contiguous().flatten(0, -1)).unwrap()
}

/// Compares samples of a stage's output.
pub(crate) fn assert_sampled(
    fixture: &Fixture,
    (model, seed): (&str, u64),
    stage: &str,
    found: &Tensor,
) {
    assert_eq!(found.size(), fixture.i64(&format!("{stage}/shape")), "{model} {stage}");
    let all = values(found);
    let expected = fixture.f32(&format!("{stage}/samples"));
    let start = random::stream(seed, &format!("samples/{stage}"));
    let at = |n| ((f64::from(random::uniform(start, n)) + 1.0) / 2.0 * all.len() as f64) as usize;
    let found: Vec<f32> = (0..expected.len()).map(|n| all[at(n)]).collect();
    assert_close(&format!("{model} {stage}"), &found, &expected);
}

/// The seeded input of a stage; maps channels-last, as the stages pass them on.
pub(crate) fn input(seed: u64, name: &str, shape: &[i64]) -> Tensor {
    let start = random::stream(seed, &format!("input/{name}"));
    let count = shape.iter().product::<i64>() as usize;
    let numbers: Vec<f32> = (0..count).map(|n| random::uniform(start, n)).collect();
    let tensor = Tensor::from_slice(&numbers).reshape(shape);
    if shape.len() == 4 { channels_last(&tensor).unwrap() } else { tensor }
}
