//! The example of a network of one's own runs, learns, saves, loads PyTorch's file and is exported.

#[path = "../../examples/own_network.rs"]
pub(crate) mod example;

use nunatak_nn::files::{Checkpoint, Head};
use nunatak_nn::{Graph, Mode, Program, Step};

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[test]
fn a_network_of_ones_own_learns_and_is_written() -> Outcome {
    let folder = tempfile::tempdir()?;
    let [all, head] = example::run(folder.path())?;
    assert!(all[19] < 0.2 * all[0], "{all:?}");
    assert!(head[0] <= all[19] && head[19] < head[0], "the head goes on from there: {head:?}");
    let program = std::fs::read(folder.path().join("own.program"))?;
    assert_eq!(Program::check(&program)?.entry_count(), 8);
    Ok(())
}

/// The file and the numbers are PyTorch's: tests/golden/own_network.py.
#[test]
fn pytorchs_state_dict_gives_pytorchs_prediction() -> Outcome {
    let expected = [-0.0273665, -0.0589069, -0.0294272, -0.0568339, -0.0266833, -0.0562526, 0.0008658, -0.0222415];
    let graph = Graph::new();
    let data = graph.input([16, 1, 8, 8]);
    let prediction = example::network(graph.root(), data);
    let kept = [prediction.id()];
    let mut trainer = Step::new(&graph).keep(&kept).train("none").mode(Mode::Eval).trainer()?;
    let bytes = include_bytes!("../golden/own_network.pth");
    trainer.load(&Checkpoint::parse(bytes)?, Head::Load)?;
    trainer.set_input(data, &example::examples().0)?;
    trainer.forward()?;
    let mut got = [0.0; 32];
    trainer.value(prediction, &mut got)?;
    for (got, expected) in got.into_iter().zip(expected) {
        assert!((got - expected).abs() < 2e-6, "{got} instead of {expected}");
    }
    Ok(())
}
