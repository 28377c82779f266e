//! Memory as a step's arena gives it: every tensor begins at a cache line, and no two at the same
//! place of a page (they would push each other out of the first-level cache).

use std::ops::{Deref, DerefMut};

#[repr(C, align(64))]
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
struct Line([f32; 16]);

/// Lines of 64 bytes in a page.
const PAGE: usize = 64;

/// Numbers that begin at a cache line.
pub struct Buffer {
    lines: Vec<Line>,
    first: usize,
    len: usize,
}

/// Makes buffers for one case.
#[derive(Default)]
pub struct Buffers {
    made: usize,
}

impl Buffers {
    /// `len` zeros.
    pub fn zeros(&mut self, len: usize) -> Buffer {
        // Steps of 11 lines: the first six buffers are at least 5 lines apart in their pages.
        self.made += 1;
        let first = self.made * 11 % PAGE;
        Buffer { lines: vec![Line([0.0; 16]); first + len.div_ceil(16)], first: 16 * first, len }
    }

    /// Numbers between −1 and 1, the same at every call with the same seed.
    pub fn random(&mut self, len: usize, seed: u64) -> Buffer {
        let mut buffer = self.zeros(len);
        let mut generator = nunatak_core::rng::Generator::manual_seed(seed);
        buffer.iter_mut().for_each(|v| *v = generator.uniform(-1.0, 1.0));
        buffer
    }

    /// A copy.
    pub fn copy(&mut self, numbers: &[f32]) -> Buffer {
        let mut buffer = self.zeros(numbers.len());
        buffer.copy_from_slice(numbers);
        buffer
    }
}

/// `len` numbers between −1 and 1.
pub fn numbers(len: usize) -> Vec<f32> {
    Buffers::default().random(len, 1).to_vec()
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[self.first..][..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[self.first..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_begin_at_cache_lines_and_not_at_the_same_place_of_a_page() {
        let mut buffers = Buffers::default();
        let made: Vec<Buffer> = [1, 17, 4096, 100_000, 5, 99].into_iter().map(|len| buffers.zeros(len)).collect();
        for b in &made {
            assert_eq!(b.as_ptr().align_offset(64), 0);
        }
        assert_eq!(made[3].len(), 100_000);
        assert_eq!(buffers.random(9, 1)[..], buffers.random(9, 1)[..]);
    }
}
