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
    /// Fills what holds no shape yet.
    pub(crate) const UNUSED: Shape = Shape { n: 0, c: 0, h: 0, w: 0 };

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

    /// The shape of an operation on tensors of these two shapes, where a size of 1 is repeated.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] where a size differs and neither is 1; [`Error::TooLarge`].
    pub fn broadcast(self, other: Shape) -> Result<Shape, Error> {
        let mut sizes = [0; 4];
        for (size, (a, b)) in sizes.iter_mut().zip(self.sizes().into_iter().zip(other.sizes())) {
            if a != b && a != 1 && b != 1 {
                return Err(Error::ShapeMismatch { expected: self.sizes(), got: other.sizes() });
            }
            *size = a.max(b) as usize;
        }
        let [n, c, h, w] = sizes;
        Shape::new(n, c, h, w)
    }

    /// The shape of sums over axes (n, c, h, w): 1 in those that are summed.
    #[must_use]
    pub fn reduced(self, summed: [bool; 4]) -> Shape {
        let size = |size: u32, summed: bool| if summed { 1 } else { size };
        let Shape { n, c, h, w } = self;
        Shape { n: size(n, summed[0]), c: size(c, summed[1]), h: size(h, summed[2]), w: size(w, summed[3]) }
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
pub const fn windows(len: usize, kernel: usize, stride: usize, pad: usize) -> Result<usize, Error> {
    if kernel == 0 || stride == 0 {
        return Err(Error::ZeroWindow);
    }
    let too_large = Error::TooLarge { shape: [1, 1, 1, len] };
    let Some(zeros) = pad.checked_mul(2) else { return Err(too_large) };
    let Some(padded) = zeros.checked_add(len) else { return Err(too_large) };
    let Some(room) = padded.checked_sub(kernel) else {
        return Err(Error::WindowTooLarge { window: kernel, input: padded });
    };
    match (room / stride).checked_add(1) {
        Some(windows) => Ok(windows),
        None => Err(too_large),
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
    fn sizes_of_one_are_repeated() {
        let shape = |n, c, h, w| Shape::new(n, c, h, w).expect("a shape");
        assert_eq!(shape(2, 3, 4, 5).broadcast(shape(1, 3, 1, 1)), Ok(shape(2, 3, 4, 5)));
        assert_eq!(shape(2, 1, 4, 1).broadcast(shape(1, 3, 1, 5)), Ok(shape(2, 3, 4, 5)));
        let error = Error::ShapeMismatch { expected: [2, 3, 4, 5], got: [2, 3, 4, 6] };
        assert_eq!(shape(2, 3, 4, 5).broadcast(shape(2, 3, 4, 6)), Err(error));
        assert_eq!(shape(2, 3, 4, 5).reduced([true, false, false, true]), shape(1, 3, 4, 1));
        let huge = 1 << (usize::BITS / 2 - 2);
        assert!(shape(huge, 1, 1, 1).broadcast(shape(1, huge, huge, 1)).is_err());
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

    #[test]
    fn windows_that_do_not_fit_are_errors() {
        let (most, too_large) = (usize::MAX, |len| Err(Error::TooLarge { shape: [1, 1, 1, len] }));
        assert_eq!(windows(5, 3, 1, most / 2 + 1), too_large(5));
        assert_eq!(windows(5, 3, 1, most), too_large(5));
        assert_eq!(windows(most, 3, 1, 1), too_large(most));
        assert_eq!(windows(most, 1, 1, 0), Ok(most));
        assert_eq!(windows(most, 3, most, 0), Ok(1));
        assert_eq!(windows(5, most, 1, 1), Err(Error::WindowTooLarge { window: most, input: 7 }));
    }
}
