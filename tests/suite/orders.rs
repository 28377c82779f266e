//! Calls in the wrong order are typed errors, and change nothing.

use nunatak_nn::{Error, Graph, Level, Loss, Mode, Name, Optimizer, Sgd, Step, Threads, Trainer, Update};
use nunatak_tests::{Batch, Setup, bits, entry, plan, same_bits, small, training, with_trainer};

fn optimizer() -> Optimizer<'static> {
    Optimizer::new(Sgd { momentum: 0.9, ..Sgd::new(0.02) }).expect("settings")
}

fn setup() -> Setup<'static> {
    training(small(), 3, 12, Loss::Sum)
}

#[test]
fn each_forward_serves_one_backward() {
    with_trainer(&setup(), Level::detect(), Threads::serial(), |trainer, values| {
        let before = bits(trainer);
        assert_eq!(trainer.backward(), Err(Error::BackwardBeforeForward));
        assert_eq!(trainer.step(optimizer()), Err(Error::NoGradients));
        assert_eq!(trainer.backward_and_step(optimizer()), Err(Error::BackwardBeforeForward));
        assert_eq!(trainer.clip_grad_norm(1.0), Err(Error::NoGradients));
        assert!(matches!(trainer.forward(), Err(Error::InputNotSet { value: 0 })));
        let batch = Batch::random(&setup(), 1);
        trainer.set_input(values.data, &batch.data).expect("set");
        assert!(matches!(trainer.forward(), Err(Error::InputNotSet { value }) if value > 0), "labels are due too");
        assert_eq!(trainer.backward(), Err(Error::BackwardBeforeForward));
        same_bits("refused calls", &before, &bits(trainer));

        batch.set(trainer, &values).expect("set");
        trainer.forward().expect("forward");
        trainer.backward().expect("backward");
        assert_eq!(trainer.backward(), Err(Error::BackwardBeforeForward), "twice");
        assert!(matches!(trainer.forward(), Err(Error::InputNotSet { .. })), "inputs serve one forward");
        trainer.step(optimizer()).expect("step");
        // The gradients are there until they are zeroed, as in PyTorch.
        trainer.step(optimizer()).expect("step");
        trainer.zero_grad();
        let after = bits(trainer);
        assert_eq!(trainer.step(optimizer()), Err(Error::NoGradients));
        same_bits("a step without gradients", &after, &bits(trainer));

        // An input that is set after forward has overwritten what backward would read.
        batch.set(trainer, &values).expect("set");
        trainer.forward().expect("forward");
        trainer.set_input(values.data, &batch.data).expect("set");
        assert_eq!(trainer.backward(), Err(Error::BackwardBeforeForward));
    });
}

#[test]
fn there_is_nothing_to_walk_back_for() {
    let frozen = Setup { trainable: "none", ..setup() };
    let inference = Setup { loss: Loss::None, mode: Mode::Eval, ..setup() };
    for setup in [frozen, inference, Setup::inference(small(), 3, 12, 12)] {
        for update in [Update::After, Update::During] {
            let mut setup = setup;
            setup.update = update;
            with_trainer(&setup, Level::detect(), Threads::serial(), |trainer, values| {
                Batch::random(&setup, 1).set(trainer, &values).expect("set");
                trainer.forward().expect("forward");
                let before = bits(trainer);
                let due = if update == Update::During { Error::UpdateIsDuring } else { Error::NothingToTrain };
                assert_eq!(trainer.backward(), Err(due));
                assert_eq!(trainer.backward_and_step(optimizer()), Err(Error::NothingToTrain));
                assert!(trainer.step(optimizer()).is_err());
                same_bits("refused calls", &before, &bits(trainer));
            });
        }
    }
}

/// A frozen plan with another root than a loss: only parameters that take part count.
#[test]
fn a_trainable_parameter_that_takes_no_part_is_nothing_to_train() {
    let graph = Graph::new();
    let x = graph.input([2, 3, 12, 12]);
    let (features, _) = small().record(graph.root(), x);
    let root = features.sum();
    let program = Step::new(&graph).loss(root).train("head").plan().expect("a plan");
    let mut trainer = Trainer::owning(program, Level::detect(), Threads::serial()).expect("memory");
    assert!(!trainer.trains());
    trainer.init(0);
    trainer.set_input(x, &[0.5; 2 * 3 * 144]).expect("set");
    trainer.forward().expect("forward");
    assert_eq!(trainer.backward(), Err(Error::NothingToTrain));
}

#[test]
fn freezing_between_forward_and_backward_needs_another_forward() {
    let frozen = Setup { trainable: "fc", ..setup() };
    with_trainer(&setup(), Level::detect(), Threads::serial(), |trainer, values| {
        Batch::random(&setup(), 1).set(trainer, &values).expect("set");
        trainer.forward().expect("forward");
        trainer.switch(plan(&frozen).0).expect("switch");
        assert_eq!(trainer.backward(), Err(Error::BackwardBeforeForward));
        // The same between backward and step: a stale gradient must not move what is frozen now.
        trainer.switch(plan(&setup()).0).expect("switch");
        Batch::random(&setup(), 1).set(trainer, &values).expect("set");
        trainer.forward().expect("forward");
        trainer.backward().expect("backward");
        trainer.switch(plan(&frozen).0).expect("switch");
        let before = bits(trainer);
        assert_eq!(trainer.step(optimizer()), Err(Error::NoGradients));
        same_bits("a step after freezing", &before, &bits(trainer));
    });
}

#[test]
fn a_head_that_is_replaced_between_backward_and_step_is_not_moved() {
    let recipe = small().with_classes(2);
    let new = Setup { recipe, trainable: "head", ..setup() };
    with_trainer(&setup(), Level::detect(), Threads::serial(), |trainer, values| {
        Batch::random(&setup(), 1).set(trainer, &values).expect("set");
        trainer.forward().expect("forward");
        trainer.backward().expect("backward");
        trainer.switch(plan(&new).0).expect("switch");
        let before = bits(trainer);
        assert_eq!(trainer.step(optimizer()), Err(Error::NoGradients));
        same_bits("a step after a new head", &before, &bits(trainer));
    });
}

#[test]
fn the_update_during_the_walk_has_no_gradients_to_show() {
    let mut during = setup();
    during.update = Update::During;
    with_trainer(&during, Level::detect(), Threads::serial(), |trainer, values| {
        let id = entry(trainer, "fc.bias");
        for _ in 0..2 {
            Batch::random(&during, 1).set(trainer, &values).expect("set");
            trainer.forward().expect("forward");
            assert_eq!(trainer.backward(), Err(Error::UpdateIsDuring));
            assert_eq!(trainer.step(optimizer()), Err(Error::UpdateIsDuring));
            assert_eq!(trainer.clip_grad_norm(1.0), Err(Error::GradientsNotKept));
            assert_eq!(trainer.gradient(id, &mut [0.0; 5]), Err(Error::GradientsNotKept));
            assert_eq!(trainer.set_gradient(id, &[0.0; 5]), Err(Error::GradientsNotKept));
            trainer.backward_and_step(optimizer()).expect("step, after all");
            assert!(trainer.gradients().next().is_none());
        }
    });
}

#[test]
fn momentum_needs_room() {
    for update in [Update::After, Update::During] {
        let mut without = setup();
        without.momentum = false;
        without.update = update;
        with_trainer(&without, Level::detect(), Threads::serial(), |trainer, values| {
            Batch::random(&without, 1).set(trainer, &values).expect("set");
            trainer.forward().expect("forward");
            let before = bits(trainer);
            assert_eq!(trainer.backward_and_step(optimizer()), Err(Error::NoMomentum));
            same_bits("a step without room for momentum", &before, &bits(trainer));
            let id = entry(trainer, "fc.bias");
            assert_eq!(trainer.set_momentum(id, &[0.0; 5]), Err(Error::NoMomentum));
            assert_eq!(trainer.momentum(id, &mut [0.0; 5]), Err(Error::NoMomentum));
        });
    }
}

#[test]
fn only_inputs_are_set_and_in_their_length() {
    with_trainer(&setup(), Level::detect(), Threads::serial(), |trainer, values| {
        assert_eq!(trainer.set_input(values.prediction, &[0.0; 15]), Err(Error::NotAnInput));
        assert_eq!(trainer.set_labels(values.data, &[0; 3]), Err(Error::NotAnInput));
        for len in [0, 1, 3 * 3 * 144 - 1, 3 * 3 * 144 + 1] {
            let error = trainer.set_input(values.data, &vec![0.0; len]);
            assert!(matches!(error, Err(Error::Length { expected: 1296, got, .. }) if got == len));
        }
        let id = entry(trainer, "fc.weight");
        assert!(matches!(trainer.set_entry(id, &[0.0; 44]), Err(Error::Length { expected: 45, got: 44, .. })));
        assert!(matches!(trainer.entry(id, &mut [0.0; 46]), Err(Error::Length { expected: 45, got: 46, .. })));
        assert_eq!(trainer.entry_named("fc").err(), Some(Error::UnknownName { name: Name::of("fc") }));
        assert_eq!(trainer.value_named("fc").err(), Some(Error::UnknownName { name: Name::of("fc") }));
        for (trainable, unknown) in [("layer9", "layer9"), ("fc,layer", "layer"), ("fc,", ""), ("fc.weights", "fc.weights")] {
            let error = Setup { trainable, ..setup() }.plan().err();
            assert_eq!(error, Some(Error::UnknownName { name: Name::of(unknown) }));
        }
    });
}

/// A value of another recording is another node here: it must be refused or be harmless.
#[test]
fn values_of_other_graphs_are_refused() {
    let (one, other) = (Graph::new(), Graph::new());
    let (a, b) = (one.input([1, 2]), other.input([1, 2]));
    let _ = a + b;
    assert_eq!(one.check(), Err(Error::OtherGraph));
    assert_eq!(other.check(), Ok(()));
    assert_eq!(Step::new(&one).plan().err(), Some(Error::OtherGraph));
    // A value that is not on the tape can be neither root nor kept.
    let large = Graph::new();
    let far = small().record(large.root(), large.input([1, 3, 9, 9])).1.id();
    let other = || Step::new(&other);
    for plan in [other().loss(far).plan(), other().keep(&[far]).plan(), other().keep_gradients(&[far]).plan()] {
        assert!(matches!(plan, Err(Error::Core(nunatak_core::Error::UnknownValue { values: 1, .. }))));
    }
}
