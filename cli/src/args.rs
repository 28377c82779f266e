//! Options that several commands share, and what their values mean.

use crate::failure::Failure;
use crate::setup::{Asked, Network};
use clap::{Args, ValueEnum};
use nunatak_nn::models::{self, MODELS};
use nunatak_nn::step::{call_convolution, call_name};
use nunatak_nn::{Algorithm, Event, InstructionSet, Level, Memory, Pass, Program, Recipe, Select, Stem, Threads, Update, ValueId};
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
    /// The instruction set that is named, whether this machine has it or not.
    ///
    /// # Errors
    /// [`Failure::Usage`] where there is none of this name.
    pub fn instruction_set(&self) -> Result<Option<InstructionSet>, Failure> {
        let named =
            self.level.as_ref().map(|name| InstructionSet::by_name(name).map_err(|e| Failure::usage(format_args!("--level {name}: {e}"))));
        named.transpose()
    }
    /// The instruction set to compute with.
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

/// What a file of weights may not tell of its network.
#[derive(Args, Clone, Debug, Default)]
pub struct Reading {
    /// The network, where the weights alone do not tell it: a name, a recipe in JSON, or a file with one
    #[arg(long)]
    pub arch: Option<String>,
    /// How the first convolution goes, of which a .pth tells the size alone: KERNEL:STRIDE:PAD, and :pool where
    /// max-pooling follows
    #[arg(long, value_name = "K:S:P[:pool]")]
    pub stem: Option<String>,
}

impl Reading {
    /// What is asked for.
    ///
    /// # Errors
    /// [`Failure::Usage`] where there is no such network or stem.
    pub fn asked(&self) -> Result<Asked, Failure> {
        let arch = self.arch.as_deref().map(|arch| network(arch, None)).transpose()?;
        Ok(Asked { arch, stem: self.stem.as_deref().map(stem).transpose()? })
    }
}

/// The stem that `--stem` describes.
fn stem(text: &str) -> Result<Stem, Failure> {
    let wrong = || {
        Failure::usage(format_args!(
            "--stem {text}: expected KERNEL:STRIDE:PAD, such as 3:1:1, and :pool behind it where max-pooling follows, such as 7:2:3:pool"
        ))
    };
    let (numbers, pool) = text.strip_suffix(":pool").map_or((text, false), |numbers| (numbers, true));
    let numbers: Vec<usize> = numbers.split(':').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
    let [kernel, stride, pad] = numbers[..] else { return Err(wrong()) };
    let stem = Stem { kernel, stride, pad, pool };
    Recipe::new(&[1], &[1], stem, 3, 1).map_err(|e| Failure::usage(format_args!("--stem {text}: {e}")))?;
    Ok(stem)
}

/// Memory or speed.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryArg {
    /// For boards: 16 kB of scratch in a call of gemm
    Tiny,
    /// As little as possible without becoming slow
    Small,
    /// What speed asks for
    #[default]
    Fast,
}

impl From<MemoryArg> for Memory {
    fn from(m: MemoryArg) -> Memory {
        match m {
            MemoryArg::Tiny => Memory::Tiny,
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

/// The names that `--arch` knows.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    MODELS.iter().map(|model| model.name).chain(["resnet8"])
}

/// The network that `--arch` names: one of [`architectures`], a recipe in JSON, or a file with one.
/// `classes` wins over the recipe's own.
///
/// # Errors
/// [`Failure::Usage`] where the text is neither.
pub fn network(arch: &str, classes: Option<usize>) -> Result<Network, Failure> {
    let named = |default: usize| classes.unwrap_or(default);
    let network = match arch {
        // These have a recipe, which native files can hold.
        "resnet18" => Network::Recipe(Recipe::resnet18(named(1000))),
        "resnet34" => Network::Recipe(Recipe::resnet34(named(1000))),
        "resnet8" => Network::Recipe(Recipe::resnet8(named(10))),
        _ => match models::by_name(arch) {
            Some(model) => Network::Named(*model, named(1000)),
            None => Network::Recipe(described(arch, classes)?),
        },
    };
    match network.classes() {
        classes if classes == 0 || classes > 1 << 24 => Err(Failure::usage(format_args!("{classes} classes: expected 1 to 16777216"))),
        _ => Ok(network),
    }
}

/// The recipe that a text in JSON describes, or a file with such a text.
fn described(arch: &str, classes: Option<usize>) -> Result<Recipe, Failure> {
    let text = if arch.trim_start().starts_with('{') {
        arch.to_string()
    } else if std::path::Path::new(arch).is_file() {
        std::fs::read_to_string(arch).map_err(|e| Failure::with(arch, e))?
    } else {
        let known: Vec<_> = architectures().collect();
        return Err(Failure::usage(format_args!("--arch {arch}: expected {}, a recipe in JSON or a file with one", known.join(", "))));
    };
    let json: RecipeJson = serde_json::from_str(&text).map_err(|e| Failure::usage(format_args!("--arch: the recipe's JSON: {e}")))?;
    if json.block != "basic" {
        return Err(Failure::usage(format_args!("--arch: block {:?} is not supported, only \"basic\"", json.block)));
    }
    let stem = Stem { kernel: json.stem.kernel, stride: json.stem.stride, pad: json.stem.pad, pool: json.stem.pool };
    let classes = classes.unwrap_or(json.classes);
    Recipe::new(&json.layers, &json.widths, stem, json.in_channels, classes).map_err(|e| Failure::usage(format_args!("--arch: {e}")))
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
pub fn report_refused(program: &Program, asked: &[Option<Algorithm>; 3]) {
    for pass in Pass::ALL {
        let Some(asked) = asked[pass as usize] else { continue };
        let mut refused = std::collections::BTreeMap::<&str, Vec<String>>::new();
        for call in program.forward() {
            if let Some((_, algorithms)) = call_convolution(&call)
                && algorithms[pass as usize] != asked
            {
                let name = call_name(program, Event::Forward(ValueId(call.node()))).to_string();
                refused.entry(algorithms[pass as usize].name()).or_default().push(name);
            }
        }
        for (runs, names) in refused {
            crate::output::say(format_args!("note: {asked} does not do {pass} of {}: {runs} runs there", names.join(", ")));
        }
    }
}

/// Refuses what `--trainable` names where no parameter is called so: all, none, head, or names and prefixes with
/// commas between.
///
/// # Errors
/// [`Failure::Usage`] where a name matches nothing; it lists near ones.
pub fn check_trainable(text: &str, network: &Network) -> Result<(), Failure> {
    if matches!(text, "all" | "none") {
        return Ok(());
    }
    let program = network.program().map_err(Failure::usage)?;
    let parameters: Vec<&str> = crate::setup::parameters(&program).map(|id| program.entry(id).name()).collect();
    for part in text.split(',') {
        let found = |name: &&str| Select::Names(part).has(name, program.head());
        if !parameters.iter().any(found) && !matches!(part.trim(), "none") {
            return Err(Failure::usage(format_args!(
                "--trainable: no parameter is, or begins with, {part:?}; near: {}",
                near(part, &parameters).join(", ")
            )));
        }
    }
    Ok(())
}

/// The names and prefixes nearest to `name`, by edit distance.
fn near(name: &str, parameters: &[&str]) -> Vec<String> {
    let mut known = std::collections::BTreeSet::new();
    for full in parameters {
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
pub(crate) fn distance(a: &str, b: &str) -> usize {
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
        let network = Network::Recipe(Recipe::resnet18(10));
        let names = network.parameters().expect("fits");
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(near("layer5", &names).len(), 5);
        assert!(near("fcc", &names).contains(&"fc".to_string()));
        for wrong in ["layer9", "bn1.running_mean", "fc,", ""] {
            assert!(matches!(check_trainable(wrong, &network), Err(Failure::Usage(_))), "{wrong:?}");
        }
        for right in ["all", "none", "head", "layer4,fc", "layer4.1.bn2.bias"] {
            assert!(check_trainable(right, &network).is_ok(), "{right}");
        }
    }

    #[test]
    fn stems_are_read_and_refused() {
        let read = |text: &str| stem(text).ok();
        assert_eq!(read("3:1:1"), Some(Stem { kernel: 3, stride: 1, pad: 1, pool: false }));
        assert_eq!(read("7:2:3:pool"), Some(Recipe::resnet18(1).stem));
        for bad in ["", "3", "3:1", "3:1:1:1", "3:1:1:pool:pool", "0:1:1", "3:0:1", "a:1:1", "99:1:1"] {
            assert!(matches!(stem(bad), Err(Failure::Usage(text)) if text.contains(bad)), "{bad}");
        }
    }

    #[test]
    fn networks_come_from_names_and_json() {
        let json = r#"{"block":"basic","layers":[1,1,1],"widths":[16,32,64],"stem":{"kernel":3,"stride":1,"pad":1,"pool":false},"in_channels":3,"classes":10}"#;
        assert_eq!(network(json, None).ok(), Some(Network::Recipe(Recipe::resnet8(10))));
        assert_eq!(network(json, Some(7)).ok(), Some(Network::Recipe(Recipe::resnet8(7))));
        for bad in ["resnet51", "{", "{}", "{\"block\":\"bottleneck\"}"] {
            assert!(matches!(network(bad, None), Err(Failure::Usage(_))), "{bad}");
        }
        assert!(matches!(network("resnet18", Some(0)), Err(Failure::Usage(_))));
        for name in architectures() {
            let network = network(name, Some(7)).unwrap_or_else(|e| panic!("{name}: {e:?}"));
            let program = network.program().unwrap_or_else(|e| panic!("{name}: {e}"));
            let of_head: Vec<_> =
                crate::setup::parameters(&program).filter(|id| Select::Head.has(program.entry(*id).name(), program.head())).collect();
            assert!(of_head.iter().all(|id| program.entry(*id).shape().0[0] == 7) && !of_head.is_empty(), "{name}");
        }
    }
}
