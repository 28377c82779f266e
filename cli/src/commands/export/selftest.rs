//! `selftest.c`: the golden trace, and what replays it on the target.

use super::golden::{self, Trace};
use super::names::Names;
use super::plan::Exported;
use nunatak_nn::Event;
use std::fmt::Write;

/// What sums may be off, as a part of the sum of absolute values, on a target that rounds otherwise.
const TOLERANCE: f32 = 1e-3;

/// The header.
pub(super) fn header(names: &Names) -> String {
    fill(include_str!("selftest.h.in"), &[("name", &names.lower), ("NAME", &names.upper)])
}

/// The source, with the traces of all programs.
pub(super) fn source(exported: &Exported, names: &Names, traces: &[Trace]) -> String {
    let mut data = String::new();
    for (i, trace) in traces.iter().enumerate() {
        let _ = writeln!(data, "static const struct call calls_{i}[] = {{");
        for call in &trace.calls {
            let (kind, number) = code(call.event);
            let _ = writeln!(data, "  {{{kind}, {number}, \"{}\"}},", call.name);
        }
        // One that is no call's at the end: C knows no empty array.
        let _ = writeln!(data, "}};\nstatic const struct read reads_{i}[] = {{");
        for read in &trace.reads {
            let _ = writeln!(data, "  {{{}, {}, {}, 0x{:08x}u}},", read.call, read.at, read.bytes, read.hash);
        }
        let _ = writeln!(data, "  {{UINT32_MAX, 0, 0, 0}},\n}};\nstatic const struct digest digests_{i}[] = {{");
        for d in &trace.digests {
            let _ = writeln!(data, "  {{0x{:08x}u, {:e}f, {:e}f}},", d.hash, d.sum, d.magnitude);
        }
        data.push_str("};\n");
    }
    data.push_str("static const struct trace traces[] = {\n");
    for (i, (trace, purpose)) in traces.iter().zip(&exported.purposes).enumerate() {
        let steps = trace.digests.len() / trace.calls.len().max(1);
        let trains = u32::from(!trace.losses.is_empty());
        let count = trace.calls.len();
        let _ =
            writeln!(data, "  {{\"{}\", {}, {steps}, {trains}, {count}, calls_{i}, reads_{i}, digests_{i}}},", purpose.name, purpose.batch);
    }
    data.push_str("};");
    let most = exported.purposes.iter().map(|purpose| purpose.batch).max().unwrap_or(1);
    let numbers = |value: f32| vec![format!("{value:?}f"); exported.network.in_channels()].join(", ");
    let (_, exact) = exported.target.golden;
    let tolerance = if exact { "0".to_string() } else { format!("{TOLERANCE:e}f") };
    let momentum = if exported.momentum { golden::MOMENTUM } else { 0.0 };
    fill(
        include_str!("selftest.c.in"),
        &[
            ("name", &names.lower),
            ("NAME", &names.upper),
            ("version", env!("CARGO_PKG_VERSION")),
            ("data", &data),
            ("batch", &most.to_string()),
            ("mean", &numbers(golden::MEAN)),
            ("deviation", &numbers(golden::DEVIATION)),
            ("rate", &format!("{:?}f", golden::RATE)),
            ("momentum", &format!("{momentum:?}f")),
            ("seed", &golden::SEED.to_string()),
            ("tolerance", &tolerance),
        ],
    )
}

/// What C calls an event.
fn code(event: Event) -> (&'static str, usize) {
    match event {
        Event::Input(v) => ("NUNATAK_CALL_INPUT", v.index()),
        Event::Forward(v) => ("NUNATAK_CALL_FORWARD", v.index()),
        Event::Again(v) => ("NUNATAK_CALL_FORWARD_AGAIN", v.index()),
        Event::BackwardWeight(v) => ("NUNATAK_CALL_BACKWARD_WEIGHT", v.index()),
        Event::BackwardInput(v) => ("NUNATAK_CALL_BACKWARD_INPUT", v.index()),
        Event::BackwardStep(v) => ("NUNATAK_CALL_BACKWARD_STEP", v.index()),
        Event::Sum(id) => ("NUNATAK_CALL_SUM", id.index()),
        Event::Update(id) => ("NUNATAK_CALL_UPDATE", id.index()),
    }
}

/// Puts texts at the places that are marked by `@key@`.
pub(super) fn fill(template: &str, texts: &[(&str, &str)]) -> String {
    texts.iter().fold(template.to_string(), |text, (key, value)| text.replace(&format!("@{key}@"), value))
}
