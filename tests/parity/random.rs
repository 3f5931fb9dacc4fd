//! The twin of the seeded generators in `fixtures/parity/generate.py`: weights and pictures that both
//! sides make instead of storing them.

use detgate::checkpoint::Tensor;
use detgate::dataset::image::RgbImage;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// splitmix64's output function.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The start of a named stream.
pub(crate) fn stream(seed: u64, name: &str) -> u64 {
    let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    hash ^ seed
}

/// The n-th number of a stream, in -1..1.
pub(crate) fn uniform(start: u64, counter: usize) -> f32 {
    let z = mix(start.wrapping_add(GOLDEN.wrapping_mul(counter as u64 + 1)));
    (z >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// A parameter: `offset + scale * uniform`, in pairs `w, -w` along the rows of a matrix or kernel.
pub(crate) fn parameter(seed: u64, name: &str, shape: &[usize], scale: f32, offset: f32) -> Tensor {
    let count: usize = shape.iter().product();
    let start = stream(seed, name);
    let row = if shape.len() > 1 { count / shape[0] } else { 1 };
    let value = |index: usize| {
        let odd = index % row % 2;
        let sign = if odd == 1 { -1.0 } else { 1.0 };
        uniform(start, index - odd) * sign * scale + offset
    };
    Tensor::from_f32(shape, (0..count).map(value).collect())
}

/// A picture of patches of three sizes.
pub(crate) fn picture(seed: u64, width: u32, height: u32) -> RgbImage {
    let patch = |layer: u64, x: u32, y: u32, c: u64| {
        let key = (layer << 48) + (c << 40) + (u64::from(y) << 20) + u64::from(x);
        mix(seed.wrapping_add(GOLDEN.wrapping_mul(key + 1))) >> 56
    };
    let mut data = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            for c in 0..3 {
                let sum = 2 * patch(1, x / 23, y / 17, c)
                    + 5 * patch(2, x / 97, y / 71, c)
                    + patch(3, x / 3, y / 2, c);
                data.push((sum / 8) as u8);
            }
        }
    }
    RgbImage {
        width,
        height,
        data,
    }
}
