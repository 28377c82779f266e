//! What every kernel must compute: plain loops with sums in `f64`, under the kernels' own names.
//!
//! The oracle of tests and benches, compiled always because other crates use it too. Activations
//! are channels-last `f32`, weights lie as in PyTorch, results are `f64` and, where nothing else is
//! said, overwritten. Nothing here is fast, and nothing is vectorised.

pub mod avgpool;
pub mod batchnorm;
pub mod bce_with_logits;
pub mod bias;
pub mod broadcast;
pub mod clip;
pub mod concat;
pub mod conv2d;
pub mod cross_entropy;
pub mod dropout;
pub mod elementwise;
pub mod flatten;
pub mod int8;
pub mod l1;
pub mod linear;
pub mod maxpool;
pub mod mse;
pub mod pointwise;
pub mod reduce;
pub mod reduce_axes;
pub mod relu;
pub mod sgd;
pub mod smooth_l1;
pub mod softmax;
