//! Every operation in the whole executor: recorded, planned, executed from a program's bytes.
//!
//! For each case of [`cases::all`], at every level that the machine has: forward is what the reference in float64
//! computes; the gradient of every input and parameter is the slope that forward has; one and three threads give the
//! same bits; the update during the walk gives the bits of the update after it; without fusing all is the same within
//! rounding. And every operation that a program can name has a case.

pub(crate) mod cases;

use cases::{Case, FORWARDS, Given, Values};
use nunatak_core::program::{EntryKind, Program};
use nunatak_core::{Shape, Tensor, Update};
use nunatak_nn::optim::{Optimizer, Sgd};
use nunatak_nn::plan::Step;
use nunatak_nn::record::{Graph, Var};
use nunatak_nn::step::Trainer;
use nunatak_nn::{Error, Level, Threads, ops};
use std::collections::{BTreeMap, BTreeSet};

/// What a number is moved by to find a slope: inputs lie so that no kink is between.
const STEP: f32 = 1.0 / 256.0;

/// A case, recorded.
struct Recorded {
    graph: Graph<'static>,
    given: Vec<nunatak_core::tape::ValueId>,
    root: nunatak_core::tape::ValueId,
    shape: Shape,
}

fn record(case: &Case) -> Recorded {
    let graph = Graph::new();
    let (given, root, shape) = {
        let vars: Vec<Var> = case
            .given
            .iter()
            .map(|given| match given {
                Given::Tensor { shape, .. } => graph.input(*shape),
                Given::Labels(labels) => graph.labels(labels.len()),
            })
            .collect();
        let root = (case.build)(&graph, &vars);
        (vars.iter().map(|v| v.id()).collect(), root.id(), root.shape())
    };
    graph.check().unwrap_or_else(|e| panic!("{}: {e}", case.name));
    Recorded { graph, given, root, shape }
}

/// Memory that is full of NaN, so that what is read before it was written shows.
struct Memory(Vec<u8>);

impl Memory {
    fn fresh(&mut self, program: &Program) -> &mut [u8] {
        self.0.clear();
        self.0.resize(Trainer::bytes(program), 0xff);
        &mut self.0
    }
}

/// A tensor in the order of memory: channels last.
fn last(shape: Shape, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    Tensor::new(shape, x).expect("a tensor").to_channels_last(&mut y);
    y
}

fn shape_of([n, c, h, w]: [usize; 4]) -> Shape {
    Shape::new(n, c, h, w).expect("a shape")
}

struct Run<'c> {
    case: &'c Case,
    recorded: &'c Recorded,
    trainer: Trainer<'c>,
    dy: Vec<f32>,
}

impl<'c> Run<'c> {
    fn new(
        (case, recorded): (&'c Case, &'c Recorded),
        program: &Program<'static>,
        memory: &'c mut Memory,
        level: Level,
        threads: usize,
    ) -> Result<Self, Error> {
        let threads = Threads::oversubscribed(threads).expect("threads");
        let mut trainer = Trainer::new(program.clone(), memory.fresh(program), level, threads)?;
        trainer.init(3);
        let mut random = cases::Random::new(5);
        for id in program.entries() {
            let entry = program.entry(id);
            let numbers: Vec<f32> = match (entry.kind(), entry.shape().1) {
                (EntryKind::Count | EntryKind::Words, _) | (EntryKind::Parameter, 2..) => continue,
                (EntryKind::Parameter | EntryKind::RunningMean, _) => random.numbers(entry.numbers()),
                (EntryKind::RunningVar, _) => random.numbers(entry.numbers()).iter().map(|v| v * v + 0.5).collect(),
            };
            trainer.set_entry(id, &numbers)?;
        }
        let dy = random.numbers(recorded.shape.len());
        Ok(Run { case, recorded, trainer, dy })
    }

    fn entry(&self, name: &str) -> Vec<f32> {
        let id = self.trainer.entry_named(name).expect("an entry");
        let mut out = vec![0.0; self.trainer.program().entry(id).numbers()];
        self.trainer.entry(id, &mut out).expect("its numbers");
        out
    }

    /// Forward, with one number of one input changed.
    fn forward(&mut self, change: Option<(usize, usize, f32)>) -> Result<Vec<f32>, Error> {
        for (i, given) in self.case.given.iter().enumerate() {
            match given {
                Given::Labels(labels) => self.trainer.set_labels(self.recorded.given[i], labels)?,
                Given::Tensor { data, .. } => {
                    let mut data = data.clone();
                    if let Some((_, at, by)) = change.filter(|change| change.0 == i) {
                        data[at] += by;
                    }
                    self.trainer.set_input(self.recorded.given[i], &data)?;
                }
            }
        }
        self.trainer.set_forwards(FORWARDS - 1);
        self.trainer.forward()?;
        let mut y = vec![f32::NAN; self.recorded.shape.len()];
        self.trainer.value(self.recorded.root, &mut y)?;
        Ok(y)
    }

    /// `Σ dy·y`
    fn loss(&mut self, change: Option<(usize, usize, f32)>) -> Result<f64, Error> {
        let y = self.forward(change)?;
        Ok(y.iter().zip(&self.dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum())
    }

    /// Gradients by name of a parameter or number of an input; those of parameters are added to what is there.
    fn gradients(&mut self) -> Result<BTreeMap<String, Vec<f32>>, Error> {
        self.forward(None)?;
        self.trainer.backward_with(&self.dy)?;
        let mut all = BTreeMap::new();
        for id in self.trainer.gradients() {
            let entry = self.trainer.program().entry(id);
            let mut out = vec![f32::NAN; entry.numbers()];
            self.trainer.gradient(id, &mut out)?;
            all.insert(entry.name().to_string(), out);
        }
        for (i, given) in self.case.given.iter().enumerate() {
            if let Given::Tensor { data, gradient: true, .. } = given {
                let mut out = vec![f32::NAN; data.len()];
                self.trainer.value_gradient(self.recorded.given[i], &mut out)?;
                all.insert(i.to_string(), out);
            }
        }
        Ok(all)
    }

    /// What the reference is told.
    fn values(&self) -> Values {
        let x = self.case.given.iter().map(|given| match given {
            Given::Tensor { shape, data, .. } => last(shape_of(*shape), data),
            Given::Labels(_) => Vec::new(),
        });
        let program = self.trainer.program();
        let entries = program.entries().map(|id| program.entry(id)).filter(|entry| entry.kind() != EntryKind::Count);
        Values { x: x.collect(), entries: entries.map(|entry| (entry.name().to_string(), self.entry(entry.name()))).collect() }
    }

    fn check_forward(&mut self) -> Result<(), Error> {
        let expected = (self.case.reference)(&self.values());
        let y = last(self.recorded.shape, &self.forward(None)?);
        assert_eq!(y.len(), expected.len(), "{}: numbers of the reference", self.case.name);
        let largest = expected.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        for (i, (y, e)) in y.iter().zip(&expected).enumerate() {
            let fine = (f64::from(*y) - e).abs() <= 5e-6 * largest;
            assert!(fine, "{} at {}: number {i} is {y} instead of {e}", self.case.name, self.trainer.level());
        }
        Ok(())
    }

    /// Every gradient against the slope of forward.
    fn check_gradients(&mut self) -> Result<BTreeMap<String, Vec<f32>>, Error> {
        let all = self.gradients()?;
        let due = self.case.given.iter().filter(|given| matches!(given, Given::Tensor { gradient: true, .. })).count();
        assert_eq!(all.len(), due + self.trainer.program().updates().count(), "{}: gradients", self.case.name);
        for (name, gradient) in &all {
            let largest = gradient.iter().fold(1e-2_f64, |m, v| m.max(f64::from(v.abs())));
            for i in (0..gradient.len()).step_by(gradient.len().div_ceil(50)) {
                let mut losses = [0.0; 2];
                for (loss, by) in losses.iter_mut().zip([-STEP, STEP]) {
                    *loss = match name.parse::<usize>() {
                        Ok(input) => self.loss(Some((input, i, by)))?,
                        Err(_) => {
                            let (id, mut numbers) = (self.trainer.entry_named(name)?, self.entry(name));
                            let before = numbers.clone();
                            numbers[i] += by;
                            self.trainer.set_entry(id, &numbers)?;
                            let loss = self.loss(None)?;
                            self.trainer.set_entry(id, &before)?;
                            loss
                        }
                    };
                }
                let slope = (losses[1] - losses[0]) / (2.0 * f64::from(STEP));
                let fine = (slope - f64::from(gradient[i])).abs() <= self.case.slack * largest;
                let (case, level) = (self.case.name, self.trainer.level());
                assert!(fine, "{case} at {level}: gradient {i} of {name} is {}, the slope {slope}", gradient[i]);
            }
        }
        Ok(all)
    }

    /// Every parameter after two steps.
    fn trained(&mut self) -> Result<Vec<u32>, Error> {
        let optimizer = Optimizer::new(Sgd { momentum: 0.9, weight_decay: 0.01, ..Sgd::new(0.1) })?;
        for _ in 0..2 {
            self.forward(None)?;
            self.trainer.backward_with_and_step(&self.dy, optimizer)?;
        }
        let names: Vec<String> = self.values().entries.into_keys().collect();
        Ok(names.iter().flat_map(|name| self.entry(name)).map(f32::to_bits).collect())
    }
}

fn bits(gradients: &BTreeMap<String, Vec<f32>>) -> Vec<u32> {
    gradients.values().flatten().map(|v| v.to_bits()).collect()
}

/// All that is asked of a case; notes the operations of its programs.
fn check(case: &Case, codes: &mut BTreeSet<u32>) -> Result<(), Error> {
    let recorded = record(case);
    let wanted: Vec<_> = case
        .given
        .iter()
        .zip(&recorded.given)
        .filter(|(given, _)| matches!(given, Given::Tensor { gradient: true, .. }))
        .map(|(_, id)| *id)
        .collect();
    let step = Step::new(&recorded.graph).loss(recorded.root).keep_gradients(&wanted).mode(case.mode).threads(3);
    let program = step.plan()?;
    let during = step.update(Update::During).plan()?;
    let plain = step.fuse(false).plan()?;
    for program in [&program, &plain] {
        codes.extend(program.forward().map(|call| call.op()));
    }
    let both = (case, &recorded);
    for level in Level::available() {
        let [mut one, mut two, mut three, mut four] = [const { Memory(Vec::new()) }; 4];
        let mut run = Run::new(both, &program, &mut one, level, 1)?;
        run.check_forward()?;
        let gradients = run.check_gradients()?;
        let y = run.forward(None)?;
        // A second backward adds to the parameters' gradients.
        for (name, twice) in run.gradients()?.into_iter().filter(|(name, _)| name.parse::<usize>().is_err()) {
            let largest = twice.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
            let fine = twice.iter().zip(&gradients[&name]).all(|(two, one)| (two - 2.0 * one).abs() <= 1e-5 * largest);
            assert!(fine, "{} at {level}: the gradient of {name} is not added", case.name);
        }

        let mut threads = Run::new(both, &program, &mut two, level, 3)?;
        assert!(threads.forward(None)?.iter().zip(&y).all(|(a, b)| a.to_bits() == b.to_bits()), "{}: threads", case.name);
        assert_eq!(bits(&threads.gradients()?), bits(&gradients), "{}: gradients, threads", case.name);

        let mut apart = Run::new(both, &plain, &mut three, level, 1)?;
        apart.check_forward()?;
        for (name, gradient) in apart.gradients()? {
            let largest = gradient.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
            let fine = gradient.iter().zip(&gradients[&name]).all(|(a, b)| (a - b).abs() <= 2e-5 * largest + 1e-6);
            assert!(fine, "{} at {level}: the gradient of {name} differs without fusing", case.name);
        }

        if program.updates().next().is_some() {
            let after = Run::new(both, &program, &mut four, level, 1)?.trained()?;
            for threads in [1, 3] {
                let walked = Run::new(both, &during, &mut four, level, threads)?.trained()?;
                assert_eq!(walked, after, "{} at {level}: updated during the walk", case.name);
            }
        }
    }
    Ok(())
}

/// The operations of layers of 8 bits.
const INT8: std::ops::RangeInclusive<u32> = 29..=33;

#[test]
fn every_operation_computes_what_it_says() {
    let mut codes = BTreeSet::new();
    for case in cases::all() {
        check(&case, &mut codes).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    }
    // Tensors and class indices from outside, 1 and 2, are not computed. What computes in 8 bits has no gradient, and tests
    // of its own.
    let own = |code: &&u32| **code <= 2 || INT8.contains(code);
    let missing: Vec<&u32> = ops::CODES.iter().filter(|code| !own(code) && !codes.contains(code)).collect();
    assert!(missing.is_empty(), "operations without a case: {missing:?}");
}

/// What a dropout leaves out changes from step to step, and eval mode has none.
#[test]
fn dropout_draws_anew() -> Result<(), Error> {
    let graph = Graph::new();
    let x = graph.input([1, 100]);
    let (a, b) = (x.dropout(0.5), x.dropout(0.5));
    let keep = [a.id(), b.id()];
    let step = Step::new(&graph).keep(&keep);
    let (train, eval) = (step.plan()?, step.mode(nunatak_nn::select::Mode::Eval).plan()?);
    let mut trainer = Trainer::owning(train.clone(), Level::PORTABLE, Threads::serial())?;
    trainer.init(0);
    let mut drawn = Vec::new();
    for step in 0..3 {
        assert_eq!(trainer.forwards(), step);
        trainer.set_input(x, &[1.0; 100])?;
        trainer.forward()?;
        for value in keep {
            let mut y = vec![0.0; 100];
            trainer.value(value, &mut y)?;
            let kept = y.iter().filter(|v| **v == 2.0).count();
            assert!((20..80).contains(&kept) && y.iter().all(|v| *v == 0.0 || *v == 2.0), "{y:?}");
            assert!(!drawn.contains(&y), "the same draws");
            drawn.push(y);
        }
    }
    trainer.switch(eval)?;
    assert_eq!(trainer.forwards(), 3);
    trainer.set_input(x, &[1.0; 100])?;
    trainer.forward()?;
    let mut y = vec![0.0; 100];
    trainer.value(a, &mut y)?;
    assert_eq!((y, trainer.forwards()), (vec![1.0; 100], 3));
    trainer.switch(train)?;
    trainer.set_forwards(1);
    trainer.set_input(x, &[1.0; 100])?;
    trainer.forward()?;
    let mut y = vec![0.0; 100];
    trainer.value(a, &mut y)?;
    assert_eq!(y, drawn[2], "the second step again");
    Ok(())
}

/// What can't be recorded is an error, which says why.
#[test]
fn recordings_that_do_not_fit_are_errors() {
    type Record = fn(&Graph);
    let errors: [(&str, Record); 8] = [
        ("expected", |g| _ = g.input([2, 3, 4, 5]) * g.input([2, 2, 1, 1])),
        ("1 to 64", |g| _ = g.root().concat(&[])),
        ("expected", |g| _ = g.input([1, 2, 3, 3]).concat(g.input([1, 2, 3, 4]))),
        ("probability", |g| _ = g.input([4]).dropout(1.5)),
        ("beta", |g| _ = g.input([4]).smooth_l1(g.input([4]), -1.0, nunatak_nn::Reduction::Sum)),
        ("expected", |g| _ = g.input([4]).l1(g.input([5]), nunatak_nn::Reduction::Sum)),
        ("window", |g| _ = g.input([1, 1, 4, 4]).max_pool([5, 2], 1, 0)),
        ("window", |g| _ = g.input([1, 1, 4, 4]).avg_pool(3, 1, 2, true)),
    ];
    for (due, record) in errors {
        let graph = Graph::new();
        record(&graph);
        let error = graph.check().expect_err(due).to_string();
        assert!(error.contains(due), "{error:?} does not say {due:?}");
    }
}
