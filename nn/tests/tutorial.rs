//! PyTorch's autograd tutorial, with the golden numbers of a run in PyTorch (`tests/golden/tutorial.py`).

use nunatak_core::rng::Generator;
use nunatak_nn::models::resnet18;
use nunatak_nn::{Error, Graph, Level, Sgd, Step, Threads, Trainer};

fn close(what: &str, got: f32, expected: f64, tolerance: f64) {
    let error = (f64::from(got) - expected).abs() / expected.abs();
    println!("{what}: {got}, PyTorch {expected}, off by {error:.1e}");
    assert!(error <= tolerance, "{what}: {got} instead of {expected}");
}

#[test]
fn tutorial_of_autograd() -> Result<(), Error> {
    let graph = Graph::new();
    let data = graph.input([1, 3, 64, 64]);
    let labels = graph.input([1, 1000]);
    let prediction = resnet18(graph.root(), data, 1000);
    let loss = (prediction - labels).sum();

    let keep = [prediction.id()];
    let program = Step::new(&graph).loss(loss).keep(&keep).plan()?;
    let mut memory = vec![0; Trainer::bytes(&program)];
    println!("{} bytes", memory.len());
    let mut trainer = Trainer::new(program, &mut memory, Level::from_environment().expect("a level"), Threads::serial())?;
    trainer.init(0);

    let mut generator = Generator::manual_seed(1);
    let image: Vec<f32> = (0..3 * 64 * 64).map(|_| generator.rand_f32()).collect();
    let label: Vec<f32> = (0..1000).map(|_| generator.rand_f32()).collect();
    let optimizer = Sgd { momentum: 0.9, ..Sgd::new(1e-2) };

    trainer.set_input(data, &image)?;
    trainer.set_input(labels, &label)?;
    trainer.forward()?;
    close("loss", trainer.scalar(loss)?, -512.952_177, 5e-5);
    let mut y = vec![0.0; 1000];
    trainer.value(prediction, &mut y)?;
    for (y, expected) in y.iter().zip([0.315981776, 0.230452359, -0.268828839, 0.307489038]) {
        close("prediction", *y, expected, 5e-5);
    }
    trainer.backward()?;
    for (name, norm) in [
        ("conv1.weight", 3290.07),
        ("bn1.weight", 51.6525),
        ("layer1.0.conv1.weight", 834.92),
        ("layer2.0.downsample.0.weight", 194.133),
        ("layer4.1.conv2.weight", 201.6419),
        ("fc.weight", 629.021),
        ("fc.bias", 31.622776),
    ] {
        let id = trainer.entry_named(name)?;
        let mut gradient = vec![0.0; trainer.program().entry(id).numbers()];
        trainer.gradient(id, &mut gradient)?;
        let square: f64 = gradient.iter().map(|g| f64::from(*g).powi(2)).sum();
        close(name, square.sqrt() as f32, norm, 5e-4);
    }
    trainer.step(optimizer)?;
    trainer.set_input(data, &image)?;
    trainer.set_input(labels, &label)?;
    trainer.forward()?;
    close("loss after a step", trainer.scalar(loss)?, -4355.16, 1e-4);
    Ok(())
}
