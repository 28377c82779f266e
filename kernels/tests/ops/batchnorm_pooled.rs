use super::testing::*;
use nunatak_kernels::batchnorm::fused::{self, Then};
use nunatak_kernels::batchnorm::pooled::*;
use nunatak_kernels::batchnorm::{BatchNorm, Moving};
use nunatak_kernels::maxpool::MaxPool;
use nunatak_kernels::{batchnorm, maxpool};

#[test]
fn one_pass_has_the_bits_of_three() {
    let mut random = Random::new(5);
    for (n, h, w, c, kernel, stride, pad) in [
        (2, 9, 7, 5, 3, 2, 1),
        (1, 16, 16, 64, 3, 2, 1),
        (3, 5, 6, 17, 2, 2, 0),
        (2, 11, 4, 16, 5, 1, 2),
        (5, 2, 3, 10, 3, 1, 1),
        (1, 13, 9, 33, 3, 4, 0),
        (7, 1, 1, 8, 1, 1, 0),
    ] {
        let pool = MaxPool { n, h, w, c, kernel, stride, pad };
        let p = BatchNorm { rows: n * h * w, channels: c, eps: 1e-5 };
        let x = &Offset::copy(&random.vector(pool.x_len()), (h + c) % 16);
        let (gamma, beta, zeros, ones) = (&random.vector(c), &random.vector(c), vec![0.0; c], vec![1.0; c]);
        same_bits(
            |cpu| {
                let scratch = &mut Offset::scratch(scratch_len(&p, &pool, cpu.threads.count()));
                let (mut m, mut v, saved) = (zeros.clone(), ones.clone(), &mut vec![f32::NAN; 4 * c]);
                let running = Moving { mean: &mut m, var: &mut v, factor: 0.1 };
                let whole = &mut Offset::nan(pool.x_len(), 3);
                let call = batchnorm::ForwardBatch { x: Some(x), moments: None, gamma, beta, running, y: whole, saved, scratch };
                fused::forward_batch(cpu, &p, Then { residual: None, relu: true }, call);
                let (mut expected, mut places) = (Offset::nan(pool.y_len(), 1), vec![255; pool.y_len()]);
                maxpool::forward(cpu, &pool, whole, &mut expected, &mut places);
                let due = (places, m, v, saved.clone());

                let mut pooled = |y: &mut [f32], index: Option<&mut [u8]>| {
                    let (mut m, mut v) = (zeros.clone(), ones.clone());
                    let running = Moving { mean: &mut m, var: &mut v, factor: 0.1 };
                    saved.fill(f32::NAN);
                    scratch.fill(f32::NAN);
                    forward_batch(cpu, &p, &pool, ForwardBatch { x, moments: None, gamma, beta, running, y, index, saved, scratch });
                    (m, v, saved.clone())
                };
                let (mut y, mut index) = (Offset::nan(pool.y_len(), 5), vec![255; pool.y_len()]);
                let (m, v, saved) = pooled(&mut y, Some(&mut index));
                for (i, (a, b)) in y.iter().zip(&*expected).enumerate() {
                    assert!(a.to_bits() == b.to_bits(), "{pool:?}: at {i} {a} instead of {b}");
                }
                assert_eq!((index, m, v, saved), due, "{pool:?}");
                let mut alone = Offset::nan(pool.y_len(), 2);
                pooled(&mut alone, None);
                assert!(alone.iter().zip(&*y).all(|(a, b)| a.to_bits() == b.to_bits()), "{pool:?} without places");
                y.to_vec()
            },
            |_, _| {},
        );
    }
}
