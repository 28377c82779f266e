//! Any checkpoint: which format it is, and its tensors by name.

#![forbid(unsafe_code)]

use super::budget::Budget;
use super::entry::{Entry, MAX_RANK};
use super::error::{ReadError, ReadErrorKind, quote};
use super::names::{self, SCHEMES};
use super::native::Native;
use super::pth::Dict;
use super::state_dict::{self, Ambiguous, OwnHead, Reading};
use super::{matching, pth, safetensors, sniff};
use crate::files::heapless::Head;
use crate::files::state::recipe_metadata;
use nunatak_core::program::Program;
use nunatak_core::tape::EntryId;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// How a dict is chosen where several fit.
const CHOOSE: &str = "choose one by its name (in the program: --key NAME)";

/// The format of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `.pth` as torch has written it since 1.6: a zip file.
    PthZip,
    /// `.pth` as torch wrote it before: pickles in sequence.
    PthLegacy,
    /// `.safetensors`.
    Safetensors,
    /// `.nunatak`, see [`native`](super::native).
    Native,
}

/// The tensors of a file, borrowed from its bytes.
#[derive(Debug, Clone)]
pub struct Checkpoint<'f> {
    format: Format,
    /// Of the state dict, or of the whole file where none was chosen.
    entries: Vec<Entry<'f>>,
    /// Indices of `entries`, sorted by name.
    by_name: Vec<u32>,
    /// The file's other dicts, and what of the state dict's lies outside its prefix.
    rest: Vec<Dict<'f>>,
    chosen: Option<Chosen>,
    ambiguity: Option<ReadError>,
    remarks: Vec<String>,
    metadata: BTreeMap<String, String>,
    native: Option<Native<'f>>,
}

/// Where the state dict lies.
#[derive(Debug, Clone)]
struct Chosen {
    path: String,
    prefix: String,
    scheme: usize,
    /// Names in the file.
    opaque: Vec<(String, String)>,
}

impl<'f> Checkpoint<'f> {
    /// Reads the tensors out of a whole file's bytes.
    ///
    /// A `.pth` may hold the state dict anywhere: at the top, under any keys, in a list, or as a pickled
    /// module. It is the dict whose names, without a prefix that they have in common (`module.`, `model.`,
    /// several in a row), are those of a network that is known here; torchvision's names, or one of the
    /// ways of naming that are translated (HuggingFace's, `nn.Sequential`'s, the CIFAR family's). Where no
    /// known network is found it is the largest dict, with its names as they are. What was assumed, and
    /// which entries were left out, say the [`remarks`](Self::remarks).
    ///
    /// Where several dicts fit alike, none is chosen: [`entries`](Self::entries) are then all of the file's,
    /// their keys before their names, [`ambiguity`](Self::ambiguity) names the dicts, and
    /// [`parse_key`](Self::parse_key) chooses. A trainer that loads the file chooses by its network.
    ///
    /// # Errors
    /// When the bytes are no checkpoint, or one that contradicts itself; see [`ReadErrorKind`].
    pub fn parse(bytes: &'f [u8]) -> Result<Self, ReadError> {
        Self::parse_with(bytes, None)
    }

    /// Reads every tensor of a file that is no state dict (inputs, a trace), each under the name that it has
    /// there, the keys that lead to it before it.
    ///
    /// # Errors
    /// As for [`parse`](Self::parse).
    pub fn parse_all(bytes: &'f [u8]) -> Result<Self, ReadError> {
        let mut budget = Budget::for_file(bytes.len());
        let (mut file, dicts) = Self::read(bytes, &mut budget)?;
        file.take_all(dicts, &mut budget)?;
        file.index(&mut budget)?;
        Ok(file)
    }

    /// Reads the dict that `key` names: the keys that lead to it with dots between, and a prefix of its
    /// names if several networks lie in one dict.
    ///
    /// # Errors
    /// As for [`parse`](Self::parse); when there is no such dict: the error names those that there are.
    pub fn parse_key(bytes: &'f [u8], key: &str) -> Result<Self, ReadError> {
        Self::parse_with(bytes, Some(key))
    }

    fn parse_with(bytes: &'f [u8], key: Option<&str>) -> Result<Self, ReadError> {
        let mut budget = Budget::for_file(bytes.len());
        let (mut file, mut dicts) = Self::read(bytes, &mut budget)?;
        if let Some(key) = key {
            dicts = within(dicts, key)?;
        }
        let choice = match file.format {
            Format::Native => Ok(Some(Reading::plain(0))),
            _ => match state_dict::choose(&dicts, &names::is_known, &|reading| state_dict::has_statistics(&dicts, reading)) {
                Ok(Some(reading)) if reading.is_network() => Ok(Some(reading)),
                Err(ambiguous) if ambiguous.0.iter().all(Reading::is_network) => Err(ambiguous),
                _ => state_dict::largest(&dicts),
            },
        };
        match choice {
            Ok(Some(reading)) => {
                if let Some(at) = dicts.get(reading.dict).and_then(|dict| dict.odd_key) {
                    return Err(ReadError::new(ReadErrorKind::Pickle, "the state dict has a key that is no string").at(at));
                }
                file.take(dicts, &reading);
            }
            Ok(None) => file.take_all(dicts, &mut budget)?,
            Err(several) => {
                file.ambiguity = Some(ambiguous(&dicts, &several));
                file.take_all(dicts, &mut budget)?;
            }
        }
        file.index(&mut budget)?;
        Ok(file)
    }

    /// The dicts of a file, and what else is known of it.
    fn read(bytes: &'f [u8], budget: &mut Budget) -> Result<(Self, Vec<Dict<'f>>), ReadError> {
        let format = sniff::sniff(bytes)?;
        let (dicts, metadata) = match format {
            Format::PthZip => pth::parse_zip(bytes, budget)?,
            Format::PthLegacy => (pth::parse_legacy(bytes, budget)?, BTreeMap::new()),
            Format::Safetensors => one_dict(safetensors::parse(bytes, budget)?),
            Format::Native => one_dict(native_entries(bytes, budget)?),
        };
        // Parsed once already: it costs no more than its head.
        let native = if format == Format::Native { Native::parse(bytes).ok() } else { None };
        Ok((Self::empty(format, metadata, native), dicts))
    }

    fn empty(format: Format, metadata: BTreeMap<String, String>, native: Option<Native<'f>>) -> Self {
        Self {
            format,
            entries: Vec::new(),
            by_name: Vec::new(),
            rest: Vec::new(),
            chosen: None,
            ambiguity: None,
            remarks: Vec::new(),
            metadata,
            native,
        }
    }

    /// Makes the entries of a reading the file's.
    fn take(&mut self, mut dicts: Vec<Dict<'f>>, reading: &Reading) {
        let mut dict = if reading.dict < dicts.len() { dicts.remove(reading.dict) } else { Dict::default() };
        let mut outside = Dict { path: dict.path.clone(), ..Dict::default() };
        for mut entry in dict.entries.drain(..) {
            match entry.name_in_file().strip_prefix(&reading.prefix) {
                Some(tail) => {
                    let name = state_dict::name_by(reading.scheme, tail);
                    entry.rename(name.into());
                    self.entries.push(entry);
                }
                None => outside.entries.push(entry),
            }
        }
        let (prefix, scheme) = (reading.prefix.clone(), reading.scheme);
        self.chosen = Some(Chosen { path: dict.path, prefix, scheme, opaque: dict.opaque });
        self.take_head();
        self.remark(reading, &outside, &dicts);
        if !outside.entries.is_empty() {
            dicts.push(outside);
        }
        self.rest = dicts;
    }

    /// A head of one linear layer among others without parameters is read as that layer.
    fn take_head(&mut self) {
        match state_dict::own_head(&self.entries) {
            Some(OwnHead::Wrapped(scope, layer)) => {
                for entry in &mut self.entries {
                    let part = entry.name().strip_prefix(&layer).and_then(|rest| rest.strip_prefix('.'));
                    if let Some(name) = part.map(|part| format!("{scope}.{part}")) {
                        entry.rename(name.into());
                    }
                }
                self.remarks.push(format!("{layer} is taken as {scope}: it is the head's only layer with parameters"));
            }
            Some(OwnHead::Several(scope, layers)) => {
                let list: Vec<String> = layers.iter().map(|(name, shape)| format!("{name} {shape:?}")).collect();
                self.remarks.push(format!(
                    "the head {scope} has several layers ({}); networks here end with one linear layer, so this head can only be replaced",
                    list.join(", ")
                ));
            }
            None => {}
        }
    }

    /// Says what was assumed, and what was left out.
    fn remark(&mut self, reading: &Reading, outside: &Dict<'_>, dicts: &[Dict<'_>]) {
        let Some(chosen) = &self.chosen else { return };
        let key = state_dict::key_of(&chosen.path, &chosen.prefix);
        if !key.is_empty() {
            self.remarks.push(format!("the state dict is the file's {}", quote(&key)));
        }
        let scheme = SCHEMES.get(reading.scheme).map_or("", |scheme| scheme.name);
        if !scheme.is_empty() {
            self.remarks.push(format!("its names are {scheme}; they were translated to torchvision's"));
        }
        let outside = outside.entries.iter().map(|entry| state_dict::key_of(&outside.path, entry.name_in_file()));
        let others = dicts.iter().flat_map(|dict| dict.entries.iter().map(|entry| state_dict::key_of(&dict.path, entry.name_in_file())));
        let left: Vec<String> = outside.chain(others).collect();
        if !left.is_empty() {
            let shown: Vec<String> = left.iter().take(5).map(|name| quote(name)).collect();
            let more = if left.len() > shown.len() { format!(" and {} more", left.len() - shown.len()) } else { String::new() };
            self.remarks.push(format!("left out, since they are not in it: {}{more}", shown.join(", ")));
        }
    }

    /// Takes every tensor of the file, its keys before its name.
    fn take_all(&mut self, dicts: Vec<Dict<'f>>, budget: &mut Budget) -> Result<(), ReadError> {
        for dict in &dicts {
            budget.reserve(&mut self.entries, dict.entries.len())?;
            for entry in &dict.entries {
                let name = state_dict::key_of(&dict.path, entry.name_in_file());
                budget.take(2 * name.len() + 16 * MAX_RANK)?;
                let mut entry = entry.clone();
                entry.rename(name.into());
                self.entries.push(entry);
            }
        }
        self.rest = dicts;
        Ok(())
    }

    /// The same file, read for the network of a program: where the state dict that was chosen, or none, has
    /// not all of the network's entries, and another dict has.
    pub(crate) fn for_network(&self, program: &Program, head: Head) -> Result<Cow<'_, Self>, ReadError> {
        let due: Vec<EntryId> = program.entries().filter(|id| matching::is_due(program, *id, head)).collect();
        let name = |id: &EntryId| program.entry(*id).name();
        let all_here = due.iter().all(|id| self.get(name(id)).is_some());
        if all_here && self.ambiguity.is_none() || self.native.is_some() {
            return Ok(Cow::Borrowed(self));
        }
        let dicts = self.dicts();
        let known: BTreeSet<&str> = program.entries().map(|id| program.entry(id).name()).collect();
        let here = self.entries.iter().filter(|entry| known.contains(entry.name())).count();
        let complete = |reading: &Reading| {
            let entries: BTreeMap<String, &Entry<'_>> = state_dict::entries_of(&dicts, reading).collect();
            due.iter().all(|id| entries.get(name(id)).is_some_and(|entry| matching::has_shape(program, *id, entry.shape())))
        };
        match state_dict::choose(&dicts, &|name| known.contains(name), &complete) {
            Ok(Some(reading)) if self.ambiguity.is_some() || complete(&reading) || reading.finds_more_than(here) => {
                let mut file = Self::empty(self.format, self.metadata.clone(), None);
                file.take(dicts, &reading);
                file.index(&mut Budget::unlimited())?;
                Ok(Cow::Owned(file))
            }
            Ok(_) => match &self.ambiguity {
                Some(error) => Err(error.clone()),
                None => Ok(Cow::Borrowed(self)),
            },
            Err(several) if several.0.iter().all(&complete) || self.ambiguity.is_some() => Err(ambiguous(&dicts, &several)),
            Err(_) => Ok(Cow::Borrowed(self)),
        }
    }

    /// Sorts the names; no name may come twice.
    fn index(&mut self, budget: &mut Budget) -> Result<(), ReadError> {
        let (entries, by_name) = (&self.entries, &mut self.by_name);
        budget.reserve(by_name, entries.len())?;
        by_name.extend(0..entries.len() as u32);
        by_name.sort_unstable_by_key(|&i| (entries[i as usize].name(), i));
        for pair in by_name.windows(2) {
            let second = &entries[pair[1] as usize];
            if entries[pair[0] as usize].name() == second.name() {
                return Err(ReadError::new(ReadErrorKind::Tensor, "two tensors have this name")
                    .entry(second.name())
                    .at(second.offset() as usize));
            }
        }
        Ok(())
    }

    /// Which format the bytes are in.
    pub fn format(&self) -> Format {
        self.format
    }

    /// All tensors of the state dict: in a `.pth` in its order, in `.safetensors` as the data lie. Where
    /// none was chosen ([`ambiguity`](Self::ambiguity)), all tensors of the file.
    pub fn entries(&self) -> &[Entry<'f>] {
        &self.entries
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Entry<'f>> {
        let found = self.by_name.binary_search_by(|&i| self.entries[i as usize].name().cmp(name)).ok()?;
        self.entries.get(self.by_name[found] as usize)
    }

    /// Why no state dict was chosen, if none was: the error names those that fit alike.
    pub fn ambiguity(&self) -> Option<&ReadError> {
        self.ambiguity.as_ref()
    }

    /// What was assumed about the file and what of it was left out, each a sentence for people.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The keys that lead to the state dict, and the prefix of its names, with dots between; empty where it
    /// is the file's own object without prefix, and where none was chosen.
    pub fn key(&self) -> String {
        self.chosen.as_ref().map_or(String::new(), |chosen| state_dict::key_of(&chosen.path, &chosen.prefix))
    }

    /// The native file, if it is one.
    pub fn native(&self) -> Option<&Native<'f>> {
        self.native.as_ref()
    }

    /// The `__metadata__` of a `.safetensors`, the metadata of a native file or of a `.pth` that
    /// [`write_pth`](super::write_pth()) wrote; empty for any other.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// What would make the entry of this name, which is no tensor that is read.
    pub(crate) fn opaque(&self, name: &str) -> Option<&str> {
        let chosen = self.chosen.as_ref()?;
        let is = |own: &str| own.strip_prefix(&chosen.prefix).is_some_and(|tail| state_dict::name_by(chosen.scheme, tail) == name);
        chosen.opaque.iter().find(|(own, _)| is(own)).map(|(_, class)| class.as_str())
    }

    /// Every dict of the file, the chosen one first; their entries know the names that the file has.
    pub(crate) fn dicts(&self) -> Vec<Dict<'f>> {
        let Some(Chosen { path, opaque, .. }) = self.chosen.clone() else {
            return self.rest.clone();
        };
        let mut first = Dict { path: path.clone(), entries: self.entries.clone(), opaque, odd_key: None };
        let mut others = Vec::new();
        for dict in &self.rest {
            match dict.path == path {
                true => first.entries.extend(dict.entries.iter().cloned()),
                false => others.push(dict.clone()),
            }
        }
        std::iter::once(first).chain(others).collect()
    }
}

impl Reading {
    /// A dict as it is.
    fn plain(dict: usize) -> Reading {
        Reading::new(dict, String::new(), 0, 0)
    }
}

fn ambiguous(dicts: &[Dict<'_>], several: &Ambiguous) -> ReadError {
    let names: Vec<String> = several.0.iter().take(6).map(|reading| name_of(dicts, reading)).collect();
    let what = format!("the file has {} state dicts that fit alike: {}", several.0.len(), names.join(", "));
    ReadError::new(ReadErrorKind::Ambiguous, what).next(CHOOSE)
}

fn name_of(dicts: &[Dict<'_>], reading: &Reading) -> String {
    let path = dicts.get(reading.dict).map_or("", |dict| &dict.path);
    quote(&state_dict::key_of(path, &reading.prefix))
}

fn one_dict<'f>((entries, metadata): safetensors::Parsed<'f>) -> (Vec<Dict<'f>>, BTreeMap<String, String>) {
    (vec![Dict { entries, ..Dict::default() }], metadata)
}

/// The dicts that a key names: those at it or below it, or the part of a dict whose names begin with it.
fn within<'f>(dicts: Vec<Dict<'f>>, key: &str) -> Result<Vec<Dict<'f>>, ReadError> {
    let paths: Vec<String> = dicts.iter().map(|dict| quote(&dict.path)).collect();
    let below = |path: &str| path == key || path.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
    let mut found = Vec::new();
    for mut dict in dicts {
        if below(&dict.path) {
            found.push(dict);
            continue;
        }
        let rest = if dict.path.is_empty() { Some(key) } else { key.strip_prefix(&dict.path).and_then(|rest| rest.strip_prefix('.')) };
        let Some(prefix) = rest.map(|rest| format!("{rest}.")) else { continue };
        dict.entries.retain(|entry| entry.name_in_file().starts_with(&prefix));
        dict.opaque.retain(|(name, _)| name.starts_with(&prefix));
        if !dict.entries.is_empty() {
            found.push(dict);
        }
    }
    // A dict that is named exactly is meant without those below it.
    if let Some(exact) = found.iter().position(|dict| dict.path == key) {
        return Ok(vec![found.swap_remove(exact)]);
    }
    match found.is_empty() {
        false => Ok(found),
        true => {
            let shown: Vec<String> = paths.into_iter().take(10).collect();
            let what = format!("there is no dict of tensors under {}; there are {}", quote(key), shown.join(", "));
            Err(ReadError::new(ReadErrorKind::Ambiguous, what))
        }
    }
}

/// The tensors of a native file, after all its checksums were compared.
fn native_entries<'f>(bytes: &'f [u8], budget: &mut Budget) -> Result<safetensors::Parsed<'f>, ReadError> {
    let file = Native::parse(bytes)?;
    file.verify()?;
    let mut entries = Vec::new();
    for tensor in file.tensors() {
        budget.push(&mut entries, Entry::native(&tensor))?;
    }
    let mut metadata: BTreeMap<String, String> = file.recipe().map(recipe_metadata).unwrap_or_default();
    metadata.extend(file.metadata().map(|(key, value)| (key.to_string(), value.to_string())));
    Ok((entries, metadata))
}
