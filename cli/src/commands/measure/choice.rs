//! `nunatak measure --assert`: is the algorithm that is chosen the fastest?
//!
//! Every convolution of the network at every pass of the step is timed by each algorithm that accepts
//! it, in turns, so that a disturbance meets all alike; a figure is the median of its turns. Everything lies
//! in one block, as a trainer has it; weights and their gradients are taken from a new place at every call,
//! as in a step, where megabytes lie between two calls of the same layer. A choice that seems slower than
//! the best by more than the margin is measured again, longer and later, before anything fails.
//!
//! Where the plan does both gradients and the update in one pass over the weights, that pass is timed
//! against the fastest way to do them apart.

use crate::block;
use crate::failure::Failure;
use crate::median::median;
use crate::outln;
use memmap2::MmapMut;
use nunatak_core::arena;
use nunatak_core::rng::Generator;
use nunatak_kernels::conv2d::{BackwardInput, BackwardStep, BackwardWeight, Forward};
use nunatak_kernels::sgd::{self, Sgd};
use nunatak_kernels::{Conv2d, Cpu, Finish};
use nunatak_nn::step::{call_convolution, call_name};
use nunatak_nn::{Algorithm, Event, Memory, Pass, Program, ValueId};
use serde_json::json;
use std::time::{Duration, Instant};

/// How much slower than the best a choice may be.
const MARGIN: f64 = 0.10;
/// Turns of each algorithm, and the least time of one in seconds.
const TURNS: usize = 9;
const TURN: f64 = 300e-6;
/// Numbers of weights that are gone through before one is used again: 64 MB.
const COLD: usize = 16 << 20;

/// What is timed.
#[derive(Clone, Copy, PartialEq)]
enum Work {
    Pass(Pass),
    /// The gradients, of the input too where it is wanted, and the update.
    Step {
        dx: bool,
    },
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Work::Pass(pass) => pass.name(),
            Work::Step { .. } => "backward_step",
        }
    }
}

/// A way to do it.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    By(Algorithm),
    /// The steps one by one: the input's gradient, the weight's, the update.
    Apart(Algorithm, Algorithm),
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::By(algorithm) => algorithm.name(),
            Way::Apart(..) => "apart",
        }
    }
}

/// One convolution and pass with its choice, and what each way took.
struct Finding {
    name: String,
    conv: Conv2d,
    work: Work,
    chosen: Way,
    /// Milliseconds of a call, the fastest first.
    times: Vec<(Way, f64)>,
}

impl Finding {
    /// How many times as long as the best the choice took.
    fn ratio(&self) -> f64 {
        let of_choice = self.times.iter().find(|(a, _)| *a == self.chosen).map_or(f64::INFINITY, |(_, ms)| *ms);
        of_choice / self.times[0].1
    }
}

/// Times the alternatives at all shapes of the step; what seems slow is measured again, `tries` times at most.
///
/// # Errors
/// [`Failure::Failed`] that names every shape whose choice is more than 10 % slower than the best.
pub(super) fn check(program: &Program, memory: Memory, cpu: &Cpu, tries: usize, json: bool) -> Result<(), Failure> {
    let mut findings = Vec::new();
    for (name, conv, work, chosen) in choices(program) {
        let ways = ways(&conv, work, memory, cpu)?;
        let mut finding = Finding { name, conv, work, chosen, times: time(&conv, work, &ways, memory, cpu, 1)? };
        for attempt in 1..=tries {
            if finding.ratio() > 1.0 + MARGIN {
                std::thread::sleep(Duration::from_secs(attempt as u64 - 1));
                finding.times = time(&conv, work, &ways, memory, cpu, 1 + attempt)?;
            }
        }
        if !json {
            let times: Vec<_> = finding.times.iter().map(|(way, ms)| format!("{} {ms:.3}", way.name())).collect();
            let (name, pass, chosen) = (&finding.name, work.name(), chosen.name());
            outln!("{name:<24} {pass:<16} {chosen:<10} {:>5.2} of the best; ms: {}", finding.ratio(), times.join(", "))?;
        }
        findings.push(finding);
    }
    if json {
        let times = |f: &Finding| f.times.iter().map(|(a, ms)| (a.name().to_string(), json!(ms))).collect::<serde_json::Map<_, _>>();
        let row =
            |f: &Finding| json!({"name": f.name, "pass": f.work.name(), "chosen": f.chosen.name(), "ratio": f.ratio(), "ms": times(f)});
        outln!("{}", json!({"margin": MARGIN, "choices": findings.iter().map(row).collect::<Vec<_>>()}))?;
    }
    let slow: Vec<_> = findings.iter().filter(|f| f.ratio() > 1.0 + MARGIN).collect();
    if slow.is_empty() {
        return Ok(());
    }
    let name = |f: &&Finding| {
        let c = f.conv;
        let ([high, wide], stride) = (c.kernel(), c.stride()[0]);
        let shape = format!("{}x{}x{}x{} to {}, {high}x{wide} stride {stride}", c.n(), c.h(), c.w(), c.c(), c.k());
        format!(
            "{} {} ({shape}): {} takes {:.2} times as long as {}",
            f.name,
            f.work.name(),
            f.chosen.name(),
            f.ratio(),
            f.times[0].0.name()
        )
    };
    Err(Failure::Failed(format!(
        "{} of {} choices are not the best:\n  {}",
        slow.len(),
        findings.len(),
        slow.iter().map(name).collect::<Vec<_>>().join("\n  ")
    )))
}

/// The different convolutions and passes of a step with the ways chosen.
fn choices(program: &Program) -> Vec<(String, Conv2d, Work, Way)> {
    let mut list: Vec<(String, Conv2d, Work, Way)> = Vec::new();
    for call in program.forward() {
        let Some((conv, algorithms)) = call_convolution(&call) else { continue };
        let mut all = vec![Work::Pass(Pass::Forward)];
        if let Some(back) = program.backward().find(|back| back.node() == call.node()) {
            if back.is_one_pass() {
                all.push(Work::Step { dx: back.wants_input(0) });
            } else {
                all.extend(back.wants_input(0).then_some(Work::Pass(Pass::BackwardInput)));
                all.extend(back.wants_weight(0).then_some(Work::Pass(Pass::BackwardWeight)));
            }
        }
        for work in all {
            let chosen = Way::By(match work {
                Work::Pass(pass) => algorithms[pass as usize],
                Work::Step { .. } => Algorithm::Stream,
            });
            if !list.iter().any(|(_, c, w, _)| *c == conv && *w == work) {
                list.push((call_name(program, Event::Forward(ValueId(call.node()))).to_string(), conv, work, chosen));
            }
        }
    }
    list
}

/// The ways to do it.
fn ways(conv: &Conv2d, work: Work, memory: Memory, cpu: &Cpu) -> Result<Vec<Way>, Failure> {
    let by =
        |pass| Algorithm::ALL.iter().filter(move |a| eligible(**a) && conv.accepts(pass, **a)).map(|a| Way::By(*a)).collect::<Vec<_>>();
    match work {
        Work::Pass(pass) => Ok(by(pass)),
        Work::Step { .. } => {
            let fastest = |pass| {
                Ok::<_, Failure>(match time(conv, Work::Pass(pass), &by(pass), memory, cpu, 1)?[0].0 {
                    Way::By(algorithm) | Way::Apart(_, algorithm) => algorithm,
                })
            };
            Ok(vec![Way::By(Algorithm::Stream), Way::Apart(fastest(Pass::BackwardInput)?, fastest(Pass::BackwardWeight)?)])
        }
    }
}

/// Whether the choice may fall on it: `im2col` allocates on every call, and runs only where it is asked
/// for.
fn eligible(algorithm: Algorithm) -> bool {
    algorithm != Algorithm::Im2col
}

/// Tensors of a convolution's calls, with as many copies of the weights as make every call read cold ones.
struct Tensors<'a> {
    conv: &'a Conv2d,
    copies: usize,
    /// The copy that the last call used.
    copy: usize,
    x: &'a mut [f32],
    w: &'a mut [f32],
    y: &'a mut [f32],
    momentum: &'a mut [f32],
    dw: &'a mut [f32],
    inputs: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl<'a> Tensors<'a> {
    /// Of random numbers, in memory that `block` then owns.
    fn new(conv: &'a Conv2d, work: Work, memory: Memory, cpu: &Cpu, block: &'a mut Option<MmapMut>) -> Result<Self, Failure> {
        let w_len = conv.weights().len();
        let w_room = Self::room(conv);
        let copies = (COLD / w_room).clamp(1, 4096);
        let step = matches!(work, Work::Step { .. });
        let scratch = Pass::ALL.into_iter().flat_map(|pass| {
            let by = Algorithm::ALL.iter().filter(move |a| conv.accepts(pass, **a));
            by.map(move |a| conv.scratch_len(pass, *a, memory, cpu.threads.count()))
        });
        let scratch = scratch.max().unwrap_or(0);
        let momenta = if step { copies * w_room } else { 0 };
        let lens = [conv.x_len(), copies * w_room, conv.y_len(), momenta, w_len, conv.x_len(), scratch];
        let all = lens.iter().map(|len| len.next_multiple_of(arena::UNIT)).sum();
        let block = block.insert(block::reserve(arena::block_bytes(all))?);
        let mut rest = arena::numbers(block, all).map_err(|e| Failure::Failed(e.to_string()))?;
        let mut generator = Generator::manual_seed(1);
        rest.iter_mut().for_each(|v| *v = generator.uniform(-1.0, 1.0));
        let [x, w, y, momentum, dw, inputs, scratch] = lens.map(|len| {
            let (next, more) = std::mem::take(&mut rest).split_at_mut(len.next_multiple_of(arena::UNIT));
            rest = more;
            &mut next[..len]
        });
        Ok(Tensors { conv, copies, copy: 0, x, w, y, momentum, dw, inputs, scratch })
    }

    /// Numbers from one copy of the weights to the next: a multiple of a cache line, so that every copy is aligned.
    fn room(conv: &Conv2d) -> usize {
        conv.weights().len().next_multiple_of(arena::UNIT)
    }

    /// One call, or the calls that do the same work.
    fn call(&mut self, cpu: &Cpu, work: Work, way: Way) {
        self.copy = (self.copy + 1) % self.copies;
        let (conv, room, w_len) = (self.conv, Self::room(self.conv), self.conv.weights().len());
        let w = &mut self.w[self.copy * room..][..w_len];
        let Tensors { x, y, dw, inputs, scratch, .. } = self;
        // So small a rate that the weights stay what they are.
        let sgd = Sgd { momentum: 0.9, ..Sgd::new(1e-30) };
        match (work, way) {
            (Work::Pass(Pass::Forward), Way::By(a)) => {
                conv.forward(cpu, a, Forward { x, w, y, add: false, finish: Finish::None, scratch });
            }
            (Work::Pass(Pass::BackwardInput), Way::By(a)) => {
                conv.backward_input(cpu, a, BackwardInput { w, dy: y, dx: x, add: false, scratch });
            }
            (Work::Pass(Pass::BackwardWeight), Way::By(a)) => {
                conv.backward_weight(cpu, a, BackwardWeight { x, dy: y, dw: w, add: false, scratch });
            }
            (Work::Pass(_), Way::Apart(..)) => {}
            (Work::Step { dx }, Way::By(_)) => {
                let momentum = &mut self.momentum[self.copy * room..][..w_len];
                let dx = dx.then_some(&mut **x);
                let step = BackwardStep { x: inputs, dy: y, w, momentum, first: false, dx, add: false, scratch };
                conv.backward_step(cpu, &sgd, step);
            }
            (Work::Step { dx }, Way::Apart(input, weight)) => {
                conv.backward_weight(cpu, weight, BackwardWeight { x: inputs, dy: y, dw, add: false, scratch });
                if dx {
                    conv.backward_input(cpu, input, BackwardInput { w, dy: y, dx: x, add: false, scratch });
                }
                sgd::step(cpu, &sgd, w, dw, Some(&mut self.momentum[self.copy * room..][..w_len]), false);
            }
        }
    }
}

/// Median times of a call in ms by each way, the fastest first.
fn time(conv: &Conv2d, work: Work, ways: &[Way], memory: Memory, cpu: &Cpu, effort: usize) -> Result<Vec<(Way, f64)>, Failure> {
    let mut block = None;
    let mut tensors = Tensors::new(conv, work, memory, cpu, &mut block)?;
    let mut turn = |way: Way, calls: usize| {
        let start = Instant::now();
        (0..calls).for_each(|_| tensors.call(cpu, work, way));
        start.elapsed().as_secs_f64() / calls as f64
    };
    cpu.threads.enter(|| {
        let calls: Vec<usize> = ways
            .iter()
            .map(|&a| {
                let once = turn(a, 1).min(turn(a, 1));
                (TURN / once).ceil().clamp(1.0, 10_000.0) as usize
            })
            .collect();
        let mut times = vec![Vec::new(); ways.len()];
        for _ in 0..TURNS * effort {
            for ((times, &way), &calls) in times.iter_mut().zip(ways).zip(&calls) {
                times.push(turn(way, calls) * 1e3);
            }
        }
        let mut medians: Vec<_> = ways.iter().copied().zip(times.iter_mut().map(|times| median(times))).collect();
        medians.sort_by(|a, b| a.1.total_cmp(&b.1));
        Ok(medians)
    })
}
