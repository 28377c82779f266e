//! How large a tensor's numbers are, and the scale that loses least.

/// Bins of a histogram.
const BINS: usize = 2048;
/// Candidates for the largest number that is kept, evenly from a quarter of the largest seen to that.
const CANDIDATES: usize = 96;

/// A histogram of absolute values. The same numbers in the same order give the same one on every machine: it is made
/// by comparisons, sums of integers and doublings.
#[derive(Clone, Debug)]
pub(super) struct Range {
    /// The upper end of the last bin: a power of two.
    end: f64,
    counts: [u64; BINS],
    largest: f32,
}

impl Default for Range {
    fn default() -> Self {
        Range { end: f64::from(f32::MIN_POSITIVE), counts: [0; BINS], largest: 0.0 }
    }
}

impl Range {
    /// Notes numbers; those that are not finite count for nothing.
    pub(super) fn see(&mut self, numbers: &[f32]) {
        for number in numbers.iter().map(|number| number.abs()).filter(|number| number.is_finite()) {
            self.largest = self.largest.max(number);
            while f64::from(number) >= self.end {
                self.double();
            }
            // Below the end, so that it is one of the bins.
            let bin = (f64::from(number) / self.end * BINS as f64) as usize;
            self.counts[bin.min(BINS - 1)] += 1;
        }
    }

    /// Twice the end, half the bins.
    fn double(&mut self) {
        self.end *= 2.0;
        for i in 0..BINS / 2 {
            self.counts[i] = self.counts[2 * i] + self.counts[2 * i + 1];
        }
        self.counts[BINS / 2..].fill(0);
    }

    /// Whether there was a number.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }

    /// The scale of a tensor with so many steps up to its largest number, by which the sum of squared errors is least:
    /// numbers above it are cut, those below are rounded. Every scale is a number that a float holds.
    pub(super) fn scale(&self, steps: f64) -> f32 {
        let largest = f64::from(self.largest);
        if largest == 0.0 {
            return 1.0;
        }
        let mut best = (f64::INFINITY, largest);
        for i in (0..=CANDIDATES).rev() {
            let top = largest * (0.25 + 0.75 * i as f64 / CANDIDATES as f64);
            let error = self.error(top, top / steps);
            if error < best.0 {
                best = (error, top);
            }
        }
        ((best.1 / steps) as f32).max(f32::MIN_POSITIVE)
    }

    fn error(&self, top: f64, step: f64) -> f64 {
        let rounded = step * step / 12.0;
        let width = self.end / BINS as f64;
        let mut sum = 0.0;
        for (bin, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let number = (bin as f64 + 0.5) * width;
            let cut = (number - top).max(0.0);
            sum += *count as f64 * if cut > 0.0 { cut * cut } else { rounded };
        }
        sum
    }
}
