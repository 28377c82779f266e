//! Weights in place: the same bits as with weights in the block, in less memory; deltas that restore
//! what was trained, over their own base alone.

use nunatak_core::rng::Generator;
use nunatak_nn::files::Checkpoint;
use nunatak_nn::files::Head;
use nunatak_nn::files::native::NativeErrorKind;
use nunatak_nn::files::save::Save;
use nunatak_nn::files::state::StateError;
use nunatak_nn::{
    CrossEntropyOptions, Error, Level, Loss, Mode, Native, NormPolicy, Optimizer, Program, Recipe, Sgd, Threads, Trainer, Update,
};
use nunatak_tests::{Batch, Flash, Setup, bits, bytes, entry, names_of_gradients, param, plan, same_bits, saved, small, teams, training};

fn optimizer() -> Optimizer<'static> {
    Optimizer::new(Sgd { momentum: 0.9, weight_decay: 1e-3, ..Sgd::new(0.02) }).expect("settings")
}

fn base() -> Setup<'static> {
    training(small(), 4, 14, Loss::CrossEntropy(CrossEntropyOptions::default()))
}

fn with(trainable: &'static str, policy: NormPolicy) -> Setup<'static> {
    Setup { trainable, norm_policy: policy, ..base() }
}

fn in_place<'a>(setup: &Setup<'a>, file: &'a Flash) -> Setup<'a> {
    Setup { weights: Some(file.native()), ..*setup }
}

/// Bytes that a program reads where the file lies.
fn borrowed_bytes(program: &Program) -> usize {
    let entries = program.entries().map(|id| program.entry(id));
    entries.filter(|entry| entry.is_borrowed()).map(|entry| 4 * entry.place().len()).sum()
}

/// A trained network of this recipe in flash.
fn flash(recipe: Recipe, seed: u64) -> Flash {
    let setup = Setup { recipe, trainable: "all", ..base() };
    let mut memory = vec![0; bytes(&setup)];
    let mut trainer = Trainer::new(plan(&setup).0, &mut memory, Level::detect(), Threads::serial()).expect("memory");
    trainer.init(seed);
    step(&mut trainer, &setup, seed);
    Flash::new(&saved(&trainer, Save::Network))
}

fn step(trainer: &mut Trainer, setup: &Setup, seed: u64) {
    // What has once been in the block stays there: it may have been trained.
    let program = trainer.program();
    let entries = program.entries().map(|id| program.entry(id));
    let held: Vec<String> = entries.filter(|entry| !entry.is_borrowed()).map(|entry| entry.name().to_string()).collect();
    let hold = |name: &str| held.iter().any(|held| held == name);
    let (program, values) = plan(&Setup { hold: Some(&hold), ..*setup });
    trainer.switch(program).expect("switch");
    Batch::random(setup, seed).set(trainer, &values).expect("set");
    trainer.forward().expect("forward");
    if trainer.trains() {
        trainer.backward_and_step(optimizer()).expect("step");
    }
}

fn with_weights<'m>(setup: &Setup, memory: &'m mut [u8], file: &Native<'m>, threads: Threads) -> Trainer<'m> {
    Trainer::with_weights(plan(setup).0, memory, *file, Level::detect(), threads).expect("weights")
}

/// A life of many changes in place is bit for bit the same as one with everything in the block.
#[test]
fn in_place_gives_the_bits_of_the_block() {
    let flash = flash(small(), 3);
    let (updating, fixed) = (NormPolicy::Updating, NormPolicy::Fixed);
    let eval = |names| Setup { mode: Mode::Eval, loss: Loss::None, ..with(names, updating) };
    let lives = [
        vec![with("fc", updating), eval("fc"), with("fc", updating)],
        vec![with("fc", fixed), eval("fc"), with("layer3,fc", fixed), with("fc", fixed), eval("fc")],
        vec![eval("fc"), with("layer2", fixed), with("fc", updating), base(), with("conv1,bn1", updating)],
        vec![Setup { update: Update::During, ..with("layer3,fc", fixed) }, Setup { batch: 2, ..with("layer1.0.bn1", fixed) }],
    ];
    for life in lives {
        let bytes = life.iter().map(bytes).max().expect("plans");
        for threads in teams(&[1, 2, 3]) {
            let count = threads.count();
            let planned = |s: &Setup<'static>| Setup { threads: 3, ..*s };
            let first = planned(&life[0]);
            let (mut a, mut b) = (vec![0x3c; 2 * bytes], vec![0xc3; 2 * bytes]);
            let mut copied = with_weights(&first, &mut a, &flash.native(), threads.clone());
            let mut lent = with_weights(&in_place(&first, &flash), &mut b, &flash.native(), threads);
            assert!(borrowed_bytes(lent.program()) > 0 && borrowed_bytes(copied.program()) == 0);
            for (i, setup) in life.iter().map(planned).enumerate() {
                step(&mut copied, &setup, i as u64);
                step(&mut lent, &in_place(&setup, &flash), i as u64);
                same_bits(&format!("step {i}, {count} threads"), &bits(&copied), &bits(&lent));
            }
        }
    }
}

/// Only what is trained is in the block, and one byte less than planned is an error.
#[test]
fn only_what_is_trained_takes_room() {
    let flash = flash(small(), 3);
    for policy in [NormPolicy::Updating, NormPolicy::Fixed] {
        let setup = with("fc", policy);
        let (copied, _) = plan(&setup);
        let (lent, _) = plan(&in_place(&setup, &flash));
        let [[_, all_statistics, momentum, gradients, ..], [weights, statistics, lent_momentum, lent_gradients, ..]] =
            [copied.busiest_bytes(), lent.busiest_bytes()];
        // fc: 9 x 16 numbers in one block, and a bias of 5.
        assert_eq!(weights, 4 * (144 + 16));
        assert_eq!(statistics > 0, policy == NormPolicy::Updating);
        assert_eq!(statistics, if policy == NormPolicy::Updating { all_statistics } else { 0 });
        assert!(lent.block_len() < copied.block_len() && borrowed_bytes(&lent) > 0 && borrowed_bytes(&copied) == 0);
        assert_eq!((gradients, momentum), (lent_gradients, lent_momentum));
        let needed = Trainer::bytes(&lent);
        for (less, fits) in [(0, true), (1, false)] {
            let mut memory = vec![0; needed - less];
            let trainer = Trainer::with_weights(lent.clone(), &mut memory, flash.native(), Level::detect(), Threads::serial());
            let due = nunatak_core::Error::ArenaTooSmall { needed, given: needed - less };
            assert_eq!(trainer.err(), if fits { None } else { Some(Error::Core(due)) });
        }
    }
}

/// What is read in place can't be written, and the file is not changed by anything.
#[test]
fn what_is_lent_is_read_only() {
    let flash = flash(small(), 3);
    let before = flash.bytes().to_vec();
    let setup = in_place(&with("fc", NormPolicy::Fixed), &flash);
    let mut memory = vec![0; bytes(&setup)];
    assert_eq!(
        Trainer::new(plan(&setup).0, &mut memory, Level::detect(), Threads::serial()).err(),
        Some(Error::NeedsWeights),
        "a plan in place without weights"
    );
    let mut trainer = with_weights(&setup, &mut memory, &flash.native(), Threads::serial());
    for name in ["layer1.0.conv1.weight", "bn1.running_mean", "layer1.0.bn1.running_var"] {
        let numbers = param(&trainer, name);
        assert!(numbers.iter().any(|v| *v != 0.0));
        assert!(matches!(trainer.set_entry(entry(&trainer, name), &numbers), Err(Error::ReadOnly { .. })));
    }
    assert!(matches!(trainer.load_native(&flash.native(), false), Err(Error::ReadOnly { .. })));
    let file = Checkpoint::parse(flash.bytes()).expect("a checkpoint");
    assert!(matches!(trainer.load(&file, Head::Load), Err(StateError::Trainer(Error::ReadOnly { .. }))));

    // A seed means the same for what it does initialise.
    let all = Setup { trainable: "all", ..with("none", NormPolicy::Fixed) };
    let mut other = vec![0; bytes(&all)];
    let mut whole = Trainer::new(plan(&all).0, &mut other, Level::detect(), Threads::serial()).expect("memory");
    trainer.init(11);
    whole.init(11);
    let head = |t: &Trainer| bits(t).into_iter().filter(|(name, _)| name.starts_with("fc.")).collect::<Vec<_>>();
    same_bits("fc", &head(&whole), &head(&trainer));
    step(&mut trainer, &setup, 1);
    assert!(before == flash.bytes(), "the weights were written to");
}

/// A new head over a backbone that is read in place, as the tutorial ends.
#[test]
fn a_new_head_stands_on_borrowed_weights() {
    let flash = flash(small(), 3);
    let recipe = small().with_classes(3);
    let setup = Setup { recipe, trainable: "head", ..base() };
    let mut memory = vec![0x77; bytes(&in_place(&setup, &flash))];
    let mut trainer = with_weights(&in_place(&setup, &flash), &mut memory, &flash.native(), Threads::serial());
    assert!(param(&trainer, "fc.weight").iter().all(|v| *v == 0.0), "zero until it is set");
    trainer.init_head(&mut Generator::manual_seed(5));
    step(&mut trainer, &in_place(&setup, &flash), 2);

    let mut other = vec![0x11; bytes(&setup)];
    let mut copied = with_weights(&setup, &mut other, &flash.native(), Threads::serial());
    copied.init_head(&mut Generator::manual_seed(5));
    step(&mut copied, &setup, 2);
    same_bits("with a new head", &bits(&copied), &bits(&trainer));

    // A frozen head that the file has not is in the block too, and waits to be set.
    let frozen = in_place(&Setup { trainable: "none", ..setup }, &flash);
    let mut memory = vec![0x77; bytes(&setup)];
    let mut trainer = with_weights(&frozen, &mut memory, &flash.native(), Threads::serial());
    assert!(param(&trainer, "fc.weight").iter().all(|v| *v == 0.0), "zero until it is set");
    trainer.set_entry(entry(&trainer, "fc.weight"), &[0.5; 27]).expect("can be set");
}

/// Unfreezing needs room; without it nothing changes, and the step can be finished.
#[test]
fn unfreezing_without_room_changes_nothing() {
    let flash = flash(small(), 3);
    let setup = in_place(&with("fc", NormPolicy::Updating), &flash);
    let mut memory = vec![0; bytes(&setup)];
    let mut trainer = with_weights(&setup, &mut memory, &flash.native(), Threads::serial());
    step(&mut trainer, &setup, 1);
    let (program, values) = plan(&setup);
    trainer.switch(program).expect("switch");
    Batch::random(&setup, 2).set(&mut trainer, &values).expect("set");
    trainer.forward().expect("forward");
    trainer.backward().expect("backward");
    let before = bits(&trainer);
    let more = plan(&in_place(&with("layer3,fc", NormPolicy::Updating), &flash)).0;
    let needed = Trainer::bytes(&more);
    let error = trainer.switch(more).expect_err("too large");
    assert!(matches!(error, Error::Core(nunatak_core::Error::ArenaTooSmall { needed: n, .. }) if n == needed), "{error}");
    same_bits("after a refused plan", &before, &bits(&trainer));
    assert_eq!(names_of_gradients(&trainer), ["fc.weight", "fc.bias"]);
    trainer.step(optimizer()).expect("step");
}

/// A delta over its base is the trained network, bit for bit, whatever the plan that reads it.
#[test]
fn deltas_restore_what_was_trained() {
    let flash = flash(small(), 3);
    for (names, policy) in [("fc", NormPolicy::Fixed), ("fc", NormPolicy::Updating), ("layer3,fc", NormPolicy::Updating)] {
        let setup = in_place(&with(names, policy), &flash);
        let mut memory = vec![0; bytes(&setup)];
        let mut trainer = with_weights(&setup, &mut memory, &flash.native(), Threads::serial());
        (0..3).for_each(|i| step(&mut trainer, &setup, i));
        let trained: Vec<_> = bits(&trainer).into_iter().filter(|(name, _)| !name.starts_with("momentum.")).collect();
        let delta = Flash::new(&saved(&trainer, Save::Delta));
        let native = delta.native();
        assert_eq!((native.verify(), native.base()), (Ok(()), Some(flash.native().hash())));
        let statistics = native.tensors().filter(|t| t.name().contains("running")).count();
        assert_eq!(statistics > 0, policy == NormPolicy::Updating, "statistics that did not move are not saved");

        // Over a copy of everything, over weights in place for the same step, and for inference alone.
        let inference = in_place(&Setup::inference(small(), 2, 10, 10), &flash);
        for setup in [setup, with(names, policy), inference] {
            let hold = |name: &str| native.tensor(name).is_some();
            let (program, _) = plan(&Setup { hold: Some(&hold), ..setup });
            let mut memory = vec![0x99; Trainer::bytes(&program)];
            let mut trainer =
                Trainer::with_weights(program, &mut memory, flash.native(), Level::detect(), Threads::serial()).expect("weights");
            trainer.load_delta(&native).expect("its base");
            same_bits("the delta over its base", &trained, &bits(&trainer));
            assert!(bits(&trainer).iter().all(|(name, _)| !name.starts_with("momentum")));
        }
        // The whole network, saved from what lies in two files, is the same network.
        let whole = Flash::new(&saved(&trainer, Save::Network));
        let mut memory = vec![0; bytes(&base())];
        let copy = with_weights(&base(), &mut memory, &whole.native(), Threads::serial());
        same_bits("saved whole", &trained, &bits(&copy));
    }
}

#[test]
fn deltas_belong_to_their_base() {
    let (flash, other) = (flash(small(), 3), flash(small(), 4));
    let setup = in_place(&with("fc", NormPolicy::Updating), &flash);
    let mut memory = vec![0; bytes(&setup)];
    let mut trainer = with_weights(&setup, &mut memory, &flash.native(), Threads::serial());
    step(&mut trainer, &setup, 1);
    let delta = Flash::new(&saved(&trainer, Save::Delta));
    let delta = delta.native();

    let mut room = vec![0; bytes(&setup)];
    let mut on_other = with_weights(&in_place(&setup, &other), &mut room, &other.native(), Threads::serial());
    let before = bits(&on_other);
    let error = on_other.load_delta(&delta).expect_err("another base");
    assert_eq!(error, Error::WrongBase { expected: flash.native().hash(), got: other.native().hash() });
    let text = error.to_string();
    assert!(text.contains(&flash.native().hash().to_string()) && text.contains(&other.native().hash().to_string()), "{text}");
    same_bits("after a refused delta", &before, &bits(&on_other));

    assert!(matches!(on_other.load_delta(&other.native()), Err(Error::Delta(_))), "a whole network is no delta");
    let whole = Setup { weights: None, ..setup };
    let mut room = vec![0; bytes(&whole)];
    let error = Trainer::with_weights(plan(&whole).0, &mut room, delta, Level::detect(), Threads::serial()).err();
    assert!(matches!(error, Some(Error::Delta(_))), "a delta is no base: {error:?}");
    // A trainer without weights below has nothing to lay it over, and can save none.
    let mut room = vec![0; bytes(&base())];
    let mut alone = Trainer::new(plan(&base()).0, &mut room, Level::detect(), Threads::serial()).expect("memory");
    alone.init(1);
    assert!(matches!(alone.load_delta(&delta), Err(Error::Delta(_))));
    assert!(matches!(alone.saving(Save::Delta, &[]).err(), Some(Error::Delta(_))));
    // Its statistics have no room in a plan that does not move them.
    let fixed = in_place(&with("fc", NormPolicy::Fixed), &flash);
    let mut room = vec![0; bytes(&fixed)];
    let mut narrow = with_weights(&fixed, &mut room, &flash.native(), Threads::serial());
    assert!(matches!(narrow.load_delta(&delta), Err(Error::ReadOnly { .. })));
    // One bit of it changed is found before anything is loaded.
    let mut bytes = delta.bytes().to_vec();
    let at = delta.tensor("fc.weight").expect("there").offset();
    bytes[at] ^= 1;
    let damaged = Flash::new(&bytes);
    let error = trainer.load_delta(&damaged.native());
    assert!(matches!(error, Err(Error::Native(e)) if e.kind == NativeErrorKind::TensorChecksum), "{error:?}");
}

#[test]
fn other_weights_are_refused() {
    let flash = flash(small(), 3);
    let setup = in_place(&with("fc", NormPolicy::Fixed), &flash);
    let mut memory = vec![0; 1 << 20];
    // Bytes that begin elsewhere.
    for off in [1, 2, 4, 8, 16, 32] {
        let mut room = vec![0; off];
        room.extend_from_slice(flash.bytes());
        let room = Flash::new(&room);
        let file = Native::parse(&room.bytes()[off..]).expect("can be read anywhere");
        let error = Trainer::with_weights(plan(&setup).0, &mut memory, file, Level::detect(), Threads::serial()).err();
        let Some(Error::Native(e)) = error else { panic!("{error:?}") };
        assert_eq!(e.kind, NativeErrorKind::Misaligned { off });
        // They can be copied.
        let copied = Setup { weights: None, ..setup };
        assert!(Trainer::with_weights(plan(&copied).0, &mut memory, file, Level::detect(), Threads::serial()).is_ok());
    }
    // A network of other widths, planned in place or not.
    let wider = Setup { recipe: Recipe::resnet8(5), trainable: "head", ..setup };
    let other = |error: Option<Error>| matches!(error, Some(Error::NotInWeights { name }) if name.as_str() == "conv1.weight");
    assert!(other(wider.plan().err()));
    let (program, _) = plan(&Setup { weights: None, ..wider });
    assert!(other(Trainer::with_weights(program, &mut memory, flash.native(), Level::detect(), Threads::serial()).err()));
    // A program that was planned for another file of the same network.
    let another = self::flash(small(), 4);
    let error = Trainer::with_weights(plan(&setup).0, &mut memory, another.native(), Level::detect(), Threads::serial()).err();
    assert_eq!(error, Some(Error::WrongBase { expected: flash.native().hash(), got: another.native().hash() }));
    // What lies in the block can't be read in the file any more.
    let mut memory = vec![0; 1 << 20];
    let mut trainer = with_weights(&Setup { weights: None, ..setup }, &mut memory, &flash.native(), Threads::serial());
    let error = trainer.switch(plan(&setup).0);
    assert!(matches!(error, Err(Error::HeldInBlock { name }) if name.as_str() == "conv1.weight"), "{error:?}");
}

/// A native file is a checkpoint like any other.
#[test]
fn native_files_are_checkpoints() {
    let flash = flash(small(), 3);
    let file = Checkpoint::parse(flash.bytes()).expect("a checkpoint");
    assert_eq!(nunatak_nn::files::state::recipe_of(&file).expect("a network"), small());
    let mut memory = vec![0; bytes(&base())];
    let mut trainer = Trainer::new(plan(&base()).0, &mut memory, Level::detect(), Threads::serial()).expect("memory");
    trainer.load(&file, Head::Load).expect("loads");
    let mut other = vec![0; bytes(&base())];
    let direct = with_weights(&base(), &mut other, &flash.native(), Threads::serial());
    same_bits("through a checkpoint", &bits(&direct), &bits(&trainer));
    assert!(saved(&trainer, Save::Network) == flash.bytes(), "one content, one file");

    // And the writer that takes PyTorch's order writes the same file.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.nunatak");
    let hash = nunatak_nn::files::write_native(&path, trainer.program(), &trainer.state().views(), &Default::default());
    assert_eq!(hash.expect("written"), flash.native().hash());
    assert!(std::fs::read(&path).expect("read") == flash.bytes());
    let mapped = nunatak_nn::files::Mapped::open(&path).expect("mapped");
    let native = Native::parse(mapped.bytes()).expect("a native file");
    assert!(native.in_place().is_ok() && native.hash() == flash.native().hash());
}
