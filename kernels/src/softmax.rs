//! Shares of a row's numbers, PyTorch's `softmax` and `log_softmax` over the channels.
//!
//! `y[c] = e^(x[c] − max) / Σ e^(x − max)`, or its logarithm `x[c] − max − ln Σ e^(x − max)`. Backward
//! reads y: `dx = y·(dy − Σ dy·y)`, of the logarithm `dx = dy − eʸ·Σ dy`. Sums of a row are taken in
//! `f64` over blocks. As in PyTorch a row with NaN or ∞, or of −∞ alone, becomes NaN.

use crate::isa::Isa;
use crate::lanes::{MOST, load_padded, store_padded};
use crate::math;
use crate::reduce::{Itself, Term, total_of_part};
use crate::{Cpu, Task, parallel::Chunks};
use nunatak_core::Shape;

/// Numbers of a part, about.
const PART: usize = 4096;
/// Exponentials of a row that are added in `f32`.
const BLOCK: usize = 512;

/// A softmax's numbers: rows (pixels of all images) of channels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Softmax {
    shape: Shape,
    log: bool,
}

impl Softmax {
    /// The shares.
    pub const fn new(shape: Shape) -> Softmax {
        Softmax { shape, log: false }
    }

    /// Their logarithms.
    pub const fn log(shape: Shape) -> Softmax {
        Softmax { shape, log: true }
    }

    /// The shape of x and y.
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether y are logarithms.
    pub const fn is_log(&self) -> bool {
        self.log
    }

    /// Numbers of a part, and how many there are.
    fn parts(&self) -> (usize, usize) {
        let rows = (PART / self.shape.c().min(PART)).max(1);
        (rows * self.shape.c(), self.shape.rows().div_ceil(rows))
    }
}

/// The shares, or their logarithms.
///
/// | name | shape | |
/// |---|---|---|
/// | `x` | n x h x w x c | read; `None`: `y` holds it on entry |
/// | `y` | as `x` | overwritten |
///
/// No scratch. Reference: [`crate::reference::softmax::forward`].
///
/// # Panics
/// If a length is wrong.
pub fn forward(cpu: &Cpu, p: &Softmax, x: Option<&[f32]>, y: &mut [f32]) {
    assert_eq!(y.len(), p.shape.len(), "the output of {p:?}");
    if let Some(x) = x {
        assert_eq!(x.len(), y.len(), "the input of {p:?}");
    }
    let (each, parts) = p.parts();
    cpu.run(Chunks::new(y, each, parts), &mut [], 0, |i, y, _| {
        let x = x.map(|x| &x[i * each..][..y.len()]);
        cpu.level.run(ForwardTask { p, x, y });
    });
}

/// The gradient (see above).
///
/// | name | shape | |
/// |---|---|---|
/// | `y` | n x h x w x c | read: what [`forward`] wrote |
/// | `dy` | as `y` | read; `None`: `dx` holds it on entry |
/// | `dx` | as `y` | overwritten, or where `add` accumulated |
///
/// No scratch. Reference: [`crate::reference::softmax::backward_input`].
///
/// # Panics
/// If a length is wrong, or where `dx` shall hold dy and be added to.
pub fn backward_input(cpu: &Cpu, p: &Softmax, y: &[f32], dy: Option<&[f32]>, dx: &mut [f32], add: bool) {
    assert_eq!((y.len(), dx.len()), (p.shape.len(), p.shape.len()), "the output and the gradient of {p:?}");
    match dy {
        Some(dy) => assert_eq!(dy.len(), y.len(), "the gradient of the output of {p:?}"),
        None => assert!(!add, "a gradient in its own place can't be added to"),
    }
    let (each, parts) = p.parts();
    cpu.run(Chunks::new(dx, each, parts), &mut [], 0, |i, dx, _| {
        let part = i * each..i * each + dx.len();
        cpu.level.run(BackwardTask { p, y: &y[part.clone()], dy: dy.map(|dy| &dy[part]), dx, add });
    });
}

/// Some rows.
struct ForwardTask<'a, 'p> {
    p: &'a Softmax,
    x: Option<&'a [f32]>,
    y: &'p mut [f32],
}

impl Task for ForwardTask<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let ForwardTask { p, x, y } = self;
        let c = p.shape.c();
        if let Some(x) = x {
            y.copy_from_slice(x);
        }
        for y in y.chunks_exact_mut(c) {
            if p.log {
                log_row(isa, y);
            } else {
                share_row(isa, y);
            }
        }
    }
}

/// The largest number of a row, NaN left out; −∞ where there is none.
#[inline(always)]
fn largest<I: Isa>(isa: I, x: &[f32]) -> f32 {
    let mut most = isa.splat(f32::NEG_INFINITY);
    let mut i = 0;
    while i < x.len() {
        let v = load_padded(isa, &x[i..], f32::NEG_INFINITY);
        most = isa.select(isa.lt(most, v), v, most);
        i += I::LANES;
    }
    let mut lanes = [f32::NEG_INFINITY; MOST];
    isa.store(most, &mut lanes);
    let mut most = f32::NEG_INFINITY;
    for lane in lanes {
        if lane > most {
            most = lane;
        }
    }
    most
}

/// A row's shares in its place.
#[inline(always)]
fn share_row<I: Isa>(isa: I, y: &mut [f32]) {
    let most = isa.splat(largest(isa, y));
    let mut total = 0.0;
    for y in y.chunks_mut(BLOCK) {
        let mut sum = isa.splat(0.0);
        let mut i = 0;
        while i < y.len() {
            // The padding's exponentials are 0.
            let v = load_padded(isa, &y[i..], f32::NEG_INFINITY);
            let e = math::exp(isa, isa.sub(v, most));
            store_padded(isa, e, &mut y[i..]);
            sum = isa.add(sum, e);
            i += I::LANES;
        }
        total += f64::from(isa.sum(sum));
    }
    let total = isa.splat(total as f32);
    let mut i = 0;
    while i < y.len() {
        let y = &mut y[i..];
        store_padded(isa, isa.div(load_padded(isa, y, 0.0), total), y);
        i += I::LANES;
    }
}

/// A row's logarithms of shares in its place.
#[inline(always)]
fn log_row<I: Isa>(isa: I, y: &mut [f32]) {
    let most = isa.splat(largest(isa, y));
    let mut total = 0.0;
    for y in y.chunks(BLOCK) {
        let mut sum = isa.splat(0.0);
        let mut i = 0;
        while i < y.len() {
            let v = load_padded(isa, &y[i..], f32::NEG_INFINITY);
            sum = isa.add(sum, math::exp(isa, isa.sub(v, most)));
            i += I::LANES;
        }
        total += f64::from(isa.sum(sum));
    }
    let log = isa.splat(libm::log(total) as f32);
    let mut i = 0;
    while i < y.len() {
        let y = &mut y[i..];
        let v = isa.sub(isa.sub(load_padded(isa, y, 0.0), most), log);
        store_padded(isa, v, y);
        i += I::LANES;
    }
}

/// Some rows of the gradient.
struct BackwardTask<'a, 'p> {
    p: &'a Softmax,
    y: &'a [f32],
    dy: Option<&'a [f32]>,
    dx: &'p mut [f32],
    add: bool,
}

impl Task for BackwardTask<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let BackwardTask { p, y, dy, dx, add } = self;
        let c = p.shape.c();
        let mut start = 0;
        while start < dx.len() {
            let y = &y[start..start + c];
            let row = &mut dx[start..start + c];
            let total = match dy {
                Some(dy) => row_total(isa, p.log, &dy[start..start + c], y),
                None => row_total(isa, p.log, row, y),
            };
            let total = isa.splat(total as f32);
            let mut i = 0;
            while i < c {
                let (y, dx) = (load_padded(isa, &y[i..], 0.0), &mut row[i..]);
                let dy = match dy {
                    Some(dy) => load_padded(isa, &dy[start + i..start + c], 0.0),
                    None => load_padded(isa, dx, 0.0),
                };
                let mut v = if p.log { isa.sub(dy, isa.mul(math::exp(isa, y), total)) } else { isa.mul(y, isa.sub(dy, total)) };
                if add {
                    v = isa.add(load_padded(isa, dx, 0.0), v);
                }
                store_padded(isa, v, dx);
                i += I::LANES;
            }
            start += c;
        }
    }
}

/// What a row's gradients have in common: Σ dy, or Σ dy·y.
#[inline(always)]
fn row_total<I: Isa>(isa: I, log: bool, dy: &[f32], y: &[f32]) -> f64 {
    if log { total_of_part(isa, Itself, [dy]) } else { total_of_part(isa, Product, [dy, y]) }
}

#[derive(Clone, Copy)]
struct Product;

impl Term<2> for Product {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, [a, b]: [I::V; 2]) -> I::V {
        isa.mul(a, b)
    }
}
