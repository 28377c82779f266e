//! Tells the crate whether it is built for a Cortex-M with the DSP instructions, and with Helium, which the compiler does not
//! tell.

use std::env::var;

/// Cores of Armv8-M that have them.
const CORES: [&str; 5] = ["cortex-m33", "cortex-m35p", "cortex-m55", "cortex-m85", "star-mc1"];
/// Those with vectors of floats too.
const HELIUM: [&str; 2] = ["cortex-m55", "cortex-m85"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(nunatak_dsp, nunatak_mve)");
    let text = |name: &str| var(name).unwrap_or_default();
    let (target, flags) = (text("TARGET"), text("CARGO_ENCODED_RUSTFLAGS"));
    let named = flags.contains("+dsp") || CORES.iter().any(|core| flags.contains(core)) || text("CARGO_CFG_TARGET_FEATURE").contains("dsp");
    if target.starts_with("thumbv7em-") || target.starts_with("thumbv8m.main-") && named {
        println!("cargo::rustc-cfg=nunatak_dsp");
    }
    let mve = flags.contains("+mve.fp") || HELIUM.iter().any(|core| flags.contains(core));
    if target.starts_with("thumbv8m.main-") && target.ends_with("hf") && mve && !flags.contains("-mve") {
        println!("cargo::rustc-cfg=nunatak_mve");
    }
}
