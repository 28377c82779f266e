//! Direct convolution, forward and for the input's gradient: products of the weights, as they lie, and
//! lines of pixels that are copied only as often as the filter has columns.
//!
//! A *band* is some lines of the output (or all lines of a few small images). What it reads is copied
//! into scratch once, with its zeros around the image, so that the kernel knows no edges: for each 16
//! channels and each column of the filter a plane whose rows are the pixels that this column of the
//! filter sees, one behind the other. Then the rows of a register tile lie one cache line apart for any
//! stride, tiles run on from line to line and from image to image, and a line of the filter is a shift by
//! a line of the plane. An explicit patch matrix would be twice as large for a stride of 2 and three
//! times as large for a stride of 1.
//!
//! *Input's gradient:* `dx[p] = Σ over taps, dy[(p + pad − tap) / stride] · w[tap]`, where the division
//! must come out even. So the input's pixels fall into stride² phases with taps of their own, and each is
//! a convolution of stride 1 over one and the same copy of dy, whose weights have input and output
//! channels exchanged: some 18 kB of them at a time, just before they are used. (V. Dumoulin and F. Visin,
//! "A guide to convolution arithmetic for deep learning", 2016, chapter 4.)
//!
//! Two schedules, by the size of the weights:
//!
//! * *by bands*, where they stay in the second-level cache: each part copies one band for itself and
//!   computes all its channels.
//! * *by channels*, where they do not, or where there are few bands: some bands are copied first; then
//!   each part takes one band and one block of output channels.
//!
//! No cut changes a bit: the channels of a sum are cut at the same places in all of them.

pub(crate) mod backward_weight;
mod convolve;
mod lines;

use super::{BackwardInput, Finish, Forward, Uniform};
use crate::gemm::micro::{GROUP, Window};
use crate::gemm::sub_panel;
use crate::parallel::{Chunks, Cpu, RowMap, Section, Tiles};
use crate::weights::{WeightLayout, block};
use convolve::Convolve;
use lines::CopyLines;

/// Weights up to this many numbers stay in the second-level cache beside a band.
const WEIGHTS: usize = 320 << 10;
/// Numbers that a band may have, by bands.
const BAND: usize = 96 << 10;
/// Numbers that the bands of a piece may have, by channels.
const PIECE: usize = 384 << 10;
/// Rows for which a sub-panel of weights is worth fetching: by bands, by channels.
const ROWS: [usize; 2] = [112, 448];
/// Rows of a band at most, where no memory sets a limit: there must be parts for many threads.
const ROWS_MOST: usize = 448;
/// Bands that are parts enough.
const BANDS: usize = 8;

/// The largest filter, in each direction.
const KERNEL: usize = 64;

/// Whether this algorithm can do a convolution.
pub(crate) const fn accepts(conv: &Uniform) -> bool {
    conv.kernel <= KERNEL
}

/// A pass as this folder sees it: from a *source* (x, or dy for the input's gradient) to an output.
///
/// Output pixel (p·phases + f, …) of phase f reads, at *position* t < reach of each direction, the source
/// pixel (p·step + low + t, …).
#[derive(Clone, Copy)]
pub(super) struct Shape {
    n: usize,
    /// The source: lines, columns, channels.
    h: usize,
    w: usize,
    c: usize,
    /// The output: lines, columns, channels.
    out_h: usize,
    out_w: usize,
    k: usize,
    /// Lines and columns of a phase: the most that any has.
    grid_h: usize,
    grid_w: usize,
    /// Source pixels from an output pixel of a phase to its next.
    step: usize,
    /// Output pixels from one of a phase to its next.
    phases: usize,
    /// Where position 0 of output pixel 0 lies.
    low: isize,
    /// Positions.
    reach: usize,
    /// The filter's.
    kernel: usize,
    pad: usize,
    /// Whether taps go up and left: the input's gradient.
    flipped: bool,
}

/// What one direction of an output phase reads.
#[derive(Clone, Copy)]
struct Side {
    /// The first tap that hits; the others lie a stride apart (forward: all).
    first: usize,
    /// Taps.
    count: usize,
    /// The first tap's position; that of the others goes up, or down for the input's gradient.
    position: usize,
}

impl Shape {
    pub(super) fn forward(conv: &Uniform) -> Shape {
        Shape {
            n: conv.n,
            h: conv.h,
            w: conv.w,
            c: conv.c,
            out_h: conv.out_h(),
            out_w: conv.out_w(),
            k: conv.k,
            grid_h: conv.out_h(),
            grid_w: conv.out_w(),
            step: conv.stride,
            phases: 1,
            low: -(conv.pad as isize),
            reach: conv.kernel,
            kernel: conv.kernel,
            pad: conv.pad,
            flipped: false,
        }
    }

    fn backward_input(conv: &Uniform) -> Shape {
        // Tap `first + i·stride` reads dy at `p + (phase + pad) / stride − i`.
        let (mut low, mut high) = (isize::MAX, isize::MIN);
        for phase in 0..conv.stride {
            let last = ((phase + conv.pad) / conv.stride) as isize;
            let count = conv.kernel.saturating_sub((phase + conv.pad) % conv.stride).div_ceil(conv.stride);
            if count > 0 {
                low = low.min(last + 1 - count as isize);
                high = high.max(last);
            }
        }
        Shape {
            n: conv.n,
            h: conv.out_h(),
            w: conv.out_w(),
            c: conv.k,
            out_h: conv.h,
            out_w: conv.w,
            k: conv.c,
            grid_h: conv.h.div_ceil(conv.stride),
            grid_w: conv.w.div_ceil(conv.stride),
            step: 1,
            phases: conv.stride,
            low,
            reach: (high - low + 1) as usize,
            kernel: conv.kernel,
            pad: conv.pad,
            flipped: true,
        }
    }

    fn side(&self, phase: usize) -> Side {
        if !self.flipped {
            return Side { first: 0, count: self.kernel, position: 0 };
        }
        let first = (phase + self.pad) % self.phases;
        let count = self.kernel.saturating_sub(first).div_ceil(self.phases);
        let position = ((phase + self.pad) / self.phases) as isize - self.low;
        Side { first, count, position: position.max(0) as usize } // negative only where there are no taps
    }

    fn groups(&self) -> usize {
        self.c.div_ceil(GROUP)
    }
    fn block(&self) -> usize {
        block(self.k)
    }

    /// A band of `lines` lines of each phase of `images` images.
    pub(super) fn band(&self, image: usize, images: usize, line: usize, lines: usize) -> Band {
        let line_len = images * self.grid_w * GROUP;
        let copied = lines + (self.reach - 1) / self.step;
        // A cache line more than they need: powers of two would share the same few sets.
        let phase_len = copied * line_len + GROUP;
        let copy_len = self.step.min(self.reach) * phase_len;
        Band { image, images, line, lines, copied, line_len, phase_len, copy_len, group_len: self.reach * copy_len + GROUP }
    }

    /// Where the taps of an output phase lie in a band's copy.
    fn window(&self, band: &Band, [y, x]: [Side; 2]) -> Window {
        let (line, column) = (band.line_len as isize, band.copy_len as isize);
        let sign = if self.flipped { -1 } else { 1 };
        Window {
            group: band.group_len,
            start: y.position * band.line_len + x.position * band.copy_len,
            taps: [y.count, x.count],
            phases: self.step,
            phase: band.phase_len,
            line: sign * line,
            column: sign * column,
        }
    }

    /// Numbers of exchanged weights that are in use at a time.
    fn exchanged_len(&self) -> usize {
        let most = (0..self.phases).map(|phase| self.side(phase).count).max().unwrap_or(0);
        let len = |taps: usize| sub_panel(taps).min(self.groups()) * GROUP * taps * self.block();
        // Fewer taps leave room for more channels, so the largest filter is not always the largest panel.
        let mut longest = 0;
        for y in 1..=most {
            for x in 1..=most {
                longest = longest.max(len(y * x));
            }
        }
        longest
    }
}

/// Lines of the output that are computed together, and how their copy lies: for each group of 16
/// channels `[column of the filter][line of the filter mod step][line][image][column][16]`.
#[derive(Clone, Copy)]
pub(super) struct Band {
    image: usize,
    images: usize,
    /// First line of each phase.
    line: usize,
    /// Lines of each phase.
    lines: usize,
    /// Lines copied.
    copied: usize,
    line_len: usize,
    phase_len: usize,
    copy_len: usize,
    group_len: usize,
}

/// How a pass is cut: bands of `lines` lines of one image, or of several images as a whole.
#[derive(Clone, Copy)]
struct Cut {
    images: usize,
    lines: usize,
    /// Bands of an image.
    per_image: usize,
    /// Bands of a piece, by channels; 0 by bands.
    together: usize,
}

impl Shape {
    fn band_len(&self, images: usize, lines: usize) -> usize {
        self.groups() * self.band(0, images, 0, lines).group_len
    }

    fn cut(&self) -> Cut {
        let light = self.k * self.c * self.kernel * self.kernel <= WEIGHTS;
        let (numbers, rows) = if light { (BAND, ROWS[0]) } else { (PIECE, ROWS[1]) };
        let most = ROWS_MOST.div_ceil(self.grid_w).min(self.grid_h);
        let lines = (1..=most).rev().find(|&lines| self.band_len(1, lines) <= numbers).unwrap_or(1);
        let per_image = self.grid_h.div_ceil(lines);
        let lines = self.grid_h.div_ceil(per_image);
        let mut images = 1;
        if per_image == 1 {
            let wanted = rows.div_ceil(lines * self.grid_w);
            images = (numbers / self.band_len(1, lines)).min(wanted).clamp(1, self.n);
            images = self.n.div_ceil(self.n.div_ceil(images));
        }
        let bands = self.n.div_ceil(images) * per_image;
        let together = if light && bands >= BANDS { 0 } else { (PIECE / self.band_len(images, lines)).clamp(1, bands) };
        Cut { images, lines, per_image, together }
    }

    fn nth_band(&self, cut: &Cut, index: usize) -> Band {
        let image = index / cut.per_image * cut.images;
        let line = index % cut.per_image * cut.lines;
        self.band(image, cut.images.min(self.n - image), line, cut.lines.min(self.grid_h - line))
    }

    fn scratch_len(&self, exchanged: usize, threads: usize) -> usize {
        let cut = self.cut();
        let band = self.band_len(cut.images, cut.lines);
        if cut.together == 0 { threads * (band + exchanged) } else { cut.together * band + threads * exchanged }
    }
}

/// The right-hand side.
#[derive(Clone, Copy)]
enum Filters<'a> {
    AsTheyLie(&'a [f32], WeightLayout),
    /// With input and output channels exchanged; the numbers are the convolution's.
    Exchanged(&'a [f32], WeightLayout),
}

/// Scratch of [`forward`].
pub(crate) fn forward_scratch(conv: &Uniform, threads: usize) -> usize {
    Shape::forward(conv).scratch_len(0, threads)
}

/// Scratch of [`backward_input`].
pub(crate) fn backward_input_scratch(conv: &Uniform, threads: usize) -> usize {
    let s = Shape::backward_input(conv);
    s.scratch_len(s.exchanged_len(), threads)
}

/// y = x ⊛ w (+ y where `add`), then what `finish` says.
pub(crate) fn forward(conv: &Uniform, cpu: &Cpu, call: Forward) {
    let Forward { x, w, y, add, finish, scratch } = call;
    let filters = Filters::AsTheyLie(w, conv.weights());
    Run { s: Shape::forward(conv), x, filters, exchanged: 0, add, finish }.run(cpu, y, scratch);
}

/// dx = the input's gradient (+ dx where `add`).
pub(crate) fn backward_input(conv: &Uniform, cpu: &Cpu, call: BackwardInput) {
    let BackwardInput { w, dy, dx, add, scratch } = call;
    let s = Shape::backward_input(conv);
    let filters = Filters::Exchanged(w, conv.weights());
    Run { s, x: dy, filters, exchanged: s.exchanged_len(), add, finish: Finish::None }.run(cpu, dx, scratch);
}

/// Forward, or the input's gradient.
#[derive(Clone, Copy)]
struct Run<'a> {
    s: Shape,
    x: &'a [f32],
    filters: Filters<'a>,
    /// Numbers of exchanged weights that a thread has in use at a time.
    exchanged: usize,
    add: bool,
    finish: Finish<'a>,
}

impl Run<'_> {
    fn run(&self, cpu: &Cpu, out: &mut [f32], scratch: &mut [f32]) {
        let Run { s, x, filters, exchanged, add, finish } = *self;
        let cut = s.cut();
        let all = s.n * s.out_h * s.out_w;
        let bands = s.n.div_ceil(cut.images) * cut.per_image;
        let (rows, period) =
            if cut.per_image == 1 { (cut.images * s.out_h * s.out_w, all) } else { (cut.lines * s.phases * s.out_w, s.out_h * s.out_w) };
        let groups = s.groups();
        if cut.together == 0 {
            let tiles = Tiles::new(out, RowMap::plain(all, s.k), all, s.k, rows, s.k).with_period(period);
            let band_len = s.band_len(cut.images, cut.lines);
            cpu.run(tiles, scratch, band_len + exchanged, |i, mut out, scratch| {
                let band = s.nth_band(&cut, i);
                let (copy, exchanged) = scratch.split_at_mut(band_len);
                cpu.level.run(CopyLines { s, band, x, first: 0, groups, to: copy });
                cpu.level.run(Convolve { s, band, copy, filters, exchanged, add, out: &mut out });
                finish.tile(cpu.level, &mut out);
            });
            return;
        }
        for first in (0..bands).step_by(cut.together) {
            let count = cut.together.min(bands - first);
            let each = s.band(0, cut.images, 0, cut.lines).group_len; // an image's last band may be shorter
            let (copies, scratch) = scratch.split_at_mut(count * groups * each);
            cpu.run(Chunks::new(copies, each, count * groups), &mut [], 0, |i, to, _| {
                let band = s.nth_band(&cut, first + i / groups);
                cpu.level.run(CopyLines { s, band, x, first: i % groups, groups: 1, to });
            });
            let copies = &*copies;
            let tiles = Tiles::new(out, RowMap::plain(all, s.k), all, s.k, rows, s.block()).with_period(period);
            let blocks = tiles.column_tiles();
            let tiles = Section::new(tiles, first * blocks, count * blocks);
            cpu.run(tiles, scratch, exchanged, |i, mut out, exchanged| {
                let band = Band { group_len: each, ..s.nth_band(&cut, first + i / blocks) };
                let copy = &copies[i / blocks * groups * each..][..groups * each];
                cpu.level.run(Convolve { s, band, copy, filters, exchanged, add, out: &mut out });
                finish.tile(cpu.level, &mut out);
            });
        }
    }
}
