//! What a member of the family brings: one-dimensional transforms and their sizes.

use crate::isa::Isa;

/// The most points of any scheme.
pub(crate) const MOST: usize = 6;

/// A line of numbers, one vector of channels each. A scheme uses as many as its sizes say; the others
/// hold anything, and vanish when the code is compiled.
pub(crate) type Line<I> = [<I as Isa>::V; MOST];

/// A way to compute [`Scheme::OUT`] outputs of a filter of three from [`Scheme::IN`] inputs with
/// [`Scheme::POINTS`] products: `y = Aᵀ[(G g) ⊙ (Bᵀ d)]`.
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

    /// Bᵀ d
    fn input<I: Isa>(isa: I, d: Line<I>) -> Line<I>;
    /// G g
    fn filter<I: Isa>(isa: I, g: Line<I>) -> Line<I>;
    /// Aᵀ m, where the last product goes to the last output alone.
    fn output<I: Isa>(isa: I, m: Line<I>) -> Line<I>;
    /// A y: the adjoint of [`Scheme::output`].
    fn output_adjoint<I: Isa>(isa: I, y: Line<I>) -> Line<I>;
    /// Gᵀ u: the adjoint of [`Scheme::filter`].
    fn filter_adjoint<I: Isa>(isa: I, u: Line<I>) -> Line<I>;
}
