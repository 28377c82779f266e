//! Recording: what a step computes, written down like the formula that it is, and with it every parameter.
//!
//! ```
//! use nunatak_nn::ops::Conv;
//! use nunatak_nn::record::Graph;
//!
//! let graph = Graph::new();
//! let data = graph.input([1, 3, 32, 32]);
//! let labels = graph.input([1, 10]);
//! let layers = graph.scope("layers");
//! let x = layers.conv2d("conv", data, Conv::new(16, 3).pad(1)).relu();
//! let prediction = graph.root().linear("fc", x.adaptive_avg_pool(1), 10);
//! let loss = (prediction - labels).sum();
//! graph.check()?;
//! # Ok::<(), nunatak_nn::Error>(())
//! ```
//!
//! Nothing is computed here. A layer's call creates its parameters' names, shapes and initialisation, their
//! entries of the state dict, and the operation. Where something can't be recorded (shapes that do not fit, a
//! name that is taken) the whole graph becomes an error, which [`Graph::check`] and every plan report.

mod graph;
mod init;
mod scope;
mod usual;
mod var;

pub use graph::Graph;
pub use graph::GraphRoom;
pub(crate) use graph::{Declared, Recorder, Recording, Text};
pub use init::Init;
pub(crate) use init::draw_order;
pub(crate) use scope::{Declaration, Layout, Parameter};
pub use scope::{Draw, Pair, Scope};
pub use usual::{Loss, Usual};
pub use var::Var;

/// Whether a name is a prefix itself, or begins with it and a dot.
pub fn in_scope(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || prefix.is_empty())
}
