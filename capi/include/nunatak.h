/*
 * nunatak: trains and fine-tunes ResNets on CPUs, with PyTorch's numbers, in memory that you hand over.
 *
 * A trainer's life:
 *
 *   nunatak_recipe_resnet18(10, sizeof(nunatak_recipe), &recipe);                        what network
 *   nunatak_config_default(&recipe, 8, 64, 64, sizeof(nunatak_config), &config);         what step: batch, size, loss, what is frozen
 *   nunatak_trainer_required_bytes(&config, &bytes);             how much memory
 *   nunatak_trainer_init(&config, malloc(bytes), bytes, &t);     whose memory
 *   nunatak_trainer_load(t, file, file_bytes, NUNATAK_HEAD_KEEP);   or nunatak_trainer_draw_weights
 *   nunatak_trainer_set_sgd(t, &sgd);
 *   for each batch:
 *     nunatak_trainer_set_images(t, images, count);
 *     nunatak_trainer_set_labels(t, labels, 8);
 *     nunatak_trainer_step(t, &loss);
 *   nunatak_trainer_save(t, NUNATAK_SAFETENSORS, buffer, buffer_bytes, &written);
 *   nunatak_trainer_release(t);
 *
 * On a board without a heap the step comes as a program, planned elsewhere, from flash:
 *
 *   nunatak_program_from_config(&config, buffer, buffer_bytes, &written);          on a desktop
 *   nunatak_program_required_bytes(program, program_bytes, &bytes);                on the board
 *   nunatak_region region = {memory, bytes};                                       or several banks
 *   nunatak_trainer_init_program(program, program_bytes, NULL, 0, 1, NULL, &region, 1, &t);
 *
 * Every call that can fail returns a nunatak_status; nunatak_last_error() tells the numbers that
 * disagreed. Outputs are the last arguments, and are written on success alone; NULL is an error everywhere; both
 * unless said otherwise. Structs begin with their size, which every function that fills one is told. Counts are of elements and must be exact; what ends in "bytes" are bytes. Numbers are
 * floats in PyTorch's order, the last dimension closest. Texts are UTF-8 and end with a zero. Nothing of an
 * argument is kept after its call, but for the trainer's memory, programs, `weights`, and callbacks with their
 * `user`.
 *
 * Calls on one trainer come one at a time, from any thread: a second one at the same time is NUNATAK_BUSY.
 * Calls on different trainers, and calls without one, may come from any thread at any time.
 *
 * Every call can be made on a thread with 96 kB of stack. What computes (forward, backward, step, predict) takes at
 * most 40 kB of it, everything else, planning too, 32 kB. On boards, by programs, every call takes at most 8 kB.
 *
 * Memory that the system refuses is NUNATAK_OUT_OF_MEMORY, and never ends the program as long as 4 MiB that the library
 * keeps for small pieces suffice; they take no memory before.
 *
 * For C++17 there is nunatak.hpp: trainers that release themselves, and exceptions. Under valgrind use
 * --suppressions=PREFIX/share/nunatak/nunatak.supp, which names what is kept on purpose until the process ends.
 *
 * "Safety" in a comment is what no library can check: what pointers point to.
 *
 * Made by cbindgen from the library's source: do not edit.
 */

#ifndef NUNATAK_H
#define NUNATAK_H

#include <stddef.h>
#include <stdint.h>

// Major version of the header: a program built with another one must be built anew.
#define NUNATAK_VERSION_MAJOR 0

// Minor version of the header. While the major version is 0, a change of it may need changes in programs.
#define NUNATAK_VERSION_MINOR 1

// Patch version of the header.
#define NUNATAK_VERSION_PATCH 0

// Layers (groups of blocks) that a recipe can have.
#define NUNATAK_MAX_LAYERS 8

// Bytes that a trainer takes of its memory (of several regions: of the last) besides a program's numbers and a byte
// for each tensor, on any machine: so `nunatak export` knows them. `nunatak_program_required_bytes` and
// `nunatak_program_region_bytes` count them in.
#define NUNATAK_TRAINER_BYTES 1024

// Bytes of a key: which network and preprocessing features are of.
#define NUNATAK_KEY_BYTES 32

// Bytes that hold the name of any tensor, its zero included.
#define NUNATAK_NAME_BYTES 64

// The most threads that can be asked for.
#define NUNATAK_MAX_THREADS 256

// What a call returns. The numbers are fixed: one that is taken is never given another meaning.
// After anything but `NUNATAK_OK`, `nunatak_last_error` tells the numbers that disagreed, and no
// output was written. Unless the call's description says otherwise, nothing else has changed.
//
// Some come from every call that has such an argument, and are not named at each: with any pointer
// `NUNATAK_NULL_POINTER`, `NUNATAK_MISALIGNED` and `NUNATAK_OVERLAP`; with a trainer `NUNATAK_BAD_HANDLE`,
// and `NUNATAK_BUSY`; with a count `NUNATAK_WRONG_LENGTH`; with a text `NUNATAK_BAD_TEXT`; with a struct `NUNATAK_BAD_CONFIG`, where
// its `struct_bytes` can't be; and from every call `NUNATAK_PANICKED`.
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
enum nunatak_status : int32_t {
#else
enum {
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  // All went well.
  NUNATAK_OK = 0,
  // A pointer is NULL that must not be.
  NUNATAK_NULL_POINTER = 1,
  // A pointer is not aligned for what it points to.
  NUNATAK_MISALIGNED = 2,
  // The handle is none: never made, or released.
  NUNATAK_BAD_HANDLE = 3,
  // The handle is in use: by another thread, or by the call whose callback this is.
  NUNATAK_BUSY = 4,
  // The memory handed over is too small: see `nunatak_trainer_required_bytes`.
  NUNATAK_MEMORY_TOO_SMALL = 5,
  // A buffer for an output is too small.
  NUNATAK_BUFFER_TOO_SMALL = 6,
  // A count is not what its place asks for.
  NUNATAK_WRONG_LENGTH = 7,
  // A recipe or configuration that describes nothing, or another network than the trainer's.
  NUNATAK_BAD_CONFIG = 8,
  // A text that is too long or not UTF-8.
  NUNATAK_BAD_TEXT = 9,
  // No tensor has this name, or no tensor has this number.
  NUNATAK_UNKNOWN_NAME = 10,
  // Another call must come before this one.
  NUNATAK_WRONG_ORDER = 11,
  // Weights must be loaded, drawn or set first; or the program reads weights in place, and none were given.
  NUNATAK_NO_WEIGHTS = 12,
  // The configuration did not provide for this: no loss, gradients not kept, no momentum, …
  NUNATAK_NOT_PLANNED = 13,
  // The tensor has no gradient, or no momentum, now.
  NUNATAK_NO_GRADIENT = 14,
  // The loss is NaN or infinite.
  NUNATAK_LOSS_NOT_FINITE = 15,
  // A label is no class.
  NUNATAK_LABEL_OUT_OF_RANGE = 16,
  // A setting of the optimiser or the schedule makes no sense.
  NUNATAK_BAD_SETTING = 17,
  // The bytes are no file of weights, or a damaged one.
  NUNATAK_BAD_FILE = 18,
  // The file's tensors are not this network's.
  NUNATAK_WRONG_FILE = 19,
  // This build or this processor can't do that, or the program is for another machine.
  NUNATAK_UNSUPPORTED = 20,
  // The progress callback asked to stop.
  NUNATAK_STOPPED = 21,
  // The memory belongs to a trainer that was not released.
  NUNATAK_MEMORY_IN_USE = 22,
  // There are too many trainers, threads' counts or groups at once.
  NUNATAK_TOO_MANY = 23,
  // So many threads were not started (`nunatak_threads_start`), or the system gave none.
  NUNATAK_NO_THREADS = 24,
  // The library found a mistake of its own. The trainer can only be released.
  NUNATAK_PANICKED = 25,
  // A buffer that is written lies over another argument, or any buffer in the memory of a trainer that was not
  // released, or one that is written in such a trainer's program or weights.
  NUNATAK_OVERLAP = 26,
  // The bytes are no program, a damaged one, or one of another version of the library.
  NUNATAK_BAD_PROGRAM = 27,
  // A gradient, or running statistics, are NaN or infinite.
  NUNATAK_NOT_FINITE = 28,
  // The system gave no memory.
  NUNATAK_OUT_OF_MEMORY = 29,
  // A function that reaches the flash did not return 0, or the flash does not give back what was programmed.
  NUNATAK_FLASH = 30,
  // The flash has features of another network or preprocessing.
  NUNATAK_OTHER_FEATURES = 31,
  // A record in flash has lost bits.
  NUNATAK_DAMAGED = 32,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum nunatak_status nunatak_status;
#else
typedef int32_t nunatak_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// PyTorch's `train()` and `eval()`.
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
enum nunatak_mode : uint32_t {
#else
enum {
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  // Normalisations use the batch's statistics, and move their running ones.
  NUNATAK_TRAIN = 0,
  // Normalisations use their running statistics.
  NUNATAK_EVAL = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum nunatak_mode nunatak_mode;
#else
typedef uint32_t nunatak_mode;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What frozen normalisations do in train mode.
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
enum nunatak_statistics : uint32_t {
#else
enum {
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  // As PyTorch: freezing their parameters changes nothing.
  NUNATAK_STATISTICS_UPDATING = 0,
  // They use their running statistics, which stay as they are. The usual choice for fine-tuning.
  NUNATAK_STATISTICS_FIXED = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum nunatak_statistics nunatak_statistics;
#else
typedef uint32_t nunatak_statistics;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What a step makes small.
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
enum nunatak_loss : uint32_t {
#else
enum {
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  // Nothing: prediction. No gradients, no labels.
  NUNATAK_LOSS_NONE = 0,
  // `(prediction - targets).sum()`; targets are batch x classes floats.
  NUNATAK_LOSS_SUM = 1,
  // The mean of (prediction − target)² over all numbers; targets are batch x classes floats.
  NUNATAK_LOSS_MEAN_SQUARED_ERROR = 2,
  // PyTorch's cross entropy; labels are class indices.
  NUNATAK_LOSS_CROSS_ENTROPY = 3,
  // Cross entropy; targets are probabilities, batch x classes floats.
  NUNATAK_LOSS_CROSS_ENTROPY_PROBABILITIES = 4,
  // One that the caller computes from the predictions, whose gradient goes to
  // `nunatak_trainer_backward_from`. No labels.
  NUNATAK_LOSS_OUTSIDE = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum nunatak_loss nunatak_loss;
#else
typedef uint32_t nunatak_loss;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How a cross entropy is summed up.
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
enum nunatak_reduction : uint32_t {
#else
enum {
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  // The mean over the rows that count.
  NUNATAK_REDUCTION_MEAN = 0,
  // The sum.
  NUNATAK_REDUCTION_SUM = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum nunatak_reduction nunatak_reduction;
#else
typedef uint32_t nunatak_reduction;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Memory or speed.
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
enum nunatak_memory : uint32_t {
#else
enum {
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  // The fastest algorithms.
  NUNATAK_MEMORY_FAST = 0,
  // Those that need little scratch memory.
  NUNATAK_MEMORY_SMALL = 1,
  // For boards: 16 kB of scratch in a call of `gemm`.
  NUNATAK_MEMORY_TINY = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum nunatak_memory nunatak_memory;
#else
typedef uint32_t nunatak_memory;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// When parameters are updated. The numbers are the same after the walk and during it.
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
enum nunatak_update : uint32_t {
#else
enum {
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  // After the backward walk: gradients are kept, can be read, accumulated and clipped.
  NUNATAK_UPDATE_AFTER = 0,
  // During the walk, by `nunatak_trainer_step` alone: a gradient's memory is used again at once, or a
  // weight is updated as its gradient arises, which then lies nowhere. Gradients can't be read, set,
  // accumulated or clipped: `NUNATAK_NOT_PLANNED`.
  NUNATAK_UPDATE_DURING = 1,
  // After several micro-batches, whose gradients are added up in the momentum: by `nunatak_trainer_accumulate` and
  // `nunatak_trainer_update`, or `nunatak_trainer_step`. A buffer less for every trained parameter than after the walk;
  // sums are rounded otherwise. Gradients can't be read, set or clipped, nor is Nesterov's step possible:
  // `NUNATAK_NOT_PLANNED`.
  NUNATAK_UPDATE_SUMMED = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum nunatak_update nunatak_update;
#else
typedef uint32_t nunatak_update;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How a learning rate moves.
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
enum nunatak_schedule_kind : uint32_t {
#else
enum {
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  // It stays.
  NUNATAK_SCHEDULE_CONSTANT = 0,
  // Times `gamma` every `size` units: PyTorch's StepLR.
  NUNATAK_SCHEDULE_STEP = 1,
  // Times `gamma` at each milestone: PyTorch's MultiStepLR.
  NUNATAK_SCHEDULE_MULTI_STEP = 2,
  // Up over `warmup` units, then half a cosine down to `floor` at `total`.
  NUNATAK_SCHEDULE_COSINE = 3,
  // PyTorch's OneCycleLR: up from 1/`div` over the part `rise` of `total`, then down to
  // 1/(`div` · `final_div`).
  NUNATAK_SCHEDULE_ONE_CYCLE = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum nunatak_schedule_kind nunatak_schedule_kind;
#else
typedef uint32_t nunatak_schedule_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Which entries of a file are taken.
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
enum nunatak_head : uint32_t {
#else
enum {
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  // All; one that is missing is an error.
  NUNATAK_HEAD_LOAD = 0,
  // All but `fc`, which stays as it is, whatever the file has. It must be drawn, loaded or set
  // before the next forward, if it never was.
  NUNATAK_HEAD_KEEP = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum nunatak_head nunatak_head;
#else
typedef uint32_t nunatak_head;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What is saved.
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
enum nunatak_format : uint32_t {
#else
enum {
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  // `.safetensors` with exactly the entries of PyTorch's state dict.
  NUNATAK_SAFETENSORS = 0,
  // The same, and the momentum of every parameter that has one ("momentum." and its name): with
  // `nunatak_trainer_load_momentum` a run goes on as if it had never stopped.
  NUNATAK_SAFETENSORS_WITH_MOMENTUM = 1,
  // A native file: weights as they lie in the library, so that they can be used in place (`weights` in
  // `nunatak_config`), with checksums and the recipe.
  NUNATAK_NATIVE = 2,
  // What differs from the config's `weights`: the trained part, and running statistics that moved. It
  // names its base by hash; `nunatak_trainer_load` lays it over that.
  NUNATAK_NATIVE_DELTA = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum nunatak_format nunatak_format;
#else
typedef uint32_t nunatak_format;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Kinds of kernel calls.
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
enum nunatak_call : uint32_t {
#else
enum {
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  // An input is copied in.
  NUNATAK_CALL_INPUT = 0,
  // An operation's result.
  NUNATAK_CALL_FORWARD = 1,
  // The gradients of an operation's parameters.
  NUNATAK_CALL_BACKWARD_WEIGHT = 2,
  // The gradients of an operation's inputs.
  NUNATAK_CALL_BACKWARD_INPUT = 3,
  // The update of a parameter.
  NUNATAK_CALL_UPDATE = 4,
  // The gradient of an operation's weight, its update and the input's gradient, in one pass over the weight.
  NUNATAK_CALL_BACKWARD_STEP = 5,
  // The gradient of a parameter is added to its momentum.
  NUNATAK_CALL_SUM = 6,
  // An operation's result, computed again in the backward walk because it was not kept.
  NUNATAK_CALL_FORWARD_AGAIN = 7,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum nunatak_call nunatak_call;
#else
typedef uint32_t nunatak_call;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How the row of a class that is added begins: its weights and its bias.
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
enum nunatak_new_class : uint32_t {
#else
enum {
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  // With zeros: its logit is 0 until it is trained.
  NUNATAK_NEW_CLASS_ZERO = 0,
  // As the rows of `torch.nn.Linear(features, classes)` of all classes, new and old; what PyTorch draws for the rows
  // that are there is drawn and left out. The generator goes on.
  NUNATAK_NEW_CLASS_DRAWN = 1,
  // With numbers of the caller's: the weights of every new row, one after the other, then their biases.
  NUNATAK_NEW_CLASS_GIVEN = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum nunatak_new_class nunatak_new_class;
#else
typedef uint32_t nunatak_new_class;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A part of an operation, with its kernels: the forward pass of a convolution, say. A library without the standard
// library has a constant for each, `nunatak_conv2d_forward` and its like, which `nunatak export` declares where it lists
// them. Only its address is of use.
typedef struct nunatak_routine nunatak_routine;

// A network with a step that can be repeated, in the caller's memory. A pointer to it is a handle: it points
// somewhere into that memory, but there is nothing to be read. It is none any more once the trainer is released,
// also where the memory has another trainer by then: each gets another place.
typedef struct nunatak_trainer nunatak_trainer;

// A residual network of basic blocks, as torchvision's ResNet18. Fill it by `nunatak_recipe_resnet18`
// and its like, or by hand. Layer i has `blocks[i]` blocks of `widths[i]` channels; the first block of
// every layer but the first has stride 2. The stem is a convolution to `widths[0]` channels with
// normalisation and relu, followed by MaxPool2d(3, 2, 1) where `stem_pool` is 1.
typedef struct nunatak_recipe {
  // sizeof(nunatak_recipe), as for `nunatak_config`.
  size_t struct_bytes;
  // Layers in use: 1 to 8.
  size_t layers;
  // Blocks of each layer: 1 to 64.
  size_t blocks[NUNATAK_MAX_LAYERS];
  // Channels of each layer: 1 to 32768.
  size_t widths[NUNATAK_MAX_LAYERS];
  // Height and width of the stem's filter: 1 to 31.
  size_t stem_kernel;
  // Stride of the stem: 1 to 16.
  size_t stem_stride;
  // Padding of the stem: at most 31.
  size_t stem_pad;
  // Whether a pooling follows: 0 or 1.
  uint32_t stem_pool;
  // Channels of the images.
  size_t in_channels;
  // Outputs of the head `fc`; 0 for a network without one, whose predictions are its features.
  size_t classes;
  // For later versions, so that a recipe never gets longer: 0.
  size_t reserved[4];
} nunatak_recipe;

// Everything that is decided before a step. `nunatak_config_default` fills it; change what you want.
// The library keeps no pointer to it or to its texts; only to `weights`, see there.
typedef struct nunatak_config {
  // sizeof(nunatak_config), which `nunatak_config_default` is told and sets. So a program that was built with
  // an older header works with a newer library: members that it does not know have their defaults. One that was
  // built with a newer header works with an older library as long as the members that this does not know are 0.
  // A size that can't be is NUNATAK_BAD_CONFIG. The other structs that begin with their size work alike.
  size_t struct_bytes;
  // The network.
  struct nunatak_recipe recipe;
  // Images of a batch.
  size_t batch;
  // Lines of an image.
  size_t height;
  // Columns of an image.
  size_t width;
  // A `nunatak_mode`. Default: NUNATAK_TRAIN.
  uint32_t mode;
  // A `nunatak_statistics`. Default: NUNATAK_STATISTICS_UPDATING, as PyTorch.
  uint32_t statistics;
  // The parameters that are trained: "all" (the default, also for NULL), "none", "head" (`fc`), or
  // names and prefixes with commas between: "layer4,fc", "layer4.1.conv2.weight". All others are
  // frozen: they have no gradient, no momentum, and cost nothing in a step.
  const char *trainable;
  // A `nunatak_loss`. Default: NUNATAK_LOSS_CROSS_ENTROPY.
  uint32_t loss;
  // Cross entropy: how much of a target is spread over all classes, 0 to 1. Default: 0.
  float label_smoothing;
  // Cross entropy: a `nunatak_reduction`. Default: NUNATAK_REDUCTION_MEAN.
  uint32_t reduction;
  // Cross entropy: rows with this label count nothing. Default: -100.
  int64_t ignore_index;
  // A `nunatak_memory`. Default: NUNATAK_MEMORY_FAST.
  uint32_t memory;
  // A `nunatak_update`. Default: NUNATAK_UPDATE_AFTER.
  uint32_t update;
  // 1 for a momentum buffer beside every trained parameter; 0 where the optimiser's momentum is 0.
  // Default: 1.
  uint32_t momentum;
  // 1 where convolutions and linear layers use the one algorithm that a library without the feature `algorithms`
  // has: a program planned so runs on a board with such a library. 0 for the best ones. Default: 0.
  uint32_t gemm_only;
  // Threads that work on a step. Default: 1, the caller's own. More must have been started by
  // `nunatak_threads_start` before `nunatak_trainer_init`. Results are the same bits for any number.
  size_t threads;
  // The instruction set: "portable", "neon", "avx2", "avx512". Default: NULL, the best there is.
  const char *level;
  // A native file (`NUNATAK_NATIVE`, `nunatak convert`) whose frozen part is used where it lies: in flash,
  // or mapped. It must begin at a multiple of 64, and stay as it is until the trainer is released. What is
  // trained, and running statistics that move, are copied into the trainer's memory; a head of another
  // size has no weights until it is drawn, loaded or set. Only the head of the file is checked: see `nunatak_file_verify`.
  // Default: NULL, everything is in the trainer's memory.
  const void *weights;
  // Its length.
  size_t weights_bytes;
  // The most bytes that the trainer may take, as `nunatak_trainer_required_bytes` tells. Where it is less than the fastest
  // plan, values of the forward walk are computed again in the backward walk instead of being kept: more time, the same
  // bits. Default: 0, as many as it takes.
  size_t max_bytes;
} nunatak_config;

// A piece of memory that a trainer is made in. An array of them is a board's banks. Two members, for good: it never
// grows.
typedef struct nunatak_region {
  // Where it begins.
  void *memory;
  // Its bytes.
  size_t bytes;
} nunatak_region;

// PyTorch's generator on the CPU. A plain value: copy it, keep it where you like. What is in it is
// the library's, of one version.
typedef struct nunatak_random {
  // sizeof(nunatak_random), which `nunatak_random_seed` sets.
  size_t struct_bytes;
  // The library's.
  uint64_t state[320];
} nunatak_random;

// Reads `bytes` bytes of flash from `at` on. 0, or a number of the caller's that says why not.
typedef int (*nunatak_flash_read_callback)(void *user, size_t at, void *out, size_t bytes);

// Erases the page of flash that begins at `at`: its bytes are 0xff then. 0, or a number of the caller's that says why not.
typedef int (*nunatak_flash_erase_callback)(void *user, size_t at);

// Programs `count` bytes of erased flash from `at` on, both multiples of the unit. 0, or a number of the caller's that
// says why not.
typedef int (*nunatak_flash_program_callback)(void *user, size_t at, const void *bytes, size_t count);

// Raw flash: sizes, and functions that reach it. They may not call the library for the features that they serve:
// `NUNATAK_BUSY`. They must return; left by longjmp, the features must be opened again.
typedef struct nunatak_flash {
  // sizeof(nunatak_flash), as for `nunatak_config`.
  size_t struct_bytes;
  // Bytes in all, a multiple of the page: see `nunatak_features_flash_bytes`.
  size_t size;
  // Bytes that are erased at once.
  size_t page;
  // Bytes that are programmed at once, 1 to 64, a divisor of the page; each only once between two erasures.
  size_t unit;
  // Reads.
  nunatak_flash_read_callback read;
  // Erases.
  nunatak_flash_erase_callback erase;
  // Programs.
  nunatak_flash_program_callback program;
  // Handed to every call; it may be NULL.
  void *user;
} nunatak_flash;

// A ring of features in flash. It belongs to the caller, who fills it with zeros before it is first opened, and keeps it where
// it was opened; what is in it is the library's. The records are in the flash alone: nothing is lost where it is given up, and nothing need be closed.
typedef struct nunatak_features {
  // sizeof(nunatak_features), which `nunatak_features_open` sets.
  size_t struct_bytes;
  // The library's.
  uint64_t state[48];
} nunatak_features;

// Settings of PyTorch's SGD.
typedef struct nunatak_sgd {
  // sizeof(nunatak_sgd), as for `nunatak_config`.
  size_t struct_bytes;
  // Learning rate, not negative.
  float lr;
  // Momentum, not negative; 0 for none.
  float momentum;
  // How much less of a gradient enters the momentum.
  float dampening;
  // Weight decay, not negative.
  float weight_decay;
  // Nesterov's momentum: 0 or 1. Needs a momentum and no dampening.
  uint32_t nesterov;
  // Go up instead of down: 0 or 1.
  uint32_t maximize;
} nunatak_sgd;

// A schedule; `nunatak_schedule_default` fills it. A unit is what the caller counts: steps, or epochs. Members that
// a kind does not name are not read.
typedef struct nunatak_schedule {
  // sizeof(nunatak_schedule), as for `nunatak_config`.
  size_t struct_bytes;
  // A `nunatak_schedule_kind`.
  uint32_t kind;
  // Step: units between changes; 0 for never.
  uint64_t size;
  // Step, multi-step: the factor of each change.
  float gamma;
  // Multi-step: the units at which it changes, in any order.
  const uint64_t *milestones;
  // Multi-step: how many there are.
  size_t milestone_count;
  // Cosine: units of the warm-up.
  uint64_t warmup;
  // Cosine, one-cycle: units in all.
  uint64_t total;
  // Cosine: the factor at the end.
  float floor;
  // One-cycle: the rising part, 0.3 in PyTorch.
  float rise;
  // One-cycle: 25 in PyTorch.
  float div;
  // One-cycle: 10000 in PyTorch.
  float final_div;
} nunatak_schedule;

// A tensor's shape.
typedef struct nunatak_shape {
  // sizeof(nunatak_shape), as for `nunatak_config`.
  size_t struct_bytes;
  // Number of dimensions: 0 to 4.
  size_t rank;
  // The sizes; those past `rank` are 1, so that their product is the number of elements.
  size_t sizes[4];
} nunatak_shape;

// Told after each of the `total` kernel calls of a forward, backward, update or step that `done` are
// done, by the thread that called or one that it waits for. Anything but 0 asks to stop. It may call the library,
// but not for this trainer, which is busy.
//
// It must return. Left by longjmp, in a trainer of one thread, the trainer stays busy for good: end it by
// `nunatak_trainer_forget`; with more threads the program is lost. A C++ exception that leaves it ends the
// program; `nunatak.hpp` carries them past the library.
typedef int (*nunatak_progress_callback)(void *user, size_t done, size_t total);

// A clock: any unit, may wrap around.
typedef uint64_t (*nunatak_clock_callback)(void *user);

// Told how many ticks a kernel call took: what it was (a `nunatak_call`) and its number, for
// `nunatak_trainer_call_name`. As for progress, but it can't stop.
typedef void (*nunatak_tick_callback)(void *user, uint32_t kind, size_t number, uint64_t ticks);

// Told what a kernel call wrote: what it was (a `nunatak_call`) and its number, for `nunatak_trainer_call_name`; a
// hash of the bits; the sum of the numbers and of their absolute values, for machines that round otherwise. The
// numbers are the result of a forward call and its running statistics, the gradients of a backward call, the parameter
// and momentum of an update, as they lie in memory. As for progress, but it can't stop.
typedef void (*nunatak_digest_callback)(void *user,
                                        uint32_t kind,
                                        size_t number,
                                        uint32_t hash,
                                        float sum,
                                        float magnitude);

// Gets a text that says what and where (without the feature `messages` only in which source file); it
// may reset the board, or blink. If it returns, the processor halts in an endless loop. It must not call
// the library.
typedef void (*nunatak_panic_callback)(const char *text);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The library's version: major · 65536 + minor · 256 + patch. Compare it with the header's
// `NUNATAK_VERSION_…` where the library is shared. Any thread.
uint32_t nunatak_version(void);

// The library's version as a text: "0.1.0". The text is constant. Any thread.
const char *nunatak_version_text(void);

// The two numbers of the last call that failed, where two disagreed: `expected` gets what was due (elements,
// bytes that are needed, classes that there are), `got` what came. Returns 1, or 0 where that error has no such
// numbers, or an argument is NULL: then nothing is written. It leaves the last error as it is. Each thread has
// its own, as for `nunatak_last_error`.
//
// # Safety
// Both are NULL or can be written.
uint32_t nunatak_last_error_numbers(int64_t *expected,
                                    int64_t *got);

// What went wrong in the last call that failed, in English, with the numbers that disagreed; empty
// before the first. Never NULL. The text stays as it is until another call fails.
//
// Each thread has a text of its own. In a library without the standard library there is one for the
// whole program: read it before another thread calls. In one without the feature `messages` (for boards)
// it is the status's name alone.
const char *nunatak_last_error(void);

// The name of a status, for messages; "unknown" for a number that is none. The text is constant.
// Any thread.
const char *nunatak_status_name(int32_t status);

// ResNet18, for images of ImageNet's kind (some 32 to 1024 pixels wide), of 3 channels. `classes` are the
// outputs of its head; 0 for none. `struct_bytes` is sizeof(nunatak_recipe), else `NUNATAK_BAD_CONFIG`. Any thread.
//
// # Safety
// `recipe` is NULL, or `struct_bytes` bytes can be written there.
nunatak_status nunatak_recipe_resnet18(size_t classes,
                                       size_t struct_bytes,
                                       struct nunatak_recipe *recipe);

// ResNet34, for the same images, of 3 channels. `classes` are the outputs of its head; 0 for none.
// `struct_bytes` is sizeof(nunatak_recipe), else `NUNATAK_BAD_CONFIG`. Any thread.
//
// # Safety
// `recipe` is NULL, or `struct_bytes` bytes can be written there.
nunatak_status nunatak_recipe_resnet34(size_t classes, size_t struct_bytes, struct nunatak_recipe *recipe);

// ResNet-8 of MLPerf Tiny's shape, for images of 32 x 32, of 3 channels. `classes` are the outputs of its
// head; 0 for none. `struct_bytes` is sizeof(nunatak_recipe), else `NUNATAK_BAD_CONFIG`. Any thread.
//
// # Safety
// `recipe` is NULL, or `struct_bytes` bytes can be written there.
nunatak_status nunatak_recipe_resnet8(size_t classes, size_t struct_bytes, struct nunatak_recipe *recipe);

// Fills a config with the defaults that stand at its members, for batches of `batch` images of
// `height` x `width` pixels. `struct_bytes` is sizeof(nunatak_config), else `NUNATAK_BAD_CONFIG`. Whether a step can be planned is told by
// `nunatak_trainer_required_bytes`. Any thread.
//
// # Safety
// `recipe` is NULL or can be read; `config` is NULL, or `struct_bytes` bytes can be written there.
nunatak_status nunatak_config_default(const struct nunatak_recipe *recipe,
                                      size_t batch,
                                      size_t height,
                                      size_t width,
                                      size_t struct_bytes,
                                      struct nunatak_config *config);

// How many bytes `nunatak_trainer_init` needs for this config: one byte less is an error. A trainer
// that will be switched between configs needs the most that one of them does.
//
// `NUNATAK_BAD_CONFIG` with the number that can't be, also where the sizes do not fit the address space or
// a normalisation would train on one value per channel; `NUNATAK_UNKNOWN_NAME` for `trainable`;
// `NUNATAK_UNSUPPORTED` for a `level` that this processor has not got, and in a library without the standard
// library, which can't plan: see `nunatak_trainer_init_program`. With `weights` also `NUNATAK_BAD_FILE`,
// `NUNATAK_BAD_CONFIG` (another network's, only `classes` may differ), `NUNATAK_WRONG_FILE` (a tensor is
// missing), `NUNATAK_NOT_PLANNED` (a delta). `NUNATAK_MEMORY_TOO_SMALL` where no plan keeps `max_bytes`: its numbers
// are the least that was found, and what was asked for.
//
// The config is planned on the heap, which is free again afterwards. Any thread.
//
// # Safety
// `config` is NULL or can be read, and its texts are NULL or end with a zero; `bytes` is NULL or can
// be written.
nunatak_status nunatak_trainer_required_bytes(const struct nunatak_config *config,
                                              size_t *bytes);

// Makes a trainer in `bytes` bytes of memory, which may begin anywhere and are the trainer's until
// `nunatak_trainer_release`: until then do not read, write, move or free them. What was in them does not
// matter. The config is planned on the heap; the program that comes of it (some 10 to 100 kB) stays there until
// the release. Steps allocate nothing. `nunatak_trainer_init_program` does without a heap.
//
// All weights are zero, unless the config has `weights`. Before the first forward load them
// (`nunatak_trainer_load`), draw them (`nunatak_trainer_draw_weights`) or set them
// (`nunatak_trainer_set_tensor`).
//
// The config's threads, if more than 1, must have been started (`nunatak_threads_start`).
//
// `NUNATAK_MEMORY_TOO_SMALL`, `NUNATAK_MEMORY_IN_USE`, `NUNATAK_NO_THREADS`, `NUNATAK_TOO_MANY` (at most 256
// trainers live at once, 16 without the standard library), and what `nunatak_trainer_required_bytes` returns.
// With `weights` also `NUNATAK_MISALIGNED`. After an error the memory is yours; it may have been written to.
//
// Any thread.
//
// # Safety
// `config` as for `nunatak_trainer_required_bytes`; `memory` is NULL, or `bytes` bytes of it can be
// read and written until the release; `trainer` is NULL or can be written.
nunatak_status nunatak_trainer_init(const struct nunatak_config *config,
                                    void *memory,
                                    size_t bytes,
                                    struct nunatak_trainer **trainer);

// Goes on with another config in the same memory: more or less frozen, a head of another size, another
// batch, evaluation. Weights, statistics and the momentum of what stays trainable survive. Gradients,
// images, labels and what was computed do not. A head of another size has no weights until it is drawn, loaded or
// set: until then a forward is NUNATAK_NO_WEIGHTS; `nunatak_trainer_add_class` keeps the classes that it has. The
// optimiser's groups stay with their parameters.
//
// `NUNATAK_MEMORY_TOO_SMALL`, `NUNATAK_BAD_CONFIG` (another network: only `classes` may differ), and what
// `nunatak_trainer_required_bytes` returns: then nothing has changed. `threads` must be as many as at the
// start; the level stays. `weights` are those of the start, or NULL: then what was read in place is copied
// into the trainer's memory. The heap is used as by `nunatak_trainer_init`.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `config` as for `nunatak_trainer_required_bytes`.
nunatak_status nunatak_trainer_switch(struct nunatak_trainer *trainer,
                                      const struct nunatak_config *config);

// Ends a trainer; its memory is the caller's again. Releasing it twice is `NUNATAK_BAD_HANDLE`. A trainer
// whose call has returned `NUNATAK_PANICKED` can be released too.
//
// Any thread, one call at a time on a trainer.
nunatak_status nunatak_trainer_release(struct nunatak_trainer *trainer);

// Forgets the trainer whose memory has this address, where it can't be released any more: the memory was freed,
// or belongs to somebody else by now; or a call on it never returned, since a callback left it by longjmp.
// Nothing is read or written there, so `memory` may point to what is gone; the first address that was handed over
// will do. Then the memory can be used for another trainer, and the handle is none any more. What the trainer had
// on the heap (a planned program) and its hold on threads are lost.
//
// `NUNATAK_BAD_HANDLE` where no trainer's memory has this address. No call on that trainer may be running. Any
// thread.
nunatak_status nunatak_trainer_forget(const void *memory);

// Computes predictions and, if there is one, the loss; those of before are overwritten. In train mode
// normalisations move their running statistics, but not where the loss (or, for NUNATAK_LOSS_OUTSIDE, a
// prediction) is not finite: it can be read then, and no backward follows it. Images and labels must have been set
// since the last forward: their memory is used again.
//
// `NUNATAK_WRONG_ORDER` where they were not, `NUNATAK_NO_WEIGHTS`, `NUNATAK_LABEL_OUT_OF_RANGE`,
// `NUNATAK_NOT_FINITE` (running statistics would become NaN or infinite), `NUNATAK_STOPPED`: then nothing has
// changed, but after the last three images and labels must be set again.
//
// Any thread, one call at a time on a trainer.
nunatak_status nunatak_trainer_forward(struct nunatak_trainer *trainer);

// `loss.backward()`: writes the gradient of every trained parameter, or adds to what is there since
// the last `nunatak_trainer_zero_grad`, step or switch. Weights do not change.
//
// `NUNATAK_WRONG_ORDER` without a forward before it (each forward serves one backward),
// `NUNATAK_NOT_PLANNED` where nothing is trained, where the loss is outside, or with
// NUNATAK_UPDATE_DURING, `NUNATAK_LOSS_NOT_FINITE` after a forward whose loss was not, `NUNATAK_STOPPED` (all
// gradients are then forgotten).
//
// Any thread, one call at a time on a trainer.
nunatak_status nunatak_trainer_backward(struct nunatak_trainer *trainer);

// `prediction.backward(gradient)`: the same from the predictions back, with their gradient given, batch
// x classes floats. For a config whose loss is NUNATAK_LOSS_OUTSIDE; `NUNATAK_NOT_PLANNED` for others.
// Other errors as for `nunatak_trainer_backward`.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `gradient` is NULL, or `count` floats can be read there.
nunatak_status nunatak_trainer_backward_from(struct nunatak_trainer *trainer,
                                             const float *gradient,
                                             size_t count);

// `optimizer.step()`: updates every parameter that has a gradient, and its momentum, by the settings of
// `nunatak_trainer_set_sgd`. Gradients stay.
//
// `NUNATAK_NO_GRADIENT` without gradients; `NUNATAK_WRONG_ORDER` without settings; `NUNATAK_NOT_PLANNED` where
// settings have a momentum and the config none, or with NUNATAK_UPDATE_DURING; `NUNATAK_BAD_SETTING` where a
// learning rate times the factor of `nunatak_trainer_set_rate` is not finite; `NUNATAK_NOT_FINITE` where a gradient
// is not, and the text names it. Then nothing has changed.
//
// Any thread, one call at a time on a trainer.
nunatak_status nunatak_trainer_update(struct nunatak_trainer *trainer);

// One of several micro-batches that make a step: forward, backward with the gradient `share` of the loss, and what
// comes of it is added to that of the micro-batches before. Then `nunatak_trainer_update` updates, and the next call of
// this function begins anew. `loss` gets the loss of this micro-batch. With n micro-batches of equal size the share is
// 1.0f / n: what PyTorch's loop `(loss / n).backward()` does. So a board need not hold a whole batch. Batch
// normalisation sees micro-batches, as there.
//
// `NUNATAK_NOT_PLANNED` with NUNATAK_UPDATE_DURING; `NUNATAK_BAD_SETTING` for a share that is not finite; other errors
// as for `nunatak_trainer_step`, but for a gradient that is not finite: with NUNATAK_UPDATE_AFTER
// `nunatak_trainer_update` finds it. After `NUNATAK_NOT_FINITE` call `nunatak_trainer_zero_grad` and begin the step anew;
// with NUNATAK_UPDATE_SUMMED this also forgets the momenta that it had reached.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `loss` is NULL or can be written.
nunatak_status nunatak_trainer_accumulate(struct nunatak_trainer *trainer,
                                          float share,
                                          float *loss);

// A whole step: forward, backward, update, gradients forgotten; `loss` gets the loss before the update.
// The same numbers with NUNATAK_UPDATE_AFTER and NUNATAK_UPDATE_DURING.
//
// `NUNATAK_WRONG_ORDER` without settings, images or labels; `NUNATAK_NO_WEIGHTS`; `NUNATAK_NOT_PLANNED` where
// the config has no loss of the library's own, trains nothing, or has no momentum and the settings have;
// `NUNATAK_BAD_SETTING` where a learning rate times the factor of `nunatak_trainer_set_rate` is not finite: then
// nothing has changed, and images and labels are still set. `NUNATAK_LABEL_OUT_OF_RANGE`,
// `NUNATAK_LOSS_NOT_FINITE` (ask `nunatak_trainer_loss` which it is): nothing has changed, but images and labels
// must be set again. `NUNATAK_STOPPED` likewise, but for statistics where the backward walk was stopped; with
// NUNATAK_UPDATE_DURING a progress callback can stop the forward walk alone.
//
// `NUNATAK_NOT_FINITE` where a gradient, or running statistics, are NaN or infinite; the text names them. Nothing
// has changed, but gradients are forgotten, and with NUNATAK_UPDATE_SUMMED the momenta that they had reached. With
// NUNATAK_UPDATE_DURING parameters may have been updated before it
// was found: the text names them, and `nunatak_trainer_was_updated` tells of each. Load the last good state then.
// (There, numbers above 4e9 in a layer's input or in the gradient of its output are refused too where weight and
// gradient are gone through once: the gradient lies nowhere, and might not be finite.)
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `loss` is NULL or can be written.
nunatak_status nunatak_trainer_step(struct nunatak_trainer *trainer,
                                    float *loss);

// Whether a parameter was updated by the last `nunatak_trainer_step` of a config with NUNATAK_UPDATE_DURING, also
// where it ended with an error: `updated` gets 1 or 0. `NUNATAK_UNKNOWN_NAME` for what is no parameter;
// `NUNATAK_NOT_PLANNED` with NUNATAK_UPDATE_AFTER, where a step updates all or nothing.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `name` is NULL or ends with a zero; `updated` is NULL or can be written.
nunatak_status nunatak_trainer_was_updated(const struct nunatak_trainer *trainer,
                                           const char *name,
                                           uint32_t *updated);

// `optimizer.zero_grad()`: forgets all gradients. Until the next backward an update has none. No error but
// those of every call.
//
// Any thread, one call at a time on a trainer.
nunatak_status nunatak_trainer_zero_grad(struct nunatak_trainer *trainer);

// PyTorch's `clip_grad_norm_`: scales all gradients so that their common norm is at most `max_norm`;
// `norm` gets what it was.
//
// `NUNATAK_NO_GRADIENT` without gradients, `NUNATAK_NOT_PLANNED` with NUNATAK_UPDATE_DURING,
// `NUNATAK_BAD_SETTING` for a `max_norm` that is negative or NaN, `NUNATAK_NOT_FINITE` where a gradient is not
// finite; then nothing has changed.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `norm` is NULL or can be written.
nunatak_status nunatak_trainer_clip_grad_norm(struct nunatak_trainer *trainer,
                                              float max_norm,
                                              float *norm);

// The loss of the last forward, whatever it is, one float. To be read before the next images, labels or
// targets are set: without a forward it is `NUNATAK_WRONG_ORDER`. `NUNATAK_NOT_PLANNED` where the config has
// no loss of the library's own.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `loss` is NULL or can be written.
nunatak_status nunatak_trainer_loss(const struct nunatak_trainer *trainer, float *loss);

// The predictions of the last forward: batch x classes floats, image by image (logits; without a head the
// features). To be read before the next images, labels or targets are set: without a forward it is
// `NUNATAK_WRONG_ORDER`.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `out` is NULL, or `count` floats can be written there.
nunatak_status nunatak_trainer_predictions(const struct nunatak_trainer *trainer, float *out, size_t count);

// The pooled features (embeddings) of the last forward, what `fc` reads: batch x `widths[layers - 1]`
// floats, image by image. Order and errors as for `nunatak_trainer_predictions`.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `out` is NULL, or `count` floats can be written there.
nunatak_status nunatak_trainer_features(const struct nunatak_trainer *trainer, float *out, size_t count);

// Forward and predictions in one call: batch x classes floats. For a config without a loss, or with one
// whose labels are set too. Errors of `nunatak_trainer_forward`; a wrong `count` is found before it.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `out` is NULL, or `count` floats can be written there.
nunatak_status nunatak_trainer_predict(struct nunatak_trainer *trainer, float *out, size_t count);

// Plans a config and writes the program: a step as bytes, which `nunatak_trainer_init_program` runs, here or on
// a board that has no heap, from flash if need be. It depends on the library's version and on nothing else: the
// same config gives the same bytes on any machine. A program runs with any instruction set (the config's `level`
// is not in it) and with at most the config's `threads`. With `weights` it reads what is frozen where that file
// lies, names the file by its hash, and runs with this file alone.
//
// `written` gets the bytes that the program takes. Where `bytes` are fewer, the status is
// `NUNATAK_BUFFER_TOO_SMALL`, and `written` is set all the same: ask with 0 bytes, then again with as many.
// Other errors as for `nunatak_trainer_required_bytes`, among them `NUNATAK_UNSUPPORTED` in a library without the
// standard library. Planned on the heap, which is free again afterwards. Any thread.
//
// # Safety
// `config` as for `nunatak_trainer_required_bytes`; `program` is NULL, or `bytes` bytes can be written there;
// `written` is NULL or can be written.
nunatak_status nunatak_program_from_config(const struct nunatak_config *config,
                                           void *program,
                                           size_t bytes,
                                           size_t *written);

// Proves that bytes are a whole program that this library can run: checksum, structure, every size and place of
// every call. The same is proven by every call that takes a program. The bytes may begin anywhere.
//
// `NUNATAK_BAD_PROGRAM` says what is wrong and where; `NUNATAK_UNSUPPORTED` for settings that this build has not
// got. Allocates nothing. Any thread.
//
// # Safety
// `program` is NULL, or `bytes` bytes can be read there.
nunatak_status nunatak_program_check(const void *program,
                                     size_t bytes);

// How many bytes of memory `nunatak_trainer_init_program` needs for a program of one region: one byte less is an
// error. A trainer that will be switched between programs needs the most that one of them does. The program itself is
// not counted: it stays where it is.
//
// Errors of `nunatak_program_check`; `NUNATAK_BAD_CONFIG` where the sizes do not fit the address space, or the program
// has several regions: ask `nunatak_program_region_bytes` then. Allocates nothing. Any thread.
//
// # Safety
// `program` is NULL, or `program_bytes` bytes can be read there; `bytes` is NULL or can be written.
nunatak_status nunatak_program_required_bytes(const void *program,
                                              size_t program_bytes,
                                              size_t *bytes);

// How many regions of memory a program was planned for: 1, or the banks of a board
// (`nunatak export --region`), the fastest first. Errors of `nunatak_program_check`. Allocates nothing. Any thread.
//
// # Safety
// `program` is NULL, or `program_bytes` bytes can be read there; `count` is NULL or can be written.
nunatak_status nunatak_program_region_count(const void *program,
                                            size_t program_bytes,
                                            size_t *count);

// How many bytes `nunatak_trainer_init_program` needs in a region of a program, wherever they begin: one byte less
// is an error. 0 where the program uses nothing of it. Regions count from 0, the fastest.
//
// Errors of `nunatak_program_required_bytes`; `NUNATAK_BAD_CONFIG` where there is no such region. Allocates nothing.
// Any thread.
//
// # Safety
// `program` is NULL, or `program_bytes` bytes can be read there; `bytes` is NULL or can be written.
nunatak_status nunatak_program_region_bytes(const void *program,
                                            size_t program_bytes,
                                            size_t region,
                                            size_t *bytes);

// How many bytes `nunatak_program_text` needs, the zero at the end included. Errors of `nunatak_program_check`.
// Any thread.
//
// # Safety
// `program` is NULL, or `program_bytes` bytes can be read there; `bytes` is NULL or can be written.
nunatak_status nunatak_program_text_bytes(const void *program,
                                          size_t program_bytes,
                                          size_t *bytes);

// What a step of this program computes, call by call, and where its bytes go: the text that `nunatak_plan_text`
// writes of a config. `NUNATAK_BUFFER_TOO_SMALL` with the bytes that it takes; other errors of
// `nunatak_program_check`. Any thread.
//
// # Safety
// `program` is NULL, or `program_bytes` bytes can be read there; `text` is NULL, or `bytes` bytes can be written
// there.
nunatak_status nunatak_program_text(const void *program,
                                    size_t program_bytes,
                                    char *text,
                                    size_t bytes);

// Makes a trainer that runs a program (of `nunatak_program_from_config`, of `nunatak plan --out`, or of Rust) in
// memory, as `nunatak_trainer_init` does with a config: what is said there of memory and weights holds here. Nothing
// is allocated, also not later: this is the way for boards.
//
// The memory is `count` regions, one for each of the program's (see `nunatak_program_region_count`: mostly 1), in its
// order (the fastest first), apart from each other. What `bytes` must be is told by `nunatak_program_region_bytes`; a
// region of 0 bytes may be NULL where there are several. The bits do not depend on regions.
//
// The program is not copied. Its bytes may begin anywhere, in flash too, and must stay as they are until the
// release, or until the trainer is switched to another program. The trainer's functions find its values by their
// names: "data" (the images), "labels" (labels or targets), "features", "prediction", "loss"; one that the
// program lacks is `NUNATAK_NOT_PLANNED` where it is asked for.
//
// `weights` is a native file as in `nunatak_config`, `weights_bytes` its length; NULL for none. A program that
// was planned with weights needs the same file. `threads` is 1, or a number that was started, at most as many as
// the program was planned for. `level` is an instruction set as in `nunatak_config`; NULL for the best there is.
//
// Errors of `nunatak_program_required_bytes`; `NUNATAK_MEMORY_TOO_SMALL`, `NUNATAK_MEMORY_IN_USE`,
// `NUNATAK_TOO_MANY`; `NUNATAK_WRONG_LENGTH` for another count than the program's;
// `NUNATAK_BAD_CONFIG` for `threads`, `NUNATAK_NO_THREADS`; `NUNATAK_UNSUPPORTED` for a level
// that this processor has not got, or that the program excludes; `NUNATAK_NO_WEIGHTS` where the program reads
// weights in place and there are none; with `weights` `NUNATAK_BAD_FILE`, `NUNATAK_MISALIGNED`,
// `NUNATAK_WRONG_FILE` (another file than the program's, or a tensor is missing), `NUNATAK_NOT_PLANNED` (a
// delta). After an error the memory is yours; it may have been written to.
//
// Any thread.
//
// # Safety
// `program` is NULL, or `program_bytes` bytes can be read there and stay as they are until the release; `weights`
// is NULL, or the same holds for `weights_bytes` bytes; `level` is NULL or ends with a zero; `regions` is NULL, or
// `count` of them can be read, and the bytes of each read and written until the release; `trainer` is NULL or can be
// written.
nunatak_status nunatak_trainer_init_program(const void *program,
                                            size_t program_bytes,
                                            const void *weights,
                                            size_t weights_bytes,
                                            size_t threads,
                                            const char *level,
                                            const struct nunatak_region *regions,
                                            size_t count,
                                            struct nunatak_trainer **trainer);

// Goes on with another program in the same memory, as `nunatak_trainer_switch` does with a config: what is said
// there of what survives holds here. The program before is needed no longer. Nothing is allocated.
//
// Errors of `nunatak_program_check`; `NUNATAK_MEMORY_TOO_SMALL`; `NUNATAK_BAD_CONFIG` for another network (only
// the head may differ) and for a program of fewer threads than the trainer has; `NUNATAK_UNSUPPORTED` where the
// program excludes the trainer's level. Of a program that reads weights in place also `NUNATAK_NO_WEIGHTS`,
// `NUNATAK_WRONG_FILE` (not the file of the start), `NUNATAK_NOT_PLANNED` (it would read in place what lies in
// the trainer's memory, and may have been trained there). Then nothing has changed.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `program` is NULL, or `program_bytes` bytes can be read there and stay as they are until the release or the
// next switch.
nunatak_status nunatak_trainer_switch_program(struct nunatak_trainer *trainer,
                                              const void *program,
                                              size_t program_bytes);

// How many programs a bundle has: several steps of one network that `nunatak export` planned together, with one
// place for each weight, statistic and momentum. `nunatak_trainer_switch_program` from one to another moves nothing.
//
// `NUNATAK_BAD_PROGRAM` says what is wrong with the bytes, which may begin anywhere. Allocates nothing. Any thread.
//
// # Safety
// `bundle` is NULL, or `bundle_bytes` bytes can be read there; `count` is NULL or can be written.
nunatak_status nunatak_bundle_count(const void *bundle,
                                    size_t bundle_bytes,
                                    size_t *count);

// A program of a bundle, by its name ("predict", "train", …): where it lies, and its bytes, for
// `nunatak_trainer_init_program` and `nunatak_trainer_switch_program`. It is a part of the bundle, which must stay as
// long as it is in use.
//
// `NUNATAK_BAD_PROGRAM`; `NUNATAK_UNKNOWN_NAME` where the bundle has no program of this name. Allocates nothing. Any
// thread.
//
// # Safety
// `bundle` is NULL, or `bundle_bytes` bytes can be read there; `name` is NULL or ends with a zero; `program` and
// `program_bytes` are NULL or can be written.
nunatak_status nunatak_bundle_program(const void *bundle,
                                      size_t bundle_bytes,
                                      const char *name,
                                      const void **program,
                                      size_t *program_bytes);

// Has every trainer that is made from now on compute with these routines alone: addresses, the last one NULL, which
// must stay as they are for good. `nunatak export` writes the table that its programs need. In a program that is
// linked with `--gc-sections` (or its like) and never calls `nunatak_use_all_routines`, all other kernels take no
// flash.
//
// A program that calls what the table does not list is `NUNATAK_BAD_PROGRAM`. In a library without the standard
// library this call, or `nunatak_use_all_routines`, must come before every call that takes a program:
// `NUNATAK_WRONG_ORDER`. With the standard library every routine is in use at first.
//
// `NUNATAK_BAD_SETTING` for a table of more than 256 routines. Any thread; trainers that were made before keep
// theirs.
//
// # Safety
// `routines` is NULL, or the address of addresses of the library's routines, which end with NULL.
nunatak_status nunatak_use_routines(const struct nunatak_routine *const *routines);

// Has every trainer that is made from now on compute with every routine of the library: for programs that are not
// known when the firmware is linked. See `nunatak_use_routines`. No error but those of every call. Any thread.
nunatak_status nunatak_use_all_routines(void);

// `torch.manual_seed(seed)`: only the low 32 bits count; what was in the generator does not matter.
// `struct_bytes` is sizeof(nunatak_random); fewer than this version's are `NUNATAK_BAD_CONFIG`. Any thread; each
// generator is used by one thread at a time.
//
// # Safety
// `random` is NULL, or `struct_bytes` bytes can be written there.
nunatak_status nunatak_random_seed(struct nunatak_random *random,
                                   size_t struct_bytes,
                                   uint64_t seed);

// `torch.empty(count).uniform_(low, high)`: `count` numbers from `low` to below `high`; with 0 and 1 it is
// `torch.rand(count)`. The generator goes on.
//
// `NUNATAK_WRONG_ORDER` for a generator that was not seeded, `NUNATAK_BAD_SETTING` for a range that is none.
// Any thread; each generator is used by one thread at a time.
//
// # Safety
// `random` is NULL, or was written by `nunatak_random_seed`; `out` is NULL, or `count` floats can be
// written there.
nunatak_status nunatak_random_uniform(struct nunatak_random *random,
                                      float low,
                                      float high,
                                      float *out,
                                      size_t count);

// `torch.randperm(count)`: the numbers from 0 to `count` - 1 in random order, to shuffle samples. The
// generator goes on.
//
// `NUNATAK_WRONG_ORDER` for a generator that was not seeded. Any thread; each generator is used by one
// thread at a time.
//
// # Safety
// `random` is NULL, or was written by `nunatak_random_seed`; `out` is NULL, or `count` uint32_t can be
// written there.
nunatak_status nunatak_random_permutation(struct nunatak_random *random, uint32_t *out, size_t count);

// Draws every weight and sets every statistic as `torchvision.models.resnet18()` does, from a generator
// that goes on afterwards, as PyTorch's global one. What is read in place stays as it is, and the others get
// the numbers that they would get without it. Momenta and gradients are forgotten.
//
// `NUNATAK_WRONG_ORDER` for a generator that was not seeded.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `random` is NULL, or was written by `nunatak_random_seed`.
nunatak_status nunatak_trainer_draw_weights(struct nunatak_trainer *trainer, struct nunatak_random *random);

// Draws `fc` alone, as `torch.nn.Linear(features, classes)` does: a new head. Its momentum is forgotten. A
// head that is read in place stays as it is.
//
// `NUNATAK_WRONG_ORDER` for a generator that was not seeded, `NUNATAK_NOT_PLANNED` for a network without a
// head.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `random` is NULL, or was written by `nunatak_random_seed`.
nunatak_status nunatak_trainer_draw_head(struct nunatak_trainer *trainer, struct nunatak_random *random);

// Goes on with a config of the same network and more classes, in the same memory, as `nunatak_trainer_switch` does: but
// the rows of the classes that are there keep their bits, and those of their momentum, so that an image has the same
// logits as before. The new classes have the numbers behind the old ones, and a momentum of zero where the head has one.
//
// `begins` is a `nunatak_new_class`. `random` is looked at with NUNATAK_NEW_CLASS_DRAWN alone, `row` and `count` with
// NUNATAK_NEW_CLASS_GIVEN alone: for one class more, one float for each feature and one for the bias.
//
// `NUNATAK_BAD_CONFIG` where the config has no more classes than the trainer; `NUNATAK_NO_WEIGHTS` where the head has none
// yet; `NUNATAK_BAD_SETTING` for `begins`; `NUNATAK_WRONG_ORDER` for a generator that was not seeded; `NUNATAK_NOT_PLANNED`
// where a step was begun whose gradients lie in the momentum (end it, or call `nunatak_trainer_zero_grad`); and what
// `nunatak_trainer_switch` returns. Then nothing has changed.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `config` as for `nunatak_trainer_required_bytes`; `random` is NULL, or was written by `nunatak_random_seed`; `row` is
// NULL, or `count` floats can be read there.
nunatak_status nunatak_trainer_add_class(struct nunatak_trainer *trainer,
                                         const struct nunatak_config *config,
                                         uint32_t begins,
                                         struct nunatak_random *random,
                                         const float *row,
                                         size_t count);

// The same with a program of more classes, which runs where it lies: nothing is allocated.
//
// Errors of `nunatak_trainer_add_class` and of `nunatak_trainer_switch_program`. Then nothing has changed.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `program` as for `nunatak_trainer_switch_program`; the others as for `nunatak_trainer_add_class`.
nunatak_status nunatak_trainer_add_class_program(struct nunatak_trainer *trainer,
                                                 const void *program,
                                                 size_t program_bytes,
                                                 uint32_t begins,
                                                 struct nunatak_random *random,
                                                 const float *row,
                                                 size_t count);

// Loads weights from the bytes of a whole file: `.safetensors`, native, or `.pth` (zip or legacy; nothing in
// it is executed). Parameters and statistics are overwritten; the bytes may begin anywhere, and are not
// needed afterwards. Momenta and gradients are forgotten. `head` is a `nunatak_head`. Checksums are verified.
//
// A native delta is laid over the config's `weights`, which must be its base; the config must train what the
// delta has. `head` is then of no meaning.
//
// `NUNATAK_BAD_FILE` where the bytes contradict themselves, `NUNATAK_WRONG_FILE` where the tensors are
// not this network's or the delta's base is another file, `NUNATAK_NOT_PLANNED` where something is read in
// place (load into a trainer without `weights`) or a delta has no `weights` below, `NUNATAK_BAD_SETTING` for
// `head`, `NUNATAK_OUT_OF_MEMORY`: then nothing has changed.
//
// Allocates memory, at most twice the file and 1 MiB, but for native files none. In a library without the
// standard library it never allocates, and takes native files, and `.safetensors` of F32 and I64.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `file` is NULL, or `bytes` bytes can be read there.
nunatak_status nunatak_trainer_load(struct nunatak_trainer *trainer,
                                    const void *file,
                                    size_t bytes,
                                    uint32_t head);

// Takes over the momenta that a file has which was saved with them; a file without changes nothing.
// Call it after `nunatak_trainer_load`, which forgets momenta. Allocation as there.
//
// `NUNATAK_BAD_FILE`, `NUNATAK_WRONG_FILE` where one has another shape, `NUNATAK_NOT_PLANNED` where one is of a
// parameter that has no momentum in this config: then nothing has changed.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `file` is NULL, or `bytes` bytes can be read there.
nunatak_status nunatak_trainer_load_momentum(struct nunatak_trainer *trainer,
                                             const void *file,
                                             size_t bytes);

// How many bytes `nunatak_trainer_save` writes now. `format` is a `nunatak_format`.
//
// `NUNATAK_BAD_SETTING` for `format`, `NUNATAK_NOT_PLANNED` for a delta of a trainer without `weights`.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `bytes` is NULL or can be written.
nunatak_status nunatak_trainer_saved_bytes(const struct nunatak_trainer *trainer,
                                           uint32_t format,
                                           size_t *bytes);

// Writes a file to the front of a buffer, which may begin anywhere; `written` gets its length, which is
// `nunatak_trainer_saved_bytes`. A buffer of that length is enough; one byte less is
// `NUNATAK_BUFFER_TOO_SMALL`, nothing is written to it, and `written` is set all the same. Other errors as there. Allocates nothing. Put it on
// disk under another name and rename it, so that a power cut leaves the old file.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `buffer` is NULL, or `bytes` bytes can be written there; `written` is NULL or can be written.
nunatak_status nunatak_trainer_save(const struct nunatak_trainer *trainer,
                                    uint32_t format,
                                    void *buffer,
                                    size_t bytes,
                                    size_t *written);

// The network that a file is of. A native file says so; others tell it by tensors' names and shapes,
// which leave out the stem's stride, padding and pooling: a 7x7 stem is taken for ImageNet's, any other
// for one of stride 1 that keeps the size, unless nunatak wrote the file. `struct_bytes` is
// sizeof(nunatak_recipe). Allocates as `nunatak_trainer_load`. Any thread.
//
// `NUNATAK_BAD_FILE`; `NUNATAK_WRONG_FILE` where it is no residual network of basic blocks;
// `NUNATAK_UNSUPPORTED` in a library without the standard library for files that are not native.
//
// # Safety
// `file` is NULL, or `bytes` bytes can be read there; `recipe` is NULL, or `struct_bytes` bytes can be written there.
nunatak_status nunatak_recipe_of_file(const void *file,
                                      size_t bytes,
                                      size_t struct_bytes,
                                      struct nunatak_recipe *recipe);

// Reads a whole file and checks it: of a native file and a `.pth` all checksums, of `.safetensors`, which
// have none, that they are complete. Allocates as `nunatak_trainer_load`. Any thread.
//
// `NUNATAK_BAD_FILE` says what is wrong and where.
//
// # Safety
// `file` is NULL, or `bytes` bytes can be read there.
nunatak_status nunatak_file_verify(const void *file, size_t bytes);

// The images of the next forward, as PyTorch has them: batch x channels x height x width floats, in the
// range that the weights were trained with. They are copied. Setting any input ends the last forward: what
// it computed can't be read any more, and no backward follows it.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `images` is NULL, or `count` floats can be read there.
nunatak_status nunatak_trainer_set_images(struct nunatak_trainer *trainer, const float *images, size_t count);

// The images of the next forward from bytes, as decoders give them: batch x height x width x channels.
// Each becomes `(byte / 255 - mean[channel]) / deviation[channel]`, as by torchvision's ToTensor and
// Normalize; `mean` and `deviation` have a float for each channel (ImageNet's are .485 .456 .406 and
// .229 .224 .225; for byte / 255 alone pass zeros and ones). Else as `nunatak_trainer_set_images`.
//
// `NUNATAK_BAD_SETTING` for a deviation that is not above 0 or not finite, and a mean that is not finite.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `pixels` is NULL, or `count` bytes can be read there; `mean` and `deviation` are NULL, or as many
// floats as the recipe has `in_channels` can be read there.
nunatak_status nunatak_trainer_set_images_u8(struct nunatak_trainer *trainer,
                                             const uint8_t *pixels,
                                             size_t count,
                                             const float *mean,
                                             const float *deviation);

// Features in place of images: the next forward, or step, begins behind them, and costs what the head costs. They are
// copied: batch x `widths[layers - 1]` floats, image by image, as `nunatak_trainer_features` gave them after a forward
// of these images. While what is below the head stays as it is (frozen, with the statistics fixed), every step then has
// the same bits as from the images; normalisations and dropouts below the head see no batch. Setting images takes the
// features back. They end the last forward, as images do.
//
// `NUNATAK_NOT_PLANNED` where the program has no features, or trains something below the head.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `features` is NULL, or `count` floats can be read there.
nunatak_status nunatak_trainer_set_features(struct nunatak_trainer *trainer,
                                            const float *features,
                                            size_t count);

// The class indices of the next forward, one for each image, for NUNATAK_LOSS_CROSS_ENTROPY; they are
// copied, and end the last forward, as images do. Whether they are classes is found by the forward:
// `NUNATAK_LABEL_OUT_OF_RANGE`. `NUNATAK_NOT_PLANNED` where the loss takes targets, or nothing.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `labels` is NULL, or `count` int64_t can be read there.
nunatak_status nunatak_trainer_set_labels(struct nunatak_trainer *trainer,
                                          const int64_t *labels,
                                          size_t count);

// The targets of the next forward, batch x classes floats, image by image, for the losses that compare
// predictions with numbers; they are copied, and end the last forward, as images do. `NUNATAK_NOT_PLANNED`
// where the loss takes class indices, or nothing.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `targets` is NULL, or `count` floats can be read there.
nunatak_status nunatak_trainer_set_targets(struct nunatak_trainer *trainer,
                                           const float *targets,
                                           size_t count);

// The key of the features that a trainer's network makes of images: a digest of all parameters and statistics below the
// head, of the images' size, and of `view`, which may be NULL where `view_bytes` is 0: bytes of the caller's that say how
// images become numbers (resizing, means, deviations). With equal keys features are the same, but for rounding where
// programs take other algorithms: compute all by one program. `key` gets NUNATAK_KEY_BYTES bytes. Of weights in place the
// file's checksums are believed; others are read, which takes a board a second for each 10 MB or so.
//
// `NUNATAK_NO_WEIGHTS` where there are none yet.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `view` is NULL, or `view_bytes` bytes can be read there; `key` is NULL, or NUNATAK_KEY_BYTES bytes can be written there.
nunatak_status nunatak_features_key(const struct nunatak_trainer *trainer,
                                    const void *view,
                                    size_t view_bytes,
                                    uint8_t *key);

// How many bytes of flash always hold the newest `records` records of `count` numbers each (an image's features), where
// pages of `page` bytes are erased at once and `unit` bytes are programmed: a multiple of the page.
//
// `NUNATAK_BAD_CONFIG` for sizes that can't be, or do not fit the address space. Any thread.
//
// # Safety
// `bytes` is NULL or can be written.
nunatak_status nunatak_features_flash_bytes(size_t count,
                                            size_t records,
                                            size_t page,
                                            size_t unit,
                                            size_t *bytes);

// Opens the features in a flash and finds the records that are there, also after a power cut at any moment: of records
// that were being written nothing is seen. Nothing in the flash is changed. `key` is NUNATAK_KEY_BYTES bytes, those of
// `nunatak_features_key` or of the caller's; `count` the numbers of an image; `struct_bytes` sizeof(nunatak_features).
// `features` is all zeros before it is opened for the first time; what is open is opened anew. The flash's struct is copied.
//
// `NUNATAK_OTHER_FEATURES` where the flash has features of another key or length: clear it, or take the network that they
// were made with. `NUNATAK_BAD_CONFIG` for sizes that do not fit together, or fewer `struct_bytes` than this version's;
// `NUNATAK_FLASH` where a callback did not return 0; `NUNATAK_BUSY`. Allocates nothing.
//
// Any thread; features are used by one thread at a time.
//
// # Safety
// `flash` is NULL or can be read, and its callbacks do what they say; `key` is NULL, or NUNATAK_KEY_BYTES bytes can be read
// there; `features` is NULL, or `struct_bytes` bytes can be read and written there.
nunatak_status nunatak_features_open(const struct nunatak_flash *flash,
                                     const uint8_t *key,
                                     size_t count,
                                     size_t struct_bytes,
                                     struct nunatak_features *features);

// Erases the whole flash, whatever it has, and opens it: for the first time, or for features of another network. Else as
// `nunatak_features_open`.
//
// # Safety
// As for `nunatak_features_open`.
nunatak_status nunatak_features_clear(const struct nunatak_flash *flash,
                                      const uint8_t *key,
                                      size_t count,
                                      size_t struct_bytes,
                                      struct nunatak_features *features);

// Appends an image's features (of `nunatak_trainer_features`) and its label. Where the flash is full the oldest records
// make room, a sector at a time. After any error, and after a power cut at any moment, all other records are there.
//
// `NUNATAK_WRONG_ORDER` where the features are not open; `NUNATAK_NOT_FINITE` for a feature that is NaN or infinite;
// `NUNATAK_FLASH` where a callback did not return 0, or the flash does not give back what was programmed;
// `NUNATAK_BUSY`. Allocates nothing.
//
// Any thread; features are used by one thread at a time.
//
// # Safety
// `features` is NULL, or was written by `nunatak_features_open`; `numbers` is NULL, or `count` floats can be read there.
nunatak_status nunatak_features_append(struct nunatak_features *features,
                                       int64_t label,
                                       const float *numbers,
                                       size_t count);

// How many records there are. `NUNATAK_WRONG_ORDER` where the features are not open; `NUNATAK_BUSY`.
//
// Any thread; features are used by one thread at a time.
//
// # Safety
// `features` is NULL, or was written by `nunatak_features_open`; `count` is NULL or can be written.
nunatak_status nunatak_features_count(struct nunatak_features *features, size_t *count);

// Reads the record `index`, of those that `nunatak_features_count` counts; 0 is the oldest: `numbers` gets its features, for
// `nunatak_trainer_set_features`, and `label` its label. Reading them in their order is quickest.
//
// `NUNATAK_UNKNOWN_NAME` where there is no such record; `NUNATAK_DAMAGED` where its checksum is wrong: then `numbers` has
// zeros, and the others can be read; `NUNATAK_WRONG_ORDER`, `NUNATAK_FLASH`, `NUNATAK_BUSY` as for
// `nunatak_features_append`. Allocates nothing.
//
// Any thread; features are used by one thread at a time.
//
// # Safety
// `features` is NULL, or was written by `nunatak_features_open`; `numbers` is NULL, or `count` floats can be written there;
// `label` is NULL or can be written.
nunatak_status nunatak_features_read(struct nunatak_features *features,
                                     size_t index,
                                     float *numbers,
                                     size_t count,
                                     int64_t *label);

// Plain SGD of this rate: no momentum, no decay. Whether the rate makes sense is found when it is set.
// `struct_bytes` is sizeof(nunatak_sgd), else `NUNATAK_BAD_CONFIG`. Any thread.
//
// # Safety
// `sgd` is NULL, or `struct_bytes` bytes can be written there.
nunatak_status nunatak_sgd_default(float lr, size_t struct_bytes, struct nunatak_sgd *sgd);

// A schedule of this kind (a `nunatak_schedule_kind`), with PyTorch's defaults: `gamma` 0.1, `rise` 0.3, `div` 25,
// `final_div` 10000, all other numbers 0. Whether the kind exists is found when a factor is asked for.
// `struct_bytes` is sizeof(nunatak_schedule), else `NUNATAK_BAD_CONFIG`. Any thread.
//
// # Safety
// `schedule` is NULL, or `struct_bytes` bytes can be written there.
nunatak_status nunatak_schedule_default(uint32_t kind,
                                        size_t struct_bytes,
                                        struct nunatak_schedule *schedule);

// Settings of the optimiser for all parameters. Groups of before are forgotten, momenta stay.
//
// `NUNATAK_BAD_SETTING` where they make no sense: a number negative, NaN or infinite; nesterov without
// momentum or with dampening; a flag that is not 0 or 1. The old settings then stay.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `sgd` is NULL or can be read.
nunatak_status nunatak_trainer_set_sgd(struct nunatak_trainer *trainer, const struct nunatak_sgd *sgd);

// Other settings for some parameters: `names` as `trainable` in `nunatak_config`. A parameter belongs to
// the first group that has it.
//
// `NUNATAK_WRONG_ORDER` before `nunatak_trainer_set_sgd`, `NUNATAK_UNKNOWN_NAME`, `NUNATAK_BAD_SETTING`,
// `NUNATAK_TOO_MANY` (there are at most 8 groups).
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `names` is NULL or ends with a zero; `sgd` is NULL or can be read.
nunatak_status nunatak_trainer_add_group(struct nunatak_trainer *trainer,
                                         const char *names,
                                         const struct nunatak_sgd *sgd);

// What a schedule makes of the learning rates of all groups: from the next update on they are multiplied
// by `factor` until another is set. At first it is 1. `NUNATAK_BAD_SETTING` for one that is negative, NaN or
// infinite.
//
// Any thread, one call at a time on a trainer.
nunatak_status nunatak_trainer_set_rate(struct nunatak_trainer *trainer, float factor);

// The factor of a schedule at a unit, counted from 0, for `nunatak_trainer_set_rate`.
// `NUNATAK_BAD_SETTING` for an unknown kind, and where its numbers give a factor that can't be;
// `NUNATAK_BAD_CONFIG` for its `struct_bytes`. Any thread.
//
// # Safety
// `schedule` is NULL or can be read, and of kind multi-step its milestones too; `factor` is NULL or can
// be written.
nunatak_status nunatak_schedule_factor(const struct nunatak_schedule *schedule, uint64_t unit, float *factor);

// How many tensors the network's state dict has: parameters and statistics, in PyTorch's order. No error
// but those of every call.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `count` is NULL or can be written.
nunatak_status nunatak_trainer_tensor_count(const struct nunatak_trainer *trainer, size_t *count);

// The name of a tensor, counted from 0: "conv1.weight". NUNATAK_NAME_BYTES bytes are always enough.
//
// `NUNATAK_UNKNOWN_NAME` past the last, `NUNATAK_BUFFER_TOO_SMALL` with the bytes that it takes.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `name` is NULL, or `bytes` bytes can be written there.
nunatak_status nunatak_trainer_tensor_name(const struct nunatak_trainer *trainer,
                                           size_t index,
                                           char *name,
                                           size_t bytes);

// A tensor's shape, as in PyTorch: conv1.weight is 64 x 3 x 7 x 7, num_batches_tracked has rank 0. `struct_bytes`
// is sizeof(nunatak_shape). `NUNATAK_UNKNOWN_NAME`.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `name` is NULL or ends with a zero; `shape` is NULL, or `struct_bytes` bytes can be written there.
nunatak_status nunatak_trainer_tensor_shape(const struct nunatak_trainer *trainer,
                                            const char *name,
                                            size_t struct_bytes,
                                            struct nunatak_shape *shape);

// Copies a parameter, running_mean or running_var out in PyTorch's order, `count` floats, which must be all
// of them. `NUNATAK_UNKNOWN_NAME`, also for num_batches_tracked, and for a layer of 8 bits.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `name` is NULL or ends with a zero; `out` is NULL, or `count` floats can be written there.
nunatak_status nunatak_trainer_get_tensor(const struct nunatak_trainer *trainer,
                                          const char *name,
                                          float *out,
                                          size_t count);

// Sets a parameter, running_mean or running_var, given in PyTorch's order. Its gradient and momentum stay.
// From the first one on the trainer has weights: what is not set is zero.
//
// `NUNATAK_UNKNOWN_NAME`, also for num_batches_tracked and a layer of 8 bits; `NUNATAK_BAD_SETTING` for a running_var that is
// negative or not finite, and a running_mean that is not finite; `NUNATAK_NOT_PLANNED` for what is read in place.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `name` is NULL or ends with a zero; `numbers` is NULL, or `count` floats can be read there.
nunatak_status nunatak_trainer_set_tensor(struct nunatak_trainer *trainer,
                                          const char *name,
                                          const float *numbers,
                                          size_t count);

// How many batches a normalisation has seen: `name` is "bn1.num_batches_tracked" or another of its kind.
// `NUNATAK_UNKNOWN_NAME` for others.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `name` is NULL or ends with a zero; `batches` is NULL or can be written.
nunatak_status nunatak_trainer_get_batches(const struct nunatak_trainer *trainer,
                                           const char *name,
                                           int64_t *batches);

// Sets how many batches a normalisation has seen. `NUNATAK_BAD_SETTING` for a negative number,
// `NUNATAK_UNKNOWN_NAME` as for `nunatak_trainer_get_batches`.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `name` is NULL or ends with a zero.
nunatak_status nunatak_trainer_set_batches(struct nunatak_trainer *trainer,
                                           const char *name,
                                           int64_t batches);

// Copies a parameter's gradient out, in the parameter's shape and order.
//
// `NUNATAK_NO_GRADIENT` where it has none now: it is frozen, there was no backward, or a step or
// `nunatak_trainer_zero_grad` came after it. `NUNATAK_NOT_PLANNED` with NUNATAK_UPDATE_DURING: gradients are
// used up as they arise, and lie nowhere. `NUNATAK_UNKNOWN_NAME` for what is no parameter.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `name` is NULL or ends with a zero; `out` is NULL, or `count` floats can be written there.
nunatak_status nunatak_trainer_get_gradient(const struct nunatak_trainer *trainer,
                                            const char *name,
                                            float *out,
                                            size_t count);

// Sets a parameter's gradient, as if backward had computed it: the next update uses it, the next backward
// adds to it. `NUNATAK_NOT_PLANNED` for a frozen parameter, and with NUNATAK_UPDATE_DURING;
// `NUNATAK_UNKNOWN_NAME` for what is no parameter.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `name` is NULL or ends with a zero; `numbers` is NULL, or `count` floats can be read there.
nunatak_status nunatak_trainer_set_gradient(struct nunatak_trainer *trainer,
                                            const char *name,
                                            const float *numbers,
                                            size_t count);

// Copies a parameter's momentum out, in the parameter's shape and order. `NUNATAK_NO_GRADIENT` where it has
// none now: it gets one at its first update. `NUNATAK_UNKNOWN_NAME` for what is no parameter.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `name` is NULL or ends with a zero; `out` is NULL, or `count` floats can be written there.
nunatak_status nunatak_trainer_get_momentum(const struct nunatak_trainer *trainer,
                                            const char *name,
                                            float *out,
                                            size_t count);

// Sets a parameter's momentum. `NUNATAK_NOT_PLANNED` where the config has no room for it: frozen, or
// `momentum` 0. `NUNATAK_UNKNOWN_NAME` for what is no parameter.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `name` is NULL or ends with a zero; `numbers` is NULL, or `count` floats can be read there.
nunatak_status nunatak_trainer_set_momentum(struct nunatak_trainer *trainer,
                                            const char *name,
                                            const float *numbers,
                                            size_t count);

// How many bytes `nunatak_plan_text` needs for this config, the zero at the end included. Errors and heap
// as for `nunatak_trainer_required_bytes`. Any thread.
//
// # Safety
// As for `nunatak_trainer_required_bytes`.
nunatak_status nunatak_plan_text_bytes(const struct nunatak_config *config, size_t *bytes);

// What a step of this config computes, call by call, and where its bytes go: lines of text for people, which
// may change with any version. `NUNATAK_BUFFER_TOO_SMALL` with the bytes that it takes; other errors as for
// `nunatak_trainer_required_bytes`. Any thread.
//
// # Safety
// `config` as for `nunatak_trainer_required_bytes`; `text` is NULL, or `bytes` bytes can be written
// there.
nunatak_status nunatak_plan_text(const struct nunatak_config *config, char *text, size_t bytes);

// The instruction set that a trainer works with: "portable", "neon", "avx2" or "avx512", a constant
// text. No error but those of every call.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `level` is NULL or can be written.
nunatak_status nunatak_trainer_level(const struct nunatak_trainer *trainer, const char **level);

// Starts `count` threads (1 to 256, the caller's included), which trainers whose config names this
// count then share; 1 starts nothing. Starting them again is no error and does nothing. They sleep
// while no trainer works. Allocates memory.
//
// `NUNATAK_BAD_CONFIG` for another count, `NUNATAK_NO_THREADS` where the system gave none, `NUNATAK_TOO_MANY`
// (at most 16 different counts), `NUNATAK_OUT_OF_MEMORY`, `NUNATAK_UNSUPPORTED` in a library without the standard library. Any thread.
nunatak_status nunatak_threads_start(size_t count);

// Lets `count` threads go: they end when the last trainer that has them is released.
// `NUNATAK_NO_THREADS` where they were not started, `NUNATAK_BAD_CONFIG` for a count that can't be. Any thread.
//
// After fork() the child has no threads but the one that forked. Trainers that were made with more compute alone
// there, with the same bits. Stopping the parent's threads is NUNATAK_OK there, and starting starts new ones.
nunatak_status nunatak_threads_stop(size_t count);

// Sets who is told of progress; a NULL callback ends it. `user` is handed to every call; it may be NULL.
//
// A stop is `NUNATAK_STOPPED`. In a forward nothing has changed; in a backward all gradients are forgotten; no
// weight has changed. An update, and a backward walk that updates, are not stopped halfway. No error but those of every call.
//
// Any thread, one call at a time on a trainer.
nunatak_status nunatak_trainer_on_progress(struct nunatak_trainer *trainer,
                                           nunatak_progress_callback callback,
                                           void *user);

// Sets who is told how long each kernel call took, and the clock; both NULL end it, one alone is
// `NUNATAK_NULL_POINTER`. `user` is handed to every call. Without a callback no clock is read.
//
// Any thread, one call at a time on a trainer.
nunatak_status nunatak_trainer_on_tick(struct nunatak_trainer *trainer,
                                       nunatak_clock_callback clock,
                                       nunatak_tick_callback callback,
                                       void *user);

// Sets who is told what each kernel call wrote; a NULL callback ends it. `user` is handed to every call. It is for
// comparing a board with another machine call by call: digests take some additions for every number. No error but
// those of every call.
//
// Any thread, one call at a time on a trainer.
nunatak_status nunatak_trainer_on_digest(struct nunatak_trainer *trainer,
                                         nunatak_digest_callback callback,
                                         void *user);

// What a kernel call works on: "layer1.0.conv1", "relu#3", of an update "fc.weight". `kind` and `number`
// are what a tick callback was told under the present config. NUNATAK_NAME_BYTES bytes are always enough.
//
// `NUNATAK_UNKNOWN_NAME` where there is no such call, `NUNATAK_BUFFER_TOO_SMALL`.
//
// Any thread, one call at a time on a trainer.
//
// # Safety
// `name` is NULL, or `bytes` bytes can be written there.
nunatak_status nunatak_trainer_call_name(const struct nunatak_trainer *trainer,
                                         uint32_t kind,
                                         size_t number,
                                         char *name,
                                         size_t bytes);

// Sets what is told before the processor halts at a mistake of the library's own; NULL for nothing.
//
// Only in a library built without the standard library and with its panic handler; elsewhere
// `NUNATAK_UNSUPPORTED`: with it, such a mistake is the status `NUNATAK_PANICKED`.
nunatak_status nunatak_on_panic(nunatak_panic_callback callback);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* NUNATAK_H */
