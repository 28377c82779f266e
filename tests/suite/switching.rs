//! One block for a trainer's life: freezing, a new head, another batch and evaluation between steps.

use nunatak_core::rng::Generator;
use nunatak_nn::{CrossEntropyOptions, EntryKind, Error, Level, Loss, Mode, Optimizer, Recipe, Sgd, Threads, Trainer, Update};
use nunatak_tests::{Batch, Setup, bits, bytes, names_of_gradients, numbers, params, plan, same_bits, small, training};

type Bits = Vec<(String, Vec<u32>)>;

fn optimizer() -> Optimizer<'static> {
    Optimizer::new(Sgd { momentum: 0.9, weight_decay: 1e-3, ..Sgd::new(0.02) }).expect("settings")
}

fn base() -> Setup<'static> {
    training(small(), 4, 14, Loss::CrossEntropy(CrossEntropyOptions::default()))
}

/// Switches and takes a step.
fn step(trainer: &mut Trainer, setup: &Setup, seed: u64) {
    let (program, values) = plan(setup);
    trainer.switch(program).expect("switch");
    Batch::random(setup, seed).set(trainer, &values).expect("set");
    trainer.forward().expect("forward");
    if setup.trainable == "none" || setup.loss == Loss::None {
        return;
    }
    trainer.backward_and_step(optimizer()).expect("step");
}

fn largest(setups: &[Setup]) -> usize {
    setups.iter().map(|s| bytes(s)).max().expect("setups")
}

fn new_trainer<'m>(setup: &Setup, memory: &'m mut [u8]) -> Trainer<'m> {
    let mut trainer = Trainer::new(plan(setup).0, memory, Level::detect(), Threads::serial()).expect("memory");
    trainer.init(7);
    trainer
}

/// A life of many changes is the same, bit for bit, as one in which each part had memory of its own.
#[test]
fn changes_in_one_block_are_changes_in_many() {
    let all = base();
    let with = |trainable| Setup { trainable, ..base() };
    let during = Setup { update: Update::During, ..with("layer2,layer3,fc") };
    let larger = Setup { batch: 7, height: 20, width: 15, ..with("layer3") };
    let rest = Setup { batch: 2, ..all };
    let eval = Setup { mode: Mode::Eval, trainable: "none", ..base() };
    let life = [all, with("layer3,fc"), during, all, larger, rest, with("conv1,layer1"), with("fc"), eval, all];

    let mut memory = vec![0x3c; largest(&life)];
    let mut trainer = new_trainer(&all, &mut memory);
    // The same life, but each step in new memory, to which the state is carried by the public doors.
    let mut carried = Carried::of(&trainer);
    for (i, setup) in life.iter().enumerate() {
        step(&mut trainer, setup, i as u64);
        let mut other = vec![0xc3; bytes(setup)];
        let mut fresh = new_trainer(setup, &mut other);
        carried.put(&mut fresh);
        step(&mut fresh, setup, i as u64);
        same_bits(&format!("after step {i}"), &bits(&fresh), &bits(&trainer));
        carried = Carried::of(&fresh);
    }
}

/// How many parameters a setup trains.
fn trained(setup: &Setup) -> usize {
    let (program, _) = plan(setup);
    params(&program).into_iter().filter(|id| setup.trains(program.entry(*id).name())).count()
}

/// What lasts from step to step, as the public doors give it: numbers, momentum, count of each entry.
struct Carried(Vec<(Vec<f32>, Option<Vec<f32>>, i64)>);

impl Carried {
    fn of(trainer: &Trainer) -> Carried {
        let program = trainer.program();
        let entries = program.entries().map(|id| match program.entry(id).kind() {
            EntryKind::Count => (Vec::new(), None, trainer.count(id)),
            _ => {
                let mut momentum = vec![0.0; program.entry(id).numbers()];
                let has = trainer.momentum(id, &mut momentum).is_ok();
                (numbers(trainer, id), has.then_some(momentum), 0)
            }
        });
        Carried(entries.collect())
    }

    fn put(&self, trainer: &mut Trainer) {
        for (id, (numbers, momentum, count)) in trainer.program().entries().zip(&self.0) {
            if trainer.program().entry(id).kind() == EntryKind::Count {
                trainer.set_count(id, *count);
                continue;
            }
            trainer.set_entry(id, numbers).expect("set");
            if let Some(momentum) = momentum.as_ref().filter(|_| trainer.program().entry(id).is_trained()) {
                trainer.set_momentum(id, momentum).expect("momentum");
            }
        }
    }
}

#[test]
fn a_plan_that_does_not_fit_changes_nothing() {
    let setup = base();
    let mut memory = vec![0; bytes(&setup)];
    let given = memory.len();
    let mut trainer = new_trainer(&setup, &mut memory);
    step(&mut trainer, &setup, 1);
    let batch = Batch::random(&setup, 2);
    let (_, values) = plan(&setup);
    batch.set(&mut trainer, &values).expect("set");
    trainer.forward().expect("forward");
    trainer.backward().expect("backward");
    let before = bits(&trainer);

    let large = plan(&Setup { batch: 64, ..setup }).0;
    let needed = Trainer::bytes(&large);
    let error = trainer.switch(large).expect_err("too large");
    // The block was cut to whole numbers: a few bytes less than were given.
    let Error::Core(nunatak_core::Error::ArenaTooSmall { needed: n, given: g }) = error else { panic!("{error}") };
    assert!(n == needed && g <= given && given - g < 64, "{error}");
    let other = plan(&training(Recipe::resnet8(10), 1, 8, Loss::Sum)).0;
    assert!(matches!(trainer.switch(other), Err(Error::OtherNetwork | Error::Core(_))));

    same_bits("after refused plans", &before, &bits(&trainer));
    // Even the gradients are still there, and the step can be finished.
    assert_eq!(names_of_gradients(&trainer).len(), params(trainer.program()).len());
    trainer.step(optimizer()).expect("step");
}

/// One byte decides, for a switch as for a new trainer.
#[test]
fn exactly_enough_is_enough_for_a_switch() {
    let (little, much) = (base(), Setup { batch: 9, ..base() });
    let needed = bytes(&much);
    for (less, fits) in [(0, true), (1, false)] {
        let mut memory = vec![0; needed - less];
        let mut trainer = new_trainer(&little, &mut memory);
        assert_eq!(trainer.switch(plan(&much).0).is_ok(), fits, "{less} bytes less");
    }
}

/// The tutorial's last step: freeze everything, put a new head on, train it alone.
#[test]
fn a_new_head_is_trained_alone() {
    let old = base();
    for classes in [1, 3, 5, 64, 1000] {
        let recipe = small().with_classes(classes);
        let new = Setup { recipe, trainable: "head", ..training(recipe, 4, 14, Loss::Sum) };
        let mut memory = vec![0; largest(&[old, new])];
        let mut trainer = new_trainer(&old, &mut memory);
        step(&mut trainer, &old, 1);
        let before = bits(&trainer);
        trainer.switch(plan(&new).0).expect("switch");
        let below = |all: &Bits| all.iter().filter(|(n, _)| !n.contains("fc.") && !n.starts_with("momentum")).cloned().collect::<Vec<_>>();
        same_bits("the backbone", &below(&before), &below(&bits(&trainer)));
        if classes != 5 {
            let fc = bits(&trainer).into_iter().filter(|(n, _)| n.contains("fc.")).collect::<Vec<_>>();
            assert!(
                fc.iter().all(|(n, b)| !n.starts_with("momentum") && b.iter().all(|v| *v == 0)),
                "a new head is zero, without momentum"
            );
        }
        trainer.init_head(&mut Generator::manual_seed(5));
        let fc = nunatak_tests::param(&trainer, "fc.weight");
        assert!(fc.iter().all(|w| w.abs() <= 1.0 / 3.0) && fc.iter().any(|w| *w != 0.0), "U(±1/√9)");
        let frozen = bits(&trainer);
        step(&mut trainer, &new, 2);
        let params =
            |all: &Bits| below(all).into_iter().filter(|(n, _)| !n.contains("running") && !n.contains("num_batches")).collect::<Vec<_>>();
        same_bits("frozen parameters", &params(&frozen), &params(&bits(&trainer)));
        assert_ne!(fc, nunatak_tests::param(&trainer, "fc.weight"));
    }
}

/// Momentum of what stays trainable survives; what was frozen for a while begins anew.
#[test]
fn momentum_survives_where_it_should() {
    let all = base();
    let part = Setup { trainable: "layer2,fc", ..base() };
    let mut memory = vec![0; largest(&[all, part])];
    let mut trainer = new_trainer(&all, &mut memory);
    step(&mut trainer, &all, 1);
    let momentum = |t: &Trainer| bits(t).into_iter().filter(|(n, _)| n.starts_with("momentum")).collect::<Bits>();
    let before = momentum(&trainer);
    trainer.switch(plan(&part).0).expect("switch");
    let kept = momentum(&trainer);
    assert!(kept.iter().all(|m| before.contains(m)) && kept.len() == trained(&part));
    trainer.switch(plan(&all).0).expect("switch");
    assert_eq!(momentum(&trainer), kept, "what was frozen has none");
    // Evaluation in between, with room for it in the plan, or without.
    let eval = Setup { mode: Mode::Eval, loss: Loss::None, ..all };
    trainer.switch(plan(&eval).0).expect("switch");
    trainer.switch(plan(&all).0).expect("switch");
    assert_eq!(momentum(&trainer), kept, "evaluation loses no momentum");
}

/// After a switch inputs, values and gradients are gone, with typed errors, not stale numbers.
#[test]
fn nothing_stale_is_left() {
    let setup = base();
    let mut memory = vec![0; bytes(&setup)];
    let mut trainer = new_trainer(&setup, &mut memory);
    let (_, values) = plan(&setup);
    Batch::random(&setup, 2).set(&mut trainer, &values).expect("set");
    trainer.forward().expect("forward");
    trainer.backward().expect("backward");
    trainer.switch(plan(&setup).0).expect("switch");
    assert!(trainer.gradients().next().is_none());
    assert_eq!(trainer.step(optimizer()), Err(Error::NoGradients));
    assert_eq!(trainer.backward(), Err(Error::BackwardBeforeForward));
    assert!(matches!(trainer.forward(), Err(Error::InputNotSet { .. })));
    assert!(trainer.scalar(values.loss.expect("loss")).is_err());
}
