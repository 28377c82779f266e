//! A watcher sees every call of a step, once, in order, and changes nothing.

use nunatak_nn::op::Op;
use nunatak_nn::{Call, CrossEntropyOptions, Level, Loss, Optimizer, Sgd, Threads, Trainer, Update, ValueId, Watch};
use nunatak_tests::{Batch, plan, prefixes, small, training};
use std::sync::Mutex;

/// A clock that goes on by 5 at each look, and a list of what happened.
#[derive(Default)]
struct Witness {
    calls: Mutex<Vec<(Call, u64)>>,
    time: Mutex<u64>,
}

impl Watch for Witness {
    fn now(&self) -> u64 {
        let mut time = self.time.lock().expect("no panic elsewhere");
        *time = time.wrapping_add(5);
        *time
    }
    fn called(&self, call: Call, ticks: u64) {
        self.calls.lock().expect("no panic elsewhere").push((call, ticks));
    }
}

/// What a step must report: what the plan says, in the order of the walks.
fn due(trainer: &Trainer, update: Update) -> Vec<Call> {
    let (tape, needs) = (trainer.blueprint().tape(), trainer.blueprint().needs());
    let of = |v: ValueId| tape.node(v).expect("a node").op;
    let mut calls: Vec<Call> = tape.values().filter(|&v| matches!(of(v), Op::Input | Op::Labels)).map(Call::Input).collect();
    calls.extend(tape.values().filter(|&v| of(v).computes()).map(Call::Forward));
    let mut updates = Vec::new();
    for v in tape.values().rev() {
        let (need, node) = (needs.at(v), tape.node(v).expect("a node"));
        let one_pass = trainer.blueprint().one_pass(v).is_some();
        if need.dw[1] || need.dw[0] && !one_pass {
            calls.push(Call::BackwardWeight(v));
        }
        if one_pass {
            calls.push(Call::BackwardStep(v));
        } else if need.dx != [false; 2] {
            calls.push(Call::BackwardInput(v));
        }
        let params = nunatak_core::Operation::params(&node.op);
        let mut trained: Vec<_> = (usize::from(one_pass)..2).filter(|&i| need.dw[i]).filter_map(|i| params[i]).collect();
        if update == Update::During {
            calls.extend(trained.iter().copied().map(Call::Update));
        } else {
            updates.append(&mut trained);
        }
    }
    updates.sort();
    calls.extend(updates.into_iter().map(Call::Update));
    calls
}

#[test]
fn every_call_is_seen_and_nothing_changes() {
    let optimizer = Optimizer::new(Sgd { momentum: 0.9, ..Sgd::new(0.01) }).expect("settings");
    for update in [Update::After, Update::During] {
        for trainable in [&["conv1", "bn1", "layer1", "layer2", "layer3", "fc"][..], &["layer3", "fc"], &["fc"], &["bn1"]] {
            let mut setup = training(small(), 2, 12, Loss::CrossEntropy(CrossEntropyOptions::default()));
            setup.trainable = prefixes(small(), trainable);
            setup.options.update = update;
            let batch = Batch::random(&setup, 1);
            let run = |witness: Option<&Witness>| {
                let (blueprint, _, values) = plan(&setup);
                let mut memory = vec![0; blueprint.bytes()];
                let mut trainer = Trainer::new(blueprint, &mut memory, Level::detect(), Threads::serial()).expect("memory");
                trainer.init(7);
                trainer.watch(witness.map(|w| w as &dyn Watch));
                batch.set(&mut trainer, &values).expect("set");
                trainer.forward().expect("forward");
                trainer.backward_and_step(&optimizer).expect("step");
                let calls = due(&trainer, update);
                trainer.watch(None);
                // Unseen from here on.
                batch.set(&mut trainer, &values).expect("set");
                trainer.forward().expect("forward");
                let loss = trainer.scalar(values.loss.expect("a loss")).expect("kept");
                (calls, loss)
            };
            let witness = Witness::default();
            let (calls, loss) = run(Some(&witness));
            let seen = witness.calls.into_inner().expect("no panic elsewhere");
            assert_eq!(seen.iter().map(|(call, _)| *call).collect::<Vec<_>>(), calls, "{update:?} {trainable:?}");
            assert!(seen.iter().all(|(_, ticks)| *ticks == 5), "each call is timed from where the one before ended");
            assert_eq!(run(None).1.to_bits(), loss.to_bits(), "a watcher changes the numbers");
        }
    }
}

#[test]
fn a_clock_may_wrap_around() {
    let setup = training(small(), 2, 12, Loss::Sum);
    let (blueprint, _, values) = plan(&setup);
    let mut memory = vec![0; blueprint.bytes()];
    let witness = Witness { time: Mutex::new(u64::MAX - 7), ..Default::default() };
    let mut trainer = Trainer::new(blueprint, &mut memory, Level::detect(), Threads::serial()).expect("memory");
    trainer.init(7);
    trainer.watch(Some(&witness));
    Batch::random(&setup, 1).set(&mut trainer, &values).expect("set");
    trainer.forward().expect("forward");
    drop(trainer);
    assert!(witness.calls.into_inner().expect("no panic").iter().all(|(_, ticks)| *ticks == 5));
}

/// Asks to stop at one call of a step, counted from 1.
struct Ending {
    at: usize,
    calls: Mutex<usize>,
}

impl Watch for Ending {
    fn now(&self) -> u64 {
        0
    }
    fn called(&self, call: Call, _: u64) {
        if !matches!(call, Call::Input(_)) {
            *self.calls.lock().expect("no panic elsewhere") += 1;
        }
    }
    fn stop(&self) -> bool {
        *self.calls.lock().expect("no panic elsewhere") >= self.at
    }
}

#[test]
fn a_watcher_ends_a_walk_and_no_weight_has_changed() {
    let setup = training(small(), 2, 12, Loss::CrossEntropy(CrossEntropyOptions::default()));
    let batch = Batch::random(&setup, 1);
    let (blueprint, _, values) = plan(&setup);
    let counts = nunatak_nn::summary::call_counts(&blueprint);
    let mut memory = vec![0; blueprint.bytes()];
    for at in [1, 5, counts.forward, counts.forward + 1, counts.forward + counts.backward / 2] {
        let ending = Ending { at, calls: Mutex::new(0) };
        let mut trainer = Trainer::new(blueprint.clone(), &mut memory, Level::detect(), Threads::serial()).expect("memory");
        trainer.init(7);
        let weights = |t: &Trainer| {
            let network = t.blueprint().network();
            let numbers = network.param_ids().map(|id| {
                let mut out = vec![0.0; network.param_at(id).numbers()];
                t.param(id, &mut out).expect("room");
                out
            });
            numbers.collect::<Vec<_>>()
        };
        let before = weights(&trainer);
        batch.set(&mut trainer, &values).expect("set");
        trainer.watch(Some(&ending));
        let result = trainer.forward().and_then(|()| trainer.backward());
        assert_eq!(result, Err(nunatak_nn::Error::Stopped), "{at}");
        trainer.watch(None);
        assert!(trainer.gradients().is_empty() && weights(&trainer) == before);
        assert_eq!(trainer.backward(), Err(nunatak_nn::Error::BackwardBeforeForward));
        // And on it goes.
        batch.set(&mut trainer, &values).expect("set");
        trainer.forward().expect("forward");
        trainer.backward().expect("backward");
    }
}
