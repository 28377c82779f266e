//! Denormal numbers taken as zero while kernels run.
//!
//! On many CPUs one operation on a denormal number (below 1.2e-38) takes a hundred times as long as
//! on any other, and weights or gradients that fade away pass through there. With the feature
//! `flush-denormals` (the program and the benches have it) a guard sets the CPU to take them as
//! zeros, inputs and results, for as long as a thread works on a loop; then the caller's setting is
//! back, also when the loop panics. PyTorch leaves them as they are unless
//! `torch.set_flush_denormal(True)` was called; the difference is below 1.2e-38 per operation.
//!
//! Rust's abstract machine knows no such setting and gives no guarantee: the compiler may move or
//! evaluate a floating-point operation as if the setting were the default. What that can change is
//! whether a denormal number becomes zero, nothing else, and a result with denormal numbers is
//! promised by nobody here. Checked: the tests below at every level, the whole test suite with the
//! feature, and that without the feature this file leaves no instruction behind; sanitizers and Miri
//! see the build without it.
//!
//! * x86-64: MXCSR's FTZ (bit 15) and DAZ (bit 6).
//! * AArch64: FPCR's FZ (bit 24), for inputs and results.
//! * others: nothing (a Cortex-M's FPU handles denormal numbers at full speed).

/// What is done with denormal numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denormals {
    /// They are computed with, as IEEE 754 says.
    Keep,
    /// They are taken as zeros where the build has `flush-denormals` and the CPU can.
    Flush,
}

impl Denormals {
    /// [`Denormals::Flush`] in builds with `flush-denormals`.
    pub const DEFAULT: Denormals = if cfg!(feature = "flush-denormals") { Denormals::Flush } else { Denormals::Keep };
}

/// The CPU's setting of this thread, as it was and will be again.
#[must_use]
pub(crate) struct Guard {
    before: Option<setting::Word>,
}

impl Guard {
    /// Sets this thread's CPU as `denormals` says, until the guard is dropped.
    #[inline]
    pub(crate) fn new(denormals: Denormals) -> Guard {
        if denormals == Denormals::Keep || !cfg!(feature = "flush-denormals") {
            return Guard { before: None };
        }
        let before = setting::get();
        if before & setting::FLUSH == setting::FLUSH {
            return Guard { before: None };
        }
        setting::set(before | setting::FLUSH);
        Guard { before: Some(before) }
    }
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        if let Some(before) = self.before {
            setting::set(before);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod setting {
    use core::arch::asm;

    pub(super) type Word = u32;
    pub(super) const FLUSH: Word = 1 << 15 | 1 << 6;

    #[inline]
    pub(super) fn get() -> Word {
        let mut word: Word = 0;
        // SAFETY: stores MXCSR's 4 bytes to `word`; every x86-64 CPU has it.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack, preserves_flags)) };
        word
    }

    #[inline]
    pub(super) fn set(word: Word) {
        // SAFETY: the bits were read from MXCSR, but for FTZ and DAZ, which every x86-64 CPU has: no
        // reserved bit is set. See the file's first lines on what the compiler knows of this.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack, preserves_flags)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod setting {
    use core::arch::asm;

    pub(super) type Word = u64;
    pub(super) const FLUSH: Word = 1 << 24;

    #[inline]
    pub(super) fn get() -> Word {
        let word: Word;
        // SAFETY: reads FPCR, which every AArch64 CPU with floating point has.
        unsafe { asm!("mrs {}, fpcr", out(reg) word, options(nomem, nostack, preserves_flags)) };
        word
    }

    #[inline]
    pub(super) fn set(word: Word) {
        // SAFETY: the bits were read from FPCR, but for FZ. See the file's first lines on what the
        // compiler knows of this.
        unsafe { asm!("msr fpcr, {}", in(reg) word, options(nostack, preserves_flags)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod setting {
    pub(super) type Word = u8;
    /// No bit: every setting has it.
    pub(super) const FLUSH: Word = 0;

    pub(super) fn get() -> Word {
        0
    }
    pub(super) fn set(_: Word) {}
}

#[cfg(all(test, feature = "flush-denormals", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use super::*;
    use crate::parallel::Chunks;
    use crate::testing::for_each_cpu;
    use crate::{Cpu, elementwise};
    use std::vec;

    const DENORMAL: f32 = 1e-40;

    #[test]
    fn denormal_numbers_are_zeros_only_where_asked() {
        for_each_cpu(|cpu| {
            for (denormals, expected) in [(Denormals::Flush, 0.0), (Denormals::Keep, 2.0 * DENORMAL)] {
                let threads = cpu.threads.clone().with_denormals(denormals);
                let cpu = Cpu { level: cpu.level, threads: &threads };
                let x = vec![DENORMAL; 40_000];
                let mut y = vec![f32::NAN; x.len()];
                elementwise::add(&cpu, &x, &x, &mut y);
                assert!(y.iter().all(|y| *y == expected), "{denormals:?}: {:e}", y[0]);
            }
        });
    }

    #[test]
    fn the_setting_comes_back() {
        let before = setting::get();
        for_each_cpu(|cpu| {
            let (mut parts, flush) = ([(); 8], setting::FLUSH);
            cpu.run(Chunks::new(&mut parts, 1, 8), &mut [], 0, |_, _, _| assert_eq!(setting::get() & flush, flush));
            assert_eq!(setting::get(), before);
            let panic = std::panic::catch_unwind(|| cpu.run(Chunks::new(&mut [(); 8], 1, 8), &mut [], 0, |_, _, _| panic!("a part")));
            assert!(panic.is_err());
            assert_eq!(setting::get(), before);
        });
    }
}
