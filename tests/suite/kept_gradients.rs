//! Gradients of values in the middle of a network: right, kept without changing a bit, or an error.

use nunatak_core::program::EntryKind;
use nunatak_nn::{Conv, CrossEntropyOptions, Graph, Level, Loss, Mode, Norm, Sgd, Step, Threads, Trainer, Update, ValueId, Var};
use nunatak_tests::{Batch, gradients, random, small, training, with_trainer};

/// A network in which a tensor of zeros is added to values in the middle: moving it is moving the value.
fn with_offsets(graph: &Graph) -> (ValueId, ValueId, Vec<(ValueId, ValueId, usize)>, ValueId) {
    let g = graph.root();
    let (data, classes) = (graph.input([2, 2, 8, 8]), graph.labels(2));
    let mut offsets = Vec::new();
    let mut add = |x: Var<'_>, e: Var<'_>| offsets.push((x.id(), e.id(), x.shape().len()));
    let e = [graph.input([2, 3, 8, 8]), graph.input([2, 3, 4, 4]), graph.input([2, 3, 4, 4]), graph.input([2, 4])];
    let norm = |name: &str, x| g.batch_norm(name, x, Norm::default());
    // relu behind a normalisation; a pooling, behind which a residual is added; the logits.
    let a = norm("bn1", g.conv2d("conv1", data, Conv::new(3, 3).pad(1).no_bias())).relu();
    add(a, e[0]);
    let b = (a + e[0]).max_pool(3, 2, 1);
    add(b, e[1]);
    let b = b + e[1];
    let c = (norm("bn2", g.conv2d("conv2", b, Conv::new(3, 3).pad(1).no_bias())) + b).relu();
    add(c, e[2]);
    let d = g.linear("fc", (c + e[2]).adaptive_avg_pool(1), 4);
    add(d, e[3]);
    let loss = (d + e[3]).cross_entropy(classes, CrossEntropyOptions::default());
    (data.id(), classes.id(), offsets, loss.id())
}

/// Gradients of values in the middle, against what the loss does when the value moves: fused or not, in train and in
/// eval mode, with parameters that are trained or without any.
#[test]
fn kept_gradients_are_slopes_of_the_loss() {
    let graph = Graph::new();
    let (data, classes, offsets, loss) = with_offsets(&graph);
    graph.check().expect("recorded");
    let keep: Vec<ValueId> = offsets.iter().flat_map(|(x, e, _)| [*x, *e]).collect();
    for mode in [Mode::Train, Mode::Eval] {
        for fuse in [false, true] {
            for (trainable, update) in
                [("all", Update::After), ("all", Update::During), ("all", Update::Summed), ("none", Update::After), ("fc", Update::After)]
            {
                let what = format!("{mode:?}, fused: {fuse}, {trainable} {update:?}");
                let step = Step::new(&graph).loss(loss).mode(mode).fuse(fuse).train(trainable).update(update);
                let program = step.keep_gradients(&keep).plan().expect("a plan");
                // The loss where one of the offsets is moved.
                let run = |moved: usize, by: &[f32]| {
                    let mut trainer = Trainer::owning(program.view(), Level::detect(), Threads::serial()).expect("memory");
                    trainer.init(3);
                    trainer.set_input(data, &random(256, 1)).expect("set");
                    trainer.set_labels(classes, &[2, 0]).expect("set");
                    for (i, (_, e, len)) in offsets.iter().enumerate() {
                        trainer.set_input(*e, if i == moved { by } else { &[0.0; 384][..*len] }).expect("set");
                    }
                    trainer.forward().expect("forward");
                    (f64::from(trainer.scalar(loss).expect("a loss")), trainer)
                };
                let (base, mut trainer) = run(usize::MAX, &[]);
                match update {
                    Update::After => trainer.backward().expect("backward"),
                    Update::During | Update::Summed => trainer.backward_and_step(Sgd::new(0.1)).expect("a step"),
                }
                for (i, (x, e, len)) in offsets.iter().enumerate() {
                    let [of_value, of_offset] = [x, e].map(|id| {
                        let mut room = vec![f32::NAN; *len];
                        trainer.value_gradient(*id, &mut room).expect("a gradient");
                        room
                    });
                    // One is added to the other: they have the same gradient, unless the value has another reader.
                    assert_eq!(of_value, of_offset, "{what}: value {}", x.0);
                    let norm = of_value.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
                    assert!(norm > 1e-3, "{what}: nothing to test");
                    for direction in [of_value.clone(), random(*len, 7)] {
                        let length = direction.iter().map(|d| f64::from(*d).powi(2)).sum::<f64>().sqrt();
                        let said: f64 = of_value.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d) / length).sum();
                        let steps = [8e-3, 2e-3, 5e-4];
                        let slope = |h: f64| {
                            let at = |sign: f64| {
                                let by: Vec<f32> = direction.iter().map(|d| (sign * h * f64::from(*d) / length) as f32).collect();
                                run(i, &by).0
                            };
                            (at(1.0) - at(-1.0)) / (2.0 * h)
                        };
                        let slopes = steps.map(slope);
                        let room = |h: f64| 0.02 * norm + 5e-7 * (0.1 + base.abs()) / h;
                        let agrees = steps.iter().zip(slopes).any(|(h, slope)| (slope - said).abs() <= room(*h));
                        assert!(agrees, "{what}, value {}: slopes {slopes:?}, gradient {said}, allowed {:?}", x.0, steps.map(room));
                    }
                }
            }
        }
    }
}

/// What is kept changes neither the numbers of a step nor another's gradient.
#[test]
fn keeping_gradients_changes_no_bit() {
    let graph = Graph::new();
    let x = graph.input([3, 3, 12, 12]);
    let (features, prediction) = small().record(graph.root(), x);
    let labels = graph.input([3, 5]);
    let loss = prediction.mse(labels);
    let values: Vec<ValueId> = (1..prediction.id().0).map(ValueId).collect();
    for fuse in [false, true] {
        let run = |keep: &[ValueId]| {
            let step = Step::new(&graph).loss(loss).mode(Mode::Eval).fuse(fuse).keep_gradients(keep);
            let mut trainer = Trainer::owning(step.plan().expect("a plan"), Level::detect(), Threads::serial()).expect("memory");
            trainer.init(3);
            trainer.set_input(x, &random(3 * 432, 1)).expect("set");
            trainer.set_input(labels, &random(15, 2)).expect("set");
            trainer.forward().expect("forward");
            trainer.backward().expect("backward");
            gradients(&trainer).iter().map(|g| g.to_bits()).collect::<Vec<_>>()
        };
        let due = run(&[]);
        assert_eq!(run(&[features.id()]), due);
        assert_eq!(run(&values), due, "of all values");
    }
}

/// A value whose gradient is not kept, or that has none, says so.
#[test]
fn gradients_that_are_not_there_are_errors() {
    use nunatak_nn::Error;
    let setup = training(small(), 2, 12, Loss::Sum);
    with_trainer(&setup, Level::detect(), Threads::serial(), |trainer, values| {
        Batch::random(&setup, 1).set(trainer, &values).expect("set");
        trainer.forward().expect("forward");
        trainer.backward().expect("backward");
        assert_eq!(trainer.value_gradient(values.features, &mut [0.0; 18]), Err(Error::NotKept));
    });
    let graph = Graph::new();
    let x = graph.input([2, 3]);
    let y = graph.root().linear("fc", x, 2);
    let program = Step::new(&graph).loss(y.sum()).keep_gradients(&[x.id(), y.id()]).plan().expect("a plan");
    let mut trainer = Trainer::owning(program, Level::detect(), Threads::serial()).expect("memory");
    trainer.init(0);
    trainer.set_input(x, &[1.0; 6]).expect("set");
    assert_eq!(trainer.value_gradient(x, &mut [0.0; 6]), Err(Error::NoGradients));
    trainer.forward().expect("forward");
    assert_eq!(trainer.value_gradient(x, &mut [0.0; 6]), Err(Error::NoGradients));
    trainer.backward().expect("backward");
    let mut dx = [f32::NAN; 6];
    trainer.value_gradient(x, &mut dx).expect("kept");
    let w = nunatak_tests::param(&trainer, "fc.weight");
    let due: Vec<f32> = (0..3).map(|i| w[i] + w[3 + i]).collect();
    assert!(dx.chunks(3).all(|row| row.iter().zip(&due).all(|(a, b)| (a - b).abs() < 1e-6)), "{dx:?} {due:?}");
    assert!(matches!(trainer.value_gradient(x, &mut [0.0; 5]), Err(Error::Length { expected: 6, got: 5, .. })));
    let entries = trainer.program().entries().filter(|id| trainer.program().entry(*id).kind() == EntryKind::Parameter);
    assert_eq!(entries.count(), 2);
}
