//! Mean over windows that cover the input evenly, PyTorch's `AdaptiveAvgPool2d`: before ResNet18's
//! last layer, with one window of everything.
//!
//! Output line `i` is the mean of input lines ⌊i·h/out_h⌋ up to ⌈(i+1)·h/out_h⌉, columns likewise; so
//! windows may overlap by one, and the gradient of a pixel is the sum of dy / cells over its windows.

use crate::bounds::product;
pub mod windows;

use crate::isa::Isa;
use crate::lanes::{load_padded, store_padded};
use crate::{Cpu, Task, parallel::Chunks};
use core::ops::Range;

/// An average-pooling's numbers: `n` images of `h` x `w` with `c` channels (channels last) to
/// `out_h` x `out_w`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdaptiveAvgPool {
    /// Images.
    pub n: usize,
    /// Input lines.
    pub h: usize,
    /// Input columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// Output lines.
    pub out_h: usize,
    /// Output columns.
    pub out_w: usize,
}

impl AdaptiveAvgPool {
    /// Numbers in x.
    ///
    /// # Panics
    /// If they do not fit the address space; so in all that follows.
    pub const fn x_len(&self) -> usize {
        product(&[self.n, self.h, self.w, self.c])
    }
    /// Numbers in y.
    pub const fn y_len(&self) -> usize {
        product(&[self.n, self.out_h, self.out_w, self.c])
    }

    pub(crate) fn check(&self, x: usize, y: usize) {
        assert!(self.h > 0 && self.w > 0, "a mean over an image of {} x {}", self.h, self.w);
        assert_eq!(x, self.x_len(), "the input of {self:?}");
        assert_eq!(y, self.y_len(), "the output of {self:?}");
        // Where windows begin is computed with these.
        product(&[self.h, self.out_h]);
        product(&[self.w, self.out_w]);
    }
}

/// Which of `len` pixels window `i` of `out` holds.
#[inline(always)]
fn window(i: usize, len: usize, out: usize) -> Range<usize> {
    i * len / out..((i + 1) * len).div_ceil(out)
}

/// The windows' means.
///
/// | name | shape | |
/// |---|---|---|
/// | `x` | n x h x w x c | read |
/// | `y` | n x out_h x out_w x c | overwritten |
///
/// No scratch. Reference: [`crate::reference::avgpool::forward`].
///
/// # Panics
/// If a length is wrong or the image empty.
pub fn forward(cpu: &Cpu, p: &AdaptiveAvgPool, x: &[f32], y: &mut [f32]) {
    p.check(x.len(), y.len());
    if y.is_empty() {
        return;
    }
    cpu.run(Chunks::new(y, p.c, p.n * p.out_h * p.out_w), &mut [], 0, |i, y, _| {
        cpu.level.run(ForwardTask { p, x, output: i, y });
    });
}

/// `dx` = for every pixel the sum of dy / cells over the windows that hold it.
///
/// | name | shape | |
/// |---|---|---|
/// | `dy` | n x out_h x out_w x c | read |
/// | `dx` | n x h x w x c | overwritten |
///
/// No scratch. Reference: [`crate::reference::avgpool::backward_input`].
///
/// # Panics
/// If a length is wrong or the image empty.
pub fn backward_input(cpu: &Cpu, p: &AdaptiveAvgPool, dy: &[f32], dx: &mut [f32]) {
    backward(cpu, p, dy, dx, false);
}

/// As [`backward_input`], but added to what `dx` holds.
///
/// # Panics
/// If a length is wrong or the image empty.
pub fn backward_input_add(cpu: &Cpu, p: &AdaptiveAvgPool, dy: &[f32], dx: &mut [f32]) {
    backward(cpu, p, dy, dx, true);
}

fn backward(cpu: &Cpu, p: &AdaptiveAvgPool, dy: &[f32], dx: &mut [f32], add: bool) {
    p.check(dx.len(), dy.len());
    if dx.is_empty() || dy.is_empty() {
        return dx.fill(0.0);
    }
    cpu.run(Chunks::new(dx, p.w * p.c, p.n * p.h), &mut [], 0, |i, dx, _| {
        cpu.level.run(BackwardTask { p, dy, line: i, dx, add });
    });
}

/// All channels of one output pixel.
struct ForwardTask<'a> {
    p: &'a AdaptiveAvgPool,
    x: &'a [f32],
    /// The pixel's number over all images.
    output: usize,
    y: &'a mut [f32],
}

impl Task for ForwardTask<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let p = self.p;
        let (line, ox) = (self.output / p.out_w, self.output % p.out_w);
        let (n, oy) = (line / p.out_h, line % p.out_h);
        let (ys, xs) = (window(oy, p.h, p.out_h), window(ox, p.w, p.out_w));
        let share = isa.splat(1.0 / (ys.len() * xs.len()) as f32);
        let mut c = 0;
        while c < p.c {
            let lanes = I::LANES.min(p.c - c);
            // Lines first, then their sums: the longer the sum, the more a single chain would lose.
            let mut sum = isa.splat(0.0);
            for y in ys.clone() {
                let mut line = isa.splat(0.0);
                for x in xs.clone() {
                    let at = ((n * p.h + y) * p.w + x) * p.c + c;
                    line = isa.add(line, load_padded(isa, &self.x[at..at + lanes], 0.0));
                }
                sum = isa.add(sum, line);
            }
            store_padded(isa, isa.mul(sum, share), &mut self.y[c..c + lanes]);
            c += I::LANES;
        }
    }
}

/// One line of the input's gradient.
struct BackwardTask<'a> {
    p: &'a AdaptiveAvgPool,
    dy: &'a [f32],
    /// The line's number over all images.
    line: usize,
    dx: &'a mut [f32],
    add: bool,
}

impl Task for BackwardTask<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let p = self.p;
        let (n, y) = (self.line / p.h, self.line % p.h);
        if !self.add {
            self.dx.fill(0.0);
        }
        for oy in 0..p.out_h {
            let ys = window(oy, p.h, p.out_h);
            if !ys.contains(&y) {
                continue;
            }
            for ox in 0..p.out_w {
                let xs = window(ox, p.w, p.out_w);
                let share = isa.splat(1.0 / (ys.len() * xs.len()) as f32);
                let from = ((n * p.out_h + oy) * p.out_w + ox) * p.c;
                let mut c = 0;
                while c < p.c {
                    let lanes = I::LANES.min(p.c - c);
                    let dy = isa.mul(load_padded(isa, &self.dy[from + c..][..lanes], 0.0), share);
                    for x in xs.clone() {
                        let dx = &mut self.dx[x * p.c + c..][..lanes];
                        store_padded(isa, isa.add(load_padded(isa, dx, 0.0), dy), dx);
                    }
                    c += I::LANES;
                }
            }
        }
    }
}
