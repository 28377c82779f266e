//! A loss that is not finite changes nothing; nor does a gradient, unless updates come during the walk: then it ends
//! the walk, and what was updated before is named.

use nunatak_nn::step::{Event, Watch};
use nunatak_nn::{CrossEntropyOptions, EntryKind, Error, Level, Loss, Mode, Optimizer, Recipe, Sgd, Threads, Trainer, Update, Usual};
use nunatak_tests::{Batch, Setup, bits, entry, same_bits, small, training, with_trainer};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

fn optimizer() -> Optimizer<'static> {
    Optimizer::new(Sgd { momentum: 0.9, ..Sgd::new(0.02) }).expect("settings")
}

fn setup(loss: Loss, update: Update) -> Setup<'static> {
    Setup { update, ..training(small(), 3, 12, loss) }
}

fn good_step(trainer: &mut Trainer, values: &Usual, setup: &Setup, seed: u64) {
    Batch::random(setup, seed).set(trainer, values).expect("set");
    trainer.forward().expect("forward");
    match setup.loss {
        Loss::Outside => trainer.backward_with_and_step(&[0.1; 15], optimizer()).expect("step"),
        _ => trainer.backward_and_step(optimizer()).expect("step"),
    }
}

#[test]
fn a_loss_that_is_not_finite_changes_nothing() {
    let cross_entropy = Loss::CrossEntropy(CrossEntropyOptions::default());
    for update in [Update::After, Update::During, Update::Summed] {
        for (loss, level) in
            [cross_entropy, Loss::MeanSquaredError, Loss::Outside].into_iter().flat_map(|l| Level::available().map(move |v| (l, v)))
        {
            let setup = setup(loss, update);
            let unbroken = with_trainer(&setup, level, Threads::serial(), |trainer, values| {
                good_step(trainer, &values, &setup, 1);
                good_step(trainer, &values, &setup, 2);
                bits(trainer)
            });
            let broken = with_trainer(&setup, level, Threads::serial(), |trainer, values| {
                good_step(trainer, &values, &setup, 1);
                let (before, forwards) = (bits(trainer), trainer.forwards());
                for bad in [f32::NAN, f32::INFINITY, f32::MAX] {
                    let mut batch = Batch::random(&setup, 2);
                    batch.data[0] = bad;
                    batch.set(trainer, &values).expect("set");
                    // The loss can be read; or statistics alone would not be finite, which is refused at once.
                    match trainer.forward() {
                        Ok(()) => {
                            if let Some(loss) = values.loss {
                                assert!(!trainer.scalar(loss).expect("a loss").is_finite());
                                assert!(matches!(trainer.finite(loss), Err(Error::LossNotFinite { .. })));
                            }
                            let refused = match update {
                                Update::After => trainer.backward_with(&vec![1.0; if values.loss.is_some() { 1 } else { 15 }]),
                                Update::During | Update::Summed => {
                                    trainer.backward_with_and_step(&vec![1.0; if values.loss.is_some() { 1 } else { 15 }], optimizer())
                                }
                            };
                            assert!(matches!(refused, Err(Error::LossNotFinite { .. })), "{refused:?}");
                        }
                        Err(e) => assert!(matches!(e, Error::StatisticsNotFinite { .. }), "{e}"),
                    }
                    same_bits(&format!("{bad} {loss:?} {update:?} {level}"), &before, &bits(trainer));
                    assert_eq!(trainer.forwards(), forwards);
                    assert!(trainer.gradients().next().is_none());
                }
                good_step(trainer, &values, &setup, 2);
                bits(trainer)
            });
            same_bits("as if nothing had been", &unbroken, &broken);
        }
    }
}

/// Statistics move in a forward without a loss too: never to what is not finite.
#[test]
fn statistics_alone_stay_finite() {
    let setup = Setup { mode: Mode::Train, ..Setup::inference(small(), 3, 12, 12) };
    with_trainer(&setup, Level::detect(), Threads::serial(), |trainer, values| {
        let before = bits(trainer);
        let mut batch = Batch::random(&setup, 1);
        batch.data[7] = f32::NAN;
        batch.set(trainer, &values).expect("set");
        let error = trainer.forward().expect_err("NaN");
        assert!(matches!(error, Error::StatisticsNotFinite { .. }) && error.to_string().contains("running_"), "{error}");
        same_bits("a NaN pixel", &before, &bits(trainer));
        let mut prediction = [0.0; 15];
        trainer.value(values.prediction, &mut prediction).expect("what was computed can be read");
        Batch::random(&setup, 1).set(trainer, &values).expect("set");
        trainer.forward().expect("forward");
        assert!(bits(trainer) != before, "statistics move");
    });
}

struct StopAfter(AtomicUsize);

impl Watch for StopAfter {
    fn now(&self) -> u64 {
        0
    }
    fn called(&self, event: Event, _: u64) {
        if !matches!(event, Event::Input(_)) {
            self.0.fetch_sub(1, Relaxed);
        }
    }
    fn stop(&self) -> bool {
        self.0.load(Relaxed) == 0
    }
}

#[test]
fn a_forward_that_ends_early_changes_nothing() {
    let setup = setup(Loss::CrossEntropy(CrossEntropyOptions::default()), Update::After);
    for calls in 1..30 {
        let watch = StopAfter(AtomicUsize::new(calls));
        let (program, values) = nunatak_tests::plan(&setup);
        let mut trainer = Trainer::owning(program, Level::detect(), Threads::serial()).expect("memory");
        trainer.init(7);
        let before = bits(&trainer);
        trainer.watch(Some(&watch));
        let mut batch = Batch::random(&setup, 1);
        batch.set(&mut trainer, &values).expect("set");
        if trainer.forward() == Ok(()) {
            assert!(calls > 5, "a network of more calls");
            trainer.watch(None);
            batch.classes[1] = 5;
            batch.set(&mut trainer, &values).expect("set");
            let before = bits(&trainer);
            assert!(matches!(trainer.forward(), Err(Error::TargetOutOfRange { row: 1, .. })));
            return same_bits("a label that is no class", &before, &bits(&trainer));
        }
        same_bits("a stopped forward", &before, &bits(&trainer));
    }
    panic!("a forward of fewer calls");
}

/// The loss is finite, the gradient that comes from outside is not.
#[test]
fn a_gradient_that_is_not_finite_changes_nothing_before_the_first_update() {
    let wide = training(Recipe::resnet18(5), 3, 32, Loss::Outside);
    for (update, base) in
        [Update::After, Update::During, Update::Summed].into_iter().flat_map(|u| [(u, setup(Loss::Outside, u)), (u, wide)])
    {
        let setup = Setup { update, ..base };
        with_trainer(&setup, Level::detect(), Threads::serial(), |trainer, values| {
            good_step(trainer, &values, &setup, 1);
            let before = bits(trainer);
            for bad in [f32::NAN, f32::NEG_INFINITY] {
                Batch::random(&setup, 2).set(trainer, &values).expect("set");
                trainer.forward().expect("forward");
                let mut gradient = [0.1; 15];
                gradient[4] = bad;
                let error = trainer.backward_with_and_step(&gradient, optimizer()).expect_err("not finite");
                assert!(matches!(error, Error::GradientNotFinite { updated: 0, .. }), "{error}");
                assert_eq!(trainer.updated().count(), 0);
                same_bits(&format!("{bad} {update:?}"), &before, &bits(trainer));
                assert!(trainer.gradients().next().is_none(), "gradients are forgotten");
            }
            good_step(trainer, &values, &setup, 2);
            assert!(bits(trainer) != before);
        });
    }
}

/// Gradients become infinite behind the head, which was updated by then.
#[test]
fn what_was_updated_during_the_walk_is_named() {
    for update in [Update::After, Update::During, Update::Summed] {
        let setup = setup(Loss::Outside, update);
        with_trainer(&setup, Level::detect(), Threads::serial(), |trainer, values| {
            let head = entry(trainer, "fc.weight");
            trainer.set_entry(head, &[3e37; 45]).expect("set");
            Batch::random(&setup, 2).set(trainer, &values).expect("set");
            let before = bits(trainer);
            if trainer.forward() != Ok(()) {
                panic!("the forward is finite");
            }
            let error = trainer.backward_with_and_step(&[1e3; 15], optimizer()).expect_err("not finite");
            let Error::GradientNotFinite { name, updated } = error else { panic!("{error}") };
            assert!(!name.as_str().starts_with("fc"), "{error}");
            let names: Vec<_> = trainer.updated().map(|id| trainer.program().entry(id).name().to_string()).collect();
            let after = bits(trainer);
            let changed: Vec<_> = before.iter().filter(|(name, numbers)| !after.iter().any(|(n, v)| n == name && v == numbers)).collect();
            match update {
                Update::After | Update::Summed => {
                    assert!(updated == 0 && names.is_empty() && changed.is_empty(), "{error} {names:?} {changed:?}")
                }
                Update::During => {
                    assert_eq!(names, ["fc.weight", "fc.bias"]);
                    assert!(updated == 2 && error.to_string().contains("2 parameters were updated"), "{error}");
                    let parameter = |name: &str| trainer.program().entry(entry(trainer, name)).kind() == EntryKind::Parameter;
                    assert!(changed.iter().filter(|(name, _)| parameter(name)).all(|(name, _)| names.contains(name)), "{changed:?}");
                }
            }
        });
    }
}

#[test]
fn gradients_that_are_added_or_set_are_judged_too() {
    let setup = setup(Loss::Outside, Update::After);
    with_trainer(&setup, Level::detect(), Threads::serial(), |trainer, values| {
        let forward = |trainer: &mut Trainer| {
            Batch::random(&setup, 2).set(trainer, &values).expect("set");
            trainer.forward().expect("forward");
        };
        // Each sum over the batch is finite, their sum is not.
        let mut gradient = [0.0; 15];
        (0..3).for_each(|i| gradient[5 * i] = 1e38);
        // Behind the head the gradients are finite.
        let head = entry(trainer, "fc.weight");
        trainer.set_entry(head, &[0.0; 45]).expect("set");
        forward(trainer);
        trainer.backward_with(&gradient).expect("backward");
        forward(trainer);
        trainer.backward_with(&gradient).expect("backward");
        let before = bits(trainer);
        for refused in [trainer.step(optimizer()), trainer.clip_grad_norm(1.0).map(|_| ())] {
            let error = refused.expect_err("a sum that is infinite");
            assert!(matches!(error, Error::GradientNotFinite { name, updated: 0 } if name.as_str().starts_with("fc.")), "{error}");
        }
        same_bits("refused", &before, &bits(trainer));

        trainer.zero_grad();
        let bias = entry(trainer, "fc.bias");
        trainer.set_gradient(bias, &[0.0, 0.0, f32::NAN, 0.0, 0.0]).expect("set");
        assert!(matches!(trainer.step(optimizer()), Err(Error::GradientNotFinite { .. })));
        trainer.set_gradient(bias, &[0.5; 5]).expect("set");
        trainer.step(optimizer()).expect("a finite gradient");
    });
}
