//! Features once: steps from features that were kept have the bits of steps from images, and an image's features do not
//! depend on what else is in its batch.

use nunatak_core::rng::Generator;
use nunatak_nn::files::ring::{Flash, Ring};
use nunatak_nn::files::save::Save;
use nunatak_nn::{
    Algorithm, Conv, CrossEntropyOptions, Error, Graph, Level, Loss, Memory, Mode, NewClass, NormPolicy, Recipe, Sgd, Step, Threads,
    Trainer, Update, Usual,
};
use nunatak_tests::{Batch, Flash as Flash64, Setup, bits, emulated, plan, random, same_bits, saved, small, training, with_trainer};

/// The head alone is trained, on what is fixed below it.
fn head(recipe: Recipe, batch: usize, size: usize) -> Setup<'static> {
    let loss = Loss::CrossEntropy(CrossEntropyOptions::default());
    Setup { trainable: "head", norm_policy: NormPolicy::Fixed, ..training(recipe, batch, size, loss) }
}

fn numbers(trainer: &Trainer, value: nunatak_nn::ValueId) -> Vec<f32> {
    let (_, found) = trainer.program().value_of_node(value.0).expect("a value");
    let mut out = vec![f32::NAN; found.shape().into_iter().product()];
    trainer.value(value, &mut out).expect("it is kept");
    out
}

#[test]
fn steps_from_features_have_the_bits_of_steps_from_images() {
    for (recipe, batch, size) in [(small(), 4, 19), (Recipe::resnet8(10), 3, 32)] {
        for update in [Update::After, Update::During, Update::Summed] {
            for level in Level::available() {
                let setup = Setup { update, threads: 2, ..head(recipe, batch, size) };
                let run = |once: bool| {
                    with_trainer(&setup, level, Threads::serial(), |trainer, values| {
                        let optimizer = Sgd { momentum: 0.9, ..Sgd::new(0.1) };
                        let step = |trainer: &mut Trainer| {
                            trainer.forward().expect("forward");
                            let prediction = numbers(trainer, values.prediction).iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                            match update {
                                Update::Summed => {
                                    trainer.accumulate(1.0, optimizer).and_then(|()| trainer.step(optimizer)).expect("a step")
                                }
                                _ => trainer.backward_and_step(optimizer).expect("a step"),
                            }
                            prediction
                        };
                        // Two batches, each three times.
                        let batches = [Batch::random(&setup, 1), Batch::random(&setup, 2)];
                        let (mut kept, mut seen): (Vec<Vec<f32>>, _) = (Vec::new(), Vec::new());
                        for turn in 0..3 {
                            for (i, batch) in batches.iter().enumerate() {
                                match once && turn > 0 {
                                    true => trainer.set_value(values.features, &kept[i]).expect("features"),
                                    false => trainer.set_input(values.data, &batch.data).expect("images"),
                                }
                                trainer.set_labels(values.labels.expect("labels"), &batch.classes).expect("labels");
                                seen.push(step(trainer));
                                kept.push(numbers(trainer, values.features));
                            }
                        }
                        (seen, bits(trainer))
                    })
                };
                let (images, features) = (run(false), run(true));
                assert_eq!(images.0, features.0, "{recipe} {update:?} {level}");
                same_bits(&format!("{recipe} {update:?} {level}"), &images.1, &features.1);
            }
        }
    }
}

/// The features of the images in `data`, each apart.
fn features(trainer: &mut Trainer, values: &Usual, data: &[f32], batch: usize) -> Vec<Vec<u32>> {
    trainer.set_input(values.data, data).expect("images");
    trainer.forward().expect("forward");
    let all = numbers(trainer, values.features);
    all.chunks(all.len() / batch).map(|one| one.iter().map(|v| v.to_bits()).collect()).collect()
}

/// Every image at every place of the batch, beside other images: the same bits, by every algorithm.
#[test]
fn an_images_features_do_not_depend_on_its_batch() {
    let recipes = [(small(), 3, 19), (Recipe::resnet8(10), 4, 32), (Recipe::resnet18(10), 3, 64), (Recipe::resnet18(10), 5, 40)];
    for (i, (recipe, batch, size)) in recipes.into_iter().enumerate().take(if emulated() { 2 } else { 4 }) {
        // Large networks by what is chosen for them: more algorithms have a shape that they take there.
        let all = if i < 2 { Algorithm::ALL } else { &[] };
        let forced = all.iter().map(|algorithm| ([Some(*algorithm); 3], Memory::Fast));
        let chosen = Memory::ALL.into_iter().map(|memory| ([None; 3], memory));
        for (algorithms, memory) in forced.chain(chosen) {
            for level in Level::available() {
                let setup = Setup { algorithms, memory, threads: 2, ..Setup::inference(recipe, batch, size, size) };
                with_trainer(&setup, level, Threads::oversubscribed(2).expect("threads"), |trainer, values| {
                    let image = 3 * size * size;
                    let data = random(batch * image, 5);
                    let first = features(trainer, &values, &data, batch);
                    for shift in 1..batch {
                        // The first two go on by `shift`, the others are new.
                        let mut other = random(batch * image, 6 + shift as u64);
                        for i in 0..2 {
                            let to = (i + shift) % batch;
                            other[to * image..][..image].copy_from_slice(&data[i * image..][..image]);
                        }
                        let moved = features(trainer, &values, &other, batch);
                        for i in 0..2 {
                            assert!(
                                moved[(i + shift) % batch] == first[i],
                                "{recipe} {algorithms:?} {memory:?} {level}: image {i} by {shift}"
                            );
                        }
                    }
                });
            }
        }
    }
}

#[test]
fn beginnings_that_would_be_wrong_are_refused() {
    let setup = Setup { trainable: "layer3,fc", ..head(Recipe::resnet8(10), 2, 32) };
    with_trainer(&setup, Level::detect(), Threads::serial(), |trainer, values| {
        let there = vec![0.5; 2 * 64];
        assert_eq!(trainer.set_value(values.features, &there), Err(Error::NoBeginning), "layer3 is trained");
        assert_eq!(trainer.set_value(values.data, &there), Err(Error::NotKept));
        assert!(matches!(trainer.set_value(values.features, &there[1..]), Err(Error::Length { expected: 128, got: 127, .. })));
        assert!(matches!(trainer.forward(), Err(Error::InputNotSet { .. })), "nothing was set");
    });

    let graph = Graph::new();
    let g = graph.root();
    let x = graph.input([2, 3, 4, 4]);
    let a = g.conv2d("conv", x, Conv::new(4, 1));
    let pooled = a.relu().adaptive_avg_pool(1);
    let y = g.linear("fc", pooled, 2);
    let (keep, sum) = ([a.id(), pooled.id(), y.id()], y.sum());
    let program = Step::new(&graph).root(Some(sum.id())).keep(&keep).train("fc").mode(Mode::Eval).plan().expect("a plan");
    let mut trainer = Trainer::owning(program, Level::detect(), Threads::serial()).expect("memory");
    trainer.init(3);
    trainer.set_value(pooled.id(), &[0.25; 8]).expect("a beginning");
    trainer.forward().expect("forward without images");
    assert_eq!(trainer.value(a.id(), &mut [0.0; 128]), Err(Error::NotComputed));
    trainer.value(y.id(), &mut [0.0; 4]).expect("it was computed");
    trainer.backward().expect("backward");
    // Images take the value back.
    trainer.set_value(pooled.id(), &[0.25; 8]).expect("a beginning");
    trainer.set_input(x.id(), &[0.5; 96]).expect("images");
    trainer.forward().expect("forward");
    trainer.value(a.id(), &mut [0.0; 128]).expect("it was computed");

    // This reads `a` too.
    let beside = sum + a.sum();
    let program = Step::new(&graph).root(Some(beside.id())).keep(&keep).train("fc").mode(Mode::Eval).plan().expect("a plan");
    let mut trainer = Trainer::owning(program, Level::detect(), Threads::serial()).expect("memory");
    assert_eq!(trainer.set_value(pooled.id(), &[0.25; 8]), Err(Error::NoBeginning));
}

/// Something that is computed before the value lies where the images lay, and is read later: not the images.
#[test]
fn a_place_that_is_used_again_is_no_input() {
    let graph = Graph::new();
    let g = graph.root();
    let x = graph.input([1, 4, 4, 4]);
    let a = g.conv2d("a", x, Conv::new(4, 1));
    let beside = g.conv2d("b", a, Conv::new(4, 1));
    let pooled = a.adaptive_avg_pool(1);
    let loss = g.linear("fc", pooled, 2).sum() + beside.sum();
    let program = Step::new(&graph).root(Some(loss.id())).keep(&[pooled.id()]).train("fc").mode(Mode::Eval).plan().expect("a plan");
    let mut trainer = Trainer::owning(program, Level::detect(), Threads::serial()).expect("memory");
    assert_eq!(trainer.set_value(pooled.id(), &[0.25; 4]), Err(Error::NoBeginning));
}

/// Flash in memory.
struct Chip(Vec<u8>);

impl Flash for Chip {
    type Error = &'static str;
    fn size(&self) -> usize {
        self.0.len()
    }
    fn page(&self) -> usize {
        2048
    }
    fn unit(&self) -> usize {
        8
    }
    fn read(&mut self, at: usize, out: &mut [u8]) -> Result<(), Self::Error> {
        out.copy_from_slice(&self.0[at..at + out.len()]);
        Ok(())
    }
    fn erase(&mut self, at: usize) -> Result<(), Self::Error> {
        self.0[at..at + 2048].fill(0xff);
        Ok(())
    }
    fn program(&mut self, at: usize, bytes: &[u8]) -> Result<(), Self::Error> {
        let to = &mut self.0[at..at + bytes.len()];
        if to.iter().any(|byte| *byte != 0xff) {
            return Err("programmed twice");
        }
        to.copy_from_slice(bytes);
        Ok(())
    }
}

/// A board's life: features once into flash, epochs from there, a class more, epochs of all. Bit for bit it is the life of
/// a trainer that computes everything from images.
#[test]
fn a_head_learns_from_a_ring_in_flash() {
    let (of, size, batch, images) = (64, 32, 2, 6);
    let two = |classes| head(Recipe::resnet8(classes), batch, size);
    let data: Vec<Vec<f32>> = (0..2 * images).map(|i| random(3 * size * size, 40 + i as u64)).collect();
    let class = |i: usize| if i < images { i as i64 % 3 } else { 3 };
    let optimizer = Sgd { momentum: 0.9, ..Sgd::new(0.1) };
    let live = |in_flash: bool| {
        let mut trainer = Trainer::owning(plan(&two(3)).0, Level::detect(), Threads::serial()).expect("memory");
        trainer.init(7);
        let key = trainer.trunk_key(b"as they are");
        let bytes = Ring::<Chip>::flash_bytes(of, 2 * images, 2048, 8).expect("bytes");
        let mut ring = Ring::erased(Chip(vec![0x77; bytes]), key, of).expect("a ring");
        for (classes, seen) in [(3, 0..images), (4, images..2 * images)] {
            let (program, values) = plan(&two(classes));
            let labels = values.labels.expect("labels");
            if classes == 4 {
                trainer.add_class(program, NewClass::Drawn(&mut Generator::manual_seed(5))).expect("a class more");
                assert_eq!(trainer.trunk_key(b"as they are"), key, "the head is no part of it");
            }
            let set_images = |trainer: &mut Trainer, first: usize| {
                let pixels: Vec<f32> = data[first..first + batch].concat();
                trainer.set_input(values.data, &pixels).expect("images");
                trainer.set_labels(labels, &[class(first), class(first + 1)]).expect("labels");
            };
            for first in seen.clone().step_by(batch).filter(|_| in_flash) {
                set_images(&mut trainer, first);
                trainer.forward().expect("forward");
                for (i, one) in numbers(&trainer, values.features).chunks(of).enumerate() {
                    ring.append(class(first + i), one).expect("appended");
                }
            }
            // A restart between learning the images and learning from them.
            let chip = Chip(std::mem::take(&mut ring.flash().0));
            ring = Ring::open(chip, key, of).expect("it opens");
            for first in (0..3).flat_map(|_| (0..seen.end).step_by(batch)) {
                if in_flash {
                    let (mut features, mut classes) = (vec![0.0; batch * of], vec![0; batch]);
                    for i in 0..batch {
                        classes[i] = ring.read(first + i, &mut features[i * of..][..of]).expect("a record");
                    }
                    trainer.set_value(values.features, &features).expect("features");
                    trainer.set_labels(labels, &classes).expect("labels");
                } else {
                    set_images(&mut trainer, first);
                }
                trainer.forward().expect("forward");
                trainer.backward_and_step(optimizer).expect("a step");
            }
        }
        assert_eq!(ring.len(), if in_flash { 2 * images } else { 0 });
        let mut all = bits(&trainer);
        all.retain(|(name, _)| !name.ends_with("num_batches_tracked"));
        all
    };
    same_bits("from flash", &live(false), &live(true));
}

/// A key changes with whatever features depend on, and with nothing else.
#[test]
fn a_trunk_has_a_key() {
    let setup = head(Recipe::resnet8(10), 2, 32);
    let key = |setup: &Setup, view: &[u8], change: &dyn Fn(&mut Trainer)| {
        with_trainer(setup, Level::detect(), Threads::serial(), |trainer, _| {
            change(trainer);
            trainer.trunk_key(view)
        })
    };
    let nothing = |_: &mut Trainer| {};
    let own = key(&setup, b"view", &nothing);
    let set = |name: &'static str| {
        move |trainer: &mut Trainer| {
            let id = trainer.entry_named(name).expect("an entry");
            let mut numbers = nunatak_tests::numbers(trainer, id);
            numbers[0] += 0.25;
            trainer.set_entry(id, &numbers).expect("set");
        }
    };
    for same in [
        key(&Setup { batch: 5, ..setup }, b"view", &nothing),
        key(&Setup { mode: Mode::Eval, loss: Loss::None, trainable: "none", ..setup }, b"view", &nothing),
        key(&setup, b"view", &set("fc.weight")),
    ] {
        assert_eq!(same, own);
    }
    for other in [
        key(&setup, b"View", &nothing),
        key(&setup, b"", &nothing),
        key(&head(Recipe::resnet8(10), 2, 33), b"view", &nothing),
        key(&setup, b"view", &set("conv1.weight")),
        key(&setup, b"view", &set("layer3.0.bn2.running_var")),
        key(&setup, b"view", &set("layer1.0.bn1.bias")),
    ] {
        assert_ne!(other, own);
    }
    // In place it is the same network.
    let flash = with_trainer(&setup, Level::detect(), Threads::serial(), |trainer, _| Flash64::new(&saved(trainer, Save::Network)));
    let (program, _) = plan(&Setup { weights: Some(flash.native()), ..setup });
    let mut memory = vec![0; Trainer::bytes(&program)];
    let trainer = Trainer::with_weights(program, &mut memory, flash.native(), Level::detect(), Threads::serial()).expect("weights");
    assert_eq!(trainer.trunk_key(b"view"), own);
}

/// The trainer's plan is not asked for more than it was: features are kept anyway.
#[test]
fn plans_are_as_they_were() {
    let (program, values) = plan(&head(Recipe::resnet8(10), 2, 32));
    let (_, features) = program.value_of_node(values.features.0).expect("features");
    assert_eq!((features.name(), features.shape()), ("features", [2, 64, 1, 1]));
}
