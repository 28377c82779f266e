//! 8-bit kernels against their reference: equal integers at every instruction-set level that this machine has, for 1 to 3
//! threads, at odd sizes and offsets, with outputs that are filled before.

use nunatak_core::Shape;
use nunatak_kernels::conv2d::Window;
use nunatak_kernels::int8::{self, AvgPool, Conv2d, Error, MaxPool, padded};
use nunatak_kernels::{Cpu, Level, Threads, reference};
use proptest::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Small whole numbers and bytes, the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }
    fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n
    }
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
    fn weights(&mut self, len: usize) -> Vec<i8> {
        (0..len).map(|_| (self.below(255) as i32 - 127) as i8).collect()
    }
    fn words(&mut self, len: usize) -> Vec<i32> {
        (0..len).map(|_| self.next() as i32).collect()
    }
}

fn random(seed: u64) -> Random {
    Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
}

/// Whether an emulator runs the tests (`NUNATAK_TEST=emulated`), hundreds of times slower than a CPU.
fn emulated() -> bool {
    std::env::var("NUNATAK_TEST").is_ok_and(|v| v == "emulated")
}

fn threads() -> Vec<Threads> {
    #[cfg(feature = "std")]
    return if emulated() { &[3][..] } else { &[1, 2, 3] }.iter().map(|n| Threads::oversubscribed(*n).expect("threads")).collect();
    #[cfg(not(feature = "std"))]
    vec![Threads::serial()]
}

/// Every level, and `scalar` where it is built in.
fn levels() -> Vec<Level> {
    let mut levels: Vec<Level> = Level::available().collect();
    levels.extend(Level::by_name("scalar").ok().filter(|scalar| !levels.contains(scalar)));
    levels
}

/// A call's tensors in the kernels' layout, with weights and biases in PyTorch's order beside them.
struct Tensors {
    x: Vec<u8>,
    w: Vec<i8>,
    table: Vec<i32>,
    residual: Option<Vec<u8>>,
}

/// The layout, written down once more: by index and not by running through it.
fn lay_out(conv: &Conv2d, w: &[i8]) -> Vec<i8> {
    let g = conv.geometry();
    let (each, taps) = (g.c() / g.groups(), g.taps());
    let mut packed = vec![0; conv.weight_len()];
    for k in 0..g.k() {
        for c in 0..each {
            for tap in 0..taps {
                let at = if g.groups() == 1 {
                    (((k / 16 * taps + tap) * (padded(g.c()) / 4) + c / 4) * 16 + k % 16) * 4 + c % 4
                } else {
                    (k / 16 * taps + tap) * 16 + k % 16
                };
                packed[at] = w[(k * each + c) * taps + tap];
            }
        }
    }
    packed
}

fn table_of(conv: &Conv2d, shift: i32, residual: i32, bias: &[i32], multipliers: &[i32]) -> Vec<i32> {
    let mut table = vec![0; conv.table_len()];
    (table[0], table[1]) = (shift, residual);
    for k in 0..bias.len() {
        table[16 + k / 16 * 32 + k % 16] = bias[k];
        table[16 + k / 16 * 32 + 16 + k % 16] = multipliers[k];
    }
    table
}

/// Runs a convolution at every level, with as many threads, and compares every byte.
fn check(conv: &Conv2d, tensors: &Tensors, expected: &[u8], offset: usize) {
    let shifted = |x: &[u8]| [vec![0x55; offset], x.to_vec()].concat();
    let (x, residual) = (shifted(&tensors.x), tensors.residual.as_deref().map(shifted));
    let w = [vec![99; offset], tensors.w.clone()].concat();
    for level in levels() {
        for threads in threads() {
            let cpu = Cpu { level, threads: &threads };
            let mut y = vec![0xaa; offset + conv.y_len()];
            let mut scratch = vec![0x77; conv.scratch_len(threads.count())];
            let call = int8::Forward {
                x: &x[offset..],
                w: &w[offset..],
                table: &tensors.table,
                residual: residual.as_ref().map(|r| &r[offset..]),
                y: &mut y[offset..],
                scratch: &mut scratch,
            };
            conv.forward(&cpu, call);
            let wrong = y[offset..].iter().zip(expected).position(|(a, b)| a != b);
            if let Some(at) = wrong {
                let (y, count) = (y[offset + at], threads.count());
                panic!("byte {at} of {} is {y} instead of {}: {conv:?} {level} {count} threads", expected.len(), expected[at]);
            }
        }
    }
}

/// A convolution with ordinary numbers: sums, and bytes, of every size.
fn check_random(conv: &Conv2d, seed: u64, offset: usize) {
    let g = conv.geometry();
    let mut random = random(seed);
    let products = g.c() / g.groups() * g.taps();
    let w = random.weights(g.k() * products);
    // Means of the sums' size, so that most bytes are within their bounds.
    let size = 255.0 * 64.0 * (products as f64).sqrt() / 2.0;
    let shift = 20 + random.below(12) as i32;
    let factor = 127.0 / size * (1_u64 << shift) as f64;
    let multipliers: Vec<i32> = (0..g.k()).map(|_| (factor * (0.5 + random.below(100) as f64 / 100.0)) as i32).collect();
    let bias: Vec<i32> = (0..g.k()).map(|_| (size * (random.below(200) as f64 / 100.0 - 1.0)) as i32).collect();
    let residual_multiplier = ((1_u64 << shift) as f64 * 0.7) as i32;
    let x = random.bytes(conv.x_len());
    let residual = conv.residual().map(|_| random.bytes(conv.y_len()));
    let mut expected = vec![0; conv.y_len()];
    let call = reference::int8::Forward {
        x: &x,
        w: &w,
        bias: &bias,
        multipliers: &multipliers,
        shift,
        residual: residual.as_deref().map(|r| (r, residual_multiplier)),
        y: &mut expected,
    };
    reference::int8::conv2d(conv, call);
    let table = table_of(conv, shift, residual_multiplier, &bias, &multipliers);
    check(conv, &Tensors { x, w: lay_out(conv, &w), table, residual }, &expected, offset);
}

/// A hostile table, and weights that no one packs: the reference sees the same words.
fn check_hostile(conv: &Conv2d, seed: u64, shift: i32) {
    let g = conv.geometry();
    let mut random = random(seed);
    let some = |random: &mut Random| [i32::MIN, i32::MAX, -1, 0, 1, random.next() as i32][random.below(6)];
    let w: Vec<i8> = (0..g.k() * (g.c() / g.groups()) * g.taps()).map(|_| [-128, 127, random.next() as i8][random.below(3)]).collect();
    let multipliers: Vec<i32> = (0..g.k()).map(|_| some(&mut random)).collect();
    let bias: Vec<i32> = (0..g.k()).map(|_| some(&mut random)).collect();
    let residual_multiplier = some(&mut random);
    let x: Vec<u8> = (0..conv.x_len()).map(|_| [0, 255, random.next() as u8][random.below(3)]).collect();
    let residual = conv.residual().map(|_| random.bytes(conv.y_len()));
    let mut expected = vec![0; conv.y_len()];
    let call = reference::int8::Forward {
        x: &x,
        w: &w,
        bias: &bias,
        multipliers: &multipliers,
        shift,
        residual: residual.as_deref().map(|r| (r, residual_multiplier)),
        y: &mut expected,
    };
    reference::int8::conv2d(conv, call);
    let mut table = table_of(conv, shift, residual_multiplier, &bias, &multipliers);
    // Beyond the channels, and in the words that mean nothing, whatever is there changes nothing.
    table[2..16].copy_from_slice(&random.words(14));
    for k in g.k()..g.k().next_multiple_of(16) {
        table[16 + k / 16 * 32 + k % 16] = some(&mut random);
        table[16 + k / 16 * 32 + 16 + k % 16] = some(&mut random);
    }
    check(conv, &Tensors { x, w: lay_out(conv, &w), table, residual }, &expected, 1);
}

fn window(kernel: [usize; 2], stride: [usize; 2], pad: [usize; 2], dilation: [usize; 2]) -> Window {
    Window { kernel, stride, pad, dilation }
}

/// n, c, h, w; k; the window; groups.
fn geometry(input: [usize; 4], k: usize, window: Window, groups: usize) -> nunatak_kernels::Conv2d {
    let [n, c, h, w] = input;
    nunatak_kernels::Conv2d::general(Shape::new(n, c, h, w).expect("a shape"), k, window, groups).expect("a valid convolution")
}

/// With and without a relu and a residual.
fn check_all(input: [usize; 4], k: usize, window: Window, groups: usize) {
    let g = geometry(input, k, window, groups);
    if emulated() && g.products() > 4_000_000 {
        println!("left out, since it takes an emulator minutes: {g:?}");
        return;
    }
    for (i, (x_zero, y_zero, relu, residual)) in
        [(0, 0, true, None), (128, 128, false, None), (0, 128, true, Some(128)), (128, 0, false, Some(0)), (7, 200, false, Some(255))]
            .into_iter()
            .enumerate()
    {
        let conv = Conv2d::new(g, x_zero, y_zero, relu, residual).expect("one that fits");
        check_random(&conv, i as u64 + 1, [0, 1, 3, 16, 29][i]);
    }
}

#[test]
fn one_group_gives_the_references_bytes() {
    let square = Window::square;
    for (input, k, window) in [
        // ResNet18's kinds: the stem, 3x3, with stride 2, the shortcut; cut by lines, by images, and not at all.
        ([1, 3, 40, 37], 64, square(7, 2, 3)),
        ([1, 64, 14, 14], 64, square(3, 1, 1)),
        ([2, 64, 14, 15], 128, square(3, 2, 1)),
        ([1, 64, 14, 14], 128, square(1, 2, 0)),
        ([5, 256, 2, 2], 48, square(3, 1, 1)),
        ([2, 512, 7, 7], 20, square(3, 1, 1)),
        ([1, 96, 9, 56], 16, square(3, 1, 1)),
        // Odd numbers of channels.
        ([1, 1, 9, 9], 1, square(3, 1, 1)),
        ([2, 5, 7, 6], 3, square(3, 1, 1)),
        ([1, 17, 5, 11], 33, square(1, 1, 0)),
        ([1, 6, 8, 8], 31, square(5, 1, 2)),
        ([1, 30, 6, 9], 47, square(5, 3, 2)),
        ([2, 18, 9, 9], 19, square(3, 1, 0)),
        // Lines of which a part alone fits the scratch.
        ([1, 512, 3, 40], 17, square(3, 1, 1)),
        ([1, 2000, 4, 5], 5, square(3, 1, 1)),
        ([1, 4, 3, 3000], 17, square(3, 2, 1)),
        // Rectangles, dilation, padding beyond the image.
        ([1, 8, 9, 12], 20, window([1, 7], [1, 1], [0, 3], [1, 1])),
        ([1, 9, 12, 9], 20, window([7, 1], [2, 1], [3, 0], [1, 1])),
        ([2, 12, 11, 10], 35, window([3, 2], [1, 3], [2, 1], [2, 1])),
        ([1, 12, 11, 10], 18, window([3, 3], [1, 1], [2, 2], [2, 2])),
        ([1, 12, 11, 10], 18, window([3, 3], [2, 1], [0, 0], [1, 3])),
        ([1, 3, 2, 2], 16, window([3, 3], [1, 1], [5, 4], [1, 1])),
        ([1, 4, 3, 3], 16, window([1, 1], [2, 5], [3, 6], [1, 1])),
        ([1, 20, 5, 4], 16, window([2, 2], [4, 4], [0, 0], [1, 1])),
        ([1, 1, 1, 1], 1, square(1, 1, 0)),
    ] {
        check_all(input, k, window, 1);
    }
}

#[test]
fn depthwise_gives_the_references_bytes() {
    let square = Window::square;
    for (input, window) in [
        ([1, 32, 14, 14], square(3, 1, 1)),
        ([2, 40, 13, 15], square(3, 2, 1)),
        ([1, 17, 8, 7], square(5, 1, 2)),
        ([3, 2, 6, 5], square(3, 1, 1)),
        ([1, 72, 9, 40], square(5, 2, 2)),
        ([1, 6, 9, 9], square(3, 1, 0)),
        ([1, 100, 2, 1], window([3, 5], [3, 4], [2, 4], [1, 1])),
        ([1, 33, 3, 30], window([2, 7], [1, 2], [1, 3], [1, 2])),
        ([1, 12, 11, 10], window([3, 3], [1, 1], [2, 2], [2, 2])),
        ([1, 8, 2, 2], window([3, 3], [1, 1], [5, 4], [1, 1])),
        ([1, 16, 4, 4], square(1, 1, 0)),
    ] {
        check_all(input, input[1], window, input[1]);
    }
}

#[test]
fn whatever_the_table_holds_there_are_the_references_bytes() {
    for shift in [i32::MIN, -5, 0, 1, 2, 31, 32, 33, 55, 56, 57, 64, 1000, i32::MAX] {
        for (residual, seed) in [(None, 1), (Some(255), 2), (Some(0), 3)] {
            for (input, k, window, groups) in [
                ([1, 10, 4, 5], 37, Window::square(3, 1, 1), 1),
                ([1, 40, 3, 3], 20, Window::square(1, 1, 0), 1),
                ([1, 21, 5, 5], 21, Window::square(3, 1, 1), 21),
            ] {
                let g = geometry(input, k, window, groups);
                let conv = Conv2d::new(g, 255, 3, seed == 2, residual).expect("one that fits");
                check_hostile(&conv, seed + shift as u64, shift);
            }
        }
    }
}

/// Any scale that is far from denormal numbers: those may count as zero (`flush-denormals`), also on the way to a result.
fn scales() -> impl Strategy<Value = f32> {
    any::<f32>().prop_filter("too small a number", |scale| *scale == 0.0 || scale.is_nan() || scale.abs() > 1e-30)
}

/// The same bits, or both no numbers, or both so small that they may count as zero.
fn same((a, b): (&f32, &f32)) -> bool {
    let tiny = |v: &f32| v.abs() < f32::MIN_POSITIVE;
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan() || tiny(a) && tiny(b)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if emulated() { 15 } else { 150 }, ..Default::default() })]
    #[test]
    fn any_convolution(
        n in 1_usize..4, h in 1_usize..12, w in 1_usize..20, c in 1_usize..40, k in 1_usize..70, kernel in [1_usize..5, 1_usize..5],
        stride in [1_usize..4, 1_usize..4], pad in [0_usize..4, 0_usize..4], dilation in [1_usize..3, 1_usize..3],
        zeros in [any::<u8>(), any::<u8>()], relu in any::<bool>(), residual in any::<Option<u8>>(), seed in any::<u64>(), offset in 0_usize..16,
    ) {
        let Ok(g) = nunatak_kernels::Conv2d::general(Shape::new(n, c, h, w).expect("a shape"), k, window(kernel, stride, pad, dilation), 1)
        else { return Ok(()) };
        check_random(&Conv2d::new(g, zeros[0], zeros[1], relu, residual).expect("one that fits"), seed, offset);
    }

    #[test]
    fn any_depthwise(
        n in 1_usize..4, h in 1_usize..12, w in 1_usize..24, c in 2_usize..70, kernel in [1_usize..6, 1_usize..6],
        stride in [1_usize..4, 1_usize..4], pad in [0_usize..4, 0_usize..4], dilation in [1_usize..3, 1_usize..3],
        zeros in [any::<u8>(), any::<u8>()], relu in any::<bool>(), residual in any::<Option<u8>>(), seed in any::<u64>(), offset in 0_usize..16,
    ) {
        let Ok(g) = nunatak_kernels::Conv2d::general(Shape::new(n, c, h, w).expect("a shape"), c, window(kernel, stride, pad, dilation), c)
        else { return Ok(()) };
        check_random(&Conv2d::new(g, zeros[0], zeros[1], relu, residual).expect("one that fits"), seed, offset);
    }

    #[test]
    fn any_hostile(
        h in 1_usize..6, w in 1_usize..9, c in 1_usize..20, k in 1_usize..40, kernel in 1_usize..4, pad in 0_usize..3, depthwise in any::<bool>(),
        relu in any::<bool>(), residual in any::<Option<u8>>(), seed in any::<u64>(), shift in any::<i32>(),
    ) {
        let (k, groups) = if depthwise { (c, c) } else { (k, 1) };
        let Ok(g) = nunatak_kernels::Conv2d::general(Shape::new(1, c, h, w).expect("a shape"), k, Window::square(kernel, 1, pad), groups)
        else { return Ok(()) };
        check_hostile(&Conv2d::new(g, seed as u8, (seed >> 8) as u8, relu, residual).expect("one that fits"), seed, shift);
    }

    #[test]
    fn any_max_pool(
        n in 1_usize..3, h in 1_usize..12, w in 1_usize..12, c in 1_usize..40, kernel in [1_usize..6, 1_usize..6], stride in [1_usize..4, 1_usize..4],
        pad in [0_usize..3, 0_usize..3], seed in any::<u64>(),
    ) {
        let Ok(pool) = MaxPool::new([n, h, w, c], kernel, stride, pad) else { return Ok(()) };
        let x = random(seed).bytes(pool.x_len());
        let mut expected = vec![0; pool.y_len()];
        reference::int8::max_pool([n, h, w, c], kernel, stride, pad, &x, &mut expected);
        for level in levels() {
            for threads in threads() {
                let mut y = vec![0xaa; pool.y_len()];
                pool.forward(&Cpu { level, threads: &threads }, &x, &mut y);
                prop_assert_eq!(&y, &expected);
            }
        }
    }

    #[test]
    fn any_avg_pool(n in 1_usize..3, h in 1_usize..40, w in 1_usize..12, c in 1_usize..150, zero in any::<u8>(), scale in scales(), seed in any::<u64>()) {
        let pool = AvgPool::new([n, h, w, c], zero, scale).expect("one that fits");
        let x = random(seed).bytes(pool.x_len());
        let mut expected = vec![0.0; pool.y_len()];
        reference::int8::avg_pool(h * w, c, zero, scale, &x, &mut expected);
        for level in levels() {
            for threads in threads() {
                let mut y = vec![f32::NAN; pool.y_len()];
                pool.forward(&Cpu { level, threads: &threads }, &x, &mut y);
                prop_assert!(y.iter().zip(&expected).all(same));
            }
        }
    }

    #[test]
    fn any_number_to_a_byte_and_back(
        channels in 1_usize..60, pixels in 0_usize..50, inverse_scale in prop_oneof![Just(1.0), Just(37.5), scales()], zero in any::<u8>(), seed in any::<u64>(),
    ) {
        let mut random = random(seed);
        let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MAX, f32::MIN, 1e-37, 0.5, -0.5, 1.5, 2.5, 254.5, -300.0];
        let x: Vec<f32> = (0..channels * pixels)
            .map(|_| match random.below(4) {
                0 => special[random.below(special.len())],
                1 => random.below(1000) as f32 / 2.0 - 250.0,
                _ => random.below(100_000) as f32 / 10_000.0 - 5.0,
            })
            .collect();
        let mut expected = vec![0; padded(channels) * pixels];
        reference::int8::quantize(channels, inverse_scale, zero, &x, &mut expected);
        let mut real = vec![0.0; x.len()];
        reference::int8::dequantize(channels, inverse_scale, zero, &expected, &mut real);
        for level in levels() {
            for threads in threads() {
                let cpu = Cpu { level, threads: &threads };
                let (mut q, mut back) = (vec![0xaa; expected.len()], vec![f32::NAN; x.len()]);
                int8::quantize(&cpu, channels, inverse_scale, zero, &x, &mut q);
                prop_assert_eq!(&q, &expected);
                int8::dequantize(&cpu, channels, inverse_scale, zero, &q, &mut back);
                prop_assert!(back.iter().zip(&real).all(same));
            }
        }
    }
}

#[test]
fn real_weights_are_rounded_and_laid_out() {
    for (input, k, window, groups) in [
        ([1, 5, 4, 4], 18, Window::square(3, 1, 1), 1),
        ([1, 18, 4, 4], 18, Window::square(3, 1, 1), 18),
        ([1, 16, 2, 2], 3, Window::square(1, 1, 0), 1),
    ] {
        let g = geometry(input, k, window, groups);
        let conv = Conv2d::new(g, 0, 0, true, None).expect("one that fits");
        let mut random = random(5);
        let whole = random.weights(k * input[1] / groups * g.taps());
        let scales: Vec<f32> = (0..k).map(|k| [0.25, 3.0, 1e-3][k % 3]).collect();
        let each = whole.len() / k;
        // Off by less than half a step, which rounding undoes.
        let real: Vec<f32> = whole.iter().enumerate().map(|(i, w)| (f32::from(*w) + [0.4, -0.4, 0.0][i % 3]) * scales[i / each]).collect();
        let mut packed = vec![99; conv.weight_len()];
        int8::pack(&conv, &real, &scales, &mut packed);
        assert_eq!(packed, lay_out(&conv, &whole));
    }
    let conv = Conv2d::new(geometry([1, 8, 1, 1], 1, Window::square(1, 1, 0), 1), 0, 0, true, None).expect("one that fits");
    let mut packed = vec![99; conv.weight_len()];
    int8::pack(&conv, &[0.5, 1.5, -2.5, 1e9, f32::NEG_INFINITY, f32::NAN, -127.4, -0.0], &[1.0], &mut packed);
    assert_eq!([&packed[..4], &packed[64..68]].concat(), [0, 2, -2, 127, -127, 0, -127, 0]);
    int8::pack(&conv, &[0.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0], &[0.0], &mut packed);
    assert_eq!(packed[..4], [0, 127, -127, 0]);
}

#[test]
fn what_can_not_be_computed_is_an_error() {
    let square = Window::square(3, 1, 1);
    let new = |input, k, window, groups| Conv2d::new(geometry(input, k, window, groups), 0, 0, true, None);
    assert_eq!(new([1, 8, 4, 4], 8, square, 2), Err(Error::Groups { groups: 2, c: 8, k: 8 }));
    assert_eq!(new([1, 8, 4, 4], 16, square, 8), Err(Error::Groups { groups: 8, c: 8, k: 16 }));
    // 255 · 127 · 66311 is the last below 2^31.
    assert!(new([1, 66311, 1, 1], 1, Window::square(1, 1, 0), 1).is_ok());
    assert_eq!(new([1, 66312, 1, 1], 1, Window::square(1, 1, 0), 1), Err(Error::Sums { products: 66312, most: 66311 }));
    assert!(Error::Sums { products: 66312, most: 66311 }.to_string().contains("66312"));
    assert!(MaxPool::new([1, 4, 4, 0], [3; 2], [2; 2], [1; 2]).is_err());
    assert!(MaxPool::new([1, 4, 4, 3], [3; 2], [2; 2], [2; 2]).is_err());
    assert!(MaxPool::new([1, 4, 4, 3], [5; 2], [0; 2], [0; 2]).is_err());
    assert!(MaxPool::new([1, 4, 4, 3], [usize::MAX; 2], [1; 2], [usize::MAX / 2; 2]).is_err());
    assert!(MaxPool::new([usize::MAX / 8, 4, 4, 3], [1; 2], [1; 2], [0; 2]).is_err());
    assert!(AvgPool::new([1, 1 << 13, 1 << 13, 1], 0, 1.0).is_err());
    assert!(AvgPool::new([1, 0, 4, 1], 0, 1.0).is_err());
}

#[test]
#[cfg_attr(panic = "abort", ignore = "where a panic ends the process it can't be looked at")]
fn wrong_lengths_are_panics_that_name_them() {
    let conv = Conv2d::new(geometry([1, 3, 6, 6], 5, Window::square(3, 1, 1), 1), 0, 0, true, Some(0)).expect("one that fits");
    let threads = Threads::serial();
    let cpu = Cpu { level: Level::detect(), threads: &threads };
    let run = |x: isize, w: isize, table: isize, residual: Option<isize>, y: isize, scratch: isize| {
        let len = |len: usize, more: isize| len.strict_add_signed(more);
        let (x, w, table) = (vec![0; len(conv.x_len(), x)], vec![0; len(conv.weight_len(), w)], vec![0; len(conv.table_len(), table)]);
        let residual = residual.map(|more| vec![0; len(conv.y_len(), more)]);
        let (mut y, mut scratch) = (vec![0; len(conv.y_len(), y)], vec![0; len(conv.scratch_len(1), scratch)]);
        let call = int8::Forward { x: &x, w: &w, table: &table, residual: residual.as_deref(), y: &mut y, scratch: &mut scratch };
        catch_unwind(AssertUnwindSafe(|| conv.forward(&cpu, call)))
            .map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
    };
    assert_eq!(run(0, 0, 0, Some(0), 0, 0), Ok(()));
    assert_eq!(run(0, 0, 0, Some(0), 0, 9), Ok(()), "more scratch is no fault");
    for (wrong, what) in [
        (run(-1, 0, 0, Some(0), 0, 0), "bytes of x"),
        (run(0, 1, 0, Some(0), 0, 0), "bytes of w"),
        (run(0, 0, -1, Some(0), 0, 0), "words of the table"),
        (run(0, 0, 0, None, 0, 0), "bytes of the residual"),
        (run(0, 0, 0, Some(4), 0, 0), "bytes of the residual"),
        (run(0, 0, 0, Some(0), 1, 0), "bytes of y"),
        (run(0, 0, 0, Some(0), 0, -1), "bytes of scratch"),
    ] {
        assert!(wrong.as_ref().is_err_and(|text| text.contains(what)), "{what}: {wrong:?}");
    }
}

/// What a board has for everything: 16 kB, for every convolution of ResNets and MobileNets.
#[test]
fn scratch_is_small() {
    for (c, size, kernel, stride) in
        [(3, 224, 7, 2), (64, 56, 3, 1), (128, 28, 3, 1), (256, 14, 3, 1), (512, 7, 3, 1), (512, 14, 3, 2), (64, 224, 3, 1)]
    {
        let g = geometry([4, c, size, size], 16, Window::square(kernel, stride, kernel / 2), 1);
        let conv = Conv2d::new(g, 0, 0, true, None).expect("one that fits");
        assert!((1..=16 << 10).contains(&conv.scratch_len(1)), "{c} {size}: {}", conv.scratch_len(1));
        assert_eq!(conv.scratch_len(3), 3 * conv.scratch_len(1));
    }
    for (c, groups, kernel) in [(64, 1, 1), (64, 64, 3)] {
        let g = geometry([1, c, 56, 56], 64, Window::square(kernel, 1, kernel / 2), groups);
        assert_eq!(Conv2d::new(g, 0, 0, true, None).expect("one that fits").scratch_len(8), 0);
    }
}
