//! Compares this build with the last record of this CPU, or writes one.
//!
//!     cargo bench --bench record -- compare [--only TEXT] [--tolerance 0.10]
//!     cargo bench --bench record -- write
//!
//! Cells, threads and levels come from the environment, see `nunatak_bench::settings`; without it: one
//! thread, the best level, the cells 1x64 and 8x64 (kernels) and 1x64 and 1x224 (steps).

use nunatak_bench::cells::Cell;
use nunatak_bench::record::{self, Figure, Record, TOLERANCE};
use nunatak_bench::settings::Settings;
use nunatak_kernels::{Cpu, Level, Threads};
use std::io::IsTerminal;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match run(&args) {
        Ok(code) => code,
        Err(what) => {
            eprintln!("error: {what}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &[String]) -> Result<ExitCode, String> {
    let usage = "expected `write` or `compare [--only TEXT] [--tolerance 0.10]`";
    if let [command, case, effort] = args
        && command == "figure"
    {
        return figure(case, effort.parse().map_err(|_| format!("effort {effort}"))?);
    }
    let Some((command, options)) = args.split_first() else {
        println!("nothing is recorded or compared without a command: {usage}");
        return Ok(ExitCode::SUCCESS);
    };
    let (mut only, mut tolerance) = ("", TOLERANCE);
    for pair in options.chunks(2) {
        match pair {
            [name, value] if name == "--only" => only = value,
            [name, value] if name == "--tolerance" => {
                let parsed = value.parse().ok().filter(|v: &f64| *v > 0.0 && v.is_finite());
                tolerance = parsed.ok_or_else(|| format!("--tolerance {value}: expected a number above 0"))?;
            }
            _ => return Err(format!("{}: {usage}", pair.join(" "))),
        }
    }
    match command.as_str() {
        "write" => write(only),
        "compare" => compare(only, tolerance),
        other => Err(format!("{other}: {usage}")),
    }
}

/// One thread is disturbed least; what is slower on one is slower on all.
fn settings() -> Settings {
    let set = |name: &str| std::env::var(name).is_ok();
    let mut settings = Settings::from_environment();
    if !set("NUNATAK_BENCH_THREADS") {
        settings.threads = Threads::serial();
    }
    if !set("NUNATAK_BENCH_CELLS") {
        settings.cells = vec![Cell { n: 1, size: 64 }, Cell { n: 8, size: 64 }];
        settings.step_cells = vec![Cell { n: 1, size: 64 }, Cell { n: 1, size: 224 }];
    }
    if !set("NUNATAK_LEVEL") {
        settings.levels = vec![Level::detect()];
    }
    settings
}

/// Shows on a terminal what is going on.
fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[2K{what}");
    }
}

fn write(only: &str) -> Result<ExitCode, String> {
    let record = record::measure(&settings(), only, &mut progress);
    progress("");
    let folder = record::folder();
    let path = folder.join(format!("{}.csv", record::today()));
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    std::fs::write(&path, record.to_csv()).map_err(|e| format!("{}: {e}", path.display()))?;
    println!("{} figures written to {}", record.lines.len(), path.display());
    Ok(ExitCode::SUCCESS)
}

/// Prints one figure: what a comparison starts for each suspect.
fn figure(case: &str, effort: f64) -> Result<ExitCode, String> {
    let settings = settings();
    let found = record::all(&settings).into_iter().find(|c| c.name() == case).ok_or_else(|| format!("no case {case}"))?;
    println!("{}", record::time(&found, &Cpu { level: settings.levels[0], threads: &settings.threads }, effort));
    Ok(ExitCode::SUCCESS)
}

/// A figure that a new process measures.
fn in_a_process(case: &str, level: Level, effort: f64) -> Result<Figure, String> {
    let program = std::env::current_exe().map_err(|e| format!("this program: {e}"))?;
    let args = ["figure", case, &effort.to_string()];
    let out = std::process::Command::new(&program).args(args).env("NUNATAK_LEVEL", level.name()).output();
    let out = out.map_err(|e| format!("{}: {e}", program.display()))?;
    let failed = || format!("{} {}: {}", program.display(), args.join(" "), String::from_utf8_lossy(&out.stderr));
    Figure::parse(&String::from_utf8_lossy(&out.stdout)).filter(|_| out.status.success()).ok_or_else(failed)
}

fn compare(only: &str, tolerance: f64) -> Result<ExitCode, String> {
    let folder = record::folder();
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .map_err(|e| format!("{}: {e}; this CPU has no record: write one first", folder.display()))?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "csv"))
        .collect();
    files.sort();
    let path = files.last().ok_or_else(|| format!("{}: no record; write one first", folder.display()))?;
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let old = Record::parse(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let found = record::compare(&old, &settings(), only, tolerance, &mut progress, &mut in_a_process)?;
    progress("");
    println!("{} cases compared with {}; {} are not in it", found.compared, path.display(), found.unknown);
    for (name, ratio) in &found.faster {
        println!("faster: {name}: {ratio:.2} of the recorded time");
    }
    for (name, ratio) in &found.slower {
        println!("SLOWER: {name}: {ratio:.2} times the recorded time, in every try");
    }
    if found.compared == 0 {
        return Err("nothing was compared".into());
    }
    Ok(if found.slower.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
