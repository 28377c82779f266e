//! Values that are computed again in the backward walk instead of being kept: less memory, the same bits.

use nunatak_nn::models::by_name;
use nunatak_nn::step::{Event, Summary, each_call};
use nunatak_nn::{
    CrossEntropyOptions, Error, Graph, Level, Loss, Mode, NormPolicy, Program, Sgd, Step, Threads, Trainer, Update, Usual, ValueId,
};
use nunatak_tests::{emulated, random, teams};

/// What a step is planned from.
#[derive(Clone, Copy, Debug)]
struct Case<'a> {
    model: &'a str,
    batch: usize,
    size: usize,
    trainable: &'a str,
    update: Update,
    fuse: bool,
    norms: NormPolicy,
}

const ALL: Case =
    Case { model: "resnet8", batch: 3, size: 16, trainable: "all", update: Update::After, fuse: true, norms: NormPolicy::Updating };

/// Records the network of a case, with ten classes.
fn record(graph: &Graph, case: &Case) -> Usual {
    let loss = Loss::CrossEntropy(CrossEntropyOptions::default());
    let network = |g, x| match case.model {
        "resnet8" => nunatak_nn::Recipe::resnet8(10).record(g, x),
        name => {
            let prediction = by_name(name).expect("a model").record(g, x, 10);
            (g.named("features").unwrap_or(prediction), prediction)
        }
    };
    graph.usual([case.batch, 3, case.size, case.size], loss, network).expect("a recording")
}

fn step<'a, 's>(graph: &'a Graph<'s>, case: &Case<'a>, values: &Usual) -> Step<'a, 's> {
    Step::new(graph)
        .root(values.root)
        .train(case.trainable)
        .mode(Mode::Train)
        .update(case.update)
        .fuse(case.fuse)
        .norm_policy(case.norms)
        .threads(3)
}

/// Loss, and every number of the state dict after two steps of two walks each, as bits.
fn learn(program: Program<'static>, values: &Usual, case: &Case, level: Level, threads: Threads) -> Vec<u32> {
    let mut trainer = Trainer::owning(program, level, threads).expect("a trainer");
    trainer.init(11);
    let settings = Sgd { momentum: 0.9, weight_decay: 1e-3, ..Sgd::new(0.05) };
    let labels: Vec<i64> = (0..case.batch as i64).map(|i| i * 7 % 10).collect();
    let mut seen = Vec::new();
    for at in 0..2 {
        trainer.set_input(values.data, &random(case.batch * 3 * case.size * case.size, at)).expect("set");
        trainer.set_labels(values.labels.expect("labels"), &labels).expect("set");
        trainer.forward().expect("forward");
        let mut loss = [f32::NAN];
        trainer.value(values.root.expect("a loss"), &mut loss).expect("a loss");
        seen.push(loss[0].to_bits());
        match case.update {
            Update::After => trainer.backward().and_then(|()| trainer.step(settings)).expect("a step"),
            Update::During => trainer.backward_and_step(settings).expect("a step"),
            Update::Summed => trainer.accumulate(1.0, settings).and_then(|()| trainer.step(settings)).expect("a step"),
        };
        if case.update == Update::After {
            trainer.zero_grad();
        }
    }
    seen.extend(nunatak_tests::bits(&trainer).into_iter().flat_map(|(_, bits)| bits));
    seen
}

/// How many calls are made again.
fn repeated(program: &Program) -> usize {
    let mut count = 0;
    each_call(program, |event| count += usize::from(matches!(event, Event::Again(_))));
    count
}

fn check(case: &Case, levels: &[Level], threads: &[usize]) {
    let graph = Graph::new();
    let values = record(&graph, case);
    let plain = step(&graph, case, &values).plan().expect("a plan");
    let every: Vec<ValueId> = (0..=values.root.expect("a loss").0).map(ValueId).collect();
    let odd: Vec<ValueId> = every.iter().copied().filter(|v| v.0 % 3 != 1).collect();
    for again in [&every, &odd] {
        let program = step(&graph, case, &values).again(again).plan().expect("a plan");
        assert!(repeated(&program) > 0, "{case:?}");
        for level in levels {
            for threads in teams(threads) {
                let due = learn(plain.clone(), &values, case, *level, threads.clone());
                let got = learn(program.clone(), &values, case, *level, threads);
                assert!(due == got, "{case:?} {level}: other bits");
            }
        }
    }
}

#[test]
fn the_bits_are_those_of_a_step_that_keeps_everything() {
    let levels: Vec<Level> = Level::available().collect();
    for update in [Update::After, Update::During, Update::Summed] {
        check(&Case { update, ..ALL }, &levels, &[1, 3]);
    }
    check(&Case { fuse: false, ..ALL }, &levels, &[2]);
    check(&Case { trainable: "layer3,fc", ..ALL }, &levels, &[2]);
    check(&Case { trainable: "layer2,fc", norms: NormPolicy::Fixed, ..ALL }, &levels, &[2]);
}

/// Dropout, depthwise and grouped convolutions, other activations, bottlenecks.
#[test]
fn other_networks_have_their_bits_too() {
    if emulated() {
        return;
    }
    for (model, size) in [("resnet50", 32), ("mobilenet_v2", 64), ("mobilenet_v3_small", 64)] {
        let case = Case { model, batch: 3, size, update: Update::During, ..ALL };
        check(&case, &[Level::detect()], &[2]);
    }
}

/// The running statistics and counts of batches move once a step; checked with the bits above, of the state dict. Here:
/// that a budget is kept, that less memory means more work, and that what can't be is an error with a number that can.
#[test]
fn a_budget_is_kept() {
    for (model, batch, size) in [("resnet8", 8, 32), ("resnet18", 4, 64)] {
        let case = Case { model, batch, size, update: Update::During, ..ALL };
        let graph = Graph::new();
        let values = record(&graph, &case);
        let plain = step(&graph, &case, &values).plan().expect("a plan");
        let most = Trainer::bytes(&plain);
        let unbounded = step(&graph, &case, &values).plan_within(most).expect("room");
        assert_eq!((unbounded.program.bytes(), unbounded.times, unbounded.again.len()), (plain.bytes(), 1.0, 0));
        let Err(Error::Budget { asked: 1000, least }) = step(&graph, &case, &values).plan_within(1000) else {
            panic!("{model} in 1000 bytes")
        };
        // Of the larger network the weights are most.
        let lasting = 4 * plain.lasting_len();
        assert!(least - lasting < (most - lasting) * 3 / 4, "{model}: {least} of {most}, {lasting} last");
        assert!(matches!(step(&graph, &case, &values).plan_within(lasting), Err(Error::Budget { .. })));
        let mut before = f64::INFINITY;
        for part in 0..=8 {
            let budget = least + (most - least) * part / 8;
            let found =
                step(&graph, &case, &values).plan_within(budget).unwrap_or_else(|e| panic!("{model} in {budget} of {most} bytes: {e}"));
            assert!(Trainer::bytes(&found.program) <= budget, "{model}: {} of {budget}", Trainer::bytes(&found.program));
            assert!(found.times <= before * 1.02 && found.times >= 1.0, "{model}, {budget}: {} after {before}", found.times);
            assert_eq!(repeated(&found.program) > 0, found.times > 1.0);
            before = found.times;
            // The same again: a plan depends on nothing else.
            assert_eq!(step(&graph, &case, &values).again(&found.again).plan().expect("a plan").bytes(), found.program.bytes());
            assert!(Summary(&found.program).to_string().contains("forward_again") == (found.times > 1.0));
        }
        assert_eq!(before, 1.0);
    }
}

/// Inputs, kept values and values that are not there.
#[test]
fn what_can_not_be_computed_again_is_kept() {
    let graph = Graph::new();
    let values = record(&graph, &ALL);
    let plain = step(&graph, &ALL, &values).plan().expect("a plan");
    let asked = [values.data, values.root.expect("a loss")];
    assert_eq!(step(&graph, &ALL, &values).again(&asked).plan().expect("a plan").bytes(), plain.bytes());
    let unknown = [ValueId(values.root.expect("a loss").0 + 1)];
    assert!(matches!(step(&graph, &ALL, &values).again(&unknown).plan(), Err(Error::Core(nunatak_core::Error::UnknownValue { .. }))));
}
