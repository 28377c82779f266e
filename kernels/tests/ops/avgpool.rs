use super::testing::*;
use nunatak_kernels::avgpool::*;
use nunatak_kernels::reference;

#[test]
fn both_passes_match_the_reference() {
    let mut random = Random::new(9);
    for (i, c) in CHANNELS.into_iter().enumerate() {
        for (h, w, out_h, out_w) in [(7, 7, 1, 1), (5, 7, 2, 3), (1, 1, 1, 1), (4, 4, 4, 4), (3, 2, 5, 7), (10, 3, 4, 1), (64, 48, 1, 1)] {
            for n in [1, 3] {
                let p = AdaptiveAvgPool { n, h, w, c, out_h, out_w };
                let x = Offset::copy(&random.vector(p.x_len()), i + h % 9);
                let dy = Offset::copy(&random.vector(p.y_len()), 15 - i);
                let (mut y, mut dx) = (zeros(p.y_len()), zeros(p.x_len()));
                reference::avgpool::forward(&p, &x, &mut y);
                reference::avgpool::backward_input(&p, &dy, &mut dx);
                for_each_cpu(|cpu| {
                    let mut out = Offset::nan(p.y_len(), i);
                    forward(cpu, &p, &x, &mut out);
                    // Of a sum that cancels: to the size of what was added.
                    let tolerance = if h * w > 100 { 5e-5 } else { 5e-6 };
                    assert_within(&out, &y, tolerance, "y");
                    let mut out = Offset::nan(p.x_len(), 15 - i);
                    backward_input(cpu, &p, &dy, &mut out);
                    assert_within(&out, &dx, 1e-6, "dx");
                    let mut sum = out.to_vec();
                    backward_input_add(cpu, &p, &dy, &mut sum);
                    let twice: Vec<f64> = dx.iter().map(|v| 2.0 * v).collect();
                    assert_within(&sum, &twice, 1e-6, "dx added");
                });
            }
        }
    }
}

#[test]
fn windows_of_torch() {
    // F.adaptive_avg_pool2d(torch.arange(35.).reshape(1, 1, 5, 7), (2, 3))
    let x: Vec<f32> = (0..35).map(|i| i as f32).collect();
    let p = AdaptiveAvgPool { n: 1, h: 5, w: 7, c: 1, out_h: 2, out_w: 3 };
    for_each_cpu(|cpu| {
        let mut y = [0.0; 6];
        forward(cpu, &p, &x, &mut y);
        assert_within(&y, &[8.0, 10.0, 12.0, 22.0, 24.0, 26.0], 1e-7, "y");
    });
}

#[test]
fn the_gradient_is_the_slope() {
    let p = AdaptiveAvgPool { n: 2, h: 5, w: 4, c: 3, out_h: 2, out_w: 3 };
    let mut random = Random::new(10);
    let (x, dy) = (random.vector(p.x_len()), random.vector(p.y_len()));
    let mut dx = zeros(p.x_len());
    reference::avgpool::backward_input(&p, &dy, &mut dx);
    let loss = |x: &[f32]| {
        let mut y = zeros(p.y_len());
        reference::avgpool::forward(&p, x, &mut y);
        dot(&dy, &y)
    };
    assert_gradient(&x, &dx, loss, 1e-6);
}
