//! What happens at a mistake of the library's own, where there is no standard library to make it a
//! status: a function of the caller's is told, then the processor halts.

use crate::boundary::call;
#[cfg(any(feature = "std", not(feature = "panic-handler")))]
use crate::status::fail;
use crate::status::nunatak_status;
use core::ffi::c_char;

/// Gets a text that says what and where (without the feature `messages` only in which source file); it
/// may reset the board, or blink. If it returns, the processor halts in an endless loop. It must not call
/// the library.
pub type nunatak_panic_callback = Option<extern "C" fn(text: *const c_char)>;

#[cfg(all(not(feature = "std"), feature = "panic-handler"))]
mod handler {
    use super::nunatak_panic_callback;
    use core::sync::atomic::{AtomicPtr, Ordering};

    static CALLBACK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

    pub(super) fn set(callback: nunatak_panic_callback) {
        CALLBACK.store(callback.map_or(core::ptr::null_mut(), |f| f as *mut ()), Ordering::Release);
    }

    // In its only caller's place it shows that without `messages` nobody reads a text: 4 kB less in a board's flash. The compiler
    // follows the attribute, though it warns that it does not.
    #[allow(unused_attributes)]
    #[inline(always)]
    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo) -> ! {
        let callback = CALLBACK.swap(core::ptr::null_mut(), Ordering::Acquire);
        if !callback.is_null() {
            #[cfg(feature = "messages")]
            let text = {
                crate::last_error::set(format_args!("{info}"));
                crate::last_error::nunatak_last_error()
            };
            #[cfg(not(feature = "messages"))]
            let text = info.location().map_or(c"", |place| place.file_as_c_str()).as_ptr();
            // SAFETY: what is not NULL was stored by `set`, from a function of this type.
            let callback: extern "C" fn(*const core::ffi::c_char) = unsafe { core::mem::transmute(callback) };
            callback(text);
        }
        loop {
            core::hint::spin_loop();
        }
    }
}

/// Sets what is told before the processor halts at a mistake of the library's own; NULL for nothing.
///
/// Only in a library built without the standard library and with its panic handler; elsewhere
/// `NUNATAK_UNSUPPORTED`: with it, such a mistake is the status `NUNATAK_PANICKED`.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_on_panic(callback: nunatak_panic_callback) -> nunatak_status {
    call(|_| {
        #[cfg(all(not(feature = "std"), feature = "panic-handler"))]
        {
            handler::set(callback);
            Ok(())
        }
        #[cfg(any(feature = "std", not(feature = "panic-handler")))]
        {
            let _ = callback;
            Err(fail!(NUNATAK_UNSUPPORTED, "this library has no panic handler: with std a panic is a status"))
        }
    })
}
