//! The step of a network that classifies, planned from a few choices.

use crate::bytes::Bytes;
use crate::failure::Failure;
use nunatak_nn::files::state::{RECIPE_KEY, StateError, recipe_metadata, recipe_of, stem_of};
use nunatak_nn::files::{Checkpoint, Entry};
use nunatak_nn::models::{MODELS, MobileNet, Model};
use nunatak_nn::plan::Within;
use nunatak_nn::{
    Algorithm, EntryKind, Error, Graph, InstructionSet, Loss, Memory, Mode, Native, NormPolicy, Pass, Program, Recipe, Scope, Select, Stem,
    Step, Trainer, Update, Usual, ValueId, Var, int8,
};
use std::collections::{BTreeMap, BTreeSet};

/// A network for images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Network {
    /// A residual network of basic blocks.
    Recipe(Recipe),
    /// A model that has a name, and its classes.
    Named(Model, usize),
    /// One of these with layers of 8 bits.
    Int8(Int8),
}

/// A network, some of whose convolutions compute in 8 bits. There are few of them while a program runs: they are never
/// freed, so that they are as easily handed about as other networks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Int8 {
    floats: &'static Network,
    layers: &'static BTreeSet<String>,
}

/// What is asked of a file's network, where the file does not tell it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// The network, whose head has as many classes as the file's.
    pub arch: Option<Network>,
    /// How its first convolution goes.
    pub stem: Option<Stem>,
}

/// The network of a file.
#[derive(Clone, Debug)]
pub struct Found {
    /// The network.
    pub network: Network,
    /// What the file does not tell and was taken for granted.
    pub assumed: Option<String>,
}

impl Network {
    /// How many classes it tells apart.
    pub fn classes(&self) -> usize {
        match self {
            Network::Recipe(recipe) => recipe.classes,
            Network::Named(_, classes) => *classes,
            Network::Int8(int8) => int8.floats.classes(),
        }
    }

    /// Channels of the images.
    pub fn in_channels(&self) -> usize {
        match self {
            Network::Recipe(recipe) => recipe.in_channels,
            Network::Named(..) => 3,
            Network::Int8(int8) => int8.floats.in_channels(),
        }
    }

    /// The same network with another head.
    pub fn with_classes(self, classes: usize) -> Network {
        match self {
            Network::Recipe(recipe) => Network::Recipe(recipe.with_classes(classes)),
            Network::Named(model, _) => Network::Named(model, classes),
            Network::Int8(int8) => Network::Int8(Int8 { floats: Box::leak(Box::new(int8.floats.with_classes(classes))), ..int8 }),
        }
    }

    /// The same network, in which convolutions of these names compute in 8 bits.
    pub fn with_int8(self, layers: BTreeSet<String>) -> Network {
        let floats = match self {
            Network::Int8(int8) => int8.floats,
            floats => Box::leak(Box::new(floats)),
        };
        Network::Int8(Int8 { floats, layers: Box::leak(Box::new(layers)) })
    }

    /// The network of floats that it is or was made of.
    pub fn floats(self) -> Network {
        match self {
            Network::Int8(int8) => *int8.floats,
            floats => floats,
        }
    }

    /// The network that a file is of, by the names and shapes of its entries; of a delta with the file that it is
    /// laid over. Of the models that have a name it is the one with the fewest differences, if at least half of
    /// its entries are there: so a damaged file is still told what it lacks.
    ///
    /// # Errors
    /// [`StateError::NoNetwork`].
    pub fn of(file: &Checkpoint, base: Option<&Checkpoint>) -> Result<Network, StateError> {
        let delta = file.native().is_some_and(|native| native.base().is_some());
        let layers = int8_layers(file, base);
        if !layers.is_empty() {
            return Network::of_int8(file, base, layers);
        }
        if let Some(recipe) = file.native().and_then(Native::recipe).filter(|_| !delta || base.is_some()) {
            return Ok(Network::Recipe(*recipe));
        }
        let error = match recipe_of(file) {
            Ok(recipe) => return Ok(Network::Recipe(recipe)),
            Err(e) if delta && base.is_none() => return Err(e),
            Err(e) => e,
        };
        let shape = |name: &str| file.get(name).or_else(|| base.and_then(|base| base.get(name))).map(Entry::shape);
        let names: BTreeSet<&str> = file.entries().iter().chain(base.iter().flat_map(|base| base.entries())).map(Entry::name).collect();
        let mut nearest: Option<(usize, Network)> = None;
        for model in MODELS {
            let program = Network::Named(*model, 1000).program()?;
            let head = |name: &str| Select::Head.has(name, program.head());
            let entries = || program.entries().map(|id| program.entry(id)).filter(|entry| entry.kind() != EntryKind::Count);
            let fits = |entry: &nunatak_core::program::Entry| {
                let (sizes, rank) = entry.shape();
                shape(entry.name()).is_some_and(|shape| shape == &sizes[..rank] || head(entry.name()))
            };
            let there = entries().filter(fits).count();
            let known: BTreeSet<&str> = program.entries().map(|id| program.entry(id).name()).collect();
            let differences = entries().count() - there + names.iter().filter(|name| !known.contains(*name)).count();
            if 2 * there >= entries().count() && nearest.is_none_or(|(least, _)| differences < least) {
                let classes = entries().find(|entry| head(entry.name())).and_then(|entry| shape(entry.name())?.first().copied());
                nearest = Some((differences, Network::Named(*model, classes.unwrap_or(0))));
            }
        }
        nearest.map(|(_, network)| network).ok_or(error)
    }

    /// The network with these layers of 8 bits that a file is of: a native file tells a recipe; else it is the one that
    /// all entries fit.
    fn of_int8(file: &Checkpoint, base: Option<&Checkpoint>, layers: BTreeSet<String>) -> Result<Network, StateError> {
        let native = file.native().or_else(|| base.and_then(Checkpoint::native));
        if let Some(recipe) = native.and_then(Native::recipe) {
            return Ok(Network::Recipe(*recipe).with_int8(layers));
        }
        let recipes = [Recipe::resnet8(0), Recipe::resnet18(0), Recipe::resnet34(0)].map(Network::Recipe);
        let stem = file.metadata().get(RECIPE_KEY).and_then(|text| stem_of(text));
        let shape = |name: &str| file.get(name).or_else(|| base.and_then(|base| base.get(name))).map(Entry::shape);
        for network in recipes.into_iter().chain(MODELS.iter().map(|model| Network::Named(*model, 0))) {
            let network = match (network, stem) {
                (Network::Recipe(recipe), Some(stem)) => Network::Recipe(recipe.with_stem(stem)),
                _ => network,
            };
            let Ok(head) = network.with_classes(1).head() else { continue };
            let of_head = |entry: &&Entry| entry.name().strip_prefix(head.as_str()).is_some_and(|rest| rest.starts_with('.'));
            let classes = file.entries().iter().find(of_head).and_then(|entry| entry.shape().first().copied()).unwrap_or(0);
            let network = network.with_classes(classes).with_int8(layers.clone());
            let Ok(program) = network.program() else { continue };
            let fits = |entry: nunatak_core::program::Entry| {
                let (sizes, rank) = entry.shape();
                entry.kind() == EntryKind::Count || shape(entry.name()) == Some(&sizes[..rank])
            };
            if program.entries().all(|id| fits(program.entry(id))) {
                return Ok(network);
            }
        }
        Err(StateError::NoNetwork("it has layers of 8 bits, and they are of no network with a name; name the network with --arch".into()))
    }

    /// The network that a file is of, with what a state dict does not tell: taken from `asked`, or from `stem`, which
    /// is what the file says besides. What is assumed all the same is said; where several readings are usual, that
    /// is a question.
    ///
    /// # Errors
    /// [`Failure`], without the file's name: where the file is of no network, does not fit what is asked, or leaves
    /// the stem open.
    pub fn find(file: &Checkpoint, base: Option<&Checkpoint>, stem: Option<Stem>, asked: Asked) -> Result<Found, Failure> {
        let entry = |name: &str| file.get(name).or_else(|| base.and_then(|base| base.get(name)));
        let network = match asked.arch {
            Some(arch) => {
                let head = format!("{}.", arch.head()?);
                let is_head = |entry: &&Entry| entry.name().starts_with(&head);
                let entries = file.entries().iter().chain(base.iter().flat_map(|base| base.entries()));
                let arch = arch.with_classes(entries.filter(is_head).find_map(|entry| entry.shape().first().copied()).unwrap_or(0));
                let layers = int8_layers(file, base);
                if layers.is_empty() { arch } else { arch.with_int8(layers) }
            }
            None => Network::of(file, base)?,
        };
        let Network::Recipe(recipe) = network else {
            return match asked.stem {
                Some(_) => Err(Failure::usage(format_args!("--stem: the stem of a {} is always the same", network.name()))),
                None => Ok(Found { network, assumed: None }),
            };
        };
        let kernel = entry("conv1.weight").and_then(|conv1| conv1.shape().get(2).copied()).unwrap_or(recipe.stem.kernel);
        let told = asked.stem.or(asked.arch.map(|_| recipe.stem)).or(stem);
        let (stem, assumed) = match (told, kernel) {
            (Some(stem), _) if stem.kernel != kernel => {
                let got = stem.kernel;
                return Err(Failure::usage(format_args!(
                    "the first convolution is {kernel} x {kernel}, not {got} x {got} as the stem that is asked for"
                )));
            }
            (Some(stem), _) => (stem, None),
            (None, 7) => (Stem::usual(7), Some(String::from("the stem is ImageNet's (--stem 7:2:3:pool)"))),
            (None, _) => {
                let pad = kernel / 2;
                return Err(Failure::usage(format_args!(
                    "the first convolution is {kernel} x {kernel}, and the file does not tell its stride, its padding and whether a \
                     max-pool follows; say it: --stem {kernel}:1:{pad} (stride 1, no pooling, usual for images of 32 x 32) or \
                     --stem {kernel}:1:{pad}:pool or --stem {kernel}:2:{pad}:pool"
                )));
            }
        };
        Ok(Found { network: Network::Recipe(recipe.with_stem(stem)), assumed })
    }

    /// Its name; `resnet` of a recipe that has none.
    pub fn name(&self) -> &'static str {
        let known = [("resnet18", Recipe::resnet18(0)), ("resnet34", Recipe::resnet34(0)), ("resnet8", Recipe::resnet8(0))];
        match self {
            Network::Recipe(recipe) => known.into_iter().find(|(_, r)| *r == recipe.with_classes(0)).map_or("resnet", |(name, _)| name),
            Network::Named(model, _) => model.name,
            Network::Int8(int8) => int8.floats.name(),
        }
    }

    /// What files say of it in their metadata.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        match self {
            Network::Recipe(recipe) => recipe_metadata(recipe),
            Network::Named(..) => BTreeMap::new(),
            Network::Int8(int8) => int8.floats.metadata(),
        }
    }

    /// Records its floats, with the dropout that the model has or without: features and logits.
    fn record<'g>(&self, g: Scope<'g>, x: Var<'g>, dropout: bool) -> (Var<'g>, Var<'g>) {
        match self {
            Network::Int8(int8) => int8.floats.record(g, x, dropout),
            Network::Recipe(recipe) => recipe.record(g, x),
            Network::Named(model, classes) => {
                let kept = MobileNet { dropout: 0.0 };
                let prediction = match model.name {
                    "mobilenet_v2" if !dropout => kept.v2(g, x, *classes),
                    "mobilenet_v3_small" if !dropout => kept.v3_small(g, x, *classes),
                    _ => model.record(g, x, *classes),
                };
                (g.named("features").unwrap_or(prediction), prediction)
            }
        }
    }

    /// A program of it, for its names and shapes: inference of one image.
    ///
    /// # Errors
    /// Those of [`Setup::plan`].
    pub fn program(&self) -> Result<Program<'static>, Error> {
        Ok(Setup::inference(*self, 1, 64).plan()?.program)
    }

    /// The prefix of its head's names.
    ///
    /// # Errors
    /// Those of [`Setup::plan`].
    pub fn head(&self) -> Result<String, Error> {
        Ok(self.program()?.head().to_string())
    }

    /// The names of its parameters.
    ///
    /// # Errors
    /// Those of [`Setup::plan`].
    pub fn parameters(&self) -> Result<Vec<String>, Error> {
        let program = self.program()?;
        Ok(parameters(&program).map(|id| program.entry(id).name().to_string()).collect())
    }
}

/// The layers of 8 bits of a file, and of the one that it is laid over.
fn int8_layers(file: &Checkpoint, base: Option<&Checkpoint>) -> BTreeSet<String> {
    let entries = file.entries().iter().chain(base.iter().flat_map(|base| base.entries()));
    entries.filter_map(|entry| entry.name().strip_suffix(int8::SUFFIX)).map(str::to_string).collect()
}

/// The parameters of a program.
pub fn parameters(program: &Program) -> impl Iterator<Item = nunatak_nn::EntryId> {
    program.entries().filter(|id| program.entry(*id).kind() == EntryKind::Parameter)
}

/// How many numbers the parameters have, and how many of them are trained.
pub fn parameter_numbers(program: &Program) -> [usize; 2] {
    parameters(program).map(|id| program.entry(id)).fold([0; 2], |[all, trained], entry| {
        let numbers = entry.numbers();
        [all + numbers, trained + if entry.is_trained() { numbers } else { 0 }]
    })
}

/// Whether a program trains anything.
pub fn trains(program: &Program) -> bool {
    program.backward().next().is_some()
}

/// The choices of a step.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// The network.
    pub network: Network,
    /// Images of a batch.
    pub batch: usize,
    /// Rows and columns of an image.
    pub size: [usize; 2],
    /// Train or eval mode.
    pub mode: Mode,
    /// What frozen normalisations do.
    pub norm_policy: NormPolicy,
    /// The parameters that are trained: names and prefixes with commas between, `all`, `none` or `head`.
    pub trainable: String,
    /// The loss.
    pub loss: Loss,
    /// The instruction set that it is planned for; any where there is none.
    pub level: Option<InstructionSet>,
    /// Threads at most.
    pub threads: usize,
    /// Memory or speed.
    pub memory: Memory,
    /// Whether it runs in a build that has one algorithm, `gemm`.
    pub gemm_only: bool,
    /// When parameters are updated.
    pub update: Update,
    /// Whether there is a momentum for every trained parameter.
    pub momentum: bool,
    /// Whether operations become one where that saves passes over memory.
    pub fuse: bool,
    /// Algorithms that are asked for, in the order of [`Pass`].
    pub algorithms: [Option<Algorithm>; 3],
    /// The file in which frozen weights are read where they lie.
    pub in_place: Option<Native<'a>>,
    /// What is kept in the block all the same.
    pub hold: BTreeSet<String>,
    /// Whether the feature map and its gradient can be read after the step: see [`Plan::map`].
    pub keep_map: bool,
    /// Whether a model that drops numbers in train mode does so.
    pub dropout: bool,
    /// Values that can be read after a forward, besides features and prediction.
    pub keep: Vec<ValueId>,
    /// Bytes that the block and the program may take; values are then computed again instead of being kept.
    pub max_mem: Option<usize>,
}

/// A planned step.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program.
    pub program: Program<'static>,
    /// Its values.
    pub values: Usual,
    /// The last feature map before the pooling over all places, where it is kept.
    pub map: Option<ValueId>,
    /// How many values are computed again in the backward walk.
    pub again: usize,
    /// How much longer the step takes for it, by the planner's cost model.
    pub times: f64,
}

impl Plan {
    /// Images, channels, rows and columns of the feature map, where it is kept.
    pub fn map_shape(&self) -> Option<[usize; 4]> {
        self.program.value_of_node(self.map?.0).map(|(_, value)| value.shape())
    }
}

/// Plans a step so that block, program and trainer take at most `most` bytes.
fn within(step: &Step, most: usize) -> Result<Within, Error> {
    // What the program takes is known once it is planned; then so much less is left for the block.
    let mut block = most;
    loop {
        let (found, last) = match step.plan_within(block) {
            Err(Error::Budget { least, .. }) => (step.plan_within(least)?, true),
            found => (found?, false),
        };
        let Bytes { tables, .. } = Bytes::of(&found.program);
        let least = Trainer::bytes(&found.program) + tables;
        if least <= most {
            return Ok(found);
        }
        if last {
            return Err(Error::Budget { asked: most, least });
        }
        block = block.min(most.saturating_sub(tables)).min(Trainer::bytes(&found.program) - 1);
    }
}

impl<'a> Setup<'a> {
    /// Inference in eval mode of square images.
    pub fn inference(network: Network, batch: usize, side: usize) -> Setup<'a> {
        Setup {
            network,
            batch,
            size: [side; 2],
            mode: Mode::Eval,
            norm_policy: NormPolicy::Updating,
            trainable: "none".into(),
            loss: Loss::None,
            level: None,
            threads: 1,
            memory: Memory::Fast,
            gemm_only: false,
            update: Update::After,
            momentum: false,
            fuse: true,
            algorithms: [None; 3],
            in_place: None,
            hold: BTreeSet::new(),
            keep_map: false,
            dropout: true,
            keep: Vec::new(),
            max_mem: None,
        }
    }

    /// The same step for another number of images.
    pub fn with_batch(&self, batch: usize) -> Setup<'a> {
        Setup { batch, ..self.clone() }
    }

    /// Plans the step.
    ///
    /// # Errors
    /// Those of [`Graph::usual`] and [`Step::plan`].
    pub fn plan(&self) -> Result<Plan, Error> {
        let (graph, values) = self.record()?;
        let hold = |name: &str| self.hold.contains(name);
        let map = graph.last_pooled().filter(|_| self.keep_map).map(Var::id);
        let keep: Vec<ValueId> = [values.prediction, values.features].into_iter().chain(map).chain(self.keep.iter().copied()).collect();
        let step = self.step(&graph, values.root, &keep, &hold).keep_gradients(map.as_slice());
        match self.max_mem {
            None => Ok(Plan { program: step.plan()?, values, map, again: 0, times: 1.0 }),
            Some(most) => {
                let Within { program, again, times } = within(&step, most)?;
                Ok(Plan { program, values, map, again: again.len(), times })
            }
        }
    }

    /// Records the network and its loss.
    ///
    /// # Errors
    /// Those of [`Graph::usual`].
    pub fn record(&self) -> Result<(Graph<'static>, Usual), Error> {
        let [height, width] = self.size;
        let images = [self.batch, self.network.in_channels(), height, width];
        let graph = Graph::new();
        let values = graph.usual(images, self.loss, |g, x| self.network.record(g, x, self.dropout))?;
        let Network::Int8(network) = &self.network else { return Ok((graph, values)) };
        let rewritten = int8::rewrite(&graph, &|name| network.layers.contains(name))?;
        let values = rewritten.usual(&values)?;
        Ok((rewritten.into_graph(), values))
    }

    /// The step, to be planned.
    pub fn step<'b, 's>(
        &'b self,
        graph: &'b Graph<'s>,
        root: Option<ValueId>,
        keep: &'b [ValueId],
        hold: &'b dyn Fn(&str) -> bool,
    ) -> Step<'b, 's> {
        let mut step = Step::new(graph)
            .root(root)
            .keep(keep)
            .train(Select::Names(&self.trainable))
            .mode(self.mode)
            .norm_policy(self.norm_policy)
            .threads(self.threads)
            .memory(self.memory)
            .gemm_only(self.gemm_only)
            .update(self.update)
            .momentum(self.momentum)
            .fuse(self.fuse)
            .in_place(self.in_place)
            .hold(hold);
        for pass in Pass::ALL {
            step = step.force(pass, self.algorithms[pass as usize]);
        }
        if let Some(level) = self.level {
            step = step.level(level);
        }
        step
    }

    /// Refuses names to be trained that no parameter has or begins with; the message lists near ones.
    ///
    /// # Errors
    /// [`Failure::Usage`].
    pub fn check_trainable(&self) -> Result<(), Failure> {
        crate::args::check_trainable(&self.trainable, &self.network)
    }
}
