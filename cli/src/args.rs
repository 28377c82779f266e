//! Options that several commands share, and what their values mean.

use crate::failure::Failure;
use clap::{Args, ValueEnum};
use nunatak_nn::{Algorithm, Level, Memory, Pass, Recipe, Stem, Threads, Update};
use serde::Deserialize;

/// Where to compute.
#[derive(Args, Clone, Debug)]
pub struct Compute {
    /// Threads; as many as the CPU (or its limits) allows where not given
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Instruction set: portable, avx2, avx512 or neon; the best there is (or $NUNATAK_LEVEL) where not given
    #[arg(long)]
    pub level: Option<String>,
}

impl Compute {
    /// The number of threads.
    pub fn thread_count(&self) -> usize {
        self.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
    }
    /// Starts the threads.
    ///
    /// # Errors
    /// [`Failure`] where the system gives none.
    pub fn start_threads(&self) -> Result<Threads, Failure> {
        Threads::new(self.thread_count()).map_err(|e| Failure::Failed(e.to_string()))
    }
    /// The instruction set.
    ///
    /// # Errors
    /// [`Failure::Usage`] where it does not exist here.
    pub fn level(&self) -> Result<Level, Failure> {
        match &self.level {
            Some(name) => Level::by_name(name).map_err(|e| Failure::usage(format_args!("--level {name}: {e}"))),
            None => Level::from_environment().map_err(|e| Failure::usage(format_args!("NUNATAK_LEVEL: {e}"))),
        }
    }
}

/// Memory or speed.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryArg {
    /// As little as possible without becoming slow
    Small,
    /// What speed asks for
    #[default]
    Fast,
}

impl From<MemoryArg> for Memory {
    fn from(m: MemoryArg) -> Memory {
        match m {
            MemoryArg::Small => Memory::Small,
            MemoryArg::Fast => Memory::Fast,
        }
    }
}

/// When parameters are updated.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpdateArg {
    /// After the backward walk: every gradient is kept
    After,
    /// During the walk, which is faster: a gradient's memory is used again at once
    #[default]
    During,
}

impl From<UpdateArg> for Update {
    fn from(u: UpdateArg) -> Update {
        match u {
            UpdateArg::After => Update::After,
            UpdateArg::During => Update::During,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecipeJson {
    block: String,
    layers: Vec<usize>,
    widths: Vec<usize>,
    stem: StemJson,
    in_channels: usize,
    classes: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StemJson {
    kernel: usize,
    stride: usize,
    pad: usize,
    pool: bool,
}

/// The network that `--arch` names: resnet18, resnet34, resnet8, a recipe in JSON, or a file with one.
/// `classes` wins over the recipe's own.
///
/// # Errors
/// [`Failure::Usage`] where the text is neither.
pub fn recipe(arch: &str, classes: Option<usize>) -> Result<Recipe, Failure> {
    let named = |default: usize| classes.unwrap_or(default);
    let recipe = match arch {
        "resnet18" => Recipe::resnet18(named(1000)),
        "resnet34" => Recipe::resnet34(named(1000)),
        "resnet8" => Recipe::resnet8(named(10)),
        _ => {
            let text = if arch.trim_start().starts_with('{') {
                arch.to_string()
            } else if std::path::Path::new(arch).is_file() {
                std::fs::read_to_string(arch).map_err(|e| Failure::with(arch, e))?
            } else {
                return Err(Failure::usage(format_args!(
                    "--arch {arch}: expected resnet18, resnet34, resnet8, a recipe in JSON or a file with one"
                )));
            };
            let json: RecipeJson =
                serde_json::from_str(&text).map_err(|e| Failure::usage(format_args!("--arch: the recipe's JSON: {e}")))?;
            if json.block != "basic" {
                return Err(Failure::usage(format_args!("--arch: block {:?} is not supported, only \"basic\"", json.block)));
            }
            let stem = Stem { kernel: json.stem.kernel, stride: json.stem.stride, pad: json.stem.pad, pool: json.stem.pool };
            let classes = classes.unwrap_or(json.classes);
            Recipe::new(&json.layers, &json.widths, stem, json.in_channels, classes)
                .map_err(|e| Failure::usage(format_args!("--arch: {e}")))?
        }
    };
    if recipe.classes == 0 || recipe.classes > 1 << 24 {
        return Err(Failure::usage(format_args!("{} classes: expected 1 to 16777216", recipe.classes)));
    }
    Ok(recipe)
}

/// The algorithms that `--algorithm` asks for: a name for all passes, or `pass=name,…`.
///
/// # Errors
/// [`Failure::Usage`] where a pass or an algorithm does not exist.
pub fn algorithms(text: Option<&str>) -> Result<[Option<Algorithm>; 3], Failure> {
    let mut chosen = [None; 3];
    let Some(text) = text else { return Ok(chosen) };
    let by_name = |name: &str| {
        Algorithm::ALL.iter().copied().find(|a| a.name() == name).ok_or_else(|| {
            let known: Vec<_> = Algorithm::ALL.iter().map(|a| a.name()).collect();
            Failure::usage(format_args!("--algorithm: there is no {name:?}; known: {}", known.join(", ")))
        })
    };
    for part in text.split(',') {
        match part.split_once('=') {
            None => chosen = [Some(by_name(part)?); 3],
            Some((pass, name)) => {
                let pass = Pass::ALL.into_iter().find(|p| p.name() == pass).ok_or_else(|| {
                    Failure::usage(format_args!("--algorithm: there is no pass {pass:?}; known: forward, backward_input, backward_weight"))
                })?;
                chosen[pass as usize] = Some(by_name(name)?);
            }
        }
    }
    Ok(chosen)
}

/// Says on stderr which convolutions an algorithm that was asked for does not accept.
pub fn report_refused(blueprint: &nunatak_nn::Blueprint, asked: &[Option<Algorithm>; 3]) {
    for pass in Pass::ALL {
        let Some(asked) = asked[pass as usize] else { continue };
        let mut refused = std::collections::BTreeMap::<&str, Vec<String>>::new();
        for node in blueprint.tape().nodes() {
            if let Some((_, algorithms, weight)) = node.op.convolution()
                && algorithms[pass as usize] != asked
            {
                let name = blueprint.network().param_at(weight).to_string();
                refused.entry(algorithms[pass as usize].name()).or_default().push(name.trim_end_matches(".weight").to_string());
            }
        }
        for (runs, names) in refused {
            eprintln!("note: {asked} does not do {pass} of {}: {runs} runs there", names.join(", "));
        }
    }
}

/// The parameters that `--trainable` names: all, none, or names and prefixes with commas between.
///
/// # Errors
/// [`Failure::Usage`] where a name matches nothing; it lists near ones.
pub fn trainable(text: &str, network: &nunatak_nn::Network) -> Result<nunatak_nn::ParamSet, Failure> {
    match text {
        "all" => return Ok(network.all()),
        "none" => return Ok(nunatak_nn::ParamSet::EMPTY),
        _ => {}
    }
    let mut set = nunatak_nn::ParamSet::EMPTY;
    for name in text.split(',') {
        let found = network.by_prefix(name).map_err(|_| {
            Failure::usage(format_args!("--trainable: no parameter is, or begins with, {name:?}; near: {}", near(name, network).join(", ")))
        })?;
        found.iter().for_each(|id| set.insert(id));
    }
    Ok(set)
}

/// The names and prefixes nearest to `name`, by edit distance.
fn near(name: &str, network: &nunatak_nn::Network) -> Vec<String> {
    let mut known = std::collections::BTreeSet::new();
    for param in network.params() {
        let full = param.to_string();
        let dots = full.match_indices('.').map(|(i, _)| i);
        dots.chain([full.len()]).for_each(|end| {
            known.insert(full[..end].to_string());
        });
    }
    let mut ranked: Vec<_> = known.into_iter().map(|k| (distance(name, &k), k)).collect();
    ranked.sort();
    ranked.into_iter().take(5).map(|(_, k)| k).collect()
}

/// Levenshtein's distance, of names short enough not to matter.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_neighbours() {
        let network = nunatak_nn::Network::new(Recipe::resnet18(10)).expect("fits");
        assert_eq!(near("layer5", &network).len(), 5);
        assert!(near("fcc", &network).contains(&"fc".to_string()));
        assert!(matches!(trainable("layer9", &network), Err(Failure::Usage(_))));
        assert_eq!(trainable("layer4,fc", &network).map(|s| s.iter().count()).ok(), Some(17));
    }

    #[test]
    fn recipes_come_from_json() {
        let json = r#"{"block":"basic","layers":[1,1,1],"widths":[16,32,64],"stem":{"kernel":3,"stride":1,"pad":1,"pool":false},"in_channels":3,"classes":10}"#;
        assert_eq!(recipe(json, None).ok(), Some(Recipe::resnet8(10)));
        assert_eq!(recipe(json, Some(7)).ok(), Some(Recipe::resnet8(7)));
        for bad in ["resnet50", "{", "{}", "{\"block\":\"bottleneck\"}"] {
            assert!(matches!(recipe(bad, None), Err(Failure::Usage(_))), "{bad}");
        }
        assert!(matches!(recipe("resnet18", Some(0)), Err(Failure::Usage(_))));
    }
}
