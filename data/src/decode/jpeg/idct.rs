//! From 64 coefficients to 8 x 8 samples: the exact integer transform that libjpeg calls "islow", so that the
//! samples are libjpeg's to the bit.
//!
//! Two passes of the one-dimensional transform of Loeffler, Ligtenberg and Moschytz, in fixed point of 13 bits; two
//! more bits are kept between the passes.

const BITS: i32 = 13;
const KEPT: i32 = 2;

/// A constant with 13 fractional bits.
const fn fix(x: f64) -> i32 {
    (x * (1 << BITS) as f64 + 0.5) as i32
}

/// One pass over eight numbers. The results have 13 fractional bits more.
#[inline(always)]
fn pass(x: [i32; 8]) -> [i32; 8] {
    let mul = |a: i32, b: i32| a.wrapping_mul(b);
    let add = |a: i32, b: i32| a.wrapping_add(b);
    let sub = |a: i32, b: i32| a.wrapping_sub(b);
    // The even part: a rotation, and sums.
    let z = mul(add(x[2], x[6]), fix(0.541_196_100));
    let (low, high) = (sub(z, mul(x[6], fix(1.847_759_065))), add(z, mul(x[2], fix(0.765_366_865))));
    let (sum, difference) = (add(x[0], x[4]).wrapping_shl(BITS as u32), sub(x[0], x[4]).wrapping_shl(BITS as u32));
    let even = [add(sum, high), add(difference, low), sub(difference, low), sub(sum, high)];
    // The odd part.
    let (a, b, c, d) = (x[7], x[5], x[3], x[1]);
    let z5 = mul(add(add(a, c), add(b, d)), fix(1.175_875_602));
    let z1 = mul(add(a, d), -fix(0.899_976_223));
    let z2 = mul(add(b, c), -fix(2.562_915_447));
    let z3 = add(mul(add(a, c), -fix(1.961_570_560)), z5);
    let z4 = add(mul(add(b, d), -fix(0.390_180_644)), z5);
    let odd = [
        add(add(mul(d, fix(1.501_321_110)), z1), z4),
        add(add(mul(c, fix(3.072_711_026)), z2), z3),
        add(add(mul(b, fix(2.053_119_869)), z2), z4),
        add(add(mul(a, fix(0.298_631_336)), z1), z3),
    ];
    [
        add(even[0], odd[0]),
        add(even[1], odd[1]),
        add(even[2], odd[2]),
        add(even[3], odd[3]),
        sub(even[3], odd[3]),
        sub(even[2], odd[2]),
        sub(even[1], odd[1]),
        sub(even[0], odd[0]),
    ]
}

/// Halves up, `bits` times.
fn rounded(x: i32, bits: i32) -> i32 {
    x.wrapping_add(1 << (bits - 1)) >> bits
}

/// Writes the samples of a block: `coefficients` and `quant` row by row, rows of `out` `stride` bytes apart.
pub(super) fn block(coefficients: &[i16; 64], quant: &[u16; 64], out: &mut [u8], stride: usize) {
    if coefficients[1..].iter().all(|c| *c == 0) {
        // One grey: the two passes do no more than this.
        let dc = i32::from(coefficients[0]).wrapping_mul(i32::from(quant[0])).wrapping_shl(KEPT as u32);
        let grey = to_sample(rounded(dc.wrapping_shl(BITS as u32), BITS + KEPT + 3));
        out.chunks_mut(stride).take(8).for_each(|row| row[..8].fill(grey));
        return;
    }
    let mut between = [[0_i32; 8]; 8];
    for column in 0..8 {
        let x: [i32; 8] = std::array::from_fn(|i| i32::from(coefficients[8 * i + column]).wrapping_mul(i32::from(quant[8 * i + column])));
        let y = pass(x);
        for (row, y) in between.iter_mut().zip(y) {
            row[column] = rounded(y, BITS - KEPT);
        }
    }
    for (row, x) in out.chunks_mut(stride).zip(between) {
        for (out, y) in row[..8].iter_mut().zip(pass(x)) {
            *out = to_sample(rounded(y, BITS + KEPT + 3));
        }
    }
}

fn to_sample(x: i32) -> u8 {
    x.wrapping_add(128).clamp(0, 255) as u8
}
