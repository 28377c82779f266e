//! Convolution over few pixels: the algorithm `stream`.
//!
//! Late layers at batch 1 have a handful of pixels and megabytes of weights. There the time is that of
//! bringing the weights from memory, so each pass reads them once, from front to back, asks for them
//! ahead, and makes nothing of their size: no transposed weights for the input's gradient, and no
//! gradient at all where the update follows at once ([`backward::step`]).
//!
//! * *Forward* ([`forward`]): a part is a block of output channels and a range of input channels, for
//!   all pixels.
//! * *Backward* ([`backward`]): a part is a range of input channels with all output channels. The
//!   pixels' dy, arranged by tap, stays in the first-level cache while the weights pass by: each weight
//!   vector meets it twice, as `w·dy` for the input's gradient and as `x·dy` for its own.
//!
//! All parts own what they write, or write partial sums that are added in their order: the threads'
//! number changes no bit.

pub(crate) mod backward;
pub(crate) mod forward;
#[allow(unsafe_code)]
mod micro;
mod pairs;

use super::Uniform;
use pairs::MOST_STRIDE;

/// The most pixels of the output, and of the input for each of stride x stride phases. With more of
/// them a matrix product reuses what it has brought to the caches, and is bound by arithmetic.
const PIXELS: usize = 64;

/// Whether pixels are few: for large planes the arrangement by taps would fall out of the caches, and
/// the scratch would grow with them.
pub(crate) const fn accepts(conv: &Uniform) -> bool {
    conv.n * conv.out_h() * conv.out_w() <= PIXELS
        && conv.stride <= MOST_STRIDE
        && conv.n * conv.h * conv.w <= PIXELS * conv.stride * conv.stride
}

/// Weights that do not stay in a core's second-level cache until they are needed again.
const MANY_WEIGHTS: usize = 384 << 10;
/// Pixels, as in [`PIXELS`], up to which arithmetic takes less time than the weights.
const FEW_PIXELS: usize = 16;

/// Whether the weights are what the time goes to, in all passes.
pub(crate) fn pays(conv: &Uniform) -> bool {
    conv.weights().len() >= MANY_WEIGHTS
        && conv.n * conv.out_h() * conv.out_w() <= FEW_PIXELS
        && conv.n * conv.h * conv.w <= FEW_PIXELS * conv.stride * conv.stride
        && accepts(conv)
}
