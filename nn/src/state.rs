//! Between checkpoints and trainers: loading a state dict, finding out which network it is of, and
//! handing out what is to be saved.

pub use crate::heapless::{Head, MOMENTUM_PREFIX, RECIPE_KEY};

use crate::checkpoint::{Checkpoint, Data, Dtype, ReadError, TensorOut};
use crate::params::Entry;
use crate::recipe::{MAX_LAYERS, Recipe, Stem};
use crate::trainer::Trainer;
use crate::{Error, Network};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::string::{String, ToString};
use std::vec::Vec;

/// Why a checkpoint does not fit a network.
#[derive(Debug)]
pub enum StateError {
    /// The file's entries are not the network's: all differences, in one report.
    Mismatch(Mismatch),
    /// A value that can't be, with its entry's name.
    Value {
        /// The entry.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// An entry that can't be read.
    Read(ReadError),
    /// The file holds no residual network of basic blocks.
    NoNetwork(String),
    /// The trainer refused.
    Trainer(Error),
}

/// Everything that differs between a checkpoint and a network.
#[derive(Debug, Default)]
pub struct Mismatch {
    /// Entries that the network has and the file has not.
    pub missing: Vec<String>,
    /// Entries that the file has and the network has not.
    pub unexpected: Vec<String>,
    /// Name, shape in the network, shape in the file.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the file's entries are not this network's")?;
        let list = |f: &mut fmt::Formatter, what: &str, names: &[String]| -> fmt::Result {
            if names.is_empty() { Ok(()) } else { write!(f, "; {} {what}: {}", names.len(), names.join(", ")) }
        };
        list(f, "missing", &self.missing)?;
        list(f, "unexpected", &self.unexpected)?;
        for (name, due, got) in &self.misshapen {
            write!(f, "; {name} has the shape {got:?}, {due:?} was expected")?;
        }
        if self.misshapen.iter().any(|(name, ..)| name.starts_with("fc.")) {
            f.write_str("; the head has another number of classes: ask for that number, or for a new head")?;
        }
        Ok(())
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            StateError::Mismatch(m) => m.fmt(f),
            StateError::Value { name, what } => write!(f, "{name}: {what}"),
            StateError::Read(e) => e.fmt(f),
            StateError::NoNetwork(why) => write!(f, "no residual network of basic blocks: {why}"),
            StateError::Trainer(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for StateError {}

impl From<ReadError> for StateError {
    fn from(e: ReadError) -> Self {
        StateError::Read(e)
    }
}

impl From<Error> for StateError {
    fn from(e: Error) -> Self {
        StateError::Trainer(e)
    }
}

/// What was loaded.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Entries with NaN or infinite numbers, and how many of them.
    pub not_finite: Vec<(String, usize)>,
}

fn is_head(name: &str) -> bool {
    name.starts_with("fc.")
}

fn dims(network: &Network, entry: Entry) -> Vec<usize> {
    let (sizes, rank) = network.entry_shape(entry);
    sizes[..rank].to_vec()
}

/// Whether a file can be loaded into a network.
///
/// # Errors
/// [`StateError::Mismatch`] with all differences; [`StateError::Value`] where a value can't be.
pub fn check(network: &Network, file: &Checkpoint, head: Head) -> Result<(), StateError> {
    let keep = |name: &str| head == Head::Keep && is_head(name);
    let mut mismatch = Mismatch::default();
    let mut known = BTreeSet::new();
    for entry in network.entries() {
        let name = network.entry_name(entry);
        let name = name.as_str();
        known.insert(name.to_string());
        match file.get(name) {
            _ if keep(name) => {}
            None if matches!(entry, Entry::NumBatchesTracked(_)) => {}
            None => mismatch.missing.push(name.to_string()),
            Some(e) if e.shape() != dims(network, entry) => {
                mismatch.misshapen.push((name.to_string(), dims(network, entry), e.shape().to_vec()));
            }
            Some(_) => {}
        }
    }
    let unexpected =
        file.entries().iter().map(|e| e.name()).filter(|name| {
            !known.contains(*name) && !keep(name) && !name.strip_prefix(MOMENTUM_PREFIX).is_some_and(|of| known.contains(of))
        });
    mismatch.unexpected = unexpected.map(str::to_string).collect();
    if !(mismatch.missing.is_empty() && mismatch.unexpected.is_empty() && mismatch.misshapen.is_empty()) {
        return Err(StateError::Mismatch(mismatch));
    }
    check_values(network, file)
}

impl Trainer<'_> {
    /// Loads a state dict. Files without `num_batches_tracked` (before PyTorch 0.4.1) are accepted.
    /// Momentum and gradients are forgotten.
    ///
    /// # Errors
    /// Those of [`check`], and where the plan reads weights in place, before anything is changed.
    pub fn load(&mut self, file: &Checkpoint, head: Head) -> Result<Loaded, StateError> {
        let network = self.blueprint().network().clone();
        self.check_writable()?;
        check(&network, file, head)?;
        let keep = |name: &str| head == Head::Keep && is_head(name);

        let mut loaded = Loaded::default();
        let mut room = Vec::new();
        for entry in network.entries() {
            let name = network.entry_name(entry);
            let Some(e) = file.get(name.as_str()).filter(|_| !keep(name.as_str())) else { continue };
            if let Entry::NumBatchesTracked(id) = entry {
                self.set_num_batches_tracked(id, e.read_i64()?[0]);
                continue;
            }
            let data = match e.as_f32() {
                Some(data) => data,
                None => {
                    e.read_f32(&mut room)?;
                    &room
                }
            };
            let bad = data.iter().filter(|v| !v.is_finite()).count();
            if bad > 0 {
                loaded.not_finite.push((name.as_str().to_string(), bad));
            }
            match entry {
                Entry::Param(id) => self.set_param(id, data)?,
                Entry::RunningMean(id) => self.running_mean_mut(id).copy_from_slice(data),
                Entry::RunningVar(id) => self.running_var_mut(id).copy_from_slice(data),
                Entry::NumBatchesTracked(_) => {}
            }
        }
        for id in network.norms().iter().enumerate().map(|(i, _)| crate::NormId(i as u16)) {
            let name = network.entry_name(Entry::NumBatchesTracked(id));
            if file.get(name.as_str()).is_none() {
                self.set_num_batches_tracked(id, 0);
            }
        }
        self.zero_grad();
        self.momenta = Default::default();
        Ok(loaded)
    }

    /// Everything that belongs into a state dict, in PyTorch's shapes.
    pub fn state(&self) -> State {
        let network = self.blueprint().network();
        let tensors = network.entries().map(|entry| {
            let values = match entry {
                Entry::NumBatchesTracked(id) => Values::I64(std::vec![self.num_batches_tracked(id)]),
                _ => {
                    let shape = dims(network, entry);
                    let mut data = std::vec![0.0; shape.iter().product()];
                    // The room has just the entry's length.
                    let _ = self.entry(entry, &mut data);
                    Values::F32(data)
                }
            };
            (network.entry_name(entry).as_str().to_string(), dims(network, entry), values)
        });
        State { tensors: tensors.collect() }
    }

    /// The same, and after it the momentum of every parameter that has one: what a run needs to go on.
    pub fn state_with_momentum(&self) -> State {
        let mut state = self.state();
        let network = self.blueprint().network();
        for id in network.param_ids().filter(|id| self.has_momentum(*id)) {
            let entry = Entry::Param(id);
            let shape = dims(network, entry);
            let mut data = std::vec![0.0; shape.iter().product()];
            // It has a momentum, and the room has just its length.
            let _ = self.momentum(id, &mut data);
            let name = std::format!("{MOMENTUM_PREFIX}{}", network.entry_name(entry).as_str());
            state.tensors.push((name, shape, Values::F32(data)));
        }
        state
    }

    /// Takes over every momentum that the file has.
    ///
    /// # Errors
    /// [`StateError`] where one has another shape, can't be read, or belongs to a parameter that the
    /// plan does not train, before anything is changed.
    pub fn load_momentum(&mut self, file: &Checkpoint) -> Result<(), StateError> {
        let network = self.blueprint().network().clone();
        let mut room = Vec::new();
        for only_look in [true, false] {
            for id in network.param_ids() {
                let name = std::format!("{MOMENTUM_PREFIX}{}", network.entry_name(Entry::Param(id)).as_str());
                let Some(entry) = file.get(&name) else { continue };
                let due = dims(&network, Entry::Param(id));
                if entry.shape() != due {
                    let misshapen = std::vec![(name, due, entry.shape().to_vec())];
                    return Err(StateError::Mismatch(Mismatch { misshapen, ..Mismatch::default() }));
                }
                entry.read_f32(&mut room)?;
                match only_look {
                    true if !self.blueprint().plans_momentum(id) => return Err(Error::NoMomentum.into()),
                    true => {}
                    false => self.set_momentum(id, &room)?,
                }
            }
        }
        Ok(())
    }
}

/// Values that no training could have left: refused before anything is loaded.
fn check_values(network: &Network, file: &Checkpoint) -> Result<(), StateError> {
    let mut room = Vec::new();
    for entry in network.entries() {
        let name = network.entry_name(entry);
        let Some(e) = file.get(name.as_str()) else { continue };
        let error = |what| Err(StateError::Value { name: name.as_str().to_string(), what });
        match entry {
            Entry::RunningVar(_) => {
                e.read_f32(&mut room)?;
                if room.iter().any(|v| *v < 0.0) {
                    return error("a running variance is negative; the file is damaged");
                }
            }
            Entry::NumBatchesTracked(_) if e.read_i64()?.iter().any(|v| *v < 0) => {
                return error("the number of batches is negative; the file is damaged");
            }
            _ => {}
        }
        if matches!(entry, Entry::Param(_)) && e.dtype() == Dtype::Bool {
            return error("holds truth values where numbers are due");
        }
    }
    Ok(())
}

/// Tensors to be saved.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Name, shape, numbers.
    pub tensors: Vec<(String, Vec<usize>, Values)>,
}

/// Numbers of a tensor to be saved.
#[derive(Clone, Debug)]
pub enum Values {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit integers.
    I64(Vec<i64>),
}

impl State {
    /// The tensors as the writers take them.
    pub fn views(&self) -> Vec<TensorOut<'_>> {
        self.tensors
            .iter()
            .map(|(name, shape, values)| TensorOut {
                name,
                shape,
                data: match values {
                    Values::F32(v) => Data::F32(v),
                    Values::I64(v) => Data::I64(v),
                },
            })
            .collect()
    }
}

/// The network that a checkpoint is of, by its entries' names and shapes. The stem's stride, padding
/// and pooling leave no trace in a state dict: a 7x7 stem is taken for ImageNet's, any other for one
/// of stride 1 that keeps the size, unless the metadata say otherwise.
///
/// # Errors
/// [`StateError::NoNetwork`].
pub fn recipe_of(file: &Checkpoint) -> Result<Recipe, StateError> {
    let none = |why: &str| StateError::NoNetwork(why.to_string());
    let shape = |name: &str| file.get(name).map(|e| e.shape().to_vec());
    if let Some(base) = file.native().and_then(|file| file.base()) {
        return Err(none(&std::format!("it is a delta, to be laid over the file with the hash {base}")));
    }
    let Some([width, in_channels, kernel, _]) = shape("conv1.weight").and_then(|s| <[usize; 4]>::try_from(s).ok()) else {
        return Err(none("there is no conv1.weight of four dimensions"));
    };
    let (mut blocks, mut widths) = (Vec::new(), Vec::new());
    for layer in 1..=MAX_LAYERS {
        let weight = |block: usize, conv: usize| std::format!("layer{layer}.{block}.conv{conv}.weight");
        if file.get(&weight(0, 3)).is_some() {
            return Err(none("it has bottleneck blocks (ResNet50 and larger), which are not supported"));
        }
        let count = (0..=64).take_while(|&b| file.get(&weight(b, 1)).is_some()).count();
        if count == 0 {
            break;
        }
        blocks.push(count);
        widths.push(shape(&weight(0, 1)).and_then(|s| s.first().copied()).unwrap_or(0));
    }
    let classes = shape("fc.weight").and_then(|s| s.first().copied()).unwrap_or(0);
    let stem = file.metadata().get(RECIPE_KEY).and_then(|text| stem_from(text)).unwrap_or(match kernel {
        7 => Stem { kernel, stride: 2, pad: 3, pool: true },
        _ => Stem { kernel, stride: 1, pad: kernel / 2, pool: false },
    });
    if widths.first() != Some(&width) {
        return Err(none("the stem and layer1 differ in width"));
    }
    Recipe::new(&blocks, &widths, stem, in_channels, classes).map_err(StateError::from)
}

/// The recipe as it is written into the metadata of what is saved.
pub fn recipe_metadata(recipe: &Recipe) -> BTreeMap<String, String> {
    BTreeMap::from([(RECIPE_KEY.to_string(), crate::heapless::StemText(recipe.stem).to_string())])
}

fn stem_from(text: &str) -> Option<Stem> {
    let mut words = text.strip_prefix("stem ")?.split(' ').map(|w| w.parse::<usize>().ok());
    let mut next = || words.next().flatten();
    Some(Stem { kernel: next()?, stride: next()?, pad: next()?, pool: next()? == 1 })
}
