//! Maximum over windows: ResNet18's stem has one of 3x3 with stride 2 and padding 1.
//!
//! `y[oy][ox] = max x[oy·stride + ky − pad][ox·stride + kx − pad]` over ky, kx below `kernel`, and the
//! winner's place `ky·kernel + kx` as one byte; the gradient goes to the winner. PyTorch's rules: the
//! windows are scanned row by row, the first of equal values wins, NaN wins over all numbers and the
//! last NaN gives the place, padding is never chosen (an all −∞ window takes its first cell), sizes
//! are rounded down.
//!
//! Backward gathers: a thread owns input lines and looks for the windows that chose from them, so
//! that overlapping windows need no locks and sums have one order.

use crate::bounds::product;
pub mod windows;

use crate::isa::Isa;
use crate::lanes::{MOST, load_padded, store_padded};
use crate::{Cpu, Task, parallel::Chunks};
use nunatak_core::shape::windows;

/// A max-pooling's numbers: `n` images of `h` x `w` with `c` channels (channels last).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MaxPool {
    /// Images.
    pub n: usize,
    /// Input lines.
    pub h: usize,
    /// Input columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// Height and width of the window: 1 to 15.
    pub kernel: usize,
    /// Step of the window in both directions: at least 1.
    pub stride: usize,
    /// Cells around the input on every side, which are never chosen: at most half the window.
    pub pad: usize,
}

impl MaxPool {
    /// Output lines: ⌊(h + 2·pad − kernel) / stride⌋ + 1.
    ///
    /// # Panics
    /// Where there is no window, as [`nunatak_core::shape::windows`] says; so in all that follows.
    pub const fn out_h(&self) -> usize {
        self.windows(self.h)
    }
    /// Output columns.
    pub const fn out_w(&self) -> usize {
        self.windows(self.w)
    }
    /// Numbers in x.
    ///
    /// # Panics
    /// If they do not fit the address space; so in all that follows.
    pub const fn x_len(&self) -> usize {
        product(&[self.n, self.h, self.w, self.c])
    }
    /// Numbers in y and index.
    pub const fn y_len(&self) -> usize {
        product(&[self.n, self.out_h(), self.out_w(), self.c])
    }

    const fn windows(&self, len: usize) -> usize {
        match windows(len, self.kernel, self.stride, self.pad) {
            Ok(windows) => windows,
            Err(_) => panic!("a window or stride of zero, or a window that is larger than the padded image"),
        }
    }

    pub(crate) fn check(&self, x: usize, y: usize) {
        assert!((1..=15).contains(&self.kernel), "a window of {} cells a side: 1 to 15 are possible", self.kernel);
        assert!(self.stride > 0 && self.pad <= self.kernel / 2, "stride {}, pad {}, kernel {}", self.stride, self.pad, self.kernel);
        let least = self.h.min(self.w);
        assert!(least > 0 && self.kernel <= least.saturating_add(2 * self.pad), "a window of {} over {} x {}", self.kernel, self.h, self.w);
        assert_eq!(x, self.x_len(), "the input of {self:?}");
        assert_eq!(y, self.y_len(), "the output of {self:?}");
    }
}

/// The maxima, and where they were.
///
/// | name | shape | |
/// |---|---|---|
/// | `x` | n x h x w x c | read |
/// | `y` | n x out_h x out_w x c | overwritten |
/// | `index` | as `y` | overwritten: for [`backward_input`] |
///
/// No scratch. Reference: [`crate::reference::maxpool::forward`].
///
/// # Panics
/// If a length is wrong, or the window too large.
pub fn forward(cpu: &Cpu, p: &MaxPool, x: &[f32], y: &mut [f32], index: &mut [u8]) {
    p.check(x.len(), y.len());
    assert_eq!(index.len(), y.len(), "the places of {p:?}");
    if y.is_empty() {
        return;
    }
    let (line, lines) = (p.out_w() * p.c, p.n * p.out_h());
    cpu.run((Chunks::new(y, line, lines), Chunks::new(index, line, lines)), &mut [], 0, |i, (y, index), _| {
        cpu.level.run(ForwardTask::<true> { p, x, line: i, y, index });
    });
}

/// The maxima alone, where no backward pass follows: as [`forward`] without `index`.
///
/// # Panics
/// If a length is wrong, or the window too large.
pub fn forward_only(cpu: &Cpu, p: &MaxPool, x: &[f32], y: &mut [f32]) {
    p.check(x.len(), y.len());
    if y.is_empty() {
        return;
    }
    cpu.run(Chunks::new(y, p.out_w() * p.c, p.n * p.out_h()), &mut [], 0, |i, y, _| {
        cpu.level.run(ForwardTask::<false> { p, x, line: i, y, index: &mut [] });
    });
}

/// `dx` = for every cell the sum of `dy` over the windows that chose it.
///
/// | name | shape | |
/// |---|---|---|
/// | `dy` | n x out_h x out_w x c | read |
/// | `index` | as `dy` | read: as [`forward`] left it |
/// | `dx` | n x h x w x c | overwritten |
///
/// No scratch. Reference: [`crate::reference::maxpool::backward_input`].
///
/// # Panics
/// If a length is wrong, or the window too large.
pub fn backward_input(cpu: &Cpu, p: &MaxPool, dy: &[f32], index: &[u8], dx: &mut [f32]) {
    p.check(dx.len(), dy.len());
    assert_eq!(index.len(), dy.len(), "the places of {p:?}");
    if dx.is_empty() {
        return;
    }
    cpu.run(Chunks::new(dx, p.w * p.c, p.n * p.h), &mut [], 0, |i, dx, _| {
        cpu.level.run(BackwardTask { p, dy, index, line: i, dx });
    });
}

/// One line of outputs.
pub(crate) struct ForwardTask<'a, const INDEX: bool> {
    pub(crate) p: &'a MaxPool,
    pub(crate) x: &'a [f32],
    /// The line's number over all images.
    pub(crate) line: usize,
    pub(crate) y: &'a mut [f32],
    pub(crate) index: &'a mut [u8],
}

impl<const INDEX: bool> Task for ForwardTask<'_, INDEX> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        if self.p.c >= I::LANES {
            self.line::<I, true>(isa);
        } else {
            self.line::<I, false>(isa);
        }
    }
}

impl<const INDEX: bool> ForwardTask<'_, INDEX> {
    /// With or without whole vectors of channels.
    #[inline(always)]
    fn line<I: Isa, const WHOLE: bool>(self, isa: I) {
        let p = self.p;
        let lanes = if WHOLE { I::LANES } else { p.c };
        let (n, oy) = (self.line / p.out_h(), self.line % p.out_h());
        let rows = inside(oy * p.stride, p.pad, p.kernel, p.h);
        let image = &self.x[n * p.h * p.w * p.c..][..p.h * p.w * p.c];
        for ox in 0..p.out_w() {
            let columns = inside(ox * p.stride, p.pad, p.kernel, p.w);
            let first = ((oy * p.stride + rows.start - p.pad) * p.w + ox * p.stride + columns.start - p.pad) * p.c;
            let mut at = 0;
            while at < p.c {
                // The last vector may overlap the one before: it finds the same again.
                let c = at.min(p.c - lanes);
                let mut best = load::<I, WHOLE>(isa, &image[first + c..][..lanes]);
                let mut place = isa.splat((rows.start * p.kernel + columns.start) as f32);
                let mut line = first + c;
                for ky in rows.clone() {
                    let mut from = line;
                    let mut cell = (ky * p.kernel + columns.start) as f32;
                    for _ in columns.clone() {
                        let v = load::<I, WHOLE>(isa, &image[from..from + lanes]);
                        let wins = isa.or(isa.lt(best, v), isa.is_nan(v));
                        best = isa.select(wins, v, best);
                        if INDEX {
                            place = isa.select(wins, isa.splat(cell), place);
                        }
                        cell += 1.0;
                        from += p.c;
                    }
                    line += p.w * p.c;
                }
                store::<I, WHOLE>(isa, best, &mut self.y[ox * p.c + c..][..lanes]);
                if INDEX {
                    store_bytes::<I, WHOLE>(isa, place, &mut self.index[ox * p.c + c..][..lanes]);
                }
                at += lanes;
            }
        }
    }
}

/// One line of the input's gradient.
struct BackwardTask<'a> {
    p: &'a MaxPool,
    dy: &'a [f32],
    index: &'a [u8],
    /// The line's number over all images.
    line: usize,
    dx: &'a mut [f32],
}

impl Task for BackwardTask<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        if self.p.c.is_multiple_of(I::LANES) {
            self.line::<I, true>(isa);
        } else {
            self.line::<I, false>(isa);
        }
    }
}

impl BackwardTask<'_> {
    /// With or without whole vectors of channels.
    #[inline(always)]
    fn line<I: Isa, const WHOLE: bool>(self, isa: I) {
        let p = self.p;
        let (n, iy) = (self.line / p.h, self.line % p.h);
        let zero = isa.splat(0.0);
        self.dx.fill(0.0);
        // Output lines whose windows hold this line: ky = iy + pad − oy·stride is in 0..kernel.
        let low = (iy + p.pad + 1).saturating_sub(p.kernel).div_ceil(p.stride);
        let high = ((iy + p.pad) / p.stride + 1).min(p.out_h());
        for oy in low..high {
            let ky = iy + p.pad - oy * p.stride;
            for ox in 0..p.out_w() {
                let columns = inside(ox * p.stride, p.pad, p.kernel, p.w);
                let from = ((n * p.out_h() + oy) * p.out_w() + ox) * p.c;
                let first = (ox * p.stride + columns.start - p.pad) * p.c;
                let mut c = 0;
                while c < p.c {
                    let lanes = if WHOLE { I::LANES } else { I::LANES.min(p.c - c) };
                    let dy = load::<I, WHOLE>(isa, &self.dy[from + c..][..lanes]);
                    let place = load_bytes::<I, WHOLE>(isa, &self.index[from + c..][..lanes]);
                    let mut to = first + c;
                    let mut cell = (ky * p.kernel + columns.start) as f32;
                    for _ in columns.clone() {
                        let other = isa.or(isa.lt(place, isa.splat(cell)), isa.lt(isa.splat(cell), place));
                        let dx = &mut self.dx[to..to + lanes];
                        let sum = isa.add(load::<I, WHOLE>(isa, dx), isa.select(other, zero, dy));
                        store::<I, WHOLE>(isa, sum, dx);
                        cell += 1.0;
                        to += p.c;
                    }
                    c += I::LANES;
                }
            }
        }
    }
}

/// A vector, which is known to be a whole one or not.
#[inline(always)]
fn load<I: Isa, const WHOLE: bool>(isa: I, x: &[f32]) -> I::V {
    if WHOLE { isa.load(x) } else { load_padded(isa, x, 0.0) }
}

/// The opposite of [`load`].
#[inline(always)]
fn store<I: Isa, const WHOLE: bool>(isa: I, v: I::V, y: &mut [f32]) {
    if WHOLE { isa.store(v, y) } else { store_padded(isa, v, y) }
}

/// Which of a window's `kernel` cells lie inside an axis of `len`; the window starts `pad` before `start`.
#[inline(always)]
fn inside(start: usize, pad: usize, kernel: usize, len: usize) -> core::ops::Range<usize> {
    pad.saturating_sub(start)..kernel.min(len + pad - start)
}

/// Writes small whole numbers as bytes, as many as `y` has room for.
#[inline(always)]
fn store_bytes<I: Isa, const WHOLE: bool>(isa: I, v: I::V, y: &mut [u8]) {
    // 2²³ + i has i in its lowest bits: no conversion is needed.
    let mut all = [0.0; MOST];
    isa.store(isa.add(v, isa.splat(8_388_608.0)), &mut all);
    if WHOLE {
        let y = &mut y[..I::LANES];
        for (y, v) in y.iter_mut().zip(&all[..I::LANES]) {
            *y = v.to_bits() as u8;
        }
    } else {
        for (y, v) in y.iter_mut().zip(&all) {
            *y = v.to_bits() as u8;
        }
    }
}

/// Up to `LANES` bytes as numbers.
#[inline(always)]
fn load_bytes<I: Isa, const WHOLE: bool>(isa: I, x: &[u8]) -> I::V {
    let mut all = [0.0; MOST];
    if WHOLE {
        for (v, x) in all[..I::LANES].iter_mut().zip(&x[..I::LANES]) {
            *v = f32::from(*x);
        }
    } else {
        for (v, x) in all.iter_mut().zip(x) {
            *v = f32::from(*x);
        }
    }
    isa.load(&all)
}
