//! Several micro-batches make a step: gradients are added up in their own memory or in the momentum, and the step is
//! that of PyTorch's loop `(share * loss).backward()`.

use nunatak_nn::{CrossEntropyOptions, Error, Graph, Level, Loss, Optimizer, Recipe, Sgd, Step, Threads, Trainer, Update};
use nunatak_tests::{Batch, Setup, bits, plan, teams, training};

const PIXELS: [f32; 12] = [0.5, -1.0, 0.25, 1.5, 0.75, -0.5, -0.25, 0.5, 1.0, 0.125, -0.75, 2.0];
const LABELS: [i64; 4] = [0, 1, 1, 0];

fn settings(maximize: bool) -> Sgd {
    Sgd { momentum: 0.9, dampening: 0.3, weight_decay: 0.05, maximize, ..Sgd::new(0.1) }
}

/// Three steps of two micro-batches of a linear layer; weight and bias after them.
fn linear(update: Update, weighted: bool, maximize: bool, level: Level) -> Vec<f32> {
    let graph = Graph::new();
    let (x, labels) = (graph.input([2, 3]), graph.labels(2));
    let y = graph.root().linear("fc", x, 2);
    let weights = weighted.then(|| graph.input([1, 2]));
    let loss = match weights {
        Some(weights) => y.cross_entropy_weighted(labels, weights, CrossEntropyOptions::default()),
        None => y.cross_entropy(labels, CrossEntropyOptions::default()),
    };
    let program = Step::new(&graph).loss(loss).update(update).plan().expect("a plan");
    let mut trainer = Trainer::owning(program, level, Threads::serial()).expect("a trainer");
    let ids = ["fc.weight", "fc.bias"].map(|name| trainer.entry_named(name).expect("an entry"));
    trainer.set_entry(ids[0], &[0.1, -0.2, 0.3, -0.4, 0.5, 0.6]).expect("set");
    trainer.set_entry(ids[1], &[0.05, -0.15]).expect("set");
    // Of each class, and so of the images of a micro-batch: 1 + 3 of 8 in all, both times.
    let share = 0.5;
    for _ in 0..3 {
        for i in 0..2 {
            trainer.set_input(x, &PIXELS[6 * i..6 * i + 6]).expect("set");
            trainer.set_labels(labels, &LABELS[2 * i..2 * i + 2]).expect("set");
            if let Some(weights) = weights {
                trainer.set_input(weights, &[1.0, 3.0]).expect("set");
            }
            trainer.forward().expect("forward");
            trainer.accumulate(share, settings(maximize)).expect("accumulate");
        }
        trainer.step(settings(maximize)).expect("step");
    }
    let mut after = vec![0.0; 8];
    trainer.entry(ids[0], &mut after[..6]).expect("read");
    trainer.entry(ids[1], &mut after[6..]).expect("read");
    after
}

/// torch 2.15: `(0.5 * cross_entropy(x @ w.T + b, t, weight)).backward()` over two micro-batches, then `SGD.step`, three times.
#[test]
#[allow(clippy::excessive_precision, reason = "as torch prints them")]
fn steps_are_those_of_pytorchs_loop() {
    let torch: [(bool, bool, [f32; 8]); 3] = [
        (false, false, [0.019990621, -0.33934763, 0.39656806, -0.31290424, 0.6322613, 0.4821728, 0.013856851, -0.11149473]),
        (false, true, [0.18151803, -0.042877372, 0.17675029, -0.47443163, 0.335791, 0.70199054, 0.082390375, -0.18002826]),
        (true, false, [-0.037064902, -0.34221363, 0.3410435, -0.25584871, 0.63512725, 0.5376974, -0.07940933, -0.018228544]),
    ];
    for level in Level::available() {
        for update in [Update::After, Update::Summed] {
            for (weighted, maximize, due) in torch {
                let got = linear(update, weighted, maximize, level);
                let off = got.iter().zip(due).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off < 1e-6, "{level} {update:?} weighted {weighted} maximize {maximize}: off by {off}: {got:?}");
            }
        }
    }
}

fn setup(update: Update) -> Setup<'static> {
    Setup { update, ..training(Recipe::resnet8(10), 2, 16, Loss::CrossEntropy(CrossEntropyOptions::default())) }
}

/// The numbers of a trainer's state dict, in order.
fn numbers(trainer: &Trainer) -> Vec<f32> {
    bits(trainer).into_iter().flat_map(|(_, bits)| bits.into_iter().map(f32::from_bits)).collect()
}

fn usual() -> Sgd {
    Sgd { momentum: 0.9, weight_decay: 1e-4, ..Sgd::new(0.02) }
}

/// `steps` steps of three micro-batches each.
fn learn(trainer: &mut Trainer, setup: &Setup, steps: u64) {
    let values = plan(setup).1;
    for step in 0..steps {
        for micro in 0..3 {
            Batch::random(setup, 3 * step + micro).set(trainer, &values).expect("set");
            trainer.forward().expect("forward");
            trainer.accumulate(1.0 / 3.0, usual()).expect("accumulate");
        }
        trainer.step(usual()).expect("step");
    }
}

/// Normalisations see micro-batches, and sums in the momentum differ from sums of gradients in rounding alone.
#[test]
fn sums_in_the_momentum_are_those_of_the_gradients() {
    for level in Level::available() {
        for threads in teams(&[1, 3]) {
            let mut after = [Update::After, Update::Summed].map(|update| {
                let setup = Setup { threads: threads.count(), ..setup(update) };
                let mut trainer = Trainer::owning(plan(&setup).0, level, threads.clone()).expect("a trainer");
                trainer.init(7);
                learn(&mut trainer, &setup, 3);
                numbers(&trainer)
            });
            let [gradients, momenta] = &mut after;
            assert_eq!(gradients.len(), momenta.len());
            for (a, b) in gradients.iter().zip(momenta) {
                assert!((*a - *b).abs() <= 2e-5 * a.abs().max(1.0), "{level}, {} threads: {a} and {b}", threads.count());
            }
        }
    }
}

/// PyTorch's calls one by one do the same, to the bit.
#[test]
fn accumulating_is_backward_with_a_share() {
    let setup = setup(Update::After);
    let values = plan(&setup).1;
    let mut trainers = [(); 2].map(|()| Trainer::owning(plan(&setup).0, Level::detect(), Threads::serial()).expect("a trainer"));
    trainers.iter_mut().for_each(|trainer| trainer.init(7));
    learn(&mut trainers[0], &setup, 2);
    let by_hand = &mut trainers[1];
    for step in 0..2 {
        by_hand.zero_grad();
        for micro in 0..3 {
            Batch::random(&setup, 3 * step + micro).set(by_hand, &values).expect("set");
            by_hand.forward().expect("forward");
            by_hand.backward_with(&[1.0 / 3.0]).expect("backward");
        }
        by_hand.step(Optimizer::new(usual()).expect("settings")).expect("step");
    }
    assert_eq!(bits(&trainers[0]), bits(&trainers[1]));
}

/// After a step `accumulate` begins anew, but loses nothing of a `backward` that came between.
#[test]
fn accumulating_adds_to_a_backward() {
    let setup = setup(Update::After);
    let values = plan(&setup).1;
    let after = [false, true].map(|accumulate| {
        let mut trainer = Trainer::owning(plan(&setup).0, Level::detect(), Threads::serial()).expect("a trainer");
        trainer.init(7);
        learn(&mut trainer, &setup, 1);
        for micro in 0..2 {
            Batch::random(&setup, 3 + micro).set(&mut trainer, &values).expect("set");
            trainer.forward().expect("forward");
            match accumulate && micro > 0 {
                true => trainer.accumulate(0.5, usual()).expect("accumulate"),
                false => trainer.backward_with(&[0.5]).expect("backward"),
            }
        }
        trainer.step(usual()).expect("step");
        bits(&trainer)
    });
    assert!(after[0] == after[1]);
}

/// One buffer less for every parameter, but for the largest ones of a moment.
#[test]
fn sums_in_the_momentum_take_no_memory_of_their_own() {
    let bytes = |update| Trainer::bytes(&plan(&setup(update)).0);
    let parameters: usize = {
        let program = plan(&setup(Update::After)).0;
        program.updates().map(|id| 4 * program.entry(id).numbers()).sum()
    };
    let (apart, summed) = (bytes(Update::After), bytes(Update::Summed));
    assert!(summed + parameters / 2 < apart, "{summed} and {apart} bytes, {parameters} of them parameters'");
}

#[test]
fn what_sums_in_the_momentum_cannot_do_is_an_error() {
    let setup = setup(Update::Summed);
    let values = plan(&setup).1;
    let mut trainer = Trainer::owning(plan(&setup).0, Level::detect(), Threads::serial()).expect("a trainer");
    trainer.init(7);
    let id = trainer.entry_named("fc.weight").expect("an entry");
    Batch::random(&setup, 0).set(&mut trainer, &values).expect("set");
    trainer.forward().expect("forward");
    let before = bits(&trainer);
    assert!(matches!(trainer.backward(), Err(Error::SumsInMomentum(_))));
    let nesterov = Sgd { nesterov: true, ..usual() };
    assert!(matches!(trainer.accumulate(1.0, nesterov), Err(Error::SumsInMomentum(_))));
    assert_eq!(trainer.step(usual()), Err(Error::NoGradients));
    assert_eq!(bits(&trainer), before);
    trainer.accumulate(1.0, usual()).expect("accumulate");
    assert_eq!(bits(&trainer), before, "weights move in the step alone");
    assert_eq!(trainer.gradient(id, &mut [0.0; 640]), Err(Error::GradientsNotKept));
    assert_eq!(trainer.clip_grad_norm(1.0), Err(Error::GradientsNotKept));
    assert!(!trainer.has_momentum(id));
    // What was begun can be dropped: then the first step comes again.
    trainer.zero_grad();
    assert_eq!(trainer.step(usual()), Err(Error::NoGradients));
    learn(&mut trainer, &setup, 1);
    let mut other = Trainer::owning(plan(&setup).0, Level::detect(), Threads::serial()).expect("a trainer");
    other.init(7);
    // Statistics moved once more here.
    Batch::random(&setup, 0).set(&mut other, &values).expect("set");
    other.forward().expect("forward");
    learn(&mut other, &setup, 1);
    assert_eq!(bits(&trainer), bits(&other));
    assert!(trainer.has_momentum(id));
}

/// Sums need a momentum's memory, also where SGD has no momentum: found before anything moves.
#[test]
fn sums_without_a_momentum_are_refused_at_once() {
    let setup = Setup { momentum: false, ..setup(Update::Summed) };
    let mut trainer = Trainer::owning(plan(&setup).0, Level::detect(), Threads::serial()).expect("a trainer");
    trainer.init(7);
    Batch::random(&setup, 0).set(&mut trainer, &plan(&setup).1).expect("set");
    trainer.forward().expect("forward");
    let before = bits(&trainer);
    assert_eq!(trainer.accumulate(1.0, Sgd::new(0.1)), Err(Error::NoMomentum));
    assert_eq!(trainer.check_step(Sgd::new(0.1)), Err(Error::NoMomentum));
    assert_eq!(bits(&trainer), before);
}

/// A prediction between two micro-batches changes nothing of the step; another training drops what was begun.
#[test]
fn a_step_goes_on_after_a_prediction() {
    let setup = setup(Update::Summed);
    let evaluation = Setup { loss: Loss::None, mode: nunatak_nn::Mode::Eval, ..setup };
    let values = plan(&setup).1;
    let run = |between: bool| {
        let mut trainer = Trainer::owning(plan(&setup).0, Level::detect(), Threads::serial()).expect("a trainer");
        trainer.init(7);
        learn(&mut trainer, &setup, 1);
        for micro in 0..2 {
            Batch::random(&setup, micro).set(&mut trainer, &values).expect("set");
            trainer.forward().expect("forward");
            trainer.accumulate(0.5, usual()).expect("accumulate");
            if between {
                trainer.switch(plan(&evaluation).0).expect("to predict");
                trainer.set_input(plan(&evaluation).1.data, &Batch::random(&setup, 9).data).expect("set");
                trainer.forward().expect("a prediction");
                trainer.switch(plan(&setup).0).expect("back");
            }
        }
        trainer.step(usual()).expect("step");
        bits(&trainer)
    };
    assert_eq!(run(false), run(true));
}

/// A step of one batch is a step of one micro-batch; a gradient that is not finite is found.
#[test]
fn one_micro_batch_is_a_step() {
    let setup = setup(Update::Summed);
    let values = plan(&setup).1;
    let mut trainers = [(); 2].map(|()| Trainer::owning(plan(&setup).0, Level::detect(), Threads::serial()).expect("a trainer"));
    for (i, trainer) in trainers.iter_mut().enumerate() {
        trainer.init(7);
        for seed in 0..2 {
            Batch::random(&setup, seed).set(trainer, &values).expect("set");
            trainer.forward().expect("forward");
            match i {
                0 => trainer.backward_and_step(usual()).expect("a step"),
                _ => {
                    trainer.accumulate(1.0, usual()).expect("accumulate");
                    trainer.step(usual()).expect("step");
                }
            }
        }
    }
    assert_eq!(bits(&trainers[0]), bits(&trainers[1]));
    let trainer = &mut trainers[0];
    Batch::random(&setup, 0).set(trainer, &values).expect("set");
    trainer.forward().expect("forward");
    assert!(matches!(trainer.accumulate(f32::NAN, usual()), Err(Error::GradientNotFinite { updated: 0, .. })));
}
