//! One number per channel added to every pixel: a convolution's bias.
//!
//! `y[row][c] = x[row][c] + b[c]`; dx is dy, and `db[c] = Σ dy[row][c]`, summed in panels that the
//! shape alone decides (see `axes/sums.rs`).

use crate::Cpu;
use crate::axes::{Sums, Walk};
use crate::isa::Isa;
use crate::reduce::{Itself, Term};
use nunatak_core::Shape;

/// A bias's numbers: the shape of x and y.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bias {
    shape: Shape,
}

impl Bias {
    /// For tensors of this shape.
    pub const fn new(shape: Shape) -> Bias {
        Bias { shape }
    }

    /// The shape of x and y.
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Scratch in `f32` for [`backward_bias`].
    pub fn scratch_len(&self) -> usize {
        self.sums().scratch_len()
    }

    fn sizes(&self) -> [usize; 4] {
        [self.shape.n(), self.shape.h(), self.shape.w(), self.shape.c()]
    }

    fn sums(&self) -> Sums<1> {
        Sums::new(self.sizes(), [[true; 4]], CHANNELS)
    }
}

/// The axis (of n h w c) that b has.
const CHANNELS: [bool; 4] = [false, false, false, true];

/// `y = x + b`
///
/// | name | shape | |
/// |---|---|---|
/// | `x` | n x h x w x c | read; `None`: `y` holds it on entry |
/// | `b` | c | read |
/// | `y` | as `x` | overwritten |
///
/// No scratch. Reference: [`crate::reference::bias::forward`].
///
/// # Panics
/// If a length is wrong.
pub fn forward(cpu: &Cpu, p: &Bias, x: Option<&[f32]>, b: &[f32], y: &mut [f32]) {
    let mut has = CHANNELS;
    // Along an axis of size 1 nothing is repeated: then x may lie in y's place.
    for (has, size) in has.iter_mut().zip(p.sizes()) {
        *has |= size == 1;
    }
    Walk::new(p.sizes(), [[true; 4], has]).apply(cpu, Sum, [x, Some(b)], y, false);
}

/// `db = Σ dy` over all pixels.
///
/// | name | shape | |
/// |---|---|---|
/// | `dy` | n x h x w x c | read |
/// | `db` | c | overwritten, or where `add` accumulated |
/// | `scratch` | [`Bias::scratch_len`] | overwritten |
///
/// Reference: [`crate::reference::bias::backward_bias`].
///
/// # Panics
/// If a length is wrong.
pub fn backward_bias(cpu: &Cpu, p: &Bias, dy: &[f32], db: &mut [f32], add: bool, scratch: &mut [f32]) {
    p.sums().run(cpu, Itself, [dy], db, add, scratch);
}

#[derive(Clone, Copy)]
struct Sum;

impl Term<2> for Sum {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, [x, b]: [I::V; 2]) -> I::V {
        isa.add(x, b)
    }
}
