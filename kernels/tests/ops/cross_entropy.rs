use super::testing::*;
use nunatak_kernels::Cpu;
use nunatak_kernels::cross_entropy::*;
use nunatak_kernels::reference::cross_entropy as reference;

const LOGITS: [f32; 6] = [1.0, 2.0, 3.0, 1.0, -1.0, 0.0];
const WEIGHTS: [f32; 3] = [1.0, 2.0, 3.0];

/// Loss and gradient for dloss = 1.
fn run(cpu: &Cpu, p: &CrossEntropy, logits: &[f32], targets: Targets, weights: Option<&[f32]>) -> (f32, Vec<f32>) {
    let (mut saved, mut scratch) = (Offset::nan(p.saved_len(), 0), Offset::scratch(p.scratch_len()));
    let loss = forward(cpu, p, logits, targets, weights, &mut saved, &mut scratch).expect("targets in range");
    let mut dlogits = Offset::nan(p.saved_len(), 3);
    backward_input(cpu, &saved, 1.0, &mut dlogits);
    (loss, dlogits.to_vec())
}

/// SEMANTICS §5, and more from `torch.nn.functional.cross_entropy`.
#[test]
fn golden_values() {
    let p = CrossEntropy::new(2, 3);
    let smooth = CrossEntropy { label_smoothing: 0.1, ..p };
    let sum = CrossEntropy { reduction: Reduction::Sum, ..p };
    let indices = Targets::Indices(&[2, 0]);
    let probabilities = Targets::Probabilities(&[0.2, 0.3, 0.5, 1.0, 0.0, 0.0]);
    let half = Targets::Indices(&[2, -100]);
    let cases = [
        (p, indices, None, 0.407606006),
        (smooth, indices, None, 0.50760603),
        (sum, indices, None, 0.815212011),
        (p, indices, Some(&WEIGHTS[..]), 0.407605976),
        (smooth, indices, Some(&WEIGHTS[..]), 0.499272645),
        (p, probabilities, None, 0.75760597),
        (smooth, half, Some(&WEIGHTS[..]), 0.438463539),
        (smooth, probabilities, Some(&WEIGHTS[..]), 1.320149302),
        (CrossEntropy { reduction: Reduction::Sum, ..smooth }, probabilities, Some(&WEIGHTS[..]), 2.640298605),
    ];
    for_each_cpu(|cpu| {
        for (p, targets, weights, expected) in cases {
            let (loss, _) = run(cpu, &p, &LOGITS, targets, weights);
            assert!((loss - expected).abs() < 3e-7, "{p:?}, {targets:?}: {loss} instead of {expected}");
        }
        let (_, gradient) = run(cpu, &smooth, &LOGITS, half, Some(&WEIGHTS));
        assert_within(&gradient, &[0.07591845095, 0.21434865892, -0.29026702046, 0.0, 0.0, 0.0], 1e-6, "gradient of indices");
        let (_, gradient) = run(cpu, &smooth, &LOGITS, probabilities, Some(&WEIGHTS));
        let expected = [-0.0044819535688, -0.02556650713, 0.0300485678, -0.10078417509, 0.01618347317, 0.08460064977];
        assert_within(&gradient, &expected, 1e-6, "gradient of probabilities");
    });
}

#[test]
fn extremes() {
    for_each_cpu(|cpu| {
        let one = CrossEntropy::new(1, 2);
        let (loss, gradient) = run(cpu, &one, &[1e4, -1e4], Targets::Indices(&[1]), None);
        assert_eq!((loss, &gradient[..]), (20000.0, &[1.0, -1.0][..]));
        let (loss, gradient) = run(cpu, &one, &[1e4, -1e4], Targets::Indices(&[0]), None);
        assert_eq!((loss, &gradient[..]), (0.0, &[0.0, 0.0][..]));
        // All ignored: the loss is NaN, the gradient 0.
        let two = CrossEntropy::new(2, 3);
        let (loss, gradient) = run(cpu, &two, &LOGITS, Targets::Indices(&[-100, -100]), None);
        assert!(loss.is_nan() && gradient == [0.0; 6]);
        let sum = CrossEntropy { reduction: Reduction::Sum, ..two };
        assert_eq!(run(cpu, &sum, &LOGITS, Targets::Indices(&[-100, -100]), None).0, 0.0);
        // A weight of 0 divides by 0.
        let three = CrossEntropy::new(1, 3);
        let (loss, gradient) = run(cpu, &three, &[1.0, 0.0, 2.0], Targets::Indices(&[0]), Some(&[0.0, 1.0, 1.0]));
        assert!(loss.is_nan() && gradient.iter().all(|v| v.is_nan()));
        // A class that can't be.
        let (loss, gradient) = run(cpu, &three, &[1.0, f32::NEG_INFINITY, 2.0], Targets::Indices(&[0]), None);
        assert!((loss - 1.3132616).abs() < 1e-6);
        assert_within(&gradient, &[-0.7310586, 0.0, 0.7310586], 1e-6, "gradient beside −∞");
        let (loss, _) = run(cpu, &three, &[1.0, f32::NAN, 2.0], Targets::Indices(&[0]), None);
        assert!(loss.is_nan());
        let none = CrossEntropy::new(0, 3);
        assert!(run(cpu, &none, &[], Targets::Indices(&[]), None).0.is_nan());
    });
}

#[test]
fn targets_out_of_range_are_refused_and_nothing_is_written() {
    let p = CrossEntropy { ignore_index: 7, ..CrossEntropy::new(2, 3) };
    for_each_cpu(|cpu| {
        for target in [3, -1, -100, i64::MAX, i64::MIN] {
            let (mut saved, mut scratch) = ([5.0; 6], Offset::scratch(p.scratch_len()));
            let error = forward(cpu, &p, &LOGITS, Targets::Indices(&[7, target]), None, &mut saved, &mut scratch);
            assert_eq!(error, Err(TargetOutOfRange { row: 1, target, classes: 3 }));
            assert_eq!(saved, [5.0; 6]);
        }
    });
    let error = TargetOutOfRange { row: 1, target: 3, classes: 3 };
    assert_eq!(std::format!("{error}"), "the target of row 1 is 3, but the classes are 0 to 2");
}

#[test]
fn everything_matches_the_reference() {
    let mut random = Random::new(14);
    for classes in [1, 2, 3, 10, 17, 33, 64, 1000] {
        for n in [1, 3, 8] {
            let mut logits = random.vector(n * classes);
            logits.iter_mut().for_each(|v| *v *= 8.0);
            let indices: Vec<i64> = (0..n).map(|i| if i == 1 { -100 } else { random.below(classes) as i64 }).collect();
            let mut probabilities: Vec<f32> = random.vector(n * classes).iter().map(|v| v.abs()).collect();
            for row in probabilities.chunks_mut(classes) {
                let sum: f32 = row.iter().sum();
                row.iter_mut().for_each(|v| *v /= sum);
            }
            let weights: Vec<f32> = random.vector(classes).iter().map(|v| v.abs() + 0.1).collect();
            for targets in [Targets::Indices(&indices), Targets::Probabilities(&probabilities)] {
                for weights in [None, Some(&weights[..])] {
                    for (label_smoothing, reduction) in [(0.0, Reduction::Mean), (0.1, Reduction::Mean), (0.3, Reduction::Sum)] {
                        let p = CrossEntropy { label_smoothing, reduction, ..CrossEntropy::new(n, classes) };
                        let loss = reference::forward(&p, &logits, targets, weights).expect("in range");
                        let mut gradient = zeros(n * classes);
                        reference::backward_input(&p, &logits, targets, weights, 1.0, &mut gradient).expect("in range");
                        same_bits(
                            |cpu| {
                                let (loss, mut gradient) = run(cpu, &p, &logits, targets, weights);
                                gradient.push(loss);
                                gradient
                            },
                            |_, all| {
                                assert_within(&all[n * classes..], &[loss], 5e-7, "loss");
                                assert_within(&all[..n * classes], &gradient, 5e-7, "gradient");
                            },
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn the_gradient_is_the_slope() {
    let p = CrossEntropy { label_smoothing: 0.2, ..CrossEntropy::new(2, 3) };
    for targets in [Targets::Indices(&[2, 0]), Targets::Probabilities(&[0.2, 0.3, 0.5, 0.6, 0.4, 0.0])] {
        let mut gradient = zeros(6);
        reference::backward_input(&p, &LOGITS, targets, Some(&WEIGHTS), 1.0, &mut gradient).expect("in range");
        let loss = |x: &[f32]| reference::forward(&p, x, targets, Some(&WEIGHTS)).expect("in range");
        assert_gradient(&LOGITS, &gradient, loss, 1e-4);
    }
}
