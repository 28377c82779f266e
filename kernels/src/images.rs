//! Images from outside, into the order of the kernels: channels last.

use crate::bounds::product;
use crate::isa::Isa;
use crate::parallel::Chunks;
use crate::{Cpu, Task};

/// Pixels of a part.
const PIXELS: usize = 4096;
/// Channels up to which the 256 values of a byte are computed once for each.
const TABLES: usize = 4;

/// Channels last from PyTorch's order: as [`nunatak_core::Tensor::to_channels_last`], on all threads.
///
/// | name | shape | |
/// |---|---|---|
/// | `x` | n x channels x pixels | read |
/// | `y` | n x pixels x channels | overwritten |
///
/// # Panics
/// If the lengths differ, or are no whole number of images.
pub fn to_channels_last(cpu: &Cpu, channels: usize, pixels: usize, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "an image in two orders");
    if x.is_empty() {
        return;
    }
    let image = product(&[channels, pixels]);
    assert!(x.len().is_multiple_of(image), "{} numbers in images of {channels} x {pixels}", x.len());
    let parts = pixels.div_ceil(PIXELS);
    for (x, y) in x.chunks_exact(image).zip(y.chunks_exact_mut(image)) {
        cpu.run(Chunks::new(y, PIXELS.saturating_mul(channels), parts), &mut [], 0, |i, y, _| {
            cpu.level.run(Reorder { x: &x[i * PIXELS..], channels, pixels, y });
        });
    }
}

/// `y = (byte / 255 − mean[c]) / std[c]` for each channel c, as torchvision's ToTensor and Normalize
/// compute it.
///
/// | name | shape | |
/// |---|---|---|
/// | `bytes` | any pixels x channels | read |
/// | `mean`, `std` | channels | read |
/// | `y` | as `bytes` | overwritten |
///
/// # Panics
/// If a length is wrong.
pub fn normalise_bytes(cpu: &Cpu, bytes: &[u8], mean: &[f32], std: &[f32], y: &mut [f32]) {
    let channels = mean.len();
    assert_eq!((bytes.len(), std.len()), (y.len(), channels), "bytes and deviations");
    if y.is_empty() {
        return;
    }
    assert!(y.len().is_multiple_of(channels), "{} bytes in pixels of {channels}", y.len());
    let value = |byte: u8, c: usize| (f32::from(byte) / 255.0 - mean[c]) / std[c];
    // Divisions are dear: more bytes than there are values are looked up.
    let looked_up = channels <= TABLES && y.len() > 256 * channels;
    let mut tables = [[0.0_f32; 256]; TABLES];
    if looked_up {
        for (c, table) in tables[..channels].iter_mut().enumerate() {
            for (byte, entry) in (0..=255_u8).zip(table) {
                *entry = value(byte, c);
            }
        }
    }
    let parts = y.len().div_ceil(PIXELS.saturating_mul(channels));
    cpu.run(Chunks::new(y, PIXELS.saturating_mul(channels), parts), &mut [], 0, |i, y, _| {
        let bytes = &bytes[i * PIXELS * channels..];
        for (y, bytes) in y.chunks_exact_mut(channels).zip(bytes.chunks_exact(channels)) {
            for (c, (y, byte)) in y.iter_mut().zip(bytes).enumerate() {
                *y = if looked_up { tables[c][usize::from(*byte)] } else { value(*byte, c) };
            }
        }
    });
}

/// Some pixels of an image.
struct Reorder<'a, 'p> {
    /// From the first pixel on.
    x: &'a [f32],
    channels: usize,
    /// Of the whole image.
    pixels: usize,
    y: &'p mut [f32],
}

impl Task for Reorder<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        match self.channels {
            1 => self.y.copy_from_slice(&self.x[..self.y.len()]),
            3 => self.known::<3>(),
            _ => self.any(),
        }
    }
}

impl Reorder<'_, '_> {
    #[inline(always)]
    fn known<const C: usize>(self) {
        let count = self.y.len() / C;
        let mut planes = [self.x; C];
        for (c, plane) in planes.iter_mut().enumerate() {
            *plane = &self.x[c * self.pixels..][..count];
        }
        for (i, y) in self.y.chunks_exact_mut(C).enumerate() {
            for (y, plane) in y.iter_mut().zip(&planes) {
                *y = plane[i];
            }
        }
    }

    #[inline(always)]
    fn any(self) {
        for c in 0..self.channels {
            let plane = &self.x[c * self.pixels..];
            for (y, x) in self.y[c..].iter_mut().step_by(self.channels).zip(plane) {
                *y = *x;
            }
        }
    }
}
