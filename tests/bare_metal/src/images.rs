//! Images of four classes, 3 x 32 x 32: lying stripes, standing stripes, slanting stripes, dots. Width,
//! phase and colours are drawn, and noise, so that no two are alike.

use nunatak_core::rng::Generator;

/// Lines and columns.
pub const SIZE: usize = 32;
/// Numbers of an image.
pub const NUMBERS: usize = 3 * SIZE * SIZE;
/// Classes.
pub const CLASSES: usize = 4;

/// Draws an image of a class.
pub fn draw(random: &mut Generator, class: usize, image: &mut [f32]) {
    let below = |random: &mut Generator, n: u32| (random.random32() % n) as usize;
    let width = 3 + below(random, 3);
    let (shift_x, shift_y) = (below(random, 8), below(random, 8));
    for channel in image.chunks_exact_mut(SIZE * SIZE) {
        let (dark, bright) = (random.uniform(-1.0, -0.2), random.uniform(0.2, 1.0));
        for (y, line) in channel.chunks_exact_mut(SIZE).enumerate() {
            for (x, pixel) in line.iter_mut().enumerate() {
                let (x, y) = (x + shift_x, y + shift_y);
                let (across, down) = (x / width % 2 == 1, y / width % 2 == 1);
                let on = match class {
                    0 => down,
                    1 => across,
                    2 => (x + y) / width % 2 == 1,
                    _ => across && down,
                };
                *pixel = if on { bright } else { dark } + random.uniform(-0.3, 0.3);
            }
        }
    }
}
