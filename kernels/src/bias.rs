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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::testing::*;

    #[test]
    fn both_passes_match_the_reference() {
        let mut random = Random::new(41);
        for (i, c) in CHANNELS_OF_TESTS.into_iter().enumerate() {
            for (n, h, w) in [(1, 1, 1), (2, 3, 5), (1, 31, 33), (5, 40, 41), (300, 1, 1)] {
                let p = Bias::new(Shape::new(n, c, h, w).expect("a shape"));
                let len = p.shape().len();
                let (x, dy) = (Offset::copy(&random.special(len), i), Offset::copy(&random.vector(len), 15 - i));
                let (b, start) = (Offset::copy(&random.vector(c), i + h % 9), random.vector(c));
                let (mut y, mut db) = (zeros(len), zeros(c));
                reference::bias::forward(&x, &b, &mut y);
                reference::bias::backward_bias(&dy, &mut db);
                let rows = (n * h * w) as f64;
                same_bits(
                    |cpu| {
                        let mut out = Offset::nan(len, 15 - i);
                        forward(cpu, &p, Some(&x), &b, &mut out);
                        assert_within(&out, &y, 1e-7, "y");
                        let mut again = Offset::copy(&x, i);
                        forward(cpu, &p, None, &b, &mut again);
                        assert_within(&again, &y, 1e-7, "y in place");
                        let mut scratch = Offset::scratch(p.scratch_len());
                        let mut sums = Offset::nan(c, i);
                        backward_bias(cpu, &p, &dy, &mut sums, false, &mut scratch);
                        let mut added = start.clone();
                        backward_bias(cpu, &p, &dy, &mut added, true, &mut scratch);
                        [&sums[..], &added].concat()
                    },
                    |_, all| {
                        for (c, ((v, e), start)) in all.iter().zip(&db).zip(&start).enumerate() {
                            let tolerance = 1e-6 * rows.sqrt() + 1e-7;
                            assert!((f64::from(*v) - e).abs() <= tolerance, "{n} x {h} x {w}: {v}, not {e}");
                            let added = f64::from(all[db.len() + c]);
                            assert!((added - e - f64::from(*start)).abs() <= tolerance, "{n} x {h} x {w} added: {added}");
                        }
                    },
                );
            }
        }
    }

    const CHANNELS_OF_TESTS: [usize; 8] = crate::testing::CHANNELS;

    #[test]
    fn the_gradient_is_the_slope() {
        let mut random = Random::new(42);
        let (x, b, dy) = (random.vector(60), random.vector(5), random.vector(60));
        let mut db = zeros(5);
        reference::bias::backward_bias(&dy, &mut db);
        let loss = |b: &[f32]| {
            let mut y = zeros(60);
            reference::bias::forward(&x, b, &mut y);
            dot(&dy, &y)
        };
        assert_gradient(&b, &db, loss, 1e-6);
    }
}
