//! One group of a convolution: channels side by side in pixels that have more, and weights of its own.
//!
//! `gemm` computes a convolution group by group, each as a convolution of one group whose weights are copied into
//! scratch first.

use super::Conv2d;

/// Some channels of pixels that lie `pixel` numbers apart, from channel `first` on.
#[derive(Clone, Copy)]
pub(crate) struct Channels {
    pub(crate) pixel: usize,
    pub(crate) first: usize,
}

/// A convolution of one group, and where its channels lie in x and in y.
#[derive(Clone, Copy)]
pub(crate) struct Group {
    pub(crate) conv: Conv2d,
    pub(crate) x: Channels,
    pub(crate) y: Channels,
}

impl Group {
    /// The group of this number.
    pub(crate) fn nth(conv: &Conv2d, number: usize) -> Group {
        let one = conv.of_group();
        let (x, y) = (Channels { pixel: conv.c(), first: number * one.c() }, Channels { pixel: conv.k(), first: number * one.k() });
        Group { conv: one, x, y }
    }

    /// Whether lines of the filter serve as taps: few channels, that lie side by side for a whole line.
    pub(crate) fn thin(&self) -> bool {
        let conv = &self.conv;
        conv.c() < 8 && conv.kernel()[1] > 1 && conv.dilation()[1] == 1 && self.x.pixel == conv.c()
    }
}

/// Numbers of a group's own weights: none where there is one group, whose weights are used as they lie.
pub(crate) fn own_len(conv: &Conv2d) -> usize {
    if conv.groups() == 1 { 0 } else { conv.of_group().weights().len() }
}

/// Calls `each` with every group and its weights; `own` has [`own_len`] numbers.
pub(crate) fn for_each(conv: &Conv2d, w: &[f32], own: &mut [f32], mut each: impl FnMut(&Group, &[f32])) {
    if conv.groups() == 1 {
        return each(&Group::nth(conv, 0), w);
    }
    for number in 0..conv.groups() {
        let group = Group::nth(conv, number);
        own.fill(0.0);
        for_each_number(conv, &group, |from, to| own[to] = w[from]);
        each(&group, own);
    }
}

/// The gradient of each group's weights, written to `dw` or added to it: `each(group, gradient, add)` overwrites the
/// gradient, or adds to it.
pub(crate) fn gradients(conv: &Conv2d, dw: &mut [f32], add: bool, own: &mut [f32], mut each: impl FnMut(&Group, &mut [f32], bool)) {
    if conv.groups() == 1 {
        return each(&Group::nth(conv, 0), dw, add);
    }
    if !add {
        dw.fill(0.0); // also what the layout pads
    }
    for number in 0..conv.groups() {
        let group = Group::nth(conv, number);
        each(&group, own, false);
        for_each_number(conv, &group, |to, from| dw[to] += own[from]);
    }
}

/// Calls with (place in all weights, place in the group's own).
fn for_each_number(conv: &Conv2d, group: &Group, mut each: impl FnMut(usize, usize)) {
    let (all, own) = (conv.weights(), group.conv.weights());
    for c in 0..own.c() {
        for tap in 0..own.taps() {
            for k in 0..own.k() {
                each(all.index(group.y.first + k, c, tap), own.index(k, c, tap));
            }
        }
    }
}
