use super::testing::*;
use nunatak_core::Shape;
use nunatak_kernels::bias::*;
use nunatak_kernels::reference;

#[test]
fn both_passes_match_the_reference() {
    let mut random = Random::new(41);
    for (i, c) in CHANNELS_OF_TESTS.into_iter().enumerate() {
        for (n, h, w) in [(1, 1, 1), (2, 3, 5), (1, 31, 33), (5, 40, 41), (300, 1, 1)] {
            let p = Bias::new(Shape::new(n, c, h, w).expect("a shape"));
            let len = p.shape().len();
            let (x, dy) = (Offset::copy(&random.special(len), i), Offset::copy(&random.vector(len), 15 - i));
            let (b, start) = (Offset::copy(&random.vector(c), i + h % 9), random.vector(c));
            let (mut y, mut db) = (zeros(len), zeros(c));
            reference::bias::forward(&x, &b, &mut y);
            reference::bias::backward_bias(&dy, &mut db);
            let rows = (n * h * w) as f64;
            same_bits(
                |cpu| {
                    let mut out = Offset::nan(len, 15 - i);
                    forward(cpu, &p, Some(&x), &b, &mut out);
                    assert_within(&out, &y, 1e-7, "y");
                    let mut again = Offset::copy(&x, i);
                    forward(cpu, &p, None, &b, &mut again);
                    assert_within(&again, &y, 1e-7, "y in place");
                    let mut scratch = Offset::scratch(p.scratch_len());
                    let mut sums = Offset::nan(c, i);
                    backward_bias(cpu, &p, &dy, &mut sums, false, &mut scratch);
                    let mut added = start.clone();
                    backward_bias(cpu, &p, &dy, &mut added, true, &mut scratch);
                    [&sums[..], &added].concat()
                },
                |_, all| {
                    for (c, ((v, e), start)) in all.iter().zip(&db).zip(&start).enumerate() {
                        let tolerance = 1e-6 * rows.sqrt() + 1e-7;
                        assert!((f64::from(*v) - e).abs() <= tolerance, "{n} x {h} x {w}: {v}, not {e}");
                        let added = f64::from(all[db.len() + c]);
                        assert!((added - e - f64::from(*start)).abs() <= tolerance, "{n} x {h} x {w} added: {added}");
                    }
                },
            );
        }
    }
}

const CHANNELS_OF_TESTS: [usize; 8] = super::testing::CHANNELS;

#[test]
fn the_gradient_is_the_slope() {
    let mut random = Random::new(42);
    let (x, b, dy) = (random.vector(60), random.vector(5), random.vector(60));
    let mut db = zeros(5);
    reference::bias::backward_bias(&dy, &mut db);
    let loss = |b: &[f32]| {
        let mut y = zeros(60);
        reference::bias::forward(&x, b, &mut y);
        dot(&dy, &y)
    };
    assert_gradient(&b, &db, loss, 1e-6);
}
