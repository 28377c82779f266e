//! The textbook's way, with the crate `matrixmultiply`: the whole patch matrix, then one product.
//!
//! An oracle and a line in the benches. It allocates on every call and chooses its own instruction
//! set, so nothing takes it unless it is asked for.

use super::{BackwardInput, BackwardWeight, Conv2d, Forward};
use crate::bounds::product;
use crate::parallel::Cpu;
use std::vec;
use std::vec::Vec;

/// Rows: output pixels; columns: (c, i, j), as PyTorch orders a filter.
struct Patches {
    m: usize,
    columns: usize,
    numbers: Vec<f32>,
}

impl Patches {
    fn matrix(&self) -> Matrix<'_> {
        Matrix { numbers: &self.numbers, rows: self.m, columns: self.columns, transposed: false }
    }
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
    let mut numbers = vec![0.0; m * columns];
    for_each_place(conv, |to, from| numbers[to] = x[from]);
    Patches { m, columns, numbers }
}

fn unpacked(conv: &Conv2d, w: &[f32]) -> Vec<f32> {
    let mut oihw = vec![0.0; conv.weights().numbers()];
    conv.weights().unpack(w, &mut oihw);
    oihw
}

/// A factor of a product.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    numbers: &'a [f32],
    rows: usize,
    columns: usize,
    /// Whether the numbers are those of the transpose, row by row.
    transposed: bool,
}

impl Matrix<'_> {
    /// Numbers from row to row, from column to column.
    fn strides(&self) -> [usize; 2] {
        if self.transposed { [1, self.rows] } else { [self.columns, 1] }
    }
}

/// c = a·b + beta·c, c row by row.
///
/// # Panics
/// If a matrix has fewer numbers than its sizes say, or a has not as many columns as b has rows.
#[allow(unsafe_code)]
fn sgemm(a: Matrix, b: Matrix, beta: f32, c: &mut [f32]) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert!(a.numbers.len() >= product(&[m, k]) && b.numbers.len() >= product(&[k, n]) && c.len() >= product(&[m, n]));
    assert_eq!(b.rows, k, "columns of a, rows of b");
    let (a_strides, b_strides) = (a.strides(), b.strides());
    let s = |x: usize| x as isize;
    // SAFETY: each matrix was found to have as many numbers as its sizes say, and has the strides of a
    // row-major matrix or its transpose: every place lies inside.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.numbers.as_ptr(),
            s(a_strides[0]),
            s(a_strides[1]),
            b.numbers.as_ptr(),
            s(b_strides[0]),
            s(b_strides[1]),
            beta,
            c.as_mut_ptr(),
            s(n),
            1,
        );
    }
}

pub(crate) fn forward(conv: &Conv2d, cpu: &Cpu, call: Forward) {
    let Forward { x, w, y, add, finish, .. } = call;
    let (p, w) = (patches(conv, x), unpacked(conv, w));
    if !add {
        y.fill(0.0);
    }
    let filters = Matrix { numbers: &w, rows: p.columns, columns: conv.k(), transposed: true };
    sgemm(p.matrix(), filters, 1.0, y);
    finish.whole(cpu, conv, y);
}

pub(crate) fn backward_input(conv: &Conv2d, call: BackwardInput) {
    let BackwardInput { w, dy, dx, add, .. } = call;
    let (m, columns) = (conv.n() * conv.out_h() * conv.out_w(), conv.c() * conv.taps());
    let w = unpacked(conv, w);
    let mut matrix = vec![0.0; m * columns];
    let dy = Matrix { numbers: dy, rows: m, columns: conv.k(), transposed: false };
    let filters = Matrix { numbers: &w, rows: conv.k(), columns, transposed: false };
    sgemm(dy, filters, 0.0, &mut matrix);
    if !add {
        dx.fill(0.0);
    }
    for_each_place(conv, |from, to| dx[to] += matrix[from]);
}

pub(crate) fn backward_weight(conv: &Conv2d, call: BackwardWeight) {
    let BackwardWeight { x, dy, dw, add, .. } = call;
    let p = patches(conv, x);
    let mut oihw = vec![0.0; conv.k() * p.columns];
    let dy = Matrix { numbers: dy, rows: conv.k(), columns: p.m, transposed: true };
    sgemm(dy, p.matrix(), 0.0, &mut oihw);
    let layout = conv.weights();
    if !add {
        dw.fill(0.0);
    }
    oihw.iter().enumerate().for_each(|(i, v)| dw[layout.index_of(i)] += v);
}
