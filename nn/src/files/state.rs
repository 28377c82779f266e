//! Between checkpoints and trainers: loading a state dict, finding out which network it is of, and
//! handing out what is to be saved.

pub use crate::files::heapless::{Head, MOMENTUM_PREFIX, RECIPE_KEY};

use crate::Error;
use crate::files::error::Shown;
use crate::files::matching::{self, Role};
use crate::files::{Checkpoint, Data, ReadError, TensorOut, wrong_statistics};
use crate::models::{MAX_LAYERS, Recipe, Stem};
use crate::step::Trainer;
use nunatak_core::program::{EntryKind, Program};
use nunatak_core::tape::EntryId;
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::string::{String, ToString};
use std::vec::Vec;

/// Why a checkpoint does not fit a network.
#[derive(Debug)]
pub enum StateError {
    /// The file's entries are not the network's: all differences, in one report.
    Mismatch(Box<Mismatch>),
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
    /// Whether an entry of the head is among the misshapen ones.
    pub head: bool,
    /// Of missing entries: the name, and the file's name that is nearest to it.
    pub near: Vec<(String, String)>,
    /// Of missing entries: the name, and what the file has there that is no tensor which is read.
    pub unread: Vec<(String, String)>,
}

impl Mismatch {
    /// Whether nothing differs.
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshapen.is_empty()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the file's entries are not this network's")?;
        // Names of the file are escaped: they may be terminal codes.
        let list = |f: &mut fmt::Formatter, what: &str, names: &[String]| -> fmt::Result {
            names.iter().enumerate().try_for_each(|(i, name)| match i {
                0 => write!(f, "; {} {what}: {}", names.len(), Shown(name)),
                _ => write!(f, ", {}", Shown(name)),
            })
        };
        list(f, "missing", &self.missing)?;
        list(f, "unexpected", &self.unexpected)?;
        for (name, there) in &self.near {
            write!(f, "; there is no {name}, but there is {}", Shown(there))?;
        }
        for (name, what) in &self.unread {
            write!(f, "; {name} is made by {}, whose numbers are not read", Shown(what))?;
        }
        for (name, due, got) in &self.misshapen {
            write!(f, "; {name} has the shape {got:?}, {due:?} was expected")?;
        }
        if self.head {
            f.write_str("; the head has another number of classes: ask for that number, or for a new head")?;
        }
        Ok(())
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            StateError::Mismatch(m) => m.fmt(f),
            StateError::Value { name, what } => write!(f, "{}: {what}", Shown(name)),
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

fn dims(program: &Program, id: EntryId) -> Vec<usize> {
    let (sizes, rank) = program.entry(id).shape();
    sizes[..rank].to_vec()
}

/// Whether a file can be loaded into a program's network.
///
/// # Errors
/// [`StateError::Mismatch`] with all differences; [`StateError::Value`] where a value can't be;
/// [`StateError::Read`] where several dicts of the file fit, or an entry can't be read.
pub fn check(program: &Program, file: &Checkpoint, head: Head) -> Result<(), StateError> {
    check_entries(program, &*file.for_network(program, head)?, head)
}

fn check_entries(program: &Program, file: &Checkpoint, head: Head) -> Result<(), StateError> {
    let mut mismatch = Mismatch::default();
    for id in program.entries().filter(|id| matching::is_taken(program, *id, head)) {
        let name = program.entry(id).name();
        match file.get(name) {
            None if matching::is_due(program, id, head) => {
                mismatch.missing.push(name.to_string());
                if let Some(class) = file.opaque(name) {
                    mismatch.unread.push((name.to_string(), class.to_string()));
                }
            }
            Some(e) if !matching::has_shape(program, id, e.shape()) => {
                mismatch.head |= matching::is_head(program, id);
                mismatch.misshapen.push((name.to_string(), dims(program, id), e.shape().to_vec()));
            }
            _ => {}
        }
    }
    // An entry whose numbers are not read can't be meant for this network.
    let unknown = |name: &&str| matching::role(program, name, head) == Role::Unknown;
    let names = file.entries().iter().filter(|e| e.is_read()).map(|e| e.name());
    mismatch.unexpected = names.filter(unknown).map(str::to_string).collect();
    if !mismatch.is_empty() {
        mismatch.near = nearest(&mismatch.missing, program, file);
        return Err(StateError::Mismatch(Box::new(mismatch)));
    }
    check_values(program, file, head)
}

/// Of the first missing names, the nearest in the file that is no other entry's: one that ends with it, or is
/// written almost as it is.
fn nearest(missing: &[String], program: &Program, file: &Checkpoint) -> Vec<(String, String)> {
    const SHOWN: usize = 3;
    const ALIKE: f64 = 0.75;
    let dicts = file.dicts();
    let own: BTreeSet<&str> = program.entries().map(|id| program.entry(id).name()).collect();
    let all = || dicts.iter().flat_map(|dict| dict.entries.iter()).take(10_000);
    let names = || all().filter(|entry| !own.contains(entry.name())).map(|entry| entry.name_in_file());
    let near = |name: &String| {
        let longer = std::format!(".{name}");
        let alike = || {
            let scored = names().map(|there| (strsim::normalized_damerau_levenshtein(name, there), there));
            scored.filter(|(score, _)| *score >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, there)| there)
        };
        let there = names().find(|there| there.ends_with(&longer)).or_else(alike)?;
        Some((name.clone(), there.to_string()))
    };
    missing.iter().take(SHOWN).filter_map(near).collect()
}

impl Trainer<'_> {
    /// Loads a state dict: of a file with several dicts the one that fits the network. Numbers of any type are
    /// converted as PyTorch does. Files without `num_batches_tracked` (before PyTorch 0.4.1) are accepted.
    /// Momentum and gradients are forgotten.
    ///
    /// # Errors
    /// Those of [`check`], and where the program reads weights in place, before anything is changed.
    pub fn load(&mut self, file: &Checkpoint, head: Head) -> Result<Loaded, StateError> {
        self.check_writable()?;
        let file = &*file.for_network(self.program(), head)?;
        check_entries(self.program(), file, head)?;
        let mut loaded = Loaded::default();
        let mut room = Vec::new();
        for id in self.program().entries() {
            if !matching::is_taken(self.program(), id, head) {
                continue;
            }
            let entry = self.program().entry(id);
            let (name, count) = (entry.name(), entry.kind() == EntryKind::Count);
            let Some(e) = file.get(name) else {
                self.set_count(id, 0);
                continue;
            };
            if count {
                self.set_count(id, e.read_count()?);
                continue;
            }
            if entry.kind() == EntryKind::Words {
                let words = e.read_words()?;
                self.set_words(id, &words)?;
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
                loaded.not_finite.push((name.to_string(), bad));
            }
            self.set_entry(id, data)?;
        }
        self.forget();
        Ok(loaded)
    }

    /// Takes over the numbers of a state dict that this network's trainer or [`crate::int8::Quantizer`] gave. Momentum and
    /// gradients are forgotten.
    ///
    /// # Errors
    /// [`Error::UnknownName`], [`Error::Length`], or [`Error::ReadOnly`] where the program reads weights in place. What
    /// stood before the wrong entry is taken over then.
    pub fn set_state(&mut self, state: &State) -> Result<(), Error> {
        self.check_writable()?;
        for (name, _, values) in &state.tensors {
            let id = self.entry_named(name)?;
            let kind = self.program().entry(id).kind();
            match values {
                Values::F32(numbers) if !matches!(kind, EntryKind::Count | EntryKind::Words) => self.set_entry(id, numbers)?,
                Values::I32(words) if kind == EntryKind::Words => self.set_words(id, words)?,
                Values::I64(numbers) if kind == EntryKind::Count && numbers.len() == 1 => self.set_count(id, numbers[0]),
                _ => return Err(Error::NotInNetwork { name: crate::Name::of(&**name) }),
            }
        }
        self.forget();
        Ok(())
    }

    /// Everything that belongs into a state dict, in PyTorch's shapes.
    pub fn state(&self) -> State {
        let program = self.program();
        let tensors = program.entries().map(|id| {
            let values = match program.entry(id).kind() {
                EntryKind::Count => Values::I64(std::vec![self.count(id)]),
                EntryKind::Parameter | EntryKind::RunningMean | EntryKind::RunningVar => {
                    let mut data = std::vec![0.0; program.entry(id).numbers()];
                    // The room has just the entry's length.
                    let _ = self.entry(id, &mut data);
                    Values::F32(data)
                }
                EntryKind::Words => Values::I32(self.words(id).to_vec()),
            };
            (program.entry(id).name().to_string(), dims(program, id), values)
        });
        State { tensors: tensors.collect() }
    }

    /// The same, and after it the momentum of every parameter that has one: what a run needs to go on.
    pub fn state_with_momentum(&self) -> State {
        let mut state = self.state();
        let program = self.program();
        for id in program.entries().filter(|id| self.has_momentum(*id)) {
            let mut data = std::vec![0.0; program.entry(id).numbers()];
            // It has a momentum, and the room has just its length.
            let _ = self.momentum(id, &mut data);
            let name = std::format!("{MOMENTUM_PREFIX}{}", program.entry(id).name());
            state.tensors.push((name, dims(program, id), Values::F32(data)));
        }
        state
    }

    /// Takes over every momentum that the file has.
    ///
    /// # Errors
    /// [`StateError`] where one has another shape, can't be read, or belongs to a parameter that the
    /// program does not train, before anything is changed.
    pub fn load_momentum(&mut self, file: &Checkpoint) -> Result<(), StateError> {
        let mut room = Vec::new();
        for only_look in [true, false] {
            for id in self.program().entries() {
                let name = std::format!("{MOMENTUM_PREFIX}{}", self.program().entry(id).name());
                let Some(entry) = file.get(&name) else { continue };
                let due = dims(self.program(), id);
                if entry.shape() != due {
                    let misshapen = std::vec![(name, due, entry.shape().to_vec())];
                    return Err(StateError::Mismatch(Box::new(Mismatch { misshapen, ..Mismatch::default() })));
                }
                entry.read_f32(&mut room)?;
                match only_look {
                    true if self.program().entry(id).momentum().is_none() => return Err(Error::NoMomentum.into()),
                    true => {}
                    false => self.set_momentum(id, &room)?,
                }
            }
        }
        Ok(())
    }
}

/// Values that no training could have left are refused before anything is loaded, and what is packed is unpacked.
fn check_values(program: &Program, file: &Checkpoint, head: Head) -> Result<(), StateError> {
    let mut room = Vec::new();
    for id in program.entries().filter(|id| matching::is_taken(program, *id, head)) {
        let (name, kind) = (program.entry(id).name(), program.entry(id).kind());
        let Some(e) = file.get(name) else { continue };
        let wrong = match kind {
            EntryKind::Count => matching::wrong_count(e.read_count()?),
            EntryKind::RunningMean | EntryKind::RunningVar => {
                e.read_f32(&mut room)?;
                wrong_statistics(kind, room.iter().copied())
            }
            EntryKind::Words => e.read_words().map(|_| None)?,
            EntryKind::Parameter => e.prepare().map(|()| None)?,
        };
        if let Some(what) = wrong {
            return Err(StateError::Value { name: name.to_string(), what });
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
    /// Words that are no floating-point numbers.
    I32(Vec<i32>),
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
                    Values::I32(v) => Data::I32(v),
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
/// [`StateError::NoNetwork`]; [`StateError::Read`] where several dicts of the file fit.
pub fn recipe_of(file: &Checkpoint) -> Result<Recipe, StateError> {
    if let Some(error) = file.ambiguity() {
        return Err(error.clone().into());
    }
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
            return Err(none("it has bottleneck blocks, as ResNet50 and larger ones"));
        }
        let count = (0..=64).take_while(|&b| file.get(&weight(b, 1)).is_some()).count();
        if count == 0 {
            break;
        }
        blocks.push(count);
        widths.push(shape(&weight(0, 1)).and_then(|s| s.first().copied()).unwrap_or(0));
    }
    let classes = shape("fc.weight").and_then(|s| s.first().copied()).unwrap_or(0);
    let stem = file.metadata().get(RECIPE_KEY).and_then(|text| stem_of(text)).unwrap_or(Stem::usual(kernel));
    if widths.first() != Some(&width) {
        return Err(none("the stem and layer1 differ in width"));
    }
    Recipe::new(&blocks, &widths, stem, in_channels, classes).map_err(StateError::from)
}

/// The recipe as it is written into the metadata of what is saved.
pub fn recipe_metadata(recipe: &Recipe) -> BTreeMap<String, String> {
    BTreeMap::from([(RECIPE_KEY.to_string(), crate::files::heapless::StemText(recipe.stem).to_string())])
}

/// The stem that a text of the metadata under [`RECIPE_KEY`] describes, if it describes one.
pub fn stem_of(text: &str) -> Option<Stem> {
    let mut words = text.strip_prefix("stem ")?.split(' ').map(|w| w.parse::<usize>().ok());
    let mut next = || words.next().flatten();
    Some(Stem { kernel: next()?, stride: next()?, pad: next()?, pool: next()? == 1 })
}
