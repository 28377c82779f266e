//! `nunatak inspect`: what a weights file holds. Nothing in it is executed.

use crate::failure::Failure;
use crate::outln;
use nunatak_nn::checkpoint::{Checkpoint, Dtype, Entry, Format};
use nunatak_nn::state::{self, Head, recipe_of};
use nunatak_nn::{Network, Recipe};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Options of `nunatak inspect`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A .pth (either form), .safetensors or .nunatak
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The bytes of a file.
///
/// # Errors
/// [`Failure::Failed`] with its name.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|e| Failure::with(path.display(), e))
}

/// Text out of a file, fit for a terminal: control characters and the like are escaped.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    out
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
    blocks: Vec<usize>,
    widths: Vec<usize>,
    in_channels: usize,
    classes: usize,
}

impl NetworkLine {
    fn new(recipe: &Recipe) -> NetworkLine {
        let known = [("resnet18", Recipe::resnet18(0)), ("resnet34", Recipe::resnet34(0)), ("resnet8", Recipe::resnet8(0))];
        let shape = recipe.with_classes(0);
        NetworkLine {
            name: known.into_iter().find(|(_, r)| *r == shape).map_or("resnet", |(name, _)| name),
            blocks: (0..recipe.layers()).map(|i| recipe.blocks(i)).collect(),
            widths: (0..recipe.layers()).map(|i| recipe.width(i)).collect(),
            in_channels: recipe.in_channels,
            classes: recipe.classes,
        }
    }
}

fn is_parameter(entry: &Entry) -> bool {
    let float = matches!(entry.dtype(), Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16);
    float && !entry.name().ends_with("running_mean") && !entry.name().ends_with("running_var")
}

/// The network that a file is of, with every entry where it should be.
fn network(file: &Checkpoint) -> Result<NetworkLine, String> {
    let recipe = recipe_of(file).map_err(|e| e.to_string())?;
    let network = Network::new(recipe).map_err(|e| e.to_string())?;
    state::check(&network, file, Head::Load).map_err(|e| e.to_string())?;
    Ok(NetworkLine::new(&recipe))
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
    let bytes = read(&args.file)?;
    let file = Checkpoint::parse(&bytes).map_err(|e| Failure::with(args.file.display(), e))?;
    let (network, not_a_network) = match network(&file) {
        Ok(network) => (Some(network), None),
        Err(why) => (None, Some(why)),
    };
    let report = Report {
        file: args.file.display().to_string(),
        format: format_name(file.format()),
        file_bytes: bytes.len(),
        hash: file.native().map(|native| native.hash().to_string()),
        base: file.native().and_then(|native| native.base()).map(|hash| hash.to_string()),
        entries: file.entries().iter().map(|e| Line { name: e.name(), dtype: e.dtype().name(), shape: e.shape() }).collect(),
        metadata: file.metadata(),
        totals: Totals {
            entries: file.entries().len(),
            parameters: file.entries().iter().filter(|e| is_parameter(e)).map(Entry::len).sum(),
            bytes: file.entries().iter().map(|e| e.len() * e.dtype().size()).sum(),
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
        (Some(n), _) => outln!(
            "network: {}, blocks {:?}, widths {:?}, {} channels in, {}",
            n.name,
            n.blocks,
            n.widths,
            n.in_channels,
            if n.classes == 0 { "no head".to_string() } else { format!("{} classes", n.classes) }
        ),
        (None, Some(why)) => outln!("network: none that can be trained here: {}", printable(why)),
        (None, None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_command_the_terminal() {
        assert_eq!(printable("layer1.0 \"Füße\" a\\b"), "layer1.0 \"Füße\" a\\b");
        assert_eq!(printable("a\x1b[31m\u{202e}\nb"), "a\\u{1b}[31m\\u{202e}\\nb");
    }
}
