//! SGD, clipping and schedules, against what PyTorch computed (`golden/make.py`).

use nunatak_nn::{EntryId, Error, Level, Loss, Optimizer, Recipe, Schedule, Sgd, Threads, Trainer, Update};
use nunatak_tests::{Batch, Setup, bits, entry, golden_folder, plan, same_bits, small, training, with_trainer};
use serde_json::Value;

fn golden(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(golden_folder().join(name)).expect("a golden");
    serde_json::from_str(&text).expect("JSON")
}

fn floats(v: &Value) -> Vec<f32> {
    v.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number") as f32).collect()
}

/// A trainer whose gradients are set by hand, and one of its parameters, of three numbers.
fn by_hand<R>(level: Level, use_it: impl FnOnce(&mut Trainer, EntryId) -> R) -> R {
    let setup = training(small().with_classes(3), 2, 8, Loss::Sum);
    with_trainer(&setup, level, Threads::serial(), |trainer, _| {
        let id = entry(trainer, "fc.bias");
        use_it(trainer, id)
    })
}

#[test]
fn sgd_is_pytorchs_with_every_option() {
    let cases = golden("sgd.json");
    assert!(cases.len() >= 40);
    for level in Level::available() {
        for (number, case) in cases.iter().enumerate() {
            let o = &case["options"];
            let number_of = |k: &str| o[k].as_f64().expect("a number") as f32;
            let flag = |k: &str| o[k].as_bool().expect("a flag");
            let settings = Sgd {
                lr: number_of("lr"),
                momentum: number_of("momentum"),
                dampening: number_of("dampening"),
                weight_decay: number_of("weight_decay"),
                nesterov: flag("nesterov"),
                maximize: flag("maximize"),
            };
            let optimizer = Optimizer::new(settings).expect("settings");
            by_hand(level, |trainer, id| {
                trainer.set_entry(id, &floats(&case["start"])).expect("set");
                let steps = case["gradients"].as_array().expect("gradients").iter().zip(case["after"].as_array().expect("after"));
                for (step, (gradient, after)) in steps.enumerate() {
                    trainer.zero_grad();
                    if gradient.is_null() {
                        // Nothing has a gradient: PyTorch's step passes over all, ours says so.
                        assert_eq!(trainer.step(optimizer), Err(Error::NoGradients));
                    } else {
                        trainer.set_gradient(id, &floats(gradient)).expect("set");
                        if let Some(max_norm) = case["clip"].as_f64() {
                            let norm = f64::from(trainer.clip_grad_norm(max_norm as f32).expect("norm"));
                            let due = case["norms"][step].as_f64().expect("a norm");
                            assert!((norm - due).abs() <= 1e-6 * due.max(1.0), "{level} {number}.{step}: norm {norm}, PyTorch {due}");
                        }
                        trainer.step(optimizer).expect("step");
                    }
                    let mut p = [0.0; 3];
                    trainer.entry(id, &mut p).expect("a parameter");
                    for (got, due) in p.iter().zip(floats(after)) {
                        assert!(
                            (got - due).abs() <= 2e-6 * due.abs().max(1.0),
                            "{level} {number}.{step}: {got}, PyTorch {due}, {settings:?}"
                        );
                    }
                }
            });
        }
    }
}

/// The semantics' own numbers: p = 1, lr 0.1.
#[test]
fn sgd_has_the_numbers_of_the_semantics() {
    let base = Sgd { momentum: 0.9, ..Sgd::new(0.1) };
    let ones = [Some(1.0); 3];
    type Case<'a> = (Sgd, &'a [Option<f32>], &'a [f32]);
    let cases: [Case; 5] = [
        (base, &ones, &[0.9, 0.71, 0.439]),
        (Sgd { dampening: 0.5, ..base }, &ones, &[0.9, 0.76, 0.584]),
        (Sgd { nesterov: true, ..base }, &ones, &[0.81, 0.539, 0.1951]),
        (Sgd { weight_decay: 0.1, ..base }, &ones, &[0.89, 0.6821, 0.388_169]),
        (base, &[Some(1.0), None, Some(0.0), None], &[0.9, 0.9, 0.81, 0.81]),
    ];
    for (settings, gradients, due) in cases {
        let optimizer = Optimizer::new(settings).expect("settings");
        by_hand(Level::detect(), |trainer, id| {
            // Another parameter has a gradient all the time, so that the step itself is never refused.
            let other = entry(trainer, "bn1.bias");
            trainer.set_entry(id, &[1.0; 3]).expect("set");
            for (gradient, due) in gradients.iter().zip(due) {
                trainer.zero_grad();
                trainer.set_gradient(other, &[1.0; 5]).expect("set");
                if let Some(g) = gradient {
                    trainer.set_gradient(id, &[*g; 3]).expect("set");
                }
                trainer.step(optimizer).expect("step");
                let mut p = [0.0; 3];
                trainer.entry(id, &mut p).expect("a parameter");
                assert!(p.iter().all(|p| (p - due).abs() < 1e-6), "{settings:?}: {p:?}, {due}");
            }
        });
    }
}

/// A parameter without a gradient is skipped wholly: no decay, no momentum.
#[test]
fn absent_gradients_leave_parameters_alone() {
    let optimizer = Optimizer::new(Sgd { momentum: 0.9, weight_decay: 0.5, ..Sgd::new(0.1) }).expect("settings");
    by_hand(Level::detect(), |trainer, id| {
        let before = bits(trainer);
        trainer.set_gradient(id, &[1.0, 2.0, 3.0]).expect("set");
        trainer.step(optimizer).expect("step");
        let differ: Vec<_> = bits(trainer).into_iter().filter(|b| !before.contains(b)).map(|(name, _)| name).collect();
        assert_eq!(differ, ["fc.bias", "momentum.fc.bias"]);
    });
}

/// Groups by name or prefix have settings of their own; the first group that has a parameter counts.
#[test]
fn parameter_groups() {
    let recipe = small();
    let plain = Sgd { momentum: 0.9, weight_decay: 0.1, ..Sgd::new(0.1) };
    let setup = training(recipe, 2, 12, Loss::Sum);
    // Vectors have no decay: normalisations and biases, as many groups as there are.
    let (program, _) = plan(&setup);
    let vectors = program.entries().map(|id| program.entry(id)).filter(|entry| entry.shape().1 == 1 && entry.is_trained());
    let mut groups: Vec<_> = vectors.map(|entry| (entry.name(), Sgd { weight_decay: 0.0, ..plain })).collect();
    assert!(groups.len() > 16);
    groups.push(("layer1", Sgd { lr: 0.0, ..plain }));
    groups.push(("fc.weight", Sgd { lr: 1.0, momentum: 0.0, ..plain }));
    groups.push(("fc", Sgd { lr: 7.0, ..plain }));
    let optimizer = Optimizer::new(plain).and_then(|o| o.groups(&groups)).expect("groups");
    for update in [Update::After, Update::During] {
        let setup = Setup { update, ..setup };
        with_trainer(&setup, Level::detect(), Threads::serial(), |trainer, values| {
            let before = bits(trainer);
            Batch::random(&setup, 1).set(trainer, &values).expect("set");
            trainer.forward().expect("forward");
            trainer.backward_and_step(optimizer).expect("step");
            let after = bits(trainer);
            let find = |all: &[(String, Vec<u32>)], name: &str| all.iter().find(|(n, _)| n == name).map(|(_, b)| b.clone());
            let moved = |name: &str| find(&before, name) != find(&after, name);
            assert!(!moved("layer1.0.conv1.weight"), "a rate of 0");
            assert!(moved("layer1.0.bn1.weight"), "the first group counts");
            assert!(moved("layer2.0.conv1.weight") && moved("fc.weight"));
            assert!(find(&after, "momentum.layer1.0.conv1.weight").is_some() && find(&after, "momentum.fc.weight").is_none());
        });
    }
    assert_eq!((optimizer.of("fc.weight").lr, optimizer.of("fc.weight").momentum), (1.0, 0.0));
    assert_eq!((optimizer.of("fc.bias").lr, optimizer.of("fc.bias").weight_decay), (0.1, 0.0));
    // A prefix ends at a dot.
    assert_eq!((optimizer.of("layer1").lr, optimizer.of("layer10.conv").lr, optimizer.of("fcs").lr), (0.0, 0.1, 0.1));
    let halved = optimizer.scaled(0.5).expect("a factor");
    assert_eq!((halved.of("fc.weight").lr, halved.of("fc.weight").weight_decay), (0.5, 0.1));
    for bad in [-1.0, f32::NAN, f32::INFINITY] {
        assert!(matches!(optimizer.scaled(bad), Err(Error::Sgd(_))), "{bad}");
    }
}

/// Clipping is one factor for all gradients, from the norm of their norms; what is short stays.
#[test]
fn clipping_scales_all_gradients_alike() {
    for recipe in [small(), Recipe::resnet18(10)] {
        let setup = training(recipe, 2, if recipe == small() { 12 } else { 64 }, Loss::Sum);
        for level in Level::available() {
            with_trainer(&setup, level, Threads::serial(), |trainer, values| {
                Batch::random(&setup, 1).set(trainer, &values).expect("set");
                trainer.forward().expect("forward");
                trainer.backward().expect("backward");
                let before = nunatak_tests::gradients(trainer);
                let norm = before.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
                let large = f64::from(trainer.clip_grad_norm(norm as f32 * 2.0).expect("norm"));
                assert!((large - norm).abs() < 1e-5 * norm, "{level}: {large}, {norm}");
                assert_eq!(nunatak_tests::gradients(trainer), before, "nothing to clip");
                trainer.clip_grad_norm(1.5).expect("norm");
                let factor = 1.5 / (norm + 1e-6);
                for (after, before) in nunatak_tests::gradients(trainer).iter().zip(&before) {
                    let due = f64::from(*before) * factor;
                    assert!((f64::from(*after) - due).abs() <= 1e-5 * due.abs() + 1e-12, "{level}: {after}, {due}");
                }
                assert!((trainer.clip_grad_norm(f32::INFINITY).expect("norm") - 1.5).abs() < 1e-4);
                for bad in [-1.0, f32::NAN] {
                    assert!(matches!(trainer.clip_grad_norm(bad), Err(Error::MaxNorm { .. })));
                }
                trainer.clip_grad_norm(0.0).expect("norm");
                assert!(nunatak_tests::gradients(trainer).iter().all(|g| *g == 0.0));
            });
        }
    }
}

#[test]
fn schedules_are_pytorchs() {
    let cases = golden("schedules.json");
    assert!(cases.len() >= 10);
    for case in &cases {
        let int = |k: &str| case[k].as_u64().unwrap_or_else(|| panic!("{k}"));
        let number = |k: &str| case[k].as_f64().unwrap_or_else(|| panic!("{k}")) as f32;
        let milestones: Vec<u64> =
            case["milestones"].as_array().map(|m| m.iter().map(|v| v.as_u64().expect("a unit")).collect()).unwrap_or_default();
        let schedule = match case["kind"].as_str().expect("a kind") {
            "step" => Schedule::Step { size: int("size"), gamma: number("gamma") },
            "multistep" => Schedule::MultiStep { milestones: &milestones, gamma: number("gamma") },
            "cosine" => Schedule::Cosine { warmup: 0, total: int("total"), floor: number("floor") },
            _ => Schedule::OneCycle { total: int("total"), rise: number("rise"), div: number("div"), final_div: number("final_div") },
        };
        let rates = case["rates"].as_array().expect("rates");
        for (unit, rate) in rates.iter().enumerate() {
            let (got, due) = (f64::from(schedule.factor(unit as u64)), rate.as_f64().expect("a rate"));
            assert!((got - due).abs() <= 1e-6, "{schedule:?} at {unit}: {got}, PyTorch {due}");
        }
    }
}

/// Past their end and for odd numbers schedules stay finite and within their range.
#[test]
fn schedules_never_leave_their_range() {
    let one_cycle = |total, rise| Schedule::OneCycle { total, rise, div: 25.0, final_div: 1e4 };
    let cosine = |warmup, total| Schedule::Cosine { warmup, total, floor: 0.1 };
    let milestones = [3, 1, 3];
    let mut all = vec![Schedule::Constant, Schedule::Step { size: 0, gamma: 0.5 }, Schedule::Step { size: 1, gamma: 0.5 }];
    all.push(Schedule::MultiStep { milestones: &milestones, gamma: 0.5 });
    for total in [0, 1, 2, 3, 10, 1000] {
        all.extend([0.0, 0.01, 0.3, 1.0].map(|rise| one_cycle(total, rise)));
        all.extend([0, 1, 5, 2000].map(|warmup| cosine(warmup, total)));
    }
    for schedule in all {
        for unit in (0..50).chain([999, 1000, 1001, u64::from(u32::MAX), u64::MAX]) {
            let factor = schedule.factor(unit);
            assert!((0.0..=1.0).contains(&factor), "{schedule:?} at {unit}: {factor}");
        }
    }
}

/// Two plans, one trainer: what a step does depends on nothing but gradients, state and settings.
#[test]
fn a_rate_of_zero_moves_nothing_but_momentum() {
    let setup = training(small(), 2, 12, Loss::Sum);
    let (_, values) = plan(&setup);
    with_trainer(&setup, Level::detect(), Threads::serial(), |trainer, _| {
        Batch::random(&setup, 1).set(trainer, &values).expect("set");
        trainer.forward().expect("forward");
        let params = |t: &Trainer| bits(t).into_iter().filter(|(n, _)| !n.starts_with("momentum")).collect::<Vec<_>>();
        let before = params(trainer);
        trainer.backward().expect("backward");
        trainer.step(Optimizer::new(Sgd { momentum: 0.9, ..Sgd::new(0.0) }).expect("settings")).expect("step");
        same_bits("a rate of 0", &before, &params(trainer));
    });
}
