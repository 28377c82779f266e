//! From a level to the 8-bit instructions that the CPU has with it, and to code compiled for them.
//!
//! 8-bit products are not tied to the levels of `f32`: a CPU with AVX-512 may have VNNI or not, one with NEON the dot
//! product or not. So the CPU is asked once more, and the results are the same integers whatever it answers.

use super::isa::Bytes;
#[cfg(target_arch = "aarch64")]
use super::isa::neon::Neon;
#[cfg(target_arch = "x86_64")]
use super::isa::{avx2::Avx2, avx512::Avx512};
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
    #[cfg_attr(nunatak_dsp, allow(dead_code))] // tests alone ask for it there
    Scalar,
    #[cfg(nunatak_dsp)]
    Dsp,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "aarch64")]
    NeonDot,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl Way {
    /// The best that the CPU has, and the level allows.
    pub(super) fn of(level: Level) -> Way {
        match level.kind() {
            #[cfg(not(any(target_arch = "arm", target_arch = "riscv32")))]
            Kind::Portable => Way(Instructions::Portable),
            #[cfg(nunatak_dsp)]
            Kind::Portable => Way(Instructions::Dsp),
            #[cfg(all(any(target_arch = "arm", target_arch = "riscv32"), not(nunatak_dsp)))]
            Kind::Portable => Way(Instructions::Scalar),
            #[cfg(all(feature = "scalar", not(any(target_arch = "arm", target_arch = "riscv32"))))]
            Kind::Scalar => Way(Instructions::Scalar),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => Way(if has::dot_product() { Instructions::NeonDot } else { Instructions::Neon }),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => Way(if has::avx_vnni() { Instructions::AvxVnni } else { Instructions::Avx2 }),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 if has::avx512_bw() => Way(if has::avx512_vnni() { Instructions::Avx512Vnni } else { Instructions::Avx512 }),
            // Every CPU with that level has AVX2.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => Way(Instructions::Avx2),
        }
    }

    /// Every one that this CPU has: for tests.
    #[cfg(test)]
    pub(super) fn all() -> impl Iterator<Item = Way> {
        let ways = [
            #[cfg(not(any(target_arch = "arm", target_arch = "riscv32")))]
            (Instructions::Portable, true),
            #[cfg(any(feature = "scalar", target_arch = "arm", target_arch = "riscv32"))]
            (Instructions::Scalar, true),
            #[cfg(nunatak_dsp)]
            (Instructions::Dsp, true),
            #[cfg(target_arch = "aarch64")]
            (Instructions::Neon, Level::by_name("neon").is_ok()),
            #[cfg(target_arch = "aarch64")]
            (Instructions::NeonDot, Level::by_name("neon").is_ok() && has::dot_product()),
            #[cfg(target_arch = "x86_64")]
            (Instructions::Avx2, Level::by_name("avx2").is_ok()),
            #[cfg(target_arch = "x86_64")]
            (Instructions::AvxVnni, Level::by_name("avx2").is_ok() && has::avx_vnni()),
            #[cfg(target_arch = "x86_64")]
            (Instructions::Avx512, Level::by_name("avx512").is_ok() && has::avx512_bw()),
            #[cfg(target_arch = "x86_64")]
            (Instructions::Avx512Vnni, Level::by_name("avx512").is_ok() && has::avx512_bw() && has::avx512_vnni()),
        ];
        ways.into_iter().filter(|(_, there)| *there).map(|(instructions, _)| Way(instructions))
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
            #[cfg(nunatak_dsp)]
            Instructions::Dsp => work.run(super::isa::dsp::Dsp),
            #[cfg(target_arch = "aarch64")]
            // SAFETY: this and all that follow: a `Way` of this kind is made only after the CPU was asked for the instructions.
            Instructions::Neon => work.run(unsafe { Neon::<false>::new() }),
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Instructions::NeonDot => unsafe { run_neon_dot(work) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this and all that follow: a `Way` of this kind is made only after the CPU was asked for the instructions.
            Instructions::Avx2 => unsafe { run_avx2(work) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Instructions::AvxVnni => unsafe { run_avx_vnni(work) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Instructions::Avx512 => unsafe { run_avx512(work) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Instructions::Avx512Vnni => unsafe { run_avx512_vnni(work) },
        }
    }
}

/// # Safety
/// The CPU must have NEON and the dot product.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon,dotprod")]
unsafe fn run_neon_dot<W: Work>(work: W) {
    // SAFETY: the caller's duty.
    work.run(unsafe { Neon::<true>::new() });
}

/// # Safety
/// The CPU must have AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn run_avx2<W: Work>(work: W) {
    // SAFETY: the caller's duty.
    work.run(unsafe { Avx2::<false>::new() });
}

/// # Safety
/// The CPU must have AVX2 and AVX-VNNI.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn run_avx_vnni<W: Work>(work: W) {
    // SAFETY: the caller's duty.
    work.run(unsafe { Avx2::<true>::new() });
}

/// # Safety
/// The CPU must have AVX2, AVX-512F and AVX-512BW.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
unsafe fn run_avx512<W: Work>(work: W) {
    // SAFETY: the caller's duty.
    work.run(unsafe { Avx512::<false>::new() });
}

/// # Safety
/// The CPU must have AVX2, AVX-512F, AVX-512BW and AVX-512 VNNI.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
unsafe fn run_avx512_vnni<W: Work>(work: W) {
    // SAFETY: the caller's duty.
    work.run(unsafe { Avx512::<true>::new() });
}

/// What the CPU has besides its level: asked of it (with `std`), or of the build (without).
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod has {
    macro_rules! features {
        ($($name:ident: $feature:tt),+) => {
            $(#[inline]
            pub(super) fn $name() -> bool {
                #[cfg(all(feature = "std", target_arch = "x86_64"))]
                return std::arch::is_x86_feature_detected!($feature);
                #[cfg(all(feature = "std", target_arch = "aarch64"))]
                return std::arch::is_aarch64_feature_detected!($feature);
                #[cfg(not(feature = "std"))]
                return cfg!(target_feature = $feature);
            })+
        };
    }
    #[cfg(target_arch = "aarch64")]
    features! { dot_product: "dotprod" }
    #[cfg(target_arch = "x86_64")]
    features! {
        avx_vnni: "avxvnni",
        avx512_bw: "avx512bw",
        avx512_vnni: "avx512vnni"
    }
}
