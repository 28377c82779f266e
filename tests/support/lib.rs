//! What several of nunatak's tests share: small networks, random numbers, bits of a trainer's state,
//! and the goldens that PyTorch wrote.

mod golden;

pub use golden::{Golden, Result, golden_folder};

use nunatak_nn::files::save::Save;
use nunatak_nn::plan::Region;
use nunatak_nn::{
    Algorithm, EntryId, EntryKind, Error, Graph, Level, Loss, Memory, Mode, Native, NormPolicy, Pass, Program, Recipe, Stem, Step, Threads,
    Trainer, Update, Usual,
};

/// A stem for small images.
pub const STEM: Stem = Stem { kernel: 3, stride: 1, pad: 1, pool: false };

/// A network of odd widths with every kind of block, of some 3000 parameters.
pub fn small() -> Recipe {
    Recipe::new(&[1, 1, 1], &[5, 7, 9], STEM, 3, 5).expect("a recipe")
}

/// `len` numbers between −1 and 1.
pub fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
        })
        .collect()
}

/// Whether an emulator runs the tests (`NUNATAK_TEST=emulated`), hundreds of times slower than a CPU.
pub fn emulated() -> bool {
    std::env::var("NUNATAK_TEST").is_ok_and(|v| v == "emulated")
}

/// Teams of these sizes, however few CPUs there are.
pub fn teams(sizes: &[usize]) -> Vec<Threads> {
    sizes.iter().map(|&n| Threads::oversubscribed(n).expect("threads")).collect()
}

/// The choices of a usual step of a residual network.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// The network.
    pub recipe: Recipe,
    /// Images of a batch.
    pub batch: usize,
    /// Lines of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Train or eval mode.
    pub mode: Mode,
    /// What frozen normalisations do in train mode.
    pub norm_policy: NormPolicy,
    /// What is trained, by names and prefixes.
    pub trainable: &'a str,
    /// The loss.
    pub loss: Loss,
    /// Threads at most.
    pub threads: usize,
    /// Memory or speed.
    pub memory: Memory,
    /// When parameters are updated.
    pub update: Update,
    /// Whether there is room for momentum.
    pub momentum: bool,
    /// Whether operations that follow each other become one.
    pub fuse: bool,
    /// Algorithms that are asked for, in the order of [`Pass`].
    pub algorithms: [Option<Algorithm>; 3],
    /// The file in which frozen weights are read.
    pub weights: Option<Native<'a>>,
    /// What is kept in the block all the same.
    pub hold: Option<&'a dyn Fn(&str) -> bool>,
    /// The pieces of memory, the fastest first; one that is as large as it must be where there are none.
    pub regions: &'a [Region<'a>],
}

impl<'a> Setup<'a> {
    /// Inference in eval mode.
    pub fn inference(recipe: Recipe, batch: usize, height: usize, width: usize) -> Setup<'a> {
        Setup {
            recipe,
            batch,
            height,
            width,
            mode: Mode::Eval,
            norm_policy: NormPolicy::Updating,
            trainable: "none",
            loss: Loss::None,
            threads: 1,
            memory: Memory::Fast,
            update: Update::After,
            momentum: false,
            fuse: true,
            algorithms: [None; 3],
            weights: None,
            hold: None,
            regions: &[],
        }
    }

    /// Records and plans the step.
    ///
    /// # Errors
    /// Those of the recording and the plan.
    pub fn plan(&self) -> core::result::Result<(Program<'static>, Usual), Error> {
        let images = [self.batch, self.recipe.in_channels, self.height, self.width];
        let graph = Graph::new();
        let values = graph.usual(images, self.loss, |g, x| self.recipe.record(g, x))?;
        let keep = [values.prediction, values.features];
        let mut step = Step::new(&graph).root(values.root).keep(&keep).train(self.trainable).mode(self.mode).norm_policy(self.norm_policy);
        step = step.threads(self.threads).memory(self.memory).update(self.update).momentum(self.momentum).fuse(self.fuse);
        for pass in Pass::ALL {
            step = step.force(pass, self.algorithms[pass as usize]);
        }
        step = step.in_place(self.weights).regions(self.regions);
        if let Some(hold) = self.hold {
            step = step.hold(hold);
        }
        Ok((step.plan()?, values))
    }

    /// Whether a parameter of this name is trained.
    pub fn trains(&self, name: &str) -> bool {
        nunatak_nn::Select::Names(self.trainable).has(name, "fc")
    }
}

/// A setup that trains everything of `recipe` with `loss` on images of `size` x `size`.
pub fn training<'a>(recipe: Recipe, batch: usize, size: usize, loss: Loss) -> Setup<'a> {
    Setup { mode: Mode::Train, loss, trainable: "all", momentum: true, ..Setup::inference(recipe, batch, size, size) }
}

/// A program with the values of its step.
pub fn plan(setup: &Setup) -> (Program<'static>, Usual) {
    setup.plan().expect("a plan")
}

/// The bytes that a step needs.
pub fn bytes(setup: &Setup) -> usize {
    Trainer::bytes(&plan(setup).0)
}

/// A trainer in new memory, initialised with seed 7, for as long as `use_it` runs.
pub fn with_trainer<R>(setup: &Setup, level: Level, threads: Threads, use_it: impl FnOnce(&mut Trainer, Usual) -> R) -> R {
    let (program, values) = plan(&Setup { threads: setup.threads.max(threads.count()), ..*setup });
    // What a caller hands over is not zero, and nothing may depend on what it is.
    let mut memory = vec![0xa5; Trainer::bytes(&program)];
    let mut trainer = Trainer::new(program, &mut memory, level, threads).expect("enough memory");
    trainer.init(7);
    use_it(&mut trainer, values)
}

/// Random images and labels for a usual step.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The images.
    pub data: Vec<f32>,
    /// Labels of the losses that take a tensor.
    pub labels: Vec<f32>,
    /// Labels of the loss that takes classes.
    pub classes: Vec<i64>,
}

impl Batch {
    /// A batch for this setup.
    pub fn random(setup: &Setup, seed: u64) -> Batch {
        let classes = setup.recipe.classes.max(1);
        Batch {
            data: random(setup.batch * setup.recipe.in_channels * setup.height * setup.width, seed),
            labels: random(setup.batch * classes, seed + 100),
            classes: (0..setup.batch).map(|i| ((i * 7 + seed as usize) % classes) as i64).collect(),
        }
    }

    /// Hands the batch to a trainer.
    ///
    /// # Errors
    /// The trainer's.
    pub fn set(&self, trainer: &mut Trainer, values: &Usual) -> core::result::Result<(), Error> {
        trainer.set_input(values.data, &self.data)?;
        match values.labels {
            None => Ok(()),
            Some(id) if is_classes(trainer, id) => trainer.set_labels(id, &self.classes),
            Some(id) => trainer.set_input(id, &self.labels),
        }
    }
}

fn is_classes(trainer: &Trainer, id: nunatak_nn::ValueId) -> bool {
    let labels = nunatak_core::program::ValueRecord::LABELS;
    trainer.program().value_of_node(id.0).is_some_and(|(_, value)| value.flags() & labels != 0)
}

/// A gradient in PyTorch's shape.
pub fn gradient(trainer: &Trainer, id: EntryId) -> Vec<f32> {
    let mut out = vec![f32::NAN; trainer.program().entry(id).numbers()];
    trainer.gradient(id, &mut out).expect("a gradient");
    out
}

/// All gradients, one after the other.
pub fn gradients(trainer: &Trainer) -> Vec<f32> {
    trainer.gradients().flat_map(|id| gradient(trainer, id)).collect()
}

/// The names of the parameters that have a gradient.
pub fn names_of_gradients<'t>(trainer: &'t Trainer) -> Vec<&'t str> {
    trainer.gradients().map(|id| trainer.program().entry(id).name()).collect()
}

/// The entries of a program that are parameters.
pub fn params(program: &Program) -> Vec<EntryId> {
    program.entries().filter(|id| program.entry(*id).kind() == EntryKind::Parameter).collect()
}

/// The entry with this name.
pub fn entry(trainer: &Trainer, name: &str) -> EntryId {
    trainer.entry_named(name).expect("an entry")
}

/// An entry's numbers in PyTorch's shape.
pub fn numbers(trainer: &Trainer, id: EntryId) -> Vec<f32> {
    let mut out = vec![f32::NAN; trainer.program().entry(id).numbers()];
    trainer.entry(id, &mut out).expect("numbers");
    out
}

/// A parameter in PyTorch's shape.
pub fn param(trainer: &Trainer, name: &str) -> Vec<f32> {
    numbers(trainer, entry(trainer, name))
}

/// Name and bits of everything that lasts from step to step: parameters, statistics, counts, momentum.
pub fn bits(trainer: &Trainer) -> Vec<(String, Vec<u32>)> {
    let as_bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let mut all = Vec::new();
    for id in trainer.program().entries() {
        let entry = trainer.program().entry(id);
        let name = entry.name().to_string();
        if entry.kind() == EntryKind::Count {
            all.push((name, vec![trainer.count(id) as u32]));
            continue;
        }
        if entry.kind() == EntryKind::Words {
            all.push((name, trainer.words(id).iter().map(|word| *word as u32).collect()));
            continue;
        }
        let mut room = numbers(trainer, id);
        all.push((name.clone(), as_bits(&room)));
        if trainer.has_momentum(id) {
            trainer.momentum(id, &mut room).expect("a momentum");
            all.push((format!("momentum.{name}"), as_bits(&room)));
        }
    }
    all
}

/// Panics with the names of what differs, instead of with all the bits.
#[track_caller]
pub fn same_bits(what: &str, a: &[(String, Vec<u32>)], b: &[(String, Vec<u32>)]) {
    assert_eq!(a.len(), b.len(), "{what}: one has more entries");
    let differ: Vec<_> = a.iter().zip(b).filter(|(a, b)| a != b).map(|(a, _)| a.0.as_str()).collect();
    assert!(differ.is_empty(), "{what}: these differ: {}", differ.join(", "));
}

/// max|difference| / max|truth|, the d of the semantics.
pub fn distance(got: &[f32], truth: &[f64]) -> f64 {
    assert_eq!(got.len(), truth.len());
    let largest = truth.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    let scale = if largest > 0.0 { largest } else { 1.0 };
    let error = |(g, t): (&f32, &f64)| (f64::from(*g) - t).abs() / scale;
    // Not `max`, which would let NaN pass.
    got.iter().zip(truth).map(error).fold(0.0, |m, e| if e.is_nan() || e > m { e } else { m })
}

/// A file's bytes where weights can be used in place: they begin at a multiple of 64.
pub struct Flash {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Flash {
    /// A copy of `bytes`.
    pub fn new(bytes: &[u8]) -> Flash {
        let mut room = vec![0xff; bytes.len() + 63];
        let start = room.as_ptr().align_offset(64);
        room[start..start + bytes.len()].copy_from_slice(bytes);
        Flash { bytes: room, start, len: bytes.len() }
    }
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
    /// The native file in them.
    pub fn native(&self) -> Native<'_> {
        Native::parse(self.bytes()).expect("a native file")
    }
}

/// What a trainer saves as a native file.
pub fn saved(trainer: &Trainer, what: Save) -> Vec<u8> {
    let saving = trainer.saving(what, &[]).expect("can be saved");
    let mut bytes = vec![0xaa; saving.len()];
    assert_eq!(saving.write_to(&mut bytes), Ok(bytes.len()));
    bytes
}
