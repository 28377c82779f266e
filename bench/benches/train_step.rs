//! Whole steps of ResNet18: training, the head alone, inference, and training with more and more
//! frozen.
#![allow(missing_docs)] // criterion's macros make public items

use criterion::{Criterion, criterion_group, criterion_main};
use nunatak_bench::numbers;
use nunatak_nn::{Level, Loss, Mode, Network, NormPolicy, Optimizer, Options, ParamSet, Recipe, Setup, Sgd, Threads, Trainer};

fn bench(criterion: &mut Criterion, name: &str, setup: Setup) {
    let threads = Threads::new(setup.options.threads).expect("threads");
    let (blueprint, _, values) = setup.plan().expect("a plan");
    let mut memory = vec![0; blueprint.bytes()];
    let mut trainer = Trainer::new(blueprint, &mut memory, Level::detect(), threads).expect("enough memory");
    trainer.init(0);
    let images = numbers(setup.batch * 3 * setup.height * setup.width);
    let labels = numbers(setup.batch * setup.recipe.classes);
    let optimizer = Optimizer::new(Sgd { momentum: 0.9, ..Sgd::new(1e-5) }).expect("settings");
    let mut step = || {
        trainer.set_input(values.data, &images)?;
        if let Some(place) = values.labels {
            trainer.set_input(place, &labels)?;
        }
        trainer.forward()?;
        if trainer.blueprint().trains() { trainer.backward_and_step(&optimizer) } else { Ok(()) }
    };
    let mut group = criterion.benchmark_group("step");
    group.sample_size(10);
    group.bench_function(name, |b| b.iter(|| step().expect("a step")));
    group.finish();
}

fn benches(criterion: &mut Criterion) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let network = |classes| Network::new(Recipe::resnet18(classes)).expect("a network");
    for (n, size) in [(1, 64), (8, 64), (32, 64), (1, 224), (8, 224)] {
        let infer = Setup::inference(Recipe::resnet18(1000), n, size, size);
        let infer = Setup { options: Options { threads, ..infer.options }, ..infer };
        let train = Setup {
            mode: Mode::Train,
            norm_policy: NormPolicy::Updating,
            loss: Loss::Sum,
            trainable: network(1000).all(),
            options: Options { threads, ..Options::default() },
            ..infer
        };
        let head = Setup { recipe: Recipe::resnet18(10), trainable: network(10).head(), ..train };
        bench(criterion, &format!("train/{n}x{size}"), train);
        bench(criterion, &format!("head/{n}x{size}"), head);
        bench(criterion, &format!("infer/{n}x{size}"), infer);
    }
    // Freezing from below: nothing, then one layer after the other.
    let all = network(1000);
    let mut frozen: Vec<&str> = Vec::new();
    for next in ["nothing", "conv1", "bn1", "layer1", "layer2", "layer3", "layer4"] {
        frozen.push(next);
        let within = |name: &str| frozen.iter().any(|f| name.strip_prefix(f).is_some_and(|rest| rest.starts_with('.')));
        let trainable: ParamSet = all.select(|name| !within(name));
        let options = Options { threads, ..Options::default() };
        let setup = Setup { mode: Mode::Train, loss: Loss::Sum, trainable, options, ..Setup::inference(Recipe::resnet18(1000), 8, 64, 64) };
        bench(criterion, &format!("frozen_to/{next}"), setup);
    }
}

criterion_group!(train_step, benches);
criterion_main!(train_step);
