//! Gradients of whole recordings: against finite differences, against other ways to write the same
//! formula, with a gradient from outside, accumulated, and of a network that is used twice.

use nunatak_kernels::cross_entropy::Reduction;
use nunatak_nn::{
    Blueprint, CrossEntropyOptions, Error, Graph, Level, Mode, Options, ParamSet, Recipe, ResNet, Threads, Trainer, Update, Var,
};
use nunatak_tests::{STEM, distance, gradients, random, teams};

/// A network with every kind of block, small enough for thousands of runs.
fn tiny() -> Recipe {
    Recipe::new(&[1, 1], &[3, 5], STEM, 2, 4).expect("a recipe")
}

const BATCH: usize = 3;
const SIZE: usize = 6;

/// Records a loss on the network's result, a matrix of the same shape, and class indices.
type Record = for<'g> fn(&'g Graph, &ResNet, Var<'g>, Var<'g>, Var<'g>) -> Var<'g>;

/// What a recording gives.
struct Run {
    loss: f64,
    gradients: Vec<f32>,
}

/// A planned recording with its memory, to be run often.
struct Bench {
    blueprint: Blueprint,
    inputs: Vec<(nunatak_nn::ValueId, Vec<f32>)>,
    labels: Option<nunatak_nn::ValueId>,
    root: nunatak_nn::ValueId,
    root_len: usize,
}

impl Bench {
    fn new(mode: Mode, trainable: Option<&[&str]>, record: Record) -> Bench {
        let model = ResNet::new(tiny(), mode).expect("a network");
        let graph = Graph::new();
        let data = graph.input(BATCH, 2, SIZE, SIZE);
        let matrix = graph.input(BATCH, 4, 1, 1);
        let classes = graph.labels(BATCH);
        let root = record(&graph, &model, data, matrix, classes);
        graph.check().expect("recorded");
        let set = trainable.map_or(model.network().all(), |names| {
            let mut set = ParamSet::EMPTY;
            names.iter().for_each(|n| model.network().by_prefix(n).expect("prefix").iter().for_each(|id| set.insert(id)));
            set
        });
        let blueprint =
            Blueprint::new(&model, &graph, Some(root.id()), &[], set, Options { threads: 2, ..Options::default() }).expect("a plan");
        let inputs = vec![(data.id(), random(BATCH * 2 * SIZE * SIZE, 1)), (matrix.id(), random(BATCH * 4, 2))];
        Bench { blueprint, inputs, labels: Some(classes.id()), root: root.id(), root_len: root.shape().len() }
    }

    /// Runs with parameters that `change` may move.
    fn run(&self, level: Level, threads: Threads, outside: Option<&[f32]>, change: impl FnOnce(&mut Trainer)) -> Run {
        let mut memory = vec![0xa5; self.blueprint.bytes()];
        let mut trainer = Trainer::new(self.blueprint.clone(), &mut memory, level, threads).expect("memory");
        self.start(&mut trainer);
        change(&mut trainer);
        self.set(&mut trainer);
        trainer.forward().expect("forward");
        let mut y = vec![0.0; self.root_len];
        trainer.value(self.root, &mut y).expect("the root");
        let ones = vec![1.0; self.root_len];
        let dy = outside.unwrap_or(&ones);
        trainer.backward_with(dy).expect("backward");
        let loss = y.iter().zip(dy).map(|(y, d)| f64::from(*y) * f64::from(*d)).sum();
        Run { loss, gradients: gradients(&trainer) }
    }

    /// Parameters and statistics away from their symmetric beginnings.
    fn start(&self, trainer: &mut Trainer) {
        trainer.init(3);
        let network = self.blueprint.network().clone();
        for id in network.param_ids() {
            let numbers = network.param_at(id).numbers();
            let mut p = vec![0.0; numbers];
            trainer.param(id, &mut p).expect("param");
            p.iter_mut().zip(random(numbers, 50 + id.index() as u64)).for_each(|(p, r)| *p += 0.2 * r);
            trainer.set_param(id, &p).expect("set");
        }
        for i in 0..network.norms().len() as u16 {
            let id = nunatak_nn::NormId(i);
            trainer.running_var_mut(id).iter_mut().enumerate().for_each(|(i, v)| *v = 0.5 + 0.1 * i as f32);
        }
    }

    fn set(&self, trainer: &mut Trainer) {
        self.inputs.iter().for_each(|(id, data)| trainer.set_input(*id, data).expect("input"));
        if let Some(labels) = self.labels {
            trainer.set_labels(labels, &[2, 0, 3]).expect("labels");
        }
    }
}

/// For each parameter: the loss's slope along the gradient and along a random direction, by central
/// differences, against what the gradient says.
fn check_by_differences(name: &str, mode: Mode, trainable: Option<&[&str]>, outside: Option<&[f32]>, record: Record) {
    let bench = Bench::new(mode, trainable, record);
    let run = |change: &dyn Fn(&mut Trainer)| bench.run(Level::detect(), Threads::serial(), outside, change);
    let base = run(&|_| {});
    let largest = base.gradients.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    assert!(largest > 1e-3, "{name}: nothing to test");
    let network = bench.blueprint.network().clone();
    let mut at = 0;
    for id in bench.blueprint.needs().params(bench.blueprint.tape()).iter() {
        let numbers = network.param_at(id).numbers();
        let gradient = &base.gradients[at..at + numbers];
        at += numbers;
        let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        for (which, direction) in [gradient.to_vec(), random(numbers, 900 + id.index() as u64)].into_iter().enumerate() {
            let length = direction.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            if length == 0.0 {
                continue;
            }
            let said: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d) / length).sum();
            let slope = |h: f64| {
                let moved = |sign: f64| {
                    let moved = run(&|trainer| {
                        let mut p = vec![0.0; numbers];
                        trainer.param(id, &mut p).expect("param");
                        p.iter_mut().zip(&direction).for_each(|(p, d)| *p += (sign * h * f64::from(*d) / length) as f32);
                        trainer.set_param(id, &p).expect("set");
                    });
                    moved.loss
                };
                (moved(1.0) - moved(-1.0)) / (2.0 * h)
            };
            // A large step meets kinks of relu, a small one drowns in rounding; a wrong gradient is
            // wrong at each of them.
            let steps = [8e-3, 2e-3, 5e-4, 1.25e-4];
            let room = |h: f64| 0.02 * norm + 5e-7 * (0.1 + base.loss.abs()) / h;
            let slopes = steps.map(slope);
            assert!(
                steps.iter().zip(slopes).any(|(h, slope)| (slope - said).abs() <= room(*h)),
                "{name} {mode:?}, parameter {id:?}, direction {which}: slopes {slopes:?}, gradient {said}, allowed {:?}",
                steps.map(room)
            );
        }
    }
    assert_eq!(at, base.gradients.len());
}

const OPTIONS: CrossEntropyOptions = CrossEntropyOptions { label_smoothing: 0.1, ignore_index: -100, reduction: Reduction::Mean };
const SUMMED: CrossEntropyOptions = CrossEntropyOptions { label_smoothing: 0.0, ignore_index: 0, reduction: Reduction::Sum };

const RECORDINGS: &[(&str, Record)] = &[
    ("sum", |_, m, x, t, _| (m.forward(x) - t).sum()),
    ("mean", |_, m, x, t, _| (m.forward(x) * t).mean()),
    ("mse", |_, m, x, t, _| m.forward(x).mse(t)),
    ("mse, the other way round", |_, m, x, t, _| t.mse(m.forward(x))),
    ("cross entropy of indices", |_, m, x, _, c| m.forward(x).cross_entropy(c, OPTIONS)),
    ("cross entropy, summed, one ignored", |_, m, x, _, c| m.forward(x).cross_entropy(c, SUMMED)),
    ("cross entropy of probabilities", |_, m, x, t, _| m.forward(x).cross_entropy(t * t, OPTIONS)),
    ("relu and scale", |_, m, x, t, _| ((m.forward(x) * 1.5).relu() * t).sum()),
    ("subtracted from", |_, m, x, t, _| (t - m.forward(x) * 0.5).relu().sum()),
    ("x + x", |_, m, x, t, _| {
        let y = m.forward(x);
        (y + y).mse(t)
    }),
    ("x - x/2, x used twice", |_, m, x, t, _| {
        let y = m.forward(x);
        (y - y * 0.5).mse(t)
    }),
    ("x * x", |_, m, x, _, _| {
        let y = m.forward(x);
        (y * y).sum()
    }),
    ("x * x + x", |_, m, x, t, _| {
        let y = m.forward(x);
        ((y * y) + y).mse(t)
    }),
    ("a branch and its rest", |_, m, x, t, _| {
        let y = m.forward(x);
        let z = y.relu() * 2.0;
        (z * y + z - t).mse(y)
    }),
    ("two losses of one prediction", |_, m, x, t, c| {
        let y = m.forward(x);
        y.cross_entropy(c, OPTIONS) + y.mse(t) * 0.3 + y.sum() * 0.1 + y.mean()
    }),
    ("features and prediction", |_, m, x, t, _| {
        let f = m.features(x);
        m.head(f).mse(t) + (f * f).mean()
    }),
    ("the network twice, on other images", |_, m, x, t, _| {
        let y = m.forward(x);
        (y - m.forward(x * x)).mse(t)
    }),
    ("the network twice, on the same images", |_, m, x, t, _| (m.forward(x) + m.forward(x)).mse(t)),
    ("the head twice", |_, m, x, t, _| {
        let f = m.features(x);
        (m.head(f) + m.head(f * f)).mse(t)
    }),
];

#[test]
fn finite_differences_in_train_mode() {
    RECORDINGS.iter().for_each(|(name, record)| check_by_differences(name, Mode::Train, None, None, *record));
}

#[test]
fn finite_differences_in_eval_mode() {
    RECORDINGS.iter().for_each(|(name, record)| check_by_differences(name, Mode::Eval, None, None, *record));
}

#[test]
fn finite_differences_of_parts() {
    for part in [&["fc"][..], &["layer1"], &["conv1"], &["bn1", "layer2.0.downsample"], &["layer2.0.bn2.bias"]] {
        for (name, record) in RECORDINGS {
            check_by_differences(name, Mode::Train, Some(part), None, *record);
        }
    }
}

#[test]
fn finite_differences_of_a_gradient_from_outside() {
    let dy = random(BATCH * 4, 77);
    let record: Record = |_, m, x, _, _| m.forward(x);
    for mode in [Mode::Train, Mode::Eval] {
        check_by_differences("from outside", mode, None, Some(&dy), record);
    }
    // An image-shaped root: the gradient is taken in PyTorch's order.
    let dx = random(BATCH * 5, 78);
    check_by_differences("features from outside", Mode::Train, Some(&["layer1", "layer2"]), Some(&dx), |_, m, x, _, _| m.features(x));
}

/// Two ways to write a formula have the same gradients but for rounding.
fn same_gradients(name: &str, a: Record, b: Record) {
    for level in Level::available() {
        for mode in [Mode::Train, Mode::Eval] {
            let run = |record| Bench::new(mode, None, record).run(level, teams(&[2]).remove(0), None, |_| {});
            let (a, b) = (run(a), run(b));
            let truth: Vec<f64> = a.gradients.iter().map(|g| f64::from(*g)).collect();
            let d = distance(&b.gradients, &truth);
            assert!(d <= 5e-6, "{name} {mode:?} {level}: the gradients are {d:.1e} apart");
            assert!((a.loss - b.loss).abs() <= 1e-5 * a.loss.abs().max(1.0), "{name}: {} {}", a.loss, b.loss);
        }
    }
}

#[test]
fn formulas_have_one_gradient() {
    same_gradients(
        "x + x = 2x",
        |_, m, x, t, _| (m.forward(x) * 2.0).mse(t),
        |_, m, x, t, _| {
            let y = m.forward(x);
            (y + y).mse(t)
        },
    );
    same_gradients(
        "x - x + x = x",
        |_, m, x, t, _| m.forward(x).mse(t),
        |_, m, x, t, _| {
            let y = m.forward(x);
            ((y - y) + y).mse(t)
        },
    );
    same_gradients(
        "(x - t)(x - t) = mse",
        |_, m, x, t, _| m.forward(x).mse(t),
        |_, m, x, t, _| {
            let d = m.forward(x) - t;
            (d * d).mean()
        },
    );
    same_gradients("mean = sum / n", |_, m, x, _, _| m.forward(x).mean(), |_, m, x, _, _| m.forward(x).sum() * (1.0 / 12.0));
    same_gradients(
        "relu(x) - relu(-x) = x",
        |_, m, x, t, _| m.forward(x).mse(t),
        |_, m, x, t, _| {
            let y = m.forward(x);
            (y.relu() - (y * -1.0).relu()).mse(t)
        },
    );
    same_gradients(
        "a network twice is twice the network",
        |_, m, x, _, _| m.forward(x).sum() * 2.0,
        |_, m, x, _, _| m.forward(x).sum() + m.forward(x).sum(),
    );
}

/// Backward passes add up until the gradients are zeroed, and the first one after that starts anew.
#[test]
fn gradients_accumulate() -> Result<(), Error> {
    let bench = Bench::new(Mode::Eval, None, |_, m, x, t, _| m.forward(x).mse(t));
    for level in Level::available() {
        let mut memory = vec![0xa5; bench.blueprint.bytes()];
        let mut trainer = Trainer::new(bench.blueprint.clone(), &mut memory, level, Threads::serial())?;
        bench.start(&mut trainer);
        let pass = |trainer: &mut Trainer, factor: f32| -> Result<Vec<f32>, Error> {
            bench.set(trainer);
            trainer.forward()?;
            trainer.backward_with(&[factor])?;
            Ok(gradients(trainer))
        };
        let once = pass(&mut trainer, 1.0)?;
        let truth: Vec<f64> = once.iter().map(|g| f64::from(*g)).collect();
        let times = |k: f64| truth.iter().map(|g| g * k).collect::<Vec<_>>();
        let twice = pass(&mut trainer, 1.0)?;
        assert!(distance(&twice, &times(2.0)) < 2e-6, "{level}");
        let more = pass(&mut trainer, -5.0)?;
        assert!(distance(&more, &times(-3.0)) < 5e-6, "{level}");
        trainer.zero_grad();
        assert!(trainer.gradients().is_empty());
        assert_eq!(pass(&mut trainer, 1.0)?, once, "{level}: a fresh start");
    }
    Ok(())
}

/// The update during the walk would use a gradient up before the second use has added to it.
#[test]
fn parameters_used_twice_refuse_the_update_during_the_walk() {
    let model = ResNet::new(tiny(), Mode::Train).expect("a network");
    let graph = Graph::new();
    let x = graph.input(BATCH, 2, SIZE, SIZE);
    let root = (model.forward(x) + model.forward(x * 2.0)).sum();
    let plan = |update, trainable| {
        let options = Options { update, ..Options::default() };
        Blueprint::new(&model, &graph, Some(root.id()), &[], trainable, options).map(|b| b.bytes())
    };
    let all = model.network().all();
    assert!(plan(Update::After, all).is_ok());
    let error = plan(Update::During, all).expect_err("used twice");
    assert!(matches!(error, Error::Core(nunatak_core::Error::ParameterUsedTwice { .. })), "{error}");
    assert!(error.to_string().contains("twice"), "{error}");
}

/// A seed of 1 and `backward_with(&[1.0])` are one; a gradient of the wrong length is an error.
#[test]
fn gradients_from_outside_have_the_roots_length() {
    let bench = Bench::new(Mode::Train, None, |_, m, x, _, _| m.forward(x));
    let mut memory = vec![0; bench.blueprint.bytes()];
    let mut trainer = Trainer::new(bench.blueprint.clone(), &mut memory, Level::detect(), Threads::serial()).expect("memory");
    bench.start(&mut trainer);
    bench.set(&mut trainer);
    trainer.forward().expect("forward");
    for len in [0, 1, 11, 13] {
        let error = trainer.backward_with(&vec![1.0; len]).expect_err("a wrong length");
        assert!(matches!(error, Error::Length { expected: 12, got, .. } if got == len), "{error}");
    }
    trainer.backward_with(&[1.0; 12]).expect("the right length, after all");
}
