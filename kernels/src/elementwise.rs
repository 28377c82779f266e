//! Sums, differences, products and multiples of whole tensors, element by element: the residual
//! addition of ResNet18's blocks, the loss expressions of users, and their backward passes.
//!
//! A function whose name ends in `_assign` reads what its last argument holds and writes the result
//! there; the others overwrite it. Every pass of every op is one call:
//!
//! | op | forward | `da` overwritten, accumulated | `db` overwritten, accumulated |
//! |---|---|---|---|
//! | `y = a + b` | [`add`], [`add_assign`] | copy, [`add_assign`] | copy, [`add_assign`] |
//! | `y = a − b` | [`sub`], [`sub_assign`] | copy, [`add_assign`] | [`scale`] by −1, [`sub_assign`] |
//! | `y = a · b` | [`mul`], [`mul_assign`] | [`mul`] of dy and b, [`mul_add_assign`] | [`mul`] of dy and a, [`mul_add_assign`] |
//! | `y = s · a` | [`scale`], [`scale_assign`] | [`scale`], [`scaled_add_assign`] | |
//!
//! No scratch. References: [`crate::reference::elementwise`]. Every function panics where lengths
//! differ, and only there. Results are rounded once (at the portable level the two forms of
//! "multiply, then add" are rounded twice).

use crate::Cpu;
use crate::isa::Isa;
use crate::lanes::{Map, map};

macro_rules! formulas {
    ($($name:ident<$n:literal> |$isa:ident, $self:ident, $y:pat_param, $x:pat_param| $value:expr;)+) => {$(
        impl Map<$n> for $name {
            #[inline(always)]
            fn of<I: Isa>($self, $isa: I, $y: I::V, $x: [I::V; $n]) -> I::V {
                $value
            }
        }
    )+};
}

#[derive(Clone, Copy)]
struct Add;
#[derive(Clone, Copy)]
struct Sub;
#[derive(Clone, Copy)]
struct Mul;
#[derive(Clone, Copy)]
struct MulAdd;
#[derive(Clone, Copy)]
struct Scale(f32);
#[derive(Clone, Copy)]
struct ScaledAdd(f32);

formulas! {
    Add<2> |isa, self, _, [a, b]| isa.add(a, b);
    Add<1> |isa, self, y, [x]| isa.add(y, x);
    Sub<2> |isa, self, _, [a, b]| isa.sub(a, b);
    Sub<1> |isa, self, y, [x]| isa.sub(y, x);
    Mul<2> |isa, self, _, [a, b]| isa.mul(a, b);
    Mul<1> |isa, self, y, [x]| isa.mul(y, x);
    MulAdd<2> |isa, self, y, [a, b]| isa.fma(a, b, y);
    Scale<1> |isa, self, _, [x]| isa.mul(x, isa.splat(self.0));
    Scale<0> |isa, self, y, []| isa.mul(y, isa.splat(self.0));
    ScaledAdd<1> |isa, self, y, [x]| isa.fma(x, isa.splat(self.0), y);
}

/// `y = a + b` (overwrites `y`).
pub fn add(cpu: &Cpu, a: &[f32], b: &[f32], y: &mut [f32]) {
    map(cpu, Add, [a, b], y);
}

/// `y = a − b` (overwrites `y`).
pub fn sub(cpu: &Cpu, a: &[f32], b: &[f32], y: &mut [f32]) {
    map(cpu, Sub, [a, b], y);
}

/// `y = a · b` (overwrites `y`).
pub fn mul(cpu: &Cpu, a: &[f32], b: &[f32], y: &mut [f32]) {
    map(cpu, Mul, [a, b], y);
}

/// `y = x · factor` (overwrites `y`).
pub fn scale(cpu: &Cpu, x: &[f32], factor: f32, y: &mut [f32]) {
    map(cpu, Scale(factor), [x], y);
}

/// `y += x` (accumulates).
pub fn add_assign(cpu: &Cpu, x: &[f32], y: &mut [f32]) {
    map(cpu, Add, [x], y);
}

/// `y −= x` (accumulates).
pub fn sub_assign(cpu: &Cpu, x: &[f32], y: &mut [f32]) {
    map(cpu, Sub, [x], y);
}

/// `y ·= x` (in place).
pub fn mul_assign(cpu: &Cpu, x: &[f32], y: &mut [f32]) {
    map(cpu, Mul, [x], y);
}

/// `y ·= factor` (in place).
pub fn scale_assign(cpu: &Cpu, factor: f32, y: &mut [f32]) {
    map(cpu, Scale(factor), [], y);
}

/// `y += factor · x` (accumulates).
pub fn scaled_add_assign(cpu: &Cpu, factor: f32, x: &[f32], y: &mut [f32]) {
    map(cpu, ScaledAdd(factor), [x], y);
}

/// `y += a · b` (accumulates).
pub fn mul_add_assign(cpu: &Cpu, a: &[f32], b: &[f32], y: &mut [f32]) {
    map(cpu, MulAdd, [a, b], y);
}
