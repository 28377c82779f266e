//! Numbers that make no sense are refused with an error that says which, before anything moves.

use nunatak_kernels::sgd::SgdError;
use nunatak_nn::{
    CrossEntropyOptions, Error, Graph, Level, Loss, Mode, NormPolicy, Optimizer, Recipe, Sgd, Stem, Step, Threads, Trainer, Update, Var,
};
use nunatak_tests::{Batch, STEM, Setup, bits, same_bits, small, training, with_trainer};

fn indices() -> Loss {
    Loss::CrossEntropy(CrossEntropyOptions::default())
}

#[test]
fn settings_of_sgd() {
    let base = Sgd { momentum: 0.9, ..Sgd::new(0.1) };
    type Field = fn(&mut Sgd) -> &mut f32;
    let fields: [(&str, Field); 4] = [
        ("learning rate", |s| &mut s.lr),
        ("momentum", |s| &mut s.momentum),
        ("dampening", |s| &mut s.dampening),
        ("decay", |s| &mut s.weight_decay),
    ];
    for (name, field) in fields {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.1] {
            let mut settings = base;
            *field(&mut settings) = value;
            if name == "dampening" && value == -0.1 {
                assert!(Optimizer::new(settings).is_ok(), "PyTorch takes any finite dampening");
                continue;
            }
            let error = Optimizer::new(settings).expect_err(name);
            assert!(matches!(error, Error::Sgd(_)));
            let text = error.to_string();
            assert!(text.contains(name) && text.contains(&value.to_string()), "{text}");
            let group = [("none", settings)];
            let optimizer = Optimizer::new(base).and_then(|o| o.groups(&group).map(|_| ()));
            assert!(optimizer.is_err(), "{name} {value} in a group");
        }
    }
    for (momentum, dampening) in [(0.0, 0.0), (0.9, 0.5), (0.9, -0.5)] {
        let error = Optimizer::new(Sgd { nesterov: true, momentum, dampening, ..base });
        assert!(matches!(error, Err(Error::Sgd(SgdError::Nesterov { .. }))), "{momentum} {dampening}");
    }
    for fine in [Sgd::new(0.0), Sgd { nesterov: true, ..base }, Sgd { maximize: true, weight_decay: 10.0, ..base }, Sgd::new(f32::MAX)] {
        assert!(Optimizer::new(fine).is_ok(), "{fine:?}");
    }
}

/// Nothing but an error or a plan: no panic, and never a plan that lies about its bytes.
#[test]
fn sizes_of_batches_and_images() {
    let two_31 = 1_usize << 31;
    for recipe in [small(), Recipe::resnet18(10), Recipe::resnet8(10)] {
        for mode in [Mode::Train, Mode::Eval] {
            for (n, h, w) in [(0, 64, 64), (1, 0, 64), (1, 64, 0), (0, 0, 0)] {
                let setup = Setup { mode, height: h, width: w, batch: n, ..training(recipe, 1, 1, Loss::Sum) };
                let error = setup.plan().expect_err("a zero");
                assert!(matches!(error, Error::Core(nunatak_core::Error::ZeroDimension { .. })), "{n}x{h}x{w}: {error}");
            }
            for (n, h, w) in [
                (1, two_31, 1),
                (1, 1, two_31),
                (two_31, 1, 1),
                (1, two_31, two_31),
                (two_31, two_31, two_31),
                (usize::MAX, 1, 1),
                (1, usize::MAX, 1),
                (1, usize::MAX, usize::MAX),
                (1 << 20, 1 << 20, 1 << 20),
                (3, 1 << 32, 64),
                (u32::MAX as usize, 64, 64),
                (1, 1 << 20, 1 << 20),
            ] {
                for loss in [Loss::None, Loss::Sum, indices()] {
                    let setup = Setup { mode, loss, height: h, width: w, batch: n, ..training(recipe, 1, 1, Loss::Sum) };
                    match setup.plan() {
                        Ok((program, _)) => {
                            let least = (n as u128) * (h as u128) * (w as u128) * 4;
                            assert!(Trainer::bytes(&program) as u128 >= least, "{n}x{h}x{w}: {} bytes", Trainer::bytes(&program));
                        }
                        Err(error) => assert!(!error.to_string().is_empty()),
                    }
                }
            }
        }
    }
}

/// An image of 1 x 1 is no reason to fail in eval mode; PyTorch takes it too.
#[test]
fn the_smallest_images() {
    for recipe in [small(), Recipe::resnet18(10), Recipe::resnet8(10)] {
        for (h, w) in [(1, 1), (1, 5), (2, 1), (3, 3)] {
            let setup = Setup { mode: Mode::Eval, height: h, width: w, ..training(recipe, 1, 1, indices()) };
            for level in Level::available() {
                with_trainer(&setup, level, Threads::serial(), |trainer, values| {
                    Batch::random(&setup, 1).set(trainer, &values).expect("set");
                    trainer.forward().expect("forward");
                    trainer.finite(values.loss.expect("loss")).expect("a finite loss");
                    trainer.backward_and_step(Optimizer::new(Sgd::new(0.1)).expect("settings")).expect("step");
                });
            }
        }
    }
}

/// One value per channel has no variance: refused when it is planned, before anything moves.
#[test]
fn batch_1_in_train_mode_at_32x32() {
    let train = training(Recipe::resnet18(10), 1, 32, Loss::Sum);
    let error = train.plan().expect_err("refused");
    assert_eq!(error, Error::OneValuePerChannel { shape: [1, 512, 1, 1] });
    let text = error.to_string();
    assert!(text.starts_with("Expected more than 1 value per channel when training, got input size [1, 512, 1, 1]"), "{text}");
    let eval = Setup { mode: Mode::Eval, ..train };
    with_trainer(&eval, Level::detect(), Threads::serial(), |trainer, values| {
        Batch::random(&eval, 1).set(trainer, &values).expect("set");
        trainer.forward().expect("eval at 32x32 works");
        trainer.backward().expect("backward too");
    });
    // A last batch of 1 and fixed statistics above: only what normalises by the batch counts.
    let mut fixed = train;
    fixed.norm_policy = NormPolicy::Fixed;
    fixed.trainable = "head";
    assert!(fixed.plan().is_ok());
    assert!(Setup { batch: 2, ..train }.plan().is_ok());
    assert!(Setup { height: 33, ..train }.plan().is_ok(), "two values per channel");
}

#[test]
fn channels_other_than_the_recipes() {
    for channels in [0, 1, 2, 4, 64] {
        let graph = Graph::new();
        let x = graph.input([2, channels, 9, 9]);
        let _ = small().record(graph.root(), x);
        let error = graph.check().expect_err("other channels");
        match channels {
            0 => assert!(matches!(error, Error::Core(nunatak_core::Error::ZeroDimension { dimension: "c" }))),
            c => assert_eq!(error, Error::Core(nunatak_core::Error::ShapeMismatch { expected: [2, 3, 9, 9], got: [2, c as u32, 9, 9] })),
        }
        assert_eq!(Step::new(&graph).plan().err(), Some(error));
    }
    // Labels of other sizes than the prediction's, which can't be repeated to fit either.
    for (n, c) in [(2, 4), (3, 5), (2, 6)] {
        for record in [|y, t| y - t, |y: Var<'_>, t| y.mse(t)] as [for<'g> fn(Var<'g>, Var<'g>) -> Var<'g>; 2] {
            let graph = Graph::new();
            let (_, y) = small().record(graph.root(), graph.input([2, 3, 9, 9]));
            let _ = record(y, graph.input([n, c]));
            assert!(graph.check().is_err(), "{n}x{c}");
        }
    }
    let graph = Graph::new();
    let (_, y) = small().record(graph.root(), graph.input([2, 3, 9, 9]));
    let _ = y.cross_entropy(graph.labels(3), CrossEntropyOptions::default());
    assert!(graph.check().is_err(), "three labels for two images");
}

#[test]
fn labels_out_of_range() {
    let setup = training(small(), 3, 12, indices());
    for level in Level::available() {
        for bad in [5, 6, -1, -99, -101, i64::MAX, i64::MIN] {
            with_trainer(&setup, level, Threads::serial(), |trainer, values| {
                let batch = Batch::random(&setup, 1);
                trainer.set_input(values.data, &batch.data).expect("set");
                trainer.set_labels(values.labels.expect("labels"), &[0, bad, 4]).expect("set");
                let params =
                    |t: &Trainer| bits(t).into_iter().filter(|(n, _)| !n.contains("running") && !n.contains("num_b")).collect::<Vec<_>>();
                let before = params(trainer);
                let error = trainer.forward().expect_err("no class");
                assert_eq!(error, Error::TargetOutOfRange { row: 1, target: bad, classes: 5 });
                assert!(error.to_string().contains(&bad.to_string()));
                assert_eq!(trainer.backward(), Err(Error::BackwardBeforeForward));
                same_bits("parameters", &before, &params(trainer));
            });
        }
        // −100 is ignored; where all are, the loss is NaN, as in PyTorch, and can be noticed.
        with_trainer(&setup, level, Threads::serial(), |trainer, values| {
            let batch = Batch::random(&setup, 1);
            for (labels, finite) in [([0, -100, 4], true), ([-100; 3], false)] {
                trainer.set_input(values.data, &batch.data).expect("set");
                trainer.set_labels(values.labels.expect("labels"), &labels).expect("set");
                trainer.forward().expect("forward");
                let loss = trainer.finite(values.loss.expect("loss"));
                assert_eq!(loss.is_ok(), finite);
                assert!(finite || matches!(loss, Err(Error::LossNotFinite { loss }) if loss.is_nan()));
            }
            assert!(matches!(trainer.set_labels(values.labels.expect("labels"), &[0, 1]), Err(Error::Length { expected: 3, got: 2, .. })));
        });
    }
}

#[test]
fn recipes_that_describe_no_network() {
    let recipe = |blocks: &[usize], widths: &[usize], stem: Stem, channels: usize, classes: usize| {
        Recipe::new(blocks, widths, stem, channels, classes)
    };
    let stem = |kernel, stride, pad| Stem { kernel, stride, pad, pool: false };
    for (what, bad) in [
        ("no layers", recipe(&[], &[], STEM, 3, 10)),
        ("lists of two lengths", recipe(&[1, 1], &[8], STEM, 3, 10)),
        ("no blocks", recipe(&[1, 0], &[8, 8], STEM, 3, 10)),
        ("too many blocks", recipe(&[65], &[8], STEM, 3, 10)),
        ("no width", recipe(&[1], &[0], STEM, 3, 10)),
        ("a huge width", recipe(&[1], &[usize::MAX], STEM, 3, 10)),
        ("no kernel", recipe(&[1], &[8], stem(0, 1, 1), 3, 10)),
        ("a huge kernel", recipe(&[1], &[8], stem(usize::MAX, 1, 1), 3, 10)),
        ("no stride", recipe(&[1], &[8], stem(3, 0, 1), 3, 10)),
        ("a huge padding", recipe(&[1], &[8], stem(3, 1, usize::MAX), 3, 10)),
        ("no channels", recipe(&[1], &[8], STEM, 0, 10)),
        ("huge classes", recipe(&[1], &[8], STEM, 3, usize::MAX)),
    ] {
        assert!(matches!(bad, Err(Error::Recipe(_))), "{what}");
    }
    // Within the limits, but of more numbers than most machines have.
    let wide = recipe(&[1; 8], &[1 << 15; 8], stem(31, 16, 31), 1 << 15, 1 << 24).expect("a recipe");
    let program = Setup { trainable: "all", ..Setup::inference(wide, 1, 64, 64) }.plan().map(|(program, _)| Trainer::bytes(&program));
    assert!(program.is_err() || program.is_ok_and(|bytes| bytes > 1 << 33));
    // A stem whose window is larger than the padded image.
    let large = recipe(&[1], &[8], stem(31, 1, 0), 3, 10).expect("a recipe");
    let error = training(large, 2, 16, Loss::Sum).plan().err();
    assert_eq!(error, Some(Error::Core(nunatak_core::Error::WindowTooLarge { window: 31, input: 16 })));
}

/// However long a recording is, it can be planned, run and trained.
#[test]
fn recordings_have_any_length() {
    let graph = Graph::new();
    let data = graph.input([2, 3]);
    let mut x = data;
    for i in 0..3000 {
        x = match i % 3 {
            0 => x + data,
            1 => x * 0.5,
            _ => x.relu(),
        };
    }
    let y = graph.root().linear("fc", x, 1).sum();
    graph.check().expect("recorded");
    for update in [Update::After, Update::During] {
        let program = Step::new(&graph).loss(y).keep(&[x.id()]).update(update).plan().expect("a plan");
        let mut trainer = Trainer::owning(program, Level::detect(), Threads::serial()).expect("memory");
        trainer.init(0);
        trainer.set_input(data, &[1.0, 2.0, -3.0, 4.0, -5.0, 6.0]).expect("set");
        trainer.forward().expect("forward");
        // x = relu((x + data) / 2) has its fixed point at data where that is positive, and at 0 elsewhere.
        let mut end = [f32::NAN; 6];
        trainer.value(x, &mut end).expect("kept");
        assert_eq!(end, [1.0, 2.0, 0.0, 4.0, 0.0, 6.0]);
        trainer.backward_and_step(Sgd { momentum: 0.9, ..Sgd::new(0.1) }).expect("a step");
    }
    // A network of 2562 parameters and 8 x 64 blocks, which no fixed table would hold.
    let deep = Recipe::new(&[64; 8], &[8; 8], STEM, 3, 10).expect("a recipe");
    let setup = Setup { mode: Mode::Eval, ..training(deep, 1, 1, indices()) };
    let (program, _) = setup.plan().expect("a plan");
    let parameters = program.entries().filter(|id| program.entry(*id).is_trained()).count();
    assert_eq!(parameters, 3 + 6 * 512 + 3 * 7 + 2);
}
