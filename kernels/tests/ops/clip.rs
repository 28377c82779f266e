use super::testing::*;
use nunatak_kernels::clip::*;
use nunatak_kernels::{elementwise, reduce, reference};

#[test]
fn gradients_are_clipped_together() {
    let mut random = Random::new(13);
    let gradients = [random.vector(100), random.vector(9000), random.vector(3)];
    let expected = reference::clip::norm(gradients.iter().map(|g| g.as_slice()));
    for_each_cpu(|cpu| {
        let mut all = gradients.clone();
        let square = |cpu, g: &[f32]| reduce::sum_of_squares(cpu, g, &mut Offset::scratch(reduce::scratch_len(g.len())));
        let total = norm(all.iter().map(|g| square(cpu, g)).sum());
        assert!((total - expected).abs() < 1e-6 * expected);
        let c = coefficient(total, 1.5);
        assert!((f64::from(c) - reference::clip::coefficient(expected, 1.5)).abs() < 1e-6);
        all.iter_mut().for_each(|g| elementwise::scale_assign(cpu, c, g));
        let after = norm(all.iter().map(|g| square(cpu, g)).sum());
        assert!((after - 1.5).abs() < 1e-5, "{after}");
    });
}

#[test]
fn limits() {
    assert_eq!(coefficient(0.0, 1.0), 1.0);
    assert_eq!(coefficient(0.5, 1.0), 1.0);
    assert_eq!(coefficient(f64::INFINITY, 1.0), 0.0);
    assert!(coefficient(f64::NAN, 1.0).is_nan());
    assert_eq!(coefficient(2.0, 1.0), (1.0 / 2.000_001) as f32);
}
