//! What several of nunatak's tests share: small networks, random numbers, bits of a trainer's state,
//! and the goldens that PyTorch wrote.

mod golden;

pub use golden::{Golden, Result, golden_folder};

use nunatak_core::ValueId;
use nunatak_nn::blueprint::NetSlots;
use nunatak_nn::recipe::Stem;
use nunatak_nn::setup::Values;
use nunatak_nn::{Blueprint, Entry, Error, Level, Loss, Mode, Network, NormPolicy, Options, ParamSet, Recipe, Setup, Threads, Trainer};

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

/// A setup that trains everything of `recipe` with `loss` on images of `size` x `size`.
pub fn training(recipe: Recipe, batch: usize, size: usize, loss: Loss) -> Setup {
    Setup {
        recipe,
        batch,
        height: size,
        width: size,
        mode: Mode::Train,
        norm_policy: NormPolicy::Updating,
        trainable: network(recipe).all(),
        loss,
        options: Options::default(),
        algorithms: [None; 3],
    }
}

/// The network of a recipe.
pub fn network(recipe: Recipe) -> Network {
    Network::new(recipe).expect("a network")
}

/// The union of the parameters under these prefixes.
pub fn prefixes(recipe: Recipe, names: &[&str]) -> ParamSet {
    let network = network(recipe);
    let mut set = ParamSet::EMPTY;
    for name in names {
        network.by_prefix(name).expect("a prefix").iter().for_each(|id| set.insert(id));
    }
    set
}

/// A plan with what belongs to it.
pub fn plan(setup: &Setup) -> (Blueprint, NetSlots, Values) {
    setup.plan().expect("a plan")
}

/// A trainer in new memory, initialised with seed 7, for as long as `use_it` runs.
pub fn with_trainer<R>(setup: &Setup, level: Level, threads: Threads, use_it: impl FnOnce(&mut Trainer, Values) -> R) -> R {
    let mut setup = *setup;
    setup.options.threads = setup.options.threads.max(threads.count());
    let (blueprint, _, values) = plan(&setup);
    // What a caller hands over is not zero, and nothing may depend on what it is.
    let mut memory = vec![0xa5; blueprint.bytes()];
    let mut trainer = Trainer::new(blueprint, &mut memory, level, threads).expect("enough memory");
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
    pub fn set(&self, trainer: &mut Trainer, values: &Values) -> core::result::Result<(), Error> {
        trainer.set_input(values.data, &self.data)?;
        match values.labels {
            None => Ok(()),
            Some(id) if is_classes(trainer, id) => trainer.set_labels(id, &self.classes),
            Some(id) => trainer.set_input(id, &self.labels),
        }
    }
}

fn is_classes(trainer: &Trainer, id: ValueId) -> bool {
    trainer.blueprint().tape().node(id).is_ok_and(|node| matches!(node.op, nunatak_nn::op::Op::Labels))
}

/// A gradient in PyTorch's shape.
pub fn gradient(trainer: &Trainer, name: &str) -> Vec<f32> {
    let network = trainer.blueprint().network();
    let id = network.by_name(name).expect("a parameter");
    let mut out = vec![f32::NAN; network.param_at(id).numbers()];
    trainer.gradient(id, &mut out).expect("a gradient");
    out
}

/// All gradients, one after the other.
pub fn gradients(trainer: &Trainer) -> Vec<f32> {
    let network = trainer.blueprint().network();
    let mut all = Vec::new();
    for id in trainer.gradients().iter() {
        let mut out = vec![f32::NAN; network.param_at(id).numbers()];
        trainer.gradient(id, &mut out).expect("a gradient");
        all.extend(out);
    }
    all
}

/// A parameter in PyTorch's shape.
pub fn param(trainer: &Trainer, name: &str) -> Vec<f32> {
    let network = trainer.blueprint().network();
    let id = network.by_name(name).expect("a parameter");
    let mut out = vec![f32::NAN; network.param_at(id).numbers()];
    trainer.param(id, &mut out).expect("a parameter");
    out
}

/// Name and bits of everything that lasts from step to step: parameters, statistics, counts, momentum.
pub fn bits(trainer: &Trainer) -> Vec<(String, Vec<u32>)> {
    let network = trainer.blueprint().network();
    let as_bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let mut all = Vec::new();
    for entry in network.entries() {
        let name = network.entry_name(entry).as_str().to_string();
        if let Entry::NumBatchesTracked(id) = entry {
            all.push((name, vec![trainer.num_batches_tracked(id) as u32]));
            continue;
        }
        let (shape, _) = network.entry_shape(entry);
        let mut room = vec![f32::NAN; shape.iter().product()];
        trainer.entry(entry, &mut room).expect("an entry");
        all.push((name.clone(), as_bits(&room)));
        if let Entry::Param(id) = entry
            && trainer.has_momentum(id)
        {
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
    pub fn native(&self) -> nunatak_nn::Native<'_> {
        nunatak_nn::Native::parse(self.bytes()).expect("a native file")
    }
}

/// What a trainer saves as a native file.
pub fn saved(trainer: &Trainer, what: nunatak_nn::Save) -> Vec<u8> {
    let saving = trainer.saving(what, &[]).expect("can be saved");
    let mut bytes = vec![0xaa; saving.len()];
    assert_eq!(saving.write_to(&mut bytes), Ok(bytes.len()));
    bytes
}
