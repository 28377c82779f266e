//! The vocabulary in which every kernel is written: one trait of vector operations on `f32`.
//!
//! A value of a type that implements [`Isa`] is *proof* that the CPU has the instructions: such
//! values are only made by [`crate::Level`], which asks the CPU first. So the operations are safe
//! to call, and a kernel written once over `I: Isa` runs at every level.
//!
//! Every function on the way from [`crate::Level::run`] to an operation must be
//! `#[inline(always)]`: a function that is not inlined is compiled without the instructions and
//! turns each operation into a call.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
#[cfg_attr(any(feature = "scalar", target_arch = "arm", target_arch = "riscv32"), path = "isa/scalar.rs")]
pub(crate) mod portable;

/// Vector operations on `f32` of one instruction set.
///
/// `fma` is fused where the instruction set has it and a product followed by a sum where it has
/// not (the portable level): results are the same bits at one level, not across levels.
pub trait Isa: Copy + Send + Sync {
    /// A vector of [`Isa::LANES`] numbers.
    type V: Copy;
    /// A truth value per lane.
    type M: Copy;
    /// Numbers in a vector.
    const LANES: usize;
    /// Rows of the largest register tile of a matrix product: as many as leave no spills.
    const ROWS: usize;
    /// Columns of the register tile, in numbers: 16 or 32.
    const COLUMNS: usize;
    /// Rows of the register tile of a weight gradient; divides 16.
    const GRADIENT_ROWS: usize;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// The first `LANES` numbers of `x`.
    ///
    /// # Panics
    /// If `x` is shorter.
    fn load(self, x: &[f32]) -> Self::V;
    /// Writes the first `LANES` numbers of `y`.
    ///
    /// # Panics
    /// If `y` is shorter.
    fn store(self, v: Self::V, y: &mut [f32]);
    /// Loads without a check.
    ///
    /// # Safety
    /// `x` must be readable for `LANES` numbers.
    unsafe fn load_at(self, x: *const f32) -> Self::V;
    /// Stores without a check.
    ///
    /// # Safety
    /// `y` must be writable for `LANES` numbers.
    unsafe fn store_at(self, v: Self::V, y: *mut f32);
    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a < b`, false where either is NaN.
    fn lt(self, a: Self::V, b: Self::V) -> Self::M;
    /// `a <= b`, false where either is NaN.
    fn le(self, a: Self::V, b: Self::V) -> Self::M;
    /// Where `a` is NaN.
    fn is_nan(self, a: Self::V) -> Self::M;
    /// `a` or `b`
    fn or(self, a: Self::M, b: Self::M) -> Self::M;
    /// `a` where `m`, else `b`.
    fn select(self, m: Self::M, a: Self::V, b: Self::V) -> Self::V;
    /// The sum of the lanes, in a fixed order.
    fn sum(self, v: Self::V) -> f32;

    /// Asks for the cache line at `x`, which will be read soon, to come to the second-level cache. Any address may be given: nothing is
    /// read, and where there is no such instruction nothing is done.
    #[inline(always)]
    fn prefetch(self, _x: *const f32) {}

    /// Transposes a block of 16 x 16: `y[j·y_stride + i] = x[i·x_stride + j]`.
    ///
    /// # Panics
    /// If a slice is too short.
    #[inline(always)]
    fn transpose_16(self, x: &[f32], x_stride: usize, y: &mut [f32], y_stride: usize) {
        let x = &x[..15 * x_stride + 16];
        let y = &mut y[..15 * y_stride + 16];
        for i in 0..16 {
            for j in 0..16 {
                y[j * y_stride + i] = x[i * x_stride + j];
            }
        }
    }
}
