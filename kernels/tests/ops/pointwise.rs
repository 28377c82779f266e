use super::testing::*;
use nunatak_kernels::Cpu;
use nunatak_kernels::pointwise::*;
use nunatak_kernels::reference::pointwise as reference;
use nunatak_kernels::{Denormals, Level, Threads};

/// Every function, the powers one for each way of computing them.
fn all() -> Vec<Pointwise> {
    use Pointwise::*;
    let mut all = vec![Relu6, Hardswish, Hardsigmoid, Silu, Sigmoid, Tanh, Gelu, GeluTanh, Exp, Log, Sqrt, Abs, Square, Reciprocal];
    all.extend([0.0, 0.5, -0.5, 1.0, -1.0, 2.0, 3.0, -2.0, 4.0, -3.0, 1.5, 1.0 / 3.0, -0.7, 17.0, 100.5, -1e30, 1e-3].map(Pow));
    let (infinite, nan) = (f32::INFINITY, f32::NAN);
    all.extend(
        [(-1.0, 2.0), (0.25, infinite), (-infinite, -0.5), (2.0, -1.0), (nan, 1.0), (-1.0, nan)].map(|(low, high)| Clamp { low, high }),
    );
    all.extend([Scale(-1.7), Scale(0.0), AddScalar(0.3), AddScalar(-2.0), Divide(3.0), Divide(-0.7)]);
    all
}

/// Bits of every exponent and sign, and everything special.
fn sweep(step: usize) -> Vec<f32> {
    let mut x: Vec<f32> = (0..=u32::MAX).step_by(step).map(f32::from_bits).collect();
    x.extend([
        0.0,
        -0.0,
        1.0,
        -1.0,
        3.0,
        -3.0,
        6.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MAX,
        f32::MIN,
        2.999_999_8,
        -2.999_999_8,
    ]);
    x
}

/// The distance of neighbouring numbers at `e`.
fn unit(e: f64) -> f64 {
    let e = (e.abs() as f32).clamp(f32::MIN_POSITIVE, f32::MAX / 2.0);
    f64::from(f32::from_bits(e.to_bits() + 1) - e)
}

/// `y` is `e` but for so many units in the last place, or this difference.
#[track_caller]
fn assert_units(y: f32, e: f64, units: f64, difference: f64, what: impl Fn() -> std::string::String) {
    let rounded = e as f32;
    if rounded.to_bits() == y.to_bits() || (y.is_nan() && e.is_nan()) {
        return;
    }
    // Next to the largest number an error of one unit is infinite.
    let edge = e.abs() > f64::from(f32::MAX) * (1.0 - 1e-6);
    let fine = (edge && f64::from(y.abs()) > f64::from(f32::MAX) * (1.0 - 1e-6) && (y < 0.0) == (e < 0.0))
        || (rounded.is_finite() && (f64::from(y) - e).abs() <= units * unit(e) + difference);
    assert!(fine, "{}: {y:e} instead of {e:e}", what());
}

/// The smallest number there is.
const DENORMAL: f64 = 1.5e-45;

/// What forward may be off by: units, and a difference.
fn tolerance(op: Pointwise, x: f32) -> (f64, f64) {
    match op {
        // The error of what stands in the exponent.
        Pointwise::GeluTanh if x < -1.0 => (6.0 + 4.0 * f64::from(x * x * x).abs(), DENORMAL * f64::from(-x)),
        // Times x, a denormal number's last place counts more.
        Pointwise::Silu | Pointwise::Gelu | Pointwise::GeluTanh => (5.0, DENORMAL * f64::from(x.abs())),
        Pointwise::Hardswish | Pointwise::Hardsigmoid => (2.0, 2e-7),
        _ => (3.0, 0.0),
    }
}

/// Where PyTorch and the kernel round on the way to a result that the reference does not: infinite
/// values between, or the rounding of x + 3.
fn comparable(op: Pointwise, x: f32) -> bool {
    match op {
        Pointwise::Hardswish => x < 5e37,
        Pointwise::Pow(-2.0) => x.is_nan() || x.abs() < 1e15 && x.abs() > 1e-15,
        Pointwise::Pow(3.0 | -1.0 | -0.5) => x.is_nan() || x.abs() > 1e-12,
        _ => true,
    }
}

#[test]
fn values_are_accurate_everywhere() {
    let x = sweep(98_317);
    for op in all() {
        let mut expected = zeros(x.len());
        reference::forward(op, &x, &mut expected);
        for level in Level::available() {
            let threads = Threads::serial().with_denormals(Denormals::Keep);
            let mut y = Offset::nan(x.len(), 3);
            forward(&Cpu { level, threads: &threads }, op, Some(&x), &mut y);
            for ((x, y), e) in x.iter().zip(y.iter()).zip(&expected).filter(|((x, _), _)| comparable(op, **x)) {
                let (units, difference) = tolerance(op, *x);
                assert_units(*y, *e, units, difference, || std::format!("{op:?}({x:e}) at {level}"));
            }
        }
    }
}

#[test]
fn gradients_are_accurate_everywhere() {
    let all_x = sweep(196_613);
    let mut random = Random::new(21);
    for op in all() {
        let (low, high) = match op {
            // Beyond these what stands between overflows.
            Pointwise::Pow(_) => (1e-12, 1e12),
            Pointwise::GeluTanh => (0.0, 1e12),
            Pointwise::Square => (0.0, 1e38),
            _ => (0.0, f32::INFINITY),
        };
        let x: Vec<f32> = all_x.iter().copied().filter(|x| !(x.abs() < low || x.abs() > high)).collect();
        let saved = match op.backward_reads() {
            Reads::Y => {
                let mut y = vec![0.0; x.len()];
                forward(&Cpu { level: Level::PORTABLE, threads: &Threads::serial() }, op, Some(&x), &mut y);
                y
            }
            _ => x.clone(),
        };
        let dy = random.vector(x.len());
        let mut expected = zeros(x.len());
        reference::backward_input(op, &saved, &dy, &mut expected);
        for level in Level::available() {
            let threads = Threads::serial().with_denormals(Denormals::Keep);
            let mut dx = Offset::nan(x.len(), 5);
            backward_input(&Cpu { level, threads: &threads }, op, &saved, Some(&dy), &mut dx, false);
            for (i, (dx, e)) in dx.iter().zip(&expected).enumerate() {
                // Sums that cancel are as exact as what was added.
                let difference = match op {
                    Pointwise::Silu | Pointwise::Gelu | Pointwise::GeluTanh | Pointwise::Hardswish => 5e-7 * f64::from(dy[i].abs()),
                    _ => 0.0,
                };
                // The slope alone may overflow, or lose its last places, where its product with dy does not.
                let slope = (e / f64::from(dy[i])).abs();
                if matches!(op, Pointwise::Pow(_) | Pointwise::Reciprocal) && slope.is_finite() && !(1e-36..=1e38).contains(&slope) {
                    continue;
                }
                assert_units(*dx, *e, 5.0, difference, || std::format!("{op:?} at {:e} times {:e} at {level}", saved[i], dy[i]));
            }
        }
    }
}

#[test]
fn all_ways_to_call_give_the_same_bits() {
    let mut random = Random::new(22);
    for op in all() {
        for len in [0, 1, 7, 8, 9, 15, 16, 17, 33, 8191, 8200, 20000] {
            let offset = (len + 3) % 16;
            let x = Offset::copy(&random.special(len), offset);
            let (dy, start) = (Offset::copy(&random.special(len), 15 - offset), random.vector(len));
            same_bits(
                |cpu| {
                    let mut y = Offset::nan(len, 15 - offset);
                    forward(cpu, op, Some(&x), &mut y);
                    let mut again = Offset::copy(&x, offset);
                    forward(cpu, op, None, &mut again);
                    assert_same(&y, &again, "in place");
                    let saved: &[f32] = match op.backward_reads() {
                        Reads::X => &x,
                        Reads::Y => &y,
                        Reads::Nothing => &[],
                    };
                    let mut dx = Offset::nan(len, offset);
                    backward_input(cpu, op, saved, Some(&dy), &mut dx, false);
                    let mut again = Offset::copy(&dy, 15 - offset);
                    backward_input(cpu, op, saved, None, &mut again, false);
                    assert_same(&dx, &again, "dx in place");
                    let mut sum = Offset::copy(&start, offset);
                    backward_input(cpu, op, saved, Some(&dy), &mut sum, true);
                    let expected: Vec<f32> = start.iter().zip(dx.iter()).map(|(a, b)| a + b).collect();
                    assert_same(&sum, &expected, "dx added");
                    [&y[..], &dx[..]].concat()
                },
                |_, _| {},
            );
        }
    }
}

#[track_caller]
fn assert_same(a: &[f32], b: &[f32], what: &str) {
    assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())), "{what}");
}

/// x, and what PyTorch 2.15 makes of −∞, −3, −0.0, 0, 3, 6, ∞, NaN: values, then gradients of dy = 2.
#[test]
#[allow(clippy::excessive_precision, reason = "golden values as torch prints them")]
fn the_rules_of_torch() {
    use Pointwise::*;
    const INF: f64 = f64::INFINITY;
    const NAN: f64 = f64::NAN;
    let x = [f32::NEG_INFINITY, -3.0, -0.0, 0.0, 3.0, 6.0, f32::INFINITY, f32::NAN];
    let cases: [(Pointwise, [f64; 8], [f64; 8]); 17] = [
        (Relu6, [0.0, 0.0, -0.0, 0.0, 3.0, 6.0, 6.0, NAN], [0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0]),
        (Hardswish, [NAN, -0.0, -0.0, 0.0, 3.0, 6.0, INF, NAN], [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 2.0, NAN]),
        (Hardsigmoid, [0.0, 0.0, 0.5, 0.5, 1.0, 1.0, 1.0, NAN], [0.0, 0.0, 0.333333343, 0.333333343, 0.0, 0.0, 0.0, 0.0]),
        (
            Silu,
            [NAN, -0.142277613, -0.0, 0.0, 2.85772252, 5.98516464, INF, NAN],
            [NAN, -0.176208213, 1.0, 1.0, 2.17620826, 2.02465248, NAN, NAN],
        ),
        (
            Sigmoid,
            [0.0, 0.0474258736, 0.5, 0.5, 0.952574134, 0.997527421, 1.0, NAN],
            [0.0, 0.0903533176, 0.5, 0.5, 0.0903533101, 0.00493293162, 0.0, NAN],
        ),
        (
            Tanh,
            [-1.0, -0.995054781, -0.0, 0.0, 0.995054781, 0.999987721, 1.0, NAN],
            [0.0, 0.0197319631, 2.0, 2.0, 0.0197319631, 4.91139253e-05, 0.0, NAN],
        ),
        (Gelu, [NAN, -0.00405022502, -0.0, 0.0, 2.99594975, 6.0, NAN, NAN], [NAN, -0.0238912106, 1.0, 1.0, 2.02389121, 2.0, NAN, NAN]),
        (GeluTanh, [NAN, -0.00363743305, -0.0, 0.0, 2.99636269, 6.0, INF, NAN], [NAN, -0.0231685936, 1.0, 1.0, 2.02316856, 2.0, NAN, NAN]),
        (
            Exp,
            [0.0, 0.0497870669, 1.0, 1.0, 20.085537, 403.428802, INF, NAN],
            [0.0, 0.0995741338, 2.0, 2.0, 40.1710739, 806.857605, INF, NAN],
        ),
        (
            Log,
            [NAN, NAN, -INF, -INF, 1.09861231, 1.79175949, INF, NAN],
            [-0.0, -0.666666687, -INF, INF, 0.666666687, 0.333333343, 0.0, NAN],
        ),
        (Sqrt, [NAN, NAN, -0.0, 0.0, 1.73205078, 2.44948983, INF, NAN], [NAN, NAN, -INF, INF, 0.577350259, 0.408248276, 0.0, NAN]),
        (Abs, [INF, 3.0, 0.0, 0.0, 3.0, 6.0, INF, NAN], [-2.0, -2.0, 0.0, 0.0, 2.0, 2.0, 2.0, 0.0]),
        (
            Reciprocal,
            [-0.0, -0.333333343, -INF, INF, 0.333333343, 0.166666672, 0.0, NAN],
            [-0.0, -0.222222239, -INF, -INF, -0.222222239, -0.0555555597, -0.0, NAN],
        ),
        (Pow(0.0), [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        (Pow(1.5), [INF, NAN, 0.0, 0.0, 5.19615221, 14.6969385, INF, NAN], [NAN, NAN, -0.0, 0.0, 5.19615221, 7.34846973, INF, NAN]),
        (
            Pow(-3.0),
            [-0.0, -0.0370370373, -INF, INF, 0.0370370373, 0.00462962966, 0.0, NAN],
            [-0.0, -0.0740740746, -INF, -INF, -0.0740740746, -0.00462962966, -0.0, NAN],
        ),
        (Clamp { low: -3.0, high: 3.0 }, [-3.0, -3.0, -0.0, 0.0, 3.0, 3.0, 3.0, NAN], [0.0, 0.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0]),
    ];
    for_each_cpu(|cpu| {
        for (op, y, dx) in cases {
            let (mut out, mut slope) = ([0.0; 8], [0.0; 8]);
            forward(cpu, op, Some(&x), &mut out);
            let saved = if op.backward_reads() == Reads::Y { out } else { x };
            backward_input(cpu, op, &saved, Some(&[2.0; 8]), &mut slope, false);
            for (got, want) in out.iter().zip(y).chain(slope.iter().zip(dx)) {
                let same = f64::from(*got) == want && got.is_sign_negative() == want.is_sign_negative();
                // PyTorch's gelu has errors of 1e-6 in absolute size.
                let close = (f64::from(*got) - want).abs() <= 2e-6 * want.abs().max(0.5) && want != 0.0;
                assert!(same || close || (got.is_nan() && want.is_nan()), "{op:?}: {got} instead of torch's {want} in {out:?}, {slope:?}");
            }
        }
    });
}

#[test]
fn gradients_are_slopes() {
    let mut random = Random::new(23);
    for op in all() {
        // Away from kinks and poles.
        let x: Vec<f32> = random.vector(60).iter().map(|v| v.abs() * 0.8 + 1.1).collect();
        let skip = matches!(op, Pointwise::Pow(p) if p.abs() > 20.0)
            || matches!(op, Pointwise::Clamp { low, high } if low.is_nan() || high.is_nan() || low >= high);
        if skip {
            continue;
        }
        let dy = random.vector(60);
        let mut y = zeros(60);
        reference::forward(op, &x, &mut y);
        let saved: Vec<f32> = match op.backward_reads() {
            Reads::Y => y.iter().map(|v| *v as f32).collect(),
            _ => x.clone(),
        };
        let mut dx = zeros(60);
        reference::backward_input(op, &saved, &dy, &mut dx);
        let loss = |x: &[f32]| {
            let mut y = zeros(60);
            reference::forward(op, x, &mut y);
            dot(&dy, &y)
        };
        let tolerance = if matches!(op, Pointwise::Pow(17.0)) { 1e-2 } else { 2e-4 };
        // The kink at 2 of a clamp, and of it alone.
        if !matches!(op, Pointwise::Clamp { high: 2.0, .. }) {
            assert_gradient(&x, &dx, loss, tolerance);
        }
    }
}

#[test]
fn powers_that_are_not_finite() {
    for_each_cpu(|cpu| {
        for p in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let x = [0.5, 1.0, -1.0, 2.0, 0.0, f32::NAN, -2.0, 1.0, 3.0];
            let mut y = [0.0; 9];
            forward(cpu, Pointwise::Pow(p), Some(&x), &mut y);
            for (x, y) in x.iter().zip(y) {
                let e = x.powf(p);
                assert!(y == e || (y.is_nan() && e.is_nan()), "{x} to {p}: {y} instead of {e}");
            }
        }
    });
}

#[test]
fn names() {
    assert_eq!(Pointwise::GeluTanh.name(), "gelu_tanh");
    assert_eq!(Pointwise::Clamp { low: 0.0, high: 1.0 }.name(), "clamp");
    assert_eq!(Pointwise::Hardswish.backward_reads(), Reads::X);
    assert_eq!(Pointwise::Sigmoid.backward_reads(), Reads::Y);
    assert_eq!(Pointwise::Scale(2.0).backward_reads(), Reads::Nothing);
}

#[test]
#[should_panic(expected = "can't be added to")]
fn in_place_and_added_is_refused() {
    let cpu = Cpu { level: Level::PORTABLE, threads: &Threads::serial() };
    backward_input(&cpu, Pointwise::Exp, &[1.0], None, &mut [1.0], true);
}

#[test]
#[should_panic(expected = "saved numbers")]
fn missing_saved_numbers_are_refused() {
    let cpu = Cpu { level: Level::PORTABLE, threads: &Threads::serial() };
    backward_input(&cpu, Pointwise::Exp, &[], Some(&[1.0]), &mut [1.0], false);
}

/// Minutes: every number there is.
#[test]
#[ignore = "takes minutes; run where the maths changed"]
fn every_number() {
    use Pointwise::*;
    for first in (0..=u32::MAX).step_by(1 << 20) {
        let x: Vec<f32> = (first..=first + ((1 << 20) - 1)).map(f32::from_bits).collect();
        for op in [Exp, Log, Tanh, Sigmoid, Gelu, Pow(0.7)] {
            let mut expected = zeros(x.len());
            reference::forward(op, &x, &mut expected);
            for level in Level::available() {
                let threads = Threads::serial().with_denormals(Denormals::Keep);
                let mut y = vec![0.0; x.len()];
                forward(&Cpu { level, threads: &threads }, op, Some(&x), &mut y);
                for ((x, y), e) in x.iter().zip(&y).zip(&expected) {
                    let (units, difference) = tolerance(op, *x);
                    assert_units(*y, *e, units, difference, || std::format!("{op:?}({x:e}) at {level}"));
                }
            }
        }
    }
}

#[test]
fn every_function_has_a_number_of_its_own() {
    let mut codes: Vec<u32> = Vec::new();
    for op in all() {
        let (code, numbers) = op.encode();
        let back = Pointwise::decode(code, numbers).expect("a function");
        // NaN is no equal of itself: compared as text.
        assert_eq!(std::format!("{back:?}"), std::format!("{op:?}"));
        codes.push(code);
    }
    codes.dedup();
    let there = (0..1000).filter(|code| Pointwise::decode(*code, [0.0; 2]).is_some());
    assert!(there.eq(codes), "a function that the tests leave out");
}
