//! The vocabulary of the 8-bit kernels: 16 sums at a time, one for each output channel of a block.
//!
//! As with [`crate::isa::Isa`], a value of a type that implements [`Bytes`] is proof that the CPU has the instructions,
//! and every function on the way from [`super::dispatch`] to an operation must be `#[inline(always)]`.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
#[cfg(nunatak_dsp)]
pub(super) mod dsp;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
#[cfg(not(any(target_arch = "arm", target_arch = "riscv32")))]
pub(super) mod portable;
#[cfg(any(feature = "scalar", target_arch = "arm", target_arch = "riscv32"))]
pub(super) mod scalar;

use super::BLOCK;
use super::table::Rescale;

/// What a pixel of a product reads: runs of bytes, and as many groups of 4 weights for each output channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    /// Lines of runs, and how far apart they begin.
    pub(super) lines: usize,
    pub(super) line: usize,
    /// Runs of a line, and how far apart they begin.
    pub(super) columns: usize,
    pub(super) column: usize,
    /// Groups of 4 bytes in a run.
    pub(super) fours: usize,
}

/// Operations on blocks of 16 sums. All sums wrap.
pub(super) trait Bytes: Copy + Send + Sync {
    /// 16 sums.
    type Sums: Copy;
    /// 16 bytes or weights, as [`Bytes::multiply_add`] takes them.
    type Wide: Copy;
    /// The formula's numbers for a block of output channels, as [`Bytes::bytes`] takes them.
    type Scale: Copy;
    /// The most pixels of a register tile: 1 to 8.
    const PIXELS: usize;
    /// The most blocks of a register tile: 1 or 2.
    const BLOCKS: usize;
    /// Whether the registers hold a few sums alone. Then a depthwise convolution takes 4 channels at a time, and there are
    /// tiles of [`Bytes::PIXELS`] pixels alone: a tile at the end computes some pixels again.
    const FEW: bool = false;
    /// Whether [`Bytes::tile`] takes bytes as numbers that are smaller by 128: the sums begin with what makes up for it.
    const SHIFTED: bool = false;

    /// Sums that begin with these.
    fn start(self, bias: &[i32; BLOCK]) -> Self::Sums;
    /// 16 bytes.
    fn wide(self, x: &[u8; BLOCK]) -> Self::Wide;
    /// 16 weights.
    fn wide_weights(self, w: &[i8; BLOCK]) -> Self::Wide;
    /// `sums + x · w`, each for itself.
    fn multiply_add(self, sums: Self::Sums, x: Self::Wide, w: Self::Wide) -> Self::Sums;
    /// The formula's numbers.
    fn scale(self, rescale: &Rescale, multipliers: &[i32; BLOCK]) -> Self::Scale;
    /// The bytes that the formula makes of 16 sums.
    fn bytes(self, sums: Self::Sums, scale: &Self::Scale, residual: Option<&[u8; BLOCK]>) -> [u8; BLOCK];

    /// The register tile: `start[b] + Σ x · w` for `P` pixels that begin at `x` and `B` blocks whose weights begin at `w`.
    ///
    /// # Safety
    /// Each of `x` must be readable for every byte that `walk` names, each of `w` for 64 weights to each group of 4 bytes.
    unsafe fn tile<const P: usize, const B: usize>(
        self,
        x: [*const u8; P],
        walk: &Walk,
        w: [*const i8; B],
        start: [Self::Sums; B],
    ) -> [[Self::Sums; B]; P];

    /// 128 · Σ w of a block of `fours` groups of 4 weights: what [`Bytes::SHIFTED`] asks for.
    ///
    /// # Safety
    /// `w` must be readable for 64 · `fours` weights.
    #[inline(always)]
    unsafe fn shifted(self, w: *const i8, fours: usize) -> [i32; BLOCK] {
        let _ = (w, fours);
        [0; BLOCK]
    }
}

/// Instruction sets that multiply 4 bytes of a pixel with the weights of a block at once. Boards have none of them.
#[cfg(not(any(target_arch = "arm", target_arch = "riscv32")))]
pub(super) trait Fours: Bytes {
    /// 4 weights of each of 16 output channels.
    type Weights: Copy;
    /// 4 bytes, for all output channels.
    type Four: Copy;

    /// # Safety
    /// `w` must be readable for 64 weights.
    unsafe fn weights(self, w: *const i8) -> Self::Weights;
    /// # Safety
    /// `x` must be readable for 4 bytes.
    unsafe fn four(self, x: *const u8) -> Self::Four;
    /// `sums + Σ x · w` over the 4.
    fn dot(self, sums: Self::Sums, x: Self::Four, w: Self::Weights) -> Self::Sums;
}

/// [`Bytes::tile`] by [`Fours`]: weights are read once for all pixels, bytes once for all blocks.
///
/// # Safety
/// As [`Bytes::tile`].
#[cfg(not(any(target_arch = "arm", target_arch = "riscv32")))]
#[inline(always)]
#[allow(clippy::needless_range_loop)] // plain loops of constant length: their arrays live in registers
pub(super) unsafe fn tile<I: Fours, const P: usize, const B: usize>(
    isa: I,
    x: [*const u8; P],
    walk: &Walk,
    mut w: [*const i8; B],
    start: [I::Sums; B],
) -> [[I::Sums; B]; P] {
    let mut sums = [start; P];
    for line in 0..walk.lines {
        for column in 0..walk.columns {
            let first = line * walk.line + column * walk.column;
            for at in (first..first + 4 * walk.fours).step_by(4) {
                // SAFETY: the caller's duty: one of the places that `walk` names, and its weights.
                unsafe {
                    let mut weights = [isa.weights(w[0]); B];
                    for b in 1..B {
                        weights[b] = isa.weights(w[b]);
                    }
                    for p in 0..P {
                        let four = isa.four(x[p].add(at));
                        for b in 0..B {
                            sums[p][b] = isa.dot(sums[p][b], four, weights[b]);
                        }
                    }
                }
                for b in 0..B {
                    w[b] = w[b].wrapping_add(64);
                }
            }
        }
    }
    sums
}
