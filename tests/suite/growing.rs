//! A class is added to a trained head: old rows and their momentum keep their bits, wherever they must move.

use nunatak_core::rng::Generator;
use nunatak_nn::files::save::Save;
use nunatak_nn::{CrossEntropyOptions, Error, Level, Loss, Mode, NewClass, NormPolicy, Recipe, Sgd, Threads, Trainer, Update};
use nunatak_tests::{Batch, Flash, Setup, bits, bytes, entry, numbers, param, plan, random, same_bits, saved, small, training};

type Bits = Vec<(String, Vec<u32>)>;

fn settings() -> Sgd {
    Sgd { momentum: 0.9, weight_decay: 1e-3, ..Sgd::new(0.02) }
}

fn of(classes: usize, trainable: &'static str) -> Setup<'static> {
    let loss = Loss::CrossEntropy(CrossEntropyOptions::default());
    Setup { trainable, ..training(small().with_classes(classes), 3, 14, loss) }
}

fn step(trainer: &mut Trainer, setup: &Setup, seed: u64) {
    Batch::random(setup, seed).set(trainer, &plan(setup).1).expect("set");
    trainer.forward().expect("forward");
    match setup.update {
        Update::Summed => trainer.accumulate(1.0, settings()).and_then(|()| trainer.step(settings())).expect("step"),
        _ => trainer.backward_and_step(settings()).expect("step"),
    }
}

/// The head's entries cut to the rows of `classes`; everything else as it is.
fn cut(all: Bits, classes: usize) -> Bits {
    let per_row = |name: &str| if name.ends_with("fc.weight") { 9 } else { 1 };
    all.into_iter()
        .map(|(name, b)| if name.contains("fc.") { (name.clone(), b[..classes * per_row(&name)].to_vec()) } else { (name, b) })
        .collect()
}

/// The logits of a batch of random images, image by image.
fn logits(trainer: &mut Trainer, setup: &Setup) -> Vec<Vec<u32>> {
    let values = plan(setup).1;
    trainer.set_input(values.data, &random(setup.batch * 3 * setup.height * setup.width, 77)).expect("images");
    trainer.forward().expect("forward");
    let mut out = vec![0.0; setup.batch * setup.recipe.classes];
    trainer.value(values.prediction, &mut out).expect("logits");
    out.chunks(setup.recipe.classes).map(|row| row.iter().map(|v| v.to_bits()).collect()).collect()
}

/// Sizes at which the layout of the head's weight changes, and others.
const GROWTHS: [(usize, usize); 10] = [(5, 6), (1, 2), (15, 16), (16, 17), (31, 33), (32, 33), (47, 48), (48, 49), (2, 130), (64, 65)];

#[test]
fn old_rows_and_their_momentum_keep_their_bits() {
    for (old, new) in GROWTHS {
        for (trained, then) in [("all", "all"), ("fc", "fc"), ("all", "fc"), ("layer3,fc", "all")] {
            for update in [Update::After, Update::During, Update::Summed] {
                let (before, after) = (Setup { update, ..of(old, trained) }, Setup { update, batch: 2, ..of(new, then) });
                let mut memory = vec![0x5a; bytes(&before).max(bytes(&after))];
                let mut trainer = Trainer::new(plan(&before).0, &mut memory, Level::detect(), Threads::serial()).expect("memory");
                trainer.init(7);
                (1..3).for_each(|seed| step(&mut trainer, &before, seed));
                let was = bits(&trainer);
                trainer.add_class(plan(&after).0, NewClass::Drawn(&mut Generator::manual_seed(3))).expect("a class more");
                let what = format!("{old} to {new}, {trained} then {then}, {update:?}");
                let is = bits(&trainer);
                // What is frozen from now on has no momentum any more.
                let kept: Bits = was.into_iter().filter(|(name, _)| is.iter().any(|(n, _)| n == name)).collect();
                assert!(kept.iter().any(|(name, _)| name == "momentum.fc.weight"), "{what}");
                same_bits(&what, &kept, &cut(is.clone(), old));
                let new_momentum = is
                    .iter()
                    .filter(|(n, _)| n.starts_with("momentum.fc."))
                    .flat_map(|(n, b)| &b[if n.ends_with("weight") { 9 * old } else { old }..]);
                assert!(new_momentum.into_iter().all(|b| *b == 0), "{what}");
                // As a trainer of as many classes that was given the same numbers by its doors.
                let mut other = vec![0xa5; bytes(&after)];
                let mut fresh = Trainer::new(plan(&after).0, &mut other, Level::detect(), Threads::serial()).expect("memory");
                fresh.init(8);
                carry(&trainer, &mut fresh);
                step(&mut trainer, &after, 4);
                step(&mut fresh, &after, 4);
                same_bits(&format!("{what}: a step later"), &bits(&fresh), &bits(&trainer));
            }
        }
    }
}

/// Everything that lasts, by the public doors.
fn carry(from: &Trainer, to: &mut Trainer) {
    for id in from.program().entries() {
        if from.program().entry(id).kind() == nunatak_nn::EntryKind::Count {
            to.set_count(id, from.count(id));
            continue;
        }
        to.set_entry(id, &numbers(from, id)).expect("numbers");
        let mut momentum = vec![0.0; from.program().entry(id).numbers()];
        if from.momentum(id, &mut momentum).is_ok() {
            to.set_momentum(id, &momentum).expect("momentum");
        }
    }
}

#[test]
fn old_classes_have_the_logits_of_before() {
    let eval = |classes| Setup { mode: Mode::Eval, loss: Loss::None, ..of(classes, "none") };
    for level in Level::available() {
        for (old, new) in GROWTHS {
            let (before, after) = (eval(old), eval(new));
            let mut trainer = Trainer::owning(plan(&before).0, level, Threads::serial()).expect("memory");
            trainer.init(7);
            let was = logits(&mut trainer, &before);
            // Its own memory grows.
            trainer.add_class(plan(&after).0, NewClass::Zero).expect("a class more");
            let is = logits(&mut trainer, &after);
            for (was, is) in was.iter().zip(&is) {
                assert_eq!(was[..], is[..old], "{old} to {new} {level}");
                assert!(is[old..].iter().all(|b| f32::from_bits(*b) == 0.0), "zero rows have zero logits");
            }
        }
    }
}

/// The new rows are those that PyTorch's `Linear` of all classes has at the same places, or those that were given.
#[test]
fn new_rows_begin_as_asked() {
    let (before, after) = (of(5, "fc"), of(7, "fc"));
    let mut trainer = Trainer::owning(plan(&before).0, Level::detect(), Threads::serial()).expect("memory");
    trainer.init(7);
    let (weight, bias) = (param(&trainer, "fc.weight"), param(&trainer, "fc.bias"));
    let mut generator = Generator::manual_seed(11);
    trainer.add_class(plan(&after).0, NewClass::Drawn(&mut generator)).expect("two classes more");
    let mut whole = Trainer::owning(plan(&after).0, Level::detect(), Threads::serial()).expect("memory");
    let mut due = Generator::manual_seed(11);
    whole.init_head(&mut due);
    assert_eq!(generator.draws(), due.draws());
    assert_eq!(param(&trainer, "fc.weight"), [&weight[..], &param(&whole, "fc.weight")[5 * 9..]].concat());
    assert_eq!(param(&trainer, "fc.bias"), [&bias[..], &param(&whole, "fc.bias")[5..]].concat());

    let after = of(8, "fc");
    let (weight, bias) = (param(&trainer, "fc.weight"), param(&trainer, "fc.bias"));
    let row: Vec<f32> = (0..10).map(|i| i as f32 / 4.0 - 1.0).collect();
    for wrong in [&row[1..], &[&row[..], &[0.0]].concat()[..], &[]] {
        let error = trainer.add_class(plan(&after).0, NewClass::Given(wrong));
        assert!(matches!(error, Err(Error::Length { expected: 10, got, .. }) if got == wrong.len()), "{error:?}");
    }
    trainer.add_class(plan(&after).0, NewClass::Given(&row)).expect("a class more");
    assert_eq!(param(&trainer, "fc.weight"), [&weight[..], &row[..9]].concat());
    assert_eq!(param(&trainer, "fc.bias"), [&bias[..], &row[9..]].concat());
}

/// The rows of a head that was read in place move into the block.
#[test]
fn a_head_that_was_read_in_place_grows() {
    let base = of(5, "fc");
    let mut trainer = Trainer::owning(plan(&base).0, Level::detect(), Threads::serial()).expect("memory");
    trainer.init(9);
    let flash = Flash::new(&saved(&trainer, Save::Network));
    let before = Setup { mode: Mode::Eval, loss: Loss::None, trainable: "none", weights: Some(flash.native()), ..base };
    let after = Setup { weights: Some(flash.native()), norm_policy: NormPolicy::Fixed, ..of(17, "fc") };
    let mut memory = vec![0; bytes(&before).max(bytes(&after))];
    let mut trainer =
        Trainer::with_weights(plan(&before).0, &mut memory, flash.native(), Level::detect(), Threads::serial()).expect("weights");
    assert!(trainer.program().entry(entry(&trainer, "fc.weight")).is_borrowed());
    let was = bits(&trainer);
    trainer.add_class(plan(&after).0, NewClass::Drawn(&mut Generator::manual_seed(3))).expect("classes more");
    assert!(!trainer.program().entry(entry(&trainer, "fc.weight")).is_borrowed());
    same_bits("in place", &was, &cut(bits(&trainer), 5));
    step(&mut trainer, &after, 1);
}

#[test]
fn what_adds_no_class_is_refused_and_changes_nothing() {
    let setup = of(5, "all");
    let mut memory = vec![0; bytes(&of(6, "all"))];
    let mut trainer = Trainer::new(plan(&setup).0, &mut memory, Level::detect(), Threads::serial()).expect("memory");
    trainer.init(7);
    step(&mut trainer, &setup, 1);
    let was = bits(&trainer);
    let mut refused = |setup: &Setup| trainer.add_class(plan(setup).0, NewClass::Zero).expect_err("no class");
    for same_or_fewer in [of(5, "fc"), of(4, "fc")] {
        assert!(matches!(refused(&same_or_fewer), Error::NoNewClass(_)));
    }
    for other in [Recipe::resnet8(6), small().with_classes(0)] {
        assert_eq!(refused(&Setup { recipe: other, trainable: "all", ..setup }), Error::OtherNetwork);
    }
    assert!(matches!(refused(&Setup { batch: 64, ..of(6, "all") }), Error::Core(nunatak_core::Error::ArenaTooSmall { .. })));
    same_bits("after refusals", &was, &bits(&trainer));
    trainer.add_class(plan(&of(6, "all")).0, NewClass::Zero).expect("just enough memory");

    // In the middle of a step whose gradients are in the momentum.
    let setup = Setup { update: Update::Summed, ..of(5, "fc") };
    let mut trainer = Trainer::owning(plan(&setup).0, Level::detect(), Threads::serial()).expect("memory");
    trainer.init(7);
    Batch::random(&setup, 1).set(&mut trainer, &plan(&setup).1).expect("set");
    trainer.forward().expect("forward");
    trainer.accumulate(0.5, settings()).expect("half a step");
    let more = || plan(&Setup { update: Update::Summed, ..of(6, "fc") }).0;
    assert!(matches!(trainer.add_class(more(), NewClass::Zero), Err(Error::SumsInMomentum(_))));
    trainer.step(settings()).expect("the step's end");
    trainer.add_class(more(), NewClass::Zero).expect("a class more");
}

/// A trainer's own memory has no room for a larger program: an error, and no number outside of it is touched.
#[test]
fn a_switch_is_told_how_large_owned_memory_is() {
    let mut trainer = Trainer::owning(plan(&of(5, "fc")).0, Level::detect(), Threads::serial()).expect("memory");
    let larger = plan(&Setup { batch: 4, ..of(5, "fc") }).0;
    assert!(matches!(trainer.switch(larger), Err(Error::Core(nunatak_core::Error::ArenaTooSmall { .. }))));
}
