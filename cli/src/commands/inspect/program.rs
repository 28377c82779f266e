//! What a program holds: its head, its entries, the values with a door, and its bytes.

use super::shape_text;
use crate::bytes::Bytes;
use crate::failure::Failure;
use crate::outln;
use crate::output::printable;
use crate::setup::parameter_numbers;
use nunatak_core::program::{Entry, Flags, Value, ValueRecord};
use nunatak_nn::files::native::Hash;
use nunatak_nn::step::call_counts;
use nunatak_nn::{EntryKind, InstructionSet, Memory, Program};
use serde_json::json;
use std::path::Path;

/// The memory setting of a program.
pub(in crate::commands) fn memory_name(program: &Program) -> &'static str {
    Memory::of_code(program.memory()).map_or("unknown", Memory::name)
}

/// The instruction set that a program asks for.
fn level_text(program: &Program) -> &'static str {
    match program.level() {
        0 => "any",
        code => InstructionSet::of_code(code).map_or("unknown", InstructionSet::name),
    }
}

fn kind_name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Parameter => "parameter",
        EntryKind::RunningMean => "running_mean",
        EntryKind::RunningVar => "running_var",
        EntryKind::Count => "count",
        EntryKind::Words => "words",
    }
}

/// Whether an entry changes: trained, read in place, or neither.
fn home_name(entry: &Entry) -> &'static str {
    match (entry.is_trained(), entry.is_borrowed()) {
        (true, _) => "trained",
        (false, true) => "in place",
        (false, false) => "-",
    }
}

fn shape_of(entry: &Entry) -> Vec<usize> {
    let (sizes, rank) = entry.shape();
    sizes[..rank].to_vec()
}

/// What a value is: an input, labels, kept.
fn value_kinds(value: &Value) -> Vec<&'static str> {
    let kinds = [(ValueRecord::INPUT, "input"), (ValueRecord::LABELS, "labels"), (ValueRecord::KEPT, "kept")];
    kinds.into_iter().filter(|(flag, _)| value.flags() & flag != 0).map(|(_, name)| name).collect()
}

/// Prints the program in the bytes of a file.
///
/// # Errors
/// [`Failure::Failed`] with the file's name, the place in it and what is wrong.
pub(super) fn run(path: &Path, bytes: Vec<u8>, as_json: bool) -> Result<(), Failure> {
    let program = Program::own(bytes).map_err(|e| Failure::with(path.display(), e))?;
    if as_json { print_json(path, &program) } else { print(path, &program) }
}

fn print_json(path: &Path, program: &Program) -> Result<(), Failure> {
    let (bytes, calls, [parameters, trained]) = (Bytes::of(program), call_counts(program), parameter_numbers(program));
    let entry = |entry: Entry| {
        json!({
            "name": entry.name(), "kind": kind_name(entry.kind()), "shape": shape_of(&entry),
            "trained": entry.is_trained(), "in_place": entry.is_borrowed(),
        })
    };
    let value = |value: Value| json!({"name": value.name(), "node": value.node(), "shape": value.shape(), "is": value_kinds(&value)});
    let report = json!({
        "file": path.display().to_string(),
        "format": "program",
        "file_bytes": program.bytes().len(),
        "hash": format!("{:016x}", program.hash()),
        "model": program.model(),
        "head": program.head(),
        "level": level_text(program),
        "threads": program.threads(),
        "memory": memory_name(program),
        "cpu_class": program.class(),
        "tuning": format!("{:016x}", program.tuning()),
        "mode": mode_name(program),
        "update": update_name(program),
        "momentum": program.flags().has(Flags::MOMENTUM),
        "weights": program.weights_hash().map(|hash| Hash(hash).to_string()),
        "calls": {"forward": calls.forward, "backward": calls.backward, "update": calls.update},
        "entries": program.entries().map(|id| entry(program.entry(id))).collect::<Vec<_>>(),
        "values": program.values().map(value).collect::<Vec<_>>(),
        "totals": {"entries": program.entry_count(), "parameters": parameters, "trained": trained},
        "bytes": {
            "weights": bytes.weights, "statistics": bytes.statistics, "gradients": bytes.gradients, "momentum": bytes.momentum,
            "activations": bytes.activations, "scratch": bytes.scratch, "padding": bytes.padding, "tables": bytes.tables,
            "in_place": bytes.borrowed,
        },
        "block_bytes": bytes.block,
    });
    let text = serde_json::to_string_pretty(&report).map_err(|e| Failure::with("JSON", e))?;
    outln!("{text}")
}

fn mode_name(program: &Program) -> &'static str {
    if program.flags().has(Flags::TRAIN) { "train" } else { "eval" }
}

fn update_name(program: &Program) -> &'static str {
    if program.flags().has(Flags::DURING) { "during" } else { "after" }
}

fn print(path: &Path, program: &Program) -> Result<(), Failure> {
    outln!("{}: program, {} bytes", path.display(), program.bytes().len())?;
    outln!("hash {:016x}", program.hash())?;
    if let Some(hash) = program.weights_hash() {
        outln!("reads in place the file with the hash {}", Hash(hash))?;
    }
    let or_none = |text: &str| if text.is_empty() { "none".to_string() } else { printable(text) };
    outln!("model: {}", or_none(program.model()))?;
    outln!("head: {}", or_none(program.head()))?;
    let level = level_text(program);
    outln!("target: level {level}, at most {} threads, memory {}", program.threads(), memory_name(program))?;
    if (program.class(), program.tuning()) != (0, 0) {
        outln!("algorithms chosen for CPU class {}, tuning table {:016x}", program.class(), program.tuning())?;
    }
    let calls = call_counts(program);
    let momentum = if program.flags().has(Flags::MOMENTUM) { "with" } else { "without" };
    outln!("step: {} mode, updates {} the backward walk, {momentum} momentum", mode_name(program), update_name(program))?;
    outln!("calls: {} forward, {} backward, {} updates\n", calls.forward, calls.backward, calls.update)?;

    let names: Vec<String> = program.entries().map(|id| printable(program.entry(id).name())).collect();
    let width = names.iter().map(|n| n.chars().count()).max().unwrap_or(0).clamp(4, 56);
    outln!("{:<width$}  {:<12}  {:<8}  shape", "name", "kind", "home")?;
    for (name, id) in names.iter().zip(program.entries()) {
        let entry = program.entry(id);
        outln!("{name:<width$}  {:<12}  {:<8}  {}", kind_name(entry.kind()), home_name(&entry), shape_text(&shape_of(&entry)))?;
    }
    let [parameters, trained] = parameter_numbers(program);
    outln!("\n{} entries, {parameters} parameters, {trained} of them trained", program.entry_count())?;
    for value in program.values() {
        let name = if value.name().is_empty() { format!("#{}", value.node()) } else { printable(value.name()) };
        outln!("value {name}: {}, {}", shape_text(&value.shape()), value_kinds(&value).join(", "))?;
    }
    crate::output::write(format_args!("\nbytes when most are in use:\n{}", Bytes::of(program)))
}
