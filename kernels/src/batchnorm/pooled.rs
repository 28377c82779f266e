//! Batchnorm with the batch's statistics, relu and max-pooling in one pass over x: behind the stem's
//! convolution. The normalised activation, four times as large as the result, never goes to memory.
//!
//! A part is a few output lines: the input lines under them are normalised into the thread's scratch,
//! and pooled from there. Backward goes by the ops it is made of: [`crate::maxpool::backward_input`],
//! then [`super::fused::backward_sums_gated`] and [`super::fused::backward_input_gated`].
//!
//! The same bits as [`super::fused::forward_batch`] with relu and [`crate::maxpool::forward`] called
//! one after the other, which are the reference.

use super::fused::Batch;
use super::pass::{Normalise, RowsTask};
use super::{BatchNorm, Moving};
use crate::bounds::room;
use crate::isa::Isa;
use crate::maxpool::{ForwardTask, MaxPool};
use crate::parallel::Chunks;
use crate::{Cpu, Task};

/// Output lines of a part: more share their input lines, fewer take less scratch.
const LINES: usize = 4;

/// What the normalised lines of a part look like to the pooling: an image of its own.
fn image(pool: &MaxPool) -> MaxPool {
    let h = room(&[&[above(pool)], &[LINES - 1, pool.stride], &[pool.kernel]]);
    MaxPool { n: 1, h, ..*pool }
}

/// Output lines that the image has above the part's first, so that its window starts inside.
const fn skipped(pool: &MaxPool) -> usize {
    pool.pad.div_ceil(pool.stride)
}

/// Input lines above the part's first window.
const fn above(pool: &MaxPool) -> usize {
    room(&[&[skipped(pool), pool.stride]]) - pool.pad
}

/// Scratch in `f32` of [`forward_batch`] on so many threads (64-byte aligned).
/// `usize::MAX` where so many do not fit the address space.
///
/// # Panics
/// If the stride is zero.
pub fn scratch_len(p: &BatchNorm, pool: &MaxPool, threads: usize) -> usize {
    room(&[&[p.scratch_len(threads)], &[threads, image(pool).h, pool.w, pool.c]])
}

/// The tensors of [`forward_batch`].
#[derive(Debug)]
pub struct ForwardBatch<'a> {
    /// The pooling's input: read.
    pub x: &'a [f32],
    /// 2·channels: means, then sums of squared deviations. Read instead of taking them from x where they are known.
    pub moments: Option<&'a [f64]>,
    /// channels: read.
    pub gamma: &'a [f32],
    /// channels: read.
    pub beta: &'a [f32],
    /// Moved towards the batch's statistics.
    pub running: Moving<'a>,
    /// The pooling's output: overwritten.
    pub y: &'a mut [f32],
    /// As `y`, where it is asked for: overwritten. For [`crate::maxpool::backward_input`].
    pub index: Option<&'a mut [u8]>,
    /// 4·channels: overwritten, as in [`super::ForwardBatch`].
    pub saved: &'a mut [f32],
    /// [`scratch_len`] numbers: overwritten.
    pub scratch: &'a mut [f32],
}

/// `y = maxpool(relu(batchnorm(x)))`, and where the maxima were.
///
/// # Panics
/// If a length is wrong, or there is only one row.
pub fn forward_batch(cpu: &Cpu, p: &BatchNorm, pool: &MaxPool, call: ForwardBatch) {
    let ForwardBatch { x, moments, gamma, beta, running, y, index, saved, scratch } = call;
    let batch = Batch { x, moments, gamma, beta, running, saved };
    pool.check(x.len(), y.len());
    p.check(&[x.len()], &batch.per_channel(p), scratch.len(), cpu.threads.count());
    assert_eq!(
        (pool.c, y.len(), index.as_ref().map_or(y.len(), |index| index.len())),
        (p.channels, pool.y_len(), pool.y_len()),
        "{pool:?} behind a batchnorm of {} channels",
        p.channels
    );
    let (own, lines) = scratch.split_at_mut(p.scratch_len(cpu.threads.count()));
    let tables = batch.tables(cpu, p, p.rooms(own));
    let image = image(pool);
    let line = pool.out_w() * pool.c;
    let parts = (pool.n * pool.out_h()).div_ceil(LINES);
    let y = Chunks::new(y, LINES * line, parts);
    let whole = Whole { p, pool, image: &image, x, tables };
    match index {
        Some(index) => {
            let index = Chunks::new(index, LINES * line, parts);
            cpu.run((y, index), lines, image.x_len(), |i, (y, index), lines| {
                cpu.level.run(Lines { whole, first: i * LINES, y, index: Some(index), lines })
            });
        }
        None => cpu.run(y, lines, image.x_len(), |i, y, lines| cpu.level.run(Lines { whole, first: i * LINES, y, index: None, lines })),
    }
}

/// What all parts share.
#[derive(Clone, Copy)]
struct Whole<'a> {
    p: &'a BatchNorm,
    pool: &'a MaxPool,
    image: &'a MaxPool,
    x: &'a [f32],
    /// Mean, scale, shift.
    tables: [&'a [f32]; 3],
}

/// A few output lines, perhaps of two images.
struct Lines<'a, 'l> {
    whole: Whole<'a>,
    /// The first line's number over all images.
    first: usize,
    y: &'a mut [f32],
    index: Option<&'a mut [u8]>,
    lines: &'l mut [f32],
}

impl Task for Lines<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let Whole { p, pool, image, x, tables } = self.whole;
        let (from_line, to_line) = (pool.w * pool.c, pool.out_w() * pool.c);
        let count = self.y.len() / to_line;
        let mut done = 0;
        while done < count {
            let (n, oy) = ((self.first + done) / pool.out_h(), (self.first + done) % pool.out_h());
            let run = (count - done).min(pool.out_h() - oy);
            // Input lines under these windows; those outside the image hold −∞, which is never chosen:
            // relu left nothing below zero.
            let needed = (run - 1) * pool.stride + pool.kernel;
            let top = pool.pad.saturating_sub(oy * pool.stride).min(needed);
            let start = (oy * pool.stride + top - pool.pad).min(pool.h);
            let inside = (needed - top).min(pool.h - start);
            let lines = &mut self.lines[above(pool) * from_line..][..needed * from_line];
            lines[..top * from_line].fill(f32::NEG_INFINITY);
            lines[(top + inside) * from_line..].fill(f32::NEG_INFINITY);
            RowsTask {
                f: Normalise { floor: 0.0 },
                x: [&x[(n * pool.h + start) * from_line..][..inside * from_line]],
                tables,
                period: p.period(),
                y: &mut lines[top * from_line..][..inside * from_line],
            }
            .run(isa);
            for i in 0..run {
                let at = (done + i) * to_line..(done + i + 1) * to_line;
                let (p, x, line, y) = (image, &*self.lines, skipped(pool) + i, &mut self.y[at.clone()]);
                match &mut self.index {
                    Some(index) => ForwardTask::<true> { p, x, line, y, index: &mut index[at] }.run(isa),
                    None => ForwardTask::<false> { p, x, line, y, index: &mut [] }.run(isa),
                }
            }
            done += run;
        }
    }
}
