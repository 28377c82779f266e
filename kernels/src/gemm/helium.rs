//! The innermost loops on a Cortex-M with Helium (M-profile Vector Extension): tiles of 4 x 4 sums, four to a vector.
//!
//! The compiler has no stable intrinsics for these instructions, and makes none of loops over floats, since Helium takes
//! denormal numbers as zeros. So they are assembly: a product and its sum in one rounding, as at the levels with FMA.
//! Everything else on such a processor is as on other boards, one number at a time.

use core::arch::asm;

/// Sums of a tile: rows, columns.
pub(crate) type Tile = [[f32; 4]; 4];

/// `tile[r][v] += Σ over k below depth, x[16·r + k] · w[k·step + v]`.
///
/// # Safety
/// `x` must be readable for 48 + `depth` numbers, `w` for four from each multiple of `step` below `depth·step` on.
#[inline(always)]
pub(crate) unsafe fn multiply(x: *const f32, w: *const f32, step: usize, depth: usize, tile: &mut Tile) {
    if depth == 0 {
        return;
    }
    // SAFETY: what is read are the places that the caller vouches for: two steps at a time, then one where their number is odd.
    // Written is `tile`; registers that change are named.
    unsafe {
        asm!(
            "vldrw.u32 q4, [{tile}]",
            "vldrw.u32 q5, [{tile}, #16]",
            "vldrw.u32 q6, [{tile}, #32]",
            "vldrw.u32 q7, [{tile}, #48]",
            "lsrs lr, {depth}, #1",
            "beq 3f",
            "dls lr, lr",
            "2:",
            "vldrw.u32 q0, [{w}]",
            "add {w}, {w}, {step}",
            "ldrd {a}, {b}, [{x}]",
            "vldrw.u32 q1, [{w}]",
            "add {w}, {w}, {step}",
            "ldrd {c}, {d}, [{x}, #64]",
            "vfma.f32 q4, q0, {a}",
            "vfma.f32 q5, q0, {c}",
            "vfma.f32 q4, q1, {b}",
            "vfma.f32 q5, q1, {d}",
            "ldrd {a}, {b}, [{x}, #128]",
            "ldrd {c}, {d}, [{x}, #192]",
            "vfma.f32 q6, q0, {a}",
            "vfma.f32 q7, q0, {c}",
            "vfma.f32 q6, q1, {b}",
            "vfma.f32 q7, q1, {d}",
            "add {x}, {x}, #8",
            "le lr, 2b",
            "3:",
            "lsls {depth}, {depth}, #31",
            "beq 4f",
            "vldrw.u32 q0, [{w}]",
            "ldr {a}, [{x}]",
            "ldr {b}, [{x}, #64]",
            "ldr {c}, [{x}, #128]",
            "ldr {d}, [{x}, #192]",
            "vfma.f32 q4, q0, {a}",
            "vfma.f32 q5, q0, {b}",
            "vfma.f32 q6, q0, {c}",
            "vfma.f32 q7, q0, {d}",
            "4:",
            "vstrw.32 q4, [{tile}]",
            "vstrw.32 q5, [{tile}, #16]",
            "vstrw.32 q6, [{tile}, #32]",
            "vstrw.32 q7, [{tile}, #48]",
            x = inout(reg) x => _,
            w = inout(reg) w => _,
            step = in(reg) 4 * step,
            depth = inout(reg) depth => _,
            tile = in(reg) tile.as_mut_ptr(),
            a = out(reg) _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            out("lr") _,
            out("d0") _, out("d1") _, out("d2") _, out("d3") _, out("d8") _, out("d9") _, out("d10") _, out("d11") _,
            out("d12") _, out("d13") _, out("d14") _, out("d15") _,
            options(nostack),
        );
    }
}

/// `tile[r][v] = Σ over taps t and k below 16, x[64·t + 16·r + k] · w[t·stride + k·step + v]`, added to what is there where `add`:
/// [`multiply`] for all taps of 16 channels of a panel of four rows.
///
/// # Safety
/// `x` must be readable for 64 · `taps` numbers, `w` for four from each of these places on. `taps` is not 0.
#[inline(always)]
pub(crate) unsafe fn sixteen(x: *const f32, w: *const f32, [stride, step]: [usize; 2], taps: usize, add: bool, tile: &mut Tile) {
    // SAFETY: what is read are the places that the caller vouches for. Written is `tile`; registers that change are named.
    unsafe {
        asm!(
            "vmov.i32 q4, #0",
            "vmov.i32 q5, #0",
            "vmov.i32 q6, #0",
            "vmov.i32 q7, #0",
            "cmp {at}, #0",
            "beq 2f",
            "vldrw.u32 q4, [{tile}]",
            "vldrw.u32 q5, [{tile}, #16]",
            "vldrw.u32 q6, [{tile}, #32]",
            "vldrw.u32 q7, [{tile}, #48]",
            "2:",
            "mov lr, #8",
            "mov {at}, {w}",
            "dls lr, lr",
            "3:",
            "vldrw.u32 q0, [{at}]",
            "add {at}, {at}, {step}",
            "ldrd {a}, {b}, [{x}]",
            "vldrw.u32 q1, [{at}]",
            "add {at}, {at}, {step}",
            "ldrd {c}, {d}, [{x}, #64]",
            "vfma.f32 q4, q0, {a}",
            "vfma.f32 q5, q0, {c}",
            "vfma.f32 q4, q1, {b}",
            "vfma.f32 q5, q1, {d}",
            "ldrd {a}, {b}, [{x}, #128]",
            "ldrd {c}, {d}, [{x}, #192]",
            "vfma.f32 q6, q0, {a}",
            "vfma.f32 q7, q0, {c}",
            "vfma.f32 q6, q1, {b}",
            "vfma.f32 q7, q1, {d}",
            "add {x}, {x}, #8",
            "le lr, 3b",
            "add {x}, {x}, #192",
            "add {w}, {w}, {stride}",
            "subs {taps}, {taps}, #1",
            "bne 2b",
            "vstrw.32 q4, [{tile}]",
            "vstrw.32 q5, [{tile}, #16]",
            "vstrw.32 q6, [{tile}, #32]",
            "vstrw.32 q7, [{tile}, #48]",
            x = inout(reg) x => _,
            w = inout(reg) w => _,
            stride = in(reg) 4 * stride,
            step = in(reg) 4 * step,
            taps = inout(reg) taps => _,
            tile = in(reg) tile.as_mut_ptr(),
            at = inout(reg) usize::from(add) => _,
            a = out(reg) _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            out("lr") _,
            out("d0") _, out("d1") _, out("d2") _, out("d3") _, out("d8") _, out("d9") _, out("d10") _, out("d11") _,
            out("d12") _, out("d13") _, out("d14") _, out("d15") _,
            options(nostack),
        );
    }
}

/// `y = sums`, or `y += sums` where `add`.
#[inline(always)]
pub(crate) fn put(sums: &[f32; 4], y: &mut [f32; 4], add: bool) {
    // SAFETY: four numbers are read, and read and written. Registers that change are named.
    unsafe {
        asm!(
            "vldrw.u32 q0, [{sums}]",
            "cmp {add}, #0",
            "beq 2f",
            "vldrw.u32 q1, [{y}]",
            "vadd.f32 q0, q0, q1",
            "2:",
            "vstrw.32 q0, [{y}]",
            sums = in(reg) sums.as_ptr(),
            y = in(reg) y.as_mut_ptr(),
            add = in(reg) usize::from(add),
            out("d0") _, out("d1") _, out("d2") _, out("d3") _,
            options(nostack),
        );
    }
}

/// Copies 16 numbers.
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

/// `tile[i][v] += Σ over pixels p, x[p·x_step + i] · dy[p·dy_step + v]`.
///
/// # Safety
/// `x` must be readable for four numbers from each multiple of `x_step` below `pixels·x_step` on, `dy` likewise.
#[inline(always)]
pub(crate) unsafe fn outer(x: *const f32, x_step: usize, dy: *const f32, dy_step: usize, pixels: usize, tile: &mut Tile) {
    if pixels == 0 {
        return;
    }
    // SAFETY: what is read are the places that the caller vouches for. Written is `tile`; registers that change are named.
    unsafe {
        asm!(
            "vldrw.u32 q4, [{tile}]",
            "vldrw.u32 q5, [{tile}, #16]",
            "vldrw.u32 q6, [{tile}, #32]",
            "vldrw.u32 q7, [{tile}, #48]",
            "dls lr, {pixels}",
            "2:",
            "vldrw.u32 q0, [{dy}]",
            "ldrd {a}, {b}, [{x}]",
            "ldrd {c}, {d}, [{x}, #8]",
            "add {dy}, {dy}, {dy_step}",
            "add {x}, {x}, {x_step}",
            "vfma.f32 q4, q0, {a}",
            "vfma.f32 q5, q0, {b}",
            "vfma.f32 q6, q0, {c}",
            "vfma.f32 q7, q0, {d}",
            "le lr, 2b",
            "vstrw.32 q4, [{tile}]",
            "vstrw.32 q5, [{tile}, #16]",
            "vstrw.32 q6, [{tile}, #32]",
            "vstrw.32 q7, [{tile}, #48]",
            x = inout(reg) x => _,
            dy = inout(reg) dy => _,
            x_step = in(reg) 4 * x_step,
            dy_step = in(reg) 4 * dy_step,
            pixels = in(reg) pixels,
            tile = in(reg) tile.as_mut_ptr(),
            a = out(reg) _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            out("lr") _,
            out("d0") _, out("d1") _, out("d8") _, out("d9") _, out("d10") _, out("d11") _, out("d12") _, out("d13") _,
            out("d14") _, out("d15") _,
            options(nostack),
        );
    }
}
