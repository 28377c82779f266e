//! Walks over tensors that are repeated along some axes, and sums over axes: what broadcasting,
//! reductions and biases share.
//!
//! Axes are named in the order of memory, n h w c, from the outermost to the innermost. Neighbours
//! that all operands treat alike are merged into one, so that a per-channel operand is two axes
//! (pixels, channels) and equal shapes are one.

mod sums;

use crate::isa::Isa;
use crate::lanes::{PART, load_padded, store_padded};
use crate::reduce::Term;
use crate::{Cpu, Task, parallel::Chunks};
pub(crate) use sums::Sums;

/// The most axes there are.
const AXES: usize = 4;

/// Merged axes, the innermost last; those in front of the first have size 1.
#[derive(Clone, Copy)]
struct Merged<const N: usize> {
    sizes: [usize; AXES],
    /// Whether an operand has the axis; where not, it has one element there, which is repeated.
    has: [[bool; AXES]; N],
}

/// Drops axes of size 1 and merges neighbours that every operand has, or has not.
fn merge<const N: usize>(sizes: [usize; AXES], has: [[bool; AXES]; N]) -> Merged<N> {
    let mut merged = Merged { sizes: [1; AXES], has: [[true; AXES]; N] };
    let mut at = AXES;
    for axis in (0..AXES).rev().filter(|axis| sizes[*axis] != 1) {
        if at < AXES && has.iter().zip(&merged.has).all(|(has, merged)| has[axis] == merged[at]) {
            merged.sizes[at] *= sizes[axis];
        } else {
            at -= 1;
            merged.sizes[at] = sizes[axis];
            for (merged, has) in merged.has.iter_mut().zip(&has) {
                merged[at] = has[axis];
            }
        }
    }
    merged
}

/// How far apart an operand's elements lie along each merged axis: 0 where it is repeated.
fn steps(sizes: [usize; AXES], has: [bool; AXES]) -> [usize; AXES] {
    let mut steps = [0; AXES];
    let mut step = 1;
    for axis in (0..AXES).rev().filter(|axis| has[*axis]) {
        steps[axis] = step;
        step *= sizes[axis];
    }
    steps
}

/// Elements of an operand.
fn len(sizes: [usize; AXES], has: [bool; AXES]) -> usize {
    (0..AXES).filter(|axis| has[*axis]).map(|axis| sizes[axis]).product()
}

/// Rows of the innermost axis, one after the other, and where each operand's begin.
#[derive(Clone, Copy)]
struct Rows<const N: usize> {
    sizes: [usize; 3],
    steps: [[usize; 3]; N],
    index: [usize; 3],
    at: [usize; N],
}

impl<const N: usize> Rows<N> {
    /// From row `row` on; its operands begin `at`.
    #[inline(always)]
    fn new(sizes: [usize; 3], steps: [[usize; 3]; N], row: usize, mut at: [usize; N]) -> Self {
        let mut index = [0; 3];
        let mut rest = row;
        let mut axis = 3;
        while axis > 0 {
            axis -= 1;
            index[axis] = rest % sizes[axis];
            rest /= sizes[axis];
            for k in 0..N {
                at[k] += index[axis] * steps[k][axis];
            }
        }
        Rows { sizes, steps, index, at }
    }

    /// Past `count` rows, which must not lead beyond the last along the last of the three axes.
    #[inline(always)]
    fn advance_by(&mut self, count: usize) {
        self.index[2] += count - 1;
        for k in 0..N {
            self.at[k] += (count - 1) * self.steps[k][2];
        }
        self.advance();
    }

    /// To the next row.
    #[inline(always)]
    fn advance(&mut self) {
        let mut axis = 3;
        while axis > 0 {
            axis -= 1;
            self.index[axis] += 1;
            for k in 0..N {
                self.at[k] += self.steps[k][axis];
            }
            if self.index[axis] < self.sizes[axis] {
                return;
            }
            self.index[axis] = 0;
            for k in 0..N {
                self.at[k] -= self.sizes[axis] * self.steps[k][axis];
            }
        }
    }
}

/// The first three of four.
fn outer<T: Copy>([a, b, c, _]: [T; AXES]) -> [T; 3] {
    [a, b, c]
}

/// Operands, and the place in each from which it is read.
#[derive(Clone, Copy)]
struct Operands<X, const N: usize> {
    x: [X; N],
    at: [usize; N],
}

/// A walk over all elements of an output with `N` operands.
#[derive(Clone, Copy)]
pub(crate) struct Walk<const N: usize> {
    sizes: [usize; AXES],
    has: [[bool; AXES]; N],
    steps: [[usize; AXES]; N],
}

impl<const N: usize> Walk<N> {
    /// Over an output of these sizes (n h w c); an operand that has not an axis is repeated along it.
    pub(crate) fn new(sizes: [usize; AXES], has: [[bool; AXES]; N]) -> Self {
        let Merged { sizes, has } = merge(sizes, has);
        let mut all = [[0; AXES]; N];
        for (all, has) in all.iter_mut().zip(&has) {
            *all = steps(sizes, *has);
        }
        Walk { sizes, has, steps: all }
    }

    /// Over `len` elements, which every operand has.
    pub(crate) fn flat(len: usize) -> Self {
        Self::new([1, 1, 1, len], [[true; AXES]; N])
    }

    /// `y = f(x)`, or added to what y holds; an operand that is `None` is what y holds on entry.
    pub(crate) fn apply<F: Term<N>>(&self, cpu: &Cpu, f: F, x: [Option<&[f32]>; N], y: &mut [f32], add: bool) {
        assert_eq!(y.len(), self.sizes.iter().product(), "an output of other sizes");
        for (k, x) in x.iter().enumerate() {
            match x {
                Some(x) => assert_eq!(x.len(), len(self.sizes, self.has[k]), "operand {k} of another size"),
                None => assert!(len(self.sizes, self.has[k]) == y.len() && !add, "operand {k} can't lie where the output is"),
            }
        }
        let parts = y.len().div_ceil(PART);
        cpu.run(Chunks::new(y, PART, parts), &mut [], 0, |i, y, _| {
            cpu.level.run(WalkTask { walk: self, f, x, first: i * PART, y, add });
        });
    }
}

struct WalkTask<'a, const N: usize, F> {
    walk: &'a Walk<N>,
    f: F,
    x: [Option<&'a [f32]>; N],
    /// The number of the part's first element.
    first: usize,
    y: &'a mut [f32],
    add: bool,
}

impl<const N: usize, F: Term<N>> Task for WalkTask<'_, N, F> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let WalkTask { walk, f, x, first, y, add } = self;
        let inner = walk.sizes[3];
        let mut outer_steps = [[0; 3]; N];
        for (to, steps) in outer_steps.iter_mut().zip(walk.steps) {
            *to = outer(steps);
        }
        let mut rows = Rows::new(outer(walk.sizes), outer_steps, first / inner, [0; N]);
        let mut column = first % inner;
        let mut done = 0;
        let in_place = x.iter().any(Option::is_none);
        while done < y.len() {
            // As many whole rows as lie alike, if they are short.
            let run = (walk.sizes[2] - rows.index[2]).min((y.len() - done) / inner);
            if column == 0 && run > 1 && inner < 4 * I::LANES {
                let (operands, y) = (Operands { x, at: rows.at }, &mut y[done..done + run * inner]);
                if in_place || add {
                    short_rows::<I, N, F, true>(isa, walk, f, operands, y, add);
                } else {
                    short_rows::<I, N, F, false>(isa, walk, f, operands, y, add);
                }
                done += run * inner;
                rows.advance_by(run);
                continue;
            }
            let count = (inner - column).min(y.len() - done);
            let mut operands = [Operand::Output; N];
            for k in 0..N {
                operands[k] = match x[k] {
                    None => Operand::Output,
                    Some(x) if walk.steps[k][3] == 0 => Operand::One(x[rows.at[k]]),
                    Some(x) => Operand::Row(&x[rows.at[k] + column..][..count]),
                };
            }
            let y = &mut y[done..done + count];
            if in_place || add {
                row::<I, N, F, true>(isa, f, operands, y, add);
            } else {
                row::<I, N, F, false>(isa, f, operands, y, add);
            }
            done += count;
            column = 0;
            rows.advance();
        }
    }
}

/// What an operand is along the innermost axis.
#[derive(Clone, Copy)]
enum Operand<'a> {
    /// One element, repeated.
    One(f32),
    /// An element for each.
    Row(&'a [f32]),
    /// What the output holds.
    Output,
}

impl Operand<'_> {
    /// A vector from place `i` on, padded with zeros where fewer than a vector are left.
    #[inline(always)]
    fn load<I: Isa, const WHOLE: bool>(self, isa: I, i: usize, y: I::V) -> I::V {
        match self {
            Operand::One(x) => isa.splat(x),
            Operand::Row(x) if WHOLE => isa.load(&x[i..i + I::LANES]),
            Operand::Row(x) => load_padded(isa, &x[i..], 0.0),
            Operand::Output => y,
        }
    }
}

/// `y = f(x)` along the innermost axis. Only with `READ` is y read: where it is added to, or an operand.
#[inline(always)]
fn row<I: Isa, const N: usize, F: Term<N>, const READ: bool>(isa: I, f: F, x: [Operand; N], y: &mut [f32], add: bool) {
    let (len, whole) = (y.len(), y.len() / I::LANES * I::LANES);
    let mut v = [isa.splat(0.0); N];
    let mut before = isa.splat(0.0);
    let mut i = 0;
    // The commonest case in a loop of its own, without a question in it.
    let mut slices: [&[f32]; N] = [&[]; N];
    let mut slices_alone = !READ;
    for k in 0..N {
        match x[k] {
            Operand::Row(x) => slices[k] = &x[..len],
            _ => slices_alone = false,
        }
    }
    while slices_alone && i < whole {
        for k in 0..N {
            v[k] = isa.load(&slices[k][i..i + I::LANES]);
        }
        isa.store(f.of(isa, v), &mut y[i..i + I::LANES]);
        i += I::LANES;
    }
    while i < whole {
        let y = &mut y[i..i + I::LANES];
        if READ {
            before = isa.load(y);
        }
        for k in 0..N {
            v[k] = x[k].load::<I, true>(isa, i, before);
        }
        let mut new = f.of(isa, v);
        if READ && add {
            new = isa.add(before, new);
        }
        isa.store(new, y);
        i += I::LANES;
    }
    if whole < len {
        let y = &mut y[whole..];
        if READ {
            before = load_padded(isa, y, 0.0);
        }
        for k in 0..N {
            v[k] = x[k].load::<I, false>(isa, whole, before);
        }
        let mut new = f.of(isa, v);
        if READ && add {
            new = isa.add(before, new);
        }
        store_padded(isa, new, y);
    }
}

/// The same for rows of less than four vectors, one vector of columns after the other: what is the
/// same in every row is loaded once.
#[inline(always)]
fn short_rows<I: Isa, const N: usize, F: Term<N>, const READ: bool>(
    isa: I,
    walk: &Walk<N>,
    f: F,
    operands: Operands<Option<&[f32]>, N>,
    y: &mut [f32],
    add: bool,
) {
    let inner = walk.sizes[3];
    let mut j = 0;
    while j < inner {
        if j + I::LANES <= inner {
            vector_of_columns::<I, N, F, READ, true>(isa, walk, f, operands, j, y, add);
        } else if !READ && inner > I::LANES {
            // The last vector overlaps the one before, and writes the same again.
            vector_of_columns::<I, N, F, READ, true>(isa, walk, f, operands, inner - I::LANES, y, add);
        } else {
            vector_of_columns::<I, N, F, READ, false>(isa, walk, f, operands, j, y, add);
        }
        j += I::LANES;
    }
}

/// The columns from `j` on, as many as a vector has, of all rows.
#[inline(always)]
fn vector_of_columns<I: Isa, const N: usize, F: Term<N>, const READ: bool, const WHOLE: bool>(
    isa: I,
    walk: &Walk<N>,
    f: F,
    operands: Operands<Option<&[f32]>, N>,
    j: usize,
    y: &mut [f32],
    add: bool,
) {
    let Operands { x, at } = operands;
    let inner = walk.sizes[3];
    let lanes = if WHOLE { I::LANES } else { inner - j };
    let mut v = [isa.splat(0.0); N];
    let mut before = isa.splat(0.0);
    for (row, y) in y.chunks_exact_mut(inner).enumerate() {
        let y = &mut y[j..j + lanes];
        if READ {
            before = if WHOLE { isa.load(y) } else { load_padded(isa, y, 0.0) };
        }
        for k in 0..N {
            let step = walk.steps[k][2];
            let Some(x) = x[k] else {
                v[k] = before;
                continue;
            };
            if step == 0 && row > 0 {
                continue;
            }
            let from = at[k] + row * step;
            v[k] = if walk.steps[k][3] == 0 {
                isa.splat(x[from])
            } else if WHOLE {
                isa.load(&x[from + j..from + j + lanes])
            } else {
                load_padded(isa, &x[from + j..from + j + lanes], 0.0)
            };
        }
        let mut new = f.of(isa, v);
        if READ && add {
            new = isa.add(before, new);
        }
        if WHOLE { isa.store(new, y) } else { store_padded(isa, new, y) }
    }
}
