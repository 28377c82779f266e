//! Every set of 8-bit instructions that the CPU has, also those that no level asks for since there are better ones.

use super::dispatch::Way;
use super::*;
use crate::conv2d::Window;
use crate::reference;
use crate::{Cpu, Level, Threads};
use nunatak_core::Shape;
use std::vec::Vec;

/// A small generator: the upper bits of a 64-bit congruential sequence.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }
}

/// Whole weights by way of real ones, so that `pack` lays them out.
fn packed(conv: &Conv2d, w: &[i8]) -> Vec<i8> {
    let real: Vec<f32> = w.iter().map(|w| f32::from(*w)).collect();
    let mut packed = std::vec![0; conv.weight_len()];
    pack(conv, &real, &std::vec![1.0; conv.geometry().k()], &mut packed);
    packed
}

fn check(input: [usize; 4], k: usize, window: Window, groups: usize, hostile: bool) {
    let [n, c, h, w] = input;
    let geometry = crate::Conv2d::general(Shape::new(n, c, h, w).expect("a shape"), k, window, groups).expect("a convolution");
    for (zeros, relu, residual) in [([0, 0], true, None), ([128, 128], false, Some(128))] {
        let conv = Conv2d::new(geometry, zeros[0], zeros[1], relu, residual).expect("one that fits");
        let mut random = Random(c as u64 + 7);
        let products = c / groups * geometry.taps();
        let mut w: Vec<i8> = (0..k * products).map(|_| random.bits() as i8).map(|w| w.max(-127)).collect();
        let x: Vec<u8> = (0..conv.x_len()).map(|_| random.bits() as u8 | if hostile { 0xfe } else { 0 }).collect();
        let shift = if hostile { 1 } else { 30 };
        let mut word = |small: i32| if hostile { (random.bits() << 1) as i32 } else { (random.bits() % 4096) as i32 * small };
        let multipliers: Vec<i32> = (0..k).map(|_| word(20)).collect();
        let bias: Vec<i32> = (0..k).map(|_| word(200)).collect();
        let r: Vec<u8> = (0..conv.y_len()).map(|_| random.bits() as u8).collect();
        let mut table = std::vec![0; conv.table_len()];
        (table[0], table[1]) = (shift, 1 << 29);
        for k in 0..k {
            table[16 + k / 16 * 32 + k % 16] = bias[k];
            table[16 + k / 16 * 32 + 16 + k % 16] = multipliers[k];
        }
        let mut w_packed = packed(&conv, &w);
        if hostile {
            // The least byte is no weight that `pack` makes; instructions must not take it for another.
            w.iter_mut().chain(&mut w_packed).filter(|w| **w < -100).for_each(|w| *w = -128);
        }
        let mut expected = std::vec![0; conv.y_len()];
        let residual = residual.map(|_| &r[..]);
        let call = reference::int8::Forward {
            x: &x,
            w: &w,
            bias: &bias,
            multipliers: &multipliers,
            shift,
            residual: residual.map(|r| (r, 1 << 29)),
            y: &mut expected,
        };
        reference::int8::conv2d(&conv, call);
        let threads = Threads::serial();
        let cpu = Cpu { level: Level::PORTABLE, threads: &threads };
        for way in Way::all() {
            let mut y = std::vec![0xaa; conv.y_len()];
            let mut scratch = std::vec![0x77; conv.scratch_len(1)];
            let call = Forward { x: &x, w: &w_packed, table: &table, residual, y: &mut y, scratch: &mut scratch };
            conv.forward_by(way, &cpu, call);
            let wrong = y.iter().zip(&expected).position(|(a, b)| a != b);
            assert!(wrong.is_none(), "byte {wrong:?} of {} by {way:?}: {conv:?}", expected.len());
        }
    }
}

#[test]
fn all_instructions_give_the_references_bytes() {
    let square = Window::square;
    for hostile in [false, true] {
        for (input, k, window) in [
            ([1, 3, 20, 21], 64, square(7, 2, 3)),
            ([2, 64, 7, 7], 48, square(3, 1, 1)),
            ([1, 40, 5, 9], 70, square(1, 1, 0)),
            ([2, 17, 6, 5], 33, square(3, 2, 1)),
            ([1, 5, 3, 11], 3, Window { kernel: [2, 3], stride: [1, 2], pad: [1, 0], dilation: [1, 2] }),
        ] {
            check(input, k, window, 1, hostile);
        }
        for (c, window) in [(32, square(3, 1, 1)), (39, square(3, 2, 1)), (8, square(5, 1, 2))] {
            check([2, c, 9, 19], c, window, c, hostile);
        }
    }
}

/// Where tiles have 1, 2, … pixels: every size of them is compiled for itself.
#[test]
fn every_number_of_pixels_gives_the_references_bytes() {
    for wide in 1..20 {
        check([1, 8, 1, wide], 40, Window::square(1, 1, 0), 1, false);
        check([1, 20, 1, wide], 20, Window { kernel: [1, 3], stride: [1, 1], pad: [0, 1], dilation: [1, 1] }, 20, false);
    }
}
