//! The two innermost loops: everything else only feeds them.

use crate::bounds::{checked_product, inside};
#[cfg(nunatak_mve)]
use crate::helium;
use crate::isa::Isa;

/// Numbers of a row that lie side by side in a packed panel.
pub(crate) const GROUP: usize = 16;

/// Numbers of a cache line.
const LINE: usize = 16;

/// Where a tile's rows lie in packed groups of 16 channels: for each group of channels and each tap, `R`
/// rows of 16 numbers, one behind the other.
///
/// Tap (i, j) begins `start + (i mod phases)·phase + (i / phases)·line + j·column` numbers behind its
/// group's first number.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    /// Numbers from 16 channels to the next 16.
    pub(crate) group: usize,
    /// Numbers before the first tap.
    pub(crate) start: usize,
    /// Taps: lines, columns.
    pub(crate) taps: [usize; 2],
    /// Lines of taps until one lies next to the first of them: the stride of a convolution.
    pub(crate) phases: usize,
    /// Numbers from a phase to the next.
    pub(crate) phase: usize,
    /// Numbers from a line of taps to the next of the same phase.
    pub(crate) line: isize,
    /// Numbers from a column of taps to the next.
    pub(crate) column: isize,
}

impl Window {
    /// Taps one behind the other, as a panel `[channels / 16][taps][rows][16]` has them.
    #[inline(always)]
    pub(crate) const fn panel(taps: usize, rows: usize) -> Window {
        let each = rows * GROUP;
        Window { group: taps * each, start: 0, taps: [1, taps], phases: 1, phase: 0, line: 0, column: each as isize }
    }

    /// Where line `i` of the taps begins.
    #[inline(always)]
    pub(crate) const fn line_at(&self, i: usize) -> isize {
        (self.start + i % self.phases * self.phase) as isize + (i / self.phases) as isize * self.line
    }

    /// Whether every tap of `groups` groups has `numbers` numbers in a slice of `len`. Where it is so,
    /// [`Window::line_at`] wraps for none of the lines of taps, and no column's place does.
    #[inline(always)]
    fn inside(&self, len: usize, groups: usize, numbers: usize) -> bool {
        (0..self.taps[0]).all(
            #[inline(always)]
            |i| self.line_inside(i, len, groups, numbers).is_some(),
        )
    }

    /// The same for line `i` of the taps.
    #[inline(always)]
    fn line_inside(&self, i: usize, len: usize, groups: usize, numbers: usize) -> Option<()> {
        let line = self.start.checked_add((i % self.phases).checked_mul(self.phase)?)?.cast_signed();
        let line = line.checked_add((i / self.phases).cast_signed().checked_mul(self.line)?)?;
        let end = line.checked_add((self.taps[1].max(1) - 1).cast_signed().checked_mul(self.column)?)?;
        // A start beyond the signed numbers is negative here.
        let (low, high) = if line < end { (line, end) } else { (end, line) };
        let room = len.checked_sub(usize::try_from(high).ok()?)?;
        (low >= 0 && inside(room, groups.max(1), self.group, numbers)).then_some(())
    }
}

/// `sum[r][v] += Σ over channels c and taps t, a[r][c][t] · b[c][t][v]`: a tile of `R` rows times `V`
/// vectors, in registers.
///
/// `a` lies as `window` says, so that a row's number has a constant distance from its first row's and is
/// broadcast from there; `b` as `[channels][taps][stride]`. The channels of a group pass by innermost:
/// the `R` cache lines of one tap serve 16 steps, while those of the next tap are on their way. Each
/// element is one chain of fused products, whatever `R` and `V` are, so a result does not depend on how
/// the matrix was cut into tiles.
///
/// # Panics
/// If `a` or `b` has fewer numbers than are read.
#[inline(always)]
pub(crate) fn multiply<I: Isa, const R: usize, const V: usize>(
    isa: I,
    a: &[f32],
    window: &Window,
    b: &[f32],
    channels: usize,
    stride: usize,
    sum: &mut [[I::V; V]; R],
) {
    multiply_and::<I, R, V>(isa, a, window, b, channels, stride, sum, || {});
}

/// The same, and calls `each` before every group of channels: to ask for what comes next, a few lines at a time.
///
/// # Panics
/// As [`multiply`].
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) fn multiply_and<I: Isa, const R: usize, const V: usize>(
    isa: I,
    a: &[f32],
    window: &Window,
    b: &[f32],
    channels: usize,
    stride: usize,
    sum: &mut [[I::V; V]; R],
    mut each: impl FnMut(),
) {
    // Nothing wraps where these hold: every place below lies between 0 and a place that was computed here.
    let taps = checked_product(&window.taps).expect("the number of taps");
    let steps = channels.checked_mul(taps).expect("the number of steps");
    if steps == 0 {
        return;
    }
    assert!(window.inside(a.len(), channels.div_ceil(GROUP), R * GROUP));
    assert!(inside(b.len(), steps, stride, V * I::LANES));
    let (mut a, mut b) = (a.as_ptr(), b.as_ptr());
    // The next group's weights are called while this one's are used: `taps·stride` numbers from one step
    // to the next are no order that a CPU foresees.
    let ahead = GROUP.wrapping_mul(taps).wrapping_mul(stride);
    // A copy that is only ever indexed by constants, so that it lives in registers.
    let mut acc = *sum;
    let mut left = channels;
    while left > 0 {
        let depth = left.min(GROUP);
        each();
        let mut tap = b;
        for i in 0..window.taps[0] {
            let mut first = a.wrapping_offset(window.line_at(i));
            for _ in 0..window.taps[1] {
                let mut w = tap;
                // SAFETY: the places that the loop below reads: the tap's 4·16 numbers, and its weights in steps of `taps·stride`.
                #[cfg(nunatak_mve)]
                let steps = match four_by_four::<I, R, V>(&mut acc) {
                    Some(tile) => {
                        unsafe { helium::multiply(first, w, taps.wrapping_mul(stride), depth, tile) };
                        0..0
                    }
                    None => 0..depth,
                };
                #[cfg(not(nunatak_mve))]
                let steps = 0..depth;
                for k in steps {
                    let mut columns = [isa.splat(0.0); V];
                    for (v, column) in columns.iter_mut().enumerate() {
                        // SAFETY: `w` is (channel, tap)'s place; the last was checked to be there.
                        *column = unsafe { isa.load_at(w.add(v * I::LANES)) };
                        if v * I::LANES % LINE == 0 {
                            isa.prefetch(w.wrapping_add(v * I::LANES + ahead));
                        }
                    }
                    for (r, acc) in acc.iter_mut().enumerate() {
                        // SAFETY: k < 16 and r < R: inside this tap's R·16 numbers, checked to be there.
                        let x = isa.splat(unsafe { *first.add(r * GROUP + k) });
                        for v in 0..V {
                            acc[v] = isa.fma(x, columns[v], acc[v]);
                        }
                    }
                    w = w.wrapping_add(taps.wrapping_mul(stride));
                }
                first = first.wrapping_offset(window.column);
                tap = tap.wrapping_add(stride);
            }
        }
        a = a.wrapping_add(window.group);
        b = b.wrapping_add((depth * taps).wrapping_mul(stride));
        left -= depth;
    }
    *sum = acc;
}

/// A tile as Helium's loops take it, where it is 4 x 4 single numbers.
#[cfg(nunatak_mve)]
#[inline(always)]
fn four_by_four<I: Isa, const R: usize, const V: usize>(tile: &mut [[I::V; V]; R]) -> Option<&mut helium::Tile> {
    let single = I::LANES == 1 && size_of::<I::V>() == size_of::<f32>();
    // SAFETY: there, a vector of one lane is an f32 (`isa/scalar.rs`), so that a tile of 4 x 4 is 16 of them.
    (single && R == 4 && V == 4).then(|| unsafe { &mut *core::ptr::from_mut(tile).cast() })
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
    if shape.lines == 0 || shape.pixels == 0 {
        return;
    }
    // Nothing wraps where these hold: no place below lies behind the last one, which was computed here.
    let pixels = shape.lines.checked_mul(shape.pixels).expect("the number of pixels");
    let line = (shape.pixels - 1).checked_mul(shape.x_pixel).and_then(|last| last.checked_add(R)).expect("the length of a line");
    assert!(inside(x.len(), shape.lines, shape.x_line, line));
    assert!(inside(dy.len(), pixels, shape.dy_pixel, V * I::LANES));
    let (x, mut dy) = (x.as_ptr(), dy.as_ptr());
    let mut acc = *sum;
    #[cfg(nunatak_mve)]
    if let (Some(tile), 16 | 32) = (four_by_four::<I, R, V>(&mut acc), shape.dy_pixel) {
        let pixels = helium::Pixels { lines: shape.lines, pixels: shape.pixels, x_pixel: shape.x_pixel, x_line: shape.x_line };
        // SAFETY: the places that the loop below reads.
        match shape.dy_pixel {
            16 => unsafe { helium::outer::<16>(x, dy, &pixels, tile) },
            _ => unsafe { helium::outer::<32>(x, dy, &pixels, tile) },
        }
        *sum = acc;
        return;
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::Task;
    use crate::testing::{for_each_cpu, panics};

    const HALF: usize = 1 << (usize::BITS - 1);
    const MOST: usize = usize::MAX;

    struct Multiply {
        window: Window,
        channels: usize,
        stride: usize,
    }

    impl Task for Multiply {
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            let (a, b) = ([1.0; 64], [1.0; 512]);
            let mut sum = [[isa.splat(0.0); 1]; 2];
            multiply::<I, 2, 1>(isa, &a, &self.window, &b, self.channels, self.stride, &mut sum);
        }
    }

    struct Outer(Lines);

    impl Task for Outer {
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            let (x, dy) = ([1.0; 64], [1.0; 64]);
            let mut sum = [[isa.splat(0.0); 1]; 2];
            outer::<I, 2, 1>(isa, &x, &dy, self.0, &mut sum);
        }
    }

    #[test]
    fn products_over_sizes_that_wrap_are_refused() {
        let panel = Window::panel(2, 2);
        let cases = [
            (panel, HALF, 16),     // channels · taps
            (panel, HALF + 1, 16), // 2 of them
            (panel, MOST, 16),
            (panel, 16, HALF), // steps · stride
            (panel, 3, MOST / 5 + 1),
            (panel, 33, 1), // groups that are not there
            (Window { group: HALF, ..panel }, 33, 16),
            (Window { group: MOST, ..panel }, 17, 16),
            (Window { start: MOST, ..panel }, 16, 16),
            (Window { start: HALF, ..panel }, 16, 16),
            (Window { start: MOST - 63, ..panel }, 16, 16),
            (Window { start: 33, ..panel }, 16, 16),
            (Window { column: isize::MAX, ..panel }, 16, 16),
            (Window { column: isize::MIN, ..panel }, 16, 16),
            (Window { column: -1, ..panel }, 16, 16),
            (Window { column: 1 << (isize::BITS - 2), taps: [1, 5], ..panel }, 1, 1), // back at its beginning
            (Window { taps: [HALF, 2], ..panel }, 16, 16),
            (Window { taps: [2, 1], line: isize::MAX, ..panel }, 16, 16),
            (Window { taps: [2, 1], line: -1, ..panel }, 16, 16),
            (Window { taps: [2, 1], phases: 2, phase: HALF, ..panel }, 16, 16),
            (Window { taps: [3, 1], phases: 3, phase: HALF, ..panel }, 16, 16),
            (Window { taps: [2, 1], phases: 2, phase: MOST, start: 1, ..panel }, 16, 16), // 1 − 1 is inside
        ];
        for_each_cpu(|cpu| {
            cpu.level.run(Multiply { window: panel, channels: 16, stride: 16 });
            for (i, (window, channels, stride)) in cases.into_iter().enumerate() {
                assert!(panics(|| cpu.level.run(Multiply { window, channels, stride })), "case {i} at {}", cpu.level);
            }
            let fits = Lines { lines: 2, pixels: 2, x_pixel: 16, x_line: 30, dy_pixel: 16 };
            cpu.level.run(Outer(fits));
            let cases = [
                Lines { lines: HALF, ..fits },
                Lines { lines: HALF + 1, ..fits },
                Lines { lines: MOST, ..fits },
                Lines { pixels: HALF, ..fits },
                Lines { pixels: HALF + 1, x_pixel: 2, ..fits },
                Lines { x_pixel: MOST, ..fits },
                Lines { x_pixel: MOST - 1, ..fits },
                Lines { x_line: MOST - 20, ..fits },
                Lines { x_line: HALF, lines: 3, ..fits },
                Lines { dy_pixel: HALF, ..fits },
                Lines { dy_pixel: HALF, pixels: 1, lines: 3, ..fits },
            ];
            for (i, lines) in cases.into_iter().enumerate() {
                assert!(panics(|| cpu.level.run(Outer(lines))), "case {i} at {}", cpu.level);
            }
        });
    }
}
