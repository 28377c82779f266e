//! The forward pass of ResNet18's convolutions in 8-bit integers, beside the same in `f32`; then the conversions and the
//! pooling around them.
//!
//! Both count the same operations, two for a product: half of the GFLOP/s that are shown are GMAC/s. The share of the peak
//! is that of `f32`'s.

use super::conv2d;
use crate::case::{Case, Prepared, Timer};
use crate::cells::Cell;
use crate::settings::Settings;
use nunatak_kernels::int8::{self, AvgPool, Conv2d, Forward, MaxPool, padded};
use nunatak_kernels::{Cpu, reference};

/// The cases of all cells.
pub fn cases(settings: &Settings) -> Vec<Case> {
    let mut list = Vec::new();
    for cell in &settings.cells {
        for (layer, geometry) in cell.convolutions() {
            let group = format!("{cell}/{layer}/forward");
            let conv = Conv2d::new(geometry, 0, 0, true, None).expect("a convolution that 8 bits can do");
            let bytes = (conv.x_len() + conv.weight_len() + conv.y_len()) as u64;
            let with: Prepared = Box::new(move |cpu, time| convolve(conv, cpu, time));
            list.push(Case { group: group.clone(), variant: "int8".into(), flops: 2 * geometry.products(), bytes, with });
            list.push(conv2d::forward(group, geometry));
        }
        around(cell, &mut list);
    }
    list
}

/// What is not a convolution.
fn around(cell: &Cell, list: &mut Vec<Case>) {
    let mut add = |name: &str, bytes: usize, with: Prepared| {
        list.push(Case { group: format!("{cell}/{name}"), variant: "int8".into(), flops: 0, bytes: bytes as u64, with });
    };
    let pixels = cell.n * cell.size * cell.size;
    add("quantize", pixels * (4 * 3 + padded(3)), Box::new(move |cpu, time| quantize(pixels, cpu, time)));
    let side = cell.side(1);
    let image = [cell.n, side, side, 64];
    let max = MaxPool::new(image, [3; 2], [2; 2], [1; 2]).expect("the stem's pooling");
    add("maxpool", max.x_len() + max.y_len(), Box::new(move |cpu, time| max_pool(image, max, cpu, time)));
    let side = cell.side(5);
    let mean = AvgPool::new([cell.n, side, side, 512], 0, 0.05).expect("the last plane's mean");
    add("avgpool", mean.x_len() + 4 * mean.y_len(), Box::new(move |cpu, time| avg_pool(side * side, mean, cpu, time)));
}

/// Bytes of every size, the same at every call with the same seed.
fn random(len: usize, seed: u64) -> Vec<u8> {
    let mut generator = nunatak_core::rng::Generator::manual_seed(seed);
    (0..len).map(|_| generator.uniform(0.0, 256.0) as u8).collect()
}

fn convolve(conv: Conv2d, cpu: &Cpu, time: Timer) {
    let g = *conv.geometry();
    let x = random(conv.x_len(), 1);
    let oihw: Vec<i8> = random(g.k() * g.c() * g.taps(), 2).into_iter().map(|byte| (byte as i8).max(-127)).collect();
    let real: Vec<f32> = oihw.iter().map(|w| f32::from(*w)).collect();
    let mut w = vec![0; conv.weight_len()];
    int8::pack(&conv, &real, &vec![1.0; g.k()], &mut w);
    // Sums of about this size become bytes of every size.
    let size = 255.0 * 64.0 * ((g.c() * g.taps()) as f64).sqrt();
    let multiplier = (64.0 / size * (1_u64 << 40) as f64) as i32;
    let mut table = vec![0; conv.table_len()];
    table[0] = 40;
    for block in table[16..].chunks_exact_mut(32) {
        block[16..].fill(multiplier);
    }
    let (mut y, mut scratch) = (vec![0xaa; conv.y_len()], vec![0xaa; conv.scratch_len(cpu.threads.count())]);
    conv.forward(cpu, Forward { x: &x, w: &w, table: &table, residual: None, y: &mut y, scratch: &mut scratch });
    // The reference computes the last image.
    let one = Conv2d::new(g.with_images(1).expect("fewer images"), 0, 0, true, None).expect("the same with one image");
    let mut truth = vec![0; one.y_len()];
    let call = reference::int8::Forward {
        x: &x[conv.x_len() - one.x_len()..],
        w: &oihw,
        bias: &vec![0; g.k()],
        multipliers: &vec![multiplier; g.k()],
        shift: 40,
        residual: None,
        y: &mut truth,
    };
    reference::int8::conv2d(&one, call);
    assert!(y[conv.y_len() - one.y_len()..] == truth, "{conv:?} at {}: other bytes than the reference's", cpu.level);
    time(&mut || {
        let (y, scratch) = (&mut y, &mut scratch);
        conv.forward(cpu, Forward { x: &x, w: &w, table: &table, residual: None, y, scratch });
    });
}

fn quantize(pixels: usize, cpu: &Cpu, time: Timer) {
    let x: Vec<f32> = random(3 * pixels, 1).into_iter().map(|byte| f32::from(byte) / 128.0 - 1.0).collect();
    let (mut y, mut truth) = (vec![0xaa; padded(3) * pixels], vec![0; padded(3) * pixels]);
    reference::int8::quantize(3, 60.0, 128, &x, &mut truth);
    int8::quantize(cpu, 3, 60.0, 128, &x, &mut y);
    assert!(y == truth, "quantize at {}: other bytes than the reference's", cpu.level);
    time(&mut || int8::quantize(cpu, 3, 60.0, 128, &x, &mut y));
}

fn max_pool(image: [usize; 4], p: MaxPool, cpu: &Cpu, time: Timer) {
    let (x, mut y, mut truth) = (random(p.x_len(), 1), vec![0xaa; p.y_len()], vec![0; p.y_len()]);
    reference::int8::max_pool(image, [3; 2], [2; 2], [1; 2], &x, &mut truth);
    p.forward(cpu, &x, &mut y);
    assert!(y == truth, "maxpool at {}: other bytes than the reference's", cpu.level);
    time(&mut || p.forward(cpu, &x, &mut y));
}

fn avg_pool(pixels: usize, p: AvgPool, cpu: &Cpu, time: Timer) {
    let (x, mut y, mut truth) = (random(p.x_len(), 1), vec![f32::NAN; p.y_len()], vec![0.0; p.y_len()]);
    reference::int8::avg_pool(pixels, 512, 0, 0.05, &x, &mut truth);
    p.forward(cpu, &x, &mut y);
    assert!(y == truth, "avgpool at {}: other numbers than the reference's", cpu.level);
    time(&mut || p.forward(cpu, &x, &mut y));
}
