//! A convolution's numbers, checked once.

use super::uniform::Uniform;
use crate::weights::WeightLayout;
use nunatak_core::shape::windows;
use nunatak_core::{Error, Shape};

/// How a filter moves over an image; each number for lines, then for columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Height and width of the filter.
    pub kernel: [usize; 2],
    /// Step of the filter.
    pub stride: [usize; 2],
    /// Zeros around the input on every side.
    pub pad: [usize; 2],
    /// Distance of the filter's positions in the image: 1 where they lie side by side.
    pub dilation: [usize; 2],
}

impl Window {
    /// The same numbers in both directions, without dilation.
    pub const fn square(kernel: usize, stride: usize, pad: usize) -> Window {
        Window { kernel: [kernel; 2], stride: [stride; 2], pad: [pad; 2], dilation: [1; 2] }
    }
}

/// A convolution's numbers: `n` images of `h` x `w` with `c` channels (channels last) to `k` channels.
///
/// A value exists only where all its tensors fit the address space, so that no size below overflows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conv2d {
    n: u32,
    h: u32,
    w: u32,
    c: u32,
    k: u32,
    kernel: [u32; 2],
    stride: [u32; 2],
    pad: [u32; 2],
    dilation: [u32; 2],
    groups: u32,
}

/// The largest stride: more would only leave out more of the image, and products of strides stay small.
const MOST_STRIDE: usize = 1 << 15;
/// Room for what an algorithm lays out anew: the padded image, its channels rounded up to 16, once for each filter
/// position, is at most this share of the address space.
const SHARE: u64 = 8;

impl Conv2d {
    /// A convolution of `n` images of `h` x `w` with `c` channels (x as it lies) to `k` channels: the same filter size,
    /// stride and padding in both directions, one group, no dilation.
    ///
    /// # Errors
    /// As [`Conv2d::general`].
    pub fn new([n, h, w, c]: [usize; 4], k: usize, kernel: usize, stride: usize, pad: usize) -> Result<Conv2d, Error> {
        Self::general(Shape::new(n, c, h, w)?, k, Window::square(kernel, stride, pad), 1)
    }

    /// A convolution of `input` (n, c, h, w) to `k` channels. Both are cut into `groups`: an output channel reads the
    /// input channels of its own group.
    ///
    /// # Errors
    /// [`Error`] where a size is zero, the groups do not divide both numbers of channels, the filter is larger than the
    /// padded image, the stride is above 32768, or a tensor does not fit the address space.
    pub fn general(input: Shape, k: usize, window: Window, groups: usize) -> Result<Conv2d, Error> {
        let (n, c, h, w) = (input.n(), input.c(), input.h(), input.w());
        let Window { kernel, stride, pad, dilation } = window;
        let too_large = Error::TooLarge { shape: [k, c, kernel[0], kernel[1]] };
        for channels in [c, k] {
            if groups == 0 || !channels.is_multiple_of(groups) {
                return Err(Error::Groups { channels, groups });
            }
        }
        if stride.iter().any(|stride| *stride > MOST_STRIDE) {
            return Err(Error::TooLarge { shape: [1, 1, stride[0], stride[1]] });
        }
        let (mut out, mut padded) = ([0; 2], [0; 2]);
        for (i, len) in [h, w].into_iter().enumerate() {
            if kernel[i] == 0 || dilation[i] == 0 {
                return Err(Error::ZeroWindow);
            }
            // What the filter covers, its gaps included.
            let reach = (kernel[i] - 1).checked_mul(dilation[i]).and_then(|reach| reach.checked_add(1)).ok_or(too_large)?;
            out[i] = windows(len, reach, stride[i], pad[i])?;
            padded[i] = len + 2 * pad[i]; // `windows` has checked it
        }
        Shape::new(n, k, out[0], out[1])?;
        Shape::new(1, c, padded[0], padded[1])?;
        WeightLayout::new(k, c / groups, kernel[0].checked_mul(kernel[1]).ok_or(too_large)?)?;
        let room = [c.next_multiple_of(16), padded[0], padded[1], kernel[0], kernel[1]]
            .into_iter()
            .try_fold(1_u64, |all, size| all.checked_mul(size as u64));
        if room.is_none_or(|room| room > usize::MAX as u64 / SHARE) {
            return Err(too_large);
        }
        // Each is below one of the sizes that were checked, but for a dilation that nothing is seen of.
        let small = |sizes: [usize; 2]| sizes.map(|size| size as u32);
        let seen = [0, 1].map(|i| if kernel[i] == 1 { 1 } else { dilation[i] });
        let [n, h, w, c, k, groups] = [n, h, w, c, k, groups].map(|size| size as u32);
        Ok(Conv2d { n, h, w, c, k, kernel: small(kernel), stride: small(stride), pad: small(pad), dilation: small(seen), groups })
    }

    /// The same convolution of another number of images.
    ///
    /// # Errors
    /// As [`Conv2d::general`].
    pub fn with_images(&self, n: usize) -> Result<Conv2d, Error> {
        let window = Window { kernel: self.kernel(), stride: self.stride(), pad: self.pad(), dilation: self.dilation() };
        Self::general(Shape::new(n, self.c(), self.h(), self.w())?, self.k(), window, self.groups())
    }

    /// One pixel of one image with one channel: stands where a convolution is wanted and none could be made.
    pub const UNIT: Conv2d =
        Conv2d { n: 1, h: 1, w: 1, c: 1, k: 1, kernel: [1; 2], stride: [1; 2], pad: [0; 2], dilation: [1; 2], groups: 1 };

    /// Images.
    #[inline(always)]
    pub const fn n(&self) -> usize {
        self.n as usize
    }
    /// Input lines.
    #[inline(always)]
    pub const fn h(&self) -> usize {
        self.h as usize
    }
    /// Input columns.
    #[inline(always)]
    pub const fn w(&self) -> usize {
        self.w as usize
    }
    /// Input channels.
    #[inline(always)]
    pub const fn c(&self) -> usize {
        self.c as usize
    }
    /// Output channels.
    #[inline(always)]
    pub const fn k(&self) -> usize {
        self.k as usize
    }
    /// Height and width of the filter.
    #[inline(always)]
    pub const fn kernel(&self) -> [usize; 2] {
        [self.kernel[0] as usize, self.kernel[1] as usize]
    }
    /// Step of the filter: lines, columns.
    #[inline(always)]
    pub const fn stride(&self) -> [usize; 2] {
        [self.stride[0] as usize, self.stride[1] as usize]
    }
    /// Zeros above and below, left and right of the input.
    #[inline(always)]
    pub const fn pad(&self) -> [usize; 2] {
        [self.pad[0] as usize, self.pad[1] as usize]
    }
    /// Distance of the filter's positions in the image: lines, columns. 1 where there is one position.
    #[inline(always)]
    pub const fn dilation(&self) -> [usize; 2] {
        [self.dilation[0] as usize, self.dilation[1] as usize]
    }
    /// Groups of channels.
    #[inline(always)]
    pub const fn groups(&self) -> usize {
        self.groups as usize
    }
    /// What the filter covers, its gaps included: lines, columns.
    #[inline(always)]
    pub const fn reach(&self) -> [usize; 2] {
        let ([kh, kw], [dh, dw]) = (self.kernel(), self.dilation());
        [(kh - 1) * dh + 1, (kw - 1) * dw + 1]
    }
    /// Filter positions.
    #[inline(always)]
    pub const fn taps(&self) -> usize {
        self.kernel[0] as usize * self.kernel[1] as usize
    }
    /// Output lines: ⌊(h + 2·pad − dilation·(kernel − 1) − 1) / stride⌋ + 1.
    #[inline(always)]
    pub const fn out_h(&self) -> usize {
        (self.h() + 2 * self.pad()[0] - self.reach()[0]) / self.stride()[0] + 1
    }
    /// Output columns, likewise.
    #[inline(always)]
    pub const fn out_w(&self) -> usize {
        (self.w() + 2 * self.pad()[1] - self.reach()[1]) / self.stride()[1] + 1
    }
    /// Numbers of x.
    pub const fn x_len(&self) -> usize {
        self.n() * self.h() * self.w() * self.c()
    }
    /// Numbers of y.
    pub const fn y_len(&self) -> usize {
        self.n() * self.out_h() * self.out_w() * self.k()
    }
    /// How w lies.
    pub const fn weights(&self) -> WeightLayout {
        WeightLayout::of(self.k(), self.c() / self.groups(), self.taps())
    }
    /// Products of one pass.
    pub const fn products(&self) -> u64 {
        (self.y_len() as u64).saturating_mul((self.c() / self.groups() * self.taps()) as u64)
    }

    /// Whether every channel has a filter of its own, and gives one output channel.
    pub const fn is_depthwise(&self) -> bool {
        self.groups == self.c && self.groups == self.k
    }

    /// The numbers as most tuned algorithms take them, where they are so.
    pub(super) fn uniform(&self) -> Option<Uniform> {
        let same = |[a, b]: [u32; 2]| a == b;
        if self.groups != 1 || !same(self.kernel) || !same(self.stride) || !same(self.pad) || self.dilation[0] != 1 || self.dilation[1] != 1
        {
            return None;
        }
        let [kernel, stride, pad] = [self.kernel[0] as usize, self.stride[0] as usize, self.pad[0] as usize];
        Some(Uniform { n: self.n(), h: self.h(), w: self.w(), c: self.c(), k: self.k(), kernel, stride, pad })
    }

    /// The convolution of one of the groups.
    pub(super) const fn of_group(&self) -> Conv2d {
        Conv2d { c: self.c / self.groups, k: self.k / self.groups, groups: 1, ..*self }
    }

    /// The same sums over other pixels: `n` images of `h` x `w`, for a filter of one position without stride or padding.
    pub(super) const fn of_pixels(&self, n: usize, h: usize, w: usize) -> Conv2d {
        Conv2d { n: n as u32, h: h as u32, w: w as u32, ..*self }
    }
}
