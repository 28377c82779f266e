//! 8 bits for what is frozen: a recording of floats becomes one in which frozen convolutions compute in integers.
//!
//! A frozen convolution with what follows it (a normalisation with running statistics, the sum with a residual, a relu)
//! is one operation of integers of 8 bits, whose result is rounded once; see [`nunatak_kernels::int8`] for the formula.
//! Weights take a quarter of the memory, and the integers are the same on every CPU, at every level, for any number of
//! threads. What is trained stays as it was: floats, with PyTorch's numbers for the features that it is given.
//!
//! | step | what it does |
//! |---|---|
//! | [`Quantizer::new`] | finds what can be computed in 8 bits |
//! | [`Quantizer::plan`], [`Quantizer::observe`] | runs the network of floats on images of the user's, and notes how large each tensor's numbers are |
//! | [`Quantizer::state`] | chooses scales, rounds the weights: the state dict of the network of 8 bits |
//! | [`rewrite()`] | the recording of that network, which is planned, bound, saved and exported as any other |
//!
//! In the state dict a convolution of 8 bits is one entry of words, `NAME.int8` (a table, then the weights), instead of
//! its weight, its bias and its normalisation; the scales of tensors that become floats again or become 8 bits are the
//! entry [`SCALES`].

mod quantizer;
mod range;
mod rewrite;
mod units;
mod weights;

pub use quantizer::Quantizer;
pub use rewrite::{Rewritten, rewrite};

/// The entry with the scales of a network with layers of 8 bits.
pub const SCALES: &str = "int8.scales";
/// How the name of a layer's entry of words ends.
pub const SUFFIX: &str = ".int8";
/// The number that stands for 0 in a tensor that may have numbers below it.
const MIDDLE: u8 = 128;
