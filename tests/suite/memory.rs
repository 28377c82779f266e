//! Bytes: what a plan says is what it takes, one byte less is an error, and it is little.

use nunatak_nn::files::Checkpoint;
use nunatak_nn::files::save::Save;
use nunatak_nn::step::Summary;
use nunatak_nn::{Error, Graph, Level, Loss, Memory, Mode, NormPolicy, Program, Recipe, Step, Threads, Trainer, Update, ValueId};
use nunatak_tests::{Batch, Flash, Setup, bits, bytes, plan, same_bits, saved, small, teams, training};

/// The three ways in which the benchmarks use a network.
fn modes(recipe: Recipe, batch: usize, size: usize) -> [(&'static str, Setup<'static>); 3] {
    let train = training(recipe, batch, size, Loss::Sum);
    let mut head = train;
    head.trainable = "head";
    [("train", train), ("head", head), ("infer", Setup::inference(recipe, batch, size, size))]
}

const SIZES: [(usize, usize); 5] = [(1, 64), (8, 64), (32, 64), (1, 224), (8, 224)];

/// Bytes of a program's block that pass with each step.
fn passing(program: &Program) -> usize {
    4 * (program.block_len() - program.lasting_len())
}

/// Placing buffers costs at most 5 % over what lives at once: for networks that this is made for.
#[test]
fn plans_of_resnets_are_tight() {
    let mut worst = 0.0_f64;
    for (name, recipe) in [("resnet18", Recipe::resnet18(1000)), ("resnet34", Recipe::resnet34(1000)), ("resnet8", Recipe::resnet8(10))] {
        for (batch, size) in SIZES {
            for (mode, setup) in modes(recipe, batch, size) {
                for memory in [Memory::Small, Memory::Fast] {
                    for update in [Update::After, Update::During] {
                        let (program, _) = plan(&Setup { memory, update, threads: 2, ..setup });
                        let live: usize = program.busiest_bytes()[3..].iter().sum();
                        let ratio = passing(&program) as f64 / live as f64;
                        let what = format!("{name} {batch}x{size} {mode} {memory:?} {update:?}");
                        println!("{what}: {:.3} MB, {ratio:.4}", Trainer::bytes(&program) as f64 / 1e6);
                        assert!((1.0..=1.05).contains(&ratio), "{what}: {ratio}");
                        worst = worst.max(ratio);
                    }
                }
            }
        }
    }
    println!("worst {worst:.4}");
}

/// Who asks for less memory gets no more, whatever the network, the batch, the images, the threads and the step.
#[test]
fn less_memory_is_never_more() {
    for (name, recipe) in [("resnet8", Recipe::resnet8(10)), ("small", small()), ("resnet18", Recipe::resnet18(10))] {
        for (batch, size) in [(1, 32), (2, 19), (3, 64), (4, 32), (8, 32), (16, 33), (1, 96), (8, 16)] {
            for (mode, setup) in modes(recipe, batch, size) {
                if setup.plan().is_err() {
                    continue; // planes of one pixel, which a batch of one can't be normalised with
                }
                for (threads, update, fuse) in [(1, Update::After, true), (2, Update::During, true), (4, Update::After, false)] {
                    let of = |memory| bytes(&Setup { memory, threads, update, fuse, ..setup });
                    let [tiny, small, fast] = [of(Memory::Tiny), of(Memory::Small), of(Memory::Fast)];
                    let what = format!("{name} {batch}x{size} {mode}, {threads} threads, {update:?}, {fuse}");
                    assert!(tiny <= small && small <= fast, "{what}: {tiny} {small} {fast}");
                }
            }
        }
    }
}

/// The budgets, with two threads and `Memory::Small`; MB = 10⁶.
#[test]
fn tutorial_stays_within_its_budgets() {
    let tutorial = |classes: usize, update: Update, head_only: bool| {
        let recipe = Recipe::resnet18(classes);
        let trainable = if head_only { "head" } else { "all" };
        let setup = Setup { threads: 2, memory: Memory::Small, update, trainable, ..training(recipe, 1, 64, Loss::Sum) };
        bytes(&setup) as f64 / 1e6
    };
    let full = tutorial(1000, Update::After, false);
    let during = tutorial(1000, Update::During, false);
    let head = tutorial(10, Update::After, true);
    println!("full {full:.2} MB, update during the walk {during:.2} MB, head only {head:.2} MB");
    assert!(full <= 150.0 && during <= 108.0 && head <= 52.0);
}

/// With the weights in place, a new head on ResNet18 trains in less than 1 MB besides their file: block
/// and program together.
#[test]
fn a_head_over_weights_in_place_takes_less_than_a_megabyte() {
    let whole = Setup::inference(Recipe::resnet18(1000), 1, 64, 64);
    let mut memory = vec![0; bytes(&whole)];
    let mut trainer = Trainer::new(plan(&whole).0, &mut memory, Level::detect(), Threads::serial()).expect("memory");
    trainer.init(0);
    let flash = Flash::new(&saved(&trainer, Save::Network));
    let recipe = Recipe::resnet18(10);
    for policy in [NormPolicy::Updating, NormPolicy::Fixed] {
        for threads in teams(&[1, 2]) {
            let base = Setup { threads: threads.count(), memory: Memory::Small, ..training(recipe, 1, 64, Loss::Sum) };
            let setup = Setup { trainable: "head", norm_policy: policy, weights: Some(flash.native()), ..base };
            let (program, values) = plan(&setup);
            let total = Trainer::bytes(&program) + program.bytes().len();
            println!("{policy:?}, {} threads: {total} bytes in all\n{}", threads.count(), Summary(&program));
            assert!(total < 1_000_000, "{total}");
            let borrowed = program.entries().map(|id| program.entry(id)).filter(|entry| entry.is_borrowed());
            assert!(4 * borrowed.map(|entry| entry.place().len()).sum::<usize>() > 44_000_000);
            // It is a step that can be done, and the file is all it needs besides.
            let mut memory = vec![0; Trainer::bytes(&program)];
            let mut trainer = Trainer::with_weights(program, &mut memory, flash.native(), Level::detect(), threads).expect("enough");
            trainer.init_head(&mut nunatak_core::rng::Generator::manual_seed(0));
            Batch::random(&setup, 1).set(&mut trainer, &values).expect("set");
            trainer.forward().expect("forward");
            let optimizer = nunatak_nn::Optimizer::new(nunatak_nn::Sgd { momentum: 0.9, ..nunatak_nn::Sgd::new(0.1) }).expect("settings");
            trainer.backward_and_step(optimizer).expect("step");
            // What is saved is the head, and the statistics if they moved.
            let delta = saved(&trainer, Save::Delta).len();
            println!("delta: {delta} bytes");
            assert!(delta < if policy == NormPolicy::Updating { 66_000 } else { 22_000 }, "{delta}");
        }
    }
}

#[test]
fn bytes_suffice_wherever_the_block_starts_and_one_less_is_an_error() {
    for update in [Update::After, Update::During] {
        let mut setup = training(small(), 2, 12, Loss::MeanSquaredError);
        setup.update = update;
        let (program, values) = plan(&setup);
        let needed = Trainer::bytes(&program);
        let optimizer = nunatak_nn::Optimizer::new(nunatak_nn::Sgd { momentum: 0.9, ..nunatak_nn::Sgd::new(0.1) }).expect("settings");
        let mut before: Option<Vec<_>> = None;
        for start in [0, 1, 2, 3, 5, 16, 63] {
            let mut memory = vec![0xee_u8; start + needed + 40];
            let (front, block) = memory.split_at_mut(start);
            let (block, back) = block.split_at_mut(needed);
            let mut trainer = Trainer::new(program.clone(), block, Level::detect(), Threads::serial()).expect("enough");
            trainer.init(1);
            for i in 0..2 {
                Batch::random(&setup, i).set(&mut trainer, &values).expect("set");
                trainer.forward().expect("forward");
                trainer.backward_and_step(optimizer).expect("step");
            }
            let state = bits(&trainer);
            assert!(front.iter().chain(&*back).all(|b| *b == 0xee), "something was written beside the block");
            if let Some(before) = &before {
                same_bits("another start", before, &state);
            }
            before = Some(state);

            let mut memory = vec![0_u8; start + needed - 1];
            let error = Trainer::new(program.clone(), &mut memory[start..], Level::detect(), Threads::serial()).expect_err("too small");
            let due = nunatak_core::Error::ArenaTooSmall { needed, given: needed - 1 };
            assert_eq!(error, Error::Core(due));
            let text = error.to_string();
            assert!(text.contains(&needed.to_string()) && text.contains(&(needed - 1).to_string()), "{text}");
        }
        for given in [0, 1, 63, 64, needed / 2] {
            let mut memory = vec![0; given];
            let error = Trainer::new(program.clone(), &mut memory, Level::detect(), Threads::serial()).err();
            assert_eq!(error, Some(Error::Core(nunatak_core::Error::ArenaTooSmall { needed, given })));
        }
    }
}

/// The summary's lines add up to the block, and the busiest node is one of the program's.
#[test]
fn the_summary_adds_up() {
    for (batch, size) in SIZES {
        for (mode, setup) in modes(Recipe::resnet18(1000), batch, size) {
            let (program, _) = plan(&setup);
            let text = Summary(&program).to_string();
            let (_, lines) = text.split_once("bytes when most are in use:\n").expect("a table");
            let number = |line: &str| line.rsplit(' ').next().and_then(|n| n.parse::<usize>().ok());
            let numbers: Vec<usize> =
                lines.lines().take_while(|line| line.starts_with("  ")).map(|line| number(line).expect("a number")).collect();
            let (all, parts) = numbers.split_last().expect("lines");
            assert_eq!((*all, parts.iter().sum::<usize>(), parts.len()), (Trainer::bytes(&program), *all, 7));
            let [weights, statistics, momentum, gradients, activations, scratch] = program.busiest_bytes();
            // What lasts lies gapless in front of its state, and what lives at once has room behind it.
            assert_eq!(weights + statistics + momentum, 4 * program.state().start);
            assert!(gradients + activations + scratch <= passing(&program));
            assert!(weights >= 4 * 11_689_512, "{mode}: {text}");
            assert_eq!(gradients > 0, mode != "infer" && momentum > 0, "{mode}: {text}");
            let (node, backward) = program.busiest_node();
            let mut calls: Vec<u32> = if backward { program.backward() } else { program.forward() }.map(|call| call.node()).collect();
            calls.extend(program.values().map(|value| value.node()));
            assert!(calls.contains(&node), "{mode}: node {node}");
        }
    }
}

/// The level never chooses sizes: a block that fits on one machine fits on another.
#[test]
fn more_threads_need_little_more() {
    let bytes = |threads| {
        let mut setup = training(Recipe::resnet18(1000), 1, 64, Loss::Sum);
        (setup.threads, setup.memory) = (threads, Memory::Small);
        bytes(&setup)
    };
    let (one, two, many) = (bytes(1), bytes(2), bytes(16));
    println!("1: {one}, 2: {two}, 16: {many}");
    assert!(one <= two && two <= many && many < one + (16 << 20));
    // A trainer with more threads than planned for is refused before it writes past its scratch.
    for threads in teams(&[3]).into_iter().filter(|t| t.count() > 2) {
        let mut setup = training(small(), 1, 16, Loss::Sum);
        setup.threads = 2;
        let program = plan(&setup).0;
        let mut memory = vec![0; Trainer::bytes(&program)];
        let error = Trainer::new(program, &mut memory, Level::detect(), threads).err();
        assert!(matches!(error, Some(Error::Length { expected: 2, got: 3, .. })), "{error:?}");
    }
}

/// One block serves one model after another; nothing of the first is left in the second.
#[test]
fn a_block_can_be_used_again() {
    let setup = training(small(), 2, 12, Loss::Sum);
    let (program, ..) = plan(&setup);
    let mut memory = vec![0; Trainer::bytes(&program)];
    let mut state = |seed| {
        let mut trainer = Trainer::new(program.clone(), &mut memory, Level::detect(), Threads::serial()).expect("enough");
        trainer.init(seed);
        bits(&trainer)
    };
    let first = state(1);
    state(2);
    same_bits("the first seed again", &first, &state(1));
    assert!(Checkpoint::parse(&memory).is_err(), "a block is no checkpoint");
}

/// Values that are not kept share memory; keeping them all costs, and each is then readable.
#[test]
fn only_kept_values_are_readable() {
    let graph = Graph::new();
    let x = graph.input([1, 3, 12, 12]);
    let (features, y) = small().record(graph.root(), x);
    let make = |keep: &[ValueId]| Step::new(&graph).keep(keep).train("none").mode(Mode::Eval).plan().expect("a plan");
    let (little, much) = (make(&[y.id()]), make(&[y.id(), features.id()]));
    assert!(Trainer::bytes(&little) <= Trainer::bytes(&much));
    for (program, kept) in [(little, false), (much, true)] {
        let mut trainer = Trainer::owning(program, Level::detect(), Threads::serial()).expect("memory");
        trainer.init(1);
        trainer.set_input(x, &[0.5; 3 * 144]).expect("set");
        let mut room = [0.0; 9];
        assert!(trainer.value(features, &mut room).is_err(), "nothing was computed yet");
        trainer.forward().expect("forward");
        assert_eq!(trainer.value(features, &mut room).is_ok(), kept);
        if !kept {
            assert_eq!(trainer.value(features, &mut room), Err(Error::NotKept));
        }
    }
    // All of them, and some twice.
    let all: Vec<_> = (0..=y.id().0).chain([3, 4, 5]).map(ValueId).collect();
    let mut trainer = Trainer::owning(make(&all), Level::detect(), Threads::serial()).expect("memory");
    trainer.init(1);
    trainer.set_input(x, &[0.5; 3 * 144]).expect("set");
    trainer.forward().expect("forward");
    for value in all {
        let (_, door) = trainer.program().value_of_node(value.0).expect("a value");
        let mut room = vec![f32::NAN; door.shape().iter().product()];
        trainer.value(value, &mut room).expect("kept");
        assert!(room.iter().all(|v| v.is_finite()), "value {}", value.0);
    }
}
