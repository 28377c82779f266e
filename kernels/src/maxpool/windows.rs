//! Maximum over windows of any shape: sides, strides, paddings and dilations down and across.
//!
//! The rules are those of [`crate::maxpool`], which does square windows without gaps: those go there,
//! with its speed and its bits. A winner's place is `ky·kernel[1] + kx` as one byte.

use super::{MaxPool, load, load_bytes, store, store_bytes};
use crate::isa::Isa;
use crate::window::Window;
use crate::{Cpu, Task, parallel::Chunks};
use nunatak_core::{Error, Shape};

/// The most cells of a window: a place is one byte.
const MOST_CELLS: usize = 255;

/// A max-pooling's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MaxPool2d {
    x: Shape,
    y: Shape,
    window: Window,
}

impl MaxPool2d {
    /// Over images of shape `x`.
    ///
    /// # Errors
    /// As [`Window::output`]; [`Error::TooManyCells`] for a window of more than 255.
    pub fn new(x: Shape, window: Window) -> Result<MaxPool2d, Error> {
        let y = window.output(x)?;
        if window.cells() > MOST_CELLS {
            return Err(Error::TooManyCells { cells: window.cells(), most: MOST_CELLS });
        }
        Ok(MaxPool2d { x, y, window })
    }

    /// The shape of x.
    pub const fn x_shape(&self) -> Shape {
        self.x
    }

    /// The shape of y and of the places.
    pub const fn y_shape(&self) -> Shape {
        self.y
    }

    /// The window.
    pub const fn window(&self) -> Window {
        self.window
    }

    /// The same pooling where its window is a square without gaps.
    pub fn square(&self) -> Option<MaxPool> {
        let Window { kernel: [kernel, kw], stride: [stride, sw], pad: [pad, pw], dilation } = self.window;
        let is_square = (kernel, stride, pad) == (kw, sw, pw) && dilation == [1; 2] && kernel <= 15;
        let (n, h, w, c) = (self.x.n(), self.x.h(), self.x.w(), self.x.c());
        is_square.then_some(MaxPool { n, h, w, c, kernel, stride, pad })
    }

    fn check(&self, x: usize, y: usize) {
        assert_eq!((x, y), (self.x.len(), self.y.len()), "the input and the output of {self:?}");
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
/// No scratch. Reference: [`crate::reference::maxpool::windows::forward`].
///
/// # Panics
/// If a length is wrong.
pub fn forward(cpu: &Cpu, p: &MaxPool2d, x: &[f32], y: &mut [f32], index: &mut [u8]) {
    if let Some(square) = p.square() {
        return super::forward(cpu, &square, x, y, index);
    }
    p.check(x.len(), y.len());
    assert_eq!(index.len(), y.len(), "the places of {p:?}");
    let (line, lines) = (p.y.w() * p.y.c(), p.y.n() * p.y.h());
    cpu.run((Chunks::new(y, line, lines), Chunks::new(index, line, lines)), &mut [], 0, |i, (y, index), _| {
        cpu.level.run(ForwardTask::<true> { p, x, line: i, y, index });
    });
}

/// The maxima alone, where no backward pass follows: as [`forward`] without `index`.
///
/// # Panics
/// If a length is wrong.
pub fn forward_only(cpu: &Cpu, p: &MaxPool2d, x: &[f32], y: &mut [f32]) {
    if let Some(square) = p.square() {
        return super::forward_only(cpu, &square, x, y);
    }
    p.check(x.len(), y.len());
    let (line, lines) = (p.y.w() * p.y.c(), p.y.n() * p.y.h());
    cpu.run(Chunks::new(y, line, lines), &mut [], 0, |i, y, _| {
        cpu.level.run(ForwardTask::<false> { p, x, line: i, y, index: &mut [] });
    });
}

/// `dx` = for every cell the sum of `dy` over the windows that chose it.
///
/// | name | shape | |
/// |---|---|---|
/// | `dy` | n x out_h x out_w x c | read |
/// | `index` | as `dy` | read: as [`forward`] left it |
/// | `dx` | n x h x w x c | overwritten, or where `add` accumulated |
///
/// No scratch. Reference: [`crate::reference::maxpool::windows::backward_input`].
///
/// # Panics
/// If a length is wrong.
pub fn backward_input(cpu: &Cpu, p: &MaxPool2d, dy: &[f32], index: &[u8], dx: &mut [f32], add: bool) {
    if let (Some(square), false) = (p.square(), add) {
        return super::backward_input(cpu, &square, dy, index, dx);
    }
    p.check(dx.len(), dy.len());
    assert_eq!(index.len(), dy.len(), "the places of {p:?}");
    let (line, lines) = (p.x.w() * p.x.c(), p.x.n() * p.x.h());
    cpu.run(Chunks::new(dx, line, lines), &mut [], 0, |i, dx, _| {
        cpu.level.run(BackwardTask { p, dy, index, line: i, dx, add });
    });
}

/// One line of outputs.
struct ForwardTask<'a, 'p, const INDEX: bool> {
    p: &'a MaxPool2d,
    x: &'a [f32],
    /// The line's number over all images.
    line: usize,
    y: &'p mut [f32],
    index: &'p mut [u8],
}

impl<const INDEX: bool> Task for ForwardTask<'_, '_, INDEX> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        if self.p.x.c() >= I::LANES {
            self.line::<I, true>(isa);
        } else {
            self.line::<I, false>(isa);
        }
    }
}

impl<const INDEX: bool> ForwardTask<'_, '_, INDEX> {
    /// With or without whole vectors of channels.
    #[inline(always)]
    fn line<I: Isa, const WHOLE: bool>(self, isa: I) {
        let MaxPool2d { x: from, y: to, window } = *self.p;
        let (n, oy) = (self.line / to.h(), self.line % to.h());
        let (channels, across) = (from.c(), window.kernel[1]);
        let lanes = if WHOLE { I::LANES } else { channels };
        let rows = window.inside(0, oy, from.h());
        let image = &self.x[n * from.h() * from.w() * channels..][..from.h() * from.w() * channels];
        // From cell to cell, down and across.
        let (down, right) = (window.dilation[0] * from.w() * channels, window.dilation[1] * channels);
        for ox in 0..to.w() {
            let columns = window.inside(1, ox, from.w());
            let (top, left) = (window.place(0, oy, rows.start), window.place(1, ox, columns.start));
            let first = (top * from.w() + left) * channels;
            let mut at = 0;
            while at < channels {
                // The last vector may overlap the one before: it finds the same again.
                let c = at.min(channels - lanes);
                let mut best = load::<I, WHOLE>(isa, &image[first + c..][..lanes]);
                let mut place = isa.splat((rows.start * across + columns.start) as f32);
                for ky in rows.clone() {
                    let line = first + c + (ky - rows.start) * down;
                    for kx in columns.clone() {
                        let v = load::<I, WHOLE>(isa, &image[line + (kx - columns.start) * right..][..lanes]);
                        let wins = isa.or(isa.lt(best, v), isa.is_nan(v));
                        best = isa.select(wins, v, best);
                        if INDEX {
                            place = isa.select(wins, isa.splat((ky * across + kx) as f32), place);
                        }
                    }
                }
                store::<I, WHOLE>(isa, best, &mut self.y[ox * channels + c..][..lanes]);
                if INDEX {
                    store_bytes::<I, WHOLE>(isa, place, &mut self.index[ox * channels + c..][..lanes]);
                }
                at += lanes;
            }
        }
    }
}

/// One line of the input's gradient.
struct BackwardTask<'a, 'p> {
    p: &'a MaxPool2d,
    dy: &'a [f32],
    index: &'a [u8],
    /// The line's number over all images.
    line: usize,
    dx: &'p mut [f32],
    add: bool,
}

impl Task for BackwardTask<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let MaxPool2d { x: to, y: from, window } = *self.p;
        let (n, iy) = (self.line / to.h(), self.line % to.h());
        let (c, zero) = (to.c(), isa.splat(0.0));
        if !self.add {
            self.dx.fill(0.0);
        }
        for oy in window.over(0, iy, from.h()) {
            let Some(ky) = window.cell(0, oy, iy) else { continue };
            for ox in 0..from.w() {
                let start = ((n * from.h() + oy) * from.w() + ox) * c;
                let (dy, index) = (&self.dy[start..start + c], &self.index[start..start + c]);
                for kx in window.inside(1, ox, to.w()) {
                    let cell = isa.splat((ky * window.kernel[1] + kx) as f32);
                    let dx = &mut self.dx[window.place(1, ox, kx) * c..][..c];
                    let mut at = 0;
                    while at < c {
                        let lanes = I::LANES.min(c - at);
                        let dy = load::<I, false>(isa, &dy[at..at + lanes]);
                        let place = load_bytes::<I, false>(isa, &index[at..at + lanes]);
                        let other = isa.or(isa.lt(place, cell), isa.lt(cell, place));
                        let dx = &mut dx[at..at + lanes];
                        let sum = isa.add(load::<I, false>(isa, dx), isa.select(other, zero, dy));
                        store::<I, false>(isa, sum, dx);
                        at += lanes;
                    }
                }
            }
        }
    }
}
