//! The usual step, planned from a few choices: a network, images, a loss.
//!
//! For anything else record a [`Graph`] and plan it with [`Blueprint`].

use crate::blueprint::NetSlots;
use crate::graph::CrossEntropyOptions;
use crate::{Blueprint, Error, Graph, Mode, NormPolicy, Options, Recipe, ResNet};
use nunatak_core::{ParamSet, ValueId};
use nunatak_kernels::{Algorithm, Pass};

/// What is made small.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Loss {
    /// Nothing: inference.
    None,
    /// `(prediction - labels).sum()`; labels are n x classes.
    Sum,
    /// The mean of (prediction − labels)² over all numbers; labels are n x classes.
    MeanSquaredError,
    /// Cross entropy; labels are class indices.
    CrossEntropy(CrossEntropyOptions),
    /// Cross entropy; labels are probabilities, n x classes.
    CrossEntropyProbabilities(CrossEntropyOptions),
    /// One that the caller computes from the predictions, whose gradient is handed to
    /// [`crate::Trainer::backward_with`].
    Outside,
}

/// The choices of a usual step.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The network.
    pub recipe: Recipe,
    /// Images of a batch.
    pub batch: usize,
    /// Lines of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Train or eval mode.
    pub mode: Mode,
    /// What frozen normalisations do in train mode.
    pub norm_policy: NormPolicy,
    /// The parameters that are trained.
    pub trainable: ParamSet,
    /// The loss.
    pub loss: Loss,
    /// Threads, memory, update, momentum.
    pub options: Options,
    /// Algorithms that are asked for, in the order of [`Pass`].
    pub algorithms: [Option<Algorithm>; 3],
}

/// The values of a usual step.
#[derive(Clone, Copy, Debug)]
pub struct Values {
    /// The images.
    pub data: ValueId,
    /// The labels: a tensor or class indices, as the loss asks.
    pub labels: Option<ValueId>,
    /// The pooled features.
    pub features: ValueId,
    /// The logits (without a head the features).
    pub prediction: ValueId,
    /// The loss.
    pub loss: Option<ValueId>,
}

impl Setup {
    /// Inference in eval mode.
    pub fn inference(recipe: Recipe, batch: usize, height: usize, width: usize) -> Setup {
        Setup {
            recipe,
            batch,
            height,
            width,
            mode: Mode::Eval,
            norm_policy: NormPolicy::Updating,
            trainable: ParamSet::EMPTY,
            loss: Loss::None,
            options: Options { momentum: false, ..Options::default() },
            algorithms: [None; 3],
        }
    }

    /// Plans the step; also gives the buffers, for printing.
    ///
    /// # Errors
    /// Those of [`Blueprint::new`].
    pub fn plan(&self) -> Result<(Blueprint, NetSlots, Values), Error> {
        let mut model = ResNet::new(self.recipe, self.mode)?;
        model.set_norm_policy(self.norm_policy, self.trainable);
        for pass in Pass::ALL {
            if let Some(algorithm) = self.algorithms[pass as usize] {
                model.force(pass, algorithm);
            }
        }
        let graph = Graph::new();
        let data = graph.input(self.batch, self.recipe.in_channels, self.height, self.width);
        let features = model.features(data);
        let prediction = model.head(features);
        graph.check()?;
        let matrix = || graph.input(self.batch, prediction.shape().c(), 1, 1);
        let (labels, loss) = match self.loss {
            Loss::None | Loss::Outside => (None, None),
            Loss::Sum => {
                let labels = matrix();
                (Some(labels), Some((prediction - labels).sum()))
            }
            Loss::MeanSquaredError => {
                let labels = matrix();
                (Some(labels), Some(prediction.mse(labels)))
            }
            Loss::CrossEntropy(options) => {
                let labels = graph.labels(self.batch);
                (Some(labels), Some(prediction.cross_entropy(labels, options)))
            }
            Loss::CrossEntropyProbabilities(options) => {
                let labels = matrix();
                (Some(labels), Some(prediction.cross_entropy(labels, options)))
            }
        };
        let keep = [prediction.id(), features.id()];
        let root = if self.loss == Loss::Outside { Some(prediction) } else { loss };
        let (blueprint, slots) = Blueprint::with_slots(&model, &graph, root.map(|l| l.id()), &keep, self.trainable, self.options)?;
        let values = Values {
            data: data.id(),
            labels: labels.map(|l| l.id()),
            features: features.id(),
            prediction: prediction.id(),
            loss: loss.map(|l| l.id()),
        };
        Ok((blueprint, slots, values))
    }
}
