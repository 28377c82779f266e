//! Every op against its reference twin: a file each.

mod avgpool;
mod avgpool_windows;
mod batchnorm;
mod batchnorm_fused;
mod batchnorm_pooled;
mod bce_with_logits;
mod bias;
mod broadcast;
mod calibration;
mod clip;
mod concat;
#[allow(clippy::excessive_precision, reason = "golden values as torch prints them")]
mod cross_entropy;
mod dropout;
mod elementwise;
mod finite;
mod flatten;
mod images;
mod l1;
mod maxpool;
mod maxpool_windows;
mod mse;
mod pointwise;
mod reduce;
mod reduce_axes;
mod reference;
mod relu;
mod sgd;
mod smooth_l1;
mod softmax;
#[allow(dead_code, reason = "the unit tests in src use the rest")]
mod testing;
mod weights;
