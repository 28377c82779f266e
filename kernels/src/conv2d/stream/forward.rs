//! y: blocks of output channels, for a range of input channels each.
//!
//! Where there are fewer blocks than many cores could use, the input channels are cut into ranges too
//! (by the shape alone); their sums lie in scratch and are added in their order.

use super::super::patches::{PackPanel, Patches};
use super::super::product::rows_at;
use super::super::{Forward, Uniform};
use crate::dispatch::Task;
use crate::gemm::micro::GROUP;
use crate::gemm::{Multiply, panel_rows, sub_panel};
use crate::isa::Isa;
use crate::parallel::{Chunks, Cpu, RowMap, Tile, Tiles};

/// Parts that there should be, if none becomes smaller than [`RANGE_AT_LEAST`].
const PARTS: usize = 8;
/// Weights of a part.
const RANGE_AT_LEAST: usize = 16 << 10;
/// Numbers of y that one thread adds up.
const ADDED: usize = 8 << 10;

/// How the work is cut.
#[derive(Clone, Copy)]
struct Cut {
    /// Output pixels.
    pixels: usize,
    /// Groups of 16 input channels in all, and in a range.
    groups: usize,
    range: usize,
    /// Ranges.
    ranges: usize,
    /// Numbers of a pixel's patches in a group.
    group: usize,
}

fn cut(conv: &Uniform) -> Cut {
    let layout = conv.weights();
    let groups = conv.c.div_ceil(GROUP);
    let ranges = (PARTS / layout.blocks()).min(layout.block_len() / RANGE_AT_LEAST).max(1);
    // Whole sub-panels: shorter sums would be no worse, but more.
    let range = groups.div_ceil(ranges).next_multiple_of(sub_panel(layout.taps())).min(groups);
    Cut { pixels: conv.n * conv.out_h() * conv.out_w(), groups, range, ranges: groups.div_ceil(range), group: layout.taps() * GROUP }
}

/// Scratch of [`forward`]: the patches, and the ranges' sums.
pub(crate) fn scratch_len(conv: &Uniform) -> usize {
    let (cut, layout) = (cut(conv), conv.weights());
    let sums = if cut.ranges > 1 { cut.ranges * cut.pixels * layout.blocks() * layout.block() } else { 0 };
    cut.ranges * cut.range * cut.pixels * cut.group + sums
}

/// y = x ⊛ w (+ y where `add`), then what `finish` says.
pub(crate) fn forward(conv: &Uniform, cpu: &Cpu, call: Forward) {
    let Forward { x, w, y, add, finish, scratch } = call;
    let (cut, layout) = (cut(conv), conv.weights());
    let (pixels, block, blocks) = (cut.pixels, layout.block(), layout.blocks());
    let panel = panel_rows(pixels, rows_at(cpu.level));
    let (patches, sums) = scratch.split_at_mut(cut.ranges * cut.range * pixels * cut.group);
    gather(conv, cpu, &cut, panel, x, patches);
    let patches = &*patches;
    let run = |range: usize, j: usize, add: bool, out: &mut Tile| {
        let first = range * cut.range;
        let groups = cut.range.min(cut.groups - first);
        cpu.level.run(Multiply {
            a: &patches[first * pixels * cut.group..][..groups * pixels * cut.group],
            panel,
            b: &w[j * layout.block_len() + first * cut.group * block..],
            block,
            channels: (groups * GROUP).min(conv.c - first * GROUP),
            taps: layout.taps(),
            add,
            out,
        });
    };
    if cut.ranges == 1 {
        let tiles = Tiles::new(y, RowMap::plain(pixels, conv.k), pixels, conv.k, pixels, block);
        cpu.run(tiles, &mut [], 0, |j, mut out, _| {
            run(0, j, add, &mut out);
            finish.tile(cpu.level, &mut out);
        });
        return;
    }
    let (width, rows) = (blocks * block, cut.ranges * pixels);
    let sums = &mut sums[..rows * width];
    let tiles = Tiles::new(sums, RowMap::plain(rows, width), rows, width, pixels, block);
    cpu.run(tiles, &mut [], 0, |i, mut out, _| run(i / blocks, i % blocks, false, &mut out));
    let sums = &*sums;
    let columns = (ADDED / pixels).next_multiple_of(block);
    let tiles = Tiles::new(y, RowMap::plain(pixels, conv.k), pixels, conv.k, pixels, columns);
    cpu.run(tiles, &mut [], 0, |_, mut out, _| {
        cpu.level.run(Sum { sums, width, add, out: &mut out });
        finish.tile(cpu.level, &mut out);
    });
}

/// Gathers the patches, `[range][panel of rows][group][tap][row][16]`.
fn gather(conv: &Uniform, cpu: &Cpu, cut: &Cut, panel: usize, x: &[f32], to: &mut [f32]) {
    // Few pixels: also images of few channels are gathered tap by tap.
    let patches = Patches::uniform(conv, x);
    cpu.run(Chunks::new(to, cut.range * cut.pixels * cut.group, cut.ranges), &mut [], 0, |range, to, _| {
        let group = range * cut.range;
        let groups = cut.range.min(cut.groups - group);
        for row in (0..cut.pixels).step_by(panel) {
            let rows = panel.min(cut.pixels - row);
            let panel = &mut to[row * groups * cut.group..][..rows * groups * cut.group];
            cpu.level.run(PackPanel { patches, first: row, rows, group, groups, panel });
        }
    });
}

/// Adds the ranges' sums.
struct Sum<'a, 't, 'p> {
    /// `[ranges][pixels][width]`
    sums: &'a [f32],
    width: usize,
    add: bool,
    out: &'p mut Tile<'t>,
}

impl Task for Sum<'_, '_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let (rows, column) = (self.out.rows(), self.out.first_column());
        for r in 0..rows {
            let y = self.out.row(r);
            let mut add = self.add;
            for range in self.sums.chunks_exact(rows * self.width) {
                let from = &range[r * self.width + column..][..y.len()];
                for (y, x) in y.iter_mut().zip(from) {
                    *y = if add { *y + *x } else { *x };
                }
                add = true;
            }
        }
    }
}
