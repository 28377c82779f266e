//! A component's samples at the size of the picture, row by row, as libjpeg's "fancy upsampling" makes them.
//!
//! Twice as many columns, rows or both: a triangle filter, each new sample three quarters of the nearer and one quarter
//! of the farther neighbour, rounded up and down in turn. Any other whole factor: repeated. Samples past the
//! component's true size are never read; the last true row and column stand in for them.

/// A component's samples and how often each is to be seen.
pub(super) struct Plane<'a> {
    /// Rows of `stride` samples.
    pub(super) samples: &'a [u8],
    pub(super) stride: usize,
    /// True columns and rows; what lies beyond is padding.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Columns and rows of the picture for each of its own.
    pub(super) across: usize,
    pub(super) down: usize,
}

impl Plane<'_> {
    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y.min(self.height - 1) * self.stride..][..self.width]
    }

    /// The neighbour of row `y / 2` that row `y` of twice as many is nearer to.
    fn farther(&self, y: usize) -> &[u8] {
        self.row(if y.is_multiple_of(2) { (y / 2).saturating_sub(1) } else { y / 2 + 1 })
    }

    /// Fills `out` with row `y` of the picture.
    pub(super) fn write_row(&self, y: usize, out: &mut [u8]) {
        match (self.across, self.down) {
            (1, 1) => out.copy_from_slice(&self.row(y)[..out.len()]),
            (2, 1) if self.width > 2 => twice(self.row(y), out),
            (1, 2) => {
                let bias = 1 + (y & 1) as u16;
                for ((out, &near), &far) in out.iter_mut().zip(self.row(y / 2)).zip(self.farther(y)) {
                    *out = ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8;
                }
            }
            (2, 2) if self.width > 2 => twice_both(self.row(y / 2), self.farther(y), out),
            (across, down) => {
                for (out, &sample) in out.chunks_mut(across).zip(self.row(y / down)) {
                    out.fill(sample);
                }
            }
        }
    }
}

/// Twice as many columns.
fn twice(row: &[u8], out: &mut [u8]) {
    let last = row.len() - 1;
    let mut pair = |i: usize, left: u16, right: u16| {
        let here = 3 * u16::from(row[i]);
        set(out, 2 * i, [(here + left + 1) >> 2, (here + right + 2) >> 2]);
    };
    // The outermost samples stay as they are: a mean with themselves.
    pair(0, u16::from(row[0]), u16::from(row[1]));
    for (i, three) in row.windows(3).enumerate() {
        pair(i + 1, u16::from(three[0]), u16::from(three[2]));
    }
    pair(last, u16::from(row[last - 1]), u16::from(row[last]));
}

/// Twice as many columns of a row between two.
fn twice_both(near: &[u8], far: &[u8], out: &mut [u8]) {
    let sum = |i: usize| 3 * u16::from(near[i]) + u16::from(far[i]);
    let last = near.len() - 1;
    let (mut left, mut here) = (sum(0), sum(0));
    for i in 0..=last {
        let right = sum((i + 1).min(last));
        set(out, 2 * i, [(3 * here + left + 8) >> 4, (3 * here + right + 7) >> 4]);
        (left, here) = (here, right);
    }
}

/// Writes a pair, of which the second may lie past an odd row's end.
fn set(out: &mut [u8], at: usize, pair: [u16; 2]) {
    for (out, value) in out.iter_mut().skip(at).zip(pair) {
        *out = value as u8;
    }
}
