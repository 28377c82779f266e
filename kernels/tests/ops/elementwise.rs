use super::testing::*;
use nunatak_kernels::Cpu;
use nunatak_kernels::elementwise::*;
use nunatak_kernels::reference::elementwise as reference;

type Two = (fn(&Cpu, &[f32], &[f32], &mut [f32]), fn(&[f32], &[f32], &mut [f64]));
type Assign = (fn(&Cpu, &[f32], &mut [f32]), fn(&[f32], &mut [f64]));

#[test]
fn all_match_the_reference() {
    let two: [Two; 4] = [(add, reference::add), (sub, reference::sub), (mul, reference::mul), (mul_add_assign, reference::mul_add_assign)];
    let assign: [Assign; 7] = [
        (add_assign, reference::add_assign),
        (sub_assign, reference::sub_assign),
        (mul_assign, reference::mul_assign),
        (|cpu, x, y| scale(cpu, x, 1.7, y), |x, y| reference::scale(x, 1.7, y)),
        (|cpu, x, y| scale(cpu, x, -0.3, y), |x, y| reference::scale(x, -0.3, y)),
        (|cpu, x, y| scaled_add_assign(cpu, 1.7, x, y), |x, y| reference::scaled_add_assign(1.7, x, y)),
        (
            |cpu, _, y| scale_assign(cpu, 1.7, y),
            |_, y| {
                for y in y {
                    *y *= f64::from(1.7_f32);
                }
            },
        ),
    ];
    let mut random = Random::new(3);
    for len in [0, 1, 3, 8, 10, 16, 17, 33, 64, 8192, 16500] {
        for offset in if len < 100 { 0..16 } else { 7..9 } {
            let a = Offset::copy(&random.vector(len), offset);
            let b = Offset::copy(&random.vector(len), 15 - offset);
            let start = random.vector(len);
            let wide: Vec<f64> = start.iter().map(|v| f64::from(*v)).collect();
            for_each_cpu(|cpu| {
                for (i, (f, reference)) in two.iter().enumerate() {
                    let (mut y, mut expected) = (Offset::copy(&start, offset), wide.clone());
                    f(cpu, &a, &b, &mut y);
                    reference(&a, &b, &mut expected);
                    assert_within(&y, &expected, 2e-7, &std::format!("function {i} of two"));
                }
                for (i, (f, reference)) in assign.iter().enumerate() {
                    let (mut y, mut expected) = (Offset::copy(&start, 15 - offset), wide.clone());
                    f(cpu, &a, &mut y);
                    reference(&a, &mut expected);
                    assert_within(&y, &expected, 2e-7, &std::format!("function {i} of one"));
                }
            });
        }
    }
}

#[test]
fn outputs_that_are_overwritten_are_not_read() {
    let mut random = Random::new(4);
    let (a, b) = (random.special(37), random.special(37));
    for_each_cpu(|cpu| {
        let mut y = Offset::nan(37, 1);
        let mut expected = zeros(37);
        add(cpu, &a, &b, &mut y);
        reference::add(&a, &b, &mut expected);
        assert_close(&y, &expected, "a + b");
        y.fill(f32::NAN);
        mul(cpu, &a, &b, &mut y);
        reference::mul(&a, &b, &mut expected);
        assert_close(&y, &expected, "a · b");
        y.fill(f32::NAN);
        scale(cpu, &a, -2.0, &mut y);
        reference::scale(&a, -2.0, &mut expected);
        assert_exact(&y, &expected, "−2·a");
    });
}

#[test]
#[should_panic(expected = "different lengths")]
fn different_lengths_are_refused() {
    add(&Cpu { level: nunatak_kernels::Level::PORTABLE, threads: &nunatak_kernels::Threads::serial() }, &[1.0], &[1.0, 2.0], &mut [0.0; 2]);
}
