//! The convolutions and linear layers against libtorch's in float64, whichever algorithm and instructions
//! compute them.
#![cfg(feature = "torch")]

use detgate::model::kernels::{Algorithm, Convolution, Epilogue, Isa, Product, Shape};
use proptest::prelude::*;
use tch::{Kind, Tensor};

/// Seeded numbers in -1..1 (splitmix64).
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let number = |i: usize| {
        let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(i as u64 + 1));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(number).collect()
}

/// A layer and what goes through it.
struct Case {
    shape: Shape,
    size: (usize, usize),
    /// Like what ReLU leaves: half of it zeros.
    input: Vec<f32>,
    kernel: Vec<f64>,
    bias: Vec<f32>,
    residual: Vec<f32>,
}

impl Case {
    fn new(shape: Shape, size: (usize, usize)) -> Self {
        let Shape { outputs, inputs, kernel, .. } = shape;
        let (height, width) = shape.out_size(size);
        let weights = numbers(2, outputs * inputs * kernel * kernel);
        Self {
            shape,
            size,
            input: numbers(1, size.0 * size.1 * inputs).iter().map(|v| v.max(0.0)).collect(),
            kernel: weights.into_iter().map(f64::from).collect(),
            bias: numbers(3, outputs),
            residual: numbers(4, height * width * outputs),
        }
    }

    fn run(&self, isa: Isa, algorithm: Algorithm, relu: bool) -> Vec<f32> {
        let convolution = Convolution::new(isa, self.shape, algorithm, &self.kernel);
        // A value that is left would be noticed.
        let mut out = vec![f32::NAN; self.residual.len()];
        let epilogue = Epilogue { bias: Some(&self.bias), residual: Some(&self.residual), relu };
        convolution.forward(&self.input, self.size, epilogue, &mut out);
        out
    }

    /// libtorch's, in float64.
    fn exact(&self) -> Vec<f64> {
        let Shape { outputs, inputs, kernel, stride } = self.shape;
        let sizes = [outputs, inputs, kernel, stride, self.size.0, self.size.1];
        let [outputs, inputs, kernel, stride, height, width] = sizes.map(|n| n as i64);
        let double = |values: &[f32]| Tensor::from_slice(values).to_kind(Kind::Double);
        let input = double(&self.input).reshape([1, height, width, inputs]).permute([0, 3, 1, 2]);
        let weight = Tensor::from_slice(&self.kernel).reshape([outputs, inputs, kernel, kernel]);
        let padding = kernel / 2;
        let out = input.conv2d(
            &weight,
            Some(&double(&self.bias)),
            [stride, stride],
            [padding, padding],
            [1, 1],
            1,
        );
        let out = out.permute([0, 2, 3, 1]).contiguous().flatten(0, -1);
        Vec::try_from(out + double(&self.residual)).unwrap()
    }
}

/// The greatest and the root mean square error, of the reference's standard deviation.
fn errors(found: &[f32], exact: &[f64]) -> (f64, f64) {
    assert_eq!(found.len(), exact.len());
    let n = exact.len() as f64;
    let mean = exact.iter().sum::<f64>() / n;
    let std = (exact.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    let all: Vec<f64> = found.iter().zip(exact).map(|(&a, b)| (f64::from(a) - b).abs()).collect();
    assert!(all.iter().all(|error| error.is_finite()));
    let max = all.iter().copied().fold(0.0, f64::max);
    (max / std, (all.iter().map(|e| e * e).sum::<f64>() / n).sqrt() / std)
}

fn shape(outputs: usize, inputs: usize, kernel: usize, stride: usize) -> Shape {
    Shape { outputs, inputs, kernel, stride }
}

fn assert_close(what: &str, (max, rms): (f64, f64), max_limit: f64, rms_limit: f64) {
    if std::env::var_os("PARITY_VERBOSE").is_some() {
        eprintln!("{what}: max {max:.1e} rms {rms:.1e}");
    }
    assert!(max <= max_limit && rms <= rms_limit, "{what}: max {max:e} rms {rms:e}");
}

#[test]
fn direct_convolutions_are_as_exact_as_float32_allows() {
    for (shape, size) in [
        (shape(256, 64, 1, 1), (25, 34)),
        (shape(64, 2048, 1, 1), (5, 7)),
        (shape(128, 128, 3, 2), (20, 17)),
        (shape(512, 512, 3, 2), (9, 6)),
        (shape(64, 64, 3, 1), (13, 17)),
        (shape(96, 40, 1, 2), (9, 11)),
        (shape(64, 3, 7, 2), (33, 50)),
        (shape(15, 256, 1, 1), (12, 13)),
        (shape(7, 5, 3, 1), (11, 4)),
        (shape(3, 1, 5, 2), (8, 9)),
        (shape(33, 70, 3, 1), (1, 1)),
        (shape(20, 17, 3, 2), (2, 1)),
        (shape(1, 1, 1, 1), (3, 5)),
    ] {
        let case = Case::new(shape, size);
        let exact = case.exact();
        for isa in Isa::available() {
            let found = case.run(isa, Algorithm::Direct, false);
            let what = format!("{shape:?} {size:?} {isa:?}");
            assert_close(&what, errors(&found, &exact), 5e-6, 6e-7);
        }
    }
}

/// Those of design: the algorithm costs two to three times the error of a direct convolution, a tenth of
/// what a stage may be off.
#[test]
fn winograd_convolutions_stay_within_the_error_of_their_algorithm() {
    for (shape, size) in [
        (shape(64, 64, 3, 1), (50, 68)),
        (shape(128, 128, 3, 1), (25, 34)),
        (shape(256, 256, 3, 1), (25, 34)),
        (shape(512, 512, 3, 1), (25, 34)),
        (shape(32, 32, 3, 1), (8, 8)),
        (shape(64, 32, 3, 1), (7, 9)),
        (shape(20, 36, 3, 1), (13, 5)),
        (shape(45, 17, 3, 1), (6, 3)),
        (shape(160, 33, 3, 1), (1, 9)),
        (shape(64, 48, 3, 1), (5, 1)),
        (shape(160, 160, 3, 1), (1, 1)),
    ] {
        let case = Case::new(shape, size);
        let exact = case.exact();
        for isa in Isa::available() {
            let found = case.run(isa, Algorithm::Winograd, false);
            let what = format!("{shape:?} {size:?} {isa:?}");
            assert_close(&what, errors(&found, &exact), 2e-5, 2e-6);
        }
    }
}

/// A baseline that was made on another processor can be compared.
#[test]
fn wide_vectors_give_the_bits_that_narrow_ones_give() {
    let fused: Vec<Isa> =
        Isa::available().into_iter().filter(|&isa| isa != Isa::Portable).collect();
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    for (shape, algorithm) in [
        (shape(70, 300, 1, 1), Algorithm::Direct),
        (shape(48, 20, 3, 2), Algorithm::Direct),
        (shape(20, 3, 7, 2), Algorithm::Direct),
        (shape(40, 70, 3, 1), Algorithm::Winograd),
    ] {
        let case = Case::new(shape, (17, 23));
        let all: Vec<_> = fused.iter().map(|&isa| bits(case.run(isa, algorithm, true))).collect();
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{shape:?}");
    }
}

#[test]
fn relu_cuts_what_is_negative_and_keeps_what_is_not_a_number() {
    for (shape, algorithm) in [
        (shape(37, 20, 3, 1), Algorithm::Direct),
        (shape(37, 20, 3, 1), Algorithm::Winograd),
        (shape(5, 20, 1, 1), Algorithm::Direct),
    ] {
        let mut case = Case::new(shape, (9, 10));
        for isa in Isa::available() {
            let (plain, cut) = (case.run(isa, algorithm, false), case.run(isa, algorithm, true));
            assert!(plain.iter().any(|&v| v < 0.0) && plain.iter().any(|&v| v > 0.0));
            assert!(plain.iter().zip(&cut).all(|(&a, &b)| b == a.max(0.0)), "{shape:?} {isa:?}");
        }
        case.bias[2] = f32::NAN;
        for isa in Isa::available() {
            let found = case.run(isa, algorithm, true);
            assert!(found.iter().skip(2).step_by(shape.outputs).all(|v| v.is_nan()), "{isa:?}");
        }
    }
}

#[test]
fn linear_layers_are_as_exact_as_float32_allows() {
    for (n, inputs, outputs) in [(30, 12_544, 100), (1, 1024, 91), (13, 7, 3), (50, 1031, 20)] {
        let (input, weight) = (numbers(1, n * inputs), numbers(2, outputs * inputs));
        let bias = numbers(3, outputs);
        let matrix = |values: &[f32], rows: usize| {
            Tensor::from_slice(values).to_kind(Kind::Double).reshape([rows as i64, -1])
        };
        let exact = matrix(&input, n).matmul(&matrix(&weight, outputs).transpose(0, 1));
        let exact = exact + Tensor::from_slice(&bias).to_kind(Kind::Double);
        let exact = Vec::<f64>::try_from(exact.flatten(0, -1)).unwrap();
        for isa in Isa::available() {
            let product = Product::new(isa, (outputs, inputs), &weight);
            let mut out = vec![f32::NAN; n * outputs];
            let epilogue = Epilogue { bias: Some(&bias), residual: None, relu: false };
            product.forward(&input, epilogue, &mut out);
            let what = format!("{n} x {inputs} -> {outputs} {isa:?}");
            assert_close(&what, errors(&out, &exact), 5e-6, 6e-7);
        }
    }
}

fn to_bf16(value: f32) -> f32 {
    half::bf16::from_f32(value).to_f32()
}

/// Only the factors are rounded: of numbers that bfloat16 has, the products are as exact as ever.
#[test]
fn products_of_bfloat16_round_the_factors_and_nothing_else() {
    let Some(isa) = Isa::bf16() else {
        eprintln!("skipped: this processor has no AVX512_BF16");
        return;
    };
    for (shape, size) in [
        (shape(256, 64, 1, 1), (25, 34)),
        (shape(200, 2048, 1, 1), (5, 7)),
        (shape(128, 128, 3, 2), (20, 17)),
        (shape(130, 40, 1, 2), (9, 11)),
        (shape(128, 3, 7, 2), (33, 50)),
        (shape(129, 5, 3, 1), (11, 4)),
        (shape(161, 63, 3, 1), (1, 1)),
        (shape(512, 512, 3, 1), (3, 5)),
        (shape(128, 1, 1, 1), (3, 5)),
    ] {
        let case = Case::new(shape, size);
        let rounded = Case {
            input: case.input.iter().copied().map(to_bf16).collect(),
            kernel: case.kernel.iter().map(|&v| f64::from(to_bf16(v as f32))).collect(),
            ..Case::new(shape, size)
        };
        let found = case.run(isa, Algorithm::Direct, false);
        let what = format!("{shape:?} {size:?}");
        assert_close(&what, errors(&found, &rounded.exact()), 5e-6, 6e-7);
        assert_close(&what, errors(&found, &case.exact()), 2e-2, 4e-3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the size of the map and the number of channels.
    #[test]
    fn winograd_computes_what_the_definition_says(
        outputs in 16usize..70,
        inputs in 16usize..70,
        height in 1usize..40,
        width in 1usize..40,
        relu: bool,
    ) {
        let case = Case::new(shape(outputs, inputs, 3, 1), (height, width));
        let direct = case.run(Isa::detect(), Algorithm::Direct, relu);
        let winograd = case.run(Isa::detect(), Algorithm::Winograd, relu);
        // Sums of some hundred products of numbers below 1.
        for (index, (a, b)) in direct.iter().zip(&winograd).enumerate() {
            prop_assert!((a - b).abs() <= 2e-4, "{index}: {a} {b}");
        }
    }
}
