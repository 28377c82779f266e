//! ResNet-8 of MLPerf Tiny's shape learns to tell images apart: first its head on a random, frozen
//! backbone, then everything, in the same memory.

use crate::images::draw;
use crate::nets::{BATCH, CLASSES, SIZE};
use crate::{Place, Stack, measured};
use nunatak_core::rng::Generator;
use nunatak_nn::{Error, Level, Program, Sgd, Threads, Trainer};

/// Numbers of an image.
pub const NUMBERS: usize = 3 * SIZE * SIZE;
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

/// The steps that are executed.
#[derive(Clone, Debug)]
pub struct Programs<'p> {
    /// The head is trained.
    pub head: Program<'p>,
    /// Everything is trained.
    pub all: Program<'p>,
    /// It predicts.
    pub predict: Program<'p>,
}

/// What went wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Failed {
    /// The library's error.
    Error(Error),
    /// It did not learn: so many are right.
    NotLearnt(usize),
    /// More stack was used than a task has.
    Stack,
}

impl From<Error> for Failed {
    fn from(e: Error) -> Failed {
        Failed::Error(e)
    }
}

/// Draws a batch; classes take turns.
fn batch(random: &mut Generator, images: &mut [f32; BATCH * NUMBERS], labels: &mut [i64; BATCH]) {
    for (i, (image, label)) in images.chunks_exact_mut(NUMBERS).zip(labels).enumerate() {
        *label = (i % CLASSES) as i64;
        draw(random, SIZE, i % CLASSES, image);
    }
}

/// Learns in `memory`; `images` is room for a batch. What is drawn is handed to `prepare` before the first step.
///
/// # Errors
/// [`Failed`].
pub fn run<'m>(
    place: &mut impl Place,
    level: Level,
    programs: &'m Programs,
    steps: Steps,
    memory: &'m mut [u8],
    images: &mut [f32; BATCH * NUMBERS],
    prepare: impl FnOnce(&mut Trainer) -> Result<(), Error>,
) -> Result<(), Failed> {
    let mut stack = Stack::default();
    let head = Trainer::bytes(&programs.head);
    let needed = head.max(Trainer::bytes(&programs.all));
    place.say(format_args!("bytes head {head} all {needed}"));
    let given = memory.len();
    let memory = memory.get_mut(..needed).ok_or(nunatak_core::Error::ArenaTooSmall { needed, given }).map_err(Error::from)?;
    let mut trainer = measured(place, &mut stack.bind, |_| Trainer::new(programs.head.view(), memory, level, Threads::serial()))?;
    measured(place, &mut stack.init, |_| trainer.init(0));
    prepare(&mut trainer)?;
    let mut random = Generator::manual_seed(1);
    let (head, all) = (Sgd { momentum: 0.9, ..Sgd::new(0.1) }, Sgd { momentum: 0.9, ..Sgd::new(0.06) });
    stack.step = teach(place, "head", &mut trainer, head, steps.head, &mut random, images)?;
    if steps.test {
        measured(place, &mut stack.bind, |_| trainer.switch(programs.predict.view()))?;
        examine(place, "head", &mut trainer, images)?;
    }
    measured(place, &mut stack.bind, |_| trainer.switch(programs.all.view()))?;
    stack.step = stack.step.max(teach(place, "all", &mut trainer, all, steps.all, &mut random, images)?);
    if steps.test {
        measured(place, &mut stack.bind, |_| trainer.switch(programs.predict.view()))?;
        let right = examine(place, "all", &mut trainer, images)?;
        if right < RIGHT {
            return Err(Failed::NotLearnt(right));
        }
    }
    stack.say(place);
    if stack.is_small() { Ok(()) } else { Err(Failed::Stack) }
}

/// Teaches; returns the deepest stack of a step.
#[inline(never)]
fn teach(
    place: &mut impl Place,
    what: &str,
    trainer: &mut Trainer,
    sgd: Sgd,
    steps: usize,
    random: &mut Generator,
    images: &mut [f32; BATCH * NUMBERS],
) -> Result<usize, Error> {
    let (data, to, loss) = (trainer.value_named("data")?, trainer.value_named("labels")?, trainer.value_named("loss")?);
    let (mut labels, mut stack) = ([0; BATCH], 0);
    for step in 0..steps {
        batch(random, images, &mut labels);
        let mut count = 0;
        let loss = measured(place, &mut stack, |place| {
            let before = place.instructions();
            trainer.set_input(data, images)?;
            trainer.set_labels(to, &labels)?;
            trainer.forward()?;
            let loss = trainer.finite(loss)?;
            trainer.backward_and_step(sgd)?;
            count = place.instructions() - before;
            Ok::<_, Error>(loss)
        })?;
        place.say(format_args!("loss {what} {step} {loss:.9e} bits {:08x} instructions {count}", loss.to_bits()));
    }
    Ok(stack)
}

/// Tells how many images that it has not seen are classified.
#[inline(never)]
fn examine(place: &mut impl Place, what: &str, trainer: &mut Trainer, images: &mut [f32; BATCH * NUMBERS]) -> Result<usize, Error> {
    let (data, prediction) = (trainer.value_named("data")?, trainer.value_named("prediction")?);
    let mut random = Generator::manual_seed(2);
    let mut labels = [0; BATCH];
    let mut right = 0;
    for _ in 0..TESTS / BATCH {
        batch(&mut random, images, &mut labels);
        trainer.set_input(data, images)?;
        trainer.forward()?;
        let mut logits = [0.0; BATCH * CLASSES];
        trainer.value(prediction, &mut logits)?;
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
    place.say(format_args!("right {what} {right} of {TESTS} new images"));
    Ok(right)
}
