//! A network of one's own: recorded, trained, frozen by a prefix, saved, loaded, looked into, exported. Run it with
//! `cargo run --release --example own_network`.

use nunatak_nn::files::{Checkpoint, Head, write_onnx, write_safetensors};
use nunatak_nn::{Conv, Graph, Mode, Scope, Sgd, Step, Trainer, Var};
use std::path::Path;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Two branches of grouped convolutions between a stem and a head. The names are those of the state dict.
pub(crate) fn network<'g>(g: Scope<'g>, x: Var<'g>) -> Var<'g> {
    let (stem, branches) = (g.scope("stem"), g.scope("branches"));
    let x = stem.conv2d("conv", x, Conv::new(8, 3).pad(1)).relu().max_pool(2, 2, 0);
    let narrow = branches.conv2d("narrow", x, Conv::new(12, 3).pad(1).groups(4)).silu();
    let wide = branches.conv2d("wide", x, Conv::new(4, 5).pad(2).groups(2)).hardswish();
    let both = g.name("both", g.concat(&[narrow, wide]));
    g.linear("head", both.flatten(), 2)
}

/// Images with a bright left or right half, and which half it is.
pub(crate) fn examples() -> (Vec<f32>, Vec<f32>) {
    let side = |image: usize| (image * 7 / 3) % 2;
    let pixel = |i: usize| 0.1 * ((i * 29 % 17) as f32 / 8.0 - 1.0) + if i % 8 / 4 == side(i / 64) { 1.0 } else { 0.0 };
    ((0..16 * 64).map(pixel).collect(), (0..32).map(|i| if i % 2 == side(i / 2) { 1.0 } else { -1.0 }).collect())
}

/// Trains for some steps; returns the loss before each of them.
fn train(trainer: &mut Trainer, [data, target, loss]: [Var; 3], steps: usize) -> Result<Vec<f32>> {
    let (images, sides) = examples();
    let mut losses = Vec::new();
    for _ in 0..steps {
        trainer.set_input(data, &images)?;
        trainer.set_input(target, &sides)?;
        trainer.forward()?;
        losses.push(trainer.finite(loss)?);
        trainer.zero_grad();
        trainer.backward()?;
        trainer.step(Sgd { momentum: 0.9, ..Sgd::new(0.05) })?;
    }
    Ok(losses)
}

/// Trains everything, then the head alone; saves, loads and exports in `folder`. Returns the losses of both.
pub(crate) fn run(folder: &Path) -> Result<[Vec<f32>; 2]> {
    let graph = Graph::new();
    let (data, target) = (graph.input([16, 1, 8, 8]), graph.input([16, 2]));
    let prediction = network(graph.root(), data);
    // A loss by arithmetic: the mean of log(1 + (prediction - target)²).
    let loss = ((prediction - target).square() + 1.0).log().mean();

    let step = Step::new(&graph).loss(loss);
    let mut trainer = step.trainer()?;
    let all = train(&mut trainer, [data, target, loss], 20)?;
    let narrow = trainer.entry_named("branches.narrow.weight")?;
    let mut gradient = [0.0; 12 * 2 * 9];
    trainer.gradient(narrow, &mut gradient)?;
    println!("loss {} to {}, a gradient begins with {}", all[0], all[19], gradient[0]);

    trainer.switch(step.train("head").plan()?)?;
    let head = train(&mut trainer, [data, target, loss], 20)?;
    println!("the head alone: loss {} to {}; a frozen weight has a gradient: {}", head[0], head[19], trainer.has_gradient(narrow));

    // PyTorch's load_state_dict takes this file, and a file that torch.save wrote is loaded here: names and shapes must fit.
    let path = folder.join("own.safetensors");
    write_safetensors(&path, &trainer.state().views(), &Default::default())?;
    let kept = [prediction.id()];
    let predict = Step::new(&graph).keep(&kept).train("none").mode(Mode::Eval);
    let mut other = predict.trainer()?;
    other.load(&Checkpoint::parse(&std::fs::read(&path)?)?, Head::Load)?;

    // What ONNX Runtime and others execute, for any number of images.
    write_onnx(&folder.join("own.onnx"), &graph, prediction, &other.state().views(), &Default::default())?;

    // What a board executes: the step as bytes. `nunatak inspect own.program` shows them.
    std::fs::write(folder.join("own.program"), predict.plan()?.bytes())?;
    Ok([all, head])
}

#[allow(dead_code)] // the test calls `run`
fn main() -> Result<()> {
    run(&std::env::temp_dir()).map(|_| ())
}
