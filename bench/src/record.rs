//! Regressions on machines whose speed is not the same twice.
//!
//! A figure is the shortest of many short runs, each taken between two runs of the calibration
//! ([`nunatak_kernels::calibration`]): what disturbs a machine makes runs longer, never shorter, and the
//! shortest run is hardly disturbed at all. What is recorded is its ratio to the shortest run of the
//! calibration's two loops, in the same tenth of a second: a CPU at a lower clock slows the products as
//! it slows a kernel, a neighbour on the memory slows the stream as well.
//!
//! A case has become slower when **both** ratios have grown beyond the tolerance: of a slower kernel
//! both grow alike, of a disturbed machine one does. Suspects are measured again, later each time and in
//! a process of their own (where a process's pages happen to lie makes a tenth of a small kernel's time),
//! and only what is slow each time is reported.

mod file;
mod timing;

pub use file::{Line, Record, cpu_name, folder, today};
pub use timing::{Figure, time};

use crate::case::Case;
use crate::cases;
use crate::settings::Settings;
use nunatak_kernels::{Cpu, Level};
use std::time::Duration;

/// How much slower is too slow, where nothing else is asked for.
pub const TOLERANCE: f64 = 0.10;
/// Seconds to wait before suspects are measured again: a neighbour may be busy for half a minute.
const WAITS: [u64; 8] = [0, 1, 2, 4, 8, 15, 20, 30];
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
        cases::operations::cases,
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

/// Measures every case that the record and `only` name, and those that seem slower again by `again`:
/// case, level, effort.
pub fn compare(
    record: &Record,
    settings: &Settings,
    only: &str,
    tolerance: f64,
    progress: &mut dyn FnMut(&str),
    again: &mut dyn FnMut(&str, Level, f64) -> Result<Figure, String>,
) -> Result<Comparison, String> {
    let mut found = Comparison::default();
    let mut suspects = Vec::new();
    let cases = all(settings);
    for &level in &settings.levels {
        let cpu = Cpu { level, threads: &settings.threads };
        for case in cases.iter().filter(|case| case.name().contains(only)) {
            let Some(old) = record.find(&case.name(), &cpu) else {
                found.unknown += 1;
                continue;
            };
            found.compared += 1;
            let name = format!("{} {} {} threads", case.name(), cpu.level, cpu.threads.count());
            progress(&name);
            let ratio = time(case, &cpu, 1.0).ratio(old.figure);
            if ratio > 1.0 + tolerance {
                suspects.push((case.name(), level, old, name, ratio));
            } else if ratio < 1.0 / (1.0 + tolerance) {
                found.faster.push((name, ratio));
            }
        }
    }
    for (attempt, wait) in WAITS.into_iter().enumerate() {
        if suspects.is_empty() {
            break;
        }
        progress(&format!("{} seem slower: again in {wait} s", suspects.len()));
        std::thread::sleep(Duration::from_secs(wait));
        for (case, level, old, name, ratio) in &mut suspects {
            progress(name);
            *ratio = ratio.min(again(case, *level, (2 + attempt) as f64)?.ratio(old.figure));
        }
        suspects.retain(|(.., ratio)| *ratio > 1.0 + tolerance);
    }
    found.slower = suspects.into_iter().map(|(.., name, ratio)| (name, ratio)).collect();
    Ok(found)
}
