//! It learns: the loss falls, images are told apart, and the head alone learns on frozen features.

use nunatak_nn::{CrossEntropyOptions, Level, Loss, Memory, Mode, NormPolicy, Optimizer, Recipe, Schedule, Sgd, Threads, Trainer, Update};
use nunatak_tests::{Batch, Setup, bytes, plan, random, training};

const CLASSES: usize = 4;
const SIZE: usize = 16;

/// Images of stripes: horizontal, vertical, diagonal or a chessboard, in noise, shifted at random.
fn stripes(batch: usize, seed: u64) -> Batch {
    let noise = random(batch * 3 * SIZE * SIZE, seed);
    let shifts = random(batch, seed + 1000);
    let mut data = noise;
    let mut classes = Vec::new();
    for (i, image) in data.chunks_exact_mut(3 * SIZE * SIZE).enumerate() {
        let class = (i + seed as usize) % CLASSES;
        let shift = ((shifts[i] + 1.0) * 4.0) as usize;
        for (at, v) in image.iter_mut().enumerate() {
            let (y, x) = (at / SIZE % SIZE + shift, at % SIZE + shift);
            let bright = match class {
                0 => y / 2 % 2,
                1 => x / 2 % 2,
                2 => (x + y) / 2 % 2,
                _ => (x / 2 + y / 2) % 2,
            };
            *v = 0.5 * *v + bright as f32;
        }
        classes.push(class as i64);
    }
    Batch { data, labels: Vec::new(), classes }
}

fn recipe() -> Recipe {
    Recipe::resnet8(CLASSES)
}

fn setup() -> Setup<'static> {
    training(recipe(), 16, SIZE, Loss::CrossEntropy(CrossEntropyOptions::default()))
}

fn accuracy(trainer: &mut Trainer) -> f64 {
    let eval = Setup { mode: Mode::Eval, loss: Loss::None, batch: 64, ..setup() };
    let (program, values) = plan(&eval);
    trainer.switch(program).expect("switch");
    let batch = stripes(64, 99);
    trainer.set_input(values.data, &batch.data).expect("set");
    trainer.forward().expect("forward");
    let mut y = vec![0.0; 64 * CLASSES];
    trainer.value(values.prediction, &mut y).expect("prediction");
    let best = |row: &[f32]| (0..CLASSES).max_by(|a, b| row[*a].total_cmp(&row[*b])).expect("classes") as i64;
    let right = y.chunks_exact(CLASSES).zip(&batch.classes).filter(|(row, class)| best(row) == **class).count();
    right as f64 / 64.0
}

/// Trains and returns the first and the last loss.
fn train(trainer: &mut Trainer, setup: &Setup, steps: u64, settings: Sgd, schedule: Schedule) -> (f32, f32) {
    let (program, values) = plan(setup);
    trainer.switch(program).expect("switch");
    let optimizer = Optimizer::new(settings).expect("settings");
    let mut losses = Vec::new();
    for step in 0..steps {
        stripes(setup.batch, step).set(trainer, &values).expect("set");
        trainer.forward().expect("forward");
        losses.push(trainer.finite(values.loss.expect("loss")).expect("a finite loss"));
        trainer.backward_and_step(optimizer.scaled(schedule.factor(step)).expect("a factor")).expect("step");
    }
    (losses[0], losses[losses.len() - 1])
}

#[test]
fn a_network_learns_to_tell_images_apart() {
    let eval = Setup { mode: Mode::Eval, loss: Loss::None, batch: 64, ..setup() };
    for level in Level::available() {
        // The updates are the same bits (`determinism.rs`), so one of them is enough for a level.
        for update in if level == Level::detect() { vec![Update::After, Update::During] } else { vec![Update::After] } {
            let setup = Setup { update, memory: Memory::Small, ..setup() };
            let bytes = bytes(&setup).max(bytes(&eval));
            let mut memory = vec![0; bytes];
            let mut trainer = Trainer::new(plan(&setup).0, &mut memory, level, Threads::serial()).expect("memory");
            trainer.init(0);
            let before = accuracy(&mut trainer);
            let settings = Sgd { momentum: 0.9, weight_decay: 1e-4, ..Sgd::new(0.05) };
            let (first, last) = train(&mut trainer, &setup, 60, settings, Schedule::Cosine { warmup: 5, total: 60, floor: 0.01 });
            let after = accuracy(&mut trainer);
            println!("{level} {update:?}: loss {first} to {last}, accuracy {before} to {after}");
            assert!(first > 1.0 && last < 0.2, "{level}: loss {first} to {last}");
            assert!(before < 0.6 && after > 0.95, "{level}: accuracy {before} to {after}");
        }
    }
}

/// Fine-tuning: on frozen features with fixed statistics a new head learns too, and faster.
#[test]
fn a_new_head_learns_on_frozen_features() {
    let mut head = setup();
    head.trainable = "head";
    head.norm_policy = NormPolicy::Fixed;
    let eval = Setup { mode: Mode::Eval, loss: Loss::None, batch: 64, ..setup() };
    let mut memory = vec![0; bytes(&setup()).max(bytes(&eval))];
    let mut trainer = Trainer::new(plan(&setup()).0, &mut memory, Level::detect(), Threads::serial()).expect("memory");
    trainer.init(0);
    let settings = Sgd { momentum: 0.9, ..Sgd::new(0.05) };
    train(&mut trainer, &setup(), 60, settings, Schedule::Constant);
    trainer.init_head(&mut nunatak_core::rng::Generator::manual_seed(3));
    let forgotten = accuracy(&mut trainer);
    let (first, last) = train(&mut trainer, &head, 30, settings, Schedule::Constant);
    let again = accuracy(&mut trainer);
    println!("loss {first} to {last}, accuracy {forgotten} to {again}");
    assert!(forgotten < 0.8 && again > 0.95, "accuracy {forgotten} to {again}");
    assert!(last < first / 2.0, "loss {first} to {last}");
}

/// Every loss falls when the same batch is seen again and again, and rises when maximised.
#[test]
fn every_loss_falls() {
    let recipe = nunatak_tests::small();
    let options = CrossEntropyOptions { label_smoothing: 0.1, ..CrossEntropyOptions::default() };
    for loss in [Loss::Sum, Loss::MeanSquaredError, Loss::CrossEntropy(options), Loss::CrossEntropyProbabilities(options)] {
        for mode in [Mode::Train, Mode::Eval] {
            for maximize in [false, true] {
                let setup = Setup { mode, ..training(recipe, 4, 12, loss) };
                let settings = Sgd { maximize, ..Sgd::new(1e-3) };
                let mut batch = Batch::random(&setup, 1);
                batch.labels.chunks_exact_mut(5).for_each(|row| row.copy_from_slice(&[0.1, 0.2, 0.4, 0.2, 0.1]));
                let losses = nunatak_tests::with_trainer(&setup, Level::detect(), Threads::serial(), |trainer, values| {
                    let optimizer = Optimizer::new(settings).expect("settings");
                    let mut one = || {
                        batch.set(trainer, &values).expect("set");
                        trainer.forward().expect("forward");
                        trainer.backward_and_step(optimizer).expect("step");
                        trainer.finite(values.loss.expect("loss")).expect("finite")
                    };
                    (0..6).map(|_| one()).collect::<Vec<_>>()
                });
                let falls = losses.windows(2).all(|pair| (pair[1] < pair[0]) != maximize);
                assert!(falls, "{loss:?} {mode:?} maximize {maximize}: {losses:?}");
            }
        }
    }
}
