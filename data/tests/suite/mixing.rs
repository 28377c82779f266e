//! Mixed batches, against the moments of the distribution, a plain computation in f64 and torchvision's numbers.

use nunatak_data::mixing::{Cut, Mix, Mixed, Mixing};
use nunatak_data::{Batch, Normalize};
use proptest::prelude::*;

/// The λ of `n` batches.
fn lambdas(alpha: f64, n: u64) -> Vec<f64> {
    let mixing = Mixing::new(Some(alpha), None).unwrap();
    (0..n).map(|batch| mixing.draw(5, 2, batch, 8).unwrap().lambda()).collect()
}

fn mean(numbers: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = numbers.len() as f64;
    numbers.sum::<f64>() / n
}

/// Of Beta(α, α): mean 1/2, variance 1 / (4 (2α + 1)), fourth moment 3 / (16 (2α + 1) (2α + 3)) about the mean. A mean of n
/// numbers is off by its deviation over √n, of which five are allowed.
#[test]
fn lambda_has_the_moments_of_beta() {
    const N: u64 = 40_000;
    for alpha in [0.05, 0.2, 0.7, 1.0, 1.5, 8.0, 300.0] {
        let drawn = lambdas(alpha, N);
        assert!(drawn.iter().all(|lambda| (0.0..=1.0).contains(lambda)), "{alpha}");
        let powers = |k: i32| mean(drawn.iter().map(|lambda| (lambda - 0.5).powi(k)));
        let odd = 2.0 * alpha + 1.0;
        let (second, fourth) = (1.0 / (4.0 * odd), 3.0 / (16.0 * odd * (odd + 2.0)));
        // The central moments of even order k follow from E[(2λ − 1)^k] = Π (k − 1) / (2α + k − 1).
        let eighth = fourth * 15.0 * 7.0 / (3.0 * 16.0 * (odd + 4.0) * (odd + 6.0));
        let due = [(1, 0.0, second), (2, second, fourth - second * second), (4, fourth, eighth - fourth * fourth)];
        for (k, expected, variance) in due {
            let allowed = 5.0 * (variance / N as f64).sqrt();
            assert!((powers(k) - expected).abs() <= allowed, "{alpha}, power {k}: {} instead of {expected} ± {allowed}", powers(k));
        }
    }
}

/// Kolmogorov's and Smirnov's test where the distribution function is short: a true sample fails once in a million times.
#[test]
fn lambda_has_the_distribution_of_beta() {
    type Function = fn(f64) -> f64;
    let known: [(f64, Function); 3] =
        [(0.5, |x| 2.0 / std::f64::consts::PI * x.sqrt().asin()), (1.0, |x| x), (2.0, |x| 3.0 * x * x - 2.0 * x * x * x)];
    for (alpha, function) in known {
        let mut drawn = lambdas(alpha, 20_000);
        drawn.sort_by(f64::total_cmp);
        let n = drawn.len() as f64;
        let off = drawn.iter().enumerate().map(|(i, x)| {
            let due = function(*x);
            (due - i as f64 / n).abs().max((due - (i + 1) as f64 / n).abs())
        });
        let worst = off.fold(0.0, f64::max);
        assert!(worst * n.sqrt() < 2.7, "{alpha}: {worst}");
    }
}

/// However small or large α is, λ is a number from 0 to 1.
#[test]
fn any_alpha_gives_a_lambda() {
    for alpha in [1e-45, 1e-30, 1e-3, 1e6, 1e20, 3e38, 1e300] {
        let drawn = lambdas(alpha, 200);
        assert!(drawn.iter().all(|lambda| (0.0..=1.0).contains(lambda)), "{alpha}");
        match alpha < 1.0 {
            true => assert!(drawn.contains(&0.0) && drawn.contains(&1.0), "{alpha}"),
            false => assert!(drawn.iter().all(|lambda| (lambda - 0.5).abs() < 1e-2), "{alpha}"),
        }
    }
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = Mixing::new(None, Some(bad)).unwrap_err().to_string();
        assert!(error.contains("CutMix") && error.contains("finite number above 0"), "{error}");
        assert!(Mixing::new(Some(bad), None).is_err());
    }
}

#[test]
fn what_is_drawn_depends_on_seed_epoch_and_batch_alone() {
    let both = Mixing::new(Some(0.2), Some(1.0)).unwrap();
    let of = |seed, epoch, batch| both.draw(seed, epoch, batch, 32).unwrap();
    assert_eq!(of(1, 2, 3), of(1, 2, 3));
    for other in [of(2, 2, 3), of(1, 3, 3), of(1, 2, 4), of(3, 2, 1)] {
        assert_ne!(of(1, 2, 3), other);
    }
    assert_eq!(Mixing::default().draw(1, 2, 3, 32), None);
    assert!(!Mixing::default().is_on() && both.is_on());
}

/// Each of the two has half of the batches.
#[test]
fn either_is_chosen_with_even_odds() {
    let both = Mixing::new(Some(0.2), Some(1.0)).unwrap();
    let cuts = (0..10_000).filter(|batch| matches!(both.draw(0, 0, *batch, 32), Some(Mix::Cut(_)))).count();
    assert!((cuts as i64 - 5000).abs() < 250, "{cuts}");
    for (mixing, is_cut) in [(Mixing::new(Some(0.2), None), false), (Mixing::new(None, Some(0.2)), true)] {
        let mixing = mixing.unwrap();
        assert!((0..100).all(|batch| matches!(mixing.draw(0, 0, batch, 32), Some(Mix::Cut(_))) == is_cut));
    }
}

/// torchvision 0.29.2: `CutMix.make_params` with these λ, r_x and r_y for images of W x H: its box, and its λ afterwards.
#[test]
fn boxes_are_those_of_torchvision() {
    type Known = (f64, [usize; 2], [usize; 2], [usize; 4], f64);
    let known: [Known; 9] = [
        (0.0, [0, 0], [224, 224], [0, 0, 112, 112], 0.75),
        (0.25, [112, 112], [224, 224], [16, 16, 208, 208], 0.265_306_122_448_979_55),
        (0.5, [223, 3], [224, 160], [144, 0, 224, 59], 0.868_303_571_428_571_4),
        (0.9, [10, 200], [224, 224], [0, 165, 45, 224], 0.947_086_256_377_551_1),
        (0.999, [5, 5], [32, 32], [5, 5, 5, 5], 1.0),
        (1.0, [7, 9], [32, 32], [7, 9, 7, 9], 1.0),
        (0.3, [31, 0], [32, 32], [18, 0, 32, 13], 0.822_265_625),
        (0.64, [16, 16], [32, 33], [7, 7, 25, 25], 0.693_181_818_181_818_1),
        (0.07, [1, 30], [31, 33], [0, 15, 15, 33], 0.736_070_381_231_671_6),
    ];
    for (lambda, at, size, [x1, y1, x2, y2], left) in known {
        let cut = Cut::new(lambda, at, size);
        assert_eq!((cut.x(), cut.y(), cut.left()), (x1..x2, y1..y2, left), "λ {lambda} at {at:?} of {size:?}");
    }
}

/// A batch of `n` squares.
fn batch(n: usize, side: usize, classes: usize) -> Batch {
    let pixels = (0..n * side * side * 3).map(|i| ((7 * i * i + 13 * i + 5) % 256) as u8).collect();
    Batch { pixels, labels: (0..n).map(|i| ((i * i + 2) % classes) as i64).collect(), ..Batch::default() }
}

/// torchvision 0.29.2: `MixUp` with λ = 0.3 of the batch of [`batch`] as ToTensor and Normalize make it, to the bit.
#[test]
fn mixed_numbers_are_those_of_torchvision() {
    let (batch, mix) = (batch(2, 2, 3), Mix::Up { lambda: 0.3 });
    let Mixed::Numbers(numbers) = mix.images(&batch, 0..2) else { panic!("sums are no bytes") };
    let due: [u32; 24] = [
        3199551132, 1067842720, 1060678752, 3208895031, 3212178933, 1069230304, 1070463922, 3204777220, 3214643248, 1073145302, 1069285445,
        1068876067, 3215462838, 1053360358, 3187872870, 1044813728, 3215562574, 1066645579, 1068349148, 3208066869, 3212238878, 1074730181,
        1027513504, 1072385028,
    ];
    assert_eq!(numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>(), due);
    assert_eq!(mix.targets(&[2, 0], 3), [0.7, 0.0, 0.3, 0.3, 0.0, 0.7]);
    assert_eq!(mix.targets(&[1, 1], 3), [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
}

/// A pixel of a batch, normalised, in double.
fn pixel(batch: &Batch, side: usize, [i, c, y, x]: [usize; 4]) -> f64 {
    let byte = f64::from(batch.pixels[((i * side + y) * side + x) * 3 + c]);
    let Normalize { mean, std } = batch.normalize;
    (byte / 255.0 - f64::from(mean[c])) / f64::from(std[c])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every number is λ of the own image and 1 − λ of the one before; pieces of a batch are what the whole one is.
    #[test]
    fn images_are_blended(n in 1_usize..6, side in 1_usize..7, lambda in 0.0..=1.0_f64, cut in 0_usize..6) {
        let (batch, mix) = (batch(n, side, 3), Mix::Up { lambda });
        let Mixed::Numbers(numbers) = mix.images(&batch, 0..n) else { panic!("sums are no bytes") };
        let image = 3 * side * side;
        prop_assert_eq!(numbers.len(), n * image);
        for (at, got) in numbers.iter().enumerate() {
            let (i, c, y, x) = (at / image, at % image / (side * side), at % (side * side) / side, at % side);
            let due = lambda * pixel(&batch, side, [i, c, y, x]) + (1.0 - lambda) * pixel(&batch, side, [(i + n - 1) % n, c, y, x]);
            prop_assert!((f64::from(*got) - due).abs() < 2e-6, "image {} channel {} at {} {}: {} instead of {}", i, c, x, y, got, due);
        }
        let cut = cut.min(n);
        let pieces = [mix.images(&batch, 0..cut), mix.images(&batch, cut..n)];
        let pieces: Vec<f32> = pieces.into_iter().flat_map(|piece| if let Mixed::Numbers(numbers) = piece { numbers } else { vec![] }).collect();
        prop_assert_eq!(pieces, numbers);
    }

    /// Within the box the pixels of the image before, else the own ones, and the labels follow the pixels that were
    /// counted.
    #[test]
    fn boxes_are_pasted_and_labels_follow_their_area(
        n in 1_usize..6, side in 1_usize..9, lambda in 0.0..=1.0_f64, x in 0_usize..9, y in 0_usize..9, from in 0_usize..6,
    ) {
        let batch = batch(n, side, 4);
        let mix = Mix::Cut(Cut::new(lambda, [x.min(side - 1), y.min(side - 1)], [side, side]));
        let Mix::Cut(cut) = &mix else { unreachable!() };
        let from = from.min(n);
        let Mixed::Bytes(bytes) = mix.images(&batch, from..n) else { panic!("pasted pixels are bytes") };
        let mut pasted = 0;
        for (at, got) in bytes.iter().enumerate() {
            let (i, row, column) = (from + at / (3 * side * side), at / (3 * side) % side, at / 3 % side);
            let inside = cut.x().contains(&column) && cut.y().contains(&row);
            let image = if inside { (i + n - 1) % n } else { i };
            prop_assert_eq!(*got, batch.pixels[image * 3 * side * side + at % (3 * side * side)]);
            pasted += usize::from(inside);
        }
        if from < n {
            let part = pasted as f64 / bytes.len() as f64;
            prop_assert!((mix.lambda() - (1.0 - part)).abs() < 1e-12);
        }
        let targets = mix.targets(&batch.labels, 4);
        for (i, row) in targets.chunks(4).enumerate() {
            prop_assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            let (own, other) = (batch.labels[i], batch.labels[(i + n - 1) % n]);
            for (class, got) in row.iter().enumerate() {
                let is = |label: i64| if label == class as i64 { 1.0 } else { 0.0 };
                let due = mix.lambda() * is(own) + (1.0 - mix.lambda()) * is(other);
                prop_assert!((f64::from(*got) - due).abs() < 1e-6);
            }
        }
    }
}

/// A batch that lost all images to the loader.
#[test]
fn an_empty_batch_is_mixed_to_nothing() {
    for mix in [Mix::Up { lambda: 0.5 }, Mix::Cut(Cut::new(0.5, [0, 0], [4, 4]))] {
        assert!(mix.targets(&[], 3).is_empty());
        assert!(matches!(mix.images(&Batch::default(), 0..0), Mixed::Numbers(n) if n.is_empty()) || matches!(mix, Mix::Cut(_)));
    }
}
