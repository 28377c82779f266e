use super::testing::*;
use nunatak_core::Shape;
use nunatak_core::Tensor;
use nunatak_kernels::flatten::*;
use nunatak_kernels::reference::flatten as reference;

#[test]
fn both_passes_match_the_reference() {
    let mut random = Random::new(61);
    for (n, c, h, w) in
        [(1, 3, 5, 7), (2, 16, 4, 4), (3, 17, 16, 17), (1, 512, 1, 1), (4, 1, 9, 9), (2, 33, 30, 31), (2, 64, 7, 7), (1, 15, 1, 300)]
    {
        let p = Flatten::new(Shape::new(n, c, h, w).expect("a shape"));
        let len = p.shape().len();
        let offset = (c + h) % 16;
        let (x, dy) = (Offset::copy(&random.special(len), offset), Offset::copy(&random.special(len), 15 - offset));
        let start = random.vector(len);
        let (mut y, mut dx) = (zeros(len), zeros(len));
        reference::forward(&p, &x, &mut y);
        reference::backward_input(&p, &dy, &mut dx);
        for_each_cpu(|cpu| {
            let mut out = Offset::nan(len, 15 - offset);
            forward(cpu, &p, &x, &mut out);
            assert_exact(&out, &y, "y");
            assert_eq!(p.is_view(), c == 1 || h * w == 1);
            if p.is_view() {
                assert!(out.iter().zip(x.iter()).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
            let mut out = Offset::nan(len, offset);
            backward_input(cpu, &p, &dy, &mut out, false);
            assert_exact(&out, &dx, "dx");
            let mut out = Offset::copy(&start, offset);
            backward_input(cpu, &p, &dy, &mut out, true);
            for ((out, start), dx) in out.iter().zip(&start).zip(&dx) {
                let e = start + *dx as f32;
                assert!(out.to_bits() == e.to_bits() || (out.is_nan() && e.is_nan()), "{out}, not {e}");
            }
        });
    }
}

#[test]
fn the_order_is_that_of_the_tensor() {
    let shape = Shape::new(2, 19, 5, 4).expect("a shape");
    let x = Random::new(62).vector(shape.len());
    let mut last = vec![0.0; x.len()];
    Tensor::new(shape, &x).expect("a tensor").to_channels_last(&mut last);
    for_each_cpu(|cpu| {
        let mut y = Offset::nan(x.len(), 3);
        forward(cpu, &Flatten::new(shape), &last, &mut y);
        assert_eq!(&y[..], &x[..]);
    });
}
