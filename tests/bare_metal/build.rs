//! Puts the linker script of the board before the linker: `BOARD=m4 | m7 | m55`.

use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-env-changed=BOARD");
    println!("cargo::rerun-if-changed=boards");
    if env::var_os("CARGO_FEATURE_BOARD").is_none() {
        return;
    }
    let board = env::var("BOARD").unwrap_or_else(|_| "m7".into());
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let script = Path::new("boards").join(format!("{board}.x"));
    let text = fs::read_to_string(&script).unwrap_or_else(|e| panic!("BOARD={board}: {}: {e}", script.display()));
    fs::write(Path::new(&out).join("memory.x"), text).expect("memory.x");
    println!("cargo::rustc-link-search={out}");
    println!("cargo::rustc-link-arg-bin=board=-Tlink.x");
    println!("cargo::rustc-link-arg-bin=board=--nmagic");
    // SysTick counts at the processor's clock, which is 25 or 32 MHz; -icount makes an instruction a nanosecond.
    let ticks = if board == "m55" { 32_000_000 } else { 25_000_000 };
    println!("cargo::rustc-env=BOARD_HZ={ticks}");
    println!("cargo::rustc-env=BOARD_NAME={board}");
}
