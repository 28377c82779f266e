//! Sums and means over some axes of a tensor: PyTorch's `sum(dim, keepdim=True)` and `mean`.
//!
//! The result has size 1 in the axes that were summed. Sums are cut into panels that the shape alone
//! decides, and panels are added in `f64` (see `axes/sums.rs`). Backward repeats dy along the axes that
//! were summed, divided by the number of elements for the mean.

use crate::Cpu;
use crate::axes::{Sums, Walk};
use crate::cross_entropy::Reduction;
use crate::isa::Isa;
use crate::reduce::{Itself, Term};
use nunatak_core::Shape;

/// Which axes are summed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Axes {
    /// Images.
    pub n: bool,
    /// Channels.
    pub c: bool,
    /// Lines.
    pub h: bool,
    /// Columns.
    pub w: bool,
}

/// A sum's or mean's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReduceAxes {
    shape: Shape,
    axes: Axes,
    reduction: Reduction,
}

impl ReduceAxes {
    /// Over these axes of tensors of this shape; with none of them y is x.
    pub const fn new(shape: Shape, axes: Axes, reduction: Reduction) -> ReduceAxes {
        ReduceAxes { shape, axes, reduction }
    }

    /// The shape of x.
    pub const fn x_shape(&self) -> Shape {
        self.shape
    }

    /// The shape of y: 1 in the axes that are summed.
    pub fn y_shape(&self) -> Shape {
        self.shape.reduced([self.axes.n, self.axes.c, self.axes.h, self.axes.w])
    }

    /// Whether sums are divided by their number of elements.
    pub const fn is_mean(&self) -> bool {
        matches!(self.reduction, Reduction::Mean)
    }

    /// Scratch in `f32` for [`forward`].
    pub fn scratch_len(&self) -> usize {
        self.sums().scratch_len()
    }

    fn sizes(&self) -> [usize; 4] {
        [self.shape.n(), self.shape.h(), self.shape.w(), self.shape.c()]
    }

    /// Which of the axes n h w c remain.
    fn kept(&self) -> [bool; 4] {
        [!self.axes.n, !self.axes.h, !self.axes.w, !self.axes.c]
    }

    fn sums(&self) -> Sums<1> {
        Sums::new(self.sizes(), [[true; 4]], self.kept())
    }

    /// What a sum, or a gradient, is divided by.
    fn divisor(&self) -> f64 {
        self.reduction.divisor(self.shape.len() / self.y_shape().len())
    }
}

/// `y = Σ x` over the axes, divided by the number of elements for the mean.
///
/// | name | shape | |
/// |---|---|---|
/// | `x` | [`ReduceAxes::x_shape`] | read |
/// | `y` | [`ReduceAxes::y_shape`] | overwritten |
/// | `scratch` | [`ReduceAxes::scratch_len`] | overwritten |
///
/// Reference: [`crate::reference::reduce_axes::forward`].
///
/// # Panics
/// If a length is wrong.
pub fn forward(cpu: &Cpu, p: &ReduceAxes, x: &[f32], y: &mut [f32], scratch: &mut [f32]) {
    p.sums().scaled(cpu, Itself, [x], 1.0 / p.divisor(), y, scratch);
}

/// `dx` = dy repeated, divided by the number of elements for the mean.
///
/// | name | shape | |
/// |---|---|---|
/// | `dy` | [`ReduceAxes::y_shape`] | read |
/// | `dx` | [`ReduceAxes::x_shape`] | overwritten, or where `add` accumulated |
///
/// No scratch. Reference: [`crate::reference::reduce_axes::backward_input`].
///
/// # Panics
/// If a length is wrong.
pub fn backward_input(cpu: &Cpu, p: &ReduceAxes, dy: &[f32], dx: &mut [f32], add: bool) {
    let factor = (1.0 / p.divisor()) as f32;
    Walk::new(p.sizes(), [p.kept()]).apply(cpu, Scaled(factor), [Some(dy)], dx, add);
}

#[derive(Clone, Copy)]
struct Scaled(f32);

impl Term<1> for Scaled {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, [x]: [I::V; 1]) -> I::V {
        isa.mul(x, isa.splat(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::reduce_axes as reference;
    use crate::testing::*;
    use proptest::prelude::*;

    fn axes(mask: usize) -> Axes {
        Axes { n: mask & 1 != 0, c: mask & 2 != 0, h: mask & 4 != 0, w: mask & 8 != 0 }
    }

    fn check(p: &ReduceAxes, offset: usize, random: &mut Random) {
        let (x_len, y_len) = (p.x_shape().len(), p.y_shape().len());
        let (x, dy) = (Offset::copy(&random.vector(x_len), offset), Offset::copy(&random.vector(y_len), 15 - offset));
        let (mut y, mut dx, start) = (zeros(y_len), zeros(x_len), random.vector(x_len));
        reference::forward(p, &x, &mut y);
        reference::backward_input(p, &dy, &mut dx);
        let count = (x_len / y_len) as f64;
        same_bits(
            |cpu| {
                let mut out = Offset::nan(x_len, offset);
                backward_input(cpu, p, &dy, &mut out, false);
                assert_within(&out, &dx, 2e-7, "dx");
                let mut sum = Offset::copy(&start, offset);
                backward_input(cpu, p, &dy, &mut sum, true);
                assert!(sum.iter().zip(&start).zip(out.iter()).all(|((s, a), b)| *s == a + b), "dx added");
                let mut out = Offset::nan(y_len, 15 - offset);
                forward(cpu, p, &x, &mut out, &mut Offset::scratch(p.scratch_len()));
                out.to_vec()
            },
            |_, out| {
                // To the size of what was added.
                let tolerance = 1e-6 * count.sqrt() / p.divisor();
                for (v, e) in out.iter().zip(&y) {
                    assert!((f64::from(*v) - e).abs() <= tolerance + 2e-7 * e.abs(), "{p:?}: {v}, not {e}");
                }
            },
        );
    }

    #[test]
    fn every_choice_of_axes_matches_the_reference() {
        let mut random = Random::new(91);
        for (n, c, h, w) in [(2, 5, 3, 4), (3, 17, 2, 2), (1, 33, 5, 1), (4, 64, 40, 41), (2, 1, 300, 70), (2, 2100, 2, 3)] {
            for mask in 0..16 {
                for reduction in [Reduction::Sum, Reduction::Mean] {
                    let p = ReduceAxes::new(Shape::new(n, c, h, w).expect("a shape"), axes(mask), reduction);
                    check(&p, mask, &mut random);
                }
            }
        }
    }

    #[test]
    fn the_shape_keeps_its_axes() {
        let p = ReduceAxes::new(Shape::new(2, 3, 4, 5).expect("a shape"), Axes { c: true, w: true, ..Axes::default() }, Reduction::Mean);
        assert_eq!(p.y_shape().sizes(), [2, 1, 4, 1]);
    }

    #[test]
    fn sums_and_means_of_known_numbers() {
        // torch.arange(12.).reshape(1, 2, 2, 3): here with channels last.
        let x = [0.0, 6.0, 1.0, 7.0, 2.0, 8.0, 3.0, 9.0, 4.0, 10.0, 5.0, 11.0];
        let shape = Shape::new(1, 2, 2, 3).expect("a shape");
        for_each_cpu(|cpu| {
            let mut y = [0.0; 4];
            let p = ReduceAxes::new(shape, Axes { w: true, ..Axes::default() }, Reduction::Sum);
            forward(cpu, &p, &x, &mut y, &mut []);
            // x.sum(3) is [[3, 12], [21, 30]].
            assert_eq!(y, [3.0, 21.0, 12.0, 30.0]);
            let p = ReduceAxes::new(shape, Axes { h: true, w: true, ..Axes::default() }, Reduction::Mean);
            forward(cpu, &p, &x, &mut y[..2], &mut []);
            assert_eq!(y[..2], [2.5, 8.5]);
        });
    }

    #[test]
    fn the_gradient_is_the_slope() {
        let mut random = Random::new(92);
        let x = random.vector(24);
        for mask in 0..16 {
            let p = ReduceAxes::new(Shape::new(2, 3, 2, 2).expect("a shape"), axes(mask), Reduction::Mean);
            let dy = random.vector(p.y_shape().len());
            let mut dx = zeros(24);
            reference::backward_input(&p, &dy, &mut dx);
            let loss = |x: &[f32]| {
                let mut y = zeros(dy.len());
                reference::forward(&p, x, &mut y);
                dot(&dy, &y)
            };
            assert_gradient(&x, &dx, loss, 1e-6);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_shape(n in 1_usize..5, c in 1_usize..40, h in 1_usize..9, w in 1_usize..9, mask in 0_usize..16, mean: bool, seed: u64) {
            let reduction = if mean { Reduction::Mean } else { Reduction::Sum };
            let p = ReduceAxes::new(Shape::new(n, c, h, w).expect("a shape"), axes(mask), reduction);
            check(&p, seed as usize % 16, &mut Random::new(seed));
        }
    }
}
