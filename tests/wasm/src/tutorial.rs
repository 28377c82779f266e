//! PyTorch's autograd tutorial, to be compared with PyTorch's numbers.

use crate::error;
use crate::shared::room;
use nunatak_core::rng::Generator;
use nunatak_nn::{Error, Level, Loss, Mode, NormPolicy, Optimizer, Options, Recipe, ResNet, Setup, Sgd, Threads, Trainer};

const CLASSES: usize = 1000;
const SIZE: usize = 64;

fn setup() -> Result<Setup, Error> {
    let recipe = Recipe::resnet18(CLASSES);
    Ok(Setup {
        mode: Mode::Train,
        norm_policy: NormPolicy::Updating,
        trainable: ResNet::new(recipe, Mode::Train)?.network().all(),
        loss: Loss::Sum,
        options: Options::default(),
        ..Setup::inference(recipe, 1, SIZE, SIZE)
    })
}

/// Bytes that [`tutorial`] needs; 0 at an error.
#[unsafe(no_mangle)]
pub extern "C" fn tutorial_bytes() -> usize {
    let bytes = || Ok::<_, Error>(setup()?.plan()?.0.bytes());
    bytes().unwrap_or_else(|error| {
        error::set(&error);
        0
    })
}

/// Runs the tutorial; the labels and the image that it draws first take 13288 numbers of the stack.
fn run(memory: &mut [u8], out: &mut [f32; 6]) -> Result<(), Error> {
    let (blueprint, _, values) = setup()?.plan()?;
    let mut trainer = Trainer::new(blueprint, memory, Level::detect(), Threads::serial())?;
    trainer.init(0);
    let mut random = Generator::manual_seed(1);
    let (mut image, mut labels, mut prediction) = ([0.0; 3 * SIZE * SIZE], [0.0; CLASSES], [0.0; CLASSES]);
    image.iter_mut().chain(&mut labels).for_each(|v| *v = random.rand_f32());
    for i in 0..2 {
        trainer.set_input(values.data, &image)?;
        if let (Some(target), Some(loss)) = (values.labels, values.loss) {
            trainer.set_input(target, &labels)?;
            trainer.forward()?;
            out[5 * i] = trainer.scalar(loss)?;
        }
        if i == 0 {
            trainer.value(values.prediction, &mut prediction)?;
            out[1..5].copy_from_slice(&prediction[..4]);
            trainer.backward_and_step(&Optimizer::new(Sgd { momentum: 0.9, ..Sgd::new(1e-2) })?)?;
        }
    }
    Ok(())
}

/// The loss, the first four predictions, and the loss after a step, to `out`.
///
/// # Safety
/// `bytes` bytes at `memory` and six numbers at `out` are there, and nobody else uses them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tutorial(memory: *mut u8, bytes: usize, out: *mut f32) -> bool {
    // SAFETY: the caller's duty.
    let (memory, out) = unsafe { (room(memory, bytes), &mut *out.cast::<[f32; 6]>()) };
    run(memory, out).inspect_err(error::set).is_ok()
}
