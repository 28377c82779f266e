//! The global allocator. It is in a file of its own, which becomes an object file of its own (the workspace's profiles
//! say how many units there are at most, so that rustc does not put small ones together): where a program has another
//! Rust library, whose allocator the linker has taken, this one is left out, and nothing clashes. Refusals
//! are then that library's matter.

use crate::reserve::{RESERVED, note_refusal};
use std::alloc::{GlobalAlloc, Layout, System};

struct Heap;

#[global_allocator]
static HEAP: Heap = Heap;

/// What the system gave, or a piece of the reserve; a refusal is noted.
fn or_reserve(given: *mut u8, layout: Layout) -> *mut u8 {
    if !given.is_null() {
        return given;
    }
    let piece = RESERVED.take(layout);
    if piece.is_null() {
        note_refusal();
    }
    piece
}

// SAFETY: pieces come from the system or, each once, from the reserve, with the layout's size and alignment.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's duty, passed on.
        or_reserve(unsafe { System.alloc(layout) }, layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let given = unsafe { System.alloc_zeroed(layout) };
        let piece = or_reserve(given, layout);
        if given.is_null() && !piece.is_null() {
            // SAFETY: a piece of this size, which an earlier owner may have written to.
            unsafe { piece.write_bytes(0, layout.size()) };
        }
        piece
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        match RESERVED.holds(pointer) {
            true => RESERVED.give_back(),
            // SAFETY: it came from the system.
            false => unsafe { System.dealloc(pointer, layout) },
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !RESERVED.holds(pointer) {
            // SAFETY: it came from the system.
            let grown = unsafe { System.realloc(pointer, layout, size) };
            if !grown.is_null() {
                return grown;
            }
        }
        // SAFETY: the caller's duty: the size fits this alignment.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: `alloc` and `dealloc` above; both pieces have so many bytes, and lie apart.
        unsafe {
            let to = if RESERVED.holds(pointer) { self.alloc(new) } else { or_reserve(core::ptr::null_mut(), new) };
            if !to.is_null() {
                to.copy_from_nonoverlapping(pointer, layout.size().min(size));
                self.dealloc(pointer, layout);
            }
            to
        }
    }
}
