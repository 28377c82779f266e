//! Where the bytes of a step go.

use nunatak_core::arena::ALIGN;
use nunatak_nn::{Program, Trainer};
use std::fmt;

/// Bytes by kind; what shares memory is counted as it is at the busiest moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bytes {
    /// Parameters.
    pub weights: usize,
    /// Running statistics.
    pub statistics: usize,
    /// Momentum.
    pub momentum: usize,
    /// Gradients of parameters.
    pub gradients: usize,
    /// Activations, their gradients, and what forward leaves for backward.
    pub activations: usize,
    /// What single calls use.
    pub scratch: usize,
    /// The lasting state, with the statistics as they were before a step, alignment, and gaps between buffers.
    pub padding: usize,
    /// The program and the trainer that executes it. Not in the block.
    pub tables: usize,
    /// The whole block.
    pub block: usize,
    /// Weights and statistics that are read in place. Not in the block, and no memory of the trainer's.
    pub borrowed: usize,
}

impl Bytes {
    /// Those of a program.
    pub fn of(program: &Program) -> Bytes {
        let [weights, statistics, momentum, gradients, activations, scratch] = program.busiest_bytes();
        let borrowed = program.entries().map(|id| program.entry(id)).filter(|entry| entry.is_borrowed());
        let block = Trainer::bytes(program);
        Bytes {
            weights,
            statistics,
            momentum,
            gradients,
            activations,
            scratch,
            padding: block.saturating_sub(weights + statistics + momentum + gradients + activations + scratch),
            // A trainer is laid out a few bytes shorter or longer by different builds.
            tables: program.bytes().len() + size_of::<Trainer>().next_multiple_of(ALIGN),
            block,
            borrowed: borrowed.map(|entry| 4 * entry.place().len()).sum(),
        }
    }

    /// Everything: block and tables.
    pub const fn total(&self) -> usize {
        self.block + self.tables
    }
}

/// A line for each kind, with the weights that are read in place, if there are any, below the sum.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (what, bytes) in [
            ("weights", self.weights),
            ("running statistics", self.statistics),
            ("gradients", self.gradients),
            ("momentum", self.momentum),
            ("activations", self.activations),
            ("scratch", self.scratch),
            ("state and gaps", self.padding),
            ("tables (program)", self.tables),
            ("all", self.total()),
        ] {
            writeln!(f, "  {what:<20} {bytes:>12}")?;
        }
        match self.borrowed {
            0 => Ok(()),
            borrowed => writeln!(f, "read in place, from the file: {borrowed}"),
        }
    }
}
