//! A watcher sees every call of a step, once, in order, and changes nothing.

use nunatak_core::program::ValueRecord;
use nunatak_nn::step::call_counts;
use nunatak_nn::{CrossEntropyOptions, Event, Level, Loss, Optimizer, Program, Sgd, Threads, Trainer, Update, ValueId, Watch};
use nunatak_tests::{Batch, numbers, params, plan, small, training};
use std::sync::Mutex;

/// A clock that goes on by 5 at each look, and a list of what happened.
#[derive(Default)]
struct Witness {
    calls: Mutex<Vec<(Event, u64)>>,
    time: Mutex<u64>,
}

impl Watch for Witness {
    fn now(&self) -> u64 {
        let mut time = self.time.lock().expect("no panic elsewhere");
        *time = time.wrapping_add(5);
        *time
    }
    fn called(&self, event: Event, ticks: u64) {
        self.calls.lock().expect("no panic elsewhere").push((event, ticks));
    }
}

/// What a step must report: what the program says, in the order of the walks.
fn due(program: &Program, update: Update) -> Vec<Event> {
    let outside = ValueRecord::INPUT | ValueRecord::LABELS;
    let value = |node| ValueId(node);
    let mut events: Vec<_> = program.values().filter(|v| v.flags() & outside != 0).map(|v| Event::Input(value(v.node()))).collect();
    events.extend(program.forward().map(|call| Event::Forward(value(call.node()))));
    let mut updates = Vec::new();
    for call in program.backward() {
        let v = value(call.node());
        let one_pass = call.is_one_pass();
        if call.wants_weight(1) || call.wants_weight(0) && !one_pass {
            events.push(Event::BackwardWeight(v));
        }
        if one_pass {
            events.push(Event::BackwardStep(v));
        } else if (0..call.inputs()).any(|i| call.wants_input(i)) {
            events.push(Event::BackwardInput(v));
        }
        let trained = (usize::from(one_pass)..2).filter(|&i| call.wants_weight(i)).map(|i| call.entry(i));
        if update == Update::During {
            events.extend(trained.map(Event::Update));
        } else {
            updates.extend(trained);
        }
    }
    updates.sort();
    events.extend(updates.into_iter().map(Event::Update));
    events
}

#[test]
fn every_call_is_seen_and_nothing_changes() {
    let optimizer = Optimizer::new(Sgd { momentum: 0.9, ..Sgd::new(0.01) }).expect("settings");
    for update in [Update::After, Update::During] {
        for trainable in ["conv1,bn1,layer1,layer2,layer3,fc", "layer3,fc", "fc", "bn1"] {
            let mut setup = training(small(), 2, 12, Loss::CrossEntropy(CrossEntropyOptions::default()));
            setup.trainable = trainable;
            setup.update = update;
            let batch = Batch::random(&setup, 1);
            let run = |witness: Option<&Witness>| {
                let (program, values) = plan(&setup);
                let mut memory = vec![0; Trainer::bytes(&program)];
                let mut trainer = Trainer::new(program, &mut memory, Level::detect(), Threads::serial()).expect("memory");
                trainer.init(7);
                trainer.watch(witness.map(|w| w as &dyn Watch));
                batch.set(&mut trainer, &values).expect("set");
                trainer.forward().expect("forward");
                trainer.backward_and_step(optimizer).expect("step");
                let calls = due(trainer.program(), update);
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
    let (program, values) = plan(&setup);
    let mut memory = vec![0; Trainer::bytes(&program)];
    let witness = Witness { time: Mutex::new(u64::MAX - 7), ..Default::default() };
    let mut trainer = Trainer::new(program, &mut memory, Level::detect(), Threads::serial()).expect("memory");
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
    fn called(&self, event: Event, _: u64) {
        if !matches!(event, Event::Input(_)) {
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
    let (program, values) = plan(&setup);
    let counts = call_counts(&program);
    let mut memory = vec![0; Trainer::bytes(&program)];
    for at in [1, 5, counts.forward, counts.forward + 1, counts.forward + counts.backward / 2] {
        let ending = Ending { at, calls: Mutex::new(0) };
        let mut trainer = Trainer::new(program.clone(), &mut memory, Level::detect(), Threads::serial()).expect("memory");
        trainer.init(7);
        let weights = |t: &Trainer| params(t.program()).into_iter().map(|id| numbers(t, id)).collect::<Vec<_>>();
        let before = weights(&trainer);
        batch.set(&mut trainer, &values).expect("set");
        trainer.watch(Some(&ending));
        let result = trainer.forward().and_then(|()| trainer.backward());
        assert_eq!(result, Err(nunatak_nn::Error::Stopped), "{at}");
        trainer.watch(None);
        assert!(trainer.gradients().next().is_none() && weights(&trainer) == before);
        assert_eq!(trainer.backward(), Err(nunatak_nn::Error::BackwardBeforeForward));
        // And on it goes.
        batch.set(&mut trainer, &values).expect("set");
        trainer.forward().expect("forward");
        trainer.backward().expect("backward");
    }
}
