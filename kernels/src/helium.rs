//! The innermost loops on a Cortex-M with Helium (M-profile Vector Extension): four numbers to a vector.
//!
//! Of a plain loop over four numbers the compiler makes Helium's instructions by itself, but not where sums stay in registers, and
//! there are no stable intrinsics for them. So these loops are assembly: tiles of 4 x 4 sums, and sums of four columns. A product
//! and its sum are rounded once, as at the levels with FMA; only where it is decided which numbers a relu let through they are
//! rounded twice, as it did. Everything else on such a processor is as on other boards.

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

/// `y[r][v] = Σ over taps t and k below 16, x[64·t + 16·r + k] · w[t·stride + k·step + v]`, added to what is there where `add`:
/// [`multiply`] for all taps of 16 channels of a panel of four rows. The pointers `y` move on by four numbers.
///
/// # Safety
/// `x` must be readable for 64 · `taps` numbers, `w` for four from each of these places on; where each of `y` points four numbers
/// must be writable, and there. `taps` is not 0.
#[inline(always)]
pub(crate) unsafe fn sixteen(x: *const f32, w: *const f32, [stride, step]: [usize; 2], taps: usize, y: &mut [*mut f32; 4], add: bool) {
    // SAFETY: what is read and written are the places that the caller vouches for, and `y`. Registers that change are named.
    unsafe {
        asm!(
            "vmov.i32 q4, #0",
            "vmov.i32 q5, #0",
            "vmov.i32 q6, #0",
            "vmov.i32 q7, #0",
            "dls lr, {taps}",
            "2:",
            "mov {at}, {w}",
            // Sixteen steps, two at a time; no sum is asked for before another was.
            ".rept 8",
            "vldrw.u32 q0, [{at}]",
            "add {at}, {at}, {step}",
            "ldrd {c}, {d}, [{x}, #64]",
            "vldrw.u32 q1, [{at}]",
            "add {at}, {at}, {step}",
            "ldrd {a}, {b}, [{x}, #128]",
            "vfma.f32 q5, q0, {c}",
            "vfma.f32 q6, q0, {a}",
            "vfma.f32 q5, q1, {d}",
            "vfma.f32 q6, q1, {b}",
            "ldrd {c}, {d}, [{x}, #192]",
            "ldrd {a}, {b}, [{x}], #8",
            "vfma.f32 q7, q0, {c}",
            "vfma.f32 q4, q0, {a}",
            "vfma.f32 q7, q1, {d}",
            "vfma.f32 q4, q1, {b}",
            ".endr",
            "add {x}, {x}, #192",
            "add {w}, {w}, {stride}",
            "le lr, 2b",
            "ldrd {a}, {b}, [{y}]",
            "ldrd {c}, {d}, [{y}, #8]",
            "cmp {add}, #0",
            "beq 4f",
            "vldrw.u32 q0, [{a}]",
            "vldrw.u32 q1, [{b}]",
            "vadd.f32 q4, q4, q0",
            "vldrw.u32 q2, [{c}]",
            "vadd.f32 q5, q5, q1",
            "vldrw.u32 q3, [{d}]",
            "vadd.f32 q6, q6, q2",
            "vadd.f32 q7, q7, q3",
            "4:",
            "vstrw.32 q4, [{a}], #16",
            "vstrw.32 q5, [{b}], #16",
            "vstrw.32 q6, [{c}], #16",
            "vstrw.32 q7, [{d}], #16",
            "strd {a}, {b}, [{y}]",
            "strd {c}, {d}, [{y}, #8]",
            x = inout(reg) x => _,
            w = inout(reg) w => _,
            stride = in(reg) 4 * stride,
            step = in(reg) 4 * step,
            taps = in(reg) taps,
            y = in(reg) y.as_mut_ptr(),
            add = in(reg) usize::from(add),
            at = out(reg) _,
            a = out(reg) _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            out("lr") _,
            out("d0") _, out("d1") _, out("d2") _, out("d3") _, out("d4") _, out("d5") _, out("d6") _, out("d7") _,
            out("d8") _, out("d9") _, out("d10") _, out("d11") _, out("d12") _, out("d13") _, out("d14") _, out("d15") _,
            options(nostack),
        );
    }
}

/// `sums[v] = Σ over rows r, y[r·step + v]`.
///
/// # Safety
/// `y` must be readable for four numbers from each of these places on. There are rows.
#[inline(always)]
pub(crate) unsafe fn sums(y: *const f32, step: usize, rows: usize) -> [f32; 4] {
    let mut sums = [0.0; 4];
    // SAFETY: what is read are the places that the caller vouches for. Written is `sums`; registers that change are named.
    unsafe {
        asm!(
            "vmov.i32 q0, #0",
            "dls lr, {rows}",
            "2:",
            "vldrw.u32 q1, [{y}]",
            "add {y}, {y}, {step}",
            "vadd.f32 q0, q0, q1",
            "le lr, 2b",
            "vstrw.32 q0, [{sums}]",
            y = inout(reg) y => _,
            step = in(reg) 4 * step,
            rows = in(reg) rows,
            sums = in(reg) sums.as_mut_ptr(),
            out("lr") _, out("d0") _, out("d1") _, out("d2") _, out("d3") _,
            options(nostack, preserves_flags),
        );
    }
    sums
}

/// `[Σ d, Σ d²]` over rows r, with `d = y[r·step + v] − centre[v]`.
///
/// # Safety
/// As [`sums`].
#[inline(always)]
pub(crate) unsafe fn deviations(y: *const f32, step: usize, rows: usize, centre: &[f32; 4]) -> [[f32; 4]; 2] {
    let mut both = [[0.0; 4]; 2];
    // SAFETY: what is read are the places that the caller vouches for, and `centre`. Written is `both`; registers that change are
    // named.
    unsafe {
        asm!(
            "vldrw.u32 q3, [{centre}]",
            "vmov.i32 q0, #0",
            "vmov.i32 q1, #0",
            "dls lr, {rows}",
            "2:",
            "vldrw.u32 q2, [{y}]",
            "add {y}, {y}, {step}",
            "vsub.f32 q2, q2, q3",
            "vadd.f32 q0, q0, q2",
            "vfma.f32 q1, q2, q2",
            "le lr, 2b",
            "vstrw.32 q0, [{both}]",
            "vstrw.32 q1, [{both}, #16]",
            y = inout(reg) y => _,
            step = in(reg) 4 * step,
            rows = in(reg) rows,
            centre = in(reg) centre.as_ptr(),
            both = in(reg) both.as_mut_ptr(),
            out("lr") _, out("d0") _, out("d1") _, out("d2") _, out("d3") _, out("d4") _, out("d5") _, out("d6") _, out("d7") _,
            options(nostack, preserves_flags),
        );
    }
    both
}

/// `[Σ dy, Σ d·dy]` over rows r of four columns, `step` numbers from row to row, with d = x − mean and without the dy where
/// `d·scale + shift`, rounded twice, is not above zero: `tables` point to four means, scales and shifts.
///
/// # Safety
/// `x` and `dy` must be readable for four numbers of each row, each of `tables` for four. There are rows.
#[inline(always)]
pub(crate) unsafe fn gated(x: *const f32, dy: *const f32, step: usize, rows: usize, tables: [*const f32; 3]) -> [[f32; 4]; 2] {
    let mut both = [[0.0; 4]; 2];
    // SAFETY: what is read and written are the places that the caller vouches for, and `both`. Registers that change are named.
    unsafe {
        asm!(
            "vldrw.u32 q5, [{mean}]",
            "vldrw.u32 q6, [{scale}]",
            "vldrw.u32 q7, [{shift}]",
            // What a comparison changes is no register that can be named: it is put back.
            "vmrs {before}, p0",
            "mov {zero}, #0",
            "vmov.i32 q0, #0",
            "vmov.i32 q1, #0",
            "dls lr, {rows}",
            "2:",
            "vldrw.u32 q2, [{x}]",
            "add {x}, {x}, {step}",
            "vldrw.u32 q3, [{dy}]",
            "vsub.f32 q2, q2, q5",
            "add {dy}, {dy}, {step}",
            "vmul.f32 q4, q2, q6",
            "vadd.f32 q4, q4, q7",
            "vpt.f32 le, q4, {zero}",
            "vmovt.i32 q3, #0",
            "vadd.f32 q0, q0, q3",
            "vfma.f32 q1, q2, q3",
            "le lr, 2b",
            "vstrw.32 q0, [{both}]",
            "vstrw.32 q1, [{both}, #16]",
            "vmsr p0, {before}",
            x = inout(reg) x => _,
            dy = inout(reg) dy => _,
            step = in(reg) 4 * step,
            mean = in(reg) tables[0],
            scale = in(reg) tables[1],
            shift = in(reg) tables[2],
            zero = out(reg) _,
            before = out(reg) _,
            rows = in(reg) rows,
            both = in(reg) both.as_mut_ptr(),
            out("lr") _, out("d0") _, out("d1") _, out("d2") _, out("d3") _, out("d4") _, out("d5") _, out("d6") _, out("d7") _,
            out("d8") _, out("d9") _, out("d10") _, out("d11") _, out("d12") _, out("d13") _, out("d14") _, out("d15") _,
            options(nostack),
        );
    }
    both
}

/// `[Σ dy, Σ d·dy]` over rows r of four columns, `step` numbers from row to row, with d = x − mean; before that dy becomes zero
/// where y is not above zero.
///
/// # Safety
/// `x` and `y` must be readable for four numbers of each row, `dy` writable, `mean` readable for four. There are rows.
#[inline(always)]
pub(crate) unsafe fn masked(x: *const f32, y: *const f32, dy: *mut f32, step: usize, rows: usize, mean: *const f32) -> [[f32; 4]; 2] {
    let mut both = [[0.0; 4]; 2];
    // SAFETY: what is read and written are the places that the caller vouches for, and `both`. Registers that change are named.
    unsafe {
        asm!(
            "vldrw.u32 q4, [{mean}]",
            // What a comparison changes is no register that can be named: it is put back.
            "vmrs {before}, p0",
            "mov {zero}, #0",
            "vmov.i32 q0, #0",
            "vmov.i32 q1, #0",
            "dls lr, {rows}",
            "2:",
            "vldrw.u32 q5, [{y}]",
            "add {y}, {y}, {step}",
            "vldrw.u32 q3, [{dy}]",
            "vldrw.u32 q2, [{x}]",
            "add {x}, {x}, {step}",
            "vpt.f32 le, q5, {zero}",
            "vmovt.i32 q3, #0",
            "vsub.f32 q2, q2, q4",
            "vstrw.32 q3, [{dy}]",
            "add {dy}, {dy}, {step}",
            "vadd.f32 q0, q0, q3",
            "vfma.f32 q1, q2, q3",
            "le lr, 2b",
            "vstrw.32 q0, [{both}]",
            "vstrw.32 q1, [{both}, #16]",
            "vmsr p0, {before}",
            x = inout(reg) x => _,
            y = inout(reg) y => _,
            dy = inout(reg) dy => _,
            step = in(reg) 4 * step,
            mean = in(reg) mean,
            zero = out(reg) _,
            before = out(reg) _,
            rows = in(reg) rows,
            both = in(reg) both.as_mut_ptr(),
            out("lr") _, out("d0") _, out("d1") _, out("d2") _, out("d3") _, out("d4") _, out("d5") _, out("d6") _, out("d7") _,
            out("d8") _, out("d9") _, out("d10") _, out("d11") _,
            options(nostack),
        );
    }
    both
}

/// Lines of pixels as [`outer`] reads them: numbers from a pixel, or a line, to the next.
pub(crate) struct Pixels {
    pub(crate) lines: usize,
    pub(crate) pixels: usize,
    pub(crate) x_pixel: usize,
    pub(crate) x_line: usize,
}

/// `tile[i][v] += Σ over lines l and their pixels p, x[l·x_line + p·x_pixel + i] · dy[(l·pixels + p)·DY + v]`. `DY` is at most 127.
///
/// # Safety
/// `x` and `dy` must be readable for four numbers from each of these places on. There are lines, and pixels in them.
#[inline(always)]
pub(crate) unsafe fn outer<const DY: usize>(x: *const f32, dy: *const f32, shape: &Pixels, tile: &mut Tile) {
    const { assert!(DY < 128) };
    let Pixels { lines, pixels, x_pixel, x_line } = *shape;
    // From behind a line's last pixel to the next line: it may lie before that.
    let turn = x_line.wrapping_sub(pixels.wrapping_mul(x_pixel));
    // SAFETY: what is read are the places that the caller vouches for: two pixels at a time, then one where their number is odd.
    // Written is `tile`; registers that change are named.
    unsafe {
        asm!(
            "vldrw.u32 q4, [{tile}]",
            "vldrw.u32 q5, [{tile}, #16]",
            "vldrw.u32 q6, [{tile}, #32]",
            "vldrw.u32 q7, [{tile}, #48]",
            "2:",
            "lsrs lr, {pixels}, #1",
            "beq 4f",
            "dls lr, lr",
            "3:",
            "vldrw.u32 q0, [{dy}], #{step}",
            "ldm {x}, {{r0-r3}}",
            "add {x}, {x}, {x_step}",
            "vfma.f32 q4, q0, r0",
            "vfma.f32 q5, q0, r1",
            "vfma.f32 q6, q0, r2",
            "vfma.f32 q7, q0, r3",
            "vldrw.u32 q1, [{dy}], #{step}",
            "ldm {x}, {{r0-r3}}",
            "add {x}, {x}, {x_step}",
            "vfma.f32 q4, q1, r0",
            "vfma.f32 q5, q1, r1",
            "vfma.f32 q6, q1, r2",
            "vfma.f32 q7, q1, r3",
            "le lr, 3b",
            "4:",
            "lsls r0, {pixels}, #31",
            "beq 5f",
            "vldrw.u32 q0, [{dy}], #{step}",
            "ldm {x}, {{r0-r3}}",
            "add {x}, {x}, {x_step}",
            "vfma.f32 q4, q0, r0",
            "vfma.f32 q5, q0, r1",
            "vfma.f32 q6, q0, r2",
            "vfma.f32 q7, q0, r3",
            "5:",
            "add {x}, {x}, {turn}",
            "subs {lines}, {lines}, #1",
            "bne 2b",
            "vstrw.32 q4, [{tile}]",
            "vstrw.32 q5, [{tile}, #16]",
            "vstrw.32 q6, [{tile}, #32]",
            "vstrw.32 q7, [{tile}, #48]",
            step = const 4 * DY,
            x = inout(reg) x => _,
            dy = inout(reg) dy => _,
            x_step = in(reg) 4 * x_pixel,
            turn = in(reg) turn.wrapping_mul(4),
            pixels = in(reg) pixels,
            lines = inout(reg) lines => _,
            tile = in(reg) tile.as_mut_ptr(),
            out("r0") _, out("r1") _, out("r2") _, out("r3") _, out("lr") _,
            out("d0") _, out("d1") _, out("d2") _, out("d3") _, out("d8") _, out("d9") _, out("d10") _, out("d11") _,
            out("d12") _, out("d13") _, out("d14") _, out("d15") _,
            options(nostack),
        );
    }
}
