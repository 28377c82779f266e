//! Fused steps against the same recording with every operation in a pass of its own: values, gradients,
//! states, threads, memory, and values that are kept.

use nunatak_nn::{
    CrossEntropyOptions, Graph, Level, Loss, Memory, Mode, NormPolicy, Optimizer, Recipe, Sgd, Stem, Step, Threads, Trainer, Update,
    ValueId,
};
use nunatak_tests::{Batch, STEM, Setup, bits, bytes, distance, entry, gradients, random, same_bits, small, teams, training, with_trainer};

fn loss() -> Loss {
    Loss::CrossEntropy(CrossEntropyOptions::default())
}

/// Everything that trains, by prefixes of `small()`: all, frozen below, frozen above, gaps, the head.
const SETS: [&str; 8] = [
    "conv1,bn1,layer1,layer2,layer3,fc",
    "layer2,layer3,fc",
    "layer3.0.downsample,fc",
    "layer1",
    "conv1",
    "bn1,layer2.0.bn2",
    "layer1.0.conv2,layer3.0.bn1",
    "fc",
];

/// A pooling stem, two blocks of one width (a residual without a downsample), and two with one.
fn pooled() -> Recipe {
    Recipe::new(&[2, 1, 1], &[6, 17, 20], Stem { kernel: 7, stride: 2, pad: 3, pool: true }, 3, 5).expect("a recipe")
}

/// Predictions, gradients, and everything that lasts after two steps.
struct Result {
    prediction: Vec<f32>,
    gradients: Vec<f32>,
    state: Vec<(String, Vec<u32>)>,
}

/// The names of the normalisations.
fn norms(trainer: &Trainer) -> Vec<String> {
    let names = trainer.program().entries().map(|id| trainer.program().entry(id).name());
    names.filter_map(|name| name.strip_suffix(".running_mean")).map(String::from).collect()
}

fn run(setup: &Setup, fuse: bool, level: Level, threads: Threads) -> Result {
    let mut setup = *setup;
    setup.fuse = fuse;
    with_trainer(&setup, level, threads, |trainer, values| {
        // Statistics, gammas and betas away from where they begin; some gammas are negative.
        for (i, name) in norms(trainer).iter().enumerate() {
            let seed = i as u64;
            for (leaf, seed) in [("weight", seed), ("bias", 50 + seed), ("running_mean", 100 + seed), ("running_var", 150 + seed)] {
                let id = entry(trainer, &format!("{name}.{leaf}"));
                let mut numbers = random(trainer.program().entry(id).numbers(), seed);
                if leaf == "running_var" {
                    numbers.iter_mut().for_each(|v| *v = 0.5 + v.abs());
                }
                trainer.set_entry(id, &numbers).expect("set");
            }
        }
        let optimizer = Optimizer::new(Sgd { momentum: 0.9, ..Sgd::new(0.01) }).expect("settings");
        let mut prediction = vec![f32::NAN; setup.batch * setup.recipe.classes];
        let mut first = Vec::new();
        for i in 0..2 {
            Batch::random(&setup, i).set(trainer, &values).expect("set");
            trainer.forward().expect("forward");
            if i == 0 {
                trainer.value(values.prediction, &mut prediction).expect("a prediction");
            }
            if setup.update == Update::During {
                trainer.backward_and_step(optimizer).expect("a step");
                continue;
            }
            if trainer.trains() {
                trainer.backward().expect("backward");
                if i == 0 {
                    first = gradients(trainer);
                }
                trainer.step(optimizer).expect("a step");
                trainer.zero_grad();
            }
        }
        Result { prediction, gradients: first, state: bits(trainer) }
    })
}

/// Largest distance of what both have.
fn apart(a: &Result, b: &Result) -> f64 {
    let wide = |v: &[f32]| v.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    distance(&a.prediction, &wide(&b.prediction)).max(distance(&a.gradients, &wide(&b.gradients)))
}

/// With running statistics the bits are the same, whatever is trained, at every level, on any number
/// of threads; with the batch's they agree within what their other order of summation allows.
#[test]
fn fused_steps_agree_with_single_ones() {
    for (recipe, batch, size) in [(small(), 3, 11), (pooled(), 2, 37)] {
        for (mode, policy) in [(Mode::Eval, NormPolicy::Updating), (Mode::Train, NormPolicy::Fixed), (Mode::Train, NormPolicy::Updating)] {
            for names in SETS {
                let mut setup = training(recipe, batch, size, loss());
                (setup.mode, setup.norm_policy, setup.trainable) = (mode, policy, names);
                // A plain product everywhere: what the algorithms do differently is tested in the kernels.
                let what = format!("{mode:?} {policy:?} {names:?}");
                for level in Level::available() {
                    let alone = run(&setup, false, level, Threads::serial());
                    let fused = run(&setup, true, level, Threads::serial());
                    if mode == Mode::Eval {
                        same_bits(&what, &alone.state, &fused.state);
                        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                        assert_eq!(bits(&alone.prediction), bits(&fused.prediction), "{what} at {level}");
                        assert_eq!(bits(&alone.gradients), bits(&fused.gradients), "{what} at {level}");
                    } else {
                        let d = apart(&fused, &alone);
                        assert!(d < 2e-4, "{what} at {level}: {d:.1e}");
                    }
                    for threads in teams(&[2, 3, 7]) {
                        let more = run(&setup, true, level, threads);
                        same_bits(&format!("{what}: threads"), &more.state, &fused.state);
                        assert_eq!(more.prediction, fused.prediction, "{what} at {level}: threads");
                    }
                    let mut during = setup;
                    during.update = Update::During;
                    same_bits(&format!("{what}: update during"), &run(&during, true, level, Threads::serial()).state, &fused.state);
                }
            }
        }
    }
}

/// Less is kept, never more.
#[test]
fn fusing_takes_next_to_no_memory() {
    for (batch, size) in [(1, 64), (8, 64), (32, 64), (1, 224), (8, 224)] {
        for memory in [Memory::Small, Memory::Fast] {
            let train = training(Recipe::resnet18(1000), batch, size, Loss::Sum);
            let head = Setup { trainable: "fc", ..train };
            let fixed = Setup { norm_policy: NormPolicy::Fixed, ..head };
            let part = Setup { trainable: "layer3", ..train };
            let infer = Setup::inference(train.recipe, batch, size, size);
            for (what, setup) in [("train", train), ("head", head), ("fixed", fixed), ("layer3", part), ("infer", infer)] {
                let bytes = |fuse| bytes(&Setup { memory, fuse, threads: 2, ..setup });
                let (fused, alone) = (bytes(true), bytes(false));
                println!("{what} {batch}x{size} {memory:?}: {fused} fused, {alone} alone");
                // What forward saves of each normalisation is four numbers a channel instead of two, and
                // the stem's pooling has a few normalised lines per thread beside its input and output.
                assert!(fused <= alone + alone / 50, "{what} {batch}x{size} {memory:?}: {fused} fused, {alone} alone");
            }
        }
    }
}

/// A value that is kept is there, and is what it is without fusing, wherever it stands.
#[test]
fn kept_values_are_barriers() {
    let recipe = Recipe::new(&[1, 1], &[5, 8], STEM, 3, 4).expect("a recipe");
    for mode in [Mode::Eval, Mode::Train] {
        let graph = Graph::new();
        let x = graph.input([2, 3, 9, 9]);
        let (_, y) = recipe.record(graph.root(), x);
        for kept in 0..=y.id().0 {
            let kept = ValueId(kept);
            let [alone, fused] = [false, true].map(|fuse| {
                let program = Step::new(&graph).keep(&[y.id(), kept]).train("none").mode(mode).fuse(fuse).plan().expect("a plan");
                let (_, value) = program.value_of_node(kept.0).expect("a value");
                let len = value.shape().iter().product();
                let mut trainer = Trainer::owning(program, Level::detect(), Threads::serial()).expect("memory");
                trainer.init(5);
                trainer.set_input(x, &random(2 * 3 * 81, 3)).expect("set");
                trainer.forward().expect("forward");
                let (mut at, mut end) = (vec![f32::NAN; len], vec![f32::NAN; 8]);
                trainer.value(kept, &mut at).expect("kept");
                trainer.value(y, &mut end).expect("kept");
                at.into_iter().chain(end).collect::<Vec<_>>()
            });
            let truth: Vec<f64> = alone.iter().map(|v| f64::from(*v)).collect();
            let d = distance(&fused, &truth);
            assert!(d <= if mode == Mode::Eval { 0.0 } else { 5e-6 }, "{mode:?}, value {}: {d:.1e}", kept.index());
        }
    }
}

/// A gradient that is fed in at the features: they are the root, and a barrier.
#[test]
fn a_gradient_from_outside_goes_through_fused_steps() {
    let recipe = Recipe::new(&[2, 1], &[5, 8], STEM, 3, 4).expect("a recipe");
    for mode in [Mode::Eval, Mode::Train] {
        let graph = Graph::new();
        let x = graph.input([3, 3, 9, 9]);
        let (features, _) = recipe.with_classes(0).record(graph.root(), x);
        let [alone, fused] = [false, true].map(|fuse| {
            let program = Step::new(&graph).loss(features).train("all").mode(mode).fuse(fuse).plan().expect("a plan");
            let mut trainer = Trainer::owning(program, Level::detect(), Threads::serial()).expect("memory");
            trainer.init(5);
            trainer.set_input(x, &random(3 * 3 * 81, 3)).expect("set");
            trainer.forward().expect("forward");
            trainer.backward_with(&random(3 * 8, 4)).expect("backward");
            gradients(&trainer)
        });
        let truth: Vec<f64> = alone.iter().map(|v| f64::from(*v)).collect();
        let d = distance(&fused, &truth);
        assert!(d <= if mode == Mode::Eval { 0.0 } else { 1e-4 }, "{mode:?}: {d:.1e}");
    }
}
