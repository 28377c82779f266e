//! Under which names others save the networks that are known here, as data.
//!
//! A pattern is a name in which `#` stands for a number, `@` at its end for a layer's part (`weight`,
//! `running_mean`, …) and `*` at its end for any rest. A translation names the numbers by their order:
//! `{0}`, and `{0+1}` for one more.

#![forbid(unsafe_code)]

/// A way of naming a network's entries.
pub(crate) struct Scheme {
    /// What it is called in messages; empty for torchvision's own names.
    pub(crate) name: &'static str,
    /// From a pattern to torchvision's name. A name that no pattern fits stays as it is.
    rules: &'static [(&'static str, &'static str)],
}

/// The parts of a layer.
const PARTS: [&str; 5] = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];

/// The names of the networks that are known here, as torchvision has them. A test holds them against the
/// models' own.
const KNOWN: &[&str] = &[
    "conv1.@",
    "bn1.@",
    "layer#.#.conv#.@",
    "layer#.#.bn#.@",
    "layer#.#.downsample.#.@",
    "fc.@",
    "fc.#.@",
    "features.#.#.@",
    "features.#.conv.#.@",
    "features.#.conv.#.#.@",
    "features.#.block.#.@",
    "features.#.block.#.#.@",
    "features.#.block.#.fc#.@",
    "classifier.#.@",
];

/// The ways in which names are translated; the first is torchvision's.
pub(crate) const SCHEMES: &[Scheme] = &[
    Scheme { name: "", rules: &[] },
    Scheme {
        name: "HuggingFace's ResNet",
        rules: &[
            ("resnet.embedder.embedder.convolution.*", "conv1.*"),
            ("resnet.embedder.embedder.normalization.*", "bn1.*"),
            ("resnet.encoder.stages.#.layers.#.layer.#.convolution.*", "layer{0+1}.{1}.conv{2+1}.*"),
            ("resnet.encoder.stages.#.layers.#.layer.#.normalization.*", "layer{0+1}.{1}.bn{2+1}.*"),
            ("resnet.encoder.stages.#.layers.#.shortcut.convolution.*", "layer{0+1}.{1}.downsample.0.*"),
            ("resnet.encoder.stages.#.layers.#.shortcut.normalization.*", "layer{0+1}.{1}.downsample.1.*"),
            ("embedder.embedder.convolution.*", "conv1.*"),
            ("embedder.embedder.normalization.*", "bn1.*"),
            ("encoder.stages.#.layers.#.layer.#.convolution.*", "layer{0+1}.{1}.conv{2+1}.*"),
            ("encoder.stages.#.layers.#.layer.#.normalization.*", "layer{0+1}.{1}.bn{2+1}.*"),
            ("encoder.stages.#.layers.#.shortcut.convolution.*", "layer{0+1}.{1}.downsample.0.*"),
            ("encoder.stages.#.layers.#.shortcut.normalization.*", "layer{0+1}.{1}.downsample.1.*"),
            ("classifier.1.*", "fc.*"),
        ],
    },
    Scheme {
        // nn.Sequential(*model.children()): relu and max-pool are children too, a flattening may be.
        name: "an nn.Sequential of a ResNet's children",
        rules: &[
            ("0.*", "conv1.*"),
            ("1.*", "bn1.*"),
            ("4.*", "layer1.*"),
            ("5.*", "layer2.*"),
            ("6.*", "layer3.*"),
            ("7.*", "layer4.*"),
            ("9.*", "fc.*"),
            ("10.*", "fc.*"),
        ],
    },
    Scheme {
        // fastai: the body without its head, then a head of its own.
        name: "fastai's body and head",
        rules: &[
            ("0.0.*", "conv1.*"),
            ("0.1.*", "bn1.*"),
            ("0.4.*", "layer1.*"),
            ("0.5.*", "layer2.*"),
            ("0.6.*", "layer3.*"),
            ("0.7.*", "layer4.*"),
            ("1.*", "fc.*"),
        ],
    },
    Scheme {
        // Without relu and max-pool among the children.
        name: "an nn.Sequential of a CIFAR ResNet's children",
        rules: &[
            ("0.*", "conv1.*"),
            ("1.*", "bn1.*"),
            ("2.#.shortcut.*", "layer1.{0}.downsample.*"),
            ("3.#.shortcut.*", "layer2.{0}.downsample.*"),
            ("4.#.shortcut.*", "layer3.{0}.downsample.*"),
            ("5.#.shortcut.*", "layer4.{0}.downsample.*"),
            ("2.*", "layer1.*"),
            ("3.*", "layer2.*"),
            ("4.*", "layer3.*"),
            ("5.*", "layer4.*"),
            ("6.*", "fc.*"),
        ],
    },
    Scheme {
        name: "the CIFAR ResNets' (shortcut, linear)",
        rules: &[
            ("layer#.#.shortcut.*", "layer{0}.{1}.downsample.*"),
            ("linear.@", "fc.@"),
            ("classifier.@", "fc.@"),
            ("last_linear.@", "fc.@"),
        ],
    },
    Scheme {
        name: "the CIFAR ResNets' (conv2_x, residual_function)",
        rules: &[
            ("conv1.0.*", "conv1.*"),
            ("conv1.1.*", "bn1.*"),
            ("conv#_x.#.residual_function.0.*", "layer{0-1}.{1}.conv1.*"),
            ("conv#_x.#.residual_function.1.*", "layer{0-1}.{1}.bn1.*"),
            ("conv#_x.#.residual_function.3.*", "layer{0-1}.{1}.conv2.*"),
            ("conv#_x.#.residual_function.4.*", "layer{0-1}.{1}.bn2.*"),
            ("conv#_x.#.residual_function.6.*", "layer{0-1}.{1}.conv3.*"),
            ("conv#_x.#.residual_function.7.*", "layer{0-1}.{1}.bn3.*"),
            ("conv#_x.#.shortcut.*", "layer{0-1}.{1}.downsample.*"),
        ],
    },
];

/// How the names of a stage of blocks begin.
pub(crate) const STAGE: &str = "layer";

/// The scopes of classifying heads.
pub(crate) const HEADS: [&str; 1] = ["fc"];

/// What wraps a whole network and puts its name before every other.
pub(crate) const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// Whether a network that is known here has an entry of this name.
pub(crate) fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|pattern| matched(pattern, name).is_some())
}

impl Scheme {
    /// Torchvision's name; `None` where no rule fits.
    pub(crate) fn translate(&self, name: &str) -> Option<String> {
        self.rules.iter().find_map(|(from, to)| Some(written(to, &matched(from, name)?)))
    }
}

/// The numbers of a name, and what `*` or `@` stands for.
#[derive(Default)]
struct Match<'n> {
    numbers: [usize; 4],
    count: usize,
    rest: &'n str,
}

fn matched<'n>(pattern: &str, name: &'n str) -> Option<Match<'n>> {
    let (mut found, mut rest) = (Match::default(), name);
    for c in pattern.chars() {
        match c {
            '#' => {
                let len = rest.bytes().take_while(u8::is_ascii_digit).count();
                *found.numbers.get_mut(found.count)? = rest[..len].parse().ok()?;
                found.count += 1;
                rest = &rest[len..];
            }
            '*' => {
                found.rest = rest;
                return (!rest.is_empty()).then_some(found);
            }
            '@' => {
                found.rest = rest;
                return PARTS.contains(&rest).then_some(found);
            }
            c => rest = rest.strip_prefix(c)?,
        }
    }
    rest.is_empty().then_some(found)
}

fn written(pattern: &str, found: &Match<'_>) -> String {
    let (mut out, mut rest) = (String::new(), pattern);
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '*' | '@' => out.push_str(found.rest),
            '{' => {
                let (hole, after) = rest.split_once('}').unwrap_or((rest, ""));
                rest = after;
                let (index, change) = hole.split_at(1.min(hole.len()));
                let number = index.parse().ok().and_then(|i: usize| found.numbers.get(i)).copied().unwrap_or(0);
                let number = number.checked_add_signed(change.parse().unwrap_or(0)).unwrap_or(0);
                out.push_str(&number.to_string());
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::MODELS;
    use crate::{Graph, Recipe, Select, Step, Usual};

    #[test]
    fn patterns_and_translations() {
        let with = |scheme: &str, name: &str| SCHEMES.iter().find(|s| s.name.starts_with(scheme)).and_then(|s| s.translate(name));
        let hf = |name| with("HuggingFace", name);
        assert_eq!(hf("resnet.embedder.embedder.convolution.weight").as_deref(), Some("conv1.weight"));
        assert_eq!(hf("resnet.encoder.stages.3.layers.10.layer.2.normalization.running_var").as_deref(), Some("layer4.10.bn3.running_var"));
        assert_eq!(hf("classifier.1.bias").as_deref(), Some("fc.bias"));
        assert_eq!(with("the CIFAR ResNets' (conv2_x", "conv5_x.1.shortcut.0.weight").as_deref(), Some("layer4.1.downsample.0.weight"));
        assert_eq!(with("an nn.Sequential of a ResNet's", "4.0.conv1.weight").as_deref(), Some("layer1.0.conv1.weight"));
        assert_eq!(with("an nn.Sequential of a ResNet's", "3.0.weight"), None);
        assert!(is_known("layer1.0.bn2.running_mean") && !is_known("layer1.0.bn2.running") && !is_known("0.weight"));
        assert!(!is_known("layer99999999999999999999999.0.bn2.weight"));
    }

    #[test]
    fn every_model_has_known_names() {
        let check = |graph: &Graph, values: Usual| {
            let program = Step::new(graph).root(values.root).train(Select::Names("none")).plan().expect("a plan");
            for id in program.entries() {
                assert!(is_known(program.entry(id).name()), "{}", program.entry(id).name());
            }
        };
        for model in MODELS {
            let graph = Graph::new();
            let values = graph.usual([1, 3, 64, 64], crate::Loss::None, |g, x| {
                let y = model.record(g, x, 3);
                (y, y)
            });
            check(&graph, values.expect("a recording"));
        }
        let graph = Graph::new();
        let values = graph.usual([1, 3, 32, 32], crate::Loss::None, |g, x| Recipe::resnet8(3).record(g, x));
        check(&graph, values.expect("a recording"));
    }
}
