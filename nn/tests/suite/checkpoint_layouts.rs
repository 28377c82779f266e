//! One network in the forms in which people's training scripts save it: `tests/golden/checkpoint/layouts.py`
//! made the files with PyTorch. Each gives the same numbers, or an error that says what to do.

use crate::support::golden;
use nunatak_nn::files::state::{Loaded, StateError, Values, check, recipe_of};
use nunatak_nn::files::{Checkpoint, Head, ReadErrorKind};
use nunatak_nn::ops::Conv;
use nunatak_nn::{Graph, Level, Loss, Program, Recipe, Stem, Step, Threads, Trainer};
use std::collections::BTreeMap;

fn layout(name: &str) -> Vec<u8> {
    golden(&format!("layouts/{name}"))
}

fn recipe() -> Recipe {
    Recipe::new(&[1, 1], &[4, 6], Stem { kernel: 3, stride: 1, pad: 1, pool: false }, 3, 3).expect("a recipe")
}

fn program(recipe: Recipe) -> Program<'static> {
    let graph = Graph::new();
    let values = graph.usual([1, 3, 8, 8], Loss::None, |g, x| recipe.record(g, x)).expect("a recording");
    Step::new(&graph).root(values.root).train("none").plan().expect("a plan")
}

type Numbers = BTreeMap<String, Vec<f64>>;

/// What a trainer has after it loaded the file; counts as numbers.
fn loaded(file: &Checkpoint) -> Result<(Numbers, Loaded), StateError> {
    let program = program(recipe());
    let mut memory = vec![0x55; Trainer::bytes(&program)];
    let mut trainer = Trainer::new(program, &mut memory, Level::detect(), Threads::serial()).expect("memory");
    let loaded = trainer.load(file, Head::Load)?;
    let numbers = |values: Values| match values {
        Values::F32(v) => v.into_iter().map(f64::from).collect(),
        Values::I64(v) => v.into_iter().map(|n| n as f64).collect(),
        Values::I32(v) => v.into_iter().map(f64::from).collect(),
    };
    Ok((trainer.state().tensors.into_iter().map(|(name, _, values)| (name, numbers(values))).collect(), loaded))
}

fn base() -> Numbers {
    let bytes = layout("base.safetensors");
    loaded(&Checkpoint::parse(&bytes).expect("the base")).expect("the base fits").0
}

/// Files of the whole network, and what is said of each.
const SAME: [(&str, &str); 33] = [
    ("plain.pth", ""),
    ("parameters.pth", ""),
    ("beside.pth", "\"model\""),
    ("beside_protocol4.pth", "\"state_dict\""),
    ("beside_legacy.pth", "\"state_dict\""),
    ("under_model_state_dict.pth", "\"model_state_dict\""),
    ("under_params_ema.pth", "\"params_ema\""),
    ("deep.pth", "\"trainer.run.1.nets.student\""),
    ("tuple.pth", "\"0\""),
    ("adam.pth", "\"net\""),
    ("scalar_beside.pth", "\"loss\""),
    ("lightning.pth", "\"state_dict.criterion.weight\""),
    ("compiled_ddp.pth", "\"module._orig_mod\""),
    ("own_prefix.pth", "\"encoder.backbone.net\""),
    ("swa.pth", "\"n_averaged\""),
    ("shadow.pth", "\"ema.shadow.conv1.weight\""),
    ("same_twice.pth", "\"model\""),
    ("hugging_face.safetensors", "HuggingFace"),
    ("hugging_face_lightning.pth", "HuggingFace"),
    ("cifar.pth", "shortcut, linear"),
    ("cifar100.pth", "residual_function"),
    ("wrapped_head.pth", "fc.1 is taken as fc"),
    ("half.pth", ""),
    ("double.pth", ""),
    ("float_counters.pth", ""),
    ("counters_of_one.pth", ""),
    ("int32_counters.pth", ""),
    ("module.pth", ""),
    ("module_protocol4.pth", ""),
    ("module_legacy.pth", ""),
    ("module_ddp.pth", "\"model.module\""),
    ("deflated.pth", ""),
    ("trailing.pth", ""),
];

#[test]
fn the_same_network_in_every_form() {
    let base = base();
    for (name, remark) in SAME {
        let bytes = layout(name);
        let file = Checkpoint::parse(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(file.ambiguity().is_none(), "{name}");
        let remarks = file.remarks().join("\n");
        assert!(remarks.contains(remark) && (remarks.is_empty() == remark.is_empty()), "{name}: {remarks}");
        assert_eq!(recipe_of(&file).unwrap_or_else(|e| panic!("{name}: {e}")), recipe(), "{name}");
        let (numbers, _) = loaded(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
        for (entry, due) in &base {
            let near = |(a, b): (&f64, &f64)| (a - b).abs() <= if name == "half.pth" { 1e-3 * b.abs().max(1e-4) } else { 0.0 };
            assert!(numbers[entry].len() == due.len() && numbers[entry].iter().zip(due).all(near), "{name}: {entry}");
        }
    }
}

#[test]
fn a_body_without_its_head() {
    let bytes = layout("sequential.pth");
    let file = Checkpoint::parse(&bytes).expect("parses");
    assert!(file.remarks().join("").contains("nn.Sequential"), "{:?}", file.remarks());
    assert_eq!(recipe_of(&file).expect("a network").classes, 0);
    check(&program(recipe()), &file, Head::Keep).expect("all but the head");
    let error = check(&program(recipe()), &file, Head::Load).expect_err("no head").to_string();
    assert!(error.contains("2 missing: fc.weight, fc.bias"), "{error}");
}

/// Names from a file may be terminal codes, or very long.
#[test]
fn names_in_errors_are_escaped_and_cut() {
    let long = "x".repeat(5000);
    let header = format!(r#"{{"\u001b[2J\u007f{long}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 4]].concat();
    let file = Checkpoint::parse(&bytes).expect("parses");
    let error = check(&program(recipe()), &file, Head::Load).expect_err("another network").to_string();
    let name = format!(r"1 unexpected: \u{{1b}}[2J\u{{7f}}{}…", "x".repeat(75));
    assert!(error.contains(&name) && !error.contains(char::is_control), "{error}");
}

#[test]
fn several_that_fit_are_a_question() {
    for (name, keys) in [("two_dicts.pth", ["model", "model_ema"]), ("two_prefixes.pth", ["encoder_k", "encoder_q"])] {
        let bytes = layout(name);
        let file = Checkpoint::parse(&bytes).expect("parses");
        for error in [
            file.ambiguity().expect("a question").to_string(),
            recipe_of(&file).expect_err("a question").to_string(),
            loaded(&file).expect_err("a question").to_string(),
        ] {
            assert!(keys.iter().all(|key| error.contains(&format!("\"{key}\""))) && error.contains("--key"), "{name}: {error}");
        }
        assert!(file.get(&format!("{}.conv1.weight", keys[0])).is_some(), "all tensors are there");
        let own = if name == "two_dicts.pth" { keys[0] } else { keys[1] };
        let chosen = Checkpoint::parse_key(&bytes, own).expect("a choice");
        assert!(loaded(&chosen).expect("it fits").0 == base(), "{name}");
        let wrong = Checkpoint::parse_key(&bytes, "modell").expect_err("no such key");
        assert_eq!(wrong.kind(), ReadErrorKind::Ambiguous);
        assert!(wrong.to_string().contains("no dict of tensors under \"modell\""), "{wrong}");
    }
    let bytes = layout("two_unknown.pth");
    let file = Checkpoint::parse(&bytes).expect("parses");
    let error = file.ambiguity().expect("a question").to_string();
    assert!(error.contains("\"generator\"") && error.contains("\"discriminator\""), "{error}");
    assert_eq!(file.entries().len(), 4);
    let one = Checkpoint::parse_key(&bytes, "discriminator").expect("a choice");
    assert!(one.get("c.weight").is_some() && one.get("b.weight").is_none() && one.key() == "discriminator");
}

#[test]
fn a_head_of_several_layers_is_told() {
    let bytes = layout("other_head.pth");
    let file = Checkpoint::parse(&bytes).expect("parses");
    let remarks = file.remarks().join("\n");
    for part in ["several layers", "fc.0 [5, 6]", "fc.3 [3, 5]"] {
        assert!(remarks.contains(part), "{remarks}");
    }
    check(&program(recipe()), &file, Head::Keep).expect("all but the head");
    assert!(check(&program(recipe()), &file, Head::Load).is_err());
}

#[test]
fn what_is_made_of_something_unknown_is_named() {
    let bytes = layout("other_quantised.pth");
    let file = Checkpoint::parse(&bytes).expect("the rest is good");
    let error = loaded(&file).expect_err("conv1.weight is quantised").to_string();
    assert!(error.contains("conv1.weight") && error.contains("torch._utils._rebuild_qtensor"), "{error}");
}

#[test]
fn errors_name_the_nearest_entry() {
    let with = |from: &str, to: &str| {
        let bytes = layout("base.safetensors");
        let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let text = std::str::from_utf8(&bytes[8..8 + len]).unwrap().replacen(from, to, 1);
        crate::support::safetensors(&text, &bytes[8 + len..])
    };
    for (from, to, near) in [
        ("\"conv1.weight\"", "\"stem.conv1.weight\"", "there is no conv1.weight, but there is stem.conv1.weight"),
        ("\"bn1.running_mean\"", "\"bn1.runing_mean\"", "there is no bn1.running_mean, but there is bn1.runing_mean"),
    ] {
        let bytes = with(from, to);
        let file = Checkpoint::parse(&bytes).expect("parses");
        let error = loaded(&file).expect_err("an entry lacks").to_string();
        assert!(error.contains(near), "{error}");
    }
}

/// A network of one's own, under names that no table knows.
#[test]
fn a_network_of_ones_own_is_found_by_its_names() {
    use nunatak_nn::files::{Data, TensorOut, write_safetensors};
    let graph = Graph::new();
    let values = graph.usual([1, 3, 8, 8], Loss::None, |g, x| {
        let y = g.scope("body").conv2d("first", x, Conv::new(4, 3)).relu().adaptive_avg_pool(1);
        let y = g.linear("head", y.flatten(), 2);
        (y, y)
    });
    let Ok(values) = values else { panic!("a recording") };
    let program = Step::new(&graph).root(values.root).train("none").plan().expect("a plan");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.safetensors");
    let data = vec![0.25; 200];
    let shapes: Vec<(String, Vec<usize>)> = program
        .entries()
        .map(|id| {
            let (shape, rank) = program.entry(id).shape();
            (format!("student.{}", program.entry(id).name()), shape[..rank].to_vec())
        })
        .collect();
    let mut tensors: Vec<TensorOut<'_>> =
        shapes.iter().map(|(name, shape)| TensorOut { name, shape, data: Data::F32(&data[..shape.iter().product::<usize>()]) }).collect();
    tensors.push(TensorOut { name: "criterion.weight", shape: &[2], data: Data::F32(&data[..2]) });
    write_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    check(&program, &Checkpoint::parse(&bytes).expect("parses"), Head::Load).expect("it fits under its prefix");
}
