//! Tensors that borrow their numbers, and the two orders in which a tensor of images lies in memory.
//!
//! Inside, activations lie channels-last (n, h, w, c); the public doors take and give PyTorch's order
//! (n, c, h, w). For a matrix (h = w = 1) and for one channel the two are the same.

use crate::{Error, Shape};

/// A tensor in PyTorch's order (n, c, h, w) that borrows its numbers.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    shape: Shape,
    data: &'a [f32],
}

impl<'a> Tensor<'a> {
    /// A view of `data` as n x c x h x w.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] where the number of numbers is another (it is told as 1 x 1 x 1 x len).
    pub fn new(shape: Shape, data: &'a [f32]) -> Result<Self, Error> {
        if data.len() != shape.len() {
            let got = [1, 1, 1, u32::try_from(data.len()).unwrap_or(u32::MAX)];
            return Err(Error::ShapeMismatch { expected: shape.sizes(), got });
        }
        Ok(Tensor { shape, data })
    }
    /// The sizes.
    pub fn shape(&self) -> Shape {
        self.shape
    }
    /// The numbers, in the order n, c, h, w.
    pub fn data(&self) -> &'a [f32] {
        self.data
    }
    /// Writes the tensor channels-last.
    ///
    /// # Panics
    /// If `y` has another length.
    pub fn to_channels_last(&self, y: &mut [f32]) {
        permute(self.data, y, self.shape.n(), self.shape.c(), self.shape.h() * self.shape.w());
    }
}

/// Writes the channels-last tensor `x` of this shape in PyTorch's order to `y`.
///
/// # Panics
/// If a slice has another length than the shape.
pub fn from_channels_last(shape: Shape, x: &[f32], y: &mut [f32]) {
    permute(x, y, shape.n(), shape.h() * shape.w(), shape.c());
}

/// Per image, the matrix `rows` x `columns` transposed.
fn permute(x: &[f32], y: &mut [f32], n: usize, rows: usize, columns: usize) {
    assert_eq!(x.len(), n * rows * columns);
    assert_eq!(y.len(), x.len());
    if rows == 1 || columns == 1 {
        return y.copy_from_slice(x);
    }
    for (x, y) in x.chunks_exact(rows * columns).zip(y.chunks_exact_mut(rows * columns)) {
        for (i, row) in x.chunks_exact(columns).enumerate() {
            for (v, out) in row.iter().zip(y[i..].iter_mut().step_by(rows)) {
                *out = *v;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_inverse() {
        let shape = Shape::new(2, 3, 2, 2).expect("shape");
        let data: [f32; 24] = core::array::from_fn(|i| i as f32);
        let (mut last, mut back) = ([0.0; 24], [0.0; 24]);
        let tensor = Tensor::new(shape, &data).expect("tensor");
        tensor.to_channels_last(&mut last);
        // Image 0, pixel (0, 0): channels 0, 1, 2 lie 4 apart in PyTorch's order.
        assert_eq!(last[..6], [0.0, 4.0, 8.0, 1.0, 5.0, 9.0]);
        from_channels_last(shape, &last, &mut back);
        assert_eq!(back, data);
        assert!(Tensor::new(shape, &data[1..]).is_err());
    }
}
