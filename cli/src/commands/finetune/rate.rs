//! `--schedule`: how the learning rate moves over a run.

use crate::failure::Failure;
use nunatak_nn::Schedule;

/// A schedule with its units.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rate {
    /// Always `--lr`.
    Constant,
    /// Every `size` epochs times `gamma`.
    Step {
        /// Epochs between changes.
        size: u64,
        /// The factor of each change.
        gamma: f32,
    },
    /// Times `gamma` at each of these epochs.
    MultiStep {
        /// Epochs.
        milestones: Vec<u64>,
        /// The factor of each change.
        gamma: f32,
    },
    /// Up over `warmup` epochs, then half a cosine down to 0, step by step.
    Cosine {
        /// Epochs.
        warmup: u64,
    },
    /// PyTorch's OneCycleLR, step by step.
    OneCycle {
        /// The first step's rate is so many times lower than the highest.
        div: f32,
    },
}

/// Where a step stands in a run, or in a part of it that has a course of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The epoch, from 0.
    pub(super) epoch: u64,
    /// The batch in it, from 0.
    pub(super) batch: u64,
    /// Batches of an epoch.
    pub(super) batches: u64,
    /// Epochs in all.
    pub(super) epochs: u64,
}

impl Rate {
    /// Reads the option.
    ///
    /// # Errors
    /// [`Failure::Usage`] that says what it may be.
    pub(super) fn parse(text: &str) -> Result<Rate, Failure> {
        let wrong = |why: &str| {
            Failure::usage(format_args!(
                "--schedule {text}: {why}; expected constant, step:SIZE:GAMMA, multistep:A,B:GAMMA, cosine[:WARMUP] or onecycle"
            ))
        };
        let whole = |word: &str| word.trim().parse::<u64>().map_err(|_| wrong(&format!("{word:?} is no number of epochs")));
        let factor = |word: &str| match word.trim().parse::<f32>() {
            Ok(gamma) if gamma.is_finite() && gamma >= 0.0 => Ok(gamma),
            _ => Err(wrong(&format!("{word:?} is no factor of 0 or more"))),
        };
        let words: Vec<&str> = text.split(':').collect();
        match words.as_slice() {
            ["constant"] => Ok(Rate::Constant),
            ["step", size, gamma] => match whole(size)? {
                0 => Err(wrong("a change every 0 epochs")),
                size => Ok(Rate::Step { size, gamma: factor(gamma)? }),
            },
            ["multistep", list, gamma] => {
                let milestones = list.split(',').map(whole).collect::<Result<_, _>>()?;
                Ok(Rate::MultiStep { milestones, gamma: factor(gamma)? })
            }
            ["cosine"] => Ok(Rate::Cosine { warmup: 0 }),
            ["cosine", warmup] => Ok(Rate::Cosine { warmup: whole(warmup)? }),
            ["onecycle"] => Ok(Rate::OneCycle { div: 25.0 }),
            _ => Err(wrong("unknown")),
        }
    }

    /// Whether it depends on the number of epochs.
    pub(super) fn looks_ahead(&self) -> bool {
        matches!(self, Rate::Cosine { .. } | Rate::OneCycle { .. })
    }

    /// The factor of `--lr` at a step.
    pub(super) fn factor(&self, at: Place) -> f32 {
        let step = at.epoch * at.batches + at.batch;
        let total = at.epochs.saturating_mul(at.batches);
        match self {
            Rate::Constant => 1.0,
            Rate::Step { size, gamma } => Schedule::Step { size: *size, gamma: *gamma }.factor(at.epoch),
            Rate::MultiStep { milestones, gamma } => Schedule::MultiStep { milestones, gamma: *gamma }.factor(at.epoch),
            Rate::Cosine { warmup } => {
                let warmup = warmup.saturating_mul(at.batches);
                Schedule::Cosine { warmup, total, floor: 0.0 }.factor(step)
            }
            Rate::OneCycle { div } => Schedule::OneCycle { total, rise: 0.3, div: *div, final_div: 1e4 }.factor(step),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_read_and_refused() {
        assert_eq!(Rate::parse("step:7:0.1").ok(), Some(Rate::Step { size: 7, gamma: 0.1 }));
        assert_eq!(Rate::parse("multistep:3,5:0.5").ok(), Some(Rate::MultiStep { milestones: vec![3, 5], gamma: 0.5 }));
        assert_eq!(Rate::parse("cosine:2").ok(), Some(Rate::Cosine { warmup: 2 }));
        for bad in ["", "step", "step:0:0.1", "step:7:nan", "step:7:-1", "multistep::0.1", "cosine:x", "onecycle:3", "linear"] {
            assert!(matches!(Rate::parse(bad), Err(Failure::Usage(text)) if text.contains(bad)), "{bad}");
        }
    }

    #[test]
    fn factors_count_epochs_or_steps() {
        let at = |epoch, batch| Place { epoch, batch, batches: 10, epochs: 4 };
        let step = Rate::parse("step:2:0.1").unwrap();
        assert_eq!([step.factor(at(1, 9)), step.factor(at(2, 0))], [1.0, 0.1]);
        let cosine = Rate::parse("cosine:1").unwrap();
        assert_eq!([cosine.factor(at(0, 0)), cosine.factor(at(1, 0))], [0.1, 1.0]);
        assert!((cosine.factor(at(2, 5)) - 0.5).abs() < 1e-6);
        assert!((Rate::OneCycle { div: 25.0 }.factor(at(0, 0)) - 0.04).abs() < 1e-6);
    }
}
