//! `nunatak inspect`: what a weights file or a program holds. Nothing in it is executed.

mod program;

use crate::failure::Failure;
use crate::outln;
use crate::output::printable;
use crate::published;
use crate::setup::Network;
use crate::weights;
use nunatak_core::program::MAGIC;
use nunatak_nn::files::state;
use nunatak_nn::files::{Checkpoint, Entry, Format, Head};
pub(super) use program::memory_name;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Options of `nunatak inspect`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Weights: a .pth (either form), .safetensors or .nunatak, or the name of published ones, as of `nunatak finetune`; or
    /// a program that `nunatak plan --out` wrote
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Of a file with several state dicts: the keys that lead to the one that is meant, with dots between
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
}

/// The name of a format.
pub(super) fn format_name(format: Format) -> &'static str {
    match format {
        Format::PthZip => "pth (zip)",
        Format::PthLegacy => "pth (before torch 1.6)",
        Format::Safetensors => "safetensors",
        Format::Native => "nunatak",
        _ => "unknown",
    }
}

#[derive(Serialize)]
struct Report<'a> {
    file: String,
    format: &'static str,
    file_bytes: usize,
    /// Of a native file: what tells it from any other.
    hash: Option<String>,
    /// Of a delta: the hash of the file that it is laid over.
    base: Option<String>,
    /// Where in the file the state dict lies: the keys that lead to it, and the prefix of its names.
    key: String,
    /// Why no state dict was chosen: entries are then all of the file's.
    ambiguity: Option<String>,
    /// What was assumed, and what was left out.
    remarks: &'a [String],
    entries: Vec<Line<'a>>,
    metadata: &'a BTreeMap<String, String>,
    totals: Totals,
    network: Option<NetworkLine>,
    /// Why it is no network that can be trained here.
    not_a_network: Option<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    dtype: &'static str,
    shape: &'a [usize],
}

#[derive(Serialize)]
struct Totals {
    entries: usize,
    /// Numbers that are trained: floats that are no running statistics.
    parameters: usize,
    /// Bytes of all tensors' elements.
    bytes: usize,
}

#[derive(Serialize)]
struct NetworkLine {
    name: &'static str,
    /// Of a residual network of basic blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocks: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    widths: Option<Vec<usize>>,
    in_channels: usize,
    classes: usize,
}

impl NetworkLine {
    fn new(network: &Network) -> NetworkLine {
        let floats = network.floats();
        let recipe = match &floats {
            Network::Recipe(recipe) => Some(recipe),
            Network::Named(..) | Network::Int8(_) => None,
        };
        NetworkLine {
            name: network.name(),
            blocks: recipe.map(|recipe| (0..recipe.layers()).map(|i| recipe.blocks(i)).collect()),
            widths: recipe.map(|recipe| (0..recipe.layers()).map(|i| recipe.width(i)).collect()),
            in_channels: network.in_channels(),
            classes: network.classes(),
        }
    }
}

fn is_parameter(entry: &Entry) -> bool {
    entry.dtype().is_float() && !entry.name().ends_with("running_mean") && !entry.name().ends_with("running_var")
}

/// The network that a file is of, with every entry where it should be.
fn network(file: &Checkpoint) -> Result<NetworkLine, String> {
    let network = Network::of(file, None).map_err(|e| e.to_string())?;
    let program = network.program().map_err(|e| e.to_string())?;
    state::check(&program, file, Head::Load).map_err(|e| e.to_string())?;
    Ok(NetworkLine::new(&network))
}

/// `64x3x7x7`; of a scalar `scalar`.
fn shape_text(shape: &[usize]) -> String {
    if shape.is_empty() { "scalar".into() } else { shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x") }
}

/// Runs it.
///
/// # Errors
/// [`Failure::Failed`] with the file's name, the place in it and what is wrong.
pub fn run(args: &Args) -> Result<(), Failure> {
    let path = &published::find(&args.file, None)?;
    let bytes = weights::read(path)?;
    if bytes.starts_with(&MAGIC) {
        return program::run(path, bytes, args.json);
    }
    let file = weights::parse(path, &bytes, args.key.as_deref())?;
    let (network, not_a_network) = match network(&file) {
        Ok(network) => (Some(network), None),
        Err(why) => (None, Some(why)),
    };
    let report = Report {
        file: path.display().to_string(),
        format: format_name(file.format()),
        file_bytes: bytes.len(),
        hash: file.native().map(|native| native.hash().to_string()),
        base: file.native().and_then(|native| native.base()).map(|hash| hash.to_string()),
        key: file.key(),
        ambiguity: file.ambiguity().map(ToString::to_string),
        remarks: file.remarks(),
        entries: file.entries().iter().map(|e| Line { name: e.name(), dtype: e.dtype().name(), shape: e.shape() }).collect(),
        metadata: file.metadata(),
        totals: Totals {
            entries: file.entries().len(),
            parameters: file.entries().iter().filter(|e| is_parameter(e)).map(Entry::len).sum(),
            bytes: file.entries().iter().map(|e| e.len() * e.dtype().bits() / 8).sum(),
        },
        network,
        not_a_network,
    };
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|e| Failure::with("JSON", e))?;
        return outln!("{text}");
    }
    print(&report)
}

fn print(report: &Report) -> Result<(), Failure> {
    outln!("{}: {}, {} bytes", report.file, report.format, report.file_bytes)?;
    for (what, hash) in [("hash", &report.hash), ("delta over", &report.base)] {
        if let Some(hash) = hash {
            outln!("{what} {hash}")?;
        }
    }
    for remark in report.remarks {
        outln!("note: {}", printable(remark))?;
    }
    outln!("")?;
    let names: Vec<String> = report.entries.iter().map(|e| printable(e.name)).collect();
    let width = names.iter().map(|n| n.chars().count()).max().unwrap_or(0).clamp(4, 56);
    outln!("{:<width$}  type  shape", "name")?;
    for (name, entry) in names.iter().zip(&report.entries) {
        outln!("{name:<width$}  {:<4}  {}", entry.dtype, shape_text(entry.shape))?;
    }
    outln!("")?;
    let Totals { entries, parameters, bytes } = report.totals;
    outln!("{entries} entries, {parameters} parameters, {bytes} bytes of numbers")?;
    for (key, value) in report.metadata {
        outln!("metadata {}: {}", printable(key), printable(value))?;
    }
    match (&report.network, &report.not_a_network) {
        (Some(n), _) => {
            let layers = match (&n.blocks, &n.widths) {
                (Some(blocks), Some(widths)) => format!(", blocks {blocks:?}, widths {widths:?}"),
                _ => String::new(),
            };
            let head = if n.classes == 0 { "no head".to_string() } else { format!("{} classes", n.classes) };
            outln!("network: {}{layers}, {} channels in, {head}", n.name, n.in_channels)
        }
        (None, Some(_)) if report.ambiguity.is_some() => {
            outln!("network: not chosen: {}", printable(report.ambiguity.as_deref().unwrap_or_default()))
        }
        (None, Some(why)) => outln!("network: none that can be trained here: {}", printable(why)),
        (None, None) => Ok(()),
    }
}
