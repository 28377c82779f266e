//! The two innermost loops: everything else only feeds them.

use crate::isa::Isa;

/// Numbers of a row that lie side by side in a packed panel.
pub(crate) const GROUP: usize = 16;

/// How far ahead of their use weights are asked for, in numbers: some come from memory here for the
/// first time, and to ask for what is in the cache already costs next to nothing.
const AHEAD: usize = 1024;

/// `sum[r][v] += Σ a[r][k] · b[k][v]`: a tile of `R` rows times `V` vectors, in registers.
///
/// The order of k is (channel, tap). The panel `a` lies as `[channels / 16][taps][R][16]`, so that a
/// broadcast has a constant distance from its row's first; `b` as `[channels][taps][stride]`, read
/// from front to back. Each element is one chain of fused products, whatever `R` and `V` are, so a
/// result does not depend on how the matrix was cut into tiles.
///
/// # Panics
/// If `a` has fewer than ⌈channels / 16⌉·taps·R·16 numbers or `b` fewer than are read.
#[inline(always)]
pub(crate) fn multiply<I: Isa, const R: usize, const V: usize>(
    isa: I,
    a: &[f32],
    b: &[f32],
    channels: usize,
    taps: usize,
    stride: usize,
    sum: &mut [[I::V; V]; R],
) {
    assert!(a.len() >= channels.div_ceil(GROUP) * taps * R * GROUP);
    assert!(channels * taps == 0 || b.len() >= (channels * taps - 1) * stride + V * I::LANES);
    let (mut a, mut b) = (a.as_ptr(), b.as_ptr());
    // A copy that is only ever indexed by constants, so that it lives in registers.
    let mut acc = *sum;
    let mut left = channels;
    while left > 0 {
        let depth = left.min(GROUP);
        for k in 0..depth {
            let mut row = a.wrapping_add(k);
            for _ in 0..taps {
                let mut w = [isa.splat(0.0); V];
                for (v, w) in w.iter_mut().enumerate() {
                    isa.prefetch(b.wrapping_add(AHEAD + v * I::LANES));
                    // SAFETY: `b` has moved `stride` numbers for each (channel, tap) before this one; the
                    // last was checked to be there.
                    *w = unsafe { isa.load_at(b.add(v * I::LANES)) };
                }
                for (r, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: k < 16 and r < R: inside this tap's R·16 numbers of this group.
                    let x = isa.splat(unsafe { *row.add(r * GROUP) });
                    for v in 0..V {
                        acc[v] = isa.fma(x, w[v], acc[v]);
                    }
                }
                row = row.wrapping_add(R * GROUP);
                b = b.wrapping_add(stride);
            }
        }
        a = a.wrapping_add(taps * R * GROUP);
        left -= depth;
    }
    *sum = acc;
}

/// Lines of pixels for [`outer`].
#[derive(Clone, Copy)]
pub(crate) struct Lines {
    /// Number of lines.
    pub lines: usize,
    /// Pixels a line.
    pub pixels: usize,
    /// Numbers from a pixel to the next, in x.
    pub x_pixel: usize,
    /// Numbers from a line to the next, in x.
    pub x_line: usize,
    /// Numbers from a pixel to the next, in dy (lines follow each other without a gap).
    pub dy_pixel: usize,
}

/// `sum[i][v] += Σ x[pixel][i] · dy[pixel][v]` over lines of pixels: `R` input channels times `V`
/// vectors of output channels.
///
/// # Panics
/// If the last pixel's `R` numbers of `x` or V·LANES of `dy` are not there.
#[inline(always)]
pub(crate) fn outer<I: Isa, const R: usize, const V: usize>(isa: I, x: &[f32], dy: &[f32], shape: Lines, sum: &mut [[I::V; V]; R]) {
    if shape.lines * shape.pixels == 0 {
        return;
    }
    assert!(x.len() >= (shape.lines - 1) * shape.x_line + (shape.pixels - 1) * shape.x_pixel + R);
    assert!(dy.len() >= (shape.lines * shape.pixels - 1) * shape.dy_pixel + V * I::LANES);
    let (x, mut dy) = (x.as_ptr(), dy.as_ptr());
    let mut acc = *sum;
    for line in 0..shape.lines {
        let mut x = x.wrapping_add(line * shape.x_line);
        for _ in 0..shape.pixels {
            let mut d = [isa.splat(0.0); V];
            for (v, d) in d.iter_mut().enumerate() {
                // SAFETY: no pixel lies beyond the last, which was checked to be there.
                *d = unsafe { isa.load_at(dy.add(v * I::LANES)) };
            }
            for (i, acc) in acc.iter_mut().enumerate() {
                // SAFETY: as above.
                let x = isa.splat(unsafe { *x.add(i) });
                for v in 0..V {
                    acc[v] = isa.fma(x, d[v], acc[v]);
                }
            }
            x = x.wrapping_add(shape.x_pixel);
            dy = dy.wrapping_add(shape.dy_pixel);
        }
    }
    *sum = acc;
}
