//! torchvision's models: the same seed gives the same network, its numbers are PyTorch's.
//!
//! What is expected was printed by torchvision 0.29.2: `torch.manual_seed(0)` makes the model,
//! `torch.manual_seed(1)` then draws `rand(2, 3, 64, 64)`.

use nunatak_core::program::EntryKind;
use nunatak_core::rng::Generator;
use nunatak_nn::models::MobileNet;
use nunatak_nn::plan::Step;
use nunatak_nn::record::{Graph, Scope, Var};
use nunatak_nn::select::{Mode, Select};
use nunatak_nn::step::{Trainer, call_operation, each_call};
use nunatak_nn::{Error, Level, Threads, models};

/// What PyTorch printed of a model.
struct Expected {
    /// Parameters, tensors of parameters, entries of the state dict.
    counts: [usize; 3],
    /// The first and the last weight, and their first two numbers.
    weights: [(&'static str, [f64; 2]); 2],
    /// Of the prediction in eval mode, the first three numbers.
    prediction: [f64; 3],
    /// In train mode without dropout, in float64: the mean square of the logits, and the norm of its gradient for the first
    /// weight.
    train: [f64; 2],
    /// How far PyTorch's float32 (contiguous, channels last, without oneDNN) and six float64 runs whose convolutions'
    /// outputs were disturbed by noise of 3e-7 of the largest are from these two, which are its float64, at most.
    yardstick: [f64; 2],
}

#[track_caller]
fn close(what: &str, got: f64, expected: f64, tolerance: f64) {
    let error = (got - expected).abs() / expected.abs();
    println!("{what}: {got}, PyTorch {expected}, off by {error:.1e}");
    assert!(error <= tolerance, "{what}: {got} instead of {expected}");
}

fn check(expected: &Expected, model: impl for<'g> Fn(Scope<'g>, Var<'g>) -> Var<'g>) -> Result<(), Error> {
    if std::env::var("NUNATAK_TEST").is_ok_and(|v| v == "emulated") && expected.counts[0] > 3_000_000 {
        println!("SKIPPED a network of {} parameters: it takes an emulator minutes", expected.counts[0]);
        return Ok(());
    }
    let graph = Graph::new();
    let data = graph.input([2, 3, 64, 64]);
    let prediction = model(graph.root(), data);
    let loss = prediction.square().mean();
    graph.check()?;

    let first = expected.weights[0].0;
    let keep = [prediction.id()];
    let step = Step::new(&graph).keep(&keep).momentum(false);
    let level = Level::from_environment().expect("a level");
    let mut trainer = Trainer::owning(step.mode(Mode::Eval).plan()?, level, Threads::serial())?;
    trainer.init(0);
    let program = trainer.program();
    let parameters = || program.entries().map(|id| program.entry(id)).filter(|entry| entry.kind() == EntryKind::Parameter);
    let counts = [parameters().map(|entry| entry.numbers()).sum(), parameters().count(), program.entry_count()];
    assert_eq!(counts, expected.counts);
    for (name, numbers) in expected.weights {
        let id = trainer.entry_named(name)?;
        let mut all = vec![0.0; trainer.program().entry(id).numbers()];
        trainer.entry(id, &mut all)?;
        for (got, expected) in all.iter().zip(numbers) {
            close(name, f64::from(*got), expected, 1e-4);
        }
    }

    let mut generator = Generator::manual_seed(1);
    let images: Vec<f32> = (0..2 * 3 * 64 * 64).map(|_| generator.rand_f32()).collect();
    let mut y = vec![0.0; 2000];
    trainer.set_input(data, &images)?;
    trainer.forward()?;
    trainer.value(prediction, &mut y)?;
    for (got, expected) in y.iter().zip(expected.prediction) {
        close("prediction", f64::from(*got), expected, 1e-3);
    }

    let mut trainer = Trainer::owning(step.loss(loss).train(first).plan()?, level, Threads::serial())?;
    trainer.init(0);
    trainer.set_input(data, &images)?;
    trainer.forward()?;
    close("mean square", f64::from(trainer.scalar(loss)?), expected.train[0], (4.0 * expected.yardstick[0]).max(5e-5));
    trainer.backward()?;
    let id = trainer.entry_named(first)?;
    let mut gradient = vec![0.0; trainer.program().entry(id).numbers()];
    trainer.gradient(id, &mut gradient)?;
    let square: f64 = gradient.iter().map(|g| f64::from(*g).powi(2)).sum();
    close("norm of the gradient", square.sqrt(), expected.train[1], (4.0 * expected.yardstick[1]).max(5e-5));
    Ok(())
}

#[test]
fn resnet50() -> Result<(), Error> {
    let expected = Expected {
        counts: [25_557_032, 161, 320],
        weights: [("conv1.weight", [-0.058_550_704, 0.024_590_237]), ("fc.weight", [-0.007_749_08, -0.008_624_352])],
        prediction: [-1.096_905_2, -3.347_694_9, 0.939_200_52],
        train: [0.415_463_519, 102.289_370],
        yardstick: [3.8e-5, 7.2e-3],
    };
    check(&expected, |g, x| models::resnet50(g, x, 1000))
}

#[test]
fn wide_resnet50_2() -> Result<(), Error> {
    let expected = Expected {
        counts: [68_883_240, 161, 320],
        weights: [("conv1.weight", [-0.031_301_532, 0.006_119_111]), ("fc.weight", [-0.002_166_853_8, 0.018_475_445])],
        prediction: [-0.154_281_62, -3.684_501_9, 2.540_685_9],
        train: [0.435_590_024, 104.276_944],
        yardstick: [3e-5, 5.9e-3],
    };
    check(&expected, |g, x| models::wide_resnet50_2(g, x, 1000))
}

#[test]
fn resnext50_32x4d() -> Result<(), Error> {
    let expected = Expected {
        counts: [25_028_904, 161, 320],
        weights: [("conv1.weight", [-0.007_886_809, -0.001_826_876]), ("fc.weight", [-0.011_566_557, 0.006_774_573_6])],
        prediction: [-0.007_984_216, -0.034_933_253, -0.043_097_682],
        train: [0.431_038_105, 117.296_459],
        yardstick: [3.6e-5, 4.4e-3],
    };
    check(&expected, |g, x| models::resnext50_32x4d(g, x, 1000))
}

const DROPOUT_0: MobileNet = MobileNet { dropout: 0.0 };

#[test]
fn mobilenet_v2() -> Result<(), Error> {
    let expected = Expected {
        counts: [3_504_872, 158, 314],
        weights: [("features.0.0.weight", [0.004_847_908_4, 0.173_343_24]), ("classifier.1.weight", [0.011_795_287, -0.002_753_085_7])],
        prediction: [-9.443_467e-12, -1.523_475_8e-10, -1.542_427_9e-10],
        train: [0.027_504_534_7, 2.480_724_27],
        yardstick: [5e-5, 2.8e-2],
    };
    check(&expected, |g, x| DROPOUT_0.v2(g, x, 1000))
}

#[test]
fn mobilenet_v3_small() -> Result<(), Error> {
    let expected = Expected {
        counts: [2_542_856, 142, 244],
        weights: [("features.0.0.weight", [-0.142_560_38, 0.086_263_217]), ("classifier.3.weight", [-0.010_371_017, -0.007_291_440_4])],
        prediction: [-3.892_259e-11, -8.342_586e-11, 2.363_894e-10],
        train: [0.000_104_549_81, 0.000_903_196_005],
        yardstick: [1.1e-5, 4.3e-4],
    };
    check(&expected, |g, x| DROPOUT_0.v3_small(g, x, 1000))
}

/// In eval mode a convolution, its normalisation and its activation are one call; dropout is none.
#[test]
fn mobilenets_are_fused_in_eval_mode() -> Result<(), Error> {
    for (v3, due) in [
        (false, [("conv2d+batchnorm+relu6", 35), ("conv2d+batchnorm", 7), ("conv2d+batchnorm+add", 10)]),
        (true, [("conv2d+batchnorm+hardswish", 18), ("conv2d+batchnorm+relu", 5), ("conv2d+batchnorm", 5)]),
    ] {
        let graph = Graph::new();
        let data = graph.input([1, 3, 64, 64]);
        let model = if v3 { models::mobilenet_v3_small } else { models::mobilenet_v2 };
        let prediction = model(graph.root(), data, 10);
        let program = Step::new(&graph).keep(&[prediction.id()]).mode(Mode::Eval).plan()?;
        let mut names = Vec::new();
        each_call(&program, |event| names.push(call_operation(&program, event)));
        for (name, count) in due {
            assert_eq!(names.iter().filter(|n| **n == name).count(), count, "{name} in {names:?}");
        }
        let apart = ["batchnorm", "relu6", "dropout", "flatten"];
        assert!(!names.iter().any(|name| apart.contains(name)), "{names:?}");
        assert_eq!(names.contains(&"hardswish"), v3, "behind a linear layer alone: {names:?}");
    }
    Ok(())
}

/// The head that is replaced for other classes.
#[test]
fn heads_can_be_trained_alone() -> Result<(), Error> {
    for (model, head) in [
        (models::mobilenet_v2 as for<'g> fn(Scope<'g>, Var<'g>, usize) -> Var<'g>, "classifier.1"),
        (models::mobilenet_v3_small, "classifier.3"),
        (models::resnet50, "fc"),
    ] {
        let graph = Graph::new();
        let prediction = model(graph.root(), graph.input([2, 3, 64, 64]), 5);
        let loss = prediction.square().mean();
        let program = Step::new(&graph).loss(loss).train(Select::Head).plan()?;
        let trained: Vec<&str> = program.updates().map(|id| program.entry(id).name()).collect();
        assert_eq!(trained, [format!("{head}.weight"), format!("{head}.bias")]);
        assert_eq!(program.head(), head);
    }
    Ok(())
}
