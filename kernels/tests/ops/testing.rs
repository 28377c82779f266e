//! What the tests of all ops share.

use nunatak_kernels::{Cpu, Level, Threads};
use std::vec::Vec;

/// Channel counts below, at and above every vector length.
pub(crate) const CHANNELS: [usize; 8] = [1, 3, 8, 10, 16, 17, 33, 64];

/// A small generator: the upper bits of a 64-bit congruential sequence.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub(crate) fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.bits() as usize % n
    }
    /// Numbers in −1 … 1.
    pub(crate) fn vector(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (self.bits() & 0xff_ffff) as f32 / 8_388_608.0 - 1.0).collect()
    }
    /// The same, with some −0.0, NaN and infinities.
    pub(crate) fn special(&mut self, len: usize) -> Vec<f32> {
        let mut v = self.vector(len);
        for v in &mut v {
            match self.below(12) {
                0 => *v = -0.0,
                1 => *v = f32::NAN,
                2 => *v = f32::INFINITY,
                3 => *v = f32::NEG_INFINITY,
                4 => *v = 0.0,
                _ => {}
            }
        }
        v
    }
}

/// A copy that begins `offset` numbers after a 64-byte boundary.
pub(crate) struct Offset {
    data: Vec<Line>,
    offset: usize,
    len: usize,
}

#[repr(C, align(64))]
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
struct Line([f32; 16]);

impl Offset {
    pub(crate) fn copy(x: &[f32], offset: usize) -> Offset {
        let mut all = Self::nan(x.len(), offset);
        all.copy_from_slice(x);
        all
    }
    /// An output: NaN everywhere, so that what is not written shows.
    pub(crate) fn nan(len: usize, offset: usize) -> Offset {
        Offset { data: std::vec![Line([f32::NAN; 16]); (len + offset).div_ceil(16)], offset, len }
    }
    /// 64-byte aligned scratch, full of NaN.
    pub(crate) fn scratch(len: usize) -> Offset {
        Self::nan(len, 0)
    }
}

impl core::ops::Deref for Offset {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.data)[self.offset..][..self.len]
    }
}

impl core::ops::DerefMut for Offset {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.data)[self.offset..][..self.len]
    }
}

/// Every level that the machine has, with 1, 2 and 3 threads where threads are built in.
pub(crate) fn for_each_cpu(mut test: impl FnMut(&Cpu)) {
    #[cfg(feature = "std")]
    let all = [1, 2, 3].map(|n| Threads::oversubscribed(n).expect("threads"));
    #[cfg(not(feature = "std"))]
    let all = [Threads::serial()];
    for level in Level::available() {
        for threads in &all {
            test(&Cpu { level, threads });
        }
    }
}

/// Runs a test on every level and number of threads; what it returns must have the same bits for
/// any number of threads, and is handed to `check` for every level.
pub(crate) fn same_bits(mut test: impl FnMut(&Cpu) -> Vec<f32>, mut check: impl FnMut(&Cpu, &[f32])) {
    let mut first: Option<(Level, Vec<f32>)> = None;
    for_each_cpu(|cpu| {
        let y = test(cpu);
        match &first {
            Some((level, bits)) if *level == cpu.level => {
                let same = bits.len() == y.len() && bits.iter().zip(&y).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{} threads give other bits at {level}", cpu.threads.count());
            }
            _ => {
                check(cpu, &y);
                first = Some((cpu.level, y));
            }
        }
    });
}

/// Every difference is at most 5e-6 of the largest value; NaN and infinities stand where they should.
#[track_caller]
pub(crate) fn assert_close(y: &[f32], expected: &[f64], what: &str) {
    assert_within(y, expected, 5e-6, what);
}

/// The same with another tolerance.
#[track_caller]
pub(crate) fn assert_within(y: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(y.len(), expected.len(), "{what}");
    let largest = expected.iter().filter(|v| v.is_finite()).fold(0.0_f64, |m, v| m.max(v.abs()));
    for (i, (y, e)) in y.iter().zip(expected).enumerate() {
        let y = f64::from(*y);
        let fine = if e.is_finite() { (y - e).abs() <= tolerance * largest + 1e-37 } else { y == *e || (y.is_nan() && e.is_nan()) };
        assert!(fine, "{what}: at {i} {y} instead of {e} (the largest is {largest})");
    }
}

/// Bit for bit, NaN being NaN.
#[track_caller]
pub(crate) fn assert_exact(y: &[f32], expected: &[f64], what: &str) {
    assert_eq!(y.len(), expected.len(), "{what}");
    for (i, (y, e)) in y.iter().zip(expected).enumerate() {
        let e = *e as f32;
        assert!(y.to_bits() == e.to_bits() || (y.is_nan() && e.is_nan()), "{what}: at {i} {y} instead of {e}");
    }
}

/// The gradient `dx` of `Σ dy·forward(x)` by central differences of step 2⁻⁸, of as many elements as
/// there are, within 2e-3 of the largest (or less, where the caller's function is smooth).
#[track_caller]
pub(crate) fn assert_gradient(x: &[f32], dx: &[f64], mut loss: impl FnMut(&[f32]) -> f64, tolerance: f64) {
    let largest = dx.iter().fold(1e-3_f64, |m, v| m.max(v.abs()));
    let mut at = x.to_vec();
    for i in 0..x.len() {
        let (low, high) = (x[i] - 1.0 / 256.0, x[i] + 1.0 / 256.0);
        at[i] = high;
        let above = loss(&at);
        at[i] = low;
        let below = loss(&at);
        at[i] = x[i];
        let slope = (above - below) / (f64::from(high) - f64::from(low));
        assert!((slope - dx[i]).abs() <= tolerance * largest, "at {i} the slope is {slope}, the gradient {}", dx[i]);
    }
}

/// `Σ a·b`
pub(crate) fn dot(a: &[f32], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * b).sum()
}

/// A vector of zeros for a reference to write to.
pub(crate) fn zeros(len: usize) -> Vec<f64> {
    std::vec![0.0; len]
}

/// Whether `work` panics.
pub(crate) fn panics(work: impl FnOnce()) -> bool {
    // Where a panic ends the process (wasm), nobody can be asked.
    cfg!(panic = "abort") || std::panic::catch_unwind(core::panic::AssertUnwindSafe(work)).is_err()
}
