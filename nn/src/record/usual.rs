//! The usual step of a model that classifies: images, a prediction, a loss.

use super::{Graph, Scope, Var};
use crate::Error;
use crate::ops::CrossEntropyOptions;
use nunatak_core::tape::ValueId;

/// What is made small.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Loss {
    /// Nothing: inference.
    None,
    /// `(prediction - labels).sum()`; labels are n x classes.
    Sum,
    /// The mean of (prediction − labels)² over all numbers; labels are n x classes.
    MeanSquaredError,
    /// Cross entropy; labels are class indices.
    CrossEntropy(CrossEntropyOptions),
    /// Cross entropy in which every class has a weight, an input beside the labels, which are class indices.
    CrossEntropyWeighted(CrossEntropyOptions),
    /// Cross entropy; labels are probabilities, n x classes.
    CrossEntropyProbabilities(CrossEntropyOptions),
    /// One that the caller computes from the predictions, whose gradient is handed to
    /// [`crate::step::Trainer::backward_with`].
    Outside,
}

/// The values of a usual step. Their names in a program are those of the fields.
#[derive(Clone, Copy, Debug)]
pub struct Usual {
    /// The images.
    pub data: ValueId,
    /// The labels: a tensor or class indices, as the loss asks.
    pub labels: Option<ValueId>,
    /// The weights of the classes, where the loss has them.
    pub weights: Option<ValueId>,
    /// The pooled features.
    pub features: ValueId,
    /// The logits (without a head the features).
    pub prediction: ValueId,
    /// The loss.
    pub loss: Option<ValueId>,
    /// Where backward begins: the loss, or the prediction where the loss is outside.
    pub root: Option<ValueId>,
}

impl Graph<'_> {
    /// Records images of n x c x h x w, what `model` makes of them (features and prediction), labels and loss.
    ///
    /// # Errors
    /// The first error of the recording.
    pub fn usual<'g>(
        &'g self,
        images: [usize; 4],
        loss: Loss,
        model: impl FnOnce(Scope<'g>, Var<'g>) -> (Var<'g>, Var<'g>),
    ) -> Result<Usual, Error> {
        let g = self.root();
        let data = g.name("data", self.input(images));
        let (features, prediction) = model(g, data);
        self.check()?;
        let matrix = || g.name("labels", self.input([images[0], prediction.shape().c()]));
        let mut weights = None;
        let (labels, value) = match loss {
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
                let labels = g.name("labels", self.labels(images[0]));
                (Some(labels), Some(prediction.cross_entropy(labels, options)))
            }
            Loss::CrossEntropyWeighted(options) => {
                let labels = g.name("labels", self.labels(images[0]));
                let of_classes = g.name("weights", self.input([1, prediction.shape().c()]));
                weights = Some(of_classes);
                (Some(labels), Some(prediction.cross_entropy_weighted(labels, of_classes, options)))
            }
            Loss::CrossEntropyProbabilities(options) => {
                let labels = matrix();
                (Some(labels), Some(prediction.cross_entropy(labels, options)))
            }
        };
        g.name("features", features);
        g.name("prediction", prediction);
        let value = value.map(|value| g.name("loss", value));
        self.check()?;
        let root = if loss == Loss::Outside { Some(prediction) } else { value };
        Ok(Usual {
            data: data.id(),
            labels: labels.map(Var::id),
            weights: weights.map(Var::id),
            features: features.id(),
            prediction: prediction.id(),
            loss: value.map(Var::id),
            root: root.map(Var::id),
        })
    }
}
