//! AVX2: a block's 16 sums are two registers. With AVX-VNNI one instruction does 32 products.

use super::super::BLOCK;
use super::super::table::Rescale;
use super::{Bytes, Fours, Walk};
use core::arch::x86_64::*;

/// Proof that the CPU has AVX2, and AVX-VNNI where `VNNI`.
#[derive(Clone, Copy)]
pub(in super::super) struct Avx2<const VNNI: bool>(());

impl<const VNNI: bool> Avx2<VNNI> {
    /// # Safety
    /// The CPU must have AVX2, and AVX-VNNI where `VNNI`; and the OS must save their registers.
    #[inline(always)]
    pub(in super::super) unsafe fn new() -> Self {
        Avx2(())
    }
}

/// The channels 0 to 7, and 8 to 15.
type Both = [__m256i; 2];

/// The formula's numbers: multipliers of the even and the odd channels, each with a lane of 64 bits, and the rest in all
/// lanes.
#[derive(Clone, Copy)]
pub(in super::super) struct Scale {
    even: Both,
    odd: Both,
    half: __m256i,
    shift: __m128i,
    residual: __m256i,
    residual_zero: __m256i,
    /// The zero point, without what is left of 2^63 after the shift.
    zero: __m256i,
    low: __m256i,
}

// SAFETY (every block below): a value of `Avx2` exists only where the CPU has the instructions (`Avx2::new`); loads and
// stores are of arrays that are there, or hand that duty to the caller.
impl<const VNNI: bool> Bytes for Avx2<VNNI> {
    type Sums = Both;
    type Wide = Both;
    type Scale = Scale;
    const PIXELS: usize = if VNNI { 6 } else { 4 };
    const BLOCKS: usize = 1;

    #[inline(always)]
    fn start(self, bias: &[i32; BLOCK]) -> Both {
        // SAFETY: see above.
        unsafe { [_mm256_loadu_si256(bias.as_ptr().cast()), _mm256_loadu_si256(bias.as_ptr().add(8).cast())] }
    }
    #[inline(always)]
    fn wide(self, x: &[u8; BLOCK]) -> Both {
        // SAFETY: see above.
        unsafe {
            [_mm256_cvtepu8_epi32(_mm_loadl_epi64(x.as_ptr().cast())), _mm256_cvtepu8_epi32(_mm_loadl_epi64(x.as_ptr().add(8).cast()))]
        }
    }
    #[inline(always)]
    fn wide_weights(self, w: &[i8; BLOCK]) -> Both {
        // SAFETY: see above.
        unsafe {
            [_mm256_cvtepi8_epi32(_mm_loadl_epi64(w.as_ptr().cast())), _mm256_cvtepi8_epi32(_mm_loadl_epi64(w.as_ptr().add(8).cast()))]
        }
    }
    /// Pairs of 16-bit products, of which the second is 0 since bytes are not negative: its half of x is 0.
    #[inline(always)]
    fn multiply_add(self, sums: Both, x: Both, w: Both) -> Both {
        // SAFETY: see above.
        unsafe { [_mm256_add_epi32(sums[0], _mm256_madd_epi16(x[0], w[0])), _mm256_add_epi32(sums[1], _mm256_madd_epi16(x[1], w[1]))] }
    }
    #[inline(always)]
    fn scale(self, rescale: &Rescale, multipliers: &[i32; BLOCK]) -> Scale {
        let even = self.start(multipliers);
        // SAFETY: see above.
        unsafe {
            let shift = _mm_cvtsi32_si128(rescale.shift as i32);
            let moved = _mm256_srl_epi64(_mm256_set1_epi64x(i64::MIN), shift);
            Scale {
                even,
                odd: [_mm256_srli_epi64::<32>(even[0]), _mm256_srli_epi64::<32>(even[1])],
                half: _mm256_set1_epi64x(rescale.half),
                shift,
                residual: _mm256_set1_epi32(rescale.residual),
                residual_zero: _mm256_set1_epi32(i32::from(rescale.residual_zero)),
                zero: _mm256_sub_epi64(_mm256_set1_epi64x(i64::from(rescale.zero)), moved),
                low: _mm256_set1_epi64x(i64::from(rescale.low)),
            }
        }
    }
    #[inline(always)]
    fn bytes(self, sums: Both, s: &Scale, residual: Option<&[u8; BLOCK]>) -> [u8; BLOCK] {
        let (low, high) = match residual {
            None => (self.eight(sums[0], 0, None, s), self.eight(sums[1], 1, None, s)),
            Some(r) => {
                let r = self.wide(r);
                (self.eight(sums[0], 0, Some(r[0]), s), self.eight(sums[1], 1, Some(r[1]), s))
            }
        };
        let mut bytes = [0; BLOCK];
        // SAFETY: see above.
        unsafe {
            // Within 128 bits: the halves of both come in turn, so their 4 quarters are put in order.
            let words = _mm256_packus_epi32(low, high);
            let all = _mm256_packus_epi16(words, words);
            let all = _mm256_permutevar8x32_epi32(all, _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5));
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm256_castsi256_si128(all));
        }
        bytes
    }
    #[inline(always)]
    unsafe fn tile<const P: usize, const B: usize>(
        self,
        x: [*const u8; P],
        walk: &Walk,
        w: [*const i8; B],
        start: [Both; B],
    ) -> [[Both; B]; P] {
        // SAFETY: the caller's duty.
        unsafe { super::tile(self, x, walk, w, start) }
    }
}

impl<const VNNI: bool> Avx2<VNNI> {
    /// What the formula makes of the 8 sums of the lower or upper channels: 8 numbers of 32 bits.
    #[inline(always)]
    fn eight(self, sums: __m256i, half: usize, residual: Option<__m256i>, s: &Scale) -> __m256i {
        // SAFETY: see above.
        unsafe {
            // Products of 64 bits are those of the even lanes: the odd ones are moved there.
            let mut even = _mm256_add_epi64(_mm256_mul_epi32(sums, s.even[half]), s.half);
            let mut odd = _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64::<32>(sums), s.odd[half]), s.half);
            if let Some(r) = residual {
                let r = _mm256_sub_epi32(r, s.residual_zero);
                even = _mm256_add_epi64(even, _mm256_mul_epi32(r, s.residual));
                odd = _mm256_add_epi64(odd, _mm256_mul_epi32(_mm256_srli_epi64::<32>(r), s.residual));
            }
            // There is no shift of 64 bits that keeps the sign: 2^63 is added before, and what became of it taken away.
            let (most, high) = (_mm256_set1_epi64x(i64::MIN), _mm256_set1_epi64x(255));
            let byte = |v: __m256i| {
                let y = _mm256_add_epi64(_mm256_srl_epi64(_mm256_xor_si256(v, most), s.shift), s.zero);
                let y = _mm256_blendv_epi8(y, s.low, _mm256_cmpgt_epi64(s.low, y));
                _mm256_blendv_epi8(y, high, _mm256_cmpgt_epi64(y, high))
            };
            _mm256_or_si256(byte(even), _mm256_slli_epi64::<32>(byte(odd)))
        }
    }
}

/// With VNNI the first is all 4 of each 4, and the second is not used. Without, they are the bytes or weights 0 and 2, and
/// 1 and 3, as 16-bit numbers: products of 8 bits that are added in 16 bits would saturate.
type Pair = [__m256i; 2];

impl<const VNNI: bool> Fours for Avx2<VNNI> {
    type Weights = [Pair; 2];
    type Four = Pair;

    #[inline(always)]
    unsafe fn weights(self, w: *const i8) -> [Pair; 2] {
        // SAFETY: the caller's duty.
        unsafe {
            let (low, high) = (_mm256_loadu_si256(w.cast()), _mm256_loadu_si256(w.add(32).cast()));
            if VNNI {
                return [[low, low], [high, high]];
            }
            [
                [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(low)), _mm256_srai_epi16::<8>(low)],
                [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(high)), _mm256_srai_epi16::<8>(high)],
            ]
        }
    }
    #[inline(always)]
    unsafe fn four(self, x: *const u8) -> Pair {
        // SAFETY: the caller's duty.
        unsafe {
            let all = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            if VNNI { [all, all] } else { [_mm256_and_si256(all, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(all)] }
        }
    }
    #[inline(always)]
    fn dot(self, mut sums: Both, x: Pair, w: [Pair; 2]) -> Both {
        for i in 0..2 {
            // SAFETY: see above.
            unsafe {
                sums[i] = if VNNI {
                    _mm256_dpbusd_avx_epi32(sums[i], x[0], w[i][0])
                } else {
                    let products = _mm256_add_epi32(_mm256_madd_epi16(x[0], w[i][0]), _mm256_madd_epi16(x[1], w[i][1]));
                    _mm256_add_epi32(sums[i], products)
                };
            }
        }
        sums
    }
}
