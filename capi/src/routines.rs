//! What steps can be computed with: every routine, or a table of those in use, so that a linker drops the others.

use crate::boundary::{call, slice};
use crate::status::{Failure, fail, nunatak_status};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use nunatak_nn::routines::{Listed, Part, Table};

/// A part of an operation, with its kernels: the forward pass of a convolution, say. A library without the standard
/// library has a constant for each, `nunatak_conv2d_forward` and its like, which `nunatak export` declares where it lists
/// them. Only its address is of use.
pub struct nunatak_routine {
    _private: [u8; 0],
}

macro_rules! routines {
    ($($(#[$gate:meta])* $name:ident = $code:literal $part:ident;)+) => {
        $(
            $(#[$gate])*
            #[doc = concat!("The routine of the operation ", stringify!($code), ", ", stringify!($part), ".")]
            #[cfg_attr(not(feature = "std"), unsafe(no_mangle))]
            #[allow(non_upper_case_globals)] // the name is C's
            pub static $name: Listed = Listed::of($code, Part::$part);
        )+

        #[cfg(test)]
        const NAMES: &[(&str, u32, Part)] = &[$($(#[$gate])* (stringify!($name), $code, Part::$part)),+];
    };
}

routines! {
    nunatak_conv2d_forward = 3 Forward;
    nunatak_conv2d_backward_weight = 3 BackwardWeight;
    nunatak_conv2d_backward_input = 3 BackwardInput;
    nunatak_conv2d_backward_step = 3 BackwardStep;
    nunatak_batch_norm_forward = 4 Forward;
    nunatak_batch_norm_backward_weight = 4 BackwardWeight;
    nunatak_batch_norm_backward_input = 4 BackwardInput;
    nunatak_batch_norm_pool_forward = 5 Forward;
    nunatak_batch_norm_pool_backward_weight = 5 BackwardWeight;
    nunatak_batch_norm_pool_backward_input = 5 BackwardInput;
    nunatak_relu_forward = 6 Forward;
    nunatak_relu_backward_input = 6 BackwardInput;
    nunatak_max_pool_forward = 7 Forward;
    nunatak_max_pool_backward_input = 7 BackwardInput;
    nunatak_avg_pool_forward = 8 Forward;
    nunatak_avg_pool_backward_input = 8 BackwardInput;
    nunatak_linear_forward = 9 Forward;
    nunatak_linear_backward_weight = 9 BackwardWeight;
    nunatak_linear_backward_input = 9 BackwardInput;
    nunatak_linear_backward_step = 9 BackwardStep;
    nunatak_add_forward = 10 Forward;
    nunatak_add_backward_input = 10 BackwardInput;
    nunatak_sub_forward = 11 Forward;
    nunatak_sub_backward_input = 11 BackwardInput;
    nunatak_mul_forward = 12 Forward;
    nunatak_mul_backward_input = 12 BackwardInput;
    nunatak_scale_forward = 13 Forward;
    nunatak_scale_backward_input = 13 BackwardInput;
    nunatak_sum_forward = 14 Forward;
    nunatak_sum_backward_input = 14 BackwardInput;
    nunatak_mean_forward = 15 Forward;
    nunatak_mean_backward_input = 15 BackwardInput;
    nunatak_mse_forward = 16 Forward;
    nunatak_mse_backward_input = 16 BackwardInput;
    nunatak_cross_entropy_forward = 17 Forward;
    nunatak_cross_entropy_backward_input = 17 BackwardInput;
    #[cfg(feature = "operations")] nunatak_pointwise_forward = 18 Forward;
    #[cfg(feature = "operations")] nunatak_pointwise_backward_input = 18 BackwardInput;
    #[cfg(feature = "operations")] nunatak_broadcast_forward = 19 Forward;
    #[cfg(feature = "operations")] nunatak_broadcast_backward_input = 19 BackwardInput;
    #[cfg(feature = "operations")] nunatak_flatten_forward = 20 Forward;
    #[cfg(feature = "operations")] nunatak_flatten_backward_input = 20 BackwardInput;
    #[cfg(feature = "operations")] nunatak_concat_forward = 21 Forward;
    #[cfg(feature = "operations")] nunatak_concat_backward_input = 21 BackwardInput;
    #[cfg(feature = "operations")] nunatak_dropout_forward = 22 Forward;
    #[cfg(feature = "operations")] nunatak_dropout_backward_input = 22 BackwardInput;
    #[cfg(feature = "operations")] nunatak_reduce_axes_forward = 23 Forward;
    #[cfg(feature = "operations")] nunatak_reduce_axes_backward_input = 23 BackwardInput;
    #[cfg(feature = "operations")] nunatak_softmax_forward = 24 Forward;
    #[cfg(feature = "operations")] nunatak_softmax_backward_input = 24 BackwardInput;
    #[cfg(feature = "operations")] nunatak_smooth_l1_forward = 25 Forward;
    #[cfg(feature = "operations")] nunatak_smooth_l1_backward_input = 25 BackwardInput;
    #[cfg(feature = "operations")] nunatak_bce_with_logits_forward = 26 Forward;
    #[cfg(feature = "operations")] nunatak_bce_with_logits_backward_input = 26 BackwardInput;
    #[cfg(feature = "operations")] nunatak_window_avg_pool_forward = 27 Forward;
    #[cfg(feature = "operations")] nunatak_window_avg_pool_backward_input = 27 BackwardInput;
    #[cfg(feature = "operations")] nunatak_window_max_pool_forward = 28 Forward;
    #[cfg(feature = "operations")] nunatak_window_max_pool_backward_input = 28 BackwardInput;
    #[cfg(feature = "operations")] nunatak_int8_quantize_forward = 29 Forward;
    #[cfg(feature = "operations")] nunatak_int8_conv2d_forward = 30 Forward;
    #[cfg(feature = "operations")] nunatak_int8_max_pool_forward = 31 Forward;
    #[cfg(feature = "operations")] nunatak_int8_avg_pool_forward = 32 Forward;
    #[cfg(feature = "operations")] nunatak_int8_dequantize_forward = 33 Forward;
}

/// A table of the caller's, NULL at its end.
type Addresses = *const *const nunatak_routine;

/// The caller's table; null where none was chosen.
static CHOSEN: AtomicPtr<*const nunatak_routine> = AtomicPtr::new(ptr::null_mut());
/// Routines that a table can list; more are another thing than a table.
const MOST: usize = 256;

/// What was chosen. With the standard library it is every routine at first.
pub(crate) fn table() -> Result<Table, Failure> {
    let first: Addresses = CHOSEN.load(Ordering::Acquire);
    if first.is_null() {
        #[cfg(feature = "std")]
        return Ok(Table::ALL);
        #[cfg(not(feature = "std"))]
        return Err(fail!(
            NUNATAK_WRONG_ORDER,
            "call nunatak_use_routines with the table that `nunatak export` wrote, or nunatak_use_all_routines"
        ));
    }
    // SAFETY: whoever chose the table promised that it ends with NULL, and that it and its routines stay for good.
    // What C knows as `nunatak_routine` is a `Listed`, and a reference is an address that is not NULL.
    Ok(Table::new(unsafe { core::slice::from_raw_parts(first.cast::<&'static Listed>(), count(first).unwrap_or(0)) }))
}

/// How many routines a table lists; nothing where no end is found.
///
/// # Safety
/// Up to the first NULL, or [`MOST`] + 1 addresses, can be read.
unsafe fn count(first: Addresses) -> Option<usize> {
    // SAFETY: the caller's promise.
    (0..=MOST).find(|i| unsafe { *first.add(*i) }.is_null())
}

/// Has every trainer that is made from now on compute with these routines alone: addresses, the last one NULL, which
/// must stay as they are for good. `nunatak export` writes the table that its programs need. In a program that is
/// linked with `--gc-sections` (or its like) and never calls `nunatak_use_all_routines`, all other kernels take no
/// flash.
///
/// A program that calls what the table does not list is `NUNATAK_BAD_PROGRAM`. In a library without the standard
/// library this call, or `nunatak_use_all_routines`, must come before every call that takes a program:
/// `NUNATAK_WRONG_ORDER`. With the standard library every routine is in use at first.
///
/// `NUNATAK_BAD_SETTING` for a table of more than 256 routines. Any thread; trainers that were made before keep
/// theirs.
///
/// # Safety
/// `routines` is NULL, or the address of addresses of the library's routines, which end with NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_use_routines(routines: *const *const nunatak_routine) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise: the first address is there.
        unsafe { slice(args, routines, 1, "routines")? };
        // SAFETY: the caller's promise.
        if unsafe { count(routines) }.is_none() {
            return Err(fail!(NUNATAK_BAD_SETTING, "the table has no NULL among its first {} addresses", MOST + 1));
        }
        CHOSEN.store(routines.cast_mut(), Ordering::Release);
        Ok(())
    })
}

/// Every routine, and NULL.
#[repr(transparent)]
struct All([*const nunatak_routine; Table::COUNT + 1]);

// SAFETY: addresses of constants.
unsafe impl Sync for All {}

static ALL: All = {
    let (mut all, mut i) = ([ptr::null(); Table::COUNT + 1], 0);
    while i < Table::COUNT {
        all[i] = ptr::from_ref(Table::ALL.get(i)).cast::<nunatak_routine>();
        i += 1;
    }
    All(all)
};

/// Has every trainer that is made from now on compute with every routine of the library: for programs that are not
/// known when the firmware is linked. See `nunatak_use_routines`. No error but those of every call. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_use_all_routines() -> nunatak_status {
    call(|_| {
        CHOSEN.store(ALL.0.as_ptr().cast_mut(), Ordering::Release);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_routine_has_its_symbol() {
        let due: Vec<_> = Table::ALL.listed().map(|listed| (format!("nunatak_{listed}"), listed.code(), listed.part())).collect();
        let named: Vec<_> = NAMES.iter().map(|(name, code, part)| (name.to_string(), *code, *part)).collect();
        assert_eq!(named, due);
    }
}
