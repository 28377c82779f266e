//! From a config to a program. Recording and planning need a heap: without `std` a config can't be planned, and
//! programs come from elsewhere.

use crate::boundary::{Args, text};
use crate::config::nunatak_config;
use crate::status::{Failure, fail};
use crate::versions::read;
use core::ffi::c_char;
use nunatak_nn::Level;

#[cfg(feature = "std")]
pub(crate) use with_heap::Planned;
#[cfg(not(feature = "std"))]
pub(crate) use without::Planned;

/// The config behind a pointer from C.
///
/// # Safety
/// `config` is NULL or can be read; its texts are NULL or end with a zero; its `weights` is NULL, or
/// `weights_bytes` bytes can be read there as long as the result is used.
pub(crate) unsafe fn planned(args: &Args, config: *const nunatak_config) -> Result<Planned, Failure> {
    // SAFETY: the caller's promise.
    unsafe { Planned::of(args, &read(args, config, "config")?) }
}

/// The instruction set with this name; for NULL the best there is.
///
/// # Safety
/// `level` is NULL, or ends with a zero.
pub(crate) unsafe fn level_of(args: &Args, level: *const c_char) -> Result<Level, Failure> {
    if level.is_null() {
        return Ok(Level::detect());
    }
    // SAFETY: the caller's promise.
    let name = unsafe { text(args, level, "level")? };
    Level::by_name(name).map_err(|e| fail!(NUNATAK_UNSUPPORTED, "{e}"))
}

#[cfg(feature = "std")]
mod with_heap {
    use crate::boundary::{Args, slice, text};
    use crate::config::{nunatak_config, nunatak_recipe};
    use crate::memory::NUNATAK_TRAINER_BYTES;
    use crate::status::{Failure, fail};
    use crate::threads;
    use nunatak_nn::models::{MAX_LAYERS, Stem};
    use nunatak_nn::{
        CrossEntropyOptions, Error, Graph, Level, Loss, Memory, Mode, Native, NormPolicy, Program, Recipe, Reduction, Step, Update,
    };

    /// A config in Rust's terms.
    pub(crate) struct Planned {
        recipe: Recipe,
        images: [usize; 4],
        loss: Loss,
        trainable: &'static str,
        mode: Mode,
        norm_policy: NormPolicy,
        memory: Memory,
        update: Update,
        momentum: bool,
        gemm_only: bool,
        threads: usize,
        level: Level,
        /// What is used in place.
        weights: Option<Native<'static>>,
        /// The most bytes that the trainer may take.
        max_bytes: Option<usize>,
    }

    fn choice<T: Copy>(value: u32, of: &[T], what: &str) -> Result<T, Failure> {
        of.get(value as usize).copied().ok_or_else(|| fail!(NUNATAK_BAD_CONFIG, "{what} is {value}, expected 0 to {}", of.len() - 1))
    }

    fn recipe_of(plain: &nunatak_recipe) -> Result<Recipe, Failure> {
        let due = size_of::<nunatak_recipe>();
        if plain.struct_bytes != due || plain.reserved != [0; 4] {
            return Err(fail!(
                NUNATAK_BAD_CONFIG,
                "the recipe's struct_bytes is {}, expected {due}, and its reserved members must be 0: fill it by nunatak_recipe_resnet18 or its like",
                plain.struct_bytes
            )
            .numbers(due, plain.struct_bytes));
        }
        let pool = choice(plain.stem_pool, &[false, true], "stem_pool")?;
        let stem = Stem { kernel: plain.stem_kernel, stride: plain.stem_stride, pad: plain.stem_pad, pool };
        let (Some(blocks), Some(widths)) = (plain.blocks.get(..plain.layers), plain.widths.get(..plain.layers)) else {
            return Err(fail!(NUNATAK_BAD_CONFIG, "a network has 1 to {MAX_LAYERS} layers, got {}", plain.layers));
        };
        Ok(Recipe::new(blocks, widths, stem, plain.in_channels, plain.classes)?)
    }

    fn loss_of(config: &nunatak_config) -> Result<Loss, Failure> {
        if !(0.0..=1.0).contains(&config.label_smoothing) {
            return Err(fail!(NUNATAK_BAD_CONFIG, "label_smoothing is {}, expected 0 to 1", config.label_smoothing));
        }
        let cross_entropy = CrossEntropyOptions {
            label_smoothing: config.label_smoothing,
            ignore_index: config.ignore_index,
            reduction: choice(config.reduction, &[Reduction::Mean, Reduction::Sum], "reduction")?,
        };
        let losses = [
            Loss::None,
            Loss::Sum,
            Loss::MeanSquaredError,
            Loss::CrossEntropy(cross_entropy),
            Loss::CrossEntropyProbabilities(cross_entropy),
            Loss::Outside,
        ];
        choice(config.loss, &losses, "loss")
    }

    impl Planned {
        /// # Safety
        /// As for [`super::planned`].
        pub(super) unsafe fn of(args: &Args, config: &nunatak_config) -> Result<Planned, Failure> {
            let recipe = recipe_of(&config.recipe)?;
            let trainable = if config.trainable.is_null() {
                "all"
            } else {
                // SAFETY: the caller's promise.
                unsafe { text(args, config.trainable, "trainable")? }
            };
            // SAFETY: the caller's promise.
            let level = unsafe { super::level_of(args, config.level)? };
            let loss = loss_of(config)?;
            if recipe.classes == 0 && trainable.split(',').any(|name| name.trim() == "head") {
                return Err(fail!(NUNATAK_UNKNOWN_NAME, "trainable names the head, but the recipe has none: its classes are 0"));
            }
            let weights = if config.weights.is_null() && config.weights_bytes > 0 {
                return Err(fail!(NUNATAK_NULL_POINTER, "weights is NULL, but weights_bytes is {}", config.weights_bytes));
            } else if config.weights.is_null() {
                None
            } else {
                // SAFETY: the caller's promise.
                let bytes = unsafe { slice(args, config.weights.cast::<u8>(), config.weights_bytes, "weights")? };
                Some(Native::parse(bytes).map_err(nunatak_nn::Error::from)?)
            };
            if let Some(of_file) = weights.as_ref().filter(|file| file.base().is_none()).and_then(Native::recipe)
                && of_file.with_classes(recipe.classes) != recipe
            {
                return Err(fail!(NUNATAK_BAD_CONFIG, "weights are of another network, {of_file}; only classes may differ from {recipe}"));
            }
            Ok(Planned {
                recipe,
                images: [config.batch, recipe.in_channels, config.height, config.width],
                loss,
                trainable: if loss == Loss::None { "none" } else { trainable },
                mode: choice(config.mode, &[Mode::Train, Mode::Eval], "mode")?,
                norm_policy: choice(config.statistics, &[NormPolicy::Updating, NormPolicy::Fixed], "statistics")?,
                memory: choice(config.memory, &[Memory::Fast, Memory::Small, Memory::Tiny], "memory")?,
                update: choice(config.update, &[Update::After, Update::During, Update::Summed], "update")?,
                momentum: choice(config.momentum, &[false, true], "momentum")?,
                gemm_only: choice(config.gemm_only, &[false, true], "gemm_only")?,
                threads: threads::checked(config.threads)?,
                level,
                weights,
                max_bytes: (config.max_bytes > 0).then_some(config.max_bytes),
            })
        }

        /// Records and plans the step. `hold` names what stays in the block though it could be read in place.
        pub(crate) fn program(&self, hold: &dyn Fn(&str) -> bool) -> Result<Program<'static>, Failure> {
            let graph = Graph::new();
            let step = graph.usual(self.images, self.loss, |g, x| self.recipe.record(g, x))?;
            let mut entries = 0;
            graph.each_entry(|_, _| entries += 1);
            let front = NUNATAK_TRAINER_BYTES + entries;
            let planned = Step::new(&graph)
                .root(step.root)
                .keep(&[step.prediction, step.features])
                .train(self.trainable)
                .mode(self.mode)
                .norm_policy(self.norm_policy)
                .threads(self.threads)
                .memory(self.memory)
                .update(self.update)
                .momentum(self.momentum)
                .gemm_only(self.gemm_only)
                .in_place(self.weights)
                .hold(hold)
                .within(self.max_bytes.map(|bytes| bytes.saturating_sub(front)))
                .plan();
            let program = planned.map_err(|e| match (e, self.max_bytes) {
                (Error::Budget { least, .. }, Some(asked)) => Error::Budget { asked, least: least + front },
                _ => e,
            })?;
            match nunatak_heap::is_reserve(program.bytes()) {
                true => Err(fail!(NUNATAK_OUT_OF_MEMORY, "the system gave no memory for the program; nothing was changed")),
                false => Ok(program),
            }
        }

        pub(crate) fn threads(&self) -> usize {
            self.threads
        }
        pub(crate) fn level(&self) -> Level {
            self.level
        }
        pub(crate) fn weights(&self) -> Option<Native<'static>> {
            self.weights
        }
    }
}

#[cfg(not(feature = "std"))]
mod without {
    use crate::boundary::Args;
    use crate::config::nunatak_config;
    use crate::status::{Failure, fail};
    use nunatak_nn::{Level, Native, Program};

    /// There is none.
    pub(crate) enum Planned {}

    impl Planned {
        /// # Safety
        /// None is needed: nothing is read.
        pub(super) unsafe fn of(_: &Args, _: &nunatak_config) -> Result<Planned, Failure> {
            Err(fail!(
                NUNATAK_UNSUPPORTED,
                "this library was built without planning; make a program with nunatak_program_from_config where there is a heap, and give it to nunatak_trainer_init_program"
            ))
        }
        pub(crate) fn program(&self, _: &dyn Fn(&str) -> bool) -> Result<Program<'static>, Failure> {
            match *self {}
        }
        pub(crate) fn threads(&self) -> usize {
            match *self {}
        }
        pub(crate) fn level(&self) -> Level {
            match *self {}
        }
        pub(crate) fn weights(&self) -> Option<Native<'static>> {
            match *self {}
        }
    }
}
