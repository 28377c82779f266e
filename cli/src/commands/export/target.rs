//! The processors that programs can be exported for: what of each a plan, a self-test and an estimate depend on.

use clap::ValueEnum;
use nunatak_nn::Memory;

/// A processor.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetArg {
    /// Cortex-M4F: single precision
    M4f,
    /// Cortex-M7: single and double precision
    M7,
    /// Cortex-M33: single precision
    M33,
    /// Cortex-M55: with Helium, for floats
    M55,
    /// RISC-V of 32 bits with single precision
    Riscv32imafc,
    /// AArch64 with NEON
    A64,
}

/// What is known of a processor. All of them are little-endian.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// Its name in words.
    pub(super) name: &'static str,
    /// Rust's name of the target that a library is built for.
    pub(super) triple: &'static str,
    /// What GCC is told.
    pub(super) flags: &'static str,
    /// The instruction-set level that the library has there.
    pub(super) level: &'static str,
    /// The level at which a desktop computes the golden trace, and whether the target gives the same bits.
    pub(super) golden: (&'static str, bool),
    /// Whether the library there has one algorithm, `gemm`.
    pub(super) gemm_only: bool,
    /// Whether the library there is one without an operating system, whose routines can be listed.
    pub(super) lists_routines: bool,
    /// Memory or speed.
    pub(super) memory: Memory,
    /// Bytes to which arrays are aligned: a cache line, or what the library asks for.
    pub(super) align: usize,
    /// None where nothing was counted.
    pub(super) instructions: Option<Instructions>,
}

/// What an emulator counted over steps of ResNet-8 with the profile `embedded`, divided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instructions {
    /// For a multiplication with its addition.
    pub(super) product: f64,
    /// For one of 8-bit integers.
    pub(super) byte_product: f64,
    /// For each four bytes that a call reads or writes.
    pub(super) number: f64,
}

/// One number at a time, and what an emulated Cortex-M7 took.
const BOARD: Target = Target {
    name: "",
    triple: "thumbv7em-none-eabihf",
    flags: "",
    level: "portable",
    golden: ("scalar", true),
    gemm_only: true,
    lists_routines: true,
    memory: Memory::Tiny,
    align: 64,
    instructions: Some(Instructions { product: 2.1, byte_product: 1.35, number: 8.0 }),
};

impl TargetArg {
    /// What is known of it.
    pub(super) fn target(self) -> Target {
        match self {
            TargetArg::M4f => Target { name: "Cortex-M4F", flags: "-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16", ..BOARD },
            TargetArg::M7 => Target { name: "Cortex-M7", flags: "-mcpu=cortex-m7 -mthumb -mfloat-abi=hard -mfpu=fpv5-d16", ..BOARD },
            TargetArg::M33 => Target {
                name: "Cortex-M33",
                triple: "thumbv8m.main-none-eabihf",
                flags: "-mcpu=cortex-m33 -mthumb -mfloat-abi=hard -mfpu=fpv5-sp-d16",
                ..BOARD
            },
            TargetArg::M55 => Target {
                name: "Cortex-M55",
                triple: "thumbv8m.main-none-eabihf",
                flags: "-mcpu=cortex-m55 -mthumb -mfloat-abi=hard",
                // Helium's products and sums are rounded once, and denormal numbers are zeros.
                golden: ("scalar", false),
                instructions: Some(Instructions { product: 0.75, byte_product: 1.35, number: 6.0 }),
                ..BOARD
            },
            TargetArg::Riscv32imafc => Target {
                name: "RISC-V rv32imafc",
                triple: "riscv32imafc-unknown-none-elf",
                flags: "-march=rv32imafc -mabi=ilp32f",
                instructions: None,
                ..BOARD
            },
            TargetArg::A64 => Target {
                name: "AArch64",
                triple: "aarch64-unknown-linux-gnu",
                level: "neon",
                golden: ("portable", false),
                gemm_only: false,
                lists_routines: false,
                memory: Memory::Fast,
                instructions: None,
                ..BOARD
            },
        }
    }
}
