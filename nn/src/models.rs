//! Models: functions that record a network. Names, order and initialisation are torchvision's, so a seed and
//! a state dict mean the same network as there.
//!
//! ```
//! use nunatak_nn::models;
//! use nunatak_nn::record::Graph;
//!
//! let graph = Graph::new();
//! let images = graph.input([1, 3, 64, 64]);
//! let prediction = models::resnet18(graph.root(), images, 1000);
//! assert_eq!(prediction.shape().c(), 1000);
//! # Ok::<(), nunatak_nn::Error>(())
//! ```

mod mobilenet;
mod recipe;
mod resnet;

use crate::record::{Scope, Var};
pub use mobilenet::{MobileNet, mobilenet_v2, mobilenet_v3_small};

pub use recipe::{Block, MAX_LAYERS, Recipe, Stem};
pub use resnet::{
    ResNet, resnet18, resnet34, resnet50, resnet101, resnet152, resnext50_32x4d, resnext101_32x8d, wide_resnet50_2, wide_resnet101_2,
};

/// A model that can be asked for by its name, which is torchvision's.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// Its name.
    pub name: &'static str,
    build: for<'g> fn(Scope<'g>, Var<'g>, usize) -> Var<'g>,
}

impl Model {
    /// Records the model for images `x` (n, 3, h, w): the logits, or without classes the pooled features. The
    /// recording is described by `NAME classes N`.
    pub fn record<'g>(&self, g: Scope<'g>, x: Var<'g>, classes: usize) -> Var<'g> {
        g.set_model(format_args!("{} classes {classes}", self.name));
        (self.build)(g, x, classes)
    }
}

impl PartialEq for Model {
    fn eq(&self, other: &Model) -> bool {
        self.name == other.name
    }
}

macro_rules! named {
    ($($name:ident),+ $(,)?) => { &[$(Model { name: stringify!($name), build: $name }),+] };
}

/// Every model that has a name.
pub const MODELS: &[Model] = named![
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
    resnext50_32x4d,
    resnext101_32x8d,
    wide_resnet50_2,
    wide_resnet101_2,
    mobilenet_v2,
    mobilenet_v3_small
];

/// The model of this name.
///
/// ```
/// use nunatak_nn::models::by_name;
/// assert_eq!(by_name("resnet50").map(|model| model.name), Some("resnet50"));
/// assert!(by_name("resnet51").is_none());
/// ```
pub fn by_name(name: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| model.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Graph;

    #[test]
    fn every_name_is_one_models_and_records_it() {
        for model in MODELS {
            assert_eq!(MODELS.iter().filter(|other| *other == model).count(), 1, "{}", model.name);
            assert_eq!(by_name(model.name), Some(model));
            let graph = Graph::new();
            let logits = model.record(graph.root(), graph.input([2, 3, 64, 64]), 7);
            graph.check().unwrap_or_else(|e| panic!("{}: {e}", model.name));
            assert_eq!(logits.shape().sizes(), [2, 7, 1, 1], "{}", model.name);
            let program = crate::Step::new(&graph).keep(&[logits.id()]).plan().unwrap_or_else(|e| panic!("{}: {e}", model.name));
            assert_eq!(program.model(), std::format!("{} classes 7", model.name));
        }
        assert_eq!(by_name("resnet"), None);
    }
}
