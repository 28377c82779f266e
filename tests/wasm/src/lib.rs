//! A ResNet18 whose head is trained from JavaScript, in a web page or in node.
//!
//! Without the standard library and without an allocator: JavaScript grows the memory and hands over
//! addresses. `train.mjs` beside this folder is the other half.
//!
//! Every function that can fail returns false (or NaN) and leaves a text: [`error_text`]. Addresses
//! that do not hold what is promised are the caller's mistake, as in C; in wasm the worst that they can
//! do is spoil or leave this module's own memory, which traps.

#![cfg_attr(target_arch = "wasm32", no_std)]

mod error;
mod head;
mod planning;
mod shared;
mod tutorial;

pub use error::{error_length, error_text};
pub use head::{head_adapt, head_bytes, head_predict, head_start, head_step};
pub use tutorial::{tutorial, tutorial_bytes};

/// A mistake of the library's own: its text can be read after the trap.
#[cfg(target_arch = "wasm32")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    error::set(info);
    core::arch::wasm32::unreachable()
}
