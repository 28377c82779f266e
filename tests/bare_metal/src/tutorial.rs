//! PyTorch's autograd tutorial, one step of a whole ResNet18 at 64 x 64: its numbers are those of
//! `nn/tests/tutorial.rs`, and so are the tolerances.

use crate::{Place, Stack, measured};
use nunatak_core::rng::Generator;
use nunatak_nn::{Error, Level, Program, Sgd, Threads, Trainer};

/// Numbers of the image.
const IMAGE: usize = 3 * 64 * 64;
/// Room for the inputs, and behind them the largest parameter, layer4's filters.
pub const ROOM: usize = IMAGE + 1000 + 512 * 512 * 9;

/// What went wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Failed {
    /// The library's error.
    Error(Error),
    /// A number is not PyTorch's.
    Wrong(&'static str),
    /// More stack was used than a task has.
    Stack,
}

impl From<Error> for Failed {
    fn from(e: Error) -> Failed {
        Failed::Error(e)
    }
}

fn close(place: &mut impl Place, what: &'static str, got: f64, expected: f64, tolerance: f64) -> Result<(), Failed> {
    let off = (got / expected - 1.0).abs();
    place.say(format_args!("{what} {got:.9} PyTorch {expected} off {off:.1e}"));
    if off <= tolerance { Ok(()) } else { Err(Failed::Wrong(what)) }
}

/// Runs it in `memory`; `room` is for what is read and written besides.
///
/// # Errors
/// [`Failed`].
pub fn run<'m, P: Place>(
    place: &mut P,
    level: Level,
    program: Program<'m>,
    memory: &'m mut [u8],
    room: &mut [f32; ROOM],
) -> Result<(), Failed> {
    let mut stack = Stack::default();
    place.say(format_args!("bytes {}", Trainer::bytes(&program)));
    let mut trainer = measured(place, &mut stack.bind, |_| Trainer::new(program, memory, level, Threads::serial()))?;
    measured(place, &mut stack.init, |_| trainer.init(0));

    let (data, labels) = (trainer.value_named("data")?, trainer.value_named("labels")?);
    let (prediction, loss) = (trainer.value_named("prediction")?, trainer.value_named("loss")?);
    let mut random = Generator::manual_seed(1);
    let (inputs, room) = room.split_at_mut(IMAGE + 1000);
    inputs.iter_mut().for_each(|v| *v = random.rand_f32());
    let (image, target) = inputs.split_at(IMAGE);
    let before = place.instructions();
    let mut executing = 0;
    let mut counted = |place: &mut P, trainer: &mut Trainer, what: &dyn Fn(&mut Trainer) -> Result<(), Error>| {
        measured(place, &mut stack.step, |place| {
            let before = place.instructions();
            let done = what(trainer);
            executing += place.instructions() - before;
            done
        })
    };
    counted(place, &mut trainer, &|trainer| {
        trainer.set_input(data, image)?;
        trainer.set_input(labels, target)?;
        trainer.forward()
    })?;
    close(place, "loss", trainer.scalar(loss)?.into(), -512.952_177, 5e-5)?;
    trainer.value(prediction, &mut room[..1000])?;
    for (y, expected) in room.iter().zip([0.315981776, 0.230452359, -0.268828839, 0.307489038]) {
        close(place, "prediction", (*y).into(), expected, 5e-5)?;
    }
    counted(place, &mut trainer, &|trainer| trainer.backward())?;
    for (name, norm) in [
        ("conv1.weight", 3290.07),
        ("bn1.weight", 51.6525),
        ("layer1.0.conv1.weight", 834.92),
        ("layer2.0.downsample.0.weight", 194.133),
        ("layer4.1.conv2.weight", 201.6419),
        ("fc.weight", 629.021),
        ("fc.bias", 31.622776),
    ] {
        let id = trainer.entry_named(name)?;
        let gradient = &mut room[..trainer.program().entry(id).numbers()];
        trainer.gradient(id, gradient)?;
        let mut square = 0.0;
        gradient.iter().for_each(|g| square += f64::from(*g) * f64::from(*g));
        // The norms' squares are compared: there is no square root in core.
        close(place, name, square, norm * norm, 1e-3)?;
    }
    counted(place, &mut trainer, &|trainer| trainer.step(Sgd { momentum: 0.9, ..Sgd::new(1e-2) }))?;
    let count = place.instructions() - before;
    place.say(format_args!("step instructions {count}"));
    place.say(format_args!("executing instructions {executing}"));
    trainer.set_input(data, image)?;
    trainer.set_input(labels, target)?;
    trainer.forward()?;
    close(place, "loss after a step", trainer.scalar(loss)?.into(), -4355.168_14, 1e-4)?;
    stack.say(place);
    if stack.is_small() { Ok(()) } else { Err(Failed::Stack) }
}
