//! AVX-512 (foundation, with AVX2 and FMA): 16 lanes, 32 registers.

use super::Isa;
use core::arch::x86_64::*;

/// Proof that the CPU has AVX-512F, AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The CPU must have AVX-512F, AVX2 and FMA, and the OS must save their registers.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Avx512(())
    }
}

// SAFETY (every block below): a value of `Avx512` exists only where the CPU has the instructions
// (`Avx512::new`); the loads and stores that take slices check their lengths first, those that
// take pointers hand that duty to the caller.
impl Isa for Avx512 {
    type V = __m512;
    type M = __mmask16;
    const LANES: usize = 16;
    const ROWS: usize = 14;
    const GRADIENT_ROWS: usize = 8;

    #[inline(always)]
    fn apart<T>(self, work: impl FnOnce() -> T) -> T {
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx2,fma")]
        fn call<T>(work: impl FnOnce() -> T) -> T {
            work()
        }
        // SAFETY: see above.
        unsafe { call(work) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> __m512 {
        assert!(x.len() >= 16);
        // SAFETY: see above; the length was checked.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: __m512, y: &mut [f32]) {
        assert!(y.len() >= 16);
        // SAFETY: see above; the length was checked.
        unsafe { _mm512_storeu_ps(y.as_mut_ptr(), v) }
    }
    #[inline(always)]
    unsafe fn load_at(self, x: *const f32) -> __m512 {
        // SAFETY: the caller's duty.
        unsafe { _mm512_loadu_ps(x) }
    }
    #[inline(always)]
    unsafe fn store_at(self, v: __m512, y: *mut f32) {
        // SAFETY: the caller's duty.
        unsafe { _mm512_storeu_ps(y, v) }
    }
    #[inline(always)]
    unsafe fn load_first(self, x: *const f32, count: usize) -> __m512 {
        // SAFETY: the caller's duty; lanes without a bit of the mask are not read.
        unsafe { _mm512_maskz_loadu_ps(first(count), x) }
    }
    #[inline(always)]
    unsafe fn store_first(self, v: __m512, y: *mut f32, count: usize) {
        // SAFETY: the caller's duty; lanes without a bit of the mask are not written.
        unsafe { _mm512_mask_storeu_ps(y, first(count), v) }
    }
    #[inline(always)]
    fn prefetch(self, x: *const f32) {
        // SAFETY: a hint; no address is wrong.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(x.cast()) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    fn bits_and(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), _mm512_castps_si512(b))) }
    }
    #[inline(always)]
    fn bits_or(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(a), _mm512_castps_si512(b))) }
    }
    #[inline(always)]
    fn bits_up<const N: u32>(self, a: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<N>(_mm512_castps_si512(a))) }
    }
    #[inline(always)]
    fn bits_down<const N: u32>(self, a: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_castsi512_ps(_mm512_srli_epi32::<N>(_mm512_castps_si512(a))) }
    }
    #[inline(always)]
    fn scale(self, a: __m512, n: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_scalef_ps(a, n) }
    }
    #[inline(always)]
    fn lt(self, a: __m512, b: __m512) -> __mmask16 {
        // SAFETY: see above.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b) }
    }
    #[inline(always)]
    fn le(self, a: __m512, b: __m512) -> __mmask16 {
        // SAFETY: see above.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, b) }
    }
    #[inline(always)]
    fn is_nan(self, a: __m512) -> __mmask16 {
        // SAFETY: see above.
        unsafe { _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a) }
    }
    #[inline(always)]
    fn or(self, a: __mmask16, b: __mmask16) -> __mmask16 {
        a | b
    }
    #[inline(always)]
    fn select(self, m: __mmask16, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_mask_blend_ps(m, b, a) }
    }
    #[inline(always)]
    fn permute(self, v: __m512, from: &[i32; 16]) -> __m512 {
        // SAFETY: see above; sixteen numbers are there.
        unsafe { _mm512_permutexvar_ps(_mm512_loadu_si512(from.as_ptr().cast()), v) }
    }
    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        // SAFETY: see above.
        unsafe { _mm512_reduce_add_ps(v) }
    }

    /// In registers: pairs of rows are interleaved by 1, 2, then whole quarters are exchanged.
    #[inline(always)]
    fn transpose_16(self, x: &[f32], x_stride: usize, y: &mut [f32], y_stride: usize) {
        let x = &x[..15 * x_stride + 16];
        let y = &mut y[..15 * y_stride + 16];
        let mut a = [self.splat(0.0); 16];
        let mut b = a;
        for (i, v) in b.iter_mut().enumerate() {
            *v = self.load(&x[i * x_stride..]);
        }
        // SAFETY: see above; only registers are touched.
        unsafe {
            for i in 0..8 {
                a[2 * i] = _mm512_unpacklo_ps(b[2 * i], b[2 * i + 1]);
                a[2 * i + 1] = _mm512_unpackhi_ps(b[2 * i], b[2 * i + 1]);
            }
            for i in 0..4 {
                let p = |v: __m512| _mm512_castps_pd(v);
                let q = |v: __m512d| _mm512_castpd_ps(v);
                b[4 * i] = q(_mm512_unpacklo_pd(p(a[4 * i]), p(a[4 * i + 2])));
                b[4 * i + 1] = q(_mm512_unpackhi_pd(p(a[4 * i]), p(a[4 * i + 2])));
                b[4 * i + 2] = q(_mm512_unpacklo_pd(p(a[4 * i + 1]), p(a[4 * i + 3])));
                b[4 * i + 3] = q(_mm512_unpackhi_pd(p(a[4 * i + 1]), p(a[4 * i + 3])));
            }
            for i in 0..4 {
                let even = _mm512_shuffle_f32x4::<0x88>(b[i], b[4 + i]);
                let odd = _mm512_shuffle_f32x4::<0xdd>(b[i], b[4 + i]);
                let even2 = _mm512_shuffle_f32x4::<0x88>(b[8 + i], b[12 + i]);
                let odd2 = _mm512_shuffle_f32x4::<0xdd>(b[8 + i], b[12 + i]);
                a[i] = _mm512_shuffle_f32x4::<0x88>(even, even2);
                a[8 + i] = _mm512_shuffle_f32x4::<0xdd>(even, even2);
                a[4 + i] = _mm512_shuffle_f32x4::<0x88>(odd, odd2);
                a[12 + i] = _mm512_shuffle_f32x4::<0xdd>(odd, odd2);
            }
        }
        for (j, v) in a.iter().enumerate() {
            self.store(*v, &mut y[j * y_stride..]);
        }
    }
}

/// A bit for each of the first `count` lanes.
#[inline(always)]
const fn first(count: usize) -> __mmask16 {
    if count >= 16 { !0 } else { (1 << count) - 1 }
}
