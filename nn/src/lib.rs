//! nunatak

#[cfg(feature = "std")]
pub mod checkpoint;
