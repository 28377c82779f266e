//! Real weights to 8-bit ones, in the kernels' layout.

use super::convert::round;
use super::{BLOCK, Conv2d, padded};

/// Writes `w`, real weights in PyTorch's order, as 8-bit weights in the layout that [`crate::int8`] describes:
/// `clamp(round(w / scale), −127, 127)`, where halves are rounded to even. What is not a number becomes 0.
///
/// | name | shape | |
/// |---|---|---|
/// | `w` | k x c / groups x kernel x kernel, with the batch normalisation folded in | read |
/// | `scales` | k: of the output channels; usually the largest size of a channel's weights divided by 127 | read |
/// | `packed` | [`Conv2d::weight_len`] | overwritten |
///
/// # Panics
/// If a slice has another length.
pub fn pack(conv: &Conv2d, w: &[f32], scales: &[f32], packed: &mut [i8]) {
    let g = conv.geometry();
    let (c, k, taps) = (g.c() / g.groups(), g.k(), g.taps());
    assert_eq!(w.len(), k * c * taps, "real weights of {conv:?}");
    assert_eq!(scales.len(), k, "scales of {conv:?}");
    assert_eq!(packed.len(), conv.weight_len(), "packed weights of {conv:?}");
    packed.fill(0);
    for (channel, scale) in scales.iter().enumerate() {
        let (block, lane) = (&mut packed[channel / BLOCK * conv.block_len()..][..conv.block_len()], channel % BLOCK);
        for (i, w) in w[channel * c * taps..][..c * taps].iter().enumerate() {
            let (c_in, tap) = (i / taps, i % taps);
            let at =
                if conv.is_depthwise() { tap * BLOCK + lane } else { (tap * padded(c) / 4 + c_in / 4) * 4 * BLOCK + lane * 4 + c_in % 4 };
            block[at] = round(w / scale, 127.0) as i8;
        }
    }
}
