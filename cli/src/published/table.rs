//! Which weights torchvision publishes for the networks that are known here, and what they are called.
//!
//! | network | weights | |
//! |---|---|---|
//! | all of them | `IMAGENET1K_V1` | the first recipe; images are resized to 256 before 224 x 224 are cut out |
//! | all but `resnet18`, `resnet34` and `mobilenet_v3_small` | `IMAGENET1K_V2` | a newer recipe, more right answers; images are resized to 232 |
//!
//! The name of a network alone, and `NETWORK.DEFAULT`, mean what torchvision calls `DEFAULT`: the weights with the most
//! right answers, which are the V2 where there are any.

use crate::args::distance;
use crate::model::View;

/// The name that means the network of `--arch`, or [`USUAL`].
pub const IMAGENET: &str = "imagenet";
/// The network that [`IMAGENET`] means where no other is named.
pub const USUAL: &str = "resnet18";
/// Side of the square that all of these networks were evaluated with.
const SIDE: u32 = 224;
/// Hexadecimal digits of the SHA-256 that are in a file's name.
pub const IN_NAME: usize = 8;

/// A file of weights that is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// The network.
    pub network: &'static str,
    /// What torchvision's enum calls them.
    pub version: &'static str,
    /// The file's name, with the first [`IN_NAME`] digits of its SHA-256.
    pub file: &'static str,
    /// The SHA-256 in hexadecimal, as many digits as are known: all 64, or those in the name.
    pub hash: &'static str,
    /// Bytes of the file, to about 0.5 kB: torchvision names MiB with three digits.
    pub bytes: u64,
    /// Shorter side of an image after resizing.
    pub resize: u32,
}

/// MiB with three digits, in bytes.
const fn mib(thousandths: u64) -> u64 {
    thousandths * (1 << 20) / 1000
}

const fn first(network: &'static str, file: &'static str, hash: &'static str, thousandths: u64) -> Weights {
    Weights { network, version: "IMAGENET1K_V1", file, hash, bytes: mib(thousandths), resize: 256 }
}

const fn second(network: &'static str, file: &'static str, hash: &'static str, thousandths: u64) -> Weights {
    Weights { network, version: "IMAGENET1K_V2", file, hash, bytes: mib(thousandths), resize: 232 }
}

/// Torchvision's weights of the networks that are known here; of a network with two the default comes first. Where all 64
/// digits of a hash stand here, many public records of the file agree on them; torchvision itself publishes eight.
pub static TABLE: [Weights; 19] = [
    first("resnet18", "resnet18-f37072fd.pth", "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec", 44_661),
    first("resnet34", "resnet34-b627a593.pth", "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f", 83_275),
    second("resnet50", "resnet50-11ad3fa6.pth", "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca", 97_790),
    first("resnet50", "resnet50-0676ba61.pth", "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a", 97_781),
    second("resnet101", "resnet101-cd907fc2.pth", "cd907fc2", 170_530),
    first("resnet101", "resnet101-63fe2227.pth", "63fe2227", 170_511),
    second("resnet152", "resnet152-f82ba261.pth", "f82ba261", 230_474),
    first("resnet152", "resnet152-394f9c45.pth", "394f9c45", 230_434),
    second("resnext50_32x4d", "resnext50_32x4d-1a0047aa.pth", "1a0047aa", 95_833),
    first("resnext50_32x4d", "resnext50_32x4d-7cdf4587.pth", "7cdf4587", 95_789),
    second("resnext101_32x8d", "resnext101_32x8d-110c445d.pth", "110c445d", 339_673),
    first("resnext101_32x8d", "resnext101_32x8d-8ba56ff5.pth", "8ba56ff5", 339_586),
    second("wide_resnet50_2", "wide_resnet50_2-9ba9bcbe.pth", "9ba9bcbe", 263_124),
    first("wide_resnet50_2", "wide_resnet50_2-95faca4d.pth", "95faca4d", 131_820),
    second("wide_resnet101_2", "wide_resnet101_2-d733dc28.pth", "d733dc28", 484_747),
    first("wide_resnet101_2", "wide_resnet101_2-32ee1156.pth", "32ee1156", 242_896),
    second("mobilenet_v2", "mobilenet_v2-7ebf99e0.pth", "7ebf99e03e254b273379b23edca7ec0da9f48273b23a332b93c1c99d49e86e8f", 13_598),
    first("mobilenet_v2", "mobilenet_v2-b0353104.pth", "b0353104", 13_555),
    first(
        "mobilenet_v3_small",
        "mobilenet_v3_small-047dcff4.pth",
        "047dcff4addef86ea5bc2eff13c9614dc11f47ab1160d0a71a25e7db994f4e1f",
        9_829,
    ),
];

impl Weights {
    /// What they are called: `resnet50.IMAGENET1K_V2`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.network, self.version)
    }

    /// How images were shown to the network when these weights were evaluated.
    pub fn view(&self) -> View {
        View { size: SIDE, resize: self.resize, exif: false }
    }

    /// The most bytes that a file of these may have.
    pub fn most_bytes(&self) -> u64 {
        self.bytes + self.bytes / 64 + (1 << 20)
    }
}

/// The weights in a file of this name.
pub fn of_file(name: &str) -> Option<&'static Weights> {
    TABLE.iter().find(|weights| weights.file == name)
}

/// The weights that a name means: `NETWORK`, `NETWORK.IMAGENET1K_V1`, `NETWORK.DEFAULT`, also with torchvision's names of
/// its enums (`ResNet50_Weights.IMAGENET1K_V2`).
pub fn named(name: &str) -> Option<&'static Weights> {
    let name = name.to_ascii_lowercase();
    let (network, version) = name.split_once('.').unwrap_or((&name, "default"));
    let network = network.strip_suffix("_weights").unwrap_or(network);
    let mut of_network = TABLE.iter().filter(|weights| weights.network == network);
    if version == "default" { of_network.next() } else { of_network.find(|weights| weights.version.eq_ignore_ascii_case(version)) }
}

/// The names nearest to `name`, by edit distance.
pub fn near(name: &str) -> Vec<String> {
    let name = name.to_ascii_lowercase();
    let full = name.contains('.');
    let mut known: Vec<String> = match full {
        true => TABLE.iter().map(Weights::name).collect(),
        false => std::iter::once(IMAGENET).chain(TABLE.iter().map(|weights| weights.network)).map(String::from).collect(),
    };
    known.dedup();
    known.sort_by_cached_key(|known| distance(&name, &known.to_ascii_lowercase()));
    known.truncate(4);
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use nunatak_nn::models::MODELS;

    #[test]
    fn every_network_has_weights_and_every_file_the_digits_in_its_name() {
        for model in MODELS {
            let weights = named(model.name).unwrap_or_else(|| panic!("{}", model.name));
            assert_eq!(weights.network, model.name);
            let versions: Vec<_> = TABLE.iter().filter(|weights| weights.network == model.name).map(|w| w.version).collect();
            assert!(versions == ["IMAGENET1K_V1"] || versions == ["IMAGENET1K_V2", "IMAGENET1K_V1"], "{}: {versions:?}", model.name);
        }
        for weights in &TABLE {
            assert_eq!(weights.file, format!("{}-{}.pth", weights.network, &weights.hash[..IN_NAME]));
            assert!([IN_NAME, 64].contains(&weights.hash.len()) && weights.hash.bytes().all(|b| b"0123456789abcdef".contains(&b)));
            assert_eq!(of_file(weights.file), Some(weights));
            assert_eq!(named(&weights.name()), Some(weights));
            assert!((10 << 20) > weights.most_bytes() - weights.bytes && weights.bytes > 10_000_000, "{}", weights.file);
        }
    }

    #[test]
    fn names_are_torchvisions() {
        let file = |name: &str| named(name).map(|weights| weights.file);
        assert_eq!(file("resnet50"), Some("resnet50-11ad3fa6.pth"));
        assert_eq!(file("resnet50.DEFAULT"), file("resnet50"));
        assert_eq!(file("resnet50.IMAGENET1K_V1"), Some("resnet50-0676ba61.pth"));
        assert_eq!(file("Wide_ResNet50_2_Weights.IMAGENET1K_V2"), Some("wide_resnet50_2-9ba9bcbe.pth"));
        assert_eq!(file("MobileNet_V3_Small_Weights.default"), Some("mobilenet_v3_small-047dcff4.pth"));
        for wrong in ["resnet18.IMAGENET1K_V2", "resnet51", "", ".", "resnet18.", "imagenet", "resnet18-f37072fd.pth"] {
            assert_eq!(file(wrong), None, "{wrong}");
        }
        assert_eq!(named("resnet18").map(|weights| weights.view()), Some(View::of(224)));
        assert_eq!(named("resnet50").map(|weights| weights.view().resize), Some(232));
        assert_eq!(near("resnet51")[0], "resnet50");
        assert_eq!(near("imagnet")[0], "imagenet");
        assert_eq!(near("resnet50.V2")[0], "resnet50.IMAGENET1K_V2");
    }
}
