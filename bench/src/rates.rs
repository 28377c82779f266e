//! Criterion's clock, with rates that mean something: GFLOP/s, share of the measured peak, GB/s.

use crate::case::Case;
use crate::settings::Settings;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput};
use nunatak_kernels::{Cpu, calibration};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;
use std::time::{Duration, Instant};

/// Wall time, and how results are written. Of a case with operations it shows GFLOP/s and the share
/// of the peak, of any case the bytes of its tensors a second.
pub struct Rates {
    clock: WallTime,
    format: Format,
}

struct Format {
    /// GFLOP/s that the level and the threads of the running case reach at best.
    peak: Rc<Cell<f64>>,
}

impl ValueFormatter for Format {
    fn format_throughput(&self, throughput: &Throughput, nanoseconds: f64) -> String {
        let gflops = |flops: u64| {
            format!("{:.1} GFLOP/s {:.0}% of peak", flops as f64 / nanoseconds, 100.0 * flops as f64 / nanoseconds / self.peak.get())
        };
        let gbytes = |bytes: u64| format!("{:.2} GB/s", bytes as f64 / nanoseconds);
        match *throughput {
            Throughput::Elements(flops) => gflops(flops),
            Throughput::Bytes(bytes) | Throughput::BytesDecimal(bytes) => gbytes(bytes),
            Throughput::ElementsAndBytes { elements, bytes } => format!("{} {}", gflops(elements), gbytes(bytes)),
            Throughput::Bits(_) => String::new(),
        }
    }
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical, values)
    }
    fn scale_throughputs(&self, typical: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_throughputs(typical, throughput, values)
    }
    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(values)
    }
}

impl Measurement for Rates {
    type Intermediate = Instant;
    type Value = Duration;
    fn start(&self) -> Instant {
        self.clock.start()
    }
    fn end(&self, start: Instant) -> Duration {
        self.clock.end(start)
    }
    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        self.clock.add(a, b)
    }
    fn zero(&self) -> Duration {
        self.clock.zero()
    }
    fn to_f64(&self, value: &Duration) -> f64 {
        self.clock.to_f64(value)
    }
    fn formatter(&self) -> &dyn ValueFormatter {
        &self.format
    }
}

/// The measured peak in 10⁹ operations a second.
pub fn peak(cpu: &Cpu) -> f64 {
    let start = Instant::now();
    let mut results = vec![0.0; 4 * cpu.threads.count()];
    calibration::peak(cpu, &mut results, &|| start.elapsed().as_secs_f64()) / 1e9
}

/// Runs cases in criterion, every level beside the others. What a bench's `main` calls.
pub fn bench(cases: impl Fn(&Settings) -> Vec<Case>) {
    let settings = Settings::from_environment();
    let shown = Rc::new(Cell::new(1.0));
    let rates = Rates { clock: WallTime, format: Format { peak: shown.clone() } };
    let mut criterion = settings.criterion(Criterion::default().with_measurement(rates));
    let peaks: Vec<f64> = settings.levels.iter().map(|&level| peak(&Cpu { level, threads: &settings.threads })).collect();
    for (level, peak) in settings.levels.iter().zip(&peaks) {
        eprintln!("measured peak of {level} on {} threads: {peak:.1} GFLOP/s", settings.threads.count());
    }
    let threads = &settings.threads;
    for case in cases(&settings) {
        let mut group = criterion.benchmark_group(&case.group);
        group.throughput(match case.flops {
            0 => Throughput::Bytes(case.bytes),
            flops => Throughput::ElementsAndBytes { elements: flops, bytes: case.bytes },
        });
        for (&level, &peak) in settings.levels.iter().zip(&peaks) {
            shown.set(peak);
            let id = if case.variant.is_empty() { level.to_string() } else { format!("{}/{level}", case.variant) };
            let cpu = Cpu { level, threads };
            std::thread::scope(|scope| {
                let mut ready = None;
                group.bench_function(id, |bencher| {
                    let (counts, times) = ready.get_or_insert_with(|| prepared(scope, &case, &cpu));
                    bencher.iter_custom(|count| {
                        counts.send(count).expect("the case waits");
                        times.recv().expect("the case failed, see above")
                    });
                });
            });
        }
        group.finish();
    }
    criterion.final_summary();
}

/// Prepares a case on a thread of its own, which then runs it as often as it is told and answers with
/// the time. Criterion asks anew for every sample, and only for what its filter lets through: so a case
/// is prepared, and compared with the reference, once or not at all.
fn prepared<'s>(scope: &'s Scope<'s, '_>, case: &'s Case, cpu: &'s Cpu) -> (Sender<u64>, Receiver<Duration>) {
    let (counts, asked) = channel::<u64>();
    let (took, times) = channel();
    scope.spawn(move || {
        (case.with)(cpu, &mut |run| {
            for count in &asked {
                let time = cpu.threads.enter(|| {
                    let start = Instant::now();
                    (0..count).for_each(|_| run());
                    start.elapsed()
                });
                took.send(time).expect("criterion waits");
            }
        });
    });
    (counts, times)
}
