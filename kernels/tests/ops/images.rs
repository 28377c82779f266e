use super::testing::*;
use nunatak_core::{Shape, Tensor};
use nunatak_kernels::images::*;

#[test]
fn the_order_is_that_of_the_tensor() {
    let mut random = Random::new(3);
    for (n, c, h, w) in [(1, 3, 5, 7), (2, 3, 70, 90), (3, 1, 64, 65), (2, 4, 33, 129), (1, 17, 70, 61), (2, 5, 1, 1)] {
        let x = random.special(n * c * h * w);
        let mut expected = vec![0.0; x.len()];
        Tensor::new(Shape::new(n, c, h, w).expect("a shape"), &x).expect("a tensor").to_channels_last(&mut expected);
        for_each_cpu(|cpu| {
            let mut y = Offset::nan(x.len(), (h + c) % 16);
            to_channels_last(cpu, c, h * w, &x, &mut y);
            assert!(y.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{n} x {c} x {h} x {w} at {}", cpu.level);
        });
    }
}

#[test]
fn bytes_are_normalised_as_the_formula_says() {
    let bytes: Vec<u8> = (0..3 * 70_000_u32).map(|i| (i * 7 + i / 256) as u8).collect();
    let (mean, std) = ([0.485, 0.456, 0.406, 0.5, 0.1], [0.229, 0.224, 0.225, 0.25, 0.3]);
    for (channels, count) in [(3, 3 * 70_000), (3, 12), (1, 9_000), (5, 20_000), (4, 1028), (2, 0)] {
        for_each_cpu(|cpu| {
            let mut y = Offset::nan(count, channels);
            normalise_bytes(cpu, &bytes[..count], &mean[..channels], &std[..channels], &mut y);
            for (i, (y, byte)) in y.iter().zip(&bytes).enumerate() {
                let c = i % channels;
                assert_eq!(y.to_bits(), ((f32::from(*byte) / 255.0 - mean[c]) / std[c]).to_bits(), "number {i} of {channels} channels");
            }
        });
    }
}
