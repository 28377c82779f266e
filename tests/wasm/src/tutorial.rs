//! PyTorch's autograd tutorial, to be compared with PyTorch's numbers.

use crate::error;
use crate::planning::{self, Choices, STEP_BYTES};
use crate::shared::room;
use nunatak_core::rng::Generator;
use nunatak_nn::models::Recipe;
use nunatak_nn::{Error, Level, Loss, Memory, Mode, NormPolicy, Program, Sgd, Threads, Trainer};

const CLASSES: usize = 1000;
const SIZE: usize = 64;

fn plan<R>(use_it: impl FnOnce(&Program) -> Result<R, Error>) -> Result<R, Error> {
    let choices = Choices { mode: Mode::Train, norm_policy: NormPolicy::Updating, train: "all", memory: Memory::Fast };
    planning::plan([1, 3, SIZE, SIZE], Loss::Sum, Recipe::resnet18(CLASSES), choices, use_it)
}

/// Bytes that [`tutorial`] needs; 0 at an error.
#[unsafe(no_mangle)]
pub extern "C" fn tutorial_bytes() -> usize {
    match plan(|program| Ok(STEP_BYTES + Trainer::bytes(program))) {
        Ok(bytes) => bytes,
        Err(error) => {
            error::set(&error);
            0
        }
    }
}

/// Runs the tutorial in memory whose front takes the program; the labels and the image that it draws first take
/// 13288 numbers of the stack.
fn run(memory: &mut [u8], out: &mut [f32; 6]) -> Result<(), Error> {
    let given = memory.len();
    let (front, memory) =
        memory.split_at_mut_checked(STEP_BYTES).ok_or(nunatak_core::Error::ArenaTooSmall { needed: STEP_BYTES, given })?;
    let len = plan(|program| {
        front[..program.bytes().len()].copy_from_slice(program.bytes());
        Ok(program.bytes().len())
    })?;
    let mut trainer = Trainer::new(Program::check(&front[..len])?, memory, Level::detect(), Threads::serial())?;
    trainer.init(0);
    let mut random = Generator::manual_seed(1);
    let (mut image, mut labels, mut prediction) = ([0.0; 3 * SIZE * SIZE], [0.0; CLASSES], [0.0; CLASSES]);
    image.iter_mut().chain(&mut labels).for_each(|v| *v = random.rand_f32());
    for i in 0..2 {
        trainer.set_input(trainer.value_named("data")?, &image)?;
        trainer.set_input(trainer.value_named("labels")?, &labels)?;
        trainer.forward()?;
        out[5 * i] = trainer.scalar(trainer.value_named("loss")?)?;
        if i == 0 {
            trainer.value(trainer.value_named("prediction")?, &mut prediction)?;
            out[1..5].copy_from_slice(&prediction[..4]);
            trainer.backward_and_step(Sgd { momentum: 0.9, ..Sgd::new(1e-2) })?;
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
