//! Rectified linear unit: `y = max(x, 0)`, after every batchnorm and every addition of ResNet18.
//!
//! As in PyTorch −0.0 stays −0.0 and NaN stays NaN. Backward needs only `y`, so both passes may work
//! in place and nothing is saved.

use crate::Cpu;
use crate::isa::Isa;
use crate::lanes::{Map, map};

/// `y = x` where not `x < 0`, else 0.
///
/// | name | shape | |
/// |---|---|---|
/// | `x` | any | read; `None`: `y` holds it on entry |
/// | `y` | as `x` | overwritten |
///
/// No scratch. Reference: [`crate::reference::relu::forward`].
///
/// # Panics
/// If the lengths differ.
pub fn forward(cpu: &Cpu, x: Option<&[f32]>, y: &mut [f32]) {
    match x {
        Some(x) => map(cpu, Positive, [x], y),
        None => map(cpu, Positive, [], y),
    }
}

/// `dx = dy` where not `y <= 0`, else 0.
///
/// | name | shape | |
/// |---|---|---|
/// | `y` | any | read: what `forward` wrote (its input serves as well) |
/// | `dy` | as `y` | read; `None`: `dx` holds it on entry |
/// | `dx` | as `y` | overwritten |
///
/// No scratch. Reference: [`crate::reference::relu::backward_input`].
///
/// # Panics
/// If the lengths differ.
pub fn backward_input(cpu: &Cpu, y: &[f32], dy: Option<&[f32]>, dx: &mut [f32]) {
    match dy {
        Some(dy) => map(cpu, WherePositive, [y, dy], dx),
        None => map(cpu, WherePositive, [y], dx),
    }
}

#[derive(Clone, Copy)]
struct Positive;

impl Map<1> for Positive {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, _: I::V, [x]: [I::V; 1]) -> I::V {
        let zero = isa.splat(0.0);
        isa.select(isa.lt(x, zero), zero, x)
    }
}

impl Map<0> for Positive {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, y: I::V, []: [I::V; 0]) -> I::V {
        <Self as Map<1>>::of(self, isa, y, [y])
    }
}

#[derive(Clone, Copy)]
struct WherePositive;

impl Map<2> for WherePositive {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, _: I::V, [y, dy]: [I::V; 2]) -> I::V {
        let zero = isa.splat(0.0);
        isa.select(isa.le(y, zero), zero, dy)
    }
}

impl Map<1> for WherePositive {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, dx: I::V, [y]: [I::V; 1]) -> I::V {
        <Self as Map<2>>::of(self, isa, dx, [y, dx])
    }
}
