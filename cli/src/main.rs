//! nunatak
fn main() {}
