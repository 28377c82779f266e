//! A seed means the same network as in torchvision: `golden/init.safetensors` has some numbers of
//! every weight of `resnet18(seed 0)` and `resnet34(seed 3, 10 classes)`, and the sums of all.

use nunatak_core::rng::Generator;
use nunatak_nn::files::Checkpoint;
use nunatak_nn::{EntryKind, Level, Loss, Recipe, Threads, Trainer};
use nunatak_tests::{Batch, Setup, bits, golden_folder, numbers, param, plan, same_bits, small, training, with_trainer};

/// The places that `make.py` stores: both ends, and eight spread with a stride.
fn places(n: usize) -> Vec<usize> {
    (0..n.min(8)).chain(n.saturating_sub(8)..n).chain((0..8).map(|i| (i * 104_729 + 17) % n)).collect()
}

#[test]
fn seeds_give_torchvisions_networks() {
    let bytes = std::fs::read(golden_folder().join("init.safetensors")).expect("the golden");
    let golden = Checkpoint::parse_all(&bytes).expect("parses");
    let mut seen = 0;
    for (arch, recipe, seed) in [("resnet18", Recipe::resnet18(1000), 0), ("resnet34", Recipe::resnet34(10), 3)] {
        let (program, ..) = plan(&Setup::inference(recipe, 1, 33, 33));
        let mut memory = vec![0x77; Trainer::bytes(&program)];
        let mut trainer = Trainer::new(program, &mut memory, Level::detect(), Threads::serial()).expect("memory");
        trainer.init(seed);
        let mut room = Vec::new();
        let (program, mut statistics) = (trainer.program(), 0);
        for id in program.entries() {
            let (name, kind, (shape, rank)) = (program.entry(id).name(), program.entry(id).kind(), program.entry(id).shape());
            let due = match kind {
                EntryKind::Count => {
                    assert_eq!(trainer.count(id), 0, "{name}");
                    continue;
                }
                EntryKind::RunningMean => Some(0.0_f32),
                EntryKind::RunningVar => Some(1.0),
                // Gamma and beta are the vectors outside of the head.
                EntryKind::Parameter if rank == 1 && !name.starts_with("fc.") => Some(if name.ends_with("weight") { 1.0 } else { 0.0 }),
                EntryKind::Parameter | EntryKind::Words => None,
            };
            let p = numbers(&trainer, id);
            if let Some(due) = due {
                assert!(p.len() == shape[0] && p.iter().all(|v| v.to_bits() == due.to_bits()), "{name}");
                statistics += usize::from(kind != EntryKind::Parameter);
                continue;
            }
            let sigma = match name.starts_with("fc.") {
                true => 1.0 / (512.0_f64 * 3.0).sqrt(),
                false => (2.0 / (shape[0] * shape[2] * shape[3]) as f64).sqrt(),
            };
            let entry = golden.get(&format!("{arch}.{name}")).unwrap_or_else(|| panic!("{arch}.{name}"));
            // f64, of which the sums need more than f32 holds; the numbers themselves are f32.
            entry.read_f32(&mut room).expect("numbers");
            let places = places(p.len());
            for (at, due) in places.iter().zip(&room) {
                let error = f64::from((p[*at] - due).abs());
                assert!(error <= 1e-6 * sigma.max(f64::from(due.abs())), "{arch} {name}[{at}]: {} instead of {due}", p[*at]);
            }
            let sum: f64 = p.iter().map(|v| f64::from(*v)).sum();
            let squares: f64 = p.iter().map(|v| f64::from(*v).powi(2)).sum();
            let n = p.len() as f64;
            let [due_sum, due_squares] = [room[places.len()], room[places.len() + 1]].map(f64::from);
            assert!((sum - due_sum).abs() <= 1e-6 * sigma * n.max(10.0), "{arch} {name}: sum {sum}, torch {due_sum}");
            assert!((squares - due_squares).abs() <= 1e-5 * due_squares, "{arch} {name}: squares {squares}, torch {due_squares}");
            seen += 1;
        }
        assert_eq!(statistics, if arch == "resnet18" { 40 } else { 72 }, "{arch}: running statistics");
    }
    assert_eq!(seen, golden.entries().len(), "every tensor of the golden was compared");
}

/// The same seed again is the same network, whatever was there; another seed is another.
#[test]
fn a_seed_is_all_that_counts() {
    let setup = training(small(), 2, 12, Loss::Sum);
    for level in Level::available() {
        with_trainer(&setup, level, Threads::serial(), |trainer, values| {
            let before = bits(trainer);
            Batch::random(&setup, 1).set(trainer, &values).expect("set");
            trainer.forward().expect("forward");
            let optimizer = nunatak_nn::Optimizer::new(nunatak_nn::Sgd { momentum: 0.9, ..nunatak_nn::Sgd::new(0.1) }).expect("settings");
            trainer.backward_and_step(optimizer).expect("step");
            trainer.init(7);
            same_bits("the same seed", &before, &bits(trainer));
            trainer.init(8);
            assert_ne!(before, bits(trainer));
            trainer.init(7 + (1 << 32));
            same_bits("PyTorch's generator takes 32 bits of a seed", &before, &bits(trainer));
        });
    }
}

/// PyTorch's `manual_seed(0); Linear(512, 10)` begins with these; a generator goes on afterwards.
#[test]
fn a_new_head_is_pytorchs_linear() {
    let recipe = Recipe::resnet18(10);
    let (program, ..) = plan(&Setup::inference(recipe, 1, 33, 33));
    let mut memory = vec![0; Trainer::bytes(&program)];
    let mut trainer = Trainer::new(program, &mut memory, Level::detect(), Threads::serial()).expect("memory");
    trainer.init(1);
    let mut generator = Generator::manual_seed(0);
    trainer.init_head(&mut generator);
    let (weight, bias) = (param(&trainer, "fc.weight"), param(&trainer, "fc.bias"));
    // (0.4962566 · 2 − 1) · 0.04419417 and so on: the first draws of seed 0.
    for (got, draw) in weight.iter().zip([0.496_256_6, 0.768_221_8, 0.088_477_4, 0.132_030_5_f64]) {
        assert!((f64::from(*got) - (2.0 * draw - 1.0) * 0.044_194_17).abs() < 1e-7, "{got}");
    }
    let bound = 0.044_194_18;
    assert!(weight.iter().chain(&bias).all(|v| v.abs() <= bound));
    let mut after = Generator::manual_seed(0);
    after.skip(512 * 10 + 10);
    assert_eq!(generator.random32(), after.random32(), "weight, then bias, one draw each");
}
