//! Names, shapes and numbers of a network's parameters and buffers, in the order of torchvision's
//! `state_dict`.

use crate::Error;
use crate::recipe::{Block, Recipe};
use core::fmt;
use core::fmt::Write;
use nunatak_core::{ParamId, ParamSet};
use nunatak_kernels::WeightLayout;

/// Normalisations that a network can have.
pub const MAX_NORMS: usize = 96;

/// A module with parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    StemConv,
    StemNorm,
    Conv1,
    Norm1,
    Conv2,
    Norm2,
    DownsampleConv,
    DownsampleNorm,
    Fc,
}

/// Where a module stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Module {
    part: Part,
    layer: u8,
    block: u8,
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let part = match self.part {
            Part::StemConv => return f.write_str("conv1"),
            Part::StemNorm => return f.write_str("bn1"),
            Part::Fc => return f.write_str("fc"),
            Part::Conv1 => "conv1",
            Part::Norm1 => "bn1",
            Part::Conv2 => "conv2",
            Part::Norm2 => "bn2",
            Part::DownsampleConv => "downsample.0",
            Part::DownsampleNorm => "downsample.1",
        };
        write!(f, "layer{}.{}.{part}", self.layer + 1, self.block)
    }
}

/// What a parameter is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParamKind {
    /// A convolution's weight, `[k][c][kernel][kernel]` in PyTorch.
    Conv {
        /// How it lies.
        layout: WeightLayout,
        /// Height and width of the filter.
        kernel: usize,
    },
    /// A linear layer's weight, `[outputs][inputs]` in PyTorch.
    Linear(WeightLayout),
    /// gamma of a normalisation.
    Gamma(usize),
    /// beta of a normalisation.
    Beta(usize),
    /// A linear layer's bias.
    Bias(usize),
}

/// A parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Param {
    module: Module,
    /// What it is.
    pub kind: ParamKind,
}

impl Param {
    /// How it lies, if it is a weight.
    pub const fn layout(&self) -> Option<WeightLayout> {
        match self.kind {
            ParamKind::Conv { layout, .. } | ParamKind::Linear(layout) => Some(layout),
            _ => None,
        }
    }
    /// Numbers as it lies in memory.
    pub const fn len(&self) -> usize {
        match self.kind {
            ParamKind::Conv { layout, .. } | ParamKind::Linear(layout) => layout.len(),
            ParamKind::Gamma(n) | ParamKind::Beta(n) | ParamKind::Bias(n) => n,
        }
    }
    /// Whether it has no numbers (never).
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Its shape in PyTorch; the number of dimensions is the second value.
    pub const fn shape(&self) -> ([usize; 4], usize) {
        match self.kind {
            ParamKind::Conv { layout, kernel } => ([layout.k, layout.c, kernel, kernel], 4),
            ParamKind::Linear(layout) => ([layout.k, layout.c, 1, 1], 2),
            ParamKind::Gamma(n) | ParamKind::Beta(n) | ParamKind::Bias(n) => ([n, 1, 1, 1], 1),
        }
    }
    /// Numbers in PyTorch.
    pub const fn numbers(&self) -> usize {
        let ([a, b, c, d], _) = self.shape();
        a * b * c * d
    }
}

impl fmt::Display for Param {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let field = match self.kind {
            ParamKind::Conv { .. } | ParamKind::Linear(_) | ParamKind::Gamma(_) => "weight",
            ParamKind::Beta(_) | ParamKind::Bias(_) => "bias",
        };
        write!(f, "{}.{field}", self.module)
    }
}

/// A name, written out without a heap.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; 48],
    len: u8,
}

impl Name {
    /// The written form of anything of at most 48 bytes; what is longer is cut.
    pub fn of(item: impl fmt::Display) -> Name {
        let mut name = Name { bytes: [0; 48], len: 0 };
        // Cut names can't occur: the longest is `layer8.63.downsample.1.num_batches_tracked`.
        let _ = write!(name, "{item}");
        name
    }
    /// The same of what may be longer.
    pub(crate) fn cut(item: impl fmt::Display) -> Name {
        let mut name = Name { bytes: [0; 48], len: 0 };
        let _ = write!(Cut(&mut name), "{item}");
        name
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len as usize]).unwrap_or("")
    }
}

impl Write for Name {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let start = self.len as usize;
        let room = self.bytes.get_mut(start..start + s.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(s.as_bytes());
        self.len += s.len() as u8;
        Ok(())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Takes characters until the name is full.
struct Cut<'a>(&'a mut Name);

impl Write for Cut<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        s.chars().try_for_each(|c| self.0.write_str(c.encode_utf8(&mut [0; 4])))
    }
}

/// A normalisation, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NormId(pub u16);

impl NormId {
    /// The number.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A normalisation's parameters and width.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Norm {
    module: Module,
    /// gamma.
    pub gamma: ParamId,
    /// beta.
    pub beta: ParamId,
    /// Channels.
    pub channels: usize,
}

/// One line of the state dict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A parameter.
    Param(ParamId),
    /// A normalisation's running mean.
    RunningMean(NormId),
    /// A normalisation's running variance.
    RunningVar(NormId),
    /// How many batches a normalisation has seen: an i64 without dimensions.
    NumBatchesTracked(NormId),
}

/// A network's parameters and normalisations.
#[derive(Clone)]
pub struct Network {
    recipe: Recipe,
    params: [Param; ParamSet::CAPACITY],
    count: usize,
    norms: [Norm; MAX_NORMS],
    norm_count: usize,
}

impl Network {
    /// The parameters of the network that `recipe` describes.
    ///
    /// # Errors
    /// [`Error::TooManyParameters`] where it has more than [`ParamSet::CAPACITY`] of them;
    /// [`Error::Core`] where one does not fit the address space.
    pub fn new(recipe: Recipe) -> Result<Network, Error> {
        let module = Module { part: Part::Fc, layer: 0, block: 0 };
        let mut network = Network {
            recipe,
            params: [Param { module, kind: ParamKind::Bias(0) }; ParamSet::CAPACITY],
            count: 0,
            norms: [Norm { module, gamma: ParamId(0), beta: ParamId(0), channels: 0 }; MAX_NORMS],
            norm_count: 0,
        };
        let width = recipe.width(0);
        network.conv(Module { part: Part::StemConv, ..module }, recipe.in_channels, width, recipe.stem.kernel)?;
        network.norm(Module { part: Part::StemNorm, ..module }, width)?;
        for b in recipe.each_block() {
            let Block { inputs, outputs, .. } = b;
            let at = |part| Module { part, layer: b.layer as u8, block: b.block as u8 };
            network.conv(at(Part::Conv1), inputs, outputs, 3)?;
            network.norm(at(Part::Norm1), outputs)?;
            network.conv(at(Part::Conv2), outputs, outputs, 3)?;
            network.norm(at(Part::Norm2), outputs)?;
            if b.downsample() {
                network.conv(at(Part::DownsampleConv), inputs, outputs, 1)?;
                network.norm(at(Part::DownsampleNorm), outputs)?;
            }
        }
        if recipe.classes > 0 {
            let layout = WeightLayout { k: recipe.classes, c: recipe.features(), taps: 1 };
            network.param(Param { module, kind: ParamKind::Linear(layout) })?;
            network.param(Param { module, kind: ParamKind::Bias(recipe.classes) })?;
        }
        Ok(network)
    }

    fn conv(&mut self, module: Module, c: usize, k: usize, kernel: usize) -> Result<(), Error> {
        let layout = WeightLayout { k, c, taps: kernel * kernel };
        self.param(Param { module, kind: ParamKind::Conv { layout, kernel } }).map(|_| ())
    }

    fn norm(&mut self, module: Module, channels: usize) -> Result<(), Error> {
        if self.norm_count == MAX_NORMS {
            return Err(Error::TooManyParameters { capacity: ParamSet::CAPACITY });
        }
        let gamma = self.param(Param { module, kind: ParamKind::Gamma(channels) })?;
        let beta = self.param(Param { module, kind: ParamKind::Beta(channels) })?;
        self.norms[self.norm_count] = Norm { module, gamma, beta, channels };
        self.norm_count += 1;
        Ok(())
    }

    fn param(&mut self, param: Param) -> Result<ParamId, Error> {
        if self.count == ParamSet::CAPACITY {
            return Err(Error::TooManyParameters { capacity: ParamSet::CAPACITY });
        }
        let ([a, b, c, d], _) = param.shape();
        nunatak_core::Shape::new(a.next_multiple_of(16), b, c, d)?;
        self.params[self.count] = param;
        self.count += 1;
        Ok(ParamId(self.count as u16 - 1))
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }
    /// The parameters, in order.
    pub fn params(&self) -> &[Param] {
        &self.params[..self.count]
    }
    /// The parameters' numbers, in order.
    pub fn param_ids(&self) -> impl DoubleEndedIterator<Item = ParamId> + Clone + use<> {
        (0..self.count as u16).map(ParamId)
    }
    /// A parameter.
    pub fn param_at(&self, id: ParamId) -> &Param {
        &self.params()[id.index()]
    }
    /// The normalisations, in order.
    pub fn norms(&self) -> &[Norm] {
        &self.norms[..self.norm_count]
    }
    /// All parameters.
    pub fn all(&self) -> ParamSet {
        ParamSet::first(self.count)
    }
    /// The parameters of `fc`.
    pub fn head(&self) -> ParamSet {
        self.select(|name| name.starts_with("fc."))
    }
    /// The parameters whose names satisfy a condition.
    pub fn select(&self, condition: impl Fn(&str) -> bool) -> ParamSet {
        let mut set = ParamSet::EMPTY;
        for (id, param) in self.param_ids().zip(self.params()) {
            if condition(Name::of(param).as_str()) {
                set.insert(id);
            }
        }
        set
    }
    /// The parameters whose name is `prefix` or begins with `prefix.`.
    ///
    /// # Errors
    /// [`Error::UnknownName`] where there are none.
    pub fn by_prefix(&self, prefix: &str) -> Result<ParamSet, Error> {
        let set = self.select(|name| name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')));
        if set.is_empty() { Err(Error::UnknownName) } else { Ok(set) }
    }
    /// The parameter of this name.
    ///
    /// # Errors
    /// [`Error::UnknownName`].
    pub fn by_name(&self, name: &str) -> Result<ParamId, Error> {
        self.param_ids().find(|&id| Name::of(self.param_at(id)).as_str() == name).ok_or(Error::UnknownName)
    }

    /// The lines of the state dict, in PyTorch's order.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.param_ids().flat_map(|id| {
            let after = self.norms().iter().position(|norm| norm.beta == id).map(|i| NormId(i as u16));
            let buffers = after.map(|n| [Entry::RunningMean(n), Entry::RunningVar(n), Entry::NumBatchesTracked(n)]);
            core::iter::once(Entry::Param(id)).chain(buffers.into_iter().flatten())
        })
    }
    /// The name of a line of the state dict.
    pub fn entry_name(&self, entry: Entry) -> Name {
        match entry {
            Entry::Param(id) => Name::of(self.param_at(id)),
            Entry::RunningMean(n) => Name::of(format_args!("{}.running_mean", self.norms()[n.index()].module)),
            Entry::RunningVar(n) => Name::of(format_args!("{}.running_var", self.norms()[n.index()].module)),
            Entry::NumBatchesTracked(n) => Name::of(format_args!("{}.num_batches_tracked", self.norms()[n.index()].module)),
        }
    }
    /// The shape of a line of the state dict; the number of dimensions is the second value.
    pub fn entry_shape(&self, entry: Entry) -> ([usize; 4], usize) {
        match entry {
            Entry::Param(id) => self.param_at(id).shape(),
            Entry::RunningMean(n) | Entry::RunningVar(n) => ([self.norms()[n.index()].channels, 1, 1, 1], 1),
            Entry::NumBatchesTracked(_) => ([1; 4], 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resnet18_has_torchvisions_state_dict() {
        let net = Network::new(Recipe::resnet18(1000)).expect("fits");
        assert_eq!((net.params().len(), net.norms().len(), net.entries().count()), (62, 20, 122));
        assert_eq!(net.params().iter().map(Param::numbers).sum::<usize>(), 11_689_512);
        let name = |i: usize| net.entry_name(net.entries().nth(i).expect("entry"));
        assert_eq!(name(0).as_str(), "conv1.weight");
        assert_eq!(name(5).as_str(), "bn1.num_batches_tracked");
        assert_eq!(name(42).as_str(), "layer2.0.downsample.0.weight");
        assert_eq!(name(121).as_str(), "fc.bias");
        assert_eq!(net.by_prefix("layer4").map(|s| s.iter().count()), Ok(15));
        assert_eq!(net.by_prefix("layer4.0.downsample").map(|s| s.iter().count()), Ok(3));
        assert_eq!(net.by_prefix("layer").err(), Some(Error::UnknownName));
        assert_eq!(net.head().iter().count(), 2);
        assert_eq!(Network::new(Recipe::resnet34(10)).map(|n| n.params().len()).ok(), Some(110));
    }
}
