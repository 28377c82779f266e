//! From a [`Level`] to code compiled for it.

use crate::isa::Isa;
use crate::level::{Kind, Level};

/// A piece of work written once over [`Isa`].
///
/// `run` and everything that it calls must be `#[inline(always)]` (see [`crate::isa`]).
pub(crate) trait Task {
    /// Does the work with the instructions of `isa`.
    fn run<I: Isa>(self, isa: I);
}

impl Level {
    /// Runs `task` compiled for this level.
    #[inline]
    pub(crate) fn run<T: Task>(self, task: T) {
        match self.kind() {
            Kind::Portable => task.run(self.portable()),
            #[cfg(all(feature = "scalar", not(any(target_arch = "arm", target_arch = "riscv32"))))]
            Kind::Scalar => task.run(crate::isa::scalar::Portable),
            #[cfg(target_arch = "aarch64")]
            // SAFETY: a `Level` of this kind is made only where the CPU has NEON.
            Kind::Neon => task.run(unsafe { crate::isa::neon::Neon::new() }),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a `Level` of this kind is made only after the CPU was asked for AVX2 and FMA.
            Kind::Avx2 => unsafe { run_avx2(task) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above, for AVX-512F, AVX2 and FMA.
            Kind::Avx512 => unsafe { run_avx512(task) },
        }
    }
}

/// # Safety
/// The CPU must have AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<T: Task>(task: T) {
    // SAFETY: the caller's duty.
    task.run(unsafe { crate::isa::avx2::Avx2::new() });
}

/// # Safety
/// The CPU must have AVX-512F, AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn run_avx512<T: Task>(task: T) {
    // SAFETY: the caller's duty.
    task.run(unsafe { crate::isa::avx512::Avx512::new() });
}
