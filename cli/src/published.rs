//! What is published for everybody: torchvision's weights files, and the names of ImageNet's classes.

use std::path::Path;

/// Where torchvision's files lie.
const ADDRESS: &str = "https://download.pytorch.org/models/";

/// Torchvision's files of the networks that are known here; of a network with two files the newer recipe's comes first.
const FILES: [&str; 19] = [
    "resnet18-f37072fd.pth",
    "resnet34-b627a593.pth",
    "resnet50-11ad3fa6.pth",
    "resnet50-0676ba61.pth",
    "resnet101-cd907fc2.pth",
    "resnet101-63fe2227.pth",
    "resnet152-f82ba261.pth",
    "resnet152-394f9c45.pth",
    "resnext50_32x4d-1a0047aa.pth",
    "resnext50_32x4d-7cdf4587.pth",
    "resnext101_32x8d-110c445d.pth",
    "resnext101_32x8d-8ba56ff5.pth",
    "wide_resnet50_2-9ba9bcbe.pth",
    "wide_resnet50_2-95faca4d.pth",
    "wide_resnet101_2-d733dc28.pth",
    "wide_resnet101_2-32ee1156.pth",
    "mobilenet_v2-7ebf99e0.pth",
    "mobilenet_v2-b0353104.pth",
    "mobilenet_v3_small-047dcff4.pth",
];

/// The names of ImageNet's 1000 classes, in the order of the outputs, as torchvision writes them.
static IMAGENET: &str = include_str!("published/imagenet.txt");

/// How many classes ImageNet has.
pub const IMAGENET_CLASSES: usize = 1000;

/// The name of one of ImageNet's classes.
pub fn imagenet_class(index: usize) -> Option<&'static str> {
    IMAGENET.lines().nth(index)
}

/// Where weights that are not at `path` could be had from: the file of that name or of the network of that name, else
/// an example.
pub fn address_for(path: &Path) -> String {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let of = |file: &&&str| file.strip_suffix(".pth").is_some_and(|stem| stem == name);
    let of_network = |file: &&&str| file.split('-').next() == Some(&name);
    match FILES.iter().find(of).or_else(|| FILES.iter().find(of_network)) {
        Some(file) => format!("torchvision's file is at {ADDRESS}{file}; download it and name it here"),
        None => format!("torchvision's weights are at {ADDRESS}, that of resnet18 at {ADDRESS}{}", FILES[0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nunatak_nn::models::MODELS;

    #[test]
    fn classes_have_names() {
        assert_eq!(IMAGENET.lines().count(), IMAGENET_CLASSES);
        assert_eq!([0, 281, 999].map(imagenet_class), [Some("tench"), Some("tabby"), Some("toilet tissue")]);
        assert_eq!(imagenet_class(1000), None);
    }

    #[test]
    fn every_network_has_an_address() {
        for name in MODELS.iter().map(|model| model.name).chain(["resnet18", "resnet34"]) {
            let text = address_for(Path::new(name));
            assert!(text.contains(&format!("{ADDRESS}{name}-")), "{name}: {text}");
        }
        assert!(address_for(Path::new("models/resnet50-0676ba61.pth")).contains("/resnet50-0676ba61.pth"));
        assert!(address_for(Path::new("mine.pth")).contains("resnet18-f37072fd.pth"));
    }
}
