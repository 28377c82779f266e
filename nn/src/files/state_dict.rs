//! Which of a checkpoint's dicts of tensors is the network's state dict, which prefix its names have, and who
//! named them so.

#![forbid(unsafe_code)]

use super::entry::Entry;
use super::heapless::BESIDE;
use super::names::{self, SCHEMES};
use super::pth::Dict;
use std::collections::{BTreeMap, BTreeSet};

/// More entries than any network has: such a dict is left as it is.
const ENTRIES_MAX: usize = 20_000;
/// How many readings are compared.
const DISTINCT_MAX: usize = 8;
/// How many parts of a name may be a prefix.
const PARTS_MAX: usize = 12;

/// A way to read a dict: its entries under a prefix, by a way of naming.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) dict: usize,
    /// With a dot at its end, or empty.
    pub(crate) prefix: String,
    /// The place in [`SCHEMES`].
    pub(crate) scheme: usize,
    /// Entries that the network is known to have.
    hits: usize,
}

impl Reading {
    pub(crate) fn new(dict: usize, prefix: String, scheme: usize, hits: usize) -> Self {
        Reading { dict, prefix, scheme, hits }
    }

    pub(crate) fn finds_more_than(&self, hits: usize) -> bool {
        self.hits > hits
    }

    /// Whether so many names are known that it is a network: one convolution and one normalisation.
    pub(crate) fn is_network(&self) -> bool {
        self.hits >= 5
    }
}

/// Several readings that fit alike.
#[derive(Debug)]
pub(crate) struct Ambiguous(pub(crate) Vec<Reading>);

/// The name by which a reading is chosen: the keys that lead to it and the prefix.
pub(crate) fn key_of(path: &str, prefix: &str) -> String {
    match (path.is_empty(), prefix.trim_end_matches('.')) {
        (true, prefix) => prefix.to_string(),
        (false, "") => path.to_string(),
        (false, prefix) => format!("{path}.{prefix}"),
    }
}

/// The name that a scheme gives to an entry of the file, without its prefix.
pub(crate) fn name_by(scheme: usize, tail: &str) -> String {
    SCHEMES.get(scheme).and_then(|scheme| scheme.translate(tail)).unwrap_or_else(|| tail.to_string())
}

/// The dict that is a network's, if one is, where the network has the names that `is_known` knows.
///
/// # Errors
/// [`Ambiguous`] where several are complete and differ.
pub(crate) fn choose(
    dicts: &[Dict<'_>],
    is_known: &dyn Fn(&str) -> bool,
    is_complete: &dyn Fn(&Reading) -> bool,
) -> Result<Option<Reading>, Ambiguous> {
    let mut all: Vec<Reading> = dicts.iter().enumerate().flat_map(|(i, dict)| readings(i, dict, is_known)).collect();
    let most = all.iter().map(|reading| reading.hits).max().unwrap_or(0);
    all.retain(|reading| 2 * reading.hits >= most && most > 0);
    let complete: Vec<Reading> = all.iter().filter(|reading| is_complete(reading)).cloned().collect();
    let mut left = if complete.is_empty() { all } else { complete };
    left.sort_by_key(|reading| std::cmp::Reverse(reading.hits));
    left.truncate(DISTINCT_MAX);
    let mut distinct: Vec<Reading> = Vec::new();
    for reading in left {
        if !distinct.iter().any(|known| is_part_of(dicts, &reading, known)) {
            distinct.push(reading);
        }
    }
    match distinct.len() {
        0 | 1 => Ok(distinct.pop()),
        _ => Err(Ambiguous(distinct)),
    }
}

/// How a dict can be read so that most of its names are known: usually in one way, and in several where
/// networks lie side by side under prefixes.
fn readings(index: usize, dict: &Dict<'_>, is_known: &dyn Fn(&str) -> bool) -> Vec<Reading> {
    let mut best: Vec<Reading> = Vec::new();
    if dict.entries.len() > ENTRIES_MAX {
        return best;
    }
    for (scheme, naming) in SCHEMES.iter().enumerate() {
        let mut prefixes: BTreeMap<&str, usize> = BTreeMap::new();
        // A layer `0` is met everywhere; that of a stage is not.
        let mut translated = scheme == 0;
        for entry in &dict.entries {
            let name = entry.name_in_file();
            let starts = std::iter::once(0).chain(name.match_indices('.').map(|(dot, _)| dot + 1));
            for start in starts.take(PARTS_MAX) {
                let (prefix, tail) = name.split_at(start);
                let known = match naming.translate(tail) {
                    Some(name) if is_known(&name) => {
                        translated |= name.starts_with(names::STAGE);
                        true
                    }
                    Some(_) => false,
                    None => is_known(tail),
                };
                if known {
                    *prefixes.entry(prefix).or_default() += 1;
                }
            }
        }
        if prefixes.contains_key("") {
            BESIDE.iter().for_each(|beside| {
                prefixes.remove(beside);
            });
        }
        let most = prefixes.values().copied().max().unwrap_or(0);
        if !translated || best.first().is_some_and(|best| best.hits >= most) {
            continue;
        }
        best = (prefixes.iter().filter(|(_, hits)| 2 * **hits >= most))
            .map(|(prefix, &hits)| Reading { dict: index, prefix: prefix.to_string(), scheme, hits })
            .collect();
        best.sort_by_key(|reading| std::cmp::Reverse(reading.hits));
    }
    best
}

/// The entries of a reading and the names that it gives them.
pub(crate) fn entries_of<'d, 'f>(dicts: &'d [Dict<'f>], reading: &Reading) -> impl Iterator<Item = (String, &'d Entry<'f>)> {
    let (prefix, scheme) = (reading.prefix.clone(), reading.scheme);
    let entries = dicts.get(reading.dict).map_or(&[][..], |dict| &dict.entries);
    entries.iter().filter_map(move |entry| Some((name_by(scheme, entry.name_in_file().strip_prefix(&prefix)?), entry)))
}

/// Whether all tensors of a reading are another's too, under the same names: then it is no other network.
fn is_part_of(dicts: &[Dict<'_>], small: &Reading, large: &Reading) -> bool {
    let all: BTreeMap<String, &Entry<'_>> = entries_of(dicts, large).collect();
    entries_of(dicts, small).all(|(name, entry)| all.get(&name).is_some_and(|other| other.is_same_view(entry)))
}

/// Whether a reading of a network that is known by its names alone has running statistics beside every
/// normalisation: an average of the parameters alone, or a moment of an optimizer, has not.
pub(crate) fn has_statistics(dicts: &[Dict<'_>], reading: &Reading) -> bool {
    let names: BTreeSet<String> = entries_of(dicts, reading).map(|(name, _)| name).collect();
    let vectors = entries_of(dicts, reading).filter(|(_, entry)| entry.shape().len() == 1);
    let mut norms = vectors.filter_map(|(name, _)| name.strip_suffix(".weight").map(str::to_string));
    norms.all(|layer| names.contains(&format!("{layer}.running_mean")))
}

/// The largest dict of a file of which no network is known; several where they are alike in size.
pub(crate) fn largest(dicts: &[Dict<'_>]) -> Result<Option<Reading>, Ambiguous> {
    let of_optimizer = |dict: &Dict<'_>| dict.path.split('.').any(|key| key.contains("optim"));
    let sizes = || dicts.iter().enumerate().filter(|(_, dict)| !of_optimizer(dict));
    let most = sizes().map(|(_, dict)| dict.entries.len()).max().unwrap_or(0);
    let reading = |(dict, of): (usize, &Dict<'_>)| Reading { dict, prefix: wrapper(of), scheme: 0, hits: of.entries.len() };
    let mut left: Vec<Reading> = sizes().filter(|(_, dict)| 2 * dict.entries.len() >= most).map(reading).collect();
    left.sort_by_key(|reading| std::cmp::Reverse(reading.hits));
    // More than some of one size are no networks, and would take long to compare.
    left.truncate(DISTINCT_MAX);
    let mut distinct: Vec<Reading> = Vec::new();
    for one in left {
        if !distinct.iter().any(|known| is_part_of(dicts, &one, known)) {
            distinct.push(one);
        }
    }
    match distinct.len() {
        0 | 1 => Ok(distinct.pop()),
        _ => Err(Ambiguous(distinct)),
    }
}

/// What wraps the whole network: the prefixes of `DataParallel` and `torch.compile` that every name has.
fn wrapper(dict: &Dict<'_>) -> String {
    let mut prefix = String::new();
    let all_have = |prefix: &str| {
        dict.entries.iter().all(|entry| {
            let name = entry.name_in_file();
            name.len() > prefix.len() && name.starts_with(prefix)
        })
    };
    for _ in 0..if dict.entries.is_empty() { 0 } else { PARTS_MAX } {
        match names::WRAPPERS.iter().map(|more| format!("{prefix}{more}")).find(|longer| all_have(longer)) {
            Some(longer) => prefix = longer,
            None => break,
        }
    }
    prefix
}

/// A head that has one linear layer inside others without parameters (`fc.1.weight`): its scope, and the
/// layer's; or a head of several layers: its scope, and the shapes of their weights.
pub(crate) enum OwnHead {
    Wrapped(String, String),
    Several(&'static str, Vec<(String, Vec<usize>)>),
}

/// A head of the user's own making, if these entries have one.
pub(crate) fn own_head(entries: &[Entry<'_>]) -> Option<OwnHead> {
    let scope = names::HEADS[0];
    let inside = |entry: &&Entry<'_>| entry.name().strip_prefix(scope).is_some_and(|rest| rest.starts_with('.'));
    let weights: Vec<&Entry<'_>> = entries.iter().filter(inside).filter(|entry| entry.name().ends_with(".weight")).collect();
    let direct = format!("{scope}.weight");
    if weights.is_empty() || weights.iter().any(|entry| entry.name() == direct) {
        return None;
    }
    let layer = |entry: &Entry<'_>| entry.name().trim_end_matches(".weight").to_string();
    match weights.as_slice() {
        [one] if one.shape().len() == 2 => Some(OwnHead::Wrapped(scope.to_string(), layer(one))),
        several => {
            let list = several.iter().map(|entry| (layer(entry), entry.shape().to_vec()));
            Some(OwnHead::Several(scope, list.collect()))
        }
    }
}
