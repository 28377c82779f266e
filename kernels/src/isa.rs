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
#[cfg_attr(any(target_arch = "arm", target_arch = "riscv32"), path = "isa/scalar.rs")]
pub(crate) mod portable;
/// The portable level as boards have it, to compute on a desktop what a board will.
#[cfg(all(feature = "scalar", not(any(target_arch = "arm", target_arch = "riscv32"))))]
pub(crate) mod scalar;

/// Vector operations on `f32` of one instruction set.
///
/// `fma` is fused where the instruction set has it and a product followed by a sum where it has
/// not (the portable level): results are the same bits at one level, not across levels.
pub(crate) trait Isa: Copy + Send + Sync {
    /// A vector of [`Isa::LANES`] numbers.
    type V: Copy;
    /// A truth value per lane.
    type M: Copy;
    /// Numbers in a vector.
    const LANES: usize;
    /// Rows of the largest register tile of a matrix product: as many as leave no spills.
    const ROWS: usize;
    /// Rows of the register tile of a weight gradient: 4, 6 or 8.
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
    /// Loads the first `count` numbers, at most `LANES`, with zeros behind them, without a check.
    ///
    /// # Safety
    /// `x` must be readable for `count` numbers.
    #[inline(always)]
    unsafe fn load_first(self, x: *const f32, count: usize) -> Self::V {
        let mut all = [0.0; 16];
        for (i, to) in all[..count.min(Self::LANES)].iter_mut().enumerate() {
            // SAFETY: i is below the count that the caller vouches for.
            *to = unsafe { *x.add(i) };
        }
        self.load(&all)
    }
    /// Stores the first `count` numbers, at most `LANES`, without a check.
    ///
    /// # Safety
    /// `y` must be writable for `count` numbers.
    #[inline(always)]
    unsafe fn store_first(self, v: Self::V, y: *mut f32, count: usize) {
        let mut all = [0.0; 16];
        self.store(v, &mut all);
        for (i, from) in all[..count.min(Self::LANES)].iter().enumerate() {
            // SAFETY: i is below the count that the caller vouches for.
            unsafe { *y.add(i) = *from };
        }
    }
    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a / b`
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// The square root, exact to the last bit.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// The bits that both have.
    fn bits_and(self, a: Self::V, b: Self::V) -> Self::V;
    /// The bits that either has.
    fn bits_or(self, a: Self::V, b: Self::V) -> Self::V;
    /// Each lane's bits moved up by `N` places (at most 31); zeros follow.
    fn bits_up<const N: u32>(self, a: Self::V) -> Self::V;
    /// Each lane's bits moved down by `N` places (at most 31); zeros follow.
    fn bits_down<const N: u32>(self, a: Self::V) -> Self::V;
    /// `a · 2ⁿ` for whole n from −252 to 254, rounded once where a has an ordinary size.
    #[inline(always)]
    fn scale(self, a: Self::V, n: Self::V) -> Self::V {
        // In two steps: 2ⁿ alone may be too large or too small for a number. Added to 1.5 · 2²³ a number
        // loses its fraction, and its lowest bits are those of a whole number: an exponent, moved up.
        let round = self.splat(12_582_912.0);
        let half = self.sub(self.fma(n, self.splat(0.5), round), round);
        let bias = self.splat(12_582_912.0 + 127.0);
        let low = self.bits_up::<23>(self.add(half, bias));
        let high = self.bits_up::<23>(self.add(self.sub(n, half), bias));
        self.mul(self.mul(a, low), high)
    }
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
    /// Lane i of the result is lane `from[i]` of `v`: at least 0, below `LANES`.
    #[inline(always)]
    fn permute(self, v: Self::V, from: &[i32; 16]) -> Self::V {
        let (mut all, mut taken) = ([0.0; 16], [0.0; 16]);
        self.store(v, &mut all);
        for i in 0..Self::LANES {
            taken[i] = all[from[i] as usize % Self::LANES];
        }
        self.load(&taken)
    }
    /// The sum of the lanes, in a fixed order.
    fn sum(self, v: Self::V) -> f32;

    /// Calls `work`, which must be `#[inline(always)]`, as a function of its own that is compiled for this level. A register tile
    /// of every size inside one function makes that function take many times as long to compile.
    #[inline(always)]
    fn apart<T>(self, work: impl FnOnce() -> T) -> T {
        work()
    }

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

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use crate::{Task, isa::Isa, lanes::MOST};
    use std::vec::Vec;

    /// Every operation whose result is exact, on `LANES` numbers.
    struct Exact<'a> {
        a: &'a [f32; MOST],
        b: &'a [f32; MOST],
    }

    impl Task for Exact<'_> {
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            let (a, b) = (isa.load(self.a), isa.load(self.b));
            let check = |v: I::V, f: fn(f32, f32) -> f32, what: &str| {
                let mut y = [0.0; MOST];
                isa.store(v, &mut y);
                for (i, y) in y[..I::LANES].iter().enumerate() {
                    let e = f(self.a[i], self.b[i]);
                    assert!(
                        y.to_bits() == e.to_bits() || (y.is_nan() && e.is_nan()),
                        "{what} of {} and {}: {y}, not {e}",
                        self.a[i],
                        self.b[i]
                    );
                }
            };
            check(isa.add(a, b), |a, b| a + b, "sum");
            check(isa.sub(a, b), |a, b| a - b, "difference");
            check(isa.mul(a, b), |a, b| a * b, "product");
            check(isa.div(a, b), |a, b| a / b, "quotient");
            check(isa.sqrt(a), |a, _| a.sqrt(), "root");
            check(isa.bits_and(a, b), |a, b| f32::from_bits(a.to_bits() & b.to_bits()), "and");
            check(isa.bits_or(a, b), |a, b| f32::from_bits(a.to_bits() | b.to_bits()), "or");
            check(isa.bits_up::<23>(a), |a, _| f32::from_bits(a.to_bits() << 23), "23 up");
            check(isa.bits_down::<23>(a), |a, _| f32::from_bits(a.to_bits() >> 23), "23 down");
            let n = |b: f32| (b * 252.0).clamp(-252.0, 252.0).round();
            let mut exponents = [0.0; MOST];
            for (to, b) in exponents.iter_mut().zip(self.b) {
                *to = if b.is_finite() { n(*b) } else { 3.0 };
            }
            let mut y = [0.0; MOST];
            isa.store(isa.scale(a, isa.load(&exponents)), &mut y);
            for (i, (y, n)) in y[..I::LANES].iter().zip(exponents).enumerate() {
                let e = (f64::from(self.a[i]) * f64::from(n).exp2()) as f32;
                // The CPU may be set to take denormal numbers as zeros.
                let fine = y.to_bits() == e.to_bits() || (y.is_nan() && e.is_nan()) || (*y == 0.0 && e.abs() < f32::MIN_POSITIVE);
                assert!(fine, "{} · 2^{n}: {y:e}, not {e:e}", self.a[i]);
            }
            check(isa.select(isa.lt(a, b), a, b), |a, b| if a < b { a } else { b }, "less");
            check(isa.select(isa.le(a, b), b, a), |a, b| if a <= b { b } else { a }, "at most");
            check(isa.select(isa.or(isa.is_nan(a), isa.lt(b, a)), b, a), |a, b| if a.is_nan() || b < a { b } else { a }, "NaN or more");
            self.moves(isa);
        }
    }

    impl Exact<'_> {
        /// The operations that move numbers: parts of a vector, and lanes that are exchanged.
        #[inline(always)]
        fn moves<I: Isa>(self, isa: I) {
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            for count in 0..=I::LANES {
                // What is behind the first `count` numbers may not be touched: there is nothing behind this slice.
                let there = self.a[..count].to_vec();
                let (mut all, mut first) = ([f32::NAN; MOST], std::vec![f32::NAN; count]);
                // QEMU reads the whole vector, whatever the mask says: the address of no numbers has to be a real one.
                let from = if count == 0 { self.a.as_ptr() } else { there.as_ptr() };
                // SAFETY: `count` numbers are there.
                let v = unsafe { isa.load_first(from, count) };
                isa.store(v, &mut all);
                assert_eq!(bits(&all[..count]), bits(&there), "the first {count}");
                assert!(all[count..I::LANES].iter().all(|x| x.to_bits() == 0), "zeros behind the first {count}");
                // SAFETY: so many numbers are there.
                unsafe { isa.store_first(isa.load(self.a), first.as_mut_ptr(), count) };
                assert_eq!(bits(&first), bits(&there), "the first {count}, stored");
                let mut guarded = [7.0_f32; MOST];
                // SAFETY: as above, and more.
                unsafe { isa.store_first(isa.load(self.a), guarded.as_mut_ptr(), count) };
                assert!(guarded[count..].iter().all(|x| *x == 7.0), "behind the first {count}");
            }
            for step in 0..I::LANES {
                let from = core::array::from_fn(|i| ((i * step + i / 2) % I::LANES) as i32);
                let mut y = [f32::NAN; MOST];
                isa.store(isa.permute(isa.load(self.a), &from), &mut y);
                let due: Vec<f32> = from[..I::LANES].iter().map(|l| self.a[*l as usize]).collect();
                assert_eq!(bits(&y[..I::LANES]), bits(&due), "lanes {from:?}");
            }
        }
    }

    #[test]
    fn exact_operations_are_exact() {
        let mut random = Random::new(20);
        for round in 0..500 {
            let (a, b) =
                if round % 2 == 0 { (random.special(MOST), random.special(MOST)) } else { (random.vector(MOST), random.vector(MOST)) };
            let (a, b) = (a[..].try_into().expect("a vector"), b[..].try_into().expect("a vector"));
            for_each_cpu(|cpu| cpu.level.run(Exact { a, b }));
        }
    }
}
