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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::maxpool::windows as reference;
    use crate::testing::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn check(p: &MaxPool2d, x: &[f32], offset: usize, random: &mut Random) {
        let (x_len, y_len) = (p.x_shape().len(), p.y_shape().len());
        let (x, dy) = (Offset::copy(x, offset), Offset::copy(&random.vector(y_len), 15 - offset));
        let (mut y, mut index, mut dx) = (zeros(y_len), std::vec![0; y_len], zeros(x_len));
        let start = random.vector(x_len);
        reference::forward(p, &x, &mut y, &mut index);
        reference::backward_input(p, &dy, &index, &mut dx);
        same_bits(
            |cpu| {
                let (mut out, mut place) = (Offset::nan(y_len, offset), std::vec![255; y_len]);
                forward_only(cpu, p, &x, &mut out);
                assert_exact(&out, &y, "y without places");
                out.fill(f32::NAN);
                forward(cpu, p, &x, &mut out, &mut place);
                assert_exact(&out, &y, "y");
                assert_eq!(place, index, "{p:?} at {}", cpu.level);
                let mut gradient = Offset::nan(x_len, 15 - offset);
                backward_input(cpu, p, &dy, &place, &mut gradient, false);
                assert_within(&gradient, &dx, 1e-6, "dx");
                let mut sum = Offset::copy(&start, offset);
                backward_input(cpu, p, &dy, &place, &mut sum, true);
                let expected: Vec<f64> = start.iter().zip(&dx).map(|(a, b)| f64::from(*a) + b).collect();
                assert_within(&sum, &expected, 1e-6, "dx added");
                [&gradient[..], &sum[..]].concat()
            },
            |_, _| {},
        );
    }

    const WINDOWS: [Window; 7] = [
        Window::square(3, 2, 1),
        Window { kernel: [3, 2], stride: [1, 2], pad: [1, 1], dilation: [2, 1] },
        Window { kernel: [1, 3], stride: [1, 1], pad: [0, 1], dilation: [1, 1] },
        Window { kernel: [2, 2], stride: [1, 3], pad: [1, 0], dilation: [3, 2] },
        Window { kernel: [3, 3], stride: [2, 2], pad: [1, 1], dilation: [2, 2] },
        Window { kernel: [4, 1], stride: [3, 1], pad: [2, 0], dilation: [1, 5] },
        Window { kernel: [5, 51], stride: [1, 2], pad: [2, 25], dilation: [1, 1] },
    ];

    #[test]
    fn all_passes_match_the_reference() {
        let mut random = Random::new(111);
        for (i, c) in CHANNELS.into_iter().enumerate() {
            for window in WINDOWS {
                for (n, h, w) in [(1, 5, 5), (2, 8, 7), (1, 13, 4)] {
                    let shape = Shape::new(n, c, h, w).expect("a shape");
                    let Ok(p) = MaxPool2d::new(shape, window) else { continue };
                    let x = random.special(shape.len());
                    check(&p, &x, (i + h) % 16, &mut random);
                    // Ties everywhere.
                    let x: Vec<f32> = random.vector(shape.len()).iter().map(|v| (v * 2.0).round()).collect();
                    check(&p, &x, (i + w) % 16, &mut random);
                }
            }
        }
    }

    #[test]
    fn dilated_windows_of_torch() {
        // F.max_pool2d(torch.arange(25.).reshape(1, 1, 5, 5), (3, 2), stride=(1, 2), padding=(1, 1), dilation=(2, 1))
        let x: Vec<f32> = (0..25).map(|i| i as f32).collect();
        let p = MaxPool2d::new(Shape::new(1, 1, 5, 5).expect("a shape"), WINDOWS[1]).expect("windows that fit");
        for_each_cpu(|cpu| {
            let (mut y, mut index) = ([0.0; 9], [9; 9]);
            forward(cpu, &p, &x, &mut y, &mut index);
            assert_eq!(y, [15.0, 17.0, 19.0, 20.0, 22.0, 24.0, 15.0, 17.0, 19.0]);
        });
    }

    #[test]
    fn windows_of_too_many_cells_are_errors() {
        let x = Shape::new(1, 1, 20, 20).expect("a shape");
        assert_eq!(MaxPool2d::new(x, Window::square(16, 1, 0)), Err(Error::TooManyCells { cells: 256, most: 255 }));
        assert!(MaxPool2d::new(x, Window { kernel: [17, 15], ..Window::square(1, 1, 0) }).is_ok());
        assert_eq!(MaxPool2d::new(x, Window::square(3, 1, 2)), Err(Error::PadTooLarge { pad: 2, window: 3 }));
    }

    #[test]
    fn the_gradient_is_the_slope() {
        let shape = Shape::new(2, 2, 5, 4).expect("a shape");
        let p = MaxPool2d::new(shape, WINDOWS[1]).expect("windows that fit");
        // All different by more than the step.
        let x: Vec<f32> = (0..shape.len()).map(|i| (i * 37 % 81) as f32 / 16.0).collect();
        let y_len = p.y_shape().len();
        let dy = Random::new(112).vector(y_len);
        let (mut y, mut index, mut dx) = (zeros(y_len), std::vec![0; y_len], zeros(x.len()));
        reference::forward(&p, &x, &mut y, &mut index);
        reference::backward_input(&p, &dy, &index, &mut dx);
        let loss = |x: &[f32]| {
            let (mut y, mut index) = (zeros(y_len), std::vec![0; y_len]);
            reference::forward(&p, x, &mut y, &mut index);
            dot(&dy, &y)
        };
        assert_gradient(&x, &dx, loss, 1e-6);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_shape(n in 1_usize..3, h in 1_usize..12, w in 1_usize..12, c in 1_usize..20, kernel in [1_usize..5, 1_usize..5],
                     stride in [1_usize..4, 1_usize..4], pad in [0_usize..3, 0_usize..3], dilation in [1_usize..4, 1_usize..4], seed: u64) {
            let shape = Shape::new(n, c, h, w).expect("a shape");
            if let Ok(p) = MaxPool2d::new(shape, Window { kernel, stride, pad, dilation }) {
                let mut random = Random::new(seed);
                let x = random.special(shape.len());
                check(&p, &x, seed as usize % 16, &mut random);
            }
        }
    }
}
