//! A heat map laid over the pixels that a network saw.

use super::cam::HeatMap;

/// The share of the heat's colour in a pixel; the rest is the image's.
const OPACITY: f64 = 0.5;

/// The image, a square of this side with red, green and blue of each pixel, under its heat.
pub(super) fn overlay(pixels: &[u8], side: usize, map: &HeatMap) -> Vec<u8> {
    let mut out = Vec::with_capacity(pixels.len());
    for (pixel, heat) in pixels.chunks_exact(3).zip(map.enlarged(side)) {
        let mixed = pixel.iter().zip(turbo(heat)).map(|(&byte, colour)| (1.0 - OPACITY) * f64::from(byte) + OPACITY * 255.0 * colour);
        out.extend(mixed.map(|number| number.round() as u8));
    }
    out
}

/// The colour map "turbo" from 0 (dark blue) over green to 1 (dark red), each colour from 0 to 1: the polynomial of fifth
/// degree that its authors fitted to it (A. Mikhailov and R. Mitrović, "Turbo, An Improved Rainbow Colormap for
/// Visualization", 2019).
fn turbo(heat: f64) -> [f64; 3] {
    const RED: [f64; 6] = [0.135_721_38, 4.615_392_6, -42.660_322_58, 132.131_082_34, -152.942_393_96, 59.286_379_43];
    const GREEN: [f64; 6] = [0.091_402_61, 2.194_188_39, 4.842_966_58, -14.185_033_33, 4.277_298_57, 2.829_566_04];
    const BLUE: [f64; 6] = [0.106_673_3, 12.641_946_08, -60.582_048_36, 110.362_767_71, -89.903_109_12, 27.348_249_73];
    let x = heat.clamp(0.0, 1.0);
    [RED, GREEN, BLUE].map(|factors| factors.iter().rev().fold(0.0, |sum, factor| sum * x + factor).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of turbo's table of 256 colours, those with these numbers; the polynomial misses its dark end by an eighth.
    #[test]
    fn colours_are_turbos() {
        let table = [
            (0, [0.190, 0.072, 0.232], 0.13),
            (96, [0.197, 0.949, 0.595], 0.08),
            (128, [0.644, 0.990, 0.234], 0.08),
            (192, [0.984, 0.493, 0.128], 0.08),
            (255, [0.480, 0.016, 0.011], 0.1),
        ];
        for (at, due, room) in table {
            let colour = turbo(f64::from(at) / 255.0);
            assert!(colour.iter().zip(due).all(|(a, b)| (a - b).abs() < room), "{at}: {colour:?} {due:?}");
        }
        assert_eq!(turbo(f64::from(-1.0_f32)), turbo(0.0));
    }

    #[test]
    fn half_of_a_pixel_is_the_images() {
        let map = HeatMap { width: 1, numbers: vec![0.0], peak: 0.0 };
        let [black, white] = [[0; 12], [200; 12]].map(|pixels| overlay(&pixels, 2, &map));
        assert_eq!((black.len(), &black[..3]), (12, [17, 12, 14].as_slice()));
        assert!(black.iter().zip(&white).all(|(a, b)| a + 100 == *b));
    }
}
