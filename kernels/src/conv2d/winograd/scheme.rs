//! What a member of the family brings: one-dimensional transforms and their sizes.

use crate::isa::Isa;

/// The most points of any scheme.
pub(crate) const MOST: usize = 7;

/// A line of numbers, one vector of channels each. A scheme uses as many as its sizes say; the others
/// hold anything, and vanish when the code is compiled.
pub(crate) type Line<I> = [<I as Isa>::V; MOST];

/// A way to compute [`Scheme::OUT`] outputs of a filter of three from [`Scheme::IN`] inputs with
/// [`Scheme::POINTS`] products: `y = Aᵀ[(G g) ⊙ (Bᵀ d)]`. An input's gradient with a stride is of the same
/// kind, with dy for d and the flipped filter for g.
///
/// Plain functions and not closures or iterators: what the compiler does not inline is compiled without
/// the vector instructions (see [`crate::isa`]).
pub(crate) trait Scheme: Copy + Sync {
    /// Inputs that are read.
    const IN: usize;
    /// Products.
    const POINTS: usize;
    /// Outputs.
    const OUT: usize;
    /// Zeros of the padding that lie before the inputs and are not read, because the scheme knows them.
    const KNOWN: usize;
    /// Positions of a transformed tile.
    const POSITIONS: usize = Self::POINTS * Self::POINTS;
    /// Inputs and outputs that lie beside each other: where outputs move by the second, inputs move by the first.
    const STEPS: [usize; 2] = [1, 1];
    /// Outputs that a short tile lacks, and the products that go to those outputs alone: the last of both.
    const SHORT: usize = 1;
    const LAST: usize = 1;
    /// Numbers of a transformed filter: fewer than products where some of them share one.
    const FILTERS: usize = Self::POINTS;

    /// Which number of the transformed filter a product takes: all of them, in order.
    #[inline(always)]
    fn shared(point: usize) -> usize {
        point
    }

    /// Bᵀ d
    fn input<I: Isa>(isa: I, d: Line<I>) -> Line<I>;
    /// G g
    fn filter<I: Isa>(isa: I, g: Line<I>) -> Line<I>;
    /// Aᵀ m
    fn output<I: Isa>(isa: I, m: Line<I>) -> Line<I>;
    /// A y: the adjoint of [`Scheme::output`].
    fn output_adjoint<I: Isa>(isa: I, y: Line<I>) -> Line<I>;
    /// Gᵀ u: the adjoint of [`Scheme::filter`].
    fn filter_adjoint<I: Isa>(isa: I, u: Line<I>) -> Line<I>;
}
