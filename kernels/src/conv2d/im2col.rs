//! The textbook's way, with the crate `matrixmultiply`: the whole patch matrix, then one product.
//!
//! An oracle and a line in the benches. It allocates on every call and chooses its own instruction
//! set, so nothing takes it unless it is asked for.

use super::Conv2d;
use crate::bounds::product;
use crate::parallel::Cpu;
use std::vec;
use std::vec::Vec;

/// Rows: output pixels; columns: (c, i, j), as PyTorch orders a filter.
struct Patches {
    m: usize,
    columns: usize,
    matrix: Vec<f32>,
}

/// Calls with (place in the patch matrix, place in x) for every number inside the image.
fn for_each_place(conv: &Conv2d, mut each: impl FnMut(usize, usize)) {
    let (taps, [_, wide]) = (conv.taps(), conv.kernel());
    let (stride, pad, dilation) = (conv.stride(), conv.pad(), conv.dilation());
    let mut row = 0;
    for image in 0..conv.n() {
        for oy in 0..conv.out_h() {
            for ox in 0..conv.out_w() {
                for tap in 0..taps {
                    let y = (oy * stride[0] + tap / wide * dilation[0]).wrapping_sub(pad[0]);
                    let x = (ox * stride[1] + tap % wide * dilation[1]).wrapping_sub(pad[1]);
                    if y < conv.h() && x < conv.w() {
                        let pixel = ((image * conv.h() + y) * conv.w() + x) * conv.c();
                        (0..conv.c()).for_each(|c| each(row + c * taps + tap, pixel + c));
                    }
                }
                row += conv.c() * taps;
            }
        }
    }
}

fn patches(conv: &Conv2d, x: &[f32]) -> Patches {
    let (m, columns) = (conv.n() * conv.out_h() * conv.out_w(), conv.c() * conv.taps());
    let mut matrix = vec![0.0; m * columns];
    for_each_place(conv, |to, from| matrix[to] = x[from]);
    Patches { m, columns, matrix }
}

fn unpacked(conv: &Conv2d, w: &[f32]) -> Vec<f32> {
    let mut oihw = vec![0.0; conv.weights().numbers()];
    conv.weights().unpack(w, &mut oihw);
    oihw
}

/// c = a·b + beta·c for row-major matrices or transposed ones: `[row stride, column stride]`.
///
/// # Panics
/// If a matrix has fewer numbers than its sizes say, or other strides.
#[allow(unsafe_code, clippy::too_many_arguments)]
fn sgemm(m: usize, k: usize, n: usize, a: &[f32], a_strides: [usize; 2], b: &[f32], b_strides: [usize; 2], beta: f32, c: &mut [f32]) {
    assert!(a.len() >= product(&[m, k]) && b.len() >= product(&[k, n]) && c.len() >= product(&[m, n]));
    assert!(a_strides == [k, 1] || a_strides == [1, m], "strides of a");
    assert!(b_strides == [n, 1] || b_strides == [1, k], "strides of b");
    let s = |x: usize| x as isize;
    // SAFETY: each matrix was found to have as many numbers as its sizes say, and the strides of a
    // row-major matrix or its transpose: every place lies inside.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.as_ptr(),
            s(a_strides[0]),
            s(a_strides[1]),
            b.as_ptr(),
            s(b_strides[0]),
            s(b_strides[1]),
            beta,
            c.as_mut_ptr(),
            s(n),
            1,
        );
    }
}

pub(crate) fn forward(conv: &Conv2d, _: &Cpu, x: &[f32], w: &[f32], y: &mut [f32], add: bool) {
    let (p, w) = (patches(conv, x), unpacked(conv, w));
    if !add {
        y.fill(0.0);
    }
    sgemm(p.m, p.columns, conv.k(), &p.matrix, [p.columns, 1], &w, [1, p.columns], 1.0, y);
}

pub(crate) fn backward_input(conv: &Conv2d, _: &Cpu, w: &[f32], dy: &[f32], dx: &mut [f32], add: bool) {
    let (m, columns) = (conv.n() * conv.out_h() * conv.out_w(), conv.c() * conv.taps());
    let w = unpacked(conv, w);
    let mut matrix = vec![0.0; m * columns];
    sgemm(m, conv.k(), columns, dy, [conv.k(), 1], &w, [columns, 1], 0.0, &mut matrix);
    if !add {
        dx.fill(0.0);
    }
    for_each_place(conv, |from, to| dx[to] += matrix[from]);
}

pub(crate) fn backward_weight(conv: &Conv2d, _: &Cpu, x: &[f32], dy: &[f32], dw: &mut [f32], add: bool) {
    let p = patches(conv, x);
    let mut oihw = vec![0.0; conv.k() * p.columns];
    sgemm(conv.k(), p.m, p.columns, dy, [1, conv.k()], &p.matrix, [p.columns, 1], 0.0, &mut oihw);
    let layout = conv.weights();
    if !add {
        dw.fill(0.0);
    }
    oihw.iter().enumerate().for_each(|(i, v)| dw[layout.index_of(i)] += v);
}
