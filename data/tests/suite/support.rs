//! What the tests of the data set share. Goldens are made by tests/golden/make.py.

use std::path::{Path, PathBuf};

use nunatak_data::{Normalize, Rgb8};

/// A file of tests/golden.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub(crate) fn golden_bytes(name: &str) -> Vec<u8> {
    let path = golden(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The lines of numbers.txt of one kind, split at spaces, without the kind.
pub(crate) fn numbers(kind: &str) -> Vec<Vec<String>> {
    let text = String::from_utf8(golden_bytes("numbers.txt")).unwrap();
    let lines: Vec<Vec<String>> = text
        .lines()
        .map(|l| l.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .filter(|l| l[0] == kind)
        .map(|l| l[1..].to_vec())
        .collect();
    assert!(!lines.is_empty(), "no golden of the kind {kind}");
    lines
}

pub(crate) fn int(text: &str) -> usize {
    text.parse().unwrap()
}

/// make.py's `noise`.
pub(crate) fn noise(width: usize, height: usize) -> Rgb8 {
    Rgb8 { width, height, pixels: (0..width * height * 3).map(|i| (i % 251) as u8).collect() }
}

/// make.py's `fnv`.
pub(crate) fn fnv(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3))
}

pub(crate) fn fnv_f32(values: &[f32]) -> u64 {
    fnv(values.iter().flat_map(|v| v.to_le_bytes()))
}

/// PyTorch's `[3, S, S]` of an image's pixels: `ToTensor` and `Normalize`, one plane per channel.
pub(crate) fn planes(pixels: &[u8], normalize: Normalize) -> Vec<f32> {
    let plane = |c: usize| pixels[c..].iter().step_by(3).map(move |&v| (f32::from(v) / 255.0 - normalize.mean[c]) / normalize.std[c]);
    (0..3).flat_map(plane).collect()
}

/// A PNG of one colour.
pub(crate) fn tiny_png(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
    encode(width, height, colour, image::ImageFormat::Png)
}

pub(crate) fn encode(width: u32, height: u32, colour: [u8; 3], format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(width, height, image::Rgb(colour)).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Writes `bytes` to a file, making its folders.
pub(crate) fn put(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}
