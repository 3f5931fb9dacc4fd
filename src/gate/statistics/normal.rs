//! The standard normal distribution.
//!
//! From `libm`, not from the platform's mathematics library: a p-value must be the same everywhere.

#![allow(
    clippy::excessive_precision,
    reason = "the coefficients are written as they are published"
)]

use std::f64::consts::FRAC_1_SQRT_2;

/// Standard scores beyond this one are cut to it: the share beyond (6e-300) is the smallest that
/// still is a number like any other.
pub const LARGEST_Z: f64 = 37.0;

/// The share of the distribution below `z`. Accurate in relative terms down to `-LARGEST_Z`.
pub fn cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z * FRAC_1_SQRT_2)
}

/// The score below which the share `p` lies, cut to ±[`LARGEST_Z`]; NaN unless `p` is in 0..=1.
///
/// Source: Wichura, algorithm AS 241 (PPND16), Applied Statistics 37, 1988; about 1e-16 in
/// relative terms.
pub fn quantile(p: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    let from_half = p - 0.5;
    if from_half.abs() <= 0.425 {
        let r = 0.180625 - from_half * from_half;
        return from_half * polynomial(&A, r) / polynomial(&B, r);
    }
    // The distance into the nearer tail; infinite at 0 and 1, where the cut below takes over.
    let r = libm::sqrt(-libm::log(if from_half < 0.0 { p } else { 1.0 - p }));
    let z = if r <= 5.0 {
        polynomial(&C, r - 1.6) / polynomial(&D, r - 1.6)
    } else if r.is_finite() {
        polynomial(&E, r - 5.0) / polynomial(&F, r - 5.0)
    } else {
        LARGEST_Z
    };
    z.min(LARGEST_Z).copysign(from_half)
}

fn polynomial(coefficients: &[f64; 8], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

// The names and numbers are those of the publication.
const A: [f64; 8] = [
    3.387_132_872_796_366_608,
    1.331_416_678_917_843_774_5e2,
    1.971_590_950_306_551_442_7e3,
    1.373_169_376_550_946_112_5e4,
    4.592_195_393_154_987_145_7e4,
    6.726_577_092_700_870_085_3e4,
    3.343_057_558_358_812_810_5e4,
    2.509_080_928_730_122_672_7e3,
];
const B: [f64; 8] = [
    1.0,
    4.231_333_070_160_091_125_2e1,
    6.871_870_074_920_579_083e2,
    5.394_196_021_424_751_107_7e3,
    2.121_379_430_158_659_586_7e4,
    3.930_789_580_009_271_061e4,
    2.872_908_573_572_194_267_4e4,
    5.226_495_278_852_854_561e3,
];
const C: [f64; 8] = [
    1.423_437_110_749_683_577_34,
    4.630_337_846_156_545_295_9,
    5.769_497_221_460_691_405_5,
    3.647_848_324_763_204_605_04,
    1.270_458_252_452_368_382_58,
    2.417_807_251_774_506_117_7e-1,
    2.272_384_498_926_918_458_33e-2,
    7.745_450_142_783_414_076_4e-4,
];
const D: [f64; 8] = [
    1.0,
    2.053_191_626_637_758_821_87,
    1.676_384_830_183_803_849_4,
    6.897_673_349_851_000_045_5e-1,
    1.481_039_764_274_800_745_9e-1,
    1.519_866_656_361_645_719_66e-2,
    5.475_938_084_995_344_946e-4,
    1.050_750_071_644_416_843_24e-9,
];
const E: [f64; 8] = [
    6.657_904_643_501_103_777_2,
    5.463_784_911_164_114_369_9,
    1.784_826_539_917_291_335_8,
    2.965_605_718_285_048_912_3e-1,
    2.653_218_952_657_612_309_3e-2,
    1.242_660_947_388_078_438_6e-3,
    2.711_555_568_743_487_578_15e-5,
    2.010_334_399_292_288_132_65e-7,
];
const F: [f64; 8] = [
    1.0,
    5.998_322_065_558_879_376_9e-1,
    1.369_298_809_227_358_053_1e-1,
    1.487_536_129_085_061_485_25e-2,
    7.868_691_311_456_132_591e-4,
    1.846_318_317_510_054_681_8e-5,
    1.421_511_758_316_445_888_7e-7,
    2.044_263_103_389_939_785_64e-15,
];
