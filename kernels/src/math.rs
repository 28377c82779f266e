//! Exponential, logarithm, power and the curves made of them, for whole vectors.
//!
//! Each is accurate to a few units in the last place at every level, also where `fma` is not fused:
//! what must be exact is made exact by cutting numbers into halves of 12 bits, whose products are
//! exact. Denormal numbers are computed with, as arguments and as results.
//!
//! Coefficients of polynomials: least relative error over the interval that is named, found by
//! iterated weighted least squares in high precision, then rounded to `f32`.

use crate::isa::Isa;
use crate::lanes::MOST;

/// 1.5 · 2²³: a number of ordinary size that is added to it loses its fraction.
const ROUND: f32 = 12_582_912.0;
/// ln 2 = `LN2_HIGH` + `LN2_LOW`; the first has 9 bits, so its product with an exponent is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// `c[0] + c[1]·x + c[2]·x² …`
#[inline(always)]
pub(crate) fn polynomial<I: Isa, const N: usize>(isa: I, x: I::V, c: &[f32; N]) -> I::V {
    let mut sum = isa.splat(c[N - 1]);
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        sum = isa.fma(sum, x, isa.splat(c[i]));
    }
    sum
}

/// |x|
#[inline(always)]
pub(crate) fn abs<I: Isa>(isa: I, x: I::V) -> I::V {
    isa.bits_and(x, isa.splat(f32::from_bits(0x7fff_ffff)))
}

/// `size` (which is not negative) with the sign of `sign`.
#[inline(always)]
pub(crate) fn with_sign<I: Isa>(isa: I, size: I::V, sign: I::V) -> I::V {
    isa.bits_or(size, isa.bits_and(sign, isa.splat(-0.0)))
}

/// 1, −1 or 0: the sign of x, 0 for 0 and NaN.
#[inline(always)]
pub(crate) fn sign<I: Isa>(isa: I, x: I::V) -> I::V {
    let zero = isa.splat(0.0);
    let above = isa.select(isa.lt(zero, x), isa.splat(1.0), zero);
    isa.select(isa.lt(x, zero), isa.splat(-1.0), above)
}

/// The larger of `x` and `low`; NaN and −0.0 stay where `low` is 0.
#[inline(always)]
pub(crate) fn at_least<I: Isa>(isa: I, x: I::V, low: I::V) -> I::V {
    isa.select(isa.lt(x, low), low, x)
}

/// The smaller of `x` and `high`; NaN stays.
#[inline(always)]
pub(crate) fn at_most<I: Isa>(isa: I, x: I::V, high: I::V) -> I::V {
    isa.select(isa.lt(high, x), high, x)
}

/// The nearest whole number, for |x| below 2²².
#[inline(always)]
fn round<I: Isa>(isa: I, x: I::V) -> I::V {
    isa.sub(isa.add(x, isa.splat(ROUND)), isa.splat(ROUND))
}

/// The first 12 bits of a number.
#[inline(always)]
fn first_half<I: Isa>(isa: I, x: I::V) -> I::V {
    isa.bits_and(x, isa.splat(f32::from_bits(0xffff_f000)))
}

/// `eˣ`
#[inline(always)]
pub(crate) fn exp<I: Isa>(isa: I, x: I::V) -> I::V {
    exp_of(isa, x, None)
}

/// `e^(x + low)`, where `low` is far smaller than x: what rounding x lost.
///
/// x is cut into n·ln 2 + r, |r| at most ln 2 / 2; then eˣ = 2ⁿ·eʳ.
#[inline(always)]
fn exp_of<I: Isa>(isa: I, x: I::V, low: Option<I::V>) -> I::V {
    // (eʳ − 1 − r) / r² for |r| ≤ 0.35, relative error of eʳ 3.4e-9.
    const C: [f32; 5] = [0.5, 0.166_665_13, 0.041_666_187, 0.008_369_598, 0.001_395_171_7];
    // Beyond these the result is 0 or infinite.
    let x = at_most(isa, at_least(isa, x, isa.splat(-104.0)), isa.splat(89.0));
    let n = round(isa, isa.mul(x, isa.splat(core::f32::consts::LOG2_E)));
    let r = isa.sub(x, isa.mul(n, isa.splat(LN2_HIGH)));
    let mut r = isa.sub(r, isa.mul(n, isa.splat(LN2_LOW)));
    if let Some(low) = low {
        r = isa.add(r, low);
    }
    let p = isa.fma(isa.mul(r, r), polynomial(isa, r, &C), r);
    let p = isa.add(p, isa.splat(1.0));
    isa.scale(p, n)
}

/// x = m·2ᵉ with m from √½ to √2: returns m and e. Of x > 0, also denormal; of 0 (1, −150).
#[inline(always)]
fn split<I: Isa>(isa: I, x: I::V) -> (I::V, I::V) {
    let denormal = isa.lt(x, isa.splat(f32::MIN_POSITIVE));
    let x = isa.select(denormal, isa.mul(x, isa.splat(8_388_608.0)), x);
    let bias = isa.select(denormal, isa.splat(8_388_608.0 + 127.0 + 23.0), isa.splat(8_388_608.0 + 127.0));
    // 2²³ with the exponent in its lowest bits is 2²³ + that exponent.
    let e = isa.sub(isa.bits_or(isa.bits_down::<23>(x), isa.splat(8_388_608.0)), bias);
    let m = isa.bits_or(isa.bits_and(x, isa.splat(f32::from_bits(0x007f_ffff))), isa.splat(1.0));
    let large = isa.lt(isa.splat(core::f32::consts::SQRT_2), m);
    let m = isa.select(large, isa.mul(m, isa.splat(0.5)), m);
    (m, isa.select(large, isa.add(e, isa.splat(1.0)), e))
}

/// `ln x`: −∞ at 0, NaN below.
#[inline(always)]
pub(crate) fn log<I: Isa>(isa: I, x: I::V) -> I::V {
    // (ln(1 + f) − f + f²/2) / f³ for f from √½ − 1 to √2 − 1, relative error of ln(1 + f) 5.8e-9.
    const C: [f32; 8] = [0.333_333_3, -0.250_008_2, 0.200_012_27, -0.166_233_56, 0.142_017_62, -0.131_601_95, 0.127_615_5, -0.076_344_3];
    let zero = isa.splat(0.0);
    let (m, e) = split(isa, x);
    let f = isa.sub(m, isa.splat(1.0));
    let square = isa.mul(f, f);
    let tail = isa.fma(isa.mul(square, f), polynomial(isa, f, &C), isa.mul(e, isa.splat(LN2_LOW)));
    let tail = isa.fma(square, isa.splat(-0.5), tail);
    let y = isa.add(isa.add(f, tail), isa.mul(e, isa.splat(LN2_HIGH)));
    let y = isa.select(isa.lt(isa.splat(f32::MAX), x), x, y);
    let y = isa.select(isa.le(x, zero), isa.splat(f32::NEG_INFINITY), y);
    isa.select(isa.or(isa.lt(x, zero), isa.is_nan(x)), isa.splat(f32::NAN), y)
}

/// `ln(1 + x)` for x from 0 to 1.
#[inline(always)]
pub(crate) fn log_of_one_plus<I: Isa>(isa: I, x: I::V) -> I::V {
    let one = isa.splat(1.0);
    let sum = isa.add(one, x);
    let lost = isa.sub(x, isa.sub(sum, one));
    isa.add(log(isa, sum), isa.div(lost, sum))
}

/// `tanh x`
#[inline(always)]
pub(crate) fn tanh<I: Isa>(isa: I, x: I::V) -> I::V {
    // (tanh x − x) / x³ over x², for |x| ≤ 0.625, relative error of tanh x 4.4e-9.
    const C: [f32; 5] = [-0.333_332_8, 0.133_314_42, -0.053_739_71, 0.020_639_08, -0.005_704_978_4];
    let one = isa.splat(1.0);
    let size = abs(isa, x);
    let square = isa.mul(size, size);
    let small = isa.fma(isa.mul(size, square), polynomial(isa, square, &C), size);
    let e = exp(isa, isa.add(size, size));
    let large = isa.sub(one, isa.div(isa.splat(2.0), isa.add(e, one)));
    with_sign(isa, isa.select(isa.lt(size, isa.splat(0.625)), small, large), x)
}

/// The logistic function `1 / (1 + e⁻ˣ)`, and 1 minus it, each accurate also where it is small.
#[inline(always)]
pub(crate) fn sigmoid<I: Isa>(isa: I, x: I::V) -> (I::V, I::V) {
    let one = isa.splat(1.0);
    let negative = isa.lt(x, isa.splat(0.0));
    let z = exp(isa, isa.bits_or(x, isa.splat(-0.0)));
    let large = isa.div(one, isa.add(one, z));
    let small = isa.mul(z, large);
    (isa.select(negative, small, large), isa.select(negative, large, small))
}

/// The normal distribution: the share of it below x, Φ(x) = (1 + erf(x/√2))/2, and its density
/// φ(x) = e^(−x²/2)/√2π. Not for infinite x.
///
/// Near 0 it is ½ plus a series in x; elsewhere Φ(−a) = e^(−a²/2)·Q(a), which keeps its accuracy far
/// out, where 1 + erf would have lost it.
#[inline(always)]
pub(crate) fn normal<I: Isa>(isa: I, x: I::V) -> (I::V, I::V) {
    // (Φ(x) − ½)/x over x², for |x| ≤ 1, relative error 9.5e-10.
    const NEAR: [f32; 6] = [0.398_942_27, -0.066_490_35, 0.009_973_275, -0.001_186_181_5, 1.133_018_2e-4, -7.574_749e-6];
    // Q(a)·(1 + 2a) over t = (a − 3)/(a + 3) for a from 1 to 15, relative error 6.6e-9.
    const FAR: [f32; 9] = [
        0.850_597_6,
        0.013_349_127,
        -0.156_089_96,
        0.136_540_06,
        -0.051_579_475,
        -5.732_23e-4,
        0.006_918_606_3,
        -3.973_975_6e-4,
        -9.230_338e-4,
    ];
    // e⁻ᵗ for t from 0 to 0.1.
    const E: [f32; 5] = [1.0, -1.0, 0.5, -0.166_666_67, 0.041_666_668];
    let (one, three) = (isa.splat(1.0), isa.splat(3.0));
    let a = at_most(isa, abs(isa, x), isa.splat(15.0));
    // a² = high² + (a − high)·(a + high), and high² is exact.
    let high = first_half(isa, a);
    let rest = isa.mul(isa.mul(isa.sub(a, high), isa.add(a, high)), isa.splat(0.5));
    let e = exp(isa, isa.mul(isa.mul(high, high), isa.splat(-0.5)));
    let e = isa.mul(e, polynomial(isa, rest, &E));
    // One division for both was tried: no faster, and less accurate.
    let t = isa.div(isa.sub(a, three), isa.add(a, three));
    let q = isa.div(polynomial(isa, t, &FAR), isa.fma(a, isa.splat(2.0), one));
    let below = isa.mul(e, q);
    let far = isa.select(isa.lt(x, isa.splat(0.0)), below, isa.sub(one, below));
    let near = isa.fma(x, polynomial(isa, isa.mul(a, a), &NEAR), isa.splat(0.5));
    (isa.select(isa.lt(a, one), near, far), isa.mul(e, isa.splat(0.398_942_3)))
}

/// `xᵖ` as PyTorch computes it, with its special cases.
#[inline(always)]
pub(crate) fn power<I: Isa>(isa: I, x: I::V, p: f64) -> I::V {
    let one = isa.splat(1.0);
    if p == 0.0 {
        one
    } else if p == 0.5 {
        isa.sqrt(x)
    } else if p == 1.0 {
        x
    } else if p == 2.0 {
        isa.mul(x, x)
    } else if p == 3.0 {
        isa.mul(isa.mul(x, x), x)
    } else if p == -0.5 {
        isa.div(one, isa.sqrt(x))
    } else if p == -1.0 {
        isa.div(one, x)
    } else if p == -2.0 {
        isa.div(one, isa.mul(x, x))
    } else if p.is_finite() {
        any_power(isa, x, p)
    } else {
        one_by_one(isa, x, p as f32)
    }
}

/// `xᵖ` by the C library's formula, one number after the other: for p that is infinite or NaN.
#[inline(always)]
fn one_by_one<I: Isa>(isa: I, x: I::V, p: f32) -> I::V {
    let mut all = [0.0; MOST];
    isa.store(x, &mut all);
    for v in &mut all[..I::LANES] {
        *v = libm::powf(*v, p);
    }
    isa.load(&all)
}

/// |x|ᵖ = e^(p·ln|x|) with ln|x| in two numbers; then signs and special values.
#[inline(always)]
fn any_power<I: Isa>(isa: I, x: I::V, p: f64) -> I::V {
    let zero = isa.splat(0.0);
    let size = abs(isa, x);
    let (high, low) = log_in_two(isa, size);
    // p in two parts; the first has 12 bits, so that its product with `high` is exact.
    let p_high = f32::from_bits((p as f32).to_bits() & 0xffff_f000);
    let p_low = (p - f64::from(p_high)) as f32;
    let product = isa.mul(high, isa.splat(p_high));
    let rest = isa.fma(high, isa.splat(p_low), isa.mul(low, isa.splat(p as f32)));
    let sum = isa.add(product, rest);
    let lost = isa.sub(rest, isa.sub(sum, product));
    // Beyond these the result is 0 or infinite, and what was lost may be NaN.
    let known = isa.lt(abs(isa, sum), isa.splat(110.0));
    let y = exp_of(isa, sum, Some(isa.select(known, lost, zero)));
    let (of_zero, of_infinity) = if p > 0.0 { (0.0, f32::INFINITY) } else { (f32::INFINITY, 0.0) };
    let infinite = isa.lt(isa.splat(f32::MAX), size);
    let y = isa.select(infinite, isa.splat(of_infinity), y);
    let y = isa.select(isa.le(size, zero), isa.splat(of_zero), y);
    let y = isa.select(isa.is_nan(x), x, y);
    let whole = libm::trunc(p) == p;
    if whole && libm::fmod(p, 2.0) != 0.0 {
        with_sign(isa, y, x)
    } else if whole {
        y
    } else {
        let undefined = isa.select(infinite, y, isa.splat(f32::NAN));
        isa.select(isa.lt(x, zero), undefined, y)
    }
}

/// `ln x` as a number of 12 bits and the rest, of x > 0 and finite: together accurate to 2⁻³⁰.
///
/// With s = (m − 1)/(m + 1) it is e·ln 2 + 2s + s³·P(s²), and s is known in two parts.
#[inline(always)]
fn log_in_two<I: Isa>(isa: I, x: I::V) -> (I::V, I::V) {
    // (ln((1 + s)/(1 − s)) − 2s) / s³ over s², for |s| ≤ 0.173, relative error 1.8e-9.
    const C: [f32; 4] = [0.666_666_57, 0.400_001_26, 0.285_503_73, 0.233_424_8];
    let one = isa.splat(1.0);
    let (m, e) = split(isa, x);
    let (f, d) = (isa.sub(m, one), isa.add(m, one));
    let s = isa.div(f, d);
    let s_high = first_half(isa, s);
    let d_high = first_half(isa, d);
    let d_low = isa.sub(m, isa.sub(d_high, one));
    let s_low = isa.sub(isa.sub(f, isa.mul(s_high, d_high)), isa.mul(s_high, d_low));
    let s_low = isa.div(s_low, d);
    let u = isa.mul(s, s);
    let tail = isa.fma(isa.mul(s, u), polynomial(isa, u, &C), isa.add(s_low, s_low));
    let tail = isa.fma(e, isa.splat(LN2_LOW), tail);
    // The exact sum of e·ln 2 and 2s: `sum` + `lost`.
    let (large, head) = (isa.mul(e, isa.splat(LN2_HIGH)), isa.add(s_high, s_high));
    let sum = isa.add(large, head);
    let part = isa.sub(sum, large);
    let lost = isa.add(isa.sub(large, isa.sub(sum, part)), isa.sub(head, part));
    let tail = isa.add(lost, tail);
    let high = first_half(isa, isa.add(sum, tail));
    (high, isa.add(isa.sub(sum, high), tail))
}
