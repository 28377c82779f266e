//! Transformed input: Bᵀ x B of some tiles.

use super::micro::{self, Positions, Square};
use super::order::Order;
use super::plane::{Panels, Plane};
use super::scheme::{MOST, Scheme};
use crate::dispatch::Task;
use crate::gemm::micro::GROUP;
use crate::isa::Isa;
use core::marker::PhantomData;

/// Fills one panel.
pub(super) struct Input<'a, 'p, S> {
    pub(super) scheme: PhantomData<S>,
    pub(super) plane: &'a Plane,
    pub(super) x: &'a [f32],
    /// Of which tiles, and the first tile of all panels.
    pub(super) order: Order,
    pub(super) first: usize,
    /// The first channel: a multiple of 16.
    pub(super) channel: usize,
    pub(super) panels: Panels,
    pub(super) panel: usize,
    /// The panel: `[positions][groups][rows][16]`.
    pub(super) v: &'p mut [f32],
}

impl<S: Scheme> Task for Input<'_, '_, S> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (s, panels) = (self.plane, self.panels);
        let rows = panels.rows_of(self.panel);
        let step = [s.w * s.c, s.c];
        let first = self.first + self.panel * panels.rows;
        let mut window = self.window(first);
        for row in 0..rows {
            let (corner, there) = window;
            // The next tile's pixels are asked for while this one's are transformed.
            window = self.window(first + row + 1);
            for lane in (0..panels.groups * GROUP).step_by(I::LANES) {
                let channel = self.channel + lane;
                let v = &mut self.v[(lane / GROUP * rows + row) * GROUP + lane % GROUP..];
                let v = Positions::new::<I>(v, S::POSITIONS, panels.position(rows));
                if lane % GROUP == 0 {
                    let next = self.x.as_ptr().wrapping_offset(window.0 + channel as isize);
                    micro::ask(isa, next, step, window.1);
                }
                if channel + I::LANES > s.c {
                    let (x, some) = some(self.x, corner + channel as isize, step, there, s.c.saturating_sub(channel));
                    micro::input::<S, I>(isa, Square::new::<I>(&x, 0, some, there), v);
                } else if there == [[0, S::IN]; 2] {
                    let x = Square::new::<I>(self.x, corner + channel as isize, step, [[0, S::IN]; 2]);
                    micro::input::<S, I>(isa, x, v);
                } else {
                    let x = Square::new::<I>(self.x, corner + channel as isize, step, there);
                    micro::input::<S, I>(isa, x, v);
                }
            }
        }
    }
}

impl<S: Scheme> Input<'_, '_, S> {
    /// Where in x the window of a tile begins, or would begin, and which lines and columns of it are there; none
    /// behind the last tile.
    #[inline(always)]
    fn window(&self, tile: usize) -> (isize, [[usize; 2]; 2]) {
        let s = self.plane;
        if tile >= self.order.count() {
            return (0, [[0; 2]; 2]);
        }
        let [image, line, column] = self.order.tile(tile);
        let start =
            |direction: usize, tile: usize| (s.pixels(direction, tile)[0] * S::STEPS[0] / S::STEPS[1] + S::KNOWN) as isize - s.pad as isize;
        let (top, left) = (start(0, line), start(1, column));
        let there = [inside(top, S::IN, s.h), inside(left, S::IN, s.w)];
        ((image * s.h * s.w * s.c) as isize + (top * s.w as isize + left) * s.c as isize, there)
    }
}

/// The part of a window of `size` pixels from `start` on that lies inside an image of `end`: from, to.
#[inline(always)]
pub(super) fn inside(start: isize, size: usize, end: usize) -> [usize; 2] {
    let from = (-start).clamp(0, size as isize) as usize;
    let to = (end as isize - start).clamp(0, size as isize) as usize;
    [from, to]
}

/// A copy of a square of which only `count` channels are there, with zeros for the others, and its
/// steps: no vector then reads beyond the last pixel.
#[inline(always)]
pub(super) fn some(
    x: &[f32],
    corner: isize,
    step: [usize; 2],
    [lines, columns]: [[usize; 2]; 2],
    count: usize,
) -> ([f32; MOST * MOST * GROUP], [usize; 2]) {
    let mut copy = [0.0; MOST * MOST * GROUP];
    if count == 0 {
        return (copy, [MOST * GROUP, GROUP]); // beyond the last channel there may be no memory
    }
    for i in lines[0]..lines[1] {
        for j in columns[0]..columns[1] {
            let from = (corner + (i * step[0] + j * step[1]) as isize) as usize;
            copy[(i * MOST + j) * GROUP..][..count].copy_from_slice(&x[from..from + count]);
        }
    }
    (copy, [MOST * GROUP, GROUP])
}
