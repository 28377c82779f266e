//! Regressions on machines whose speed is not the same twice.
//!
//! A figure is the shortest of many short runs, each taken between two runs of the calibration
//! ([`nunatak_kernels::calibration`]): what disturbs a machine makes runs longer, never shorter, and the
//! shortest run is hardly disturbed at all. What is recorded is its ratio to the shortest run of the
//! calibration's two loops, in the same tenth of a second: a CPU at a lower clock slows the products as
//! it slows a kernel, a neighbour on the memory slows the stream as well.
//!
//! A case has become slower when **both** ratios have grown beyond the tolerance: of a slower kernel
//! both grow alike, of a disturbed machine one does. Suspects are measured again, and only what is
//! slow each time is reported.

mod file;
mod timing;

pub use file::{Line, Record, cpu_name, folder, today};
pub use timing::{Figure, time};

use crate::case::Case;
use crate::cases;
use crate::settings::Settings;
use nunatak_kernels::Cpu;

/// How much slower is too slow, where nothing else is asked for.
pub const TOLERANCE: f64 = 0.10;
/// How often a suspect is measured again.
const TRIES: usize = 4;
/// Sweeps over everything for a record, some time apart.
const SWEEPS: usize = 3;

/// Everything that is recorded: kernels by the algorithm that is chosen, and whole steps.
pub fn all(settings: &Settings) -> Vec<Case> {
    let mut list = cases::conv2d::chosen(settings);
    for more in [
        cases::batchnorm::cases,
        cases::elementwise::cases,
        cases::pooling::cases,
        cases::linear::cases,
        cases::losses::cases,
        cases::sgd::cases,
        cases::step::whole,
    ] {
        list.extend(more(settings));
    }
    list
}

/// Measures what matches `only`, in several sweeps; of each case the best is kept.
pub fn measure(settings: &Settings, only: &str, progress: &mut dyn FnMut(&str)) -> Record {
    let cases: Vec<_> = all(settings).into_iter().filter(|case| case.name().contains(only)).collect();
    let mut lines: Vec<Line> = Vec::new();
    for sweep in 0..SWEEPS {
        let mut at = 0;
        for &level in &settings.levels {
            let cpu = Cpu { level, threads: &settings.threads };
            for case in &cases {
                progress(&format!("sweep {} of {SWEEPS}: {} {level}", sweep + 1, case.name()));
                let figure = time(case, &cpu, 1.0);
                match lines.get_mut(at) {
                    Some(line) => line.figure = line.figure.best(figure),
                    None => lines.push(Line::new(case, &cpu, figure)),
                }
                at += 1;
            }
        }
    }
    Record { lines }
}

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Case, level, and how many times as long as in the record, best of all tries.
    pub slower: Vec<(String, f64)>,
    /// Those that became faster by more than the tolerance.
    pub faster: Vec<(String, f64)>,
    /// Cases that were compared.
    pub compared: usize,
    /// Cases that the record does not have.
    pub unknown: usize,
}

/// Measures every case that the record and `only` name, and those that seem slower again.
pub fn compare(record: &Record, settings: &Settings, only: &str, tolerance: f64, progress: &mut dyn FnMut(&str)) -> Comparison {
    let mut found = Comparison::default();
    let mut suspects = Vec::new();
    let cases = all(settings);
    let mut check = |case: &Case, cpu: &Cpu, old: &Line, effort: f64| {
        let name = format!("{} {} {} threads", case.name(), cpu.level, cpu.threads.count());
        progress(&name);
        let ratio = time(case, cpu, effort).ratio(old.figure);
        (name, ratio)
    };
    for &level in &settings.levels {
        let cpu = Cpu { level, threads: &settings.threads };
        for case in cases.iter().filter(|case| case.name().contains(only)) {
            let Some(old) = record.find(&case.name(), &cpu) else {
                found.unknown += 1;
                continue;
            };
            found.compared += 1;
            let (name, ratio) = check(case, &cpu, old, 1.0);
            if ratio > 1.0 + tolerance {
                suspects.push((case, level, old, name, ratio));
            } else if ratio < 1.0 / (1.0 + tolerance) {
                found.faster.push((name, ratio));
            }
        }
    }
    // Later, in other company, and longer each time.
    for attempt in 1..=TRIES {
        suspects.retain_mut(|(case, level, old, _, ratio)| {
            let cpu = Cpu { level: *level, threads: &settings.threads };
            *ratio = ratio.min(check(case, &cpu, old, 1.0 + attempt as f64).1);
            *ratio > 1.0 + tolerance
        });
    }
    found.slower = suspects.into_iter().map(|(.., name, ratio)| (name, ratio)).collect();
    found
}
