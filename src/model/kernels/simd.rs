//! Vectors of float32, as wide as the processor has them, behind one trait.
//!
//! A value of a type that implements [`Simd`] is the proof that the processor has its instructions: only
//! [`run`] makes one, after asking. What is written once against the trait is compiled for each width.
//! Every operation works lane by lane and multiplies and adds with one rounding, so that AVX2 and AVX-512
//! give the same bits.
//!
//! Everything between [`run`] and these methods must be `#[inline(always)]`: only then is it compiled
//! with the instructions of the function at its outside.
//!
//! Deliberately absent: sums across lanes, whose order would depend on the width.

use std::sync::OnceLock;

/// Lanes of the widest vectors.
pub(super) const MAX_LANES: usize = 16;

/// What this process computes with.
static BEST: OnceLock<Isa> = OnceLock::new();

/// The instructions that the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Those of the compilation target, 8 lanes.
    Portable,
    /// AVX2 and FMA, 8 lanes.
    Avx2,
    /// AVX-512 Foundation, 16 lanes.
    Avx512,
    /// The same, but factors are rounded to bfloat16 and multiplied two at a time (AVX512_BF16): up to twice as
    /// fast, with two decimal places. Only where it is asked for.
    Avx512Bf16,
}

impl Isa {
    /// The best that this processor has and [`hold_to`](Self::hold_to) allows.
    pub fn detect() -> Self {
        *BEST.get_or_init(Self::of_processor)
    }

    fn of_processor() -> Self {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            let has_512 = std::arch::is_x86_feature_detected!("avx512f");
            return if has_512 { Self::Avx512 } else { Self::Avx2 };
        }
        Self::Portable
    }

    /// [`Avx512Bf16`](Self::Avx512Bf16), if this processor has it.
    pub fn bf16() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if Self::detect() == Self::Avx512
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512bf16")
        {
            return Some(Self::Avx512Bf16);
        }
        None
    }

    /// This one, or the best below it that this processor has.
    pub(super) fn or_best(self) -> Self {
        if self == Self::Avx512Bf16 { Self::bf16() } else { None }
            .unwrap_or(self.min(Self::detect()))
    }

    /// All that compute in float32, up to [`detect`](Self::detect), the best last.
    pub fn available() -> Vec<Self> {
        let all = [Self::Portable, Self::Avx2, Self::Avx512];
        all.into_iter().filter(|isa| *isa <= Self::detect()).collect()
    }

    /// Lets this process use nothing better, from its first computation on; after that it changes nothing.
    pub fn hold_to(best: Self) {
        let _ = BEST.set(best.min(Self::of_processor()));
    }

    /// What libtorch uses where `ATEN_CPU_CAPABILITY` says this.
    pub fn of_capability(capability: &str) -> Self {
        match capability {
            "default" => Self::Portable,
            "avx2" => Self::Avx2,
            _ => Self::Avx512,
        }
    }

    /// Lanes of a vector.
    pub(super) fn lanes(self) -> usize {
        match self {
            Self::Portable => Portable::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => x86::Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Avx512Bf16 => x86::Avx512::LANES,
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 | Self::Avx512Bf16 => Portable::LANES,
        }
    }
}

/// The operations on vectors of [`LANES`](Self::LANES) numbers.
pub(super) trait Simd: Copy {
    /// Such a vector.
    type V: Copy;
    /// Numbers in a vector.
    const LANES: usize;
    /// Rows of a matrix product that are computed together: as many as the registers can hold, with two
    /// vectors of each.
    const ROWS: usize;

    /// The same number in every lane.
    fn splat(self, value: f32) -> Self::V;

    /// Reads the first [`LANES`](Self::LANES) numbers, of which there must be as many.
    fn load(self, from: &[f32]) -> Self::V;

    /// Asks for numbers that are needed soon to be brought into the first-level cache; a hint, which may do nothing.
    fn prefetch(self, what: &[f32]);

    /// Writes the first [`LANES`](Self::LANES) numbers, of which there must be as many.
    fn store(self, value: Self::V, to: &mut [f32]);

    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;

    /// `a - b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;

    /// `a * b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;

    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;

    /// `c - a * b`, rounded once.
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;

    /// The greater of 0 and `a`; NaN stays NaN, as in `torch.relu`.
    fn relu(self, a: Self::V) -> Self::V;
}

/// The operations on pairs of bfloat16, each pair in one `u32`, the first number in its lower half.
pub(super) trait Pairs: Simd {
    /// As many pairs as there are lanes.
    type P: Copy;

    /// Rounds numbers to bfloat16, to the nearest, in pairs; a last one is paired with zero.
    fn pair(self, from: &[f32], to: &mut [u32]);

    /// The same pair in every lane.
    fn splat_pair(self, pair: u32) -> Self::P;

    /// Reads the first [`LANES`](Simd::LANES) pairs, of which there must be as many.
    fn load_pairs(self, from: &[u32]) -> Self::P;

    /// `c` plus both products of each pair.
    fn dot_add(self, a: Self::P, b: Self::P, c: Self::V) -> Self::V;
}

/// What is to be compiled for pairs of bfloat16. [`call`](Self::call) must be `#[inline(always)]`.
pub(super) trait PairsKernel {
    /// Does the work.
    fn call<S: Pairs>(self, simd: S);
}

/// Runs `kernel`.
///
/// # Panics
/// Where [`Isa::bf16`] is `None`.
pub(super) fn run_pairs(kernel: impl PairsKernel) {
    assert!(Isa::bf16().is_some(), "the processor has no AVX512_BF16");
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `bf16` found AVX512_BF16, AVX-512BW and F, AVX2 and FMA.
    unsafe {
        x86::run_avx512_bf16(kernel);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = kernel;
}

/// What is to be compiled for each width. [`call`](Self::call) must be `#[inline(always)]`.
pub(super) trait Kernel {
    /// Does the work.
    fn call<S: Simd>(self, simd: S);
}

/// Runs `kernel` with the instructions of `isa`, which falls to [`Isa::Portable`] where the processor
/// does not have them.
pub(super) fn run(isa: Isa, kernel: impl Kernel) {
    match isa.min(Isa::detect()) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `detect` found AVX-512F, AVX2 and FMA.
        Isa::Avx512 | Isa::Avx512Bf16 => unsafe { x86::run_avx512(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `detect` found AVX2 and FMA.
        Isa::Avx2 => unsafe { x86::run_avx2(kernel) },
        _ => kernel.call(Portable),
    }
}

/// Arrays that the compiler makes vectors of, as far as the target has them.
#[derive(Clone, Copy)]
struct Portable;

/// x86-64 without FMA would call a function for a single rounding, at a hundred times the price.
#[inline(always)]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(not(target_arch = "x86_64"), target_feature = "fma")) {
        a.mul_add(b, c)
    } else {
        a * b + c
    }
}

impl Simd for Portable {
    type V = [f32; 8];
    const LANES: usize = 8;
    const ROWS: usize = 6;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        [value; 8]
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> Self::V {
        let mut value = [0.0; 8];
        value.copy_from_slice(&from[..8]);
        value
    }

    #[inline(always)]
    fn prefetch(self, _what: &[f32]) {}

    #[inline(always)]
    fn store(self, value: Self::V, to: &mut [f32]) {
        to[..8].copy_from_slice(&value);
    }

    #[inline(always)]
    fn add(self, mut a: Self::V, b: Self::V) -> Self::V {
        a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        a
    }

    #[inline(always)]
    fn sub(self, mut a: Self::V, b: Self::V) -> Self::V {
        a.iter_mut().zip(b).for_each(|(a, b)| *a -= b);
        a
    }

    #[inline(always)]
    fn mul(self, mut a: Self::V, b: Self::V) -> Self::V {
        a.iter_mut().zip(b).for_each(|(a, b)| *a *= b);
        a
    }

    #[inline(always)]
    fn mul_add(self, mut a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        a.iter_mut().zip(b).zip(c).for_each(|((a, b), c)| *a = fused(*a, b, c));
        a
    }

    #[inline(always)]
    fn neg_mul_add(self, mut a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        a.iter_mut().zip(b).zip(c).for_each(|((a, b), c)| *a = fused(-*a, b, c));
        a
    }

    #[inline(always)]
    fn relu(self, mut a: Self::V) -> Self::V {
        a.iter_mut().for_each(|a| *a = if *a < 0.0 { 0.0 } else { *a });
        a
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Kernel, Pairs, PairsKernel, Simd};
    use crate::model::kernels::aligned::LINE;

    /// AVX2 and FMA are there.
    #[derive(Clone, Copy)]
    pub(super) struct Avx2(());

    /// AVX-512F, AVX2 and FMA are there.
    #[derive(Clone, Copy)]
    pub(super) struct Avx512(());

    /// AVX512_BF16, AVX-512BW and F, AVX2 and FMA are there.
    #[derive(Clone, Copy)]
    pub(super) struct Avx512Bf16(());

    #[target_feature(enable = "avx512bf16,avx512bw,avx512f,avx2,fma")]
    pub(super) fn run_avx512_bf16(kernel: impl PairsKernel) {
        kernel.call(Avx512Bf16(()));
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn run_avx2(kernel: impl Kernel) {
        kernel.call(Avx2(()));
    }

    #[target_feature(enable = "avx512f,avx2,fma")]
    pub(super) fn run_avx512(kernel: impl Kernel) {
        kernel.call(Avx512(()));
    }

    impl Pairs for Avx512Bf16 {
        type P = __m512bh;

        #[inline(always)]
        fn pair(self, from: &[f32], to: &mut [u32]) {
            assert!(to.len() == from.len().div_ceil(2));
            let (whole, rest) = from.as_chunks::<32>();
            let (whole_to, rest_to) = to.as_chunks_mut::<16>();
            for (from, to) in whole.iter().zip(&mut *whole_to) {
                // SAFETY: the token says that the instructions are there; the arrays are as long as the vectors.
                unsafe {
                    let first = _mm512_loadu_ps(from.as_ptr());
                    let second = _mm512_loadu_ps(from.as_ptr().add(16));
                    let rounded: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(second, first));
                    _mm512_storeu_si512(to.as_mut_ptr().cast(), rounded);
                }
            }
            let rest_to = match whole_to.get_mut(whole.len()) {
                Some(last) => last.as_mut_slice(),
                None => rest_to,
            };
            for (from, to) in rest.chunks(16).zip(rest_to.chunks_mut(8)) {
                let (numbers, pairs) = (from.len() as u32, to.len() as u32);
                let (numbers, pairs) =
                    (((1u32 << numbers) - 1) as u16, ((1u32 << pairs) - 1) as u8);
                // SAFETY: the token says that the instructions are there; the masks leave out what is beyond the
                // slices.
                unsafe {
                    let values = _mm512_maskz_loadu_ps(numbers, from.as_ptr());
                    let rounded: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(values));
                    _mm512_mask_storeu_epi32(
                        to.as_mut_ptr().cast(),
                        pairs.into(),
                        _mm512_castsi256_si512(rounded),
                    );
                }
            }
        }

        #[inline(always)]
        fn splat_pair(self, pair: u32) -> Self::P {
            // SAFETY: the token says that the instructions are there; both types are 64 bytes without meaning.
            unsafe { std::mem::transmute(_mm512_set1_epi32(pair as i32)) }
        }

        #[inline(always)]
        fn load_pairs(self, from: &[u32]) -> Self::P {
            assert!(from.len() >= Self::LANES);
            // SAFETY: as in `splat_pair`; the length was checked.
            unsafe { std::mem::transmute(_mm512_loadu_si512(from.as_ptr().cast())) }
        }

        #[inline(always)]
        fn dot_add(self, a: Self::P, b: Self::P, c: Self::V) -> Self::V {
            // SAFETY: the token says that the instructions are there.
            unsafe { _mm512_dpbf16_ps(c, a, b) }
        }
    }

    /// The two implementations differ in the names of the intrinsics.
    macro_rules! implement {
        ($token:ident, $vector:ident, $lanes:literal, $rows:literal, $splat:ident, $load:ident,
         $store:ident, $add:ident, $sub:ident, $mul:ident, $fmadd:ident, $fnmadd:ident,
         $max:ident) => {
            // SAFETY of every block below: the token is made only by the function above, which runs
            // only where the processor has its instructions. `load` and `store` checked the length.
            impl Simd for $token {
                type V = $vector;
                const LANES: usize = $lanes;
                const ROWS: usize = $rows;

                #[inline(always)]
                fn splat(self, value: f32) -> Self::V {
                    // SAFETY: see above.
                    unsafe { $splat(value) }
                }

                #[inline(always)]
                fn load(self, from: &[f32]) -> Self::V {
                    assert!(from.len() >= $lanes);
                    // SAFETY: see above.
                    unsafe { $load(from.as_ptr()) }
                }

                #[inline(always)]
                fn prefetch(self, what: &[f32]) {
                    for line in what.chunks(LINE) {
                        // SAFETY: a prefetch of any address is allowed; SSE is part of x86-64.
                        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
                    }
                }

                #[inline(always)]
                fn store(self, value: Self::V, to: &mut [f32]) {
                    assert!(to.len() >= $lanes);
                    // SAFETY: see above.
                    unsafe { $store(to.as_mut_ptr(), value) }
                }

                #[inline(always)]
                fn add(self, a: Self::V, b: Self::V) -> Self::V {
                    // SAFETY: see above.
                    unsafe { $add(a, b) }
                }

                #[inline(always)]
                fn sub(self, a: Self::V, b: Self::V) -> Self::V {
                    // SAFETY: see above.
                    unsafe { $sub(a, b) }
                }

                #[inline(always)]
                fn mul(self, a: Self::V, b: Self::V) -> Self::V {
                    // SAFETY: see above.
                    unsafe { $mul(a, b) }
                }

                #[inline(always)]
                fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
                    // SAFETY: see above.
                    unsafe { $fmadd(a, b, c) }
                }

                #[inline(always)]
                fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
                    // SAFETY: see above.
                    unsafe { $fnmadd(a, b, c) }
                }

                #[inline(always)]
                fn relu(self, a: Self::V) -> Self::V {
                    // The instruction returns its second operand where one is NaN.
                    // SAFETY: see above.
                    unsafe { $max($splat(0.0), a) }
                }
            }
        };
    }

    implement!(
        Avx2,
        __m256,
        8,
        6,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_fmadd_ps,
        _mm256_fnmadd_ps,
        _mm256_max_ps
    );
    implement!(
        Avx512Bf16,
        __m512,
        16,
        12,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_fmadd_ps,
        _mm512_fnmadd_ps,
        _mm512_max_ps
    );
    implement!(
        Avx512,
        __m512,
        16,
        12,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_fmadd_ps,
        _mm512_fnmadd_ps,
        _mm512_max_ps
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_of_libtorch_has_the_same_instructions_here() {
        let best = ["avx512", "avx2", "default", "unheard of"].map(Isa::of_capability);
        assert_eq!(best, [Isa::Avx512, Isa::Avx2, Isa::Portable, Isa::Avx512]);
    }
}
