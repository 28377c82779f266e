//! Pooling of bytes.

use super::{Error, padded};
use crate::bounds::checked_product;
use crate::isa::Isa;
use crate::{Cpu, Task, parallel::Chunks};
use nunatak_core::shape::windows;

/// Maxima over windows of `n` images of `h` x `w` with `c` channels, of bytes that lie as [`crate::int8`] says. Bytes grow
/// with the numbers that they stand for, so input and output have the same scale and the same zero point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MaxPool {
    /// n, h, w, and the bytes of a pixel.
    input: [usize; 4],
    kernel: [usize; 2],
    stride: [usize; 2],
    pad: [usize; 2],
    out: [usize; 2],
}

impl MaxPool {
    /// Maxima over windows of `kernel` that move by `stride`, each for lines, then for columns. What `pad` adds on every
    /// side is never chosen; it is at most half a window.
    ///
    /// # Errors
    /// [`Error::Size`] for sizes of zero, a padding of more than half a window, a window that is larger than the padded
    /// image, and where a tensor does not fit the address space.
    pub fn new([n, h, w, c]: [usize; 4], kernel: [usize; 2], stride: [usize; 2], pad: [usize; 2]) -> Result<MaxPool, Error> {
        let bytes = pixel_bytes([n, h, w, c])?;
        let mut out = [0; 2];
        for (i, len) in [h, w].into_iter().enumerate() {
            if pad[i] > kernel[i] / 2 {
                return Err(nunatak_core::Error::PadTooLarge { pad: pad[i], window: kernel[i] }.into());
            }
            out[i] = windows(len, kernel[i], stride[i], pad[i])?;
            // Where windows begin is computed with these.
            if (out[i] - 1).checked_mul(stride[i]).and_then(|last| last.checked_add(kernel[i])).is_none() {
                return Err(nunatak_core::Error::TooLarge { shape: [n, c, h, w] }.into());
            }
        }
        pixel_bytes([n, out[0], out[1], c])?;
        Ok(MaxPool { input: [n, h, w, bytes], kernel, stride, pad, out })
    }

    /// Output lines.
    pub const fn out_h(&self) -> usize {
        self.out[0]
    }
    /// Output columns.
    pub const fn out_w(&self) -> usize {
        self.out[1]
    }
    /// Bytes of x.
    pub const fn x_len(&self) -> usize {
        let [n, h, w, bytes] = self.input;
        n * h * w * bytes
    }
    /// Bytes of y.
    pub const fn y_len(&self) -> usize {
        self.input[0] * self.out[0] * self.out[1] * self.input[3]
    }

    /// The maxima.
    ///
    /// | name | shape | |
    /// |---|---|---|
    /// | `x` | n x h x w x [`padded`] c | read |
    /// | `y` | n x out_h x out_w x [`padded`] c | overwritten |
    ///
    /// No scratch. Reference: [`crate::reference::int8::max_pool`].
    ///
    /// # Panics
    /// If a length is wrong.
    pub fn forward(&self, cpu: &Cpu, x: &[u8], y: &mut [u8]) {
        assert_eq!(x.len(), self.x_len(), "bytes of x of {self:?}");
        assert_eq!(y.len(), self.y_len(), "bytes of y of {self:?}");
        let line = self.out[1] * self.input[3];
        cpu.run_with(Chunks::new(y, line, self.input[0] * self.out[0]), &mut [], 0, |i, y, _: &mut [u8]| {
            cpu.level.run(Maxima { p: self, x, line: i, y });
        });
    }
}

/// Bytes of a pixel, where all sizes are there and the tensor fits the address space.
fn pixel_bytes([n, h, w, c]: [usize; 4]) -> Result<usize, Error> {
    for (dimension, size) in [("n", n), ("h", h), ("w", w), ("c", c)] {
        if size == 0 {
            return Err(nunatak_core::Error::ZeroDimension { dimension }.into());
        }
    }
    let bytes = c.checked_next_multiple_of(4);
    let all = bytes.and_then(|bytes| checked_product(&[n, h, w, bytes]));
    match (bytes, all) {
        (Some(bytes), Some(all)) if all <= isize::MAX as usize => Ok(bytes),
        _ => Err(nunatak_core::Error::TooLarge { shape: [n, c, h, w] }.into()),
    }
}

/// One line of the output.
struct Maxima<'a> {
    p: &'a MaxPool,
    x: &'a [u8],
    /// The line's number over all images.
    line: usize,
    y: &'a mut [u8],
}

impl Task for Maxima<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let MaxPool { input: [_, h, w, bytes], kernel, stride, pad, out } = *self.p;
        let (image, line) = (self.line / out[0], self.line % out[0]);
        // The cells of window `i` that lie in the image: at least one, since less than a window is padding.
        let cells = |i: usize, d: usize, len: usize| {
            let first = i * stride[d];
            first.saturating_sub(pad[d])..(first + kernel[d]).saturating_sub(pad[d]).min(len)
        };
        for (column, y) in self.y.chunks_exact_mut(bytes).enumerate() {
            y.fill(0);
            for line in cells(line, 0, h) {
                let from = ((image * h + line) * w + cells(column, 1, w).start) * bytes;
                for x in self.x[from..][..cells(column, 1, w).len() * bytes].chunks_exact(bytes) {
                    for (y, x) in y.iter_mut().zip(x) {
                        *y = (*y).max(*x);
                    }
                }
            }
        }
    }
}

/// The mean of each channel over the whole image, of bytes that lie as [`crate::int8`] says, as real numbers: the way out
/// of a frozen trunk.
///
/// `y = (Σ (q − zero)) · (scale / pixels)`: the sum is exact, then it is rounded to `f32`, `scale` is divided by the number
/// of pixels in `f32`, and the two are multiplied in `f32`. So the bits are the same everywhere.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AvgPool {
    n: usize,
    pixels: usize,
    c: usize,
    zero: u8,
    scale: f32,
}

/// The most pixels whose sum of bytes fits an `i32`.
const MOST_PIXELS: usize = ((1 << 31) - 1) / 255;

impl AvgPool {
    /// Means over `n` images of `h` x `w` with `c` channels, of bytes with this zero point and scale.
    ///
    /// # Errors
    /// [`Error::Size`] for sizes of zero and where the tensor does not fit the address space, [`Error::Sums`] for images of
    /// so many pixels that a sum might leave an `i32`.
    pub fn new([n, h, w, c]: [usize; 4], zero: u8, scale: f32) -> Result<AvgPool, Error> {
        pixel_bytes([n, h, w, c])?;
        let pixels = h * w;
        if pixels > MOST_PIXELS {
            return Err(Error::Sums { products: pixels, most: MOST_PIXELS });
        }
        Ok(AvgPool { n, pixels, c, zero, scale })
    }

    /// Bytes of x.
    pub const fn x_len(&self) -> usize {
        self.n * self.pixels * padded(self.c)
    }
    /// Numbers of y.
    pub const fn y_len(&self) -> usize {
        self.n * self.c
    }

    /// The means.
    ///
    /// | name | shape | |
    /// |---|---|---|
    /// | `x` | n x h x w x [`padded`] c | read |
    /// | `y` | n x c | overwritten |
    ///
    /// No scratch. Reference: [`crate::reference::int8::avg_pool`].
    ///
    /// # Panics
    /// If a length is wrong.
    pub fn forward(&self, cpu: &Cpu, x: &[u8], y: &mut [f32]) {
        let AvgPool { n, pixels, c, .. } = *self; // without the scale: real numbers take kilobytes of code to be printed
        assert_eq!(x.len(), self.x_len(), "bytes of x of {n} images of {pixels} pixels with {c} channels");
        assert_eq!(y.len(), self.y_len(), "means of {n} images with {c} channels");
        cpu.run_with(Chunks::new(y, self.c, self.n), &mut [], 0, |i, y, _: &mut [u8]| {
            cpu.level.run(Means { p: self, x: &x[i * self.pixels * padded(self.c)..], y });
        });
    }
}

/// All channels of an image.
struct Means<'a> {
    p: &'a AvgPool,
    x: &'a [u8],
    y: &'a mut [f32],
}

/// Channels whose sums are computed together.
const TOGETHER: usize = 64;

impl Task for Means<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let p = self.p;
        let bytes = padded(p.c);
        let share = p.scale / p.pixels as f32;
        let zeros = (p.pixels * usize::from(p.zero)) as i32;
        for (some, y) in self.y.chunks_mut(TOGETHER).enumerate() {
            let mut sums = [0; TOGETHER];
            for x in self.x[..p.pixels * bytes].chunks_exact(bytes) {
                for (sum, x) in sums.iter_mut().zip(&x[some * TOGETHER..][..y.len()]) {
                    *sum += i32::from(*x);
                }
            }
            for (y, sum) in y.iter_mut().zip(sums) {
                *y = (sum - zeros) as f32 * share;
            }
        }
    }
}
