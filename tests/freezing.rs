//! Freezing is absence: what is frozen keeps its bytes, and its steps, memory and time are not there.

use nunatak_nn::{
    CrossEntropyOptions, Entry, Error, Level, Loss, Mode, NormPolicy, Optimizer, ParamSet, Recipe, Setup, Sgd, Threads, Update,
};
use nunatak_tests::{Batch, bits, network, plan, prefixes, small, training, with_trainer};
use std::time::{Duration, Instant};

/// Settings that would move a parameter by its decay alone.
fn optimizer() -> Optimizer {
    Optimizer::new(Sgd { momentum: 0.9, weight_decay: 0.1, ..Sgd::new(0.05) }).expect("settings")
}

fn loss() -> Loss {
    Loss::CrossEntropy(CrossEntropyOptions::default())
}

/// Trainable prefixes, from everything to nothing but the head's bias.
const LESS_AND_LESS: [&[&str]; 8] = [
    &["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"],
    &["layer1", "layer2", "layer3", "layer4", "fc"],
    &["layer2", "layer3", "layer4", "fc"],
    &["layer3", "layer4", "fc"],
    &["layer4", "fc"],
    &["layer4.1", "fc"],
    &["fc"],
    &["fc.bias"],
];

fn backward_calls(setup: &Setup) -> (usize, usize) {
    let (blueprint, ..) = plan(setup);
    let needs = blueprint.needs();
    let values: Vec<_> = blueprint.tape().values().collect();
    let inputs = values.iter().flat_map(|v| needs.at(*v).dx).filter(|dx| *dx).count();
    let weights = values.iter().flat_map(|v| needs.at(*v).dw).filter(|dw| *dw).count();
    (inputs, weights)
}

#[test]
fn steps_and_bytes_fall_with_what_is_frozen() {
    let recipe = Recipe::resnet18(1000);
    for (mode, policy) in [(Mode::Train, NormPolicy::Updating), (Mode::Train, NormPolicy::Fixed), (Mode::Eval, NormPolicy::Updating)] {
        for update in [Update::After, Update::During] {
            let mut before: Option<((usize, usize), usize)> = None;
            for names in LESS_AND_LESS {
                let mut setup = training(recipe, 4, 64, loss());
                (setup.mode, setup.norm_policy, setup.options.update) = (mode, policy, update);
                setup.trainable = prefixes(recipe, names);
                let (calls, bytes) = (backward_calls(&setup), plan(&setup).0.bytes());
                println!("{mode:?} {policy:?} {update:?} from {}: {calls:?} calls, {bytes} bytes", names[0]);
                assert_eq!(calls.1, setup.trainable.iter().count(), "one call for each trainable parameter, none for the others");
                if let Some((more, larger)) = before {
                    assert!(calls.0 <= more.0 && calls.1 < more.1, "{names:?}: {calls:?} of {more:?}");
                    assert!(bytes < larger, "{names:?}: {bytes} of {larger}");
                }
                before = Some((calls, bytes));
            }
            // Head alone: back through the loss to the logits, and no further.
            assert_eq!(before.expect("calls").0, (1, 1));
        }
    }
    let mut all = training(recipe, 4, 64, loss());
    assert_eq!(backward_calls(&all).1, 62);
    all.trainable = prefixes(recipe, &["conv1"]);
    let lowest = backward_calls(&all);
    all.trainable = network(recipe).all();
    // Down to the lowest layer each node but conv1 passes the gradient on, whatever is frozen above.
    assert_eq!(lowest, (backward_calls(&all).0, 1));
    // Inference has no backward calls, and no momentum makes it smaller still.
    all.trainable = ParamSet::EMPTY;
    assert_eq!(backward_calls(&all), (0, 0));
}

/// Only what some backward call reads is kept: below the lowest trainable layer nothing is.
#[test]
fn a_frozen_prefix_with_fixed_statistics_runs_as_inference() {
    let recipe = Recipe::resnet18(10);
    let mut head = training(recipe, 8, 64, loss());
    head.trainable = network(recipe).head();
    head.norm_policy = NormPolicy::Fixed;
    head.options.momentum = false;
    let inference = Setup { loss: Loss::None, ..Setup::inference(recipe, 8, 64, 64) };
    let (head, inference) = (plan(&head).0.bytes(), plan(&inference).0.bytes());
    println!("head {head}, inference {inference}");
    assert!(head < inference + 200_000, "head {head}, inference {inference}");
}

#[test]
fn frozen_tensors_keep_their_bytes() {
    for level in Level::available() {
        for update in [Update::After, Update::During] {
            for names in [&["fc"][..], &["layer2", "fc.bias"], &["conv1"], &["layer1.0.bn2", "layer3.0.downsample"]] {
                for (mode, policy) in
                    [(Mode::Train, NormPolicy::Updating), (Mode::Train, NormPolicy::Fixed), (Mode::Eval, NormPolicy::Updating)]
                {
                    let mut setup = training(small(), 3, 14, loss());
                    setup.trainable = prefixes(small(), names);
                    (setup.mode, setup.norm_policy, setup.options.update) = (mode, policy, update);
                    with_trainer(&setup, level, Threads::serial(), |trainer, values| {
                        let before = bits(trainer);
                        for i in 0..3 {
                            Batch::random(&setup, i).set(trainer, &values).expect("set");
                            trainer.forward().expect("forward");
                            trainer.backward_and_step(&optimizer()).expect("step");
                        }
                        check_moved(&setup, &before, &bits(trainer), &format!("{level} {names:?} {mode:?} {policy:?}"));
                    });
                }
            }
        }
    }
}

/// Trainable parameters have moved and have momentum, frozen ones neither; statistics move in train
/// mode unless the policy fixes those of frozen normalisations.
fn check_moved(setup: &Setup, before: &[(String, Vec<u32>)], after: &[(String, Vec<u32>)], what: &str) {
    let network = network(setup.recipe);
    let find = |all: &[(String, Vec<u32>)], name: &str| all.iter().find(|(n, _)| n == name).map(|(_, b)| b.clone());
    for entry in network.entries() {
        let name = network.entry_name(entry);
        let name = name.as_str();
        let due = match entry {
            Entry::Param(id) => {
                let trainable = setup.trainable.contains(id);
                assert_eq!(find(after, &format!("momentum.{name}")).is_some(), trainable, "{what}: momentum of {name}");
                trainable
            }
            Entry::RunningMean(n) | Entry::RunningVar(n) | Entry::NumBatchesTracked(n) => {
                let norm = network.norms()[n.index()];
                let frozen = !setup.trainable.contains(norm.gamma) && !setup.trainable.contains(norm.beta);
                setup.mode == Mode::Train && !(frozen && setup.norm_policy == NormPolicy::Fixed)
            }
        };
        assert_eq!(find(before, name) != find(after, name), due, "{what}: {name} moved?");
    }
}

/// What is trained gets the same gradient, whatever else is frozen.
#[test]
fn freezing_changes_no_other_gradient() {
    for level in Level::available() {
        let gradients = |names: &[&str]| {
            let mut setup = training(small(), 3, 14, loss());
            setup.trainable = prefixes(small(), names);
            with_trainer(&setup, level, Threads::serial(), |trainer, values| {
                Batch::random(&setup, 1).set(trainer, &values).expect("set");
                trainer.forward().expect("forward");
                trainer.backward().expect("backward");
                assert_eq!(trainer.gradients(), setup.trainable);
                let frozen = network(small()).all().iter().find(|id| !setup.trainable.contains(*id));
                if let Some(id) = frozen {
                    let mut room = vec![0.0; network(small()).param_at(id).numbers()];
                    assert_eq!(trainer.gradient(id, &mut room), Err(Error::NoGradients));
                }
                names
                    .iter()
                    .flat_map(|n| network(small()).by_prefix(n).expect("prefix").iter().collect::<Vec<_>>())
                    .map(|id| {
                        let mut room = vec![0.0; network(small()).param_at(id).numbers()];
                        trainer.gradient(id, &mut room).expect("gradient");
                        (id, room.iter().map(|v| v.to_bits()).collect::<Vec<_>>())
                    })
                    .collect::<Vec<_>>()
            })
        };
        let all = gradients(&["conv1", "bn1", "layer1", "layer2", "layer3", "fc"]);
        for names in [&["fc"][..], &["layer3.0.conv1", "layer1"], &["bn1.bias"], &["layer2.0.downsample.1.weight", "conv1"]] {
            for (id, g) in gradients(names) {
                let same = all.iter().find(|(i, _)| *i == id).is_some_and(|(_, all)| *all == g);
                assert!(same, "{level} {names:?}: the gradient of {id:?} differs");
            }
        }
    }
}

/// Time falls too. The head alone does about a third of the arithmetic; with room for a noisy machine.
#[test]
fn time_falls_with_what_is_frozen() {
    let recipe = Recipe::resnet18(10);
    let time = |names: &[&str], policy| {
        let mut setup = training(recipe, 4, 64, loss());
        setup.trainable = prefixes(recipe, names);
        setup.norm_policy = policy;
        with_trainer(&setup, Level::detect(), Threads::serial(), |trainer, values| {
            let batch = Batch::random(&setup, 1);
            let mut step = || {
                batch.set(trainer, &values).expect("set");
                let begin = Instant::now();
                trainer.forward().expect("forward");
                trainer.backward_and_step(&optimizer()).expect("step");
                begin.elapsed()
            };
            step();
            (0..5).map(|_| step()).min().expect("times")
        })
    };
    let full = time(LESS_AND_LESS[0], NormPolicy::Updating);
    let half = time(&["layer4", "fc"], NormPolicy::Updating);
    let head = time(&["fc"], NormPolicy::Fixed);
    println!("full {full:?}, layer4 and fc {half:?}, fc {head:?}");
    let share = |d: Duration| d.as_secs_f64() / full.as_secs_f64();
    assert!(share(half) < 0.85 && share(head) < 0.6, "full {full:?}, layer4 and fc {half:?}, fc {head:?}");
}
