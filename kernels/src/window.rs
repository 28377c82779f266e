//! Windows that move over an image: what poolings have in common.

use core::ops::Range;
use nunatak_core::{Error, Shape, shape};

/// The sizes of a window, down and across. All must be at least 1, but for `pad`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Cells.
    pub kernel: [usize; 2],
    /// From window to window.
    pub stride: [usize; 2],
    /// Cells around the image, on both sides: at most half of `kernel`.
    pub pad: [usize; 2],
    /// From cell to cell.
    pub dilation: [usize; 2],
}

impl Window {
    /// The same down and across, without gaps.
    pub const fn square(kernel: usize, stride: usize, pad: usize) -> Window {
        Window { kernel: [kernel; 2], stride: [stride; 2], pad: [pad; 2], dilation: [1; 2] }
    }

    /// The shape of what comes of images of shape `x`: one number per window, sizes rounded down.
    ///
    /// # Errors
    /// [`Error::ZeroWindow`], [`Error::PadTooLarge`], [`Error::WindowTooLarge`] (also where a window's
    /// cells would all lie beside the image), [`Error::TooLarge`].
    pub fn output(&self, x: Shape) -> Result<Shape, Error> {
        let [h, w] = [self.axis(0, x.h())?, self.axis(1, x.w())?];
        Shape::new(x.n(), x.c(), h, w)
    }

    /// Windows along an axis of this length.
    fn axis(&self, axis: usize, len: usize) -> Result<usize, Error> {
        let (kernel, pad, dilation) = (self.kernel[axis], self.pad[axis], self.dilation[axis]);
        if kernel == 0 || dilation == 0 || self.stride[axis] == 0 {
            return Err(Error::ZeroWindow);
        }
        if pad > kernel / 2 {
            return Err(Error::PadTooLarge { pad, window: kernel });
        }
        let too_large = Error::TooLarge { shape: [1, 1, kernel, dilation] };
        let extent = (kernel - 1).checked_mul(dilation).and_then(|x| x.checked_add(1)).ok_or(too_large)?;
        let windows = shape::windows(len, extent, self.stride[axis], pad)?;
        // Such a window has a cell before the image, the next behind it, and none inside.
        if kernel > 1 && dilation > len {
            return Err(Error::WindowTooLarge { window: extent, input: len });
        }
        Ok(windows)
    }

    /// Cells.
    pub const fn cells(&self) -> usize {
        self.kernel[0].saturating_mul(self.kernel[1])
    }

    /// Which cells of window `i` along an axis lie inside the image.
    #[inline(always)]
    pub(crate) fn inside(&self, axis: usize, i: usize, len: usize) -> Range<usize> {
        let (start, pad, dilation) = (i * self.stride[axis], self.pad[axis], self.dilation[axis]);
        if dilation == 1 {
            return pad.saturating_sub(start)..self.kernel[axis].min(len + pad - start);
        }
        let first = pad.saturating_sub(start).div_ceil(dilation);
        first..self.kernel[axis].min((len + pad - start).div_ceil(dilation))
    }

    /// Where cell `k` of window `i` lies along an axis; it must be inside.
    #[inline(always)]
    pub(crate) fn place(&self, axis: usize, i: usize, k: usize) -> usize {
        i * self.stride[axis] + k * self.dilation[axis] - self.pad[axis]
    }

    /// The windows along an axis, of `windows`, that may have a cell at `place`.
    #[inline(always)]
    pub(crate) fn over(&self, axis: usize, place: usize, windows: usize) -> Range<usize> {
        let (stride, at) = (self.stride[axis], place + self.pad[axis]);
        let extent = (self.kernel[axis] - 1) * self.dilation[axis];
        at.saturating_sub(extent).div_ceil(stride)..(at / stride + 1).min(windows)
    }

    /// Which cell of window `i` along an axis lies at `place`, if one does.
    #[inline(always)]
    pub(crate) fn cell(&self, axis: usize, i: usize, place: usize) -> Option<usize> {
        let distance = (place + self.pad[axis]).checked_sub(i * self.stride[axis])?;
        let cell = distance / self.dilation[axis];
        (cell * self.dilation[axis] == distance && cell < self.kernel[axis]).then_some(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_torch_or_errors() {
        let x = |h, w| Shape::new(2, 3, h, w).expect("a shape");
        let window = Window { kernel: [3, 2], stride: [1, 2], pad: [1, 1], dilation: [2, 1] };
        assert_eq!(window.output(x(5, 5)), Ok(x(3, 3)));
        assert_eq!(Window::square(3, 2, 1).output(x(112, 7)), Ok(x(56, 4)));
        assert_eq!(Window::square(3, 2, 2).output(x(9, 9)), Err(Error::PadTooLarge { pad: 2, window: 3 }));
        assert_eq!(Window::square(0, 1, 0).output(x(9, 9)), Err(Error::ZeroWindow));
        assert_eq!(Window { dilation: [1, 0], ..window }.output(x(9, 9)), Err(Error::ZeroWindow));
        assert_eq!(Window::square(12, 1, 1).output(x(9, 9)), Err(Error::WindowTooLarge { window: 12, input: 11 }));
        assert!(Window { kernel: [usize::MAX; 2], dilation: [usize::MAX; 2], ..window }.output(x(9, 9)).is_err());
        // PyTorch lets this pass and gives −∞.
        let beside = Window { dilation: [2, 2], ..Window::square(2, 1, 1) };
        assert_eq!(beside.output(x(1, 1)), Err(Error::WindowTooLarge { window: 3, input: 1 }));
    }

    #[test]
    fn every_window_has_a_cell_inside() {
        for kernel in 1..6 {
            for (stride, dilation) in [(1, 1), (2, 3), (1, 2), (3, 4), (1, 5)] {
                for pad in 0..=kernel / 2 {
                    for len in 1..9 {
                        let window = Window { dilation: [dilation; 2], ..Window::square(kernel, stride, pad) };
                        let Ok(y) = window
                            .output(Shape::new(1, 1, len, 1).expect("a shape"))
                            .or(window.axis(0, len).map(|h| Shape::new(1, 1, h, 1).expect("a shape")))
                        else {
                            continue;
                        };
                        for i in 0..y.h() {
                            let inside = window.inside(0, i, len);
                            let by_hand: std::vec::Vec<usize> =
                                (0..kernel).filter(|k| (pad..len + pad).contains(&(i * stride + k * dilation))).collect();
                            assert!(!inside.is_empty() && inside.clone().eq(by_hand), "{window:?} {i} of {len}");
                            for k in inside {
                                let place = window.place(0, i, k);
                                assert_eq!(window.cell(0, i, place), Some(k));
                                assert!(window.over(0, place, y.h()).contains(&i));
                            }
                        }
                    }
                }
            }
        }
    }
}
