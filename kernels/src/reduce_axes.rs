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
