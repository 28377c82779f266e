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
use nunatak_nn::step::{call_flops, each_call};
use nunatak_nn::{Algorithm, Error, Graph, Level, Loss, Mode, Optimizer, Pass, Program, Recipe, Sgd, Step, Threads, Trainer, Usual};

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
        let train = Setup::training(cell, "all");
        list.push(case(format!("step/train/{cell}"), train.clone()));
        list.push(case(format!("step/head/{cell}"), Setup { recipe: Recipe::resnet18(10), trainable: "fc".into(), ..train.clone() }));
        list.push(case(format!("step/infer/{cell}"), Setup { loss: Loss::None, mode: Mode::Eval, ..train }));
    }
    list
}

/// Training with everything frozen up to and including a layer.
fn freezing(cell: Cell) -> Vec<Case> {
    let layers = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"];
    let frozen_to = ["nothing"].iter().chain(&layers[..6]);
    frozen_to
        .enumerate()
        .map(|(depth, last)| case(format!("frozen_to/{last}/{cell}"), Setup::training(cell, &layers[depth..].join(","))))
        .collect()
}

/// A step of ResNet18.
#[derive(Clone)]
struct Setup {
    recipe: Recipe,
    cell: Cell,
    mode: Mode,
    loss: Loss,
    trainable: String,
    threads: usize,
    algorithm: Option<Algorithm>,
}

impl Setup {
    fn training(cell: Cell, trainable: &str) -> Setup {
        let trainable = trainable.to_string();
        Setup { recipe: Recipe::resnet18(1000), cell, mode: Mode::Train, loss: Loss::Sum, trainable, threads: 1, algorithm: None }
    }

    fn plan(&self) -> (Program<'static>, Usual) {
        let graph = Graph::new();
        let images = [self.cell.n, 3, self.cell.size, self.cell.size];
        let values = graph.usual(images, self.loss, |g, x| self.recipe.record(g, x)).expect("ResNet18 can be recorded");
        let keep = [values.prediction, values.features];
        let mut step = Step::new(&graph).root(values.root).keep(&keep).mode(self.mode).threads(self.threads);
        step = match values.root {
            Some(_) => step.train(self.trainable.as_str()),
            None => step.train("none"),
        };
        for pass in Pass::ALL {
            step = step.force(pass, self.algorithm);
        }
        (step.plan().expect("a plan of ResNet18"), values)
    }
}

fn case(group: String, setup: Setup) -> Case {
    let (program, _) = setup.plan();
    let mut flops = 0;
    each_call(&program, |event| flops += call_flops(&program, event));
    Case {
        group,
        variant: String::new(),
        flops,
        bytes: Trainer::bytes(&program) as u64,
        with: Box::new(move |cpu, time| run(&setup, cpu, time)),
    }
}

fn run(setup: &Setup, cpu: &Cpu, time: Timer) {
    let plain = Setup { algorithm: Some(Algorithm::Gemm), threads: 1, ..setup.clone() };
    let truth = with_step(&plain, Level::PORTABLE, Threads::serial(), |step| step.predictions());
    let setup = Setup { threads: cpu.threads.count(), ..setup.clone() };
    with_step(&setup, cpu.level, cpu.threads.clone(), |step| {
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
struct Ready<'m> {
    trainer: Trainer<'m>,
    optimizer: Optimizer<'static>,
    values: Usual,
    images: Buffer,
    labels: Buffer,
}

impl Ready<'_> {
    fn run(&mut self) -> Result<(), Error> {
        self.trainer.set_input(self.values.data, &self.images)?;
        if let Some(place) = self.values.labels {
            self.trainer.set_input(place, &self.labels)?;
        }
        self.trainer.forward()?;
        if self.trainer.trains() { self.trainer.backward_and_step(self.optimizer) } else { Ok(()) }
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

fn with_step<R>(setup: &Setup, level: Level, threads: Threads, use_it: impl FnOnce(&mut Ready) -> R) -> R {
    let (program, values) = setup.plan();
    let mut memory = vec![0; Trainer::bytes(&program)];
    let mut trainer = Trainer::new(program, &mut memory, level, threads).expect("enough memory");
    trainer.init(0);
    let optimizer = Optimizer::new(Sgd { momentum: 0.9, ..Sgd::new(1e-5) }).expect("settings");
    let mut new = Buffers::default();
    let images = new.random(setup.cell.n * 3 * setup.cell.size * setup.cell.size, 1);
    let labels = new.random(setup.cell.n * setup.recipe.classes, 2);
    use_it(&mut Ready { trainer, optimizer, values, images, labels })
}
