//! Whole steps of ResNet18: training (the tutorial's step), the head alone, inference; and training
//! with more and more frozen.
//!
//! Before it is timed a step is compared with the same step at the portable level, on one thread, by
//! plain matrix products.

use crate::buffer::{Buffer, Buffers};
use crate::case::{Case, Timer, compare};
use crate::cells::Cell;
use crate::settings::Settings;
use nunatak_kernels::Cpu;
use nunatak_nn::{
    Algorithm, Error, Level, Loss, Mode, Network, NormPolicy, Optimizer, Options, ParamSet, Recipe, Setup, Sgd, Threads, Trainer,
};

/// The largest difference of predictions, of the largest: thirty layers of different sums.
const TOLERANCE: f64 = 2e-4;

/// Steps at every cell, then freezing by depth at the last of the 64-pixel cells.
pub fn cases(settings: &Settings) -> Vec<Case> {
    let mut list = whole(settings);
    let cell = settings.step_cells.iter().copied().rfind(|c| c.size == 64 && c.n <= 8);
    list.extend(cell.into_iter().flat_map(freezing));
    list
}

/// Training, the head alone and inference at every cell.
pub fn whole(settings: &Settings) -> Vec<Case> {
    let mut list = Vec::new();
    for &cell in &settings.step_cells {
        let infer = Setup::inference(Recipe::resnet18(1000), cell.n, cell.size, cell.size);
        let head = Setup { recipe: Recipe::resnet18(10), ..training(cell, network(10).head()) };
        list.push(case(format!("step/train/{cell}"), training(cell, network(1000).all())));
        list.push(case(format!("step/head/{cell}"), head));
        list.push(case(format!("step/infer/{cell}"), infer));
    }
    list
}

/// Training with everything frozen up to and including a layer.
fn freezing(cell: Cell) -> Vec<Case> {
    let mut frozen: Vec<&str> = Vec::new();
    let depths = ["nothing", "conv1", "bn1", "layer1", "layer2", "layer3", "layer4"];
    let of_depth = |next: &'static str| {
        frozen.push(next);
        let within = |name: &str| frozen.iter().any(|f| name.strip_prefix(f).is_some_and(|rest| rest.starts_with('.')));
        case(format!("frozen_to/{next}/{cell}"), training(cell, network(1000).select(|name| !within(name))))
    };
    depths.into_iter().map(of_depth).collect()
}

fn network(classes: usize) -> Network {
    Network::new(Recipe::resnet18(classes)).expect("ResNet18 is a network")
}

fn training(cell: Cell, trainable: ParamSet) -> Setup {
    Setup {
        mode: Mode::Train,
        norm_policy: NormPolicy::Updating,
        loss: Loss::Sum,
        trainable,
        options: Options::default(),
        ..Setup::inference(Recipe::resnet18(1000), cell.n, cell.size, cell.size)
    }
}

fn case(group: String, setup: Setup) -> Case {
    let (blueprint, ..) = setup.plan().expect("a plan of ResNet18");
    let (tape, needs) = (blueprint.tape(), blueprint.needs());
    let flops = tape.values().map(|v| {
        let passes = 1 + u64::from(needs.at(v).dx != [false; 2]) + u64::from(needs.at(v).dw != [false; 2]);
        passes * tape.node(v).map_or(0, |node| node.op.flops())
    });
    Case {
        group,
        variant: String::new(),
        flops: flops.sum(),
        bytes: blueprint.bytes() as u64,
        with: Box::new(move |cpu, time| run(setup, cpu, time)),
    }
}

fn run(mut setup: Setup, cpu: &Cpu, time: Timer) {
    let plain = Setup { algorithms: [Some(Algorithm::Gemm); 3], ..setup };
    let truth = with_step(plain, Level::PORTABLE, Threads::serial(), |step| step.predictions());
    setup.options.threads = cpu.threads.count();
    with_step(setup, cpu.level, cpu.threads.clone(), |step| {
        compare(
            "predictions before and after a step",
            &step.predictions(),
            &truth.iter().map(|v| f64::from(*v)).collect::<Vec<_>>(),
            TOLERANCE,
        );
        time(&mut || step.run().expect("a step"));
    });
}

/// A trainer with inputs, ready to be repeated.
struct Step<'m> {
    trainer: Trainer<'m>,
    optimizer: Optimizer,
    values: nunatak_nn::setup::Values,
    images: Buffer,
    labels: Buffer,
}

impl Step<'_> {
    fn run(&mut self) -> Result<(), Error> {
        self.trainer.set_input(self.values.data, &self.images)?;
        if let Some(place) = self.values.labels {
            self.trainer.set_input(place, &self.labels)?;
        }
        self.trainer.forward()?;
        if self.trainer.blueprint().trains() { self.trainer.backward_and_step(&self.optimizer) } else { Ok(()) }
    }

    /// Of the first step and of the second, which shows what the first has changed.
    fn predictions(&mut self) -> Vec<f32> {
        let mut both = Vec::new();
        for _ in 0..2 {
            self.run().expect("a step");
            let mut prediction = vec![0.0; self.labels.len()];
            self.trainer.value(self.values.prediction, &mut prediction).expect("the prediction is kept");
            both.extend(prediction);
        }
        both
    }
}

fn with_step<R>(setup: Setup, level: Level, threads: Threads, use_it: impl FnOnce(&mut Step) -> R) -> R {
    let (blueprint, _, values) = setup.plan().expect("a plan");
    let mut memory = vec![0; blueprint.bytes()];
    let mut trainer = Trainer::new(blueprint, &mut memory, level, threads).expect("enough memory");
    trainer.init(0);
    let optimizer = Optimizer::new(Sgd { momentum: 0.9, ..Sgd::new(1e-5) }).expect("settings");
    let mut new = Buffers::default();
    let images = new.random(setup.batch * 3 * setup.height * setup.width, 1);
    let labels = new.random(setup.batch * setup.recipe.classes, 2);
    use_it(&mut Step { trainer, optimizer, values, images, labels })
}
