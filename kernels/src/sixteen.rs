//! Sixteen numbers, what a group of channels has of a pixel, copied and made zero: on boards the compiler makes calls of it, that
//! take as long as a filter's products with them.

#[cfg(target_arch = "arm")]
use core::arch::asm;

/// `y = x`.
#[cfg(not(target_arch = "arm"))]
#[inline(always)]
pub(crate) fn copy(x: &[f32; 16], y: &mut [f32; 16]) {
    *y = *x;
}

/// `y = x`, in four registers at a time.
#[cfg(all(target_arch = "arm", not(nunatak_mve)))]
#[inline(always)]
pub(crate) fn copy(x: &[f32; 16], y: &mut [f32; 16]) {
    // SAFETY: 16 numbers are read, 16 are written. Registers that change are named.
    unsafe {
        asm!(
            ".rept 4",
            "ldm {x}!, {{r0-r3}}",
            "stm {y}!, {{r0-r3}}",
            ".endr",
            x = inout(reg) x.as_ptr() => _,
            y = inout(reg) y.as_mut_ptr() => _,
            out("r0") _, out("r1") _, out("r2") _, out("r3") _,
            options(nostack, preserves_flags),
        );
    }
}

/// The same in vectors.
#[cfg(nunatak_mve)]
#[inline(always)]
pub(crate) fn copy(x: &[f32; 16], y: &mut [f32; 16]) {
    // SAFETY: 16 numbers are read, 16 are written. Registers that change are named.
    unsafe {
        asm!(
            "vldrw.u32 q0, [{x}]",
            "vldrw.u32 q1, [{x}, #16]",
            "vldrw.u32 q2, [{x}, #32]",
            "vldrw.u32 q3, [{x}, #48]",
            "vstrw.32 q0, [{y}]",
            "vstrw.32 q1, [{y}, #16]",
            "vstrw.32 q2, [{y}, #32]",
            "vstrw.32 q3, [{y}, #48]",
            x = in(reg) x.as_ptr(),
            y = in(reg) y.as_mut_ptr(),
            out("d0") _, out("d1") _, out("d2") _, out("d3") _, out("d4") _, out("d5") _, out("d6") _, out("d7") _,
            options(nostack, preserves_flags),
        );
    }
}

/// `y = 0`.
#[cfg(not(nunatak_mve))]
#[inline(always)]
pub(crate) fn clear(y: &mut [f32; 16]) {
    *y = [0.0; 16];
}

/// The same in vectors.
#[cfg(nunatak_mve)]
#[inline(always)]
pub(crate) fn clear(y: &mut [f32; 16]) {
    // SAFETY: 16 numbers are written. Registers that change are named.
    unsafe {
        asm!(
            "vmov.i32 q0, #0",
            "vstrw.32 q0, [{y}]",
            "vstrw.32 q0, [{y}, #16]",
            "vstrw.32 q0, [{y}, #32]",
            "vstrw.32 q0, [{y}, #48]",
            y = in(reg) y.as_mut_ptr(),
            out("d0") _, out("d1") _,
            options(nostack, preserves_flags),
        );
    }
}
