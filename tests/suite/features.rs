//! Features once: steps from features that were kept have the bits of steps from images, and an image's features do not
//! depend on what else is in its batch.

use nunatak_nn::{
    Algorithm, Conv, CrossEntropyOptions, Error, Graph, Level, Loss, Memory, Mode, NormPolicy, Recipe, Sgd, Step, Threads, Trainer, Update,
    Usual,
};
use nunatak_tests::{Batch, Setup, bits, emulated, plan, random, same_bits, small, training, with_trainer};

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

/// The trainer's plan is not asked for more than it was: features are kept anyway.
#[test]
fn plans_are_as_they_were() {
    let (program, values) = plan(&head(Recipe::resnet8(10), 2, 32));
    let (_, features) = program.value_of_node(values.features.0).expect("features");
    assert_eq!((features.name(), features.shape()), ("features", [2, 64, 1, 1]));
}
