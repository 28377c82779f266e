//! Networks whose frozen layers compute in 8 bits: near the network of floats, the same integers everywhere, saved, loaded,
//! read in place and trained behind.

use nunatak_nn::files::save::Save;
use nunatak_nn::files::state::{State, Values};
use nunatak_nn::files::{Checkpoint, heapless, write_native, write_pth, write_safetensors};
use nunatak_nn::int8::{Quantizer, Rewritten, SCALES, rewrite};
use nunatak_nn::models::{Recipe, by_name};
use nunatak_nn::record::in_scope;
use nunatak_nn::{
    Conv, CrossEntropyOptions, EntryKind, Error, Graph, Level, Loss, Mode, Native, Norm, NormPolicy, Program, Select, Sgd, Step, Threads,
    Trainer, Update, Usual,
};
use nunatak_tests::{Flash, bits, emulated, random};
use std::collections::BTreeMap;

const BATCH: usize = 4;

/// A recording of a network that classifies.
fn record(name: &str, graph: &Graph, size: usize, loss: Loss) -> Usual {
    let images = [BATCH, 3, size, size];
    let usual = graph.usual(images, loss, |g, x| match name {
        "own" => own(g, x),
        "resnet8" => Recipe::resnet8(10).record(g, x),
        _ => {
            let features = by_name(name).expect("a model").record(g, x, 10);
            (g.named("features").unwrap_or(features), features)
        }
    });
    usual.unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Biases without normalisations, groups, a concatenation, a sum of two convolutions, functions without a form of 8 bits.
fn own<'g>(g: nunatak_nn::Scope<'g>, x: nunatak_nn::Var<'g>) -> (nunatak_nn::Var<'g>, nunatak_nn::Var<'g>) {
    let a = g.conv2d("a", x, Conv::new(10, [3, 5]).pad([1, 2])).relu();
    let b = g.conv2d("b", a, Conv::new(10, 3).pad(1).groups(10));
    let c = g.batch_norm("c_norm", g.conv2d("c", a, Conv::new(10, 1).no_bias()), Norm::default());
    let sum = (b + c).relu();
    let grouped = g.conv2d("grouped", sum, Conv::new(12, 3).pad(1).groups(2)).hardswish();
    let both = g.conv2d("d", grouped, Conv::new(6, 3).stride(2).pad(1)).relu6();
    let other = sum.max_pool(3, 2, 1);
    let other = g.conv2d("e", other, Conv::new(7, 1));
    let features = both.concat(other).adaptive_avg_pool(1);
    g.set_head("fc");
    (features, g.linear("fc", features, 10))
}

/// Weights as after some training: statistics of images, every normalisation with numbers of its own.
fn trained(trainer: &mut Trainer, usual: &Usual, size: usize) {
    trainer.init(3);
    for (i, id) in trainer.program().entries().collect::<Vec<_>>().into_iter().enumerate() {
        let entry = trainer.program().entry(id);
        let (name, numbers) = (entry.name().to_string(), entry.numbers());
        if entry.kind() == EntryKind::Parameter && entry.shape().1 == 1 {
            let near = if name.ends_with("weight") { 1.0 } else { 0.0 };
            let values: Vec<f32> = random(numbers, i as u64).iter().map(|v| near + 0.3 * v).collect();
            trainer.set_entry(id, &values).expect("an entry");
        }
    }
    for turn in 0..8 {
        images(trainer, usual, size, turn);
        trainer.forward().expect("forward");
    }
}

fn images(trainer: &mut Trainer, usual: &Usual, size: usize, seed: u64) {
    trainer.set_input(usual.data, &random(BATCH * 3 * size * size, 100 + seed)).expect("images");
    if let Some(labels) = usual.labels {
        trainer.set_labels(labels, &(0..BATCH as i64).collect::<Vec<_>>()).expect("labels");
    }
}

fn value(trainer: &Trainer, value: nunatak_nn::ValueId) -> Vec<f32> {
    let (_, found) = trainer.program().value_of_node(value.0).expect("a value");
    let mut out = vec![f32::NAN; found.shape().into_iter().product()];
    trainer.value(value, &mut out).expect("it is kept");
    out
}

/// A network of floats, its state dict of 8 bits, and its predictions of the images of seed 50.
struct Case {
    graph: Graph<'static>,
    usual: Usual,
    state: State,
    prediction: Vec<f32>,
    size: usize,
}

fn case(name: &str, size: usize, trainable: Select) -> Case {
    let graph = Graph::new();
    let usual = record(name, &graph, size, Loss::None);
    let keep = [usual.prediction];
    let program = Step::new(&graph).keep(&keep).plan().expect("a plan");
    let mut floats = Trainer::owning(program, Level::PORTABLE, Threads::serial()).expect("a trainer");
    trained(&mut floats, &usual, size);
    let state = floats.state();
    let (state, prediction) = {
        let mut quantizer = Quantizer::new(&graph, trainable).unwrap_or_else(|e| panic!("{name}: {e}"));
        let program = quantizer.plan(1).expect("a plan");
        let mut eval = Trainer::owning(program, Level::PORTABLE, Threads::serial()).expect("a trainer");
        load(&mut eval, &state);
        for seed in 0..4 {
            images(&mut eval, &usual, size, seed);
            eval.forward().expect("forward");
            quantizer.observe(&eval).expect("it has the program");
        }
        let state = quantizer.state(&eval).unwrap_or_else(|e| panic!("{name}: {e}"));
        let program = Step::new(&graph).keep(&keep).mode(Mode::Eval).plan().expect("a plan");
        let mut eval = Trainer::owning(program, Level::PORTABLE, Threads::serial()).expect("a trainer");
        load(&mut eval, &floats.state());
        images(&mut eval, &usual, size, 50);
        eval.forward().expect("forward");
        (state, value(&eval, usual.prediction))
    };
    Case { graph, usual, state, prediction, size }
}

impl Case {
    /// The recording with the layers that the state dict has in 8 bits.
    fn rewritten(&self) -> Rewritten {
        let has = |name: &str| self.state.tensors.iter().any(|(entry, ..)| entry.strip_suffix(".int8") == Some(name));
        rewrite(&self.graph, &has).expect("layers of 8 bits")
    }
}

fn load(trainer: &mut Trainer, state: &State) {
    let bytes = safetensors(state);
    let file = Checkpoint::parse(&bytes).expect("a file");
    trainer.load(&file, heapless::Head::Load).expect("it fits");
}

fn safetensors(state: &State) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("w.safetensors");
    write_safetensors(&path, &state.views(), &BTreeMap::new()).expect("written");
    std::fs::read(path).expect("read")
}

/// The logits in 8 bits.
fn predict(case: &Case, level: Level, threads: usize) -> Vec<f32> {
    let rewritten = case.rewritten();
    let usual = rewritten.usual(&case.usual).expect("its values are there");
    let program = Step::new(rewritten.graph()).keep(&[usual.prediction]).mode(Mode::Eval).threads(threads).plan().expect("a plan");
    let mut trainer = Trainer::owning(program, level, Threads::oversubscribed(threads).expect("threads")).expect("a trainer");
    load(&mut trainer, &case.state);
    images(&mut trainer, &usual, case.size, 50);
    trainer.forward().expect("forward");
    value(&trainer, usual.prediction)
}

/// The root of the mean square, of the difference and of the numbers themselves about their mean.
fn difference(a: &[f32], b: &[f32]) -> f64 {
    let mean = b.iter().map(|b| f64::from(*b)).sum::<f64>() / b.len() as f64;
    let of = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|v| v * v).sum::<f64>();
    let apart = of(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    (apart / of(&mut b.iter().map(|b| f64::from(*b) - mean))).sqrt()
}

fn cases() -> Vec<(&'static str, usize, f64)> {
    let mut cases = vec![("own", 17, 0.01), ("resnet8", 32, 0.03)];
    if !emulated() {
        cases.extend([("resnet18", 40, 0.05), ("resnet50", 40, 0.08), ("mobilenet_v2", 40, 0.03)]);
    }
    cases
}

#[test]
fn logits_are_near_those_of_floats() {
    for (name, size, most) in cases() {
        let case = case(name, size, Select::Head);
        let got = predict(&case, Level::detect(), 2);
        let apart = difference(&got, &case.prediction);
        println!("{name}: {apart:.4}");
        assert!(apart < most && apart > 0.0, "{name}: {apart} of the logits' spread\n{got:?}\n{:?}", case.prediction);
    }
}

/// The features of the images of seed 50, as bits.
fn features(case: &Case, program: Program, level: Level, threads: Threads) -> Vec<u32> {
    let rewritten = case.rewritten();
    let usual = rewritten.usual(&case.usual).expect("its values are there");
    let mut trainer = Trainer::owning(program, level, threads).expect("a trainer");
    load(&mut trainer, &case.state);
    images(&mut trainer, &usual, case.size, 50);
    trainer.forward().expect("forward");
    value(&trainer, usual.features).iter().map(|v| v.to_bits()).collect()
}

#[test]
fn every_level_and_any_threads_compute_the_same_bits() {
    for (name, size, _) in cases().into_iter().skip(1).take(2) {
        let case = case(name, size, Select::Head);
        let rewritten = case.rewritten();
        let usual = rewritten.usual(&case.usual).expect("its values are there");
        let keep = [usual.features];
        let run = |level: Level, threads: usize| {
            let step = Step::new(rewritten.graph()).keep(&keep).mode(Mode::Eval).threads(threads);
            features(&case, step.plan().expect("a plan"), level, Threads::oversubscribed(threads).expect("threads"))
        };
        let first = run(Level::PORTABLE, 1);
        for level in Level::available() {
            for threads in [1, 2, 3] {
                assert!(run(level, threads) == first, "{name} {level} {threads}");
            }
        }
    }
}

/// What is trained has PyTorch's gradients for the features that it is given: those of a network that begins there.
#[test]
fn a_head_trains_on_features_of_8_bits() {
    let case = case("resnet8", 32, Select::Head);
    let graph = Graph::new();
    let usual = record("resnet8", &graph, 32, Loss::CrossEntropy(CrossEntropyOptions::default()));
    let rewritten = rewrite(&graph, &|_| true).expect("layers of 8 bits");
    assert_eq!(rewritten.layers().count(), 9);
    let usual = rewritten.usual(&usual).expect("its values are there");
    let step = Step::new(rewritten.graph()).root(usual.root).train(Select::Head).norm_policy(NormPolicy::Fixed);
    let (keep, sgd) = ([usual.features, usual.prediction], Sgd { momentum: 0.9, ..Sgd::new(0.1) });
    for update in [Update::After, Update::During] {
        let program = step.keep(&keep).update(update).plan().expect("a plan");
        let mut trainer = Trainer::owning(program, Level::detect(), Threads::serial()).expect("a trainer");
        load(&mut trainer, &case.state);
        // The head alone, from the same features.
        let head = Graph::new();
        let (x, labels) = (head.input([BATCH, 64]), head.labels(BATCH));
        let prediction = head.root().linear("fc", x, 10);
        let loss = prediction.cross_entropy(labels, CrossEntropyOptions::default());
        let program = Step::new(&head).loss(loss).keep(&[prediction.id()]).update(update).plan().expect("a plan");
        let mut alone = Trainer::owning(program, Level::detect(), Threads::serial()).expect("a trainer");
        for name in ["fc.weight", "fc.bias"] {
            let (from, to) = (trainer.entry_named(name).expect("there"), alone.entry_named(name).expect("there"));
            let mut numbers = vec![0.0; trainer.program().entry(from).numbers()];
            trainer.entry(from, &mut numbers).expect("numbers");
            alone.set_entry(to, &numbers).expect("numbers");
        }
        for seed in 0..5 {
            images(&mut trainer, &usual, 32, seed);
            trainer.forward().expect("forward");
            alone.set_input(x.id(), &value(&trainer, usual.features)).expect("features");
            alone.set_labels(labels.id(), &(0..BATCH as i64).collect::<Vec<_>>()).expect("labels");
            alone.forward().expect("forward");
            assert_eq!(value(&trainer, usual.prediction), value(&alone, prediction.id()), "{update:?} {seed}");
            trainer.backward_and_step(sgd).expect("a step");
            alone.backward_and_step(sgd).expect("a step");
        }
    }
}

#[test]
fn what_is_trained_and_what_stands_behind_it_stays_as_it_is() {
    let graph = Graph::new();
    record("resnet8", &graph, 32, Loss::None);
    let layers = |trainable: &str| {
        let quantizer = Quantizer::new(&graph, Select::Names(trainable));
        quantizer.map(|q| q.rewritten().layers().map(str::to_string).collect::<Vec<_>>())
    };
    assert_eq!(layers("fc").expect("layers").len(), 9);
    let three = layers("layer3,fc").expect("layers");
    assert!(three.len() == 6 && three.iter().all(|name| !in_scope(name, "layer3")), "{three:?}");
    // A normalisation that is trained is one of floats, and so is its convolution, and what follows.
    assert_eq!(layers("layer1.0.bn1").expect("layers"), ["conv1"]);
    assert_eq!(layers("conv1"), Err(Error::NoInt8));
    assert!(matches!(layers("nothing"), Err(Error::UnknownName { .. })));
    assert_eq!(rewrite(&graph, &|name| name == "layer9").map(|_| ()), Err(Error::NoInt8));
}

/// Saved and loaded in every format, and read where it lies: the same bits.
#[test]
fn files_keep_every_word() {
    for (name, size) in [("own", 17), ("resnet8", 32)] {
        let case = case(name, size, Select::Head);
        let rewritten = case.rewritten();
        let usual = rewritten.usual(&case.usual).expect("its values are there");
        let keep = [usual.features];
        let step = || Step::new(rewritten.graph()).keep(&keep).mode(Mode::Eval).train(Select::Head);
        let program = step().plan().expect("a plan");
        let due = features(&case, program.clone(), Level::detect(), Threads::serial());
        let mut trainer = Trainer::owning(program.clone(), Level::detect(), Threads::serial()).expect("a trainer");
        load(&mut trainer, &case.state);
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        write_pth(&path("w.pth"), &trainer.state().views(), &BTreeMap::new()).expect("written");
        write_native(&path("w.nunatak"), &program, &trainer.state().views(), &BTreeMap::new()).expect("written");
        trainer.saving(Save::Network, &[]).expect("a network").save(&path("saved.nunatak")).expect("written");
        let mut heapless = vec![0; trainer.safetensors_bytes(false)];
        trainer.save_safetensors(false, &mut heapless).expect("room");
        std::fs::write(path("heapless.safetensors"), &heapless).expect("written");
        let read = |name: &str| std::fs::read(path(name)).expect("read");
        assert_eq!(read("w.nunatak"), read("saved.nunatak"), "{name}");
        for file in ["w.pth", "w.nunatak", "heapless.safetensors"] {
            let bytes = read(file);
            let parsed = Checkpoint::parse(&bytes).expect("a file");
            let mut other = Trainer::owning(program.clone(), Level::detect(), Threads::serial()).expect("a trainer");
            other.load(&parsed, heapless::Head::Load).unwrap_or_else(|e| panic!("{name} {file}: {e}"));
            assert_eq!(bits(&other), bits(&trainer), "{name} {file}");
        }
        let mut other = Trainer::owning(program, Level::detect(), Threads::serial()).expect("a trainer");
        other.load_safetensors(&heapless, heapless::Head::Load).expect("it fits");
        assert_eq!(bits(&other), bits(&trainer), "{name}");
        // Read where it lies: nothing of 8 bits is in the block.
        let aligned = Flash::new(&read("w.nunatak"));
        let native = Native::parse(aligned.bytes()).expect("a native file");
        native.verify().expect("whole");
        let program = step().in_place(Some(native)).plan().expect("a plan");
        for id in program.entries().filter(|id| program.entry(*id).kind() == EntryKind::Words) {
            assert!(program.entry(id).is_borrowed(), "{name}: {}", program.entry(id).name());
        }
        let mut memory = vec![0; Trainer::bytes(&program)];
        let mut trainer = Trainer::with_weights(program, &mut memory, native, Level::detect(), Threads::serial()).expect("weights");
        images(&mut trainer, &usual, size, 50);
        trainer.forward().expect("forward");
        assert_eq!(value(&trainer, usual.features).iter().map(|v| v.to_bits()).collect::<Vec<_>>(), due, "{name}");
    }
}

/// Floats where words are due, and the reverse, are refused.
#[test]
fn a_file_of_another_kind_is_refused() {
    let case = case("resnet8", 32, Select::Head);
    let rewritten = case.rewritten();
    let program = || Step::new(rewritten.graph()).mode(Mode::Eval).plan().expect("a plan");
    let mut trainer = Trainer::owning(program(), Level::detect(), Threads::serial()).expect("a trainer");
    let mut state = case.state.clone();
    let (_, _, values) = state.tensors.iter_mut().find(|(name, ..)| name == SCALES).expect("scales");
    let Values::I32(words) = &*values else { panic!("scales are words") };
    *values = Values::F32(words.iter().map(|word| f32::from_bits(*word as u32)).collect());
    let bytes = safetensors(&state);
    let refused = trainer.load(&Checkpoint::parse(&bytes).expect("a file"), heapless::Head::Load).expect_err("floats");
    assert!(refused.to_string().contains("words of 32 bits"), "{refused}");
    let refused = trainer.load_safetensors(&bytes, heapless::Head::Load).expect_err("floats");
    assert!(refused.to_string().contains("I32"), "{refused}");
    // A network of floats takes no words, and its file is none of 8 bits.
    let floats = Step::new(&case.graph).mode(Mode::Eval).plan().expect("a plan");
    let mut floats = Trainer::owning(floats, Level::detect(), Threads::serial()).expect("a trainer");
    let bytes = safetensors(&case.state);
    let refused = floats.load(&Checkpoint::parse(&bytes).expect("a file"), heapless::Head::Load).expect_err("words");
    assert!(refused.to_string().contains("conv1.weight") && refused.to_string().contains("conv1.int8"), "{refused}");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("w.nunatak");
    write_native(&path, floats.program(), &floats.state().views(), &BTreeMap::new()).expect("written");
    let bytes = std::fs::read(path).expect("read");
    let aligned = Flash::new(&bytes);
    let native = Native::parse(aligned.bytes()).expect("a native file");
    assert!(matches!(trainer.load_native(&native, false), Err(Error::NotInWeights { .. })));
}
