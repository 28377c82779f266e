//! What is done with a program that was accepted.

use nunatak_core::program::{Flags, Program, ValueRecord};
use nunatak_nn::{Error, Level, Native, Sgd, Threads, Trainer, ValueId};

/// One step or two, whatever they answer, and all that can be read: what the steps answered, or none where the executor
/// does not take the program. `how` chooses the number of steps, and what is read.
pub(crate) fn execute(program: &Program, weights: Native<'static>, level: Level, how: u8) -> Option<Result<(), Error>> {
    let mut room = Vec::new();
    let bound = match program.weights_hash() {
        Some(_) => {
            room.resize(Trainer::bytes(program), 0xa5);
            Trainer::with_weights(program.view(), &mut room, weights, level, Threads::serial())
        }
        None => Trainer::owning(program.view(), level, Threads::serial()),
    };
    let mut trainer = bound.ok()?;
    trainer.init(1);
    let momentum = if program.flags().has(Flags::MOMENTUM) { 0.9 } else { 0.0 };
    let sgd = Sgd { momentum, ..Sgd::new(0.1) };
    let mut answer = Ok(());
    for _ in 0..1 + (how >> 1 & 1) {
        answer = answer.and(step(&mut trainer, program, sgd));
    }
    for id in program.entries() {
        let mut room = vec![0.0; program.entry(id).numbers()];
        let _ = (trainer.entry(id, &mut room), trainer.gradient(id, &mut room), trainer.momentum(id, &mut room));
    }
    if how >> 2 & 7 == 0 {
        let _ = nunatak_nn::step::Summary(program).to_string();
    }
    Some(answer)
}

fn step(trainer: &mut Trainer, program: &Program, sgd: Sgd) -> Result<(), Error> {
    for value in program.values() {
        let id = ValueId(value.node());
        if value.flags() & ValueRecord::INPUT != 0 {
            let _ = trainer.set_input(id, &vec![0.5; value.place().len()]);
        }
        if value.flags() & ValueRecord::LABELS != 0 {
            let _ = trainer.set_labels(id, &vec![1; value.shape()[0]]);
        }
    }
    let forward = trainer.forward();
    let root = program.root().and_then(|node| program.value_of_node(node));
    let gradient = vec![1.0; root.map_or(1, |(_, root)| root.place().len())];
    let backward = trainer.backward_with_and_step(&gradient, sgd);
    for value in program.values() {
        let mut room = vec![0.0; value.place().len()];
        let id = ValueId(value.node());
        let _ = (trainer.value(id, &mut room), trainer.value_gradient(id, &mut room));
    }
    match backward {
        Err(Error::NothingToTrain | Error::NoGradients) if program.updates().next().is_none() => forward,
        backward => forward.and(backward),
    }
}
