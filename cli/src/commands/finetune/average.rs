//! `--ema`: an exponential moving average of the weights over the steps, which is often better than the last ones.
//!
//! It is what is validated and saved as the best model. Training goes on with the weights themselves; `FILE.last` holds
//! both, the average under `ema.<name>`.

use crate::failure::Failure;
use nunatak_core::program::EntryKind;
use nunatak_nn::files::Checkpoint;
use nunatak_nn::files::heapless::AVERAGE_PREFIX;
use nunatak_nn::files::state::Values;
use nunatak_nn::{EntryId, Trainer};

/// The average of everything that training changes: trained parameters and running statistics.
pub(super) struct Average {
    decay: f32,
    /// Steps that it has seen.
    steps: u64,
    numbers: Vec<(EntryId, Vec<f32>)>,
    room: Vec<f32>,
}

impl Average {
    /// Begins with the weights as they are.
    ///
    /// # Errors
    /// [`Failure`] where the trainer refuses to hand out an entry.
    pub(super) fn new(trainer: &Trainer, decay: f32) -> Result<Average, Failure> {
        let program = trainer.program();
        let changes = |id: &EntryId| {
            let entry = program.entry(*id);
            let statistic = matches!(entry.kind(), EntryKind::RunningMean | EntryKind::RunningVar);
            !entry.is_borrowed() && (statistic || entry.kind() == EntryKind::Parameter && entry.is_trained())
        };
        let mut numbers = Vec::new();
        for id in program.entries().filter(changes) {
            let mut of_entry = vec![0.0; program.entry(id).numbers()];
            trainer.entry(id, &mut of_entry)?;
            numbers.push((id, of_entry));
        }
        Ok(Average { decay, steps: 0, numbers, room: Vec::new() })
    }

    /// Takes the weights after a step into the average. The first steps count more, so that the average is not kept
    /// back by the weights before training: the decay is at most (1 + n) / (10 + n) in step n.
    ///
    /// # Errors
    /// [`Failure`] where the trainer refuses to hand out an entry.
    pub(super) fn add(&mut self, trainer: &Trainer) -> Result<(), Failure> {
        self.steps += 1;
        let decay = decay(self.decay, self.steps);
        for (id, average) in &mut self.numbers {
            self.room.resize(average.len(), 0.0);
            trainer.entry(*id, &mut self.room)?;
            average.iter_mut().zip(&self.room).for_each(|(average, new)| *average += (1.0 - decay) * (new - *average));
        }
        Ok(())
    }

    /// Exchanges the weights and their average; once more brings them back, bit for bit.
    ///
    /// # Errors
    /// [`Failure`] where the trainer refuses an entry.
    pub(super) fn exchange(&mut self, trainer: &mut Trainer) -> Result<(), Failure> {
        for (id, average) in &mut self.numbers {
            self.room.resize(average.len(), 0.0);
            trainer.entry(*id, &mut self.room)?;
            trainer.set_entry(*id, average)?;
            average.copy_from_slice(&self.room);
        }
        Ok(())
    }

    /// Steps that it has seen.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// As tensors of `FILE.last`.
    pub(super) fn tensors(&self, trainer: &Trainer) -> Vec<(String, Vec<usize>, Values)> {
        let tensor = |(id, numbers): &(EntryId, Vec<f32>)| {
            let entry = trainer.program().entry(*id);
            let (shape, rank) = entry.shape();
            (format!("{AVERAGE_PREFIX}{}", entry.name()), shape[..rank].to_vec(), Values::F32(numbers.clone()))
        };
        self.numbers.iter().map(tensor).collect()
    }

    /// Goes on with what `FILE.last` holds.
    ///
    /// # Errors
    /// [`Failure`] that names the entry that is missing or has another number of elements.
    pub(super) fn load(&mut self, trainer: &Trainer, file: &Checkpoint, steps: u64) -> Result<(), Failure> {
        for (id, numbers) in &mut self.numbers {
            let name = format!("{AVERAGE_PREFIX}{}", trainer.program().entry(*id).name());
            let wrong = |why: &str| Failure::Failed(format!("can't be resumed from: {name} {why}"));
            let entry = file.get(&name).ok_or_else(|| wrong("is not there"))?;
            entry.read_f32(&mut self.room).map_err(|e| wrong(&e.to_string()))?;
            if self.room.len() != numbers.len() {
                return Err(wrong("has another number of elements than its parameter"));
            }
            numbers.copy_from_slice(&self.room);
        }
        self.steps = steps;
        Ok(())
    }
}

/// The decay of step `n`, from 1.
fn decay(most: f32, n: u64) -> f32 {
    most.min(((1.0 + n as f64) / (10.0 + n as f64)) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nunatak_nn::{Level, Recipe, Threads};

    /// The recurrence in double beside it.
    #[test]
    fn the_average_follows_the_recurrence_and_is_exchanged_bit_for_bit() {
        let network = crate::setup::Network::Recipe(Recipe::resnet8(2));
        let setup = crate::setup::Setup { trainable: "fc".into(), ..crate::setup::Setup::inference(network, 1, 32) };
        let mut trainer = Trainer::owning(setup.plan().unwrap().program, Level::PORTABLE, Threads::serial()).unwrap();
        trainer.init(1);
        let id = trainer.entry_named("fc.bias").unwrap();
        trainer.set_entry(id, &[1.0, -2.0]).unwrap();
        let mut average = Average::new(&trainer, 0.9).unwrap();
        assert!(average.numbers.iter().any(|(other, _)| *other == id));
        let frozen = trainer.entry_named("conv1.weight").unwrap();
        assert!(average.numbers.iter().all(|(other, _)| *other != frozen));
        let mut due = [1.0_f64, -2.0];
        for n in 1..=200_u64 {
            let now = [(n as f32 * 0.3).sin(), n as f32];
            trainer.set_entry(id, &now).unwrap();
            average.add(&trainer).unwrap();
            let keep = 0.9_f64.min((1.0 + n as f64) / (10.0 + n as f64));
            due.iter_mut().zip(now).for_each(|(due, now)| *due = keep * *due + (1.0 - keep) * f64::from(now));
        }
        let mut got = [0.0; 2];
        average.exchange(&mut trainer).unwrap();
        trainer.entry(id, &mut got).unwrap();
        assert!(got.iter().zip(due).all(|(got, due)| (f64::from(*got) - due).abs() < 1e-4 * due.abs().max(1.0)), "{got:?} {due:?}");
        average.exchange(&mut trainer).unwrap();
        trainer.entry(id, &mut got).unwrap();
        assert_eq!(got, [(200.0_f32 * 0.3).sin(), 200.0]);
        assert_eq!([decay(0.999, 1), decay(0.999, 90), decay(0.5, 90)], [2.0 / 11.0, 0.91, 0.5]);
    }
}
