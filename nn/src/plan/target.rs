//! The machine that a step is planned for.

use nunatak_kernels::{Algorithm, InstructionSet, Memory};

/// What of a machine a plan depends on. Equal targets give equal programs on any host: nothing here is asked
/// of the CPU unless the caller asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// The instruction set, which need not be this machine's; `None`: any.
    pub level: Option<InstructionSet>,
    /// Threads at most.
    pub threads: usize,
    /// Memory or speed.
    pub memory: Memory,
    /// Whether the build that executes has one algorithm, `gemm`: it is without the feature `algorithms`.
    pub gemm_only: bool,
    /// The class of CPU that algorithms are chosen for; 0: no particular one.
    pub class: u32,
    /// The hash of the tuning table that algorithms are chosen by; 0: none.
    pub tuning: u64,
}

impl Default for Target {
    /// Any instruction set, one thread, speed, the algorithms of this build.
    fn default() -> Target {
        let gemm_only = matches!(Algorithm::ALL, [_]);
        Target { level: None, threads: 1, memory: Memory::Fast, gemm_only, class: 0, tuning: 0 }
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    extern crate std;
    use crate::step::{call_algorithm, each_call};
    use crate::{Conv, Graph, Program, Step};
    use std::vec::Vec;

    fn algorithms(program: &Program) -> Vec<&'static str> {
        let mut found = Vec::new();
        each_call(program, |event| {
            found.push(call_algorithm(program, event));
        });
        found.retain(|name| *name != "-");
        found
    }

    #[test]
    fn boards_get_programs_of_their_one_algorithm() {
        let graph = Graph::new();
        let x = graph.input([1, 64, 8, 8]);
        let x = graph.root().conv2d("conv", x, Conv::new(512, 3).pad(1)).adaptive_avg_pool(1);
        let loss = graph.root().linear("fc", x, 1000).sum();
        let best = algorithms(&Step::new(&graph).loss(loss).plan().expect("a plan"));
        let board = algorithms(&Step::new(&graph).loss(loss).gemm_only(true).plan().expect("a plan"));
        assert!(best.contains(&"stream") && best.iter().any(|name| *name != "gemm" && *name != "stream"), "{best:?}");
        assert!(board.len() >= 4 && board.iter().all(|name| *name == "gemm"), "{board:?}");
    }
}
