//! Programs: equal targets give equal bytes, and bytes from anywhere run with the same bits.

use nunatak_core::program::Program;
use nunatak_nn::files::save::Save;
use nunatak_nn::step::Summary;
use nunatak_nn::{CrossEntropyOptions, Graph, Level, Loss, Memory, Mode, NormPolicy, Recipe, Sgd, Step, Threads, Trainer, Update};
use nunatak_tests::{Batch, Flash, Setup, bits, plan, same_bits, saved, small, teams, training, with_trainer};

fn indices() -> Loss {
    Loss::CrossEntropy(CrossEntropyOptions::default())
}

/// Steps of different kinds.
fn setups() -> Vec<Setup<'static>> {
    let all = training(small(), 3, 12, indices());
    let pooled = Recipe::new(&[1, 2], &[6, 9], nunatak_nn::Stem { kernel: 7, stride: 2, pad: 3, pool: true }, 3, 4).expect("a recipe");
    vec![
        all,
        Setup { update: Update::During, memory: Memory::Small, ..all },
        Setup { fuse: false, loss: Loss::MeanSquaredError, ..all },
        Setup { trainable: "layer2,fc.bias", norm_policy: NormPolicy::Fixed, threads: 3, ..all },
        Setup { mode: Mode::Eval, loss: Loss::Sum, ..all },
        training(pooled, 2, 33, Loss::CrossEntropyProbabilities(CrossEntropyOptions::default())),
        Setup { threads: 2, ..Setup::inference(Recipe::resnet8(10), 2, 32, 32) },
    ]
}

/// Nothing of the machine, the thread or the time is in a program.
#[test]
fn equal_targets_give_equal_bytes() {
    for (i, setup) in setups().into_iter().enumerate() {
        let bytes = move || plan(&setups()[i]).0.bytes().to_vec();
        let first = bytes();
        assert!(first == bytes(), "planned twice");
        for threads in teams(&[1, 2, 7]) {
            assert!(threads.enter(|| first == bytes()), "on a team of {}", threads.count());
        }
        let others = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(bytes)).collect();
            threads.into_iter().map(|thread| thread.join().expect("a plan")).collect::<Vec<_>>()
        });
        assert!(others.iter().all(|other| *other == first), "on other threads, at the same time");
        // Another target or another step is another program.
        let more = Setup { threads: setup.threads + 1, ..setup };
        assert!(first != plan(&more).0.bytes());
        assert!(first != plan(&Setup { batch: setup.batch + 1, ..setup }).0.bytes());
    }
}

/// A step, and another; everything that can be seen, as bits.
fn two_steps(program: Program, setup: &Setup, level: Level) -> Vec<(String, Vec<u32>)> {
    let mut memory = vec![0x33; Trainer::bytes(&program)];
    let mut trainer = Trainer::new(program, &mut memory, level, Threads::serial()).expect("memory");
    trainer.init(5);
    let [data, prediction] = ["data", "prediction"].map(|name| trainer.value_named(name).expect("a name"));
    let mut seen = Vec::new();
    for step in 0..2 {
        let batch = Batch::random(setup, step);
        trainer.set_input(data, &batch.data).expect("set");
        if let Ok(labels) = trainer.value_named("labels") {
            trainer.set_labels(labels, &batch.classes).or_else(|_| trainer.set_input(labels, &batch.labels)).expect("set");
        }
        trainer.forward().expect("forward");
        let mut y = vec![f32::NAN; setup.batch * setup.recipe.classes];
        trainer.value(prediction, &mut y).expect("a prediction");
        seen.push((format!("prediction {step}"), y.iter().map(|v| v.to_bits()).collect()));
        if trainer.trains() {
            trainer.backward_and_step(Sgd { momentum: 0.9, ..Sgd::new(0.02) }).expect("a step");
        }
    }
    seen.extend(bits(&trainer));
    seen
}

/// Values are found by their names, so bytes alone are enough to train.
#[test]
fn bytes_from_anywhere_run_with_the_same_bits() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("step.nunstep");
    for setup in setups() {
        let (program, _) = plan(&setup);
        for level in Level::available() {
            let due = two_steps(program.view(), &setup, level);
            std::fs::write(&path, program.bytes()).expect("written");
            let read = Program::own(std::fs::read(&path).expect("read")).expect("a program");
            assert_eq!(Summary(&read).to_string(), Summary(&program).to_string());
            same_bits("out of a file", &due, &two_steps(read, &setup, level));
            // At any address.
            for off in [1, 2, 3] {
                let mut room = vec![0xff; off];
                room.extend_from_slice(program.bytes());
                let there = Program::check(&room[off..]).expect("a program");
                same_bits("at another address", &due, &two_steps(there, &setup, level));
            }
        }
    }
}

/// Programs for other machines are refused before anything is bound.
#[test]
fn programs_for_other_machines_are_refused() {
    let graph = Graph::new();
    let y = graph.root().linear("fc", graph.input([2, 3]), 4);
    let step = Step::new(&graph).keep(&[]);
    let keep = [y.id()];
    for level in Level::available() {
        let program = step.keep(&keep).level(level).plan().expect("a plan");
        for other in Level::available() {
            let bound = Trainer::owning(program.view(), other, Threads::serial());
            assert_eq!(bound.is_ok(), other == level, "planned for {level}, bound at {other}");
        }
    }
    for threads in [0, nunatak_nn::plan::MAX_THREADS + 1, usize::MAX] {
        assert!(step.threads(threads).plan().is_err(), "{threads}");
    }
}

/// Every program that reads in place names its file, and refuses another.
#[test]
fn a_program_in_place_belongs_to_its_file() {
    let setup = training(small(), 2, 12, Loss::Sum);
    let file = |seed| {
        with_trainer(&setup, Level::detect(), Threads::serial(), |trainer, _| {
            trainer.init(seed);
            Flash::new(&saved(trainer, Save::Network))
        })
    };
    let (one, other) = (file(1), file(2));
    let (program, _) = plan(&Setup { trainable: "fc", weights: Some(one.native()), ..setup });
    let bytes = program.bytes().to_vec();
    assert_eq!(program.weights_hash(), Some(one.native().hash().0));
    let mut memory = vec![0; Trainer::bytes(&program)];
    let read = || Program::check(&bytes).expect("a program");
    assert!(Trainer::with_weights(read(), &mut memory, other.native(), Level::detect(), Threads::serial()).is_err());
    assert!(Trainer::with_weights(read(), &mut memory, one.native(), Level::detect(), Threads::serial()).is_ok());
    assert!(Trainer::owning(read(), Level::detect(), Threads::serial()).is_err(), "without a file");
}
