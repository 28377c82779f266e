//! Convolution and linear layers against their reference twins: every pass, every instruction-set
//! level that this machine has, 1 to 3 threads, odd sizes and offsets, outputs filled with NaN.

use nunatak_core::{Error, Shape};
use nunatak_kernels::conv2d::{self, Window};
use nunatak_kernels::sgd::{self, Sgd};
use nunatak_kernels::{Algorithm, Conv2d, Cpu, Finish, Level, Linear, Memory, Pass, Threads, WeightLayout, linear, reference};
use proptest::prelude::*;

/// The largest error allowed, relative to the largest value of the truth.
const TOLERANCE: f64 = 5e-6;

fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
        })
        .collect()
}

fn compare(what: &str, got: &[f32], truth: &[f64]) {
    assert_eq!(got.len(), truth.len());
    let largest = truth.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    for (i, (g, t)) in got.iter().zip(truth).enumerate() {
        let error = (f64::from(*g) - t).abs();
        assert!(
            error <= TOLERANCE * largest,
            "{what}: {g} instead of {t} at {i} of {} ({:.1e} of the largest)",
            got.len(),
            error / largest
        );
    }
}

/// Every level, and `scalar` where it is built in.
fn levels() -> impl Iterator<Item = Level> {
    let scalar = Level::by_name("scalar").ok().filter(|scalar| Level::available().all(|level| level != *scalar));
    Level::available().chain(scalar)
}

/// Whether an emulator runs the tests (`NUNATAK_TEST=emulated`), hundreds of times slower than a CPU.
fn emulated() -> bool {
    std::env::var("NUNATAK_TEST").is_ok_and(|v| v == "emulated")
}

/// Products of a pass up to which an emulator computes it.
const EMULATED: u64 = 4_000_000;

fn threads() -> Vec<Threads> {
    #[cfg(feature = "std")]
    return if emulated() { &[3][..] } else { &[1, 2, 3] }.iter().map(|n| Threads::oversubscribed(*n).expect("threads")).collect();
    #[cfg(not(feature = "std"))]
    vec![Threads::serial()]
}

/// A copy of `x` that begins `offset` numbers after where a vector begins, to be used as
/// `&copy[offset..]`.
fn shifted(x: &[f32], offset: usize) -> Vec<f32> {
    [vec![f32::NAN; offset], x.to_vec()].concat()
}

struct Truth {
    y: Vec<f64>,
    dx: Vec<f64>,
    dw: Vec<f64>,
}

impl Truth {
    fn new(conv: &Conv2d, x: &[f32], dy: &[f32], oihw: &[f32]) -> Truth {
        let mut truth = Truth { y: vec![0.0; dy.len()], dx: vec![0.0; x.len()], dw: vec![0.0; oihw.len()] };
        reference::conv2d::forward(conv, x, oihw, &mut truth.y);
        reference::conv2d::backward_input(conv, dy, oihw, &mut truth.dx);
        reference::conv2d::backward_weight(conv, x, dy, &mut truth.dw);
        truth
    }
}

/// Whether an algorithm asks for no level: its products are those of another crate.
fn same_at_every_level(algorithm: Algorithm) -> bool {
    algorithm.name() == "im2col"
}

fn check(conv: Conv2d, offset: usize, levels: impl Iterator<Item = Level>) {
    let layout = conv.weights();
    if emulated() && conv.products() > EMULATED {
        println!("left out, since it takes an emulator minutes: {conv:?}");
        return;
    }
    let (x, dy) = (random(conv.x_len(), 1), random(conv.y_len(), 2));
    let oihw = random(layout.numbers(), 3);
    let truth = Truth::new(&conv, &x, &dy, &oihw);
    let mut w = vec![0.0; layout.len()];
    layout.pack(&oihw, &mut w);
    let (x, dy, w) = (shifted(&x, offset), shifted(&dy, offset), shifted(&w, offset));
    let operands = Operands { conv, x: &x[offset..], dy: &dy[offset..], w: &w[offset..], truth };
    for (l, level) in levels.enumerate() {
        for &algorithm in Algorithm::ALL.iter().filter(|algorithm| l == 0 || !same_at_every_level(**algorithm)) {
            let mut seen = Vec::new();
            for memory in Memory::ALL {
                // A kernel knows of the setting what scratch it is handed: as much of it is the same call.
                let of = |pass| [1, 2, 3].map(|threads| conv.scratch_len(pass, algorithm, memory, threads));
                let scratch = Pass::ALL.map(|pass| conv.accepts(pass, algorithm).then(|| of(pass)));
                if seen.contains(&scratch) {
                    continue;
                }
                seen.push(scratch);
                let mut before: Option<[Vec<f32>; 3]> = None;
                let all = threads();
                for (i, threads) in all.iter().enumerate() {
                    // What is added is computed alike: with the most threads alone.
                    let adds = i + 1 == all.len();
                    let now = operands.passes(&Cpu { level, threads }, algorithm, memory, adds);
                    let bits = |all: &[Vec<f32>; 3]| all.concat().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                    assert!(before.is_none_or(|b| bits(&b) == bits(&now)), "{conv:?} at {level}: bits depend on the threads");
                    before = Some(now);
                }
            }
        }
    }
}

/// What the passes read, and what they should write.
struct Operands<'a> {
    conv: Conv2d,
    x: &'a [f32],
    dy: &'a [f32],
    w: &'a [f32],
    truth: Truth,
}

impl Operands<'_> {
    /// y, dx and dw by an algorithm, each compared with the truth and empty where it can't do the pass; with `adds` also added to
    /// themselves.
    fn passes(&self, cpu: &Cpu, algorithm: Algorithm, memory: Memory, adds: bool) -> [Vec<f32>; 3] {
        let Operands { conv, x, dy, w, ref truth } = *self;
        let (layout, count) = (conv.weights(), cpu.threads.count());
        let what = |pass: Pass| format!("{conv:?} {pass} {algorithm} {} {memory:?} {count} threads", cpu.level);
        let scratch = |pass| vec![f32::NAN; conv.scratch_len(pass, algorithm, memory, count)];
        // Adding the same once more doubles everything, to a rounding.
        let twice = |v: &[f64]| v.iter().map(|v| 2.0 * v).collect::<Vec<_>>();
        let (mut y, mut dx, mut dw) = (Vec::new(), Vec::new(), Vec::new());
        if conv.accepts(Pass::Forward, algorithm) {
            let (finish, scratch) = (Finish::None, &mut scratch(Pass::Forward));
            y = vec![f32::NAN; truth.y.len()];
            conv.forward(cpu, algorithm, conv2d::Forward { x, w, y: &mut y, add: false, finish, scratch });
            compare(&what(Pass::Forward), &y, &truth.y);
            if adds {
                let mut y = y.clone();
                scratch.fill(f32::NAN);
                conv.forward(cpu, algorithm, conv2d::Forward { x, w, y: &mut y, add: true, finish, scratch });
                compare(&what(Pass::Forward), &y, &twice(&truth.y));
            }
        }
        if conv.accepts(Pass::BackwardInput, algorithm) {
            let scratch = &mut scratch(Pass::BackwardInput);
            dx = vec![f32::NAN; truth.dx.len()];
            conv.backward_input(cpu, algorithm, conv2d::BackwardInput { w, dy, dx: &mut dx, add: false, scratch });
            compare(&what(Pass::BackwardInput), &dx, &truth.dx);
            if adds {
                let mut dx = dx.clone();
                scratch.fill(f32::NAN);
                conv.backward_input(cpu, algorithm, conv2d::BackwardInput { w, dy, dx: &mut dx, add: true, scratch });
                compare(&what(Pass::BackwardInput), &dx, &twice(&truth.dx));
            }
        }
        if conv.accepts(Pass::BackwardWeight, algorithm) {
            let (scratch, mut unpacked) = (&mut scratch(Pass::BackwardWeight), vec![0.0; truth.dw.len()]);
            dw = vec![f32::NAN; layout.len()];
            conv.backward_weight(cpu, algorithm, conv2d::BackwardWeight { x, dy, dw: &mut dw, add: false, scratch });
            layout.unpack(&dw, &mut unpacked);
            compare(&what(Pass::BackwardWeight), &unpacked, &truth.dw);
            let mut padded = vec![0.0; layout.len()];
            layout.pack(&unpacked, &mut padded);
            assert!(padded.iter().zip(&dw).all(|(a, b)| a == b), "what the layout pads is not zero");
            if adds {
                let mut dw = dw.clone();
                scratch.fill(f32::NAN);
                conv.backward_weight(cpu, algorithm, conv2d::BackwardWeight { x, dy, dw: &mut dw, add: true, scratch });
                layout.unpack(&dw, &mut unpacked);
                compare(&what(Pass::BackwardWeight), &unpacked, &twice(&truth.dw));
            }
        }
        [y, dx, dw]
    }
}

fn conv(input: [usize; 4], k: usize, kernel: usize, stride: usize, pad: usize) -> Conv2d {
    Conv2d::new(input, k, kernel, stride, pad).expect("a valid convolution")
}

/// The kinds of convolution of ResNet18, narrow and wide enough for every tile and piece.
#[test]
fn shapes_of_resnets() {
    for (i, c) in [
        conv([1, 64, 64, 3], 64, 7, 2, 3),
        conv([2, 16, 16, 64], 64, 3, 1, 1),
        conv([1, 16, 16, 64], 128, 3, 2, 1),
        conv([1, 16, 16, 64], 128, 1, 2, 0),
        conv([1, 2, 2, 512], 512, 3, 1, 1),
        conv([5, 2, 2, 80], 50, 3, 1, 1),
        conv([1, 4, 4, 256], 96, 3, 1, 1),
        conv([1, 8, 8, 48], 64, 3, 2, 1),
        conv([1, 8, 8, 40], 33, 1, 2, 0),
        conv([3, 7, 7, 96], 33, 3, 1, 1),
        conv([2, 32, 32, 3], 16, 3, 1, 1),
        conv([1, 9, 5, 17], 47, 3, 2, 1),
        conv([2, 28, 28, 1], 8, 3, 1, 1),
        conv([3, 14, 14, 144], 160, 3, 1, 1),
        conv([2, 56, 56, 32], 48, 3, 1, 1),
        conv([9, 4, 5, 16], 20, 3, 1, 2),
        conv([2, 13, 6, 18], 16, 3, 1, 0),
        // Filters of one position over many pixels: rows with all their columns.
        conv([2, 20, 21, 24], 144, 1, 1, 0),
        conv([1, 23, 29, 150], 17, 1, 1, 0),
        conv([3, 31, 30, 16], 33, 1, 1, 0),
        conv([1, 24, 24, 7], 3, 1, 1, 0),
        // Winograd with short tiles: lines of a plane, whole images, a few images at a time.
        conv([2, 28, 27, 32], 48, 3, 2, 1),
        conv([16, 14, 14, 16], 16, 3, 2, 1),
        conv([32, 7, 7, 16], 20, 3, 1, 1),
        conv([7, 7, 7, 16], 17, 3, 1, 1),
        conv([3, 14, 11, 130], 144, 3, 2, 1),
    ]
    .into_iter()
    .enumerate()
    {
        check(c, i, levels());
    }
}

/// Odd cases: no taps in a phase, windows that hang over, one pixel, long lines, many pixels.
#[test]
fn odd_shapes() {
    for c in [
        conv([1, 1, 1, 1], 1, 1, 1, 0),
        conv([1, 1, 1, 512], 512, 3, 1, 1),
        conv([2, 5, 7, 3], 5, 1, 3, 0),
        conv([1, 8, 8, 10], 10, 2, 3, 0),
        conv([1, 5, 5, 4], 20, 5, 4, 2),
        conv([1, 3, 300, 7], 18, 3, 1, 2),
        conv([1, 2, 2, 2], 3, 3, 2, 3),
        conv([700, 1, 1, 24], 40, 1, 1, 0),
        conv([1, 29, 31, 19], 37, 1, 1, 0), // the weight's gradient in ranges of rows, by `rows`
        conv([1, 60, 90, 20], 16, 3, 1, 1),
        conv([1, 6, 6, 16], 16, 5, 1, 2),
        conv([1, 12, 12, 8], 9, 7, 2, 3),
        conv([2, 63, 65, 4], 40, 11, 4, 2),
        conv([3, 50, 20, 3], 33, 7, 2, 3),
        conv([9, 33, 7, 2], 70, 4, 1, 1),
        conv([1, 40, 11, 3], 8, 2, 5, 1),
        conv([1, 1, 4, 3], 16, 9, 2, 4),
        conv([1, 5, 300, 2], 10, 11, 3, 5),
        conv([1, 12, 12, 2], 9, 8, 2, 3),
        conv([2, 41, 230, 3], 40, 7, 2, 3),
    ] {
        check(c, 3, levels());
    }
}

/// One pass over the weights against three: backward_weight, step, backward_input, by the same algorithm.
fn check_backward_step(conv: Conv2d) {
    let len = conv.weights().len();
    let (x, dy, before) = (&random(conv.x_len(), 1), &random(conv.y_len(), 2), random(conv.x_len(), 5));
    let (mut w, mut m) = (vec![0.0; len], vec![0.0; len]);
    conv.weights().pack(&random(conv.weights().numbers(), 3), &mut w);
    conv.weights().pack(&random(conv.weights().numbers(), 4), &mut m);
    let plain = Sgd::new(0.01);
    let rules = [
        (plain, false),
        (Sgd { weight_decay: 0.1, maximize: true, ..plain }, false),
        (Sgd { momentum: 0.9, ..plain }, true),
        (Sgd { momentum: 0.9, dampening: 0.3, weight_decay: 0.01, ..plain }, false),
        (Sgd { momentum: 0.8, nesterov: true, weight_decay: 0.1, ..plain }, false),
    ];
    for level in levels() {
        for threads in threads() {
            let cpu = Cpu { level, threads: &threads };
            let algorithm = Algorithm::Stream;
            let room = |pass| vec![f32::NAN; conv.scratch_len(pass, algorithm, Memory::Fast, threads.count())];
            for (sgd, first) in rules {
                for add in [None, Some(false), Some(true)] {
                    let (mut w1, mut m1, mut dx1, mut dw) = (w.clone(), m.clone(), before.clone(), vec![f32::NAN; len]);
                    let scratch = &mut room(Pass::BackwardWeight);
                    conv.backward_weight(&cpu, algorithm, conv2d::BackwardWeight { x, dy, dw: &mut dw, add: false, scratch });
                    if let Some(add) = add {
                        let scratch = &mut room(Pass::BackwardInput);
                        conv.backward_input(&cpu, algorithm, conv2d::BackwardInput { w: &w1, dy, dx: &mut dx1, add, scratch });
                    }
                    sgd::step(&cpu, &sgd, &mut w1, &dw, Some(&mut m1), first);

                    let (mut w2, mut m2, mut dx2) = (w.clone(), m.clone(), before.clone());
                    if first {
                        m2.fill(f32::NAN); // not to be read
                    }
                    scratch.fill(f32::NAN);
                    let (w, momentum, dx, adds) = (&mut w2, &mut m2, add.map(|_| &mut dx2[..]), add == Some(true));
                    conv.backward_step(&cpu, &sgd, conv2d::BackwardStep { x, dy, w, momentum, first, dx, add: adds, scratch });
                    for (what, a, b) in [("w", &w1, &w2), ("momentum", &m1, &m2), ("dx", &dx1, &dx2)] {
                        let same = a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
                        assert!(same, "{what} of {conv:?} {level} {sgd:?} add {add:?} {} threads", threads.count());
                    }
                }
            }
        }
    }
}

#[test]
fn one_pass_backward_gives_the_bits_of_three() {
    for c in [
        conv([1, 2, 2, 96], 64, 3, 1, 1),
        conv([1, 4, 4, 40], 48, 3, 2, 1),
        conv([2, 4, 4, 17], 33, 3, 1, 1),
        conv([3, 1, 1, 70], 10, 1, 1, 0),
        conv([1, 5, 3, 9], 16, 2, 3, 0),
        conv([1, 4, 4, 33], 20, 1, 2, 0),
    ] {
        assert!(Algorithm::ALL.contains(&Algorithm::Stream) && conv_accepts_stream(&c), "{c:?}");
        check_backward_step(c);
    }
}

fn conv_accepts_stream(conv: &Conv2d) -> bool {
    Pass::ALL.iter().all(|pass| conv.accepts(*pass, Algorithm::Stream))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if emulated() { 10 } else { 40 }, ..Default::default() })]
    #[test]
    fn any_convolution(n in 1_usize..4, h in 1_usize..12, w in 1_usize..12, c in 1_usize..40, k in 1_usize..70, kernel in 1_usize..5, stride in 1_usize..4, pad in 0_usize..3, offset in 0_usize..16) {
        let Ok(conv) = Conv2d::new([n, h, w, c], k, kernel, stride, pad) else { return Ok(()) };
        check(conv, offset, levels());
    }

    /// What Winograd's algorithms cut into tiles: whole and short ones, lines, planes and groups of images.
    #[test]
    fn any_3x3(n in 1_usize..12, h in 1_usize..24, w in 1_usize..24, c in 1_usize..36, k in 1_usize..36, stride in 1_usize..3, pad in 0_usize..3, offset in 0_usize..16) {
        let Ok(conv) = Conv2d::new([n, h, w, c], k, 3, stride, if stride == 2 { 1 } else { pad }) else { return Ok(()) };
        check(conv, offset, levels());
    }
}

/// Rectangular filters, dilation, groups.
fn general(n: usize, [h, w]: [usize; 2], [c, k]: [usize; 2], window: Window, groups: usize) -> Conv2d {
    Conv2d::general(Shape::new(n, c, h, w).expect("a shape"), k, window, groups).expect("a valid convolution")
}

#[test]
fn rectangles_dilation_and_groups() {
    let window = |kernel, stride, pad, dilation| Window { kernel, stride, pad, dilation };
    for conv in [
        general(2, [9, 7], [5, 33], window([1, 3], [1, 1], [0, 1], [1, 1]), 1),
        general(1, [9, 12], [20, 16], window([3, 1], [2, 1], [1, 0], [1, 1]), 1),
        general(1, [11, 12], [3, 17], window([5, 2], [1, 3], [2, 1], [2, 1]), 1),
        general(2, [13, 10], [3, 9], window([3, 3], [1, 1], [2, 2], [2, 2]), 1),
        // A stride and a dilation with a common divisor: some pixels of x meet no tap.
        general(1, [17, 19], [18, 20], window([3, 3], [4, 6], [1, 2], [2, 4]), 1),
        general(1, [14, 14], [64, 64], window([3, 3], [2, 1], [1, 1], [1, 2]), 2),
        general(2, [8, 9], [12, 18], window([3, 3], [1, 1], [1, 1], [1, 1]), 3),
        general(1, [7, 6], [96, 64], window([1, 1], [1, 1], [0, 0], [1, 1]), 2),
        general(1, [5, 6], [17, 17], window([3, 3], [1, 1], [1, 1], [1, 1]), 17),
        general(1, [5, 6], [7, 21], window([2, 3], [1, 2], [1, 1], [1, 1]), 7),
        general(2, [14, 14], [40, 40], Window::square(3, 1, 1), 40),
        general(1, [28, 29], [24, 24], Window::square(5, 2, 2), 24),
        general(3, [7, 7], [72, 72], Window::square(5, 1, 2), 72),
        general(1, [30, 56], [16, 16], Window::square(3, 2, 1), 16),
        general(1, [3, 300], [33, 33], window([2, 7], [1, 2], [1, 3], [1, 2]), 33),
        general(1, [2, 1], [100, 100], window([3, 5], [3, 4], [2, 4], [1, 1]), 100),
        general(2, [14, 15], [128, 128], Window::square(3, 1, 1), 32),
        general(1, [14, 14], [256, 256], Window::square(3, 2, 1), 32),
        general(1, [8, 7], [256, 256], Window::square(3, 1, 1), 16),
        general(3, [4, 4], [128, 128], Window::square(3, 2, 1), 4),
        general(1, [6, 7], [64, 64], window([3, 3], [1, 1], [1, 1], [1, 1]), 4),
        // A dilation of one position is none.
        general(1, [3, 3], [4, 4], window([1, 1], [1, 1], [0, 0], [1 << (usize::BITS - 24), 7]), 1),
    ] {
        check(conv, 5, levels());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if emulated() { 10 } else { 60 }, ..Default::default() })]
    #[test]
    fn any_geometry(
        n in 1_usize..3, h in 1_usize..14, w in 1_usize..14, c in 1_usize..12, k in 1_usize..20, groups in 1_usize..6,
        kernel in [1_usize..5, 1_usize..5], stride in [1_usize..4, 1_usize..4], pad in [0_usize..4, 0_usize..4],
        dilation in [1_usize..4, 1_usize..4], offset in 0_usize..16,
    ) {
        let window = Window { kernel, stride, pad, dilation };
        let Ok(conv) = Conv2d::general(Shape::new(n, c * groups, h, w).expect("a shape"), k * groups, window, groups) else { return Ok(()) };
        check(conv, offset, levels());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if emulated() { 10 } else { 100 }, ..Default::default() })]
    #[test]
    fn any_depthwise(
        n in 1_usize..4, h in 1_usize..20, w in 1_usize..40, c in 2_usize..80,
        kernel in [1_usize..7, 1_usize..7], stride in [1_usize..4, 1_usize..4], pad in [0_usize..4, 0_usize..4],
        dilation in [1_usize..3, 1_usize..3], offset in 0_usize..16,
    ) {
        let window = Window { kernel, stride, pad, dilation };
        let Ok(conv) = Conv2d::general(Shape::new(n, c, h, w).expect("a shape"), c, window, c) else { return Ok(()) };
        check(conv, offset, levels());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if emulated() { 10 } else { 100 }, ..Default::default() })]
    /// Groups of a few channels: whole vectors, several groups to a vector, and groups that no vector fits.
    #[test]
    fn any_groups(
        n in 1_usize..3, h in 1_usize..12, w in 1_usize..20, groups in 2_usize..10, c in prop::sample::select(vec![1_usize, 2, 3, 4, 5, 8, 16, 32]),
        multiple in prop::sample::select(vec![0_usize, 1, 2, 3]), kernel in [1_usize..5, 1_usize..5], stride in [1_usize..4, 1_usize..4],
        pad in [0_usize..4, 0_usize..4], dilation in [1_usize..3, 1_usize..3], offset in 0_usize..16,
    ) {
        let k = if multiple == 0 { 4 } else { c * multiple };
        let window = Window { kernel, stride, pad, dilation };
        let Ok(conv) = Conv2d::general(Shape::new(n, c * groups, h, w).expect("a shape"), k * groups, window, groups) else { return Ok(()) };
        check(conv, offset, levels());
    }
}

/// Numbers of every size, with as many bits as one can have.
fn any_number() -> impl Strategy<Value = usize> {
    (0..=usize::BITS, any::<usize>()).prop_map(|(bits, number)| if bits == usize::BITS { number } else { number & ((1_usize << bits) - 1) })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if emulated() { 100 } else { 20_000 }, ..Default::default() })]
    /// Whatever the numbers are: an error, or a convolution whose sizes fit (builds with overflow checks stop at a
    /// sum that wraps: `tests/edge/run.sh wasm`).
    #[test]
    fn huge_numbers_are_errors(
        input in [any_number(), any_number(), any_number(), any_number()], k in any_number(), square in any::<bool>(),
        kernel in [any_number(), any_number()], stride in [any_number(), any_number()], pad in [any_number(), any_number()],
        dilation in [any_number(), any_number()], groups in any_number(),
    ) {
        let [n, c, h, w] = input;
        let conv = if square {
            Conv2d::new([n, h, w, c], k, kernel[0], stride[0], pad[0])
        } else {
            let window = Window { kernel, stride, pad, dilation };
            Shape::new(n, c, h, w).and_then(|input| Conv2d::general(input, k, window, groups))
        };
        let Ok(conv) = conv else { return Ok(()) };
        for pass in Pass::ALL {
            for memory in Memory::ALL {
                let mut all = Algorithm::ALL.to_vec();
                all.push(conv.algorithm(pass, memory));
                for algorithm in all.into_iter().filter(|a| conv.accepts(pass, *a)) {
                    prop_assert!(conv.scratch_len(pass, algorithm, memory, 3) < usize::MAX >> 2);
                }
            }
        }
        prop_assert!(conv.x_len() >= n.max(c) && conv.y_len() >= k && conv.weights().len() >= conv.weights().numbers());
    }
}

#[test]
fn linear_layers() {
    for (n, inputs, outputs) in [(1, 512, 1000), (3, 515, 1002), (1, 512, 10), (33, 64, 10), (7, 3, 1), (70, 130, 129), (3, 1, 77)] {
        let linear = Linear { n, inputs, outputs };
        let layout = WeightLayout::new(outputs, inputs, 1).expect("a weight");
        let (x, dy, b, w) = (random(n * inputs, 1), random(n * outputs, 2), random(outputs, 3), random(inputs * outputs, 4));
        let mut packed = vec![0.0; layout.len()];
        layout.pack(&w, &mut packed);
        let mut truth = [vec![0.0; n * outputs], vec![0.0; n * inputs], vec![0.0; inputs * outputs], vec![0.0; outputs]];
        reference::linear::forward(n, inputs, outputs, &x, &w, Some(&b), &mut truth[0]);
        reference::linear::backward_input(n, inputs, outputs, &dy, &w, &mut truth[1]);
        reference::linear::backward_weight(n, inputs, outputs, &x, &dy, &mut truth[2]);
        reference::linear::backward_bias(n, outputs, &dy, &mut truth[3]);
        for level in levels() {
            for threads in threads() {
                let cpu = Cpu { level, threads: &threads };
                let room = |pass| vec![f32::NAN; linear.scratch_len(pass, Memory::Small, threads.count())];
                let (mut y, mut dx) = (vec![f32::NAN; n * outputs], vec![f32::NAN; n * inputs]);
                let (mut dw, mut db, mut unpacked) = (vec![f32::NAN; layout.len()], vec![f32::NAN; outputs], vec![0.0; inputs * outputs]);
                let (w, scratch) = (&packed, &mut room(Pass::Forward));
                linear.forward(&cpu, linear::Forward { x: &x, w, b: Some(&b), y: &mut y, scratch });
                let scratch = &mut room(Pass::BackwardInput);
                linear.backward_input(&cpu, linear::BackwardInput { w, dy: &dy, dx: &mut dx, add: false, scratch });
                let scratch = &mut room(Pass::BackwardWeight);
                linear.backward_weight(&cpu, linear::BackwardWeight { x: &x, dy: &dy, dw: &mut dw, add: false, scratch });
                linear.backward_bias(&cpu, &dy, &mut db, false);
                linear.backward_bias(&cpu, &dy, &mut db, true);
                db.iter_mut().for_each(|v| *v /= 2.0);
                layout.unpack(&dw, &mut unpacked);
                for (what, got, truth) in
                    [("y", &y, &truth[0]), ("dx", &dx, &truth[1]), ("dw", &unpacked, &truth[2]), ("db", &db, &truth[3])]
                {
                    compare(&format!("{linear:?} {what} {level}"), got, truth);
                }
            }
        }
    }
}

#[test]
fn sizes_that_make_no_sense_are_errors() {
    assert!(Conv2d::new([0, 8, 8, 3], 4, 3, 1, 1).is_err());
    assert!(Conv2d::new([1, 8, 8, 3], 0, 3, 1, 1).is_err());
    assert!(Conv2d::new([1, 2, 2, 3], 4, 5, 1, 1).is_err());
    assert!(Conv2d::new([1, 8, 8, 3], 4, 3, 0, 1).is_err());
    assert!(Conv2d::new([1 << 20, 1 << 20, 1 << 20, 3], 4, 3, 1, 1).is_err());
    assert!(Conv2d::new([usize::MAX >> 6, 1, 1, 1], 1, 1 << (usize::BITS / 2), 1, 0).is_err());
    assert!(Conv2d::new([1, 8, 8, 3], 4, 3, usize::MAX, 1).is_err());
    let shape = Shape::new(1, 6, 8, 8).expect("a shape");
    let square = Window::square(3, 1, 1);
    assert_eq!(Conv2d::general(shape, 8, square, 3), Err(Error::Groups { channels: 8, groups: 3 }));
    assert_eq!(Conv2d::general(shape, 8, square, 4), Err(Error::Groups { channels: 6, groups: 4 }));
    assert_eq!(Conv2d::general(shape, 8, square, 0), Err(Error::Groups { channels: 6, groups: 0 }));
    for dilation in [0, 5, usize::MAX] {
        assert!(Conv2d::general(shape, 8, Window { dilation: [1, dilation], ..square }, 1).is_err(), "{dilation}");
    }
}
