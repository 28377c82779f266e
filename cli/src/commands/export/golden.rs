//! The golden trace: what every call of some steps writes, computed here with the target's arithmetic.

use super::plan::Exported;
use crate::failure::Failure;
use nunatak_core::arena;
use nunatak_nn::step::{Digest, Event, Watch, Written, call_name};
use nunatak_nn::{Denormals, Level, Native, Program, Sgd, Threads, Trainer};
use std::sync::Mutex;

/// Steps of each program that trains; one that predicts is run once.
pub(super) const STEPS: usize = 3;
/// Learning rate of the steps.
pub(super) const RATE: f32 = 0.01;
/// Their momentum, where there is one.
pub(super) const MOMENTUM: f32 = 0.9;
/// Each pixel becomes (pixel / 255 - MEAN) / DEVIATION.
pub(super) const MEAN: f32 = 0.5;
/// See [`MEAN`].
pub(super) const DEVIATION: f32 = 0.25;
/// The first number of the generator of pixels.
pub(super) const SEED: u32 = 2463534242;

/// A call of a program.
#[derive(Clone, PartialEq)]
pub(super) struct Call {
    /// What it is.
    pub(super) event: Event,
    /// Its name in words: `layer1.0.conv1 forward`.
    pub(super) name: String,
}

/// A tensor of the weights that a call reads where they lie.
pub(super) struct Read {
    /// The call's place in the step.
    pub(super) call: usize,
    /// Its first byte in the weights.
    pub(super) at: usize,
    /// Bytes.
    pub(super) bytes: usize,
    /// Their hash: [`hash`].
    pub(super) hash: u32,
}

/// FNV-1a of 32 bits.
fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// What the steps of one program gave.
pub(super) struct Trace {
    /// The calls of a step, in their order.
    pub(super) calls: Vec<Call>,
    /// What they read of the weights.
    pub(super) reads: Vec<Read>,
    /// What they wrote, step by step.
    pub(super) digests: Vec<Digest>,
    /// The loss of each step, where there is one.
    pub(super) losses: Vec<f32>,
}

/// Pixels of any batch: the high bytes of a linear congruential generator's numbers.
pub(super) struct Pixels(u32);

impl Pixels {
    /// From the beginning.
    pub(super) fn new() -> Pixels {
        Pixels(SEED)
    }
    fn next(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 24) as u8
    }
}

#[derive(Default)]
struct Recorder(Mutex<Vec<(Event, Digest)>>);

impl Watch for Recorder {
    fn now(&self) -> u64 {
        0
    }
    fn called(&self, _: Event, _: u64) {}
    fn wrote(&self, event: Event, written: &Written) {
        self.0.lock().expect("one thread").push((event, written.digest()));
    }
}

/// Runs every program of the bundle, one after the other in one trainer: a prediction, or some steps.
///
/// # Errors
/// [`Failure`].
pub(super) fn traces(exported: &Exported) -> Result<Vec<Trace>, Failure> {
    let (level, _) = exported.target.golden;
    let level = Level::by_name(level).map_err(|e| Failure::Failed(format!("the golden trace: {e}")))?;
    let programs = exported.programs();
    let weights = Native::parse(exported.weights.bytes()).map_err(nunatak_nn::Error::from)?;
    let recorder = Recorder::default();
    let mut memory = vec![0; exported.most_bytes()];
    // Boards compute with denormal numbers.
    let threads = Threads::serial().with_denormals(Denormals::Keep);
    let mut trainer = Trainer::with_weights(programs[0].view(), &mut memory, weights, level, threads)?;
    trainer.watch(Some(&recorder));
    let (mut traces, mut pixels) = (Vec::new(), Pixels::new());
    for (purpose, program) in exported.purposes.iter().zip(&programs) {
        trainer.switch(program.view())?;
        let trains = purpose.trainable.is_some() && trainer.trains();
        let mut losses = Vec::new();
        for _ in 0..if trains { STEPS } else { 1 } {
            step(&mut trainer, exported, purpose.batch, trains, &mut pixels, &mut losses)?;
        }
        let written = std::mem::take(&mut *recorder.0.lock().expect("one thread"));
        let of_a_step = written.len() / if trains { STEPS } else { 1 };
        let named = |event: Event| Call { event, name: format!("{} {}", call_name(program, event), event.pass()) };
        let calls: Vec<Call> = written[..of_a_step].iter().map(|(event, _)| named(*event)).collect();
        let reads = reads(program, &calls, exported.weights.bytes());
        traces.push(Trace { calls, reads, digests: written.into_iter().map(|(_, digest)| digest).collect(), losses });
    }
    Ok(traces)
}

/// What the forward calls of a step read of the weights in place.
fn reads(program: &Program, calls: &[Call], weights: &[u8]) -> Vec<Read> {
    let mut reads = Vec::new();
    for of_program in program.forward() {
        let here = |call: &Call| matches!(call.event, Event::Forward(value) if value.index() == of_program.node() as usize);
        let Some(call) = calls.iter().position(here) else { continue };
        let entries = (0..of_program.entry_count()).map(|position| program.entry(of_program.entry(position)));
        for entry in entries.filter(|entry| entry.is_borrowed()) {
            let (at, bytes) = (entry.place().unit as usize * arena::ALIGN, entry.place().len() * size_of::<f32>());
            reads.push(Read { call, at, bytes, hash: hash(&weights[at..at + bytes]) });
        }
    }
    reads
}

/// One step, or one prediction.
fn step(
    trainer: &mut Trainer,
    exported: &Exported,
    batch: usize,
    trains: bool,
    pixels: &mut Pixels,
    losses: &mut Vec<f32>,
) -> Result<(), Failure> {
    let channels = exported.network.in_channels();
    let image: Vec<u8> = (0..batch * exported.size * exported.size * channels).map(|_| pixels.next()).collect();
    let data = trainer.value_named("data")?;
    trainer.set_input_bytes(data, &image, &vec![MEAN; channels], &vec![DEVIATION; channels])?;
    if trains {
        let labels: Vec<i64> = (0..batch).map(|i| (i % exported.network.classes()) as i64).collect();
        trainer.set_labels(trainer.value_named("labels")?, &labels)?;
    }
    trainer.forward()?;
    if trains {
        losses.push(trainer.finite(trainer.value_named("loss")?)?);
        let momentum = if exported.momentum { MOMENTUM } else { 0.0 };
        trainer.backward_and_step(Sgd { momentum, ..Sgd::new(RATE) })?;
    }
    Ok(())
}
