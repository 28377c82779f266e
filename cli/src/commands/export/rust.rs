//! The export as a Rust module.

use super::golden::{self, Trace};
use super::names::Names;
use super::plan::Exported;
use super::selftest::fill;
use nunatak_nn::{Event, routines::Part};
use std::fmt::Write;

/// The module.
pub(super) fn module(exported: &Exported, names: &Names, traces: &[Trace]) -> String {
    let mut programs = String::new();
    for purpose in &exported.purposes {
        let upper = purpose.name.to_ascii_uppercase();
        let _ = writeln!(programs, "/// A program, by its name in the bundle.\npub const {upper}: &str = \"{}\";", purpose.name);
        let _ = writeln!(programs, "/// Images of its batch.\npub const {upper}_BATCH: usize = {};", purpose.batch);
        if purpose.trainable.is_some() && exported.micro_batches > 1 {
            let batches = exported.micro_batches;
            let _ = writeln!(programs, "/// Such batches that make a step.\npub const {upper}_MICRO_BATCHES: usize = {batches};");
        }
    }
    let mut routines = String::new();
    for routine in exported.routines() {
        let part = match routine.part() {
            Part::Forward => "Forward",
            Part::BackwardWeight => "BackwardWeight",
            Part::BackwardInput => "BackwardInput",
            Part::BackwardStep => "BackwardStep",
        };
        let _ = writeln!(routines, "    &Listed::of({}, Part::{part}), // {}", routine.code(), routine.operation());
    }
    let (_, exact) = exported.target.golden;
    let momentum = if exported.momentum { golden::MOMENTUM } else { 0.0 };
    let most = exported.purposes.iter().map(|purpose| purpose.batch).max().unwrap_or(1);
    let channels = exported.network.in_channels();
    fill(
        include_str!("module.rs.in"),
        &[
            ("name", &names.lower),
            ("version", env!("CARGO_PKG_VERSION")),
            ("network", exported.network.name()),
            ("target", exported.target.name),
            ("programs", &programs),
            ("routines", &routines),
            ("channels", &channels.to_string()),
            ("size", &exported.size.to_string()),
            ("classes", &exported.network.classes().to_string()),
            ("count", &names.regions.len().to_string()),
            ("regions", &regions(exported, names)),
            ("traces", &data(exported, traces)),
            ("batch", &most.to_string()),
            ("mean", &format!("[{:?}; {channels}]", golden::MEAN)),
            ("deviation", &format!("[{:?}; {channels}]", golden::DEVIATION)),
            ("rate", &format!("{:?}", golden::RATE)),
            ("momentum", &format!("{momentum:?}")),
            ("seed", &golden::SEED.to_string()),
            ("tolerance", if exact { "0.0" } else { "1e-3" }),
        ],
    )
}

/// The numbers of each region.
fn regions(exported: &Exported, names: &Names) -> String {
    let mut text = String::new();
    for (i, (region, given)) in names.regions.iter().zip(&exported.regions).enumerate() {
        let _ = writeln!(text, "/// Bytes of {} that a trainer takes with any of the programs, wherever they begin.", given.name);
        let _ = writeln!(text, "pub const {region}_BYTES: usize = {};", exported.region_bytes(i));
        let _ = writeln!(text, "/// Bytes of these that last from step to step.");
        let _ = writeln!(text, "pub const {region}_LASTING_BYTES: usize = {};", exported.lasting_bytes(i));
        let _ = writeln!(text, "/// Bytes that it was said to have.\npub const {region}_ROOM: usize = {};", given.bytes);
        let _ = writeln!(text, "const _: () = assert!({region}_BYTES <= {region}_ROOM, \"the region {} is too small\");", given.name);
    }
    text
}

/// The golden traces.
fn data(exported: &Exported, traces: &[Trace]) -> String {
    let mut text = String::new();
    for (trace, purpose) in traces.iter().zip(&exported.purposes) {
        let steps = trace.digests.len() / trace.calls.len().max(1);
        let _ = writeln!(text, "    Trace {{");
        let _ = writeln!(
            text,
            "        program: \"{}\",\n        batch: {},\n        steps: {steps},\n        trains: {},",
            purpose.name,
            purpose.batch,
            !trace.losses.is_empty()
        );
        text.push_str("        calls: &[\n");
        for call in &trace.calls {
            let _ = writeln!(text, "            ({}, \"{}\"),", event(call.event), call.name);
        }
        text.push_str("        ],\n        reads: &[\n");
        for read in &trace.reads {
            let _ = writeln!(text, "            ({}, {}..{}, 0x{:08x}),", read.call, read.at, read.at + read.bytes, read.hash);
        }
        text.push_str("        ],\n        digests: &[\n");
        for d in &trace.digests {
            let _ = writeln!(text, "            Digest {{ hash: 0x{:08x}, sum: {:?}, magnitude: {:?} }},", d.hash, d.sum, d.magnitude);
        }
        text.push_str("        ],\n    },\n");
    }
    text
}

fn event(event: Event) -> String {
    match event {
        Event::Input(v) => format!("Event::Input(ValueId({}))", v.0),
        Event::Forward(v) => format!("Event::Forward(ValueId({}))", v.0),
        Event::Again(v) => format!("Event::Again(ValueId({}))", v.0),
        Event::BackwardWeight(v) => format!("Event::BackwardWeight(ValueId({}))", v.0),
        Event::BackwardInput(v) => format!("Event::BackwardInput(ValueId({}))", v.0),
        Event::BackwardStep(v) => format!("Event::BackwardStep(ValueId({}))", v.0),
        Event::Sum(id) => format!("Event::Sum(EntryId({}))", id.0),
        Event::Update(id) => format!("Event::Update(EntryId({}))", id.0),
    }
}
