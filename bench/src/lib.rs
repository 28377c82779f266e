//! What the benches share: ResNet18's convolutions by name.

use nunatak_kernels::Conv2d;

/// The README's examples, as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

/// The different convolutions of ResNet18 on `n` images of `size` x `size`, named after the first
/// layer that has them.
pub fn convolutions(n: usize, size: usize) -> Vec<(&'static str, Conv2d)> {
    let halved = |times: u32| (0..times).fold(size, |s, _| s.div_ceil(2));
    let conv = |size, c, k, kernel, stride, pad| Conv2d { n, h: size, w: size, c, k, kernel, stride, pad };
    vec![
        ("conv1", conv(size, 3, 64, 7, 2, 3)),
        ("layer1.0.conv1", conv(halved(2), 64, 64, 3, 1, 1)),
        ("layer2.0.conv1", conv(halved(2), 64, 128, 3, 2, 1)),
        ("layer2.0.downsample.0", conv(halved(2), 64, 128, 1, 2, 0)),
        ("layer2.0.conv2", conv(halved(3), 128, 128, 3, 1, 1)),
        ("layer3.0.conv1", conv(halved(3), 128, 256, 3, 2, 1)),
        ("layer3.0.conv2", conv(halved(4), 256, 256, 3, 1, 1)),
        ("layer4.0.conv1", conv(halved(4), 256, 512, 3, 2, 1)),
        ("layer4.0.conv2", conv(halved(5), 512, 512, 3, 1, 1)),
    ]
}

/// Numbers that are neither zero nor all alike.
pub fn numbers(len: usize) -> Vec<f32> {
    let mut generator = nunatak_core::rng::Generator::manual_seed(1);
    (0..len).map(|_| generator.uniform(-1.0, 1.0)).collect()
}
