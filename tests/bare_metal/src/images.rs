//! Images of four classes, of three channels: lying stripes, standing stripes, slanting stripes, dots. Width,
//! phase and colours are drawn, and noise, so that no two are alike.

use nunatak_core::rng::Generator;

/// Draws an image of `size` lines and columns, of a class from 0 to 3.
pub fn draw(random: &mut Generator, size: usize, class: usize, image: &mut [f32]) {
    let below = |random: &mut Generator, n: u32| (random.random32() % n) as usize;
    let width = 3 + below(random, 3);
    let (shift_x, shift_y) = (below(random, 8), below(random, 8));
    for channel in image.chunks_exact_mut(size * size) {
        let (dark, bright) = (random.uniform(-1.0, -0.2), random.uniform(0.2, 1.0));
        for (y, line) in channel.chunks_exact_mut(size).enumerate() {
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
