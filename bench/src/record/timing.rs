//! One figure: a case's shortest run, and the calibration's, alternated.

use crate::case::{Case, Run};
use nunatak_kernels::{Cpu, calibration};
use std::fmt;
use std::time::Instant;

/// Seconds for one case at effort 1.
const BUDGET: f64 = 0.06;
/// A run of the case lasts at least so long: shorter ones are repeated within one reading of the clock.
const SHORTEST: f64 = 60e-6;
/// Alternations, at least and at most.
const ROUNDS: (usize, usize) = (8, 400);
/// Rounds of the products beside each run: some 25 microseconds a thread.
const PRODUCTS: usize = 5_000;
/// Numbers of the stream beside each run: 512 KB of a block that no private cache holds.
const STREAM: usize = 128 << 10;
/// Numbers of that block: 64 MB.
const BLOCK: usize = 16 << 20;

/// Shortest times, in seconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Figure {
    /// Of the case.
    pub seconds: f64,
    /// In runs of the products.
    pub by_products: f64,
    /// In runs of the stream.
    pub by_stream: f64,
}

impl Figure {
    /// The better of two measurements of the same thing.
    pub fn best(self, other: Figure) -> Figure {
        Figure {
            seconds: self.seconds.min(other.seconds),
            by_products: self.by_products.min(other.by_products),
            by_stream: self.by_stream.min(other.by_stream),
        }
    }

    /// Three numbers as text.
    pub fn parse(text: &str) -> Option<Figure> {
        let mut numbers = text.split_whitespace().map(|number| number.parse::<f64>().ok());
        let mut next = || numbers.next().flatten();
        Some(Figure { seconds: next()?, by_products: next()?, by_stream: next()? })
    }

    /// How many times as long as `old`, by whichever loop says less.
    pub fn ratio(self, old: Figure) -> f64 {
        (self.by_products / old.by_products).min(self.by_stream / old.by_stream)
    }
}

/// As [`Figure::parse`] reads it.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {} {}", self.seconds, self.by_products, self.by_stream)
    }
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Checks and times a case; `effort` multiplies the time spent.
pub fn time(case: &Case, cpu: &Cpu, effort: f64) -> Figure {
    let mut figure = None;
    (case.with)(cpu, &mut |run| figure = Some(cpu.threads.enter(|| alternate(run, cpu, effort))));
    figure.unwrap_or_else(|| panic!("{} handed no work over", case.name()))
}

fn alternate(run: Run, cpu: &Cpu, effort: f64) -> Figure {
    let mut results = vec![0.0; cpu.threads.count()];
    let mut block = vec![1.0; BLOCK];
    run();
    let once = seconds(&mut *run).min(seconds(&mut *run));
    let repeat = (SHORTEST / once).ceil().clamp(1.0, 1e5) as usize;
    let rounds = ((effort * BUDGET / (once * repeat as f64)) as usize).clamp(ROUNDS.0, ROUNDS.1);
    let mut best = [f64::INFINITY; 3];
    for i in 0..rounds {
        let piece = &mut block[i * STREAM % BLOCK..][..STREAM];
        let times = [
            seconds(|| calibration::products(cpu, PRODUCTS, &mut results)),
            seconds(|| (0..repeat).for_each(|_| run())) / repeat as f64,
            seconds(|| calibration::stream(cpu, piece)),
        ];
        for (best, time) in best.iter_mut().zip(times) {
            *best = best.min(time);
        }
    }
    let [products, seconds, stream] = best;
    Figure { seconds, by_products: seconds / products, by_stream: seconds / stream }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_slower_by_both_loops_is_slower() {
        let old = Figure { seconds: 1.0, by_products: 10.0, by_stream: 4.0 };
        let slower = Figure { seconds: 1.2, by_products: 12.0, by_stream: 4.8 };
        assert!((slower.ratio(old) - 1.2).abs() < 1e-9);
        // A lower clock: the time grows, the products' time with it.
        let throttled = Figure { seconds: 1.2, by_products: 10.0, by_stream: 4.8 };
        assert!((throttled.ratio(old) - 1.0).abs() < 1e-9);
        assert_eq!(slower.best(throttled), throttled.best(slower));
        assert_eq!(Figure::parse(&slower.to_string()), Some(slower));
        assert_eq!(Figure::parse("1 2"), None);
    }
}
