//! Convolution as a product of patches and weights: the algorithm `gemm`, forward and for the input's
//! gradient.
//!
//! *Forward:* row m is output pixel m, summed over (input channel, tap); the weights are used as they
//! lie.
//!
//! *Input's gradient:* `dx[p] = Σ over taps, dy[(p + pad − tap) / stride] · w[tap]`, where the division
//! must come out even. So the input's pixels fall into stride² phases with taps of their own (see [`Side`]), and in
//! each phase it is a convolution of stride 1 over dy whose weights have input and output channels
//! exchanged. The exchanged weights are made a piece at a time in scratch.
//!
//! Scratch is cut into a part for the packed patches and a part for exchanged weights; as many rows
//! and channels are done at a time as fit, and where there is little scratch (on a board) as many blocks of
//! columns, for each of which the patches are packed anew. Rows and columns change no bit, and the channels are cut at
//! the same places whatever the scratch.

use super::group::{self, Group};
use super::patches::{PackPanel, Patches};
use super::side::Side;
use super::{BackwardInput, Conv2d, Finish, Forward, ForwardOver, transposed::Transposed};
use crate::gemm::micro::GROUP;
use crate::gemm::{Multiply, panel_rows, sub_panel};
use crate::isa::Isa;
use crate::parallel::{Chunks, Cpu, RowMap, Tiles};
use crate::weights::block;
use crate::{Level, Task};

/// Rows that one tile of the output has at most: the weights' sub-panel in the first-level cache
/// serves them all.
const TILE_ROWS: usize = 112;
/// Rows of a tile where it is kept before it is written over.
const OVER_ROWS: usize = 28;
/// Rows that are worth repacking exchanged weights for.
const ROWS_AT_LEAST: usize = 96;
/// The most rows of a panel at any level.
const PANEL_MOST: usize = 14;
/// No weights are exchanged.
const NO_COLUMNS: (usize, usize) = (0, 1);

/// y = x ⊛ w (+ y where `add`), then what `finish` says.
pub(crate) fn forward(conv: &Conv2d, cpu: &Cpu, call: Forward) {
    let Forward { x, w, y, add, finish, scratch } = call;
    let (own, scratch) = scratch.split_at_mut(group::own_len(conv));
    let m = conv.n() * conv.out_h() * conv.out_w();
    group::for_each(conv, w, own, |group, w| {
        let layout = group.conv.weights();
        let (weights, scratch) = if group.thin() {
            let (lines, scratch) = scratch.split_at_mut(layout.len());
            super::thin::to_lines(&group.conv, w, lines);
            (&*lines, scratch)
        } else {
            (w, &mut *scratch)
        };
        let out = Out { data: y, map: RowMap::plain(m, conv.k()), m, first: group.y.first, n: layout.k(), add, finish };
        product(cpu, Patches::forward(group, x), Weights::AsTheyLie(weights), out, scratch);
    });
}

/// y = what `how` makes of x ⊛ w, with y as the residual.
///
/// # Panics
/// Where [`over_scratch`] tells none.
pub(super) fn forward_over(conv: &Conv2d, cpu: &Cpu, call: ForwardOver) {
    let ForwardOver { x, w, y, how, scratch } = call;
    let m = conv.n() * conv.out_h() * conv.out_w();
    let (group, n) = (Group::nth(conv, 0), conv.k());
    let patches = Patches::forward(&group, x);
    let (kept, scratch) = scratch.split_at_mut(cpu.threads.count() * OVER_ROWS * block(n));
    assert!(whole(&patches, m, scratch.len()), "the channels of {conv:?} in one go");
    let groups = patches.span.div_ceil(GROUP);
    let (row_len, most) = (patches.row_len(groups), rows_at(cpu.level));
    let room = (scratch.len() / row_len.max(1)).clamp(1, m);
    let stride = patches.span * patches.tap_count() * block(n);
    for first_row in (0..m).step_by(room) {
        let rows = room.min(m - first_row);
        let panel = panel_rows(rows, most);
        let a = &mut scratch[..rows * row_len];
        cpu.run(Chunks::new(a, panel * row_len, rows.div_ceil(panel)), &mut [], 0, |i, part, _| {
            let count = panel.min(rows - i * panel);
            cpu.level.run(PackPanel { patches, first: first_row + i * panel, rows: count, group: 0, groups, panel: part });
        });
        let a = &*a;
        let tiles = Tiles::from_row(y, RowMap::plain(m, n), first_row, rows, n, OVER_ROWS / panel * panel, block(n));
        cpu.run(tiles, kept, OVER_ROWS * block(n), |_, mut out, kept| {
            let (row, j, columns) = (out.first_row() - first_row, out.first_column() / block(n), out.columns());
            for (i, kept) in kept.chunks_mut(columns).take(out.rows()).enumerate() {
                kept.copy_from_slice(out.row(i));
            }
            cpu.level.run(Multiply {
                a: &a[row * row_len..],
                panel,
                b: &w[j * stride..],
                block: block(n),
                channels: patches.span,
                taps: patches.tap_count(),
                add: false,
                out: &mut out,
            });
            how.tile_over(cpu.level, &mut out, kept);
        });
    }
}

/// Scratch of [`forward_over`]; `None` where a residual can't be written over: its rows would be gone before all channels
/// were summed.
pub(super) fn over_scratch(conv: &Conv2d, budget: usize, threads: usize) -> Option<usize> {
    let m = conv.n() * conv.out_h() * conv.out_w();
    let group = Group::nth(conv, 0);
    let patches = Patches::forward(&group, &[]);
    let own = product_scratch(&patches, m, NO_COLUMNS, budget);
    let possible = conv.groups() == 1 && !group.thin() && patches.tap_count() > 0 && whole(&patches, m, own);
    possible.then_some(threads * OVER_ROWS * block(conv.k()) + own)
}

/// Whether all channels of some rows are packed into so many numbers.
fn whole(patches: &Patches, m: usize, numbers: usize) -> bool {
    let groups = patches.span.div_ceil(GROUP);
    cut(patches, m, NO_COLUMNS, numbers).groups >= groups && numbers >= patches.row_len(groups)
}

/// Scratch of [`forward`]: at most `budget` numbers where that suffices.
pub(crate) fn forward_scratch(conv: &Conv2d, budget: usize) -> usize {
    let group = Group::nth(conv, 0);
    let m = conv.n() * conv.out_h() * conv.out_w();
    let patches = Patches::forward(&group, &[]);
    let lines = if group.thin() { group.conv.weights().len() } else { 0 };
    group::own_len(conv) + lines + product_scratch(&patches, m, NO_COLUMNS, budget)
}

/// How many row tiles [`forward`] has at most, at any level, with the scratch of this budget.
pub(crate) fn row_tiles(conv: &Conv2d, budget: usize) -> usize {
    let m = conv.n() * conv.out_h() * conv.out_w();
    let patches = Patches::forward(&Group::nth(conv, 0), &[]);
    let cut = cut(&patches, m, NO_COLUMNS, product_scratch(&patches, m, NO_COLUMNS, budget));
    m.div_ceil(cut.rows) * tiles_of(cut.rows)
}

/// Row tiles of so many rows, at most: a tile falls short of [`TILE_ROWS`] by less than a panel.
fn tiles_of(rows: usize) -> usize {
    rows.div_ceil(TILE_ROWS + 1 - PANEL_MOST)
}

/// dx = the input's gradient (+ dx where `add`).
pub(crate) fn backward_input(conv: &Conv2d, cpu: &Cpu, call: BackwardInput) {
    let BackwardInput { w, dy, dx, add, scratch } = call;
    let (own, scratch) = scratch.split_at_mut(group::own_len(conv));
    group::for_each(conv, w, own, |group, w| {
        for phase in phases(conv) {
            let [high, wide] = conv.stride();
            let map = RowMap {
                w: phase.sides[1].pixels,
                h: phase.sides[0].pixels,
                pixel: wide * conv.c(),
                line: high * conv.w() * conv.c(),
                image: conv.h() * conv.w() * conv.c(),
                start: (phase.sides[0].start * conv.w() + phase.sides[1].start) * conv.c(),
            };
            let patches = phase.patches(group, dy);
            let weights = Transposed {
                layout: group.conv.weights(),
                kernel: conv.kernel()[1],
                stride: phase.sides.map(|side| side.step),
                first: phase.sides.map(|side| side.first),
                taps: patches.taps,
            };
            let out = Out { data: &mut *dx, map, m: phase.rows(conv), first: group.x.first, n: group.conv.c(), add, finish: Finish::None };
            product(cpu, patches, Weights::Transposed(w, weights), out, scratch);
        }
    });
}

/// Scratch of [`backward_input`].
pub(crate) fn backward_input_scratch(conv: &Conv2d, budget: usize) -> usize {
    let group = Group::nth(conv, 0);
    let of_phase = |phase: Phase| {
        let (patches, m) = (phase.patches(&group, &[]), phase.rows(conv));
        product_scratch(&patches, m, exchanged(&patches, m, group.conv.c(), budget), budget)
    };
    let most = phases(conv).map(of_phase).max();
    group::own_len(conv) + most.unwrap_or(0)
}

/// Input pixels that see the same taps: lines, columns.
struct Phase {
    sides: [Side; 2],
}

fn phases(conv: &Conv2d) -> impl Iterator<Item = Phase> + use<> {
    let conv = *conv;
    let [lines, columns] = [conv.stride()[0].min(conv.h()), conv.stride()[1].min(conv.w())];
    (0..lines * columns)
        .map(move |i| Phase { sides: [Side::backward_input(&conv, 0, i / columns), Side::backward_input(&conv, 1, i % columns)] })
}

impl Phase {
    /// Rows of the product.
    fn rows(&self, conv: &Conv2d) -> usize {
        conv.n() * self.sides[0].pixels * self.sides[1].pixels
    }

    fn patches<'a>(&self, group: &Group, dy: &'a [f32]) -> Patches<'a> {
        let conv = &group.conv;
        Patches {
            x: dy,
            h: conv.out_h(),
            w: conv.out_w(),
            c: conv.k(),
            first: group.y.first,
            pixel: group.y.pixel,
            out_h: self.sides[0].pixels,
            out_w: self.sides[1].pixels,
            step: [1; 2],
            taps: self.sides.map(|side| side.taps),
            origin: self.sides.map(|side| side.origin),
            apart: self.sides.map(|side| side.apart),
            span: conv.k(),
        }
    }
}

/// The output of a product: `m` rows of `n` columns, from column `first` of what `map` says on.
struct Out<'a, 'f> {
    data: &'a mut [f32],
    map: RowMap,
    m: usize,
    first: usize,
    n: usize,
    add: bool,
    finish: Finish<'f>,
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
    /// Blocks of columns whose exchanged weights are in scratch.
    blocks: usize,
}

/// `columns` in blocks of `block`: those whose weights are exchanged, or none.
fn cut(patches: &Patches, m: usize, (columns, block): (usize, usize), numbers: usize) -> Cut {
    let group = patches.row_len(1);
    let groups = patches.span.div_ceil(GROUP).max(1);
    let all_blocks = columns.div_ceil(block);
    if group == 0 {
        return Cut { rows: m, groups, blocks: all_blocks }; // no taps: there is nothing to pack
    }
    // Whole sub-panels, so that the sums are the same however much scratch there is.
    let unit = sub_panel(patches.tap_count());
    let panel = m.min(PANEL_MOST);
    let room = numbers / (group * unit.min(groups));
    let blocks = if room >= panel + columns { all_blocks } else { (room.saturating_sub(panel) / block).clamp(1, all_blocks) };
    let columns = columns.min(blocks * block);
    let at_least = m.min(ROWS_AT_LEAST) + columns;
    let groups = (numbers / (at_least * group) / unit * unit).clamp(unit.min(groups), groups);
    let rows = (numbers / (groups * group)).saturating_sub(columns);
    Cut { rows: rows.clamp(1, m), groups, blocks }
}

/// At most `budget` numbers where that is enough, never more than all at once would take.
fn product_scratch(patches: &Patches, m: usize, (columns, block): (usize, usize), budget: usize) -> usize {
    // All patches of all images need not fit the address space.
    let all = (m + columns).saturating_mul(patches.row_len(patches.span.div_ceil(GROUP)));
    let unit = sub_panel(patches.tap_count()).min(patches.span.div_ceil(GROUP));
    let least = (m.min(PANEL_MOST) + columns.min(block)) * patches.row_len(unit);
    all.min(budget.max(least))
}

/// `n` columns whose weights are exchanged, in blocks as wide as those of weights that lie in memory, or of half that width
/// where `numbers` have no room for one: so many columns in all, and in a block.
fn exchanged(patches: &Patches, m: usize, n: usize, numbers: usize) -> (usize, usize) {
    let unit = sub_panel(patches.tap_count()).min(patches.span.div_ceil(GROUP));
    let fits = (m.min(PANEL_MOST) + block(n)) * patches.row_len(unit) <= numbers;
    let block = if fits { block(n) } else { GROUP };
    (n.next_multiple_of(block), block)
}

fn product(cpu: &Cpu, patches: Patches, weights: Weights, out: Out, scratch: &mut [f32]) {
    let Out { data, map, m, first: first_column, n, add, finish } = out;
    let (columns, block) = match weights {
        Weights::AsTheyLie(_) => (NO_COLUMNS, block(n)),
        Weights::Transposed(..) => {
            let columns = exchanged(&patches, m, n, scratch.len());
            (columns, columns.1)
        }
    };
    let taps = patches.tap_count();
    let all_groups = if taps == 0 { 0 } else { patches.span.div_ceil(GROUP) };
    let cut = cut(&patches, m, columns, scratch.len());
    let all_blocks = n.div_ceil(block);
    let each_time = if columns == NO_COLUMNS { all_blocks } else { cut.blocks };
    let most = rows_at(cpu.level);
    let pieces = (0..all_blocks).step_by(each_time).flat_map(|first| (0..m).step_by(cut.rows).map(move |row| (first, row)));
    for (first_block, first_row) in pieces {
        let blocks = first_block..(first_block + each_time).min(all_blocks);
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
            // Where the first block of columns begins, for these channels.
            let (b, stride) = match &weights {
                Weights::AsTheyLie(w) => (&w[group * GROUP * taps * block..], patches.span * taps * block),
                Weights::Transposed(w, how) => {
                    let each = groups * GROUP * taps * block;
                    let exchanged = &mut exchanged[..blocks.len() * each];
                    how.blocks(cpu, w, (block, blocks.clone()), group, groups, exchanged);
                    (&*exchanged, each)
                }
            };
            let a = &*a;
            let first = first_column + first_block * block;
            let end = first_column + n.min(blocks.end * block);
            let tiles = Tiles::from_row(data, map, first_row, rows, end, TILE_ROWS / panel * panel, block)
                .beyond_column(first)
                .numbered_from(first_row / cut.rows * tiles_of(cut.rows));
            let last = group + cut.groups >= all_groups;
            cpu.run(tiles, &mut [], 0, |_, mut out, _| {
                let (row, j) = (out.first_row() - first_row, (out.first_column() - first) / block);
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
