use super::testing::*;
use nunatak_core::Error;
use nunatak_core::Shape;
use nunatak_kernels::Cpu;
use nunatak_kernels::broadcast::*;
use nunatak_kernels::reference::broadcast as reference;
use nunatak_kernels::{Level, Threads};
use proptest::prelude::*;

const OPS: [Binary; 4] = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div];

fn shape([n, c, h, w]: [usize; 4]) -> Shape {
    Shape::new(n, c, h, w).expect("a shape")
}

fn cut(all: [usize; 4], mask: usize) -> Shape {
    let mut sizes = all;
    for (axis, size) in sizes.iter_mut().enumerate() {
        if mask >> axis & 1 == 1 {
            *size = 1;
        }
    }
    shape(sizes)
}

/// Numbers away from zero, for quotients.
fn away(random: &mut Random, len: usize) -> Vec<f32> {
    random.vector(len).iter().map(|v| v + v.signum() * 0.5).collect()
}

fn check(op: Binary, a: Shape, b: Shape, offset: usize, random: &mut Random) {
    let p = Broadcast::new(a, b, a.broadcast(b).expect("shapes that agree")).expect("shapes that agree");
    let y_len = p.result().len();
    let (av, bv) = (Offset::copy(&away(random, a.len()), offset), Offset::copy(&away(random, b.len()), 15 - offset));
    let dy = Offset::copy(&random.vector(y_len), (offset + 5) % 16);
    let mut y = zeros(y_len);
    reference::forward(op, &p, &av, &bv, &mut y);
    for_each_cpu(|cpu| {
        let mut out = Offset::nan(y_len, offset);
        forward(cpu, op, &p, Some(&av), &bv, &mut out);
        assert_within(&out, &y, 2e-7, "y");
        if a == p.result() {
            let mut again = Offset::copy(&av, offset);
            forward(cpu, op, &p, None, &bv, &mut again);
            assert!(out.iter().zip(again.iter()).all(|(a, b)| a.to_bits() == b.to_bits()), "y in place");
        }
    });
    for operand in [Operand::A, Operand::B] {
        let len = p.operand(operand).len();
        let (mut dx, start) = (zeros(len), random.vector(len));
        reference::backward_input(op, &p, operand, &av, &bv, &dy, &mut dx);
        // To the size of what was added.
        let sizes: Vec<f32> = dy.iter().map(|v| v.abs() * 9.0).collect();
        let scale = sizes.iter().map(|v| f64::from(*v)).sum::<f64>() / len as f64;
        let (reads_a, reads_b) = op.backward_reads(operand);
        let given = (if reads_a { &av[..] } else { &[] }, if reads_b { &bv[..] } else { &[] });
        same_bits(
            |cpu| {
                let mut scratch = Offset::scratch(p.scratch_len(op, operand));
                let mut out = Offset::nan(len, 15 - offset);
                backward_input(
                    cpu,
                    op,
                    &p,
                    operand,
                    BackwardInput { a: given.0, b: given.1, dy: Some(&dy), dx: &mut out, add: false, scratch: &mut scratch },
                );
                if len == y_len {
                    let mut again = Offset::copy(&dy, offset);
                    backward_input(
                        cpu,
                        op,
                        &p,
                        operand,
                        BackwardInput { a: given.0, b: given.1, dy: None, dx: &mut again, add: false, scratch: &mut [] },
                    );
                    assert!(out.iter().zip(again.iter()).all(|(a, b)| a.to_bits() == b.to_bits()), "dx in place");
                }
                let mut sum = Offset::copy(&start, offset);
                backward_input(
                    cpu,
                    op,
                    &p,
                    operand,
                    BackwardInput { a: given.0, b: given.1, dy: Some(&dy), dx: &mut sum, add: true, scratch: &mut scratch },
                );
                [&out[..], &sum[..]].concat()
            },
            |_, all| {
                for (i, (v, sum)) in all[..len].iter().zip(&all[len..]).enumerate() {
                    let tolerance = 1e-6 * scale + 4e-7 * dx[i].abs();
                    assert!((f64::from(*v) - dx[i]).abs() <= tolerance, "{op:?} {operand:?} of {a} and {b}: at {i} {v}, not {}", dx[i]);
                    let e = dx[i] + f64::from(start[i]);
                    assert!(
                        (f64::from(*sum) - e).abs() <= tolerance + 2e-7,
                        "{op:?} {operand:?} of {a} and {b}, added: at {i} {sum}, not {e}"
                    );
                }
            },
        );
    }
}

#[test]
fn every_choice_of_axes_matches_the_reference() {
    let mut random = Random::new(31);
    for (i, all) in [[2, 5, 3, 4], [3, 17, 2, 2], [1, 33, 5, 1], [2, 1, 7, 9]].into_iter().enumerate() {
        for a in 0..16 {
            for b in 0..16 {
                check(OPS[(a + b + i) % 4], cut(all, a), cut(all, b), (a + 3 * b) % 16, &mut random);
            }
        }
    }
}

#[test]
fn long_sums_are_cut_into_panels() {
    let mut random = Random::new(32);
    let all = [
        ([3, 16, 40, 41], [1, 16, 1, 1]),
        ([2, 24, 60, 50], [2, 24, 1, 1]),
        ([2, 3, 100, 90], [1, 1, 1, 1]),
        ([1, 1, 300, 301], [1, 1, 1, 1]),
        ([200, 7, 3, 11], [1, 7, 3, 11]),
        ([2, 70, 33, 40], [2, 1, 33, 40]),
        ([130, 5, 9, 20], [1, 5, 9, 1]),
        ([3, 1500, 3, 2], [3, 1500, 1, 1]),
        ([70, 1500, 1, 1], [1, 1500, 1, 1]),
    ];
    for (i, (y, b)) in all.into_iter().enumerate() {
        for op in [Binary::Mul, Binary::Div] {
            check(op, shape(y), shape(b), i, &mut random);
            check(op, shape(b), shape(y), 15 - i, &mut random);
        }
        check(Binary::Sub, shape(y), shape(b), i, &mut random);
    }
}

#[test]
fn quotients_of_torch() {
    // torch: a/b with dy = 2.
    let (nan, infinity) = (f64::NAN, f64::INFINITY);
    let (a, b) = ([0.0, 1.0, 1.0, f32::INFINITY, f32::INFINITY], [0.0, 0.0, -0.0, f32::INFINITY, 1.0]);
    let one = shape([1, 5, 1, 1]);
    let p = Broadcast::new(one, one, one).expect("shapes that agree");
    for_each_cpu(|cpu| {
        let mut y = [0.0; 5];
        forward(cpu, Binary::Div, &p, Some(&a), &b, &mut y);
        assert_exact(&y, &[nan, infinity, -infinity, nan, infinity], "torch's y");
        backward_input(
            cpu,
            Binary::Div,
            &p,
            Operand::A,
            BackwardInput { a: &a, b: &b, dy: Some(&[2.0; 5]), dx: &mut y, add: false, scratch: &mut [] },
        );
        assert_exact(&y, &[infinity, infinity, -infinity, 0.0, 2.0], "torch's da");
        backward_input(
            cpu,
            Binary::Div,
            &p,
            Operand::B,
            BackwardInput { a: &a, b: &b, dy: Some(&[2.0; 5]), dx: &mut y, add: false, scratch: &mut [] },
        );
        assert_exact(&y, &[nan, -infinity, -infinity, nan, -infinity], "torch's db");
    });
}

#[test]
fn a_divisor_of_zero_meets_no_padding() {
    // Rows of 3 are padded to a vector: 0/0 there must not count.
    let (y, b) = (shape([1, 3, 2, 2]), shape([1, 1, 2, 2]));
    let p = Broadcast::new(y, b, y).expect("shapes that agree");
    for_each_cpu(|cpu| {
        let mut db = [0.0; 4];
        let mut scratch = Offset::scratch(p.scratch_len(Binary::Div, Operand::B));
        backward_input(
            cpu,
            Binary::Div,
            &p,
            Operand::B,
            BackwardInput { a: &[1.0; 12], b: &[0.0; 4], dy: Some(&[1.0; 12]), dx: &mut db, add: false, scratch: &mut scratch },
        );
        assert_eq!(db, [f32::NEG_INFINITY; 4]);
    });
}

#[test]
fn the_gradient_is_the_slope() {
    let mut random = Random::new(33);
    let (a, b) = (shape([2, 3, 2, 1]), shape([1, 3, 1, 4]));
    let p = Broadcast::new(a, b, shape([2, 3, 2, 4])).expect("shapes that agree");
    let (av, bv, dy) = (away(&mut random, a.len()), away(&mut random, b.len()), random.vector(48));
    for op in OPS {
        let (mut da, mut db) = (zeros(a.len()), zeros(b.len()));
        reference::backward_input(op, &p, Operand::A, &av, &bv, &dy, &mut da);
        reference::backward_input(op, &p, Operand::B, &av, &bv, &dy, &mut db);
        let loss = |a: &[f32], b: &[f32]| {
            let mut y = zeros(48);
            reference::forward(op, &p, a, b, &mut y);
            dot(&dy, &y)
        };
        assert_gradient(&av, &da, |a| loss(a, &bv), 1e-4);
        assert_gradient(&bv, &db, |b| loss(&av, b), 1e-3);
    }
}

#[test]
fn shapes_that_do_not_agree_are_errors() {
    let (a, b) = (shape([2, 3, 4, 5]), shape([1, 4, 1, 1]));
    assert_eq!(Broadcast::new(a, b, a), Err(Error::ShapeMismatch { expected: [2, 3, 4, 5], got: [1, 4, 1, 1] }));
    let one = shape([1, 3, 1, 1]);
    assert_eq!(Broadcast::new(one, one, a), Err(Error::ShapeMismatch { expected: [1, 3, 1, 1], got: [2, 3, 4, 5] }));
}

#[test]
#[should_panic(expected = "operand 1 of another size")]
fn wrong_lengths_are_refused() {
    let (a, b) = (shape([2, 3, 4, 5]), shape([1, 3, 1, 1]));
    let p = Broadcast::new(a, b, a).expect("shapes that agree");
    let cpu = Cpu { level: Level::PORTABLE, threads: &Threads::serial() };
    forward(&cpu, Binary::Mul, &p, Some(&[0.0; 120]), &[0.0; 4], &mut [0.0; 120]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_shape(n in 1_usize..4, c in 1_usize..40, h in 1_usize..7, w in 1_usize..7, a in 0_usize..16, b in 0_usize..16, op in 0_usize..4, seed: u64) {
        check(OPS[op], cut([n, c, h, w], a), cut([n, c, h, w], b), seed as usize % 16, &mut Random::new(seed));
    }
}
