//! Recipes and configurations: plain structs.

use crate::boundary::{Args, call};
use crate::status::nunatak_status;
use crate::versions::{OutStruct, Versioned, read};
use core::ffi::{c_char, c_void};
use nunatak_nn::Recipe;
use nunatak_nn::models::MAX_LAYERS;

/// Layers (groups of blocks) that a recipe can have.
pub const NUNATAK_MAX_LAYERS: usize = 8;
const _: () = assert!(NUNATAK_MAX_LAYERS == MAX_LAYERS);

/// A residual network of basic blocks, as torchvision's ResNet18. Fill it by `nunatak_recipe_resnet18`
/// and its like, or by hand. Layer i has `blocks[i]` blocks of `widths[i]` channels; the first block of
/// every layer but the first has stride 2. The stem is a convolution to `widths[0]` channels with
/// normalisation and relu, followed by MaxPool2d(3, 2, 1) where `stem_pool` is 1.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nunatak_recipe {
    /// sizeof(nunatak_recipe), as for `nunatak_config`.
    pub struct_bytes: usize,
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
    /// For later versions, so that a recipe never gets longer: 0.
    pub reserved: [usize; 4],
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
    /// For boards: 16 kB of scratch in a call of `gemm`.
    NUNATAK_MEMORY_TINY = 2,
}

/// When parameters are updated. The numbers are the same after the walk and during it.
#[repr(u32)]
pub enum nunatak_update {
    /// After the backward walk: gradients are kept, can be read, accumulated and clipped.
    NUNATAK_UPDATE_AFTER = 0,
    /// During the walk, by `nunatak_trainer_step` alone: a gradient's memory is used again at once, or a
    /// weight is updated as its gradient arises, which then lies nowhere. Gradients can't be read, set,
    /// accumulated or clipped: `NUNATAK_NOT_PLANNED`.
    NUNATAK_UPDATE_DURING = 1,
    /// After several micro-batches, whose gradients are added up in the momentum: by `nunatak_trainer_accumulate` and
    /// `nunatak_trainer_update`, or `nunatak_trainer_step`. A buffer less for every trained parameter than after the walk;
    /// sums are rounded otherwise. Gradients can't be read, set or clipped, nor is Nesterov's step possible:
    /// `NUNATAK_NOT_PLANNED`.
    NUNATAK_UPDATE_SUMMED = 2,
}

/// Everything that is decided before a step. `nunatak_config_default` fills it; change what you want.
/// The library keeps no pointer to it or to its texts; only to `weights`, see there.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nunatak_config {
    /// sizeof(nunatak_config), which `nunatak_config_default` is told and sets. So a program that was built with
    /// an older header works with a newer library: members that it does not know have their defaults. One that was
    /// built with a newer header works with an older library as long as the members that this does not know are 0.
    /// A size that can't be is NUNATAK_BAD_CONFIG. The other structs that begin with their size work alike.
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
    /// 1 where convolutions and linear layers use the one algorithm that a library without the feature `algorithms`
    /// has: a program planned so runs on a board with such a library. 0 for the best ones. Default: 0.
    pub gemm_only: u32,
    /// Threads that work on a step. Default: 1, the caller's own. More must have been started by
    /// `nunatak_threads_start` before `nunatak_trainer_init`. Results are the same bits for any number.
    pub threads: usize,
    /// The instruction set: "portable", "neon", "avx2", "avx512". Default: NULL, the best there is.
    pub level: *const c_char,
    /// A native file (`NUNATAK_NATIVE`, `nunatak convert`) whose frozen part is used where it lies: in flash,
    /// or mapped. It must begin at a multiple of 64, and stay as it is until the trainer is released. What is
    /// trained, and running statistics that move, are copied into the trainer's memory; a head of another
    /// size has no weights until it is drawn, loaded or set. Only the head of the file is checked: see `nunatak_file_verify`.
    /// Default: NULL, everything is in the trainer's memory.
    pub weights: *const c_void,
    /// Its length.
    pub weights_bytes: usize,
    /// The most bytes that the trainer may take, as `nunatak_trainer_required_bytes` tells. Where it is less than the fastest
    /// plan, values of the forward walk are computed again in the backward walk instead of being kept: more time, the same
    /// bits. Default: 0, as many as it takes.
    pub max_bytes: usize,
}

impl nunatak_recipe {
    pub(crate) fn of(recipe: &Recipe) -> nunatak_recipe {
        let mut plain = nunatak_recipe {
            struct_bytes: size_of::<nunatak_recipe>(),
            layers: recipe.layers(),
            blocks: [0; MAX_LAYERS],
            widths: [0; MAX_LAYERS],
            stem_kernel: recipe.stem.kernel,
            stem_stride: recipe.stem.stride,
            stem_pad: recipe.stem.pad,
            stem_pool: recipe.stem.pool.into(),
            in_channels: recipe.in_channels,
            classes: recipe.classes,
            reserved: [0; 4],
        };
        for i in 0..recipe.layers() {
            (plain.blocks[i], plain.widths[i]) = (recipe.blocks(i), recipe.width(i));
        }
        plain
    }
}

// SAFETY: `#[repr(C)]`, the size is first, and all members are numbers.
unsafe impl Versioned for nunatak_recipe {
    const NAME: &'static str = "nunatak_recipe";
    // It lies in the middle of a config, so it never gets longer.
    const OLDEST: usize = size_of::<nunatak_recipe>();
    fn defaults() -> Self {
        nunatak_recipe::of(&Recipe::resnet18(0))
    }
}

// SAFETY: `#[repr(C)]`, the size is first, and all members are numbers and raw pointers.
unsafe impl Versioned for nunatak_config {
    const NAME: &'static str = "nunatak_config";
    const OLDEST: usize = core::mem::offset_of!(nunatak_config, mode);
    fn defaults() -> Self {
        nunatak_config::of(nunatak_recipe::defaults(), [0; 3])
    }
}

impl nunatak_config {
    /// The defaults for batches of so many images of so many lines and columns.
    fn of(recipe: nunatak_recipe, [batch, height, width]: [usize; 3]) -> nunatak_config {
        nunatak_config {
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
            gemm_only: 0,
            threads: 1,
            level: core::ptr::null(),
            weights: core::ptr::null(),
            weights_bytes: 0,
            max_bytes: 0,
        }
    }
}

/// # Safety
/// `out` is NULL, or so many bytes can be written there.
unsafe fn preset(recipe: impl FnOnce(usize) -> Recipe, classes: usize, bytes: usize, out: *mut nunatak_recipe) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let out = unsafe { OutStruct::new(args, out, bytes, "recipe")? };
        out.put(&nunatak_recipe::of(&recipe(classes)));
        Ok(())
    })
}

/// ResNet18, for images of ImageNet's kind (some 32 to 1024 pixels wide), of 3 channels. `classes` are the
/// outputs of its head; 0 for none. `struct_bytes` is sizeof(nunatak_recipe), else `NUNATAK_BAD_CONFIG`. Any thread.
///
/// # Safety
/// `recipe` is NULL, or `struct_bytes` bytes can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_recipe_resnet18(classes: usize, struct_bytes: usize, recipe: *mut nunatak_recipe) -> nunatak_status {
    // SAFETY: the caller's promise.
    unsafe { preset(Recipe::resnet18, classes, struct_bytes, recipe) }
}

/// ResNet34, for the same images, of 3 channels. `classes` are the outputs of its head; 0 for none.
/// `struct_bytes` is sizeof(nunatak_recipe), else `NUNATAK_BAD_CONFIG`. Any thread.
///
/// # Safety
/// `recipe` is NULL, or `struct_bytes` bytes can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_recipe_resnet34(classes: usize, struct_bytes: usize, recipe: *mut nunatak_recipe) -> nunatak_status {
    // SAFETY: the caller's promise.
    unsafe { preset(Recipe::resnet34, classes, struct_bytes, recipe) }
}

/// ResNet-8 of MLPerf Tiny's shape, for images of 32 x 32, of 3 channels. `classes` are the outputs of its
/// head; 0 for none. `struct_bytes` is sizeof(nunatak_recipe), else `NUNATAK_BAD_CONFIG`. Any thread.
///
/// # Safety
/// `recipe` is NULL, or `struct_bytes` bytes can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_recipe_resnet8(classes: usize, struct_bytes: usize, recipe: *mut nunatak_recipe) -> nunatak_status {
    // SAFETY: the caller's promise.
    unsafe { preset(Recipe::resnet8, classes, struct_bytes, recipe) }
}

/// Fills a config with the defaults that stand at its members, for batches of `batch` images of
/// `height` x `width` pixels. `struct_bytes` is sizeof(nunatak_config), else `NUNATAK_BAD_CONFIG`. Whether a step can be planned is told by
/// `nunatak_trainer_required_bytes`. Any thread.
///
/// # Safety
/// `recipe` is NULL or can be read; `config` is NULL, or `struct_bytes` bytes can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_config_default(
    recipe: *const nunatak_recipe,
    batch: usize,
    height: usize,
    width: usize,
    struct_bytes: usize,
    config: *mut nunatak_config,
) -> nunatak_status {
    call(|args: &Args| {
        // SAFETY: the caller's promise.
        let (recipe, out) = unsafe { (read(args, recipe, "recipe")?, OutStruct::new(args, config, struct_bytes, "config")?) };
        out.put(&nunatak_config::of(recipe, [batch, height, width]));
        Ok(())
    })
}
