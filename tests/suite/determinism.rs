//! The same bits with any number of threads and run after run; the same bits whether parameters are
//! updated during the backward walk or after it.

use nunatak_nn::{Algorithm, CrossEntropyOptions, Level, Loss, Memory, Mode, Optimizer, Recipe, Reduction, Sgd, Threads, Trainer, Update};
use nunatak_tests::{Batch, Setup, bits, emulated, gradients, same_bits, small, teams, training, with_trainer};

type Bits = Vec<(String, Vec<u32>)>;

fn optimizer() -> Optimizer<'static> {
    Optimizer::new(Sgd { momentum: 0.9, weight_decay: 1e-3, ..Sgd::new(0.02) }).expect("settings")
}

/// Three steps; predictions, losses, gradients and state, as bits.
fn run(setup: &Setup, level: Level, threads: Threads) -> Bits {
    with_trainer(setup, level, threads, |trainer, values| {
        let mut seen = Vec::new();
        for step in 0..3 {
            Batch::random(setup, step).set(trainer, &values).expect("set");
            trainer.forward().expect("forward");
            let mut y = vec![0.0; setup.batch * setup.recipe.classes];
            trainer.value(values.prediction, &mut y).expect("prediction");
            y.push(trainer.scalar(values.loss.expect("loss")).expect("loss"));
            seen.push((format!("prediction and loss {step}"), y.iter().map(|v| v.to_bits()).collect()));
            if setup.update == Update::During {
                trainer.backward_and_step(optimizer()).expect("step");
            } else {
                trainer.zero_grad();
                trainer.backward().expect("backward");
                seen.push((format!("gradients {step}"), gradients(trainer).iter().map(|v| v.to_bits()).collect()));
                trainer.step(optimizer()).expect("step");
            }
        }
        seen.extend(bits(trainer));
        seen
    })
}

fn setups() -> Vec<Setup<'static>> {
    let smooth = CrossEntropyOptions { label_smoothing: 0.1, reduction: Reduction::Sum, ..CrossEntropyOptions::default() };
    let mut eval = training(small(), 3, 20, Loss::MeanSquaredError);
    eval.mode = Mode::Eval;
    let mut part = training(small(), 3, 20, Loss::CrossEntropyProbabilities(smooth));
    part.trainable = "layer2,fc";
    let mut little = training(Recipe::resnet8(10), 2, 32, Loss::Sum);
    little.memory = Memory::Small;
    // Scratch of one pass depends on the threads and is longer than what the other cuts its pixels by.
    let mixed = |weight| Setup {
        algorithms: [None, Some(Algorithm::Winograd4), Some(weight)],
        memory: Memory::Small,
        ..training(Recipe::resnet8(10), 3, 32, Loss::Sum)
    };
    let all = [training(small(), 5, 17, Loss::CrossEntropy(smooth)), eval, part, little];
    all.into_iter().chain([Algorithm::Gemm, Algorithm::Direct].map(mixed)).collect()
}

#[test]
fn the_same_bits_for_any_number_of_threads() {
    let sizes = if emulated() { &[3][..] } else { &[1, 2, 3, 7] };
    for setup in setups() {
        for level in Level::available() {
            for update in [Update::After, Update::During] {
                let mut setup = setup;
                setup.update = update;
                let one = run(&setup, level, Threads::serial());
                for threads in teams(sizes) {
                    let what = format!("{level} {update:?} {} threads", threads.count());
                    same_bits(&what, &one, &run(&setup, level, threads));
                }
            }
        }
    }
}

/// ResNet18 itself: its shapes take other roads through the kernels than narrow networks.
#[test]
fn resnet18_has_the_same_bits_with_two_threads() {
    for memory in if emulated() { &[Memory::Fast][..] } else { &[Memory::Small, Memory::Fast] } {
        let mut setup = training(Recipe::resnet18(10), 2, 64, Loss::Sum);
        setup.memory = *memory;
        setup.update = Update::During;
        let runs: Vec<_> =
            teams(if emulated() { &[1, 2] } else { &[1, 2, 2] }).into_iter().map(|threads| run(&setup, Level::detect(), threads)).collect();
        runs.windows(2).for_each(|pair| same_bits("resnet18", &pair[0], &pair[1]));
    }
}

#[test]
fn update_during_the_walk_and_after_it_are_the_same_bits() {
    for setup in setups() {
        for level in Level::available() {
            let state = |update| {
                let mut setup = setup;
                setup.update = update;
                let mut seen = run(&setup, level, teams(&[2]).remove(0));
                seen.retain(|(name, _)| !name.starts_with("gradients"));
                seen
            };
            same_bits(level.name(), &state(Update::After), &state(Update::During));
        }
    }
}

/// `backward_and_step` of a plan that updates after the walk is `backward`, `step`, `zero_grad`.
#[test]
fn one_call_is_three_calls() {
    let setup = training(small(), 3, 12, Loss::MeanSquaredError);
    let steps = |step: &dyn Fn(&mut Trainer)| {
        with_trainer(&setup, Level::detect(), Threads::serial(), |trainer, values| {
            for i in 0..2 {
                Batch::random(&setup, i).set(trainer, &values).expect("set");
                trainer.forward().expect("forward");
                step(trainer);
            }
            assert!(trainer.gradients().next().is_none());
            bits(trainer)
        })
    };
    let three = steps(&|trainer| {
        trainer.backward().expect("backward");
        trainer.step(optimizer()).expect("step");
        trainer.zero_grad();
    });
    let one = steps(&|trainer| trainer.backward_and_step(optimizer()).expect("step"));
    same_bits("steps", &three, &one);
}
