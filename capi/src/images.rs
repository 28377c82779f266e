//! Images, features, labels and targets on their way into a step.

use crate::boundary::{call, slice};
use crate::handles::Entered;
use crate::status::{Failure, fail, nunatak_status};
use crate::trainer::nunatak_trainer;
use nunatak_nn::{Error, ValueId};

fn labels_of(t: &nunatak_trainer) -> Result<ValueId, Failure> {
    t.values.labels.ok_or_else(|| fail!(NUNATAK_NOT_PLANNED, "the config's loss takes no labels"))
}

fn data_of(t: &nunatak_trainer) -> Result<ValueId, Failure> {
    t.values.data.ok_or_else(|| fail!(NUNATAK_NOT_PLANNED, "the program has no input with the name \"data\""))
}

/// An input of the other kind.
fn of_other_kind(e: Error, other: &str) -> Failure {
    match e {
        Error::NotAnInput => fail!(NUNATAK_NOT_PLANNED, "the config's loss takes {other}"),
        e => e.into(),
    }
}

/// The images of the next forward, as PyTorch has them: batch x channels x height x width floats, in the
/// range that the weights were trained with. They are copied. Setting any input ends the last forward: what
/// it computed can't be read any more, and no backward follows it.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `images` is NULL, or `count` floats can be read there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_set_images(trainer: *mut nunatak_trainer, images: *const f32, count: usize) -> nunatak_status {
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let images = unsafe { slice(args, images, count, "images")? };
        let data = data_of(&t)?;
        Ok(t.trainer.set_input(data, images)?)
    })
}

/// The images of the next forward from bytes, as decoders give them: batch x height x width x channels.
/// Each becomes `(byte / 255 - mean[channel]) / deviation[channel]`, as by torchvision's ToTensor and
/// Normalize; `mean` and `deviation` have a float for each channel (ImageNet's are .485 .456 .406 and
/// .229 .224 .225; for byte / 255 alone pass zeros and ones). Else as `nunatak_trainer_set_images`.
///
/// `NUNATAK_BAD_SETTING` for a deviation that is not above 0 or not finite, and a mean that is not finite.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `pixels` is NULL, or `count` bytes can be read there; `mean` and `deviation` are NULL, or as many
/// floats as the recipe has `in_channels` can be read there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_set_images_u8(
    trainer: *mut nunatak_trainer,
    pixels: *const u8,
    count: usize,
    mean: *const f32,
    deviation: *const f32,
) -> nunatak_status {
    call(|args| {
        let mut t = Entered::new(trainer)?;
        let data = data_of(&t)?;
        let channels = t.trainer.program().value_of_node(data.0).map_or(0, |(_, value)| value.shape()[1]);
        // SAFETY: the caller's promise.
        let (pixels, mean, deviation) = unsafe {
            (slice(args, pixels, count, "pixels")?, slice(args, mean, channels, "mean")?, slice(args, deviation, channels, "deviation")?)
        };
        if let Some(bad) = deviation.iter().find(|v| !(v.is_finite() && **v > 0.0)) {
            return Err(fail!(NUNATAK_BAD_SETTING, "a deviation is {bad}; it must be a finite number above 0"));
        }
        if let Some(bad) = mean.iter().find(|v| !v.is_finite()) {
            return Err(fail!(NUNATAK_BAD_SETTING, "a mean is {bad}; it must be a finite number"));
        }
        Ok(t.trainer.set_input_bytes(data, pixels, mean, deviation)?)
    })
}

/// Features in place of images: the next forward, or step, begins behind them, and costs what the head costs. They are
/// copied: batch x `widths[layers - 1]` floats, image by image, as `nunatak_trainer_features` gave them after a forward
/// of these images. While what is below the head stays as it is (frozen, with the statistics fixed), every step then has
/// the same bits as from the images; normalisations and dropouts below the head see no batch. Setting images takes the
/// features back. They end the last forward, as images do.
///
/// `NUNATAK_NOT_PLANNED` where the program has no features, or trains something below the head.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `features` is NULL, or `count` floats can be read there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_set_features(trainer: *mut nunatak_trainer, features: *const f32, count: usize) -> nunatak_status {
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let features = unsafe { slice(args, features, count, "features")? };
        let value = t.features()?;
        Ok(t.trainer.set_value(value, features)?)
    })
}

/// The class indices of the next forward, one for each image, for NUNATAK_LOSS_CROSS_ENTROPY; they are
/// copied, and end the last forward, as images do. Whether they are classes is found by the forward:
/// `NUNATAK_LABEL_OUT_OF_RANGE`. `NUNATAK_NOT_PLANNED` where the loss takes targets, or nothing.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `labels` is NULL, or `count` int64_t can be read there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_set_labels(trainer: *mut nunatak_trainer, labels: *const i64, count: usize) -> nunatak_status {
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let labels = unsafe { slice(args, labels, count, "labels")? };
        let place = labels_of(&t)?;
        t.trainer.set_labels(place, labels).map_err(|e| of_other_kind(e, "targets: nunatak_trainer_set_targets"))
    })
}

/// The targets of the next forward, batch x classes floats, image by image, for the losses that compare
/// predictions with numbers; they are copied, and end the last forward, as images do. `NUNATAK_NOT_PLANNED`
/// where the loss takes class indices, or nothing.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `targets` is NULL, or `count` floats can be read there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_set_targets(trainer: *mut nunatak_trainer, targets: *const f32, count: usize) -> nunatak_status {
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let targets = unsafe { slice(args, targets, count, "targets")? };
        let place = labels_of(&t)?;
        t.trainer.set_input(place, targets).map_err(|e| of_other_kind(e, "class indices: nunatak_trainer_set_labels"))
    })
}
