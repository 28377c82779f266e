//! Calls in the wrong order are typed errors, and change nothing.

use nunatak_nn::{Error, Level, Loss, Mode, Optimizer, ParamSet, Setup, Sgd, Threads, Trainer, Update};
use nunatak_tests::{Batch, bits, network, plan, prefixes, same_bits, small, training, with_trainer};

fn optimizer() -> Optimizer {
    Optimizer::new(Sgd { momentum: 0.9, ..Sgd::new(0.02) }).expect("settings")
}

fn setup() -> Setup {
    training(small(), 3, 12, Loss::Sum)
}

#[test]
fn each_forward_serves_one_backward() {
    with_trainer(&setup(), Level::detect(), Threads::serial(), |trainer, values| {
        let before = bits(trainer);
        assert_eq!(trainer.backward(), Err(Error::BackwardBeforeForward));
        assert_eq!(trainer.step(&optimizer()), Err(Error::NoGradients));
        assert_eq!(trainer.backward_and_step(&optimizer()), Err(Error::BackwardBeforeForward));
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
        trainer.step(&optimizer()).expect("step");
        // The gradients are there until they are zeroed, as in PyTorch.
        trainer.step(&optimizer()).expect("step");
        trainer.zero_grad();
        let after = bits(trainer);
        assert_eq!(trainer.step(&optimizer()), Err(Error::NoGradients));
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
    let frozen = Setup { trainable: ParamSet::EMPTY, ..setup() };
    let inference = Setup { loss: Loss::None, mode: Mode::Eval, ..setup() };
    for setup in [frozen, inference, Setup::inference(small(), 3, 12, 12)] {
        for update in [Update::After, Update::During] {
            let mut setup = setup;
            setup.options.update = update;
            with_trainer(&setup, Level::detect(), Threads::serial(), |trainer, values| {
                Batch::random(&setup, 1).set(trainer, &values).expect("set");
                trainer.forward().expect("forward");
                let before = bits(trainer);
                let due = if update == Update::During { Error::UpdateIsDuring } else { Error::NothingToTrain };
                assert_eq!(trainer.backward(), Err(due));
                assert_eq!(trainer.backward_and_step(&optimizer()), Err(Error::NothingToTrain));
                assert!(trainer.step(&optimizer()).is_err());
                same_bits("refused calls", &before, &bits(trainer));
            });
        }
    }
}

/// A frozen plan with another root than a loss: only parameters that take part count.
#[test]
fn a_trainable_parameter_that_takes_no_part_is_nothing_to_train() {
    let model = nunatak_nn::ResNet::new(small(), Mode::Train).expect("network");
    let graph = nunatak_nn::Graph::new();
    let x = graph.input(2, 3, 12, 12);
    let root = model.features(x).sum();
    let head = model.network().head();
    let blueprint = nunatak_nn::Blueprint::new(&model, &graph, Some(root.id()), &[], head, Default::default()).expect("plan");
    assert!(!blueprint.trains());
    let mut memory = vec![0; blueprint.bytes()];
    let mut trainer = Trainer::new(blueprint, &mut memory, Level::detect(), Threads::serial()).expect("memory");
    trainer.init(0);
    trainer.set_input(x, &[0.5; 2 * 3 * 144]).expect("set");
    trainer.forward().expect("forward");
    assert_eq!(trainer.backward(), Err(Error::NothingToTrain));
}

#[test]
fn freezing_between_forward_and_backward_needs_another_forward() {
    let frozen = Setup { trainable: prefixes(small(), &["fc"]), ..setup() };
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
        assert_eq!(trainer.step(&optimizer()), Err(Error::NoGradients));
        same_bits("a step after freezing", &before, &bits(trainer));
    });
}

#[test]
fn a_head_that_is_replaced_between_backward_and_step_is_not_moved() {
    let recipe = small().with_classes(2);
    let new = Setup { recipe, trainable: network(recipe).head(), ..setup() };
    with_trainer(&setup(), Level::detect(), Threads::serial(), |trainer, values| {
        Batch::random(&setup(), 1).set(trainer, &values).expect("set");
        trainer.forward().expect("forward");
        trainer.backward().expect("backward");
        trainer.switch(plan(&new).0).expect("switch");
        let before = bits(trainer);
        assert_eq!(trainer.step(&optimizer()), Err(Error::NoGradients));
        same_bits("a step after a new head", &before, &bits(trainer));
    });
}

#[test]
fn the_update_during_the_walk_has_no_gradients_to_show() {
    let mut during = setup();
    during.options.update = Update::During;
    with_trainer(&during, Level::detect(), Threads::serial(), |trainer, values| {
        let id = network(small()).by_name("fc.bias").expect("fc.bias");
        for _ in 0..2 {
            Batch::random(&during, 1).set(trainer, &values).expect("set");
            trainer.forward().expect("forward");
            assert_eq!(trainer.backward(), Err(Error::UpdateIsDuring));
            assert_eq!(trainer.step(&optimizer()), Err(Error::UpdateIsDuring));
            assert_eq!(trainer.clip_grad_norm(1.0), Err(Error::GradientsNotKept));
            assert_eq!(trainer.gradient(id, &mut [0.0; 5]), Err(Error::GradientsNotKept));
            assert_eq!(trainer.set_gradient(id, &[0.0; 5]), Err(Error::GradientsNotKept));
            trainer.backward_and_step(&optimizer()).expect("step, after all");
            assert!(trainer.gradients().is_empty());
        }
    });
}

#[test]
fn momentum_needs_room() {
    for update in [Update::After, Update::During] {
        let mut without = setup();
        without.options.momentum = false;
        without.options.update = update;
        with_trainer(&without, Level::detect(), Threads::serial(), |trainer, values| {
            Batch::random(&without, 1).set(trainer, &values).expect("set");
            trainer.forward().expect("forward");
            let before = bits(trainer);
            assert_eq!(trainer.backward_and_step(&optimizer()), Err(Error::NoMomentum));
            same_bits("a step without room for momentum", &before, &bits(trainer));
            let id = network(small()).by_name("fc.bias").expect("fc.bias");
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
        let id = network(small()).by_name("fc.weight").expect("fc.weight");
        assert!(matches!(trainer.set_param(id, &[0.0; 44]), Err(Error::Length { expected: 45, got: 44, .. })));
        assert!(matches!(trainer.param(id, &mut [0.0; 46]), Err(Error::Length { expected: 45, got: 46, .. })));
        assert_eq!(network(small()).by_name("fc").err(), Some(Error::UnknownName));
        assert_eq!(network(small()).by_prefix("layer9").err(), Some(Error::UnknownName));
    });
}

/// A value of another recording is another node here: it must be refused or be harmless.
#[test]
fn values_of_other_graphs_are_refused() {
    let (one, other) = (nunatak_nn::Graph::new(), nunatak_nn::Graph::new());
    let (a, b) = (one.input(1, 2, 1, 1), other.input(1, 2, 1, 1));
    let _ = a + b;
    assert_eq!(one.check(), Err(Error::OtherGraph));
    assert!(one.tape().is_err());
    assert_eq!(other.check(), Ok(()));
    let model = nunatak_nn::ResNet::new(small(), Mode::Eval).expect("network");
    let plan = nunatak_nn::Blueprint::new(&model, &one, None, &[], ParamSet::EMPTY, Default::default());
    assert_eq!(plan.err(), Some(Error::OtherGraph));
}
