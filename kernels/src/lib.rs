//! nunatak
