//! What several ops share: one formula applied to every element, padded ends, a square root.

use crate::{Cpu, Task, isa::Isa, parallel::Chunks};

/// The most lanes that any level has.
pub(crate) const MOST: usize = 16;

/// Numbers in one part of an element-wise pass: small enough that a part of each operand fits a
/// first-level cache, large enough that taking a part costs nothing.
pub(crate) const PART: usize = 8192;

/// The up to `LANES` numbers of `x`, then `pad`.
#[inline(always)]
pub(crate) fn load_padded<I: Isa>(isa: I, x: &[f32], pad: f32) -> I::V {
    if x.len() >= I::LANES {
        return isa.load(x);
    }
    let mut all = [pad; MOST];
    all[..x.len()].copy_from_slice(x);
    isa.load(&all)
}

/// A vector of every operand from number `i` on. A loop and not `map`, whose closure is no part of a function that is compiled
/// for a level: it would be called for every vector.
#[inline(always)]
pub(crate) fn load_each<I: Isa, const N: usize>(isa: I, x: &[&[f32]; N], i: usize) -> [I::V; N] {
    let mut v = [isa.splat(0.0); N];
    for (v, x) in v.iter_mut().zip(x) {
        *v = isa.load(&x[i..i + I::LANES]);
    }
    v
}

/// The same where fewer are left: the rest is zeros.
#[inline(always)]
pub(crate) fn load_each_padded<I: Isa, const N: usize>(isa: I, x: &[&[f32]; N], i: usize) -> [I::V; N] {
    let mut v = [isa.splat(0.0); N];
    for (v, x) in v.iter_mut().zip(x) {
        *v = load_padded(isa, &x[i..], 0.0);
    }
    v
}

/// As many lanes as `y` has room for, at most `LANES`.
#[inline(always)]
pub(crate) fn store_padded<I: Isa>(isa: I, v: I::V, y: &mut [f32]) {
    if y.len() >= I::LANES {
        return isa.store(v, y);
    }
    let mut all = [0.0; MOST];
    isa.store(v, &mut all);
    let len = y.len();
    y.copy_from_slice(&all[..len]);
}

/// A formula per element: what `y` becomes, given what it holds and `N` inputs.
pub(crate) trait Map<const N: usize>: Copy + Sync {
    /// The new `y`. Must be `#[inline(always)]`.
    fn of<I: Isa>(self, isa: I, y: I::V, x: [I::V; N]) -> I::V;
}

/// Applies `f` to every element, on all threads; each element of `y` is read only if `f` uses it.
pub(crate) fn map<const N: usize, F: Map<N>>(cpu: &Cpu, f: F, x: [&[f32]; N], y: &mut [f32]) {
    for x in x {
        assert_eq!(x.len(), y.len(), "operands of different lengths");
    }
    let parts = y.len().div_ceil(PART);
    cpu.run(Chunks::new(y, PART, parts), &mut [], 0, |i, y, _| {
        let len = y.len();
        cpu.level.run(MapTask { f, x: x.map(|x| &x[i * PART..][..len]), y });
    });
}

struct MapTask<'a, const N: usize, F> {
    f: F,
    x: [&'a [f32]; N],
    y: &'a mut [f32],
}

impl<const N: usize, F: Map<N>> Task for MapTask<'_, N, F> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (len, whole) = (self.y.len(), self.y.len() / I::LANES * I::LANES);
        let mut x = self.x;
        for x in &mut x {
            *x = &x[..len];
        }
        let mut i = 0;
        while i < whole {
            let y = &mut self.y[i..i + I::LANES];
            let v = self.f.of(isa, isa.load(y), load_each(isa, &x, i));
            isa.store(v, y);
            i += I::LANES;
        }
        if whole < len {
            let y = &mut self.y[whole..];
            let v = self.f.of(isa, load_padded(isa, y, 0.0), load_each_padded(isa, &x, whole));
            store_padded(isa, v, y);
        }
    }
}

/// The square root, exact to the last bit with and without `std` (where it is one instruction).
#[inline]
pub(crate) fn sqrt(x: f64) -> f64 {
    #[cfg(feature = "std")]
    return x.sqrt();
    #[cfg(not(feature = "std"))]
    libm::sqrt(x)
}

/// Scratch as `f64`.
///
/// # Panics
/// If it is not aligned to them.
pub(crate) fn as_f64(scratch: &mut [f32]) -> &mut [f64] {
    if scratch.is_empty() {
        return &mut [];
    }
    bytemuck::try_cast_slice_mut(scratch).unwrap_or_else(|cause| panic!("scratch must be aligned to 64 bytes: {cause}"))
}
