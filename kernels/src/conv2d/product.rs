//! Convolution as a product of patches and weights: the algorithm `gemm`, forward and for the input's
//! gradient.
//!
//! *Forward:* row m is output pixel m, summed over (input channel, tap); the weights are used as they
//! lie.
//!
//! *Input's gradient:* `dx[p] = Σ over taps, dy[(p + pad − tap) / stride] · w[tap]`, where the division
//! must come out even. So the input's pixels fall into stride² phases with taps of their own, and in
//! each phase it is a convolution of stride 1 over dy whose weights have input and output channels
//! exchanged. (V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning",
//! 2016, chapter 4.) The exchanged weights are made a piece at a time in scratch.
//!
//! Scratch is cut into a part for the packed patches and a part for exchanged weights; as many rows
//! and channels are done at a time as fit. The
//! rows change no bit, and the channels are cut at the same places whatever the scratch.

use super::patches::{PackPanel, Patches, thin};
use super::{Conv2d, Finish, transposed::Transposed};
use crate::gemm::micro::GROUP;
use crate::gemm::{Multiply, panel_rows, sub_panel};
use crate::isa::Isa;
use crate::parallel::{Chunks, Cpu, RowMap, Tiles};
use crate::weights::block;
use crate::{Level, Task};

/// Rows that one tile of the output has at most: the weights' sub-panel in the first-level cache
/// serves them all.
const TILE_ROWS: usize = 112;
/// Rows that are worth repacking exchanged weights for.
const ROWS_AT_LEAST: usize = 96;
/// The most rows of a panel at any level.
const PANEL_MOST: usize = 14;

/// y = x ⊛ w (+ y where `add`), then what `finish` says.
#[allow(clippy::too_many_arguments)] // as `Conv2d::forward`
pub(crate) fn forward(conv: &Conv2d, cpu: &Cpu, x: &[f32], w: &[f32], y: &mut [f32], add: bool, finish: Finish, scratch: &mut [f32]) {
    let m = conv.n * conv.out_h() * conv.out_w();
    let map = RowMap::plain(m, conv.k);
    let patches = Patches::forward(conv, x);
    let (weights, scratch) = if thin(conv) {
        let layout = conv.weights();
        let (lines, scratch) = scratch.split_at_mut(layout.len());
        super::thin::to_lines(conv, w, lines);
        (&*lines, scratch)
    } else {
        (w, scratch)
    };
    product(cpu, patches, Weights::AsTheyLie(weights), y, map, m, conv.k, add, finish, scratch);
}

/// Scratch of [`forward`]: at most `budget` numbers where that suffices.
pub(crate) fn forward_scratch(conv: &Conv2d, budget: usize) -> usize {
    let m = conv.n * conv.out_h() * conv.out_w();
    let patches = Patches::forward(conv, &[]);
    let lines = if thin(conv) { conv.weights().len() } else { 0 };
    lines + product_scratch(&patches, m, 0, budget)
}

/// How many row tiles [`forward`] has at most, at any level, with the scratch of this budget.
pub(crate) fn row_tiles(conv: &Conv2d, budget: usize) -> usize {
    let m = conv.n * conv.out_h() * conv.out_w();
    let patches = Patches::forward(conv, &[]);
    let cut = cut(&patches, m, 0, product_scratch(&patches, m, 0, budget));
    m.div_ceil(cut.rows) * tiles_of(cut.rows)
}

/// Row tiles of so many rows, at most: a tile falls short of [`TILE_ROWS`] by less than a panel.
fn tiles_of(rows: usize) -> usize {
    rows.div_ceil(TILE_ROWS + 1 - PANEL_MOST)
}

/// dx = the input's gradient (+ dx where `add`).
pub(crate) fn backward_input(conv: &Conv2d, cpu: &Cpu, w: &[f32], dy: &[f32], dx: &mut [f32], add: bool, scratch: &mut [f32]) {
    for phase in phases(conv) {
        let map = RowMap {
            w: phase.w,
            h: phase.h,
            pixel: conv.stride * conv.c,
            line: conv.stride * conv.w * conv.c,
            image: conv.h * conv.w * conv.c,
            start: (phase.y * conv.w + phase.x) * conv.c,
        };
        let m = conv.n * phase.h * phase.w;
        let patches = phase.patches(conv, dy);
        let weights =
            Transposed { layout: conv.weights(), kernel: conv.kernel, stride: conv.stride, first: phase.first, taps: patches.taps };
        product(cpu, patches, Weights::Transposed(w, weights), dx, map, m, conv.c, add, Finish::None, scratch);
    }
}

/// Scratch of [`backward_input`].
pub(crate) fn backward_input_scratch(conv: &Conv2d, budget: usize) -> usize {
    let columns = conv.c.next_multiple_of(block(conv.c));
    phases(conv).map(|phase| product_scratch(&phase.patches(conv, &[]), conv.n * phase.h * phase.w, columns, budget)).max().unwrap_or(0)
}

/// Input pixels (y, x), (y, x + stride), …: those that see the same taps.
struct Phase {
    y: usize,
    x: usize,
    h: usize,
    w: usize,
    /// The smallest tap of each direction that hits; the others lie a stride apart.
    first: [usize; 2],
}

fn phases(conv: &Conv2d) -> impl Iterator<Item = Phase> + use<> {
    let conv = *conv;
    let s = conv.stride;
    (0..s.min(conv.h) * s).map(move |i| (i / s, i % s)).filter(move |&(_, x)| x < conv.w).map(move |(y, x)| Phase {
        y,
        x,
        h: (conv.h - y).div_ceil(s),
        w: (conv.w - x).div_ceil(s),
        first: [(y + conv.pad) % s, (x + conv.pad) % s],
    })
}

impl Phase {
    fn patches<'a>(&self, conv: &Conv2d, dy: &'a [f32]) -> Patches<'a> {
        let s = conv.stride;
        // Tap `first + i·s` reads dy at (p + pad − first) / s − i.
        let taps = self.first.map(|first| conv.kernel.saturating_sub(first).div_ceil(s));
        let origin = |p: usize, first: usize| ((p + conv.pad) as isize - first as isize) / s as isize;
        Patches {
            x: dy,
            h: conv.out_h(),
            w: conv.out_w(),
            c: conv.k,
            out_h: self.h,
            out_w: self.w,
            step: 1,
            taps,
            origin: [origin(self.y, self.first[0]), origin(self.x, self.first[1])],
            direction: -1,
            span: conv.k,
        }
    }
}

/// The right-hand side of a product.
enum Weights<'a> {
    /// `[columns / block][channels][taps][block]`.
    AsTheyLie(&'a [f32]),
    /// To be exchanged, a few channels at a time.
    Transposed(&'a [f32], Transposed),
}

/// How much of the product is done at a time.
struct Cut {
    rows: usize,
    groups: usize,
}

fn cut(patches: &Patches, m: usize, columns: usize, numbers: usize) -> Cut {
    let group = patches.row_len(1);
    let groups = patches.span.div_ceil(GROUP).max(1);
    if group == 0 {
        return Cut { rows: m, groups }; // no taps: there is nothing to pack
    }
    let at_least = m.min(ROWS_AT_LEAST) + columns;
    // Whole sub-panels, so that the sums are the same however much scratch there is.
    let unit = sub_panel(patches.tap_count());
    let groups = (numbers / (at_least * group) / unit * unit).clamp(unit.min(groups), groups);
    let rows = (numbers / (groups * group)).saturating_sub(columns);
    Cut { rows: rows.clamp(1, m), groups }
}

/// At most `budget` numbers where that is enough, never more than all at once would take.
fn product_scratch(patches: &Patches, m: usize, columns: usize, budget: usize) -> usize {
    let all = (m + columns) * patches.row_len(patches.span.div_ceil(GROUP));
    let unit = sub_panel(patches.tap_count()).min(patches.span.div_ceil(GROUP));
    let least = (m.min(PANEL_MOST) + columns) * patches.row_len(unit);
    all.min(budget.max(least))
}

#[allow(clippy::too_many_arguments)] // private; each is one of the product's parts
fn product(
    cpu: &Cpu,
    patches: Patches,
    weights: Weights,
    out: &mut [f32],
    map: RowMap,
    m: usize,
    n: usize,
    add: bool,
    finish: Finish,
    scratch: &mut [f32],
) {
    let block = block(n);
    let columns = match weights {
        Weights::AsTheyLie(_) => 0,
        Weights::Transposed(..) => n.next_multiple_of(block),
    };
    let taps = patches.tap_count();
    let all_groups = if taps == 0 { 0 } else { patches.span.div_ceil(GROUP) };
    let cut = cut(&patches, m, columns, scratch.len());
    let most = rows_at(cpu.level);
    for first_row in (0..m).step_by(cut.rows) {
        let rows = cut.rows.min(m - first_row);
        let panel = panel_rows(rows, most);
        for group in (0..all_groups.max(1)).step_by(cut.groups) {
            let groups = cut.groups.min(all_groups - group);
            let channels = (groups * GROUP).min(patches.span - group * GROUP);
            let row_len = patches.row_len(groups);
            let (a, exchanged) = scratch.split_at_mut(rows * row_len);
            if row_len > 0 {
                cpu.run(Chunks::new(a, panel * row_len, rows.div_ceil(panel)), &mut [], 0, |i, part, _| {
                    let count = panel.min(rows - i * panel);
                    cpu.level.run(PackPanel { patches, first: first_row + i * panel, rows: count, group, groups, panel: part });
                });
            }
            // Where the block of columns j begins, for these channels.
            let (b, stride) = match &weights {
                Weights::AsTheyLie(w) => (&w[group * GROUP * taps * block..], patches.span * taps * block),
                Weights::Transposed(w, how) => {
                    let each = groups * GROUP * taps * block;
                    let exchanged = &mut exchanged[..n.div_ceil(block) * each];
                    how.run(cpu, w, n, group, groups, exchanged);
                    (&*exchanged, each)
                }
            };
            let a = &*a;
            let tiles = Tiles::from_row(out, map, first_row, rows, n, TILE_ROWS / panel * panel, block)
                .numbered_from(first_row / cut.rows * tiles_of(cut.rows));
            let last = group + cut.groups >= all_groups;
            cpu.run(tiles, &mut [], 0, |_, mut out, _| {
                let (row, j) = (out.first_row() - first_row, out.first_column() / block);
                cpu.level.run(Multiply {
                    a: &a[row * row_len..],
                    panel,
                    b: &b[(j * stride).min(b.len())..],
                    block,
                    channels,
                    taps,
                    add: add || group > 0,
                    out: &mut out,
                });
                if last {
                    finish.tile(cpu.level, &mut out);
                }
            });
        }
    }
}

/// The rows of a level's register tile.
pub(super) fn rows_at(level: Level) -> usize {
    struct Ask<'a>(&'a mut usize);
    impl Task for Ask<'_> {
        #[inline(always)]
        fn run<I: Isa>(self, _: I) {
            *self.0 = I::ROWS;
        }
    }
    let mut rows = 0;
    level.run(Ask(&mut rows));
    rows
}
