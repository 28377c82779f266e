//! Gradients of whole recordings: against finite differences, against other ways to write the same
//! formula, with a gradient from outside, accumulated, and of a network that is used twice.

use nunatak_nn::{
    Conv, CrossEntropyOptions, Dense, EntryKind, Error, Graph, Level, Mode, Norm, Program, Reduction, Scope, Step, Threads, Trainer,
    ValueId, Var,
};
use nunatak_tests::{distance, gradients, numbers, random, teams};
use std::cell::Cell;

/// A network with every kind of block, small enough for thousands of runs. Recorded again, it uses the
/// parameters that are there.
struct Model<'g> {
    g: Scope<'g>,
    features: Cell<bool>,
    head: Cell<bool>,
}

impl<'g> Model<'g> {
    fn new(graph: &'g Graph) -> Model<'g> {
        Model { g: graph.root(), features: Cell::new(false), head: Cell::new(false) }
    }

    fn logits(&self, x: Var<'g>) -> Var<'g> {
        self.head(self.features(x))
    }

    fn head(&self, features: Var<'g>) -> Var<'g> {
        let layer = Dense::new(4);
        self.g.linear("fc", features, if self.head.replace(true) { layer.shared() } else { layer })
    }

    fn features(&self, x: Var<'g>) -> Var<'g> {
        let shared = self.features.replace(true);
        let conv = |g: Scope<'g>, name: &str, x: Var<'g>, conv: Conv| {
            let conv = conv.no_bias();
            g.conv2d(name, x, if shared { conv.shared() } else { conv })
        };
        let norm = |g: Scope<'g>, name: &str, x: Var<'g>| {
            let norm = Norm::default();
            g.batch_norm(name, x, if shared { norm.shared() } else { norm })
        };
        let block = |g: Scope<'g>, x: Var<'g>, width, stride| {
            let y = norm(g, "bn1", conv(g, "conv1", x, Conv::new(width, 3).stride(stride).pad(1))).relu();
            norm(g, "bn2", conv(g, "conv2", y, Conv::new(width, 3).pad(1)))
        };
        let mut x = norm(self.g, "bn1", conv(self.g, "conv1", x, Conv::new(3, 3).pad(1))).relu();
        x = (block(self.g.scope("layer1.0"), x, 3, 1) + x).relu();
        let g = self.g.scope("layer2.0");
        let (y, down) = (block(g, x, 5, 2), g.scope("downsample"));
        let identity = norm(down, "1", conv(down, "0", x, Conv::new(5, 1).stride(2)));
        (y + identity).relu().adaptive_avg_pool(1)
    }
}

const BATCH: usize = 3;
const SIZE: usize = 6;

/// Records a loss on the network's result, a matrix of the same shape, and class indices.
type Record = for<'g> fn(&Model<'g>, Var<'g>, Var<'g>, Var<'g>) -> Var<'g>;

/// What a recording gives.
struct Run {
    loss: f64,
    gradients: Vec<f32>,
}

/// A planned recording with its memory, to be run often.
struct Bench {
    program: Program<'static>,
    inputs: Vec<(ValueId, Vec<f32>)>,
    labels: Option<ValueId>,
    root: ValueId,
    root_len: usize,
}

impl Bench {
    fn new(mode: Mode, trainable: &str, record: Record) -> Bench {
        let graph = Graph::new();
        let data = graph.input([BATCH, 2, SIZE, SIZE]);
        let matrix = graph.input([BATCH, 4]);
        let classes = graph.labels(BATCH);
        let root = record(&Model::new(&graph), data, matrix, classes);
        graph.check().expect("recorded");
        let program = Step::new(&graph).loss(root).train(trainable).mode(mode).threads(2).plan().expect("a plan");
        let inputs = vec![(data.id(), random(BATCH * 2 * SIZE * SIZE, 1)), (matrix.id(), random(BATCH * 4, 2))];
        Bench { program, inputs, labels: Some(classes.id()), root: root.id(), root_len: root.shape().len() }
    }

    /// Runs with parameters that `change` may move.
    fn run(&self, level: Level, threads: Threads, outside: Option<&[f32]>, change: impl FnOnce(&mut Trainer)) -> Run {
        let mut memory = vec![0xa5; Trainer::bytes(&self.program)];
        let mut trainer = Trainer::new(self.program.view(), &mut memory, level, threads).expect("memory");
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
        for id in self.program.entries() {
            let mut p = match self.program.entry(id).kind() {
                EntryKind::Parameter | EntryKind::RunningVar => numbers(trainer, id),
                EntryKind::RunningMean | EntryKind::Count | EntryKind::Words => continue,
            };
            if self.program.entry(id).kind() == EntryKind::RunningVar {
                p.iter_mut().enumerate().for_each(|(i, v)| *v = 0.5 + 0.1 * i as f32);
            } else {
                let seed = 50 + u64::from(id.0);
                let moves = random(p.len(), seed);
                p.iter_mut().zip(moves).for_each(|(p, r)| *p += 0.2 * r);
            }
            trainer.set_entry(id, &p).expect("set");
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
fn check_by_differences(name: &str, mode: Mode, trainable: &str, outside: Option<&[f32]>, record: Record) {
    let bench = Bench::new(mode, trainable, record);
    let run = |change: &dyn Fn(&mut Trainer)| bench.run(Level::detect(), Threads::serial(), outside, change);
    let base = run(&|_| {});
    let largest = base.gradients.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    assert!(largest > 1e-3, "{name}: nothing to test");
    let mut at = 0;
    for id in bench.program.updates() {
        let numbers = bench.program.entry(id).numbers();
        let gradient = &base.gradients[at..at + numbers];
        at += numbers;
        let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        for (which, direction) in [gradient.to_vec(), random(numbers, 900 + u64::from(id.0))].into_iter().enumerate() {
            let length = direction.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            if length == 0.0 {
                continue;
            }
            let said: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d) / length).sum();
            let slope = |h: f64| {
                let moved = |sign: f64| {
                    let moved = run(&|trainer| {
                        let mut p = vec![0.0; numbers];
                        trainer.entry(id, &mut p).expect("param");
                        p.iter_mut().zip(&direction).for_each(|(p, d)| *p += (sign * h * f64::from(*d) / length) as f32);
                        trainer.set_entry(id, &p).expect("set");
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
    ("sum", |m, x, t, _| (m.logits(x) - t).sum()),
    ("mean", |m, x, t, _| (m.logits(x) * t).mean()),
    ("mse", |m, x, t, _| m.logits(x).mse(t)),
    ("mse, the other way round", |m, x, t, _| t.mse(m.logits(x))),
    ("cross entropy of indices", |m, x, _, c| m.logits(x).cross_entropy(c, OPTIONS)),
    ("cross entropy, summed, one ignored", |m, x, _, c| m.logits(x).cross_entropy(c, SUMMED)),
    ("cross entropy of probabilities", |m, x, t, _| m.logits(x).cross_entropy(t * t, OPTIONS)),
    ("relu and scale", |m, x, t, _| ((m.logits(x) * 1.5).relu() * t).sum()),
    ("subtracted from", |m, x, t, _| (t - m.logits(x) * 0.5).relu().sum()),
    ("x + x", |m, x, t, _| {
        let y = m.logits(x);
        (y + y).mse(t)
    }),
    ("x - x/2, x used twice", |m, x, t, _| {
        let y = m.logits(x);
        (y - y * 0.5).mse(t)
    }),
    ("x * x", |m, x, _, _| {
        let y = m.logits(x);
        (y * y).sum()
    }),
    ("x * x + x", |m, x, t, _| {
        let y = m.logits(x);
        ((y * y) + y).mse(t)
    }),
    ("a branch and its rest", |m, x, t, _| {
        let y = m.logits(x);
        let z = y.relu() * 2.0;
        (z * y + z - t).mse(y)
    }),
    ("two losses of one prediction", |m, x, t, c| {
        let y = m.logits(x);
        y.cross_entropy(c, OPTIONS) + y.mse(t) * 0.3 + y.sum() * 0.1 + y.mean()
    }),
    ("features and prediction", |m, x, t, _| {
        let f = m.features(x);
        m.head(f).mse(t) + (f * f).mean()
    }),
    ("the network twice, on other images", |m, x, t, _| {
        let y = m.logits(x);
        (y - m.logits(x * x)).mse(t)
    }),
    ("the network twice, on the same images", |m, x, t, _| (m.logits(x) + m.logits(x)).mse(t)),
    ("the head twice", |m, x, t, _| {
        let f = m.features(x);
        (m.head(f) + m.head(f * f)).mse(t)
    }),
];

#[test]
fn finite_differences_in_train_mode() {
    RECORDINGS.iter().for_each(|(name, record)| check_by_differences(name, Mode::Train, "all", None, *record));
}

#[test]
fn finite_differences_in_eval_mode() {
    RECORDINGS.iter().for_each(|(name, record)| check_by_differences(name, Mode::Eval, "all", None, *record));
}

#[test]
fn finite_differences_of_parts() {
    for part in ["fc", "layer1", "conv1", "bn1,layer2.0.downsample", "layer2.0.bn2.bias"] {
        for (name, record) in RECORDINGS {
            check_by_differences(name, Mode::Train, part, None, *record);
        }
    }
}

#[test]
fn finite_differences_of_a_gradient_from_outside() {
    let dy = random(BATCH * 4, 77);
    let record: Record = |m, x, _, _| m.logits(x);
    for mode in [Mode::Train, Mode::Eval] {
        check_by_differences("from outside", mode, "all", Some(&dy), record);
    }
    // An image-shaped root: the gradient is taken in PyTorch's order.
    let dx = random(BATCH * 5, 78);
    check_by_differences("features from outside", Mode::Train, "layer1,layer2", Some(&dx), |m, x, _, _| m.features(x));
}

/// Two ways to write a formula have the same gradients but for rounding.
fn same_gradients(name: &str, a: Record, b: Record) {
    for level in Level::available() {
        for mode in [Mode::Train, Mode::Eval] {
            let run = |record| Bench::new(mode, "all", record).run(level, teams(&[2]).remove(0), None, |_| {});
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
        |m, x, t, _| (m.logits(x) * 2.0).mse(t),
        |m, x, t, _| {
            let y = m.logits(x);
            (y + y).mse(t)
        },
    );
    same_gradients(
        "x - x + x = x",
        |m, x, t, _| m.logits(x).mse(t),
        |m, x, t, _| {
            let y = m.logits(x);
            ((y - y) + y).mse(t)
        },
    );
    same_gradients(
        "(x - t)(x - t) = mse",
        |m, x, t, _| m.logits(x).mse(t),
        |m, x, t, _| {
            let d = m.logits(x) - t;
            (d * d).mean()
        },
    );
    same_gradients("mean = sum / n", |m, x, _, _| m.logits(x).mean(), |m, x, _, _| m.logits(x).sum() * (1.0 / 12.0));
    same_gradients(
        "relu(x) - relu(-x) = x",
        |m, x, t, _| m.logits(x).mse(t),
        |m, x, t, _| {
            let y = m.logits(x);
            (y.relu() - (y * -1.0).relu()).mse(t)
        },
    );
    same_gradients(
        "a network twice is twice the network",
        |m, x, _, _| m.logits(x).sum() * 2.0,
        |m, x, _, _| m.logits(x).sum() + m.logits(x).sum(),
    );
}

/// Backward passes add up until the gradients are zeroed, and the first one after that starts anew.
#[test]
fn gradients_accumulate() -> Result<(), Error> {
    let bench = Bench::new(Mode::Eval, "all", |m, x, t, _| m.logits(x).mse(t));
    for level in Level::available() {
        let mut memory = vec![0xa5; Trainer::bytes(&bench.program)];
        let mut trainer = Trainer::new(bench.program.view(), &mut memory, level, Threads::serial())?;
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
        assert!(trainer.gradients().next().is_none());
        assert_eq!(pass(&mut trainer, 1.0)?, once, "{level}: a fresh start");
    }
    Ok(())
}

/// A seed of 1 and `backward_with(&[1.0])` are one; a gradient of the wrong length is an error.
#[test]
fn gradients_from_outside_have_the_roots_length() {
    let bench = Bench::new(Mode::Train, "all", |m, x, _, _| m.logits(x));
    let mut memory = vec![0; Trainer::bytes(&bench.program)];
    let mut trainer = Trainer::new(bench.program.view(), &mut memory, Level::detect(), Threads::serial()).expect("memory");
    bench.start(&mut trainer);
    bench.set(&mut trainer);
    trainer.forward().expect("forward");
    for len in [0, 1, 11, 13] {
        let error = trainer.backward_with(&vec![1.0; len]).expect_err("a wrong length");
        assert!(matches!(error, Error::Length { expected: 12, got, .. } if got == len), "{error}");
    }
    trainer.backward_with(&[1.0; 12]).expect("the right length, after all");
}
