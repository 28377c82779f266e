//! Bytes: what a plan says is what it takes, one byte less is an error, and it is little.

use nunatak_nn::checkpoint::Checkpoint;
use nunatak_nn::{
    Blueprint, Error, Graph, Level, Loss, Memory, Mode, NormPolicy, Options, ParamSet, Recipe, ResNet, Save, Setup, Threads, Trainer,
    Update,
};
use nunatak_tests::{Batch, Flash, bits, network, plan, same_bits, saved, small, teams, training};
use std::time::Instant;

/// The three ways in which the benchmarks use a network.
fn modes(recipe: Recipe, batch: usize, size: usize) -> [(&'static str, Setup); 3] {
    let train = training(recipe, batch, size, Loss::Sum);
    let mut head = train;
    head.trainable = network(recipe).head();
    [("train", train), ("head", head), ("infer", Setup::inference(recipe, batch, size, size))]
}

const SIZES: [(usize, usize); 5] = [(1, 64), (8, 64), (32, 64), (1, 224), (8, 224)];

/// Placing buffers costs at most 5 % over what lives at once: for networks that this is made for.
#[test]
fn plans_of_resnets_are_tight() {
    let mut worst = 0.0_f64;
    for (name, recipe) in [("resnet18", Recipe::resnet18(1000)), ("resnet34", Recipe::resnet34(1000)), ("resnet8", Recipe::resnet8(10))] {
        for (batch, size) in SIZES {
            for (mode, setup) in modes(recipe, batch, size) {
                for memory in [Memory::Small, Memory::Fast] {
                    for update in [Update::After, Update::During] {
                        let mut setup = setup;
                        setup.options = Options { memory, update, threads: 2, ..setup.options };
                        let (blueprint, ..) = plan(&setup);
                        let live = blueprint.plan().live_bytes() as f64;
                        let ratio = (blueprint.plan().len() * 4) as f64 / live;
                        let what = format!("{name} {batch}x{size} {mode} {memory:?} {update:?}");
                        println!("{what}: {:.3} MB, {ratio:.4}", blueprint.bytes() as f64 / 1e6);
                        assert!((1.0..=1.05).contains(&ratio), "{what}: {ratio}");
                        worst = worst.max(ratio);
                    }
                }
            }
        }
    }
    println!("worst {worst:.4}");
}

#[test]
fn planning_resnet18_takes_under_10_ms() {
    let setups = SIZES.iter().flat_map(|&(batch, size)| modes(Recipe::resnet18(1000), batch, size));
    for (mode, setup) in setups {
        let time = |_| {
            let begin = Instant::now();
            let (blueprint, ..) = plan(&setup);
            assert!(blueprint.bytes() > 0);
            begin.elapsed()
        };
        // The least of several: other work on the machine is not the planner's.
        let least = (0..5).map(time).min().expect("times");
        println!("{mode} {}x{}: {least:?}", setup.batch, setup.height);
        assert!(least.as_millis() < 10, "{mode}: {least:?}");
    }
}

/// The budgets, with two threads and `Memory::Small`; MB = 10⁶.
#[test]
fn tutorial_stays_within_its_budgets() {
    let tutorial = |classes: usize, update: Update, head_only: bool| {
        let recipe = Recipe::resnet18(classes);
        let mut setup = training(recipe, 1, 64, Loss::Sum);
        setup.options = Options { threads: 2, memory: Memory::Small, update, momentum: true, in_place: false, fuse: true };
        if head_only {
            setup.trainable = network(recipe).head();
        }
        plan(&setup).0.bytes() as f64 / 1e6
    };
    let full = tutorial(1000, Update::After, false);
    let during = tutorial(1000, Update::During, false);
    let head = tutorial(10, Update::After, true);
    println!("full {full:.2} MB, update during the walk {during:.2} MB, head only {head:.2} MB");
    assert!(full <= 150.0 && during <= 108.0 && head <= 52.0);
}

/// With the weights in place, a new head on ResNet18 trains in less than 1 MB besides their file: block
/// and tables together.
#[test]
fn a_head_over_weights_in_place_takes_less_than_a_megabyte() {
    let whole = Setup::inference(Recipe::resnet18(1000), 1, 64, 64);
    let mut memory = vec![0; plan(&whole).0.bytes()];
    let mut trainer = Trainer::new(plan(&whole).0, &mut memory, Level::detect(), Threads::serial()).expect("memory");
    trainer.init(0);
    let flash = Flash::new(&saved(&trainer, Save::Network));
    let recipe = Recipe::resnet18(10);
    for policy in [NormPolicy::Updating, NormPolicy::Fixed] {
        for threads in teams(&[1, 2]) {
            let options = Options { threads: threads.count(), memory: Memory::Small, in_place: true, ..Options::default() };
            let setup = Setup { trainable: network(recipe).head(), norm_policy: policy, options, ..training(recipe, 1, 64, Loss::Sum) };
            let (blueprint, slots, values) = plan(&setup);
            let bytes = blueprint.summary(&slots);
            println!("{policy:?}, {} threads: {} bytes in all; {bytes:?}", threads.count(), bytes.total());
            assert!(bytes.total() < 1_000_000, "{bytes:?}");
            assert!(bytes.borrowed > 44_000_000);
            // It is a step that can be done, and the file is all it needs besides.
            let mut memory = vec![0; blueprint.bytes()];
            let mut trainer = Trainer::with_weights(blueprint, &mut memory, flash.native(), Level::detect(), threads).expect("enough");
            trainer.init_head(&mut nunatak_core::rng::Generator::manual_seed(0));
            Batch::random(&setup, 1).set(&mut trainer, &values).expect("set");
            trainer.forward().expect("forward");
            let optimizer = nunatak_nn::Optimizer::new(nunatak_nn::Sgd { momentum: 0.9, ..nunatak_nn::Sgd::new(0.1) }).expect("settings");
            trainer.backward_and_step(&optimizer).expect("step");
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
        setup.options.update = update;
        let (blueprint, _, values) = plan(&setup);
        let needed = blueprint.bytes();
        let optimizer = nunatak_nn::Optimizer::new(nunatak_nn::Sgd { momentum: 0.9, ..nunatak_nn::Sgd::new(0.1) }).expect("settings");
        let mut before: Option<Vec<_>> = None;
        for start in [0, 1, 2, 3, 5, 16, 63] {
            let mut memory = vec![0xee_u8; start + needed + 40];
            let (front, block) = memory.split_at_mut(start);
            let (block, back) = block.split_at_mut(needed);
            let mut trainer = Trainer::new(blueprint.clone(), block, Level::detect(), Threads::serial()).expect("enough");
            trainer.init(1);
            for i in 0..2 {
                Batch::random(&setup, i).set(&mut trainer, &values).expect("set");
                trainer.forward().expect("forward");
                trainer.backward_and_step(&optimizer).expect("step");
            }
            let state = bits(&trainer);
            assert!(front.iter().chain(&*back).all(|b| *b == 0xee), "something was written beside the block");
            if let Some(before) = &before {
                same_bits("another start", before, &state);
            }
            before = Some(state);

            let mut memory = vec![0_u8; start + needed - 1];
            let error = Trainer::new(blueprint.clone(), &mut memory[start..], Level::detect(), Threads::serial()).err().expect("too small");
            let due = nunatak_core::Error::ArenaTooSmall { needed, given: needed - 1 };
            assert_eq!(error, Error::Core(due));
            let text = error.to_string();
            assert!(text.contains(&needed.to_string()) && text.contains(&(needed - 1).to_string()), "{text}");
        }
        for given in [0, 1, 63, 64, needed / 2] {
            let mut memory = vec![0; given];
            let error = Trainer::new(blueprint.clone(), &mut memory, Level::detect(), Threads::serial()).err();
            assert_eq!(error, Some(Error::Core(nunatak_core::Error::ArenaTooSmall { needed, given })));
        }
    }
}

/// The summary's lines add up to the block, and the busiest node is one of the tape.
#[test]
fn the_summary_adds_up() {
    for (batch, size) in SIZES {
        for (mode, setup) in modes(Recipe::resnet18(1000), batch, size) {
            let (blueprint, slots, _) = plan(&setup);
            let b = blueprint.summary(&slots);
            assert_eq!(b.block, blueprint.bytes());
            assert_eq!(b.weights + b.statistics + b.momentum + b.gradients + b.activations + b.scratch + b.padding, b.block);
            assert!(b.weights >= 4 * 11_689_512, "{mode}: {b:?}");
            assert_eq!(b.gradients > 0, mode != "infer" && b.momentum > 0, "{mode}: {b:?}");
            assert!(blueprint.tape().node(blueprint.peak_node().0).is_ok());
        }
    }
}

/// The level never chooses sizes: a block that fits on one machine fits on another.
#[test]
fn more_threads_need_little_more() {
    let bytes = |threads| {
        let mut setup = training(Recipe::resnet18(1000), 1, 64, Loss::Sum);
        setup.options = Options { threads, memory: Memory::Small, ..setup.options };
        plan(&setup).0.bytes()
    };
    let (one, two, many) = (bytes(1), bytes(2), bytes(16));
    println!("1: {one}, 2: {two}, 16: {many}");
    assert!(one <= two && two <= many && many < one + (16 << 20));
    // A trainer with more threads than planned for is refused before it writes past its scratch.
    for threads in teams(&[3]).into_iter().filter(|t| t.count() > 2) {
        let mut setup = training(small(), 1, 16, Loss::Sum);
        setup.options.threads = 2;
        let blueprint = plan(&setup).0;
        let mut memory = vec![0; blueprint.bytes()];
        let error = Trainer::new(blueprint, &mut memory, Level::detect(), threads).err();
        assert!(matches!(error, Some(Error::Length { expected: 2, got: 3, .. })), "{error:?}");
    }
}

/// One block serves one model after another; nothing of the first is left in the second.
#[test]
fn a_block_can_be_used_again() {
    let setup = training(small(), 2, 12, Loss::Sum);
    let (blueprint, ..) = plan(&setup);
    let mut memory = vec![0; blueprint.bytes()];
    let mut state = |seed| {
        let mut trainer = Trainer::new(blueprint.clone(), &mut memory, Level::detect(), Threads::serial()).expect("enough");
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
    let model = ResNet::new(small(), Mode::Eval).expect("a network");
    let graph = Graph::new();
    let x = graph.input(1, 3, 12, 12);
    let features = model.features(x);
    let y = model.head(features);
    let make =
        |keep: &[nunatak_nn::ValueId]| Blueprint::new(&model, &graph, None, keep, ParamSet::EMPTY, Options::default()).expect("a plan");
    let (little, much) = (make(&[y.id()]), make(&[y.id(), features.id()]));
    assert!(little.bytes() <= much.bytes());
    for (blueprint, kept) in [(little, false), (much, true)] {
        let mut memory = vec![0; blueprint.bytes()];
        let mut trainer = Trainer::new(blueprint, &mut memory, Level::detect(), Threads::serial()).expect("enough");
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
    let many: Vec<_> = (0..8).map(|_| y.id()).collect();
    assert!(matches!(
        Blueprint::new(&model, &graph, None, &many, ParamSet::EMPTY, Options::default()),
        Err(Error::Length { expected: 7, got: 8, .. })
    ));
}
