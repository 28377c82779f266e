//! Sizes that no memory has, and sizes of zero, in every public struct and function that takes some: each call
//! returns or panics, at once, also where a product of them wraps to what the slices have.
//!
//! Kernels are tested as they are shipped, without overflow checks: arithmetic that should not wrap does so without a
//! word.
#![forbid(unsafe_code)]
#![cfg(feature = "std")]

use nunatak_kernels::avgpool::{self, AdaptiveAvgPool};
use nunatak_kernels::batchnorm::{
    self, BackwardInput, BackwardInputRunning, BackwardSums, BackwardSumsMasking, BatchNorm, ForwardBatch, ForwardRunning, Moving, Running,
    fused, pooled,
};
use nunatak_kernels::cross_entropy::{self, CrossEntropy, Targets};
use nunatak_kernels::maxpool::{self, MaxPool};
use nunatak_kernels::{Cpu, Level, Linear, Memory, Pass, Threads, calibration, images, linear, reference};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Duration;

const HALF: usize = 1 << (usize::BITS - 1);
/// Its square wraps to zero.
const ROOT: usize = 1 << (usize::BITS / 2);

const SIZES: [usize; 12] = [0, 1, 2, 3, 4, ROOT, ROOT + 1, HALF / 2, HALF, HALF + 1, usize::MAX - 1, usize::MAX];
/// Of them, those that are small.
const SMALL: usize = 5;

/// Numbers in each slice that is handed over, but for scratch.
const LENGTHS: [usize; 5] = [0, 1, 2, 4, 8];

/// Some sizes after others, each time the same.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }

    /// Half of them small.
    fn size(&mut self) -> usize {
        let count = if self.below(2) == 0 { SMALL } else { SIZES.len() };
        SIZES[self.below(count)]
    }

    fn len(&mut self) -> usize {
        LENGTHS[self.below(LENGTHS.len())]
    }
}

/// Makes calls with sizes that are drawn; some have to return and some to panic, all of them soon.
fn soon(name: &'static str, rounds: usize, call: impl Fn(&mut Draw, &Cpu) + Send + 'static) {
    let (ended, wait) = mpsc::channel();
    std::thread::spawn(move || {
        let threads = Threads::oversubscribed(3).expect("threads");
        let mut draw = Draw(7);
        let mut returned = 0;
        for round in 0..rounds {
            for level in Level::available() {
                let cpu = Cpu { level, threads: &threads };
                draw.0 = round as u64;
                returned += usize::from(catch_unwind(AssertUnwindSafe(|| call(&mut draw, &cpu))).is_ok());
            }
        }
        ended.send(returned).expect("somebody waits");
    });
    let returned = wait.recv_timeout(Duration::from_secs(300)).unwrap_or_else(|_| panic!("{name} hangs"));
    assert!(returned > 0, "{name} never returns");
}

#[test]
fn every_call_returns_or_panics_at_once() {
    std::panic::set_hook(Box::new(|panic| {
        // Only of this thread's own checks: the calls' panics are a hundred thousand.
        if std::thread::current().name().is_some_and(|name| name.starts_with("every_call")) {
            eprintln!("{panic}");
        }
    }));
    soon("maxpool", 40_000, maxpool_call);
    soon("avgpool", 40_000, avgpool_call);
    soon("batchnorm", 20_000, batchnorm_call);
    soon("batchnorm and maxpool", 40_000, batchnorm_then_maxpool_call);
    soon("linear", 20_000, linear_call);
    soon("cross_entropy", 20_000, cross_entropy_call);
    soon("images", 20_000, images_call);
    soon("lengths", 20_000, lengths_call);
}

fn maxpool_call(draw: &mut Draw, cpu: &Cpu) {
    let p = MaxPool {
        n: draw.size(),
        h: draw.size(),
        w: draw.size(),
        c: draw.size(),
        kernel: draw.size(),
        stride: draw.size(),
        pad: draw.size(),
    };
    let (mut x, mut y) = (vec![1.0; draw.len()], vec![0.0; draw.len()]);
    let mut index = vec![0; y.len()];
    match draw.below(5) {
        0 => maxpool::forward(cpu, &p, &x, &mut y, &mut index),
        1 => maxpool::forward_only(cpu, &p, &x, &mut y),
        2 => maxpool::backward_input(cpu, &p, &y, &index, &mut x),
        3 => reference::maxpool::forward(&p, &x, &mut vec![0.0; y.len()], &mut index),
        _ => reference::maxpool::backward_input(&p, &y, &index, &mut vec![0.0; x.len()]),
    }
}

fn avgpool_call(draw: &mut Draw, cpu: &Cpu) {
    let p = AdaptiveAvgPool { n: draw.size(), h: draw.size(), w: draw.size(), c: draw.size(), out_h: draw.size(), out_w: draw.size() };
    let (mut x, mut y) = (vec![1.0; draw.len()], vec![0.0; draw.len()]);
    match draw.below(4) {
        0 => avgpool::forward(cpu, &p, &x, &mut y),
        1 => avgpool::backward_input(cpu, &p, &y, &mut x),
        2 => reference::avgpool::forward(&p, &x, &mut vec![0.0; y.len()]),
        _ => reference::avgpool::backward_input(&p, &y, &mut vec![0.0; x.len()]),
    }
}

fn batchnorm_call(draw: &mut Draw, cpu: &Cpu) {
    let p = BatchNorm { rows: draw.size(), channels: draw.size(), eps: 1e-5 };
    let (x, y, c) = (&vec![1.0; draw.len()], &mut vec![0.0; draw.len()], draw.len());
    let (gamma, mean, var, sums) = (&vec![1.0; c], &mut vec![0.0; c], &mut vec![1.0; c], &mut vec![0.0; 2 * c]);
    let (beta, scratch) = (gamma, &mut aligned(4096));
    match draw.below(7) {
        0 => {
            let running = Moving { mean, var, factor: 0.1 };
            let call = ForwardBatch { x: Some(x), moments: None, gamma, beta, running, y, saved: sums, scratch };
            batchnorm::forward_batch(cpu, &p, call);
        }
        1 => {
            let running = Running { mean, var };
            batchnorm::forward_running(cpu, &p, ForwardRunning { x: Some(x), gamma, beta, running, y, scratch });
        }
        2 => batchnorm::backward_sums(cpu, &p, BackwardSums { x, dy: y, saved: gamma, sums, scratch }),
        3 => batchnorm::backward_input(cpu, &p, BackwardInput { x, dy: None, gamma, saved: sums, sums, dx: y, scratch }),
        4 => batchnorm::backward_input_running(cpu, &p, BackwardInputRunning { dy: Some(x), gamma, running_var: var, dx: y, scratch }),
        5 => {
            let saved = &sums.clone();
            fused::backward_sums_masking(cpu, &p, BackwardSumsMasking { x, y: x, dy: y, saved, sums, scratch });
        }
        _ => {
            let (running, y) = (Running { mean, var }, &mut vec![0.0; y.len()]);
            reference::batchnorm::forward_running(&p, reference::batchnorm::ForwardRunning { x, gamma, beta, running, y });
        }
    }
}

fn batchnorm_then_maxpool_call(draw: &mut Draw, cpu: &Cpu) {
    let pool = MaxPool {
        n: draw.size(),
        h: draw.size(),
        w: draw.size(),
        c: draw.size(),
        kernel: draw.size(),
        stride: draw.size(),
        pad: draw.below(2),
    };
    let p = BatchNorm { rows: pool.n.wrapping_mul(pool.h).wrapping_mul(pool.w), channels: pool.c, eps: 1e-5 };
    let threads = draw.size();
    // As the sizes say, as far as they are small.
    let windows = |len: usize| (len.wrapping_add(2 * pool.pad).wrapping_sub(pool.kernel) / pool.stride.max(1)).wrapping_add(1);
    let numbers = |h: usize, w: usize| pool.n.wrapping_mul(h).wrapping_mul(w).wrapping_mul(pool.c).min(512);
    let x = &vec![1.0; numbers(pool.h, pool.w)];
    let (y, c) = (&mut vec![0.0; numbers(windows(pool.h), windows(pool.w))], pool.c.min(16));
    let (gamma, mean, var, saved) = (&vec![1.0; c], &mut vec![0.0; c], &mut vec![1.0; c], &mut vec![0.0; 2 * c]);
    let (beta, scratch) = (gamma, &mut aligned(8192));
    if draw.below(4) == 0 {
        pooled::scratch_len(&p, &pool, threads);
    }
    let running = Moving { mean, var, factor: 0.1 };
    let call = pooled::ForwardBatch { x, moments: None, gamma, beta, running, y, index: None, saved, scratch };
    pooled::forward_batch(cpu, &p, &pool, call);
}

fn linear_call(draw: &mut Draw, cpu: &Cpu) {
    let p = Linear { n: draw.size(), inputs: draw.size(), outputs: draw.size() };
    let (x, y, w) = (&mut vec![1.0; draw.len()], &mut vec![0.0; draw.len()], &vec![1.0; 16 * draw.len()]);
    let (b, scratch) = (&vec![0.0; draw.len()], &mut aligned(8192));
    match draw.below(7) {
        0 => p.forward(cpu, linear::Forward { x, w, b: Some(b), y, scratch }),
        1 => p.backward_input(cpu, linear::BackwardInput { w, dy: y, dx: x, add: false, scratch }),
        2 => p.backward_weight(cpu, linear::BackwardWeight { x, dy: y, dw: &mut w.clone(), add: true, scratch }),
        3 => p.backward_bias(cpu, y, &mut b.clone(), false),
        4 => reference::linear::forward(p.n, p.inputs, p.outputs, x, w, None, &mut vec![0.0; y.len()]),
        5 => reference::linear::backward_input(p.n, p.inputs, p.outputs, y, w, &mut vec![0.0; x.len()]),
        _ => reference::linear::backward_bias(p.n, p.outputs, y, &mut vec![0.0; b.len()]),
    }
}

fn cross_entropy_call(draw: &mut Draw, cpu: &Cpu) {
    let p = CrossEntropy::new(draw.size(), draw.size());
    let (logits, mut saved, t) = (vec![1.0; draw.len()], vec![0.0; draw.len()], draw.len());
    let (indices, probabilities) = (vec![0_i64; t], vec![0.5; t]);
    let targets = if draw.below(2) == 0 { Targets::Indices(&indices) } else { Targets::Probabilities(&probabilities) };
    let mut scratch = aligned(64);
    let _ = match draw.below(3) {
        0 => cross_entropy::forward(cpu, &p, &logits, targets, None, &mut saved, &mut scratch).map(f64::from),
        1 => reference::cross_entropy::forward(&p, &logits, targets, None),
        _ => reference::cross_entropy::backward_input(&p, &logits, targets, None, 1.0, &mut vec![0.0; saved.len()]).map(|()| 0.0),
    };
}

fn images_call(draw: &mut Draw, cpu: &Cpu) {
    let (channels, pixels, x) = (draw.size(), draw.size(), vec![1.0; draw.len()]);
    images::to_channels_last(cpu, channels, pixels, &x, &mut vec![0.0; x.len()]);
}

fn lengths_call(draw: &mut Draw, cpu: &Cpu) {
    let (a, b, c) = (draw.size(), draw.size(), draw.size());
    match draw.below(5) {
        0 => _ = BatchNorm { rows: a, channels: b, eps: 1e-5 }.scratch_len(c),
        1 => _ = calibration::products_flops(cpu, a, b),
        2 => _ = nunatak_kernels::conv2d::Normalise::tables_len(a),
        3 => _ = nunatak_kernels::reduce::scratch_len(a),
        _ => _ = CrossEntropy::new(a, b).saved_len() + CrossEntropy::new(a, b).scratch_len(),
    }
}

/// Scratch that begins at a multiple of 64 bytes.
fn aligned(len: usize) -> Aligned {
    let all = vec![0.0; len + 16];
    let skip = all.as_ptr().align_offset(64);
    Aligned { all, skip, len }
}

struct Aligned {
    all: Vec<f32>,
    skip: usize,
    len: usize,
}

impl std::ops::Deref for Aligned {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.all[self.skip..][..self.len]
    }
}

impl std::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.all[self.skip..][..self.len]
    }
}

/// What the products of sizes would wrap to, by name.
#[test]
fn products_that_wrap_to_a_slices_length_are_refused() {
    let threads = Threads::serial();
    let cpu = Cpu { level: Level::detect(), threads: &threads };
    let refused = |what: &str, call: &dyn Fn()| assert!(catch_unwind(AssertUnwindSafe(call)).is_err(), "{what} returned");
    let (x, one) = ([1.0; 4], [1.0; 1]);
    refused("a batchnorm of 0 = 2⁶⁴ numbers", &|| {
        let p = BatchNorm { rows: ROOT, channels: ROOT, eps: 1e-5 };
        let (running, scratch) = (Running { mean: &x, var: &x }, &mut aligned(64));
        let call = ForwardRunning { x: Some(&[]), gamma: &x, beta: &x, running, y: &mut [], scratch };
        batchnorm::forward_running(&cpu, &p, call);
    });
    refused("a pooling whose padding wraps", &|| {
        let p = MaxPool { n: 1, h: 2, w: 2, c: 1, kernel: 2, stride: 1, pad: HALF };
        maxpool::forward_only(&cpu, &p, &x, &mut [0.0]);
    });
    refused("a pooling over nothing but padding", &|| {
        let p = MaxPool { n: 1, h: 0, w: 0, c: 1, kernel: 2, stride: 1, pad: 1 };
        maxpool::forward_only(&cpu, &p, &[], &mut [0.0]);
    });
    refused("means of 2³² · 2³² lines", &|| {
        let p = AdaptiveAvgPool { n: 1, h: ROOT, w: 1, c: 0, out_h: ROOT, out_w: 1 };
        avgpool::forward(&cpu, &p, &[], &mut []);
    });
    refused("a linear layer of 2³² · 2³² numbers", &|| {
        let p = Linear { n: ROOT, inputs: ROOT, outputs: 1 };
        let mut scratch = aligned(64);
        p.forward(&cpu, linear::Forward { x: &[], w: &one, b: Some(&one), y: &mut [0.0], scratch: &mut scratch });
    });
    refused("images of 2³² · 2³² numbers", &|| images::to_channels_last(&cpu, ROOT, ROOT, &x, &mut [0.0; 4]));
    refused("images of 4 = 2⁶⁴ + 4 numbers", &|| {
        let odd = usize::MAX / 3; // 3 · odd + 4 + 1 is 4 in a usize
        images::to_channels_last(&cpu, 3, odd + 1, &x, &mut [0.0; 4]);
    });
    // And what is as it should be is computed.
    let p = Linear { n: 1, inputs: 4, outputs: 1 };
    let mut y = [0.0];
    let mut w = vec![0.0; p.weights().len()];
    w.iter_mut().step_by(16).for_each(|w| *w = 2.0);
    let mut scratch = aligned(p.scratch_len(Pass::Forward, Memory::Fast, 1));
    p.forward(&cpu, linear::Forward { x: &x, w: &w, b: Some(&one), y: &mut y, scratch: &mut scratch });
    assert_eq!(y, [9.0]);
}
