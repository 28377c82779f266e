//! A new head on a frozen backbone.

use crate::error;
use crate::planning::{self, Choices, STEP_BYTES};
use crate::shared::{Single, given, room};
use nunatak_core::rng::Generator;
use nunatak_nn::models::Recipe;
use nunatak_nn::{CrossEntropyOptions, Error, Level, Loss, Memory, Mode, NormPolicy, Program, Sgd, Threads, Trainer};

/// Pixels of a side.
const SIZE: usize = 64;
const PIXELS: usize = SIZE * SIZE * 3;
/// ImageNet's.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// What a batch of images is for.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    /// The backbone's running statistics move towards those of the images; no gradient.
    Adapt,
    /// The head alone is trained, with cross entropy; statistics stay.
    Train,
    /// Predictions, in eval mode.
    Predict,
}

/// In the order of their numbers.
const STEPS: [Step; 3] = [Step::Adapt, Step::Train, Step::Predict];

struct Session {
    batch: usize,
    classes: usize,
    step: Step,
    /// The steps' programs, in the order of [`STEPS`].
    programs: [&'static [u8]; STEPS.len()],
    trainer: Trainer<'static>,
}

static SESSION: Single<Option<Session>> = Single::new(None);

/// Plans a step, and hands its program to `use_it`.
fn plan<R>(batch: usize, classes: usize, step: Step, use_it: impl FnOnce(&Program) -> Result<R, Error>) -> Result<R, Error> {
    let loss = if step == Step::Train { Loss::CrossEntropy(CrossEntropyOptions::default()) } else { Loss::None };
    let choices = match step {
        Step::Adapt => Choices { mode: Mode::Train, norm_policy: NormPolicy::Updating, train: "none", memory: Memory::Small },
        Step::Train => Choices { mode: Mode::Train, norm_policy: NormPolicy::Fixed, train: "head", memory: Memory::Small },
        Step::Predict => Choices { mode: Mode::Eval, norm_policy: NormPolicy::Updating, train: "none", memory: Memory::Small },
    };
    planning::plan([batch, 3, SIZE, SIZE], loss, Recipe::resnet18(classes), choices, use_it)
}
/// Bytes that [`head_start`] needs; 0 where the numbers make no sense.
#[unsafe(no_mangle)]
pub extern "C" fn head_bytes(batch: usize, classes: usize) -> usize {
    let mut most = 0;
    for step in STEPS {
        match plan(batch, classes, step, |program| Ok(Trainer::bytes(program))) {
            Ok(bytes) => most = most.max(bytes),
            Err(error) => {
                error::set(&error);
                return 0;
            }
        }
    }
    STEPS.len() * STEP_BYTES + most
}

/// Plans every step; the programs come to lie in front of the memory, the rest of which is returned too.
fn programs(
    batch: usize,
    classes: usize,
    mut memory: &'static mut [u8],
) -> Result<([&'static [u8]; STEPS.len()], &'static mut [u8]), Error> {
    let mut programs: [&'static [u8]; STEPS.len()] = [&[]; STEPS.len()];
    for (step, to) in STEPS.into_iter().zip(&mut programs) {
        let given = memory.len();
        let (front, rest) =
            memory.split_at_mut_checked(STEP_BYTES).ok_or(nunatak_core::Error::ArenaTooSmall { needed: STEP_BYTES, given })?;
        let len = plan(batch, classes, step, |program| {
            front[..program.bytes().len()].copy_from_slice(program.bytes());
            Ok(program.bytes().len())
        })?;
        (*to, memory) = (&front[..len], rest);
    }
    Ok((programs, memory))
}

/// Begins with a ResNet18 as torchvision makes it after `manual_seed(seed)`, without pretrained weights,
/// in `bytes` bytes at `memory`, which are the session's until the next one begins.
///
/// # Safety
/// The memory is there and nobody else uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn head_start(memory: *mut u8, bytes: usize, batch: usize, classes: usize, seed: u32) -> bool {
    let start = || {
        // SAFETY: the caller's duty.
        let (programs, memory) = programs(batch, classes, unsafe { room(memory, bytes) })?;
        let adapt = Program::check(programs[Step::Adapt as usize])?;
        let mut trainer = Trainer::new(adapt, memory, Level::detect(), Threads::serial())?;
        let mut random = Generator::manual_seed(u64::from(seed));
        trainer.init_from(&mut random);
        Ok::<_, Error>(Session { batch, classes, step: Step::Adapt, programs, trainer })
    };
    // The old session's memory may be the new one's.
    SESSION.with(|session| *session = None);
    match start() {
        Ok(new) => {
            SESSION.with(|session| *session = Some(new));
            true
        }
        Err(error) => {
            error::set(&error);
            false
        }
    }
}

impl Session {
    /// Hands over a batch of 64 x 64 images, red, green and blue side by side as a canvas has them
    /// (without alpha), to the step that is wanted.
    fn images(&mut self, step: Step, pixels: &[u8]) -> Result<(), Error> {
        if self.step != step {
            self.trainer.switch(Program::check(self.programs[step as usize])?)?;
            self.step = step;
        }
        let data = self.trainer.value_named("data")?;
        self.trainer.set_input_bytes(data, pixels, &MEAN, &DEVIATION)
    }

    fn adapt(&mut self, pixels: &[u8]) -> Result<(), Error> {
        self.images(Step::Adapt, pixels)?;
        self.trainer.forward()
    }

    fn step(&mut self, pixels: &[u8], labels: &[i64], rate: f32) -> Result<f32, Error> {
        self.images(Step::Train, pixels)?;
        let (target, loss) = (self.trainer.value_named("labels")?, self.trainer.value_named("loss")?);
        self.trainer.set_labels(target, labels)?;
        self.trainer.forward()?;
        let loss = self.trainer.finite(loss)?;
        self.trainer.backward_and_step(Sgd { momentum: 0.9, ..Sgd::new(rate) })?;
        Ok(loss)
    }

    fn predict(&mut self, pixels: &[u8], out: &mut [f32]) -> Result<(), Error> {
        self.images(Step::Predict, pixels)?;
        self.trainer.forward()?;
        self.trainer.value(self.trainer.value_named("prediction")?, out)
    }
}

fn session<R>(use_it: impl FnOnce(&mut Session) -> Result<R, Error>) -> Option<R> {
    SESSION.with(|session| match session {
        None => {
            error::set("no session: call head_start first");
            None
        }
        Some(session) => use_it(session).inspect_err(error::set).ok(),
    })
}

/// Moves the backbone's running statistics towards those of a batch of images, as train mode does.
///
/// # Safety
/// batch·64·64·3 bytes are there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn head_adapt(pixels: *const u8) -> bool {
    // SAFETY: the caller's duty.
    session(|session| session.adapt(unsafe { given(pixels, session.batch * PIXELS) })).is_some()
}

/// One step of SGD with momentum 0.9 on a batch of images (bytes) and labels: the loss, or NaN.
///
/// # Safety
/// batch·64·64·3 bytes and `batch` labels are there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn head_step(pixels: *const u8, labels: *const i64, rate: f32) -> f32 {
    session(|session| {
        // SAFETY: the caller's duty.
        let (pixels, labels) = unsafe { (given(pixels, session.batch * PIXELS), given(labels, session.batch)) };
        session.step(pixels, labels, rate)
    })
    .unwrap_or(f32::NAN)
}

/// Predictions in eval mode for a batch of images, `[batch][classes]`.
///
/// # Safety
/// batch·64·64·3 bytes are there, and room for batch·classes numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn head_predict(pixels: *const u8, out: *mut f32) -> bool {
    session(|session| {
        // SAFETY: the caller's duty.
        let (pixels, out) = unsafe { (given(pixels, session.batch * PIXELS), room(out, session.batch * session.classes)) };
        session.predict(pixels, out)
    })
    .is_some()
}
