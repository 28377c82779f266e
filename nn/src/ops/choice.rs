//! What an operation decides when a step is selected: its algorithms, which statistics it uses, whether it drops.

use crate::ops::Context;
use nunatak_core::tape::EntryId;
use nunatak_kernels::{Algorithm, Pass};

/// What an operation chooses by.
pub(crate) struct Choice<'a> {
    /// PyTorch's `train()`: statistics of the batch, and dropouts drop.
    pub(crate) train: bool,
    /// Normalisations of which nothing is trained keep their running statistics.
    pub(crate) fixed_norms: bool,
    /// Whether a parameter is trained.
    pub(crate) trainable: &'a dyn Fn(EntryId) -> bool,
    pub(crate) context: Context,
    /// Algorithms that are asked for, in the order of [`Pass`].
    pub(crate) algorithms: [Option<Algorithm>; 3],
    /// There is no other algorithm where the step is executed.
    pub(crate) gemm_only: bool,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Chosen {
    /// The operation computes its result.
    Computes,
    /// The result is the input: nothing need be computed where nobody looks at it.
    Passes,
}

impl Choice<'_> {
    /// The algorithm, where it is there when the step is executed; else `gemm`.
    pub(crate) fn built(&self, algorithm: Algorithm) -> Algorithm {
        if self.gemm_only { Algorithm::Gemm } else { algorithm }
    }

    /// The algorithm that is asked for, where the operation has it.
    pub(crate) fn forced(&self, pass: Pass, accepts: impl FnOnce(Algorithm) -> bool) -> Option<Algorithm> {
        self.algorithms[pass as usize].filter(|algorithm| accepts(*algorithm))
    }

    /// Whether a normalisation of these parameters uses the statistics of the batch.
    pub(crate) fn batch_statistics(&self, parameters: [Option<EntryId>; 2]) -> bool {
        let trained = || parameters.into_iter().flatten().any(|id| (self.trainable)(id));
        self.train && (!self.fixed_norms || trained())
    }
}

/// For operations that have one way to compute.
macro_rules! nothing_to_choose {
    () => {
        fn choose(&mut self, _: &crate::ops::Choice, _: nunatak_core::Shape) -> Result<crate::ops::Chosen, crate::Error> {
            Ok(crate::ops::Chosen::Computes)
        }
        fn backward_is(&mut self, _: bool) {}
        fn repeat(&mut self) -> bool {
            true
        }
    };
}
pub(crate) use nothing_to_choose;
