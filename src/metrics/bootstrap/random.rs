//! Random numbers that are the same on every platform and in every version: stored verdicts rest on
//! them, so the generators are here, with their published outputs as tests, not in a dependency.
//!
//! Deliberately absent: anything that a bootstrap does not need, and cryptographic strength.

/// SplitMix64 of Steele, Lea and Flood (OOPSLA 2014), as Vigna published it: it turns any seed,
/// however regular, into the state of a better generator.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// xoshiro256++ 1.0 of Blackman and Vigna (ACM TOMS 47, 2021), seeded as they recommend.
pub(super) struct Xoshiro256([u64; 4]);

impl Xoshiro256 {
    /// The generator of one of many streams of a seed.
    pub(super) fn stream(seed: u64, stream: u64) -> Self {
        // The seed is mixed first, so that the streams of neighbouring seeds have nothing in common.
        let mut mix = SplitMix64(SplitMix64(seed).next().wrapping_add(stream));
        Self(std::array::from_fn(|_| mix.next()))
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// Each of `0..count` equally often: Lemire's multiplication with rejection (ACM TOMACS 29,
    /// 2019). 0 for a count of 0.
    pub(super) fn below(&mut self, count: u64) -> u64 {
        let reject_below = |low: u64| low < count && low < count.wrapping_neg() % count;
        loop {
            let product = u128::from(self.next()) * u128::from(count);
            if !reject_below(product as u64) {
                return (product >> 64) as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix64_gives_its_published_outputs() {
        let mut random = SplitMix64(1_234_567);
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(expected.map(|_| random.next()), expected);
    }

    #[test]
    fn xoshiro256_gives_its_published_outputs() {
        let mut random = Xoshiro256([1, 2, 3, 4]);
        let expected = [
            41_943_041,
            58_720_359,
            3_588_806_011_781_223,
            3_591_011_842_654_386,
            9_228_616_714_210_784_205,
            9_973_669_472_204_895_162,
            14_011_001_112_246_962_877,
            12_406_186_145_184_390_807,
            15_849_039_046_786_891_736,
            10_450_023_813_501_588_000,
        ];
        assert_eq!(expected.map(|_| random.next()), expected);
    }

    /// With a count of 2^63 + 1, nearly half of all products are to be rejected: without that, every
    /// other number would come twice as often.
    #[test]
    fn numbers_below_a_count_are_equally_frequent() {
        let mut random = Xoshiro256::stream(1, 0);
        let count = (1 << 63) + 1;
        let odd = (0..10_000).filter(|_| random.below(count) % 2 == 1).count();
        assert!((4_800..5_200).contains(&odd), "{odd}");
        let mut counts = [0u32; 7];
        (0..70_000).for_each(|_| counts[random.below(7) as usize] += 1);
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
        assert_eq!((random.below(1), random.below(0)), (0, 0));
    }
}
