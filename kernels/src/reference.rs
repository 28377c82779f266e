//! What every kernel must compute: plain loops with sums in `f64`, under the kernels' own names.
//!
//! The oracle of tests and benches, compiled always because other crates use it too. Activations
//! are channels-last `f32`, weights lie as in PyTorch, results are `f64` and, where nothing else is
//! said, overwritten. Nothing here is fast, and nothing is vectorised.

pub mod avgpool;
pub mod batchnorm;
pub mod clip;
pub mod conv2d;
pub mod cross_entropy;
pub mod elementwise;
pub mod linear;
pub mod maxpool;
pub mod mse;
pub mod reduce;
pub mod relu;
pub mod sgd;

#[cfg(test)]
mod tests;
