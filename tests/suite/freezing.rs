//! Freezing is absence: what is frozen keeps its bytes, and its steps, memory and time are not there.

use nunatak_nn::step::{call_flops, each_call};
use nunatak_nn::{CrossEntropyOptions, EntryKind, Error, Level, Loss, Mode, NormPolicy, Optimizer, Recipe, Sgd, Threads, Update};
use nunatak_tests::{Batch, Setup, bits, bytes, gradient, params, plan, small, training, with_trainer};

/// Settings that would move a parameter by its decay alone.
fn optimizer() -> Optimizer<'static> {
    Optimizer::new(Sgd { momentum: 0.9, weight_decay: 0.1, ..Sgd::new(0.05) }).expect("settings")
}

fn loss() -> Loss {
    Loss::CrossEntropy(CrossEntropyOptions::default())
}

/// Trainable prefixes, from everything to nothing but the head's bias.
const LESS_AND_LESS: [&str; 8] = [
    "conv1,bn1,layer1,layer2,layer3,layer4,fc",
    "layer1,layer2,layer3,layer4,fc",
    "layer2,layer3,layer4,fc",
    "layer3,layer4,fc",
    "layer4,fc",
    "layer4.1,fc",
    "fc",
    "fc.bias",
];

fn backward_calls(setup: &Setup) -> (usize, usize) {
    let (program, ..) = plan(setup);
    let inputs = program.backward().map(|call| (0..call.inputs()).filter(|i| call.wants_input(*i)).count()).sum();
    let weights = program.backward().map(|call| (0..2).filter(|i| call.wants_weight(*i)).count()).sum();
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
                (setup.mode, setup.norm_policy, setup.update) = (mode, policy, update);
                setup.trainable = names;
                let (calls, bytes) = (backward_calls(&setup), bytes(&setup));
                println!("{mode:?} {policy:?} {update:?} of {names}: {calls:?} calls, {bytes} bytes");
                let (program, _) = plan(&setup);
                let trained = params(&program).into_iter().filter(|id| setup.trains(program.entry(*id).name())).count();
                assert_eq!(calls.1, trained, "one call for each trainable parameter, none for the others");
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
    all.trainable = "conv1";
    let lowest = backward_calls(&all);
    all.trainable = "all";
    // Down to the lowest layer each node but conv1 passes the gradient on, whatever is frozen above.
    assert_eq!(lowest, (backward_calls(&all).0, 1));
    // Inference has no backward calls, and no momentum makes it smaller still.
    all.trainable = "none";
    assert_eq!(backward_calls(&all), (0, 0));
}

/// Only what some backward call reads is kept: below the lowest trainable layer nothing is.
#[test]
fn a_frozen_prefix_with_fixed_statistics_runs_as_inference() {
    let recipe = Recipe::resnet18(10);
    let mut head = training(recipe, 8, 64, loss());
    head.trainable = "head";
    head.norm_policy = NormPolicy::Fixed;
    head.momentum = false;
    let inference = Setup { loss: Loss::None, ..Setup::inference(recipe, 8, 64, 64) };
    let (head, inference) = (bytes(&head), bytes(&inference));
    println!("head {head}, inference {inference}");
    assert!(head < inference + 200_000, "head {head}, inference {inference}");
}

#[test]
fn frozen_tensors_keep_their_bytes() {
    for level in Level::available() {
        for update in [Update::After, Update::During] {
            for names in ["fc", "layer2,fc.bias", "conv1", "layer1.0.bn2,layer3.0.downsample"] {
                for (mode, policy) in
                    [(Mode::Train, NormPolicy::Updating), (Mode::Train, NormPolicy::Fixed), (Mode::Eval, NormPolicy::Updating)]
                {
                    let mut setup = training(small(), 3, 14, loss());
                    setup.trainable = names;
                    (setup.mode, setup.norm_policy, setup.update) = (mode, policy, update);
                    with_trainer(&setup, level, Threads::serial(), |trainer, values| {
                        let before = bits(trainer);
                        for i in 0..3 {
                            Batch::random(&setup, i).set(trainer, &values).expect("set");
                            trainer.forward().expect("forward");
                            trainer.backward_and_step(optimizer()).expect("step");
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
    let (program, _) = plan(setup);
    let find = |all: &[(String, Vec<u32>)], name: &str| all.iter().find(|(n, _)| n == name).map(|(_, b)| b.clone());
    for id in program.entries() {
        let name = program.entry(id).name();
        let due = match program.entry(id).kind() {
            EntryKind::Parameter => {
                let trainable = setup.trains(name);
                assert_eq!(find(after, &format!("momentum.{name}")).is_some(), trainable, "{what}: momentum of {name}");
                trainable
            }
            EntryKind::Words => false,
            EntryKind::RunningMean | EntryKind::RunningVar | EntryKind::Count => {
                let (norm, _) = name.rsplit_once('.').expect("a module");
                let frozen = ["weight", "bias"].iter().all(|leaf| !setup.trains(&format!("{norm}.{leaf}")));
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
        let gradients = |names: &str| {
            let mut setup = training(small(), 3, 14, loss());
            setup.trainable = names;
            with_trainer(&setup, level, Threads::serial(), |trainer, values| {
                Batch::random(&setup, 1).set(trainer, &values).expect("set");
                trainer.forward().expect("forward");
                trainer.backward().expect("backward");
                let (trained, frozen): (Vec<_>, Vec<_>) =
                    params(trainer.program()).into_iter().partition(|id| setup.trains(trainer.program().entry(*id).name()));
                assert_eq!(trainer.gradients().collect::<Vec<_>>(), trained);
                for id in frozen {
                    let mut room = vec![0.0; trainer.program().entry(id).numbers()];
                    assert_eq!(trainer.gradient(id, &mut room), Err(Error::NothingToTrain));
                }
                let bits = |id| gradient(trainer, id).iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                trained.into_iter().map(|id| (id, bits(id))).collect::<Vec<_>>()
            })
        };
        let all = gradients("conv1,bn1,layer1,layer2,layer3,fc");
        for names in ["fc", "layer3.0.conv1,layer1", "bn1.bias", "layer2.0.downsample.1.weight,conv1"] {
            for (id, g) in gradients(names) {
                let same = all.iter().find(|(i, _)| *i == id).is_some_and(|(_, all)| *all == g);
                assert!(same, "{level} {names:?}: the gradient of {id:?} differs");
            }
        }
    }
}

/// The arithmetic of a step falls with what is frozen. The head alone does about a third of it.
#[test]
fn work_falls_with_what_is_frozen() {
    let flops = |names: &'static str, policy| {
        let setup = Setup { trainable: names, norm_policy: policy, ..training(Recipe::resnet18(10), 4, 64, loss()) };
        let program = plan(&setup).0;
        let mut all = 0;
        each_call(&program, |event| all += call_flops(&program, event));
        all as f64
    };
    let full = flops(LESS_AND_LESS[0], NormPolicy::Updating);
    let [half, head] = [("layer4,fc", NormPolicy::Updating), ("fc", NormPolicy::Fixed)].map(|(names, policy)| flops(names, policy) / full);
    assert!((0.4..0.7).contains(&half) && (0.3..0.35).contains(&head), "layer4 and fc {half}, fc {head}");
}
