//! Mean over windows of a fixed size, PyTorch's `AvgPool2d` with `ceil_mode` false.
//!
//! `y[oy][ox] = Σ x[oy·stride + ky − pad][ox·stride + kx − pad] / cells`, where padding counts as zeros;
//! `cells` are all of the window's, or without `count_include_pad` those inside the image. The gradient
//! of a pixel is the sum of dy / cells over the windows that hold it.

use crate::isa::Isa;
use crate::lanes::{load_padded, store_padded};
use crate::window::Window;
use crate::{Cpu, Task, parallel::Chunks};
use nunatak_core::{Error, Shape};

/// An average-pooling's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AvgPool {
    x: Shape,
    y: Shape,
    window: Window,
    count_include_pad: bool,
}

impl AvgPool {
    /// Over images of shape `x`, with a window down and across. PyTorch's default is
    /// `count_include_pad`.
    ///
    /// # Errors
    /// As [`Window::output`].
    pub fn new(x: Shape, kernel: [usize; 2], stride: [usize; 2], pad: [usize; 2], count_include_pad: bool) -> Result<AvgPool, Error> {
        let window = Window { kernel, stride, pad, dilation: [1; 2] };
        Ok(AvgPool { x, y: window.output(x)?, window, count_include_pad })
    }

    /// The shape of x.
    pub const fn x_shape(&self) -> Shape {
        self.x
    }

    /// The shape of y.
    pub const fn y_shape(&self) -> Shape {
        self.y
    }

    /// The window.
    pub const fn window(&self) -> Window {
        self.window
    }

    /// Whether padding counts as cells of a window.
    pub const fn count_include_pad(&self) -> bool {
        self.count_include_pad
    }

    /// What a window's sum is divided by, of which so many cells lie inside.
    #[inline(always)]
    fn divisor(&self, rows: usize, columns: usize) -> f32 {
        let cells = if self.count_include_pad { self.window.cells() } else { rows * columns };
        cells as f32
    }

    fn check(&self, x: usize, y: usize) {
        assert_eq!((x, y), (self.x.len(), self.y.len()), "the input and the output of {self:?}");
    }
}

/// The windows' means.
///
/// | name | shape | |
/// |---|---|---|
/// | `x` | n x h x w x c | read |
/// | `y` | n x out_h x out_w x c | overwritten |
///
/// No scratch. Reference: [`crate::reference::avgpool::windows::forward`].
///
/// # Panics
/// If a length is wrong.
pub fn forward(cpu: &Cpu, p: &AvgPool, x: &[f32], y: &mut [f32]) {
    p.check(x.len(), y.len());
    let (line, lines) = (p.y.w() * p.y.c(), p.y.n() * p.y.h());
    cpu.run(Chunks::new(y, line, lines), &mut [], 0, |i, y, _| {
        cpu.level.run(ForwardTask { p, x, line: i, y });
    });
}

/// `dx` = for every pixel the sum of dy / cells over the windows that hold it.
///
/// | name | shape | |
/// |---|---|---|
/// | `dy` | n x out_h x out_w x c | read |
/// | `dx` | n x h x w x c | overwritten, or where `add` accumulated |
///
/// No scratch. Reference: [`crate::reference::avgpool::windows::backward_input`].
///
/// # Panics
/// If a length is wrong.
pub fn backward_input(cpu: &Cpu, p: &AvgPool, dy: &[f32], dx: &mut [f32], add: bool) {
    p.check(dx.len(), dy.len());
    let (line, lines) = (p.x.w() * p.x.c(), p.x.n() * p.x.h());
    cpu.run(Chunks::new(dx, line, lines), &mut [], 0, |i, dx, _| {
        cpu.level.run(BackwardTask { p, dy, line: i, dx, add });
    });
}

/// One line of outputs.
struct ForwardTask<'a, 'p> {
    p: &'a AvgPool,
    x: &'a [f32],
    /// The line's number over all images.
    line: usize,
    y: &'p mut [f32],
}

impl Task for ForwardTask<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let AvgPool { x: from, y: to, window, .. } = *self.p;
        let (n, oy) = (self.line / to.h(), self.line % to.h());
        let c = from.c();
        let rows = window.inside(0, oy, from.h());
        for ox in 0..to.w() {
            let columns = window.inside(1, ox, from.w());
            let divisor = isa.splat(self.p.divisor(rows.len(), columns.len()));
            let (top, left) = (window.place(0, oy, rows.start), window.place(1, ox, columns.start));
            let first = ((n * from.h() + top) * from.w() + left) * c;
            let y = &mut self.y[ox * c..(ox + 1) * c];
            let mut at = 0;
            while at < c {
                let lanes = I::LANES.min(c - at);
                // Lines first, then their sums: the longer the sum, the more a single chain would lose.
                let mut sum = isa.splat(0.0);
                for row in 0..rows.len() {
                    let mut line = isa.splat(0.0);
                    for column in 0..columns.len() {
                        let from = first + (row * from.w() + column) * c + at;
                        line = isa.add(line, load_padded(isa, &self.x[from..from + lanes], 0.0));
                    }
                    sum = isa.add(sum, line);
                }
                store_padded(isa, isa.div(sum, divisor), &mut y[at..at + lanes]);
                at += lanes;
            }
        }
    }
}

/// One line of the input's gradient.
struct BackwardTask<'a, 'p> {
    p: &'a AvgPool,
    dy: &'a [f32],
    /// The line's number over all images.
    line: usize,
    dx: &'p mut [f32],
    add: bool,
}

impl Task for BackwardTask<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let AvgPool { x: to, y: from, window, .. } = *self.p;
        let (n, iy) = (self.line / to.h(), self.line % to.h());
        let c = to.c();
        if !self.add {
            self.dx.fill(0.0);
        }
        for oy in window.over(0, iy, from.h()) {
            let rows = window.inside(0, oy, to.h());
            for ox in 0..from.w() {
                let columns = window.inside(1, ox, to.w());
                let divisor = isa.splat(self.p.divisor(rows.len(), columns.len()));
                let left = window.place(1, ox, columns.start);
                let dy = &self.dy[((n * from.h() + oy) * from.w() + ox) * c..][..c];
                let mut at = 0;
                while at < c {
                    let lanes = I::LANES.min(c - at);
                    let share = isa.div(load_padded(isa, &dy[at..at + lanes], 0.0), divisor);
                    for column in 0..columns.len() {
                        let dx = &mut self.dx[(left + column) * c + at..][..lanes];
                        store_padded(isa, isa.add(load_padded(isa, dx, 0.0), share), dx);
                    }
                    at += lanes;
                }
            }
        }
    }
}
