//! Weights in place: a trainer that reads what is frozen where a native file lies, and keeps in its
//! block only what is trained and the running statistics that move.
//!
//! What has once been in the block stays there for the trainer's life: it may have been trained, and
//! the file knows nothing of that.

use crate::blueprint::Blueprint;
use crate::checkpoint::native::{ALIGN, Layout, Native, NativeErrorKind, Tensor};
use crate::heapless::Head;
use crate::lasting::{Held, Thing};
use crate::params::{Entry, Name, Network};
use crate::trainer::{Phase, Trainer};
use crate::{Error, Level, Threads};
use nunatak_core::ParamSet;

/// Calls with every line of the state dict that the file has, and the tensor.
fn pairs(network: &Network, file: &Native, mut each: impl FnMut(Entry, Tensor) -> Result<(), Error>) -> Result<(), Error> {
    let mut walk = file.tensors();
    for entry in network.entries() {
        let name = network.entry_name(entry);
        // Written files have the same order; any other is searched.
        let here = walk.clone();
        let tensor = walk.next().filter(|tensor| tensor.name() == name.as_str()).or_else(|| {
            walk = here;
            file.tensor(name.as_str())
        });
        if let Some(tensor) = tensor {
            each(entry, tensor)?;
        }
    }
    Ok(())
}

/// Whether a tensor is what a line of the state dict asks for.
fn fits(network: &Network, entry: Entry, tensor: &Tensor) -> Result<(), Error> {
    let (shape, rank) = network.entry_shape(entry);
    let count = matches!(entry, Entry::NumBatchesTracked(_));
    if tensor.shape() != &shape[..rank] || count != (tensor.layout() == Layout::Count) {
        return Err(Error::NotInWeights { name: Name::of(tensor.name()) });
    }
    let wrong = |what: &'static str| Err(NativeErrorKind::Tensor(what).at(tensor.offset()).of(tensor.name()).into());
    match entry {
        Entry::RunningVar(_) if (0..tensor.numbers()).any(|i| tensor.element(i) < 0.0) => wrong("a running variance is negative"),
        Entry::NumBatchesTracked(_) if tensor.count().is_none_or(|n| n < 0) => wrong("the number of batches is negative"),
        _ => Ok(()),
    }
}

/// Whether a line is held, and is not the head of a network whose head the file has not.
fn held(blueprint: &Blueprint, entry: Entry) -> bool {
    let held = &blueprint.lasting.held;
    match entry {
        Entry::Param(id) => held.params.contains(id),
        Entry::RunningMean(n) | Entry::RunningVar(n) => held.has_norm(n),
        Entry::NumBatchesTracked(_) => true, // counts are the trainer's own
    }
}

/// Looks up everything that is not held in a file, and notes where it lies.
///
/// # Errors
/// [`Error::OtherNetwork`], [`Error::NotInWeights`], [`Error::Native`]. The blueprint is then of no
/// more use.
pub(crate) fn bind(blueprint: &mut Blueprint, file: &Native) -> Result<(), Error> {
    let network = blueprint.network.clone();
    if file.base().is_some() {
        return Err(Error::Delta("is a delta; give the file that it names as its base, and lay the delta over it"));
    }
    if network.recipe().with_classes(0) != file.recipe().with_classes(0) {
        return Err(Error::OtherNetwork);
    }
    let own_head = network.recipe().classes != file.recipe().classes;
    let head = if own_head { network.head() } else { ParamSet::EMPTY };
    let mut found = 0;
    let mut seen = Held::NOTHING;
    pairs(&network, file, |entry, tensor| {
        found += 1;
        if matches!(entry, Entry::Param(id) if head.contains(id)) {
            return Ok(()); // another head; ours is in the block, or else missing below
        }
        fits(&network, entry, &tensor)?;
        match entry {
            Entry::Param(id) => seen.params.insert(id),
            Entry::RunningVar(n) => seen.insert_norm(n),
            _ => {}
        }
        if held(blueprint, entry) {
            return Ok(());
        }
        tensor.check_padding()?;
        let due = match entry {
            Entry::Param(id) => network.param_at(id).layout().map_or(Layout::Plain, Layout::Blocks),
            _ => Layout::Plain,
        };
        if tensor.layout() != due {
            let what = "its numbers do not lie as the kernels read them, so it can't be used in place";
            return Err(NativeErrorKind::Tensor(what).at(tensor.offset()).of(tensor.name()).into());
        }
        let at = u32::try_from(tensor.offset() / ALIGN).map_err(|_| NativeErrorKind::TooLarge.at(tensor.offset()))?;
        blueprint.lasting.borrow(entry, at);
        Ok(())
    })?;
    if found != file.tensors().count() {
        let known = |name: &str| network.entries().any(|entry| network.entry_name(entry).as_str() == name);
        let name = file.tensors().find(|tensor| !known(tensor.name())).map_or("", |tensor| tensor.name());
        return Err(Error::NotInNetwork { name: Name::of(name) });
    }
    // What must come from the file and is not there.
    let missing = network.entries().find(|&entry| match entry {
        Entry::Param(id) if head.contains(id) => !blueprint.lasting.held.params.contains(id),
        Entry::Param(id) => !seen.params.contains(id),
        Entry::RunningMean(n) | Entry::RunningVar(n) => !seen.has_norm(n),
        Entry::NumBatchesTracked(_) => false,
    });
    match missing {
        Some(entry) => Err(Error::NotInWeights { name: network.entry_name(entry) }),
        None => Ok(()),
    }
}

impl<'m> Trainer<'m> {
    /// Binds a plan to memory and to weights: what the plan keeps in the block is copied there, the
    /// rest is read where `weights` lie (see `in_place` of [`crate::Options`]). A head with another
    /// number of classes than the file's is zero until it is initialised or set.
    ///
    /// The data are believed: call [`Native::verify`] before where they may be damaged.
    ///
    /// # Errors
    /// Those of [`Trainer::new`]; [`Error::OtherNetwork`]; [`Error::NotInWeights`] where the file
    /// lacks a tensor or has it in another shape; [`Error::NotInNetwork`]; [`Error::Native`], among
    /// others where the plan reads in place and the bytes do not begin at a multiple of 64.
    pub fn with_weights(
        mut blueprint: Blueprint,
        memory: &'m mut [u8],
        weights: Native<'m>,
        level: Level,
        threads: Threads,
    ) -> Result<Self, Error> {
        bind(&mut blueprint, &weights)?;
        let in_place = if blueprint.borrows() { weights.in_place()? } else { &[] };
        let mut trainer = Trainer::bound(blueprint, memory, in_place, level, threads)?;
        trainer.weights = Some(weights);
        trainer.copy_from_weights(&Held::NOTHING);
        trainer.counts_from(&weights);
        Ok(trainer)
    }

    /// The file that frozen weights are read from, if there is one.
    pub fn weights_file(&self) -> Option<&Native<'m>> {
        self.weights.as_ref()
    }

    /// Copies from the file what is held and was not before. A head that the file has not is zero.
    pub(crate) fn copy_from_weights(&mut self, before: &Held) {
        let Some(file) = self.weights else { return };
        let network = self.blueprint.network.clone();
        let lasting = self.blueprint.lasting.clone();
        let own_head = network.recipe().classes != file.recipe().classes;
        let new = |entry: Entry| match entry {
            Entry::Param(id) => lasting.held.params.contains(id) && !before.params.contains(id),
            Entry::RunningMean(n) | Entry::RunningVar(n) => lasting.held.has_norm(n) && !before.has_norm(n),
            Entry::NumBatchesTracked(_) => false,
        };
        if own_head {
            for id in network.head().iter().filter(|&id| new(Entry::Param(id))) {
                self.block[lasting.place(&network, Thing::Param(id))].fill(0.0);
            }
        }
        // Binding has found every tensor in its right shape: there is no error left.
        let _ = pairs(&network, &file, |entry, tensor| {
            if new(entry) && !(own_head && matches!(entry, Entry::Param(id) if network.head().contains(id))) {
                self.copy_tensor(entry, &tensor);
            }
            Ok(())
        });
    }

    /// Copies a tensor to its home in the block; a count to the trainer.
    fn copy_tensor(&mut self, entry: Entry, tensor: &Tensor) {
        let (lasting, network) = (&self.blueprint.lasting, &self.blueprint.network);
        let (place, layout) = match entry {
            Entry::Param(id) => (lasting.param(network, id), network.param_at(id).layout()),
            Entry::RunningMean(n) => (lasting.running_mean(network, n), None),
            Entry::RunningVar(n) => (lasting.running_var(network, n), None),
            Entry::NumBatchesTracked(n) => {
                self.tracked[n.index()] = tensor.count().unwrap_or(0);
                return;
            }
        };
        tensor.copy_home(layout, &mut self.block[place]);
    }

    fn counts_from(&mut self, file: &Native) {
        let network = self.blueprint.network.clone();
        let _ = pairs(&network, file, |entry, tensor| {
            if let Entry::NumBatchesTracked(_) = entry {
                self.copy_tensor(entry, &tensor);
            }
            Ok(())
        });
    }

    /// Copies a whole network out of a native file into this trainer, whose plan must hold everything
    /// in its block. A head that is to be kept, or is of another size, stays as it is. Momentum and
    /// gradients are forgotten.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] where the plan reads in place; else as for [`Trainer::with_weights`].
    /// Nothing has changed then.
    pub fn load_native(&mut self, file: &Native, head: Head) -> Result<(), Error> {
        let network = self.blueprint.network.clone();
        self.check_writable()?;
        bind(&mut self.blueprint.clone(), file)?;
        let own_head = head == Head::Keep || network.recipe().classes != file.recipe().classes;
        pairs(&network, file, |entry, tensor| {
            if !(own_head && matches!(entry, Entry::Param(id) if network.head().contains(id))) {
                self.copy_tensor(entry, &tensor);
            }
            Ok(())
        })?;
        self.forget();
        Ok(())
    }

    /// Lays a delta over the weights: every tensor that it has takes the place of the file's. The
    /// plan must hold them in its block ([`Blueprint::hold_delta`]). The delta's checksums are
    /// verified. Momentum and gradients are forgotten.
    ///
    /// # Errors
    /// [`Error::WrongBase`] with both hashes where it was made over other weights; [`Error::Delta`]
    /// where it is none, or there are no weights below; [`Error::OtherNetwork`];
    /// [`Error::NotInNetwork`]; [`Error::ReadOnly`]; [`Error::Native`]. Nothing has changed then.
    pub fn load_delta(&mut self, delta: &Native) -> Result<(), Error> {
        let Some(expected) = delta.base() else { return Err(Error::Delta("is a whole network, no delta")) };
        let Some(weights) = &self.weights else {
            return Err(Error::Delta("needs its base below it; make the trainer with that file"));
        };
        let got = weights.hash();
        if got != expected {
            return Err(Error::WrongBase { expected, got });
        }
        let network = self.blueprint.network.clone();
        if delta.recipe() != network.recipe() {
            return Err(Error::OtherNetwork);
        }
        delta.verify()?;
        let mut found = 0;
        pairs(&network, delta, |entry, tensor| {
            found += 1;
            fits(&network, entry, &tensor)?;
            match held(&self.blueprint, entry) {
                true => Ok(()),
                false => Err(Error::ReadOnly { name: network.entry_name(entry) }),
            }
        })?;
        if found != delta.tensors().count() {
            let known = |name: &str| network.entries().any(|entry| network.entry_name(entry).as_str() == name);
            let name = delta.tensors().find(|tensor| !known(tensor.name())).map_or("", |tensor| tensor.name());
            return Err(Error::NotInNetwork { name: Name::of(name) });
        }
        pairs(&network, delta, |entry, tensor| {
            self.copy_tensor(entry, &tensor);
            Ok(())
        })?;
        self.forget();
        Ok(())
    }

    /// Whether everything can be written.
    pub(crate) fn check_writable(&self) -> Result<(), Error> {
        let network = &self.blueprint.network;
        match network.entries().find(|&entry| !held(&self.blueprint, entry)) {
            Some(entry) => Err(Error::ReadOnly { name: network.entry_name(entry) }),
            None => Ok(()),
        }
    }

    /// Forgets what belonged to other parameters: momentum, gradients, what was computed.
    fn forget(&mut self) {
        self.momenta = ParamSet::EMPTY;
        self.zero_grad();
        self.phase = Phase::Idle;
    }
}

impl Blueprint {
    /// Keeps in the block too what `other` keeps there, so that trainers can go from one plan to the
    /// other and back with a block of the larger of the two: an evaluation between training steps
    /// reads the statistics that these have moved.
    ///
    /// # Errors
    /// [`Error::OtherNetwork`]; [`Error::Core`] where the sum does not fit the address space.
    pub fn hold(&mut self, other: &Blueprint) -> Result<(), Error> {
        if self.network.recipe().with_classes(0) != other.network.recipe().with_classes(0) {
            return Err(Error::OtherNetwork);
        }
        self.hold_also(&other.lasting.held)
    }

    /// Keeps in the block everything that a delta has, so that it can be laid over the weights.
    ///
    /// # Errors
    /// [`Error::OtherNetwork`]; [`Error::Core`] where the sum does not fit the address space.
    pub fn hold_delta(&mut self, delta: &Native) -> Result<(), Error> {
        if self.network.recipe() != delta.recipe() {
            return Err(Error::OtherNetwork);
        }
        let mut held = Held::NOTHING;
        pairs(&self.network, delta, |entry, _| {
            match entry {
                Entry::Param(id) => held.params.insert(id),
                Entry::RunningMean(n) | Entry::RunningVar(n) => held.insert_norm(n),
                Entry::NumBatchesTracked(_) => {}
            }
            Ok(())
        })?;
        self.hold_also(&held)
    }
}
