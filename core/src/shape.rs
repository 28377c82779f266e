//! Shapes of tensors, with checked arithmetic. Every output size is computed here and nowhere else.

use crate::Error;
use core::fmt;

/// The sizes of a tensor: n images of c channels, h lines and w columns. A matrix is n x c x 1 x 1, a
/// number 1 x 1 x 1 x 1. The number of bytes as `f32` always fits half the address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shape {
    n: u32,
    c: u32,
    h: u32,
    w: u32,
}

impl Shape {
    /// One number.
    pub const SCALAR: Shape = Shape { n: 1, c: 1, h: 1, w: 1 };

    /// A shape of n x c x h x w.
    ///
    /// # Errors
    /// [`Error::ZeroDimension`], [`Error::TooLarge`].
    pub fn new(n: usize, c: usize, h: usize, w: usize) -> Result<Shape, Error> {
        for (size, dimension) in [(n, "n"), (c, "c"), (h, "h"), (w, "w")] {
            if size == 0 {
                return Err(Error::ZeroDimension { dimension });
            }
        }
        let fits = |len: usize| len <= isize::MAX as usize / 4;
        let len = n.checked_mul(c).and_then(|x| x.checked_mul(h)).and_then(|x| x.checked_mul(w));
        match (u32::try_from(n), u32::try_from(c), u32::try_from(h), u32::try_from(w), len) {
            (Ok(n), Ok(c), Ok(h), Ok(w), Some(len)) if fits(len) => Ok(Shape { n, c, h, w }),
            _ => Err(Error::TooLarge { shape: [n, c, h, w] }),
        }
    }

    /// Images.
    pub const fn n(&self) -> usize {
        self.n as usize
    }
    /// Channels.
    pub const fn c(&self) -> usize {
        self.c as usize
    }
    /// Lines.
    pub const fn h(&self) -> usize {
        self.h as usize
    }
    /// Columns.
    pub const fn w(&self) -> usize {
        self.w as usize
    }
    /// Numbers in the tensor.
    #[allow(clippy::len_without_is_empty)] // a shape is never empty
    pub const fn len(&self) -> usize {
        self.n() * self.c() * self.h() * self.w()
    }
    /// Pixels of all images: n·h·w, the rows of the channels-last matrix.
    pub const fn rows(&self) -> usize {
        self.n() * self.h() * self.w()
    }
    /// n, c, h, w.
    pub const fn sizes(&self) -> [u32; 4] {
        [self.n, self.c, self.h, self.w]
    }

    /// An error unless `other` is the same shape.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`], with `self` as the shape that was due.
    pub fn expect(&self, other: Shape) -> Result<(), Error> {
        if *self == other { Ok(()) } else { Err(Error::ShapeMismatch { expected: self.sizes(), got: other.sizes() }) }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}x{}x{}x{}", self.n, self.c, self.h, self.w)
    }
}

/// Positions of a window of `kernel` that moves by `stride` over `len` with `pad` zeros on both
/// sides: ⌊(len + 2·pad − kernel) / stride⌋ + 1.
///
/// # Errors
/// [`Error::ZeroWindow`], [`Error::WindowTooLarge`], [`Error::TooLarge`].
pub fn windows(len: usize, kernel: usize, stride: usize, pad: usize) -> Result<usize, Error> {
    if kernel == 0 || stride == 0 {
        return Err(Error::ZeroWindow);
    }
    let padded = pad.checked_mul(2).and_then(|p| p.checked_add(len)).ok_or(Error::TooLarge { shape: [1, 1, 1, len] })?;
    match padded.checked_sub(kernel) {
        Some(room) => Ok(room / stride + 1),
        None => Err(Error::WindowTooLarge { window: kernel, input: padded }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        assert_eq!(Shape::new(2, 3, 4, 5).map(|s| (s.len(), s.rows())), Ok((120, 40)));
        assert_eq!(Shape::new(1, 3, 0, 5), Err(Error::ZeroDimension { dimension: "h" }));
        let huge = usize::MAX / 2;
        assert_eq!(Shape::new(huge, 3, 2, 5), Err(Error::TooLarge { shape: [huge, 3, 2, 5] }));
        assert!(Shape::new(1 << 31, 1 << 31, 1, 1).is_err());
    }

    #[test]
    fn windows_of_resnet18() {
        assert_eq!(windows(224, 7, 2, 3), Ok(112));
        assert_eq!(windows(112, 3, 2, 1), Ok(56));
        assert_eq!(windows(7, 3, 1, 1), Ok(7));
        assert_eq!(windows(7, 1, 2, 0), Ok(4));
        assert_eq!(windows(1, 4, 1, 1), Err(Error::WindowTooLarge { window: 4, input: 3 }));
        assert_eq!(windows(5, 3, 0, 1), Err(Error::ZeroWindow));
    }
}
