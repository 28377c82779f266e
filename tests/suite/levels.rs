//! Every instruction-set level that this machine has gives the same answers, whatever the numbers.

use nunatak_nn::{CrossEntropyOptions, Error, Level, Loss, Mode, Optimizer, Recipe, Sgd, Threads};
use nunatak_tests::{Batch, bits, distance, gradients, params, same_bits, small, training, with_trainer};

/// A CI whose machines have one level alone must notice that the others went untested.
#[test]
fn portable_is_always_there_and_the_best_comes_first() {
    let levels: Vec<_> = Level::available().collect();
    assert_eq!(levels.last(), Some(&Level::PORTABLE));
    assert_eq!(levels.first(), Some(&Level::detect()));
    println!("levels tested on this machine: {levels:?}");
    if let Ok(due) = std::env::var("NUNATAK_EXPECT_LEVELS") {
        let names: Vec<_> = levels.iter().map(|l| l.name()).collect();
        assert_eq!(names, due.split(',').collect::<Vec<_>>());
    }
    assert!(Level::by_name("sse2").is_err() && Level::by_name("AVX2").is_err() && Level::by_name("").is_err());
}

#[test]
fn levels_agree_on_networks() {
    let loss = Loss::CrossEntropy(CrossEntropyOptions::default());
    for (recipe, batch, size) in [(small(), 4, 19), (Recipe::resnet8(10), 2, 32), (Recipe::resnet18(10), 1, 64)] {
        let mut setup = training(recipe, batch, size, loss);
        setup.mode = Mode::Eval; // statistics of few values would amplify rounding
        let results = Level::available().map(|level| {
            let result = with_trainer(&setup, level, Threads::serial(), |trainer, values| {
                Batch::random(&setup, 1).set(trainer, &values).expect("set");
                trainer.forward().expect("forward");
                let mut y = vec![0.0; batch * recipe.classes];
                trainer.value(values.prediction, &mut y).expect("prediction");
                trainer.backward().expect("backward");
                (y, gradients(trainer))
            });
            (level, result)
        });
        let results: Vec<_> = results.collect();
        let (_, portable) = results.last().expect("portable");
        let [y, g] = [&portable.0, &portable.1].map(|v| v.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
        for (level, (y2, g2)) in &results {
            let (dy, dg) = (distance(y2, &y), distance(g2, &g));
            println!("{level}: {dy:.1e} {dg:.1e}");
            assert!(dy < 1e-5 && dg < 5e-4, "{level}: predictions {dy:.1e}, gradients {dg:.1e} from portable");
        }
    }
}

/// Numbers that no image has cause no panic and no endless loop, a bad loss is noticed, and nothing that lasts becomes
/// other than finite.
#[test]
fn nan_and_infinity_do_no_harm() {
    let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -f32::MAX, f32::MIN_POSITIVE / 8.0, -0.0];
    let optimizer = Optimizer::new(Sgd { momentum: 0.9, ..Sgd::new(0.01) }).expect("settings");
    let losses = [
        Loss::Sum,
        Loss::MeanSquaredError,
        Loss::CrossEntropy(CrossEntropyOptions::default()),
        Loss::CrossEntropyProbabilities(CrossEntropyOptions::default()),
    ];
    for level in Level::available() {
        for loss in losses {
            for mode in [Mode::Train, Mode::Eval] {
                for value in bad {
                    let mut setup = training(small(), 2, 12, loss);
                    setup.mode = mode;
                    with_trainer(&setup, level, Threads::serial(), |trainer, values| {
                        for all in [false, true] {
                            let mut batch = Batch::random(&setup, 1);
                            batch.data.iter_mut().step_by(if all { 1 } else { 100 }).for_each(|v| *v = value);
                            batch.labels[3] = value;
                            batch.set(trainer, &values).expect("set");
                            let before = bits(trainer);
                            if let Err(e) = trainer.forward() {
                                assert!(matches!(e, Error::StatisticsNotFinite { .. }), "{e}");
                                same_bits("a refused forward", &before, &bits(trainer));
                                continue;
                            }
                            let loss = trainer.scalar(values.loss.expect("loss")).expect("loss");
                            assert_eq!(trainer.finite(values.loss.expect("loss")).is_ok(), loss.is_finite());
                            if value.is_nan() && mode == Mode::Train {
                                assert!(loss.is_nan(), "a NaN got lost on its way: {loss}");
                            }
                            if !loss.is_finite() {
                                assert!(matches!(trainer.backward(), Err(Error::LossNotFinite { .. })));
                                same_bits("a loss that is not finite", &before, &bits(trainer));
                                continue;
                            }
                            trainer.backward().expect("backward");
                            match trainer.clip_grad_norm(1.0) {
                                Ok(norm) => {
                                    assert!(norm >= 0.0);
                                    trainer.step(optimizer).expect("step");
                                }
                                Err(e) => {
                                    assert!(matches!(e, Error::GradientNotFinite { updated: 0, .. }), "{e}");
                                    assert_eq!(trainer.step(optimizer), Err(e));
                                }
                            }
                            trainer.zero_grad();
                            let numbers = params(trainer.program()).into_iter().flat_map(|id| nunatak_tests::numbers(trainer, id));
                            assert!(numbers.into_iter().all(f32::is_finite), "{value} {level}");
                        }
                    });
                }
            }
        }
    }
}

/// The same for weights and statistics.
#[test]
fn bad_weights_do_no_harm() {
    for level in Level::available() {
        for value in [f32::NAN, f32::INFINITY, f32::MAX, 1e-42] {
            let setup = training(small(), 2, 12, Loss::Sum);
            with_trainer(&setup, level, Threads::serial(), |trainer, values| {
                for id in params(trainer.program()).into_iter().step_by(2) {
                    let len = trainer.program().entry(id).numbers();
                    trainer.set_entry(id, &vec![value; len]).expect("set");
                }
                Batch::random(&setup, 1).set(trainer, &values).expect("set");
                let before = bits(trainer);
                let optimizer = Optimizer::new(Sgd::new(0.1)).expect("settings");
                match trainer.forward().and_then(|()| trainer.backward_and_step(optimizer)) {
                    Ok(()) => assert!(!value.is_nan()),
                    Err(e) => {
                        let known = matches!(
                            e,
                            Error::LossNotFinite { .. } | Error::StatisticsNotFinite { .. } | Error::GradientNotFinite { updated: 0, .. }
                        );
                        assert!(known && value != 1e-42, "{e}");
                        same_bits("a refused step", &before, &bits(trainer));
                    }
                }
            });
        }
    }
}
