//! Elements set to zero by chance.

/// The number, below 2³², of element `i`.
fn draw(seed: u64, step: u64, i: u64) -> u64 {
    let mix = |z: u64| {
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let key = mix(mix(seed).wrapping_add(step));
    let word = mix(key.wrapping_add((16 * (i / 32) + i % 16 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    if i % 32 < 16 { word & 0xffff_ffff } else { word >> 32 }
}

/// `y = x · m`, rounded to `f32`; m is 0 where the element's number is below p·2³², else 1/(1 − p).
pub fn forward(probability: f32, seed: u64, step: u64, x: &[f32], y: &mut [f64]) {
    assert_eq!(x.len(), y.len());
    let p = f64::from(probability);
    for (i, (x, y)) in x.iter().zip(y).enumerate() {
        let kept = draw(seed, step, i as u64) as f64 >= libm::floor(p * 4_294_967_296.0);
        let m = if kept { (1.0 / (1.0 - p)) as f32 } else { 0.0 };
        *y = f64::from(*x * m);
    }
}

/// `dx = dy · m`
pub fn backward_input(probability: f32, seed: u64, step: u64, dy: &[f32], dx: &mut [f64]) {
    forward(probability, seed, step, dy, dx);
}
