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

use std::sync::LazyLock;

/// Lanes of the widest vectors.
pub(super) const MAX_LANES: usize = 16;

/// The instructions that the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Those of the compilation target, 8 lanes.
    Portable,
    /// AVX2 and FMA, 8 lanes.
    Avx2,
    /// AVX-512 Foundation, 16 lanes.
    Avx512,
}

impl Isa {
    /// The best that this processor has.
    pub fn detect() -> Self {
        static BEST: LazyLock<Isa> =
            LazyLock::new(|| Isa::available().last().copied().unwrap_or(Isa::Portable));
        *BEST
    }

    /// All that this processor has, the best last.
    pub fn available() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut))]
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            all.push(Self::Avx2);
            if std::arch::is_x86_feature_detected!("avx512f") {
                all.push(Self::Avx512);
            }
        }
        all
    }

    /// Lanes of a vector.
    pub(super) fn lanes(self) -> usize {
        match self {
            Self::Portable => Portable::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => x86::Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => x86::Avx512::LANES,
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => Portable::LANES,
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
        Isa::Avx512 => unsafe { x86::run_avx512(kernel) },
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

    use super::{Kernel, Simd};

    /// AVX2 and FMA are there.
    #[derive(Clone, Copy)]
    pub(super) struct Avx2(());

    /// AVX-512F, AVX2 and FMA are there.
    #[derive(Clone, Copy)]
    pub(super) struct Avx512(());

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn run_avx2(kernel: impl Kernel) {
        kernel.call(Avx2(()));
    }

    #[target_feature(enable = "avx512f,avx2,fma")]
    pub(super) fn run_avx512(kernel: impl Kernel) {
        kernel.call(Avx512(()));
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
