//! Steps that are recorded and planned where the lesson runs, without a heap: each is byte for byte what the
//! machine planned that compiled this. Then the small network is trained with the program that was planned here.

use crate::images::draw;
use crate::nets::{self, BATCH, CLASSES, SMALL};
use crate::{Place, Stack, measured, planned};
use nunatak_core::rng::Generator;
use nunatak_nn::models::Recipe;
use nunatak_nn::plan::{Storage, Workspace};
use nunatak_nn::{Error, Graph, Level, Program, Sgd, Step, Threads, Trainer};

/// Room for ResNet-8, as [`Workspace::room`] tells it.
pub type Room = Storage<NODES, ENTRIES, TEXT, BYTES>;
const NODES: usize = 33;
const ENTRIES: usize = 56;
const TEXT: usize = 1506;
const BYTES: usize = 16384;
/// Bytes of a [`Room`].
pub const ROOM: usize = size_of::<Room>();

/// Numbers of a batch of the small network.
pub const IMAGES: usize = BATCH * 3 * SMALL * SMALL;
/// Steps of the small network.
const STEPS: usize = 12;

/// What went wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Failed {
    /// The library's error.
    Error(Error),
    /// A program is another than the desktop's.
    Other(&'static str),
    /// The small network's loss did not fall.
    NotLearnt,
    /// More stack was used to execute than a task has.
    Stack,
}

impl From<Error> for Failed {
    fn from(e: Error) -> Failed {
        Failed::Error(e)
    }
}

/// Plans a step in lent storage, and compares it with what is due.
#[inline(never)] // what it takes from the stack is given back
fn compare(
    place: &mut impl Place,
    what: &'static str,
    due: &[u8],
    storage: &mut Room,
    plan: impl FnOnce(&Graph, &mut Workspace) -> Result<(), Error>,
) -> Result<(), Failed> {
    let (graph, mut workspace) = storage.lend();
    let (before, mut stack) = (place.instructions(), 0);
    measured(place, &mut stack, |_| plan(&graph, &mut workspace))?;
    let count = place.instructions() - before;
    let room = workspace.room(&graph);
    let same = workspace.bytes() == due;
    place.say(format_args!("planned {what}: {room:?} same {same}"));
    place.say(format_args!("planning {what}: stack planning {stack} bytes, instructions {count}"));
    if same { Ok(()) } else { Err(Failed::Other(what)) }
}

/// Plans in `storage`, and trains the small network in `memory`; `images` is room for a batch.
///
/// # Errors
/// [`Failed`].
pub fn run(place: &mut impl Place, level: Level, storage: &mut Room, memory: &mut [u8], images: &mut [f32; IMAGES]) -> Result<(), Failed> {
    place.say(format_args!("planned in {ROOM} bytes"));
    for (what, train, due) in [("head", "head", planned::HEAD), ("all", "all", planned::ALL), ("predict", "none", planned::PREDICT)] {
        compare(place, what, due, storage, |graph, workspace| {
            nets::resnet8(train, true).recipe(graph, Recipe::resnet8(CLASSES), |step: Step| step.plan_in(workspace).map(|_| ()))
        })?;
    }
    let plan = |graph: &Graph, workspace: &mut Workspace| {
        nets::small(true).step(graph, |g, x| nets::small_layers(g, x), |step: Step| step.plan_in(workspace).map(|_| ()))
    };
    compare(place, "small", planned::SMALL, storage, plan)?;
    let (graph, mut workspace) = storage.lend();
    plan(&graph, &mut workspace)?;
    train(place, level, Program::check(workspace.bytes()).map_err(Error::from)?, memory, images)
}

/// Trains the small network on images that it draws.
#[inline(never)]
fn train<'m>(
    place: &mut impl Place,
    level: Level,
    program: Program<'m>,
    memory: &'m mut [u8],
    images: &mut [f32; IMAGES],
) -> Result<(), Failed> {
    let mut stack = Stack::default();
    place.say(format_args!("bytes small {}", Trainer::bytes(&program)));
    let mut trainer = measured(place, &mut stack.bind, |_| Trainer::new(program, memory, level, Threads::serial()))?;
    measured(place, &mut stack.init, |_| trainer.init(0));
    let mut random = Generator::manual_seed(1);
    let mut labels = [0; BATCH];
    let (data, to, loss) = (trainer.value_named("data")?, trainer.value_named("labels")?, trainer.value_named("loss")?);
    let (mut first, mut last) = (0.0, 0.0);
    for step in 0..STEPS {
        for (i, (image, label)) in images.chunks_exact_mut(3 * SMALL * SMALL).zip(&mut labels).enumerate() {
            *label = (i % CLASSES) as i64;
            draw(&mut random, SMALL, i % CLASSES, image);
        }
        last = measured(place, &mut stack.step, |_| {
            trainer.set_input(data, images)?;
            trainer.set_labels(to, &labels)?;
            trainer.forward()?;
            let loss = trainer.finite(loss)?;
            trainer.backward_and_step(Sgd { momentum: 0.9, ..Sgd::new(0.1) })?;
            Ok::<_, Error>(loss)
        })?;
        if step == 0 {
            first = last;
        }
        place.say(format_args!("loss small {step} {last:.9e} bits {:08x}", last.to_bits()));
    }
    stack.say(place);
    if last > 0.7 * first {
        return Err(Failed::NotLearnt);
    }
    if stack.is_small() { Ok(()) } else { Err(Failed::Stack) }
}
