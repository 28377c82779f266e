//! From a level to the 8-bit instructions that the CPU has with it, and to code compiled for them.
//!
//! 8-bit products are not tied to the levels of `f32`: a CPU with AVX-512 may have VNNI or not, one with NEON the dot
//! product or not. So the CPU is asked once more, and the results are the same integers whatever it answers.

use super::isa::Bytes;
use crate::Level;
use crate::level::Kind;

/// A piece of work written once over [`Bytes`].
///
/// `run` and everything that it calls must be `#[inline(always)]`, as for [`crate::Task`].
pub(super) trait Work {
    /// Does the work with the instructions of `isa`.
    fn run<I: Bytes>(self, isa: I);
}

/// Instructions that this CPU has: a value of this type is the proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Way(Instructions);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Instructions {
    #[cfg(not(any(target_arch = "arm", target_arch = "riscv32")))]
    Portable,
    #[cfg(any(feature = "scalar", target_arch = "arm", target_arch = "riscv32"))]
    Scalar,
}

impl Way {
    /// The best that the CPU has, and the level allows.
    pub(super) fn of(level: Level) -> Way {
        match level.kind() {
            #[cfg(not(any(target_arch = "arm", target_arch = "riscv32")))]
            Kind::Portable => Way(Instructions::Portable),
            #[cfg(any(target_arch = "arm", target_arch = "riscv32"))]
            Kind::Portable => Way(Instructions::Scalar),
            #[cfg(all(feature = "scalar", not(any(target_arch = "arm", target_arch = "riscv32"))))]
            Kind::Scalar => Way(Instructions::Scalar),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => Way(Instructions::Portable),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => Way(Instructions::Portable),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => Way(Instructions::Portable),
        }
    }

    /// Whether its kernels are [`Bytes::SHIFTED`].
    pub(super) fn shifted(self) -> bool {
        struct Ask<'a>(&'a mut bool);
        impl Work for Ask<'_> {
            #[inline(always)]
            fn run<I: Bytes>(self, _: I) {
                *self.0 = I::SHIFTED;
            }
        }
        let mut shifted = false;
        self.run(Ask(&mut shifted));
        shifted
    }

    /// Runs `work` compiled for these instructions.
    #[inline]
    pub(super) fn run<W: Work>(self, work: W) {
        match self.0 {
            #[cfg(not(any(target_arch = "arm", target_arch = "riscv32")))]
            Instructions::Portable => work.run(super::isa::portable::Portable),
            #[cfg(any(feature = "scalar", target_arch = "arm", target_arch = "riscv32"))]
            Instructions::Scalar => work.run(super::isa::scalar::Scalar),
        }
    }
}
