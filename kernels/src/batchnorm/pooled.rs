//! Batchnorm with the batch's statistics, relu and max-pooling in one pass over x: behind the stem's
//! convolution. The normalised activation, four times as large as the result, never goes to memory.
//!
//! A part is a few output lines: the input lines under them are normalised into the thread's scratch,
//! and pooled from there. Backward goes by the ops it is made of: [`crate::maxpool::backward_input`],
//! then [`super::fused::backward_sums_gated`] and [`super::fused::backward_input_gated`].
//!
//! The same bits as [`super::fused::forward_batch`] with relu and [`crate::maxpool::forward`] called
//! one after the other, which are the reference.

use super::fused::batch_tables;
use super::pass::{Normalise, RowsTask};
use super::{BatchNorm, TABLES};
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

/// `y = maxpool(relu(batchnorm(x)))`, and where the maxima were.
///
/// | name | shape | |
/// |---|---|---|
/// | `x` | the pooling's input | read |
/// | `moments` | 2·channels | read, as in [`super::fused::forward_batch`] |
/// | `gamma`, `beta`, `running_mean`, `running_var`, `factor` | | as there |
/// | `y` | the pooling's output | overwritten |
/// | `index` | as `y` | overwritten: for [`crate::maxpool::backward_input`], where it is asked for |
/// | `saved` | 4·channels | overwritten, as there |
/// | `scratch` | [`scratch_len`] | overwritten |
///
/// # Panics
/// If a length is wrong, or there is only one row.
#[allow(clippy::too_many_arguments)]
pub fn forward_batch(
    cpu: &Cpu,
    p: &BatchNorm,
    pool: &MaxPool,
    x: &[f32],
    moments: Option<&[f64]>,
    gamma: &[f32],
    beta: &[f32],
    running_mean: &mut [f32],
    running_var: &mut [f32],
    factor: f32,
    y: &mut [f32],
    index: Option<&mut [u8]>,
    saved: &mut [f32],
    scratch: &mut [f32],
) {
    let per_channel = [gamma.len(), beta.len(), running_mean.len(), running_var.len(), moments.map_or(p.channels, |m| m.len() / 2)];
    pool.check(x.len(), y.len());
    p.check(&[x.len()], &per_channel, scratch.len(), cpu.threads.count());
    assert_eq!(
        (pool.c, y.len(), index.as_ref().map_or(y.len(), |index| index.len())),
        (p.channels, pool.y_len(), pool.y_len()),
        "{pool:?} behind a batchnorm of {} channels",
        p.channels
    );
    let (own, lines) = scratch.split_at_mut(p.scratch_len(cpu.threads.count()));
    let (partial, rest) = own.split_at_mut(p.partial_len());
    let (tables, threads) = rest.split_at_mut(TABLES * p.period());
    let tables = batch_tables(cpu, p, x, moments, gamma, beta, running_mean, running_var, factor, saved, partial, tables, threads);
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
                f: Normalise::<true>,
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

#[cfg(test)]
mod tests {
    use super::super::fused::{self, Then};
    use super::*;
    use crate::maxpool;
    use crate::testing::*;

    #[test]
    fn one_pass_has_the_bits_of_three() {
        let mut random = Random::new(5);
        for (n, h, w, c, kernel, stride, pad) in [
            (2, 9, 7, 5, 3, 2, 1),
            (1, 16, 16, 64, 3, 2, 1),
            (3, 5, 6, 17, 2, 2, 0),
            (2, 11, 4, 16, 5, 1, 2),
            (5, 2, 3, 10, 3, 1, 1),
            (1, 13, 9, 33, 3, 4, 0),
            (7, 1, 1, 8, 1, 1, 0),
        ] {
            let pool = MaxPool { n, h, w, c, kernel, stride, pad };
            let p = BatchNorm { rows: n * h * w, channels: c, eps: 1e-5 };
            let x = Offset::copy(&random.vector(pool.x_len()), (h + c) % 16);
            let (gamma, beta) = (random.vector(c), random.vector(c));
            same_bits(
                |cpu| {
                    let threads = cpu.threads.count();
                    let mut scratch = Offset::scratch(scratch_len(&p, &pool, threads));
                    let (mut m, mut v, mut saved) = (std::vec![0.0; c], std::vec![1.0; c], std::vec![f32::NAN; 4 * c]);
                    let mut whole = Offset::nan(pool.x_len(), 3);
                    let then = Then { residual: None, relu: true };
                    let from = Some(&*x);
                    fused::forward_batch(
                        cpu,
                        &p,
                        from,
                        None,
                        &gamma,
                        &beta,
                        &mut m,
                        &mut v,
                        0.1,
                        then,
                        &mut whole,
                        &mut saved,
                        &mut scratch,
                    );
                    let (mut expected, mut places) = (Offset::nan(pool.y_len(), 1), std::vec![255; pool.y_len()]);
                    maxpool::forward(cpu, &pool, &whole, &mut expected, &mut places);

                    let (mut m2, mut v2, mut saved2) = (std::vec![0.0; c], std::vec![1.0; c], std::vec![f32::NAN; 4 * c]);
                    let (mut y, mut index) = (Offset::nan(pool.y_len(), 5), std::vec![255; pool.y_len()]);
                    scratch.fill(f32::NAN);
                    forward_batch(
                        cpu,
                        &p,
                        &pool,
                        &x,
                        None,
                        &gamma,
                        &beta,
                        &mut m2,
                        &mut v2,
                        0.1,
                        &mut y,
                        Some(&mut index),
                        &mut saved2,
                        &mut scratch,
                    );
                    for (i, (a, b)) in y.iter().zip(&*expected).enumerate() {
                        assert!(a.to_bits() == b.to_bits(), "{pool:?}: at {i} {a} instead of {b}");
                    }
                    let mut alone = Offset::nan(pool.y_len(), 2);
                    let (mut m3, mut v3, mut saved3) = (std::vec![0.0; c], std::vec![1.0; c], std::vec![f32::NAN; 4 * c]);
                    forward_batch(
                        cpu,
                        &p,
                        &pool,
                        &x,
                        None,
                        &gamma,
                        &beta,
                        &mut m3,
                        &mut v3,
                        0.1,
                        &mut alone,
                        None,
                        &mut saved3,
                        &mut scratch,
                    );
                    assert!(alone.iter().zip(&*y).all(|(a, b)| a.to_bits() == b.to_bits()), "{pool:?} without places");
                    assert_eq!((&index, &m2, &v2, &saved2), (&places, &m, &v, &saved), "{pool:?}");
                    y.to_vec()
                },
                |_, _| {},
            );
        }
    }
}
