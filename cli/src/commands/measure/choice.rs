//! `nunatak measure --assert`: is the algorithm that is chosen the fastest?
//!
//! Every convolution of the network at every pass of the step is timed by each algorithm that accepts
//! it, in turns, so that a disturbance meets all alike; a figure is the median of its turns. Weights and
//! their gradients are taken from a new place at every call, as in a step, where megabytes lie between
//! two calls of the same layer. A choice that seems slower than the best by more than the margin is
//! measured again, longer, before anything fails.

use crate::failure::Failure;
use crate::outln;
use nunatak_core::arena;
use nunatak_core::rng::Generator;
use nunatak_kernels::{Conv2d, Cpu, Finish};
use nunatak_nn::summary::call_name;
use nunatak_nn::{Algorithm, Blueprint, Memory, Pass};
use serde_json::json;
use std::time::Instant;

/// How much slower than the best a choice may be.
const MARGIN: f64 = 0.10;
/// How often a suspect is measured again.
const TRIES: usize = 3;
/// Turns of each algorithm, and the least time of one in seconds.
const TURNS: usize = 9;
const TURN: f64 = 300e-6;
/// Numbers of weights that are gone through before one is used again: 64 MB.
const COLD: usize = 16 << 20;

/// One convolution and pass with its choice, and what each algorithm took.
struct Finding {
    name: String,
    conv: Conv2d,
    pass: Pass,
    chosen: Algorithm,
    /// Milliseconds of a call, the fastest first.
    times: Vec<(Algorithm, f64)>,
}

impl Finding {
    /// How many times as long as the best the choice took.
    fn ratio(&self) -> f64 {
        let of_choice = self.times.iter().find(|(a, _)| *a == self.chosen).map_or(f64::INFINITY, |(_, ms)| *ms);
        of_choice / self.times[0].1
    }
}

/// Times the alternatives at all shapes of the step.
///
/// # Errors
/// [`Failure::Failed`] that names every shape whose choice is more than 10 % slower than the best.
pub(super) fn check(blueprint: &Blueprint, cpu: &Cpu, json: bool) -> Result<(), Failure> {
    let memory = blueprint.options().memory;
    let mut findings = Vec::new();
    for (name, conv, pass, chosen) in choices(blueprint) {
        let mut finding = Finding { name, conv, pass, chosen, times: time(&conv, pass, memory, cpu, 1) };
        for attempt in 1..=TRIES {
            if finding.ratio() > 1.0 + MARGIN {
                finding.times = time(&conv, pass, memory, cpu, 1 + attempt);
            }
        }
        if !json {
            let times: Vec<_> = finding.times.iter().map(|(a, ms)| format!("{a} {ms:.3}")).collect();
            let Finding { name, chosen, .. } = &finding;
            outln!("{name:<24} {pass:<16} {chosen:<10} {:>5.2} of the best; ms: {}", finding.ratio(), times.join(", "))?;
        }
        findings.push(finding);
    }
    if json {
        let times = |f: &Finding| f.times.iter().map(|(a, ms)| (a.name().to_string(), json!(ms))).collect::<serde_json::Map<_, _>>();
        let row =
            |f: &Finding| json!({"name": f.name, "pass": f.pass.name(), "chosen": f.chosen.name(), "ratio": f.ratio(), "ms": times(f)});
        outln!("{}", json!({"margin": MARGIN, "choices": findings.iter().map(row).collect::<Vec<_>>()}))?;
    }
    let slow: Vec<_> = findings.iter().filter(|f| f.ratio() > 1.0 + MARGIN).collect();
    if slow.is_empty() {
        return Ok(());
    }
    let name = |f: &&Finding| {
        let c = f.conv;
        let shape = format!("{}x{}x{}x{} to {}, {}x{} stride {}", c.n, c.h, c.w, c.c, c.k, c.kernel, c.kernel, c.stride);
        format!("{} {} ({shape}): {} takes {:.2} times as long as {}", f.name, f.pass, f.chosen, f.ratio(), f.times[0].0)
    };
    Err(Failure::Failed(format!(
        "{} of {} choices are not the best:\n  {}",
        slow.len(),
        findings.len(),
        slow.iter().map(name).collect::<Vec<_>>().join("\n  ")
    )))
}

/// The different convolutions and passes of a step with the algorithms chosen.
fn choices(blueprint: &Blueprint) -> Vec<(String, Conv2d, Pass, Algorithm)> {
    let mut list: Vec<(String, Conv2d, Pass, Algorithm)> = Vec::new();
    for v in blueprint.tape().values() {
        let Some((conv, algorithms, _)) = blueprint.tape().node(v).ok().and_then(|node| node.op.convolution()) else { continue };
        let need = blueprint.needs().at(v);
        for (pass, exists) in Pass::ALL.into_iter().zip([true, need.dx[0], need.dw[0]]) {
            if exists && !list.iter().any(|(_, c, p, _)| *c == conv && *p == pass) {
                list.push((call_name(blueprint, nunatak_nn::Call::Forward(v)).to_string(), conv, pass, algorithms[pass as usize]));
            }
        }
    }
    list
}

/// Whether the choice may fall on it: `im2col` allocates on every call, and runs only where it is asked
/// for.
fn eligible(algorithm: Algorithm) -> bool {
    algorithm != Algorithm::Im2col
}

/// Aligned numbers.
struct Block(Vec<u8>, usize);

impl Block {
    fn new(len: usize) -> Block {
        Block(vec![0; arena::block_bytes(len)], len)
    }
    fn numbers(&mut self) -> &mut [f32] {
        match arena::numbers(&mut self.0, self.1) {
            Ok(numbers) => numbers,
            Err(_) => unreachable!("the block has the bytes that the arena asks for"),
        }
    }
}

/// Median times of a call in ms by every algorithm, the fastest first.
fn time(conv: &Conv2d, pass: Pass, memory: Memory, cpu: &Cpu, effort: usize) -> Vec<(Algorithm, f64)> {
    let mut generator = Generator::manual_seed(1);
    let mut random = |block: &mut Block| block.numbers().iter_mut().for_each(|v| *v = generator.uniform(-1.0, 1.0));
    // A multiple of a cache line, so that every copy is aligned.
    let w_len = conv.weights().len();
    let w_room = w_len.next_multiple_of(arena::UNIT);
    let copies = (COLD / w_room).clamp(1, 4096);
    let (mut x, mut w, mut y) = (Block::new(conv.x_len()), Block::new(copies * w_room), Block::new(conv.y_len()));
    [&mut x, &mut w, &mut y].into_iter().for_each(&mut random);
    let (x, w, y) = (x.numbers(), w.numbers(), y.numbers());
    let algorithms: Vec<_> = Algorithm::ALL.iter().copied().filter(|a| eligible(*a) && conv.accepts(pass, *a)).collect();
    let scratch = algorithms.iter().map(|a| conv.scratch_len(pass, *a, memory, cpu.threads.count())).max();
    let mut scratch = Block::new(scratch.unwrap_or(0));
    let scratch = scratch.numbers();
    let mut copy = 0;
    let mut turn = |algorithm: Algorithm, calls: usize| {
        let start = Instant::now();
        for _ in 0..calls {
            copy = (copy + 1) % copies;
            let w = &mut w[copy * w_room..][..w_len];
            match pass {
                Pass::Forward => conv.forward(cpu, algorithm, x, w, y, false, Finish::None, scratch),
                Pass::BackwardInput => conv.backward_input(cpu, algorithm, w, y, x, false, scratch),
                Pass::BackwardWeight => conv.backward_weight(cpu, algorithm, x, y, w, false, scratch),
            }
        }
        start.elapsed().as_secs_f64() / calls as f64
    };
    cpu.threads.enter(|| {
        let calls: Vec<usize> = algorithms
            .iter()
            .map(|&a| {
                let once = turn(a, 1).min(turn(a, 1));
                (TURN / once).ceil().clamp(1.0, 10_000.0) as usize
            })
            .collect();
        let mut times = vec![Vec::new(); algorithms.len()];
        for _ in 0..TURNS * effort {
            for ((times, &algorithm), &calls) in times.iter_mut().zip(&algorithms).zip(&calls) {
                times.push(turn(algorithm, calls) * 1e3);
            }
        }
        let middle = |mut times: Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        let mut medians: Vec<_> = algorithms.iter().copied().zip(times.into_iter().map(middle)).collect();
        medians.sort_by(|a, b| a.1.total_cmp(&b.1));
        medians
    })
}
