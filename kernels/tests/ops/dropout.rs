use super::testing::*;
use nunatak_kernels::Cpu;
use nunatak_kernels::dropout::*;
use nunatak_kernels::reference::dropout as reference;

#[test]
fn both_passes_match_the_reference() {
    let mut random = Random::new(121);
    for (i, probability) in [0.0, 0.2, 0.5, 0.75, 0.999, 1.0].into_iter().enumerate() {
        for len in [0, 1, 7, 16, 17, 31, 32, 33, 100, 8191, 8192, 8225, 30_000] {
            let offset = (len + i) % 16;
            let (x, dy) = (Offset::copy(&random.special(len), offset), Offset::copy(&random.special(len), 15 - offset));
            let start = random.vector(len);
            let (seed, step) = (random.bits().into(), random.bits().into());
            let p = Dropout::new(probability, seed, step).expect("a probability");
            let (mut y, mut dx) = (zeros(len), zeros(len));
            reference::forward(probability, seed, step, &x, &mut y);
            reference::backward_input(probability, seed, step, &dy, &mut dx);
            for_each_cpu(|cpu| {
                let mut out = Offset::nan(len, 15 - offset);
                forward(cpu, &p, Some(&x), &mut out);
                assert_exact(&out, &y, "y");
                out.copy_from_slice(&x);
                forward(cpu, &p, None, &mut out);
                assert_exact(&out, &y, "y in place");
                let mut out = Offset::nan(len, offset);
                backward_input(cpu, &p, Some(&dy), &mut out, false);
                assert_exact(&out, &dx, "dx");
                out.copy_from_slice(&dy);
                backward_input(cpu, &p, None, &mut out, false);
                assert_exact(&out, &dx, "dx in place");
                out.copy_from_slice(&start);
                backward_input(cpu, &p, Some(&dy), &mut out, true);
                let sum: Vec<f64> = start.iter().zip(&dx).map(|(a, b)| f64::from(a + *b as f32)).collect();
                assert_exact(&out, &sum, "dx added");
            });
        }
    }
}

#[test]
fn as_many_are_dropped_as_should_be() {
    let len = 1 << 20;
    let ones = vec![1.0; len];
    let threads = nunatak_kernels::Threads::serial();
    let cpu = Cpu { level: nunatak_kernels::Level::detect(), threads: &threads };
    let mask = |probability, seed, step| {
        let mut y = vec![0.0; len];
        forward(&cpu, &Dropout::new(probability, seed, step).expect("a probability"), Some(&ones), &mut y);
        y
    };
    let zeros = |y: &[f32]| y.iter().filter(|v| **v == 0.0).count() as f64 / len as f64;
    for probability in [0.01, 0.2, 0.5, 0.9] {
        let y = mask(probability, 7, 3);
        // Within 5 standard deviations.
        let p = f64::from(probability);
        let tolerance = 5.0 * libm::sqrt(p * (1.0 - p) / len as f64);
        assert!((zeros(&y) - p).abs() < tolerance, "{} of {p}", zeros(&y));
        // Neighbours, and elements that share a word, know nothing of each other.
        for distance in [1, 2, 16, 32, 1000] {
            let both = y.iter().zip(&y[distance..]).filter(|(a, b)| **a == 0.0 && **b == 0.0).count() as f64 / len as f64;
            assert!((both - p * p).abs() < 5.0 * p / libm::sqrt(len as f64), "{both} at distance {distance} of {p}");
        }
    }
    // Nor do steps and seeds.
    let y = mask(0.5, 1, 1);
    for (seed, step) in [(1, 2), (2, 1), (1, 0), (0, 1), (u64::MAX, u64::MAX)] {
        let same = mask(0.5, seed, step).iter().zip(&y).filter(|(a, b)| a == b).count() as f64 / len as f64;
        assert!((same - 0.5).abs() < 0.003, "{same} agree of seed {seed}, step {step}");
    }
}

#[test]
fn what_is_no_probability_is_an_error() {
    for probability in [-0.1, 1.1, f32::NAN, f32::INFINITY] {
        let error = Dropout::new(probability, 0, 0).expect_err("no probability");
        assert_eq!(error.probability.to_bits(), probability.to_bits());
    }
    assert_eq!(
        std::format!("{}", ProbabilityError { probability: 1.5 }),
        "a dropout's probability must lie between 0 and 1, but it is 1.5"
    );
}

#[test]
#[should_panic(expected = "can't be added to")]
fn in_place_and_added_is_refused() {
    let p = Dropout::new(0.5, 0, 0).expect("a probability");
    backward_input(
        &Cpu { level: nunatak_kernels::Level::PORTABLE, threads: &nunatak_kernels::Threads::serial() },
        &p,
        None,
        &mut [1.0],
        true,
    );
}
