//! Sum, difference, product and quotient of two tensors, where either is repeated along axes in
//! which its size is 1: a number, one number per channel (`[1, c, 1, 1]`), per image and channel
//! (`[n, c, 1, 1]`, squeeze-excite), per pixel (`[n, 1, h, w]`), or any other choice of axes.
//!
//! The gradient of an operand that was repeated is summed over the axes in which it was. Sums are cut
//! by the shape alone (see `axes/sums.rs`): the same bits for any number of threads.
//!
//! | op | `da` | `db` |
//! |---|---|---|
//! | `a + b` | `Σ dy` | `Σ dy` |
//! | `a − b` | `Σ dy` | `Σ −dy` |
//! | `a · b` | `Σ dy·b` | `Σ dy·a` |
//! | `a / b` | `Σ dy/b` | `Σ −dy·a/b/b` |

use crate::Cpu;
use crate::axes::{Sums, Walk};
use crate::isa::Isa;
use crate::reduce::{Itself, Term};
use nunatak_core::{Error, Shape};

/// What is done with two numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a − b`
    Sub,
    /// `a · b`
    Mul,
    /// `a / b`
    Div,
}

/// One of the two operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    /// The first.
    A,
    /// The second.
    B,
}

impl Binary {
    /// Whether [`backward_input`] for this operand reads a, and whether it reads b.
    pub const fn backward_reads(self, operand: Operand) -> (bool, bool) {
        match (self, operand) {
            (Binary::Add | Binary::Sub, _) => (false, false),
            (Binary::Mul | Binary::Div, Operand::A) => (false, true),
            (Binary::Mul, Operand::B) => (true, false),
            (Binary::Div, Operand::B) => (true, true),
        }
    }

    /// `add`, `sub`, `mul` or `div`.
    pub const fn name(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
        }
    }
}

/// The shapes of two operands and of their result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broadcast {
    a: Shape,
    b: Shape,
    y: Shape,
}

/// n, h, w, c: the order of memory.
fn sizes(shape: Shape) -> [usize; 4] {
    [shape.n(), shape.h(), shape.w(), shape.c()]
}

impl Broadcast {
    /// Operands of the shapes `a` and `b` with a result of shape `y`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] where `a` and `b` differ in a size and neither is 1 there, or where `y`
    /// is not their common shape; [`Error::TooLarge`].
    pub fn new(a: Shape, b: Shape, y: Shape) -> Result<Broadcast, Error> {
        a.broadcast(b)?.expect(y)?;
        Ok(Broadcast { a, b, y })
    }

    /// The shape of an operand.
    pub const fn operand(&self, operand: Operand) -> Shape {
        match operand {
            Operand::A => self.a,
            Operand::B => self.b,
        }
    }

    /// The shape of the result.
    pub const fn result(&self) -> Shape {
        self.y
    }

    /// Scratch in `f32` for [`backward_input`].
    pub fn scratch_len(&self, op: Binary, operand: Operand) -> usize {
        if self.operand(operand) == self.y {
            return 0;
        }
        match op.backward_reads(operand) {
            (false, false) => self.sums([self.all()], operand).scratch_len(),
            (true, false) => self.sums([self.all(), self.has(Operand::A)], operand).scratch_len(),
            (false, true) => self.sums([self.all(), self.has(Operand::B)], operand).scratch_len(),
            (true, true) => self.sums([self.all(), self.has(Operand::A), self.has(Operand::B)], operand).scratch_len(),
        }
    }

    /// Which axes (n h w c) an operand has as y has them.
    fn has(&self, operand: Operand) -> [bool; 4] {
        let (x, y) = (sizes(self.operand(operand)), sizes(self.y));
        [x[0] == y[0], x[1] == y[1], x[2] == y[2], x[3] == y[3]]
    }

    const fn all(&self) -> [bool; 4] {
        [true; 4]
    }

    fn sums<const N: usize>(&self, has: [[bool; 4]; N], operand: Operand) -> Sums<N> {
        Sums::new(sizes(self.y), has, self.has(operand))
    }
}

/// `y = a op b`
///
/// | name | shape | |
/// |---|---|---|
/// | `a` | [`Broadcast::operand`] | read; `None`: `y` holds it on entry (it must have y's shape) |
/// | `b` | [`Broadcast::operand`] | read |
/// | `y` | [`Broadcast::result`] | overwritten |
///
/// No scratch. Reference: [`crate::reference::broadcast::forward`].
///
/// # Panics
/// If a length is wrong.
pub fn forward(cpu: &Cpu, op: Binary, p: &Broadcast, a: Option<&[f32]>, b: &[f32], y: &mut [f32]) {
    let walk = Walk::new(sizes(p.y), [p.has(Operand::A), p.has(Operand::B)]);
    let x = [a, Some(b)];
    match op {
        Binary::Add => walk.apply(cpu, Sum, x, y, false),
        Binary::Sub => walk.apply(cpu, Difference, x, y, false),
        Binary::Mul => walk.apply(cpu, Product, x, y, false),
        Binary::Div => walk.apply(cpu, Quotient, x, y, false),
    }
}

/// The tensors of [`backward_input`].
#[derive(Debug)]
pub struct BackwardInput<'a> {
    /// [`Broadcast::operand`]: read where [`Binary::backward_reads`] says so, else it may be empty.
    pub a: &'a [f32],
    /// Likewise.
    pub b: &'a [f32],
    /// [`Broadcast::result`]: read. `None`: `dx` holds it on entry (it must have y's shape).
    pub dy: Option<&'a [f32]>,
    /// As the operand: overwritten, or added to where `add`.
    pub dx: &'a mut [f32],
    /// Whether the gradient is added to what `dx` holds.
    pub add: bool,
    /// [`Broadcast::scratch_len`] numbers: overwritten.
    pub scratch: &'a mut [f32],
}

/// The gradient of one operand (see the table above).
///
/// Reference: [`crate::reference::broadcast::backward_input`].
///
/// # Panics
/// If a length is wrong, or where `dx` shall hold dy and be added to.
pub fn backward_input(cpu: &Cpu, op: Binary, p: &Broadcast, operand: Operand, call: BackwardInput) {
    let BackwardInput { a, b, dy, dx, add, scratch } = call;
    let pass = Backward { cpu, p, operand, dy, dx, add, scratch };
    let (all, has_a, has_b) = (p.all(), p.has(Operand::A), p.has(Operand::B));
    match (op, operand) {
        (Binary::Add, _) | (Binary::Sub, Operand::A) => pass.run(Itself, [all], []),
        (Binary::Sub, Operand::B) => pass.run(Negative, [all], []),
        (Binary::Mul, Operand::A) => pass.run(Product, [all, has_b], [b]),
        (Binary::Mul, Operand::B) => pass.run(Product, [all, has_a], [a]),
        (Binary::Div, Operand::A) => pass.run(Quotient, [all, has_b], [b]),
        (Binary::Div, Operand::B) => pass.run(QuotientOfB, [all, has_a, has_b], [a, b]),
    }
}

struct Backward<'a, 't> {
    cpu: &'a Cpu<'t>,
    p: &'a Broadcast,
    operand: Operand,
    dy: Option<&'a [f32]>,
    dx: &'a mut [f32],
    add: bool,
    scratch: &'a mut [f32],
}

impl Backward<'_, '_> {
    /// The term's operands are dy and `others`.
    fn run<const N: usize, const OTHERS: usize, F: Term<N>>(self, f: F, has: [[bool; 4]; N], others: [&[f32]; OTHERS]) {
        assert_eq!(N, OTHERS + 1);
        if self.p.operand(self.operand) == self.p.y {
            let mut x = [self.dy; N];
            for (x, other) in x[1..].iter_mut().zip(others) {
                *x = Some(other);
            }
            return Walk::new(sizes(self.p.y), has).apply(self.cpu, f, x, self.dx, self.add);
        }
        let dy = self.dy.expect("the gradient of an operand that was repeated has another shape than dy, which can't lie in its place");
        let mut x = [dy; N];
        x[1..].copy_from_slice(&others);
        self.p.sums(has, self.operand).run(self.cpu, f, x, self.dx, self.add, self.scratch);
    }
}

macro_rules! terms {
    ($($(#[$doc:meta])* $name:ident<$n:literal> |$isa:ident, $x:pat_param| $value:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        struct $name;
        impl Term<$n> for $name {
            #[inline(always)]
            fn of<I: Isa>(self, $isa: I, $x: [I::V; $n]) -> I::V {
                $value
            }
        }
    )+};
}

terms! {
    Negative<1> |isa, [dy]| isa.sub(isa.splat(-0.0), dy);
    Sum<2> |isa, [a, b]| isa.add(a, b);
    Difference<2> |isa, [a, b]| isa.sub(a, b);
    Product<2> |isa, [a, b]| isa.mul(a, b);
    Quotient<2> |isa, [a, b]| isa.div(a, b);
    /// −dy·a/b/b
    QuotientOfB<3> |isa, [dy, a, b]| {
        isa.mul(isa.sub(isa.splat(-0.0), dy), isa.div(isa.div(a, b), b))
    };
}
