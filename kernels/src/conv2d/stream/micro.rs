//! The innermost loop of the way back: everything else in [`super`] only feeds it.

use super::pairs::Pairs;
use crate::bounds::product;
use crate::isa::Isa;
use crate::sgd::Rule;

/// How far ahead weights are asked for, in numbers: by measuring, 512 to 2048 serve alike.
const AHEAD: usize = 1024;

/// What becomes of a range of weights, `[channels][taps][block]`.
pub(crate) enum Weights<'a, V> {
    /// They are only read.
    Read(&'a [f32]),
    /// Their gradient is written, or added to.
    Gradient(&'a mut [f32], bool),
    /// They are stepped: the weights, their momentum (empty where there is none), the rule.
    Step(&'a mut [f32], &'a mut [f32], Rule<V>),
}

/// What stays the same from block to block.
pub(crate) struct Fixed<'a> {
    pub(crate) pairs: &'a Pairs,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) block: usize,
    pub(crate) channels: usize,
    /// dy by tap, see [`Pairs::arrange`].
    pub(crate) dy: &'a [f32],
    /// `[channels][slots]`; not read where weights are only read.
    pub(crate) x: &'a [f32],
}

impl Fixed<'_> {
    /// # Panics
    /// If a class has a tap, a slot or a row that is not there: then none of the places that [`channels`]
    /// computes wraps or leaves the slices, whose lengths are compared with the same products.
    fn check(&self) {
        let Fixed { pairs, kernel, stride, .. } = *self;
        for class in pairs.classes() {
            let there = |d: usize| {
                let Some(more) = class.taps[d].checked_sub(1) else { return true };
                more.checked_mul(stride).and_then(|last| last.checked_add(class.tap[d])).is_some_and(|last| last < kernel)
            };
            assert!(there(0) && there(1), "taps of a class");
            let slots = product(&[class.groups, pairs.rows]);
            assert!(slots <= pairs.slots && class.slot <= pairs.slots - slots, "slots of a class");
            let rows = product(&[slots, class.taps[0], class.taps[1]]);
            assert!(rows <= pairs.dy_rows && class.row <= pairs.dy_rows - rows, "rows of a class");
        }
    }
}

/// Where a gradient goes.
trait Sink<I: Isa>: Copy {
    /// A gradient is wanted.
    const GRADIENT: bool;
    /// The weights are needed for it.
    const WEIGHTS: bool;
    /// # Safety
    /// `at` and the lanes after it lie inside the range.
    unsafe fn take(self, isa: I, at: usize, w: I::V, dw: I::V);
    /// Asks for what `take` will read or write at `at`.
    fn prefetch(self, isa: I, at: usize);
}

#[derive(Clone, Copy)]
struct None;

impl<I: Isa> Sink<I> for None {
    const GRADIENT: bool = false;
    const WEIGHTS: bool = false;
    #[inline(always)]
    unsafe fn take(self, _: I, _: usize, _: I::V, _: I::V) {}
    #[inline(always)]
    fn prefetch(self, _: I, _: usize) {}
}

#[derive(Clone, Copy)]
struct Keep {
    dw: *mut f32,
    add: bool,
}

impl<I: Isa> Sink<I> for Keep {
    const GRADIENT: bool = true;
    const WEIGHTS: bool = false;
    #[inline(always)]
    unsafe fn take(self, isa: I, at: usize, _: I::V, dw: I::V) {
        let to = self.dw.wrapping_add(at);
        // SAFETY: the caller's duty.
        unsafe {
            let sum = if self.add { isa.add(isa.load_at(to), dw) } else { dw };
            isa.store_at(sum, to);
        }
    }
    #[inline(always)]
    fn prefetch(self, isa: I, at: usize) {
        isa.prefetch(self.dw.wrapping_add(at));
    }
}

/// `USUAL`: the rule is the usual one.
#[derive(Clone, Copy)]
struct Step<V, const USUAL: bool> {
    w: *mut f32,
    momentum: *mut f32,
    rule: Rule<V>,
}

impl<I: Isa, const USUAL: bool> Sink<I> for Step<I::V, USUAL> {
    const GRADIENT: bool = true;
    const WEIGHTS: bool = true;
    #[inline(always)]
    unsafe fn take(self, isa: I, at: usize, w: I::V, dw: I::V) {
        let momentum = self.momentum.wrapping_add(at);
        let rule = if USUAL { self.rule.usual() } else { self.rule };
        // SAFETY: the caller's duty; where there is no momentum nothing is read or written.
        unsafe {
            let old = if rule.buffered && !rule.first { isa.load_at(momentum) } else { dw };
            let (w, new) = rule.step(isa, w, dw, old);
            if rule.buffered {
                isa.store_at(new, momentum);
            }
            isa.store_at(w, self.w.wrapping_add(at));
        }
    }
    #[inline(always)]
    fn prefetch(self, isa: I, at: usize) {
        if USUAL || self.rule.buffered {
            isa.prefetch(self.momentum.wrapping_add(at));
        }
    }
}

/// One block of output channels, for a range of input channels:
///
/// * `sums[c][slot] += Σ over taps and lanes: w[c][tap]·dy[tap][slot]` as vectors whose lanes are still
///   to be added (where `INPUT`);
/// * `dw[c][tap] = Σ over slots: x[c][slot]·dy[tap][slot]` (where `weights` ask for it).
///
/// `partial` has room for one channel's gradient.
///
/// # Panics
/// If a slice is too short.
#[inline(always)]
pub(crate) fn walk<I: Isa, const R: usize, const INPUT: bool>(
    isa: I,
    fixed: &Fixed,
    weights: &mut Weights<I::V>,
    sums: &mut [f32],
    partial: &mut [f32],
) {
    fixed.check();
    let numbers = product(&[fixed.channels, fixed.kernel, fixed.kernel, fixed.block]);
    match weights {
        Weights::Read(w) => {
            assert!(w.len() >= numbers);
            channels::<I, R, true, _>(isa, fixed, w.as_ptr(), None, sums, partial);
        }
        Weights::Gradient(dw, add) => {
            assert!(dw.len() >= numbers);
            let sink = Keep { dw: dw.as_mut_ptr(), add: *add };
            channels::<I, R, false, _>(isa, fixed, dw.as_ptr(), sink, sums, partial);
        }
        Weights::Step(w, momentum, rule) => {
            assert!(w.len() >= numbers && (!rule.buffered || momentum.len() >= numbers));
            let (w, momentum, rule) = (w.as_mut_ptr(), momentum.as_mut_ptr(), *rule);
            // With more slots arithmetic is the bound, and without the rule's questions between them the compiler
            // holds every dy in a register beside every sum, more than there are.
            if rule.is_usual() && R <= I::ROWS {
                channels::<I, R, INPUT, _>(isa, fixed, w, Step::<_, true> { w, momentum, rule }, sums, partial);
            } else {
                channels::<I, R, INPUT, _>(isa, fixed, w, Step::<_, false> { w, momentum, rule }, sums, partial);
            }
        }
    }
}

/// Adds vectors to the sums that lie one after the other from `to`.
///
/// # Safety
/// Memory of so many vectors is there, and nothing else refers to it.
#[inline(always)]
unsafe fn add_at<I: Isa>(isa: I, vectors: &[I::V], to: *mut f32) {
    for (r, v) in vectors.iter().enumerate() {
        // SAFETY: the caller's.
        unsafe {
            let to = to.add(r * I::LANES);
            isa.store_at(isa.add(isa.load_at(to), *v), to);
        }
    }
}

/// # Panics
/// If a slice other than the weights is too short; those, and the classes, are checked by [`walk`].
#[inline(always)]
fn channels<I: Isa, const R: usize, const INPUT: bool, S: Sink<I>>(
    isa: I,
    fixed: &Fixed,
    w: *const f32,
    sink: S,
    sums: &mut [f32],
    partial: &mut [f32],
) {
    let Fixed { pairs, kernel, stride, block, channels, dy, x } = *fixed;
    let taps = product(&[kernel, kernel]);
    let slots = product(&[channels, pairs.slots]);
    assert!(pairs.rows == R && block.is_multiple_of(I::LANES) && dy.len() >= product(&[pairs.dy_rows, block]));
    assert!(!S::GRADIENT || x.len() >= slots && partial.len() >= product(&[taps, block]));
    assert!(!INPUT || sums.len() >= product(&[slots, I::LANES]));
    let (dy, x, sums, partial) = (dy.as_ptr(), x.as_ptr(), sums.as_mut_ptr(), partial.as_mut_ptr());
    for c in 0..channels {
        let x = x.wrapping_add(c * pairs.slots);
        let sums = sums.wrapping_add(c * pairs.slots * I::LANES);
        for class in pairs.classes() {
            for group in 0..class.groups.max(1) {
                // A class without pixels: its taps' gradient is zero.
                let there = class.groups > 0;
                let slot = class.slot + group * R;
                let mut dy = dy.wrapping_add((class.row + group * class.taps[0] * class.taps[1] * R) * block);
                let mut acc = [isa.splat(0.0); R];
                for i in 0..class.taps[0] {
                    for j in 0..class.taps[1] {
                        let tap = (class.tap[0] + i * stride) * kernel + class.tap[1] + j * stride;
                        let at = (c * taps + tap) * block;
                        for v in (0..block).step_by(I::LANES) {
                            if group == 0 {
                                isa.prefetch(w.wrapping_add(at + v + AHEAD));
                                sink.prefetch(isa, at + v + AHEAD);
                            }
                            // SAFETY: c < channels, tap < taps, v < block: inside the weights, whose length
                            // `walk` has checked, as inside the gradients and the momentum.
                            let weight = if INPUT || S::WEIGHTS { unsafe { isa.load_at(w.add(at + v)) } } else { isa.splat(0.0) };
                            // Two chains, so that neither waits for the other.
                            let mut dws = [isa.splat(0.0); 2];
                            if there {
                                for (r, acc) in acc.iter_mut().enumerate() {
                                    // SAFETY: `dy` has moved R vectors for each vector before this one, all of
                                    // them among the `dy_rows` rows that were checked.
                                    let d = unsafe { isa.load_at(dy.add(r * I::LANES)) };
                                    if INPUT {
                                        *acc = isa.fma(weight, d, *acc);
                                    }
                                    if S::GRADIENT {
                                        // SAFETY: the slots of this group of this channel.
                                        let x = isa.splat(unsafe { *x.add(slot + r) });
                                        dws[r % 2] = isa.fma(x, d, dws[r % 2]);
                                    }
                                }
                                dy = dy.wrapping_add(R * I::LANES);
                            }
                            let mut dw = isa.add(dws[0], dws[1]);
                            if S::GRADIENT {
                                let sum = partial.wrapping_add(tap * block + v);
                                // SAFETY: `partial` has taps·block numbers; `at` and `v` as above.
                                unsafe {
                                    if group > 0 {
                                        dw = isa.add(isa.load_at(sum), dw);
                                    }
                                    if group + 1 < class.groups {
                                        isa.store_at(dw, sum);
                                    } else {
                                        sink.take(isa, at + v, weight, dw);
                                    }
                                }
                            }
                        }
                    }
                }
                if INPUT && there {
                    // SAFETY: the slots of this group of this channel.
                    unsafe { add_at(isa, &acc, sums.wrapping_add(slot * I::LANES)) };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Conv2d;
    use super::*;
    use crate::dispatch::Task;
    use crate::testing::{for_each_cpu, panics};

    const HALF: usize = 1 << (usize::BITS - 1);

    /// The gradient of two input channels of a block, and dx.
    #[derive(Clone, Copy)]
    struct Walk {
        pairs: Pairs,
        kernel: usize,
        stride: usize,
        block: usize,
        channels: usize,
    }

    impl Task for Walk {
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            let Walk { pairs, kernel, stride, block, channels } = self;
            let (dy, x) = ([1.0; 2048], [1.0; 64]);
            let (mut w, mut dw, mut sums, mut partial) = ([1.0; 288], [0.0; 288], [0.0; 512], [0.0; 144]);
            let fixed = Fixed { pairs: &pairs, kernel, stride, block, channels, dy: &dy, x: &x };
            walk::<I, 4, true>(isa, &fixed, &mut Weights::Gradient(&mut dw, false), &mut sums, &mut partial);
            walk::<I, 4, true>(isa, &fixed, &mut Weights::Read(&w), &mut sums, &mut partial);
            let rule = Rule::new(isa, &crate::sgd::Sgd::new(0.1), false);
            walk::<I, 4, true>(isa, &fixed, &mut Weights::Step(&mut w, &mut [], rule), &mut sums, &mut partial);
        }
    }

    #[test]
    fn walks_over_sizes_that_wrap_are_refused() {
        let conv = Conv2d::new([1, 3, 3, 2], 16, 3, 1, 1).expect("a convolution");
        let pairs = Pairs::new(&conv.uniform().expect("a square filter"), 4);
        let fits = Walk { pairs, kernel: 3, stride: 1, block: 16, channels: 2 };
        let classes = |change: &dyn Fn(&mut Pairs)| {
            let mut pairs = pairs;
            change(&mut pairs);
            Walk { pairs, ..fits }
        };
        let cases = [
            Walk { channels: 3, ..fits },
            Walk { channels: HALF, ..fits },
            Walk { channels: usize::MAX / 144 + 2, ..fits }, // channels · 9 · 16 wraps to less than 288
            Walk { kernel: 2, ..fits },                      // a tap beyond it
            Walk { kernel: 1 << (usize::BITS / 2), ..fits }, // its square wraps to 0
            Walk { stride: HALF, ..fits },                   // twice the stride wraps to 0
            Walk { stride: HALF + 1, ..fits },
            Walk { stride: 2, ..fits },
            Walk { block: HALF, ..fits },
            Walk { block: 32, ..fits },
            classes(&|p| p.rows = 8),
            classes(&|p| p.slots = 8),
            classes(&|p| p.slots = HALF), // two channels' wrap to 0
            classes(&|p| p.dy_rows -= 1),
            classes(&|p| p.dy_rows = HALF / 8), // 16 of them wrap to 0
            classes(&|p| p.class(0).groups += 1),
            classes(&|p| p.class(0).groups = HALF / 2 + 1),
            classes(&|p| p.class(0).slot = usize::MAX),
            classes(&|p| p.class(0).slot = 4),
            classes(&|p| p.class(0).row = usize::MAX - 3),
            classes(&|p| p.class(0).row = 1),
            classes(&|p| p.class(0).tap = [usize::MAX, 0]),
            classes(&|p| p.class(0).tap = [1, 0]),
            classes(&|p| p.class(0).taps = [HALF, 2]),
            classes(&|p| p.class(0).taps = [3, 4]),
        ];
        for_each_cpu(|cpu| {
            cpu.level.run(fits);
            for (i, walk) in cases.into_iter().enumerate() {
                assert!(panics(|| cpu.level.run(walk)), "case {i} at {}", cpu.level);
            }
        });
    }
}
