//! Convolution, pooling and conversions in 8-bit integers: for the frozen part of a network.
//!
//! The results are the same integers at every level, on every CPU, for any number of threads: there are no roundings but
//! the ones that are written down here.
//!
//! # Numbers
//! *Activations* are `u8`, channels last: real = (q − zero) · scale. The zero point is 0 after a relu, and 128 where
//! numbers have a sign; any other works too. Each pixel has [`padded`] bytes, its channels rounded up to a multiple of 4.
//! The bytes beyond the channels hold the zero point. Kernels write it there, and read it without looking at it.
//!
//! *Weights* are `i8`, in −127..=127, without a zero point, and with a scale for each output channel. [`pack`] makes them:
//!
//! | convolution | layout |
//! |---|---|
//! | one group | `[⌈k / 16⌉][filter positions][padded(c) / 4][16 output channels][4 input channels]` |
//! | depthwise | `[⌈c / 16⌉][filter positions][16 channels]` |
//!
//! with zeros where there are no such channels. A batch normalisation is folded into weights and biases before.
//!
//! *The table* says what becomes of the sums. Its words are `i32`: `[shift, residual, 0 × 14]`, then for each 16 output
//! channels `[16 biases][16 multipliers]`, with zeros beyond the channels. With
//!
//! ```text
//! acc = bias[k] + Σ x · w                                   in i32 that wraps
//! y   = clamp(y_zero + ((acc · multiplier[k] + (r − r_zero) · residual + 2^(shift − 1)) >> shift), low, 255)
//! ```
//!
//! * x is the byte as it lies: its zero point is in the bias. Where the filter leaves the image, x is `x_zero`.
//! * r is the byte of the residual at the same place. Without a residual its term is absent.
//! * The second line is computed in `i64`, where nothing overflows; `>>` keeps the sign.
//! * `shift` is taken as if it were clamped to 1..=56.
//! * `low` is `y_zero` with a relu, else 0.
//!
//! So a convolution with real scales `sx`, `sw[k]`, `sy`, `sr` and a real bias `b[k]` has `multiplier[k] / 2^shift ≈
//! sx · sw[k] / sy`, `residual / 2^shift ≈ sr / sy`, and `bias[k] = round(b[k] / (sx · sw[k])) − x_zero · Σ w`.
//!
//! Whatever bytes and words are handed in: there is a result, and it is the same everywhere.
//!
//! ```
//! use nunatak_kernels::{Cpu, Level, Threads, int8};
//!
//! // Two pixels of 3 channels, and one filter of one position: y = x0 + 2·x1 − x2.
//! let conv = nunatak_kernels::Conv2d::new([1, 1, 2, 3], 1, 1, 1, 0)?;
//! let conv = int8::Conv2d::new(conv, 0, 0, true, None)?;
//! let mut w = vec![0; conv.weight_len()];
//! int8::pack(&conv, &[0.5, 1.0, -0.5], &[0.5], &mut w); // real weights, and the output channel's scale
//! let mut table = vec![0; conv.table_len()];
//! (table[0], table[16 + 16]) = (8, 1 << 8); // shift and multiplier: the factor is 1
//! let (x, mut y) = ([10, 20, 30, 0, 1, 1, 9, 0], [0xaa; 8]);
//! let mut scratch = vec![0; conv.scratch_len(1)];
//! let cpu = Cpu { level: Level::detect(), threads: &Threads::serial() };
//! conv.forward(&cpu, int8::Forward { x: &x, w: &w, table: &table, residual: None, y: &mut y, scratch: &mut scratch });
//! assert_eq!(y, [20, 0, 0, 0, 0, 0, 0, 0]); // the second is −6 before the relu
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Reference: [`crate::reference::int8`].

mod convert;
mod depthwise;
#[allow(unsafe_code)]
mod dispatch;
mod geometry;
#[allow(unsafe_code)]
mod isa;
#[allow(unsafe_code)]
mod micro;
mod pack;
mod pixels;
mod pool;
mod product;
mod table;
#[cfg(test)]
mod tests;

pub use convert::{dequantize, quantize};
pub use geometry::{Conv2d, Error, Forward};
pub use pack::pack;
pub use pool::{AvgPool, MaxPool};

/// Bytes of a pixel with so many channels: the next multiple of 4.
///
/// # Panics
/// If that does not fit a `usize`.
pub const fn padded(channels: usize) -> usize {
    match channels.checked_next_multiple_of(4) {
        Some(bytes) => bytes,
        None => panic!("more channels than fit the address space"),
    }
}

/// Output channels that lie together in weights and tables.
const BLOCK: usize = 16;
