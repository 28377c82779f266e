//! The tests of the crate, in one program: it is linked once.

mod decode;
mod folder;
mod loader;
mod mixing;
mod preprocess;
mod support;
