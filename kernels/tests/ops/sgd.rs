use super::testing::*;
use nunatak_kernels::Cpu;
use nunatak_kernels::reference;
use nunatak_kernels::sgd::*;

fn variants() -> Vec<Sgd> {
    let mut all = Vec::new();
    for momentum in [0.0, 0.9] {
        for weight_decay in [0.0, 0.1] {
            for maximize in [false, true] {
                for (dampening, nesterov) in [(0.0, false), (0.5, false), (0.0, true)] {
                    if !nesterov || momentum > 0.0 {
                        all.push(Sgd { lr: 0.1, momentum, dampening, weight_decay, nesterov, maximize });
                    }
                }
            }
        }
    }
    all
}

#[test]
fn steps_match_the_reference() {
    let mut random = Random::new(6);
    // What goes in is of size 1; what comes out may be the little that is left.
    let tolerance = |v: &[f64]| 4e-7 / v.iter().fold(1e-30_f64, |m, v| m.max(v.abs())).min(1.0);
    for len in [0, 1, 3, 8, 10, 16, 17, 33, 64, 8192, 17000] {
        let offsets = match len {
            8192 => 7..8,
            17000 => 8..9,
            _ => 0..16,
        };
        for offset in offsets {
            let (start, first, second) = (random.vector(len), random.vector(len), Offset::copy(&random.vector(len), offset));
            for sgd in variants() {
                assert_eq!(sgd.validate(), Ok(()));
                let mut expected: Vec<f64> = start.iter().map(|v| f64::from(*v)).collect();
                let mut buffer = zeros(len);
                reference::sgd::step(&sgd, &mut expected, &first, Some(&mut buffer), true);
                reference::sgd::step(&sgd, &mut expected, &second, Some(&mut buffer), false);
                for_each_cpu(|cpu| {
                    let mut p = Offset::copy(&start, offset);
                    let mut m = Offset::nan(len, 15 - offset);
                    step(cpu, &sgd, &mut p, &first, Some(&mut m), true);
                    step(cpu, &sgd, &mut p, &second, Some(&mut m), false);
                    assert_within(&p, &expected, tolerance(&expected), "p");
                    if sgd.momentum != 0.0 {
                        assert_within(&m, &buffer, tolerance(&buffer), "buffer");
                    } else {
                        step(cpu, &sgd, &mut p, &second, None, false);
                    }
                });
            }
        }
    }
}

/// SEMANTICS §3.
#[test]
fn golden_trajectories() {
    let momentum = Sgd { momentum: 0.9, ..Sgd::new(0.1) };
    let cases: [(Sgd, [f32; 3]); 4] = [
        (momentum, [0.9, 0.71, 0.439]),
        (Sgd { dampening: 0.5, ..momentum }, [0.9, 0.76, 0.584]),
        (Sgd { nesterov: true, ..momentum }, [0.81, 0.539, 0.1951]),
        (Sgd { weight_decay: 0.1, ..momentum }, [0.89, 0.6821, 0.388169]),
    ];
    for_each_cpu(|cpu| {
        for (sgd, expected) in &cases {
            let (mut p, mut m) = ([1.0], [f32::NAN]);
            for (i, e) in expected.iter().enumerate() {
                step(cpu, sgd, &mut p, &[1.0], Some(&mut m), i == 0);
                assert!((p[0] - e).abs() < 1e-6, "{sgd:?}: {} instead of {e}", p[0]);
            }
        }
        // g = [1, none, 0, none]: none is no call at all, zero still moves.
        let (mut p, mut m) = ([1.0], [f32::NAN]);
        step(cpu, &momentum, &mut p, &[1.0], Some(&mut m), true);
        assert_eq!(p, [0.9]);
        step(cpu, &momentum, &mut p, &[0.0], Some(&mut m), false);
        assert!((p[0] - 0.81).abs() < 1e-6);
    });
}

/// Three steps of `torch.optim.SGD` (2.x, one thread) from p[i] = (7919·i mod 1009)/1009 − ½ with
/// grad[i] = ((104729 + 31·step)·i mod 2003)/2003 − ½, all in float32; the elements named in `AT`.
#[test]
fn bits_of_torch() {
    const AT: [usize; 6] = [0, 1, 5, 17, 33, 34];
    let plain = Sgd::new(0.1);
    let cases: [(Sgd, [u32; 6]); 6] = [
        (plain, [3199415090, 1053874259, 3196411900, 3179710984, 1055646379, 1050878307]),
        (Sgd { weight_decay: 0.01, ..plain }, [3199369841, 1053837125, 3196386378, 3179674960, 1055597609, 1050844362]),
        (Sgd { lr: 0.01, momentum: 0.9, ..plain }, [3203507054, 1052259020, 3196304168, 3181555640, 1056611080, 1051601823]),
        (
            Sgd { lr: 0.03, momentum: 0.9, dampening: 0.3, weight_decay: 0.1, ..plain },
            [3201829194, 1052686891, 3196091959, 3182828648, 1056181325, 1051098080],
        ),
        (
            Sgd { momentum: 0.8, nesterov: true, weight_decay: 1e-4, ..plain },
            [3188702506, 1056724592, 3196221020, 3180815873, 1053958987, 1049841379],
        ),
        (
            Sgd { momentum: 0.9, maximize: true, weight_decay: 0.05, ..plain },
            [3208899859, 1046909130, 3196386088, 3178546915, 1057766319, 1052827807],
        ),
    ];
    let vector = |a: usize, b: usize| -> Vec<f32> { (0..35).map(|i| (i * a % b) as f32 / b as f32 - 0.5).collect() };
    for_each_cpu(|cpu| {
        for (sgd, expected) in &cases {
            let (mut p, mut m) = (vector(7919, 1009), [f32::NAN; 35]);
            for i in 0..3 {
                step(cpu, sgd, &mut p, &vector(104_729 + 31 * i, 2003), Some(&mut m), i == 0);
            }
            for (at, bits) in AT.into_iter().zip(expected) {
                let ulps = (i64::from(p[at].to_bits()) - i64::from(*bits)).abs();
                // Torch fuses where its CPU can; the portable level never does.
                let allowed = if cpu.level == nunatak_kernels::Level::PORTABLE { 4 } else { 1 };
                assert!(ulps <= allowed, "{ulps} ulps at {at} of {sgd:?} at {}", cpu.level);
            }
        }
    });
}

#[test]
fn senseless_numbers_are_refused() {
    let ok = Sgd::new(0.1);
    assert_eq!(Sgd { lr: 0.0, ..ok }.validate(), Ok(()));
    assert_eq!(Sgd { lr: -1.0, ..ok }.validate(), Err(SgdError::Lr(-1.0)));
    assert_eq!(Sgd { lr: f32::INFINITY, ..ok }.validate(), Err(SgdError::Lr(f32::INFINITY)));
    assert!(matches!(Sgd { lr: f32::NAN, ..ok }.validate(), Err(SgdError::Lr(v)) if v.is_nan()));
    assert_eq!(Sgd { momentum: -0.5, ..ok }.validate(), Err(SgdError::Momentum(-0.5)));
    assert!(matches!(Sgd { momentum: f32::NAN, ..ok }.validate(), Err(SgdError::Momentum(_))));
    assert_eq!(Sgd { dampening: f32::INFINITY, ..ok }.validate(), Err(SgdError::Dampening(f32::INFINITY)));
    assert_eq!(Sgd { weight_decay: -2.0, ..ok }.validate(), Err(SgdError::WeightDecay(-2.0)));
    for (momentum, dampening) in [(0.0, 0.0), (0.9, 0.1)] {
        let error = Sgd { nesterov: true, momentum, dampening, ..ok }.validate();
        assert_eq!(error, Err(SgdError::Nesterov { momentum, dampening }));
    }
    assert!(std::format!("{}", SgdError::Lr(-1.0)).contains("is -1, but must be"));
}

#[test]
#[should_panic(expected = "without a buffer")]
fn momentum_needs_a_buffer() {
    let cpu = Cpu { level: nunatak_kernels::Level::PORTABLE, threads: &nunatak_kernels::Threads::serial() };
    step(&cpu, &Sgd { momentum: 0.9, ..Sgd::new(0.1) }, &mut [1.0], &[1.0], None, true);
}
