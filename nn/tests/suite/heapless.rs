//! `.safetensors` without a heap: beside the readers and writers with one.

use nunatak_nn::files::Checkpoint;
use nunatak_nn::files::heapless::{FileError, Head, Safetensors};
use nunatak_nn::{EntryId, Graph, Level, Loss, Program, Recipe, Sgd, Step, Threads, Trainer, Usual};

const SEEDS: [&[u8]; 2] = [
    include_bytes!("../../../fuzz/seeds/safetensors/small.safetensors"),
    include_bytes!("../../../fuzz/seeds/safetensors/dtypes.safetensors"),
];

/// A step that trains the head alone.
fn plan() -> (Program<'static>, Usual) {
    let graph = Graph::new();
    let values = graph.usual([2, 3, 16, 16], Loss::Sum, |g, x| Recipe::resnet8(10).record(g, x)).expect("a recording");
    (Step::new(&graph).root(values.root).train("head").plan().expect("a plan"), values)
}

fn with_trainer<T>(then: impl FnOnce(&mut Trainer) -> T) -> T {
    let (program, _) = plan();
    let mut memory = vec![0; Trainer::bytes(&program)];
    let mut trainer = Trainer::new(program, &mut memory, Level::detect(), Threads::serial()).expect("memory");
    trainer.init(3);
    then(&mut trainer)
}

/// A file of a trainer that has taken a step, at an offset of `shift` bytes.
fn saved(momentum: bool, shift: usize) -> Vec<u8> {
    with_trainer(|t| {
        let (_, values) = plan();
        t.set_input(values.data, &[0.5; 2 * 3 * 16 * 16]).expect("input");
        t.set_input(values.labels.expect("labels"), &[0.25; 20]).expect("labels");
        t.forward().expect("forward");
        t.backward().expect("backward");
        t.step(Sgd { momentum: 0.9, ..Sgd::new(0.1) }).expect("step");
        let mut room = vec![0xaa_u8; t.safetensors_bytes(momentum) + shift + 3];
        let len = t.save_safetensors(momentum, &mut room[shift..]).expect("room");
        assert_eq!((len + shift + 3, &room[len + shift..]), (room.len(), &[0xaa; 3][..]));
        let file = room[shift..shift + len].to_vec();
        let state = if momentum { t.state_with_momentum() } else { t.state() };
        let read = Checkpoint::parse(&file).expect("readable");
        assert_eq!(read.entries().len(), state.tensors.len());
        for tensor in state.views() {
            let entry = read.get(tensor.name).expect("there");
            assert_eq!(entry.shape(), tensor.shape);
            match tensor.data {
                nunatak_nn::files::Data::F32(v) => assert_eq!(entry.as_f32().map(<[f32]>::to_vec), Some(v.to_vec())),
                nunatak_nn::files::Data::I32(v) => assert_eq!(entry.read_words().expect("words"), v),
                nunatak_nn::files::Data::I64(v) => assert_eq!(entry.read_i64().expect("counts"), v),
            }
        }
        file
    })
}

#[test]
fn what_is_saved_is_loaded_from_any_address() {
    for (momentum, shift) in [(false, 0), (true, 0), (true, 1), (false, 2)] {
        let file = saved(momentum, shift);
        for offset in 0..4 {
            let mut bytes = vec![0; offset];
            bytes.extend(&file);
            with_trainer(|t| {
                t.load_safetensors(&bytes[offset..], Head::Load).expect("its own file");
                assert!((0..t.program().entry_count() as u32).all(|id| !t.has_momentum(EntryId(id))));
                t.load_momentum_safetensors(&bytes[offset..]).expect("its own file");
                let mut again = vec![0; t.safetensors_bytes(momentum)];
                t.save_safetensors(momentum, &mut again).expect("room");
                assert_eq!(again, file);
            });
        }
    }
}

#[test]
fn the_head_can_be_kept() {
    let file = saved(false, 0);
    with_trainer(|t| {
        let weight = t.entry_named("fc.weight").expect("fc.weight");
        let mut before = vec![0.0; 640];
        t.entry(weight, &mut before).expect("fc.weight");
        t.load_safetensors(&file, Head::Keep).expect("its own file");
        let mut after = vec![0.0; 640];
        t.entry(weight, &mut after).expect("fc.weight");
        assert_eq!(before, after);
    });
}

/// Changes the header of a good file.
fn edited(from: &str, to: &str) -> Vec<u8> {
    let file = saved(true, 0);
    let len = u64::from_le_bytes(file[..8].try_into().expect("eight")) as usize;
    let text = std::str::from_utf8(&file[8..8 + len]).expect("text");
    assert!(text.contains(from), "{from}");
    let text = text.replacen(from, to, 1);
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes.extend(&file[8 + len..]);
    bytes
}

#[test]
fn what_does_not_fit_is_named() {
    let cases = [
        ("\"conv1.weight\"", "\"conv9.weight\"", "this network has no entry conv9.weight"),
        ("\"bn1.bias\"", "\"bn1.weight\"", "bn1.weight: two tensors have this name"),
        ("\"bn1.bias\"", "\"bn1.b\\u0069as\"", ""),
        ("[16,3,3,3]", "[3,16,3,3]", "conv1.weight has the shape [3, 16, 3, 3] in the file, [16, 3, 3, 3] was expected"),
        ("[10,64]", "[64,10]", "the head has another number of classes"),
        ("[10,64]", "[10,65]", "bytes of data for shape [10, 65] of F32"),
        ("F32", "F64", "bytes of data for shape"),
        ("\"F32\",\"shape\":[10]", "\"I32\",\"shape\":[10]", "numbers must be F32"),
        ("F32", "X32", "the dtype \"X32\" is unknown"),
        ("{\"__metadata__\"", "{\"__metadata__\":{},\"__metadata__\"", "appears twice"),
        ("\"dtype\"", "\"shape\":[1],\"dtype\"", "the field \"shape\" appears twice"),
        ("\"dtype\"", "\"type\"", "unknown field \"type\""),
        ("momentum.fc.weight", "momentum.fc.wait", "this network has no entry momentum.fc.wait"),
        ("momentum.fc.weight", "momentum.conv1.weight", ""),
    ];
    for (from, to, expected) in cases {
        let file = edited(from, to);
        with_trainer(|t| {
            let result = t.load_safetensors(&file, Head::Load);
            let text = result.as_ref().err().map_or(String::new(), ToString::to_string);
            assert!(text.contains(expected) && (result.is_err() != expected.is_empty()), "{from} -> {to}: {text}");
        });
    }
    with_trainer(|t| {
        let wrong_owner = t.load_momentum_safetensors(&edited("momentum.fc.weight", "momentum.conv1.weight"));
        assert!(matches!(wrong_owner, Err(FileError::Misshapen { .. })));
        let frozen = t.load_momentum_safetensors(&edited(
            "momentum.fc.bias\":{\"dtype\":\"F32\",\"shape\":[10]",
            "momentum.fc.bias\":{\"dtype\":\"F32\",\"shape\":[5,2]",
        ));
        assert!(matches!(frozen, Err(FileError::Misshapen { .. })));
    });
}

#[test]
fn what_is_missing_is_counted_and_nothing_has_changed() {
    let mut lacking = edited("\"conv1.weight\"", "\"momentum.conv1.weight\"");
    with_trainer(|t| {
        let mut before = vec![0; t.safetensors_bytes(false)];
        t.save_safetensors(false, &mut before).expect("room");
        match t.load_safetensors(&lacking, Head::Load) {
            Err(FileError::Missing { name, more: 0 }) => assert_eq!(name.as_str(), "conv1.weight"),
            other => panic!("{other:?}"),
        }
        lacking.pop();
        assert!(matches!(t.load_safetensors(&lacking, Head::Load), Err(FileError::Format { .. })));
        let mut after = vec![0; before.len()];
        t.save_safetensors(false, &mut after).expect("room");
        assert!(before == after);
        let needed = before.len();
        let given = needed - 1;
        assert_eq!(t.save_safetensors(false, &mut before[1..]), Err(FileError::Room { needed, given }));
    });
}

#[test]
fn every_prefix_is_an_error() {
    let file = saved(false, 0);
    let header = 8 + u64::from_le_bytes(file[..8].try_into().expect("eight")) as usize;
    for len in (0..header + 64).chain(file.len() - 9..file.len()) {
        assert!(Safetensors::parse(&file[..len]).is_err(), "{len}");
    }
}

#[test]
fn what_this_reader_takes_the_other_takes_too() {
    for seed in SEEDS {
        let check = |bytes: &[u8]| {
            if Safetensors::parse(bytes).is_ok() {
                // The other also refuses names that come twice, which here is left to the loader.
                match Checkpoint::parse(bytes) {
                    Ok(_) => {}
                    Err(e) => {
                        assert!(e.to_string().contains("two tensors have this name") || e.to_string().contains("appears twice"), "{e}")
                    }
                }
            }
        };
        assert!(Safetensors::parse(seed).is_ok());
        for i in 0..seed.len().min(2000) {
            for with in [0, b'"', b'9', b'}', 0xff] {
                let mut bytes = seed.to_vec();
                bytes[i] = with;
                check(&bytes);
            }
        }
    }
}

#[test]
fn data_in_another_order_than_the_header_are_found() {
    let build = |tensors: &[(&str, usize, usize)], data: usize| {
        let list: Vec<_> = tensors
            .iter()
            .map(|(n, a, b)| format!("\"{n}\":{{\"dtype\":\"U8\",\"shape\":[{}],\"data_offsets\":[{a},{b}]}}", b - a))
            .collect();
        let text = format!("{{{}}}", list.join(","));
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    };
    for (tensors, data, good) in [
        (&[("b", 4, 9), ("a", 0, 4)][..], 9, true),
        (&[("b", 4, 9), ("a", 0, 4), ("c", 4, 4)], 9, true),
        (&[("b", 4, 9), ("a", 0, 4)], 10, false),
        (&[("b", 4, 9), ("a", 0, 5)], 9, false),
        (&[("b", 5, 9), ("a", 0, 4)], 9, false),
        (&[("b", 4, 9), ("a", 0, 4), ("c", 0, 4)], 9, false),
        (&[("b", 4, 9), ("a", 0, 9)], 9, false),
        (&[], 0, true),
        (&[], 1, false),
    ] {
        assert_eq!(Safetensors::parse(&build(tensors, data)).is_ok(), good, "{tensors:?}");
    }
}

/// The time that a header takes does not depend on its order: a file of 40,000 tensors in reversed order is
/// read in a moment, or a quadratic reader would need minutes.
#[test]
fn a_header_in_reversed_order_takes_no_longer() {
    let n = 40_000;
    let list: Vec<_> =
        (0..n).rev().map(|i| format!("\"{i:x}\":{{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[{i},{}]}}", i + 1)).collect();
    let text = format!("{{{}}}", list.join(","));
    let file = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &vec![0; n]].concat();
    let start = std::time::Instant::now();
    assert!(Safetensors::parse(&file).is_ok());
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
    let hole = text.replacen("[7,8]", "[8,9]", 1);
    let file = [&(hole.len() as u64).to_le_bytes()[..], hole.as_bytes(), &vec![0; n]].concat();
    assert!(Safetensors::parse(&file).is_err());
}
