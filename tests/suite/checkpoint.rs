//! State dicts in and out of a trainer: everything that can be wrong with a file of weights, in one
//! report, before anything is changed.

use half::f16;
use nunatak_nn::files::state::{Head, RECIPE_KEY, State, StateError, Values, recipe_metadata, recipe_of};
use nunatak_nn::files::{Checkpoint, Data, TensorOut, write_pth, write_safetensors};
use nunatak_nn::{EntryKind, Level, Loss, Mode, Recipe, Threads, Trainer};
use nunatak_tests::{Batch, Setup, bits, same_bits, small, training, with_trainer};
use std::collections::BTreeMap;

/// ResNet18 and 34 in all but width: the same names, in files that are quickly written.
fn narrow(blocks: [usize; 4]) -> Recipe {
    Recipe::new(&blocks, &[4, 6, 8, 10], Recipe::resnet18(10).stem, 3, 10).expect("a recipe")
}

const RESNET18: [usize; 4] = [2, 2, 2, 2];
const RESNET34: [usize; 4] = [3, 4, 6, 3];

/// Uses the file's bytes as a file would be read.
fn written(state: &State, pth: bool) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(if pth { "model.pth" } else { "model.safetensors" });
    match pth {
        true => write_pth(&path, &state.views(), &Default::default()).expect("written"),
        false => write_safetensors(&path, &state.views(), &BTreeMap::new()).expect("written"),
    }
    std::fs::read(&path).expect("read")
}

fn trained<R>(recipe: Recipe, seed: u64, use_it: impl FnOnce(&mut Trainer) -> R) -> R {
    let setup = training(recipe, 2, if recipe == small() { 12 } else { 33 }, Loss::Sum);
    with_trainer(&setup, Level::detect(), Threads::serial(), |trainer, values| {
        trainer.init(seed);
        // A step, so that statistics, counts and momentum are not those of the beginning.
        Batch::random(&setup, seed).set(trainer, &values).expect("set");
        trainer.forward().expect("forward");
        let optimizer = nunatak_nn::Optimizer::new(nunatak_nn::Sgd { momentum: 0.9, ..nunatak_nn::Sgd::new(1e-3) }).expect("settings");
        trainer.backward_and_step(optimizer).expect("step");
        use_it(trainer)
    })
}

fn state(recipe: Recipe, seed: u64) -> State {
    trained(recipe, seed, |trainer| trainer.state())
}

/// Loads a spoilt state; asserts that nothing has changed, and returns the error.
#[track_caller]
fn refused(spoil: impl FnOnce(&mut State)) -> StateError {
    let mut spoilt = state(small(), 1);
    spoil(&mut spoilt);
    refused_file(&written(&spoilt, false), Head::Load)
}

#[track_caller]
fn refused_file(bytes: &[u8], head: Head) -> StateError {
    trained(small(), 2, |trainer| {
        let before = bits(trainer);
        let file = Checkpoint::parse(bytes).expect("a file that parses");
        let error = trainer.load(&file, head).expect_err("refused");
        same_bits("after a refused file", &before, &bits(trainer));
        assert!(!error.to_string().is_empty());
        error
    })
}

fn tensor<'s>(state: &'s mut State, name: &str) -> &'s mut Values {
    &mut state.tensors.iter_mut().find(|(n, ..)| n == name).unwrap_or_else(|| panic!("{name}")).2
}

#[test]
fn what_is_written_is_read_back_in_every_bit() {
    for recipe in [small(), Recipe::resnet18(10)] {
        let (saved, before) = trained(recipe, 1, |trainer| {
            let without_momentum: Vec<_> = bits(trainer).into_iter().filter(|(n, _)| !n.starts_with("momentum")).collect();
            (trainer.state(), without_momentum)
        });
        if recipe == Recipe::resnet18(10) {
            assert_eq!(saved.tensors.len(), 122);
        }
        for pth in [false, true] {
            let bytes = written(&saved, pth);
            trained(recipe, 2, |trainer| {
                let file = Checkpoint::parse(&bytes).expect("parses");
                let loaded = trainer.load(&file, Head::Load).expect("loads");
                assert!(loaded.not_finite.is_empty());
                // Momentum belongs to another network now, and is forgotten.
                same_bits("read back", &before, &bits(trainer));
                assert!(trainer.gradients().next().is_none());
                let again = written(&trainer.state(), pth);
                assert_eq!(again, bytes, "and written again");
            });
        }
    }
}

#[test]
fn missing_unexpected_and_misshapen_entries_are_one_report() {
    let error = refused(|state| {
        state.tensors.retain(|(name, ..)| name != "bn1.bias" && name != "layer2.0.conv2.weight");
        for name in ["extra", "layer1.7.conv1.weight"] {
            state.tensors.push((name.to_string(), vec![2], Values::F32(vec![0.0; 2])));
        }
        for (name, shape, _) in &mut state.tensors {
            match name.as_str() {
                "layer1.0.conv1.weight" => shape.swap(0, 3),
                "fc.weight" => *shape = vec![45],
                "fc.bias" => *shape = vec![5, 1],
                _ => {}
            }
        }
    });
    let StateError::Mismatch(m) = &error else { panic!("{error}") };
    assert_eq!(m.missing, ["bn1.bias", "layer2.0.conv2.weight"]);
    assert_eq!(m.unexpected.len(), 2);
    let names: Vec<_> = m.misshapen.iter().map(|(n, ..)| n.as_str()).collect();
    assert_eq!(names, ["layer1.0.conv1.weight", "fc.weight", "fc.bias"]);
    let text = error.to_string();
    for part in ["bn1.bias", "layer2.0.conv2.weight", "extra", "layer1.7.conv1.weight", "[3, 5, 3, 5]", "[5, 5, 3, 3]", "[45]", "[5, 9]"] {
        assert!(text.contains(part), "{part} in: {text}");
    }
}

#[test]
fn a_head_of_another_size_says_what_to_do() {
    let bytes = written(&state(small().with_classes(1000), 1), false);
    let text = refused_file(&bytes, Head::Load).to_string();
    assert!(text.contains("[1000, 9]") && text.contains("[5, 9]") && text.contains("classes") && text.contains("new head"), "{text}");
    // Asked to keep its own head, the trainer takes the rest.
    trained(small(), 2, |trainer| {
        let before = bits(trainer);
        trainer.load(&Checkpoint::parse(&bytes).expect("parses"), Head::Keep).expect("loads");
        let head = |all: &[(String, Vec<u32>)]| all.iter().filter(|(n, _)| n.starts_with("fc.")).cloned().collect::<Vec<_>>();
        same_bits("the head", &head(&before), &head(&bits(trainer)));
        assert_ne!(before[0], bits(trainer)[0], "the rest was loaded");
    });
    // A file without a head will do then, but for nothing else.
    let mut bare = state(small(), 1);
    bare.tensors.retain(|(name, ..)| !name.starts_with("fc."));
    let bytes = written(&bare, false);
    assert!(matches!(refused_file(&bytes, Head::Load), StateError::Mismatch(m) if m.missing.len() == 2));
    trained(small(), 2, |trainer| trainer.load(&Checkpoint::parse(&bytes).expect("parses"), Head::Keep).map(drop)).expect("loads");
}

#[test]
fn resnet34_into_resnet18() {
    let bytes = written(&state(narrow(RESNET34), 1), false);
    let file = Checkpoint::parse(&bytes).expect("parses");
    trained(narrow(RESNET18), 2, |trainer| {
        let before = bits(trainer);
        let error = trainer.load(&file, Head::Load).expect_err("too deep");
        let StateError::Mismatch(m) = &error else { panic!("{error}") };
        // 218 lines against 122: 16 convolutions and as many normalisations of 5 lines more.
        assert_eq!((m.missing.len(), m.unexpected.len(), m.misshapen.len()), (0, 96, 0));
        assert!(m.unexpected.iter().any(|n| n == "layer3.5.conv1.weight"));
        same_bits("after a refused file", &before, &bits(trainer));
    });
    assert_eq!(recipe_of(&file).ok(), Some(narrow(RESNET34)));
}

#[test]
fn values_that_no_training_leaves() {
    let error = refused(|state| {
        let Values::F32(var) = tensor(state, "layer2.0.bn1.running_var") else { panic!("f32") };
        var[3] = -1e-3;
    });
    assert!(matches!(&error, StateError::Value { name, .. } if name == "layer2.0.bn1.running_var"), "{error}");
    assert!(error.to_string().contains("negative"), "{error}");
    let error = refused(|state| *tensor(state, "bn1.num_batches_tracked") = Values::I64(vec![-1]));
    assert!(matches!(&error, StateError::Value { name, .. } if name == "bn1.num_batches_tracked"), "{error}");
    // A count of another type is converted, as PyTorch does.
    let mut float = state(small(), 1);
    *tensor(&mut float, "bn1.num_batches_tracked") = Values::F32(vec![3.0]);
    let bytes = written(&float, false);
    let count = trained(small(), 2, |trainer| {
        trainer.load(&Checkpoint::parse(&bytes).expect("parses"), Head::Load).expect("loads");
        trainer.count(trainer.entry_named("bn1.num_batches_tracked").expect("a count"))
    });
    assert_eq!(count, 3);
    // −0.0 is no negative number.
    let mut zero = state(small(), 1);
    let Values::F32(var) = tensor(&mut zero, "bn1.running_var") else { panic!("f32") };
    var[0] = -0.0;
    let bytes = written(&zero, false);
    trained(small(), 2, |trainer| trainer.load(&Checkpoint::parse(&bytes).expect("parses"), Head::Load).map(drop)).expect("loads");
}

/// Weights are loaded as PyTorch loads them, and named: the caller decides. Statistics are refused.
#[test]
fn weights_that_are_not_finite_or_denormal() {
    let mut odd = state(small(), 1);
    let Values::F32(weight) = tensor(&mut odd, "layer1.0.conv2.weight") else { panic!("f32") };
    (weight[0], weight[1], weight[2], weight[3]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-42);
    let bytes = written(&odd, false);
    for (name, bad) in [("bn1.running_mean", f32::NAN), ("bn1.running_var", f32::NAN), ("layer1.0.bn1.running_var", f32::INFINITY)] {
        let error = refused(|state| {
            let Values::F32(statistics) = tensor(state, name) else { panic!("f32") };
            statistics[1] = bad;
        });
        assert!(matches!(&error, StateError::Value { name: of, .. } if of == name), "{error}");
    }
    for level in Level::available() {
        let setup = Setup { mode: Mode::Eval, ..training(small(), 2, 12, Loss::Sum) };
        with_trainer(&setup, level, Threads::serial(), |trainer, values| {
            let loaded = trainer.load(&Checkpoint::parse(&bytes).expect("parses"), Head::Load).expect("loads");
            let names: Vec<_> = loaded.not_finite.iter().map(|(n, c)| (n.as_str(), *c)).collect();
            assert_eq!(names, [("layer1.0.conv2.weight", 3)]);
            let back = nunatak_tests::param(trainer, "layer1.0.conv2.weight");
            assert!(back[0].is_nan() && back[1] == f32::INFINITY && back[2] == f32::NEG_INFINITY);
            assert_eq!(back[3].to_bits(), 1e-42_f32.to_bits(), "a denormal number is a number");
            Batch::random(&setup, 1).set(trainer, &values).expect("set");
            trainer.forward().expect("forward");
            assert!(matches!(trainer.backward(), Err(nunatak_nn::Error::LossNotFinite { .. })));
            assert!(trainer.finite(values.loss.expect("loss")).is_err());
        });
    }
}

/// Files from before PyTorch 0.4.1 count no batches.
#[test]
fn files_without_counts() {
    let mut old = state(narrow(RESNET18), 1);
    old.tensors.retain(|(name, ..)| !name.ends_with("num_batches_tracked"));
    assert_eq!(old.tensors.len(), 102);
    let bytes = written(&old, true);
    trained(narrow(RESNET18), 2, |trainer| {
        let program = trainer.program();
        let counts: Vec<_> = program.entries().filter(|id| program.entry(*id).kind() == EntryKind::Count).collect();
        assert!(counts.len() == 20 && counts.iter().all(|id| trainer.count(*id) == 1));
        trainer.load(&Checkpoint::parse(&bytes).expect("parses"), Head::Load).expect("loads");
        assert!(counts.iter().all(|id| trainer.count(*id) == 0), "counts begin anew");
    });
}

/// DataParallel's prefix is taken off a `.pth`; in part of the names it is part of a name.
#[test]
fn the_prefix_module() {
    for pth in [true, false] {
        let mut prefixed = state(small(), 1);
        let due = prefixed.clone();
        prefixed.tensors.iter_mut().for_each(|(name, ..)| *name = format!("module.{name}"));
        let bytes = written(&prefixed, pth);
        trained(small(), 2, |trainer| {
            trainer.load(&Checkpoint::parse(&bytes).expect("parses"), Head::Load).unwrap_or_else(|e| panic!("pth {pth}: {e}"));
            assert_eq!(written(&trainer.state(), pth), written(&due, pth));
        });
    }
    let error = refused(|state| state.tensors[0].0 = "module.conv1.weight".into());
    assert!(
        matches!(&error, StateError::Mismatch(m) if m.missing == ["conv1.weight"] && m.unexpected == ["module.conv1.weight"]),
        "{error}"
    );
}

/// Halves are widened exactly.
#[test]
fn files_of_halves() {
    let full = state(small(), 1);
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, shape, values) in &full.tensors {
        let begin = data.len();
        let dtype = match values {
            Values::F32(v) => {
                v.iter().for_each(|v| data.extend(f16::from_f32(*v).to_le_bytes()));
                "F16"
            }
            Values::I64(v) => {
                v.iter().for_each(|v| data.extend(v.to_le_bytes()));
                "I64"
            }
            Values::I32(_) => unreachable!("{name} is no layer of 8 bits"),
        };
        header.insert(name.clone(), serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, data.len()]}));
    }
    let header = serde_json::to_string(&header).expect("JSON");
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    trained(small(), 2, |trainer| {
        trainer.load(&Checkpoint::parse(&bytes).expect("parses"), Head::Load).expect("loads");
        let got = trainer.state();
        for ((name, _, got), (_, _, due)) in got.tensors.iter().zip(&full.tensors) {
            if let (Values::F32(got), Values::F32(due)) = (got, due) {
                let same = got.iter().zip(due).all(|(g, d)| g.to_bits() == f16::from_f32(*d).to_f32().to_bits());
                assert!(same, "{name}");
            }
        }
    });
}

/// Which network a file is of stands in its names and shapes.
#[test]
fn recipes_are_found_out() {
    for recipe in [narrow(RESNET18), narrow(RESNET34), Recipe::resnet8(10), small(), small().with_classes(0)] {
        let setup = Setup::inference(recipe, 1, 33, 33);
        let saved = with_trainer(&setup, Level::PORTABLE, Threads::serial(), |trainer, _| trainer.state());
        let bytes = written(&saved, false);
        assert_eq!(recipe_of(&Checkpoint::parse(&bytes).expect("parses")).ok(), Some(recipe));
    }
    // A stem that leaves no trace is told by the metadata, whatever they say.
    let stem = nunatak_nn::Stem { kernel: 7, stride: 1, pad: 2, pool: false };
    let recipe = Recipe::new(&[1], &[4], stem, 1, 2).expect("a recipe");
    let saved = with_trainer(&Setup::inference(recipe, 1, 33, 33), Level::PORTABLE, Threads::serial(), |trainer, _| trainer.state());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.safetensors");
    let found = |metadata: &BTreeMap<String, String>| {
        write_safetensors(&path, &saved.views(), metadata).expect("written");
        let bytes = std::fs::read(&path).expect("read");
        recipe_of(&Checkpoint::parse(&bytes).expect("parses")).map_err(|e| e.to_string())
    };
    assert_eq!(found(&recipe_metadata(&recipe)), Ok(recipe));
    for nonsense in ["", "stem", "stem 7 2", "stem a b c d", "stem 7 -1 3 1", "7 2 3 1"] {
        let metadata = BTreeMap::from([(RECIPE_KEY.to_string(), nonsense.to_string())]);
        assert_eq!(found(&metadata).map(|r| r.stem.stride), Ok(2), "{nonsense:?}");
    }
    for impossible in ["stem 7 0 3 1", "stem 0 1 3 1", "stem 7 1 99999999999 1"] {
        let metadata = BTreeMap::from([(RECIPE_KEY.to_string(), impossible.to_string())]);
        assert!(found(&metadata).is_err(), "{impossible:?}");
    }
    let other = [TensorOut { name: "weight", shape: &[2], data: Data::F32(&[0.0; 2]) }];
    write_safetensors(&path, &other, &BTreeMap::new()).expect("written");
    let bytes = std::fs::read(&path).expect("read");
    assert!(matches!(recipe_of(&Checkpoint::parse(&bytes).expect("parses")), Err(StateError::NoNetwork(_))));
}
