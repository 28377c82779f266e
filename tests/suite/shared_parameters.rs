//! A parameter that is used twice gets the sum of both gradients, and is updated once.

use nunatak_nn::{Conv, Graph, Level, Mode, Norm, Scope, Sgd, Step, Threads, Trainer, Update, Var};
use nunatak_tests::{bits, distance, entry, gradient, random, same_bits, teams};

/// A convolution, a normalisation and a linear layer that are used twice, or two of each with the same numbers.
fn twice<'g>(g: Scope<'g>, x: [Var<'g>; 2], shared: bool) -> [Var<'g>; 2] {
    let mut uses = 0;
    x.map(|x| {
        uses += 1;
        let (again, other) = (uses == 2 && shared, uses == 2 && !shared);
        let name = |name: &str| if other { format!("{name}_again") } else { name.to_string() };
        let conv = Conv::new(5, 3).pad(1);
        let x = g.conv2d(&name("conv"), x, if again { conv.shared() } else { conv });
        let norm = Norm::default();
        let x = g.batch_norm(&name("bn"), x, if again { norm.shared() } else { norm }).relu();
        let fc = nunatak_nn::Dense::new(4);
        g.linear(&name("fc"), x.adaptive_avg_pool(1), if again { fc.shared() } else { fc })
    })
}

/// Numbers with a name each.
type Named<T> = Vec<(String, Vec<T>)>;

/// Runs two branches on different images, for some steps; the gradients of the first.
fn run_twice(shared: bool, update: Update, level: Level, threads: Threads, steps: usize) -> (Named<f32>, Named<u32>) {
    let graph = Graph::new();
    let images = [graph.input([3, 2, 6, 6]), graph.input([3, 2, 6, 6])];
    let labels = graph.input([3, 4]);
    let [a, b] = twice(graph.root(), images, shared);
    let loss = (a * 2.0 + b).mse(labels);
    let program = Step::new(&graph).loss(loss).mode(Mode::Eval).update(update).threads(3).plan().expect("a plan");
    let mut memory = vec![0xa5; Trainer::bytes(&program)];
    let mut trainer = Trainer::new(program.view(), &mut memory, level, threads).expect("memory");
    trainer.init(3);
    if !shared {
        for name in ["conv.weight", "conv.bias", "bn.weight", "bn.bias", "fc.weight", "fc.bias"] {
            let (module, leaf) = name.split_once('.').expect("a dot");
            let numbers = nunatak_tests::param(&trainer, name);
            let again = entry(&trainer, &format!("{module}_again.{leaf}"));
            trainer.set_entry(again, &numbers).expect("set");
        }
    }
    let mut first = Vec::new();
    for step in 0..steps as u64 {
        images.iter().enumerate().for_each(|(i, x)| trainer.set_input(*x, &random(216, 10 * step + i as u64)).expect("set"));
        trainer.set_input(labels, &random(12, 99 + step)).expect("set");
        trainer.forward().expect("forward");
        if update == Update::After && step == 0 {
            trainer.backward().expect("backward");
            first = trainer.gradients().map(|id| (program.entry(id).name().to_string(), gradient(&trainer, id))).collect();
            trainer.step(Sgd { momentum: 0.9, ..Sgd::new(0.05) }).expect("a step");
            trainer.zero_grad();
        } else {
            trainer.backward_and_step(Sgd { momentum: 0.9, ..Sgd::new(0.05) }).expect("a step");
        }
    }
    (first, bits(&trainer))
}

/// The gradient of a parameter that is used twice is the sum of both, and is used up once: the same bits whenever it
/// is used up.
#[test]
fn parameters_used_twice_get_the_sum_of_both_gradients() {
    for level in Level::available() {
        let (shared, state) = run_twice(true, Update::After, level, Threads::serial(), 3);
        let (apart, _) = run_twice(false, Update::After, level, Threads::serial(), 1);
        assert_eq!((shared.len(), apart.len()), (6, 12));
        for (name, both) in &shared {
            let of = |name: &str| apart.iter().find(|(n, _)| n == name).map(|(_, g)| g).unwrap_or_else(|| panic!("{name}"));
            let (module, leaf) = name.split_once('.').expect("a dot");
            let sum = of(name).iter().zip(of(&format!("{module}_again.{leaf}"))).map(|(a, b)| f64::from(*a) + f64::from(*b));
            let sum: Vec<f64> = sum.collect();
            let d = distance(both, &sum);
            assert!(d < 2e-6, "{level} {name}: {d:.1e}");
            // Both parts count.
            let one: Vec<f64> = of(name).iter().map(|v| f64::from(*v)).collect();
            assert!(distance(both, &one) > 1e-2, "{level} {name}");
        }
        for threads in teams(&[1, 2, 3]) {
            for update in [Update::After, Update::During] {
                let (_, other) = run_twice(true, update, level, threads.clone(), 3);
                same_bits(&format!("{level} {update:?} {} threads", threads.count()), &state, &other);
            }
        }
    }
}

/// `shared` without a first use, or of another shape, and a name that is used twice without it.
#[test]
fn sharing_is_said_and_fits() {
    use nunatak_nn::Error;
    let record = |first: Option<Conv>, second: Conv| {
        let graph = Graph::new();
        let x = graph.input([1, 3, 5, 5]);
        if let Some(first) = first {
            let _ = graph.root().conv2d("conv", x, first);
        }
        let _ = graph.root().conv2d("conv", x, second);
        graph.check()
    };
    let conv = Conv::new(4, 3);
    assert_eq!(record(Some(conv), conv.shared()), Ok(()));
    assert!(matches!(record(Some(conv), conv), Err(Error::NameTaken { name }) if name.as_str() == "conv.weight"));
    assert!(matches!(record(None, conv.shared()), Err(Error::UnknownName { name }) if name.as_str() == "conv.weight"));
    for other in [Conv::new(5, 3), Conv::new(4, 1)] {
        assert!(matches!(record(Some(conv), other.shared()), Err(Error::NameTaken { .. })));
    }
    assert!(matches!(record(Some(conv.no_bias()), conv.shared()), Err(Error::UnknownName { name }) if name.as_str() == "conv.bias"));
}
