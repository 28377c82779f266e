//! What the lessons train, as it is recorded and planned. `build.rs` takes this file too: what it plans on the
//! machine that compiles is put into the firmware as bytes.

use nunatak_nn::models::Recipe;
use nunatak_nn::{Conv, CrossEntropyOptions, Error, Graph, Loss, Memory, Mode, Norm, Scope, Select, Step, Update, Var};

/// Lines and columns of the images that are drawn.
pub const SIZE: usize = 32;
/// Their classes.
pub const CLASSES: usize = 4;
/// Images of a batch.
pub const BATCH: usize = 8;
/// Lines and columns of the images of the tutorial and of the small network.
pub const TUTORIAL: usize = 64;
/// The same of the small network.
pub const SMALL: usize = 16;

/// Everything that a network, its loss and the images decide.
#[derive(Clone, Copy)]
pub struct Net<'n> {
    /// n, c, h, w.
    pub images: [usize; 4],
    /// What is made small.
    pub loss: Loss,
    /// What is trained: see [`Select`]. With `none` the step predicts, in eval mode.
    pub train: &'n str,
    /// Whether the one algorithm is used that boards have, and not the best ones.
    pub gemm_only: bool,
    /// Memory or speed.
    pub memory: Memory,
    /// When parameters are updated.
    pub update: Update,
}

/// ResNet-8 on a batch of the images that are drawn. With `none` nothing is trained: it predicts.
pub fn resnet8(train: &str, gemm_only: bool) -> Net<'_> {
    let loss = if train == "none" { Loss::None } else { Loss::CrossEntropy(CrossEntropyOptions::default()) };
    Net { images: [BATCH, 3, SIZE, SIZE], loss, train, gemm_only, memory: Memory::Small, update: Update::After }
}

/// The tutorial's step of ResNet18.
pub fn tutorial(gemm_only: bool) -> Net<'static> {
    let images = [1, 3, TUTORIAL, TUTORIAL];
    Net { images, loss: Loss::Sum, train: "all", gemm_only, memory: Memory::Small, update: Update::After }
}

/// The step of the small network, which boards plan themselves.
pub fn small(gemm_only: bool) -> Net<'static> {
    Net { images: [BATCH, 3, SMALL, SMALL], update: Update::During, ..resnet8("all", gemm_only) }
}

/// The small network: two convolutions, one of them around which the input is added, and `fc`.
pub fn small_layers<'g>(g: Scope<'g>, x: Var<'g>) -> (Var<'g>, Var<'g>) {
    let conv = Conv::new(8, 3).pad(1).no_bias();
    let x = g.batch_norm("bn1", g.conv2d("conv1", x, conv), Norm::default()).relu().max_pool(3, 2, 1);
    let y = g.batch_norm("bn2", g.conv2d("conv2", x, conv), Norm::default());
    let features = (y + x).relu().adaptive_avg_pool(1);
    g.set_head("fc");
    (features, g.linear("fc", features, CLASSES))
}

impl Net<'_> {
    /// Records a network, and hands its step to whoever plans it.
    ///
    /// # Errors
    /// Those of the recording and of `plan`.
    pub fn step<'s, T>(
        &self,
        graph: &Graph<'s>,
        layers: impl for<'g> FnOnce(Scope<'g>, Var<'g>) -> (Var<'g>, Var<'g>),
        plan: impl FnOnce(Step<'_, 's>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let v = graph.usual(self.images, self.loss, layers)?;
        let keep = [v.prediction];
        let mode = if self.train == "none" { Mode::Eval } else { Mode::Train };
        let step = Step::new(graph).root(v.root).keep(&keep).train(Select::Names(self.train)).mode(mode);
        plan(step.memory(self.memory).update(self.update).gemm_only(self.gemm_only))
    }

    /// The same for the network of a recipe.
    ///
    /// # Errors
    /// As for [`Net::step`].
    pub fn recipe<'s, T>(
        &self,
        graph: &Graph<'s>,
        recipe: Recipe,
        plan: impl FnOnce(Step<'_, 's>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.step(graph, |g, x| recipe.record(g, x), plan)
    }
}
