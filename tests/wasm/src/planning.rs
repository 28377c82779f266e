//! Recording and planning in this module's own memory: there is no allocator.

use crate::shared::Single;
use nunatak_nn::models::Recipe;
use nunatak_nn::plan::Storage;
use nunatak_nn::{Error, Loss, Memory, Mode, NormPolicy, Program, Step};

/// Bytes of a program of ResNet18 at most.
pub(crate) const STEP_BYTES: usize = 32768;

/// Room for ResNet18.
static STORAGE: Single<Storage<80, 130, 6000, STEP_BYTES>> = Single::new(Storage::new());

/// What is chosen when a step is planned.
pub(crate) struct Choices {
    pub(crate) mode: Mode,
    pub(crate) norm_policy: NormPolicy,
    /// See [`nunatak_nn::Select::Names`].
    pub(crate) train: &'static str,
    pub(crate) memory: Memory,
}

/// Plans a step of a recipe's network whose prediction is kept, and hands the program to `use_it`.
pub(crate) fn plan<R>(
    images: [usize; 4],
    loss: Loss,
    recipe: Recipe,
    choices: Choices,
    use_it: impl FnOnce(&Program) -> Result<R, Error>,
) -> Result<R, Error> {
    STORAGE.with(|storage| {
        let (graph, mut workspace) = storage.lend();
        let values = graph.usual(images, loss, |g, x| recipe.record(g, x))?;
        let keep = [values.prediction];
        let Choices { mode, norm_policy, train, memory } = choices;
        let step = Step::new(&graph).root(values.root).keep(&keep).train(train).mode(mode).norm_policy(norm_policy);
        use_it(&step.memory(memory).plan_in(&mut workspace)?)
    })
}
