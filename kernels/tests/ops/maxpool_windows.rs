use super::testing::*;
use nunatak_core::Error;
use nunatak_core::Shape;
use nunatak_kernels::maxpool::windows::*;
use nunatak_kernels::reference::maxpool::windows as reference;
use nunatak_kernels::window::Window;
use proptest::prelude::*;

fn check(p: &MaxPool2d, x: &[f32], offset: usize, random: &mut Random) {
    let (x_len, y_len) = (p.x_shape().len(), p.y_shape().len());
    let (x, dy) = (Offset::copy(x, offset), Offset::copy(&random.vector(y_len), 15 - offset));
    let (mut y, mut index, mut dx) = (zeros(y_len), vec![0; y_len], zeros(x_len));
    let start = random.vector(x_len);
    reference::forward(p, &x, &mut y, &mut index);
    reference::backward_input(p, &dy, &index, &mut dx);
    same_bits(
        |cpu| {
            let (mut out, mut place) = (Offset::nan(y_len, offset), vec![255; y_len]);
            forward_only(cpu, p, &x, &mut out);
            assert_exact(&out, &y, "y without places");
            out.fill(f32::NAN);
            forward(cpu, p, &x, &mut out, &mut place);
            assert_exact(&out, &y, "y");
            assert_eq!(place, index, "{p:?} at {}", cpu.level);
            let mut gradient = Offset::nan(x_len, 15 - offset);
            backward_input(cpu, p, &dy, &place, &mut gradient, false);
            assert_within(&gradient, &dx, 1e-6, "dx");
            let mut sum = Offset::copy(&start, offset);
            backward_input(cpu, p, &dy, &place, &mut sum, true);
            let expected: Vec<f64> = start.iter().zip(&dx).map(|(a, b)| f64::from(*a) + b).collect();
            assert_within(&sum, &expected, 1e-6, "dx added");
            [&gradient[..], &sum[..]].concat()
        },
        |_, _| {},
    );
}

const WINDOWS: [Window; 7] = [
    Window::square(3, 2, 1),
    Window { kernel: [3, 2], stride: [1, 2], pad: [1, 1], dilation: [2, 1] },
    Window { kernel: [1, 3], stride: [1, 1], pad: [0, 1], dilation: [1, 1] },
    Window { kernel: [2, 2], stride: [1, 3], pad: [1, 0], dilation: [3, 2] },
    Window { kernel: [3, 3], stride: [2, 2], pad: [1, 1], dilation: [2, 2] },
    Window { kernel: [4, 1], stride: [3, 1], pad: [2, 0], dilation: [1, 5] },
    Window { kernel: [5, 51], stride: [1, 2], pad: [2, 25], dilation: [1, 1] },
];

#[test]
fn all_passes_match_the_reference() {
    let mut random = Random::new(111);
    for (i, c) in CHANNELS.into_iter().enumerate() {
        for window in WINDOWS {
            for (n, h, w) in [(1, 5, 5), (2, 8, 7), (1, 13, 4)] {
                let shape = Shape::new(n, c, h, w).expect("a shape");
                let Ok(p) = MaxPool2d::new(shape, window) else { continue };
                let x = random.special(shape.len());
                check(&p, &x, (i + h) % 16, &mut random);
                // Ties everywhere.
                let x: Vec<f32> = random.vector(shape.len()).iter().map(|v| (v * 2.0).round()).collect();
                check(&p, &x, (i + w) % 16, &mut random);
            }
        }
    }
}

#[test]
fn dilated_windows_of_torch() {
    // F.max_pool2d(torch.arange(25.).reshape(1, 1, 5, 5), (3, 2), stride=(1, 2), padding=(1, 1), dilation=(2, 1))
    let x: Vec<f32> = (0..25).map(|i| i as f32).collect();
    let p = MaxPool2d::new(Shape::new(1, 1, 5, 5).expect("a shape"), WINDOWS[1]).expect("windows that fit");
    for_each_cpu(|cpu| {
        let (mut y, mut index) = ([0.0; 9], [9; 9]);
        forward(cpu, &p, &x, &mut y, &mut index);
        assert_eq!(y, [15.0, 17.0, 19.0, 20.0, 22.0, 24.0, 15.0, 17.0, 19.0]);
    });
}

#[test]
fn windows_of_too_many_cells_are_errors() {
    let x = Shape::new(1, 1, 20, 20).expect("a shape");
    assert_eq!(MaxPool2d::new(x, Window::square(16, 1, 0)), Err(Error::TooManyCells { cells: 256, most: 255 }));
    assert!(MaxPool2d::new(x, Window { kernel: [17, 15], ..Window::square(1, 1, 0) }).is_ok());
    assert_eq!(MaxPool2d::new(x, Window::square(3, 1, 2)), Err(Error::PadTooLarge { pad: 2, window: 3 }));
}

#[test]
fn the_gradient_is_the_slope() {
    let shape = Shape::new(2, 2, 5, 4).expect("a shape");
    let p = MaxPool2d::new(shape, WINDOWS[1]).expect("windows that fit");
    // All different by more than the step.
    let x: Vec<f32> = (0..shape.len()).map(|i| (i * 37 % 81) as f32 / 16.0).collect();
    let y_len = p.y_shape().len();
    let dy = Random::new(112).vector(y_len);
    let (mut y, mut index, mut dx) = (zeros(y_len), vec![0; y_len], zeros(x.len()));
    reference::forward(&p, &x, &mut y, &mut index);
    reference::backward_input(&p, &dy, &index, &mut dx);
    let loss = |x: &[f32]| {
        let (mut y, mut index) = (zeros(y_len), vec![0; y_len]);
        reference::forward(&p, x, &mut y, &mut index);
        dot(&dy, &y)
    };
    assert_gradient(&x, &dx, loss, 1e-6);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_shape(n in 1_usize..3, h in 1_usize..12, w in 1_usize..12, c in 1_usize..20, kernel in [1_usize..5, 1_usize..5],
                 stride in [1_usize..4, 1_usize..4], pad in [0_usize..3, 0_usize..3], dilation in [1_usize..4, 1_usize..4], seed: u64) {
        let shape = Shape::new(n, c, h, w).expect("a shape");
        if let Ok(p) = MaxPool2d::new(shape, Window { kernel, stride, pad, dilation }) {
            let mut random = Random::new(seed);
            let x = random.special(shape.len());
            check(&p, &x, seed as usize % 16, &mut random);
        }
    }
}
