//! Plans the steps of the lessons on this machine, as bytes for the firmware; and puts the linker script of the
//! board before the linker: `BOARD=m4 | m7 | m55`.

#[path = "src/nets.rs"]
#[allow(dead_code)] // the lessons use the rest
mod nets;

use nets::CLASSES;
use nunatak_nn::models::Recipe;
use nunatak_nn::{Graph, Program, Step};
use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-env-changed=BOARD");
    println!("cargo::rerun-if-changed=boards");
    println!("cargo::rerun-if-changed=src/nets.rs");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    programs(Path::new(&out));
    if env::var_os("CARGO_FEATURE_BOARD").is_some() {
        board(&out);
    }
}

/// Boards have one algorithm.
fn programs(out: &Path) {
    let write = |name: &str, program: Program| fs::write(out.join(name), program.bytes()).expect("OUT_DIR");
    for (name, train) in [("head", "head"), ("all", "all"), ("predict", "none")] {
        let planned = nets::resnet8(train, true).recipe(&Graph::new(), Recipe::resnet8(CLASSES), |step: Step| step.plan());
        write(name, planned.expect("ResNet-8"));
    }
    write("tutorial", nets::tutorial(true).recipe(&Graph::new(), Recipe::resnet18(1000), |step: Step| step.plan()).expect("ResNet18"));
    write("small", nets::small(true).step(&Graph::new(), |g, x| nets::small_layers(g, x), |step: Step| step.plan()).expect("small"));
}

fn board(out: &str) {
    let board = env::var("BOARD").unwrap_or_else(|_| "m7".into());
    let script = Path::new("boards").join(format!("{board}.x"));
    let text = fs::read_to_string(&script).unwrap_or_else(|e| panic!("BOARD={board}: {}: {e}", script.display()));
    fs::write(Path::new(out).join("memory.x"), text).expect("memory.x");
    println!("cargo::rustc-link-search={out}");
    for bin in ["board", "planner"] {
        println!("cargo::rustc-link-arg-bin={bin}=-Tlink.x");
        println!("cargo::rustc-link-arg-bin={bin}=--nmagic");
    }
    // SysTick counts at the processor's clock, which is 25 or 32 MHz; -icount makes an instruction a nanosecond.
    let ticks = if board == "m55" { 32_000_000 } else { 25_000_000 };
    println!("cargo::rustc-env=BOARD_HZ={ticks}");
    println!("cargo::rustc-env=BOARD_NAME={board}");
}
