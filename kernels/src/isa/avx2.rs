//! AVX2 with FMA: 8 lanes, 16 registers.

use super::Isa;
use core::arch::x86_64::*;

/// Proof that the CPU has AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The CPU must have AVX2 and FMA, and the OS must save their registers.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Avx2(())
    }
}

// SAFETY (every block below): a value of `Avx2` exists only where the CPU has the instructions
// (`Avx2::new`); the loads and stores that take slices check their lengths first, those that take
// pointers hand that duty to the caller.
impl Isa for Avx2 {
    type V = __m256;
    type M = __m256;
    const LANES: usize = 8;
    const ROWS: usize = 6;
    const GRADIENT_ROWS: usize = 6;

    #[inline(always)]
    fn apart<T>(self, work: impl FnOnce() -> T) -> T {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma")]
        fn call<T>(work: impl FnOnce() -> T) -> T {
            work()
        }
        // SAFETY: see above.
        unsafe { call(work) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> __m256 {
        assert!(x.len() >= 8);
        // SAFETY: see above; the length was checked.
        unsafe { _mm256_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: __m256, y: &mut [f32]) {
        assert!(y.len() >= 8);
        // SAFETY: see above; the length was checked.
        unsafe { _mm256_storeu_ps(y.as_mut_ptr(), v) }
    }
    #[inline(always)]
    unsafe fn load_at(self, x: *const f32) -> __m256 {
        // SAFETY: the caller's duty.
        unsafe { _mm256_loadu_ps(x) }
    }
    #[inline(always)]
    unsafe fn store_at(self, v: __m256, y: *mut f32) {
        // SAFETY: the caller's duty.
        unsafe { _mm256_storeu_ps(y, v) }
    }
    #[inline(always)]
    unsafe fn load_first(self, x: *const f32, count: usize) -> __m256 {
        // SAFETY: the caller's duty; lanes whose mask is not negative are not read.
        unsafe { _mm256_maskload_ps(x, first(count)) }
    }
    #[inline(always)]
    unsafe fn store_first(self, v: __m256, y: *mut f32, count: usize) {
        // SAFETY: the caller's duty; lanes whose mask is not negative are not written.
        unsafe { _mm256_maskstore_ps(y, first(count), v) }
    }
    #[inline(always)]
    fn prefetch(self, x: *const f32) {
        // SAFETY: a hint; no address is wrong.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(x.cast()) }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_sqrt_ps(a) }
    }
    #[inline(always)]
    fn bits_and(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_and_ps(a, b) }
    }
    #[inline(always)]
    fn bits_or(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_or_ps(a, b) }
    }
    #[inline(always)]
    fn bits_up<const N: u32>(self, a: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_castsi256_ps(_mm256_sllv_epi32(_mm256_castps_si256(a), _mm256_set1_epi32(N as i32))) }
    }
    #[inline(always)]
    fn bits_down<const N: u32>(self, a: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_castsi256_ps(_mm256_srlv_epi32(_mm256_castps_si256(a), _mm256_set1_epi32(N as i32))) }
    }
    #[inline(always)]
    fn lt(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(a, b) }
    }
    #[inline(always)]
    fn le(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_cmp_ps::<_CMP_LE_OQ>(a, b) }
    }
    #[inline(always)]
    fn is_nan(self, a: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a) }
    }
    #[inline(always)]
    fn or(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_or_ps(a, b) }
    }
    #[inline(always)]
    fn select(self, m: __m256, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_blendv_ps(b, a, m) }
    }
    #[inline(always)]
    fn permute(self, v: __m256, from: &[i32; 16]) -> __m256 {
        // SAFETY: see above; eight of sixteen numbers are read.
        unsafe { _mm256_permutevar8x32_ps(v, _mm256_loadu_si256(from.as_ptr().cast())) }
    }
    #[inline(always)]
    fn sum(self, v: __m256) -> f32 {
        // SAFETY: see above.
        unsafe {
            let q = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let d = _mm_add_ps(q, _mm_movehl_ps(q, q));
            _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)))
        }
    }

    /// Four blocks of 8 x 8, each in registers.
    #[inline(always)]
    fn transpose_16(self, x: &[f32], x_stride: usize, y: &mut [f32], y_stride: usize) {
        let x = &x[..15 * x_stride + 16];
        let y = &mut y[..15 * y_stride + 16];
        for (i0, j0) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
            let mut r = [self.splat(0.0); 8];
            for (i, v) in r.iter_mut().enumerate() {
                *v = self.load(&x[(i0 + i) * x_stride + j0..]);
            }
            // SAFETY: see above; only registers are touched.
            let columns = unsafe {
                let mut a = r;
                for i in 0..4 {
                    a[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                    a[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
                }
                let mut b = r;
                for i in 0..2 {
                    b[4 * i] = _mm256_shuffle_ps::<0x44>(a[4 * i], a[4 * i + 2]);
                    b[4 * i + 1] = _mm256_shuffle_ps::<0xee>(a[4 * i], a[4 * i + 2]);
                    b[4 * i + 2] = _mm256_shuffle_ps::<0x44>(a[4 * i + 1], a[4 * i + 3]);
                    b[4 * i + 3] = _mm256_shuffle_ps::<0xee>(a[4 * i + 1], a[4 * i + 3]);
                }
                for i in 0..4 {
                    r[i] = _mm256_permute2f128_ps::<0x20>(b[i], b[4 + i]);
                    r[4 + i] = _mm256_permute2f128_ps::<0x31>(b[i], b[4 + i]);
                }
                r
            };
            for (j, v) in columns.iter().enumerate() {
                self.store(*v, &mut y[(j0 + j) * y_stride + i0..]);
            }
        }
    }
}

/// −1 in the first `count` lanes, 0 in the others.
#[inline(always)]
fn first(count: usize) -> __m256i {
    // SAFETY: only registers are touched; a value of `Avx2` was at hand to get here.
    unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(count.min(8) as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
}
