//! `rows`: filters of one position over many pixels with few channels, the product of a tall matrix and small weights.
//!
//! There the time is that of reading x and writing y, so both pass by once, from front to back: a part of the work is
//! some rows with all their columns. A panel of rows is packed into the first-level cache, multiplied by all weights
//! (which stay in the second-level cache), and its rows of y are written as a whole, while the next panel's rows of x and y
//! are asked for. The sums are those of [`super::product`], to the bit.
//!
//! *Input's gradient:* the same over dy, with all weights exchanged first. *Weight's gradient:* [`backward_weight`].

pub(super) mod backward_weight;

use super::ahead::Ahead;
use super::transposed::Transposed;
use super::{BackwardInput, Finish, Forward, Normalise, Pass, Uniform};
use crate::dispatch::Task;
use crate::gemm::micro::{self, GROUP, Window};
use crate::gemm::{add_tile, for_rows, for_vectors, panel_rows, sub_panel};
use crate::isa::Isa;
use crate::parallel::{Cpu, RowMap, Tile, Tiles};
use crate::weights::block;

/// The fewest rows for which it pays.
const ROWS: usize = 192;
/// The most weights: forward, and for the input's gradient, whose exchanged weights are scratch.
const WEIGHTS: usize = 1 << 20;
const EXCHANGED: usize = 1 << 20;
/// Rows of a part: at most, and at least where there would be few parts.
const PART: usize = 112;
const PART_LEAST: usize = 28;
/// Parts that are enough.
const PARTS: usize = 16;
/// The most rows of a panel at any level.
const PANEL: usize = 14;

/// The most weights at all: scratch of some times their number has to fit the address space.
const MOST: usize = 1 << 24;

/// Whether this algorithm can do a convolution.
pub(super) fn accepts(conv: &Uniform) -> bool {
    (conv.kernel, conv.stride, conv.pad) == (1, 1, 0) && weights(conv) <= MOST
}

/// Whether it is the fastest for a pass.
pub(super) fn pays(conv: &Uniform, pass: Pass) -> bool {
    let enough = match pass {
        Pass::Forward => weights(conv) <= WEIGHTS,
        Pass::BackwardInput => weights(conv) <= EXCHANGED,
        Pass::BackwardWeight => backward_weight::pays(conv),
    };
    enough && accepts(conv) && conv.n * conv.h * conv.w >= ROWS
}

/// As many weights as there would be with at least 16 channels on both sides.
fn weights(conv: &Uniform) -> usize {
    conv.c.max(GROUP).saturating_mul(conv.k.max(GROUP))
}

/// Rows of a part, of `m`.
fn part(m: usize) -> usize {
    m.div_ceil(PARTS).next_multiple_of(PANEL).clamp(PART_LEAST, PART)
}

/// How many row tiles [`forward`] has.
pub(super) fn row_tiles(conv: &Uniform) -> usize {
    let m = conv.n * conv.h * conv.w;
    m.div_ceil(part(m))
}

/// Scratch of [`forward`].
pub(super) fn forward_scratch(conv: &Uniform, threads: usize) -> usize {
    threads * panel_len(conv.c)
}

/// Scratch of [`backward_input`].
pub(super) fn backward_input_scratch(conv: &Uniform, threads: usize) -> usize {
    exchanged_len(conv) + threads * panel_len(conv.k)
}

const fn panel_len(channels: usize) -> usize {
    PANEL * channels.next_multiple_of(GROUP)
}

const fn exchanged_len(conv: &Uniform) -> usize {
    conv.k.next_multiple_of(GROUP) * conv.c.next_multiple_of(block(conv.c))
}

/// y = x ⊛ w (+ y where `add`), then what `finish` says.
pub(super) fn forward(conv: &Uniform, cpu: &Cpu, call: Forward) {
    let Forward { x, w, y, add, finish, scratch } = call;
    Run { x, w, channels: conv.c, room: conv.c, n: conv.k, add, finish }.run(cpu, y, scratch);
}

/// dx = the input's gradient (+ dx where `add`).
pub(super) fn backward_input(conv: &Uniform, cpu: &Cpu, call: BackwardInput) {
    let BackwardInput { w, dy, dx, add, scratch } = call;
    let how = Transposed { layout: conv.weights(), kernel: 1, stride: [1; 2], first: [0; 2], taps: [1; 2] };
    let (exchanged, scratch) = scratch.split_at_mut(exchanged_len(conv));
    how.run(cpu, w, conv.c, 0, conv.k.div_ceil(GROUP), exchanged);
    let (channels, n) = (conv.k, conv.c);
    let room = channels.next_multiple_of(GROUP);
    Run { x: dy, w: exchanged, channels, room, n, add, finish: Finish::None }.run(cpu, dx, scratch);
}

/// Forward, or the input's gradient: the product of x and weights.
#[derive(Clone, Copy)]
struct Run<'a> {
    /// Rows of `channels`.
    x: &'a [f32],
    /// `[n / B][room][B]`, of whose room the first `channels` count.
    w: &'a [f32],
    channels: usize,
    room: usize,
    /// Columns of the product.
    n: usize,
    add: bool,
    finish: Finish<'a>,
}

impl Run<'_> {
    fn run(&self, cpu: &Cpu, y: &mut [f32], scratch: &mut [f32]) {
        let Run { x, w, channels, room, n, add, finish } = *self;
        let m = x.len() / channels;
        let tiles = Tiles::new(y, RowMap::plain(m, n), m, n, part(m), n);
        cpu.run(tiles, scratch, panel_len(channels), |_, mut out, panel| {
            cpu.level.run(Rows { x, w, channels, room, n, add, finish, panel, out: &mut out });
            finish.behind().tile(cpu.level, &mut out);
        });
    }
}

/// Some rows.
struct Rows<'a, 'p, 't> {
    x: &'a [f32],
    w: &'a [f32],
    channels: usize,
    room: usize,
    n: usize,
    add: bool,
    finish: Finish<'a>,
    /// `[channels / 16][rows][16]`
    panel: &'p mut [f32],
    out: &'p mut Tile<'t>,
}

impl Task for Rows<'_, '_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for_vectors!(block(self.n), self.panels(isa));
    }
}

impl Rows<'_, '_, '_> {
    #[inline(always)]
    fn panels<I: Isa, const V: usize>(mut self, isa: I) {
        let rows = self.out.rows();
        let most = panel_rows(rows, I::ROWS);
        for row in (0..rows).step_by(most) {
            let count = most.min(rows - row);
            self.pack(isa, row, count);
            macro_rules! tile {
                ($n:literal) => {
                    self.tile::<I, $n, V>(isa, row)
                };
            }
            for_rows!(isa, count, tile!(1 2 3 4 5 6 7 8 9 10 11 12 13 14));
            self.finish.rows(isa, self.out.part(row, count));
        }
    }

    /// Copies `count` rows in groups of 16 channels. Places beyond the last channel stay as they are: nothing reads them.
    #[inline(always)]
    fn pack<I: Isa>(&mut self, isa: I, row: usize, count: usize) {
        let c = self.channels;
        let x = &self.x[(self.out.first_row() + row) * c..][..count * c];
        for (r, x) in x.chunks_exact(c).enumerate() {
            let mut groups = x.chunks_exact(GROUP);
            let mut at = r * GROUP;
            for x in &mut groups {
                let to = &mut self.panel[at..at + GROUP];
                for i in (0..GROUP).step_by(I::LANES) {
                    isa.store(isa.load(&x[i..]), &mut to[i..]);
                }
                at += count * GROUP;
            }
            let rest = groups.remainder();
            if !rest.is_empty() {
                self.panel[at..at + rest.len()].copy_from_slice(rest);
            }
        }
    }

    /// What the next panel reads and writes, to be asked for during this one of `count` rows from `row`.
    #[inline(always)]
    fn next(&mut self, row: usize, count: usize, width: usize) -> [Ahead; 3] {
        let (next, n, c) = (self.out.first_row() + row + count, self.n, self.channels);
        let steps = n.div_ceil(width) * c.div_ceil(GROUP);
        let y = self.out.row(row).as_ptr().wrapping_add(count * n);
        let x = self.x.as_ptr().wrapping_add(next * c);
        let residual = match self.finish {
            Finish::Normalise(Normalise { residual: Some(residual), .. }) => {
                Ahead::new(residual.as_ptr().wrapping_add(next * n), count * n, steps)
            }
            _ => Ahead::new(y, 0, 1),
        };
        [Ahead::new(x, count * c, steps), Ahead::new(y, count * n, steps), residual]
    }

    /// All columns of a panel of `R` rows.
    #[inline(always)]
    fn tile<I: Isa, const R: usize, const V: usize>(&mut self, isa: I, row: usize) {
        let (width, block) = (V * I::LANES, block(self.n));
        let pass = sub_panel(1);
        let mut ahead = self.next(row, R, width);
        let Rows { w, channels, room, n, add, ref panel, ref mut out, .. } = *self;
        let mut y = out.rows_at::<R>(row);
        for column in (0..n).step_by(width) {
            let w = &w[column / block * room * block..][..room * block];
            for first in (0..channels.div_ceil(GROUP)).step_by(pass) {
                let channels = (pass * GROUP).min(channels - first * GROUP);
                let a = &panel[first * GROUP * R..][..channels.div_ceil(GROUP) * GROUP * R];
                let b = &w[first * GROUP * block..][..channels * block];
                let mut acc = [[isa.splat(0.0); V]; R];
                let ask = || ahead.iter_mut().for_each(|ahead| ahead.ask(isa));
                micro::multiply_and::<I, R, V>(isa, a, &Window::panel(1, R), &b[column % block..], channels, block, &mut acc, ask);
                add_tile(isa, &acc, &mut y, column, add || first > 0);
            }
        }
    }
}
