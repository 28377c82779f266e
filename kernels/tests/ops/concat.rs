use super::testing::*;
use nunatak_core::Error;
use nunatak_core::Shape;
use nunatak_kernels::concat::*;
use nunatak_kernels::reference::concat as reference;

fn shape(n: usize, c: usize, h: usize, w: usize) -> Shape {
    Shape::new(n, c, h, w).expect("a shape")
}

fn check(p: &Concat, random: &mut Random, offset: usize) {
    let (part, whole) = (p.part_len(), p.whole_len());
    let (x, before) = (Offset::copy(&random.special(part), offset), random.vector(whole));
    let (dy, start) = (Offset::copy(&random.special(whole), 15 - offset), random.vector(part));
    let mut y: Vec<f64> = before.iter().map(|v| f64::from(*v)).collect();
    let (mut dx, mut places) = (zeros(part), zeros(whole));
    reference::forward(p, &x, &mut y);
    reference::forward(p, &vec![1.0; part], &mut places);
    reference::backward_input(p, &dy, &mut dx);
    for_each_cpu(|cpu| {
        let mut out = Offset::copy(&before, 15 - offset);
        forward(cpu, p, &x, &mut out);
        assert_exact(&out, &y, "the whole");
        out.copy_from_slice(&before);
        forward_add(cpu, p, &x, &mut out);
        for ((out, before), (y, place)) in out.iter().zip(&before).zip(y.iter().zip(&places)) {
            let e = if *place == 1.0 { before + *y as f32 } else { *before };
            assert!(out.to_bits() == e.to_bits() || (out.is_nan() && e.is_nan()), "added: {out}, not {e}");
        }
        let mut out = Offset::nan(part, offset);
        backward_input(cpu, p, &dy, &mut out, false);
        assert_exact(&out, &dx, "dx");
        out.copy_from_slice(&start);
        backward_input(cpu, p, &dy, &mut out, true);
        for ((out, start), dx) in out.iter().zip(&start).zip(&dx) {
            let e = start + *dx as f32;
            assert!(out.to_bits() == e.to_bits() || (out.is_nan() && e.is_nan()), "dx added: {out}, not {e}");
        }
    });
}

#[test]
fn all_parts_match_the_reference() {
    let mut random = Random::new(51);
    for (i, (n, h, w)) in [(1, 1, 1), (2, 3, 5), (3, 40, 41)].into_iter().enumerate() {
        for (from, c, rest) in [(0, 3, 2), (2, 17, 0), (5, 64, 1), (0, 1, 0), (3, 1, 8), (1, 33, 15)] {
            let p = Concat::channels(shape(n, from + c + rest, h, w), from, shape(n, c, h, w)).expect("a part");
            check(&p, &mut random, (from + i) % 16);
        }
        for (from, count, rest) in [(0, 1, 2), (2, 3, 0), (1, 2, 1), (0, 2, 0)] {
            let p = Concat::images(shape(from + count + rest, 7, h, w), from, shape(count, 7, h, w)).expect("a part");
            check(&p, &mut random, (from + i) % 16);
        }
    }
}

#[test]
fn channels_lie_side_by_side_and_images_one_after_the_other() {
    // Two pixels of 2 channels, and of 1 channel.
    let whole = shape(1, 3, 1, 2);
    let first = Concat::channels(whole, 0, shape(1, 2, 1, 2)).expect("a part");
    let second = Concat::channels(whole, 2, shape(1, 1, 1, 2)).expect("a part");
    let images = Concat::images(shape(3, 2, 1, 1), 1, shape(2, 2, 1, 1)).expect("a part");
    for_each_cpu(|cpu| {
        let mut y = [0.0; 6];
        forward(cpu, &first, &[1.0, 2.0, 3.0, 4.0], &mut y);
        forward(cpu, &second, &[5.0, 6.0], &mut y);
        assert_eq!(y, [1.0, 2.0, 5.0, 3.0, 4.0, 6.0]);
        forward(cpu, &images, &[7.0, 8.0, 9.0, 10.0], &mut y);
        assert_eq!(y, [1.0, 2.0, 7.0, 8.0, 9.0, 10.0]);
    });
}

#[test]
fn parts_that_are_not_there_are_errors() {
    let whole = shape(2, 5, 3, 4);
    let error = |part: Shape| Err(Error::ShapeMismatch { expected: [2, 5, 3, 4], got: part.sizes() });
    assert_eq!(Concat::channels(whole, 3, shape(2, 3, 3, 4)), error(shape(2, 3, 3, 4)));
    assert_eq!(Concat::channels(whole, usize::MAX, shape(2, 1, 3, 4)), error(shape(2, 1, 3, 4)));
    assert_eq!(Concat::channels(whole, 0, shape(1, 1, 3, 4)), error(shape(1, 1, 3, 4)));
    assert_eq!(Concat::images(whole, 2, shape(1, 5, 3, 4)), error(shape(1, 5, 3, 4)));
    assert_eq!(Concat::images(whole, 0, shape(1, 4, 3, 4)), error(shape(1, 4, 3, 4)));
}

#[test]
fn the_gradient_is_the_slope() {
    let p = Concat::channels(shape(2, 5, 2, 1), 1, shape(2, 3, 2, 1)).expect("a part");
    let mut random = Random::new(52);
    let (x, dy) = (random.vector(12), random.vector(20));
    let mut dx = zeros(12);
    reference::backward_input(&p, &dy, &mut dx);
    let loss = |x: &[f32]| {
        let mut y = zeros(20);
        reference::forward(&p, x, &mut y);
        dot(&dy, &y)
    };
    assert_gradient(&x, &dx, loss, 1e-6);
}
