//! Bundles from anywhere: any bytes give an error, or a bundle whose every program can be read.

use nunatak_core::bundle::{self, Bundle, BundleError, MOST_NAME, MOST_PROGRAMS};
use nunatak_core::program::{Program, checksum};
use nunatak_core::rng::Generator;
use nunatak_nn::plan;
use nunatak_nn::routines::{Listed, Part, Table};
use nunatak_nn::{
    Conv, CrossEntropyOptions, Error, Graph, Level, Loss, Mode, Norm, NormPolicy, Scope, Select, Sgd, Step, Threads, Trainer, Update, Var,
};

const CLASSES: usize = 3;

/// A small network: a convolution of so many channels, a normalisation, a head.
fn layers<'g>(channels: usize) -> impl Fn(Scope<'g>, Var<'g>) -> (Var<'g>, Var<'g>) {
    move |g, x| {
        let x = g.batch_norm("bn", g.conv2d("conv", x, Conv::new(channels, 3).pad(1).no_bias()), Norm::default()).relu();
        let features = x.adaptive_avg_pool(1);
        g.set_head("fc");
        (features, g.linear("fc", features, CLASSES))
    }
}

/// Plans the three steps that a board has together: predict one image, train the head, train everything.
fn planned<T>(channels: usize, with: impl FnOnce(&[(&'static str, Step)]) -> T) -> T {
    let graphs: [Graph; 3] = Default::default();
    let loss = Loss::CrossEntropy(CrossEntropyOptions::default());
    let of = |graph: &'_ Graph<'static>, batch, loss| graph.usual([batch, 2, 6, 6], loss, layers(channels)).expect("a recording");
    let (predict, head, all) = (of(&graphs[0], 1, Loss::None), of(&graphs[1], 4, loss), of(&graphs[2], 4, loss));
    let keep = [[predict.prediction], [head.prediction], [all.prediction]];
    with(&[
        ("predict", Step::new(&graphs[0]).keep(&keep[0]).mode(Mode::Eval).train(Select::All)),
        ("head", Step::new(&graphs[1]).root(head.root).keep(&keep[1]).train(Select::Head).norm_policy(NormPolicy::Fixed)),
        ("all", Step::new(&graphs[2]).root(all.root).keep(&keep[2]).update(Update::During)),
    ])
}

fn sound() -> Vec<u8> {
    planned(5, plan::bundle).expect("a bundle")
}

fn programs(bytes: &[u8]) -> Vec<(&str, Program<'_>)> {
    let bundle = Bundle::check(bytes).expect("a bundle");
    (0..bundle.count()).map(|i| (bundle.name(i), bundle.program(i))).collect()
}

/// Gives bytes their checksum again.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&bytes);
    bytes[20..28].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[test]
fn a_bundle_holds_its_programs() {
    let bytes = sound();
    let bundle = Bundle::check(&bytes).expect("a bundle");
    assert_eq!((bundle.count(), bytes.len() % 64), (3, 0));
    for (number, name) in ["predict", "head", "all"].into_iter().enumerate() {
        let program = Program::check(bundle.program_bytes(number)).expect("a program");
        assert_eq!((bundle.name(number), bundle.named(name)), (name, Some(number)));
        assert_eq!((bundle.program_bytes(number).as_ptr() as usize - bytes.as_ptr() as usize) % 64, 0);
        assert_eq!((bundle.lasting_len(), bundle.layout_hash()), (program.lasting_len(), bundle::layout_hash(&program)));
        assert!(program.block_len() <= bundle.block_len());
    }
    assert_eq!(bundle.named("train"), None);
    assert_eq!(bundle.block_len(), programs(&bytes).iter().map(|(_, program)| program.block_len()).max().expect("programs"));
    assert_eq!(bytes, sound(), "the same bytes each time");
}

/// Every number that lasts lies at one place in all programs, so that a switch moves nothing.
#[test]
fn what_lasts_lies_in_one_place() {
    let bytes = sound();
    let programs = programs(&bytes);
    for (name, program) in &programs {
        for id in program.entries() {
            for (other_name, other) in &programs {
                let (a, b) = (program.entry(id), other.entry(id));
                assert_eq!(a.place(), b.place(), "{} in {name} and {other_name}", a.name());
                if let (Some(a), Some(b)) = (a.momentum(), b.momentum()) {
                    assert_eq!(a, b, "{}'s momentum in {name} and {other_name}", program.entry(id).name());
                }
            }
        }
        assert_eq!(program.state(), programs[0].1.state());
    }
    // Planned alone, they disagree: the head's momentum has no other before it.
    let alone = planned(5, |steps| steps.iter().map(|(name, step)| Ok((*name, step.plan()?))).collect::<Result<Vec<_>, Error>>());
    assert_eq!(bundle::write(&alone.expect("plans")), Err(BundleError::Lasting { number: 1 }));
}

/// Weights after steps by programs of a bundle have the bits of the same steps by programs that were planned alone.
#[test]
fn a_bundle_trains_as_its_steps_do() {
    let alone = planned(5, |steps| steps.iter().map(|(_, step)| step.plan()).collect::<Result<Vec<_>, _>>()).expect("plans");
    let bytes = sound();
    let together: Vec<Program> = programs(&bytes).into_iter().map(|(_, program)| program).collect();
    let train = |programs: &[Program]| {
        let most = programs.iter().map(Trainer::bytes).max().expect("programs");
        let mut memory = vec![0x55; most];
        let mut trainer = Trainer::new(programs[2].view(), &mut memory, Level::PORTABLE, Threads::serial()).expect("memory");
        trainer.init(3);
        let mut random = Generator::manual_seed(4);
        let mut seen = Vec::new();
        for step in [2, 1, 0, 1, 2, 2] {
            trainer.switch(programs[step].view()).expect("switch");
            let data = trainer.value_named("data").expect("data");
            let mut images = vec![0.0; if step == 0 { 1 } else { 4 } * 72];
            images.iter_mut().for_each(|v| *v = random.uniform(-1.0, 1.0));
            trainer.set_input(data, &images).expect("images");
            if step > 0 {
                let labels = trainer.value_named("labels").expect("labels");
                trainer.set_labels(labels, &[0, 1, 2, 0]).expect("labels");
            }
            trainer.forward().expect("forward");
            if step > 0 {
                trainer.backward_and_step(Sgd { momentum: 0.9, ..Sgd::new(0.1) }).expect("a step");
            }
            for id in trainer.program().entries() {
                let mut numbers = vec![0.0; trainer.program().entry(id).numbers()];
                if trainer.entry(id, &mut numbers).is_ok() {
                    seen.extend(numbers.iter().map(|v| v.to_bits()));
                }
            }
        }
        seen
    };
    assert_eq!(train(&together), train(&alone));
}

#[test]
fn programs_that_share_nothing_are_no_bundle() {
    let bytes = sound();
    let other = planned(7, plan::bundle).expect("a bundle");
    let (programs, others) = (programs(&bytes), programs(&other));
    let first = &programs[0].1;
    assert_eq!(bundle::write(&[programs[0].clone(), ("other", others[0].1.clone())]), Err(BundleError::Lasting { number: 1 }));
    assert_eq!(bundle::write(&[]), Err(BundleError::Count { got: 0 }));
    assert_eq!(bundle::write(&[("one", first.clone()), ("one", programs[1].1.clone())]), Err(BundleError::Name { number: 1 }));
    for name in ["", "a\0b", &"n".repeat(MOST_NAME + 1)] {
        assert_eq!(bundle::write(&[(name, first.clone())]), Err(BundleError::Name { number: 0 }), "{name:?}");
    }
    let longest = "n".repeat(MOST_NAME);
    let bytes = bundle::write(&[(&longest, first.clone())]).expect("a bundle");
    assert_eq!(Bundle::check(&bytes).expect("a bundle").name(0), longest);
    let names: Vec<String> = (0..=MOST_PROGRAMS).map(|i| format!("p{i}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), first.clone())).collect();
    assert_eq!(bundle::write(&many), Err(BundleError::Count { got: MOST_PROGRAMS + 1 }));
    assert!(bundle::write(&many[1..]).is_ok_and(|bytes| Bundle::check(&bytes).is_ok_and(|bundle| bundle.count() == MOST_PROGRAMS)));
}

/// What the programs of the bundle call, as a table: with it they run, without one of its routines none does that calls
/// it.
#[test]
fn a_table_of_routines_is_enough_or_an_error() {
    static TABLE: &[&Listed] = &[
        &Listed::of(3, Part::Forward),
        &Listed::of(4, Part::Forward),
        &Listed::of(6, Part::Forward),
        &Listed::of(8, Part::Forward),
        &Listed::of(9, Part::Forward),
        &Listed::of(9, Part::BackwardWeight),
        &Listed::of(17, Part::Forward),
        &Listed::of(17, Part::BackwardInput),
    ];
    let bytes = sound();
    let programs = programs(&bytes);
    let table = Table::new(TABLE);
    let bound = |program: &Program, table| {
        let mut memory = vec![0; Trainer::bytes(program)];
        let bound = Trainer::with_routines(program.view(), &mut memory, None, table, Level::PORTABLE, Threads::serial());
        bound.map(drop)
    };
    for (name, program) in &programs {
        assert_eq!(Table::ALL.lacks(program), None, "{name}");
        assert_eq!(bound(program, table).is_ok(), table.lacks(program).is_none(), "{name}: {:?}", table.lacks(program));
        assert_eq!(table.lacks(program).is_none(), *name != "all", "{name}");
        let needed: std::collections::BTreeSet<_> = nunatak_nn::routines::needed(program).collect();
        for (code, part) in needed {
            let less: Vec<&'static Listed> = Table::ALL.listed().filter(|l| (l.code(), l.part()) != (code, part)).collect();
            let less = Table::new(less.leak());
            assert_eq!(less.lacks(program), Some((code, part)), "{name}");
            assert!(matches!(bound(program, less), Err(Error::Program(_))), "{name} without {code} {}", part.name());
        }
    }
}

#[test]
fn every_changed_byte_is_found() {
    let bytes = sound();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert!(Bundle::check(&changed).is_err(), "byte {at}");
    }
    for len in 0..bytes.len() {
        assert!(Bundle::check(&bytes[..len]).is_err(), "{len} bytes");
    }
}

/// Words that are changed and sealed anew: an error, or a bundle of which everything can be read.
#[test]
fn nothing_that_a_bundle_says_is_believed() {
    let bytes = sound();
    let mut refused = 0;
    for word in 0..64 {
        let old = u32::from_le_bytes(bytes[4 * word..4 * word + 4].try_into().expect("a word"));
        for new in [0, 1, 2, 3, 15, 16, 64, 65, old.wrapping_add(1), old.wrapping_sub(1), old ^ 0x8000_0000, u32::MAX] {
            let mut changed = bytes.clone();
            changed[4 * word..4 * word + 4].copy_from_slice(&new.to_le_bytes());
            let changed = sealed(changed);
            match Bundle::check(&changed) {
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
                Ok(bundle) => {
                    for i in 0..bundle.count() {
                        assert!(!bundle.name(i).is_empty() && bundle.program(i).block_len() <= bundle.block_len());
                    }
                    let name = word >= 16 && word % 16 < 12;
                    assert!(name || new == old || word == 5 || word == 6, "word {word}: {new}");
                }
            }
        }
    }
    assert!(refused > 300, "{refused}");
}
