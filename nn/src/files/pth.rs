//! PyTorch's `.pth`, both forms: a zip file (since torch 1.6) or pickles in sequence (before).
//!
//! Nothing in a file is imported or run. A name that is not known becomes an *opaque* object, of
//! which nothing is asked but what it was called with and which state it was given.
//!
//! | file | what it does |
//! |---|---|
//! | `archive`, `zip`, `payload` | the zip form: its members; what is unpacked when it is needed |
//! | `legacy` | the form before |
//! | `pickle`, `graph` | the opcodes, and the tables that they fill |
//! | `dicts` | every dict of tensors, and the parameters of every pickled module |
//! | `write` | writing the zip form |

mod archive;
mod dicts;
mod graph;
mod legacy;
mod payload;
mod pickle;
mod write;
mod zip;

pub(crate) use archive::parse as parse_zip;
pub(crate) use dicts::Dict;
pub(crate) use legacy::parse as parse_legacy;
pub(crate) use payload::Payload;
pub use write::write_pth;
