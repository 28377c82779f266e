//! Part three: a small network learns four motifs, then a new head on it four others.

use super::draw::{Motif, Pictures, SIZE};
use super::{Machine, bytes};
use crate::failure::Failure;
use crate::outln;
use crate::setup::{Network, Plan, Setup, parameter_numbers};
use nunatak_core::rng::Generator;
use nunatak_data::{sequential, shuffled};
use nunatak_nn::{CrossEntropyOptions, Loss, Mode, NormPolicy, Optimizer, Recipe, Schedule, Sgd, Trainer};
use std::time::{Duration, Instant};

const BATCH: usize = 32;
const TRAIN_EACH: usize = 128;
const VALIDATION_EACH: usize = 64;
const EPOCHS: u64 = 8;
const HEAD_EPOCHS: u64 = 6;
/// The highest learning rates: of all layers, of `fc` alone.
const RATE: f32 = 0.1;
const HEAD_RATE: f32 = 0.1;

/// A training step and the evaluation that goes with it.
struct Plans {
    step: Plan,
    evaluation: Plan,
}

impl Plans {
    fn new(machine: &Machine, trainable: &str, norm_policy: NormPolicy) -> Result<Plans, Failure> {
        let step = Setup {
            mode: Mode::Train,
            norm_policy,
            trainable: trainable.into(),
            loss: Loss::CrossEntropy(CrossEntropyOptions::default()),
            threads: machine.threads.count(),
            momentum: true,
            ..Setup::inference(Network::Recipe(recipe()), BATCH, SIZE)
        };
        // Without a loss there is no walk back; the same trainable set keeps the momentum.
        let evaluation = Setup { mode: Mode::Eval, loss: Loss::None, ..step.clone() };
        Ok(Plans { step: step.plan()?, evaluation: evaluation.plan()? })
    }

    /// Bytes of the block that both need.
    fn bytes(&self) -> usize {
        Trainer::bytes(&self.step.program).max(Trainer::bytes(&self.evaluation.program))
    }
}

fn recipe() -> Recipe {
    Recipe::resnet8(Motif::FIRST.len())
}

/// How a training went.
struct Outcome {
    before: f64,
    after: f64,
    time: Duration,
    images: usize,
}

impl Outcome {
    fn rate(&self) -> f64 {
        self.images as f64 / self.time.as_secs_f64()
    }
}

/// The share of pictures that the network names rightly, in percent.
fn accuracy(trainer: &mut Trainer, plans: &Plans, pictures: &Pictures) -> Result<f64, Failure> {
    let Plan { program, values, .. } = &plans.evaluation;
    trainer.switch(program.clone())?;
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    let classes = recipe().classes;
    let mut logits = vec![0.0; BATCH * classes];
    let mut right = 0;
    for order in sequential(pictures.len()).chunks_exact(BATCH) {
        pictures.batch(order, &mut images, &mut labels);
        trainer.set_input(values.data, &images)?;
        trainer.forward()?;
        trainer.value(values.prediction, &mut logits)?;
        for (row, label) in logits.chunks_exact(classes).zip(&labels) {
            let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i as i64);
            right += usize::from(best == Some(*label));
        }
    }
    Ok(100.0 * right as f64 / pictures.len() as f64)
}

/// Trains for some epochs, with a line for each.
fn train(
    trainer: &mut Trainer,
    plans: &Plans,
    [pictures, validation]: [&Pictures; 2],
    settings: Sgd,
    epochs: u64,
    random: &mut Generator,
) -> Result<Outcome, Failure> {
    let optimizer = Optimizer::new(settings)?;
    let before = accuracy(trainer, plans, validation)?;
    outln!("    before      {:10}    validation {before:5.1} %", "")?;
    let steps = pictures.len() / BATCH;
    let schedule = Schedule::OneCycle { total: epochs * steps as u64, rise: 0.3, div: 25.0, final_div: 1e4 };
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    let mut outcome = Outcome { before, after: before, time: Duration::ZERO, images: 0 };
    let mut step = 0;
    for epoch in 1..=epochs {
        let Plan { program, values, .. } = &plans.step;
        trainer.switch(program.clone())?;
        let start = Instant::now();
        let mut sum = 0.0;
        for order in shuffled(random, pictures.len()).chunks_exact(BATCH) {
            pictures.batch(order, &mut images, &mut labels);
            trainer.set_input(values.data, &images)?;
            let (Some(target), Some(loss)) = (values.labels, values.loss) else { continue };
            trainer.set_labels(target, &labels)?;
            trainer.forward()?;
            sum += f64::from(trainer.finite(loss)?);
            trainer.backward_and_step(optimizer.scaled(schedule.factor(step))?)?;
            step += 1;
        }
        let time = start.elapsed();
        outcome.time += time;
        outcome.images += steps * BATCH;
        outcome.after = accuracy(trainer, plans, validation)?;
        let rate = (steps * BATCH) as f64 / time.as_secs_f64();
        outln!("    epoch {epoch}/{epochs}   loss {:.3}    validation {:5.1} %  {rate:8.0} images/s", sum / steps as f64, outcome.after)?;
    }
    Ok(outcome)
}

/// The names of motifs, in a line of their own.
fn names(motifs: &[Motif]) -> String {
    motifs.iter().map(|m| m.name()).collect::<Vec<_>>().join(", ")
}

pub(super) fn run(machine: &Machine, seed: u64) -> Result<(), Failure> {
    // The low 32 bits of a seed are all that count.
    let draw = |motifs: &[Motif], each, which| Pictures::draw(motifs, each, seed.wrapping_mul(4).wrapping_add(which));
    let start = Instant::now();
    let first = [draw(&Motif::FIRST, TRAIN_EACH, 0), draw(&Motif::FIRST, VALIDATION_EACH, 1)];
    let second = [draw(&Motif::SECOND, TRAIN_EACH, 2), draw(&Motif::SECOND, VALIDATION_EACH, 3)];
    let pictures = [&first, &second].map(|[a, b]| a.len() + b.len()).iter().sum::<usize>();

    let whole = Plans::new(machine, "all", NormPolicy::Updating)?;
    let head = Plans::new(machine, "head", NormPolicy::Fixed)?;
    let mut memory = vec![0; whole.bytes().max(head.bytes())];
    let mut trainer = Trainer::new(whole.step.program.clone(), &mut memory, machine.level, machine.threads.clone())?;

    outln!("")?;
    outln!("3. Fine-tuning on pictures drawn here")?;
    outln!("-------------------------------------")?;
    outln!("{pictures} pictures of {SIZE}x{SIZE} were drawn in {:.2} s, with random colours, phase,", start.elapsed().as_secs_f64())?;
    outln!("scale, direction and noise. A small ResNet (one block a layer, {} numbers)", parameter_numbers(&whole.step.program)[0])?;
    outln!("starts from random weights and learns four motifs, all layers together:")?;
    outln!("    {}", names(&Motif::FIRST))?;
    let chance = 100.0 / recipe().classes as f64;
    outln!("{} to train on, {} others to validate; guessing would be right in {chance:.0} %.", first[0].len(), first[1].len())?;
    outln!("")?;
    let settings = Sgd { momentum: 0.9, nesterov: true, weight_decay: 5e-4, ..Sgd::new(RATE) };
    let mut random = Generator::manual_seed(seed);
    trainer.init_from(&mut random);
    let all_layers = train(&mut trainer, &whole, [&first[0], &first[1]], settings, EPOCHS, &mut random)?;

    outln!("")?;
    outln!("Now everything is frozen, fc is new, and only fc learns four other motifs:")?;
    outln!("    {}", names(&Motif::SECOND))?;
    outln!("")?;
    let settings = Sgd { momentum: 0.9, ..Sgd::new(HEAD_RATE) };
    let mut tune = |trainer: &mut Trainer| -> Result<Outcome, Failure> {
        trainer.switch(head.step.program.clone())?;
        trainer.init_head(&mut random);
        train(trainer, &head, [&second[0], &second[1]], settings, HEAD_EPOCHS, &mut random)
    };
    let fc_alone = tune(&mut trainer)?;

    outln!("")?;
    outln!("Does the frozen part matter? The same on a network that never learned anything:")?;
    outln!("")?;
    trainer.init(seed);
    let untrained = tune(&mut trainer)?;

    outln!("")?;
    outln!("    {:<34}{:>9}{:>9}{:>12}{:>12}", "accuracy on validation", "before", "after", "images/s", "memory")?;
    for (what, outcome, plans) in [
        ("all layers, the first four", &all_layers, &whole),
        ("fc alone, the other four", &fc_alone, &head),
        ("fc alone on random weights", &untrained, &head),
    ] {
        let Outcome { before, after, .. } = outcome;
        outln!("    {what:<34}{before:>7.1} %{after:>7.1} %{:>12.0}{:>12}", outcome.rate(), bytes(plans.bytes()))?;
    }
    Ok(())
}
