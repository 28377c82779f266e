//! PyTorch's autograd tutorial, one step of a whole ResNet18 at 64 x 64: its numbers are those of
//! `nn/tests/tutorial.rs`, and so are the tolerances.

use crate::Place;
use nunatak_core::rng::Generator;
use nunatak_nn::{Blueprint, Error, Graph, Level, Memory, Mode, Optimizer, Options, Recipe, ResNet, Sgd, Threads, Trainer};

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
pub fn run(place: &mut impl Place, level: Level, memory: &mut [u8], room: &mut [f32; ROOM]) -> Result<(), Failed> {
    let model = ResNet::new(Recipe::resnet18(1000), Mode::Train)?;
    let graph = Graph::new();
    let data = graph.input(1, 3, 64, 64);
    let labels = graph.input(1, 1000, 1, 1);
    let prediction = model.forward(data);
    let loss = (prediction - labels).sum();
    let options = Options { memory: Memory::Small, ..Options::default() };
    let blueprint = Blueprint::new(&model, &graph, Some(loss.id()), &[prediction.id()], model.network().all(), options)?;
    place.say(format_args!("bytes {}", blueprint.bytes()));
    let mut trainer = Trainer::new(blueprint, memory, level, Threads::serial())?;
    trainer.init(0);

    let mut random = Generator::manual_seed(1);
    let (inputs, room) = room.split_at_mut(IMAGE + 1000);
    inputs.iter_mut().for_each(|v| *v = random.rand_f32());
    let (image, target) = inputs.split_at(IMAGE);
    trainer.set_input(data, image)?;
    trainer.set_input(labels, target)?;
    let before = place.instructions();
    trainer.forward()?;
    close(place, "loss", trainer.scalar(loss)?.into(), -512.952_177, 5e-5)?;
    trainer.value(prediction, &mut room[..1000])?;
    for (y, expected) in room.iter().zip([0.315981776, 0.230452359, -0.268828839, 0.307489038]) {
        close(place, "prediction", (*y).into(), expected, 5e-5)?;
    }
    trainer.backward()?;
    for (name, norm) in [
        ("conv1.weight", 3290.07),
        ("bn1.weight", 51.6525),
        ("layer1.0.conv1.weight", 834.92),
        ("layer2.0.downsample.0.weight", 194.133),
        ("layer4.1.conv2.weight", 201.6419),
        ("fc.weight", 629.021),
        ("fc.bias", 31.622776),
    ] {
        let id = model.network().by_name(name)?;
        let gradient = &mut room[..model.network().param_at(id).numbers()];
        trainer.gradient(id, gradient)?;
        let mut square = 0.0;
        gradient.iter().for_each(|g| square += f64::from(*g) * f64::from(*g));
        // The norms' squares are compared: there is no square root in core.
        close(place, name, square, norm * norm, 1e-3)?;
    }
    trainer.step(&Optimizer::new(Sgd { momentum: 0.9, ..Sgd::new(1e-2) })?)?;
    let count = place.instructions() - before;
    place.say(format_args!("step instructions {count}"));
    trainer.set_input(data, image)?;
    trainer.set_input(labels, target)?;
    trainer.forward()?;
    close(place, "loss after a step", trainer.scalar(loss)?.into(), -4355.168_14, 1e-4)
}
