//! ResNet-8 of MLPerf Tiny's shape learns to tell images apart: first its head on a random, frozen
//! backbone, then everything, in the same memory.

use crate::Place;
use crate::images::{CLASSES, NUMBERS, SIZE, draw};
use nunatak_core::rng::Generator;
use nunatak_nn::setup::Values;
use nunatak_nn::{
    Algorithm, Blueprint, CrossEntropyOptions, Error, Level, Loss, Memory, Mode, NormPolicy, Optimizer, Options, ParamSet, Recipe, ResNet,
    Setup, Sgd, Threads, Trainer,
};

/// Images of a batch.
pub const BATCH: usize = 8;
/// Images that it is tested on, none of which it has been trained on.
pub const TESTS: usize = 32;
/// The least that are right at the end.
pub const RIGHT: usize = 30;

/// How long it learns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Steps {
    /// Of the head alone.
    pub head: usize,
    /// Of everything.
    pub all: usize,
    /// Whether it is tested at the end, and must pass.
    pub test: bool,
}

impl Steps {
    /// Until it has learnt.
    pub const WHOLE: Steps = Steps { head: 8, all: 16, test: true };
    /// Enough to compare numbers.
    pub const THREE: Steps = Steps { head: 3, all: 3, test: false };
}

/// How it computes.
#[derive(Clone, Copy)]
pub struct How {
    /// The instruction set.
    pub level: Level,
    /// The algorithm of all convolutions; the best ones where none is given.
    pub algorithm: Option<Algorithm>,
}

/// What went wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Failed {
    /// The library's error.
    Error(Error),
    /// It did not learn: so many are right.
    NotLearnt(usize),
}

impl From<Error> for Failed {
    fn from(e: Error) -> Failed {
        Failed::Error(e)
    }
}

struct Step {
    blueprint: Blueprint,
    values: Values,
}

#[inline(never)] // what it takes from the stack is given back
fn plan(train: Option<ParamSet>, how: How) -> Result<Step, Error> {
    let recipe = Recipe::resnet8(CLASSES);
    let setup = Setup {
        recipe,
        batch: BATCH,
        height: SIZE,
        width: SIZE,
        mode: if train.is_some() { Mode::Train } else { Mode::Eval },
        norm_policy: NormPolicy::Updating,
        trainable: train.unwrap_or(ParamSet::EMPTY),
        loss: if train.is_some() { Loss::CrossEntropy(CrossEntropyOptions::default()) } else { Loss::None },
        options: Options { memory: Memory::Small, ..Options::default() },
        algorithms: [how.algorithm; 3],
    };
    let (blueprint, _, values) = setup.plan()?;
    Ok(Step { blueprint, values })
}

/// Draws a batch; classes take turns.
fn batch(random: &mut Generator, images: &mut [f32; BATCH * NUMBERS], labels: &mut [i64; BATCH]) {
    for (i, (image, label)) in images.chunks_exact_mut(NUMBERS).zip(labels).enumerate() {
        *label = (i % CLASSES) as i64;
        draw(random, i % CLASSES, image);
    }
}

/// Learns in `memory`; `images` is room for a batch. What is drawn is handed to `prepare` before the first step.
///
/// # Errors
/// [`Failed`].
pub fn run(
    place: &mut impl Place,
    how: How,
    steps: Steps,
    memory: &mut [u8],
    images: &mut [f32; BATCH * NUMBERS],
    prepare: impl FnOnce(&mut Trainer) -> Result<(), Error>,
) -> Result<(), Failed> {
    let network = ResNet::new(Recipe::resnet8(CLASSES), Mode::Train)?.network().clone();
    let Step { blueprint, values } = plan(Some(network.head()), how)?;
    let needed = blueprint.bytes().max(plan(Some(network.all()), how)?.blueprint.bytes());
    place.say(format_args!("bytes head {} all {}", blueprint.bytes(), needed));
    let given = memory.len();
    let memory = memory.get_mut(..needed).ok_or(nunatak_core::Error::ArenaTooSmall { needed, given }).map_err(Error::from)?;
    let mut trainer = Trainer::new(blueprint, memory, how.level, Threads::serial())?;
    trainer.init(0);
    prepare(&mut trainer)?;
    let mut random = Generator::manual_seed(1);
    let (head, all) = (Sgd { momentum: 0.9, ..Sgd::new(0.1) }, Sgd { momentum: 0.9, ..Sgd::new(0.06) });
    teach(place, "head", &mut trainer, values, head, steps.head, &mut random, images)?;
    if steps.test {
        examine(place, "head", &mut trainer, how, images)?;
    }
    let Step { blueprint, values } = plan(Some(network.all()), how)?;
    trainer.switch(blueprint)?;
    teach(place, "all", &mut trainer, values, all, steps.all, &mut random, images)?;
    if steps.test {
        let right = examine(place, "all", &mut trainer, how, images)?;
        if right < RIGHT {
            return Err(Failed::NotLearnt(right));
        }
    }
    Ok(())
}

/// Tells how many images that it has not seen are classified; the plan is then one for predictions.
#[inline(never)]
fn examine(
    place: &mut impl Place,
    what: &str,
    trainer: &mut Trainer,
    how: How,
    images: &mut [f32; BATCH * NUMBERS],
) -> Result<usize, Error> {
    let Step { blueprint, values } = plan(None, how)?;
    trainer.switch(blueprint)?;
    let right = test(trainer, values, images)?;
    place.say(format_args!("right {what} {right} of {TESTS} new images"));
    Ok(right)
}

#[allow(clippy::too_many_arguments)]
#[inline(never)]
fn teach(
    place: &mut impl Place,
    what: &str,
    trainer: &mut Trainer,
    values: Values,
    sgd: Sgd,
    steps: usize,
    random: &mut Generator,
    images: &mut [f32; BATCH * NUMBERS],
) -> Result<(), Error> {
    let optimizer = Optimizer::new(sgd)?;
    let (Some(to), Some(loss)) = (values.labels, values.loss) else { return Err(Error::NothingToTrain) };
    let mut labels = [0; BATCH];
    for step in 0..steps {
        batch(random, images, &mut labels);
        let before = place.instructions();
        trainer.set_input(values.data, images)?;
        trainer.set_labels(to, &labels)?;
        trainer.forward()?;
        let loss = trainer.finite(loss)?;
        trainer.backward_and_step(&optimizer)?;
        let count = place.instructions() - before;
        place.say(format_args!("loss {what} {step} {loss:.9e} bits {:08x} instructions {count}", loss.to_bits()));
    }
    Ok(())
}

/// How many of the images that it has not seen are classified.
fn test(trainer: &mut Trainer, values: Values, images: &mut [f32; BATCH * NUMBERS]) -> Result<usize, Error> {
    let mut random = Generator::manual_seed(2);
    let mut labels = [0; BATCH];
    let mut right = 0;
    for _ in 0..TESTS / BATCH {
        batch(&mut random, images, &mut labels);
        trainer.set_input(values.data, images)?;
        trainer.forward()?;
        let mut logits = [0.0; BATCH * CLASSES];
        trainer.value(values.prediction, &mut logits)?;
        for (logits, label) in logits.chunks_exact(CLASSES).zip(labels) {
            let mut best = 0;
            for class in 1..CLASSES {
                if logits[class] > logits[best] {
                    best = class;
                }
            }
            right += usize::from(best as i64 == label);
        }
    }
    Ok(right)
}
