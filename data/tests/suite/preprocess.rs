//! PIL's resampling and torchvision's presets, to the byte and to the bit.

use crate::support::{fnv, fnv_f32, int, noise, numbers, planes};
use nunatak_core::rng::Generator;
use nunatak_data::resize::{Axis, Source, resize};
use nunatak_data::{Evaluation, Normalize, Preset, Rgb8, Training};
use proptest::prelude::*;

fn whole(picture: &Rgb8, width: usize, height: usize) -> Vec<u8> {
    let source = Source::new(&picture.pixels, picture.width, picture.height);
    resize(source, Axis::all(width), Axis::all(height))
}

#[test]
fn resize_is_pils_to_the_byte() {
    for line in numbers("resize") {
        let [w, h, to_w, to_h] = [0, 1, 2, 3].map(|i| int(&line[i]));
        let got = whole(&noise(w, h), to_w, to_h);
        assert_eq!(got.len(), to_w * to_h * 3);
        assert_eq!(fnv(got).to_string(), line[4], "{line:?}");
    }
}

/// SEMANTICS.md, section 9.
#[test]
fn the_golden_image() {
    let mut pixels = vec![0; 3 * 224 * 224];
    Evaluation::new(224).apply(&noise(341, 300), &mut pixels);
    let out = planes(&pixels, Normalize::IMAGENET);
    for (got, want) in out.iter().zip([1.683_791_4, 1.735_165_5, 1.786_539_9]) {
        assert!((*got - want).abs() < 2e-7, "{got} {want}");
    }
    let sum: f64 = out.iter().map(|&v| f64::from(v)).sum();
    assert!((sum - 27_520.402_3).abs() < 1e-3, "{sum}");
}

#[test]
fn evaluation_is_torchvisions_to_the_bit() {
    for line in numbers("evaluate") {
        let [w, h, resize, crop] = [0, 1, 2, 3].map(|i| int(&line[i]));
        let preset = Evaluation { resize, crop, normalize: Normalize::IMAGENET };
        let mut pixels = vec![0xAA; 3 * crop * crop];
        preset.apply(&noise(w, h), &mut pixels);
        let out = planes(&pixels, preset.normalize);
        let seen = [out[0], out[out.len() / 2], out[out.len() - 1]];
        let want = [5, 6, 7].map(|i| line[i].parse::<f32>().unwrap());
        assert_eq!(seen, want, "{line:?}");
        assert_eq!(fnv_f32(&out).to_string(), line[4], "{line:?}");
    }
}

#[test]
fn random_cuts_are_torchvisions() {
    for line in numbers("crop") {
        let [seed, w, h] = [0, 1, 2].map(|i| int(&line[i]));
        let mut g = Generator::manual_seed(seed as u64);
        for (i, want) in line[3..].chunks_exact(5).enumerate() {
            let cut = Training::new(224).cut(w, h, &mut g);
            let got = [cut.top, cut.left, cut.height, cut.width, cut.flip.into()];
            let want: Vec<usize> = want.iter().map(|v| int(v)).collect();
            assert_eq!(got[..], want, "cut {i} of {line:?}");
        }
    }
}

#[test]
fn training_is_torchvisions_to_the_bit() {
    for line in numbers("train") {
        let [seed, w, h, size] = [0, 1, 2, 3].map(|i| int(&line[i]));
        let mut g = Generator::manual_seed(seed as u64);
        let mut pixels = vec![0xAA; 3 * size * size];
        let preset = Preset::Training(Training::new(size));
        preset.apply(&noise(w, h), &mut g, &mut pixels);
        assert_eq!(fnv_f32(&planes(&pixels, preset.normalize())).to_string(), line[4], "{line:?}");
    }
}

#[test]
fn the_default_resize_keeps_224_to_256() {
    let resized = [224, 32, 64, 96, 299].map(|s| Evaluation::new(s).resize);
    assert_eq!(resized, [256, 36, 73, 109, 341]);
}

/// The shorter side becomes 256, the longer would be 15 million: only the crop is made.
#[test]
fn a_thread_of_pixels_costs_no_more_than_its_crop() {
    for (w, h) in [(1, 60_000), (60_000, 1)] {
        let picture = Rgb8 { width: w, height: h, pixels: vec![255; w * h * 3] };
        let mut out = vec![0xAA; 3 * 224 * 224];
        Evaluation::new(224).apply(&picture, &mut out);
        assert!(out.iter().all(|v| *v == 255), "white stays white");
        out.fill(0xAA);
        Training::new(224).apply(&picture, &mut Generator::manual_seed(0), &mut out);
        assert!(out.iter().all(|v| *v == 255), "white stays white");
    }
}

proptest! {
    #[test]
    fn a_window_is_a_part_of_the_whole(
        (w, h) in (1_usize..60, 1_usize..60),
        (to_w, to_h) in (1_usize..70, 1_usize..70),
        cut in (0.0..1.0, 0.0..1.0, 0.0..1.0, 0.0..1.0_f64),
    ) {
        let picture = noise(w, h);
        let all = whole(&picture, to_w, to_h);
        let window = |full: usize, from: f64, len: f64| {
            let first = (from * full as f64) as usize;
            Axis { full, first, len: 1 + (len * (full - first - 1) as f64) as usize }
        };
        let (x, y) = (window(to_w, cut.0, cut.1), window(to_h, cut.2, cut.3));
        let part = resize(Source::new(&picture.pixels, w, h), x, y);
        for row in 0..y.len {
            let from = ((y.first + row) * to_w + x.first) * 3;
            prop_assert_eq!(&part[row * x.len * 3..][..x.len * 3], &all[from..][..x.len * 3]);
        }
    }

    #[test]
    fn one_colour_stays_that_colour(
        (w, h) in (1_usize..300, 1_usize..40),
        (to_w, to_h) in (1_usize..50, 1_usize..300),
        colour in any::<[u8; 3]>(),
    ) {
        let pixels = colour.repeat(w * h);
        let picture = Rgb8 { width: w, height: h, pixels };
        prop_assert_eq!(whole(&picture, to_w, to_h), colour.repeat(to_w * to_h));
    }

    #[test]
    fn a_crop_is_a_copy(
        (w, h) in (1_usize..30, 1_usize..30),
        cut in (0.0..1.0, 0.0..1.0, 0.0..1.0, 0.0..1.0_f64),
    ) {
        let picture = noise(w, h);
        let range = |full: usize, from: f64, len: f64| {
            let first = (from * full as f64) as usize;
            (first, 1 + (len * (full - first - 1) as f64) as usize)
        };
        let ((left, cw), (top, ch)) = (range(w, cut.0, cut.1), range(h, cut.2, cut.3));
        let copy: Vec<u8> = (top..top + ch)
            .flat_map(|y| picture.pixels[(y * w + left) * 3..][..cw * 3].to_vec())
            .collect();
        let view = Source::new(&picture.pixels, w, h).crop(left, top, cw, ch);
        let got = resize(view, Axis::all(7), Axis::all(5));
        prop_assert_eq!(got, resize(Source::new(&copy, cw, ch), Axis::all(7), Axis::all(5)));
    }

    #[test]
    fn a_random_cut_lies_in_the_picture(seed: u32, w in 1_usize..3000, h in 1_usize..3000) {
        let cut = Training::new(32).cut(w, h, &mut Generator::manual_seed(seed.into()));
        prop_assert!(cut.width > 0 && cut.left + cut.width <= w);
        prop_assert!(cut.height > 0 && cut.top + cut.height <= h);
    }
}
