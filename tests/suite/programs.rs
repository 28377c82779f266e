//! Programs: equal targets give equal bytes, bytes from anywhere run with the same bits or are refused, and what a
//! recording may do with parameters and gradients.

use nunatak_core::program::{EntryKind, Flags, Program, ValueRecord, checksum};
use nunatak_core::rng::Generator;
use nunatak_nn::files::save::Save;
use nunatak_nn::step::{Summary, call_counts};
use nunatak_nn::{
    Conv, CrossEntropyOptions, Graph, Level, Loss, Memory, Mode, Norm, NormPolicy, Recipe, Scope, Sgd, Step, Threads, Trainer, Update,
    ValueId, Var,
};
use nunatak_tests::{
    Batch, Flash, STEM, Setup, bits, distance, emulated, entry, gradient, gradients, plan, random, same_bits, saved, small, teams,
    training, with_trainer,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

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

/// Gives bytes the checksum that their header asks for.
fn repair(bytes: &mut [u8]) {
    let hash = checksum(bytes);
    bytes[20..28].copy_from_slice(&hash.to_le_bytes());
}

/// What became of a changed program.
#[derive(Default, Debug)]
struct Outcomes {
    refused: usize,
    run: usize,
    stopped: usize,
}

/// Programs with a block of more numbers are not run: they may be right, but take long.
const MOST: usize = 1 << 20;

/// Runs everything that can be asked of a trainer, whatever it answers.
fn exercise(program: Program, base: &[u8], file: &Flash, outcomes: &mut Outcomes) {
    if program.block_len() > MOST {
        outcomes.refused += 1;
        return;
    }
    let threads = Threads::serial();
    let mut room = vec![0; Trainer::bytes(&program)];
    let bound = match program.weights_hash() {
        Some(_) => Trainer::with_weights(program.view(), &mut room, file.native(), Level::PORTABLE, threads.clone()),
        None => Trainer::owning(program.view(), Level::PORTABLE, threads.clone()),
    };
    let Ok(mut trainer) = bound else {
        outcomes.refused += 1;
        return;
    };
    let momentum = if program.flags().has(Flags::MOMENTUM) { 0.9 } else { 0.0 };
    let (mut ok, sgd) = (true, Sgd { momentum, weight_decay: 0.1, ..Sgd::new(0.1) });
    trainer.init(1);
    for _ in 0..2 {
        for value in program.values() {
            let (id, len) = (ValueId(value.node()), value.place().len());
            if value.flags() & ValueRecord::INPUT != 0 {
                ok &= trainer.set_input(id, &random(len, 3)).is_ok();
            }
            if value.flags() & ValueRecord::LABELS != 0 {
                ok &= trainer.set_labels(id, &vec![1; value.shape()[0]]).is_ok();
            }
        }
        ok &= trainer.forward().is_ok();
        let (_, root) = program.root().and_then(|node| program.value_of_node(node)).unzip();
        let gradient = vec![1.0; root.map_or(1, |root| root.place().len())];
        match trainer.updates_during() {
            true => ok &= trainer.backward_with_and_step(&gradient, sgd).is_ok(),
            false => {
                ok &= trainer.backward_with(&gradient).is_ok();
                let _ = trainer.clip_grad_norm(1.0);
                ok &= trainer.step(sgd).is_ok();
            }
        }
        for value in program.values() {
            let mut room = vec![0.0; value.place().len()];
            let _ = (trainer.value(ValueId(value.node()), &mut room), trainer.value_gradient(ValueId(value.node()), &mut room));
        }
    }
    look(&mut trainer, &program);
    trainer.init_head(&mut Generator::manual_seed(2));
    // Into another program and out of it again, where that is one of the same network.
    let good = Program::check(base).expect("a program");
    let mut memory = vec![0; Trainer::bytes(&good).max(Trainer::bytes(&program))];
    let mut other = match good.weights_hash() {
        Some(_) => Trainer::with_weights(good, &mut memory, file.native(), Level::PORTABLE, threads),
        None => Trainer::new(good, &mut memory, Level::PORTABLE, threads),
    }
    .expect("memory");
    other.init(2);
    if other.switch(program.view()).is_ok() {
        other.init(3);
        let _ = other.switch(Program::check(base).expect("a program"));
    }
    if ok { outcomes.run += 1 } else { outcomes.stopped += 1 }
}

/// All doors to what lasts.
fn look(trainer: &mut Trainer, program: &Program) {
    for id in program.entries() {
        let mut room = vec![0.5; program.entry(id).numbers()];
        let _ = (trainer.entry(id, &mut room), trainer.gradient(id, &mut room), trainer.momentum(id, &mut room));
        let _ = (trainer.set_entry(id, &room), trainer.set_gradient(id, &room), trainer.set_momentum(id, &room));
        trainer.set_count(id, 3);
        let _ = (trainer.count(id), trainer.has_gradient(id), trainer.has_momentum(id));
    }
    let _ = (Summary(program).to_string().len(), call_counts(program));
    let _ = trainer.state_with_momentum();
    if let Ok(saving) = trainer.saving(Save::Network, &[]) {
        let _ = saving.write_to(&mut vec![0; saving.len()]);
    }
    let mut file = vec![0; trainer.safetensors_bytes(true)];
    let _ = trainer.save_safetensors(true, &mut file);
}

/// A program of each kind, small enough for thousands of runs: planes of 4 x 4, and all that fusing makes.
fn small_programs() -> (Vec<Vec<u8>>, Flash) {
    let stem = nunatak_nn::Stem { kernel: 3, stride: 1, pad: 1, pool: true };
    let recipe = Recipe::new(&[1, 1], &[3, 5], stem, 2, 3).expect("a recipe");
    let plain = Recipe::new(&[1, 1, 1], &[3, 4, 5], STEM, 2, 3).expect("a recipe");
    let all = Setup { height: 8, ..training(recipe, 2, 8, indices()) };
    let plain = training(plain, 2, 4, Loss::MeanSquaredError);
    let setups = [
        all,
        Setup { update: Update::During, ..all },
        Setup { trainable: "fc", norm_policy: NormPolicy::Fixed, ..plain },
        Setup { fuse: false, memory: Memory::Small, ..plain },
        Setup { mode: Mode::Eval, loss: Loss::Sum, update: Update::During, momentum: false, ..plain },
    ];
    let mut programs: Vec<Vec<u8>> = setups.iter().map(|setup| plan(setup).0.bytes().to_vec()).collect();
    programs.push(arithmetic());
    let file = with_trainer(&plain, Level::PORTABLE, Threads::serial(), |trainer, _| Flash::new(&saved(trainer, Save::Network)));
    let in_place = Setup { trainable: "layer3,fc", norm_policy: NormPolicy::Fixed, weights: Some(file.native()), ..plain };
    programs.push(plan(&in_place).0.bytes().to_vec());
    (programs, file)
}

/// The operations that no residual network has.
fn arithmetic() -> Vec<u8> {
    let graph = Graph::new();
    let (data, labels, classes) = (graph.input([2, 3, 4, 4]), graph.input([2, 4]), graph.labels(2));
    let g = graph.root();
    let x = g.conv2d("conv", data, Conv::new(4, 3).pad(1).groups(1)).relu() * 0.5;
    let x = (x * x - x).adaptive_avg_pool(1);
    let y = g.linear("fc", x, 4);
    let loss = y.mse(labels) + (y - labels).sum() + y.mean() + y.cross_entropy(classes, CrossEntropyOptions::default());
    let keep = [x.id(), y.id()];
    let step = Step::new(&graph).loss(loss).keep(&keep).keep_gradients(&keep);
    step.plan().expect("a plan").bytes().to_vec()
}

/// A random number for a word: often one that a careless sum or product would not survive.
fn word(old: u32, program: &[u8], draw: &mut impl FnMut(u32) -> u32) -> u32 {
    let at = draw(program.len() as u32 / 4) as usize;
    let other = u32::from_le_bytes(program[4 * at..4 * at + 4].try_into().expect("four"));
    match draw(14) {
        0 => 0,
        1 => 1,
        2 => old.wrapping_add(1),
        3 => old.wrapping_sub(1),
        4 => old ^ 1 << draw(32),
        5 => other,
        6 => u32::MAX - draw(17),
        7 => 1 << draw(32),
        8 => draw(64),
        9 => old.wrapping_mul(2),
        10 => old / 2,
        11 => f32::to_bits([f32::NAN, f32::INFINITY, -1.0, 1e-40, f32::MAX][draw(5) as usize]),
        12 => old.wrapping_add(draw(8)),
        _ => draw(u32::MAX),
    }
}

/// Words that are changed, with a checksum that fits, are found by the checks or can be executed: never a panic,
/// never an index out of bounds.
#[test]
fn changed_programs_are_refused_or_run() {
    let (programs, file) = small_programs();
    for program in &programs {
        let mut outcomes = Outcomes::default();
        exercise(Program::check(program).expect("a program"), program, &file, &mut outcomes);
        assert_eq!((outcomes.run, outcomes.refused, outcomes.stopped), (1, 0, 0), "unchanged");
    }
    let mut generator = Generator::manual_seed(1);
    let mut draw = |below: u32| ((u64::from(generator.random32()) * u64::from(below.max(1))) >> 32) as u32;
    let (mut outcomes, mut panics) = (Outcomes::default(), Vec::new());
    let rounds = std::env::var("NUNATAK_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(if emulated() { 100 } else { 8000 });
    std::panic::set_hook(Box::new(|_| {}));
    for round in 0..rounds {
        let base = &programs[round % programs.len()];
        let mut bytes = base.clone();
        let mut changes = Vec::new();
        for _ in 0..1 + draw(3) {
            // Behind the first words of the header, which are checked first.
            let at = 7 + draw(bytes.len() as u32 / 4 - 7) as usize;
            let place = 4 * at..4 * at + 4;
            let old = u32::from_le_bytes(bytes[place.clone()].try_into().expect("four"));
            let new = word(old, base, &mut draw);
            bytes[place].copy_from_slice(&new.to_le_bytes());
            changes.push((at, old, new));
        }
        repair(&mut bytes);
        let ran = catch_unwind(AssertUnwindSafe(|| match Program::check(&bytes) {
            Ok(program) => exercise(program, base, &file, &mut outcomes),
            Err(_) => outcomes.refused += 1,
        }));
        if let Err(panic) = ran {
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            panics.push(format!("round {round}, program {}, {changes:?}: {}", round % programs.len(), text.unwrap_or_default()));
        }
    }
    let _ = std::panic::take_hook();
    println!("{outcomes:?}");
    assert!(panics.is_empty(), "{} panics in {rounds} rounds; the first:\n{}", panics.len(), panics[..panics.len().min(12)].join("\n"));
    assert!(outcomes.run * 10 > rounds && outcomes.refused * 10 > rounds, "{outcomes:?}");
}

/// Calls and entries of one program in another's place.
#[test]
fn spliced_programs_are_refused_or_run() {
    let (programs, file) = small_programs();
    let mut outcomes = Outcomes::default();
    for (a, b) in [(0, 1), (1, 0), (2, 3), (3, 4), (5, 0), (6, 3), (3, 6)] {
        let (a, b) = (&programs[a], &programs[b]);
        for cut in (28..a.len().min(b.len()) / 4).step_by(3) {
            let mut bytes = a[..4 * cut].to_vec();
            bytes.extend(&b[4 * cut..]);
            let words = (bytes.len() / 4) as u32;
            bytes[16..20].copy_from_slice(&words.to_le_bytes());
            repair(&mut bytes);
            match Program::check(&bytes) {
                Ok(program) => exercise(program, a, &file, &mut outcomes),
                Err(_) => outcomes.refused += 1,
            }
        }
    }
    println!("{outcomes:?}");
    assert!(outcomes.refused > 100, "{outcomes:?}");
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

/// A convolution, a normalisation and a linear layer that are used twice, or two of each with the same numbers.
fn twice<'g>(g: Scope<'g>, x: [Var<'g>; 2], shared: bool) -> [Var<'g>; 2] {
    let mut uses = 0;
    x.map(|x| {
        uses += 1;
        let (again, other) = (uses == 2 && shared, uses == 2 && !shared);
        let name = |name: &str| if other { format!("{name}_again") } else { name.to_string() };
        let conv = Conv::new(5, 3).pad(1);
        let x = g.conv2d(&name("conv"), x, if again { conv.shared() } else { conv });
        let norm = Norm::default();
        let x = g.batch_norm(&name("bn"), x, if again { norm.shared() } else { norm }).relu();
        let fc = nunatak_nn::Dense::new(4);
        g.linear(&name("fc"), x.adaptive_avg_pool(1), if again { fc.shared() } else { fc })
    })
}

/// Numbers with a name each.
type Named<T> = Vec<(String, Vec<T>)>;

/// Runs two branches on different images, for some steps; the gradients of the first.
fn run_twice(shared: bool, update: Update, level: Level, threads: Threads, steps: usize) -> (Named<f32>, Named<u32>) {
    let graph = Graph::new();
    let images = [graph.input([3, 2, 6, 6]), graph.input([3, 2, 6, 6])];
    let labels = graph.input([3, 4]);
    let [a, b] = twice(graph.root(), images, shared);
    let loss = (a * 2.0 + b).mse(labels);
    let program = Step::new(&graph).loss(loss).mode(Mode::Eval).update(update).threads(3).plan().expect("a plan");
    let mut memory = vec![0xa5; Trainer::bytes(&program)];
    let mut trainer = Trainer::new(program.view(), &mut memory, level, threads).expect("memory");
    trainer.init(3);
    if !shared {
        for name in ["conv.weight", "conv.bias", "bn.weight", "bn.bias", "fc.weight", "fc.bias"] {
            let (module, leaf) = name.split_once('.').expect("a dot");
            let numbers = nunatak_tests::param(&trainer, name);
            let again = entry(&trainer, &format!("{module}_again.{leaf}"));
            trainer.set_entry(again, &numbers).expect("set");
        }
    }
    let mut first = Vec::new();
    for step in 0..steps as u64 {
        images.iter().enumerate().for_each(|(i, x)| trainer.set_input(*x, &random(216, 10 * step + i as u64)).expect("set"));
        trainer.set_input(labels, &random(12, 99 + step)).expect("set");
        trainer.forward().expect("forward");
        if update == Update::After && step == 0 {
            trainer.backward().expect("backward");
            first = trainer.gradients().map(|id| (program.entry(id).name().to_string(), gradient(&trainer, id))).collect();
            trainer.step(Sgd { momentum: 0.9, ..Sgd::new(0.05) }).expect("a step");
            trainer.zero_grad();
        } else {
            trainer.backward_and_step(Sgd { momentum: 0.9, ..Sgd::new(0.05) }).expect("a step");
        }
    }
    (first, bits(&trainer))
}

/// The gradient of a parameter that is used twice is the sum of both, and is used up once: the same bits whenever it
/// is used up.
#[test]
fn parameters_used_twice_get_the_sum_of_both_gradients() {
    for level in Level::available() {
        let (shared, state) = run_twice(true, Update::After, level, Threads::serial(), 3);
        let (apart, _) = run_twice(false, Update::After, level, Threads::serial(), 1);
        assert_eq!((shared.len(), apart.len()), (6, 12));
        for (name, both) in &shared {
            let of = |name: &str| apart.iter().find(|(n, _)| n == name).map(|(_, g)| g).unwrap_or_else(|| panic!("{name}"));
            let (module, leaf) = name.split_once('.').expect("a dot");
            let sum = of(name).iter().zip(of(&format!("{module}_again.{leaf}"))).map(|(a, b)| f64::from(*a) + f64::from(*b));
            let sum: Vec<f64> = sum.collect();
            let d = distance(both, &sum);
            assert!(d < 2e-6, "{level} {name}: {d:.1e}");
            // Both parts count.
            let one: Vec<f64> = of(name).iter().map(|v| f64::from(*v)).collect();
            assert!(distance(both, &one) > 1e-2, "{level} {name}");
        }
        for threads in teams(&[1, 2, 3]) {
            for update in [Update::After, Update::During] {
                let (_, other) = run_twice(true, update, level, threads.clone(), 3);
                same_bits(&format!("{level} {update:?} {} threads", threads.count()), &state, &other);
            }
        }
    }
}

/// `shared` without a first use, or of another shape, and a name that is used twice without it.
#[test]
fn sharing_is_said_and_fits() {
    use nunatak_nn::Error;
    let record = |first: Option<Conv>, second: Conv| {
        let graph = Graph::new();
        let x = graph.input([1, 3, 5, 5]);
        if let Some(first) = first {
            let _ = graph.root().conv2d("conv", x, first);
        }
        let _ = graph.root().conv2d("conv", x, second);
        graph.check()
    };
    let conv = Conv::new(4, 3);
    assert_eq!(record(Some(conv), conv.shared()), Ok(()));
    assert!(matches!(record(Some(conv), conv), Err(Error::NameTaken { name }) if name.as_str() == "conv.weight"));
    assert!(matches!(record(None, conv.shared()), Err(Error::UnknownName { name }) if name.as_str() == "conv.weight"));
    for other in [Conv::new(5, 3), Conv::new(4, 1)] {
        assert!(matches!(record(Some(conv), other.shared()), Err(Error::NameTaken { .. })));
    }
    assert!(matches!(record(Some(conv.no_bias()), conv.shared()), Err(Error::UnknownName { name }) if name.as_str() == "conv.bias"));
}

/// A network in which a tensor of zeros is added to values in the middle: moving it is moving the value.
fn with_offsets(graph: &Graph) -> (ValueId, ValueId, Vec<(ValueId, ValueId, usize)>, ValueId) {
    let g = graph.root();
    let (data, classes) = (graph.input([2, 2, 8, 8]), graph.labels(2));
    let mut offsets = Vec::new();
    let mut add = |x: Var<'_>, e: Var<'_>| offsets.push((x.id(), e.id(), x.shape().len()));
    let e = [graph.input([2, 3, 8, 8]), graph.input([2, 3, 4, 4]), graph.input([2, 3, 4, 4]), graph.input([2, 4])];
    let norm = |name: &str, x| g.batch_norm(name, x, Norm::default());
    // relu behind a normalisation; a pooling, behind which a residual is added; the logits.
    let a = norm("bn1", g.conv2d("conv1", data, Conv::new(3, 3).pad(1).no_bias())).relu();
    add(a, e[0]);
    let b = (a + e[0]).max_pool(3, 2, 1);
    add(b, e[1]);
    let b = b + e[1];
    let c = (norm("bn2", g.conv2d("conv2", b, Conv::new(3, 3).pad(1).no_bias())) + b).relu();
    add(c, e[2]);
    let d = g.linear("fc", (c + e[2]).adaptive_avg_pool(1), 4);
    add(d, e[3]);
    let loss = (d + e[3]).cross_entropy(classes, CrossEntropyOptions::default());
    (data.id(), classes.id(), offsets, loss.id())
}

/// Gradients of values in the middle, against what the loss does when the value moves: fused or not, in train and in
/// eval mode, with parameters that are trained or without any.
#[test]
fn kept_gradients_are_slopes_of_the_loss() {
    let graph = Graph::new();
    let (data, classes, offsets, loss) = with_offsets(&graph);
    graph.check().expect("recorded");
    let keep: Vec<ValueId> = offsets.iter().flat_map(|(x, e, _)| [*x, *e]).collect();
    for mode in [Mode::Train, Mode::Eval] {
        for fuse in [false, true] {
            for (trainable, update) in
                [("all", Update::After), ("all", Update::During), ("all", Update::Summed), ("none", Update::After), ("fc", Update::After)]
            {
                let what = format!("{mode:?}, fused: {fuse}, {trainable} {update:?}");
                let step = Step::new(&graph).loss(loss).mode(mode).fuse(fuse).train(trainable).update(update);
                let program = step.keep_gradients(&keep).plan().expect("a plan");
                // The loss where one of the offsets is moved.
                let run = |moved: usize, by: &[f32]| {
                    let mut trainer = Trainer::owning(program.view(), Level::detect(), Threads::serial()).expect("memory");
                    trainer.init(3);
                    trainer.set_input(data, &random(256, 1)).expect("set");
                    trainer.set_labels(classes, &[2, 0]).expect("set");
                    for (i, (_, e, len)) in offsets.iter().enumerate() {
                        trainer.set_input(*e, if i == moved { by } else { &[0.0; 384][..*len] }).expect("set");
                    }
                    trainer.forward().expect("forward");
                    (f64::from(trainer.scalar(loss).expect("a loss")), trainer)
                };
                let (base, mut trainer) = run(usize::MAX, &[]);
                match update {
                    Update::After => trainer.backward().expect("backward"),
                    Update::During | Update::Summed => trainer.backward_and_step(Sgd::new(0.1)).expect("a step"),
                }
                for (i, (x, e, len)) in offsets.iter().enumerate() {
                    let [of_value, of_offset] = [x, e].map(|id| {
                        let mut room = vec![f32::NAN; *len];
                        trainer.value_gradient(*id, &mut room).expect("a gradient");
                        room
                    });
                    // One is added to the other: they have the same gradient, unless the value has another reader.
                    assert_eq!(of_value, of_offset, "{what}: value {}", x.0);
                    let norm = of_value.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
                    assert!(norm > 1e-3, "{what}: nothing to test");
                    for direction in [of_value.clone(), random(*len, 7)] {
                        let length = direction.iter().map(|d| f64::from(*d).powi(2)).sum::<f64>().sqrt();
                        let said: f64 = of_value.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d) / length).sum();
                        let steps = [8e-3, 2e-3, 5e-4];
                        let slope = |h: f64| {
                            let at = |sign: f64| {
                                let by: Vec<f32> = direction.iter().map(|d| (sign * h * f64::from(*d) / length) as f32).collect();
                                run(i, &by).0
                            };
                            (at(1.0) - at(-1.0)) / (2.0 * h)
                        };
                        let slopes = steps.map(slope);
                        let room = |h: f64| 0.02 * norm + 5e-7 * (0.1 + base.abs()) / h;
                        let agrees = steps.iter().zip(slopes).any(|(h, slope)| (slope - said).abs() <= room(*h));
                        assert!(agrees, "{what}, value {}: slopes {slopes:?}, gradient {said}, allowed {:?}", x.0, steps.map(room));
                    }
                }
            }
        }
    }
}

/// What is kept changes neither the numbers of a step nor another's gradient.
#[test]
fn keeping_gradients_changes_no_bit() {
    let graph = Graph::new();
    let x = graph.input([3, 3, 12, 12]);
    let (features, prediction) = small().record(graph.root(), x);
    let labels = graph.input([3, 5]);
    let loss = prediction.mse(labels);
    let values: Vec<ValueId> = (1..prediction.id().0).map(ValueId).collect();
    for fuse in [false, true] {
        let run = |keep: &[ValueId]| {
            let step = Step::new(&graph).loss(loss).mode(Mode::Eval).fuse(fuse).keep_gradients(keep);
            let mut trainer = Trainer::owning(step.plan().expect("a plan"), Level::detect(), Threads::serial()).expect("memory");
            trainer.init(3);
            trainer.set_input(x, &random(3 * 432, 1)).expect("set");
            trainer.set_input(labels, &random(15, 2)).expect("set");
            trainer.forward().expect("forward");
            trainer.backward().expect("backward");
            gradients(&trainer).iter().map(|g| g.to_bits()).collect::<Vec<_>>()
        };
        let due = run(&[]);
        assert_eq!(run(&[features.id()]), due);
        assert_eq!(run(&values), due, "of all values");
    }
}

/// A value whose gradient is not kept, or that has none, says so.
#[test]
fn gradients_that_are_not_there_are_errors() {
    use nunatak_nn::Error;
    let setup = training(small(), 2, 12, Loss::Sum);
    with_trainer(&setup, Level::detect(), Threads::serial(), |trainer, values| {
        Batch::random(&setup, 1).set(trainer, &values).expect("set");
        trainer.forward().expect("forward");
        trainer.backward().expect("backward");
        assert_eq!(trainer.value_gradient(values.features, &mut [0.0; 18]), Err(Error::NotKept));
    });
    let graph = Graph::new();
    let x = graph.input([2, 3]);
    let y = graph.root().linear("fc", x, 2);
    let program = Step::new(&graph).loss(y.sum()).keep_gradients(&[x.id(), y.id()]).plan().expect("a plan");
    let mut trainer = Trainer::owning(program, Level::detect(), Threads::serial()).expect("memory");
    trainer.init(0);
    trainer.set_input(x, &[1.0; 6]).expect("set");
    assert_eq!(trainer.value_gradient(x, &mut [0.0; 6]), Err(Error::NoGradients));
    trainer.forward().expect("forward");
    assert_eq!(trainer.value_gradient(x, &mut [0.0; 6]), Err(Error::NoGradients));
    trainer.backward().expect("backward");
    let mut dx = [f32::NAN; 6];
    trainer.value_gradient(x, &mut dx).expect("kept");
    let w = nunatak_tests::param(&trainer, "fc.weight");
    let due: Vec<f32> = (0..3).map(|i| w[i] + w[3 + i]).collect();
    assert!(dx.chunks(3).all(|row| row.iter().zip(&due).all(|(a, b)| (a - b).abs() < 1e-6)), "{dx:?} {due:?}");
    assert!(matches!(trainer.value_gradient(x, &mut [0.0; 5]), Err(Error::Length { expected: 6, got: 5, .. })));
    let entries = trainer.program().entries().filter(|id| trainer.program().entry(*id).kind() == EntryKind::Parameter);
    assert_eq!(entries.count(), 2);
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
