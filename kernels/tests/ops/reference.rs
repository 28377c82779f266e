//! The two references that have no other test in this folder's twins: convolution and linear.

use super::testing::*;
use nunatak_kernels::conv2d::Conv2d;
use nunatak_kernels::reference::{conv2d, linear};

#[test]
fn gradients_of_convolutions_are_slopes() {
    let shapes = [([1, 5, 4, 2], 3, 3, 1, 1), ([2, 5, 5, 2], 2, 3, 2, 1), ([1, 4, 4, 3], 2, 1, 2, 0), ([1, 7, 8, 1], 2, 7, 2, 3)];
    for (input, k, kernel, stride, pad) in shapes {
        let p = Conv2d::new(input, k, kernel, stride, pad).expect("a convolution");
        let [n, h, w, c] = input;
        let (x_len, w_len, y_len) = (n * h * w * c, k * c * kernel * kernel, n * p.out_h() * p.out_w() * k);
        let mut random = Random::new(15);
        let (x, weight, dy) = (random.vector(x_len), random.vector(w_len), random.vector(y_len));
        let loss = |x: &[f32], w: &[f32]| {
            let mut y = zeros(y_len);
            conv2d::forward(&p, x, w, &mut y);
            dot(&dy, &y)
        };
        let (mut dx, mut dw) = (zeros(x_len), zeros(w_len));
        conv2d::backward_input(&p, &dy, &weight, &mut dx);
        conv2d::backward_weight(&p, &x, &dy, &mut dw);
        assert_gradient(&x, &dx, |x| loss(x, &weight), 1e-6);
        assert_gradient(&weight, &dw, |w| loss(&x, w), 1e-6);
    }
}

#[test]
fn a_convolution_by_hand() {
    // One channel, 3x3, pad 1, over [[1, 2], [3, 4]]; the filter is 1..=9.
    let p = Conv2d::new([1, 2, 2, 1], 1, 3, 1, 1).expect("a convolution");
    let w: [f32; 9] = core::array::from_fn(|i| i as f32 + 1.0);
    let mut y = [0.0; 4];
    conv2d::forward(&p, &[1.0, 2.0, 3.0, 4.0], &w, &mut y);
    assert_eq!(y, [77.0, 67.0, 47.0, 37.0]);
}

#[test]
fn gradients_of_linear_are_slopes() {
    let (n, inputs, outputs) = (3, 5, 4);
    let mut random = Random::new(16);
    let (x, w) = (random.vector(n * inputs), random.vector(outputs * inputs));
    let (bias, dy) = (random.vector(outputs), random.vector(n * outputs));
    let loss = |x: &[f32], w: &[f32], bias: &[f32]| {
        let mut y = zeros(n * outputs);
        linear::forward(n, inputs, outputs, x, w, Some(bias), &mut y);
        dot(&dy, &y)
    };
    let (mut dx, mut dw, mut dbias) = (zeros(x.len()), zeros(w.len()), zeros(outputs));
    linear::backward_input(n, inputs, outputs, &dy, &w, &mut dx);
    linear::backward_weight(n, inputs, outputs, &x, &dy, &mut dw);
    linear::backward_bias(n, outputs, &dy, &mut dbias);
    assert_gradient(&x, &dx, |x| loss(x, &w, &bias), 1e-6);
    assert_gradient(&w, &dw, |w| loss(&x, w, &bias), 1e-6);
    assert_gradient(&bias, &dbias, |b| loss(&x, &w, b), 1e-6);
}
