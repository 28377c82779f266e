//! How much stack the calls of the library need: each is made on a thread that has no more.
//!
//! A thread that overflows its stack takes the process with it, so every case runs in a process of its own.

#![allow(missing_docs)]

use nunatak_nn::files::{Checkpoint, Head, write_safetensors};
use nunatak_nn::optim::Sgd;
use nunatak_nn::plan::Step;
use nunatak_nn::record::{Graph, Loss, Scope, Var};
use nunatak_nn::step::Trainer;
use nunatak_nn::{Level, Program, Threads, models};
use std::process::Command;

/// What a thread needs before and behind the call: its own start, and the panic's machinery.
const AROUND: usize = 16 << 10;

/// The cases, and the bytes of stack that each may take. A step's are those of the convolutions' tiles.
const CASES: [(&str, usize); 5] =
    [("plan resnet18", 16 << 10), ("plan resnet152", 16 << 10), ("step", 32 << 10), ("predict", 32 << 10), ("load and save", 16 << 10)];

type Model = for<'g> fn(Scope<'g>, Var<'g>, usize) -> Var<'g>;

fn plan(model: Model, loss: Loss) -> Program<'static> {
    let graph = Graph::new();
    let values = graph.usual([1, 3, 64, 64], loss, |g, x| {
        let y = model(g, x, 10);
        (y, y)
    });
    let values = values.expect("a recording");
    let trained = if loss == Loss::None { "none" } else { "all" };
    Step::new(&graph).root(values.root).keep(&[values.prediction]).train(trained).threads(2).plan().expect("a plan")
}

fn trainer(loss: Loss) -> Trainer<'static> {
    let mut trainer =
        Trainer::owning(plan(models::resnet18, loss), Level::from_environment().expect("a level"), Threads::serial()).expect("a trainer");
    trainer.init(0);
    let data = trainer.value_named("data").expect("an input");
    trainer.set_input(data, &[0.5; 3 * 64 * 64]).expect("images");
    if let Ok(labels) = trainer.value_named("labels") {
        trainer.set_input(labels, &[0.5; 10]).expect("labels");
    }
    trainer
}

/// Runs a case on a thread with so much stack.
fn run(case: &str, stack: usize) {
    let call: Box<dyn FnOnce() + Send> = match case {
        "plan resnet18" => Box::new(|| drop(plan(models::resnet18, Loss::Sum))),
        "plan resnet152" => Box::new(|| drop(plan(models::resnet152, Loss::Sum))),
        "step" => {
            let mut trainer = trainer(Loss::Sum);
            Box::new(move || {
                trainer.forward().expect("forward");
                trainer.backward_and_step(Sgd { momentum: 0.9, ..Sgd::new(0.01) }).expect("a step");
            })
        }
        "predict" => {
            let mut trainer = trainer(Loss::None);
            Box::new(move || trainer.forward().expect("forward"))
        }
        "load and save" => {
            let mut trainer = trainer(Loss::None);
            let folder = tempfile::tempdir().expect("a folder");
            Box::new(move || {
                let path = folder.path().join("model.safetensors");
                write_safetensors(&path, &trainer.state().views(), &Default::default()).expect("saved");
                let bytes = std::fs::read(&path).expect("the file");
                trainer.load(&Checkpoint::parse(&bytes).expect("a checkpoint"), Head::Load).expect("loaded");
            })
        }
        other => panic!("no case: {other}"),
    };
    std::thread::Builder::new().stack_size(stack).spawn(call).expect("a thread").join().expect("the call");
}

/// What the processes of the test below run; by itself it does nothing.
#[test]
fn child() {
    if let Ok(case) = std::env::var("NUNATAK_STACK_CASE") {
        let (case, stack) = case.split_once(':').expect("case:bytes");
        run(case, stack.parse().expect("bytes"));
    }
}

#[test]
fn calls_fit_small_stacks() {
    if nunatak_tests::emulated() {
        return println!("SKIPPED: an emulator's process needs stack of its own");
    }
    let fits = |case: &str, level: Level, stack: usize| {
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        child.args(["child", "--exact"]).env("NUNATAK_STACK_CASE", format!("{case}:{stack}")).env("NUNATAK_LEVEL", level.name());
        child.output().expect("a process").status.success()
    };
    for level in Level::available() {
        for (case, most) in CASES {
            assert!(fits(case, level, most + AROUND), "{case} at {level} needs more than {most} bytes of stack");
        }
    }
    assert!(!fits("no such case", Level::PORTABLE, 1 << 20), "a process that fails is seen");
}
