//! A new head on a frozen backbone.

use crate::error;
use crate::shared::{Single, given, room};
use nunatak_core::rng::Generator;
use nunatak_nn::setup::Values;
use nunatak_nn::{
    Blueprint, CrossEntropyOptions, Error, Level, Loss, Memory, Mode, NormPolicy, Optimizer, Options, Recipe, ResNet, Setup, Sgd, Threads,
    Trainer,
};

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

struct Session {
    batch: usize,
    classes: usize,
    step: Step,
    trainer: Trainer<'static>,
}

static SESSION: Single<Option<Session>> = Single::new(None);

fn plan(batch: usize, classes: usize, step: Step) -> Result<(Blueprint, Values), Error> {
    let recipe = Recipe::resnet18(classes);
    let options = Options { memory: Memory::Small, ..Options::default() };
    let mut setup = Setup { options, ..Setup::inference(recipe, batch, SIZE, SIZE) };
    if step == Step::Adapt {
        setup.mode = Mode::Train;
    }
    if step == Step::Train {
        setup.mode = Mode::Train;
        setup.norm_policy = NormPolicy::Fixed;
        setup.trainable = ResNet::new(recipe, Mode::Train)?.network().head();
        setup.loss = Loss::CrossEntropy(CrossEntropyOptions::default());
    }
    let (blueprint, _, values) = setup.plan()?;
    Ok((blueprint, values))
}

/// Bytes that [`head_start`] needs; 0 where the numbers make no sense.
#[unsafe(no_mangle)]
pub extern "C" fn head_bytes(batch: usize, classes: usize) -> usize {
    let mut most = 0;
    for step in [Step::Adapt, Step::Train, Step::Predict] {
        match plan(batch, classes, step) {
            Ok((blueprint, _)) => most = most.max(blueprint.bytes()),
            Err(error) => {
                error::set(&error);
                return 0;
            }
        }
    }
    most
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
        let memory = unsafe { room(memory, bytes) };
        let mut trainer = Trainer::new(plan(batch, classes, Step::Adapt)?.0, memory, Level::detect(), Threads::serial())?;
        let mut random = Generator::manual_seed(u64::from(seed));
        trainer.init_from(&mut random);
        Ok::<_, Error>(Session { batch, classes, step: Step::Adapt, trainer })
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
    fn images(&mut self, step: Step, pixels: &[u8]) -> Result<Values, Error> {
        let (blueprint, values) = plan(self.batch, self.classes, step)?;
        if self.step != step {
            self.trainer.switch(blueprint)?;
            self.step = step;
        }
        self.trainer.set_input_bytes(values.data, pixels, &MEAN, &DEVIATION)?;
        Ok(values)
    }

    fn adapt(&mut self, pixels: &[u8]) -> Result<(), Error> {
        self.images(Step::Adapt, pixels)?;
        self.trainer.forward()
    }

    fn step(&mut self, pixels: &[u8], labels: &[i64], rate: f32) -> Result<f32, Error> {
        let values = self.images(Step::Train, pixels)?;
        let (Some(target), Some(loss)) = (values.labels, values.loss) else { return Ok(f32::NAN) };
        self.trainer.set_labels(target, labels)?;
        self.trainer.forward()?;
        let loss = self.trainer.finite(loss)?;
        self.trainer.backward_and_step(&Optimizer::new(Sgd { momentum: 0.9, ..Sgd::new(rate) })?)?;
        Ok(loss)
    }

    fn predict(&mut self, pixels: &[u8], out: &mut [f32]) -> Result<(), Error> {
        let values = self.images(Step::Predict, pixels)?;
        self.trainer.forward()?;
        self.trainer.value(values.prediction, out)
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
