//! Records as files: `bench/record/<cpu>/<date>.csv`.

use super::Figure;
use crate::case::Case;
use nunatak_kernels::Cpu;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

const HEAD: &str = "case,level,threads,microseconds,by_products,by_stream,gflops,gbytes_per_s";

/// One case at one level on so many threads.
#[derive(Clone, PartialEq, Debug)]
pub struct Line {
    /// The case.
    pub case: String,
    /// The instruction set.
    pub level: String,
    /// Threads.
    pub threads: usize,
    /// What was measured.
    pub figure: Figure,
    flops: u64,
    bytes: u64,
}

impl Line {
    /// A figure of a case.
    pub fn new(case: &Case, cpu: &Cpu, figure: Figure) -> Line {
        let (flops, bytes) = (case.flops, case.bytes);
        Line { case: case.name(), level: cpu.level.name().into(), threads: cpu.threads.count(), figure, flops, bytes }
    }
}

/// Figures of one machine and day.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Record {
    /// The figures.
    pub lines: Vec<Line>,
}

impl Record {
    /// The line of a case.
    pub fn find(&self, case: &str, cpu: &Cpu) -> Option<&Line> {
        self.lines.iter().find(|l| l.case == case && l.level == cpu.level.name() && l.threads == cpu.threads.count())
    }

    /// As text.
    pub fn to_csv(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for Line { case, level, threads, figure: Figure { seconds, by_products, by_stream }, flops, bytes } in &self.lines {
            let (gflops, gbytes) = (*flops as f64 / seconds / 1e9, *bytes as f64 / seconds / 1e9);
            let micros = seconds * 1e6;
            // Writing to a string can't fail.
            let _ = writeln!(text, "{case},{level},{threads},{micros:.3},{by_products:.5},{by_stream:.5},{gflops:.2},{gbytes:.2}");
        }
        text
    }

    /// From text.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub fn parse(text: &str) -> Result<Record, String> {
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            return Err(format!("line 1: expected {HEAD:?}"));
        }
        let line = |(i, text): (usize, &str)| {
            let bad = || format!("line {}: {text:?} is not {HEAD:?}", i + 2);
            let fields: Vec<&str> = text.split(',').collect();
            let [case, level, threads, micros, by_products, by_stream, ..] = fields[..] else { return Err(bad()) };
            let number = |text: &str| text.parse::<f64>().ok().filter(|v| v.is_finite() && *v > 0.0).ok_or_else(bad);
            Ok(Line {
                case: case.into(),
                level: level.into(),
                threads: threads.parse().map_err(|_| bad())?,
                figure: Figure { seconds: number(micros)? / 1e6, by_products: number(by_products)?, by_stream: number(by_stream)? },
                flops: 0,
                bytes: 0,
            })
        };
        Ok(Record { lines: lines.enumerate().map(line).collect::<Result<_, _>>()? })
    }
}

/// Where the records of this CPU lie.
pub fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/record")).join(cpu_name())
}

/// The CPU as a file name: its model with family and stepping where the system tells (Linux), else its
/// architecture.
pub fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|l| l.split(':').next().is_some_and(|key| key.trim() == name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_lowercase())
    };
    let words: Vec<String> = ["model name", "cpu family", "model"].into_iter().filter_map(field).collect();
    let text = if words.is_empty() { std::env::consts::ARCH.to_string() } else { words.join(" ") };
    let text = text.replace("(r)", "").replace("(tm)", "");
    let parts: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|p| !p.is_empty()).collect();
    parts.join("-")
}

/// Today in UTC, as 2026-01-31.
pub fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    date(seconds / 86_400)
}

/// The date so many days after 1970-01-01.
fn date(days: u64) -> String {
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let figure = Figure { seconds: 12.5e-6, by_products: 0.5, by_stream: 2.25 };
        let line = Line { case: "8x64/conv1/forward".into(), level: "avx2".into(), threads: 2, figure, flops: 0, bytes: 0 };
        let record = Record { lines: vec![line] };
        assert_eq!(Record::parse(&record.to_csv()), Ok(record));
        for bad in ["", "case\n", &format!("{HEAD}\na,b\n"), &format!("{HEAD}\na,avx2,1,0,1,1,1,1\n"), &format!("{HEAD}\na,avx2,x,1,1,1\n")]
        {
            assert!(Record::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn days_have_dates() {
        for (days, text) in [(0, "1970-01-01"), (59, "1970-03-01"), (789, "1972-02-29"), (11_016, "2000-02-29"), (20_454, "2026-01-01")] {
            assert_eq!(date(days), text);
        }
    }
}
