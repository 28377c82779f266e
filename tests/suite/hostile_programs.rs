//! Changed and spliced programs are refused, or run without a panic and without leaving their block.

use nunatak_core::program::{Flags, Program, ValueRecord, checksum};
use nunatak_core::rng::Generator;
use nunatak_nn::files::save::Save;
use nunatak_nn::step::{Summary, call_counts};
use nunatak_nn::{
    Conv, CrossEntropyOptions, Graph, Level, Loss, Memory, Mode, Norm, NormPolicy, Recipe, Sgd, Step, Threads, Trainer, Update, ValueId,
};
use nunatak_tests::{Flash, STEM, Setup, emulated, plan, random, saved, training, with_trainer};
use std::panic::{AssertUnwindSafe, catch_unwind};

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
    let all = Setup { height: 8, ..training(recipe, 2, 8, Loss::CrossEntropy(CrossEntropyOptions::default())) };
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
    programs.push(again());
    let file = with_trainer(&plain, Level::PORTABLE, Threads::serial(), |trainer, _| Flash::new(&saved(trainer, Save::Network)));
    let in_place = Setup { trainable: "layer3,fc", norm_policy: NormPolicy::Fixed, weights: Some(file.native()), ..plain };
    programs.push(plan(&in_place).0.bytes().to_vec());
    (programs, file)
}

/// Convolution, normalisation, pooling and dropout that are computed again in the backward walk.
fn again() -> Vec<u8> {
    let graph = Graph::new();
    let (data, classes) = (graph.input([2, 3, 4, 4]), graph.labels(2));
    let g = graph.root();
    let x = g.batch_norm("bn1", g.conv2d("conv1", data, Conv::new(4, 3).pad(1).no_bias()), Norm::default()).relu();
    let y = g.batch_norm("bn2", g.conv2d("conv2", x, Conv::new(4, 3).pad(1).no_bias()), Norm::default());
    let y = (x + y).relu().max_pool(2, 2, 0).dropout(0.5);
    let loss = g.linear("fc", y.flatten(), 4).cross_entropy(classes, CrossEntropyOptions::default());
    let every: Vec<ValueId> = (0..=loss.id().0).map(ValueId).collect();
    let program = Step::new(&graph).loss(loss).update(Update::During).again(&every).plan().expect("a plan");
    assert!(program.backward().any(|call| call.is_again()));
    program.bytes().to_vec()
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
