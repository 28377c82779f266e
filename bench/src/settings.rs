//! What is benched, from the environment: so that `cargo bench` alone means something, and criterion
//! keeps its own arguments.
//!
//! | variable | meaning |
//! |---|---|
//! | `NUNATAK_BENCH=short` | one cell, the best level, the chosen algorithm, short times: everything in about a minute |
//! | `NUNATAK_BENCH_CELLS=8x64,1x224` | these cells |
//! | `NUNATAK_BENCH_THREADS=1` | so many threads |
//! | `NUNATAK_LEVEL=avx2` | this level alone |

use crate::cells::{CELLS, Cell};
use criterion::Criterion;
use criterion::measurement::Measurement;
use nunatak_kernels::{Level, Threads};
use std::env::var;
use std::time::Duration;

/// The settings of a run.
pub struct Settings {
    /// Everything in about a minute.
    pub short: bool,
    /// The cells of kernels.
    pub cells: Vec<Cell>,
    /// The cells of whole steps.
    pub step_cells: Vec<Cell>,
    /// Instruction sets, best first.
    pub levels: Vec<Level>,
    /// Who works.
    pub threads: Threads,
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Panics
    /// With what was expected, where a variable makes no sense.
    pub fn from_environment() -> Settings {
        let short = match var("NUNATAK_BENCH").as_deref() {
            Ok("short") => true,
            Ok("full") | Err(_) => false,
            Ok(other) => panic!("NUNATAK_BENCH={other}: expected short or full"),
        };
        let cell = |text: &str| Cell::parse(text).unwrap_or_else(|| panic!("NUNATAK_BENCH_CELLS: {text:?} is no cell: expected 8x64, say"));
        let asked = var("NUNATAK_BENCH_CELLS").ok().map(|list| list.split(',').map(cell).collect::<Vec<_>>());
        let (cells, step_cells) = match (asked, short) {
            (Some(cells), _) => (cells.clone(), cells),
            (None, true) => (vec![CELLS[0]], vec![CELLS[0]]),
            // Kernels at the ends of the table, steps everywhere.
            (None, false) => (vec![CELLS[0], CELLS[1], CELLS[4]], CELLS.to_vec()),
        };
        let level = Level::from_environment().unwrap_or_else(|e| panic!("NUNATAK_LEVEL: {e}"));
        let levels = if short || var("NUNATAK_LEVEL").is_ok() { vec![level] } else { Level::available().collect() };
        let count = match var("NUNATAK_BENCH_THREADS") {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("NUNATAK_BENCH_THREADS={text}: expected a number")),
            Err(_) => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let threads = Threads::new(count).unwrap_or_else(|e| panic!("{e}"));
        Settings { short, cells, step_cells, levels, threads }
    }

    /// Sets how long one case is warmed up and measured; criterion's own arguments win.
    pub fn criterion<M: Measurement>(&self, criterion: Criterion<M>) -> Criterion<M> {
        let [warm_up, measure] = if self.short { [10, 50] } else { [200, 600] }.map(Duration::from_millis);
        criterion.without_plots().sample_size(10).warm_up_time(warm_up).measurement_time(measure).configure_from_args()
    }
}
