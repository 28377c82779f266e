//! The layout in which weights, their gradients and their momentum live from load to save.
//!
//! A weight of `k` output channels, each of which reads `c` input channels through `taps` filter positions
//! (1 for a linear layer), lies as `[k / block][c][taps][block]`: blocks of 16 or 32 output channels side by
//! side, so that one layout serves every instruction set and every pass. Forward streams a block with the
//! vectors along its output channels; the weight's gradient is written the same way; the input's
//! gradient reads it transposed. Output channels beyond `k` are zeros (at most 15) and stay zeros:
//! their gradient is zero.
//!
//! A convolution with groups has the same layout, where `c` is the input channels *of a group*, as in
//! PyTorch's `[k][c / groups][kernel][kernel]`. So the layout follows from the shape of PyTorch's tensor alone. For
//! a depthwise convolution `c` is 1: each tap has a vector of channels, as the kernel wants it.

use nunatak_core::{Error, Shape};

/// The sizes of a weight. The number of elements fits the address space, zeros included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WeightLayout {
    k: u32,
    c: u32,
    taps: u32,
}

/// Block of output channels for `channels` of them: 32, or 16 where that saves a half-empty block.
pub const fn block(channels: usize) -> usize {
    if channels.next_multiple_of(32) == channels.next_multiple_of(16) { 32 } else { 16 }
}

impl WeightLayout {
    /// The layout of `k` output channels that read `c` input channels each (those of one group) through `taps`
    /// filter positions (height times width).
    ///
    /// # Errors
    /// [`Error`] where a size is zero, or the weight does not fit the address space.
    pub fn new(k: usize, c: usize, taps: usize) -> Result<WeightLayout, Error> {
        Shape::new(k, c, taps, 1)?;
        let padded = k.checked_next_multiple_of(16).ok_or(Error::TooLarge { shape: [k, c, taps, 1] })?;
        Shape::new(padded, c, taps, 1)?;
        Ok(Self::of(k, c, taps))
    }

    /// The layout of sizes that were checked before.
    pub(crate) const fn of(k: usize, c: usize, taps: usize) -> WeightLayout {
        WeightLayout { k: k as u32, c: c as u32, taps: taps as u32 }
    }

    /// Output channels.
    #[inline(always)]
    pub const fn k(&self) -> usize {
        self.k as usize
    }
    /// Input channels that an output channel reads: those of one group.
    #[inline(always)]
    pub const fn c(&self) -> usize {
        self.c as usize
    }
    /// Filter positions: height times width.
    #[inline(always)]
    pub const fn taps(&self) -> usize {
        self.taps as usize
    }
    /// Output channels in a block.
    #[inline(always)]
    pub const fn block(&self) -> usize {
        block(self.k())
    }
    /// Number of blocks.
    #[inline(always)]
    pub const fn blocks(&self) -> usize {
        self.k().div_ceil(self.block())
    }
    /// Numbers of one block of output channels.
    #[inline(always)]
    pub const fn block_len(&self) -> usize {
        self.c() * self.taps() * self.block()
    }
    /// Numbers in all, zeros included.
    #[allow(clippy::len_without_is_empty)]
    #[inline(always)]
    pub const fn len(&self) -> usize {
        self.blocks() * self.block_len()
    }
    /// Numbers of PyTorch's tensor: without the zeros.
    pub const fn numbers(&self) -> usize {
        self.k() * self.c() * self.taps()
    }
    /// Where the weight of output channel `k`, input channel `c` (of its group) and tap `t` lies.
    #[inline(always)]
    pub const fn index(&self, k: usize, c: usize, t: usize) -> usize {
        let block = self.block();
        (((k / block) * self.c() + c) * self.taps() + t) * block + k % block
    }

    /// Where element `i` of PyTorch's order `[k][c][taps]` lies.
    pub const fn index_of(&self, i: usize) -> usize {
        let t = i % self.taps();
        let c = i / self.taps() % self.c();
        self.index(i / self.taps() / self.c(), c, t)
    }

    /// From PyTorch's order `[k][c][taps]`; overwrites `packed`.
    ///
    /// # Panics
    /// If a slice has another length than the layout says.
    pub fn pack(&self, oihw: &[f32], packed: &mut [f32]) {
        assert_eq!((oihw.len(), packed.len()), (self.numbers(), self.len()));
        self.for_each_square(|oihw_at, packed_at, k, count| {
            let block = self.block();
            let (from, to) = (&oihw[oihw_at..], &mut packed[packed_at..]);
            for i in 0..count {
                let to = &mut to[i * block..][..block];
                to[k..].fill(0.0);
                for (r, y) in to[..k].iter_mut().enumerate() {
                    *y = from[r * self.c() * self.taps() + i];
                }
            }
        });
    }

    /// Makes room for more output channels: what lies at the front of `packed` in the layout `old`, which has fewer,
    /// lies in this layout afterwards, and the new channels are zeros. No number that was there changes, and nothing
    /// is copied elsewhere: a board has no room for a second weight.
    ///
    /// # Panics
    /// If `packed` has another length than this layout says, or `old` has more output channels, or others that each reads.
    pub fn grow(&self, old: WeightLayout, packed: &mut [f32]) {
        assert!(old.k <= self.k && (old.c, old.taps) == (self.c, self.taps), "from {old:?} to {self:?}");
        assert_eq!(packed.len(), self.len());
        packed[old.len()..].fill(0.0);
        // A block of 32 channels is two of 16 whose vectors lie in turn.
        let (half, row) = (16, self.c() * self.taps());
        let windows = packed.chunks_exact_mut(2 * half * row);
        match (old.block(), self.block()) {
            (16, 32) => windows.for_each(|window| shuffle(window, |i| if i < row { 2 * i } else { 2 * (i - row) + 1 })),
            (32, 16) => windows.for_each(|window| shuffle(window, |i| i / 2 + row * (i % 2))),
            _ => {}
        }
    }

    /// Calls with squares of the two orders that fit the first-level cache together: the places where
    /// they begin, the rows k that exist in the block, and the columns (c, tap).
    fn for_each_square(&self, mut each: impl FnMut(usize, usize, usize, usize)) {
        let (block, row) = (self.block(), self.c() * self.taps());
        for k in (0..self.k()).step_by(block) {
            for i in (0..row).step_by(16) {
                each(k * row + i, self.index(k, 0, 0) + i * block, block.min(self.k() - k), 16.min(row - i));
            }
        }
    }

    /// To PyTorch's order `[k][c][taps]`; overwrites `oihw`.
    ///
    /// # Panics
    /// If a slice has another length than the layout says.
    pub fn unpack(&self, packed: &[f32], oihw: &mut [f32]) {
        assert_eq!((oihw.len(), packed.len()), (self.numbers(), self.len()));
        self.for_each_square(|oihw_at, packed_at, k, count| {
            let (to, from) = (&mut oihw[oihw_at..], &packed[packed_at..]);
            for r in 0..k {
                for i in 0..count {
                    to[r * self.c() * self.taps() + i] = from[i * self.block() + r];
                }
            }
        });
    }
}

/// Brings vectors of 16 numbers into another order, in place: the one at `i` goes to `to(i)`, which is a permutation.
fn shuffle(window: &mut [f32], to: impl Fn(usize) -> usize) {
    let (vectors, _) = window.as_chunks_mut::<16>();
    for first in 0..vectors.len() {
        // Each cycle is walked once, from its lowest place.
        let mut at = to(first);
        while at > first {
            at = to(at);
        }
        if at < first {
            continue;
        }
        let (mut carried, mut at) = (vectors[first], to(first));
        while at != first {
            core::mem::swap(&mut carried, &mut vectors[at]);
            at = to(at);
        }
        vectors[first] = carried;
    }
}
