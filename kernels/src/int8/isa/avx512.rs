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

// SAFETY (every block below): a value of `Avx512` exists only where the CPU has the instructions (`Avx512::new`); loads and
// stores are of arrays that are there, or hand that duty to the caller.
impl<const VNNI: bool> Bytes for Avx512<VNNI> {
    type Sums = __m512i;
    type Wide = __m512i;
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
    fn bytes(self, sums: __m512i, rescale: &Rescale, multipliers: &[i32; BLOCK], residual: Option<&[u8; BLOCK]>) -> [u8; BLOCK] {
        // SAFETY: see above.
        unsafe {
            // Products of 64 bits are those of the even lanes: the odd ones are moved there.
            let up = |v: __m512i| _mm512_srli_epi64::<32>(v);
            let m = self.start(multipliers);
            let half = _mm512_set1_epi64(rescale.half);
            let mut even = _mm512_add_epi64(_mm512_mul_epi32(sums, m), half);
            let mut odd = _mm512_add_epi64(_mm512_mul_epi32(up(sums), up(m)), half);
            if let Some(r) = residual {
                let r = _mm512_sub_epi32(self.wide(r), _mm512_set1_epi32(i32::from(rescale.residual_zero)));
                let m = _mm512_set1_epi32(rescale.residual);
                even = _mm512_add_epi64(even, _mm512_mul_epi32(r, m));
                odd = _mm512_add_epi64(odd, _mm512_mul_epi32(up(r), m));
            }
            let shift = _mm_cvtsi32_si128(rescale.shift as i32);
            let (zero, low, high) =
                (_mm512_set1_epi64(i64::from(rescale.zero)), _mm512_set1_epi64(i64::from(rescale.low)), _mm512_set1_epi64(255));
            let byte = |v: __m512i| {
                let y = _mm512_add_epi64(_mm512_sra_epi64(v, shift), zero);
                _mm512_min_epi64(_mm512_max_epi64(y, low), high)
            };
            let all = _mm512_or_si512(byte(even), _mm512_slli_epi64::<32>(byte(odd)));
            let mut bytes = [0; BLOCK];
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(all));
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
