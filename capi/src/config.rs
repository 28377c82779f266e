//! Recipes and configurations: plain structs.

use crate::boundary::{Out, Own, call, copy, slice, text};
use crate::status::{Failure, fail, nunatak_status};
use crate::threads;
use core::ffi::{c_char, c_void};
use nunatak_nn::params::Network;
use nunatak_nn::recipe::{MAX_LAYERS, Stem};
use nunatak_nn::{
    Blueprint, CrossEntropyOptions, Level, Loss, Memory, Mode, Native, NormPolicy, Options, ParamSet, Recipe, Reduction, Setup, Update,
};

/// Layers (groups of blocks) that a recipe can have.
pub const NUNATAK_MAX_LAYERS: usize = 8;
const _: () = assert!(NUNATAK_MAX_LAYERS == MAX_LAYERS);

/// A residual network of basic blocks, as torchvision's ResNet18. Fill it by `nunatak_recipe_resnet18`
/// and its like, or by hand. Layer i has `blocks[i]` blocks of `widths[i]` channels; the first block of
/// every layer but the first has stride 2. The stem is a convolution to `widths[0]` channels with
/// normalisation and relu, followed by MaxPool2d(3, 2, 1) where `stem_pool` is not 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nunatak_recipe {
    /// Layers in use: 1 to 8.
    pub layers: usize,
    /// Blocks of each layer: 1 to 64.
    pub blocks: [usize; NUNATAK_MAX_LAYERS],
    /// Channels of each layer: 1 to 32768.
    pub widths: [usize; NUNATAK_MAX_LAYERS],
    /// Height and width of the stem's filter: 1 to 31.
    pub stem_kernel: usize,
    /// Stride of the stem: 1 to 16.
    pub stem_stride: usize,
    /// Padding of the stem: at most 31.
    pub stem_pad: usize,
    /// Whether a pooling follows: 0 or 1.
    pub stem_pool: u32,
    /// Channels of the images.
    pub in_channels: usize,
    /// Outputs of the head `fc`; 0 for a network without one, whose predictions are its features.
    pub classes: usize,
}

/// PyTorch's `train()` and `eval()`.
#[repr(u32)]
pub enum nunatak_mode {
    /// Normalisations use the batch's statistics, and move their running ones.
    NUNATAK_TRAIN = 0,
    /// Normalisations use their running statistics.
    NUNATAK_EVAL = 1,
}

/// What frozen normalisations do in train mode.
#[repr(u32)]
pub enum nunatak_statistics {
    /// As PyTorch: freezing their parameters changes nothing.
    NUNATAK_STATISTICS_UPDATING = 0,
    /// They use their running statistics, which stay as they are. The usual choice for fine-tuning.
    NUNATAK_STATISTICS_FIXED = 1,
}

/// What a step makes small.
#[repr(u32)]
pub enum nunatak_loss {
    /// Nothing: prediction. No gradients, no labels.
    NUNATAK_LOSS_NONE = 0,
    /// `(prediction - targets).sum()`; targets are batch x classes floats.
    NUNATAK_LOSS_SUM = 1,
    /// The mean of (prediction − target)² over all numbers; targets are batch x classes floats.
    NUNATAK_LOSS_MEAN_SQUARED_ERROR = 2,
    /// PyTorch's cross entropy; labels are class indices.
    NUNATAK_LOSS_CROSS_ENTROPY = 3,
    /// Cross entropy; targets are probabilities, batch x classes floats.
    NUNATAK_LOSS_CROSS_ENTROPY_PROBABILITIES = 4,
    /// One that the caller computes from the predictions, whose gradient goes to
    /// `nunatak_trainer_backward_from`. No labels.
    NUNATAK_LOSS_OUTSIDE = 5,
}

/// How a cross entropy is summed up.
#[repr(u32)]
pub enum nunatak_reduction {
    /// The mean over the rows that count.
    NUNATAK_REDUCTION_MEAN = 0,
    /// The sum.
    NUNATAK_REDUCTION_SUM = 1,
}

/// Memory or speed.
#[repr(u32)]
pub enum nunatak_memory {
    /// The fastest algorithms.
    NUNATAK_MEMORY_FAST = 0,
    /// Those that need little scratch memory.
    NUNATAK_MEMORY_SMALL = 1,
}

/// When parameters are updated. The numbers are the same either way.
#[repr(u32)]
pub enum nunatak_update {
    /// After the backward walk: gradients are kept, can be read, accumulated and clipped.
    NUNATAK_UPDATE_AFTER = 0,
    /// During the walk, by `nunatak_trainer_step` alone: a gradient's memory is used again at once, or a
    /// weight is updated as its gradient arises, which then lies nowhere. Gradients can't be read, set,
    /// accumulated or clipped: `NUNATAK_NOT_PLANNED`.
    NUNATAK_UPDATE_DURING = 1,
}

/// Everything that is decided before a step. `nunatak_config_default` fills it; change what you want.
/// The library keeps no pointer to it or to its texts; only to `weights`, see there.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nunatak_config {
    /// sizeof(nunatak_config), set by `nunatak_config_default`: tells a config that was not filled, or
    /// a program that was built with another version's header.
    pub struct_bytes: usize,
    /// The network.
    pub recipe: nunatak_recipe,
    /// Images of a batch.
    pub batch: usize,
    /// Lines of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// A `nunatak_mode`. Default: NUNATAK_TRAIN.
    pub mode: u32,
    /// A `nunatak_statistics`. Default: NUNATAK_STATISTICS_UPDATING, as PyTorch.
    pub statistics: u32,
    /// The parameters that are trained: "all" (the default, also for NULL), "none", "head" (`fc`), or
    /// names and prefixes with commas between: "layer4,fc", "layer4.1.conv2.weight". All others are
    /// frozen: they have no gradient, no momentum, and cost nothing in a step.
    pub trainable: *const c_char,
    /// A `nunatak_loss`. Default: NUNATAK_LOSS_CROSS_ENTROPY.
    pub loss: u32,
    /// Cross entropy: how much of a target is spread over all classes, 0 to 1. Default: 0.
    pub label_smoothing: f32,
    /// Cross entropy: a `nunatak_reduction`. Default: NUNATAK_REDUCTION_MEAN.
    pub reduction: u32,
    /// Cross entropy: rows with this label count nothing. Default: -100.
    pub ignore_index: i64,
    /// A `nunatak_memory`. Default: NUNATAK_MEMORY_FAST.
    pub memory: u32,
    /// A `nunatak_update`. Default: NUNATAK_UPDATE_AFTER.
    pub update: u32,
    /// 1 for a momentum buffer beside every trained parameter; 0 where the optimiser's momentum is 0.
    /// Default: 1.
    pub momentum: u32,
    /// Threads that work on a step. Default: 1, the caller's own. More must have been started by
    /// `nunatak_threads_start` before `nunatak_trainer_init`. Results are the same bits for any number.
    pub threads: usize,
    /// The instruction set: "portable", "neon", "avx2", "avx512". Default: NULL, the best there is.
    pub level: *const c_char,
    /// A native file (`NUNATAK_NATIVE`, `nunatak convert`) whose frozen part is used where it lies: in flash,
    /// or mapped. It must begin at a multiple of 64, and stay as it is until the trainer is released. What is
    /// trained, and running statistics that move, are copied into the trainer's memory; a head of another
    /// size is zero until it is drawn. Only the head of the file is checked: see `nunatak_file_verify`.
    /// Default: NULL, everything is in the trainer's memory.
    pub weights: *const c_void,
    /// Its length.
    pub weights_bytes: usize,
}

/// A planned step in Rust's terms.
pub(crate) struct Planned {
    pub(crate) setup: Setup,
    pub(crate) level: Level,
    /// What is used in place.
    pub(crate) weights: Option<Native<'static>>,
}

fn choice<T: Copy>(value: u32, of: &[T], what: &str) -> Result<T, Failure> {
    of.get(value as usize).copied().ok_or_else(|| fail!(NUNATAK_BAD_CONFIG, "{what} is {value}, expected 0 to {}", of.len() - 1))
}

impl nunatak_recipe {
    pub(crate) fn of(recipe: &Recipe) -> nunatak_recipe {
        let mut plain = nunatak_recipe {
            layers: recipe.layers(),
            blocks: [0; MAX_LAYERS],
            widths: [0; MAX_LAYERS],
            stem_kernel: recipe.stem.kernel,
            stem_stride: recipe.stem.stride,
            stem_pad: recipe.stem.pad,
            stem_pool: recipe.stem.pool.into(),
            in_channels: recipe.in_channels,
            classes: recipe.classes,
        };
        for i in 0..recipe.layers() {
            (plain.blocks[i], plain.widths[i]) = (recipe.blocks(i), recipe.width(i));
        }
        plain
    }

    pub(crate) fn recipe(&self) -> Result<Recipe, Failure> {
        let pool = choice(self.stem_pool, &[false, true], "stem_pool")?;
        let stem = Stem { kernel: self.stem_kernel, stride: self.stem_stride, pad: self.stem_pad, pool };
        let (Some(blocks), Some(widths)) = (self.blocks.get(..self.layers), self.widths.get(..self.layers)) else {
            return Err(fail!(NUNATAK_BAD_CONFIG, "a network has 1 to {MAX_LAYERS} layers, got {}", self.layers));
        };
        Ok(Recipe::new(blocks, widths, stem, self.in_channels, self.classes)?)
    }
}

/// The parameters that a text names.
pub(crate) fn param_set(network: &Network, names: &str) -> Result<ParamSet, Failure> {
    match names {
        "all" => return Ok(network.all()),
        "none" => return Ok(ParamSet::EMPTY),
        "head" => return Ok(network.head()),
        _ => {}
    }
    let mut set = ParamSet::EMPTY;
    for name in names.split(',').map(str::trim) {
        let part = network.by_prefix(name);
        let part = part.map_err(|_| fail!(NUNATAK_UNKNOWN_NAME, "no parameter has the name \"{name}\", or begins with it and a dot"))?;
        part.iter().for_each(|id| set.insert(id));
    }
    Ok(set)
}

impl nunatak_config {
    /// # Safety
    /// The texts are NULL or end with a zero; `weights` is NULL or `weights_bytes` bytes can be read there, as
    /// long as the result is used.
    pub(crate) unsafe fn planned(&self) -> Result<Planned, Failure> {
        if self.struct_bytes != size_of::<nunatak_config>() {
            return Err(fail!(
                NUNATAK_BAD_CONFIG,
                "struct_bytes is {}, expected {}: fill the config by nunatak_config_default, and use the header of this library's version",
                self.struct_bytes,
                size_of::<nunatak_config>()
            ));
        }
        let recipe = self.recipe.recipe()?;
        let trainable = if self.trainable.is_null() {
            "all"
        } else {
            // SAFETY: the caller's promise.
            unsafe { text(self.trainable, "trainable")? }
        };
        let level = if self.level.is_null() {
            Level::detect()
        } else {
            // SAFETY: the caller's promise.
            let name = unsafe { text(self.level, "level")? };
            Level::by_name(name).map_err(|e| fail!(NUNATAK_UNSUPPORTED, "{e}"))?
        };
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return Err(fail!(NUNATAK_BAD_CONFIG, "label_smoothing is {}, expected 0 to 1", self.label_smoothing));
        }
        let cross_entropy = CrossEntropyOptions {
            label_smoothing: self.label_smoothing,
            ignore_index: self.ignore_index,
            reduction: choice(self.reduction, &[Reduction::Mean, Reduction::Sum], "reduction")?,
        };
        let losses = [
            Loss::None,
            Loss::Sum,
            Loss::MeanSquaredError,
            Loss::CrossEntropy(cross_entropy),
            Loss::CrossEntropyProbabilities(cross_entropy),
            Loss::Outside,
        ];
        let loss = choice(self.loss, &losses, "loss")?;
        let network = Network::new(recipe)?;
        let trainable = if let Loss::None = loss { ParamSet::EMPTY } else { param_set(&network, trainable)? };
        let weights = if self.weights.is_null() {
            None
        } else {
            // SAFETY: the caller's promise.
            let bytes = unsafe { slice(Own::NOTHING, self.weights.cast::<u8>(), self.weights_bytes, "weights")? };
            Some(Native::parse(bytes).map_err(nunatak_nn::Error::from)?)
        };
        let options = Options {
            threads: threads::checked(self.threads)?,
            memory: choice(self.memory, &[Memory::Fast, Memory::Small], "memory")?,
            update: choice(self.update, &[Update::After, Update::During], "update")?,
            momentum: choice(self.momentum, &[false, true], "momentum")?,
            fuse: true,
            in_place: weights.is_some(),
        };
        let setup = Setup {
            recipe,
            batch: self.batch,
            height: self.height,
            width: self.width,
            mode: choice(self.mode, &[Mode::Train, Mode::Eval], "mode")?,
            norm_policy: choice(self.statistics, &[NormPolicy::Updating, NormPolicy::Fixed], "statistics")?,
            trainable,
            loss,
            options,
            algorithms: [None; 3],
        };
        Ok(Planned { setup, level, weights })
    }
}

impl Planned {
    /// The plan; its bytes are numbers that exist.
    pub(crate) fn blueprint(&self) -> Result<(Blueprint, nunatak_nn::setup::Values), Failure> {
        let (blueprint, _, values) = self.setup.plan()?;
        Ok((blueprint, values))
    }
}

/// # Safety
/// `out` is NULL, or a recipe can be written there.
unsafe fn preset(recipe: impl FnOnce(usize) -> Recipe, classes: usize, out: *mut nunatak_recipe) -> nunatak_status {
    call(|| {
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(Own::NOTHING, out, "recipe")? };
        out.put(nunatak_recipe::of(&recipe(classes)));
        Ok(())
    })
}

/// ResNet18, for images of ImageNet's kind (some 32 to 1024 pixels wide), of 3 channels. `classes` are the
/// outputs of its head; 0 for none. Only the pointer is checked here. Any thread.
///
/// # Safety
/// `recipe` is NULL, or a `nunatak_recipe` can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_recipe_resnet18(classes: usize, recipe: *mut nunatak_recipe) -> nunatak_status {
    // SAFETY: the caller's promise.
    unsafe { preset(Recipe::resnet18, classes, recipe) }
}

/// ResNet34, for the same images, of 3 channels. `classes` are the outputs of its head; 0 for none. Only
/// the pointer is checked here. Any thread.
///
/// # Safety
/// `recipe` is NULL, or a `nunatak_recipe` can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_recipe_resnet34(classes: usize, recipe: *mut nunatak_recipe) -> nunatak_status {
    // SAFETY: the caller's promise.
    unsafe { preset(Recipe::resnet34, classes, recipe) }
}

/// ResNet-8 of MLPerf Tiny's shape, for images of 32 x 32, of 3 channels. `classes` are the outputs of its
/// head; 0 for none. Only the pointer is checked here. Any thread.
///
/// # Safety
/// `recipe` is NULL, or a `nunatak_recipe` can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_recipe_resnet8(classes: usize, recipe: *mut nunatak_recipe) -> nunatak_status {
    // SAFETY: the caller's promise.
    unsafe { preset(Recipe::resnet8, classes, recipe) }
}

/// Fills a config with the defaults that stand at its members, for batches of `batch` images of
/// `height` x `width` pixels. Only pointers are checked here: whether a step can be planned is told by
/// `nunatak_trainer_required_bytes`. Any thread.
///
/// # Safety
/// `recipe` is NULL or can be read; `config` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_config_default(
    recipe: *const nunatak_recipe,
    batch: usize,
    height: usize,
    width: usize,
    config: *mut nunatak_config,
) -> nunatak_status {
    call(|| {
        // SAFETY: the caller's promise.
        let (recipe, out) = unsafe { (copy(recipe, "recipe")?, Out::new(Own::NOTHING, config, "config")?) };
        out.put(nunatak_config {
            struct_bytes: size_of::<nunatak_config>(),
            recipe,
            batch,
            height,
            width,
            mode: nunatak_mode::NUNATAK_TRAIN as u32,
            statistics: nunatak_statistics::NUNATAK_STATISTICS_UPDATING as u32,
            trainable: core::ptr::null(),
            loss: nunatak_loss::NUNATAK_LOSS_CROSS_ENTROPY as u32,
            label_smoothing: 0.0,
            reduction: nunatak_reduction::NUNATAK_REDUCTION_MEAN as u32,
            ignore_index: -100,
            memory: nunatak_memory::NUNATAK_MEMORY_FAST as u32,
            update: nunatak_update::NUNATAK_UPDATE_AFTER as u32,
            momentum: 1,
            threads: 1,
            level: core::ptr::null(),
            weights: core::ptr::null(),
            weights_bytes: 0,
        });
        Ok(())
    })
}
