//! AVX-512: a block's 16 sums are one register. With VNNI one instruction does 64 products.

use super::super::BLOCK;
use super::super::table::Rescale;
use super::{Bytes, Fours, Walk};
use core::arch::x86_64::*;

/// Proof that the CPU has AVX-512F and AVX-512BW, and AVX-512 VNNI where `VNNI`.
#[derive(Clone, Copy)]
pub(in super::super) struct Avx512<const VNNI: bool>(());

impl<const VNNI: bool> Avx512<VNNI> {
    /// # Safety
    /// The CPU must have AVX-512F and AVX-512BW, and AVX-512 VNNI where `VNNI`; and the OS must save their registers.
    #[inline(always)]
    pub(in super::super) unsafe fn new() -> Self {
        Avx512(())
    }
}

/// The formula's numbers: multipliers of the even and the odd channels, each with a lane of 64 bits, and the rest in all
/// lanes.
#[derive(Clone, Copy)]
pub(in super::super) struct Scale {
    even: __m512i,
    odd: __m512i,
    half: __m512i,
    shift: __m512i,
    residual: __m512i,
    residual_zero: __m512i,
    /// Of 16 bits.
    zero: __m128i,
    /// Of 8 bits.
    low: __m128i,
}

// SAFETY (every block below): a value of `Avx512` exists only where the CPU has the instructions (`Avx512::new`); loads and
// stores are of arrays that are there, or hand that duty to the caller.
impl<const VNNI: bool> Bytes for Avx512<VNNI> {
    type Sums = __m512i;
    type Wide = __m512i;
    type Scale = Scale;
    const PIXELS: usize = 8;
    const BLOCKS: usize = 2;

    #[inline(always)]
    fn start(self, bias: &[i32; BLOCK]) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_loadu_si512(bias.as_ptr().cast()) }
    }
    #[inline(always)]
    fn wide(self, x: &[u8; BLOCK]) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn wide_weights(self, w: &[i8; BLOCK]) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(w.as_ptr().cast())) }
    }
    /// Pairs of 16-bit products, of which the second is 0 since bytes are not negative: its half of x is 0.
    #[inline(always)]
    fn multiply_add(self, sums: __m512i, x: __m512i, w: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { if VNNI { _mm512_dpwssd_epi32(sums, x, w) } else { _mm512_add_epi32(sums, _mm512_madd_epi16(x, w)) } }
    }
    #[inline(always)]
    fn scale(self, rescale: &Rescale, multipliers: &[i32; BLOCK]) -> Scale {
        // SAFETY: see above.
        unsafe {
            let even = self.start(multipliers);
            Scale {
                even,
                odd: _mm512_srli_epi64::<32>(even),
                half: _mm512_set1_epi64(rescale.half),
                shift: _mm512_set1_epi64(i64::from(rescale.shift)),
                residual: _mm512_set1_epi32(rescale.residual),
                residual_zero: _mm512_set1_epi32(i32::from(rescale.residual_zero)),
                zero: _mm_set1_epi16(i16::from(rescale.zero)),
                low: _mm_set1_epi8(rescale.low as i8),
            }
        }
    }
    #[inline(always)]
    fn bytes(self, sums: __m512i, s: &Scale, residual: Option<&[u8; BLOCK]>) -> [u8; BLOCK] {
        // SAFETY: see above.
        unsafe {
            // Products of 64 bits are those of the even lanes: the odd ones are moved there.
            let mut even = _mm512_add_epi64(_mm512_mul_epi32(sums, s.even), s.half);
            let mut odd = _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64::<32>(sums), s.odd), s.half);
            if let Some(r) = residual {
                let r = _mm512_sub_epi32(self.wide(r), s.residual_zero);
                even = _mm512_add_epi64(even, _mm512_mul_epi32(r, s.residual));
                odd = _mm512_add_epi64(odd, _mm512_mul_epi32(_mm512_srli_epi64::<32>(r), s.residual));
            }
            // What 16 bits can't hold is far outside of the bounds, with or without the zero point.
            let even = _mm512_cvtsepi64_epi16(_mm512_srav_epi64(even, s.shift));
            let odd = _mm512_cvtsepi64_epi16(_mm512_srav_epi64(odd, s.shift));
            let low = _mm_adds_epi16(_mm_unpacklo_epi16(even, odd), s.zero);
            let high = _mm_adds_epi16(_mm_unpackhi_epi16(even, odd), s.zero);
            let mut bytes = [0; BLOCK];
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm_max_epu8(_mm_packus_epi16(low, high), s.low));
            bytes
        }
    }
    #[inline(always)]
    unsafe fn tile<const P: usize, const B: usize>(
        self,
        x: [*const u8; P],
        walk: &Walk,
        w: [*const i8; B],
        start: [__m512i; B],
    ) -> [[__m512i; B]; P] {
        // SAFETY: the caller's duty.
        unsafe { super::tile(self, x, walk, w, start) }
    }
}

/// With VNNI the first is all 4 of each 4, and the second is not used. Without, they are the bytes or weights 0 and 2, and
/// 1 and 3, as 16-bit numbers: products of 8 bits that are added in 16 bits would saturate.
type Pair = [__m512i; 2];

impl<const VNNI: bool> Fours for Avx512<VNNI> {
    type Weights = Pair;
    type Four = Pair;

    #[inline(always)]
    unsafe fn weights(self, w: *const i8) -> Pair {
        // SAFETY: the caller's duty.
        unsafe {
            let all = _mm512_loadu_si512(w.cast());
            if VNNI {
                return [all, all];
            }
            [_mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(all)), _mm512_srai_epi16::<8>(all)]
        }
    }
    #[inline(always)]
    unsafe fn four(self, x: *const u8) -> Pair {
        // SAFETY: the caller's duty.
        unsafe {
            let all = _mm512_set1_epi32(x.cast::<i32>().read_unaligned());
            if VNNI {
                return [all, all];
            }
            [_mm512_and_si512(all, _mm512_set1_epi16(0xff)), _mm512_srli_epi16::<8>(all)]
        }
    }
    #[inline(always)]
    fn dot(self, sums: __m512i, x: Pair, w: Pair) -> __m512i {
        // SAFETY: see above.
        unsafe {
            if VNNI {
                return _mm512_dpbusd_epi32(sums, x[0], w[0]);
            }
            let products = _mm512_add_epi32(_mm512_madd_epi16(x[0], w[0]), _mm512_madd_epi16(x[1], w[1]));
            _mm512_add_epi32(sums, products)
        }
    }
}
