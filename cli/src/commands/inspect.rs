//! `nunatak inspect`

use crate::failure::Failure;

/// Options of `nunatak inspect`.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub fn run(_: &Args) -> Result<(), Failure> {
    Err(Failure::usage("not there yet"))
}
